//! Removals, clears, and what they leave behind.

use crate::chain::{Chain, Entry, Place};
use crate::detail::Detail;
use crate::write::{AHEAD, Owner, Write};
use crate::{Holder, holders};
use kvsched_core::{BlockHash, EndpointId};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Blocks that any write forgets, beside twice as many as it names, if clears have left some.
pub(crate) const SWEPT: usize = 8;

impl<'a> Write<'a> {
    pub(crate) fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
        let Some(owner) = self.own.owners.get(holder.endpoint.index()) else { return 0 };
        self.own.clock = self.own.clock.wrapping_add(1);
        let loose = owner.loose.iter().find(|g| g.group == holder.group).map(Arc::clone);
        if let (None, &[hash]) = (&loose, hashes)
            && self.remove_tail(holder, hash)
        {
            self.sweep(SWEPT);
            return 1;
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
        self.sweep(2 * hashes.len() + SWEPT);
        removed
    }

    /// Whether a removal takes only a copy away.
    pub(crate) fn drop_copy(&mut self, holder: Holder, hash: BlockHash) -> bool {
        if self.own.copies.is_empty() {
            return false;
        }
        let Some(copies) = self.own.copies.get_mut(&(holder, hash)) else { return false };
        *copies -= 1;
        if *copies == 0 {
            self.own.copies.remove(&(holder, hash));
        }
        true
    }

    /// Removes the first of `hashes`, and with it those that follow as an engine names them: from
    /// the end of what `holder` holds of a chain backwards. Returns how many that was.
    pub(crate) fn remove_some(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
        let Some(place) = self.map.place(hashes[0], self.pin) else { return 0 };
        let Some(chain) = self.map.chains.get(place.chain) else { return 0 };
        let offset = usize::from(place.offset);
        let entry = holders::find(chain, holder.endpoint, self.pin);
        let ends_here = |e: &Entry| e.detail == 0 && usize::from(e.blocks) == offset + 1;
        let mut gone = 1;
        match entry.filter(ends_here) {
            Some(entry) if self.own.copies.is_empty() && self.own.is_plain(holder) => {
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
            for i in (end..len).rev() {
                if i >= end + AHEAD {
                    self.map.directory.prefetch(hash(i - AHEAD), self.pin);
                }
                let place = Place { chain: number, offset: i as u16 };
                self.map.directory.remove(hash(i), place, &mut self.own.counts, self.pin);
            }
            // Engines go on backwards, often a block a message: the next one's line is on its way.
            if let Some(next) = end.checked_sub(AHEAD) {
                self.map.directory.prefetch(hash(next), self.pin);
            }
            self.own.blocks -= len - end;
            if self.own.runs[number as usize].state.pending {
                self.own.pending -= len - end;
            }
        }
        if end == 0 {
            self.end(number, chain);
        }
        len - end
    }

    /// A chain without blocks and holders ends; its number is free.
    pub(crate) fn end(&mut self, number: u32, chain: &Chain) {
        let run = self.own.runs[number as usize];
        if run.state.pending
            && let Some(parent) = run.parent
            && let Some(waiting) = self.own.waiting.get_mut(&parent)
        {
            waiting.retain(|&n| n != number);
            if waiting.is_empty() {
                self.own.waiting.remove(&parent);
            }
        }
        self.own.names.ended(number, |offset| chain.hash(offset, self.pin));
        self.sweep_names();
        chain.hashes.replace(None, self.pin);
        chain.more.replace(None, self.pin);
        chain.details.replace(None, self.pin);
        self.own.chains -= 1;
        // A stale chain's number is free when the list of them no longer has it.
        if !run.state.stale {
            self.free_number(number);
        }
    }

    pub(crate) fn free_number(&mut self, number: u32) {
        if self.pin.is_exclusive() {
            return self.own.unused.push(number);
        }
        let unused = Arc::clone(&self.own.unused_later);
        self.pin.after_readers(move || {
            unused.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        });
    }

    pub(crate) fn clear(&mut self, endpoint: EndpointId) {
        let Some(owner) = self.own.owners.get_mut(endpoint.index()) else { return };
        let chains = std::mem::take(&mut owner.chains);
        self.own.owned_chains -= chains.capacity();
        owner.loose.iter().for_each(|g| g.clear(self.pin));
        for &number in &chains {
            let Some(chain) = self.map.chains.get(number) else { continue };
            let Some(entry) = holders::find(chain, endpoint, self.pin) else { continue };
            self.left(chain, endpoint);
            if entry.detail != 0 {
                self.details(chain).free(entry.detail);
            }
            let stale = &mut self.own.runs[number as usize].state.stale;
            if !std::mem::replace(stale, true) {
                self.own.stale.push(number);
            }
        }
        if !self.own.copies.is_empty() {
            self.own.copies.retain(|(holder, _), _| holder.endpoint != endpoint);
        }
    }

    pub(crate) fn remove_endpoint(&mut self, endpoint: EndpointId) {
        self.clear(endpoint);
        if let Some(owner) = self.own.owners.get_mut(endpoint.index()) {
            self.own.group_bytes -= owner.group_bytes();
            *owner = Owner::default();
            self.publish_loose(endpoint);
        }
        self.leave_pools(endpoint);
        self.forget_last_owners();
    }

    /// Forgets up to about `most` blocks that clears have left without a holder.
    #[inline]
    pub(crate) fn sweep(&mut self, most: usize) {
        if !self.own.stale.is_empty() {
            self.sweep_stale(most);
        }
    }

    fn sweep_stale(&mut self, most: usize) {
        let mut left = most;
        while left > 0 {
            let Some(&number) = self.own.stale.last() else { return };
            let Some(chain) = self.map.chains.get(number) else { return };
            if chain.len() == 0 {
                // It ended by another removal, and waited here for its number to be free.
                self.own.stale.pop();
                self.own.runs[number as usize].state.stale = false;
                self.free_number(number);
                continue;
            }
            let forgotten = self.shrink(number, chain, left);
            left -= forgotten.min(left).max(1).min(left);
            if forgotten == 0 {
                self.own.stale.pop();
                self.own.runs[number as usize].state.stale = false;
            }
        }
    }
}
