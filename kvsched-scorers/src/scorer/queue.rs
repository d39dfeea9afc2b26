use crate::scale::fewest_first;
use kvsched_core::{Context, Needs, Scorer};

/// `queue-scorer`: `(max − q) / (max − min)` of the waiting requests; 1 where all are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue;

impl Queue {
    /// The name in configurations.
    pub const NAME: &'static str = "queue-scorer";
}

impl Scorer for Queue {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
            let load = cx.load(candidate);
            *score = f64::from(load.waiting_requests);
        }
        fewest_first(scores);
    }
}
