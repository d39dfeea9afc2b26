use crate::ParameterError;
use crate::parameter::share;
use crate::scale::{Spread, fewest_first, longest_match_first};
use kvsched_core::{Context, Needs, Scorer};

/// Preble's E2 rule: exploit where more of the prompt is cached than not, else explore.
///
/// If the longest match covers more than half the prompt, the endpoints that have it, by the
/// fewest requests. Else the fewest seconds of prefill: what the endpoint computed in the
/// caller's window ([`Load::recent_prefill_tokens`](kvsched_core::Load), three minutes), what
/// this request adds, and what has to be evicted for it, times the chance that it is asked
/// for again.
#[derive(Clone, Copy, Debug)]
pub struct Preble {
    reuse: f64,
}

impl Preble {
    /// The name in configurations.
    pub const NAME: &'static str = "preble-scorer";

    /// Counts all that is evicted as asked for again.
    #[must_use]
    pub const fn new() -> Self {
        Self { reuse: 1.0 }
    }

    /// Sets the chance that an evicted token is asked for again.
    ///
    /// # Errors
    ///
    /// A share outside \[0, 1\].
    pub fn reuse(mut self, probability: f64) -> Result<Self, ParameterError> {
        self.reuse = share(Self::NAME, "evictedHitRate", probability)?;
        Ok(self)
    }
}

impl Default for Preble {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for Preble {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let longest = cx.candidates.iter().map(|c| c.matched_blocks).max().unwrap_or(0);
        if 2 * u64::from(longest) > u64::from(cx.matches.prompt_blocks()) {
            let spread = Spread::of_requests(cx);
            longest_match_first(cx, &spread, scores, |c| c.matched_blocks == longest);
            return;
        }
        for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
            let load = cx.load(candidate);
            let new = f64::from(cx.uncached_tokens(candidate));
            let capacity = load.kv_capacity_tokens as f64;
            let evicted = if capacity > 0.0 {
                (new - capacity * (1.0 - load.kv_share())).max(0.0)
            } else {
                0.0
            };
            // One speed for all: the sum of tokens orders as the sum of seconds does.
            *score = load.recent_prefill_tokens as f64 + new + self.reuse * evicted;
        }
        fewest_first(scores);
    }
}
