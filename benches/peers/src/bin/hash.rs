//! kvsched's hashes beside its peers': 7,200 tokens of a 151k vocabulary in blocks of 16, all in
//! one run, taking turns.
//!
//! `--json` prints rows instead of a table. vLLM's own Python is `vllm.py` beside `Cargo.toml`.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say so and stop")]

#[path = "../measure.rs"]
#[allow(dead_code, reason = "shared with the other benchmarks")]
mod measure;

use kvsched_core::{Prompt, Rng};
use kvsched_hash::{Algorithm, BlockHasher, PrefixMemo, Scheme, VllmVersion};
use measure::{Row, Samples, time};
use std::hint::black_box;

const TOKENS: usize = 7_200;
const SHARED: usize = 6_000;
const BLOCK: usize = 16;
const BLOCKS: f64 = (TOKENS / BLOCK) as f64;
const ROUNDS: usize = 2_000;

type Contender<'a> = (&'static str, Box<dyn FnMut() + 'a>);

fn tokens(seed: u64, len: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.below(151_000) as u32).collect()
}

fn hasher(scheme: Scheme) -> BlockHasher {
    BlockHasher::builder(scheme).block_size(BLOCK).build().expect("a block size")
}

fn vllm(algorithm: Algorithm) -> BlockHasher {
    hasher(Scheme::vllm(VllmVersion::LATEST, algorithm, Some("0")).expect("an algorithm"))
}

/// One hash a block, each over the tokens and seeded with the one before.
fn fused_xxh3(tokens: &[u32], out: &mut Vec<u64>) {
    out.clear();
    let mut bytes = [0; 4 * BLOCK];
    let mut hash = 1337;
    for block in tokens.chunks_exact(BLOCK) {
        for (to, token) in bytes.chunks_exact_mut(4).zip(block) {
            to.copy_from_slice(&token.to_le_bytes());
        }
        hash = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, hash);
        out.push(hash);
    }
}

/// The compressions that no implementation of the SHA schemes can save, over messages that
/// lie ready, each with the digest before it in place. Without its extra keys a block's
/// message has `fixed` bytes and those of its tokens.
fn bare_compressions(tokens: &[u32], fixed: usize, bytes: fn(u32) -> usize) -> Box<dyn FnMut()> {
    let blocks: Vec<usize> = tokens
        .chunks_exact(BLOCK)
        .map(|b| (fixed + b.iter().map(|&t| bytes(t)).sum::<usize>() + 9).div_ceil(64))
        .collect();
    let mut buffer = [[0x5a_u8; 64]; 4];
    Box::new(move || {
        for &blocks in &blocks {
            let mut state = [1_u32; 8];
            sha2::block_api::compress256(&mut state, &buffer[..blocks]);
            for (to, word) in buffer[0][12..44].chunks_exact_mut(4).zip(state) {
                to.copy_from_slice(&word.to_be_bytes());
            }
        }
        black_box(&buffer);
    })
}

fn pickled(token: u32) -> usize {
    match token {
        0..256 => 2,
        256..65_536 => 3,
        _ => 5,
    }
}

fn cbor(token: u32) -> usize {
    match token {
        0..24 => 1,
        24..256 => 2,
        256..65_536 => 3,
        _ => 5,
    }
}

/// A prompt whose first 6,000 tokens come every time, and whose rest never came before; by a memo
/// that is full, as any is that has served a while.
fn by_memo<'a>(algorithm: Algorithm, prompt: &'a [u32]) -> Box<dyn FnMut() + 'a> {
    let mut memo = PrefixMemo::new(vllm(algorithm), 16 << 20).expect("room for a run");
    let (mut prompt, mut out, mut turn) = (prompt.to_vec(), Vec::new(), 0);
    let mut ask = move || {
        turn = (turn + 1) % 150_000;
        prompt[SHARED] = turn;
        memo.hash_into(black_box(&Prompt::new(&prompt)), &mut out).expect("small tokens");
        memo.stats().evicted_runs > 0
    };
    while !ask() {}
    Box::new(move || {
        ask();
    })
}

fn main() {
    let json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(other) => {
            eprintln!("unknown option {other}; there is --json");
            std::process::exit(2);
        }
    };
    let prompt = tokens(1, TOKENS);
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    let schemes = [
        (
            "kvsched content",
            hasher(Scheme::content("model", b"sixteen bytes or more").expect("short")),
        ),
        ("kvsched sha256", vllm(Algorithm::Sha256)),
        ("kvsched sha256_cbor", vllm(Algorithm::Sha256Cbor)),
        ("kvsched xxhash", vllm(Algorithm::XxHash)),
        ("kvsched xxhash_cbor", vllm(Algorithm::XxHashCbor)),
    ];
    for (name, hasher) in schemes {
        let (prompt, mut out) = (&prompt, Vec::new());
        contenders.push((
            name,
            Box::new(move || {
                hasher.hash_into(black_box(&Prompt::new(prompt)), &mut out).expect("small tokens");
            }),
        ));
    }
    for (name, algorithm) in [
        ("kvsched sha256, memo", Algorithm::Sha256),
        ("kvsched sha256_cbor, memo", Algorithm::Sha256Cbor),
    ] {
        contenders.push((name, by_memo(algorithm, &prompt)));
    }
    contenders.push(("bare compressions sha256", bare_compressions(&prompt, 53, pickled)));
    contenders.push(("bare compressions sha256_cbor", bare_compressions(&prompt, 37, cbor)));
    contenders.push((
        "dynamo 1.6.1 local + chain",
        Box::new(|| {
            use dynamo_kv_router::protocols::{
                BlockHashOptions, compute_block_hash_for_seq, compute_seq_hash_for_block,
            };
            let options = BlockHashOptions::default();
            let local = compute_block_hash_for_seq(black_box(&prompt), BLOCK as u32, options);
            black_box(compute_seq_hash_for_block(&local));
        }),
    ));
    contenders.push((
        "kv-index 2.0.0",
        Box::new(|| {
            let contents = kv_index::compute_request_content_hashes(black_box(&prompt), BLOCK);
            black_box(kv_index::request_prefix_hashes(&contents));
        }),
    ));
    let (prompt, mut out) = (&prompt, Vec::new());
    contenders.push((
        "one fused XXH3 pass",
        Box::new(move || {
            fused_xxh3(black_box(prompt), &mut out);
            black_box(&out);
        }),
    ));

    let mut samples = vec![Samples::default(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, hash), samples) in contenders.iter_mut().zip(&mut samples) {
            hash(); // its own caches are warm again, whoever ran before
            samples.push(time(hash).0 / BLOCKS);
        }
    }
    for ((who, _), samples) in contenders.iter().zip(&samples) {
        let (min, median) = (samples.quantile(0.0), samples.quantile(0.5));
        let unit = "ns/block";
        let row = Row::least("hash", "7200 tokens", who, (min, median), unit);
        if json {
            println!("{}", row.json());
        } else {
            println!("{who:32} {min:9.2} {median:9.2}  {unit}");
        }
    }
    let quantile = |name: &str, share| {
        let found = contenders.iter().zip(&samples).find(|((who, _), _)| *who == name);
        found.map_or(f64::NAN, |(_, samples)| samples.quantile(share))
    };
    for (us, them) in [
        ("kvsched content", "dynamo 1.6.1 local + chain"),
        ("kvsched content", "kv-index 2.0.0"),
        ("kvsched content", "one fused XXH3 pass"),
        ("kvsched sha256", "bare compressions sha256"),
        ("kvsched sha256_cbor", "bare compressions sha256_cbor"),
        ("kvsched sha256, memo", "kvsched sha256"),
        ("kvsched sha256_cbor, memo", "kvsched sha256_cbor"),
    ] {
        let [gain, median] = [0.0, 0.5].map(|share| quantile(them, share) / quantile(us, share));
        if json {
            println!(
                r#"{{"bench":"hash","shape":"7200 tokens","who":"{us} / {them}","value":{gain:.3},"unit":"times better","better":"higher"}}"#
            );
        } else {
            println!("{us:28} {gain:6.2} (medians {median:.2}) times faster than {them}");
        }
    }
}
