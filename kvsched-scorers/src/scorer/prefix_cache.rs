use crate::ParameterError;
use crate::parameter::{positive, share};
use kvsched_core::{Context, Needs, Scorer};

/// `prefix-cache-scorer`: the share of the prompt's blocks that the endpoint holds in any
/// tier.
///
/// `(1 − w) · match/total + w · min(1, match · block_size / scale)²`, with `w` = 0 unless
/// [`PrefixCache::with_length`] sets it. A prompt without a full block scores 0 everywhere.
#[derive(Clone, Copy, Debug)]
pub struct PrefixCache {
    length_weight: f64,
    length_scale: f64,
}

impl PrefixCache {
    /// The name in configurations.
    pub const NAME: &'static str = "prefix-cache-scorer";
    /// Default match length, in tokens, at which the length term is full.
    pub const LENGTH_SCALE: f64 = 8192.0;

    /// By the matched share alone.
    #[must_use]
    pub const fn new() -> Self {
        Self { length_weight: 0.0, length_scale: Self::LENGTH_SCALE }
    }

    /// Also by the match's length: `weight` in \[0, 1\] of the score is the square of the
    /// matched tokens over `scale_tokens`, at most 1.
    ///
    /// # Errors
    ///
    /// A weight outside \[0, 1\], a scale that is not positive.
    pub fn with_length(weight: f64, scale_tokens: f64) -> Result<Self, ParameterError> {
        Ok(Self {
            length_weight: share(Self::NAME, "matchLengthWeight", weight)?,
            length_scale: positive(Self::NAME, "matchLengthScaleTokens", scale_tokens)?,
        })
    }
}

impl Default for PrefixCache {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for PrefixCache {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::MATCHES
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let total = f64::from(cx.matches.prompt_blocks().max(1));
        let block = f64::from(cx.request.block_size);
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let matched = f64::from(candidate.matched_blocks);
            let length = (matched * block / self.length_scale).min(1.0);
            *score = (1.0 - self.length_weight) * (matched / total)
                + self.length_weight * (length * length);
        }
    }
}
