use kvsched_core::{BlockHash, PrefixMatches, Rng};
use kvsched_hash::{MemoStats, PrefixMemo};
use kvsched_scorers::Scratch;

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
    pub(crate) profile: Scratch,
    pub(crate) rng: Rng,
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
            profile: Scratch::new(),
            rng: Rng::new(seed),
            memo: None,
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

    /// What every endpoint held of the last prompt.
    #[must_use]
    pub fn matches(&self) -> &PrefixMatches {
        &self.matches
    }
}
