//! Replicas that see the same streams know the same in the end, whatever the order in which the
//! endpoints' messages reach them, and wherever they began.
#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{
    BlockHash, EndpointId, EngineHash, Event, PrefixMatches, Removed, Rng, Stored, Time, Trust,
};
use kvsched_index::events::vllm::{Version, encode};
use kvsched_index::events::{EventStream, ReplayMessage, StreamSettings};
use kvsched_index::{Identity, Index, SharedIndex, SnapshotReader};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ENDPOINTS: usize = 4;
const PROMPTS: u64 = 27;
const DEPTH: usize = 8;
const BLOCK: usize = 2;

/// Prompts that fork at every second block.
fn prompt(p: u64) -> Vec<u64> {
    let part = |i: usize| p / 3u64.pow(2u32.saturating_sub(i as u32 / 2));
    (0..DEPTH).map(|i| 1 + ((i as u64) << 32 | part(i))).collect()
}

/// What one engine says, message by message: it computes prompts and evicts their ends.
fn stream(seed: u64, messages: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let mut cache: BTreeMap<u64, u32> = BTreeMap::new();
    let tokens = [7; DEPTH * BLOCK];
    let said = |event: Event<'_>, i: usize| {
        let mut payload = Vec::new();
        encode(Version::NEWEST, i as f64, Some(0), &[event.into()], &mut payload);
        payload
    };
    (0..messages)
        .map(|i| match rng.below(24) {
            0 => {
                cache.clear();
                said(Event::Cleared, i)
            }
            1..9 if !cache.is_empty() => {
                let last = *cache.keys().next_back().unwrap();
                let copies = cache.get_mut(&last).unwrap();
                *copies -= 1;
                if *copies == 0 {
                    cache.remove(&last);
                }
                let hashes = [EngineHash(last)];
                said(
                    Event::Removed(Removed {
                        hashes: &hashes,
                        medium: None,
                        group: None,
                        locality: None,
                        ownership: None,
                    }),
                    i,
                )
            }
            _ => {
                let blocks = prompt(rng.below(PROMPTS as usize) as u64);
                let hit = blocks.iter().take_while(|b| cache.contains_key(b)).count();
                // A full hit computes its last block again.
                let hit = hit.min(DEPTH - 1);
                blocks[hit..].iter().for_each(|&b| *cache.entry(b).or_default() += 1);
                let hashes: Vec<_> = blocks[hit..].iter().copied().map(EngineHash).collect();
                let parent = hit.checked_sub(1).map(|last| EngineHash(blocks[last]));
                let tokens = &tokens[..hashes.len() * BLOCK];
                said(Event::Stored(Stored::new(parent, &hashes, tokens, BLOCK as u32)), i)
            }
        })
        .collect()
}

struct Replica {
    index: SharedIndex,
    streams: Vec<EventStream>,
}

impl Replica {
    fn new() -> Self {
        let index = Index::builder().block_size(BLOCK as u32).build_shared().unwrap();
        let stream = |e| EventStream::new(EndpointId(e as u16), StreamSettings::default());
        Self { index, streams: (0..ENDPOINTS).map(stream).collect() }
    }

    /// Another that begins where `other` is.
    fn seeded_by(other: &Self) -> Self {
        let new = Self::new();
        let note: Vec<u8> =
            other.streams.iter().flat_map(|s| s.next_sequence().to_le_bytes()).collect();
        let mut reader = SnapshotReader::new(&new.index);
        other.index.write_snapshot(&note, |piece| reader.push(piece).unwrap());
        let note = reader.finish().unwrap().note;
        let mut replica = new;
        for (stream, next) in replica.streams.iter_mut().zip(note.chunks_exact(8)) {
            stream.resume(u64::from_le_bytes(next.try_into().unwrap()), Time(0));
        }
        replica
    }

    fn hear(&mut self, endpoint: usize, sequence: usize, published: &[Vec<Vec<u8>>]) {
        let (index, stream) = (&mut &self.index, &mut self.streams[endpoint]);
        let payload = &published[endpoint][sequence];
        let heard = stream.receive(index, &mut Identity::Engine, sequence as u64, payload, Time(0));
        // The engine answers a replay request with all it has published by now.
        let mut from = heard.replay_from;
        while let Some(first) = from {
            for (sequence, payload) in (0u64..).zip(&published[endpoint][..=sequence]) {
                if sequence < first {
                    continue;
                }
                let message = ReplayMessage::Batch { sequence, payload };
                stream.replayed(index, &mut Identity::Engine, message, Time(0));
            }
            from = stream
                .replayed(index, &mut Identity::Engine, ReplayMessage::End, Time(0))
                .replay_from;
        }
    }

    fn knows(&self) -> Vec<Vec<u32>> {
        let mut matches = PrefixMatches::new();
        (0..PROMPTS)
            .map(|p| {
                let hashes: Vec<_> = prompt(p).into_iter().map(BlockHash).collect();
                self.index.find_matches(&hashes, &mut matches);
                matches.cover(ENDPOINTS);
                matches.as_slice().to_vec()
            })
            .collect()
    }
}

/// All messages, each endpoint's in order, the endpoints in any.
fn interleaved(published: &[Vec<Vec<u8>>], from: &[u64], rng: &mut Rng) -> Vec<(usize, usize)> {
    let mut next: Vec<usize> = from.iter().map(|&n| n as usize).collect();
    let mut order = Vec::new();
    loop {
        let left: Vec<_> = (0..ENDPOINTS).filter(|&e| next[e] < published[e].len()).collect();
        if left.is_empty() {
            return order;
        }
        let e = left[rng.below(left.len())];
        order.push((e, next[e]));
        next[e] += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn replicas_converge(seed in any::<u64>(), messages in 1..80usize, at in 0.0..1.0f64) {
        let published: Vec<_> =
            (0..ENDPOINTS as u64).map(|e| stream(seed ^ e, messages)).collect();
        let mut rng = Rng::new(seed ^ 99);
        let (mut first, mut second) = (Replica::new(), Replica::new());
        let mut third = None;

        let order = interleaved(&published, &[0; ENDPOINTS], &mut rng);
        let seeding = (order.len() as f64 * at) as usize;
        for (i, &(e, n)) in order.iter().enumerate() {
            first.hear(e, n, &published);
            if i == seeding {
                third = Some(Replica::seeded_by(&first));
            }
        }
        // The second hears in another order, some twice, and some only in a replay.
        let order = interleaved(&published, &[0; ENDPOINTS], &mut rng);
        for (e, n) in order {
            match rng.below(8) {
                0 if n + 1 < messages => {}
                1 => (0..2).for_each(|_| second.hear(e, n, &published)),
                _ => second.hear(e, n, &published),
            }
        }
        // The third was seeded in the middle and heard the rest, again in another order.
        let mut third = third.unwrap();
        let from: Vec<_> = third.streams.iter().map(EventStream::next_sequence).collect();
        for (e, n) in interleaved(&published, &from, &mut rng) {
            third.hear(e, n, &published);
        }
        for replica in [&first, &second, &third] {
            replica.index.validate();
            for stream in &replica.streams {
                prop_assert_eq!(stream.next_sequence(), messages as u64);
                prop_assert_eq!(stream.trust().trust, Trust::Exact);
            }
            prop_assert_eq!(replica.knows(), first.knows());
        }
    }
}
