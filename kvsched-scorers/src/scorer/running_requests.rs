use crate::scale::fewest_first;
use kvsched_core::{Context, Needs, Scorer};

/// `running-requests-size-scorer`: `(max − r) / (max − min)` of the running requests; 1 where
/// all are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunningRequests;

impl RunningRequests {
    /// The name in configurations.
    pub const NAME: &'static str = "running-requests-size-scorer";
}

impl Scorer for RunningRequests {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
            let load = cx.load(candidate);
            *score = f64::from(load.running_requests);
        }
        fewest_first(scores);
    }
}
