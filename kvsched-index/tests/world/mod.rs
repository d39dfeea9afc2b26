//! A random world: an index, or a part of one, and its oracle, driven by the same operations.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code outside of a test function")]
#![allow(unreachable_pub, dead_code, reason = "each user takes a part of it")]

use kvsched_core::{BlockHash, EndpointId, Group, PrefixMatches, Rng, Tier};
use kvsched_index::naive::Naive;
use kvsched_index::{
    GroupError, GroupRule, Holder, Index, PoolError, Repeat, SharedIndex, StoreError, StoreOutcome,
};
use std::ops::Range;

/// Where choices come from: a generator, or the bytes of a fuzzer.
pub trait Choices {
    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize;
}

impl Choices for Rng {
    fn below(&mut self, n: usize) -> usize {
        Self::below(self, n)
    }
}

/// How varied a world is.
#[derive(Clone, Copy, Debug)]
pub struct Variety {
    pub endpoints: usize,
    pub tiers: usize,
    pub groups: usize,
    /// Prompts that exist, and their longest, in blocks.
    pub prompts: usize,
    pub longest: usize,
    /// Whether groups other than full attention occur.
    pub hybrid: bool,
}

impl Variety {
    pub const ALL: [Self; 6] = [
        Self { endpoints: 2, tiers: 1, groups: 1, prompts: 3, longest: 12, hybrid: false },
        Self { endpoints: 4, tiers: 1, groups: 1, prompts: 8, longest: 200, hybrid: false },
        Self { endpoints: 3, tiers: 3, groups: 1, prompts: 5, longest: 150, hybrid: false },
        Self { endpoints: 3, tiers: 2, groups: 3, prompts: 4, longest: 90, hybrid: true },
        Self { endpoints: 60, tiers: 1, groups: 1, prompts: 3, longest: 40, hybrid: false },
        Self { endpoints: 40, tiers: 2, groups: 2, prompts: 4, longest: 70, hybrid: true },
    ];
}

/// What is compared with the oracle. Every method is as the index's of that name.
pub trait Subject {
    fn store(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError>;
    fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize;
    fn clear(&mut self, endpoint: EndpointId);
    fn remove_endpoint(&mut self, endpoint: EndpointId);
    fn set_pools(&mut self, endpoint: EndpointId, pools: &[EndpointId]) -> Result<(), PoolError>;
    fn set_group(
        &mut self,
        endpoint: EndpointId,
        group: Group,
        rule: GroupRule,
        block_size: u32,
    ) -> Result<(), GroupError>;
    fn holds(&self, holder: Holder, hash: BlockHash) -> bool;
    fn find_matches(&self, hashes: &[BlockHash], out: &mut PrefixMatches);
    /// Whether nobody else's endpoints are in it.
    fn is_whole(&self) -> bool;
}

macro_rules! as_the_index {
    ($t:ty, $index:ident, $is_whole:literal, |$this:ident, $hashes:ident, $out:ident| $find:expr) => {
        impl Subject for $t {
            fn store(
                &mut self,
                holder: Holder,
                parent: Option<BlockHash>,
                hashes: &[BlockHash],
                repeat: Repeat,
            ) -> Result<StoreOutcome, StoreError> {
                $index::store(self, holder, parent, hashes, repeat)
            }
            fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
                $index::remove(self, holder, hashes)
            }
            fn clear(&mut self, endpoint: EndpointId) {
                $index::clear(self, endpoint);
            }
            fn remove_endpoint(&mut self, endpoint: EndpointId) {
                $index::remove_endpoint(self, endpoint);
            }
            fn set_pools(
                &mut self,
                endpoint: EndpointId,
                pools: &[EndpointId],
            ) -> Result<(), PoolError> {
                $index::set_pools(self, endpoint, pools)
            }
            fn set_group(
                &mut self,
                endpoint: EndpointId,
                group: Group,
                rule: GroupRule,
                block_size: u32,
            ) -> Result<(), GroupError> {
                $index::set_group(self, endpoint, group, rule, block_size)
            }
            fn holds(&self, holder: Holder, hash: BlockHash) -> bool {
                $index::holds(self, holder, hash)
            }
            fn find_matches(&self, $hashes: &[BlockHash], $out: &mut PrefixMatches) {
                let $this = self;
                $find
            }
            fn is_whole(&self) -> bool {
                $is_whole
            }
        }
    };
}

/// Some endpoints of an index whose others have other writers.
pub struct Part<'i> {
    pub index: &'i SharedIndex,
    pub endpoints: Vec<EndpointId>,
}

impl std::ops::Deref for Part<'_> {
    type Target = SharedIndex;

    fn deref(&self) -> &SharedIndex {
        self.index
    }
}

as_the_index!(Index, Index, true, |this, hashes, out| Self::find_matches(this, hashes, out));
as_the_index!(Part<'_>, SharedIndex, false, |this, hashes, out| {
    this.index.find_matches_among(hashes, &this.endpoints, out);
});

/// An index and its oracle, and the prompts that stores and queries are cut from.
pub struct World<S> {
    variety: Variety,
    prompts: Vec<Vec<BlockHash>>,
    /// Those that operations are about.
    endpoints: Vec<EndpointId>,
    pub index: S,
    naive: Naive,
    found: PrefixMatches,
    truth: PrefixMatches,
}

fn prompts(variety: Variety, choices: &mut impl Choices) -> Vec<Vec<BlockHash>> {
    let mut prompts: Vec<Vec<BlockHash>> = Vec::new();
    for p in 0..variety.prompts {
        // Half of the prompts fork off from an earlier one.
        let mut prompt = match prompts.len() {
            n if n > 0 && choices.below(2) == 0 => {
                let other = &prompts[choices.below(n)];
                other[..choices.below(other.len() + 1)].to_vec()
            }
            _ => Vec::new(),
        };
        let len = 1 + choices.below(variety.longest);
        // Small and large numbers: 0 is a hash like any other.
        let spread = if p % 2 == 0 { 1 } else { 0x9e37_79b9_7f4a_7c15 };
        for i in prompt.len()..len {
            prompt.push(BlockHash(((p * variety.longest + i) as u64).wrapping_mul(spread)));
        }
        prompts.push(prompt);
    }
    prompts
}

impl World<Index> {
    pub fn new(variety: Variety, choices: &mut impl Choices) -> Self {
        let endpoints = (0..variety.endpoints).map(|e| EndpointId(e as u16)).collect();
        let index = Index::builder().build().unwrap();
        Self::of(variety, endpoints, index, choices)
    }
}

impl<'i> World<Part<'i>> {
    /// Every `of`th endpoint of an index, from the one with number `nth` on. The prompts are those of
    /// the choices.
    pub fn part(
        variety: Variety,
        (nth, of): (usize, usize),
        index: &'i SharedIndex,
        choices: &mut impl Choices,
    ) -> Self {
        let ids = (nth..variety.endpoints.max(of)).step_by(of).map(|e| EndpointId(e as u16));
        let endpoints: Vec<_> = ids.collect();
        let part = Part { index, endpoints: endpoints.clone() };
        Self::of(variety, endpoints, part, choices)
    }
}

impl<S: Subject> World<S> {
    fn of(
        variety: Variety,
        endpoints: Vec<EndpointId>,
        index: S,
        choices: &mut impl Choices,
    ) -> Self {
        Self {
            variety,
            prompts: prompts(variety, choices),
            endpoints,
            index,
            naive: Naive::new(16),
            found: PrefixMatches::new(),
            truth: PrefixMatches::new(),
        }
    }

    fn holder(&self, choices: &mut impl Choices) -> Holder {
        Holder {
            endpoint: self.endpoints[choices.below(self.endpoints.len())],
            tier: Tier::new(choices.below(self.variety.tiers) as u8).unwrap(),
            group: Group(choices.below(self.variety.groups) as u8),
        }
    }

    /// Consecutive blocks of a prompt, as (prompt, from, to).
    fn stretch(&self, choices: &mut impl Choices) -> (usize, usize, usize) {
        let p = choices.below(self.prompts.len());
        let len = self.prompts[p].len();
        match choices.below(4) {
            0 => (p, 0, len),
            1 => {
                let from = choices.below(len);
                (p, from, from + 1)
            }
            2 => (p, 0, choices.below(len + 1)),
            _ => {
                let from = choices.below(len + 1);
                (p, from, from + choices.below(len - from + 1))
            }
        }
    }

    /// One operation on both; panics where they differ.
    pub fn step(&mut self, choices: &mut impl Choices) {
        match choices.below(64) {
            0..24 => self.store(choices),
            24..44 => self.remove(choices),
            44 => {
                let endpoint = self.holder(choices).endpoint;
                self.index.clear(endpoint);
                self.naive.clear(endpoint);
            }
            45 if choices.below(4) == 0 => {
                let endpoint = self.holder(choices).endpoint;
                self.index.remove_endpoint(endpoint);
                self.naive.remove_endpoint(endpoint);
            }
            45 => self.set_pools(choices),
            46 | 47 => self.set_group(choices),
            48..52 => {
                let holder = self.holder(choices);
                let (p, from, _) = self.stretch(choices);
                let hash = self.prompts[p].get(from).copied().unwrap_or(BlockHash(u64::MAX));
                assert_eq!(self.index.holds(holder, hash), self.naive.holds(holder, hash));
            }
            _ => self.query(choices),
        }
    }

    fn store(&mut self, choices: &mut impl Choices) {
        let holder = self.holder(choices);
        let (p, from, to) = self.stretch(choices);
        let repeat = if choices.below(8) == 0 { Repeat::Copy } else { Repeat::Known };
        if choices.below(4) > 0 {
            return self.announce(holder, p, from..to, repeat);
        }
        // A prefill, and its last blocks one by one, as an engine announces what it decodes.
        let decoded = to - choices.below(to - from + 1);
        self.announce(holder, p, from..decoded, repeat);
        (decoded..to).for_each(|at| self.announce(holder, p, at..at + 1, repeat));
    }

    fn announce(&mut self, holder: Holder, p: usize, part: Range<usize>, repeat: Repeat) {
        let prompt = &self.prompts[p];
        let parent = part.start.checked_sub(1).map(|i| prompt[i]);
        let got = self.index.store(holder, parent, &prompt[part.clone()], repeat).unwrap();
        let want = self.naive.store(holder, parent, &prompt[part], repeat);
        assert_eq!((got.stored, got.repeated), (want.stored, want.repeated), "store by {holder}");
    }

    fn remove(&mut self, choices: &mut impl Choices) {
        let holder = self.holder(choices);
        let (p, from, to) = self.stretch(choices);
        let mut gone = self.prompts[p][from..to].to_vec();
        match choices.below(3) {
            0 => gone.reverse(),
            1 => gone.truncate(1 + choices.below(3)),
            _ => {
                for i in (1..gone.len()).rev() {
                    gone.swap(i, choices.below(i + 1));
                }
            }
        }
        let got = self.index.remove(holder, &gone);
        assert_eq!(got, self.naive.remove(holder, &gone), "removal by {holder}");
    }

    fn set_group(&mut self, choices: &mut impl Choices) {
        if !self.variety.hybrid {
            return;
        }
        let Holder { endpoint, group, .. } = self.holder(choices);
        let ratio = 1 + choices.below(3) as u32;
        let rule = match choices.below(6) {
            0 => GroupRule::SlidingWindow { tokens: 1 + choices.below(200) as u32 },
            1 => GroupRule::ChunkedLocal { tokens: 16 * ratio * (1 + choices.below(5) as u32) },
            2 => GroupRule::Recurrent,
            3 => GroupRule::Ignored,
            _ => GroupRule::Full,
        };
        let got = self.index.set_group(endpoint, group, rule, 16 * ratio);
        assert_eq!(got, self.naive.set_group(endpoint, group, rule, 16 * ratio));
    }

    fn set_pools(&mut self, choices: &mut impl Choices) {
        let endpoint = self.holder(choices).endpoint;
        let mut pools: Vec<_> =
            (0..choices.below(3)).map(|_| self.holder(choices).endpoint).collect();
        pools.retain(|&p| p != endpoint);
        self.index.set_pools(endpoint, &pools).unwrap();
        self.naive.set_pools(endpoint, &pools);
    }

    fn query(&mut self, choices: &mut impl Choices) {
        let (p, from, to) = self.stretch(choices);
        let prompt = &self.prompts[p];
        let mut hashes = match choices.below(8) {
            0 => prompt[from..to].to_vec(),
            _ => prompt[..to].to_vec(),
        };
        hashes.extend((0..choices.below(4)).map(|i| BlockHash(u64::MAX - i as u64)));
        self.ask(&hashes);
    }

    /// Asks both the same; panics where they differ.
    pub fn ask(&mut self, hashes: &[BlockHash]) {
        self.index.find_matches(hashes, &mut self.found);
        self.naive.find_matches(hashes, &mut self.truth);
        if self.index.is_whole() {
            assert_eq!(self.found.as_slice(), self.truth.as_slice(), "matches of {hashes:?}");
        } else {
            for &id in &self.endpoints {
                assert_eq!(self.found.blocks(id), self.truth.blocks(id), "{id} of {hashes:?}");
            }
            let of = |m: &PrefixMatches| m.as_slice().iter().sum::<u32>();
            assert_eq!(of(&self.found), of(&self.truth), "others in {hashes:?}");
        }
        assert_eq!(self.found.prompt_blocks(), self.truth.prompt_blocks());
        let rows = |m: &PrefixMatches| {
            let mut rows = m.slow_runs().to_vec();
            rows.sort_unstable();
            rows
        };
        assert_eq!(rows(&self.found), rows(&self.truth), "tiers of {hashes:?}");
    }

    /// Asks for every prompt.
    pub fn ask_all(&mut self) {
        for p in 0..self.prompts.len() {
            let prompt = self.prompts[p].clone();
            self.ask(&prompt);
        }
    }
}
