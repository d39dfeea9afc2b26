//! What changed in an engine's caches since the last announcement.

use super::pool::KvHash;
use kvsched_core::{Tier, TokenId};
use std::ops::Range;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Consecutive blocks of one request can be reused on the device.
    Stored {
        /// The block before the first.
        parent: Option<KvHash>,
        /// The adapter they were computed with.
        lora: Option<u32>,
        /// Which of [`CacheLog::hashes`].
        hashes: Range<usize>,
        /// Which of [`CacheLog::tokens`].
        tokens: Range<usize>,
    },
    /// A block went to a slower tier. Its tokens are not announced, as in vLLM's connector.
    Demoted(KvHash, Tier),
    /// A block is gone from a tier.
    Removed(KvHash, Tier),
}

/// Changes in the order they happened.
#[derive(Debug, Default)]
pub struct CacheLog {
    /// The changes.
    pub changes: Vec<Change>,
    /// Hashes of stored blocks.
    pub hashes: Vec<KvHash>,
    /// Tokens of stored blocks.
    pub tokens: Vec<TokenId>,
}

impl CacheLog {
    /// Notes that blocks `hashes` with `tokens`, which follow `parent`, have become full.
    pub fn stored(
        &mut self,
        parent: Option<KvHash>,
        lora: Option<u32>,
        hashes: &[KvHash],
        tokens: &[TokenId],
    ) {
        let (h, t) = (self.hashes.len(), self.tokens.len());
        self.hashes.extend_from_slice(hashes);
        self.tokens.extend_from_slice(tokens);
        let (hashes, tokens) = (h..self.hashes.len(), t..self.tokens.len());
        self.changes.push(Change::Stored { parent, lora, hashes, tokens });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.hashes.clear();
        self.tokens.clear();
    }
}
