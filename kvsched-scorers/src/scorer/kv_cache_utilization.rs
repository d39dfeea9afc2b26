use kvsched_core::{Context, Needs, Scorer};

/// `kv-cache-utilization-scorer`: `1 − share of the KV cache in use`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvCacheUtilization;

impl KvCacheUtilization {
    /// The name in configurations.
    pub const NAME: &'static str = "kv-cache-utilization-scorer";
}

impl Scorer for KvCacheUtilization {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            *score = 1.0 - cx.load(candidate).kv_share();
        }
    }
}
