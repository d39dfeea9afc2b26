//! What a memo saves, and what it refuses.
#![allow(clippy::unwrap_used)]

use kvsched_core::{BlockHash, Prompt, Rng};
use kvsched_hash::{Algorithm, BlockHasher, BuildError, PrefixMemo, Scheme, VllmVersion};

fn hasher() -> BlockHasher {
    let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256Cbor, Some("0")).unwrap();
    BlockHasher::builder(scheme).block_size(16).build().unwrap()
}

fn tokens(seed: u64, len: usize) -> Vec<u32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.below(151_000) as u32).collect()
}

/// Hashes a prompt with and without `memo`, and tells how many blocks the memo hashed.
fn hashed(memo: &mut PrefixMemo, tokens: &[u32]) -> u64 {
    let before = memo.stats();
    let (mut got, mut want) = (Vec::new(), Vec::<BlockHash>::new());
    memo.hash_into(&Prompt::new(tokens), &mut got).unwrap();
    memo.hasher().hash_into(&Prompt::new(tokens), &mut want).unwrap();
    assert_eq!(got, want);
    let after = memo.stats();
    let hashed = after.hashed_blocks - before.hashed_blocks;
    let remembered = after.remembered_blocks - before.remembered_blocks;
    assert_eq!(hashed + remembered, want.len() as u64);
    hashed
}

#[test]
fn a_session_hashes_every_block_once() {
    let mut memo = PrefixMemo::new(hasher(), 1 << 20).unwrap();
    let session = tokens(1, 16 * 1000);
    let mut done = 0;
    for turn in [1, 20, 127, 128, 129, 256, 300, 500, 501, 1000] {
        assert_eq!(hashed(&mut memo, &session[..16 * turn]), turn as u64 - done, "{turn}");
        // Asked again, as a retry does.
        assert_eq!(hashed(&mut memo, &session[..16 * turn]), 0, "{turn}");
        done = turn as u64;
    }
    // Any of the turns goes on in another way: their ends are known.
    for turn in [20, 127, 128, 129, 256, 300, 500, 501] {
        let mut other = session[..16 * turn].to_vec();
        other.extend(tokens(turn as u64, 16 * 10));
        assert_eq!(hashed(&mut memo, &other), 10, "{turn}");
    }
}

#[test]
fn a_beginning_is_hashed_once_and_where_it_ends_again() {
    let mut memo = PrefixMemo::new(hasher(), 1 << 20).unwrap();
    let whole = tokens(1, 7200);
    let mut ask = |shared: usize, seed: u64| {
        let mut prompt = whole[..16 * shared].to_vec();
        prompt.extend(tokens(seed, 7200 - 16 * shared));
        hashed(&mut memo, &prompt)
    };
    assert_eq!(ask(450, 0), 450);
    // 119 of the 375 known blocks are in a run that nobody left there before.
    assert_eq!(ask(375, 2), 75 + 119);
    assert_eq!(ask(375, 3), 75);
    // Where a run is left in its middle, its beginning is hashed again once and becomes a run.
    assert_eq!(ask(340, 4), 110 + 84);
    assert_eq!(ask(340, 9), 110);
    assert_eq!(ask(375, 10), 75);
    assert_eq!(ask(150, 5), 300 + 22);
    assert_eq!(ask(160, 6), 290 + 10);
    assert_eq!(ask(150, 7), 300);
    assert_eq!(ask(256, 8), 194);
}

#[test]
fn a_flood_of_prompts_leaves_what_is_used() {
    let mut memo = PrefixMemo::new(hasher(), 1 << 20).unwrap();
    let mut prompt = tokens(1, 7200);
    hashed(&mut memo, &prompt);
    for seed in 2..300 {
        prompt.truncate(6000);
        prompt.extend(tokens(seed, 1200));
        let most = if seed == 2 { 75 + 119 } else { 75 };
        assert_eq!(hashed(&mut memo, &prompt), most, "prompt {seed}");
        // Two that nobody asks for again.
        hashed(&mut memo, &tokens(seed << 20, 1500));
        hashed(&mut memo, &tokens(seed << 21, 400));
    }
    assert!(memo.stats().evicted_runs > 500);
}

#[test]
fn absurd_sizes_are_refused() {
    for bytes in [usize::MAX, usize::MAX / 2, 1 << 60] {
        let refused = PrefixMemo::new(hasher(), bytes).unwrap_err();
        assert_eq!(refused, BuildError::MemoMemory { got: bytes });
    }
    for bytes in [0, 1, 4000] {
        let refused = PrefixMemo::new(hasher(), bytes).unwrap_err();
        assert!(matches!(refused, BuildError::MemoBytes { got, .. } if got == bytes));
    }
}
