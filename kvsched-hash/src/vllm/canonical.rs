//! A block's extra keys in one unambiguous form, whatever engine they are from: the bytes that
//! the content scheme hashes. Canonical CBOR, as vLLM 0.31 tags keys, but with the adapter's
//! name alone and in the first block only, because the chain carries it on.

use super::announced::AnnouncedBlocks;
use super::cbor::Cbor;
use super::encode::Message;
use super::extra_keys::{ExtraKeys, Keys, Window};
use super::rules::Rules;
use crate::HashError;
use kvsched_core::{Extras, Stored};

/// Keys as [`Rules::CANONICAL`] writes them.
#[derive(Debug)]
pub(crate) struct CanonicalKeys<K>(K);

impl<'a> CanonicalKeys<ExtraKeys<'a>> {
    /// Of a prompt whose first `start` tokens are done.
    pub(crate) fn of_prompt(extras: &Extras<'a>, start: usize) -> Result<Self, HashError> {
        // Of no later block: the walk over the items still begins there.
        let lora = extras.lora.filter(|_| start == 0);
        ExtraKeys::new(Rules::CANONICAL, &Extras { lora, ..*extras }, start, 0).map(Self)
    }
}

impl<'a> CanonicalKeys<AnnouncedBlocks<'a>> {
    pub(crate) fn of_stored(stored: &'a Stored<'a>, block_size: usize) -> Result<Self, HashError> {
        AnnouncedBlocks::new(Rules::CANONICAL, stored, block_size).map(Self)
    }
}

impl<K: Keys> CanonicalKeys<K> {
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The most bytes that [`write`](Self::write) needs.
    pub(crate) fn bound(&self) -> usize {
        self.0.bound(0)
    }

    /// Writes the keys of the next block to the front of `buffer` and tells how many bytes
    /// they take: none for a block without.
    pub(crate) fn write(&mut self, buffer: &mut [u8], window: Window) -> usize {
        if window.start > 0 {
            self.0.forget_lora();
        }
        let mut out = Message::new(buffer);
        self.0.write(&mut Cbor, &mut out, window);
        // A lone null.
        if out.len() == 1 { 0 } else { out.len() }
    }
}
