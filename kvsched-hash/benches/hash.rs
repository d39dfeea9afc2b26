//! What hashing costs. `cargo bench -p kvsched-hash`; 7,200 tokens of a 151k vocabulary in
//! blocks of 16, unless a name says otherwise.
#![allow(missing_docs, clippy::expect_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kvsched_core::{Extras, MultimodalSpan, Prompt, Rng};
use kvsched_hash::{Algorithm, BlockHasher, PrefixMemo, Scheme, VllmVersion};
use std::hint::black_box;

const TOKENS: usize = 7_200;
const BLOCK: usize = 16;

fn tokens(seed: u64, len: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.below(151_000) as u32).collect()
}

fn hasher(scheme: Scheme) -> BlockHasher {
    BlockHasher::builder(scheme).block_size(BLOCK).build().expect("a valid block size")
}

fn vllm(algorithm: Algorithm) -> BlockHasher {
    hasher(Scheme::vllm(VllmVersion::LATEST, algorithm, Some("0")).expect("a known algorithm"))
}

fn content() -> BlockHasher {
    hasher(Scheme::content("model", b"a secret of some length").expect("a short name"))
}

fn schemes(c: &mut Criterion) {
    let tokens = tokens(1, TOKENS);
    let mut group = c.benchmark_group("prompt");
    group.throughput(Throughput::Elements((TOKENS / BLOCK) as u64));
    let mut hashers = vec![("content".to_owned(), content())];
    for algorithm in
        [Algorithm::Sha256, Algorithm::Sha256Cbor, Algorithm::XxHash, Algorithm::XxHashCbor]
    {
        hashers.push((algorithm.to_string(), vllm(algorithm)));
    }
    let mut out = Vec::new();
    for (name, hasher) in &hashers {
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                hasher.hash_into(black_box(&Prompt::new(&tokens)), &mut out).expect("hashable");
                out.last().copied()
            });
        });
    }
    group.finish();
}

/// What no implementation of the SHA schemes can save: the compressions themselves, over
/// messages that lie ready, each with the digest before it in place.
fn bare_compressions(c: &mut Criterion) {
    let mut group = c.benchmark_group("bare SHA-256 compressions");
    let tokens = tokens(1, TOKENS);
    group.throughput(Throughput::Elements((TOKENS / BLOCK) as u64));
    for algorithm in ["sha256", "sha256_cbor"] {
        let blocks: Vec<usize> = tokens
            .chunks_exact(BLOCK)
            .map(|b| (message_len(algorithm, b) + 9).div_ceil(64))
            .collect();
        group.bench_function(algorithm, |b| {
            let mut buffer = [[0x5a_u8; 64]; 4];
            b.iter(|| {
                for &blocks in &blocks {
                    let mut state = [1_u32; 8];
                    sha2::block_api::compress256(&mut state, &buffer[..blocks]);
                    for (to, word) in buffer[0][12..44].chunks_exact_mut(4).zip(state) {
                        to.copy_from_slice(&word.to_be_bytes());
                    }
                }
                buffer[0][12]
            });
        });
    }
    group.finish();
}

/// Bytes of a block's message without extra keys (`tests/conformance.rs` proves the formats).
fn message_len(algorithm: &str, tokens: &[u32]) -> usize {
    let cbor = |&t: &u32| match t {
        0..24 => 1,
        24..256 => 2,
        256..65_536 => 3,
        _ => 5,
    };
    let pickle = |&t: &u32| match t {
        0..256 => 2,
        256..65_536 => 3,
        _ => 5,
    };
    if algorithm == "sha256_cbor" {
        37 + tokens.iter().map(cbor).sum::<usize>()
    } else {
        53 + tokens.iter().map(pickle).sum::<usize>()
    }
}

fn extras(c: &mut Criterion) {
    let tokens = tokens(1, TOKENS);
    let mut group = c.benchmark_group("prompt with an image");
    let image = [MultimodalSpan {
        identifier: "8a7b6c5d4e3f2a1b8a7b6c5d4e3f2a1b",
        offset: 100,
        length: 576,
    }];
    let extras = Extras { multimodal: &image, cache_salt: Some("tenant"), ..Extras::NONE };
    let prompt = Prompt { tokens: &tokens, extras };
    let mut out = Vec::new();
    for (name, hasher) in [("content", content()), ("sha256", vllm(Algorithm::Sha256))] {
        group.bench_function(name, |b| {
            b.iter(|| hasher.hash_into(black_box(&prompt), &mut out).expect("hashable"));
        });
    }
    group.finish();
}

/// A system prompt of 6,000 tokens that the memo knows, and 1,200 tokens that it does not.
fn memo(c: &mut Criterion) {
    let mut group = c.benchmark_group("6,000 known + 1,200 new");
    let shared = tokens(1, 6_000);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha256Cbor] {
        let hasher = vllm(algorithm);
        let mut out = Vec::new();
        let mut prompt = shared.clone();
        prompt.extend(tokens(2, 1_200));
        group.bench_function(BenchmarkId::new("without memo", algorithm), |b| {
            b.iter(|| hasher.hash_into(black_box(&Prompt::new(&prompt)), &mut out));
        });
        let mut memo = PrefixMemo::new(hasher, 16 << 20).expect("room for a run");
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("memo", algorithm), |b| {
            b.iter(|| {
                turn += 1;
                prompt[6_000] = turn % 150_000;
                memo.hash_into(black_box(&Prompt::new(&prompt)), &mut out)
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = schemes, bare_compressions, memo, extras
}
criterion_main!(benches);
