//! Where names are looked for: a few bits of each, and a number that says where the rest stands.

/// Shards, so that growing one is a short pause. A power of two: its number says a name's first bits.
const SHARDS: usize = 256;
const SHARD_BITS: u32 = SHARDS.ilog2();
/// Bits of a name that a slot keeps.
const TAG_BITS: u32 = u32::BITS - SHARD_BITS;
/// Slots a segment has on average, before a shard gets twice as many segments. More of them waste less
/// room, and take longer to look through.
const MOST: usize = 96;
/// As many when a shard is written anew.
const ROOMY: usize = 80;

/// Four slots. A place of 0 is an empty one.
#[derive(Clone, Copy, Debug, Default)]
struct Four {
    tags: [u16; 4],
    high_tags: [u8; 4],
    places: [u32; 4],
}

/// Slots without a gap, in no order.
type Segment = Box<[Four]>;

/// Segments of as many slots as they need, chosen by the leading bits of a tag: a power of two of
/// them, or none.
#[derive(Debug, Default)]
struct Shard {
    segments: Box<[Segment]>,
    len: u32,
}

/// A multimap from the first 32 bits of a name to a place that is not 0.
///
/// Seven bytes a slot and hardly any room unused, for a scan through 50 to 100 slots a question.
#[derive(Debug, Default)]
pub(super) struct Slots {
    shards: Box<[Shard]>,
    len: usize,
    bytes: usize,
}

/// The shard and the tag of a name's first 32 bits.
#[inline]
fn parts(head: u32) -> (usize, u32) {
    ((head >> TAG_BITS) as usize, head & ((1 << TAG_BITS) - 1))
}

/// Which of so many segments has a tag.
#[inline]
fn segment_of(tag: u32, segments: usize) -> usize {
    ((u64::from(tag) * segments as u64) >> TAG_BITS) as usize
}

impl Four {
    /// Whether a slot is in use and has this tag, for each.
    #[inline]
    fn tagged(&self, tag: u32) -> [bool; 4] {
        let (low, high) = (tag as u16, (tag >> 16) as u8);
        std::array::from_fn(|i| {
            (self.tags[i] == low) & (self.high_tags[i] == high) & (self.places[i] != 0)
        })
    }

    fn set(&mut self, i: usize, tag: u32, place: u32) {
        self.tags[i] = tag as u16;
        self.high_tags[i] = (tag >> 16) as u8;
        self.places[i] = place;
    }

    /// Tags and places of the slots in use.
    fn each(&self) -> impl Iterator<Item = (u32, u32)> {
        (0..4)
            .filter(|&i| self.places[i] != 0)
            .map(|i| (u32::from(self.high_tags[i]) << 16 | u32::from(self.tags[i]), self.places[i]))
    }
}

/// Adds a slot; whether that took more room.
fn push(segment: &mut Segment, tag: u32, place: u32) -> bool {
    if let Some(last) = segment.last_mut()
        && let Some(i) = last.places.iter().position(|&place| place == 0)
    {
        last.set(i, tag, place);
        return false;
    }
    let mut four = Four::default();
    four.set(0, tag, place);
    let mut longer = std::mem::take(segment).into_vec();
    longer.reserve_exact(1);
    longer.push(four);
    *segment = longer.into();
    true
}

impl Shard {
    fn bytes(&self) -> usize {
        self.segments.len() * size_of::<Segment>()
            + self.segments.iter().map(|s| s.len() * size_of::<Four>()).sum::<usize>()
    }

    /// The shard of these slots alone.
    fn of(slots: &[(u32, u32)]) -> Self {
        if slots.is_empty() {
            return Self::default();
        }
        let mut counts = vec![0usize; slots.len().div_ceil(ROOMY).next_power_of_two()];
        let segments = counts.len();
        for &(tag, _) in slots {
            counts[segment_of(tag, segments)] += 1;
        }
        let empty = |count: &usize| vec![Four::default(); count.div_ceil(4)].into_boxed_slice();
        let mut shard =
            Self { segments: counts.iter().map(empty).collect(), len: slots.len() as u32 };
        for &(tag, place) in slots {
            let at = segment_of(tag, segments);
            counts[at] -= 1;
            shard.segments[at][counts[at] / 4].set(counts[at] % 4, tag, place);
        }
        shard
    }
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The segment where a name with these first bits belongs.
    #[inline]
    fn segment(&self, head: u32) -> Option<(&Segment, u32)> {
        let (shard, tag) = parts(head);
        let segments = &self.shards.get(shard)?.segments;
        Some((segments.get(segment_of(tag, segments.len()))?, tag))
    }

    /// The first place under these bits that `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, head: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (segment, tag) = self.segment(head)?;
        for four in segment {
            let tagged = four.tagged(tag);
            if tagged == [false; 4] {
                continue;
            }
            for i in (0..4).filter(|&i| tagged[i]) {
                if is_it(four.places[i]) {
                    return Some(four.places[i]);
                }
            }
        }
        None
    }

    /// Puts another place where `old` is.
    pub(super) fn replace(&mut self, head: u32, old: u32, new: u32) {
        let (shard, tag) = parts(head);
        let Some(segments) = self.shards.get_mut(shard).map(|s| &mut s.segments) else { return };
        let at = segment_of(tag, segments.len());
        let fours = segments.get_mut(at).into_iter().flatten();
        if let Some(place) = fours.flat_map(|four| &mut four.places).find(|place| **place == old) {
            *place = new;
        }
    }

    /// Adds a place that is not 0.
    pub(super) fn add(&mut self, head: u32, place: u32) {
        let (shard, tag) = parts(head);
        if self.shards.is_empty() {
            self.shards = (0..SHARDS).map(|_| Shard::default()).collect();
            self.bytes = SHARDS * size_of::<Shard>();
        }
        let shard = &mut self.shards[shard];
        if shard.len as usize >= MOST * shard.segments.len() {
            let mut slots: Vec<_> = shard.segments.iter().flatten().flat_map(Four::each).collect();
            slots.push((tag, place));
            self.bytes -= shard.bytes();
            *shard = Shard::of(&slots);
            self.bytes += shard.bytes();
        } else {
            let at = segment_of(tag, shard.segments.len());
            let grown = push(&mut shard.segments[at], tag, place);
            self.bytes += if grown { size_of::<Four>() } else { 0 };
            shard.len += 1;
        }
        self.len += 1;
    }

    /// Every first bits and place.
    pub(super) fn each(&self) -> impl Iterator<Item = (u32, u32)> {
        (0u32..).zip(&self.shards).flat_map(|(number, shard)| {
            let slots = shard.segments.iter().flatten().flat_map(Four::each);
            slots.map(move |(tag, place)| (number << TAG_BITS | tag, place))
        })
    }

    /// Leaves those that `keep` accepts, and gives back what that makes room for.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        let mut kept = Vec::new();
        for shard in &mut self.shards {
            kept.clear();
            let slots = shard.segments.iter().flatten().flat_map(Four::each);
            kept.extend(slots.filter(|&(_, place)| keep(place)));
            let gone = shard.len as usize - kept.len();
            if gone > 0 {
                self.len -= gone;
                self.bytes -= shard.bytes();
                *shard = Shard::of(&kept);
                self.bytes += shard.bytes();
            }
        }
        if self.len == 0 {
            *self = Self::default();
        }
    }

    /// Panics where lengths, bytes or places of slots are not what they should be.
    pub(super) fn validate(&self) {
        let mut len = 0;
        for shard in &self.shards {
            let mut in_shard = 0;
            for (at, segment) in shard.segments.iter().enumerate() {
                for (tag, _) in segment.iter().flat_map(Four::each) {
                    assert_eq!(segment_of(tag, shard.segments.len()), at, "segment of {tag:x}");
                    in_shard += 1;
                }
                let full = segment.split_last().map_or(&[][..], |(_, full)| full);
                assert!(full.iter().all(|four| !four.places.contains(&0)), "a gap");
            }
            assert_eq!(in_shard, shard.len as usize, "slots of a shard");
            len += in_shard;
        }
        assert_eq!(len, self.len, "slots");
        let shards = self.shards.len() * size_of::<Shard>();
        let bytes = shards + self.shards.iter().map(Shard::bytes).sum::<usize>();
        assert_eq!(bytes, self.bytes, "bytes of slots");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn four_slots_take_28_bytes() {
        assert_eq!(size_of::<Four>(), 28);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

        /// First bits that crowd into one shard, one segment or one slot, beside those that do not.
        #[test]
        fn slots_are_a_map(
            ops in proptest::collection::vec((0u8..16, 0u32..900), 0..3000), crowd in 0u32..4,
        ) {
            let head = |n: u32| match crowd {
                0 => n.wrapping_mul(0x9e37_79b9),
                1 => n,
                2 => n << 20,
                _ => u32::MAX - n % 3,
            };
            let (mut slots, mut truth) = (Slots::default(), HashMap::new());
            let mut next = 1;
            for (op, n) in ops {
                let place = truth.get(&n).copied();
                let found = slots.find(head(n), |p| Some(p) == place);
                proptest::prop_assert_eq!(found, place);
                if op == 15 {
                    truth.retain(|_, place| *place % 7 != n % 7);
                    slots.retain(|place| place % 7 != n % 7);
                } else {
                    match place {
                        Some(old) => slots.replace(head(n), old, next),
                        None => slots.add(head(n), next),
                    }
                    truth.insert(n, next);
                    next += 1;
                }
                proptest::prop_assert_eq!(slots.len(), truth.len());
            }
            slots.validate();
            let mut all: Vec<_> = slots.each().collect();
            let mut want: Vec<_> = truth.iter().map(|(&n, &place)| (head(n), place)).collect();
            all.sort_unstable();
            want.sort_unstable();
            proptest::prop_assert_eq!(all, want);
            slots.retain(|_| false);
            proptest::prop_assert_eq!(slots.bytes(), 0);
        }
    }
}
