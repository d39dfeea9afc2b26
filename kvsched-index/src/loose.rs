//! Groups whose blocks are no whole prefix: a set of hashes per tier, and a rule.

use crate::group::Grouping;
use crate::mix::mix;
use crate::shared::{Fresh, Pin, Words, WritePin};
use kvsched_core::{BlockHash, EndpointId, Group, Tier};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const EMPTY: u64 = 0;
const GONE: u64 = 1;
/// Hashes that are no key words themselves have a word each after the table.
const SPECIAL: usize = 2;

/// A set of hashes that can be read while it is written.
#[derive(Debug)]
pub(crate) struct HashWords {
    words: Words,
    /// Words that are not empty; only the writer looks.
    used: AtomicU64,
    len: AtomicU64,
}

impl HashWords {
    const fn new() -> Self {
        Self { words: Words::empty(), used: AtomicU64::new(0), len: AtomicU64::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// The words a hash may be in, in the order to look.
    fn probe(words: &[AtomicU64], hash: BlockHash) -> impl Iterator<Item = &AtomicU64> {
        let table = words.len().saturating_sub(SPECIAL);
        let special = hash.0 < SPECIAL as u64;
        let first = if special {
            table + hash.0 as usize
        } else {
            ((u128::from(mix(hash.0)) * table as u128) >> 64) as usize
        };
        let steps = if special { 1 } else { table };
        (0..steps).filter_map(move |i| words.get(if special { first } else { (first + i) % table }))
    }

    /// What stands for the hash in its word.
    fn key(hash: BlockHash) -> u64 {
        if hash.0 < SPECIAL as u64 { u64::MAX } else { hash.0 }
    }

    fn find<'p>(&'p self, hash: BlockHash, pin: &'p Pin) -> Option<&'p AtomicU64> {
        let key = Self::key(hash);
        Self::probe(self.words.get(pin), hash)
            .map(|w| (w, w.load(Ordering::Acquire)))
            .take_while(|&(_, word)| word != EMPTY)
            .find(|&(_, word)| word == key)
            .map(|(w, _)| w)
    }

    pub(crate) fn contains(&self, hash: BlockHash, pin: &Pin) -> bool {
        self.find(hash, pin).is_some()
    }

    /// Whether it is new.
    pub(crate) fn insert(&self, hash: BlockHash, pin: &WritePin) -> bool {
        if self.contains(hash, pin) {
            return false;
        }
        let table = self.words.get(pin).len().saturating_sub(SPECIAL);
        let (used, len) = (self.used.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        if (used as usize + 1) * 4 > table * 3 {
            self.rebuild((len as usize * 2).max(14), pin);
        }
        self.put(self.words.get(pin), hash);
        self.len.store(len + 1, Ordering::Relaxed);
        true
    }

    fn put(&self, words: &[AtomicU64], hash: BlockHash) {
        let free = Self::probe(words, hash).find(|w| w.load(Ordering::Relaxed) == EMPTY);
        if let Some(free) = free {
            free.store(Self::key(hash), Ordering::Release);
            self.used.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it was there.
    pub(crate) fn remove(&self, hash: BlockHash, pin: &WritePin) -> bool {
        let Some(word) = self.find(hash, pin) else { return false };
        // Gone, so that those behind it are still found; a special word is nobody's neighbour.
        let special = hash.0 < SPECIAL as u64;
        word.store(if special { EMPTY } else { GONE }, Ordering::Release);
        self.used.fetch_sub(u64::from(special), Ordering::Relaxed);
        let len = self.len.fetch_sub(1, Ordering::Relaxed) as usize - 1;
        let table = self.words.get(pin).len() - SPECIAL;
        if len == 0 {
            self.clear(pin);
        } else if len * 8 < table && table > 14 {
            self.rebuild(len * 2, pin);
        }
        true
    }

    pub(crate) fn clear(&self, pin: &WritePin) {
        self.words.replace(None, pin);
        self.used.store(0, Ordering::Relaxed);
        self.len.store(0, Ordering::Relaxed);
    }

    fn rebuild(&self, table: usize, pin: &WritePin) {
        let new = Fresh::zeroed(table + SPECIAL);
        self.used.store(0, Ordering::Relaxed);
        self.for_each(pin, |hash| self.put(&new, hash));
        self.words.replace(Some(new), pin);
    }

    pub(crate) fn for_each(&self, pin: &Pin, mut f: impl FnMut(BlockHash)) {
        let words = self.words.get(pin);
        let table = words.len().saturating_sub(SPECIAL);
        for (i, word) in words.iter().enumerate() {
            match word.load(Ordering::Acquire) {
                EMPTY => {}
                _ if i >= table => f(BlockHash((i - table) as u64)),
                GONE => {}
                hash => f(BlockHash(hash)),
            }
        }
    }
}

/// A group that has a rule of its own.
#[derive(Debug)]
pub(crate) struct LooseGroup {
    pub(crate) group: Group,
    pub(crate) rule: Grouping,
    tiers: [HashWords; Tier::COUNT],
}

impl LooseGroup {
    pub(crate) fn new(group: Group, rule: Grouping) -> Self {
        Self { group, rule, tiers: [const { HashWords::new() }; Tier::COUNT] }
    }

    pub(crate) fn tier(&self, tier: Tier) -> &HashWords {
        &self.tiers[tier.index()]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.tiers.iter().map(HashWords::len).sum()
    }

    pub(crate) fn contains(&self, hash: BlockHash, pin: &Pin) -> bool {
        self.tiers.iter().any(|t| t.contains(hash, pin))
    }

    pub(crate) fn clear(&self, pin: &WritePin) {
        self.tiers.iter().for_each(|t| t.clear(pin));
    }

    /// The longest usable prefix of at most `limit` of the prompt's blocks.
    pub(crate) fn longest(&self, limit: usize, prompt: &[BlockHash], pin: &Pin) -> usize {
        self.rule.longest(limit, |i| self.contains(prompt[i], pin))
    }
}

/// An endpoint some of whose groups are loose.
#[derive(Clone, Debug)]
pub(crate) struct Hybrid {
    pub(crate) endpoint: EndpointId,
    /// Whether it has full-attention groups too, whose match limits all others.
    pub(crate) chained: bool,
    pub(crate) groups: Vec<Arc<LooseGroup>>,
}

impl Hybrid {
    /// The longest prefix of at most `limit` blocks that all groups find usable.
    pub(crate) fn longest(&self, mut limit: usize, prompt: &[BlockHash], pin: &Pin) -> usize {
        loop {
            let agreed = self.groups.iter().fold(limit, |limit, g| g.longest(limit, prompt, pin));
            if agreed == limit {
                return agreed;
            }
            limit = agreed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Exclusive;
    use std::collections::HashSet;

    proptest::proptest! {
        #[test]
        fn a_set_is_a_set(ops in proptest::collection::vec((proptest::bool::ANY, 0u64..40), 0..400)) {
            let mut own = Exclusive::new(HashWords::new());
            let mut truth = HashSet::new();
            for (insert, n) in ops {
                let (set, pin) = own.write();
                // Spread, so that some meet in a word; 0 and 1 stay.
                let hash = BlockHash(n % 20 * if n < 20 { 1 } else { 1 << 40 });
                let changed = if insert {
                    (set.insert(hash, &pin), truth.insert(hash))
                } else {
                    (set.remove(hash, &pin), truth.remove(&hash))
                };
                proptest::prop_assert_eq!(changed.0, changed.1);
                proptest::prop_assert_eq!(set.len(), truth.len());
                let mut all = HashSet::new();
                set.for_each(&pin, |h| { all.insert(h); });
                proptest::prop_assert_eq!(&all, &truth);
                for n in 0..40 {
                    let hash = BlockHash(n);
                    proptest::prop_assert_eq!(set.contains(hash, &pin), truth.contains(&hash));
                }
            }
        }
    }
}
