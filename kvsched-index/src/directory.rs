//! Block hash to place: one cache line a question, nothing ever moves under a reader.

use crate::chain::Place;
use crate::counts::Counts;
pub(crate) use crate::counts::DirectoryCounts;
use crate::mix::mix;
use crate::shared::{self, Lines, Pin, WritePin};
use crate::table::{TAG_BITS, Table, home, is_full, is_sparse, place_of, roomy, slot_of};
use kvsched_core::BlockHash;

/// Most independent tables: many, so that growing one is a short pause and happens in near memory.
const MOST_SHARDS: usize = 256;
/// Least of them, where a byte budget says that there will not be much.
const LEAST_SHARDS: usize = 16;
/// Bytes of a budget that are worth a table of their own.
const WORTH_A_SHARD: usize = 1 << 14;

/// Where every known hash lies.
///
/// A slot is 24 bits of the mixed hash beside the place (0 for none); whoever asks compares the full
/// hash at the place. The bits in the slot begin with those that choose the bucket, so that a table
/// grows by reading itself from front to back, without a look at the hashes.
#[derive(Debug)]
pub(crate) struct Directory {
    /// A power of two of them.
    shards: Box<[Lines]>,
}

/// A hash as the directory sees it.
#[derive(Clone, Copy)]
struct Key {
    /// Its lowest bits choose the shard.
    shard: usize,
    tag: u64,
}

impl Key {
    #[inline]
    fn of(hash: BlockHash) -> Self {
        let mixed = mix(hash.0);
        Self { shard: (mixed >> 32) as usize, tag: mixed >> (u64::BITS - TAG_BITS) }
    }

    /// Which of so many shards, a power of two, it belongs to.
    #[inline]
    fn among(self, shards: usize) -> usize {
        self.shard & (shards - 1)
    }
}

#[inline]
fn prefetch(shard: &Lines, key: Key, pin: &Pin) {
    let lines = shard.get(pin);
    // Every fifth entry lies in the line after its own, or asks there: nothing else would be waited for so long.
    if let Some(first) = lines.get(home(key.tag, lines.len())) {
        shared::prefetch_two(first);
    }
}

impl Directory {
    /// One of all blocks of an index of so many bytes, if they are bounded, that one or several write.
    pub(crate) fn of_blocks(budget: Option<usize>, is_shared: bool) -> (Self, DirectoryCounts) {
        let worth = budget.map_or(MOST_SHARDS, |bytes| bytes / WORTH_A_SHARD);
        Self::new(worth.clamp(LEAST_SHARDS, MOST_SHARDS).next_power_of_two(), is_shared)
    }

    /// One of a block each chain, beside that of all blocks.
    pub(crate) fn of_heads(all: &Self, is_shared: bool) -> (Self, DirectoryCounts) {
        Self::new(all.shards() / LEAST_SHARDS, is_shared)
    }

    fn new(shards: usize, is_shared: bool) -> (Self, DirectoryCounts) {
        let counts = DirectoryCounts::new(shards, is_shared);
        (Self { shards: (0..shards).map(Lines::empty).collect() }, counts)
    }

    /// Independent tables, a power of two.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Bytes of the directory and its counts apart from its tables.
    pub(crate) fn fixed_bytes(&self, counts: &DirectoryCounts) -> usize {
        self.shards.len() * size_of::<Lines>() + counts.bytes()
    }

    #[inline]
    fn shard(&self, key: Key) -> &Lines {
        &self.shards[key.among(self.shards.len())]
    }

    /// Begins to load the line where `hash` would lie.
    #[inline]
    pub(crate) fn prefetch(&self, hash: BlockHash, pin: &Pin) {
        let key = Key::of(hash);
        prefetch(self.shard(key), key, pin);
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
        Table::of(self.shard(key).get(pin)).find(key.tag, is_it)
    }

    /// For many changes.
    #[inline]
    pub(crate) fn changing<'w, const ALONE: bool>(
        &'w self,
        counts: &'w DirectoryCounts,
        pin: &'w WritePin,
    ) -> Changing<'w, ALONE> {
        Changing { shards: &self.shards, counts: counts.get(), pin }
    }

    /// One insertion; see [`Changing::insert`].
    #[inline]
    pub(crate) fn insert(
        &self,
        hash: BlockHash,
        place: Place,
        counts: &DirectoryCounts,
        is_alone: bool,
        pin: &WritePin,
        find_or_put: impl FnOnce(Table<'_>, u64) -> Option<Place>,
    ) -> Option<Place> {
        if is_alone {
            self.changing::<true>(counts, pin).insert(hash, place, find_or_put)
        } else {
            self.changing::<false>(counts, pin).insert(hash, place, find_or_put)
        }
    }

    /// One removal.
    #[inline]
    pub(crate) fn remove(
        &self,
        hash: BlockHash,
        place: Place,
        counts: &DirectoryCounts,
        is_alone: bool,
        pin: &WritePin,
    ) {
        if is_alone {
            self.changing::<true>(counts, pin).remove(hash, place);
        } else {
            self.changing::<false>(counts, pin).remove(hash, place);
        }
    }

    /// Makes room for `entries` in all, evenly spread as hashes are.
    pub(crate) fn reserve(&self, entries: usize, pin: &WritePin) {
        // A shard that gets much more than its part grows as ever.
        let buckets = roomy(entries / self.shards.len());
        for shard in self.shards.iter() {
            if shard.get(pin).len() < shard.room(buckets) {
                Self::resize(shard, buckets, pin);
            }
        }
    }

    /// Gives spare buckets back.
    pub(crate) fn fit(&self, counts: &DirectoryCounts, pin: &WritePin) {
        for (i, shard) in self.shards.iter().enumerate() {
            Self::shrink(shard, counts.of(i), pin);
        }
    }

    /// Rewrites a table with another number of buckets, at least so many.
    fn resize(shard: &Lines, buckets: usize, pin: &WritePin) {
        let new = shard.fresh(buckets);
        Table::of(new.get()).take_over(Table::of(shard.get(pin)));
        shard.replace(Some(new), pin);
    }

    /// Rewrites a table with twice as many buckets.
    #[cold]
    fn grow(shard: &Lines, pin: &WritePin) {
        Self::resize(shard, shard.get(pin).len() + 1, pin);
    }

    /// Rewrites a table of so few entries with fewer buckets, if that is possible.
    #[cold]
    fn shrink(shard: &Lines, entries: usize, pin: &WritePin) {
        // A little room stays, so that the next few entries do not grow it again.
        if entries == 0 {
            shard.replace(None, pin);
        } else if shard.room(roomy(entries)) < shard.get(pin).len() {
            Self::resize(shard, roomy(entries), pin);
        }
    }

    /// Every place, for `validate`.
    pub(crate) fn for_each(&self, pin: &Pin, mut f: impl FnMut(Place)) {
        for shard in self.shards.iter() {
            Table::of(shard.get(pin)).each(|slot| f(place_of(slot)));
        }
    }

    /// Whether counts and the first word of every bucket are what the slots say, for `validate`.
    pub(crate) fn counts_agree(&self, counts: &DirectoryCounts, pin: &Pin) -> bool {
        let entries = |shard: &Lines| Table::of(shard.get(pin)).validated();
        self.shards.iter().enumerate().all(|(i, shard)| entries(shard) == Some(counts.of(i)))
    }
}

/// A directory whose entries change, by the only writer or beside others.
#[derive(Debug)]
pub(crate) struct Changing<'w, const ALONE: bool> {
    shards: &'w [Lines],
    counts: Counts<'w>,
    pin: &'w WritePin,
}

impl<const ALONE: bool> Changing<'_, ALONE> {
    /// As [`Directory::prefetch`].
    #[inline]
    pub(crate) fn prefetch(&self, hash: BlockHash) {
        let key = Key::of(hash);
        prefetch(&self.shards[key.among(self.shards.len())], key, self.pin);
    }

    /// Adds `hash` at `place`, unless it is known. Where one look does not tell, `find_or_put` does it, as
    /// [`Table::find_or_put`], of a table and a slot. Returns the place it already had.
    #[inline]
    pub(crate) fn insert(
        &self,
        hash: BlockHash,
        place: Place,
        find_or_put: impl FnOnce(Table<'_>, u64) -> Option<Place>,
    ) -> Option<Place> {
        let key = Key::of(hash);
        let number = key.among(self.shards.len());
        let shard = &self.shards[number];
        let mut held = self.counts.hold(number, ALONE);
        let mut table = Table::of(shard.get(self.pin));
        if is_full(held.count as usize + 1, table.buckets()) {
            Directory::grow(shard, self.pin);
            table = Table::of(shard.get(self.pin));
        }
        let slot = slot_of(key.tag, place);
        if !table.put_new(slot) {
            let known = find_or_put(table, slot);
            if known.is_some() {
                return known;
            }
        }
        held.count += 1;
        None
    }

    /// Takes `hash` at `place` out.
    // A function of its own, which the compiler would rather have, keeps half of what it works on on the stack.
    #[inline(always)]
    pub(crate) fn remove(&self, hash: BlockHash, place: Place) {
        let key = Key::of(hash);
        let number = key.among(self.shards.len());
        let shard = &self.shards[number];
        let mut held = self.counts.hold(number, ALONE);
        let table = Table::of(shard.get(self.pin));
        if !table.take(slot_of(key.tag, place)) {
            debug_assert!(false, "{hash} is not at {place:?}");
            return;
        }
        held.count -= 1;
        let count = held.count as usize;
        if is_sparse(count, table.buckets()) {
            Directory::shrink(shard, count, self.pin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::Exclusive;
    use std::collections::HashMap;

    /// All of the last bucket, so that they wrap around, and some farther from it than can be said.
    #[test]
    fn entries_lie_as_far_away_as_there_is_room() {
        let (tag, entries) = ((1 << TAG_BITS) - 1, if cfg!(miri) { 60 } else { 2000 });
        let lines = Lines::empty(0).fresh(entries / 5);
        let table = Table::of(lines.get());
        let place = |n: usize| Place { chain: n as u32 + 1, offset: 0 };
        let put = |n: usize| table.find_or_put(slot_of(tag, place(n)), |p| p == place(n));
        for n in 0..entries {
            assert_eq!(put(n), None);
            assert_eq!(put(n), Some(place(n)));
        }
        assert_eq!(table.validated(), Some(entries));
        // Seven is no divisor of their number: all of them, in an order of no kind.
        for (gone, n) in (0..entries).map(|i| (i + 1, i * 7 % entries)) {
            assert!(table.take(slot_of(tag, place(n))), "{n}");
            assert!(!table.take(slot_of(tag, place(n))), "{n}");
            assert_eq!(table.find(tag, |p| p == place(n)), None);
            if gone % 50 == 0 {
                assert_eq!(table.validated(), Some(entries - gone));
                let left = (gone..entries).map(|i| i * 7 % entries);
                assert!(left.into_iter().all(|n| table.find(tag, |p| p == place(n)).is_some()));
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 64 }))]

        /// Hashes that crowd into few buckets, so that they overflow and wrap around.
        #[test]
        fn a_directory_is_a_map(
            ops in proptest::collection::vec((0u8..8, 0u64..700), 0..3000), crowd in 0u32..3,
            is_shared in proptest::bool::ANY,
        ) {
            let hash_of = |n: u64| match crowd {
                0 => BlockHash(n),
                1 => BlockHash(n << 40),
                // Neighbours in one shard.
                _ => BlockHash((n << 6).wrapping_mul(0xf1de_83e1_9937_733d)),
            };
            let (directory, counts) = Directory::of_blocks(None, is_shared);
            let mut own = Exclusive::new(directory);
            let mut truth = HashMap::new();
            for (op, n) in ops {
                let (directory, pin) = own.write();
                let place = Place { chain: n as u32 + 1, offset: (n % 100) as u16 };
                if op < 5 {
                    let put = |table: Table<'_>, slot| table.find_or_put(slot, |p| p == place);
                    let before =
                        directory.insert(hash_of(n), place, &counts, !is_shared, &pin, put);
                    proptest::prop_assert_eq!(before, truth.insert(n, place));
                } else if truth.remove(&n).is_some() {
                    directory.remove(hash_of(n), place, &counts, !is_shared, &pin);
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
