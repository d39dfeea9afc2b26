//! What several endpoints share: a pool's blocks count for everyone in its scope.

use crate::chain::Chain;
use crate::detail::{Detail, range_mask};
use crate::holders;
use crate::matcher::{Residency, Step};
use crate::shared::Pin;
use crate::write::Write;
use kvsched_core::{BlockHash, EndpointId, Tier};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An endpoint that may use what pools hold.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) endpoint: EndpointId,
    /// The endpoint itself, then its pools.
    holders: Vec<EndpointId>,
}

/// Why pools were refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The endpoint's or a pool's id is out of range.
    #[error("{0} is out of range: ids are 0 to 65534")]
    Endpoint(EndpointId),
    /// Nothing is gained by an endpoint that shares with itself.
    #[error("{0} is not a pool of its own")]
    Itself(EndpointId),
}

/// How far an endpoint and its pools come together, and which tiers serve it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pooled {
    pub(crate) blocks: usize,
    pub(crate) by_tier: [u32; Tier::COUNT],
}

impl Residency {
    /// What the holders of a scope have of the prompt's beginning, each block in whichever of them.
    pub(crate) fn pooled(&self, scope: &Scope, prompt: &[BlockHash], pin: &Pin) -> Pooled {
        let mut all = Pooled::default();
        while let Some(step) = self.step(prompt, all.blocks, pin) {
            let held = scope.of_step(step, &mut all.by_tier, pin);
            all.blocks += held;
            if held < step.blocks {
                break;
            }
        }
        all
    }
}

impl Scope {
    /// How many of the step's blocks are held without a gap.
    fn of_step(&self, step: Step<'_>, by_tier: &mut [u32; Tier::COUNT], pin: &Pin) -> usize {
        let (from, end) = (step.offset, step.offset + step.blocks);
        for word in from / 64..end.div_ceil(64) {
            let wanted = range_mask(word, from, end);
            let held = self.within(step.chain, word, Tier::MAX, pin) & wanted;
            // The first gap, and what stands before it.
            let gap = (wanted & !held).trailing_zeros() as usize;
            let mut left = held & range_mask(0, 0, gap);
            for (n, count) in (0..).zip(by_tier.iter_mut()) {
                if left == 0 {
                    break;
                }
                let here = Tier::new(n).map_or(0, |t| self.within(step.chain, word, t, pin));
                *count += (left & here).count_ones();
                left &= !here;
            }
            if gap < 64 {
                return word * 64 + gap - from;
            }
        }
        step.blocks
    }

    /// 64 blocks' worth of "held by one of them, in this tier or a faster one".
    fn within(&self, chain: &Chain, word: usize, tier: Tier, pin: &Pin) -> u64 {
        let of = |&endpoint: &EndpointId| {
            let entry = holders::find(chain, endpoint, pin)?;
            let held = match Detail::of(entry, chain.details.get(pin)) {
                Some(record) => record.within(word, tier),
                None if entry.detail == 0 => range_mask(word, 0, usize::from(entry.blocks)),
                None => 0,
            };
            // A record is given back only after its entry has changed.
            (holders::find(chain, endpoint, pin) == Some(entry)).then_some(held)
        };
        self.holders.iter().filter_map(of).fold(0, |any, held| any | held)
    }
}

impl Write<'_> {
    /// What `pools` hold counts for `endpoint` from now on, in place of earlier pools.
    pub(crate) fn set_pools(
        &mut self,
        endpoint: EndpointId,
        pools: &[EndpointId],
    ) -> Result<(), PoolError> {
        if let Some(&id) = [endpoint].iter().chain(pools).find(|e| e.0 == u16::MAX) {
            return Err(PoolError::Endpoint(id));
        }
        if pools.contains(&endpoint) {
            return Err(PoolError::Itself(endpoint));
        }
        let mut scopes = self.map.scopes.load().to_vec();
        scopes.retain(|s| s.endpoint != endpoint);
        if !pools.is_empty() {
            let holders = [endpoint].iter().chain(pools).copied().collect();
            scopes.push(Scope { endpoint, holders });
            self.admit(endpoint);
        }
        self.publish_scopes(scopes);
        self.forget_last_owners();
        Ok(())
    }

    /// Endpoints number as many as have groups or pools.
    pub(crate) fn forget_last_owners(&mut self) {
        let lanes = 1 << self.own.lane_bits;
        let used = self.lanes.iter_mut().enumerate().map(|(number, lane)| {
            let last = lane.owners.iter().rposition(|o| !o.groups().is_empty());
            last.map_or(0, |at| at * lanes + number + 1)
        });
        let used = used.max().unwrap_or(0);
        let scopes = self.map.scopes.load();
        let used = scopes.iter().fold(used, |used, s| used.max(s.endpoint.index() + 1));
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            lane.owners.truncate(used.saturating_sub(number).div_ceil(lanes));
        }
        self.map.endpoints.store(used, Ordering::Release);
    }

    /// Nobody shares with `endpoint` any more, and it with nobody.
    pub(crate) fn leave_pools(&mut self, endpoint: EndpointId) {
        let mut scopes = self.map.scopes.load().to_vec();
        scopes.iter_mut().for_each(|s| s.holders.retain(|&h| h != endpoint || h == s.endpoint));
        scopes.retain(|s| s.endpoint != endpoint && s.holders.len() > 1);
        self.publish_scopes(scopes);
    }

    fn publish_scopes(&self, scopes: Vec<Scope>) {
        let bytes = |scopes: &Vec<Scope>| {
            let lists = scopes.iter().map(|s| s.holders.capacity() * size_of::<EndpointId>());
            scopes.capacity() * size_of::<Scope>() + lists.sum::<usize>()
        };
        self.pin.recount(bytes(&self.map.scopes.load()), bytes(&scopes));
        self.map.scope_count.store(scopes.len(), Ordering::Release);
        self.map.scopes.store(Arc::new(scopes));
    }
}
