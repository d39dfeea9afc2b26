use crate::{EndpointId, Tier};

/// How much of one prompt every endpoint already holds.
///
/// The answer of an index to one prompt's block hashes: per endpoint the number of
/// *leading* blocks it could reuse (the longest consecutive match from the first block),
/// and which of those lie in a slower tier than the device. The buffers are the caller's:
/// keep one value per thread, and a query allocates nothing once it has seen the fleet.
///
/// ```
/// use kvsched_core::{EndpointId, PrefixMatches, Tier};
/// let mut m = PrefixMatches::new();
/// m.reset(2, 10); // two endpoints, a prompt of ten blocks
/// m.set(EndpointId(1), 6);
/// m.push_slow(EndpointId(1), Tier::HOST, 2);
/// assert_eq!(m.blocks(EndpointId(1)), 6);
/// assert_eq!(m.blocks_on(EndpointId(1), Tier::DEVICE), 4);
/// assert_eq!(m.blocks_on(EndpointId(1), Tier::HOST), 2);
/// assert_eq!(m.blocks(EndpointId(0)), 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PrefixMatches {
    prompt_blocks: u32,
    blocks: Vec<u32>,
    slow: Vec<TierRun>,
}

/// Blocks of an endpoint's match that a tier slower than the device serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TierRun {
    /// Who holds them.
    pub endpoint: EndpointId,
    /// The fastest tier of this endpoint that holds them.
    pub tier: Tier,
    /// How many of the endpoint's matched blocks.
    pub blocks: u32,
}

impl PrefixMatches {
    /// An empty answer about no endpoints.
    #[must_use]
    pub const fn new() -> Self {
        Self { prompt_blocks: 0, blocks: Vec::new(), slow: Vec::new() }
    }

    /// Starts an answer: no matches for endpoints `0..endpoints`, and a prompt of
    /// `prompt_blocks` blocks. O(endpoints); allocates only while growing.
    pub fn reset(&mut self, endpoints: usize, prompt_blocks: u32) {
        self.prompt_blocks = prompt_blocks;
        self.blocks.clear();
        self.blocks.resize(endpoints, 0);
        self.slow.clear();
    }

    /// Makes room for endpoints `0..endpoints`; those that are new hold nothing.
    ///
    /// ```
    /// let mut m = kvsched_core::PrefixMatches::new();
    /// m.cover(2);
    /// m.cover(1);
    /// assert_eq!(m.as_slice(), [0, 0]);
    /// ```
    pub fn cover(&mut self, endpoints: usize) {
        if self.blocks.len() < endpoints {
            self.blocks.resize(endpoints, 0);
        }
    }

    /// Blocks of the prompt that was asked about.
    #[inline]
    #[must_use]
    pub fn prompt_blocks(&self) -> u32 {
        self.prompt_blocks
    }

    /// Leading blocks that `endpoint` holds in any tier; 0 for one the index has not seen.
    #[inline]
    #[must_use]
    pub fn blocks(&self, endpoint: EndpointId) -> u32 {
        self.blocks.get(endpoint.index()).copied().unwrap_or(0)
    }

    /// Those of [`PrefixMatches::blocks`] that `tier` serves, being the fastest tier of
    /// `endpoint` that holds them. O(tier runs).
    #[must_use]
    pub fn blocks_on(&self, endpoint: EndpointId, tier: Tier) -> u32 {
        let mut runs = self.slow.iter().filter(|r| r.endpoint == endpoint);
        if tier == Tier::DEVICE {
            return runs.fold(self.blocks(endpoint), |left, run| left.saturating_sub(run.blocks));
        }
        runs.find(|r| r.tier == tier).map_or(0, |r| r.blocks)
    }

    /// The longest match of any endpoint, in blocks.
    #[must_use]
    pub fn longest(&self) -> u32 {
        self.blocks.iter().copied().max().unwrap_or(0)
    }

    /// Matched blocks by endpoint id.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.blocks
    }

    /// Matched blocks by endpoint id, for whoever fills the answer.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u32] {
        &mut self.blocks
    }

    /// The parts of the matches that are not on the device, at most one row per endpoint and
    /// tier.
    #[inline]
    #[must_use]
    pub fn slow_runs(&self) -> &[TierRun] {
        &self.slow
    }

    /// Says that `endpoint` holds `blocks` leading blocks.
    ///
    /// # Panics
    ///
    /// If `endpoint` is not below the count given to [`PrefixMatches::reset`].
    #[inline]
    pub fn set(&mut self, endpoint: EndpointId, blocks: u32) {
        self.blocks[endpoint.index()] = blocks;
    }

    /// Says that `tier`, not the device, serves `blocks` of `endpoint`'s matched blocks.
    /// Adds to an earlier run of the same endpoint and tier.
    pub fn push_slow(&mut self, endpoint: EndpointId, tier: Tier, blocks: u32) {
        match self.slow.iter_mut().rev().find(|r| r.endpoint == endpoint && r.tier == tier) {
            Some(run) => run.blocks = run.blocks.saturating_add(blocks),
            None => self.slow.push(TierRun { endpoint, tier, blocks }),
        }
    }
}
