use crate::ParameterError;
use crate::parameter::positive;
use kvsched_core::{Context, Needs, Scorer};

/// `load-aware-scorer`: `0.5 · (1 − min(q, 128) / 128)` of the `q` waiting requests: 0.5 for an
/// empty queue.
#[derive(Clone, Copy, Debug)]
pub struct LoadAware {
    threshold: f64,
}

impl LoadAware {
    /// The name in configurations.
    pub const NAME: &'static str = "load-aware-scorer";

    /// With llm-d's threshold.
    #[must_use]
    pub const fn new() -> Self {
        Self { threshold: 128.0 }
    }

    /// Sets the queue that scores 0.
    ///
    /// # Errors
    ///
    /// A number that is not positive and finite.
    pub fn threshold(mut self, requests: f64) -> Result<Self, ParameterError> {
        self.threshold = positive(Self::NAME, "threshold", requests)?;
        Ok(self)
    }
}

impl Default for LoadAware {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for LoadAware {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let waiting = f64::from(cx.load(candidate).waiting_requests);
            *score = 0.5 * (1.0 - waiting.min(self.threshold) / self.threshold);
        }
    }
}
