use crate::ParameterError;
use crate::parameter::share;
use kvsched_core::{Context, Needs, Scorer, Tier};

/// `precise-prefix-cache-scorer`: as the [`PrefixCache`](super::PrefixCache) scorer, with
/// every block worth the weight of the fastest tier that holds it.
///
/// `Σ weight(tier of block) / total` over the contiguous match. Weights as in llm-d: device 1.0,
/// host 0.8. llm-d counts tiers it does not know like the device; here a disk or shared store
/// is worth 0.5 and any slower tier 0.2 unless [`PrecisePrefixCache::weight`] says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct PrecisePrefixCache {
    weights: [f64; Tier::COUNT],
}

impl PrecisePrefixCache {
    /// The name in configurations.
    pub const NAME: &'static str = "precise-prefix-cache-scorer";

    /// With the default weights.
    #[must_use]
    pub const fn new() -> Self {
        Self { weights: [1.0, 0.8, 0.5, 0.5, 0.2, 0.2, 0.2, 0.2] }
    }

    /// Sets what a block in `tier` is worth, between 0 and 1.
    ///
    /// # Errors
    ///
    /// A weight outside \[0, 1\].
    pub fn weight(mut self, tier: Tier, weight: f64) -> Result<Self, ParameterError> {
        self.weights[tier.index()] = share(Self::NAME, "weight", weight)?;
        Ok(self)
    }
}

impl Default for PrecisePrefixCache {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for PrecisePrefixCache {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::MATCHES
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let total = f64::from(cx.matches.prompt_blocks().max(1));
        let device = self.weights[Tier::DEVICE.index()];
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let mut on_device = candidate.matched_blocks;
            let mut worth = 0.0;
            for run in cx.slow_runs(candidate) {
                let blocks = run.blocks.min(on_device);
                on_device -= blocks;
                worth += self.weights[run.tier.index()] * f64::from(blocks);
            }
            *score = ((worth + device * f64::from(on_device)) / total).min(1.0);
        }
    }
}
