//! Scorers: how good each candidate is, from 0 to 1.
//!
//! Named as in llm-d's router and the Gateway API Inference Extension, whose formulas they
//! are, where nothing else is said.

mod kv_cache_utilization;
mod least_request;
mod lora_affinity;
mod precise_prefix_cache;
mod prefix_cache;
mod queue;
mod running_requests;
mod tier_cost;

pub use kv_cache_utilization::KvCacheUtilization;
pub use least_request::LeastRequest;
pub use lora_affinity::LoraAffinity;
pub use precise_prefix_cache::PrecisePrefixCache;
pub use prefix_cache::PrefixCache;
pub use queue::Queue;
pub use running_requests::RunningRequests;
pub use tier_cost::{TierCost, TierPrice};
