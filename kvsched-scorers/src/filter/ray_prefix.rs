use crate::ParameterError;
use crate::parameter::{quantity, share};
use crate::scale::Spread;
use kvsched_core::{Context, Filter, Needs};

/// `ray-prefix-affinity-filter`: whom Ray Serve LLM's prefix-aware router chooses between.
///
/// If the most and the least loaded endpoint are further apart than the imbalance threshold
/// (infinite by default): everybody. Else, if the longest match covers at least 0.1 of the
/// prompt: those who have it. Else: those with the least KV in use. Followed by power of two
/// over the fewest requests.
#[derive(Clone, Copy, Debug)]
pub struct RayPrefix {
    imbalance: f64,
    least_match: f64,
}

impl RayPrefix {
    /// The name in configurations.
    pub const NAME: &'static str = "ray-prefix-affinity-filter";

    /// With Ray's defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { imbalance: f64::INFINITY, least_match: 0.1 }
    }

    /// Sets how many requests apart the loads may be for a match to count.
    ///
    /// # Errors
    ///
    /// A number that is negative or not finite.
    pub fn imbalance(mut self, requests: f64) -> Result<Self, ParameterError> {
        self.imbalance = quantity(Self::NAME, "imbalancedThreshold", requests)?;
        Ok(self)
    }

    /// Sets the share of the prompt that a match must cover to count.
    ///
    /// # Errors
    ///
    /// A share outside \[0, 1\].
    pub fn least_match(mut self, share_of_prompt: f64) -> Result<Self, ParameterError> {
        self.least_match = share(Self::NAME, "matchRateThreshold", share_of_prompt)?;
        Ok(self)
    }
}

impl Default for RayPrefix {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter for RayPrefix {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        let spread = Spread::of_requests(cx);
        if spread.max - spread.min > self.imbalance {
            return;
        }
        let longest = cx.candidates.iter().map(|c| c.matched_blocks).max().unwrap_or(0);
        let enough = self.least_match * f64::from(cx.matches.prompt_blocks());
        let by_match = longest > 0 && f64::from(longest) >= enough;
        let fill = |c| cx.load(c).kv_share();
        let emptiest = cx.candidates.iter().map(fill).fold(f64::INFINITY, f64::min);
        for (candidate, keep) in cx.candidates.iter().zip(keep) {
            *keep = if by_match {
                candidate.matched_blocks == longest
            } else {
                fill(candidate) <= emptiest
            };
        }
    }
}
