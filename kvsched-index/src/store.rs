//! Stores.

use crate::append::Appended;
use crate::chain::Place;
use crate::loose::LooseGroup;
use crate::remove::SWEPT;
use crate::write::{AHEAD, Write};
use crate::{Holder, Repeat, StoreError, StoreOutcome};
use kvsched_core::{BlockHash, EngineHash};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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

impl<'a> Write<'a> {
    #[inline]
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
            && self.store_tail(holder.endpoint, parent, hash)
        {
            if self.is_alone {
                self.tidy(1);
            }
            let outcome = StoreOutcome { stored: 1, ..StoreOutcome::default() };
            return Ok(Stored { outcome, rest: None });
        }
        self.store_any(holder, parent, hashes, repeat)
    }

    /// A store that is not of one block at the end of a chain.
    #[inline(never)]
    fn store_any(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<Stored, StoreError> {
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
}
