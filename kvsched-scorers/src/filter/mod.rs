//! Filters: who may get the request at all.
//!
//! Named as in llm-d's router, whose rules they are, where nothing else is said.

mod label;
mod lora_affinity;
mod prefix_cache_affinity;
mod ray_prefix;
mod session_affinity;
mod slo_headroom;
mod topology_affinity;
mod utilization;

pub use crate::scorer::ContextLength;
pub use label::{Label, Rule};
pub use lora_affinity::LoraAffinity;
pub use prefix_cache_affinity::PrefixCacheAffinity;
pub use ray_prefix::RayPrefix;
pub use session_affinity::SessionAffinity;
pub use slo_headroom::SloHeadroom;
pub use topology_affinity::TopologyAffinity;
pub use utilization::{Metric, Utilization};
