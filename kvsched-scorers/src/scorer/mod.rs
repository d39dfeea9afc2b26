//! Scorers: how good each candidate is, from 0 to 1.
//!
//! Named as in llm-d's router and the Gateway API Inference Extension, whose formulas they
//! are, where nothing else is said.

mod active_request;
mod aibrix;
mod context_length;
mod dynamo;
mod kv_cache_utilization;
mod latency;
mod least_request;
mod lmetric;
mod load_aware;
mod lora_affinity;
mod no_hit_lru;
mod preble;
mod precise_prefix_cache;
mod prefix_cache;
mod production_stack;
mod queue;
mod running_requests;
mod session_affinity;
mod smg_cache_aware;
mod smg_least_load;
mod tier_cost;
mod token_load;
mod topology_affinity;

pub use crate::cost::Cost;
pub use active_request::ActiveRequest;
pub use aibrix::Aibrix;
pub use context_length::ContextLength;
pub use dynamo::Dynamo;
pub use kv_cache_utilization::KvCacheUtilization;
pub use latency::{Headroom, Latency};
pub use least_request::LeastRequest;
pub use lmetric::Lmetric;
pub use load_aware::LoadAware;
pub use lora_affinity::LoraAffinity;
pub use no_hit_lru::NoHitLru;
pub use preble::Preble;
pub use precise_prefix_cache::PrecisePrefixCache;
pub use prefix_cache::PrefixCache;
pub use production_stack::ProductionStack;
pub use queue::Queue;
pub use running_requests::RunningRequests;
pub use session_affinity::SessionAffinity;
pub use smg_cache_aware::SmgCacheAware;
pub use smg_least_load::SmgLeastLoad;
pub use tier_cost::{TierCost, TierPrice};
pub use token_load::TokenLoad;
pub use topology_affinity::TopologyAffinity;
