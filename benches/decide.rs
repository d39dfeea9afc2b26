//! What a whole decision takes: 7,200 tokens hashed, looked up and weighed, for fleets of 8, 64 and 512
//! endpoints of which everybody holds the first 6,000 tokens and one holds all. `cargo bench`.
#![allow(missing_docs, reason = "the macro's functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kvsched::events::vllm;
use kvsched::{
    Algorithm, BlockHasher, EndpointId, EngineHash, Event, Load, Prompt, RouteInput, RouteScratch,
    Router, Scheme, Stored, Time, VllmVersion,
};
use std::hint::black_box;

const TOKENS: usize = 7_200;
const SHARED: usize = 6_000;
const BLOCK: usize = 16;

/// A fleet, and what its members are doing.
struct Fleet {
    router: Router,
    ids: Vec<EndpointId>,
    loads: Vec<Load>,
}

/// Endpoint `n` holds the prompt's first 6,000 tokens, the last all of it.
fn fleet(scheme: &Scheme, endpoints: usize, tokens: &[u32]) -> Fleet {
    let engine = Scheme::vllm(VllmVersion::LATEST, Algorithm::XxHashCbor, Some("0")).unwrap();
    let names = if scheme.is_announced() { scheme.clone() } else { engine };
    let mut announced = Vec::new();
    hasher(&names).hash_into(&Prompt::new(tokens), &mut announced).unwrap();
    let hashes: Vec<EngineHash> = announced.iter().map(|b| EngineHash(b.0)).collect();
    let router = Router::builder(hasher(scheme)).build().unwrap();
    let ids: Vec<_> =
        (0..endpoints).map(|i| router.add_endpoint(format!("e{i}").as_str()).unwrap()).collect();
    for &id in &ids {
        let blocks = if id.index() + 1 == endpoints { TOKENS } else { SHARED } / BLOCK;
        let stored = Stored::new(None, &hashes[..blocks], &tokens[..blocks * BLOCK], BLOCK as u32);
        let mut payload = Vec::new();
        let event = Event::Stored(stored).into();
        vllm::encode(vllm::Version::NEWEST, 0.0, Some(0), &[event], &mut payload);
        router.ingest(id, 0, &payload, Time(0)).unwrap();
    }
    let loads = (0..endpoints as u32)
        .map(|i| Load { running_requests: i % 9, waiting_requests: i % 3, ..Load::default() })
        .collect();
    Fleet { router, ids, loads }
}

fn hasher(scheme: &Scheme) -> BlockHasher {
    BlockHasher::builder(scheme.clone()).block_size(BLOCK).build().unwrap()
}

fn decide(c: &mut Criterion) {
    let tokens: Vec<u32> = (0..TOKENS as u32 + 1).map(|i| i * 7919 % 151_000).collect();
    let content = Scheme::content("model", b"a secret of some length").unwrap();
    let sha256 = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, None).unwrap();
    for (name, scheme, memo) in [
        ("content", &content, false),
        ("sha256", &sha256, false),
        ("sha256 with a memo", &sha256, true),
    ] {
        let mut group = c.benchmark_group(name);
        for endpoints in [8, 64, 512] {
            let Fleet { router, ids, loads } = fleet(scheme, endpoints, &tokens);
            let mut scratch = if memo {
                router.scratch_with_memo(1, 64 << 20).unwrap()
            } else {
                RouteScratch::new(1)
            };
            let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &ids) };
            group.bench_function(BenchmarkId::from_parameter(endpoints), |b| {
                b.iter(|| router.route(black_box(&input), &mut scratch).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
