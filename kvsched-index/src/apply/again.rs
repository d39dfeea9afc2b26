use super::{At, Batch, Holdings, is_masked, tier};
use crate::{Holder, Repeat};
use kvsched_core::{AnnouncedKey, BlockHash, EngineHash, Event, Group, Stored, Tier};
use std::collections::{BTreeMap, BTreeSet};

/// What a store means for the blocks its holder holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// They were only said again.
    Again,
    /// There is one more copy of each.
    Copies,
    /// Only the first is held, and has one copy, however many were counted.
    FirstOfOne,
}

impl Meaning {
    pub(super) fn repeat(self) -> Repeat {
        match self {
            Self::Copies => Repeat::Copy,
            Self::Again | Self::FirstOfOne => Repeat::Known,
        }
    }

    /// Before a store of `names`: leaves no copies of the first that would have to be removed
    /// one by one.
    pub(super) fn forget_copies(
        self,
        index: &mut impl Holdings,
        holder: Holder,
        names: &[BlockHash],
    ) {
        if let (Self::FirstOfOne, Some(&first)) = (self, names.first()) {
            while index.holds(holder, first) {
                index.remove(holder, &[first]);
            }
        }
    }
}

/// What this batch announced, as far as telling repetitions from copies and finding the place of
/// masked blocks needs it. See [the module above](super).
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// Roots of this batch so far: whether their holders held them wholly, by event number.
    roots: BTreeMap<usize, bool>,
    /// The batch's stores with a parent, by holder and parent, once asked for.
    continued: Option<BTreeSet<(Tier, Group, EngineHash, usize)>>,
    /// Where each hash stands among the batch's complete stores, once asked for.
    places: Option<BTreeMap<EngineHash, Place>>,
}

/// The place of a block: it ends so many tokens into a store's range.
#[derive(Clone, Copy, Debug)]
struct Place {
    event: usize,
    end: usize,
}

/// Roots of other groups looked at for each root in doubt: the events of one request stand
/// together.
const NEIGHBOURS: usize = 64;

impl Announcements {
    pub(super) fn next_batch(&mut self) {
        *self = Self::default();
    }

    /// What a store means for the blocks already held.
    pub(super) fn judge<'e, B: Batch<'e>>(
        &mut self,
        at: &At<'_, B>,
        stored: &Stored<'_>,
        holder: Holder,
        is_hybrid: bool,
        held: &impl Fn(Holder, EngineHash) -> bool,
    ) -> Meaning {
        // Slower tiers hold a block once, by its hash.
        if holder.tier != Tier::DEVICE {
            return Meaning::Again;
        }
        let (None, Some(&first)) = (stored.parent, stored.hashes.first()) else {
            return Meaning::Copies;
        };
        let held_first = stored.hashes.iter().take_while(|&&h| held(holder, h)).count();
        let holds_all = held_first == stored.hashes.len();
        self.roots.insert(at.event, holds_all);
        if !holds_all {
            let recounts = held_first == 1 && !is_hybrid;
            return if recounts { Meaning::FirstOfOne } else { Meaning::Copies };
        }
        let is_again = at.removed_before < stored.hashes.len()
            && (stored.hashes.len() > 1 || self.is_continued(at, holder, first))
            && !(is_hybrid && self.is_computed_for_others(at, stored, holder, held));
        if is_again { Meaning::Again } else { Meaning::Copies }
    }

    /// Whether a later store of the batch goes on from `hash`.
    fn is_continued<'e>(
        &mut self,
        at: &At<'_, impl Batch<'e>>,
        holder: Holder,
        hash: EngineHash,
    ) -> bool {
        let continued = self.continued.get_or_insert_with(|| {
            stores(at.batch)
                .filter_map(|(i, s)| {
                    let tier = tier(s.medium, s.locality).unwrap_or(Tier::MAX);
                    Some((tier, s.group.unwrap_or_default(), s.parent?, i))
                })
                .collect()
        });
        let key = |i| (holder.tier, holder.group, hash, i);
        continued.range(key(at.event + 1)..=key(usize::MAX)).next().is_some()
    }

    /// Whether the batch stores the same first tokens for another group that lacks some of them.
    fn is_computed_for_others<'e>(
        &self,
        at: &At<'_, impl Batch<'e>>,
        stored: &Stored<'_>,
        holder: Holder,
        held: &impl Fn(Holder, EngineHash) -> bool,
    ) -> bool {
        let start = at.event.saturating_sub(NEIGHBOURS);
        let mut others = at.batch.clone().enumerate().skip(start).take(2 * NEIGHBOURS + 1);
        others.any(|(j, other)| {
            let Event::Stored(other) = other else { return false };
            let group = other.group.unwrap_or_default();
            let tier = tier(other.medium, other.locality).unwrap_or(Tier::MAX);
            if group == holder.group || tier != holder.tier || !same_start(stored, &other) {
                return false;
            }
            let there = Holder { group, ..holder };
            let holds_all = self.roots.get(&j).copied();
            !holds_all.unwrap_or_else(|| other.hashes.iter().all(|&h| held(there, h)))
        })
    }

    /// Leaves in `names`, which has one for each block of the range, those of the announced
    /// blocks. Which ones those are shows where another group announced the same hashes
    /// completely, in this batch or earlier. Leaves nothing if it does not show for all.
    pub(super) fn place_masked<'e, B: Batch<'e>>(
        &mut self,
        batch: Option<&B>,
        index: &impl Holdings,
        stored: &Stored<'_>,
        names: &mut Vec<BlockHash>,
    ) {
        let blocks = names.len();
        for hash in stored.hashes {
            let here = batch.and_then(|batch| {
                let places = self.places.get_or_insert_with(|| places(batch));
                let place = places.get(hash)?;
                let other = batch.stored(place.event)?;
                let size = stored.block_size as usize;
                let is_same = other.parent == stored.parent && same_tokens(stored, &other);
                let block = (place.end / size).checked_sub(1)?;
                (is_same && place.end.is_multiple_of(size) && block < blocks).then(|| names[block])
            });
            let Some(name) = here.or_else(|| index.resolve(*hash)) else { break };
            names.push(name);
        }
        names.drain(..blocks);
    }
}

fn stores<'e>(batch: &impl Batch<'e>) -> impl Iterator<Item = (usize, Stored<'e>)> {
    batch.clone().enumerate().filter_map(|(i, event)| match event {
        Event::Stored(stored) => Some((i, stored)),
        _ => None,
    })
}

fn places<'e>(batch: &impl Batch<'e>) -> BTreeMap<EngineHash, Place> {
    stores(batch)
        .filter(|(_, s)| s.block_size > 0 && !is_masked(s))
        .flat_map(|(event, s)| {
            let size = s.block_size as usize;
            let places = (1..).map(move |n| Place { event, end: n * size });
            s.hashes.iter().copied().zip(places)
        })
        .collect()
}

/// Whether one token range begins with the other.
fn same_tokens(a: &Stored<'_>, b: &Stored<'_>) -> bool {
    let common = a.tokens.len().min(b.tokens.len());
    a.tokens[..common] == b.tokens[..common]
}

/// Whether both begin the same prompt.
fn same_start(a: &Stored<'_>, b: &Stored<'_>) -> bool {
    b.parent.is_none()
        && !a.tokens.is_empty()
        && !b.tokens.is_empty()
        && same_tokens(a, b)
        && a.lora_name == b.lora_name
        && first_keys(a) == first_keys(b)
}

fn first_keys<'a>(s: &Stored<'a>) -> &'a [AnnouncedKey<'a>] {
    s.extra_keys.and_then(|keys| keys.of_block(0)).unwrap_or_default()
}
