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
#![forbid(unsafe_code)]

mod builder;
pub mod events;
mod group;
mod holder;
mod index;
#[doc(hidden)]
pub mod naive;
mod stats;

pub use builder::{IndexBuildError, IndexBuilder};
pub use group::{GroupError, GroupRule};
pub use holder::{Holder, Repeat, StoreError, StoreOutcome};
pub use index::Index;
pub use stats::IndexStats;
