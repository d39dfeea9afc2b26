//! Unknown blocks, written behind what is known or into a chain of their own.

use crate::Holder;
use crate::chain::{Chain, LONGEST, Place};
use crate::holders;
use crate::matcher::Residency;
use crate::shared::Fresh;
use crate::table::{Table, place_of};
use crate::write::{AHEAD, Locked, Write};
use crate::writers::Writers;
use kvsched_core::{BlockHash, EndpointId};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where unknown blocks went.
pub(crate) enum Appended<'a> {
    /// There, from this offset on.
    To(Place, Locked<'a>),
    /// The first of them is known by now.
    Known(Place),
    /// Nowhere: there is no number for another chain.
    Nowhere,
}

impl<'a> Write<'a> {
    /// Writes the unknown blocks at the beginning of `hashes`: behind `before` if that is where a
    /// chain of this holder alone ends, and into a chain of their own otherwise, if there is room for
    /// one.
    pub(crate) fn append(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        before: Option<Place>,
        hashes: &[BlockHash],
        is_pending: bool,
    ) -> Appended<'a> {
        let ends = |before| self.take_end(before, parent?, holder.endpoint, hashes[0]);
        let (number, start, locked) = match before.and_then(ends) {
            Some((before, locked)) => (before.chain, usize::from(before.offset) + 1, locked),
            None => {
                let begun = self.begin(parent, is_pending);
                let Some((number, locked)) = begun else { return Appended::Nowhere };
                (number, 0, locked)
            }
        };
        let Locked { chain, run, .. } = locked;
        let most = hashes.len().min(LONGEST - start);
        self.reserve(chain, start, most);
        let words = chain.hashes.get(self.pin);
        // A hash is written once: another one in its place begins a chain of its own.
        let written = run.written().max(start);
        let again = &words[start..written.min(start + most)];
        let same = again.iter().zip(hashes).take_while(|(w, h)| w.load(Ordering::Relaxed) == h.0);
        let same = same.count();
        let most = if same < again.len() { same } else { most };
        let to = Place { chain: number, offset: start as u16 };
        let (count, known) = if self.is_alone {
            self.enter::<true>(to, words, &hashes[..most])
        } else {
            self.enter::<false>(to, words, &hashes[..most])
        };
        if let (0, Some(known)) = (count, known) {
            // Another writer was faster.
            if start == 0 {
                chain.hashes.replace(None, self.pin);
                self.own.numbers.unbegin(number, self.pin);
            }
            return Appended::Known(known);
        }
        if start == 0 {
            // Nobody has looked into it yet: whoever does so waits for its lock.
            let (heads, counts) = (&self.map.heads, &self.own.head_counts);
            heads.insert(hashes[0], to, counts, self.is_alone, self.pin, |table, slot| {
                table.find_or_put(slot, |_| false)
            });
        }
        if !self.own.waiting.is_empty() && self.is_alone {
            hashes[..count].iter().for_each(|&hash| self.arrived(hash));
        }
        let end = start + count;
        chain.set_len(end, hashes[count - 1].0);
        run.write(end, self.own.now());
        let tally = self.tally();
        tally.blocks = tally.blocks.wrapping_add(count);
        if run.is_pending() {
            tally.pending = tally.pending.wrapping_add(count);
        }
        if start == 0 && count < most {
            self.fit(chain, end);
        }
        Appended::To(to, locked)
    }

    /// Writes hashes into a chain's words and the directory, from a place on, up to one that is known: how
    /// many that was, and where the known one is.
    ///
    /// A function of its own, for what it does for every block needs all registers there are.
    #[inline(never)]
    pub(crate) fn enter<const ALONE: bool>(
        &self,
        to: Place,
        words: &[AtomicU64],
        hashes: &[BlockHash],
    ) -> (usize, Option<Place>) {
        let entries = self.map.directory.changing::<ALONE>(&self.own.counts, self.pin);
        let mut count = 0;
        let own = &words[usize::from(to.offset)..];
        for (own, now) in own.chunks(AHEAD).zip(hashes.chunks(AHEAD)) {
            // Many at once: while a processor waits for a page's address, it asks for the others.
            let next = hashes.get(count + AHEAD..).unwrap_or_default();
            next.iter().take(AHEAD).for_each(|&hash| entries.prefetch(hash));
            for (word, &hash) in own.iter().zip(now) {
                // Before its slot: who meets that compares.
                word.store(hash.0, Ordering::Release);
                let place = Place { offset: to.offset + count as u16, ..to };
                let known = entries.insert(hash, place, |table, slot| {
                    self.enter_anywhere(table, slot, words, hash)
                });
                if known.is_some() {
                    return (count, known);
                }
                count += 1;
            }
        }
        (count, None)
    }

    /// Writes the slot of a hash, that is to enter the chain of these words, into whichever bucket has room,
    /// unless it is known: its place. Seldom asked, and so apart: a closure would be written to memory for
    /// every block.
    #[inline(never)]
    fn enter_anywhere(
        &self,
        table: Table<'_>,
        slot: u64,
        words: &[AtomicU64],
        hash: BlockHash,
    ) -> Option<Place> {
        let own = place_of(slot).chain;
        table.find_or_put(slot, |place| {
            if place.chain == own {
                return words[usize::from(place.offset)].load(Ordering::Relaxed) == hash.0;
            }
            self.is_at(place, hash)
        })
    }

    /// Whether the slot of `place` is that of `hash`. Where others write, the chain may not count the block
    /// yet, or no longer.
    #[inline]
    pub(crate) fn is_at(&self, place: Place, hash: BlockHash) -> bool {
        let Some(chain) = self.map.chains.get(place.chain) else { return false };
        let at = usize::from(place.offset);
        if self.is_alone {
            chain.is(at, hash, self.pin)
        } else {
            chain.hash(at, self.pin) == Some(hash)
        }
    }

    /// The chain that goes on behind `parent` with another block of this endpoint. Where that is not the one
    /// that `parent` is in, notes that another forks off there.
    fn take_end(
        &self,
        before: Place,
        parent: BlockHash,
        endpoint: EndpointId,
        hash: BlockHash,
    ) -> Option<(Place, Locked<'a>)> {
        let locked = self.take(before, parent)?;
        let next = usize::from(before.offset) + 1;
        if self.continues(&locked, next, endpoint, hash) {
            return Some((before, locked));
        }
        locked.chain.fork(next);
        None
    }

    /// Whether a block at offset `next` belongs into the same chain as that before it: it is the end, there
    /// is room, and nobody else holds any of it. (Where others do, the end is likely a fork.)
    fn continues(
        &self,
        &Locked { chain, run, .. }: &Locked<'_>,
        next: usize,
        endpoint: EndpointId,
        hash: BlockHash,
    ) -> bool {
        next == chain.len()
            && next < LONGEST
            && (next >= run.written() || chain.hash(next, self.pin) == Some(hash))
            && holders::all(chain, self.pin, |e| e.endpoint == endpoint)
    }

    /// A new, empty chain, if there is room for one.
    fn begin(&self, parent: Option<BlockHash>, is_pending: bool) -> Option<(u32, Locked<'a>)> {
        let (map, own): (&'a Residency, &'a Writers) = (self.map, self.own);
        let number = own.numbers.begin(&map.chains, self.pin)?;
        let locked = self.lock(number)?;
        locked.run.begin(parent, is_pending, own.now());
        if let (true, Some(parent)) = (is_pending, parent) {
            own.waiting.add(parent, number, self.pin);
        }
        Some((number, locked))
    }

    /// A block has arrived: those who waited for it are pending no more.
    fn arrived(&mut self, hash: BlockHash) {
        for number in self.own.waiting.arrived(hash, self.pin) {
            let run = self.map.chains.run(number);
            if run.is_pending() {
                run.end_pending();
                let blocks = self.map.chains.get(number).map_or(0, Chain::len);
                let tally = self.tally();
                tally.pending = tally.pending.wrapping_sub(blocks);
            }
        }
    }

    /// Makes room for `more` hashes after the first `len`.
    pub(crate) fn reserve(&self, chain: &Chain, len: usize, more: usize) {
        let old = chain.hashes.get(self.pin);
        let needed = len + more;
        if needed <= old.len() {
            return;
        }
        // Chains that grow block by block grow by a quarter. What is stored at once has a little room for
        // what will be decoded after it, so that mostly nothing is copied then.
        let room =
            if len == 0 { needed + (needed / 16).min(32) } else { needed.max(len + len / 4 + 4) };
        self.resize(chain, room.min(LONGEST));
    }

    /// Gives back room that turned out not to be needed.
    pub(crate) fn fit(&self, chain: &Chain, len: usize) {
        if chain.hashes.get(self.pin).len() > len + len / 4 {
            self.resize(chain, len);
        }
    }

    pub(crate) fn resize(&self, chain: &Chain, room: usize) {
        let new = Fresh::zeroed(room);
        let old = chain.hashes.get(self.pin);
        let len = old.len().min(new.len());
        let copy = |old: &[AtomicU64], new: &[AtomicU64]| {
            old.iter().zip(new).for_each(|(old, new)| {
                new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
            });
        };
        // Eight at a time: of a long prompt's first decoded block this is most of the cost.
        let (old, old_rest) = old[..len].as_chunks::<8>();
        let (new_chunks, new_rest) = new[..len].as_chunks::<8>();
        old.iter().zip(new_chunks).for_each(|(old, new)| copy(old, new));
        copy(old_rest, new_rest);
        chain.hashes.replace(Some(new), self.pin);
    }
}
