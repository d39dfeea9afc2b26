//! What an engine announces while it decodes: one block behind all that it holds of a chain.

use crate::chain::{Entry, LONGEST, Place};
use crate::write::Write;
use crate::{Holder, StoreOutcome};
use kvsched_core::BlockHash;
use std::sync::atomic::Ordering;

impl Write<'_> {
    /// Stores a block behind `parent`, if that is all there is to do: it is new, and `parent` is the end
    /// of a chain with room that `holder` alone holds, and to its end. Changes nothing otherwise.
    ///
    /// As [`Write::store_chained`] would, without its questions: most events of an engine are of this kind.
    pub(crate) fn store_decoded(
        &mut self,
        holder: Holder,
        parent: BlockHash,
        hash: BlockHash,
    ) -> Option<StoreOutcome> {
        self.map.directory.prefetch(hash, self.pin);
        let before = self.map.place(parent, self.pin)?;
        let chain = self.map.chains.get(before.chain)?;
        let offset = usize::from(before.offset) + 1;
        let run = self.own.runs.get_mut(before.chain as usize)?;
        let word = chain.hashes.get(self.pin).get(offset)?;
        if chain.len() != offset
            || usize::from(run.written) != offset
            || offset >= LONGEST
            || run.state.pending
            || !self.own.waiting.is_empty()
            || !chain.is_held_by(Entry::plain(holder.endpoint, offset), self.pin)
            || !self.own.is_plain(holder)
        {
            return None;
        }
        let place = Place { chain: before.chain, offset: offset as u16 };
        let (map, pin) = (self.map, self.pin);
        let is_it = |place: Place| {
            let chain = map.chains.get(place.chain);
            chain.is_some_and(|c| c.is(usize::from(place.offset), hash, pin))
        };
        let mut entries = map.directory.inserting(&mut self.own.counts, pin);
        if entries.find_or_insert(hash, place, is_it).is_some() {
            return None;
        }
        let run = self.own.runs.get_mut(before.chain as usize)?;
        word.store(hash.0, Ordering::Release);
        chain.set_len(offset + 1, hash.0);
        let entry = Entry::plain(holder.endpoint, offset + 1);
        chain.inline[0].store(entry.to_bits(), Ordering::Release);
        run.written = offset as u16 + 1;
        run.touched = self.own.clock;
        self.own.blocks += 1;
        Some(StoreOutcome { stored: 1, ..StoreOutcome::default() })
    }
}
