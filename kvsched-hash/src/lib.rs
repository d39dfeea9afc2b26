//! Prompt tokens to KV-cache block hashes, byte-exact with the engines.
#![forbid(unsafe_code)]

mod chain;
mod content;
mod detector;
mod digest;
mod error;
mod group;
mod hasher;
mod lazy;
mod llmd;
mod memo;
mod scheme;
mod scratch;
mod sglang;
mod sha256;
mod stored;
mod vllm;

pub use chain::HashChain;
pub use detector::{Mismatch, Observation, SchemeDetector};
pub use digest::Digest;
pub use error::{BuildError, HashError, SchemeError};
pub use group::group_view;
pub use hasher::{BlockHasher, BlockHasherBuilder};
pub use lazy::LazyHashes;
pub use llmd::LlmdAlgorithm;
pub use memo::{MemoStats, PrefixMemo};
pub use scheme::Scheme;
pub use vllm::{Algorithm, VllmVersion};
