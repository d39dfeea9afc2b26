//! `&[BlockHash] → PrefixMatches`: KV-cache events to residency to exact prefix matches.
//!
//! ```
//! use kvsched_core::{BlockHash, EndpointId, PrefixMatches};
//! use kvsched_index::{Holder, Index, Repeat};
//!
//! let mut index = Index::builder().build()?;
//! let prompt = [10, 20, 30].map(BlockHash);
//! index.store(Holder::device(EndpointId(0)), None, &prompt, Repeat::Known)?;
//! index.store(Holder::device(EndpointId(1)), None, &prompt[..2], Repeat::Known)?;
//!
//! let mut matches = PrefixMatches::new();
//! index.find_matches(&[10, 20, 30, 40].map(BlockHash), &mut matches);
//! assert_eq!(matches.as_slice(), [3, 2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When not to use this crate
//!
//! Take the facade crate `kvsched` unless you write your own scheduler around the index. For a
//! set of independent keys (no prefixes) any concurrent hash map is the better index.
// Only `shared` is allowed to.
#![deny(unsafe_code)]

mod append;
mod apply;
mod builder;
mod chain;
mod chunks;
mod counts;
mod declare;
mod detail;
mod directory;
pub mod events;
mod evict;
mod group;
mod heap;
mod history;
mod hold;
mod holder;
mod holders;
mod index;
mod loose;
mod matcher;
mod mix;
#[doc(hidden)]
pub mod naive;
mod names;
mod naming;
mod numbers;
mod owner;
mod pool;
mod registry;
mod remove;
mod run;
mod shared;
mod shared_index;
mod snapshot;
mod stats;
mod store;
mod table;
mod tail;
mod turns;
mod validate;
mod view;
mod waiting;
mod write;
mod writers;

pub use apply::{Applied, Applier, ApplyError, Confirming, Holdings, Identity, Naming};
pub use builder::{IndexBuildError, IndexBuilder};
pub use chunks::{ChunkHit, ChunkHits, ChunkIndex, ChunkKey};
pub use group::{GroupError, GroupRule};
pub use history::RoutingHistory;
pub use holder::{Holder, Repeat, StoreError, StoreOutcome};
pub use index::Index;
pub use pool::PoolError;
pub use registry::{
    Endpoint, EndpointKey, EndpointSpec, LoraRegistry, Registry, RegistryError, Role,
};
pub use shared_index::SharedIndex;
pub use snapshot::{Restored, SnapshotError, SnapshotReader};
pub use stats::IndexStats;
