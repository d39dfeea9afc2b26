use crate::ParameterError;
use crate::parameter::quantity;
use crate::scale::{Spread, fewest_requests, longest_match_first, requests};
use kvsched_core::{Context, Needs, Scorer};

/// AIBrix's prefix-cache rule: if the most and the least loaded endpoint are more than 8 requests
/// apart, the least loaded; else the longest match among those with at most
/// `mean + 1 · standard deviation` requests, equal matches by the fewest.
#[derive(Clone, Copy, Debug)]
pub struct Aibrix {
    max_gap: f64,
    deviations: f64,
}

impl Aibrix {
    /// The name in configurations.
    pub const NAME: &'static str = "aibrix-prefix-cache-scorer";

    /// With AIBrix's constants.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_gap: 8.0, deviations: 1.0 }
    }

    /// Sets the gap in requests beyond which the load alone decides, and how many standard
    /// deviations above the mean an endpoint may be.
    ///
    /// # Errors
    ///
    /// A number that is negative or not finite.
    pub fn with(max_gap: f64, deviations: f64) -> Result<Self, ParameterError> {
        Ok(Self {
            max_gap: quantity(Self::NAME, "maxGap", max_gap)?,
            deviations: quantity(Self::NAME, "standardDeviations", deviations)?,
        })
    }
}

impl Default for Aibrix {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for Aibrix {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let spread = Spread::of_requests(cx);
        if spread.max - spread.min > self.max_gap {
            fewest_requests(cx, scores);
        } else {
            let most = spread.mean + self.deviations * spread.deviation;
            longest_match_first(cx, &spread, scores, |c| requests(cx, c) <= most);
        }
    }
}
