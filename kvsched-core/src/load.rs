use crate::{LoraId, Time};

/// What an endpoint was doing when its metrics were last read.
///
/// A row of the caller's: filled from the engine's metrics page, a load report, or a
/// simulator. Unknown figures stay at their default, which means an idle endpoint.
/// Negative or non-finite values are read as 0 by the scorers.
#[derive(Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Load {
    /// Requests that wait for their first scheduling (`vllm:num_requests_waiting`).
    pub waiting_requests: u32,
    /// Requests in the running batch (`vllm:num_requests_running`).
    pub running_requests: u32,
    /// Share of the KV cache in use, 0 to 1 (`vllm:kv_cache_usage_perc`).
    pub kv_usage: f64,
    /// KV cache size in tokens; 0 where unknown.
    pub kv_capacity_tokens: u64,
    /// KV in the cache, in use or kept for reuse, in tokens; 0 where unknown.
    pub resident_tokens: u64,
    /// Prompt tokens routed here and not yet prefilled, without those found in the cache.
    pub queued_prefill_tokens: u64,
    /// Requests routed here and not yet finished, by the router's own count.
    pub in_flight_requests: u32,
    /// Those of them whose first token has not come.
    pub pending_requests: u32,
    /// Prompt tokens computed for requests routed here within the caller's window (Preble's
    /// is three minutes), without those found in the cache.
    pub recent_prefill_tokens: u64,
    /// Prefill speed in tokens a second; 0 where unknown.
    pub prefill_tokens_per_sec: f64,
    /// When a request of which nothing was cached was last routed here.
    pub last_cold_at: Option<Time>,
    /// Of data-parallel ranks that step together: the slowest step of the others, in seconds; 0
    /// for an endpoint by itself.
    pub lock_step_secs: f64,
    /// Requests that the others of those ranks run.
    pub lock_step_requests: u32,
    /// The LoRA adapters loaded or waiting here.
    pub lora: LoraLoad,
    /// When these figures were true, on the caller's clock.
    pub observed_at: Time,
}

impl Load {
    /// [`Load::kv_usage`] as a share: held between 0 and 1, and 0 where it is not finite.
    ///
    /// ```
    /// use kvsched_core::Load;
    /// assert_eq!(Load { kv_usage: -3.0, ..Load::default() }.kv_share(), 0.0);
    /// assert_eq!(Load { kv_usage: f64::NAN, ..Load::default() }.kv_share(), 0.0);
    /// ```
    #[inline]
    #[must_use]
    pub fn kv_share(&self) -> f64 {
        if self.kv_usage.is_finite() { self.kv_usage.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Requests waiting or running, or routed there and not yet finished, whichever is more:
    /// the engine's count is older, ours knows only our own.
    #[inline]
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.waiting_requests.saturating_add(self.running_requests).max(self.in_flight_requests)
    }
}

/// LoRA adapters on an endpoint (`vllm:lora_requests_info`).
#[derive(Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LoraLoad {
    /// Adapters that running requests use.
    pub active: Vec<LoraId>,
    /// Adapters that waiting requests want.
    pub waiting: Vec<LoraId>,
    /// How many adapters fit at once; 0 where the endpoint serves none.
    pub slots: u32,
}

// By hand for `clone_from`, which keeps the lists' memory: load rows are copied for every
// request.

impl Clone for Load {
    fn clone(&self) -> Self {
        Self { lora: self.lora.clone(), ..*self }
    }

    fn clone_from(&mut self, source: &Self) {
        let mut lora = std::mem::take(&mut self.lora);
        lora.clone_from(&source.lora);
        *self = Self { lora, ..*source };
    }
}

impl Clone for LoraLoad {
    fn clone(&self) -> Self {
        Self { active: self.active.clone(), waiting: self.waiting.clone(), slots: self.slots }
    }

    fn clone_from(&mut self, source: &Self) {
        self.active.clone_from(&source.active);
        self.waiting.clone_from(&source.waiting);
        self.slots = source.slots;
    }
}

#[cfg(test)]
mod tests {
    use super::Load;
    use crate::LoraId;

    #[test]
    fn a_copy_over_an_old_row_keeps_its_memory() {
        let mut source = Load { waiting_requests: 3, kv_usage: 0.5, ..Load::default() };
        source.lora.active = vec![LoraId(1), LoraId(2)];
        source.lora.slots = 4;
        let mut row = Load::default();
        row.lora.active = vec![LoraId(9); 8];
        let memory = row.lora.active.as_ptr();
        row.clone_from(&source);
        assert_eq!(row, source);
        assert_eq!(row.lora.active.as_ptr(), memory);
        assert_eq!(source.clone(), source);
    }
}
