//! Block hash to place: one cache line a question, nothing ever moves under a reader.

use crate::chain::Place;
use crate::shared::{Fresh, Pin, Words, WritePin};
use kvsched_core::BlockHash;
use std::sync::atomic::{AtomicU64, Ordering};

/// Independent tables, so that growing one is a short pause.
const SHARDS: usize = 64;
/// Words a bucket: a cache line.
const BUCKET: usize = 8;
/// Slots a bucket. Its first word counts the entries that did not fit and went on.
const SLOTS: usize = BUCKET - 1;
/// Buckets of a table when it is first written to.
const SMALLEST: usize = 1;
const TAG_BITS: u32 = 24;

/// Where every known hash lies.
///
/// A slot is 24 bits of the mixed hash beside the place (0 for none); whoever asks compares the full
/// hash at the place. The bits in the slot begin with those that choose the bucket, so that a table
/// grows by reading itself from front to back, without a look at the hashes.
#[derive(Debug)]
pub(crate) struct Directory {
    shards: Box<[Words]>,
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

    /// Its first bucket among `buckets`. Monotone in the tag.
    #[inline]
    fn home(self, buckets: usize) -> usize {
        home(self.tag, buckets)
    }
}

#[inline]
fn home(tag: u64, buckets: usize) -> usize {
    ((tag * buckets as u64) >> TAG_BITS) as usize
}

#[inline]
fn tag_of(slot: u64) -> u64 {
    slot >> (u64::BITS - TAG_BITS)
}

#[inline]
fn slot_of(tag: u64, place: Place) -> u64 {
    tag << (u64::BITS - TAG_BITS) | place.to_bits()
}

#[inline]
fn place_of(slot: u64) -> Place {
    Place::from_bits(slot & ((1 << (u64::BITS - TAG_BITS)) - 1))
}

/// A shard's table, bucket by bucket.
#[derive(Clone, Copy)]
struct Table<'p>(&'p [AtomicU64]);

impl<'p> Table<'p> {
    fn buckets(self) -> usize {
        self.0.len() / BUCKET
    }

    #[inline]
    fn bucket(self, b: usize) -> &'p [AtomicU64] {
        &self.0[b * BUCKET..][..BUCKET]
    }

    /// The first place under `tag` that `is_it` accepts.
    #[inline]
    fn find(self, tag: u64, mut is_it: impl FnMut(Place) -> bool) -> Option<Place> {
        let buckets = self.buckets();
        let mut b = home(tag, buckets.max(1));
        for _ in 0..buckets {
            let bucket = self.bucket(b);
            for slot in &bucket[1..] {
                let slot = slot.load(Ordering::Acquire);
                if tag_of(slot) == tag && slot != 0 && is_it(place_of(slot)) {
                    return Some(place_of(slot));
                }
            }
            if bucket[0].load(Ordering::Acquire) == 0 {
                break;
            }
            b = if b + 1 == buckets { 0 } else { b + 1 };
        }
        None
    }

    /// Puts a slot into the first free place from its home on. There is one.
    #[inline]
    fn put(self, tag: u64, slot: u64) {
        let buckets = self.buckets();
        let mut b = home(tag, buckets);
        loop {
            let bucket = self.bucket(b);
            match bucket[1..].iter().find(|s| s.load(Ordering::Relaxed) == 0) {
                Some(free) => return free.store(slot, Ordering::Release),
                // Counted before the slot is written, so that no reader stops short of it.
                None => add(&bucket[0], 1),
            }
            b = if b + 1 == buckets { 0 } else { b + 1 };
        }
    }

    /// Takes a slot out. It is there.
    #[inline]
    fn take(self, tag: u64, slot: u64) -> bool {
        let buckets = self.buckets();
        let first = home(tag, buckets.max(1));
        let mut b = first;
        for _ in 0..buckets {
            let bucket = self.bucket(b);
            if let Some(found) = bucket[1..].iter().find(|s| s.load(Ordering::Relaxed) == slot) {
                found.store(0, Ordering::Release);
                let mut passed = first;
                while passed != b {
                    add(&self.bucket(passed)[0], u64::MAX);
                    passed = if passed + 1 == buckets { 0 } else { passed + 1 };
                }
                return true;
            }
            if bucket[0].load(Ordering::Relaxed) == 0 {
                break;
            }
            b = if b + 1 == buckets { 0 } else { b + 1 };
        }
        false
    }
}

/// Whether so many entries ask for a larger table. Above three quarters of the slots too many buckets
/// overflow, and each costs whoever looks a second cache line.
#[inline]
fn is_full(count: usize, buckets: usize) -> bool {
    count * 4 > buckets * SLOTS * 3
}

/// Adds without a locked instruction: only the writer changes these words.
#[inline]
fn add(word: &AtomicU64, n: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(n), Ordering::Release);
}

impl Directory {
    pub(crate) fn new() -> (Self, DirectoryCounts) {
        let shards = (0..SHARDS).map(|_| Words::empty()).collect();
        (Self { shards }, DirectoryCounts(vec![0; SHARDS].into()))
    }

    /// Bytes of the directory apart from its tables.
    pub(crate) const fn fixed_bytes() -> usize {
        SHARDS * (size_of::<Words>() + size_of::<u32>())
    }

    /// Begins to load the line where `hash` would lie.
    #[inline]
    pub(crate) fn prefetch(&self, hash: BlockHash, pin: &Pin) {
        let key = Key::of(hash);
        let table = self.shards[key.shard].get(pin);
        Words::prefetch(table, key.home(table.len() / BUCKET) * BUCKET);
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
        Table(self.shards[key.shard].get(pin)).find(key.tag, is_it)
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
        mut is_it: impl FnMut(Place) -> bool,
    ) -> Option<Place> {
        let key = Key::of(hash);
        let shard = &self.shards[key.shard];
        let words = shard.get(pin);
        let count = &mut counts.0[key.shard];
        let buckets = words.len() / BUCKET;
        if buckets > 0 {
            // Mostly its first bucket says all: not there, and here is room.
            let bucket = Table(words).bucket(key.home(buckets));
            let overflow = bucket[0].load(Ordering::Relaxed);
            let mut free = None;
            for slot in &bucket[1..] {
                let bits = slot.load(Ordering::Relaxed);
                if bits == 0 {
                    free = Some(slot);
                } else if tag_of(bits) == key.tag && is_it(place_of(bits)) {
                    return Some(place_of(bits));
                }
            }
            if overflow > 0 {
                let found = Table(words).find(key.tag, is_it);
                if found.is_some() {
                    return found;
                }
            }
            let full = is_full(*count as usize + 1, buckets);
            if let (Some(free), false) = (free, full) {
                *count += 1;
                free.store(slot_of(key.tag, place), Ordering::Release);
                return None;
            }
        }
        *count += 1;
        if is_full(*count as usize, buckets) {
            Self::resize(shard, buckets + buckets / 3 + SMALLEST, pin);
        }
        Table(shard.get(pin)).put(key.tag, slot_of(key.tag, place));
        None
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
        let table = Table(shard.get(pin));
        if !table.take(key.tag, slot_of(key.tag, place)) {
            debug_assert!(false, "{hash} is not at {place:?}");
            return;
        }
        let count = counts.0[key.shard] as usize - 1;
        counts.0[key.shard] = count as u32;
        if count == 0 {
            shard.replace(None, pin);
        } else if count * 4 < table.buckets() * SLOTS && table.buckets() > SMALLEST {
            Self::resize(shard, count * 3 / 2 / SLOTS + SMALLEST, pin);
        }
    }

    /// Gives spare buckets back.
    pub(crate) fn fit(&self, counts: &DirectoryCounts, pin: &WritePin) {
        for (shard, &count) in self.shards.iter().zip(&counts.0) {
            // A little room, so that the next few entries do not grow it again.
            let enough = count as usize * 3 / 2 / SLOTS + SMALLEST;
            if enough < shard.get(pin).len() / BUCKET {
                Self::resize(shard, enough, pin);
            }
        }
    }

    /// Rewrites a table with another number of buckets.
    fn resize(shard: &Words, buckets: usize, pin: &WritePin) {
        let new = Fresh::aligned(buckets * BUCKET);
        let table = Table(&new);
        for bucket in shard.get(pin).chunks_exact(BUCKET) {
            for slot in bucket[1..].iter().map(|s| s.load(Ordering::Relaxed)).filter(|&s| s != 0) {
                table.put(tag_of(slot), slot);
            }
        }
        shard.replace(Some(new), pin);
    }

    /// Every place, for `validate`.
    pub(crate) fn for_each(&self, pin: &Pin, mut f: impl FnMut(Place)) {
        for shard in &self.shards {
            for bucket in shard.get(pin).chunks_exact(BUCKET) {
                for slot in &bucket[1..] {
                    let slot = slot.load(Ordering::Relaxed);
                    if slot != 0 {
                        f(place_of(slot));
                    }
                }
            }
        }
    }

    /// Whether every overflow count is what the slots say, for `validate`.
    pub(crate) fn counts_agree(&self, counts: &DirectoryCounts, pin: &Pin) -> bool {
        self.shards.iter().zip(&counts.0).all(|(shard, &count)| {
            let table = Table(shard.get(pin));
            let mut overflow = vec![0; table.buckets()];
            let mut entries = 0;
            for b in 0..table.buckets() {
                for slot in &table.bucket(b)[1..] {
                    let slot = slot.load(Ordering::Relaxed);
                    if slot == 0 {
                        continue;
                    }
                    entries += 1;
                    let mut passed = home(tag_of(slot), table.buckets());
                    while passed != b {
                        overflow[passed] += 1;
                        passed = (passed + 1) % table.buckets();
                    }
                }
            }
            let same = |b: usize| table.bucket(b)[0].load(Ordering::Relaxed) == overflow[b];
            entries == count && (0..table.buckets()).all(same)
        })
    }
}
