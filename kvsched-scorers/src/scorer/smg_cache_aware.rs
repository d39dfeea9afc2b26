use crate::ParameterError;
use crate::parameter::{quantity, share};
use crate::scale::{Spread, fewest_requests, longest_match_first, ratio};
use kvsched_core::{Context, Needs, Scorer};

/// SGLang's cache-aware rule. The fleet is imbalanced if its most loaded endpoint has more than 32
/// requests more than the least loaded, and more than 1.1 times as many: then the least
/// loaded. Else the longest match, equal ones by the fewest requests.
///
/// [`SmgCacheAware::approximate`] is its rule for matches that are only guessed: a longest
/// match of at most half the prompt is not trusted, and the least loaded taken.
#[derive(Clone, Copy, Debug)]
pub struct SmgCacheAware {
    absolute: f64,
    relative: f64,
    trusted: f64,
}

impl SmgCacheAware {
    /// The name in configurations.
    pub const NAME: &'static str = "cache-aware-scorer";

    /// With SGLang's constants, for exact matches.
    #[must_use]
    pub const fn new() -> Self {
        Self { absolute: 32.0, relative: 1.1, trusted: 0.0 }
    }

    /// With SGLang's constants, for guessed matches: only a match of more than half the prompt
    /// counts.
    #[must_use]
    pub const fn approximate() -> Self {
        Self { trusted: 0.5, ..Self::new() }
    }

    /// Sets by how many requests, and by what factor, the loads must be apart for the fleet to
    /// be imbalanced.
    ///
    /// # Errors
    ///
    /// A number that is negative or not finite.
    pub fn imbalance(mut self, absolute: f64, relative: f64) -> Result<Self, ParameterError> {
        self.absolute = quantity(Self::NAME, "balanceAbsThreshold", absolute)?;
        self.relative = quantity(Self::NAME, "balanceRelThreshold", relative)?;
        Ok(self)
    }

    /// Sets the share of the prompt that a match must exceed to count.
    ///
    /// # Errors
    ///
    /// A share outside \[0, 1\].
    pub fn trusted(mut self, share_of_prompt: f64) -> Result<Self, ParameterError> {
        self.trusted = share(Self::NAME, "cacheThreshold", share_of_prompt)?;
        Ok(self)
    }
}

impl Default for SmgCacheAware {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for SmgCacheAware {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let spread = Spread::of_requests(cx);
        let imbalanced =
            spread.max - spread.min > self.absolute && spread.max > self.relative * spread.min;
        let longest = cx.candidates.iter().map(|c| c.matched_blocks).max().unwrap_or(0);
        let trusted = ratio(longest.into(), cx.matches.prompt_blocks().into()) > self.trusted;
        if imbalanced || !trusted {
            fewest_requests(cx, scores);
        } else {
            longest_match_first(cx, &spread, scores, |_| true);
        }
    }
}
