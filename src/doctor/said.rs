//! What an engine said of late, in its own words: the tokens and keys behind its hashes.

use kvsched_core::{AnnouncedKey, EngineHash, Stored, TokenId};
use std::collections::VecDeque;

/// The last stores of an engine's device, as many as fit.
#[derive(Debug, Default)]
pub(super) struct Said {
    stores: VecDeque<Store>,
    tokens: usize,
    /// Whether something had to be forgotten.
    pub(super) is_cut: bool,
}

/// One store.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) parent: Option<EngineHash>,
    pub(super) hashes: Box<[EngineHash]>,
    pub(super) tokens: Box<[TokenId]>,
    pub(super) lora: Option<Box<str>>,
    /// The texts among the first block's keys that are not the adapter's name: a salt.
    pub(super) salt: Option<Box<str>>,
}

/// Most tokens that are kept.
const TOKENS: usize = 1 << 17;
/// Most stores that are kept.
const STORES: usize = 4096;

impl Said {
    /// Keeps a store whose hashes belong to its tokens block by block.
    pub(super) fn push(&mut self, stored: &Stored<'_>) {
        let keys = stored.extra_keys.and_then(|keys| keys.of_block(0)).unwrap_or_default();
        let salt = keys.iter().find_map(|key| match key {
            AnnouncedKey::Text(text) if Some(*text) != stored.lora_name => Some((*text).into()),
            _ => None,
        });
        self.tokens += stored.tokens.len();
        self.stores.push_back(Store {
            parent: stored.parent,
            hashes: stored.hashes.into(),
            tokens: stored.tokens.into(),
            lora: stored.lora_name.map(Into::into),
            salt,
        });
        while self.tokens > TOKENS || self.stores.len() > STORES {
            let Some(oldest) = self.stores.pop_front() else { return };
            self.tokens -= oldest.tokens.len();
            self.is_cut = true;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What was said to follow `parent`, the latest first.
    pub(super) fn after(&self, parent: Option<EngineHash>) -> impl Iterator<Item = &Store> {
        self.stores.iter().rev().filter(move |store| store.parent == parent)
    }
}

/// How many tokens two sequences have in common from the first.
pub(super) fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
