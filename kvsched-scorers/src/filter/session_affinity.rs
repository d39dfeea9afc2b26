use kvsched_core::{Context, Filter, Needs};

/// `session-affinity-filter`: keeps only the endpoint that the session is pinned to; everybody
/// where it is not a candidate or the session has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionAffinity;

impl SessionAffinity {
    /// The name in configurations.
    pub const NAME: &'static str = "session-affinity-filter";
}

impl Filter for SessionAffinity {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        let Some(pinned) = cx.request.pinned else { return };
        if cx.candidates.iter().any(|c| c.endpoint == pinned) {
            for (candidate, keep) in cx.candidates.iter().zip(keep) {
                *keep = candidate.endpoint == pinned;
            }
        }
    }
}
