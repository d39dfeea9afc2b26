//! A small hash table of cache lines, a part of the directory.

// Nothing else of the crate: the models in `tests` compile this file with atomics of their own.
use crate::chain::Place;
use crate::shared::{AtomicU64, Line};
use std::sync::atomic::Ordering;

/// Slots a bucket, after its first word.
const SLOTS: usize = 7;
/// Bits of the mixed hash that a slot keeps.
pub(crate) const TAG_BITS: u32 = 24;
const TAG_SHIFT: u32 = u64::BITS - TAG_BITS;

#[inline]
fn tag_of(slot: u64) -> u64 {
    slot >> TAG_SHIFT
}

#[inline]
pub(crate) fn slot_of(tag: u64, place: Place) -> u64 {
    tag << TAG_SHIFT | place.to_bits()
}

#[inline]
pub(crate) fn place_of(slot: u64) -> Place {
    Place::from_bits(slot & ((1 << TAG_SHIFT) - 1))
}

/// The bucket among `buckets` where an entry belongs.
#[inline]
pub(crate) fn home(tag: u64, buckets: usize) -> usize {
    ((tag * buckets as u64) >> TAG_BITS) as usize
}

/// A cache line. Its first word says which slots are in use (a bit each, from the lowest), and above
/// that how many entries did not fit and went on.
type Bucket = Line;

/// One entry more that went on, in a bucket's first word.
const WENT_ON: u64 = 1 << (SLOTS + 1);
/// All slots in use.
const ALL: u64 = (1 << SLOTS) - 1;

/// Slots whose tag is `tag`, a bit each. No branch: which of them it is cannot be foretold.
#[inline]
fn tagged(bucket: &Bucket, tag: u64) -> u64 {
    let same = |i: usize| u64::from(tag_of(bucket.0[1 + i].load(Ordering::Acquire)) == tag) << i;
    (0..SLOTS).fold(0, |mask, i| mask | same(i))
}

/// Slots that a mask names, with their bits.
#[inline]
fn slots(bucket: &Bucket, mut mask: u64) -> impl Iterator<Item = (u64, &AtomicU64)> {
    std::iter::from_fn(move || {
        let slot = bucket.0.get(1 + mask.trailing_zeros() as usize)?;
        let bit = mask & mask.wrapping_neg();
        mask ^= bit;
        Some((bit, slot))
    })
}

/// A table, bucket by bucket.
#[derive(Clone, Copy)]
pub(crate) struct Table<'p> {
    buckets: &'p [Bucket],
}

impl<'p> Table<'p> {
    #[inline]
    pub(crate) fn of(buckets: &'p [Bucket]) -> Self {
        Self { buckets }
    }

    pub(crate) fn buckets(self) -> usize {
        self.buckets.len()
    }

    /// The first bucket to look in. Monotone in the tag, so that a table is rewritten by reading
    /// another from front to back.
    #[inline]
    fn home(self, tag: u64) -> usize {
        home(tag, self.buckets.len())
    }

    #[inline]
    fn after(self, b: usize) -> usize {
        if b + 1 == self.buckets.len() { 0 } else { b + 1 }
    }

    /// The first place under `tag` that `is_it` accepts.
    #[inline]
    pub(crate) fn find(self, tag: u64, mut is_it: impl FnMut(Place) -> bool) -> Option<Place> {
        let mut b = self.home(tag);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[b];
            for (_, slot) in slots(bucket, tagged(bucket, tag)) {
                let slot = slot.load(Ordering::Acquire);
                if slot != 0 && is_it(place_of(slot)) {
                    return Some(place_of(slot));
                }
            }
            if bucket.0[0].load(Ordering::Acquire) < WENT_ON {
                break;
            }
            b = self.after(b);
        }
        None
    }

    /// As [`Table::find`], for the writer, who can trust what each bucket says of itself.
    #[inline]
    pub(crate) fn known(self, tag: u64, mut is_it: impl FnMut(Place) -> bool) -> Option<Place> {
        // Mostly the first bucket says all.
        let bucket = self.buckets.get(self.home(tag))?;
        let head = bucket.0[0].load(Ordering::Relaxed);
        let here = slots(bucket, tagged(bucket, tag) & head)
            .map(|(_, slot)| place_of(slot.load(Ordering::Relaxed)))
            .find(|&place| is_it(place));
        if here.is_some() || head < WENT_ON { here } else { self.find(tag, is_it) }
    }

    /// Puts a slot into the first free place from its home on. There is one.
    #[inline]
    pub(crate) fn put(self, tag: u64, slot: u64) {
        let mut b = self.home(tag);
        loop {
            let bucket = &self.buckets[b];
            let head = bucket.0[0].load(Ordering::Relaxed);
            if head & ALL != ALL {
                let i = head.trailing_ones() as usize;
                bucket.0[0].store(head | 1 << i, Ordering::Release);
                return bucket.0[1 + i].store(slot, Ordering::Release);
            }
            // Counted before the slot is written, so that no reader stops short of it.
            bucket.0[0].store(head + WENT_ON, Ordering::Release);
            b = self.after(b);
        }
    }

    /// Takes a slot out; whether it was there.
    #[inline]
    pub(crate) fn take(self, tag: u64, slot: u64) -> bool {
        let first = self.home(tag);
        let mut b = first;
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[b];
            let head = bucket.0[0].load(Ordering::Relaxed);
            let found = slots(bucket, tagged(bucket, tag) & head)
                .find(|(_, s)| s.load(Ordering::Relaxed) == slot);
            if let Some((bit, found)) = found {
                found.store(0, Ordering::Release);
                bucket.0[0].store(head & !bit, Ordering::Release);
                let mut passed = first;
                while passed != b {
                    let word = &self.buckets[passed].0[0];
                    word.store(word.load(Ordering::Relaxed) - WENT_ON, Ordering::Release);
                    passed = self.after(passed);
                }
                return true;
            }
            if head < WENT_ON {
                break;
            }
            b = self.after(b);
        }
        false
    }

    /// Every slot in use, for whoever keeps writers away.
    #[inline]
    pub(crate) fn each(self, mut f: impl FnMut(u64)) {
        for bucket in self.buckets {
            let used = bucket.0[0].load(Ordering::Relaxed) & ALL;
            slots(bucket, used).for_each(|(_, slot)| f(slot.load(Ordering::Relaxed)));
        }
    }

    /// Puts every slot of `other` here.
    pub(crate) fn take_over(self, other: Table<'_>) {
        other.each(|slot| self.put(tag_of(slot), slot));
    }

    /// How many entries belong here, if every bucket's first word is what the slots say. For `validate`.
    pub(crate) fn validated(self) -> Option<usize> {
        let mut heads = vec![0; self.buckets.len()];
        let mut entries = 0;
        for (b, bucket) in self.buckets.iter().enumerate() {
            for (bit, slot) in slots(bucket, ALL) {
                let slot = slot.load(Ordering::Relaxed);
                if slot == 0 {
                    continue;
                }
                entries += 1;
                heads[b] |= bit;
                let mut passed = self.home(tag_of(slot));
                while passed != b {
                    heads[passed] += WENT_ON;
                    passed = self.after(passed);
                }
            }
        }
        let told = self.buckets.iter().map(|bucket| bucket.0[0].load(Ordering::Relaxed));
        told.eq(heads).then_some(entries)
    }
}

/// Whether so many entries ask for a larger table. Above four fifths of the slots too many buckets
/// overflow, and each costs whoever looks a second cache line.
#[inline]
pub(crate) fn is_full(entries: usize, buckets: usize) -> bool {
    entries * 5 > buckets * SLOTS * 4
}

/// Buckets for so many entries and an eighth more.
pub(crate) fn roomy(entries: usize) -> usize {
    entries * 3 / 2 / SLOTS + 1
}
