use crate::{LoraId, Time};

/// What an endpoint was doing when its metrics were last read.
///
/// A row of the caller's: filled from the engine's metrics page, a load report, or a
/// simulator. Unknown figures stay at their default, which means an idle endpoint.
/// Negative or non-finite values are read as 0 by the scorers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests that wait for their first scheduling (`vllm:num_requests_waiting`).
    pub waiting_requests: u32,
    /// Requests in the running batch (`vllm:num_requests_running`).
    pub running_requests: u32,
    /// Share of the KV cache in use, 0 to 1 (`vllm:kv_cache_usage_perc`).
    pub kv_usage: f64,
    /// KV cache size in tokens; 0 where unknown.
    pub kv_capacity_tokens: u64,
    /// Prompt tokens routed here and not yet prefilled, without those found in the cache.
    pub queued_prefill_tokens: u64,
    /// The LoRA adapters loaded or waiting here.
    pub lora: LoraLoad,
    /// When these figures were true, on the caller's clock.
    pub observed_at: Time,
}

/// LoRA adapters on an endpoint (`vllm:lora_requests_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoraLoad {
    /// Adapters that running requests use.
    pub active: Vec<LoraId>,
    /// Adapters that waiting requests want.
    pub waiting: Vec<LoraId>,
    /// How many adapters fit at once; 0 where the endpoint serves none.
    pub slots: u32,
}
