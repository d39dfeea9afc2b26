use crate::Proximity;
use kvsched_core::{Context, Needs, Scorer};

/// `topology-affinity-scorer`: how near the endpoint is to the one already chosen for another
/// stage of the request. Same host 1, rack 0.2, zone 0.05, region 0.02, else 0; 0 for all
/// where no other was chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct TopologyAffinity;

impl TopologyAffinity {
    /// The name in configurations.
    pub const NAME: &'static str = "topology-affinity-scorer";
}

impl Scorer for TopologyAffinity {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let Some(near) = cx.request.near else {
            scores.fill(0.0);
            return;
        };
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            *score = match Proximity::of(cx, near, candidate.endpoint) {
                Proximity::Host => 1.0,
                Proximity::Rack => 0.2,
                Proximity::Zone => 0.05,
                Proximity::Region => 0.02,
                Proximity::None => 0.0,
            };
        }
    }
}
