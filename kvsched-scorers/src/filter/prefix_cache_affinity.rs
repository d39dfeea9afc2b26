use crate::ParameterError;
use crate::parameter::{positive, quantity, share};
use kvsched_core::{Context, Filter, Needs, Rng};

/// `prefix-cache-affinity-filter`: keeps the endpoints that hold most of the prompt, unless
/// they are much busier than the rest.
///
/// Sticky are those with `match/total ≥` the threshold (0.80). All stay where nobody is sticky, and
/// where the least loaded sticky endpoint would be slower to the first token than the least
/// loaded other by more than the penalty (18 s), an endpoint's time being its queued prefill
/// tokens over the prefill speed (15,928 tokens a second).
#[derive(Clone, Copy, Debug)]
pub struct PrefixCacheAffinity {
    threshold: f64,
    max_penalty_secs: f64,
    prefill_tokens_per_sec: f64,
    exploration: f64,
}

impl PrefixCacheAffinity {
    /// The name in configurations.
    pub const NAME: &'static str = "prefix-cache-affinity-filter";

    /// With llm-d's constants, which are those of a 32B model on two H100s.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            threshold: 0.80,
            max_penalty_secs: 18.0,
            prefill_tokens_per_sec: 15_928.0,
            exploration: 0.0,
        }
    }

    /// Sets the matched share from which an endpoint is sticky; 0 makes the filter idle.
    ///
    /// # Errors
    ///
    /// A share outside \[0, 1\].
    pub fn threshold(mut self, share_of_prompt: f64) -> Result<Self, ParameterError> {
        self.threshold = share(Self::NAME, "affinityThreshold", share_of_prompt)?;
        Ok(self)
    }

    /// Sets by how many seconds the sticky may be slower; 0 means by however many.
    ///
    /// # Errors
    ///
    /// A time that is negative or not finite.
    pub fn max_penalty_secs(mut self, secs: f64) -> Result<Self, ParameterError> {
        self.max_penalty_secs = quantity(Self::NAME, "maxTTFTPenaltyMs", secs)?;
        Ok(self)
    }

    /// Sets how fast an endpoint prefills.
    ///
    /// # Errors
    ///
    /// A speed that is not positive and finite.
    pub fn prefill_tokens_per_sec(mut self, speed: f64) -> Result<Self, ParameterError> {
        self.prefill_tokens_per_sec = positive(Self::NAME, "peakPrefillThroughput", speed)?;
        Ok(self)
    }

    /// Sets the share of requests for which everybody stays, so that other endpoints get to
    /// hold the prompt too.
    ///
    /// # Errors
    ///
    /// A share outside \[0, 1\].
    pub fn exploration(mut self, probability: f64) -> Result<Self, ParameterError> {
        self.exploration = share(Self::NAME, "explorationProbability", probability)?;
        Ok(self)
    }
}

impl Default for PrefixCacheAffinity {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter for PrefixCacheAffinity {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs { matches: true, loads: self.max_penalty_secs > 0.0 }
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        if self.threshold <= 0.0 || cx.candidates.len() < 2 {
            return;
        }
        if self.exploration > 0.0 && Rng::new(cx.seed).unit_f64() < self.exploration {
            return;
        }
        let total = f64::from(cx.matches.prompt_blocks().max(1));
        for (candidate, keep) in cx.candidates.iter().zip(keep.iter_mut()) {
            *keep = f64::from(candidate.matched_blocks) / total >= self.threshold;
        }
        if !keep.contains(&true) || (self.max_penalty_secs > 0.0 && self.too_slow(cx, keep)) {
            keep.fill(true);
        }
    }
}

impl PrefixCacheAffinity {
    /// Whether the best of the sticky is slower than the best of the rest by too much.
    fn too_slow(&self, cx: &Context<'_>, sticky: &[bool]) -> bool {
        let best = |among: bool| {
            let them = cx.candidates.iter().zip(sticky).filter(|&(_, &is)| is == among);
            them.map(|(c, _)| cx.load(c).queued_prefill_tokens).min()
        };
        let (Some(sticky), Some(rest)) = (best(true), best(false)) else { return false };
        let secs = |tokens: u64| tokens as f64 / self.prefill_tokens_per_sec;
        secs(sticky) - secs(rest) > self.max_penalty_secs
    }
}
