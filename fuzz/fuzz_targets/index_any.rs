//! Histories that no engine could have: the same hash after different parents, batches that
//! repeat themselves. Nothing is promised of the answers but that the structure stays whole.
#![no_main]

use kvsched_core::{BlockHash, EndpointId, Group, PrefixMatches, Tier};
use kvsched_index::{Holder, Index, Repeat};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut index) = Index::builder().byte_budget(1 << 17).pending_blocks(64).build() else {
        return;
    };
    let mut matches = PrefixMatches::new();
    for op in data.chunks_exact(8) {
        let holder = Holder {
            endpoint: EndpointId(u16::from(op[1] % 40)),
            tier: Tier::new(op[2] % 3).unwrap_or_default(),
            group: Group(op[3] % 2),
        };
        let hashes: Vec<_> = (0..op[4] % 60)
            .map(|i| BlockHash(u64::from(op[5].wrapping_add(i * (op[6] % 3)))))
            .collect();
        let parent = (op[7] % 2 == 0).then(|| BlockHash(u64::from(op[7])));
        match op[0] % 8 {
            0..4 => {
                let repeat = if op[7] % 5 == 0 { Repeat::Copy } else { Repeat::Known };
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
});
