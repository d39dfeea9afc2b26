//! Any bytes as a snapshot, and any as a snapshot whose checksums are right.
#![no_main]

use kvsched_index::{Index, SnapshotReader};
use libfuzzer_sys::fuzz_target;
use std::hash::Hasher;

/// The bytes as the bodies of sections: a kind and a length each, then so many bytes.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let mut snapshot = b"kvsched\0\x01\0\0\0".to_vec();
    while let [kind, len, rest @ ..] = bytes {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        bytes = rest;
        let mut hasher = twox_hash::XxHash64::with_seed(u64::from(*kind));
        hasher.write(body);
        snapshot.push(*kind);
        snapshot.extend((body.len() as u32).to_le_bytes());
        snapshot.extend(hasher.finish().to_le_bytes());
        snapshot.extend(body);
    }
    snapshot
}

fuzz_target!(|bytes: &[u8]| {
    for bytes in [bytes.to_vec(), sealed(bytes)] {
        let Ok(index) = Index::builder().block_size(16).build() else { return };
        let mut reader = SnapshotReader::new(index);
        if bytes.chunks(7).try_for_each(|piece| reader.push(piece)).is_ok()
            && let Ok(restored) = reader.finish()
        {
            restored.index.validate();
            let mut again: Vec<u8> = Vec::new();
            restored.index.write_snapshot(&restored.note, |piece| again.extend(piece));
            let Ok(index) = Index::builder().block_size(16).build() else { return };
            let mut reader = SnapshotReader::new(index);
            assert_eq!(reader.push(&again), Ok(()));
            let twice = reader.finish().map(|r| (r.index.stats().blocks, r.note));
            assert_eq!(twice, Ok((restored.index.stats().blocks, restored.note)));
        }
    }
});
