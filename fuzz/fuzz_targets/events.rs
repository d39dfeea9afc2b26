//! Any bytes as a payload: an end in time, no event made up, and what is told of a batch agrees.
#![no_main]

use kvsched_core::{EndpointId, Event};
use kvsched_index::events::vllm::Decoder;
use kvsched_index::{Applier, Identity, Index};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let mut decoder = Decoder::new();
    let Ok(batch) = decoder.decode(payload) else { return };
    assert_eq!(batch.events().count(), batch.len());
    assert!(batch.lost_events() == 0 || batch.fault().is_some());
    for (i, event) in batch.events().enumerate() {
        let hashes = match event {
            Event::Stored(stored) => stored.hashes.len(),
            Event::Removed(removed) => removed.hashes.len(),
            _ => 0,
        };
        assert_eq!(batch.wire_form(i).map(|form| form.hashes.len()), Some(hashes));
    }
    let Ok(mut index) = Index::builder().block_size(2).build() else { return };
    let mut applier = Applier::new(EndpointId(0));
    for _ in 0..2 {
        applier.apply(&mut index, &mut Identity::Engine, batch.events());
        index.validate();
    }
});
