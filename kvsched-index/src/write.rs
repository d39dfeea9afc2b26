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
//! * a shard of the directory, while it holds its count;
//! * numbers of chains, engines' names, chains that wait: each under a lock of its own.
//!
//! Locks are taken in this order, so that nobody waits in a circle. A block that an endpoint holds stays
//! where it is as long as its lane is taken: nobody else may let go of it for the endpoint.
//!
//! A new hash is written into its chain before its slot into the directory. So who meets the slot can
//! compare, even while the chain's length does not count the block yet (or any more): it then waits
//! for the chain's lock, and looks again.
//!
//! All else, and all that looks at everything, is done *alone*, with every lane taken: groups and pools,
//! blocks whose parent is unknown or awaited, what clears have left, and the budget. Alone no other lock is
//! needed.

use crate::chain::{Chain, Chains, Place};
use crate::detail::{self, Detail, Plane};
use crate::directory::DirectoryCounts;
use crate::matcher::Residency;
use crate::names::Names;
use crate::numbers::Numbers;
use crate::owner::Owner;
use crate::run::Run;
use crate::shared::{Pin, WritePin};
use crate::turns::{self, Apart, Turns};
use crate::waiting::Waiting;
use crate::{Holder, IndexBuilder, IndexStats, holders};
use kvsched_core::{BlockHash, EndpointId};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// How many hashes ahead the directory is asked for its lines.
pub(crate) const AHEAD: usize = 12;
/// Lanes of an index that threads share, unless a byte budget says that it will be small: more than
/// there are writers at work, so that two of them are seldom in one.
const MOST_LANES: usize = 64;

/// What only writers know, of all endpoints.
#[derive(Debug)]
pub(crate) struct Writers {
    pub(crate) counts: DirectoryCounts,
    /// Of chains, by number; none where there is one writer.
    pub(crate) locks: Option<Turns<()>>,
    /// Lanes that endpoints are spread over: as many bits of an id say which.
    pub(crate) lane_bits: u32,
    pub(crate) numbers: Apart<Numbers>,
    pub(crate) waiting: Waiting,
    /// Chains that lost a holder by a clear, and may have blocks nobody holds.
    pub(crate) stale: Mutex<Vec<u32>>,
    /// How many these are.
    pub(crate) stale_chains: AtomicUsize,
    pub(crate) names: Apart<Mutex<Names>>,
    /// Whether there ever were any.
    pub(crate) has_names: AtomicBool,
    /// All that is allocated.
    pub(crate) bytes: Apart<AtomicUsize>,
    /// Those of `bytes` that an index without blocks takes.
    pub(crate) fixed_bytes: usize,
    pub(crate) pending_limit: usize,
    pub(crate) unit: u32,
    /// Counts writes: the time that "coldest" is measured in.
    pub(crate) clock: Apart<AtomicU32>,
    pub(crate) budget: Option<usize>,
    pub(crate) evicted: AtomicU64,
}

/// What only writers know of the endpoints of a lane.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) owners: Vec<Owner>,
    /// Blocks that its writers added to chains, less those they took out; all lanes' sum is what
    /// there is.
    pub(crate) blocks: usize,
    /// The same of chains that wait for their parent.
    pub(crate) pending: usize,
}

/// The lanes that a writer has taken.
#[derive(Debug)]
pub(crate) enum Lanes<'a> {
    One(&'a mut Lane),
    All(Vec<MutexGuard<'a, Lane>>),
}

impl Lanes<'_> {
    #[inline]
    fn of(&self, endpoint: EndpointId) -> &Lane {
        match self {
            Self::One(lane) => lane,
            Self::All(lanes) => &lanes[endpoint.index() & (lanes.len() - 1)],
        }
    }

    #[inline]
    fn of_mut(&mut self, endpoint: EndpointId) -> &mut Lane {
        match self {
            Self::One(lane) => lane,
            Self::All(lanes) => {
                let last = lanes.len() - 1;
                &mut lanes[endpoint.index() & last]
            }
        }
    }
}

/// A hash table's bytes: at most 8 entries in 7/8 of a power of two of slots, each with a byte beside
/// it.
pub(crate) fn table_bytes<T>(capacity: usize) -> usize {
    (capacity * 8).div_ceil(7) * (size_of::<T>() + 1)
}

impl Writers {
    /// For an index without blocks, that one or several write.
    pub(crate) fn new(
        settings: &IndexBuilder,
        map: &Residency,
        counts: DirectoryCounts,
        is_shared: bool,
    ) -> Self {
        let shards = map.directory.shards();
        let locks = is_shared.then(|| Turns::new(shards));
        let lane_bits = if is_shared { shards.min(MOST_LANES).ilog2() } else { 0 };
        let locks_bytes = locks.as_ref().map_or(0, Turns::bytes);
        let bytes = map.directory.fixed_bytes(&counts) + Chains::fixed_bytes() + locks_bytes;
        Self {
            counts,
            locks,
            lane_bits,
            numbers: Apart(Numbers::new(settings.byte_budget)),
            waiting: Waiting::default(),
            stale: Mutex::default(),
            stale_chains: AtomicUsize::new(0),
            names: Apart::default(),
            has_names: AtomicBool::new(false),
            bytes: Apart(AtomicUsize::new(bytes)),
            fixed_bytes: bytes,
            pending_limit: settings.pending_blocks,
            unit: settings.block_size,
            clock: Apart::default(),
            budget: settings.byte_budget,
            evicted: AtomicU64::new(0),
        }
    }

    /// Where an endpoint is in its lane.
    #[inline]
    pub(crate) fn in_lane(&self, endpoint: EndpointId) -> usize {
        endpoint.index() >> self.lane_bits
    }

    /// Counts what the structure around it takes, too.
    pub(crate) fn add_fixed(&mut self, bytes: usize) {
        *self.bytes.0.get_mut() += bytes;
        self.fixed_bytes += bytes;
    }

    /// Books what a write has allocated and given back.
    #[inline]
    pub(crate) fn book(&self, pin: &WritePin) {
        match pin.take_bytes() {
            0 => {}
            bytes if pin.is_exclusive() => {
                let now = self.bytes.load(Ordering::Relaxed).wrapping_add_signed(bytes);
                self.bytes.store(now, Ordering::Relaxed);
            }
            bytes => {
                self.bytes.fetch_add(bytes as usize, Ordering::Relaxed);
            }
        }
    }

    /// Whether a write beside others has left something that one alone must do.
    pub(crate) fn is_untidy(&self) -> bool {
        self.stale_chains.load(Ordering::Relaxed) > 0
            || self.budget.is_some_and(|most| self.bytes.load(Ordering::Relaxed) > most)
    }

    /// The time of this write.
    #[inline]
    pub(crate) fn now(&self) -> u32 {
        self.clock.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn has_names(&self) -> bool {
        self.has_names.load(Ordering::Relaxed)
    }
}

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

    /// What `of` says of all lanes together, for whoever is alone.
    fn sum(&self, of: impl Fn(&Lane) -> usize) -> usize {
        match &self.lanes {
            Lanes::One(lane) => of(lane),
            Lanes::All(lanes) => lanes.iter().fold(0, |sum, lane| sum.wrapping_add(of(lane))),
        }
    }

    /// Blocks in chains, for whoever is alone.
    pub(crate) fn blocks(&self) -> usize {
        self.sum(|lane| lane.blocks)
    }

    /// Those of them that wait for a parent, for whoever is alone.
    pub(crate) fn pending(&self) -> usize {
        self.sum(|lane| lane.pending)
    }

    /// The lanes taken.
    pub(crate) fn lanes_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        let (one, all) = match &mut self.lanes {
            Lanes::One(lane) => (Some(&mut **lane), [].as_mut_slice()),
            Lanes::All(lanes) => (None, lanes.as_mut_slice()),
        };
        one.into_iter().chain(all.iter_mut().map(|lane| &mut **lane))
    }

    /// The endpoints of the lanes taken.
    pub(crate) fn owners_mut(&mut self) -> impl Iterator<Item = &mut Owner> {
        self.lanes_mut().flat_map(|lane| &mut lane.owners)
    }

    /// The endpoint's lane.
    pub(crate) fn lane_of(&mut self, endpoint: EndpointId) -> &mut Lane {
        self.lanes.of_mut(endpoint)
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
        let (map, own): (&'a Residency, &'a Writers) = (self.map, self.own);
        let (chain, run) = map.chains.with_run(number)?;
        let locks = own.locks.as_ref().filter(|_| !self.is_alone);
        Some(Locked { chain, run, _lock: locks.map(|locks| locks.take(number as usize)) })
    }

    /// The chain with the block at a place, locked; `None` if that is there no more.
    #[inline]
    pub(crate) fn take(&self, place: Place, hash: BlockHash) -> Option<Locked<'a>> {
        let locked = self.lock(place.chain)?;
        let is_there = || locked.chain.is(usize::from(place.offset), hash, self.pin);
        (self.is_alone || is_there()).then_some(locked)
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

/// Whether `holder`, of whom `owner` is known, holds the block at `offset`.
fn holds_at(owner: &Owner, chain: &Chain, holder: Holder, offset: usize, pin: &Pin) -> bool {
    let Some(entry) = holders::find(chain, holder.endpoint, pin) else { return false };
    let plane = Plane::new(holder.tier, holder.group);
    match Detail::of(entry, chain.details.get(pin)) {
        Some(d) => d.plane(plane).is_some_and(|bits| detail::has(bits, offset)),
        None => owner.plain() == Some(plane) && offset < usize::from(entry.blocks),
    }
}

/// Everything, to look at.
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
