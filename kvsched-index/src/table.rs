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
pub(crate) fn tag_of(slot: u64) -> u64 {
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

/// A cache line. Its first word has a byte for each slot, from the lowest: some bits of the tag below a set
/// one, or 0 for a slot that is free. The highest byte says how many entries did not fit and went on.
type Bucket = Line;

/// One entry more that went on, in a bucket's first word.
const WENT_ON: u64 = 1 << (8 * SLOTS);
/// So many have gone on that they are counted no more: from here on the bucket is never the last one.
const COUNTLESS: u64 = WENT_ON * 0xff;
/// The lowest bit of each slot's byte, and the highest.
const LOW: u64 = 0x0001_0101_0101_0101;
const HIGH: u64 = LOW << 7;

/// What the first word says of a slot in use.
#[inline]
fn byte_of(tag: u64) -> u64 {
    tag & 0x7f | 0x80
}

/// Slots that may be those of `byte`, as the highest bits of their bytes: all that are, and sometimes one
/// above them that is not.
#[inline]
fn equal(head: u64, byte: u64) -> u64 {
    let other = head ^ (byte * LOW);
    other.wrapping_sub(LOW) & !other & HIGH
}

/// The slots that are free, in the same way, and none else.
#[inline]
fn free(head: u64) -> u64 {
    !head & HIGH
}

/// The slots that such a mask names, lowest first.
#[inline]
fn slots(bucket: &Bucket, mut mask: u64) -> impl Iterator<Item = (u32, &AtomicU64)> {
    std::iter::from_fn(move || {
        let byte = mask.trailing_zeros() / 8;
        let slot = bucket.0.get(1 + byte as usize)?;
        mask &= mask.wrapping_sub(1);
        Some((byte, slot))
    })
}

/// Writes a slot that is free, and then says so in the bucket's first word.
#[inline]
fn fill(bucket: &Bucket, head: u64, byte: u32, free: &AtomicU64, slot: u64) {
    free.store(slot, Ordering::Release);
    bucket.0[0].store(head | byte_of(tag_of(slot)) << (8 * byte), Ordering::Release);
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
            let head = bucket.0[0].load(Ordering::Acquire);
            for (_, slot) in slots(bucket, equal(head, byte_of(tag))) {
                let slot = slot.load(Ordering::Acquire);
                if slot != 0 && tag_of(slot) == tag && is_it(place_of(slot)) {
                    return Some(place_of(slot));
                }
            }
            if head < WENT_ON {
                break;
            }
            b = self.after(b);
        }
        None
    }

    /// Puts a slot into its first bucket, if that says that there is none under the tag, and has room: mostly
    /// it does.
    #[inline]
    pub(crate) fn put_new(self, tag: u64, slot: u64) -> bool {
        let Some(bucket) = self.buckets.get(self.home(tag)) else { return false };
        let head = bucket.0[0].load(Ordering::Relaxed);
        if head >= WENT_ON || equal(head, byte_of(tag)) != 0 {
            return false;
        }
        let Some((byte, free)) = slots(bucket, free(head)).next() else { return false };
        fill(bucket, head, byte, free, slot);
        true
    }

    /// Puts a slot into the first free place from its home on. There is one.
    #[inline]
    pub(crate) fn put(self, tag: u64, slot: u64) {
        let mut b = self.home(tag);
        loop {
            let bucket = &self.buckets[b];
            let head = bucket.0[0].load(Ordering::Relaxed);
            if let Some((byte, free)) = slots(bucket, free(head)).next() {
                return fill(bucket, head, byte, free, slot);
            }
            // Counted before the slot is written, so that no reader stops short of it.
            if head < COUNTLESS {
                bucket.0[0].store(head + WENT_ON, Ordering::Release);
            }
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
            let found = slots(bucket, equal(head, byte_of(tag)))
                .find(|(_, s)| s.load(Ordering::Relaxed) == slot);
            if let Some((byte, found)) = found {
                bucket.0[0].store(head & !(0xff << (8 * byte)), Ordering::Release);
                found.store(0, Ordering::Release);
                let mut passed = first;
                while passed != b {
                    let word = &self.buckets[passed].0[0];
                    let head = word.load(Ordering::Relaxed);
                    if head < COUNTLESS {
                        word.store(head - WENT_ON, Ordering::Release);
                    }
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
            let used = bucket.0[0].load(Ordering::Relaxed) & HIGH;
            slots(bucket, used).for_each(|(_, slot)| f(slot.load(Ordering::Relaxed)));
        }
    }

    /// Puts every slot of `other` here.
    pub(crate) fn take_over(self, other: Table<'_>) {
        other.each(|slot| self.put(tag_of(slot), slot));
    }

    /// How many entries belong here, if every bucket's first word is what the slots say. For `validate`.
    pub(crate) fn validated(self) -> Option<usize> {
        let mut heads = vec![0u64; self.buckets.len()];
        let mut entries = 0;
        for (b, bucket) in self.buckets.iter().enumerate() {
            for (byte, slot) in slots(bucket, HIGH) {
                let slot = slot.load(Ordering::Relaxed);
                if slot == 0 {
                    continue;
                }
                entries += 1;
                heads[b] |= byte_of(tag_of(slot)) << (8 * byte);
                let mut passed = self.home(tag_of(slot));
                while passed != b {
                    heads[passed] = heads[passed].saturating_add(WENT_ON);
                    passed = self.after(passed);
                }
            }
        }
        let agree = |(bucket, head): (&Bucket, u64)| {
            let told = bucket.0[0].load(Ordering::Relaxed);
            told == head || told >= COUNTLESS && (told ^ head) % WENT_ON == 0
        };
        self.buckets.iter().zip(heads).all(agree).then_some(entries)
    }
}

/// Whether so many entries ask for a larger table. Above 45 of 56 slots too many buckets
/// overflow, and each costs whoever looks a second cache line.
#[inline]
pub(crate) fn is_full(entries: usize, buckets: usize) -> bool {
    entries * 8 > buckets * 45
}

/// Buckets for so many entries and an eighth more.
pub(crate) fn roomy(entries: usize) -> usize {
    entries * 3 / 2 / SLOTS + 1
}
