//! Recorded engine answers and traffic, and readers of their formats.
//!
//! For kvsched's own tests and examples; not published. Origin and licence of the data stand in
//! `testdata/README.md`.
#![forbid(unsafe_code)]
// Reading files and one environment variable is this crate's purpose; no library crate
// depends on it.
#![allow(clippy::disallowed_methods)]

pub mod block_hashes;
pub mod capture;
mod hex;
pub mod kv_events;
mod read;
pub mod trace;

pub use hex::{Hex, unhex};
pub use read::{DataError, Vectors, vector_files};
