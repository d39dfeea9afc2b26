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
/// one, or 0 for a slot that is free. The highest byte is the bucket's *reach*: how many buckets further the
/// farthest of those lies that belong here and found no room.
type Bucket = Line;

/// A reach of one bucket, in a bucket's first word.
const REACH: u64 = 1 << (8 * SLOTS);
/// The reach of a bucket from which something went at least so far: it is looked for everywhere.
const ANYWHERE: usize = 0xff;
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

/// The first place under `tag` in a bucket with this first word that `is_it` accepts.
#[inline]
fn accepted(
    bucket: &Bucket,
    head: u64,
    tag: u64,
    is_it: &mut impl FnMut(Place) -> bool,
) -> Option<Place> {
    slots(bucket, equal(head, byte_of(tag)))
        .map(|(_, slot)| slot.load(Ordering::Acquire))
        .filter(|&slot| slot != 0 && tag_of(slot) == tag)
        .map(place_of)
        .find(|&place| is_it(place))
}

/// Writes a slot that is free, and then says so in the bucket's first word.
#[inline]
fn fill(bucket: &Bucket, head: u64, byte: u32, free: &AtomicU64, slot: u64) {
    free.store(slot, Ordering::Release);
    bucket.0[0].store(head | byte_of(tag_of(slot)) << (8 * byte), Ordering::Release);
}

/// Frees a slot of a bucket with this first word; whether it is there.
#[inline]
fn empty(bucket: &Bucket, head: u64, slot: u64) -> bool {
    let mut alike = slots(bucket, equal(head, byte_of(tag_of(slot))));
    let Some((byte, found)) = alike.find(|(_, s)| s.load(Ordering::Relaxed) == slot) else {
        return false;
    };
    bucket.0[0].store(head & !(0xff << (8 * byte)), Ordering::Release);
    found.store(0, Ordering::Release);
    true
}

/// Says how many buckets further the farthest entry lies that belongs here.
fn set_reach(bucket: &Bucket, reach: usize) {
    let head = bucket.0[0].load(Ordering::Relaxed);
    let reach = reach.min(ANYWHERE) as u64 * REACH;
    bucket.0[0].store((head % REACH) | reach, Ordering::Release);
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

    /// How many buckets further whoever looks for an entry must go, as the first word of its home says.
    #[inline]
    fn reach(self, head: u64) -> usize {
        match (head / REACH) as usize {
            ANYWHERE => self.buckets.len() - 1,
            reach => reach,
        }
    }

    /// The first place under `tag` that `is_it` accepts.
    #[inline]
    pub(crate) fn find(self, tag: u64, mut is_it: impl FnMut(Place) -> bool) -> Option<Place> {
        let mut b = self.home(tag);
        let mut bucket = self.buckets.get(b)?;
        let mut head = bucket.0[0].load(Ordering::Acquire);
        let mut left = self.reach(head);
        loop {
            let found = accepted(bucket, head, tag, &mut is_it);
            if found.is_some() {
                return found;
            }
            left = left.checked_sub(1)?;
            b = self.after(b);
            bucket = &self.buckets[b];
            head = bucket.0[0].load(Ordering::Acquire);
        }
    }

    /// Puts a slot into its first bucket, if that says that there is none under the tag, and has room: mostly
    /// it does.
    #[inline]
    pub(crate) fn put_new(self, slot: u64) -> bool {
        let tag = tag_of(slot);
        let Some(bucket) = self.buckets.get(self.home(tag)) else { return false };
        let head = bucket.0[0].load(Ordering::Relaxed);
        if head >= REACH || equal(head, byte_of(tag)) != 0 {
            return false;
        }
        let Some((byte, free)) = slots(bucket, free(head)).next() else { return false };
        fill(bucket, head, byte, free, slot);
        true
    }

    /// Puts a slot into the first free place from its home on, of which there is one, unless `is_it` accepts a
    /// place under the same tag: that place.
    #[inline]
    pub(crate) fn find_or_put(
        self,
        slot: u64,
        mut is_it: impl FnMut(Place) -> bool,
    ) -> Option<Place> {
        let tag = tag_of(slot);
        let first = &self.buckets[self.home(tag)];
        let reach = self.reach(first.0[0].load(Ordering::Relaxed));
        let (mut b, mut room) = (self.home(tag), None);
        for further in 0..self.buckets.len() {
            let bucket = &self.buckets[b];
            let head = bucket.0[0].load(Ordering::Relaxed);
            let known = accepted(bucket, head, tag, &mut is_it);
            if known.is_some() {
                return known;
            }
            if room.is_none() {
                room = slots(bucket, free(head)).next().map(|free| (further, bucket, free));
            }
            if further >= reach && room.is_some() {
                break;
            }
            b = self.after(b);
        }
        let Some((further, bucket, (byte, free))) = room else {
            unreachable!("no room in a table that is not full")
        };
        if further > reach {
            // Before the slot is written, so that no reader stops short of it.
            set_reach(first, further);
        }
        fill(bucket, bucket.0[0].load(Ordering::Relaxed), byte, free, slot);
        None
    }

    /// Takes a slot out; whether it was there.
    #[inline]
    pub(crate) fn take(self, slot: u64) -> bool {
        let Some(first) = self.buckets.get(self.home(tag_of(slot))) else { return false };
        let head = first.0[0].load(Ordering::Relaxed);
        empty(first, head, slot) || head >= REACH && self.take_further(slot)
    }

    /// Takes a slot out that is not in its first bucket; whether it was there.
    #[inline(never)]
    fn take_further(self, slot: u64) -> bool {
        let first = self.home(tag_of(slot));
        let reach = self.reach(self.buckets[first].0[0].load(Ordering::Relaxed));
        let mut b = first;
        for further in 1..=reach {
            b = self.after(b);
            let bucket = &self.buckets[b];
            if empty(bucket, bucket.0[0].load(Ordering::Relaxed), slot) {
                if further == reach {
                    self.draw_back(first, reach);
                }
                return true;
            }
        }
        false
    }

    /// The farthest entry that belongs into a bucket is gone: says how far away the next one is.
    fn draw_back(self, first: usize, reach: usize) {
        let lies = |further: &usize| {
            let bucket = &self.buckets[(first + further) % self.buckets.len()];
            let used = bucket.0[0].load(Ordering::Relaxed) & HIGH;
            slots(bucket, used).any(|(_, s)| self.home(tag_of(s.load(Ordering::Relaxed))) == first)
        };
        let home = &self.buckets[first];
        if home.0[0].load(Ordering::Relaxed) / REACH < ANYWHERE as u64 {
            set_reach(home, (1..=reach).rev().find(lies).unwrap_or(0));
        }
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
        other.each(|slot| {
            if !self.put_new(slot) {
                self.find_or_put(slot, |_| false);
            }
        });
    }

    /// How many entries belong here, if every bucket's first word is what the slots say. For `validate`.
    pub(crate) fn validated(self) -> Option<usize> {
        let buckets = self.buckets.len();
        let (mut bytes, mut reach) = (vec![0u64; buckets], vec![0; buckets]);
        let mut entries = 0;
        for (b, bucket) in self.buckets.iter().enumerate() {
            for (byte, slot) in slots(bucket, HIGH) {
                let slot = slot.load(Ordering::Relaxed);
                if slot == 0 {
                    continue;
                }
                entries += 1;
                bytes[b] |= byte_of(tag_of(slot)) << (8 * byte);
                let home = self.home(tag_of(slot));
                reach[home] = reach[home].max((b + buckets - home) % buckets);
            }
        }
        let agree = |b: usize| {
            let told = self.buckets[b].0[0].load(Ordering::Relaxed);
            let as_told = (told / REACH) as usize;
            told % REACH == bytes[b] && (as_told == reach[b] || as_told == ANYWHERE)
        };
        (0..buckets).all(agree).then_some(entries)
    }
}

/// Whether so many entries ask for a larger table. Above 45 of 56 slots too many buckets
/// overflow, and each costs whoever looks a second cache line.
#[inline]
pub(crate) fn is_full(entries: usize, buckets: usize) -> bool {
    entries * 8 > buckets * 45
}

/// Whether so few entries ask for a smaller table, a third of what it may have.
#[inline]
pub(crate) fn is_sparse(entries: usize, buckets: usize) -> bool {
    !is_full(entries * 3, buckets)
}

/// Buckets for so many entries and an eighth more.
pub(crate) fn roomy(entries: usize) -> usize {
    entries * 3 / 2 / SLOTS + 1
}
