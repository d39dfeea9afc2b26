//! One block at the end of a chain that one endpoint holds alone: what an engine announces of every block
//! that it decodes, and often of every block that it evicts.
//!
//! Stores and removals do the same, with all the questions that others may ask for.

use crate::chain::{Chain, Entry, LONGEST, Place};
use crate::write::{AHEAD, Write};
use crate::{Holder, StoreOutcome};
use kvsched_core::BlockHash;
use std::sync::atomic::Ordering;

impl<'a> Write<'a> {
    /// Whether a chain has so many blocks, known to follow what is known, that `holder` alone holds, all.
    #[inline]
    fn is_alone(&self, number: u32, chain: &Chain, holder: Holder, blocks: usize) -> bool {
        chain.len() == blocks
            && chain.is_held_by(Entry::plain(holder.endpoint, blocks), self.pin)
            && self.own.runs.get(number as usize).is_some_and(|run| !run.state.pending)
            && self.own.is_plain(holder)
    }

    /// Stores a block behind `parent`, if that is all there is to do: it is new, and `parent` is the end
    /// of a chain with room that `holder` alone holds, and to its end. Changes nothing otherwise.
    pub(crate) fn store_tail(
        &mut self,
        holder: Holder,
        parent: BlockHash,
        hash: BlockHash,
    ) -> Option<StoreOutcome> {
        self.map.directory.prefetch(hash, self.pin);
        let before = self.map.place(parent, self.pin)?;
        let chain = self.map.chains.get(before.chain)?;
        let offset = usize::from(before.offset) + 1;
        let word = chain.hashes.get(self.pin).get(offset)?;
        if offset >= LONGEST
            || usize::from(self.own.runs.get(before.chain as usize)?.written) != offset
            || !self.is_alone(before.chain, chain, holder, offset)
            || !self.own.waiting.is_empty()
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

    /// Removes the block, if that is all there is to do: it is the last one, but not the first, of a chain
    /// that `holder` alone holds, and to its end. Changes nothing otherwise, and says so.
    pub(crate) fn remove_tail(&mut self, holder: Holder, hash: BlockHash) -> bool {
        let Some(place) = self.map.place(hash, self.pin) else { return false };
        let Some(chain) = self.map.chains.get(place.chain) else { return false };
        let offset = usize::from(place.offset);
        let Some(before) = offset.checked_sub(1) else { return false };
        let Some(before) = chain.hash(before, self.pin) else { return false };
        if !self.own.copies.is_empty() || !self.is_alone(place.chain, chain, holder, offset + 1) {
            return false;
        }
        let entry = Entry::plain(holder.endpoint, offset);
        chain.inline[0].store(entry.to_bits(), Ordering::Release);
        chain.set_len(offset, before.0);
        self.map.directory.remove(hash, place, &mut self.own.counts, self.pin);
        self.own.blocks -= 1;
        // Engines go on backwards: what comes next is on its way.
        let next = offset.checked_sub(AHEAD).and_then(|next| chain.hash(next, self.pin));
        next.into_iter().for_each(|next| self.map.directory.prefetch(next, self.pin));
        true
    }
}
