//! Stores.

use crate::chain::{Chain, LONGEST, MOST_CHAINS, Place};
use crate::holders;
use crate::loose::LooseGroup;
use crate::remove::SWEPT;
use crate::shared::Fresh;
use crate::write::{AHEAD, Run, RunState, Write};
use crate::{Holder, Repeat, StoreError, StoreOutcome};
use kvsched_core::{BlockHash, EngineHash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

impl<'a> Write<'a> {
    pub(crate) fn store(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        if holder.endpoint.0 == u16::MAX {
            return Err(StoreError::Endpoint(holder.endpoint));
        }
        self.own.clock = self.own.clock.wrapping_add(1);
        self.meet(holder.endpoint, holder.group);
        let owner = &self.own.owners[holder.endpoint.index()];
        if let Some(group) = owner.loose.iter().find(|g| g.group == holder.group) {
            let group = Arc::clone(group);
            let outcome = self.store_loose(&group, holder, hashes, repeat);
            self.keep_budget();
            return Ok(outcome);
        }
        self.keep_room(hashes.len());
        let tail = match (parent, hashes) {
            (Some(parent), &[hash]) => self.store_tail(holder, parent, hash),
            _ => None,
        };
        let outcome = match tail {
            Some(outcome) => outcome,
            None => self.store_chained(holder, parent, hashes, repeat)?,
        };
        self.sweep(2 * hashes.len() + SWEPT);
        self.keep_budget();
        Ok(outcome)
    }

    pub(crate) fn store_mapped(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        engine: &[EngineHash],
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        if engine.len() != hashes.len() {
            return Err(StoreError::Names { engine: engine.len(), hashes: hashes.len() });
        }
        let outcome = self.store(holder, parent, hashes, repeat)?;
        self.name(engine, hashes);
        self.keep_budget();
        Ok(outcome)
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
            *self.own.copies.entry((holder, hash)).or_default() += 1;
        }
    }

    pub(crate) fn store_chained(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        let mut outcome = StoreOutcome::default();
        for &hash in parent.iter().chain(hashes.iter().take(AHEAD)) {
            self.map.directory.prefetch(hash, self.pin);
        }
        let Some(&first) = hashes.first() else { return Ok(outcome) };
        let mut known = self.map.place(first, self.pin);
        let mut before = None;
        if let (None, Some(parent)) = (known, parent) {
            before = self.map.place(parent, self.pin);
            outcome.pending = before.is_none();
            let pending = self.own.pending;
            if outcome.pending && pending + hashes.len() > self.own.pending_limit {
                let (blocks, limit) = (hashes.len(), self.own.pending_limit);
                return Err(StoreError::Pending { blocks, pending, limit });
            }
        }
        let mut previous = parent;
        let mut at = 0;
        while at < hashes.len() {
            let place = known.or_else(|| {
                self.append(holder, previous, before, &hashes[at..], outcome.pending && at == 0)
            });
            let Some(place) = place else {
                // There is no room for another chain within the budget.
                self.own.evicted += (hashes.len() - at) as u64;
                break;
            };
            let Some(chain) = self.map.chains.get(place.chain) else { break };
            let from = usize::from(place.offset);
            let count = chain.common(from, &hashes[at..], self.pin);
            if count == 0 {
                break;
            }
            if repeat == Repeat::Copy {
                for (i, &hash) in hashes[at..at + count].iter().enumerate() {
                    if self.own.holds_at(chain, holder, from + i, self.pin) {
                        self.copy(holder, hash, repeat);
                    }
                }
            }
            self.own.runs[place.chain as usize].touched = self.own.clock;
            let new = self.hold(place.chain, chain, holder, from, from + count);
            outcome.stored += new;
            outcome.repeated += count - new;
            at += count;
            previous = Some(hashes[at - 1]);
            before = Some(Place { offset: (from + count - 1) as u16, ..place });
            known = hashes.get(at).and_then(|&h| self.map.place(h, self.pin));
        }
        Ok(outcome)
    }

    /// Writes the unknown blocks at the beginning of `hashes`: behind `before` if that is where a
    /// chain of this holder alone ends, and into a chain of their own otherwise, if there is room for
    /// one.
    pub(crate) fn append(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        before: Option<Place>,
        hashes: &[BlockHash],
        pending: bool,
    ) -> Option<Place> {
        let continued = before.filter(|b| self.continues(*b, holder, hashes[0]));
        let (number, start) = match continued {
            Some(before) => (before.chain, usize::from(before.offset) + 1),
            None => {
                let number = self.begin(parent, pending)?;
                if let Some((before, chain)) =
                    before.zip(before.and_then(|b| self.map.chains.get(b.chain)))
                {
                    chain.fork(usize::from(before.offset) + 1);
                }
                (number, 0)
            }
        };
        let map = self.map;
        let Some(chain) = map.chains.get(number) else {
            unreachable!("chain {number} was just given out")
        };
        let most = hashes.len().min(LONGEST - start);
        self.reserve(chain, start, most);
        let words = chain.hashes.get(self.pin);
        // A hash is written once: another one in its place begins a chain of its own.
        let written = usize::from(self.own.runs[number as usize].written).max(start);
        let again = &words[start..written.min(start + most)];
        let same = again.iter().zip(hashes).take_while(|(w, h)| w.load(Ordering::Relaxed) == h.0);
        let same = same.count();
        let most = if same < again.len() { same } else { most };
        let is_it = |place: Place, hash: BlockHash| {
            let at = usize::from(place.offset);
            if place.chain == number {
                return words[at].load(Ordering::Relaxed) == hash.0;
            }
            map.chains.get(place.chain).is_some_and(|c| c.is(at, hash, self.pin))
        };
        let mut entries = map.directory.inserting(&mut self.own.counts, self.pin);
        let mut count = 0;
        for (word, &hash) in words[start..].iter().zip(&hashes[..most]) {
            if let Some(&ahead) = hashes.get(count + AHEAD) {
                entries.prefetch(ahead);
            }
            let place = Place { chain: number, offset: (start + count) as u16 };
            // Those before were unknown, so the first one is too.
            if entries.find_or_insert(hash, place, |p| is_it(p, hash)).is_some() {
                break;
            }
            word.store(hash.0, Ordering::Release);
            count += 1;
        }
        if !self.own.waiting.is_empty() {
            hashes[..count].iter().for_each(|&hash| self.arrived(hash));
        }
        let end = start + count;
        chain.set_len(end, hashes[count - 1].0);
        if self.own.runs[number as usize].state.pending {
            self.own.pending += count;
        }
        self.own.blocks += count;
        let run = &mut self.own.runs[number as usize];
        run.written = run.written.max(end as u16);
        if start == 0 && count < most {
            self.fit(chain, end);
        }
        Some(Place { chain: number, offset: start as u16 })
    }

    /// Whether a block after `before` belongs into the same chain: it is the end, there is room,
    /// and nobody else holds any of it. (Where others do, the end is likely a fork.)
    pub(crate) fn continues(&self, before: Place, holder: Holder, hash: BlockHash) -> bool {
        let Some(chain) = self.map.chains.get(before.chain) else { return false };
        let next = usize::from(before.offset) + 1;
        next == chain.len()
            && next < LONGEST
            && (next >= usize::from(self.own.runs[before.chain as usize].written)
                || chain.hash(next, self.pin) == Some(hash))
            && holders::all(chain, self.pin, |e| e.endpoint == holder.endpoint)
    }

    /// A new, empty chain, if there is room for one.
    pub(crate) fn begin(&mut self, parent: Option<BlockHash>, pending: bool) -> Option<u32> {
        if self.own.unused.is_empty() {
            let mut later = self.own.unused_later.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut self.own.unused, &mut later);
        }
        let number = match self.own.unused.pop() {
            Some(number) => number,
            None => self.new_number()?,
        };
        self.own.runs[number as usize] = Run {
            parent,
            touched: self.own.clock,
            written: 0,
            state: RunState { pending, stale: false },
        };
        if let (true, Some(parent)) = (pending, parent) {
            self.own.waiting.entry(parent).or_default().push(number);
        }
        self.own.chains += 1;
        Some(number)
    }

    /// A number never used before, and room for its chain.
    fn new_number(&mut self) -> Option<u32> {
        let number = self.own.runs.len() as u32;
        if number > MOST_CHAINS {
            return None;
        }
        if let Some(chains) = self.map.chains.missing(number) {
            if !self.may_grow(chains) {
                return None;
            }
            self.own.runs.reserve_exact(chains);
            let bytes = self.map.chains.create(number);
            self.own.chain_bytes += bytes;
            self.pin.count(bytes as isize);
        }
        self.own.runs.push(Run::default());
        Some(number)
    }

    /// A block has arrived: those who waited for it are pending no more.
    pub(crate) fn arrived(&mut self, hash: BlockHash) {
        for number in self.own.waiting.remove(&hash).unwrap_or_default() {
            let state = &mut self.own.runs[number as usize].state;
            if std::mem::take(&mut state.pending) {
                self.own.pending -= self.map.chains.get(number).map_or(0, Chain::len);
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
