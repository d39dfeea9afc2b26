//! The facade as a gateway uses it: good input, bad input, and what a stream can do to it.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]

use kvsched::events::{ReplayMessage, vllm};
use kvsched::index::ChunkKey;
use kvsched::segment::Reuse;
use kvsched::{
    Algorithm, BlockHash, BlockHasher, BuildRouterError, Chunk, EndpointId, EndpointSpec,
    EngineHash, Event, Extras, Finding, HashError, IngestError, Load, Prompt, RegistryError,
    RestoreError, Role, RouteError, RouteInput, RouteScratch, Router, RouterError, Scheme, Stored,
    Tier, Time, Trust, VllmVersion,
};
use std::num::NonZeroU32;
use std::time::Duration;

const BLOCK: usize = 16;

fn hasher() -> BlockHasher {
    let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256Cbor, None).unwrap();
    BlockHasher::builder(scheme).block_size(BLOCK).build().unwrap()
}

fn router() -> Router {
    Router::builder(hasher()).build().unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).collect()
}

/// The payload of an engine that has stored all full blocks of `tokens`.
fn stored(tokens: &[u32]) -> Vec<u8> {
    stored_by(&hasher(), tokens)
}

fn stored_by(hasher: &BlockHasher, tokens: &[u32]) -> Vec<u8> {
    let mut blocks = Vec::new();
    hasher.hash_into(&Prompt::new(tokens), &mut blocks).unwrap();
    let hashes: Vec<EngineHash> = blocks.iter().map(|b: &BlockHash| EngineHash(b.0)).collect();
    let range = &tokens[..blocks.len() * BLOCK];
    payload(&[Event::Stored(Stored::new(None, &hashes, range, BLOCK as u32))])
}

fn payload(events: &[Event<'_>]) -> Vec<u8> {
    let events: Vec<_> = events.iter().map(|&e| e.into()).collect();
    let mut out = Vec::new();
    vllm::encode(vllm::Version::NEWEST, 0.0, Some(0), &events, &mut out);
    out
}

fn cached(router: &Router, endpoint: EndpointId, tokens: &[u32]) -> u32 {
    router.cached_tokens(endpoint, &Prompt::new(tokens), &mut RouteScratch::new(0)).unwrap()
}

#[test]
fn routes_to_the_endpoint_that_holds_the_prompt() {
    let router = router();
    let ids: Vec<_> =
        ["a", "b", "c"].iter().map(|&name| router.add_endpoint(name).unwrap()).collect();
    let tokens = tokens(1000);
    router.ingest(ids[1], 0, &stored(&tokens), Time(0)).unwrap();
    let loads = [Load::default(), Load::default(), Load::default()];
    let mut scratch = RouteScratch::new(0);
    let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &ids) };
    let decision = router.route(&input, &mut scratch).unwrap();
    assert_eq!((decision.endpoint, decision.matched_blocks), (ids[1], 62));
    assert!(router.explain(&scratch).starts_with("b chosen"), "{}", router.explain(&scratch));
}

#[test]
fn the_last_token_is_never_a_hit() {
    let router = router();
    let a = router.add_endpoint("a").unwrap();
    router.ingest(a, 0, &stored(&tokens(64)), Time(0)).unwrap();
    for (prompt, expected) in [(0, 0), (1, 0), (16, 0), (17, 16), (63, 48), (64, 48), (65, 64)] {
        assert_eq!(cached(&router, a, &tokens(prompt)), expected, "prompt of {prompt} tokens");
    }
}

#[test]
fn a_message_taken_in_twice_changes_nothing() {
    let router = router();
    let a = router.add_endpoint("a").unwrap();
    let message = stored(&tokens(64));
    assert_eq!(router.ingest(a, 0, &message, Time(0)).unwrap().applied.stored, 4);
    router.ingest(a, 1, &payload(&[]), Time(0)).unwrap();
    assert!(router.ingest(a, 0, &message, Time(0)).unwrap().duplicate);
    assert_eq!(cached(&router, a, &tokens(65)), 64);
}

#[test]
fn a_gap_asks_for_a_replay_and_waits_for_it() {
    let router = router();
    let a = router.add_endpoint("a").unwrap();
    let (first, second) = (stored(&tokens(64)), payload(&[Event::Cleared]));
    let late = router.ingest(a, 1, &second, Time(0)).unwrap();
    assert_eq!((late.batches, late.replay_from), (0, Some(0)));
    assert_eq!(router.trust(a).unwrap().trust, Trust::Degraded);
    let message = ReplayMessage::Batch { sequence: 0, payload: &first };
    assert_eq!(router.replayed(a, message, Time(1)).unwrap().batches, 2);
    router.replayed(a, ReplayMessage::End, Time(2)).unwrap();
    assert_eq!(router.trust(a).unwrap().trust, Trust::Exact);
    assert_eq!(cached(&router, a, &tokens(65)), 0, "stored by message 0, cleared by message 1");
}

#[test]
fn a_restarted_engine_has_forgotten_everything() {
    let router = router();
    let a = router.add_endpoint("a").unwrap();
    router.ingest(a, 0, &stored(&tokens(64)), Time(0)).unwrap();
    router.ingest(a, 1, &payload(&[]), Time(0)).unwrap();
    assert!(router.ingest(a, 0, &payload(&[]), Time(0)).unwrap().restarted);
    assert_eq!(cached(&router, a, &tokens(65)), 0);
}

#[test]
fn a_new_endpoint_never_inherits_a_removed_ones_blocks() {
    let router = router();
    let a = router.add_endpoint("a").unwrap();
    router.ingest(a, 0, &stored(&tokens(64)), Time(0)).unwrap();
    router.remove_endpoint(a);
    assert_eq!(
        router.ingest(a, 1, &payload(&[]), Time(0)),
        Err(IngestError::UnknownEndpoint(a)),
        "a removed endpoint's late messages"
    );
    let b = router.add_endpoint("b").unwrap();
    assert_eq!(cached(&router, b, &tokens(65)), 0);
}

#[test]
fn names_are_unique() {
    let router = router();
    let a = router.add_endpoint("a").unwrap();
    let again = router.add_endpoint("a").unwrap_err();
    assert!(matches!(again, RegistryError::Taken { .. }), "{again}");
    assert_eq!(router.find_endpoint("a", 0).unwrap(), a);
}

#[test]
fn bad_input_is_an_error_and_changes_nothing() {
    let router = router();
    let a = router.add_endpoint("a").unwrap();
    router.ingest(a, 0, &stored(&tokens(64)), Time(0)).unwrap();
    for bytes in [&b""[..], b"\xc1", b"\xdd\xff\xff\xff\xff", b"not msgpack"] {
        let heard = router.ingest(a, 1, bytes, Time(0)).unwrap();
        assert_eq!((heard.batches, heard.applied.stored), (0, 0));
        assert_eq!(router.trust(a).unwrap().trust, Trust::Degraded);
    }
    assert_eq!(cached(&router, a, &tokens(65)), 64);

    let mut scratch = RouteScratch::new(0);
    let bad = vec![u32::MAX; 64];
    let error = router.route(&RouteInput::new(Prompt::new(&bad), &[a]), &mut scratch).unwrap_err();
    assert!(matches!(error, RouterError::Hash(HashError::TokenRange { .. })), "{error}");
    let tokens = tokens(64);
    let nobody = router.route(&RouteInput::new(Prompt::new(&tokens), &[]), &mut scratch);
    assert_eq!(nobody, Err(RouterError::Route(RouteError::NoCandidates)));
    let stranger =
        router.route(&RouteInput::new(Prompt::new(&tokens), &[EndpointId(9)]), &mut scratch);
    assert_eq!(stranger, Err(RouterError::UnknownEndpoint(EndpointId(9))));
}

#[test]
fn without_events_it_learns_from_its_own_decisions() {
    let router = Router::builder(hasher())
        .history(NonZeroU32::new(100).unwrap(), Duration::from_secs(60))
        .build()
        .unwrap();
    let ids = [router.add_endpoint("a").unwrap(), router.add_endpoint("b").unwrap()];
    let tokens = tokens(65);
    let mut scratch = RouteScratch::new(0);
    let loads = [Load::default(), Load::default()];
    let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &ids) };
    let first = router.route(&input, &mut scratch).unwrap();
    assert_eq!(first.matched_blocks, 0);
    router.record(first.endpoint, &scratch, Time(0)).unwrap();
    for seed in 0..10 {
        let again = router.route(&input, &mut RouteScratch::new(seed)).unwrap();
        assert_eq!((again.endpoint, again.matched_blocks), (first.endpoint, 4));
    }
    // One endpoint's cache is smaller than the others'.
    assert!(router.set_cache_blocks(first.endpoint, 3));
    assert_eq!(router.route(&input, &mut scratch).unwrap().matched_blocks, 3);
    router.tick(ids[0], Time::from_secs_f64(60.0)).unwrap();
    assert_eq!(router.route(&input, &mut scratch).unwrap().matched_blocks, 0);
}

#[test]
fn a_burst_of_one_new_prompt_lands_together() {
    let router = router();
    let ids: Vec<_> =
        ["a", "b", "c"].iter().map(|&name| router.add_endpoint(name).unwrap()).collect();
    let tokens = tokens(1000);
    let loads = [Load::default(), Load::default(), Load::default()];
    let mut scratch = RouteScratch::new(3);
    let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &ids) };
    let first = router.route(&input, &mut scratch).unwrap();
    assert_eq!(first.matched_blocks, 0);
    assert_eq!(router.record(first.endpoint, &scratch, Time(0)).unwrap(), None, "no ledger");

    let second = router.route(&input, &mut scratch).unwrap();
    assert_eq!((second.endpoint, second.matched_blocks), (first.endpoint, 62));
    // Events alone know nothing of it, and it is not believed for ever.
    assert_eq!(cached(&router, first.endpoint, &tokens), 0);
    router.tick(ids[0], Time::from_secs_f64(2.0)).unwrap();
    assert_eq!(router.route(&input, &mut scratch).unwrap().matched_blocks, 0);

    // Nor of an engine that says its cache is empty.
    router.record(first.endpoint, &scratch, Time::from_secs_f64(3.0)).unwrap();
    assert_eq!(router.route(&input, &mut scratch).unwrap().matched_blocks, 62);
    router.ingest(first.endpoint, 0, &payload(&[Event::Cleared]), Time(4)).unwrap();
    assert_eq!(router.route(&input, &mut scratch).unwrap().matched_blocks, 0);
}

#[test]
fn what_was_sent_counts_before_metrics_tell() {
    let router = Router::builder(hasher())
        .profile(kvsched::preset::by_name("least-request").unwrap())
        .in_flight(Duration::from_secs(600))
        .build()
        .unwrap();
    let ids = ["a", "b"].map(|name| router.add_endpoint(name).unwrap());
    let tokens = tokens(1000);
    // Metrics of the beginning, which are all there ever is.
    let loads = [Load::default(), Load::default()];
    let mut scratch = RouteScratch::new(3);
    let mut sent = [0; 2];
    let mut tickets = Vec::new();
    for i in 1..=20 {
        let now = Time(i);
        let input =
            RouteInput { loads: &loads, now, ..RouteInput::new(Prompt::new(&tokens), &ids) };
        let chosen = router.route(&input, &mut scratch).unwrap().endpoint;
        sent[chosen.index()] += 1;
        tickets.push(router.record(chosen, &scratch, now).unwrap().unwrap());
    }
    assert_eq!(sent, [10, 10]);
    let ledger = router.in_flight().unwrap();
    for id in ids {
        let outstanding = ledger.outstanding(id);
        assert_eq!(outstanding.requests, sent[id.index()]);
        assert_eq!(outstanding.prefill_tokens, 1000 * u64::from(sent[id.index()]));
    }
    assert!(tickets.iter().all(|&ticket| ledger.finish(ticket, 10, Time(30))));
    assert!(ids.iter().all(|&id| ledger.outstanding(id).requests == 0));
    assert!(router.record(EndpointId(7), &scratch, Time(0)).is_err());
}

#[test]
fn a_remembered_prefix_hashes_as_a_new_one() {
    let router = router();
    let id = router.add_endpoint("a").unwrap();
    router.ingest(id, 0, &stored(&tokens(3000)), Time(0)).unwrap();
    let mut with = router.scratch_with_memo(0, 1 << 20).unwrap();
    for len in [3000, 1, 0, 16, 17, 2000, 3000, 2992, 2993] {
        let tokens = tokens(len);
        let prompt = Prompt::new(&tokens);
        let mut without = RouteScratch::new(0);
        let cached = router.cached_tokens(id, &prompt, &mut without).unwrap();
        assert_eq!(router.cached_tokens(id, &prompt, &mut with).unwrap(), cached);
        assert_eq!(with.hashes(), without.hashes());
    }
    assert!(with.memo_stats().unwrap().remembered_blocks > 0);

    // Another engine's router gets its own hashes, not the remembered ones.
    let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, None).unwrap();
    let other = BlockHasher::builder(scheme).block_size(BLOCK).build().unwrap();
    let other = Router::builder(other).build().unwrap();
    let tokens = tokens(100);
    let id = other.add_endpoint("b").unwrap();
    other.cached_tokens(id, &Prompt::new(&tokens), &mut with).unwrap();
    let mut without = RouteScratch::new(0);
    other.cached_tokens(id, &Prompt::new(&tokens), &mut without).unwrap();
    assert_eq!(with.hashes(), without.hashes());
}

#[test]
fn a_snapshot_seeds_a_replica_that_goes_on_where_it_was_taken() {
    let router = router();
    let spec = |name| {
        let labels = [("zone", "b")].into_iter().collect();
        EndpointSpec::new(name).rank(1).role(Role::Decode).model("m").labels(labels)
    };
    let ids = ["a", "b", "c", "d"].map(|name| router.add_endpoint(spec(name)).unwrap());
    let tokens = tokens(1000);
    for id in [ids[0], ids[2], ids[3]] {
        router.ingest(id, 0, &stored(&tokens), Time(0)).unwrap();
    }
    router.remove_endpoint(ids[0]);
    // A gap nobody filled: what is known of `d` is not whole.
    router.ingest(ids[3], 5, &payload(&[]), Time(0)).unwrap();
    router.replayed(ids[3], ReplayMessage::End, Time(0)).unwrap();

    let mut bytes = Vec::new();
    router.write_snapshot(|piece| bytes.extend(piece)).unwrap();
    let restore = |bytes: &[u8]| {
        let mut restoring = Router::builder(hasher()).restore()?;
        bytes.chunks(7).try_for_each(|piece| restoring.push(piece))?;
        restoring.finish(Time(9))
    };
    let replica = restore(&bytes).unwrap();
    assert_eq!(replica.endpoints().len(), 3);
    for (ours, theirs) in replica.endpoints().iter().zip(router.endpoints()) {
        assert_eq!((ours.id(), ours.spec()), (theirs.id(), theirs.spec()));
    }
    assert_eq!(cached(&replica, ids[2], &tokens), cached(&router, ids[2], &tokens));
    assert_eq!(replica.trust(ids[2]).unwrap().trust, Trust::Exact);
    assert_eq!(replica.trust(ids[3]).unwrap().trust, Trust::Approximate);
    assert_eq!((replica.next_sequence(ids[2]), replica.next_sequence(ids[3])), (Some(1), Some(0)));
    let heard = replica.ingest(ids[2], 1, &payload(&[Event::Cleared]), Time(9)).unwrap();
    assert_eq!((heard.batches, cached(&replica, ids[2], &tokens)), (1, 0));
    // The id of the one that left is free.
    assert_eq!(replica.add_endpoint("e").unwrap(), ids[0]);

    for len in 0..bytes.len() {
        assert!(restore(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, None).unwrap();
    let other = BlockHasher::builder(scheme).block_size(BLOCK).build().unwrap();
    let mut restoring = Router::builder(other).restore().unwrap();
    restoring.push(&bytes).unwrap();
    assert!(matches!(restoring.finish(Time(0)), Err(RestoreError::Hasher { .. })));
}

#[test]
fn what_is_believed_less_counts_for_less() {
    let router = Router::builder(hasher())
        .profile(kvsched::preset::by_name("cost").unwrap())
        .build()
        .unwrap();
    let ids = ["whole", "gappy"].map(|name| router.add_endpoint(name).unwrap());
    let tokens = tokens(4001);
    for id in ids {
        router.ingest(id, 0, &stored(&tokens), Time(0)).unwrap();
    }
    router.ingest(ids[1], 2, &payload(&[]), Time(0)).unwrap();
    let loads = [Load::default(), Load::default()];
    for seed in 0..10 {
        let mut scratch = RouteScratch::new(seed);
        let now = Time::from_secs_f64(2.0);
        let input =
            RouteInput { loads: &loads, now, ..RouteInput::new(Prompt::new(&tokens), &ids) };
        assert_eq!(router.route(&input, &mut scratch).unwrap().endpoint, ids[0]);
        let told = router.explain_with_terms(&input, &scratch);
        assert!(
            told.contains("gappy") && told.contains("(Degraded, heard of 2.0 s ago)"),
            "{told}"
        );
        assert!(told.contains(" s = "), "{told}");
    }
}

#[test]
fn a_fleet_takes_every_id_there_is_and_no_more() {
    let router = router();
    for i in 0..u16::MAX {
        assert_eq!(router.add_endpoint(format!("e{i}").as_str()).unwrap(), EndpointId(i));
    }
    assert!(matches!(
        router.add_endpoint("one more"),
        Err(RegistryError::Full { endpoints: 65_535 })
    ));
    let tokens = tokens(100);
    let last = EndpointId(u16::MAX - 1);
    router.ingest(last, 0, &stored(&tokens), Time(0)).unwrap();
    let ids = [EndpointId(0), EndpointId(30_000), last];
    let loads = [Load::default(), Load::default(), Load::default()];
    let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &ids) };
    let decision = router.route(&input, &mut RouteScratch::new(0)).unwrap();
    assert_eq!((decision.endpoint, decision.matched_blocks), (last, 6));
    // The id that no endpoint can have is unknown to every call.
    let nobody = EndpointId(u16::MAX);
    assert!(router.ingest(nobody, 0, &[], Time(0)).is_err());
    assert!(!router.remove_endpoint(nobody) && router.trust(nobody).is_none());
    assert!(router.remove_endpoint(EndpointId(30_000)));
    assert_eq!(router.add_endpoint("one more").unwrap(), EndpointId(30_000));
}

#[test]
fn an_engine_with_another_seed_is_found_all_the_same_and_told_of() {
    let content = Scheme::content("model", b"a secret of some length").unwrap();
    let content = BlockHasher::builder(content).block_size(BLOCK).build().unwrap();
    let router = Router::builder(hasher()).check(content.clone(), &[]).build().unwrap();
    let ids = ["right", "wrong"].map(|name| router.add_endpoint(name).unwrap());
    let tokens = tokens(1000);
    let seeded = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256Cbor, Some("0")).unwrap();
    let seeded = BlockHasher::builder(seeded).block_size(BLOCK).build().unwrap();
    router.ingest(ids[0], 0, &stored(&tokens[..500]), Time(0)).unwrap();
    router.ingest(ids[1], 0, &stored_by(&seeded, &tokens[..160]), Time(0)).unwrap();
    assert_eq!(router.diagnose(ids[0]), []);
    let found = router.diagnose(ids[1]);
    assert!(matches!(found[..], [Finding::Scheme { .. }]), "{found:?}");

    let loads = [Load::default(), Load::default()];
    let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &ids) };
    let mut scratch = RouteScratch::new(0);
    router.route(&input, &mut scratch).unwrap();
    assert_eq!(scratch.matches().as_slice(), [31, 10]);
    assert_eq!(cached(&router, ids[1], &tokens), 160);
    // What it evicts is gone, and what follows goes on from what was there.
    router.ingest(ids[1], 1, &stored_by(&seeded, &tokens), Time(1)).unwrap();
    assert_eq!(cached(&router, ids[1], &tokens), 992);
    router.ingest(ids[1], 2, &payload(&[Event::Cleared]), Time(1)).unwrap();
    assert_eq!(cached(&router, ids[1], &tokens), 0);

    // A prediction that was wrong shows what the prompt lacked here.
    let salted = Prompt {
        extras: Extras { cache_salt: Some("tenant"), ..Extras::default() },
        ..Prompt::new(&tokens)
    };
    router.compare(ids[0], &salted, 0, 496);
    let found = router.diagnose(ids[0]);
    assert!(matches!(found[..], [Finding::Salt { .. }]), "{found:?}");

    let engines = Router::builder(hasher()).check(hasher(), &[]).build();
    assert!(matches!(engines, Err(BuildRouterError::Fallback { .. })));
}

#[test]
fn a_prefix_that_everybody_asks_for_becomes_known_as_hot() {
    let router = router();
    let id = router.add_endpoint("a").unwrap();
    let tokens = tokens(1000);
    router.ingest(id, 0, &stored(&tokens), Time(0)).unwrap();
    let mut scratch = RouteScratch::new(0);
    let loads = [Load::default()];
    let ids = [id];
    let mut heard = Vec::new();
    for i in 0..200 {
        let now = Time::from_secs_f64(f64::from(i) * 0.05);
        let input =
            RouteInput { loads: &loads, now, ..RouteInput::new(Prompt::new(&tokens), &ids) };
        router.route(&input, &mut scratch).unwrap();
        heard.push(scratch.prefix_demand());
        router.record(id, &scratch, now).unwrap();
    }
    assert_eq!(heard[0], 0.0);
    assert!((15.0..25.0).contains(&heard[199]), "20 a second, not {}", heard[199]);
}

#[test]
fn prompts_may_come_as_hashes() {
    let router = router();
    let ids = [router.add_endpoint("a").unwrap(), router.add_endpoint("b").unwrap()];
    let tokens = tokens(4 * BLOCK);
    router.ingest(ids[1], 0, &stored(&tokens), Time(0)).unwrap();
    let mut hashes = Vec::new();
    hasher().hash_into(&Prompt::new(&tokens), &mut hashes).unwrap();
    let mut scratch = RouteScratch::new(1);
    let loads = [Load::default(), Load::default()];
    let mut route = |tokens, hashes| {
        let input =
            RouteInput { hashes, loads: &loads, ..RouteInput::new(Prompt::new(tokens), &ids) };
        let decision = router.route(&input, &mut scratch).unwrap();
        assert_eq!(decision.endpoint, ids[1]);
        (decision.matched_blocks, decision.prompt_blocks)
    };
    // An engine computes a prompt's last token even where it holds all blocks.
    assert_eq!(route(&tokens, None), (3, 3));
    assert_eq!(route(&tokens, Some(&hashes[..])), (3, 3));
    assert_eq!(route(&[], Some(&hashes[..])), (4, 4));
    assert_eq!(route(&tokens, Some(&hashes[..2])), (2, 2));
}

#[test]
fn hashes_beside_tokens_still_find_what_only_content_names() {
    let foreign = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, Some("another")).unwrap();
    let foreign = BlockHasher::builder(foreign).block_size(BLOCK).build().unwrap();
    let content = Scheme::content("model", b"sixteen or more bytes").unwrap();
    let content = BlockHasher::builder(content).block_size(BLOCK).build().unwrap();
    let router = Router::builder(hasher()).check(content, &[]).build().unwrap();
    let a = router.add_endpoint("a").unwrap();
    let tokens = tokens(100);
    router.ingest(a, 0, &stored_by(&foreign, &tokens), Time(0)).unwrap();
    let mut hashes = Vec::new();
    hasher().hash_into(&Prompt::new(&tokens), &mut hashes).unwrap();
    let loads = [Load::default()];
    let input = RouteInput {
        hashes: Some(&hashes),
        loads: &loads,
        ..RouteInput::new(Prompt::new(&tokens), std::slice::from_ref(&a))
    };
    let decision = router.route(&input, &mut RouteScratch::new(1)).unwrap();
    assert_eq!(decision.matched_blocks, 6);
}

#[test]
fn chunks_save_what_the_prefix_does_not() {
    let plain = router();
    let router = Router::builder(hasher()).chunks(1 << 20).build().unwrap();
    let ids = ["a", "b", "c"].map(|name| router.add_endpoint(name).unwrap());
    plain.add_endpoint("a").unwrap();
    let tokens = tokens(200);
    // a holds the prompt up to token 96, b both chunks, c only a part of the first.
    router.ingest(ids[0], 0, &stored(&tokens[..97]), Time(0)).unwrap();
    let key = |content| ChunkKey { content, adapter: 0 };
    let chunk =
        |content, start| Chunk { key: key(content), start, tokens: 50, reuse: Reuse::Packet };
    let chunks = router.chunks().unwrap();
    for (holder, content, complete) in [(0, 1, true), (1, 1, true), (1, 2, true), (2, 1, false)] {
        chunks.store(key(content), ids[holder], Tier::DEVICE, complete).unwrap();
    }
    let loads = [Load::default(), Load::default(), Load::default()];
    let mut scratch = RouteScratch::new(1);
    let mut route = |router: &Router, chunks: &[Chunk], candidates| {
        let loads = &loads[..];
        let prompt = Prompt::new(&tokens);
        let input = RouteInput { chunks, loads, ..RouteInput::new(prompt, candidates) };
        router.route(&input, &mut scratch).map(|_| scratch.saved_tokens().to_vec())
    };
    // Of a's first chunk, which ends at token 130, 96 - 80 tokens matched already.
    assert_eq!(route(&router, &[chunk(1, 80), chunk(2, 140)], &ids), Ok(vec![34, 100]));
    assert_eq!(route(&router, &[], &ids), Ok(vec![]));
    let epic = Chunk { reuse: Reuse::Epic { leading_tokens: 20 }, ..chunk(2, 140) };
    assert_eq!(route(&router, &[epic], &ids), Ok(vec![0, 30]));

    let wrong = |start, free| RouterError::Chunk { start, tokens: 50, free, prompt: 200 };
    assert_eq!(route(&router, &[chunk(1, 151)], &ids), Err(wrong(151, 0)));
    assert_eq!(route(&router, &[chunk(1, u32::MAX)], &ids), Err(wrong(u32::MAX, 0)));
    assert_eq!(route(&router, &[chunk(1, 20), chunk(2, 69)], &ids), Err(wrong(69, 70)));
    assert_eq!(route(&plain, &[chunk(1, 0)], &ids[..1]), Err(RouterError::NoChunks(1)));

    // Whoever comes next under its id has none of them.
    router.remove_endpoint(ids[1]);
    assert_eq!(router.add_endpoint("d").unwrap(), ids[1]);
    assert_eq!(route(&router, &[chunk(2, 140)], &ids), Ok(vec![]));
}

#[test]
fn what_chunks_save_counts() {
    let profile = || kvsched::preset::by_name("cost").unwrap();
    let router = Router::builder(hasher())
        .chunks(1 << 20)
        .in_flight(Duration::from_secs(600))
        .profile(profile())
        .build()
        .unwrap();
    let ids = ["a", "b", "c", "d"].map(|name| router.add_endpoint(name).unwrap());
    let key = ChunkKey { content: 5, adapter: 0 };
    router.chunks().unwrap().store(key, ids[2], Tier::DEVICE, true).unwrap();
    let tokens = tokens(4000);
    let document = Chunk { key, start: 100, tokens: 3800, reuse: Reuse::Packet };
    let loads = [0; 4].map(|_| Load::default());
    let input = RouteInput {
        chunks: &[document],
        loads: &loads,
        ..RouteInput::new(Prompt::new(&tokens), &ids)
    };
    let mut scratch = RouteScratch::new(3);
    assert_eq!(router.route(&input, &mut scratch).unwrap().endpoint, ids[2]);
    router.record(ids[2], &scratch, Time(0)).unwrap();
    let mut row = Load::default();
    router.in_flight().unwrap().apply(ids[2], &mut row, Time(1));
    assert_eq!(row.queued_prefill_tokens, 200);
}
