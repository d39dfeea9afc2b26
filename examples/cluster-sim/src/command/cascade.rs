//! `cascade`: the cache partition cascade, tier-blind against tier-aware on the same arrivals.
//!
//! Tenants' prefixes are warm on a few pods; churn pushes them down into a slow tier there, while
//! other pods hold them on the device or could compute them sooner. A router to which a block
//! is a block keeps sending each tenant to the pod where its KV lies deepest.

use super::{Error, Result, Shared, run_one};
use crate::batch;
use crate::cluster::ClusterSpec;
use crate::engine::{EngineSpec, TierSpec};
use crate::policy::{Policy, SLOW_TIER};
use crate::report::Row;
use crate::report::plot::{self, Chart, Line};
use crate::report::table::{Table, secs};
use crate::stats::{Estimate, Slo};
use crate::workload::{Job, Segment, Stage, Start, Workload, text};
use kvsched_core::{Rng, Tier};
use kvsched_scorers::scorer::TierPrice;
use std::num::NonZeroUsize;

/// The prefill pool of the published account: eight pods. Each holds about 18 tenants' prefixes on
/// the device and many times that in a tier behind it.
pub fn spec() -> ClusterSpec {
    let TierPrice { t0: latency, bytes_per_sec } = SLOW_TIER;
    let engine = EngineSpec {
        kv_blocks: 120_000 / 64,
        tiers: NonZeroUsize::new(64_000)
            .map(|blocks| TierSpec { tier: Tier::HOST, blocks, latency, bytes_per_sec })
            .into_iter()
            .collect(),
        ..EngineSpec::qwen3_32b_tp2_h100()
    };
    ClusterSpec { engines: vec![engine; 8], metrics_delay: 0.05, ..ClusterSpec::published() }
}

/// Tenants A, B, C… of 6,000 tokens with 500 of history each; first all once, then at `qps`
/// requests a second, of which most are of the tenants in fashion. Prefill pods generate one
/// token; decoding is another pool's.
pub fn workload(seed: u64, qps: f64) -> Workload {
    const TENANTS: u64 = 260;
    let mut rng = Rng::new(seed ^ 0xca5cade);
    let mut jobs: Vec<Job> = Vec::new();
    let mut push = |at: f64, tenant: u64| {
        let number = jobs.len() as u64;
        jobs.push(Job {
            start: Start::At(at),
            prompt: vec![
                Segment { seed: text(1, tenant), tokens: 6_000 },
                Segment { seed: text(2, tenant), tokens: 500 },
                Segment { seed: text(3, number), tokens: 40 },
            ],
            output: Segment { seed: text(4, number), tokens: 1 },
            session: tenant as u32,
            ..Job::default()
        });
    };
    for tenant in 0..TENANTS {
        push(tenant as f64 / 8.0, tenant);
    }
    let mut at = 0.0;
    while at < 180.0 {
        at -= (1.0 - rng.unit_f64()).ln() / qps;
        // Fashion moves through the tenants, so that everybody returns after a while.
        let fashion = (at * 1.5) as u64;
        let tenant = match rng.below(5) {
            0 => rng.below(TENANTS as usize) as u64,
            _ => (fashion + rng.below(90) as u64) % TENANTS,
        };
        push(at, tenant);
    }
    let stages = vec![
        Stage { qps: 0.0, jobs: 0..TENANTS as u32, warm_up: true },
        Stage { qps, jobs: TENANTS as u32..jobs.len() as u32, warm_up: false },
    ];
    Workload { name: "cascade".to_owned(), jobs, stages, client_limit: None }
}

/// Runs it; the rows for `--json`.
///
/// # Errors
///
/// A picture that cannot be written.
pub fn cascade(shared: &Shared, qps: f64) -> std::result::Result<Vec<Row>, Error> {
    let policies = ["tier-blind", "tier-aware"].map(Policy::by_name);
    let policies: Vec<Policy> = policies.into_iter().collect::<std::result::Result<_, _>>()?;
    let tasks: Vec<(&Policy, u64)> =
        policies.iter().flat_map(|p| shared.seeds.iter().map(move |&s| (p, s))).collect();
    let spec = spec();
    let results = batch::run(
        &tasks,
        shared.threads,
        shared.json,
        |(policy, seed)| format!("{} seed {seed}", policy.name),
        |&(policy, seed)| run_one(&spec, &workload(seed, qps), policy, Slo::default(), seed),
    );
    let results: Vec<Result> = results.into_iter().collect::<std::result::Result<_, _>>()?;
    if !shared.json {
        println!("{}", table(&results, &policies));
    }
    if let Some(out) = &shared.out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("cascade-tables.md"), table(&results, &policies).to_string())?;
        plot::write(&out.join("cascade.svg"), &timeline(&results, &policies, qps), 2)?;
    }
    Ok(results.iter().flat_map(|r| r.rows("cascade")).collect())
}

fn table(results: &[Result], policies: &[Policy]) -> Table {
    let mut table = Table::new([
        "policy",
        "TTFT p50 s",
        "TTFT p90 s",
        "TTFT p99 s",
        "worst s",
        "hit rate, any tier",
        "GB loaded from the host",
        "Mtok computed",
        "running pods' KV use",
    ]);
    for policy in policies {
        let runs = || results.iter().filter(|r| r.policy == policy.name);
        let mean =
            |of: &dyn Fn(&Result) -> f64| Estimate::of(&runs().map(of).collect::<Vec<_>>()).mean;
        table.row([
            policy.name.clone(),
            secs(mean(&|r| r.total.ttft.p50)),
            secs(mean(&|r| r.total.ttft.p90)),
            secs(mean(&|r| r.total.ttft.p99)),
            secs(mean(&|r| r.total.ttft.max)),
            format!("{:.3}", mean(&|r| r.total.hit_rate)),
            format!("{:.0}", mean(&|r| r.run.loaded_blocks as f64 * 64.0 * 262_144.0 / 1e9)),
            format!("{:.1}", mean(&|r| r.run.prefill_tokens as f64 / 1e6)),
            format!("{:.0}%", mean(&|r| r.total.kv_usage.mean * 100.0)),
        ]);
    }
    table
}

/// TTFT of every request of the first seed, and the queues behind it.
fn timeline(results: &[Result], policies: &[Policy], qps: f64) -> Vec<Chart> {
    let first = |p: &Policy| results.iter().find(|r| r.policy == p.name);
    let chart = |title: &str, y: &str, log, of: &dyn Fn(&Result) -> Vec<(f64, f64)>| {
        let lines = policies.iter().enumerate().filter_map(|(colour, p)| {
            let (name, points) = (p.name.clone(), of(first(p)?));
            Some(Line { name, points, dots: false, colour })
        });
        let (title, x, y) = (title.to_owned(), "seconds".to_owned(), y.to_owned());
        Chart { title, x, y, log, lines: lines.collect() }
    };
    let began = |r: &Result| r.run.stages.last().map_or(0.0, |s| s.0);
    let ttft = |r: &Result| {
        let sent = r.run.outcomes.iter().filter(|o| o.sent > began(r));
        let mut points: Vec<_> =
            sent.map(|o| (o.sent - began(r), o.first_token - o.sent)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The worst of each second.
        let mut worst: Vec<(f64, f64)> = Vec::new();
        for (at, y) in points {
            match worst.last_mut() {
                Some(last) if last.0 == at.floor() => last.1 = last.1.max(y),
                _ => worst.push((at.floor(), y)),
            }
        }
        worst
    };
    let most = |r: &Result, of: &dyn Fn(&crate::cluster::Sample) -> f64| {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for s in r.run.samples.iter().filter(|s| s.at > began(r)) {
            match points.last_mut() {
                Some(last) if last.0 == s.at - began(r) => last.1 = last.1.max(of(s)),
                _ => points.push((s.at - began(r), of(s))),
            }
        }
        points
    };
    vec![
        chart(
            &format!("Worst time to first token of each second, {qps} requests a second"),
            "seconds",
            Some((0.1, 100.0)),
            &ttft,
        ),
        chart("Longest queue of a pod", "requests", None, &|r| {
            most(r, &|s| f64::from(s.metrics.waiting))
        }),
        chart("Device memory in use, the fullest pod", "share of blocks", None, &|r| {
            most(r, &|s| s.metrics.kv_usage)
        }),
        chart("Blocks in the tier behind the device, the fullest pod", "blocks", None, &|r| {
            most(r, &|s| f64::from(s.tier_blocks))
        }),
    ]
}
