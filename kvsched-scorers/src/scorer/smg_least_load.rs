use crate::scale::fewest_first;
use kvsched_core::{Context, Needs, Scorer};

/// SGLang's least-load rule, in seconds:
/// `(queued uncached + in flight) / prefill speed + 0.15 s · k / (1 − k)`, with `k` the share of KV in use. A
/// place between the most (0) and the fewest seconds (1). Tokens queued and in flight are counted
/// together ([`Load::queued_prefill_tokens`](kvsched_core::Load)).
///
/// The speed is the endpoint's own ([`Load::prefill_tokens_per_sec`](kvsched_core::Load)), or
/// 15,928 tokens a second where it is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct SmgLeastLoad;

impl SmgLeastLoad {
    /// The name in configurations.
    pub const NAME: &'static str = "least-load-scorer";
}

impl Scorer for SmgLeastLoad {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
            let load = cx.load(candidate);
            let known = load.prefill_tokens_per_sec;
            let speed = if known.is_finite() && known > 0.0 { known } else { 15_928.0 };
            // Held below 1, where the term has no bound.
            let k = load.kv_share().min(0.999);
            let secs = load.queued_prefill_tokens as f64 / speed + 0.15 * k / (1.0 - k);
            // A speed of almost nothing would make it infinite, which has no place among others.
            *score = secs.min(1e300);
        }
        fewest_first(scores);
    }
}
