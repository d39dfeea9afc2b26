//! Threads route while others take in messages and change the fleet.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]
#![allow(clippy::disallowed_methods, reason = "threads belong to the caller: the test is one")]

use kvsched::events::vllm;
use kvsched::{
    Algorithm, BlockHasher, EndpointId, EngineHash, Event, Load, Prompt, RouteInput, RouteScratch,
    Router, RouterError, Scheme, Stored, Time, VllmVersion,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const BLOCK: usize = 16;
const TOKENS: usize = 40 * BLOCK + 1;

fn prompt(of: usize) -> Vec<u32> {
    (0..TOKENS).map(|i| (i * 31 + of * 7 + usize::from(i == 0) * of) as u32).collect()
}

/// The payload of an engine that stores `prompt`, or of one that empties its cache.
fn payload(hasher: &BlockHasher, prompt: Option<&[u32]>) -> Vec<u8> {
    let mut blocks = Vec::new();
    let mut hashes = Vec::new();
    let event = match prompt {
        Some(tokens) => {
            hasher.hash_into(&Prompt::new(tokens), &mut blocks).unwrap();
            hashes.extend(blocks.iter().map(|b| EngineHash(b.0)));
            let full = &tokens[..hashes.len() * BLOCK];
            Event::Stored(Stored::new(None, &hashes, full, BLOCK as u32))
        }
        None => Event::Cleared,
    };
    let mut out = Vec::new();
    vllm::encode(vllm::Version::NEWEST, 0.0, Some(0), &[event.into()], &mut out);
    out
}

/// Four endpoints that hold a prompt of their own, for ever; four whose prompts come and go; one
/// that itself does. Whoever routes always finds the first four, and never more than was ever held.
#[test]
fn what_stays_is_found_while_the_rest_changes() {
    let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::XxHashCbor, Some("0")).unwrap();
    let hasher = BlockHasher::builder(scheme).block_size(BLOCK).build().unwrap();
    let router = Router::builder(hasher.clone()).build().unwrap();
    let ids: Vec<_> =
        (0..8).map(|i| router.add_endpoint(format!("e{i}").as_str()).unwrap()).collect();
    let prompts: Vec<_> = (0..8).map(prompt).collect();
    for i in 0..4 {
        router.ingest(ids[i], 0, &payload(&hasher, Some(&prompts[i])), Time(0)).unwrap();
    }
    let rounds = 300;
    let done = AtomicBool::new(false);
    let routed = thread::scope(|s| {
        let writers: Vec<_> = (4..8)
            .map(|i| {
                let (router, id) = (&router, ids[i]);
                let messages = [payload(&hasher, Some(&prompts[i])), payload(&hasher, None)];
                s.spawn(move || {
                    for round in 0..rounds {
                        let heard = router
                            .ingest(id, round, &messages[round as usize % 2], Time(round))
                            .unwrap();
                        assert_eq!((heard.batches, heard.replay_from), (1, None));
                    }
                })
            })
            .collect();
        let passenger = s.spawn(|| {
            for _ in 0..rounds {
                let id = router.add_endpoint("passenger").unwrap();
                assert_eq!(id, EndpointId(8));
                router.ingest(id, 0, &payload(&hasher, Some(&prompts[0])), Time(0)).unwrap();
                assert!(router.remove_endpoint(id));
                assert!(router.ingest(id, 1, &[], Time(0)).is_err());
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|seed| {
                let (router, ids, prompts, done) = (&router, &ids, &prompts, &done);
                s.spawn(move || {
                    let mut scratch = RouteScratch::new(seed);
                    let loads = vec![Load::default(); 8];
                    let mut routed = 0_u64;
                    while !done.load(Ordering::Relaxed) || routed < 8 {
                        let i = routed as usize % 8;
                        let input = RouteInput {
                            loads: &loads,
                            ..RouteInput::new(Prompt::new(&prompts[i]), ids)
                        };
                        let decision = router.route(&input, &mut scratch).unwrap();
                        if i < 4 {
                            assert_eq!((decision.endpoint, decision.matched_blocks), (ids[i], 40));
                        } else {
                            assert!(matches!(scratch.matches().blocks(ids[i]), 0 | 40));
                        }
                        for other in (0..8).filter(|&other| other != i) {
                            assert_eq!(scratch.matches().blocks(ids[other]), 0);
                        }
                        routed += 1;
                    }
                    routed
                })
            })
            .collect();
        writers.into_iter().for_each(|w| w.join().unwrap());
        passenger.join().unwrap();
        done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|r| r.join().unwrap()).sum::<u64>()
    });
    assert!(routed >= 16);
    let unknown = RouteInput::new(Prompt::new(&prompts[0]), &[EndpointId(8)]);
    assert_eq!(
        router.route(&unknown, &mut RouteScratch::new(0)),
        Err(RouterError::UnknownEndpoint(EndpointId(8)))
    );
}
