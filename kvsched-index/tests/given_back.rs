//! What an index that threads shared leaves behind. Alone in its program: other threads' queries would keep
//! what was replaced.

#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{BlockHash, EndpointId};
use kvsched_index::{Holder, Index, Repeat};

#[test]
fn a_shared_index_leaves_nothing_behind() {
    // What the collector keeps for the thread itself.
    drop(Index::builder().build_shared().unwrap());
    let info = allocation_counter::measure(|| {
        let index = Index::builder().build_shared().unwrap();
        for n in 0..2000u64 {
            let prompt: Vec<_> = (0..100).map(|i| BlockHash(n << 8 | i)).collect();
            let holder = Holder::device(EndpointId((n % 4) as u16));
            index.store(holder, None, &prompt, Repeat::Known).unwrap();
        }
        assert!(index.stats().bytes > 2_000_000);
    });
    // The collector's own list of what was replaced, at most.
    assert!(info.bytes_current < 16 << 10, "{} bytes stay", info.bytes_current);
}
