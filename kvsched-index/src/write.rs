//! What a write works on: all that readers see, and what only writers know.

use crate::chain::Chain;
use crate::detail::{self, Detail, Plane};
use crate::directory::DirectoryCounts;
use crate::group::Grouping;
use crate::loose::LooseGroup;
use crate::matcher::Residency;
use crate::names::Names;
use crate::shared::{Pin, WritePin};
use crate::{Holder, IndexStats, holders};
use kvsched_core::{BlockHash, Group, Tier};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// How many hashes ahead the directory is asked for its lines.
pub(crate) const AHEAD: usize = 12;

/// What only writers know.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) counts: DirectoryCounts,
    /// By chain number; the first is nobody's.
    pub(crate) runs: Vec<Run>,
    /// Numbers of chains that have ended.
    pub(crate) unused: Vec<u32>,
    /// The same, once no reader can still mean the old chain.
    pub(crate) unused_later: Arc<Mutex<Vec<u32>>>,
    pub(crate) owners: Vec<Owner>,
    /// Further physical copies of held blocks.
    pub(crate) copies: HashMap<(Holder, BlockHash), u32>,
    /// Chains without a known parent, by the parent.
    pub(crate) waiting: HashMap<BlockHash, Vec<u32>>,
    pub(crate) pending: usize,
    /// Chains that lost a holder by a clear, and may have blocks nobody holds.
    pub(crate) stale: Vec<u32>,
    pub(crate) blocks: usize,
    pub(crate) chains: usize,
    pub(crate) bytes: usize,
    /// Those of `bytes` that an index without blocks takes.
    pub(crate) fixed_bytes: usize,
    /// Those of `bytes` that are room for chains.
    pub(crate) chain_bytes: usize,
    pub(crate) pending_limit: usize,
    pub(crate) unit: u32,
    /// Counts writes: the time that "coldest" is measured in.
    pub(crate) clock: u32,
    pub(crate) budget: Option<usize>,
    pub(crate) evicted: u64,
    /// Whether numbers of chains are awaited that readers may still mean.
    pub(crate) is_short: bool,
    pub(crate) names: Names,
    /// Room in all owners' lists of chains.
    pub(crate) owned_chains: usize,
    /// Bytes of all owners' lists of groups.
    pub(crate) group_bytes: usize,
    /// Bytes of the list of endpoints with pools.
    pub(crate) scope_bytes: usize,
}

/// A hash table's bytes: at most 8 entries in 7/8 of a power of two of slots, each with a byte beside
/// it.
pub(crate) fn table_bytes<T>(capacity: usize) -> usize {
    (capacity * 8).div_ceil(7) * (size_of::<T>() + 1)
}

/// What only writers know of a chain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) parent: Option<BlockHash>,
    /// When something of it was last stored.
    pub(crate) touched: u32,
    /// Most blocks it ever had: hashes below are written for good.
    pub(crate) written: u16,
    pub(crate) state: RunState,
}

/// Flags of a chain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunState {
    pub(crate) pending: bool,
    pub(crate) stale: bool,
}

/// What only writers know of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Owner {
    /// Chains it has an entry in, and some it had.
    pub(crate) chains: Vec<u32>,
    /// Entries it has.
    pub(crate) entries: usize,
    pub(crate) groups: Vec<(Group, Grouping)>,
    pub(crate) loose: Vec<Arc<LooseGroup>>,
}

impl Owner {
    /// Bytes of its lists of groups.
    pub(crate) fn group_bytes(&self) -> usize {
        self.groups.capacity() * size_of::<(Group, Grouping)>()
            + self.loose.capacity() * size_of::<Arc<LooseGroup>>()
            + self.loose.len() * (size_of::<LooseGroup>() + 2 * size_of::<usize>())
    }

    pub(crate) fn chained(&self) -> impl Iterator<Item = Group> {
        self.groups.iter().filter(|(_, g)| g.is_chained()).map(|&(id, _)| id)
    }

    /// The plane whose watermark says it all, if only one group must agree.
    pub(crate) fn plain(&self) -> Option<Plane> {
        let mut groups = self.chained();
        match (groups.next(), groups.next()) {
            (Some(group), None) => Some(Plane::new(Tier::DEVICE, group)),
            _ => None,
        }
    }
}

impl Writer {
    pub(crate) fn new(
        counts: DirectoryCounts,
        unit: u32,
        pending_limit: usize,
        budget: Option<usize>,
    ) -> Self {
        Self {
            counts,
            runs: vec![Run::default()],
            unused: Vec::new(),
            unused_later: Arc::default(),
            owners: Vec::new(),
            copies: HashMap::new(),
            waiting: HashMap::new(),
            pending: 0,
            stale: Vec::new(),
            blocks: 0,
            chains: 0,
            bytes: 0,
            fixed_bytes: 0,
            chain_bytes: 0,
            pending_limit,
            unit,
            clock: 0,
            budget,
            evicted: 0,
            is_short: false,
            names: Names::default(),
            owned_chains: 0,
            group_bytes: 0,
            scope_bytes: 0,
        }
    }
}

impl Writer {
    /// Whether `holder` holds the block, matched or not.
    pub(crate) fn holds(
        &self,
        map: &Residency,
        holder: Holder,
        hash: BlockHash,
        pin: &Pin,
    ) -> bool {
        let Some(owner) = self.owners.get(holder.endpoint.index()) else { return false };
        if let Some(group) = owner.loose.iter().find(|g| g.group == holder.group) {
            return group.tier(holder.tier).contains(hash, pin);
        }
        let Some(place) = map.place(hash, pin) else { return false };
        let Some(chain) = map.chains.get(place.chain) else { return false };
        self.holds_at(chain, holder, usize::from(place.offset), pin)
    }

    /// Whether `holder` holds the block at `offset`.
    pub(crate) fn holds_at(&self, chain: &Chain, holder: Holder, offset: usize, pin: &Pin) -> bool {
        let Some(entry) = holders::find(chain, holder.endpoint, pin) else { return false };
        let plane = Plane::new(holder.tier, holder.group);
        match Detail::of(entry, chain.details.get(pin)) {
            Some(d) => d.plane(plane).is_some_and(|bits| detail::has(bits, offset)),
            None => self.is_plain(holder) && offset < usize::from(entry.blocks),
        }
    }

    /// Whether a watermark without details speaks of this holder.
    pub(crate) fn is_plain(&self, holder: Holder) -> bool {
        let owner = &self.owners[holder.endpoint.index()];
        owner.plain() == Some(Plane::new(holder.tier, holder.group))
    }

    /// Bytes allocated: what readers see, as counted, and what only writers know.
    pub(crate) fn total_bytes(&self) -> usize {
        self.bytes
            + self.runs.capacity() * size_of::<Run>()
            + (self.unused.capacity() + self.stale.capacity()) * size_of::<u32>()
            + self.owners.capacity() * size_of::<Owner>()
            + self.owned_chains * size_of::<u32>()
            + self.group_bytes
            + self.scope_bytes
            + table_bytes::<((Holder, BlockHash), u32)>(self.copies.capacity())
            + table_bytes::<(BlockHash, Vec<u32>)>(self.waiting.capacity())
            + self.names.bytes()
    }

    pub(crate) fn stats(&self, map: &Residency) -> IndexStats {
        IndexStats {
            endpoints: map.endpoints.load(Ordering::Relaxed),
            blocks: self.blocks,
            runs: self.chains,
            pending: self.pending,
            bytes: self.total_bytes(),
            evicted: self.evicted,
        }
    }
}

/// One write: what readers see, what they do not, and the right to replace the former.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) map: &'a Residency,
    pub(crate) own: &'a mut Writer,
    pub(crate) pin: &'a WritePin,
}

impl Write<'_> {
    /// Makes room for so many blocks in all, where no budget says how much there may be.
    pub(crate) fn expect(&mut self, blocks: usize) {
        if self.own.budget.is_none() {
            self.map.directory.reserve(blocks, self.pin);
        }
    }
}
