//! What only writers know of an endpoint.

use crate::Holder;
use crate::detail::Plane;
use crate::group::Grouping;
use crate::heap::table_bytes;
use crate::loose::LooseGroup;
use kvsched_core::{BlockHash, Group, Tier};
use std::collections::HashMap;
use std::sync::Arc;

/// A block in a tier of a group.
type Copied = (Tier, Group, BlockHash);

#[derive(Debug, Default)]
pub(crate) struct Owner {
    /// Chains it has an entry in, and some it had.
    pub(crate) chains: Vec<u32>,
    /// Entries it has.
    pub(crate) entries: usize,
    groups: Vec<(Group, Grouping)>,
    /// The plane whose watermark says it all, if only one group must agree.
    plain: Option<Plane>,
    pub(crate) loose: Vec<Arc<LooseGroup>>,
    /// Further physical copies of held blocks.
    pub(crate) copies: HashMap<Copied, u32>,
}

impl Owner {
    /// Bytes of its lists.
    pub(crate) fn bytes(&self) -> usize {
        self.chains.capacity() * size_of::<u32>()
            + self.groups.capacity() * size_of::<(Group, Grouping)>()
            + self.loose.capacity() * size_of::<Arc<LooseGroup>>()
            + self.loose.len() * (size_of::<LooseGroup>() + 2 * size_of::<usize>())
            + self.copies_bytes()
    }

    /// Bytes of what is known of copies.
    pub(crate) fn copies_bytes(&self) -> usize {
        table_bytes::<(Copied, u32)>(self.copies.capacity())
    }

    /// Its groups, by number.
    pub(crate) fn groups(&self) -> &[(Group, Grouping)] {
        &self.groups
    }

    /// The rule of a group.
    pub(crate) fn rule(&self, group: Group) -> Option<Grouping> {
        self.groups.iter().find(|&&(id, _)| id == group).map(|&(_, rule)| rule)
    }

    /// The groups that must agree.
    pub(crate) fn chained(&self) -> impl Iterator<Item = Group> {
        self.groups.iter().filter(|(_, g)| g.is_chained()).map(|&(id, _)| id)
    }

    /// Gives a group its rule.
    pub(crate) fn set_group(&mut self, group: Group, rule: Grouping) {
        self.groups.retain(|&(id, _)| id != group);
        self.groups.push((group, rule));
        self.groups.sort_unstable_by_key(|&(id, _)| id);
        let alone = self.chained().next().filter(|_| self.chained().nth(1).is_none());
        self.plain = alone.map(|group| Plane::new(Tier::DEVICE, group));
    }

    /// The group, if it is a loose one.
    #[inline]
    pub(crate) fn loose(&self, group: Group) -> Option<&Arc<LooseGroup>> {
        self.loose.iter().find(|g| g.group == group)
    }

    /// Whether a watermark without details speaks of this holder, one of this endpoint.
    #[inline]
    pub(crate) fn is_plain(&self, holder: Holder) -> bool {
        self.plain() == Some(Plane::new(holder.tier, holder.group))
    }

    /// The plane whose watermark says it all, if only one group must agree.
    #[inline]
    pub(crate) fn plain(&self) -> Option<Plane> {
        self.plain
    }
}
