//! What a run leaves behind.

use crate::engine::Metrics;
use crate::router::Effort;

/// What became of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// When the client sent it, seconds.
    pub sent: f64,
    /// When its first token was back.
    pub first_token: f64,
    /// When its last token was back.
    pub done: f64,
    /// Who served it.
    pub endpoint: u16,
    /// Prompt tokens that the engine found in its caches.
    pub cached_tokens: u32,
    /// Prompt tokens that the router expected it to find.
    pub expected_tokens: u32,
    /// Whether it was refused because no engine can hold it.
    pub refused: bool,
    /// How often it was sent anew because its endpoint had crashed.
    pub retries: u16,
}

/// One look at one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When, seconds.
    pub at: f64,
    /// Where.
    pub endpoint: u16,
    /// What its metrics page showed.
    pub metrics: Metrics,
    /// Blocks in slower tiers.
    pub tier_blocks: u32,
}

/// A finished run.
#[derive(Debug, Default)]
pub struct Run {
    /// By job.
    pub outcomes: Vec<Outcome>,
    /// When each stage began and ended, seconds.
    pub stages: Vec<(f64, f64)>,
    /// Looks at the endpoints.
    pub samples: Vec<Sample>,
    /// Prompt tokens computed, recomputation after preemption included.
    pub prefill_tokens: u64,
    /// Prompt tokens computed by endpoint.
    pub prefill_by_endpoint: Vec<u64>,
    /// Preemptions.
    pub preemptions: u64,
    /// Blocks loaded from slower tiers.
    pub loaded_blocks: u64,
    /// Events that the library could not read or apply: none, unless something is broken.
    pub lost_events: u64,
    /// Messages of engines that were lost on the way, and replays that were asked for.
    pub lost_messages: u64,
    pub replays: u64,
    /// What the library's part took.
    pub effort: Effort,
}

impl Run {
    /// The busiest endpoint's prefill over the mean.
    pub fn prefill_spread(&self) -> f64 {
        let max = self.prefill_by_endpoint.iter().max().copied().unwrap_or(0);
        let mean = self.prefill_tokens as f64 / self.prefill_by_endpoint.len().max(1) as f64;
        max as f64 / mean.max(1.0)
    }
}
