//! `(prompt) -> [BlockHash]`: prompt tokens to KV-cache block hashes, byte-exact with the
//! engines.
//!
//! ```
//! use kvsched_core::{BlockHash, Prompt};
//! use kvsched_hash::{Algorithm, BlockHasher, Scheme, VllmVersion};
//!
//! // A vLLM as it comes: SHA-256 of pickled blocks, PYTHONHASHSEED unset.
//! let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, None)?;
//! let hasher = BlockHasher::builder(scheme).block_size(16).build()?;
//!
//! let mut hashes = Vec::new();
//! hasher.hash_into(&Prompt::new(&[7; 40]), &mut hashes)?;
//! let announced = hashes.clone(); // what this engine's Stored event will carry
//!
//! // The next prompt begins alike: its first two blocks have a hit.
//! hasher.hash_into(&Prompt::new(&[7; 100]), &mut hashes)?;
//! assert_eq!(hashes[..2], announced);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Two ways to name a block
//!
//! * **An engine's scheme** computes what the engine announces: [`Scheme::vllm`] (0.9 to 0.33,
//!   with its history), [`Scheme::sglang`], [`Scheme::llmd`]. Events then need no tokens, and
//!   stores keyed by the engine's hashes can be asked.
//! * **The content scheme**, [`Scheme::content`], is kvsched's own keyed 64-bit hash, some
//!   forty times faster. It works for any engine, seed and version, given a map from announced
//!   to content hashes for removals: [`BlockHasher::hash_stored_into`].
//!
//! [`SchemeDetector`] tells which scheme an engine uses from its events alone, and keeps
//! checking.
//!
//! # Shapes
//!
//! | you have | use | a block costs |
//! |---|---|---|
//! | a prompt | [`BlockHasher::hash_into`] | one hash |
//! | a session that grows | [`HashChain`] | one hash, of new blocks only |
//! | prompts with shared beginnings, a SHA scheme | [`PrefixMemo`] | one comparison where shared |
//! | a matcher that stops at a miss | [`BlockHasher::lazy`] | one hash, as far as pulled |
//! | an engine's event | [`BlockHasher::hash_stored_into`] | one hash |
//! | text and no tokenizer | [`stand_in_tokens`], and a content scheme | one hash |
//! | a hybrid model's groups | [`group_view`] | nothing |
//!
//! # When not to use this crate
//!
//! Take the facade crate `kvsched` unless you only want hashes. For the hashes of vLLM's
//! `builtin` algorithm there is no way: they are Python's `hash()` of one process. And an
//! adapter's blocks cannot be hashed from events of vLLM 0.31 or later, which hash its path
//! and do not announce it.
#![forbid(unsafe_code)]

mod chain;
mod content;
mod detector;
mod digest;
mod directory;
mod error;
mod group;
mod hasher;
mod lazy;
mod llmd;
mod memo;
mod runs;
mod scheme;
mod scratch;
mod sglang;
mod sha256;
mod span;
mod stand_in;
mod stored;
#[cfg(feature = "tokenizers")]
mod text;
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
pub use stand_in::stand_in_tokens;
#[cfg(feature = "tokenizers")]
pub use text::{ChatFormat, ChatMessage, TextError, TextStats, TextTokenizer};
pub use vllm::{Algorithm, VllmVersion};

#[cfg(test)]
mod auto_traits {
    fn all<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}

    #[test]
    fn everything_crosses_threads() {
        all::<crate::BlockHasher>();
        all::<crate::HashChain>();
        all::<crate::PrefixMemo>();
        all::<crate::SchemeDetector>();
        all::<crate::LazyHashes<'static>>();
        all::<crate::HashError>();
    }
}
