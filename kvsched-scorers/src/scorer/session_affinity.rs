use kvsched_core::{Context, Needs, Scorer};

/// `session-affinity-scorer`: 1 for the endpoint that the session is pinned to, 0 for others.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionAffinity;

impl SessionAffinity {
    /// The name in configurations.
    pub const NAME: &'static str = "session-affinity-scorer";
}

impl Scorer for SessionAffinity {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            *score = f64::from(u8::from(cx.request.pinned == Some(candidate.endpoint)));
        }
    }
}
