use crate::ParameterError;
use crate::cost::Cost;
use crate::parameter::share;
use crate::scorer::Headroom;
use kvsched_core::{Context, Filter, Needs, Rng};

/// `slo-headroom-tier-filter`: keeps the endpoints that are predicted to keep the request's
/// objectives; for one request in a hundred those that are not, so that an endpoint that
/// recovered is found out. Everybody where all do or none does.
#[derive(Clone, Debug)]
pub struct SloHeadroom {
    cost: Cost,
    exploration: f64,
}

impl SloHeadroom {
    /// The name in configurations.
    pub const NAME: &'static str = "slo-headroom-tier-filter";

    /// With llm-d's exploration of 0.01, predicting by `cost`.
    #[must_use]
    pub const fn new(cost: Cost) -> Self {
        Self { cost, exploration: 0.01 }
    }

    /// Sets the share of requests that go to endpoints predicted to miss.
    ///
    /// # Errors
    ///
    /// A share outside \[0, 1\].
    pub fn exploration(mut self, probability: f64) -> Result<Self, ParameterError> {
        self.exploration = share(Self::NAME, "epsilonExploreNeg", probability)?;
        Ok(self)
    }
}

impl Filter for SloHeadroom {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        for (candidate, keep) in cx.candidates.iter().zip(keep.iter_mut()) {
            *keep = Headroom::of(&self.cost, cx, candidate).is_kept();
        }
        if !(keep.contains(&true) && keep.contains(&false)) {
            keep.fill(true);
        } else if Rng::new(!cx.seed).unit_f64() < self.exploration {
            // Not the seed itself: the affinity filter would explore at the same requests.
            keep.iter_mut().for_each(|keep| *keep = !*keep);
        }
    }
}
