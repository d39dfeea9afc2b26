//! Filter, score and pick over 8, 64 and 512 endpoints.
#![allow(missing_docs, reason = "the macro's functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kvsched_core::{EndpointId, Load, PrefixMatches, Request, Rng, Tier};
use kvsched_scorers::{DecideInput, Profile, Receipt, Scratch, filter, picker, preset, scorer};
use std::hint::black_box;

struct Fleet {
    candidates: Vec<EndpointId>,
    loads: Vec<Load>,
    matches: PrefixMatches,
}

/// A prompt of 450 blocks of which everybody holds something else, a quarter of them some of it
/// on the host.
fn fleet(n: u16) -> Fleet {
    let mut rng = Rng::new(1);
    let mut matches = PrefixMatches::new();
    matches.reset(n.into(), 450);
    let mut loads = Vec::new();
    for e in (0..n).map(EndpointId) {
        let blocks = rng.below(450) as u32;
        matches.set(e, blocks);
        if e.0 % 4 == 0 {
            matches.push_slow(e, Tier::HOST, blocks / 3);
        }
        loads.push(Load {
            waiting_requests: rng.below(4) as u32,
            running_requests: rng.below(200) as u32,
            kv_usage: rng.unit_f64(),
            kv_capacity_tokens: 307_328,
            queued_prefill_tokens: rng.below(20_000) as u64,
            recent_prefill_tokens: rng.below(1_000_000) as u64,
            ..Load::default()
        });
    }
    Fleet { candidates: (0..n).map(EndpointId).collect(), loads, matches }
}

impl Fleet {
    fn input(&self) -> DecideInput<'_> {
        let request = Request { prompt_tokens: 7200, block_size: 16, ..Request::default() };
        let (loads, matches) = (&self.loads, &self.matches);
        DecideInput { request, loads, matches, ..DecideInput::new(&self.candidates) }
    }
}

/// Filter, three weighted scorers, picker: what most configurations are.
fn weighted() -> Profile {
    Profile::builder()
        .filter(Box::new(
            filter::Utilization::new().cap(filter::Metric::WaitingQueue, 64.0).unwrap(),
        ))
        .scorer(Box::new(scorer::PrefixCache::new()), 3.0)
        .scorer(Box::new(scorer::Queue), 2.0)
        .scorer(Box::new(scorer::KvCacheUtilization), 2.0)
        .picker(Box::new(picker::MaxScore))
        .build()
        .unwrap()
}

fn decide(c: &mut Criterion) {
    let presets = ["llm-d", "llm-d-affinity", "dynamo", "cost"];
    let profiles = presets.map(|name| (name, preset::by_name(name).unwrap()));
    let profiles = [("weighted", weighted())].into_iter().chain(profiles);
    for (name, profile) in profiles {
        let mut group = c.benchmark_group(name);
        for n in [8, 64, 512] {
            let fleet = fleet(n);
            let (mut rng, mut scratch) = (Rng::new(1), Scratch::new());
            group.bench_with_input(BenchmarkId::from_parameter(n), &fleet, |b, fleet| {
                b.iter(|| {
                    profile.decide(black_box(fleet.input()), &mut rng, &mut scratch).unwrap()
                });
            });
        }
        group.finish();
    }
}

fn receipt(c: &mut Criterion) {
    let (profile, fleet) = (weighted(), fleet(8));
    let mut scratch = Scratch::new();
    profile.decide(fleet.input(), &mut Rng::new(1), &mut scratch).unwrap();
    c.bench_function("receipt/8", |b| b.iter(|| Receipt::of(&profile, &scratch).unwrap()));
}

criterion_group!(benches, decide, receipt);
criterion_main!(benches);
