use crate::chunks::Wanted;
use kvsched_core::{BlockHash, EndpointId, Knowledge, Load, PrefixMatches, Rng};
use kvsched_hash::{MemoStats, PrefixMemo};
use kvsched_scorers::{Routed, Scratch};

/// Buffers and randomness of one routing thread.
///
/// A gateway keeps one per worker; once it has seen the fleet and the longest prompt, a decision
/// allocates nothing. It also remembers the last decision, for [`Router::receipt`] and
/// [`Router::record`].
///
/// [`Router::receipt`]: crate::Router::receipt
/// [`Router::record`]: crate::Router::record
#[derive(Debug)]
pub struct RouteScratch {
    pub(crate) hashes: Vec<BlockHash>,
    pub(crate) matches: PrefixMatches,
    /// What was just sent to them besides.
    pub(crate) sent: PrefixMatches,
    /// The prompt's hashes by content, for endpoints whose own are not ours, and who these are.
    pub(crate) content: Vec<BlockHash>,
    pub(crate) by_content: Vec<EndpointId>,
    pub(crate) wanted: Wanted,
    pub(crate) profile: Scratch,
    pub(crate) rng: Rng,
    /// The caller's load rows, brought up to date by the ledger.
    pub(crate) loads: Vec<Load>,
    /// Whether they are those of the last request.
    pub(crate) updated: bool,
    /// By endpoint id, of the last candidates.
    pub(crate) knowledge: Vec<Knowledge>,
    /// Of the last prompt.
    pub(crate) prompt_tokens: u32,
    pub(crate) expected_output_tokens: u32,
    pub(crate) block_size: u32,
    pub(crate) prefix_demand: f64,
    /// With the fingerprint of the router it was made for.
    pub(crate) memo: Option<(PrefixMemo, BlockHash)>,
}

impl RouteScratch {
    /// Empty buffers, and the seed that breaks ties: the same seed and the same calls give the
    /// same decisions.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            hashes: Vec::new(),
            matches: PrefixMatches::new(),
            sent: PrefixMatches::new(),
            content: Vec::new(),
            by_content: Vec::new(),
            wanted: Wanted::default(),
            profile: Scratch::new(),
            rng: Rng::new(seed),
            memo: None,
            loads: Vec::new(),
            updated: false,
            knowledge: Vec::new(),
            prompt_tokens: 0,
            expected_output_tokens: 0,
            block_size: 0,
            prefix_demand: 0.0,
        }
    }

    /// What its memory of prefixes has saved; `None` if it has none, see
    /// [`Router::scratch_with_memo`](crate::Router::scratch_with_memo).
    #[must_use]
    pub fn memo_stats(&self) -> Option<MemoStats> {
        self.memo.as_ref().map(|(memo, _)| memo.stats())
    }

    /// Block hashes of the last prompt, as far as they could be served from a cache.
    #[must_use]
    pub fn hashes(&self) -> &[BlockHash] {
        &self.hashes
    }

    /// Requests a second for the prefix of the last prompt that was routed, as far as the caller
    /// or what was recorded tells.
    #[must_use]
    pub const fn prefix_demand(&self) -> f64 {
        self.prefix_demand
    }

    /// What every endpoint held of the last prompt.
    #[must_use]
    pub fn matches(&self) -> &PrefixMatches {
        &self.matches
    }

    /// Tokens of the last routed prompt's chunks that an endpoint need not compute, by endpoint id; may
    /// be shorter than there are endpoints.
    #[must_use]
    pub fn saved_tokens(&self) -> &[u32] {
        &self.wanted.saved
    }

    /// The last block of the last prompt that anybody holds: what names its prefix.
    pub(crate) fn prefix(&self) -> Option<BlockHash> {
        self.hashes.get((self.matches.longest() as usize).checked_sub(1)?).copied()
    }

    /// What the last prompt brings to `endpoint`.
    pub(crate) fn routed(&self, endpoint: EndpointId) -> Routed {
        let matched = self.matches.blocks(endpoint).saturating_mul(self.block_size);
        let saved = self.wanted.saved.get(endpoint.index()).copied().unwrap_or(0);
        let cached = matched.saturating_add(saved);
        let cached_tokens = cached.min(self.prompt_tokens);
        Routed {
            uncached_tokens: self.prompt_tokens - cached_tokens,
            cached_tokens,
            output_tokens: self.expected_output_tokens,
        }
    }
}
