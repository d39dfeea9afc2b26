//! Removals, clears, and what they leave behind.

use crate::chain::{Chain, Entry, Place};
use crate::detail::Detail;
use crate::matcher::Residency;
use crate::owner::Owner;
use crate::turns;
use crate::write::{AHEAD, Locked, Write};
use crate::writers::Writers;
use crate::{Holder, holders};
use kvsched_core::{BlockHash, EndpointId};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks that any write forgets, beside twice as many as it names, if clears have left some.
pub(crate) const SWEPT: usize = 8;

impl<'a> Write<'a> {
    pub(crate) fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
        let Some(owner) = self.known(holder.endpoint) else { return 0 };
        let loose = owner.loose(holder.group).map(Arc::clone);
        let is_simple = owner.copies.is_empty() && owner.is_plain(holder);
        self.tick();
        if let (true, &[hash]) = (is_simple, hashes) {
            let removed = self.seek(hash).map_or(0, |(place, locked)| {
                if self.remove_tail(holder.endpoint, hash, place, &locked) {
                    return 1;
                }
                self.remove_from(holder, hashes, place, &locked)
            });
            if self.is_alone {
                self.sweep(2 + SWEPT);
            }
            return removed;
        }
        let mut removed = 0;
        for &hash in hashes.iter().take(AHEAD) {
            self.map.directory.prefetch(hash, self.pin);
        }
        let mut at = 0;
        while at < hashes.len() {
            for ahead in hashes.iter().skip(at + AHEAD).take(1) {
                self.map.directory.prefetch(*ahead, self.pin);
            }
            if !self.drop_copy(holder, hashes[at]) {
                let gone = match &loose {
                    Some(group) => {
                        usize::from(group.tier(holder.tier).remove(hashes[at], self.pin))
                    }
                    None => self.remove_some(holder, &hashes[at..]),
                };
                removed += gone;
                at += gone.max(1);
            } else {
                at += 1;
            }
        }
        if self.is_alone {
            self.sweep(2 * hashes.len() + SWEPT);
        }
        removed
    }

    /// Whether a removal takes only a copy away.
    pub(crate) fn drop_copy(&mut self, holder: Holder, hash: BlockHash) -> bool {
        let pin = self.pin;
        let owner = self.owner_mut(holder.endpoint);
        if owner.copies.is_empty() {
            return false;
        }
        let copied = (holder.tier, holder.group, hash);
        let Some(copies) = owner.copies.get_mut(&copied) else { return false };
        *copies -= 1;
        if *copies == 0 {
            let before = owner.copies_bytes();
            owner.copies.remove(&copied);
            if owner.copies.is_empty() {
                owner.copies = HashMap::new();
            }
            pin.recount(before, owner.copies_bytes());
        }
        true
    }

    /// Removes the first of `hashes`, and with it those that follow as an engine names them: from
    /// the end of what `holder` holds of a chain backwards. Returns how many that was.
    pub(crate) fn remove_some(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
        let Some((place, locked)) = self.seek(hashes[0]) else { return 0 };
        self.remove_from(holder, hashes, place, &locked)
    }

    /// The same, with the place of the first and its chain.
    fn remove_from(
        &mut self,
        holder: Holder,
        hashes: &[BlockHash],
        place: Place,
        locked: &Locked<'a>,
    ) -> usize {
        let offset = usize::from(place.offset);
        let chain = locked.chain;
        let entry = holders::find(chain, holder.endpoint, self.pin);
        let ends_here = |e: &Entry| e.detail == 0 && usize::from(e.blocks) == offset + 1;
        let mut gone = 1;
        match entry.filter(ends_here) {
            Some(entry)
                if self.owner(holder.endpoint).copies.is_empty() && self.is_plain(holder) =>
            {
                let words = chain.hashes.get(self.pin);
                gone += hashes[1..]
                    .iter()
                    .zip(words[..offset].iter().rev())
                    .take_while(|(hash, word)| hash.0 == word.load(Ordering::Relaxed))
                    .count();
                if gone > offset {
                    self.left(chain, holder.endpoint);
                } else {
                    let blocks = (offset + 1 - gone) as u16;
                    holders::put(chain, Some(entry), Entry { blocks, ..entry }, self.pin);
                }
            }
            _ => {
                if !self.release(chain, holder, offset) {
                    return 0;
                }
            }
        }
        if offset + 1 == chain.len() {
            self.shrink(place.chain, chain, usize::MAX);
        }
        gone
    }

    /// Takes hashes of a chain out of the directory, as [`Write::enter`] writes them into it.
    #[inline(never)]
    fn leave<const ALONE: bool>(&self, chain: u32, words: &[AtomicU64], gone: Range<usize>) {
        let entries = self.map.directory.changing::<ALONE>(&self.own.counts, self.pin);
        let hash = |word: &AtomicU64| BlockHash(word.load(Ordering::Relaxed));
        let mut offset = gone.end;
        let mut batches = words[gone].rchunks(AHEAD).peekable();
        while let Some(batch) = batches.next() {
            // Many at once: while a processor waits for a page's address, it asks for the others.
            let next = batches.peek().copied().unwrap_or_default();
            next.iter().rev().for_each(|word| entries.prefetch(hash(word)));
            for word in batch.iter().rev() {
                offset -= 1;
                entries.remove(hash(word), Place { chain, offset: offset as u16 });
            }
        }
    }

    /// Forgets up to `most` blocks at the chain's end that nobody holds; returns how many.
    pub(crate) fn shrink(&mut self, number: u32, chain: &'a Chain, most: usize) -> usize {
        let len = chain.len();
        let mut held = 0;
        holders::all(chain, self.pin, |e| {
            held = held.max(match Detail::of(e, chain.details.get(self.pin)) {
                Some(record) => record.extent(),
                None => usize::from(e.blocks),
            });
            held < len
        });
        let end = held.max(len - most.min(len));
        if end < len {
            let hashes = chain.hashes.get(self.pin);
            let hash = |i: usize| BlockHash(hashes[i].load(Ordering::Relaxed));
            chain.set_len(end, end.checked_sub(1).map_or(0, |i| hash(i).0));
            if self.is_alone {
                self.leave::<true>(number, hashes, end..len);
            } else {
                self.leave::<false>(number, hashes, end..len);
            }
            // Engines go on backwards, often a block a message: the next one's line is on its way.
            if let Some(next) = end.checked_sub(AHEAD) {
                self.map.directory.prefetch(hash(next), self.pin);
            }
            let is_pending = self.map.chains.run(number).is_pending();
            let tally = self.tally();
            tally.blocks = tally.blocks.wrapping_sub(len - end);
            if is_pending {
                tally.pending = tally.pending.wrapping_sub(len - end);
            }
        }
        if end == 0 {
            self.end(number, chain);
        }
        len - end
    }

    /// A chain without blocks and holders ends; its number is free.
    fn end(&mut self, number: u32, chain: &Chain) {
        let run = self.map.chains.run(number);
        if run.is_pending()
            && let Some(parent) = run.parent()
        {
            self.own.waiting.forget(parent, number, self.pin);
        }
        if self.own.has_names() {
            let pin = self.pin;
            self.change_names(|names| names.ended(number, |offset| chain.hash(offset, pin)));
            self.sweep_names();
        }
        if let Some(first) = chain.hash(0, self.pin) {
            let head = Place { chain: number, offset: 0 };
            let counts = &self.own.head_counts;
            self.map.heads.remove(first, head, counts, self.is_alone, self.pin);
        }
        chain.hashes.replace(None, self.pin);
        chain.more.replace(None, self.pin);
        chain.details.replace(None, self.pin);
        // A stale chain's number is free when the list of them no longer has it.
        self.own.numbers.ended(number, !run.is_stale(), self.pin);
    }

    pub(crate) fn clear(&mut self, endpoint: EndpointId) {
        if self.known(endpoint).is_none() {
            return;
        }
        let own: &'a Writers = self.own;
        let pin = self.pin;
        let owner = self.owner_mut(endpoint);
        let before = owner.bytes();
        let chains = std::mem::take(&mut owner.chains);
        owner.copies = HashMap::new();
        pin.recount(before, owner.bytes());
        owner.loose.iter().for_each(|g| g.clear(pin));
        let mut stale = turns::take(&own.stale);
        let room = stale.capacity();
        for &number in &chains {
            let Some(locked) = self.lock(number) else { continue };
            let Locked { chain, run, .. } = locked;
            let Some(entry) = holders::find(chain, endpoint, pin) else { continue };
            self.left(chain, endpoint);
            if entry.detail != 0 {
                self.details(chain).free(entry.detail);
            }
            if !run.is_stale() {
                run.set_stale(true);
                stale.push(number);
            }
        }
        own.stale_chains.store(stale.len(), Ordering::Relaxed);
        pin.recount(room * size_of::<u32>(), stale.capacity() * size_of::<u32>());
    }

    /// Forgets an endpoint. Needs to be alone.
    pub(crate) fn remove_endpoint(&mut self, endpoint: EndpointId) {
        self.clear(endpoint);
        if self.known(endpoint).is_some() {
            let pin = self.pin;
            let owner = self.owner_mut(endpoint);
            pin.recount(owner.bytes(), 0);
            *owner = Owner::default();
            self.publish_loose(endpoint);
        }
        self.leave_pools(endpoint);
        self.forget_last_owners();
    }

    /// Forgets up to about `most` blocks that clears have left without a holder. Needs to be alone.
    #[inline]
    pub(crate) fn sweep(&mut self, most: usize) {
        if self.own.stale_chains.load(Ordering::Relaxed) > 0 {
            self.sweep_stale(most);
        }
    }

    fn sweep_stale(&mut self, most: usize) {
        let (map, own): (&'a Residency, &'a Writers) = (self.map, self.own);
        let mut stale = turns::take(&own.stale);
        let mut left = most;
        while left > 0
            && let Some(&number) = stale.last()
            && let Some(chain) = map.chains.get(number)
        {
            let run = map.chains.run(number);
            if chain.len() == 0 {
                // It ended by another removal, and waited here for its number to be free.
                stale.pop();
                run.set_stale(false);
                own.numbers.free(number, self.pin);
                continue;
            }
            let forgotten = self.shrink(number, chain, left);
            left -= forgotten.min(left).max(1).min(left);
            if forgotten == 0 {
                stale.pop();
                run.set_stale(false);
            }
        }
        let room = stale.capacity();
        if stale.is_empty() {
            *stale = Vec::new();
        }
        own.stale_chains.store(stale.len(), Ordering::Relaxed);
        self.pin.recount(room * size_of::<u32>(), stale.capacity() * size_of::<u32>());
    }
}
