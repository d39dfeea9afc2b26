//! Queries beside writers: what `# Consistency` promises.
#![allow(clippy::disallowed_methods, reason = "threads are what is tested")]
#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Rng};
use kvsched_index::{Holder, Index, Repeat, SharedIndex};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const ROUNDS: usize = if cfg!(miri) { 12 } else { 4_000 };
const BLOCKS: u64 = if cfg!(miri) { 24 } else { 200 };

fn prompt(n: u64) -> Vec<BlockHash> {
    // The first eighth is everyone's.
    (0..BLOCKS).map(|i| BlockHash(if i < BLOCKS / 8 { i + 1 } else { (n + 1) << 20 | i })).collect()
}

/// Runs `write` once a round while a reader checks every answer with `check`.
fn beside_a_reader(
    index: &SharedIndex,
    ask: &[BlockHash],
    write: impl FnOnce() + Send,
    check: impl Fn(&PrefixMatches) + Sync,
) {
    let done = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let mut matches = PrefixMatches::new();
                while !done.load(Ordering::Acquire) || asked.load(Ordering::Relaxed) < 3 {
                    index.find_matches(ask, &mut matches);
                    check(&matches);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        write();
        done.store(true, Ordering::Release);
    });
    assert!(asked.into_inner() > 0);
    index.validate();
}

#[test]
fn a_run_is_seen_before_or_after_a_write() {
    let index = Index::builder().build_shared().unwrap();
    let blocks = prompt(0);
    let half = blocks.len() / 2;
    let (steady, busy) = (Holder::device(EndpointId(0)), Holder::device(EndpointId(1)));
    index.store(steady, None, &blocks, Repeat::Known).unwrap();
    let write = || {
        for _ in 0..ROUNDS {
            index.store(busy, None, &blocks, Repeat::Known).unwrap();
            index.remove(busy, &blocks[half..].iter().rev().copied().collect::<Vec<_>>());
            index.clear(EndpointId(1));
        }
    };
    beside_a_reader(&index, &blocks, write, |m| {
        assert_eq!(m.blocks(EndpointId(0)) as usize, blocks.len(), "it never changed");
        let busy = m.blocks(EndpointId(1)) as usize;
        assert!(busy == 0 || busy == half || busy == blocks.len(), "{busy}");
    });
}

#[test]
fn what_comes_and_goes_does_not_disturb_what_stays() {
    let index = Index::builder().build_shared().unwrap();
    let blocks = prompt(0);
    index.store(Holder::device(EndpointId(0)), None, &blocks, Repeat::Known).unwrap();
    let never = prompt(u64::from(u32::MAX));
    let write = || {
        let mut rng = Rng::new(5);
        for round in 0..ROUNDS {
            // Many holders, so that lists grow and change their form; chains that end and whose
            // numbers are given again; holes.
            let holder = Holder::device(EndpointId(1 + rng.below(60) as u16));
            let other = prompt(1 + rng.below(5) as u64);
            index.store(holder, None, &other, Repeat::Known).unwrap();
            index
                .store(holder, None, &blocks[..1 + rng.below(blocks.len())], Repeat::Known)
                .unwrap();
            let hole = rng.below(blocks.len());
            index.remove(holder, &blocks[hole..=hole]);
            if round % 3 == 0 {
                index.clear(holder.endpoint);
                index.reclaim();
            } else {
                index.remove(holder, &other);
            }
        }
    };
    let shared = (BLOCKS / 8) as u32;
    beside_a_reader(&index, &blocks, write, |m| {
        assert_eq!(m.blocks(EndpointId(0)) as usize, blocks.len());
    });
    let mut matches = PrefixMatches::new();
    index.find_matches(&never, &mut matches);
    assert!(matches.as_slice().iter().all(|&b| b <= shared));
}

#[test]
fn writers_together_leave_what_one_would() {
    let index = Index::builder().build_shared().unwrap();
    std::thread::scope(|s| {
        for e in 0..2u16 {
            let index = &index;
            s.spawn(move || {
                for n in 0..ROUNDS as u64 / 4 {
                    let blocks = prompt(n);
                    index
                        .store(Holder::device(EndpointId(e)), None, &blocks, Repeat::Known)
                        .unwrap();
                    if n % 2 == u64::from(e) {
                        index.remove(Holder::device(EndpointId(e)), &blocks[blocks.len() / 2..]);
                    }
                }
            });
        }
    });
    index.validate();
    let mut matches = PrefixMatches::new();
    for n in 0..ROUNDS as u64 / 4 {
        let blocks = prompt(n);
        index.find_matches(&blocks, &mut matches);
        let (half, all) = (blocks.len() as u32 / 2, blocks.len() as u32);
        let want = if n % 2 == 0 { [half, all] } else { [all, half] };
        assert_eq!(matches.as_slice(), want, "prompt {n}");
    }
}
