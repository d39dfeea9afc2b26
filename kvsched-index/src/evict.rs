//! Staying within the byte budget: what nobody will miss goes first.

use crate::chain::{Chain, Entry};
use crate::detail::{self, Detail};
use crate::holders;
use crate::numbers::SPARE;
use crate::write::Write;
use std::sync::atomic::Ordering;

impl<'a> Write<'a> {
    /// Before a store of so many blocks: where chains may not become more, sees to it that some are
    /// free. False if only a writer who is alone can.
    pub(crate) fn keep_room(&mut self, blocks: usize) -> bool {
        if self.own.budget.is_none() || self.own.numbers.has_room(blocks, &self.map.chains) {
            return true;
        }
        if self.is_alone {
            self.evict(usize::MAX, self.own.numbers.alive() / 8 + SPARE);
        }
        self.is_alone
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

    #[inline(never)]
    fn keep_within(&mut self, budget: usize) {
        if self.bytes() <= budget {
            return;
        }
        self.sweep(usize::MAX);
        self.trim();
        let room = self.own.numbers.bytes() + self.own.fixed_bytes;
        let goal = budget - budget.saturating_sub(room) / 8;
        while self.bytes() > goal && self.blocks() > 0 {
            // At the average price; the next round corrects it.
            let over = self.bytes() - goal;
            let price = (self.bytes().saturating_sub(room) / self.blocks()).max(1);
            self.evict(over / price + 1, usize::MAX);
            self.trim();
        }
        // Without chains, what is left are the blocks of loose groups.
        let mut largest: Vec<_> = self.owners_mut().flat_map(|o| o.loose.clone()).collect();
        largest.sort_by_key(|group| group.len());
        while self.bytes() > budget {
            let Some(group) = largest.pop() else { return };
            self.own.evicted.fetch_add(group.len() as u64, Ordering::Relaxed);
            group.clear(self.pin);
            self.trim();
        }
    }

    /// Forgets about `most` blocks, or until `chains` have ended, coldest tails first.
    fn evict(&mut self, most: usize, chains: usize) {
        let (numbers, alive) = (self.own.numbers.end(), self.own.numbers.alive());
        let fewest = alive.saturating_sub(chains);
        let mut kept = vec![0u16; numbers as usize];
        let mut by_age = Vec::with_capacity(alive);
        for number in 1..numbers {
            if self.map.chains.get(number).is_none_or(|c| c.len() == 0) {
                continue;
            }
            let run = self.map.chains.run(number);
            by_age.push((self.own.now().wrapping_sub(run.touched()), number));
            if let Some(place) = run.parent().and_then(|p| self.map.place(p, self.pin)) {
                let kept = &mut kept[place.chain as usize];
                *kept = (*kept).max(place.offset + 1);
            }
        }
        by_age.sort_unstable_by(|a, b| b.cmp(a));
        let mut evicted = 0;
        for (_, number) in by_age {
            if evicted >= most || self.own.numbers.alive() <= fewest {
                break;
            }
            if let Some(chain) = self.map.chains.get(number) {
                evicted += self.cut(number, chain, usize::from(kept[number as usize]));
            }
        }
        self.own.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
        // Soon the numbers of the chains that have ended will be needed again.
        self.is_short = true;
    }

    /// Takes everything from `len` on away from every holder; returns how many blocks that were.
    fn cut(&mut self, number: u32, chain: &'a Chain, len: usize) -> usize {
        if len >= chain.len() {
            return 0;
        }
        let pin = self.pin;
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
        for owner in self.owners_mut().filter(|owner| !owner.copies.is_empty()) {
            for word in &chain.hashes.get(pin)[len..chain.len()] {
                let gone = word.load(Ordering::Relaxed);
                owner.copies.retain(|(_, _, hash), _| hash.0 != gone);
            }
        }
        self.shrink(number, chain, usize::MAX)
    }

    /// Gives spare room back.
    fn trim(&mut self) {
        self.map.directory.fit(&self.own.counts, self.pin);
        self.map.heads.fit(&self.own.head_counts, self.pin);
        let (map, pin) = (self.map, self.pin);
        self.change_names(|names| names.sweep(map, pin));
        for owner in self.owners_mut() {
            let before = owner.copies_bytes();
            owner.copies.shrink_to_fit();
            pin.recount(before, owner.copies_bytes());
        }
    }

    /// Bytes allocated now.
    fn bytes(&self) -> usize {
        self.own.bytes.load(Ordering::Relaxed).wrapping_add_signed(self.pin.bytes())
    }
}
