//! Stores.

use crate::chain::{Chain, LONGEST, Place};
use crate::holders;
use crate::loose::LooseGroup;
use crate::matcher::Residency;
use crate::remove::SWEPT;
use crate::shared::Fresh;
use crate::write::{AHEAD, Locked, Write, Writers};
use crate::{Holder, Repeat, StoreError, StoreOutcome};
use kvsched_core::{BlockHash, EndpointId, EngineHash};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a store came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) outcome: StoreOutcome,
    /// Blocks from this one on are left to a writer who is alone, and so is the rest of the store. One who is
    /// leaves none.
    pub(crate) rest: Option<usize>,
}

impl Stored {
    /// All is left.
    const NOTHING: Self =
        Self { outcome: StoreOutcome { stored: 0, repeated: 0, pending: false }, rest: Some(0) };
}

/// Where unknown blocks went.
enum Appended<'a> {
    /// There, from this offset on.
    To(Place, Locked<'a>),
    /// The first of them is known by now.
    Known(Place),
    /// Nowhere: there is no number for another chain.
    Nowhere,
}

impl<'a> Write<'a> {
    pub(crate) fn store(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<Stored, StoreError> {
        if holder.endpoint.0 == u16::MAX {
            return Err(StoreError::Endpoint(holder.endpoint));
        }
        self.tick();
        if let (Some(parent), &[hash]) = (parent, hashes)
            && self.known(holder.endpoint).is_some_and(|owner| owner.is_plain(holder))
            && let Some(outcome) = self.store_tail(holder.endpoint, parent, hash)
        {
            if self.is_alone {
                self.tidy(1);
            }
            return Ok(Stored { outcome, rest: None });
        }
        if !self.meet(holder.endpoint, holder.group) {
            return Ok(Stored::NOTHING);
        }
        if let Some(group) = self.owner(holder.endpoint).loose(holder.group) {
            let group = Arc::clone(group);
            let outcome = self.store_loose(&group, holder, hashes, repeat);
            if self.is_alone {
                self.keep_budget();
            }
            return Ok(Stored { outcome, rest: None });
        }
        if !self.keep_room(hashes.len()) {
            return Ok(Stored::NOTHING);
        }
        let stored = self.store_chained(holder, parent, hashes, repeat)?;
        if self.is_alone {
            self.tidy(hashes.len());
        }
        Ok(stored)
    }

    /// As [`Write::store`], with the engine's names of the blocks.
    pub(crate) fn store_mapped(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        engine: &[EngineHash],
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<Stored, StoreError> {
        if engine.len() != hashes.len() {
            return Err(StoreError::Names { engine: engine.len(), hashes: hashes.len() });
        }
        let stored = self.store(holder, parent, hashes, repeat)?;
        let done = stored.rest.unwrap_or(hashes.len());
        self.name(&engine[..done], &hashes[..done]);
        if self.is_alone {
            self.keep_budget();
        }
        Ok(stored)
    }

    /// What only a writer who is alone does, and sooner or later must, after a write of so many blocks.
    pub(crate) fn tidy(&mut self, blocks: usize) {
        self.sweep(2 * blocks + SWEPT);
        self.keep_budget();
    }

    pub(crate) fn store_loose(
        &mut self,
        group: &LooseGroup,
        holder: Holder,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> StoreOutcome {
        let mut outcome = StoreOutcome::default();
        for &hash in hashes {
            if group.tier(holder.tier).insert(hash, self.pin) {
                outcome.stored += 1;
            } else {
                outcome.repeated += 1;
                self.copy(holder, hash, repeat);
            }
        }
        outcome
    }

    pub(crate) fn copy(&mut self, holder: Holder, hash: BlockHash, repeat: Repeat) {
        if repeat == Repeat::Copy {
            let pin = self.pin;
            let owner = self.owner_mut(holder.endpoint);
            let before = owner.copies_bytes();
            *owner.copies.entry((holder.tier, holder.group, hash)).or_default() += 1;
            pin.recount(before, owner.copies_bytes());
        }
    }

    fn store_chained(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<Stored, StoreError> {
        let mut outcome = StoreOutcome::default();
        for &hash in parent.iter().chain(hashes.iter().take(AHEAD)) {
            self.map.directory.prefetch(hash, self.pin);
        }
        let mut known = hashes.first().and_then(|&first| self.map.place(first, self.pin));
        let mut previous = parent;
        let mut before = None;
        let mut at = 0;
        while at < hashes.len() {
            let here = known.and_then(|place| Some((place, self.take(place, hashes[at])?)));
            let (place, locked) = match here {
                Some(here) => here,
                None => {
                    if before.is_none() {
                        before = previous.and_then(|p| self.map.place(p, self.pin));
                        outcome.pending = previous.is_some() && before.is_none();
                        self.check_pending(outcome.pending, hashes.len())?;
                    }
                    if !self.is_alone && (outcome.pending || self.own.waiting.awaits(&hashes[at..]))
                    {
                        outcome.pending = false;
                        break;
                    }
                    match self.append(holder, previous, before, &hashes[at..], outcome.pending) {
                        Appended::To(place, locked) => (place, locked),
                        Appended::Known(place) => {
                            known = Some(place);
                            continue;
                        }
                        Appended::Nowhere if !self.is_alone => break,
                        Appended::Nowhere => {
                            let lost = (hashes.len() - at) as u64;
                            self.own.evicted.fetch_add(lost, Ordering::Relaxed);
                            at = hashes.len();
                            break;
                        }
                    }
                }
            };
            let (from, chain) = (usize::from(place.offset), locked.chain);
            let count = chain.common(from, &hashes[at..], self.pin);
            if count == 0 {
                at = hashes.len();
                break;
            }
            if repeat == Repeat::Copy {
                for (i, &hash) in hashes[at..at + count].iter().enumerate() {
                    if self.holds_at(chain, holder, from + i) {
                        self.copy(holder, hash, repeat);
                    }
                }
            }
            locked.run.touch(self.own.now());
            let new = self.hold(place.chain, chain, holder, from, from + count);
            drop(locked);
            outcome.stored += new;
            outcome.repeated += count - new;
            at += count;
            previous = Some(hashes[at - 1]);
            before = Some(Place { offset: (from + count - 1) as u16, ..place });
            known = hashes.get(at).and_then(|&h| self.map.place(h, self.pin));
        }
        Ok(Stored { outcome, rest: (at < hashes.len()).then_some(at) })
    }

    /// Whether so many blocks may wait for a parent.
    fn check_pending(&self, is_pending: bool, blocks: usize) -> Result<(), StoreError> {
        if !is_pending || !self.is_alone {
            return Ok(());
        }
        let (pending, limit) = (self.pending(), self.own.pending_limit);
        if pending + blocks > limit {
            return Err(StoreError::Pending { blocks, pending, limit });
        }
        Ok(())
    }

    /// Writes the unknown blocks at the beginning of `hashes`: behind `before` if that is where a
    /// chain of this holder alone ends, and into a chain of their own otherwise, if there is room for
    /// one.
    fn append(
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
        if !self.own.waiting.is_empty() && self.is_alone {
            hashes[..count].iter().for_each(|&hash| self.arrived(hash));
        }
        let end = start + count;
        chain.set_len(end, hashes[count - 1].0);
        run.write(end);
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
    #[inline]
    pub(crate) fn enter<const ALONE: bool>(
        &self,
        to: Place,
        words: &[AtomicU64],
        hashes: &[BlockHash],
    ) -> (usize, Option<Place>) {
        let entries = self.map.directory.inserting::<ALONE>(&self.own.counts, self.pin);
        let start = usize::from(to.offset);
        let mut count = 0;
        for (word, &hash) in words[start..].iter().zip(hashes) {
            if let Some(&ahead) = hashes.get(count + AHEAD) {
                entries.prefetch(ahead);
            }
            // Before its slot: who meets that compares.
            word.store(hash.0, Ordering::Release);
            let place = Place { offset: (start + count) as u16, ..to };
            let is_it = |p: Place| {
                if p.chain == to.chain {
                    return words[usize::from(p.offset)].load(Ordering::Relaxed) == hash.0;
                }
                self.is_at(p, hash)
            };
            let known = entries.find_or_insert(hash, place, is_it);
            if known.is_some() {
                return (count, known);
            }
            count += 1;
        }
        (count, None)
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
