//! What a watermark cannot say: which blocks of a chain an endpoint holds, tier by tier and group
//! by group.
//!
//! A chain's details are one slice of words. The first word counts the words in use; records
//! follow: a header, then per plane (a tier of a group) its number and a bitmap of the chain's
//! blocks. Records stay where they are until they are freed.

use crate::chain::Entry;
use crate::shared::{Fresh, Words, WritePin};
use kvsched_core::{EndpointId, Group, Tier};
use std::sync::atomic::{AtomicU64, Ordering};

const BITS: usize = u64::BITS as usize;
/// The endpoint of a record that nobody uses: no endpoint has this id.
const FREE: u16 = u16::MAX;

/// A tier of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plane(u16);

impl Plane {
    pub(crate) fn new(tier: Tier, group: Group) -> Self {
        Self(u16::from(group.0) * Tier::COUNT as u16 + tier.index() as u16)
    }

    fn group(self) -> u16 {
        self.0 / Tier::COUNT as u16
    }

    fn tier(self) -> usize {
        usize::from(self.0) % Tier::COUNT
    }
}

/// The header of a record: whose it is and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    endpoint: u16,
    /// Groups that must agree.
    groups: u16,
    planes: u16,
    /// Words a bitmap.
    width: u16,
}

impl Header {
    fn to_bits(self) -> u64 {
        [self.endpoint, self.groups, self.planes, self.width]
            .iter()
            .fold(0, |bits, &part| bits << 16 | u64::from(part))
    }

    fn from_bits(bits: u64) -> Self {
        let part = |i: u32| (bits >> (16 * i)) as u16;
        Self { endpoint: part(3), groups: part(2), planes: part(1), width: part(0) }
    }

    fn words(self) -> usize {
        1 + usize::from(self.planes) * (1 + usize::from(self.width))
    }
}

/// One endpoint's record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail<'p> {
    header: Header,
    words: &'p [AtomicU64],
}

impl<'p> Detail<'p> {
    /// The record of `entry`; `None` if it has none, or no longer the one it had.
    pub(crate) fn of(entry: Entry, details: &'p [AtomicU64]) -> Option<Self> {
        let at = entry.detail as usize;
        if at == 0 {
            return None;
        }
        let header = Header::from_bits(details.get(at)?.load(Ordering::Acquire));
        let words = details.get(at..at + header.words())?;
        (header.endpoint == entry.endpoint.0).then_some(Self { header, words })
    }

    pub(crate) fn planes(self) -> impl Iterator<Item = (Plane, &'p [AtomicU64])> {
        let row = 1 + usize::from(self.header.width);
        self.words[1..]
            .chunks_exact(row)
            .map(|row| (Plane(row[0].load(Ordering::Relaxed) as u16), &row[1..]))
    }

    pub(crate) fn plane(self, plane: Plane) -> Option<&'p [AtomicU64]> {
        self.planes().find(|(p, _)| *p == plane).map(|(_, bits)| bits)
    }

    /// The bitmap of `plane`, if there is no other and no other group need agree.
    #[inline]
    pub(crate) fn only(self, plane: Plane) -> Option<&'p [AtomicU64]> {
        let alone = self.header.planes == 1 && self.header.groups == 1;
        (alone && self.words[1].load(Ordering::Relaxed) == u64::from(plane.0))
            .then(|| &self.words[2..])
    }

    /// Whether any block lies in a slower tier than the device.
    pub(crate) fn is_split(self) -> bool {
        self.planes()
            .filter(|(plane, _)| plane.tier() > 0)
            .any(|(_, bits)| bits.iter().any(|w| w.load(Ordering::Relaxed) != 0))
    }

    /// Whether any block is held in `group`.
    pub(crate) fn holds_any(self, group: Group) -> bool {
        self.planes()
            .filter(|(plane, _)| plane.group() == u16::from(group.0))
            .any(|(_, bits)| bits.iter().any(|w| w.load(Ordering::Relaxed) != 0))
    }

    /// 64 blocks' worth of "every group has the block in some tier".
    fn usable(self, word: usize) -> u64 {
        if self.header.planes == 1 && self.header.groups == 1 {
            return load(&self.words[2..], word);
        }
        let mut all = u64::MAX;
        let mut groups = 0;
        for (i, (plane, bits)) in self.planes().enumerate() {
            let group = plane.group();
            if self.planes().take(i).any(|(p, _)| p.group() == group) {
                continue;
            }
            groups += 1;
            let others = self.planes().skip(i + 1).filter(|(p, _)| p.group() == group);
            all &= others.fold(load(bits, word), |any, (_, bits)| any | load(bits, word));
        }
        if groups == self.header.groups { all } else { 0 }
    }

    /// How many of the `most` blocks from `offset` on are usable without a gap.
    pub(crate) fn leading(self, offset: usize, most: usize) -> usize {
        let mut found = 0;
        while found < most {
            let at = offset + found;
            let ones = (self.usable(at / BITS) >> (at % BITS)).trailing_ones() as usize;
            found += ones;
            if ones < BITS - at % BITS {
                break;
            }
        }
        found.min(most)
    }

    /// Adds to `counts`, by tier, the `blocks` usable blocks from `offset` on. A block counts for
    /// the fastest tier that has it, and if groups differ, for the slowest of theirs.
    pub(crate) fn by_tier(self, offset: usize, blocks: usize, counts: &mut [u32; Tier::COUNT]) {
        let end = offset + blocks;
        for word in offset / BITS..end.div_ceil(BITS) {
            let mut left = range_mask(word, offset, end);
            for (tier, count) in counts.iter_mut().enumerate() {
                let all = left & self.in_tiers(word, tier);
                *count += all.count_ones();
                left &= !all;
            }
        }
    }

    /// 64 blocks' worth of "every group there is has the block in this tier or a faster one".
    fn in_tiers(self, word: usize, tier: usize) -> u64 {
        let mut all = u64::MAX;
        for (i, (plane, _)) in self.planes().enumerate() {
            let group = plane.group();
            if self.planes().take(i).any(|(p, _)| p.group() == group) {
                continue;
            }
            all &= self
                .planes()
                .filter(|(p, _)| p.group() == group && p.tier() <= tier)
                .fold(0, |any, (_, bits)| any | load(bits, word));
        }
        all
    }

    /// 64 blocks' worth of "usable, in this tier or a faster one".
    pub(crate) fn within(self, word: usize, tier: Tier) -> u64 {
        self.usable(word) & self.in_tiers(word, tier.index())
    }

    /// One more than the last block held in any plane.
    pub(crate) fn extent(self) -> usize {
        (0..usize::from(self.header.width))
            .rev()
            .find_map(|word| {
                let any = self.planes().fold(0, |any, (_, bits)| any | load(bits, word));
                (any != 0).then(|| (word + 1) * BITS - any.leading_zeros() as usize)
            })
            .unwrap_or(0)
    }

    /// Whether a watermark can say all there is to say, if there is no hole: everything is in
    /// `plane`, and no other group need agree.
    pub(crate) fn is_plain(self, plane: Plane) -> bool {
        let mut others = self.planes().filter(|(p, _)| *p != plane);
        self.header.groups == 1
            && others.all(|(_, bits)| bits.iter().all(|w| w.load(Ordering::Relaxed) == 0))
    }
}

#[inline]
fn load(bits: &[AtomicU64], word: usize) -> u64 {
    bits.get(word).map_or(0, |w| w.load(Ordering::Acquire))
}

/// The bits of word `word` that are of blocks `from..to`.
pub(crate) fn range_mask(word: usize, from: usize, to: usize) -> u64 {
    let first = word * BITS;
    let below = |end: usize| match end.saturating_sub(first) {
        n if n >= BITS => u64::MAX,
        n => (1 << n) - 1,
    };
    below(to) & !below(from)
}

/// Whether the bitmap has `block`.
pub(crate) fn has(bits: &[AtomicU64], block: usize) -> bool {
    load(bits, block / BITS) >> (block % BITS) & 1 == 1
}

/// Sets the bits of blocks `from..to`; returns how many were clear.
pub(crate) fn set(bits: &[AtomicU64], from: usize, to: usize) -> usize {
    let mut added = 0;
    for word in from / BITS..to.div_ceil(BITS) {
        let old = load(bits, word);
        let new = old | range_mask(word, from, to);
        added += (new ^ old).count_ones() as usize;
        if let Some(w) = bits.get(word) {
            w.store(new, Ordering::Release);
        }
    }
    added
}

/// Whether the bitmap has a block after `block`.
pub(crate) fn any_after(bits: &[AtomicU64], block: usize) -> bool {
    let (word, bit) = (block / BITS, block % BITS);
    load(bits, word) >> bit > 1
        || bits.iter().skip(word + 1).any(|w| w.load(Ordering::Relaxed) != 0)
}

/// Clears the bit of `block`; whether it was set.
pub(crate) fn clear(bits: &[AtomicU64], block: usize) -> bool {
    let old = load(bits, block / BITS);
    let bit = 1 << (block % BITS);
    if let Some(w) = bits.get(block / BITS) {
        w.store(old & !bit, Ordering::Release);
    }
    old & bit != 0
}

/// Clears the bits of all blocks from `block` on.
pub(crate) fn clear_from(bits: &[AtomicU64], block: usize) {
    for (word, w) in bits.iter().enumerate().skip(block / BITS) {
        let kept = load(bits, word) & range_mask(word, 0, block);
        w.store(kept, Ordering::Release);
    }
}

/// The writer's side of a chain's details.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Details<'a> {
    pub(crate) words: &'a Words,
    pub(crate) pin: &'a WritePin,
}

impl Details<'_> {
    /// Makes a record for `endpoint` with room for `blocks` blocks and for `plane` beside the planes
    /// of `old`, which is copied and stays. Returns its position.
    pub(crate) fn create(
        self,
        endpoint: EndpointId,
        groups: u16,
        plane: Plane,
        blocks: usize,
        old: Option<Detail<'_>>,
    ) -> u32 {
        let planes = || {
            let old = old.into_iter().flat_map(Detail::planes);
            // A group that need not agree any more must not be asked.
            let empty = |bits: &[AtomicU64]| bits.iter().all(|w| w.load(Ordering::Relaxed) == 0);
            old.filter(move |(p, bits)| *p != plane && !empty(bits))
        };
        let header = Header {
            endpoint: endpoint.0,
            groups,
            planes: planes().count() as u16 + 1,
            width: blocks.div_ceil(BITS) as u16,
        };
        let at = self.allocate(header);
        let words = &self.words.get(self.pin)[at..];
        let mine = old.and_then(|o| o.plane(plane));
        let rows = words[1..].chunks_exact(1 + usize::from(header.width));
        for ((plane, bits), row) in planes().chain([(plane, mine.unwrap_or(&[]))]).zip(rows) {
            row[0].store(u64::from(plane.0), Ordering::Relaxed);
            for (i, word) in row[1..].iter().enumerate() {
                word.store(load(bits, i), Ordering::Relaxed);
            }
        }
        words[0].store(header.to_bits(), Ordering::Release);
        at as u32
    }

    /// Words for a record like `header`: those of a freed one like it, or new ones.
    fn allocate(self, header: Header) -> usize {
        let words = self.words.get(self.pin);
        let used = words.first().map_or(1, |w| w.load(Ordering::Relaxed) as usize).max(1);
        let mut at = 1;
        while at < used {
            let there = Header::from_bits(words[at].load(Ordering::Relaxed));
            if there.endpoint == FREE && there.words() == header.words() {
                return at;
            }
            at += there.words();
        }
        let needed = used + header.words();
        if needed > words.len() {
            let spare = if used == 1 { 0 } else { needed / 4 };
            let new = Fresh::zeroed(needed + spare);
            for (old, new) in words.iter().zip(new.iter()) {
                new.store(old.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            self.words.replace(Some(new), self.pin);
        }
        let words = self.words.get(self.pin);
        words[0].store(needed as u64, Ordering::Relaxed);
        used
    }

    /// Gives the record at `at` back.
    pub(crate) fn free(self, at: u32) {
        let words = self.words.get(self.pin);
        if let Some(word) = words.get(at as usize) {
            let header = Header::from_bits(word.load(Ordering::Relaxed));
            word.store(Header { endpoint: FREE, ..header }.to_bits(), Ordering::Release);
        }
        let used = words.first().map_or(1, |w| w.load(Ordering::Relaxed) as usize);
        let mut at = 1;
        while at < used {
            let there = Header::from_bits(words[at].load(Ordering::Relaxed));
            if there.endpoint != FREE {
                return;
            }
            at += there.words();
        }
        self.words.replace(None, self.pin);
    }
}
