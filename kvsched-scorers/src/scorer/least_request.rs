use crate::scale::fewest_first;
use kvsched_core::{Context, Needs, Scorer};

/// `least-request-scorer`: `(max − n) / (max − min)` of `n = 4 · waiting + running`; 1 where
/// all are equal. The common least-request baseline, in which a request that waits weighs as
/// much as four that run.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastRequest;

impl LeastRequest {
    /// The name in configurations.
    pub const NAME: &'static str = "least-request-scorer";
}

impl Scorer for LeastRequest {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
            let load = cx.load(candidate);
            *score = 4.0 * f64::from(load.waiting_requests) + f64::from(load.running_requests);
        }
        fewest_first(scores);
    }
}
