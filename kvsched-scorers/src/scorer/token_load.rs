use crate::ParameterError;
use crate::parameter::positive;
use kvsched_core::{Context, Needs, Scorer};

/// `token-load-scorer`: `1 − min(T, threshold) / threshold`, with `T` the prompt tokens routed
/// there and not yet prefilled plus those that this request would add. The threshold is
/// 4,194,304 tokens: 128 requests of 32k.
#[derive(Clone, Copy, Debug)]
pub struct TokenLoad {
    threshold: f64,
}

impl TokenLoad {
    /// The name in configurations.
    pub const NAME: &'static str = "token-load-scorer";

    /// With llm-d's threshold.
    #[must_use]
    pub const fn new() -> Self {
        Self { threshold: 4_194_304.0 }
    }

    /// Sets how many tokens score 0.
    ///
    /// # Errors
    ///
    /// A number that is not positive and finite.
    pub fn threshold(mut self, tokens: f64) -> Result<Self, ParameterError> {
        self.threshold = positive(Self::NAME, "queueThresholdTokens", tokens)?;
        Ok(self)
    }
}

impl Default for TokenLoad {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for TokenLoad {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let queued = cx.load(candidate).queued_prefill_tokens as f64;
            let tokens = queued + f64::from(cx.uncached_tokens(candidate));
            *score = 1.0 - tokens.min(self.threshold) / self.threshold;
        }
    }
}
