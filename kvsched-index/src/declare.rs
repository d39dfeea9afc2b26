//! Endpoints and the rules of their groups.

use crate::chain::Entry;
use crate::detail::{self, Detail, Plane};
use crate::group::Grouping;
use crate::loose::{Hybrid, LooseGroup};
use crate::owner::Owner;
use crate::write::Write;
use crate::{GroupError, GroupRule, holders};
use kvsched_core::{EndpointId, Group, Tier};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl<'a> Write<'a> {
    /// Makes sure there is room for an endpoint's state and its group has a rule. False if only a writer
    /// who is alone can.
    pub(crate) fn meet(&mut self, endpoint: EndpointId, group: Group) -> bool {
        let known = self.known(endpoint);
        if known.is_some_and(|o| o.rule(group).is_some()) {
            return true;
        }
        if self.is_alone {
            let plain = Grouping::plain(self.own.unit);
            self.declare(endpoint, group, plain);
        }
        self.is_alone
    }

    /// Needs to be alone.
    pub(crate) fn set_group(
        &mut self,
        endpoint: EndpointId,
        group: Group,
        rule: GroupRule,
        block_size: u32,
    ) -> Result<(), GroupError> {
        if endpoint.0 == u16::MAX {
            return Err(GroupError::Endpoint(endpoint));
        }
        let rule = Grouping::new(group, rule, block_size, self.own.unit)?;
        if let Some(owner) = self.known(endpoint) {
            match owner.rule(group) {
                Some(old) if old == rule => return Ok(()),
                Some(_) if self.group_holds(owner, endpoint, group) => {
                    return Err(GroupError::InUse { endpoint, group });
                }
                _ => {}
            }
        }
        self.declare(endpoint, group, rule);
        Ok(())
    }

    pub(crate) fn group_holds(&self, owner: &Owner, endpoint: EndpointId, group: Group) -> bool {
        if let Some(loose) = owner.loose(group) {
            return !loose.is_empty();
        }
        owner.chains.iter().filter_map(|&n| self.map.chains.get(n)).any(|chain| {
            let Some(entry) = holders::find(chain, endpoint, self.pin) else { return false };
            match Detail::of(entry, chain.details.get(self.pin)) {
                None => owner.chained().next() == Some(group),
                Some(record) => record.holds_any(group),
            }
        })
    }

    /// Makes room for what is known of an endpoint.
    pub(crate) fn admit(&mut self, endpoint: EndpointId) {
        let at = self.own.in_lane(endpoint);
        let pin = self.pin;
        let owners = &mut self.lanes.of_mut(endpoint).owners;
        let room = owners.capacity();
        if owners.len() <= at {
            owners.resize_with(at + 1, Owner::default);
        }
        pin.recount(room * size_of::<Owner>(), owners.capacity() * size_of::<Owner>());
    }

    /// Gives a group that holds nothing its rule.
    pub(crate) fn declare(&mut self, endpoint: EndpointId, group: Group, rule: Grouping) {
        self.admit(endpoint);
        let endpoints = self.map.endpoints.load(Ordering::Relaxed).max(endpoint.index() + 1);
        self.map.endpoints.store(endpoints, Ordering::Release);
        let pin = self.pin;
        let owner = self.owner_mut(endpoint);
        let before: Vec<Group> = owner.chained().collect();
        let bytes = owner.bytes();
        owner.set_group(group, rule);
        owner.loose.retain(|g| g.group != group);
        // A group that has no say holds its blocks apart, so that removals are counted alike.
        if !rule.is_chained() {
            owner.loose.push(Arc::new(LooseGroup::new(group, rule)));
        }
        let after: Vec<Group> = owner.chained().collect();
        pin.recount(bytes, owner.bytes());
        if before != after && owner.entries > 0 {
            self.regroup(endpoint, before.first().copied(), &after);
        }
        self.publish_loose(endpoint);
    }

    /// Rewrites what `endpoint` holds after other groups than before must agree.
    pub(crate) fn regroup(&mut self, endpoint: EndpointId, plain: Option<Group>, groups: &[Group]) {
        let mut chains = self.owner(endpoint).chains.clone();
        chains.sort_unstable();
        chains.dedup();
        for number in chains {
            let Some(chain) = self.map.chains.get(number) else { continue };
            let Some(entry) = holders::find(chain, endpoint, self.pin) else { continue };
            let details = self.details(chain);
            let room = chain.hashes.get(self.pin).len();
            let old = Detail::of(entry, chain.details.get(self.pin));
            // A watermark spoke of the one group there was; that one still agrees, since it holds.
            let group = if old.is_none() { plain } else { groups.first().copied() };
            let plane = Plane::new(Tier::DEVICE, group.unwrap_or_default());
            let at = details.create(endpoint, groups.len() as u16, plane, room, old);
            let record = Detail::of(Entry { detail: at, ..entry }, chain.details.get(self.pin));
            if let (None, Some(bits)) = (old, record.and_then(|r| r.plane(plane))) {
                detail::set(bits, 0, usize::from(entry.blocks));
            }
            self.settle(chain, endpoint, Some(entry), at);
        }
    }

    /// Lets readers know the loose groups of `endpoint`.
    pub(crate) fn publish_loose(&self, endpoint: EndpointId) {
        let owner = self.owner(endpoint);
        let published = self.map.hybrids.load();
        let mut hybrids: Vec<Hybrid> =
            published.iter().filter(|h| h.endpoint != endpoint).cloned().collect();
        let groups: Vec<_> =
            owner.loose.iter().filter(|g| g.rule.rule != GroupRule::Ignored).cloned().collect();
        if groups.is_empty() && published.len() == hybrids.len() {
            return;
        }
        if !groups.is_empty() {
            hybrids.push(Hybrid { endpoint, chained: owner.chained().next().is_some(), groups });
        }
        self.map.hybrid_count.store(hybrids.len(), Ordering::Release);
        self.map.hybrids.store(Arc::new(hybrids));
    }
}
