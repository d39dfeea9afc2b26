//! Staying within the byte budget: what nobody will miss goes first.

use crate::chain::{Chain, Entry};
use crate::detail::{self, Detail};
use crate::holders;
use crate::write::{Run, Write};
use std::sync::atomic::Ordering;

/// Chains that a store finds free, if it has so many blocks.
const SPARE: usize = 16;

impl<'a> Write<'a> {
    /// Bytes that stay whatever is forgotten: the room of chains.
    fn room(&self) -> usize {
        self.own.chain_bytes + self.own.runs.capacity() * size_of::<Run>()
    }

    /// Whether there may be room for so many more chains: together they take three quarters of the
    /// budget at most, so that there is something left to put into them.
    pub(crate) fn may_grow(&self, chains: usize) -> bool {
        let more = chains * (size_of::<Chain>() + size_of::<Run>());
        self.own.budget.is_none_or(|budget| self.room() + more <= budget / 4 * 3)
    }

    /// Before a store of so many blocks: where chains may not become more, sees to it that some are
    /// free.
    pub(crate) fn keep_room(&mut self, blocks: usize) {
        let numbers = self.own.runs.len();
        let has_room = |chains| self.may_grow(chains);
        if self.own.budget.is_none()
            || self.own.chains + blocks.min(SPARE) < numbers - numbers / 16
            || self.map.chains.missing((numbers + SPARE) as u32).is_none_or(has_room)
        {
            return;
        }
        self.evict(usize::MAX, self.own.chains / 8 + SPARE);
    }

    /// Forgets the coldest tails until the index fits its budget with an eighth to spare.
    ///
    /// A tail is a run that no other run continues, or what lies behind the last continuation; a
    /// prompt's beginning goes only after all that follows it. What is forgotten counts as evicted,
    /// and matches are shorter than the truth from then on, never longer.
    #[inline]
    pub(crate) fn keep_budget(&mut self) {
        if let Some(budget) = self.own.budget {
            self.keep_within(budget);
        }
    }

    fn keep_within(&mut self, budget: usize) {
        if self.bytes() <= budget {
            return;
        }
        self.sweep(usize::MAX);
        self.trim();
        let room = self.room() + self.own.fixed_bytes;
        let goal = budget - budget.saturating_sub(room) / 8;
        while self.bytes() > goal && self.own.blocks > 0 {
            // At the average price; the next round corrects it.
            let over = self.bytes() - goal;
            let price = (self.bytes().saturating_sub(room) / self.own.blocks).max(1);
            self.evict(over / price + 1, usize::MAX);
            self.trim();
        }
        // Without chains, what is left are the blocks of loose groups.
        let mut largest: Vec<_> = self.own.owners.iter().flat_map(|o| o.loose.clone()).collect();
        largest.sort_by_key(|group| group.len());
        while self.bytes() > budget {
            let Some(group) = largest.pop() else { return };
            self.own.evicted += group.len() as u64;
            group.clear(self.pin);
            self.trim();
        }
    }

    /// Forgets about `most` blocks, or until `chains` have ended, coldest tails first.
    fn evict(&mut self, most: usize, chains: usize) {
        let fewest = self.own.chains.saturating_sub(chains);
        let mut kept = vec![0u16; self.own.runs.len()];
        let mut by_age = Vec::with_capacity(self.own.chains);
        for (number, run) in self.own.runs.iter().enumerate().skip(1) {
            let alive = self.map.chains.get(number as u32).is_some_and(|c| c.len() > 0);
            if !alive {
                continue;
            }
            by_age.push((self.own.clock.wrapping_sub(run.touched), number as u32));
            if let Some(place) = run.parent.and_then(|p| self.map.place(p, self.pin)) {
                let kept = &mut kept[place.chain as usize];
                *kept = (*kept).max(place.offset + 1);
            }
        }
        by_age.sort_unstable_by(|a, b| b.cmp(a));
        let mut evicted = 0;
        for (_, number) in by_age {
            if evicted >= most || self.own.chains <= fewest {
                break;
            }
            if let Some(chain) = self.map.chains.get(number) {
                evicted += self.cut(number, chain, usize::from(kept[number as usize]));
            }
        }
        self.own.evicted += evicted as u64;
        // Soon the numbers of the chains that have ended will be needed again.
        self.own.is_short = true;
    }

    /// Takes everything from `len` on away from every holder; returns how many blocks that were.
    fn cut(&mut self, number: u32, chain: &'a Chain, len: usize) -> usize {
        if len >= chain.len() {
            return 0;
        }
        let mut entries = Vec::new();
        holders::all(chain, self.pin, |entry| {
            entries.push(entry);
            true
        });
        for entry in entries {
            match Detail::of(entry, chain.details.get(self.pin)) {
                None if len == 0 => self.left(chain, entry.endpoint),
                None if usize::from(entry.blocks) > len => {
                    let new = Entry { blocks: len as u16, ..entry };
                    holders::put(chain, Some(entry), new, self.pin);
                }
                None => {}
                Some(record) => {
                    record.planes().for_each(|(_, bits)| detail::clear_from(bits, len));
                    self.settle(chain, entry.endpoint, Some(entry), entry.detail);
                }
            }
        }
        if !self.own.copies.is_empty() {
            for word in &chain.hashes.get(self.pin)[len..chain.len()] {
                let gone = word.load(Ordering::Relaxed);
                self.own.copies.retain(|(_, hash), _| hash.0 != gone);
            }
        }
        self.shrink(number, chain, usize::MAX)
    }

    /// Gives spare room back.
    fn trim(&mut self) {
        self.map.directory.fit(&self.own.counts, self.pin);
        self.own.names.sweep(self.map, self.pin);
        self.own.copies.shrink_to_fit();
        self.own.bytes = self.own.bytes.wrapping_add_signed(self.pin.take_bytes());
    }

    /// Bytes allocated now.
    fn bytes(&mut self) -> usize {
        self.own.bytes = self.own.bytes.wrapping_add_signed(self.pin.take_bytes());
        self.own.total_bytes()
    }
}
