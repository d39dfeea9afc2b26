//! What an index that threads share gives back, while it lives and after.

#![allow(clippy::disallowed_methods, reason = "threads are what is tested")]
#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{BlockHash, EndpointId, PrefixMatches};
use kvsched_index::{Holder, Index, Repeat, SharedIndex};

fn prompt(n: u64) -> Vec<BlockHash> {
    (0..100).map(|i| BlockHash(n << 8 | i)).collect()
}

fn fill(index: &SharedIndex) {
    for n in 0..2000u64 {
        let holder = Holder::device(EndpointId((n % 4) as u16));
        index.store(holder, None, &prompt(n), Repeat::Known).unwrap();
    }
}

#[test]
fn a_shared_index_leaves_nothing_behind() {
    // What arc-swap keeps for the thread, once.
    fill(&Index::builder().build_shared().unwrap());
    let info = allocation_counter::measure(|| {
        let index = Index::builder().build_shared().unwrap();
        fill(&index);
        assert!(index.stats().bytes > 2_000_000);
    });
    assert_eq!(info.bytes_current, 0, "{} bytes stay", info.bytes_current);
}

/// Writers give back what was replaced, and at most a little later.
#[test]
fn what_was_replaced_goes_while_others_read() {
    let index = Index::builder().build_shared().unwrap();
    let info = allocation_counter::measure(|| {
        for _ in 0..5 {
            fill(&index);
            (0..4).for_each(|e| index.clear(EndpointId(e)));
            index.reclaim();
        }
    });
    assert_eq!(index.stats().blocks, 0);
    // Of five megabytes, what stays is room for as many runs as there were, twice as many at worst, and
    // what waits for readers.
    assert!(info.bytes_current < 2000 * 180 + (128 << 10), "{} bytes stay", info.bytes_current);
}

/// However much others write: a query allocates nothing.
#[test]
fn a_query_allocates_nothing_beside_writers() {
    let index = Index::builder().build_shared().unwrap();
    let (mut matches, asked) = (PrefixMatches::new(), prompt(1999));
    fill(&index);
    index.find_matches(&asked, &mut matches);
    for n in 0..2000 {
        std::thread::scope(|s| {
            s.spawn(|| {
                index.remove(Holder::device(EndpointId((n % 4) as u16)), &prompt(n));
            });
        });
        let info = allocation_counter::measure(|| {
            index.find_matches(&asked, &mut matches);
        });
        assert_eq!((info.count_total, info.bytes_current), (0, 0));
    }
}
