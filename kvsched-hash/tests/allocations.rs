//! Hashing allocates nothing once its buffers have seen a prompt as long.
#![allow(clippy::unwrap_used)]

use kvsched_core::{Extras, Lora, MultimodalSpan, Prompt};
use kvsched_hash::{Algorithm, BlockHasher, HashChain, LlmdAlgorithm, PrefixMemo, Scheme};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        BYTES.with(|n| n.set(n.get() + layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

fn hashers() -> Vec<BlockHasher> {
    let vllm = |version: &str, algorithm| {
        Scheme::vllm(version.parse().unwrap(), algorithm, Some("0")).unwrap()
    };
    let schemes = [
        vllm("0.9.2", Algorithm::Sha256),
        vllm("0.10.1", Algorithm::Sha256Cbor64Bit),
        vllm("0.12.0", Algorithm::Sha256),
        vllm("0.33.0", Algorithm::Sha256),
        vllm("0.33.0", Algorithm::Sha256Cbor),
        vllm("0.33.0", Algorithm::XxHash),
        vllm("0.33.0", Algorithm::XxHashCbor),
        Scheme::content("model", b"secret").unwrap(),
        Scheme::llmd(LlmdAlgorithm::CborFnv, "0", "model").unwrap(),
        Scheme::llmd(LlmdAlgorithm::Xxh64, "0", "model").unwrap(),
        Scheme::sglang(),
    ];
    let hasher = |scheme: &Scheme| BlockHasher::builder(scheme.clone()).block_size(16);
    schemes.iter().map(|scheme| hasher(scheme).build().unwrap()).collect()
}

#[test]
fn a_warm_hasher_allocates_nothing() {
    let tokens: Vec<u32> = (0..7_200).map(|i| i * 21 % 151_000).collect();
    let image = [MultimodalSpan { identifier: "0123456789abcdef", offset: 100, length: 576 }];
    let keys = Extras {
        lora: Some(Lora { name: "adapter", path: "/adapter", int_id: 3 }),
        multimodal: &image,
        cache_salt: Some("tenant"),
        embeds: None,
    };
    for hasher in hashers() {
        for extras in [Extras::NONE, keys] {
            let prompt = Prompt { tokens: &tokens, extras };
            let (mut out, mut digests) = (Vec::new(), Vec::new());
            if hasher.hash_into(&prompt, &mut out).is_err() {
                continue; // a scheme without these keys
            }
            hasher.digests_into(&prompt, &mut digests).unwrap();
            let count = allocations(|| {
                hasher.hash_into(&prompt, &mut out).unwrap();
                hasher.hash_first_into(&prompt, 100, &mut out).unwrap();
                hasher.digests_into(&prompt, &mut digests).unwrap();
                let mut lazy = hasher.lazy(prompt);
                out.clear();
                while lazy.pull(32, &mut out).unwrap() > 0 {}
            });
            assert_eq!((count, out.len()), (0, 450), "{}", hasher.scheme());
        }
    }
}

#[test]
fn a_full_memo_allocates_nothing() {
    for hasher in hashers() {
        let mut memo = PrefixMemo::new(hasher.clone(), 1 << 18).unwrap();
        let mut tokens: Vec<u32> = (0..2_400).map(|i| i * 21 % 151_000).collect();
        let mut out = Vec::new();
        let mut turn = |memo: &mut PrefixMemo, i: u32| {
            tokens[1_600] = i;
            memo.hash_into(&Prompt::new(&tokens), &mut out).unwrap();
        };
        (0..80).for_each(|i| turn(&mut memo, i));
        assert!(memo.stats().evicted_runs > 0, "full");
        let count = allocations(|| (80..200).for_each(|i| turn(&mut memo, i)));
        assert_eq!(count, 0, "{}", hasher.scheme());
    }
}

/// All that a memo ever asks for is asked for when it is made, and no more than it was given.
#[test]
fn a_memo_takes_what_it_was_given() {
    let tokens: Vec<u32> = (0..7_200).map(|i| i * 21 % 151_000).collect();
    for hasher in hashers() {
        for bytes in [1 << 16, 1 << 18, 3 << 20] {
            let given = hasher.clone();
            let before = BYTES.with(Cell::get);
            let mut memo = PrefixMemo::new(given, bytes).unwrap();
            let taken = BYTES.with(Cell::get) - before;
            // Half a set of the directory comes on top of an odd number of runs.
            assert!(taken > bytes / 5 * 4 && taken <= bytes + 32, "{taken} of {bytes}");
            let mut out = Vec::with_capacity(450);
            let count = allocations(|| memo.hash_into(&Prompt::new(&tokens), &mut out).unwrap());
            assert_eq!(count, 0, "{}", memo.hasher().scheme());
        }
    }
}

#[test]
fn a_chain_allocates_by_doubling_only() {
    for hasher in hashers() {
        let mut chain = HashChain::new(hasher.clone());
        let turn: Vec<u32> = (0..100).collect();
        chain.append(&turn, &Extras::NONE).unwrap();
        let count = allocations(|| {
            for _ in 0..1_000 {
                chain.append(&turn, &Extras::NONE).unwrap();
            }
        });
        // 6,250 hashes from 6 on: eleven doublings, and the unfinished block's few.
        assert!(count <= 14, "{count} of {}", hasher.scheme());
    }
}
