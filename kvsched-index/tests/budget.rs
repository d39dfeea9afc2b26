//! The byte budget, and the bytes the index says it takes, against the allocator's own count.

#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Rng};
use kvsched_index::naive::Naive;
use kvsched_index::{Holder, Index, IndexBuildError, Repeat};

fn prompt(n: u64, len: u64) -> Vec<BlockHash> {
    (0..len).map(|i| BlockHash(if i < 8 { i + 1 } else { (n + 1) << 24 | i })).collect()
}

/// Bytes still allocated after `f`, beside what it returned.
fn kept<R>(f: impl FnOnce() -> R) -> (i64, R) {
    let mut result = None;
    let info = allocation_counter::measure(|| result = Some(f()));
    (info.bytes_current, result.unwrap())
}

#[test]
fn bytes_are_what_the_allocator_says() {
    for (prompts, len, endpoints) in [(2000, 60, 1), (400, 450, 8), (50, 40, 300)] {
        let (bytes, index) = kept(|| {
            let mut index = Index::builder().build().unwrap();
            for n in 0..prompts {
                let e = EndpointId((n % endpoints) as u16);
                index.store(Holder::device(e), None, &prompt(n, len), Repeat::Known).unwrap();
                if n % 3 == 0 {
                    index.remove(Holder::device(e), &prompt(n, len)[20..22]);
                }
            }
            index
        });
        let said = index.stats().bytes as f64;
        assert!((0.97..1.03).contains(&(said / bytes as f64)), "{said} said, {bytes} allocated");
    }
}

#[test]
fn memory_is_given_back_after_a_clear() {
    let mut index = Index::builder().build().unwrap();
    let (bytes, ()) = kept(|| {
        for n in 0..2000 {
            let e = EndpointId((n % 4) as u16);
            index.store(Holder::device(e), None, &prompt(n, 100), Repeat::Known).unwrap();
        }
        (0..4).for_each(|e| index.clear(EndpointId(e)));
        index.reclaim();
    });
    assert_eq!(index.stats().blocks, 0);
    // Of five megabytes, what stays is room for as many runs as there were, twice as many at worst.
    assert!(bytes < 2000 * 180, "{bytes} bytes stay");
    index.validate();
}

#[test]
fn blocks_are_cheap() {
    let mut index = Index::builder().build().unwrap();
    let (one, ()) = kept(|| {
        for n in 0..500 {
            index
                .store(Holder::device(EndpointId(0)), None, &prompt(n, 450), Repeat::Known)
                .unwrap();
        }
    });
    let (seven, ()) = kept(|| {
        for n in 0..500 {
            for e in 1..8 {
                let holder = Holder::device(EndpointId(e));
                index.store(holder, None, &prompt(n, 450), Repeat::Known).unwrap();
            }
        }
    });
    let blocks = index.stats().blocks as f64;
    let (one, eight) = (one as f64 / blocks, (one + seven) as f64 / blocks / 8.0);
    assert!(one <= 26.0, "{one} bytes a block with one holder");
    assert!(eight <= 4.0, "{eight} bytes a (block, holder) with eight");
}

#[test]
fn a_budget_is_kept_and_matches_are_never_too_long() {
    let refused = Index::builder().byte_budget(1000).build();
    assert!(matches!(refused, Err(IndexBuildError::Budget { budget: 1000, .. })));
    let budget = 400_000;
    let mut index = Index::builder().byte_budget(budget).build().unwrap();
    let mut naive = Naive::new(16);
    let mut rng = Rng::new(11);
    let (mut found, mut truth) = (PrefixMatches::new(), PrefixMatches::new());
    for step in 0..4000u64 {
        let holder = Holder::device(EndpointId(rng.below(6) as u16));
        let n = rng.below(400) as u64;
        let blocks = prompt(n, 60);
        index.store(holder, None, &blocks, Repeat::Known).unwrap();
        naive.store(holder, None, &blocks, Repeat::Known);
        assert!(index.stats().bytes <= budget, "{} bytes", index.stats().bytes);
        if step % 7 == 0 {
            index.remove(holder, &blocks[30..]);
            naive.remove(holder, &blocks[30..]);
        }
        index.find_matches(&blocks, &mut found);
        naive.find_matches(&blocks, &mut truth);
        for (f, t) in found.as_slice().iter().zip(truth.as_slice()) {
            assert!(f <= t, "{f} found of {t}");
        }
        // What was just stored is the last to go.
        assert_eq!(found.blocks(holder.endpoint), truth.blocks(holder.endpoint));
        if step % 100 == 0 {
            index.validate();
        }
    }
    assert!(index.stats().evicted > 0);
}

/// Prompts of a block share nothing: nearly all of their bytes are the room of runs, which stays.
#[test]
fn a_budget_is_kept_by_prompts_of_one_block_too() {
    for budget in [1 << 16, 300_000, 1 << 20] {
        let mut index = Index::builder().byte_budget(budget).build().unwrap();
        let shared = Index::builder().byte_budget(budget).build_shared().unwrap();
        let holder = Holder::device(EndpointId(0));
        let mut found = PrefixMatches::new();
        for n in 0..15_000 {
            let block = [BlockHash(n)];
            index.store(holder, None, &block, Repeat::Known).unwrap();
            shared.store(holder, None, &block, Repeat::Known).unwrap();
            index.find_matches(&block, &mut found);
            assert_eq!(found.as_slice(), [1], "block {n} of {budget} bytes");
            shared.find_matches(&block, &mut found);
            assert_eq!(found.as_slice(), [1], "shared block {n} of {budget} bytes");
            for stats in [index.stats(), shared.stats()] {
                assert!(stats.bytes <= budget, "{stats:?} of {budget} bytes");
            }
        }
        // A shared index takes 66 cache lines for its readers, and then has a page of chains less.
        for (stats, taken) in [(index.stats(), 0), (shared.stats(), 8 << 10)] {
            assert!(stats.blocks > (budget - taken) / 300, "{stats:?} of {budget} bytes");
            assert_eq!(stats.blocks as u64 + stats.evicted, 15_000);
        }
        index.validate();
        shared.validate();
    }
}

#[test]
fn a_warm_query_allocates_nothing() {
    let mut index = Index::builder().build().unwrap();
    for n in 0..50 {
        let holder = Holder::device(EndpointId(n as u16));
        index.store(holder, None, &prompt(n, 100), Repeat::Known).unwrap();
    }
    let shared = Index::builder().build_shared().unwrap();
    shared.store(Holder::device(EndpointId(0)), None, &prompt(0, 100), Repeat::Known).unwrap();
    let ask = prompt(3, 100);
    let mut matches = PrefixMatches::new();
    index.find_matches(&ask, &mut matches);
    shared.find_matches(&ask, &mut matches);
    index.find_matches(&ask, &mut matches);
    let info = allocation_counter::measure(|| {
        index.find_matches(&ask, &mut matches);
        shared.find_matches(&ask, &mut matches);
    });
    assert_eq!(info.count_total, 0);
}
