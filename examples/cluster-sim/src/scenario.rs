//! Workloads with the cluster that each is served by.

use crate::cluster::{Change, ClusterSpec, Role, Sleep};
use crate::engine::{EngineSpec, TierSpec};
use crate::workload::{Workload, mix};
use kvsched_core::Tier;
use std::num::NonZeroUsize;

/// The scenarios that [`by_name`] knows, with what they are. The first eight are served by equal
/// endpoints without anything behind the device.
pub const NAMES: [(&str, &str); 14] = [
    ("customers", "the published customers × users, at 20, 30 and 8 requests a second"),
    ("overcommitted", "the same with 260 customers: 127% of the cluster's KV"),
    ("chat", "conversations of several turns over a shared system prompt"),
    ("agents", "few long contexts that grow by little; together 175% of the cluster's KV"),
    ("rag", "two retrieved documents in any order after a shared instruction"),
    ("burst", "calm traffic, and bursts of one new long prompt"),
    ("one-shot", "prompts that share nothing: caching cannot help"),
    ("tenants", "tenants of which a few at a time are active, in turn"),
    ("tiers", "three times as many tenants, with host memory, disk and a shared store behind"),
    ("packets", "rag with documents whose KV is reused at any position"),
    ("adapters", "24 LoRA adapters with a prompt each, 4 slots an endpoint"),
    ("mixed", "tenants on four pods of H100 and four of A100"),
    ("ranks", "chat on two groups of four data-parallel ranks that step together"),
    ("split", "rag on three endpoints that prefill and five that decode"),
];

/// A scenario that is about endpoints coming and going; with [`NAMES`], but not compared.
pub const ELASTIC: (&str, &str) =
    ("elastic", "chat while endpoints join, drain, crash and restart, and events are lost");

/// Traffic and who serves it.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub spec: ClusterSpec,
    pub workload: Workload,
}

/// The scenario called `name`, drawn from `seed`; equal endpoints are `endpoints` many.
pub fn by_name(name: &str, seed: u64, endpoints: u16) -> Option<Scenario> {
    let h100 = EngineSpec::qwen3_32b_tp2_h100();
    let equal = |engine: EngineSpec, n: u16| ClusterSpec {
        engines: vec![engine; usize::from(n)],
        metrics_delay: 0.05,
        ..ClusterSpec::published()
    };
    let eight = equal(h100.clone(), 8);
    let (traffic, spec) = match name {
        "tiers" => {
            let tiers = vec![
                tier(&h100, Tier::HOST, 64.0, 109e9, 0.013)?,
                tier(&h100, Tier::DISK, 256.0, 11.9e9, 0.013)?,
            ];
            let shared_tier = Some(tier(&h100, Tier::SHARED, 1_000.0, 25e9, 0.013)?);
            let engine = EngineSpec { tiers, ..h100 };
            ("many-tenants", ClusterSpec { shared_tier, ..equal(engine, 8) })
        }
        "packets" => ("packets", equal(EngineSpec { packet_tokens: 400_000, ..h100 }, 8)),
        "adapters" => ("adapters", equal(EngineSpec { lora_slots: 4, ..h100 }, 8)),
        "mixed" => {
            let slow = vec![EngineSpec::qwen3_32b_tp2_a100(); 4];
            let engines = [vec![h100; 4], slow].concat();
            ("fewer-tenants", ClusterSpec { engines, ..eight })
        }
        "ranks" => ("chat", ClusterSpec { groups: (0..8).map(|e| Some(e / 4)).collect(), ..eight }),
        "split" => {
            let roles = [[Role::Prefill; 3].as_slice(), &[Role::Decode; 5]].concat();
            ("rag", ClusterSpec { roles, ..eight })
        }
        "elastic" => ("elastic", elastic(eight)),
        name => (name, equal(h100, endpoints)),
    };
    let mut workload = mix::by_name(traffic, seed)?;
    name.clone_into(&mut workload.name);
    Some(Scenario { spec, workload })
}

/// Eight endpoints of which one comes late, one is drained, one crashes and comes back, and which
/// are all stopped when nobody asks; one message in two hundred is lost.
fn elastic(spec: ClusterSpec) -> ClusterSpec {
    ClusterSpec {
        event_batch: 0.1,
        event_loss: 0.005,
        changes: vec![
            (60.0, 7, Change::Join),
            (90.0, 0, Change::Drain),
            (120.0, 1, Change::Crash),
            (150.0, 1, Change::Join),
        ],
        sleep: Some(Sleep { idle: 60.0, startup: 40.0 }),
        ..spec
    }
}

/// A tier of so many gigabytes.
fn tier(engine: &EngineSpec, tier: Tier, gb: f64, rate: f64, latency: f64) -> Option<TierSpec> {
    let block_bytes = f64::from(engine.block_size) * engine.kv_bytes_per_token as f64;
    let blocks = NonZeroUsize::new((gb * 1e9 / block_bytes) as usize)?;
    Some(TierSpec { tier, blocks, latency, bytes_per_sec: rate })
}
