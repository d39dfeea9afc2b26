//! What a write works on: all that readers see, and what only writers know.
//!
//! # Who waits for whom
//!
//! An endpoint belongs to a *lane*, and one writer at a time is in a lane. Beside those of other lanes, a
//! writer may change:
//!
//! * what is its endpoints' own: the [`Owner`], and its entries and records in chains;
//! * a chain, its [`Run`](crate::run::Run) and what it has of further words, while it holds the chain's
//!   lock (one of [`Writers::locks`]), one chain at a time, after it has looked again whether the block it
//!   came for is still there;
//! * a shard of a directory, while it holds its count;
//! * numbers of chains, engines' names, chains that wait: each under a lock of its own.
//!
//! Locks are taken in this order, so that nobody waits in a circle. A block that an endpoint holds stays
//! where it is as long as its lane is taken: nobody else may let go of it for the endpoint.
//!
//! A new hash is written into its chain before its slot into the directory. So who meets the slot can
//! compare, even while the chain's length does not count the block yet (or any more): it then waits
//! for the chain's lock, and looks again. A chain's first block is entered among the heads, and taken out
//! of them, under that lock, so that who has waited for it finds the chain as queries do.
//!
//! All else, and all that looks at everything, is done *alone*, with every lane taken: groups and pools,
//! blocks whose parent is unknown or awaited, what clears have left, and the budget. Alone no other lock is
//! needed.

use crate::chain::{Chain, Place};
use crate::matcher::Residency;
use crate::names::Names;
use crate::owner::Owner;
use crate::run::Run;
use crate::shared::WritePin;
use crate::view::holds_at;
use crate::writers::{Lane, Lanes, Writers};
use crate::{Holder, turns};
use kvsched_core::{BlockHash, EndpointId};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

/// How many hashes ahead the directory is asked for its lines.
pub(crate) const AHEAD: usize = 16;

/// One write: what readers see, what they do not, and the right to replace the former.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) map: &'a Residency,
    pub(crate) own: &'a Writers,
    pub(crate) lanes: Lanes<'a>,
    pub(crate) pin: &'a WritePin,
    /// Whether there is no other writer.
    pub(crate) is_alone: bool,
    /// Whether numbers of chains are awaited that readers may still mean.
    pub(crate) is_short: bool,
}

/// A chain that a writer may change, with what else is known of it, as long as this lives.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    pub(crate) chain: &'a Chain,
    pub(crate) run: &'a Run,
    _lock: Option<MutexGuard<'a, ()>>,
}

impl<'a> Write<'a> {
    /// Of a writer beside others of other lanes.
    pub(crate) fn beside(
        (map, own): &'a (Residency, Writers),
        lane: &'a mut Lane,
        pin: &'a WritePin,
    ) -> Self {
        Self { map, own, lanes: Lanes::One(lane), pin, is_alone: false, is_short: false }
    }

    /// Of one that is alone.
    pub(crate) fn alone(
        (map, own): &'a (Residency, Writers),
        lanes: Lanes<'a>,
        pin: &'a WritePin,
    ) -> Self {
        Self { map, own, lanes, pin, is_alone: true, is_short: false }
    }

    /// Makes room for so many blocks in all, where no budget says how much there may be.
    pub(crate) fn expect(&mut self, blocks: usize) {
        if self.own.budget.is_none() {
            self.map.directory.reserve(blocks, self.pin);
        }
    }

    /// A write begins.
    #[inline]
    pub(crate) fn tick(&self) {
        if self.is_alone {
            self.own.clock.store(self.own.now().wrapping_add(1), Ordering::Relaxed);
        } else if self.own.budget.is_some() {
            // Without a budget nobody asks what is coldest.
            self.own.clock.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where what is added up over all lanes is noted.
    #[inline]
    pub(crate) fn tally(&mut self) -> &mut Lane {
        self.lanes.of_mut(EndpointId(0))
    }

    /// Blocks in chains, for whoever is alone.
    pub(crate) fn blocks(&self) -> usize {
        self.lanes.sum(|lane| lane.blocks)
    }

    /// Those of them that wait for a parent, for whoever is alone.
    pub(crate) fn pending(&self) -> usize {
        self.lanes.sum(|lane| lane.pending)
    }

    /// The endpoints of the lanes taken.
    pub(crate) fn owners_mut(&mut self) -> impl Iterator<Item = &mut Owner> {
        self.lanes.iter_mut().flat_map(|lane| &mut lane.owners)
    }

    /// The endpoint, if it is known.
    #[inline]
    pub(crate) fn known(&self, endpoint: EndpointId) -> Option<&Owner> {
        self.lanes.of(endpoint).owners.get(self.own.in_lane(endpoint))
    }

    /// An endpoint that is known.
    #[inline]
    pub(crate) fn owner(&self, endpoint: EndpointId) -> &Owner {
        &self.lanes.of(endpoint).owners[self.own.in_lane(endpoint)]
    }

    /// An endpoint that is known.
    #[inline]
    pub(crate) fn owner_mut(&mut self, endpoint: EndpointId) -> &mut Owner {
        let at = self.own.in_lane(endpoint);
        &mut self.lanes.of_mut(endpoint).owners[at]
    }

    /// Whether a watermark without details speaks of this holder.
    #[inline]
    pub(crate) fn is_plain(&self, holder: Holder) -> bool {
        self.owner(holder.endpoint).is_plain(holder)
    }

    /// Waits for the right to change a chain, while no other chain's is held; `None` if there never was one
    /// of this number.
    #[inline]
    pub(crate) fn lock(&self, number: u32) -> Option<Locked<'a>> {
        let (chain, run) = self.map.chains.with_run(number)?;
        Some(Locked { chain, run, _lock: self.turn(number) })
    }

    /// One's turn to change a chain, where there are others.
    #[inline]
    fn turn(&self, number: u32) -> Option<MutexGuard<'a, ()>> {
        let locks = self.own.locks.as_ref().filter(|_| !self.is_alone)?;
        Some(locks.take(number as usize))
    }

    /// The chain with the block at a place, locked; `None` if that is there no more.
    #[inline]
    pub(crate) fn take(&self, place: Place, hash: BlockHash) -> Option<Locked<'a>> {
        self.if_there(place, hash, self.lock(place.chain)?)
    }

    /// A locked chain, if it has the block at a place: others may have changed it before.
    #[inline]
    fn if_there(&self, place: Place, hash: BlockHash, locked: Locked<'a>) -> Option<Locked<'a>> {
        let is_there = || locked.chain.is(usize::from(place.offset), hash, self.pin);
        (self.is_alone || is_there()).then_some(locked)
    }

    /// The place of a block, and its chain, locked.
    #[inline]
    pub(crate) fn seek(&self, hash: BlockHash) -> Option<(Place, Locked<'a>)> {
        let map = self.map;
        let mut found = None;
        map.directory.find(hash, self.pin, |place| {
            let there = map.chains.with_run(place.chain);
            let there = there.filter(|(c, _)| c.is(usize::from(place.offset), hash, self.pin));
            found = there.map(|(chain, run)| (place, chain, run));
            found.is_some()
        });
        let (place, chain, run) = found?;
        let locked = Locked { chain, run, _lock: self.turn(place.chain) };
        Some((place, self.if_there(place, hash, locked)?))
    }

    /// Whether `holder` holds the block at `offset`.
    pub(crate) fn holds_at(&self, chain: &Chain, holder: Holder, offset: usize) -> bool {
        let owner = self.owner(holder.endpoint);
        holds_at(owner, chain, holder, offset, self.pin)
    }

    /// Changes engines' names, and counts what that takes.
    pub(crate) fn change_names<R>(&self, f: impl FnOnce(&mut Names) -> R) -> R {
        let mut names = turns::take(&self.own.names);
        let before = names.bytes();
        let done = f(&mut names);
        self.pin.recount(before, names.bytes());
        done
    }
}
