//! `(prompt, candidates, loads) → decision`: exact, explainable KV-cache-aware scheduling, to be
//! embedded in an LLM gateway.
//!
//! kvsched is deterministic and does no I/O. It opens no socket and reads no clock; event bytes,
//! tokens, load figures and time are arguments. It is the same code in a Rust proxy, behind a C
//! interface, and in a simulator on virtual time.
//!
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod chunks;
mod demand;
mod doctor;
mod error;
mod ingest;
mod input;
mod line;
mod members;
mod route;
mod router;
mod scratch;
mod snapshot;

pub use builder::{BuildRouterError, RouterBuilder};
pub use chunks::Chunk;
pub use doctor::{Doctor, Finding, Parity};
pub use error::{IngestError, RouterError};
pub use ingest::with_identity;
pub use input::RouteInput;
pub use kvsched_core::*;
pub use kvsched_hash as hash;
pub use kvsched_hash::{Algorithm, BlockHasher, HashError, Scheme, SchemeError, VllmVersion};
pub use kvsched_index as index;
pub use kvsched_index::{
    Applied, Endpoint, EndpointSpec, Holder, Index, RegistryError, Role, SharedIndex, events,
};
pub use kvsched_scorers as scorers;
pub use kvsched_scorers::{
    InFlight, Profile, Receipt, Routed, Ticket, filter, picker, preset, scorer, segment,
};
pub use router::Router;
pub use scratch::RouteScratch;
pub use snapshot::{RestoreError, Restoring};
