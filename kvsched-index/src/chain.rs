//! Chains: runs of consecutive blocks, stored once for the whole fleet.

use crate::run::Run;
use crate::shared::{Pin, Words};
use kvsched_core::{BlockHash, EndpointId};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most blocks of a chain; longer runs continue in another.
pub(crate) const LONGEST: usize = 1 << OFFSET_BITS;
const OFFSET_BITS: u32 = 12;
/// The highest number of a chain; it has 28 bits in a [`Place`].
pub(crate) const MOST_CHAINS: u32 = (1 << 28) - 4 * FIRST_PAGE;
/// Chains of each of the first four pages; every four further pages have twice as many.
const FIRST_PAGE: u32 = 64;
const PAGES: usize = 4 * (28 - (4 * FIRST_PAGE).ilog2()) as usize;
/// Holders that a chain has room for in itself.
pub(crate) const INLINE: usize = 3;

/// Where a block is: a chain, never 0, and an offset within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) chain: u32,
    pub(crate) offset: u16,
}

impl Place {
    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.chain) << OFFSET_BITS | u64::from(self.offset)
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { chain: (bits >> OFFSET_BITS) as u32, offset: (bits as u16) % LONGEST as u16 }
    }
}

/// How much of a chain one endpoint holds, in a word; 0 for nobody.
///
/// `blocks` is what a query needs: the leading blocks that are usable. Where that is not all there
/// is to know (holes, slower tiers, several groups), `detail` says where the rest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) endpoint: EndpointId,
    pub(crate) blocks: u16,
    /// Position in the chain's details, 0 for none.
    pub(crate) detail: u32,
    /// Whether some of it lies in slower tiers than the device.
    pub(crate) is_split: bool,
}

impl Entry {
    const SPLIT: u64 = 1 << 31;

    /// A watermark that says it all.
    #[inline]
    pub(crate) fn plain(endpoint: EndpointId, blocks: usize) -> Self {
        Self { endpoint, blocks: blocks as u16, detail: 0, is_split: false }
    }

    #[inline]
    pub(crate) fn to_bits(self) -> u64 {
        let split = if self.is_split { Self::SPLIT } else { 0 };
        let detail = u64::from(self.detail) | split;
        u64::from(self.endpoint.0) << 48 | u64::from(self.blocks) << 32 | detail
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self {
            endpoint: EndpointId((bits >> 48) as u16),
            blocks: (bits >> 32) as u16,
            detail: (bits % Self::SPLIT) as u32,
            is_split: bits & Self::SPLIT != 0,
        })
    }
}

/// One chain: a cache line that answers most questions about it.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Chain {
    /// The lowest 16 bits: blocks in the directory; further hashes in `hashes` are of blocks forgotten.
    /// Above them, as many places where other chains fork off as fit, the last one first: after so
    /// many blocks. They say where to look, and may be out of date.
    len: AtomicU64,
    /// The hash of block `len - 1`, so that whoever matches all of it need not look further.
    last: AtomicU64,
    /// The first holders.
    pub(crate) inline: [AtomicU64; INLINE],
    /// A hash is written once in the life of a chain.
    pub(crate) hashes: Words,
    /// Further holders, see `holders`.
    pub(crate) more: Words,
    /// See `detail`.
    pub(crate) details: Words,
}

impl Chain {
    const fn new() -> Self {
        Self {
            len: AtomicU64::new(0),
            last: AtomicU64::new(0),
            inline: [const { AtomicU64::new(0) }; INLINE],
            hashes: Words::empty(),
            more: Words::empty(),
            details: Words::empty(),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.len.load(Ordering::Acquire) as u16)
    }

    /// Places where other chains fork off: after so many blocks.
    #[inline]
    pub(crate) fn forks(&self) -> impl Iterator<Item = usize> {
        let forks = self.len.load(Ordering::Relaxed);
        [16, 32, 48].into_iter().map(move |shift| usize::from((forks >> shift) as u16))
    }

    /// Another chain forks off after so many blocks.
    pub(crate) fn fork(&self, blocks: usize) {
        if self.forks().all(|known| known != blocks) {
            let old = self.len.load(Ordering::Relaxed);
            let forks = (old >> 16) << 32 | (blocks as u64) << 16;
            self.len.store(forks | u64::from(old as u16), Ordering::Release);
        }
    }

    /// Says that the first `len` hashes count, the last of them being `last`.
    #[inline]
    pub(crate) fn set_len(&self, len: usize, last: u64) {
        self.last.store(last, Ordering::Relaxed);
        // A chain that has ended is another one when it begins again.
        let forks = if len == 0 { 0 } else { self.len.load(Ordering::Relaxed) >> 16 };
        self.len.store(forks << 16 | len as u64, Ordering::Release);
    }

    #[inline]
    pub(crate) fn hash(&self, offset: usize, pin: &Pin) -> Option<BlockHash> {
        self.hashes.get(pin).get(offset).map(|h| BlockHash(h.load(Ordering::Relaxed)))
    }

    /// Whether `entry` is the only one, and the first.
    #[inline]
    pub(crate) fn is_held_by(&self, entry: Entry, pin: &Pin) -> bool {
        let [first, others @ ..] = &self.inline;
        first.load(Ordering::Relaxed) == entry.to_bits()
            && others.iter().all(|w| w.load(Ordering::Relaxed) == 0)
            && self.more.get(pin).is_empty()
    }

    /// Whether `hash` is the block at `offset`.
    #[inline]
    pub(crate) fn is(&self, offset: usize, hash: BlockHash, pin: &Pin) -> bool {
        let len = self.len();
        if offset + 1 == len && self.last.load(Ordering::Relaxed) == hash.0 {
            return true;
        }
        offset < len && self.hash(offset, pin) == Some(hash)
    }

    /// How many of `prompt`'s hashes follow each other here from `offset` on.
    ///
    /// A hash names everything before it, so equality at the end of a stretch is equality of all of
    /// it: one comparison where the stretch is whole, a search where it is not.
    #[inline]
    pub(crate) fn common(&self, offset: usize, prompt: &[BlockHash], pin: &Pin) -> usize {
        let len = self.len();
        let most = prompt.len().min(len.saturating_sub(offset));
        if most == 0 {
            return 0;
        }
        let end = prompt[most - 1].0;
        let is_end = offset + most == len;
        if is_end && self.last.load(Ordering::Relaxed) == end {
            return most;
        }
        let Some(hashes) = self.hashes.get(pin).get(offset..offset + most) else { return 0 };
        let equal = |i: usize| hashes[i].load(Ordering::Relaxed) == prompt[i].0;
        if !is_end && equal(most - 1) {
            return most;
        }
        // Mostly it ends where another chain forks off, or where what somebody holds ends.
        let (mut low, mut high) = (0, most - 1);
        let held = self.inline.iter().filter_map(|w| Entry::from_bits(w.load(Ordering::Relaxed)));
        for fork in self.forks().chain(held.map(|e| usize::from(e.blocks))) {
            let fork = fork.saturating_sub(offset);
            if low < fork && fork <= high {
                if !equal(fork - 1) {
                    high = fork - 1;
                } else if fork == high || !equal(fork) {
                    return fork;
                } else {
                    low = fork + 1;
                }
            }
        }
        // Invariant: `low` hashes are equal, the one at `high` is not. Eight independent
        // probes a round cost one cache miss, not eight.
        while low < high {
            let step = (high - low).div_ceil(8);
            let probe = |k: usize| low + k * step;
            let hits = (1..9)
                .filter(|&k| probe(k) <= high && equal(probe(k) - 1))
                .fold(0, |hits, k| hits.max(k));
            high = high.min(probe(hits + 1) - 1).max(probe(hits));
            low = probe(hits);
        }
        low
    }
}

/// All chains, and what writers know of each. They stay where they are, and a number is given again
/// after its chain has ended.
#[derive(Debug)]
pub(crate) struct Chains {
    pages: Box<[OnceLock<Page>]>,
}

#[derive(Debug)]
struct Page {
    chains: Box<[Chain]>,
    /// Apart, so that a reader's cache holds chains only.
    runs: Box<[Run]>,
}

impl Chains {
    pub(crate) fn new() -> Self {
        Self { pages: (0..PAGES).map(|_| OnceLock::new()).collect() }
    }

    /// Bytes apart from the pages.
    pub(crate) const fn fixed_bytes() -> usize {
        PAGES * size_of::<OnceLock<Page>>()
    }

    /// Bytes that the room for so many chains takes.
    pub(crate) const fn bytes(chains: usize) -> usize {
        chains * (size_of::<Chain>() + size_of::<Run>())
    }

    #[inline]
    fn position(number: u32) -> (usize, usize) {
        let n = number + 4 * FIRST_PAGE - 1;
        let doubled = n.ilog2() - (4 * FIRST_PAGE).ilog2();
        let page = 4 * doubled + (n / (FIRST_PAGE << doubled)) % 4;
        (page as usize, (n % (FIRST_PAGE << doubled)) as usize)
    }

    /// Chains of a page.
    const fn page_len(page: usize) -> usize {
        (FIRST_PAGE as usize) << (page / 4)
    }

    #[inline]
    fn page(&self, number: u32) -> Option<(&Page, usize)> {
        let (page, i) = Self::position(number.max(1));
        Some((self.pages.get(page)?.get()?, i))
    }

    /// How many chains the room for `number` brings, if it is not there yet.
    pub(crate) fn missing(&self, number: u32) -> Option<usize> {
        let (page, _) = Self::position(number);
        let missing = self.pages.get(page).is_some_and(|page| page.get().is_none());
        missing.then(|| Self::page_len(page))
    }

    /// The chain of that number, if there ever was one.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Chain> {
        let (page, i) = self.page(number)?;
        page.chains.get(i)
    }

    /// What writers know of a chain that there is or was.
    ///
    /// # Panics
    ///
    /// If there never was one.
    #[inline]
    pub(crate) fn run(&self, number: u32) -> &Run {
        match self.page(number) {
            Some((page, i)) => &page.runs[i],
            None => unreachable!("chain {number} was never given out"),
        }
    }

    /// Both.
    #[inline]
    pub(crate) fn with_run(&self, number: u32) -> Option<(&Chain, &Run)> {
        let (page, i) = self.page(number)?;
        Some((page.chains.get(i)?, page.runs.get(i)?))
    }

    /// Makes room for the chain of that number, and those that share its page; returns the bytes
    /// that takes.
    pub(crate) fn create(&self, number: u32) -> usize {
        let (page, _) = Self::position(number);
        let len = Self::page_len(page);
        let mut bytes = 0;
        self.pages[page].get_or_init(|| {
            bytes = Self::bytes(len);
            Page {
                chains: (0..len).map(|_| Chain::new()).collect(),
                runs: (0..len).map(|_| Run::default()).collect(),
            }
        });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{Exclusive, Fresh};

    #[test]
    fn a_chain_is_a_cache_line() {
        assert_eq!(size_of::<Chain>(), 64);
    }

    #[test]
    fn numbers_have_places_of_their_own() {
        let mut next = (0, 0);
        for number in 1..10_000 {
            assert_eq!(Chains::position(number), next, "number {number}");
            next.1 += 1;
            if next.1 == Chains::page_len(next.0) {
                next = (next.0 + 1, 0);
            }
        }
        assert_eq!(Chains::position(MOST_CHAINS), (PAGES - 1, Chains::page_len(PAGES - 1) - 1));
        assert_eq!(Chains::position(MOST_CHAINS + 1).0, PAGES);
    }

    proptest::proptest! {
        #[test]
        fn common_is_the_common_prefix(
            len in 1usize..200, offset in 0usize..200, same in 0usize..200, more in 0usize..50,
            forks in proptest::array::uniform3(0u16..200),
        ) {
            let offset = offset % len;
            let mut own = Exclusive::new(Chain::new());
            let (chain, pin) = own.write();
            let hashes = Fresh::zeroed(len + 3);
            for (i, h) in hashes.iter().enumerate().take(len) {
                h.store(1000 + i as u64, Ordering::Relaxed);
            }
            chain.hashes.replace(Some(hashes), &pin);
            chain.set_len(len, 1000 + len as u64 - 1);
            for &blocks in forks.iter().filter(|&&f| f > 150) {
                chain.fork(usize::from(blocks));
            }
            proptest::prop_assert_eq!(chain.len(), len);
            for (word, &blocks) in chain.inline.iter().zip(&forks) {
                let entry = Entry::plain(EndpointId(1), usize::from(blocks));
                word.store(entry.to_bits(), Ordering::Relaxed);
            }
            let prompt: Vec<_> = (0..same).map(|i| BlockHash(1000 + (offset + i) as u64))
                .take(len - offset)
                .chain((0..more).map(|i| BlockHash(i as u64)))
                .collect();
            proptest::prop_assert_eq!(
                chain.common(offset, &prompt, &pin), same.min(len - offset)
            );
        }
    }
}
