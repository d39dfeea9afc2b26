//! Block hash to place: one cache line a question, nothing ever moves under a reader.

use crate::chain::Place;
use crate::shared::{self, FreshLines, Lines, Pin, WritePin};
use crate::table::{TAG_BITS, Table, home, is_full, place_of, roomy, slot_of};
use kvsched_core::BlockHash;

/// Independent tables, so that growing one is a short pause.
const SHARDS: usize = 64;

/// Where every known hash lies.
///
/// A slot is 24 bits of the mixed hash beside the place (0 for none); whoever asks compares the full
/// hash at the place. The bits in the slot begin with those that choose the bucket, so that a table
/// grows by reading itself from front to back, without a look at the hashes.
#[derive(Debug)]
pub(crate) struct Directory {
    shards: Box<[Lines]>,
}

/// What only the writer knows of the directory: entries of each shard.
#[derive(Debug)]
pub(crate) struct DirectoryCounts(Box<[u32]>);

/// A hash as the directory sees it.
#[derive(Clone, Copy)]
struct Key {
    shard: usize,
    tag: u64,
}

impl Key {
    #[inline]
    fn of(hash: BlockHash) -> Self {
        // Announced hashes are mostly uniform; small numbers and the like are not.
        let mixed = (hash.0 ^ hash.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { shard: (mixed >> 32) as usize % SHARDS, tag: mixed >> (u64::BITS - TAG_BITS) }
    }
}

impl Directory {
    pub(crate) fn new() -> (Self, DirectoryCounts) {
        let shards = (0..SHARDS).map(|_| Lines::empty()).collect();
        (Self { shards }, DirectoryCounts(vec![0; SHARDS].into()))
    }

    /// Bytes of the directory apart from its tables.
    pub(crate) const fn fixed_bytes() -> usize {
        SHARDS * (size_of::<Lines>() + size_of::<u32>())
    }

    /// Begins to load the line where `hash` would lie.
    #[inline]
    pub(crate) fn prefetch(&self, hash: BlockHash, pin: &Pin) {
        let key = Key::of(hash);
        let lines = self.shards[key.shard].get(pin);
        if let Some(line) = lines.get(home(key.tag, lines.len())) {
            shared::prefetch(line);
        }
    }

    /// The place of `hash` that `is_it` accepts: it compares the full hash there.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: BlockHash,
        pin: &Pin,
        is_it: impl FnMut(Place) -> bool,
    ) -> Option<Place> {
        let key = Key::of(hash);
        Table::of(self.shards[key.shard].get(pin)).find(key.tag, is_it)
    }

    /// Adds `hash` at `place`, unless it is known: `is_it` compares the full hash at a place it may
    /// have. Returns the place it already had.
    #[inline]
    pub(crate) fn find_or_insert(
        &self,
        hash: BlockHash,
        place: Place,
        counts: &mut DirectoryCounts,
        pin: &WritePin,
        is_it: impl FnMut(Place) -> bool,
    ) -> Option<Place> {
        let key = Key::of(hash);
        let shard = &self.shards[key.shard];
        let mut table = Table::of(shard.get(pin));
        let known = table.known(key.tag, is_it);
        if known.is_some() {
            return known;
        }
        let count = &mut counts.0[key.shard];
        *count += 1;
        if is_full(*count as usize, table.buckets()) {
            Self::resize(shard, table.buckets() + 1, pin);
            table = Table::of(shard.get(pin));
        }
        table.put(key.tag, slot_of(key.tag, place));
        None
    }

    /// Makes room for `entries` in all, evenly spread as hashes are.
    pub(crate) fn reserve(&self, entries: usize, pin: &WritePin) {
        // A shard that gets much more than its part grows as ever.
        let buckets = FreshLines::room(roomy(entries / SHARDS));
        for shard in &self.shards {
            if shard.get(pin).len() < buckets {
                Self::resize(shard, buckets, pin);
            }
        }
    }

    /// Takes `hash` at `place` out.
    #[inline]
    pub(crate) fn remove(
        &self,
        hash: BlockHash,
        place: Place,
        counts: &mut DirectoryCounts,
        pin: &WritePin,
    ) {
        let key = Key::of(hash);
        let shard = &self.shards[key.shard];
        let table = Table::of(shard.get(pin));
        if !table.take(key.tag, slot_of(key.tag, place)) {
            debug_assert!(false, "{hash} is not at {place:?}");
            return;
        }
        let count = counts.0[key.shard] as usize - 1;
        counts.0[key.shard] = count as u32;
        if count == 0 {
            shard.replace(None, pin);
        } else if !is_full(count * 3, table.buckets()) && table.buckets() > 1 {
            Self::resize(shard, roomy(count), pin);
        }
    }

    /// Gives spare buckets back.
    pub(crate) fn fit(&self, counts: &DirectoryCounts, pin: &WritePin) {
        for (shard, &count) in self.shards.iter().zip(&counts.0) {
            // A little room, so that the next few entries do not grow it again.
            let enough = FreshLines::room(roomy(count as usize));
            if enough < shard.get(pin).len() {
                Self::resize(shard, enough, pin);
            }
        }
    }

    /// Rewrites a table with another number of buckets, at least so many.
    #[cold]
    fn resize(shard: &Lines, buckets: usize, pin: &WritePin) {
        let new = FreshLines::zeroed(buckets);
        Table::of(new.get()).take_over(Table::of(shard.get(pin)));
        shard.replace(Some(new), pin);
    }

    /// Every place, for `validate`.
    pub(crate) fn for_each(&self, pin: &Pin, mut f: impl FnMut(Place)) {
        for shard in &self.shards {
            Table::of(shard.get(pin)).each(|slot| f(place_of(slot)));
        }
    }

    /// Whether counts and the first word of every bucket are what the slots say, for `validate`.
    pub(crate) fn counts_agree(&self, counts: &DirectoryCounts, pin: &Pin) -> bool {
        self.shards
            .iter()
            .zip(&counts.0)
            .all(|(shard, &count)| Table::of(shard.get(pin)).validated() == Some(count as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Exclusive;
    use std::collections::HashMap;

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 64 }))]

        /// Hashes that crowd into few buckets, so that they overflow and wrap around.
        #[test]
        fn a_directory_is_a_map(
            ops in proptest::collection::vec((0u8..8, 0u64..700), 0..3000), crowd in 0u32..3,
        ) {
            let hash_of = |n: u64| match crowd {
                0 => BlockHash(n),
                1 => BlockHash(n << 40),
                // Neighbours in one shard.
                _ => BlockHash((n << 6).wrapping_mul(0xf1de_83e1_9937_733d)),
            };
            let (directory, mut counts) = Directory::new();
            let mut own = Exclusive::new(directory);
            let mut truth = HashMap::new();
            for (op, n) in ops {
                let (directory, pin) = own.write();
                let place = Place { chain: n as u32 + 1, offset: (n % 100) as u16 };
                if op < 5 {
                    let before =
                        directory.find_or_insert(hash_of(n), place, &mut counts, &pin, |p| p == place);
                    proptest::prop_assert_eq!(before, truth.insert(n, place));
                } else if truth.remove(&n).is_some() {
                    directory.remove(hash_of(n), place, &mut counts, &pin);
                }
                if op == 7 && n < 5 {
                    directory.fit(&counts, &pin);
                }
            }
            let (directory, pin) = own.write();
            proptest::prop_assert!(directory.counts_agree(&counts, &pin));
            for n in 0..700 {
                let place = Place { chain: n as u32 + 1, offset: (n % 100) as u16 };
                let found = directory.find(hash_of(n), &pin, |p| p == place);
                proptest::prop_assert_eq!(found, truth.get(&n).copied());
            }
            let mut seen = 0;
            directory.for_each(&pin, |_| seen += 1);
            proptest::prop_assert_eq!(seen, truth.len());
        }
    }
}
