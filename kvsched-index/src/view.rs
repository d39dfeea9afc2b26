//! Everything, to look at.

use crate::chain::Chain;
use crate::detail::{self, Detail, Plane};
use crate::matcher::Residency;
use crate::owner::Owner;
use crate::shared::Pin;
use crate::writers::{Lane, Writers};
use crate::{Holder, IndexStats, holders};
use kvsched_core::{BlockHash, EndpointId};
use std::sync::atomic::Ordering;

/// What readers see, and what only writers know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) map: &'a Residency,
    pub(crate) own: &'a Writers,
    /// Those of the lanes that are taken: all of them, or the one that is asked for.
    pub(crate) lanes: &'a [&'a Lane],
    pub(crate) pin: &'a Pin,
}

impl<'a> View<'a> {
    /// The endpoint, if it is known.
    pub(crate) fn owner(self, endpoint: EndpointId) -> Option<&'a Owner> {
        let lane = self.lanes[endpoint.index() & (self.lanes.len() - 1)];
        lane.owners.get(self.own.in_lane(endpoint))
    }

    /// All endpoints, by id.
    pub(crate) fn owners(self) -> impl Iterator<Item = (EndpointId, &'a Owner)> {
        let ids = 0..self.map.endpoints.load(Ordering::Relaxed);
        ids.filter_map(move |id| {
            let id = EndpointId(id as u16);
            Some((id, self.owner(id)?))
        })
    }

    /// Blocks in chains.
    pub(crate) fn blocks(self) -> usize {
        self.lanes.iter().fold(0, |sum, lane| sum.wrapping_add(lane.blocks))
    }

    /// Those of them that wait for a parent.
    pub(crate) fn pending(self) -> usize {
        self.lanes.iter().fold(0, |sum, lane| sum.wrapping_add(lane.pending))
    }

    /// Whether `holder` holds the block, matched or not.
    pub(crate) fn holds(self, holder: Holder, hash: BlockHash) -> bool {
        let Some(owner) = self.owner(holder.endpoint) else { return false };
        if let Some(group) = owner.loose(holder.group) {
            return group.tier(holder.tier).contains(hash, self.pin);
        }
        let Some(place) = self.map.place(hash, self.pin) else { return false };
        let Some(chain) = self.map.chains.get(place.chain) else { return false };
        // Where others write, their records move about beside this endpoint's.
        let _lock = self.own.locks.as_ref().map(|locks| locks.take(place.chain as usize));
        let offset = usize::from(place.offset);
        chain.is(offset, hash, self.pin) && holds_at(owner, chain, holder, offset, self.pin)
    }

    pub(crate) fn stats(self) -> IndexStats {
        IndexStats {
            endpoints: self.map.endpoints.load(Ordering::Relaxed),
            blocks: self.blocks(),
            runs: self.own.numbers.alive(),
            pending: self.pending(),
            bytes: self.own.bytes.load(Ordering::Relaxed),
            evicted: self.own.evicted.load(Ordering::Relaxed),
        }
    }
}

/// Whether `holder`, of whom `owner` is known, holds the block at `offset`.
pub(crate) fn holds_at(
    owner: &Owner,
    chain: &Chain,
    holder: Holder,
    offset: usize,
    pin: &Pin,
) -> bool {
    let Some(entry) = holders::find(chain, holder.endpoint, pin) else { return false };
    let plane = Plane::new(holder.tier, holder.group);
    match Detail::of(entry, chain.details.get(pin)) {
        Some(d) => d.plane(plane).is_some_and(|bits| detail::has(bits, offset)),
        None => owner.plain() == Some(plane) && offset < usize::from(entry.blocks),
    }
}
