use crate::Proximity;
use kvsched_core::{Context, Filter, Needs};

/// `topology-affinity-filter`: keeps the endpoints that are near enough to the one already
/// chosen for another stage of the request; everybody if none is, or if nothing is known of
/// where that one is.
#[derive(Clone, Copy, Debug)]
pub struct TopologyAffinity {
    least: Proximity,
}

impl TopologyAffinity {
    /// The name in configurations.
    pub const NAME: &'static str = "topology-affinity-filter";

    /// Keeps endpoints at `least` this near; llm-d's default is the same host.
    #[must_use]
    pub const fn new(least: Proximity) -> Self {
        Self { least }
    }
}

impl Default for TopologyAffinity {
    fn default() -> Self {
        Self::new(Proximity::Host)
    }
}

impl Filter for TopologyAffinity {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        let Some(near) = cx.request.near.filter(|&e| Proximity::is_known(cx, e)) else { return };
        for (candidate, keep) in cx.candidates.iter().zip(keep.iter_mut()) {
            *keep = Proximity::of(cx, near, candidate.endpoint) >= self.least;
        }
        if !keep.contains(&true) {
            keep.fill(true);
        }
    }
}
