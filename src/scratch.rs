use kvsched_core::{BlockHash, PrefixMatches, Rng};
use kvsched_scorers::Scratch;

/// Buffers and randomness of one routing thread.
///
/// A gateway keeps one per worker; once it has seen the fleet and the longest prompt, a decision
/// allocates nothing. It also remembers the last decision, for [`Router::receipt`] and
/// [`Router::record`].
///
/// [`Router::receipt`]: crate::Router::receipt
/// [`Router::record`]: crate::Router::record
#[derive(Clone, Debug)]
pub struct RouteScratch {
    pub(crate) hashes: Vec<BlockHash>,
    pub(crate) matches: PrefixMatches,
    pub(crate) profile: Scratch,
    pub(crate) rng: Rng,
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
        }
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
