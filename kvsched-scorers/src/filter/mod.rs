//! Filters: who may get the request at all.
//!
//! Named as in llm-d's router, whose rules they are, where nothing else is said.

mod lora_affinity;
mod prefix_cache_affinity;
mod utilization;

pub use lora_affinity::LoraAffinity;
pub use prefix_cache_affinity::PrefixCacheAffinity;
pub use utilization::{Metric, Utilization};
