//! Snapshots: what was written is what is read, and what was not is refused.

// A test may fail where it likes.
#![allow(clippy::unwrap_used)]

use kvsched_core::{
    BlockHash, EndpointId, EngineHash, Event, Group, PrefixMatches, Removed, Rng, Stored, Tier,
    Time, Trust,
};
use kvsched_index::events::vllm::{Version, encode};
use kvsched_index::events::{EventStream, StreamSettings};
use kvsched_index::{GroupRule, Holder, Identity, Index, Repeat, SnapshotError, SnapshotReader};
use proptest::prelude::*;
use std::hash::Hasher;

const ENDPOINTS: u16 = 3;
const TIERS: [Tier; 2] = [Tier::DEVICE, Tier::HOST];
/// Group 2 slides, the others are full.
const GROUPS: u8 = 3;

fn empty() -> Index {
    let mut index = Index::builder().block_size(16).build().unwrap();
    // Endpoint 2 is a hybrid; the others find their groups by themselves.
    let two = EndpointId(2);
    index.set_group(two, Group(0), GroupRule::Full, 16).unwrap();
    index.set_group(two, Group(2), GroupRule::SlidingWindow { tokens: 33 }, 16).unwrap();
    index
}

fn bytes(index: &Index, note: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.write_snapshot(note, |piece| {
        assert!(piece.len() <= 128 << 10);
        bytes.extend(piece);
    });
    bytes
}

fn plain() -> Index {
    Index::builder().block_size(16).build().unwrap()
}

fn read(bytes: &[u8], piece: usize) -> Result<(Index, Vec<u8>), SnapshotError> {
    let mut reader = SnapshotReader::new(plain());
    bytes.chunks(piece).try_for_each(|b| reader.push(b))?;
    reader.finish().map(|restored| (restored.index, restored.note))
}

fn prompt(p: u64) -> Vec<u64> {
    (1..=6u32).map(|n| 1 + p / 2u64.pow(6 - n) + u64::from(n) * 1000).collect()
}

const PROMPTS: u64 = 64;

fn hashes(blocks: &[u64]) -> Vec<BlockHash> {
    blocks.iter().copied().map(BlockHash).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Store { holder: Holder, p: u64, from: usize, to: usize, copy: bool, named: bool },
    Remove { holder: Holder, p: u64, at: usize },
    Clear(u16),
}

fn holder() -> impl Strategy<Value = Holder> {
    (0..ENDPOINTS, 0..TIERS.len(), prop_oneof![5 => Just(0), 1 => 0..GROUPS])
        .prop_map(|(e, t, g)| Holder { endpoint: EndpointId(e), tier: TIERS[t], group: Group(g) })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (holder(), 0..PROMPTS, 0..4usize, 1..7usize, any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(holder, p, from, len, copy, named)| Op::Store {
                holder, p, from, to: (from + len).min(6), copy, named,
            }),
        4 => (holder(), 0..PROMPTS, 0..6usize).prop_map(|(holder, p, at)| Op::Remove { holder, p, at }),
        1 => (0..ENDPOINTS).prop_map(Op::Clear),
    ]
}

fn apply(index: &mut Index, op: &Op) {
    match *op {
        Op::Store { holder, p, from, to, copy, named } => {
            let blocks = hashes(&prompt(p));
            let parent = from.checked_sub(1).map(|i| blocks[i]);
            let repeat = if copy { Repeat::Copy } else { Repeat::Known };
            if named {
                let names: Vec<_> = blocks[from..to].iter().map(|h| EngineHash(h.0 * 7)).collect();
                index.store_mapped(holder, parent, &names, &blocks[from..to], repeat).unwrap();
            } else {
                index.store(holder, parent, &blocks[from..to], repeat).unwrap();
            }
        }
        Op::Remove { holder, p, at } => {
            index.remove(holder, &[BlockHash(prompt(p)[at])]);
        }
        Op::Clear(e) => index.clear(EndpointId(e)),
    }
}

fn equal(a: &Index, b: &Index) -> Result<(), TestCaseError> {
    let (mut ours, mut theirs) = (PrefixMatches::new(), PrefixMatches::new());
    for p in 0..PROMPTS {
        let blocks = hashes(&prompt(p));
        a.find_matches(&blocks, &mut ours);
        b.find_matches(&blocks, &mut theirs);
        for e in (0..ENDPOINTS).map(EndpointId) {
            prop_assert_eq!(ours.blocks(e), theirs.blocks(e), "prompt {} of {}", p, e);
            for tier in TIERS {
                prop_assert_eq!(ours.blocks_on(e, tier), theirs.blocks_on(e, tier));
            }
            for (tier, group) in TIERS.iter().flat_map(|&t| (0..GROUPS).map(move |g| (t, g))) {
                let holder = Holder { endpoint: e, tier, group: Group(group) };
                for &hash in &blocks {
                    prop_assert_eq!(
                        a.holds(holder, hash),
                        b.holds(holder, hash),
                        "{} {}",
                        holder,
                        hash
                    );
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn what_was_written_is_read(
        before in prop::collection::vec(op(), 0..60),
        after in prop::collection::vec(op(), 0..30),
        note in prop::collection::vec(any::<u8>(), 0..50),
        piece in prop_oneof![1..200usize, Just(1 << 20)],
    ) {
        let mut index = empty();
        before.iter().for_each(|op| apply(&mut index, op));
        let (mut restored, read_note) = read(&bytes(&index, &note), piece).unwrap();
        restored.validate();
        prop_assert_eq!(read_note, note);
        equal(&index, &restored)?;
        // Names of blocks that are held resolve as before.
        for block in (0..PROMPTS).flat_map(prompt) {
            let is_held = (0..ENDPOINTS).any(|e| TIERS.iter().any(|&tier| (0..GROUPS).any(|g| {
                index.holds(Holder { endpoint: EndpointId(e), tier, group: Group(g) }, BlockHash(block))
            })));
            if is_held {
                let name = EngineHash(block * 7);
                prop_assert_eq!(index.resolve(name), restored.resolve(name));
            }
        }
        // And it goes on as the original does: copies, holes and waiting runs included.
        for op in &after {
            apply(&mut index, op);
            apply(&mut restored, op);
        }
        restored.validate();
        equal(&index, &restored)?;
    }
}

fn sample() -> Vec<u8> {
    let mut index = empty();
    let mut rng = Rng::new(3);
    for _ in 0..40 {
        let (p, e) = (rng.below(64) as u64, rng.below(3) as u16);
        let holder = Holder::device(EndpointId(e));
        let to = 1 + rng.below(6);
        index.store(holder, None, &hashes(&prompt(p)[..to]), Repeat::Copy).unwrap();
    }
    bytes(&index, b"note")
}

#[test]
fn every_changed_byte_is_refused() {
    let whole = sample();
    assert!(read(&whole, 1000).is_ok());
    let mut changed = whole.clone();
    for i in 0..whole.len() {
        for flip in [1, 0x80, 0xff] {
            changed[i] ^= flip;
            let error =
                read(&changed, 1000).err().unwrap_or_else(|| panic!("byte {i} changed unnoticed"));
            assert!(!error.to_string().is_empty());
            changed[i] ^= flip;
        }
    }
}

#[test]
fn every_shortened_snapshot_is_refused() {
    let whole = sample();
    for end in 0..whole.len() {
        assert_eq!(
            read(&whole[..end], 1000).err(),
            Some(SnapshotError::Truncated { offset: end as u64 })
        );
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert_eq!(
        read(&longer, 7).err(),
        Some(SnapshotError::Trailing { offset: whole.len() as u64 })
    );
}

#[test]
fn the_foreign_and_the_newer_are_refused_by_name() {
    let why = |bytes: &[u8]| read(bytes, 1000).err().unwrap().to_string();
    assert_eq!(why(b"\x7fELF and whatever follows"), "not a kvsched snapshot");
    let mut newer = sample();
    newer[8] = 2;
    assert_eq!(why(&newer), "snapshot version 2; this kvsched reads version 1");
    let other = Index::builder().block_size(64).build().unwrap();
    assert_eq!(
        why(&bytes(&other, b"")),
        "a snapshot of blocks of 64 tokens for an index of blocks of 16"
    );
}

/// A snapshot that promises what it does not hold, its checksums right.
#[test]
fn a_promise_of_blocks_is_believed_within_bounds() {
    let mut promised = sample();
    // Behind the version and the section's head: tokens a block, then how many blocks.
    promised[12 + 13 + 4..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut hasher = twox_hash::XxHash64::with_seed(u64::from(b'H'));
    hasher.write(&promised[12 + 13..][..12]);
    promised[12 + 5..][..8].copy_from_slice(&hasher.finish().to_le_bytes());
    let used = allocation_counter::measure(|| {
        let (index, _) = read(&promised, 1000).unwrap();
        equal(&index, &read(&sample(), 1000).unwrap().0).unwrap();
    });
    assert!(used.bytes_max < 100 << 20, "{} bytes", used.bytes_max);
}

#[test]
fn a_shared_index_is_written_and_read_alike() {
    let shared = Index::builder().block_size(16).build_shared().unwrap();
    let device = Holder::device(EndpointId(1));
    shared.store(device, None, &hashes(&prompt(5)), Repeat::Known).unwrap();
    let mut bytes = Vec::new();
    let mut beside = PrefixMatches::new();
    shared.write_snapshot(b"", |piece| {
        bytes.extend(piece);
        // Queries go on in the middle of it.
        shared.find_matches(&hashes(&prompt(5)), &mut beside);
        assert_eq!(beside.as_slice(), [0, 6]);
    });
    let again = Index::builder().block_size(16).build_shared().unwrap();
    let mut reader = SnapshotReader::new(&again);
    reader.push(&bytes).unwrap();
    reader.finish().unwrap();
    let mut matches = PrefixMatches::new();
    again.find_matches(&hashes(&prompt(5)), &mut matches);
    assert_eq!(matches.as_slice(), [0, 6]);
}

/// A scheduler that is killed at any point and restored from a snapshot taken earlier, with a
/// replay of what came after, knows what one that lived on knows.
#[test]
fn killed_and_restored_at_a_thousand_points() {
    let a = EndpointId(0);
    let mut rng = Rng::new(11);
    let mut payloads = Vec::new();
    for i in 0..1200 {
        let run = hashes(&prompt(rng.below(64) as u64));
        let run: Vec<_> = run.iter().map(|h| EngineHash(h.0)).collect();
        let to = 1 + rng.below(6);
        let one = [run[rng.below(6)]];
        let tokens = vec![0; 16 * to];
        let event = match rng.below(30) {
            0 => Event::Cleared,
            1..12 => Event::Removed(Removed {
                hashes: &one,
                medium: None,
                group: None,
                locality: None,
                ownership: None,
            }),
            _ => Event::Stored(Stored::new(None, &run[..to], &tokens, 16)),
        };
        let mut payload = Vec::new();
        encode(Version::NEWEST, f64::from(i), Some(0), &[event.into()], &mut payload);
        payloads.push(payload);
    }
    let new_stream = || EventStream::new(a, StreamSettings::default());
    let (mut index, mut stream) = (plain(), new_stream());
    let mut snapshots = Vec::new();
    let mut restores = 0;
    for (at, payload) in (0u64..).zip(&payloads) {
        stream.receive(&mut index, &mut Identity::Engine, at, payload, Time(at));
        if rng.below(10) == 0 || snapshots.is_empty() {
            snapshots.push(bytes(&index, &stream.next_sequence().to_le_bytes()));
        }
        if restores == 1000 || at < 100 {
            continue;
        }
        restores += 1;
        let snapshot = &snapshots[snapshots.len() - 1 - rng.below(snapshots.len().min(3))];
        let (mut restored, note) = read(snapshot, 4096).unwrap();
        let next = u64::from_le_bytes(note.try_into().unwrap());
        let mut resumed = new_stream();
        resumed.resume(next, Time(at));
        for (sequence, payload) in (next..=at).zip(&payloads[next as usize..]) {
            resumed.receive(&mut restored, &mut Identity::Engine, sequence, payload, Time(at));
        }
        assert_eq!(resumed.trust().trust, Trust::Exact);
        assert_eq!(resumed.next_sequence(), stream.next_sequence());
        let (mut ours, mut theirs) = (PrefixMatches::new(), PrefixMatches::new());
        for p in 0..PROMPTS {
            index.find_matches(&hashes(&prompt(p)), &mut ours);
            restored.find_matches(&hashes(&prompt(p)), &mut theirs);
            assert_eq!(ours.blocks(a), theirs.blocks(a), "prompt {p} at {at} from {next}");
        }
    }
    assert_eq!(restores, 1000);
}

/// On the conversation trace, eight endpoints.
#[test]
fn a_block_takes_twelve_bytes_at_most() {
    let requests =
        kvsched_testdata::trace::read(&kvsched_testdata::trace::mooncake_conversation()).unwrap();
    let mut index = Index::builder().block_size(512).build().unwrap();
    for (i, request) in requests.iter().enumerate() {
        let run = hashes(&request.hash_ids);
        index.store(Holder::device(EndpointId((i % 8) as u16)), None, &run, Repeat::Known).unwrap();
    }
    let size = bytes(&index, b"").len();
    let blocks = index.stats().blocks;
    assert!(blocks > 100_000 && size <= 12 * blocks, "{size} bytes for {blocks} blocks");
}
