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
    parent: Option<EngineHash>,
    hashes: Box<[EngineHash]>,
    tokens: Box<[TokenId]>,
    pub(super) lora: Option<Box<str>>,
    /// The texts among the first block's keys that are not the adapter's name: a salt.
    pub(super) salt: Option<Box<str>>,
}

/// Most tokens that are kept.
const TOKENS: usize = 1 << 17;
/// Most stores that are kept.
const STORES: usize = 4096;

impl Said {
    /// Keeps a store of as many hashes as blocks, one at least.
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

    /// What was said to follow `parent`, the latest last: stores, and where in them it follows.
    pub(super) fn after(&self, parent: Option<EngineHash>) -> impl Iterator<Item = Next<'_>> {
        self.stores.iter().filter_map(move |store| {
            let within = || store.hashes.iter().position(|&hash| Some(hash) == parent);
            let skip = if store.parent == parent { 0 } else { within()? + 1 };
            let size = store.tokens.len() / store.hashes.len();
            let (hashes, tokens) = (&store.hashes[skip..], &store.tokens[skip * size..]);
            (!hashes.is_empty()).then_some(Next { store, hashes, tokens })
        })
    }
}

/// What follows a block, according to one store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next<'a> {
    pub(super) store: &'a Store,
    pub(super) hashes: &'a [EngineHash],
    pub(super) tokens: &'a [TokenId],
}

impl Next<'_> {
    /// The same from `blocks` later on.
    pub(super) fn skip(self, blocks: usize) -> Self {
        let size = self.tokens.len() / self.hashes.len();
        let (hashes, tokens) = (&self.hashes[blocks..], &self.tokens[blocks * size..]);
        Self { hashes, tokens, ..self }
    }
}

/// How many tokens two sequences have in common from the first.
pub(super) fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
