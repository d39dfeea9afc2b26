//! Payloads to events, events to the index, what was routed to a history, and an index to bytes
//! and back.
//!
//! `cargo bench -p kvsched-index --bench events`; throughput is blocks a second.
#![allow(missing_docs, reason = "the macro's functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails as a test does")]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kvsched_core::{
    BlockHash, EndpointId, EngineHash, Event, PrefixMatches, Removed, Rng, Stored, Time,
};
use kvsched_index::events::vllm::{Decoder, Version, encode};
use kvsched_index::{Applier, Holder, Identity, Index, Repeat, RoutingHistory, SnapshotReader};
use std::hint::black_box;
use std::time::Duration;

const BLOCK: usize = 16;

/// A message of `stores` stores, each of `blocks` blocks of a prompt of its own.
fn stores(version: Version, stores: usize, blocks: usize) -> Vec<u8> {
    let mut rng = Rng::new(7);
    let mut random = move |n: usize| (0..n).map(|_| rng.next_u64()).collect::<Vec<_>>();
    let hashes: Vec<Vec<_>> =
        (0..stores).map(|_| random(blocks).into_iter().map(EngineHash).collect()).collect();
    let tokens: Vec<u32> = random(blocks * BLOCK).iter().map(|t| (t % 128_256) as u32).collect();
    let events: Vec<_> = hashes
        .iter()
        .map(|hashes| Event::Stored(Stored::new(None, hashes, &tokens, BLOCK as u32)).into())
        .collect();
    let mut payload = Vec::new();
    encode(version, 1.0, Some(0), &events, &mut payload);
    payload
}

/// A message of removals, one block each as engines announce them.
fn removals(version: Version, blocks: u64) -> Vec<u8> {
    let hashes: Vec<[EngineHash; 1]> =
        (0..blocks).map(|n| [EngineHash(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))]).collect();
    let removed =
        |hashes| Removed { hashes, medium: None, group: None, locality: None, ownership: None };
    let events: Vec<_> = hashes.iter().map(|h| Event::Removed(removed(h)).into()).collect();
    let mut payload = Vec::new();
    encode(version, 1.0, Some(0), &events, &mut payload);
    payload
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let array = Version::new(23, 0).unwrap();
    for (layout, version) in [("map", Version::NEWEST), ("array", array)] {
        let cases = [
            ("1 store of 400 blocks", stores(version, 1, 400)),
            ("50 stores of 8 blocks", stores(version, 50, 8)),
            ("400 removals", removals(version, 400)),
        ];
        for (shape, payload) in cases {
            group.throughput(Throughput::Elements(400));
            let mut decoder = Decoder::new();
            group.bench_function(BenchmarkId::new(shape, layout), |b| {
                b.iter(|| black_box(decoder.decode(black_box(&payload)).unwrap().len()));
            });
        }
    }
    group.finish();
}

/// Decoding and applying, of prompts nobody holds yet.
fn ingest(c: &mut Criterion) {
    let mut group = c.benchmark_group("ingest");
    let payload = stores(Version::NEWEST, 1, 400);
    group.throughput(Throughput::Elements(400));
    let mut decoder = Decoder::new();
    group.bench_function("1 store of 400 blocks", |b| {
        let new = || (Index::builder().build().unwrap(), Applier::new(EndpointId(0)));
        b.iter_batched_ref(
            new,
            |(index, applier)| {
                let batch = decoder.decode(&payload).unwrap();
                applier.apply(index, &mut Identity::Engine, batch.events())
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// A million blocks: prompts of 400, of which pairs share the first half, on 8 endpoints.
fn filled() -> Index {
    let mut index = Index::builder().build().unwrap();
    let mut rng = Rng::new(3);
    for n in 0..3_400u64 {
        let shared = (0..200).map(|i| (n / 2) << 20 | i);
        let own = (200..400).map(|i| (n + 10_000) << 20 | i);
        let hashes: Vec<_> = shared
            .chain(own)
            .map(|x| BlockHash((x + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        let holder = Holder::device(EndpointId(rng.below(8) as u16));
        index.store(holder, None, &hashes, Repeat::Known).unwrap();
    }
    index
}

fn snapshot(c: &mut Criterion) {
    let index = filled();
    let blocks = index.stats().blocks;
    let mut bytes = Vec::new();
    index.write_snapshot(b"", |piece| bytes.extend_from_slice(piece));
    let each = bytes.len() as f64 / blocks as f64;
    let mut group = c.benchmark_group(format!("snapshot of {blocks} blocks, {each:.2} bytes each"));
    group.throughput(Throughput::Elements(blocks as u64)).sample_size(10);
    group.bench_function("write", |b| {
        b.iter(|| {
            let mut written = 0;
            index.write_snapshot(b"", |piece| written += piece.len());
            written
        });
    });
    group.bench_function("restore", |b| {
        b.iter_with_large_drop(|| {
            let mut reader = SnapshotReader::new(Index::builder().build().unwrap());
            bytes.chunks(1 << 16).for_each(|piece| reader.push(piece).unwrap());
            reader.finish().unwrap().index
        });
    });
    group.finish();
}

/// Eight endpoints full of prompts of 400 blocks: each record lets an old prompt go.
fn history(c: &mut Criterion) {
    let mut group = c.benchmark_group("history");
    let history = RoutingHistory::new(20_000, Duration::from_secs(600));
    let prompts: Vec<Vec<BlockHash>> = (0..1000u64)
        .map(|n| {
            let block = |i: u64| BlockHash((n << 20 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            (1..=400).map(block).collect()
        })
        .collect();
    let mut n = 0;
    let mut next = || {
        n += 1;
        (n, &prompts[n % prompts.len()])
    };
    for _ in 0..1000 {
        let (n, prompt) = next();
        history.record(EndpointId(n as u16 % 8), prompt, Time(n as u64));
    }
    group.throughput(Throughput::Elements(400));
    group.bench_function("record 400 blocks, 400 go", |b| {
        b.iter(|| {
            let (n, prompt) = next();
            history.record(EndpointId(n as u16 % 8), prompt, Time(n as u64));
        });
    });
    let (mut matches, mut spare) = (PrefixMatches::new(), PrefixMatches::new());
    group.bench_function("find 400 blocks", |b| {
        b.iter(|| history.find_matches(next().1, &mut matches));
    });
    group.bench_function("raise matches of 400 blocks", |b| {
        b.iter(|| {
            matches.reset(8, 400);
            history.raise_matches(next().1, &mut matches, &mut spare);
        });
    });
    group.finish();
}

criterion_group!(benches, decode, ingest, history, snapshot);
criterion_main!(benches);
