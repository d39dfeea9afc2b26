//! The sixteen histories on which other indexes go wrong, with the truth.

#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{BlockHash, EndpointId, PrefixMatches};
use kvsched_index::{Holder, Index, Repeat};

const W0: Holder = Holder::device(EndpointId(0));
const W1: Holder = Holder::device(EndpointId(1));

fn chain(range: std::ops::Range<u64>) -> Vec<BlockHash> {
    range.map(|i| BlockHash(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
}

fn store(index: &mut Index, holder: Holder, range: std::ops::Range<u64>) {
    let parent = range.start.checked_sub(1).map(|p| chain(p..p + 1)[0]);
    let stored = index.store(holder, parent, &chain(range), Repeat::Known);
    assert!(stored.is_ok(), "{stored:?}");
}

fn remove(index: &mut Index, holder: Holder, range: std::ops::Range<u64>) {
    index.remove(holder, &chain(range));
}

type History = fn(&mut Index);

#[test]
fn sixteen_histories() {
    let table: [(&str, History, [u32; 2]); 16] = [
        (
            "evict 40",
            |i| {
                store(i, W0, 0..100);
                remove(i, W0, 40..41)
            },
            [40, 0],
        ),
        (
            "evict 40 and store it again alone",
            |i| {
                store(i, W0, 0..100);
                remove(i, W0, 40..41);
                store(i, W0, 40..41)
            },
            [100, 0],
        ),
        (
            "two holders, one evicts 40",
            |i| {
                store(i, W0, 0..100);
                store(i, W1, 0..100);
                remove(i, W0, 40..41)
            },
            [40, 100],
        ),
        (
            "one evicts 40, the other 50",
            |i| {
                store(i, W0, 0..100);
                store(i, W1, 0..100);
                remove(i, W0, 40..41);
                remove(i, W1, 50..51);
            },
            [40, 50],
        ),
        (
            "head evicted",
            |i| {
                store(i, W0, 0..100);
                remove(i, W0, 0..1)
            },
            [0, 0],
        ),
        (
            "one evicts the head, the other keeps 0..40",
            |i| {
                store(i, W0, 0..100);
                store(i, W1, 0..100);
                remove(i, W0, 0..1);
                remove(i, W1, 40..100);
            },
            [0, 40],
        ),
        (
            "one keeps 0..60, the other 50..100",
            |i| {
                store(i, W0, 0..100);
                store(i, W1, 0..100);
                remove(i, W0, 60..100);
                remove(i, W1, 0..50);
            },
            [60, 0],
        ),
        (
            "evict 33, 34, 35, 60",
            |i| {
                store(i, W0, 0..100);
                remove(i, W0, 33..36);
                remove(i, W0, 60..61)
            },
            [33, 0],
        ),
        (
            "evict 10..20",
            |i| {
                store(i, W0, 0..100);
                remove(i, W0, 10..20)
            },
            [10, 0],
        ),
        ("a store with an unknown parent", |i| store(i, W0, 30..60), [0, 0]),
        (
            "and then the parent arrives",
            |i| {
                store(i, W0, 30..60);
                store(i, W0, 0..30)
            },
            [60, 0],
        ),
        (
            "one is cleared",
            |i| {
                store(i, W0, 0..100);
                store(i, W1, 0..100);
                i.clear(W0.endpoint)
            },
            [0, 100],
        ),
        (
            "store after a clear",
            |i| {
                store(i, W0, 0..100);
                store(i, W1, 0..100);
                i.clear(W0.endpoint);
                store(i, W0, 0..5);
            },
            [5, 100],
        ),
        (
            // The engine's names are not ours: events carry them beside our hashes.
            "engine hash is not the own chain hash",
            |i| {
                use kvsched_core::EngineHash;
                let names: Vec<_> = (0..100).map(|n| EngineHash(7_000 + n)).collect();
                let ours = chain(0..100);
                let stored = i.store_mapped(W0, None, &names, &ours, Repeat::Known);
                assert!(stored.is_ok(), "{stored:?}");
                assert_eq!(i.resolve(names[42]), Some(ours[42]));
                assert_eq!(i.resolve(EngineHash(1)), None);
            },
            [100, 0],
        ),
        (
            // An announcement twice is one block; see the next test for the other policy.
            "stored twice, removed once",
            |i| {
                store(i, W0, 0..100);
                store(i, W0, 0..100);
                remove(i, W0, 99..100)
            },
            [99, 0],
        ),
        (
            "one keeps 0..50, the other 50..100",
            |i| {
                store(i, W0, 0..50);
                store(i, W1, 50..100)
            },
            [50, 0],
        ),
    ];
    for (name, history, truth) in table {
        let mut index = Index::builder().build().unwrap();
        history(&mut index);
        index.validate();
        let mut matches = PrefixMatches::new();
        index.find_matches(&chain(0..100), &mut matches);
        let got = [W0, W1].map(|w| matches.blocks(w.endpoint));
        assert_eq!(got, truth, "{name}");
    }
}

#[test]
fn a_copy_is_taken_away_before_the_block() {
    let mut index = Index::builder().build().unwrap();
    let blocks = chain(0..100);
    index.store(W0, None, &blocks, Repeat::Known).unwrap();
    let again = index.store(W0, None, &blocks, Repeat::Copy).unwrap();
    assert_eq!((again.stored, again.repeated), (0, 100));
    let mut matches = PrefixMatches::new();
    assert_eq!(index.remove(W0, &blocks[99..]), 0);
    index.find_matches(&blocks, &mut matches);
    assert_eq!(matches.blocks(W0.endpoint), 100);
    assert_eq!(index.remove(W0, &blocks[99..]), 1);
    index.find_matches(&blocks, &mut matches);
    assert_eq!(matches.blocks(W0.endpoint), 99);
}

#[test]
fn pending_blocks_are_bounded() {
    let mut index = Index::builder().pending_blocks(50).build().unwrap();
    store(&mut index, W0, 10..50);
    assert_eq!(index.stats().pending, 40);
    let parent = Some(BlockHash(5));
    let refused = index.store(W0, parent, &chain(70..81), Repeat::Known);
    assert_eq!(
        refused,
        Err(kvsched_index::StoreError::Pending { blocks: 11, pending: 40, limit: 50 })
    );
    assert!(!index.holds(W0, chain(70..71)[0]));
    store(&mut index, W0, 0..10);
    assert_eq!(index.stats().pending, 0);
    store(&mut index, W0, 60..70);
    index.validate();
}

#[test]
fn the_last_endpoint_of_all_is_served() {
    let mut index = Index::builder().build().unwrap();
    let last = Holder::device(EndpointId(65_534));
    store(&mut index, last, 0..10);
    store(&mut index, W0, 0..4);
    let mut matches = PrefixMatches::new();
    index.find_matches(&chain(0..10), &mut matches);
    assert_eq!((matches.blocks(last.endpoint), matches.blocks(W0.endpoint)), (10, 4));
    let beyond = Holder::device(EndpointId(u16::MAX));
    assert!(index.store(beyond, None, &chain(0..1), Repeat::Known).is_err());
    index.remove_endpoint(last.endpoint);
    assert_eq!(index.stats().endpoints, 1);
}

#[test]
fn candidates_are_all_that_is_answered() {
    let mut index = Index::builder().build().unwrap();
    store(&mut index, W0, 0..10);
    store(&mut index, W1, 0..20);
    let mut matches = PrefixMatches::new();
    index.find_matches_among(&chain(0..20), &[W1.endpoint, EndpointId(9)], &mut matches);
    assert_eq!(matches.as_slice(), [0, 20]);
}

#[test]
fn a_batch_that_repeats_itself_changes_nothing_twice() {
    let mut index = Index::builder().build().unwrap();
    let twice: Vec<_> = chain(0..5).into_iter().chain(chain(3..5)).collect();
    let outcome = index.store(W0, None, &twice, Repeat::Known).unwrap();
    assert_eq!((outcome.stored, outcome.repeated), (5, 2));
    index.validate();
    assert_eq!(index.remove(W0, &twice), 5);
    assert_eq!(index.stats().blocks, 0);
    index.validate();
}

#[test]
fn every_id_there_is_comes_and_goes() {
    let mut index = Index::builder().build().unwrap();
    // All of them with optimisation: `cargo test --release -p kvsched-index --test probes`.
    let most = if cfg!(miri) {
        210
    } else if cfg!(debug_assertions) {
        6_000
    } else {
        u16::MAX
    };
    let ids = || (0..most).map(EndpointId);
    for e in ids() {
        let own = 1_000 + u64::from(e.0) * 4;
        index.store(Holder::device(e), None, &chain(0..3), Repeat::Known).unwrap();
        let parent = Some(chain(2..3)[0]);
        index.store(Holder::device(e), parent, &chain(own..own + 2), Repeat::Known).unwrap();
    }
    let mut matches = PrefixMatches::new();
    let ask = |n: u64| [chain(0..3), chain(1_000 + n * 4..1_002 + n * 4)].concat();
    index.find_matches(&ask(200), &mut matches);
    assert_eq!(matches.as_slice().len(), ids().count());
    for e in ids() {
        assert_eq!(matches.blocks(e), if e.0 == 200 { 5 } else { 3 }, "{e}");
    }
    // Every other one leaves; their ids are given to others.
    ids().filter(|e| e.0 % 2 == 0).for_each(|e| index.remove_endpoint(e));
    index.store(Holder::device(EndpointId(4)), None, &chain(0..1), Repeat::Known).unwrap();
    index.find_matches(&ask(201), &mut matches);
    for e in ids() {
        let want = match e.0 {
            201 => 5,
            4 => 1,
            n => u32::from(n % 2) * 3,
        };
        assert_eq!(matches.blocks(e), want, "{e}");
    }
    ids().for_each(|e| index.remove_endpoint(e));
    index.reclaim();
    assert_eq!((index.stats().blocks, index.stats().endpoints), (0, 0));
    index.validate();
}

#[test]
fn who_has_neither_blocks_nor_pools_counts_no_more() {
    let mut index = Index::builder().build().unwrap();
    store(&mut index, W0, 0..10);
    let far = EndpointId(500);
    index.set_pools(far, &[W0.endpoint]).unwrap();
    assert_eq!(index.stats().endpoints, 501);
    index.set_pools(far, &[]).unwrap();
    assert_eq!(index.stats().endpoints, 1);
    let mut matches = PrefixMatches::new();
    index.find_matches(&chain(0..10), &mut matches);
    assert_eq!(matches.as_slice(), [10]);
    index.validate();
}
