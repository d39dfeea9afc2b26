//! Events into residency: what the engine itself found in its cache, and the rules one by one.

// A test may fail where it likes.
#![allow(clippy::unwrap_used)]

use kvsched_core::{
    AnnouncedKey, AttentionKind, BlockHash, EndpointId, EngineHash, Event, Group, Locality, Medium,
    PrefixMatches, Removed, Stored, Tier,
};
use kvsched_index::events::vllm::Decoder;
use kvsched_index::{Applied, Applier, Holder, Identity, Index};
use kvsched_testdata::capture::{self, Capture, Request, Step};
use kvsched_testdata::{Vectors, vector_files};
use std::collections::HashMap;

const A: EndpointId = EndpointId(0);

/// A content hash good enough for tests: FNV-1a over the parent, the keys and the tokens.
fn name(parent: Option<BlockHash>, keys: &[AnnouncedKey<'_>], tokens: &[u32]) -> BlockHash {
    let mut n = parent.map_or(0xcbf2_9ce4_8422_2325, |p| p.0);
    let text = format!("{keys:?}");
    for byte in text.bytes().chain(tokens.iter().flat_map(|t| t.to_le_bytes())) {
        n = (n ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    BlockHash(n)
}

fn names(s: &Stored<'_>, parent: Option<BlockHash>, out: &mut Vec<BlockHash>) -> bool {
    let lora: Vec<_> = s.lora_name.map(AnnouncedKey::Text).into_iter().collect();
    let mut last = parent;
    for (i, tokens) in s.tokens.chunks_exact(s.block_size as usize).enumerate() {
        // Masked blocks have no entry among the keys; LoRA's is the same for all of them.
        let keys = s.extra_keys.and_then(|k| k.of_block(i)).unwrap_or(&lora);
        last = Some(name(last, keys, tokens));
        out.extend(last);
    }
    true
}

/// The names of the blocks that `request` may find in a cache.
fn prompt(request: &Request, block: usize) -> Vec<BlockHash> {
    let tokens = &request.prompt_token_ids;
    let mut last = None;
    let usable = (tokens.len() - 1) / block;
    let blocks = tokens.chunks_exact(block).take(usable).enumerate();
    let name = |(i, tokens): (usize, &[u32])| {
        let salt = request.cache_salt.as_deref().filter(|_| i == 0);
        let keys: Vec<_> = [request.lora_name.as_deref(), salt]
            .into_iter()
            .flatten()
            .map(AnnouncedKey::Text)
            .collect();
        last = Some(name(last, &keys, tokens));
        last
    };
    blocks.filter_map(name).collect()
}

fn captures() -> Vec<Capture> {
    let files = vector_files(Vectors::EngineCapture).unwrap();
    files.iter().flat_map(|f| capture::read(f).unwrap()).collect()
}

/// What the engine called each of our names, from all it announced.
fn engine_names(capture: &Capture) -> HashMap<BlockHash, EngineHash> {
    let mut ours: HashMap<EngineHash, BlockHash> = HashMap::new();
    let mut decoder = Decoder::new();
    for message in &capture.messages {
        for event in &decoder.decode(message.payload()).unwrap() {
            let Event::Stored(s) = event else { continue };
            let mut all = Vec::new();
            names(&s, s.parent.map(|p| ours[&p]), &mut all);
            if all.len() == s.hashes.len() {
                ours.extend(s.hashes.iter().copied().zip(all));
            }
        }
    }
    ours.into_iter().map(|(engine, ours)| (ours, engine)).collect()
}

/// Replays a capture and compares what the index knows before each request with what the
/// engine then found. Returns how many requests were compared.
fn replay(capture: &Capture, by_content: bool) -> usize {
    let block = capture.settings.block;
    let theirs = engine_names(capture);
    let mut index = Index::builder().block_size(block as u32).build().unwrap();
    let mut applier = Applier::new(A);
    let (mut decoder, mut matches) = (Decoder::new(), PrefixMatches::new());
    let (mut compared, mut after_reset) = (0, false);
    let mut next = 0;
    let mut total = Applied::default();
    for step in &capture.requests {
        let Step::Request(request) = step else {
            after_reset = true;
            continue;
        };
        let mut hashes = prompt(request, block);
        if !by_content {
            // A block the engine never announced has a name that nobody holds.
            let engine = |h: &BlockHash| theirs.get(h).map_or(*h, |e| e.as_block_hash());
            hashes = hashes.iter().map(engine).collect();
        }
        let until = |m: &capture::Message| m.during == request.batch();
        index.find_matches(&hashes, &mut matches);
        let predicted = matches.blocks(A) as usize * block;
        // What a request of a batch finds may have been stored by another of it, and a clear
        // is announced with the request after it.
        let is_told = !request.is_concurrent() && !after_reset && request.prompt_embeds.is_none();
        if is_told {
            compared += 1;
            assert_eq!(
                predicted, request.num_cached_tokens as usize,
                "capture {}, {}",
                capture.name, request.label
            );
        }
        while capture.messages.get(next).is_some_and(until) {
            after_reset = false;
            let mut naming = names;
            let mut identity =
                if by_content { Identity::Content(&mut naming) } else { Identity::Engine };
            let batch = decoder.decode(capture.messages[next].payload()).unwrap();
            assert_eq!((batch.fault(), batch.lost_events()), (None, 0));
            total = total.and(applier.apply(&mut index, &mut identity, batch.events()));
            next += 1;
        }
    }
    assert_eq!(next, capture.messages.len(), "all messages applied");
    assert!(!total.is_incomplete() && total.pending == 0, "{total:?}");
    compared
}

/// Compatible with vLLM: `num_cached_tokens` of every request that can be told in advance.
#[test]
fn compatible_predictions_by_engine_hashes() {
    let compared: usize = captures().iter().map(|c| replay(c, false)).sum();
    assert!(compared > 200, "{compared} requests");
}

#[test]
fn compatible_predictions_by_content() {
    let compared: usize = captures().iter().map(|c| replay(c, true)).sum();
    assert!(compared > 200, "{compared} requests");
}

/// One endpoint's stream, batch by batch, with blocks of two tokens.
struct Stream {
    index: Index,
    applier: Applier,
}

const KEY: fn(u64) -> EngineHash = EngineHash;

/// Events own their hashes and tokens here, so that batches can be written down.
#[derive(Clone, Debug)]
enum Say {
    Store { group: u8, parent: Option<u64>, hashes: Vec<EngineHash>, tokens: Vec<u32> },
    Remove { group: u8, hashes: Vec<EngineHash> },
    Clear,
}

/// A run of blocks, each named by its first token, as a run of full attention in group 0.
fn run(parent: impl Into<Option<u64>>, blocks: impl IntoIterator<Item = u64>) -> Say {
    let blocks: Vec<_> = blocks.into_iter().collect();
    Say::Store {
        group: 0,
        parent: parent.into(),
        tokens: blocks.iter().flat_map(|&b| [b as u32, 0]).collect(),
        hashes: blocks.into_iter().map(KEY).collect(),
    }
}

fn gone(blocks: impl IntoIterator<Item = u64>) -> Say {
    Say::Remove { group: 0, hashes: blocks.into_iter().map(KEY).collect() }
}

impl Say {
    fn in_group(mut self, new: u8) -> Self {
        if let Self::Store { group, .. } | Self::Remove { group, .. } = &mut self {
            *group = new;
        }
        self
    }

    /// Keeps the announced hashes that `keep` names; the token range stays.
    fn masked(mut self, keep: &[u64]) -> Self {
        if let Self::Store { hashes, .. } = &mut self {
            hashes.retain(|h| keep.contains(&h.0));
        }
        self
    }

    /// Group 1 slides over six tokens.
    fn event(&self) -> Event<'_> {
        match self {
            Self::Store { group, parent, hashes, tokens } => Event::Stored(Stored {
                hashes,
                parent: parent.map(KEY),
                tokens,
                attention: Some(match group {
                    1 => AttentionKind::SlidingWindow,
                    _ => AttentionKind::Full,
                }),
                sliding_window: (*group == 1).then_some(6),
                group: Some(Group(*group)),
                ..PLAIN
            }),
            Self::Remove { group, hashes } => {
                Event::Removed(Removed { hashes, group: Some(Group(*group)), ..GONE })
            }
            Self::Clear => Event::Cleared,
        }
    }
}

const PLAIN: Stored<'static> = Stored {
    hashes: &[],
    parent: None,
    tokens: &[],
    block_size: 2,
    lora_id: None,
    lora_name: None,
    medium: Some(Medium("GPU")),
    extra_keys: None,
    group: None,
    attention: None,
    sliding_window: None,
    locality: None,
    ownership: None,
    session_id: None,
    lookahead: &[],
};

const GONE: Removed<'static> = Removed {
    hashes: &[],
    medium: Some(Medium("GPU")),
    group: None,
    locality: None,
    ownership: None,
};

impl Stream {
    fn new() -> Self {
        let index = Index::builder().block_size(2).build().unwrap();
        Self { index, applier: Applier::new(A) }
    }

    fn batch(&mut self, says: &[Say]) -> Applied {
        let events: Vec<_> = says.iter().map(Say::event).collect();
        self.events(&events)
    }

    fn events(&mut self, events: &[Event<'_>]) -> Applied {
        self.applier.apply(&mut self.index, &mut Identity::Engine, events.iter().copied())
    }

    fn holds(&self, block: u64) -> bool {
        self.index.holds(Holder::device(A), BlockHash(block))
    }

    /// How many removals it takes until the block is gone.
    fn copies(&mut self, block: u64) -> usize {
        let mut copies = 0;
        while self.holds(block) {
            self.batch(&[gone([block])]);
            copies += 1;
        }
        copies
    }
}

#[test]
fn a_prompt_said_again_has_no_more_copies() {
    let mut s = Stream::new();
    s.batch(&[run(None, [1, 2, 3])]);
    let applied = s.batch(&[run(None, [1, 2, 3]), run(3, [4])]);
    assert_eq!((applied.again, applied.copies, applied.stored), (3, 0, 1));
    assert_eq!([1, 2, 3, 4].map(|b| s.copies(b)), [1, 1, 1, 1]);
}

#[test]
fn a_prompt_computed_anew_in_a_full_cache_has_two_copies() {
    for evicted in 0..3 {
        let mut s = Stream::new();
        s.batch(&[run(None, [1, 2]), run(None, [8, 9])]);
        let mut batch = vec![gone([9]), gone([8])];
        batch.truncate(evicted);
        batch.push(run(None, [1, 2]));
        let expected = if evicted == 2 { (2, 0) } else { (0, 2) };
        let applied = s.batch(&batch);
        assert_eq!((applied.copies, applied.again), expected, "{evicted} evicted for it");
    }
    // What was evicted for something else says nothing.
    let mut s = Stream::new();
    s.batch(&[run(None, [1, 2]), run(None, [8, 9])]);
    let batch = [gone([9]), gone([8]), run(None, [3]), run(None, [1, 2])];
    assert_eq!(s.batch(&batch).again, 2);
}

/// One-block prompts said again count as copies, until the prompt is told of at length.
#[test]
fn a_first_block_that_a_longer_prompt_begins_with_has_one_copy() {
    let mut s = Stream::new();
    for _ in 0..4 {
        s.batch(&[run(None, [1])]);
    }
    let applied = s.batch(&[run(None, [1, 2, 3])]);
    assert_eq!((applied.stored, applied.again, applied.copies), (3, 0, 0));
    assert_eq!([1, 2, 3].map(|b| s.copies(b)), [1, 1, 1]);
    // Not where more of it is held, and not where groups share the blocks.
    for (held, other_group) in [(2, false), (1, true)] {
        let mut s = Stream::new();
        if other_group {
            s.batch(&[run(None, [7]).in_group(1)]);
        }
        s.batch(&[run(None, 1..=held)]);
        s.batch(&[gone([5]), gone([5]), run(None, 1..=held)]);
        assert_eq!(s.batch(&[run(None, [1, 2, 3])]).copies as u64, held);
        assert_eq!(s.copies(1), 3);
    }
}

#[test]
fn the_last_block_of_a_full_hit_is_computed_again() {
    let mut s = Stream::new();
    s.batch(&[run(None, [1, 2, 3])]);
    let applied = s.batch(&[run(2, [3])]);
    assert_eq!((applied.again, applied.copies), (0, 1));
    assert_eq!([1, 2, 3].map(|b| s.copies(b)), [1, 1, 2]);
}

#[test]
fn a_prompt_of_one_block_is_computed_again_unless_somebody_goes_on() {
    let mut s = Stream::new();
    s.batch(&[run(None, [1])]);
    assert_eq!(s.batch(&[run(None, [1])]).copies, 1);
    assert_eq!(s.batch(&[run(None, [1]), run(1, [2])]).again, 1);
    // Going on before it, or in another group, is not going on from it.
    assert_eq!(s.batch(&[run(1, [5]), run(None, [1])]).copies, 1);
    assert_eq!(s.batch(&[run(None, [1]), run(1, [2]).in_group(1)]).copies, 1);
    assert_eq!(s.copies(1), 4);
}

#[test]
fn a_prompt_held_in_part_is_computed_again() {
    let mut s = Stream::new();
    s.batch(&[run(None, [1, 2, 3])]);
    s.batch(&[gone([2])]);
    // Block 3 is held and unreachable; the engine computes 2 and 3 from what it hit.
    assert_eq!(s.batch(&[run(1, [2, 3])]).copies, 1);
    assert_eq!([1, 2, 3].map(|b| s.copies(b)), [1, 1, 2]);
    s.batch(&[run(None, [1, 2, 3])]);
    s.batch(&[gone([1])]);
    assert_eq!(s.batch(&[run(None, [1, 2, 3])]).copies, 2);
    assert_eq!([1, 2, 3].map(|b| s.copies(b)), [1, 2, 2]);
}

#[test]
fn what_another_group_lacks_is_computed_again_for_all() {
    for other_first in [true, false] {
        let mut s = Stream::new();
        let both = |s: &mut Stream| {
            let mut batch = [run(None, [1, 2, 3]), run(None, [1, 2, 3]).in_group(1)];
            if other_first {
                batch.reverse();
            }
            s.batch(&batch)
        };
        both(&mut s);
        assert_eq!(both(&mut s).again, 6, "both groups hold all: said again");
        s.batch(&[gone([1, 2]).in_group(1)]);
        let applied = both(&mut s);
        assert_eq!((applied.stored, applied.copies, applied.again), (2, 4, 0));
        assert_eq!([1, 2, 3].map(|b| s.copies(b)), [2, 2, 2]);
    }
}

#[test]
fn another_groups_other_prompt_decides_nothing() {
    let mut s = Stream::new();
    let both = |b: u64| [run(None, [b, 2]), run(None, [b, 2]).in_group(1)];
    s.batch(&both(1));
    let applied = s.batch(&[both(1), both(7)].concat());
    assert_eq!((applied.again, applied.stored, applied.copies), (4, 2, 2));
}

/// The undecidable cases, as the module's documentation takes them.
#[test]
fn what_cannot_be_decided_is_taken_as_documented() {
    let mut s = Stream::new();
    let both = s.batch(&[run(None, [1, 2]), run(None, [1, 2])]);
    assert_eq!(both.again, 2, "computed anew in a cache with room: as said again");
    let mut s = Stream::new();
    s.batch(&[run(None, [1])]);
    let both = s.batch(&[run(None, [1]), run(1, [2])]);
    assert_eq!(both.again, 1, "computed again while another goes on: as said again");
}

#[test]
fn a_hash_in_two_groups_is_two_blocks() {
    let mut s = Stream::new();
    s.batch(&[run(None, [1, 2]), run(None, [1, 2]).in_group(1)]);
    s.batch(&[gone([1]).in_group(1)]);
    let in_group = |group| Holder { group: Group(group), ..Holder::device(A) };
    assert!(s.holds(1) && !s.index.holds(in_group(1), BlockHash(1)));
    assert!(s.index.holds(in_group(1), BlockHash(2)));
}

#[test]
fn clearing_forgets_blocks() {
    let mut s = Stream::new();
    s.batch(&[run(None, [1, 2])]);
    let applied = s.batch(&[Say::Clear, run(None, [1])]);
    assert!(applied.cleared && s.holds(1) && !s.holds(2));
    assert_eq!(s.copies(1), 1);
}

#[test]
fn media_and_localities_are_tiers() {
    let hashes = [KEY(1)];
    let at = |medium, locality| {
        Event::Stored(Stored { hashes: &hashes, tokens: &[1, 2], medium, locality, ..PLAIN })
    };
    let cases = [
        (None, None, Tier::DEVICE),
        (Some(Medium("GPU")), Some(Locality::Local), Tier::DEVICE),
        (Some(Medium("cpu")), None, Tier::HOST),
        (Some(Medium("STORAGE")), None, Tier::DISK),
        (Some(Medium("FS")), Some(Locality::Remote), Tier::SHARED),
        (None, Some(Locality::Remote), Tier::SHARED),
        (Some(Medium("tape")), None, Tier::MAX),
    ];
    for (medium, locality, tier) in cases {
        let mut s = Stream::new();
        let applied = s.events(&[at(medium, locality)]);
        assert_eq!(applied.unknown_medium, usize::from(tier == Tier::MAX));
        let holder = Holder { tier, ..Holder::device(A) };
        assert!(s.index.holds(holder, BlockHash(1)), "{medium:?} {locality:?}");
        s.events(&[Event::Removed(Removed { hashes: &hashes, medium, locality, ..GONE })]);
        assert!(!s.index.holds(holder, BlockHash(1)), "{medium:?} {locality:?}");
    }
}

#[test]
fn slower_tiers_hold_a_block_once() {
    let mut s = Stream::new();
    let hashes = [KEY(1)];
    let placeholder = Event::Stored(Stored {
        hashes: &hashes,
        block_size: 0,
        medium: Some(Medium("CPU")),
        ..PLAIN
    });
    s.batch(&[run(None, [1])]);
    s.events(&[placeholder]);
    assert_eq!(s.events(&[placeholder]).copies, 0);
    let gone = Removed { hashes: &hashes, medium: Some(Medium("CPU")), ..GONE };
    assert_eq!(s.events(&[Event::Removed(gone)]).removed, 1);
    assert!(s.holds(1));
}

#[test]
fn groups_follow_the_rules_their_events_show() {
    let mut s = Stream::new();
    // Window 6, blocks of 2: the last three blocks of group 1 are enough.
    let full = run(None, 1..=8);
    s.batch(&[full.clone().in_group(1).masked(&[6, 7, 8]), full]);
    let mut matches = PrefixMatches::new();
    let hashes: Vec<_> = (1..=8).map(BlockHash).collect();
    s.index.find_matches(&hashes, &mut matches);
    assert_eq!(matches.blocks(A), 8);
    s.index.find_matches(&hashes[..7], &mut matches);
    assert_eq!(matches.blocks(A), 0, "block 5 has left the window's group");
}

#[test]
fn a_block_size_that_does_not_fit_is_refused_and_told() {
    let mut s = Stream::new();
    let hashes = [KEY(1)];
    let odd = Stored { hashes: &hashes, tokens: &[1, 2, 3], block_size: 3, ..PLAIN };
    let applied = s.events(&[Event::Stored(odd)]);
    assert_eq!((applied.stored, applied.refused), (0, 1));
    let why = applied.refusal.unwrap().to_string();
    assert!(why.contains('3') && why.contains('2'), "{why}");
    assert!(applied.is_incomplete());
}

/// Names by content, for streams whose hashes mean nothing.
fn by_content(s: &mut Stream, says: &[Say]) -> Applied {
    let events: Vec<_> = says.iter().map(Say::event).collect();
    let mut naming = names;
    s.applier.apply(&mut s.index, &mut Identity::Content(&mut naming), events.iter().copied())
}

fn content_names(blocks: impl IntoIterator<Item = u64>) -> Vec<BlockHash> {
    let mut last = None;
    let next = |b: u64| {
        last = Some(name(last, &[], &[b as u32, 0]));
        last
    };
    blocks.into_iter().filter_map(next).collect()
}

fn matched(s: &Stream, hashes: &[BlockHash]) -> u32 {
    let mut matches = PrefixMatches::new();
    s.index.find_matches(hashes, &mut matches);
    matches.blocks(A)
}

#[test]
fn children_before_their_parents_wait_for_a_name() {
    let mut s = Stream::new();
    let all = content_names(1..=6);
    let applied = by_content(&mut s, &[run(4, [5, 6]), run(2, [3, 4])]);
    assert_eq!((applied.pending, applied.stored), (4, 0));
    // 6 is removed while it waits.
    assert_eq!(by_content(&mut s, &[gone([6, 99])]).removed, 0);
    let applied = by_content(&mut s, &[run(None, [1, 2])]);
    assert_eq!((applied.stored, applied.removed), (6, 1));
    assert_eq!(matched(&s, &all), 5);
    by_content(&mut s, &[gone([3])]);
    assert_eq!(matched(&s, &all), 2);
}

#[test]
fn a_long_chain_of_waiting_stores_costs_no_stack() {
    let mut s = Stream::new();
    let mut given_up = 0;
    for b in (2..20_000).rev() {
        given_up += by_content(&mut s, &[run(b - 1, [b])]).unnamed;
    }
    assert!(given_up > 0, "what waits is bounded");
    let applied = by_content(&mut s, &[run(None, [1])]);
    assert!(applied.stored > 1000, "{applied:?}");
    assert_eq!(matched(&s, &content_names(1..1000)), 999);
}

#[test]
fn masked_blocks_are_placed_by_the_group_that_tells_all() {
    let mut s = Stream::new();
    let all = content_names(1..=8);
    let full = run(None, 1..=8);
    // Neither the first nor the last of the range, and announced before the complete run.
    let masked = full.clone().in_group(1).masked(&[5, 6, 7]);
    let applied = by_content(&mut s, &[masked.clone(), full]);
    assert_eq!((applied.stored, applied.unnamed), (11, 0));
    let window = Holder { group: Group(1), ..Holder::device(A) };
    for (i, &hash) in all.iter().enumerate() {
        assert_eq!(s.index.holds(window, hash), (4..7).contains(&i), "block {i}");
    }
    assert_eq!((matched(&s, &all), matched(&s, &all[..7])), (7, 7));
    // Nobody tells the place: not stored, and said so.
    let mut s = Stream::new();
    let applied = by_content(&mut s, &[masked]);
    assert_eq!((applied.stored, applied.unnamed), (0, 3));
}

#[test]
fn placeholders_are_named_by_what_was_stored() {
    let mut s = Stream::new();
    by_content(&mut s, &[run(None, [1, 2])]);
    let (known, unknown) = ([KEY(2), KEY(1)], [KEY(9)]);
    let at = |hashes| {
        Event::Stored(Stored { hashes, block_size: 0, medium: Some(Medium("CPU")), ..PLAIN })
    };
    let mut naming = names;
    let mut identity = Identity::Content(&mut naming);
    let events = [at(&known[..]), at(&unknown[..])];
    let applied = s.applier.apply(&mut s.index, &mut identity, events.into_iter());
    assert_eq!((applied.stored, applied.unnamed), (2, 1));
    let host = Holder { tier: Tier::HOST, ..Holder::device(A) };
    assert!(content_names([1, 2]).iter().all(|&h| s.index.holds(host, h)));
}

/// Every batch of a hostile stream takes time in proportion to its length.
#[test]
fn no_batch_takes_quadratic_time() {
    let mut s = Stream::new();
    let n = 30_000;
    let roots: Vec<_> = (0..n).map(|b| run(None, [b])).collect();
    let others = roots.iter().cloned().map(|r| r.in_group(1));
    let all: Vec<_> = roots.iter().cloned().chain(others).collect();
    s.batch(&all);
    // All held, all in doubt, none continued.
    let applied = s.batch(&all);
    assert_eq!(applied.copies, 2 * n as usize);
    let mut s = Stream::new();
    for b in 0..n {
        by_content(&mut s, &[run(1 << 40, [b])]);
    }
    by_content(&mut s, &[gone(0..n), run(None, [1 << 40])]);
}
