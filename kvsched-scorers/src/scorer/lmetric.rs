use crate::scale::fewest_first;
use kvsched_core::{Context, Needs, Scorer};

/// LMetric's rule: the smallest product of prefill and batch,
/// `(queued prefill tokens + new tokens) · (running requests + 1)`. The product is scored by its place between the
/// largest (0) and the smallest (1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Lmetric;

impl Lmetric {
    /// The name in configurations.
    pub const NAME: &'static str = "lmetric-scorer";
}

impl Scorer for Lmetric {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
            let load = cx.load(candidate);
            let tokens =
                load.queued_prefill_tokens as f64 + f64::from(cx.uncached_tokens(candidate));
            *score = tokens * (f64::from(load.running_requests) + 1.0);
        }
        fewest_first(scores);
    }
}
