//! What only writers know, and what keeps them out of each other's way.

use crate::IndexBuilder;
use crate::chain::Chains;
use crate::directory::DirectoryCounts;
use crate::matcher::Residency;
use crate::names::Names;
use crate::numbers::Numbers;
use crate::owner::Owner;
use crate::shared::WritePin;
use crate::turns::{Apart, Turns};
use crate::waiting::Waiting;
use kvsched_core::EndpointId;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Lanes of an index that threads share, unless a byte budget says that it will be small: more than
/// there are writers at work, so that two of them are seldom in one.
const MOST_LANES: usize = 64;

/// What only writers know, of all endpoints.
#[derive(Debug)]
pub(crate) struct Writers {
    /// Of the directory of blocks, and of that of heads.
    pub(crate) counts: DirectoryCounts,
    pub(crate) head_counts: DirectoryCounts,
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
    /// That of an endpoint.
    #[inline]
    pub(crate) fn of(&self, endpoint: EndpointId) -> &Lane {
        match self {
            Self::One(lane) => lane,
            Self::All(lanes) => &lanes[endpoint.index() & (lanes.len() - 1)],
        }
    }

    /// That of an endpoint.
    #[inline]
    pub(crate) fn of_mut(&mut self, endpoint: EndpointId) -> &mut Lane {
        match self {
            Self::One(lane) => lane,
            Self::All(lanes) => {
                let last = lanes.len() - 1;
                &mut lanes[endpoint.index() & last]
            }
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        let (one, all) = match self {
            Self::One(lane) => (Some(&mut **lane), [].as_mut_slice()),
            Self::All(lanes) => (None, lanes.as_mut_slice()),
        };
        one.into_iter().chain(all.iter_mut().map(|lane| &mut **lane))
    }

    /// What `of` says of them together.
    pub(crate) fn sum(&self, of: impl Fn(&Lane) -> usize) -> usize {
        match self {
            Self::One(lane) => of(lane),
            Self::All(lanes) => lanes.iter().fold(0, |sum, lane| sum.wrapping_add(of(lane))),
        }
    }
}

impl Writers {
    /// For an index without blocks, that one or several write.
    pub(crate) fn new(
        settings: &IndexBuilder,
        map: &Residency,
        (counts, head_counts): (DirectoryCounts, DirectoryCounts),
        is_shared: bool,
    ) -> Self {
        let shards = map.directory.shards();
        let locks = is_shared.then(|| Turns::new(shards));
        let lane_bits = if is_shared { shards.min(MOST_LANES).ilog2() } else { 0 };
        let locks_bytes = locks.as_ref().map_or(0, Turns::bytes);
        let directories = map.directory.fixed_bytes(&counts) + map.heads.fixed_bytes(&head_counts);
        let bytes = directories + Chains::fixed_bytes() + locks_bytes;
        Self {
            counts,
            head_counts,
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
