//! Histories that no engine could have: the same hash after different parents, batches that repeat
//! themselves. Nothing is promised of the answers but that the structure stays whole.
#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{BlockHash, EndpointId, Group, PrefixMatches, Rng, Tier};
use kvsched_index::{Holder, Index, Repeat};

#[test]
fn contradictions_do_not_break_the_structure() {
    let mut matches = PrefixMatches::new();
    for seed in 0..if cfg!(miri) { 2 } else { 80 } {
        let mut rng = Rng::new(seed);
        let mut index = Index::builder().byte_budget(1 << 17).pending_blocks(64).build().unwrap();
        for _ in 0..120 {
            let holder = Holder {
                endpoint: EndpointId(rng.below(40) as u16),
                tier: Tier::new(rng.below(3) as u8).unwrap(),
                group: Group(rng.below(2) as u8),
            };
            let (first, step) = (rng.below(256) as u64, rng.below(3) as u64);
            let hashes: Vec<_> =
                (0..rng.below(60) as u64).map(|i| BlockHash((first + i * step) % 256)).collect();
            let parent = (rng.below(2) == 0).then(|| BlockHash(rng.below(256) as u64));
            match rng.below(8) {
                0..4 => {
                    let repeat = [Repeat::Known, Repeat::Copy][rng.below(2)];
                    // Too many may wait for a parent already.
                    let _ = index.store(holder, parent, &hashes, repeat);
                }
                4 | 5 => {
                    index.remove(holder, &hashes);
                }
                6 => index.clear(holder.endpoint),
                _ => index.find_matches(&hashes, &mut matches),
            }
            index.validate();
        }
        assert!(index.stats().bytes <= 1 << 17);
    }
}
