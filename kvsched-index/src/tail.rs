//! One block at the end of a chain that one endpoint holds alone: what an engine announces of every block
//! that it decodes, and often of every block that it evicts.
//!
//! Stores and removals do the same, with all the questions that others may ask for.

use crate::chain::{Entry, LONGEST, Place};
use crate::write::{AHEAD, Locked, Write};
use kvsched_core::{BlockHash, EndpointId};
use std::sync::atomic::Ordering;

impl<'a> Write<'a> {
    /// Whether a chain has so many blocks, known to follow what is known, that a watermark of `endpoint`
    /// alone speaks of, all.
    #[inline]
    fn is_held_alone(&self, locked: &Locked<'_>, endpoint: EndpointId, blocks: usize) -> bool {
        locked.chain.len() == blocks
            && locked.chain.is_held_by(Entry::plain(endpoint, blocks), self.pin)
            && !locked.run.is_pending()
    }

    /// Stores a block behind `parent`, on the device of an endpoint with one group, if that is all there is to
    /// do: it is new, and `parent` is the end of a chain with room that the endpoint alone holds, and to its
    /// end. Changes nothing otherwise, and says so.
    #[inline(never)]
    pub(crate) fn store_tail(
        &mut self,
        endpoint: EndpointId,
        parent: BlockHash,
        hash: BlockHash,
    ) -> bool {
        self.map.directory.prefetch(hash, self.pin);
        let Some((before, locked)) = self.seek(parent) else { return false };
        let offset = usize::from(before.offset) + 1;
        let Locked { chain, run, .. } = locked;
        let words = chain.hashes.get(self.pin);
        if offset >= LONGEST.min(words.len())
            || run.written() != offset
            || !self.is_held_alone(&locked, endpoint, offset)
            || !self.own.waiting.is_empty()
        {
            return false;
        }
        let place = Place { chain: before.chain, offset: offset as u16 };
        // Before its slot: who meets that compares.
        words[offset].store(hash.0, Ordering::Release);
        let (directory, counts) = (&self.map.directory, &self.own.counts);
        let known =
            directory.insert(hash, place, counts, self.is_alone, self.pin, |table, slot| {
                table.find_or_put(slot, |place| self.is_at(place, hash))
            });
        if known.is_some() {
            return false;
        }
        chain.set_len(offset + 1, hash.0);
        let entry = Entry::plain(endpoint, offset + 1);
        chain.inline[0].store(entry.to_bits(), Ordering::Release);
        run.write(offset + 1, self.own.now());
        let tally = self.tally();
        tally.blocks = tally.blocks.wrapping_add(1);
        true
    }

    /// Removes a block without further copies from the device of an endpoint with one group, if that is all
    /// there is to do: it is the last one, but not the first, of a chain that the endpoint alone holds, and
    /// to its end. Changes nothing otherwise, and says so.
    #[inline]
    pub(crate) fn remove_tail(
        &mut self,
        endpoint: EndpointId,
        hash: BlockHash,
        place: Place,
        locked: &Locked<'_>,
    ) -> bool {
        let (chain, offset) = (locked.chain, usize::from(place.offset));
        let Some(before) = offset.checked_sub(1) else { return false };
        let Some(before) = chain.hash(before, self.pin) else { return false };
        if !self.is_held_alone(locked, endpoint, offset + 1) {
            return false;
        }
        let entry = Entry::plain(endpoint, offset);
        chain.inline[0].store(entry.to_bits(), Ordering::Release);
        chain.set_len(offset, before.0);
        self.map.directory.remove(hash, place, &self.own.counts, self.is_alone, self.pin);
        let tally = self.tally();
        tally.blocks = tally.blocks.wrapping_sub(1);
        // Engines go on backwards: what comes next is on its way.
        let next = offset.checked_sub(AHEAD).and_then(|next| chain.hash(next, self.pin));
        next.into_iter().for_each(|next| self.map.directory.prefetch(next, self.pin));
        true
    }
}
