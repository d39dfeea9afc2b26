//! Position-independent chunks against a list that is scanned.
#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{EndpointId, Tier};
use kvsched_index::{ChunkHit, ChunkHits, ChunkIndex, ChunkKey};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Store(ChunkKey, EndpointId, Tier, bool),
    Remove(ChunkKey, EndpointId, Tier),
    Clear(EndpointId),
}

fn key() -> impl Strategy<Value = ChunkKey> {
    (0u64..5, 0u64..3).prop_map(|(content, adapter)| ChunkKey { content, adapter })
}

fn op() -> impl Strategy<Value = Op> {
    let holder = || ((0u16..4).prop_map(EndpointId), (0u8..8).prop_map(|t| Tier::new(t).unwrap()));
    prop_oneof![
        6 => (key(), holder(), any::<bool>()).prop_map(|(k, (e, t), c)| Op::Store(k, e, t, c)),
        3 => (key(), holder()).prop_map(|(k, (e, t))| Op::Remove(k, e, t)),
        1 => (0u16..4).prop_map(|e| Op::Clear(EndpointId(e))),
    ]
}

proptest! {
    #[test]
    fn chunks_are_found_where_they_are_held(
        ops in proptest::collection::vec(op(), 0..120),
        asked in proptest::collection::vec(key(), 0..6),
    ) {
        let index = ChunkIndex::with_budget(1 << 20).unwrap();
        let mut truth: Vec<(ChunkKey, EndpointId, Tier, bool)> = Vec::new();
        for op in ops {
            match op {
                Op::Store(k, e, t, complete) => {
                    index.store(k, e, t, complete).unwrap();
                    match truth.iter_mut().find(|c| (c.0, c.1, c.2) == (k, e, t)) {
                        Some(copy) => copy.3 = complete,
                        None => truth.push((k, e, t, complete)),
                    }
                }
                Op::Remove(k, e, t) => {
                    let before = truth.len();
                    truth.retain(|c| (c.0, c.1, c.2) != (k, e, t));
                    prop_assert_eq!(index.remove(k, e, t), truth.len() < before);
                }
                Op::Clear(e) => {
                    index.clear(e);
                    truth.retain(|c| c.1 != e);
                }
            }
        }
        let mut found = ChunkHits::new();
        index.find(&asked, &mut found);
        let mut want = Vec::new();
        for (chunk, k) in asked.iter().enumerate() {
            for endpoint in (0..4).map(EndpointId) {
                let copies = || truth.iter().filter(|c| c.0 == *k && c.1 == endpoint);
                let complete = copies().any(|c| c.3);
                let tier = copies().filter(|c| c.3 == complete).map(|c| c.2).min();
                want.extend(tier.map(|tier| ChunkHit { chunk, endpoint, complete, tier }));
            }
        }
        prop_assert_eq!(found.as_slice(), want);
    }
}

#[test]
fn at_its_budget_the_oldest_chunks_go_and_are_counted() {
    let index = ChunkIndex::with_budget(1 << 20).unwrap();
    let key = |content| ChunkKey { content, adapter: 0 };
    for content in 0..100_000 {
        index.store(key(content), EndpointId(0), Tier::DEVICE, true).unwrap();
    }
    let stats = index.stats();
    assert!(stats.bytes <= 1 << 20, "{stats:?}");
    assert!(stats.evicted > 50_000, "{stats:?}");
    let mut found = ChunkHits::new();
    index.find(&[key(0), key(99_999)], &mut found);
    assert_eq!(found.as_slice().iter().map(|hit| hit.chunk).collect::<Vec<_>>(), [1]);
    assert!(index.store(key(1), EndpointId(u16::MAX), Tier::DEVICE, true).is_err());
    assert!(ChunkIndex::with_budget(10).is_err());
}
