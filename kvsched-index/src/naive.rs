//! The oracle: what every question means, answered by scanning sets.

use crate::group::Grouping;
use crate::{GroupError, GroupRule, Holder, Repeat, StoreOutcome};
use kvsched_core::{BlockHash, EndpointId, Group, PrefixMatches, Tier};
use std::collections::{BTreeMap, HashMap, HashSet};

/// An index that is too slow to be wrong: a set of hashes per holder.
///
/// It takes the same calls as [`Index`](crate::Index) and has no limits; tests, fuzzing and
/// benchmarks drive both.
#[derive(Clone, Debug)]
pub struct Naive {
    block_size: u32,
    held: BTreeMap<Holder, HashMap<BlockHash, u32>>,
    groups: BTreeMap<(EndpointId, Group), Grouping>,
    known: HashSet<BlockHash>,
    pools: BTreeMap<EndpointId, Vec<EndpointId>>,
}

impl Naive {
    /// An empty oracle for hashes of blocks of `block_size` tokens.
    #[must_use]
    pub fn new(block_size: u32) -> Self {
        Self {
            block_size,
            held: BTreeMap::new(),
            groups: BTreeMap::new(),
            known: HashSet::new(),
            pools: BTreeMap::new(),
        }
    }

    /// As [`Index::store`](crate::Index::store).
    pub fn store(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> StoreOutcome {
        let plain = Grouping::plain(self.block_size);
        let group = *self.groups.entry((holder.endpoint, holder.group)).or_insert(plain);
        let mut outcome = StoreOutcome::default();
        if group.is_chained() {
            let first = hashes.first().is_some_and(|h| self.known.contains(h));
            outcome.pending = !first && parent.is_some_and(|p| !self.known.contains(&p));
            self.known.extend(hashes);
        }
        let held = self.held.entry(holder).or_default();
        for &hash in hashes {
            match held.get_mut(&hash) {
                None => {
                    held.insert(hash, 1);
                    outcome.stored += 1;
                }
                Some(copies) => {
                    *copies += u32::from(repeat == Repeat::Copy);
                    outcome.repeated += 1;
                }
            }
        }
        outcome
    }

    /// As [`Index::remove`](crate::Index::remove).
    pub fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
        let Some(held) = self.held.get_mut(&holder) else { return 0 };
        let mut removed = 0;
        for hash in hashes {
            match held.get_mut(hash) {
                None => {}
                Some(copies) if *copies > 1 => *copies -= 1,
                Some(_) => {
                    held.remove(hash);
                    removed += 1;
                }
            }
        }
        removed
    }

    /// As [`Index::clear`](crate::Index::clear).
    pub fn clear(&mut self, endpoint: EndpointId) {
        self.held.retain(|holder, _| holder.endpoint != endpoint);
    }

    /// As [`Index::remove_endpoint`](crate::Index::remove_endpoint).
    pub fn remove_endpoint(&mut self, endpoint: EndpointId) {
        self.clear(endpoint);
        self.groups.retain(|&(owner, _), _| owner != endpoint);
        self.pools.remove(&endpoint);
        self.pools.values_mut().for_each(|pools| pools.retain(|&p| p != endpoint));
        self.pools.retain(|_, pools| !pools.is_empty());
    }

    /// As [`Index::set_pools`](crate::Index::set_pools), which refuses ids that this does not.
    pub fn set_pools(&mut self, endpoint: EndpointId, pools: &[EndpointId]) {
        self.pools.remove(&endpoint);
        if !pools.is_empty() {
            self.pools.insert(endpoint, pools.to_vec());
        }
    }

    /// As [`Index::set_group`](crate::Index::set_group).
    pub fn set_group(
        &mut self,
        endpoint: EndpointId,
        group: Group,
        rule: GroupRule,
        block_size: u32,
    ) -> Result<(), GroupError> {
        let new = Grouping::new(group, rule, block_size, self.block_size)?;
        let in_use = self
            .held
            .iter()
            .any(|(h, set)| h.endpoint == endpoint && h.group == group && !set.is_empty());
        if in_use && self.groups.get(&(endpoint, group)) != Some(&new) {
            return Err(GroupError::InUse { endpoint, group });
        }
        self.groups.insert((endpoint, group), new);
        Ok(())
    }

    /// As [`Index::holds`](crate::Index::holds).
    #[must_use]
    pub fn holds(&self, holder: Holder, hash: BlockHash) -> bool {
        self.held.get(&holder).is_some_and(|held| held.contains_key(&hash))
    }

    /// How many blocks `holder` holds.
    #[must_use]
    pub fn blocks(&self, holder: Holder) -> usize {
        self.held.get(&holder).map_or(0, HashMap::len)
    }

    /// The fastest tier in which a group holds a block.
    fn fastest(&self, endpoint: EndpointId, group: Group, hash: BlockHash) -> Option<Tier> {
        (0..Tier::COUNT as u8)
            .filter_map(Tier::new)
            .find(|&tier| self.holds(Holder { endpoint, tier, group }, hash))
    }

    fn groups_of(&self, endpoint: EndpointId) -> impl Iterator<Item = (Group, Grouping)> {
        let all = self.groups.range((endpoint, Group(0))..=(endpoint, Group(u8::MAX)));
        all.map(|(&(_, id), &rule)| (id, rule))
    }

    /// The tier in which one endpoint has a block in all its chained groups: its slowest group's.
    fn slowest(&self, endpoint: EndpointId, hash: BlockHash) -> Option<Tier> {
        let chained = self.groups_of(endpoint).filter(|(_, g)| g.is_chained());
        let tiers: Option<Vec<_>> =
            chained.map(|(id, _)| self.fastest(endpoint, id, hash)).collect();
        tiers?.into_iter().max()
    }

    /// The tier in which the endpoint or one of its pools has a block.
    fn pooled(&self, endpoint: EndpointId, hash: BlockHash) -> Option<Tier> {
        let pools = self.pools.get(&endpoint).into_iter().flatten();
        [endpoint].iter().chain(pools).filter_map(|&e| self.slowest(e, hash)).min()
    }

    /// As [`Naive::longest`], for an endpoint with pools.
    fn longest_pooled(&self, endpoint: EndpointId, hashes: &[BlockHash]) -> usize {
        let pooled = hashes.iter().take_while(|&&h| self.pooled(endpoint, h).is_some()).count();
        let loose = || {
            let all = self.groups_of(endpoint);
            all.filter(|(_, g)| !g.is_chained() && g.rule != GroupRule::Ignored)
        };
        let is_chained = self.groups_of(endpoint).any(|(_, g)| g.is_chained());
        let only_loose = loose().next().is_some() && !is_chained;
        let mut limit = if only_loose { hashes.len() } else { pooled };
        loop {
            let agreed = loose().fold(limit, |limit, (id, g)| {
                g.longest(limit, |i| self.fastest(endpoint, id, hashes[i]).is_some())
            });
            if agreed == limit {
                return agreed;
            }
            limit = agreed;
        }
    }

    /// The longest usable prefix of `hashes` on one endpoint, by trying the rule of every group.
    #[must_use]
    pub fn longest(&self, endpoint: EndpointId, hashes: &[BlockHash]) -> usize {
        if self.pools.contains_key(&endpoint) {
            return self.longest_pooled(endpoint, hashes);
        }
        let groups = || self.groups.range((endpoint, Group(0))..=(endpoint, Group(u8::MAX)));
        if groups().all(|(_, g)| g.rule == GroupRule::Ignored) {
            return 0;
        }
        let mut limit = hashes.len();
        loop {
            let agreed = groups().fold(limit, |limit, (&(_, id), g)| {
                g.longest(limit, |i| self.fastest(endpoint, id, hashes[i]).is_some())
            });
            if agreed == limit {
                return agreed;
            }
            limit = agreed;
        }
    }

    /// As [`Index::find_matches`](crate::Index::find_matches).
    pub fn find_matches(&self, hashes: &[BlockHash], out: &mut PrefixMatches) {
        let stored = self.groups.keys().last().map_or(0, |(e, _)| e.index() + 1);
        let pooled = self.pools.keys().last().map_or(0, |e| e.index() + 1);
        let endpoints = stored.max(pooled);
        out.reset(endpoints, hashes.len() as u32);
        for endpoint in (0..endpoints as u16).map(EndpointId) {
            let longest = self.longest(endpoint, hashes);
            out.set(endpoint, longest as u32);
            let mut by_tier = [0; Tier::COUNT];
            for &hash in &hashes[..longest] {
                let tier = self.pooled(endpoint, hash);
                if tier.is_none() && self.pools.contains_key(&endpoint) {
                    break;
                }
                by_tier[tier.unwrap_or_default().index()] += 1;
            }
            for tier in (1..Tier::COUNT as u8).filter_map(Tier::new) {
                if by_tier[tier.index()] > 0 {
                    out.push_slow(endpoint, tier, by_tier[tier.index()]);
                }
            }
        }
    }
}
