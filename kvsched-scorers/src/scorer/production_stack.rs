use crate::scale::{Spread, fewest_first, ratio, requests};
use kvsched_core::{Context, Needs, Scorer};

/// vLLM production-stack's load-aware rule:
/// `matched / prompt − (load − mean) / max(1, mean)`, with the requests of an endpoint as its load. The value is
/// scored by its place between the smallest (0) and the largest (1).
#[derive(Clone, Copy, Debug, Default)]
pub struct ProductionStack;

impl ProductionStack {
    /// The name in configurations.
    pub const NAME: &'static str = "loadaware-scorer";
}

impl Scorer for ProductionStack {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let total = f64::from(cx.matches.prompt_blocks());
        let mean = Spread::of_requests(cx).mean;
        for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
            let excess = (requests(cx, candidate) - mean) / mean.max(1.0);
            *score = excess - ratio(f64::from(candidate.matched_blocks), total);
        }
        fewest_first(scores);
    }
}
