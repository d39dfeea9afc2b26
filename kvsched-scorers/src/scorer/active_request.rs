use crate::ParameterError;
use crate::parameter::{quantity, share};
use kvsched_core::{Context, Needs, Scorer};

/// `active-request-scorer`: 1 where the endpoint is idle, else `(max − n) / max · busy`, with
/// `n` the requests routed there and not yet finished. Idle is `n ≤ 0` and `busy` 1 unless
/// [`ActiveRequest::with`] sets them.
#[derive(Clone, Copy, Debug)]
pub struct ActiveRequest {
    idle: f64,
    busy: f64,
}

impl ActiveRequest {
    /// The name in configurations.
    pub const NAME: &'static str = "active-request-scorer";

    /// With llm-d's defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { idle: 0.0, busy: 1.0 }
    }

    /// Counts an endpoint with at most `idle_threshold` requests as idle, and gives one that is
    /// not at most `max_busy_score`.
    ///
    /// # Errors
    ///
    /// A threshold that is negative or not finite, a score outside \[0, 1\].
    pub fn with(idle_threshold: f64, max_busy_score: f64) -> Result<Self, ParameterError> {
        Ok(Self {
            idle: quantity(Self::NAME, "idleThreshold", idle_threshold)?,
            busy: share(Self::NAME, "maxBusyScore", max_busy_score)?,
        })
    }
}

impl Default for ActiveRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for ActiveRequest {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let count = |c| f64::from(cx.load(c).in_flight_requests);
        let most = cx.candidates.iter().map(count).fold(0.0, f64::max);
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let n = count(candidate);
            *score = if n <= self.idle { 1.0 } else { (most - n) / most * self.busy };
        }
    }
}
