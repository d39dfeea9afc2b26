//! The calls from Rust: what C sees is what the router decides. Small enough for Miri:
//! `cargo +nightly miri test -p kvsched-ffi --test abi`.
// Threads belong to the caller, which is this test; and it gives up where something fails.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use kvsched::events::vllm;
use kvsched::{
    Algorithm, BlockHasher, EngineHash, Event, Load, Prompt, RouteInput, RouteScratch, Router,
    Scheme, Stored, Time, VllmVersion,
};
use kvsched_ffi::*;
use std::ptr::{null, null_mut};

const BLOCK: usize = 4;

fn text(s: &str) -> Str {
    Str { data: s.as_ptr(), len: s.len() }
}

fn words(error: &Error) -> String {
    error.text[..error.len].iter().map(|&c| char::from(c as u8)).collect()
}

/// Handles as a caller keeps them, freed when the test ends.
struct Caller {
    hasher: *mut Hasher,
    scheduler: *mut Scheduler,
    scratch: *mut Scratch,
}

// SAFETY: the handles may be used by several threads at a time; that is what is tested.
unsafe impl Sync for Caller {}

impl Caller {
    fn new(settings: *const Settings) -> Self {
        let mut new = Self { hasher: null_mut(), scheduler: null_mut(), scratch: null_mut() };
        // SAFETY: every pointer is ours or a handle.
        unsafe {
            let (version, algorithm) = (text("0.33.0"), text("xxhash_cbor"));
            let status = kvsched_hasher_new_vllm(
                version,
                algorithm,
                text("7"),
                BLOCK,
                &raw mut new.hasher,
                null_mut(),
            );
            assert_eq!(status, Status::Ok);
            let out = &raw mut new.scheduler;
            assert_eq!(kvsched_scheduler_new(new.hasher, settings, out, null_mut()), Status::Ok);
            assert_eq!(kvsched_scratch_new(3, &raw mut new.scratch, null_mut()), Status::Ok);
        }
        new
    }

    fn add(&self, name: &str) -> u32 {
        let mut endpoint = u32::MAX;
        let out = &raw mut endpoint;
        // SAFETY: every pointer is ours or a handle.
        let status =
            unsafe { kvsched_endpoint_add(self.scheduler, text(name), 0, out, null_mut()) };
        assert_eq!(status, Status::Ok);
        endpoint
    }

    fn ingest(&self, endpoint: u32, sequence: u64, payload: &[u8]) -> Ingested {
        let mut row = Ingested::default();
        let (data, len) = (payload.as_ptr(), payload.len());
        // SAFETY: every pointer is ours or a handle.
        let status = unsafe {
            let out = &raw mut row;
            kvsched_ingest(self.scheduler, endpoint, sequence, data, len, 1, out, null_mut())
        };
        assert_eq!(status, Status::Ok);
        row
    }

    fn route(
        &self,
        request: &Request,
        tokens: &[u32],
        rows: &[Candidate],
        ranked: &mut [Ranked],
    ) -> Result<Decision, (Status, String)> {
        let mut decision = Decision::default();
        let mut error = Error { len: 0, text: [0; KVSCHED_ERROR_TEXT] };
        // SAFETY: every pointer is ours or a handle.
        let status = unsafe {
            kvsched_route(
                self.scheduler,
                self.scratch,
                request,
                tokens.as_ptr(),
                tokens.len(),
                null(),
                rows.as_ptr(),
                rows.len(),
                null(),
                0,
                &raw mut decision,
                ranked.as_mut_ptr(),
                ranked.len(),
                &raw mut error,
            )
        };
        if status == Status::Ok { Ok(decision) } else { Err((status, words(&error))) }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // SAFETY: ours, and used by nobody else.
        unsafe {
            assert_eq!(kvsched_scratch_free(&raw mut self.scratch), Status::Ok);
            assert_eq!(kvsched_scheduler_free(&raw mut self.scheduler), Status::Ok);
            assert_eq!(kvsched_hasher_free(&raw mut self.hasher), Status::Ok);
        }
        assert!(self.scratch.is_null() && self.scheduler.is_null() && self.hasher.is_null());
    }
}

fn hasher() -> BlockHasher {
    let version: VllmVersion = "0.33.0".parse().unwrap();
    let scheme = Scheme::vllm(version, Algorithm::XxHashCbor, Some("7")).unwrap();
    BlockHasher::builder(scheme).block_size(BLOCK).build().unwrap()
}

/// An engine's message that it has stored all full blocks of `tokens`.
fn stored(tokens: &[u32]) -> Vec<u8> {
    let mut hashes = Vec::new();
    hasher().hash_into(&Prompt::new(tokens), &mut hashes).unwrap();
    let hashes: Vec<EngineHash> = hashes.iter().map(|h| EngineHash(h.0)).collect();
    let full = &tokens[..hashes.len() * BLOCK];
    let event = Event::Stored(Stored::new(None, &hashes, full, BLOCK as u32));
    let mut payload = Vec::new();
    vllm::encode(vllm::Version::NEWEST, 0.0, Some(0), &[event.into()], &mut payload);
    payload
}

#[test]
fn c_sees_what_the_router_decides() {
    let caller = Caller::new(null());
    let router = Router::builder(hasher()).build().unwrap();
    let mut scratch = RouteScratch::new(3);
    for (name, tokens) in [("a", 0..9), ("b", 0..21), ("c", 50..70)] {
        let tokens: Vec<u32> = tokens.collect();
        let id = router.add_endpoint(name).unwrap();
        assert_eq!(caller.add(name), u32::from(id.0));
        let payload = stored(&tokens);
        let heard = router.ingest(id, 0, &payload, Time(1)).unwrap();
        let row = caller.ingest(id.0.into(), 0, &payload);
        assert_eq!((row.stored, row.batches), (heard.applied.stored as u64, 1));
        assert!(row.stored > 0);
    }
    let ids: Vec<_> = router.endpoints().iter().map(kvsched::Endpoint::id).collect();
    let mut hits = 0;
    for round in 0..12_u32 {
        let tokens: Vec<u32> = (round % 3 * 50..round % 3 * 50 + 8 + 3 * round).collect();
        let loads: Vec<Load> = (0..3)
            .map(|i| Load { waiting_requests: (round * 7 + i * 5) % 4, ..Load::default() })
            .collect();
        let rows: Vec<Candidate> = ids
            .iter()
            .zip(&loads)
            .map(|(id, load)| Candidate {
                endpoint: id.0.into(),
                waiting_requests: load.waiting_requests,
                ..Candidate::default()
            })
            .collect();
        let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &ids) };
        let expected = router.route(&input, &mut scratch).unwrap();
        let mut ranked = [Ranked::default(); 3];
        let got = caller.route(&Request::default(), &tokens, &rows, &mut ranked).unwrap();
        assert_eq!(got.endpoint, u32::from(expected.endpoint.0));
        assert_eq!(got.score.to_bits(), expected.score.to_bits());
        assert_eq!(got.matched_blocks, expected.matched_blocks);
        assert_eq!((got.prompt_blocks, got.candidates), (expected.prompt_blocks, 3));
        let runner_up = expected.runner_up.unwrap();
        assert_eq!(got.runner_up, u32::from(runner_up.0.0));
        assert_eq!(got.runner_up_score.to_bits(), runner_up.1.to_bits());
        assert_eq!(ranked[0].flags, KVSCHED_RANKED_CHOSEN);
        assert!(ranked[1].score >= ranked[2].score);
        for row in ranked {
            let matched = scratch.matches().blocks(ids[row.endpoint as usize]);
            assert_eq!((row.matched_blocks, row.tier_blocks[0]), (matched, matched));
        }
        hits += expected.matched_blocks;
    }
    assert!(hits > 0);
}

#[test]
fn failures_say_what_was_wrong_and_write_nothing() {
    let caller = Caller::new(null());
    let endpoint = caller.add("a");
    let row = Candidate { endpoint, ..Candidate::default() };
    let unknown = Candidate { endpoint: 70_000, ..row };
    let route = |rows: &[Candidate], ranked: &mut [Ranked]| {
        caller.route(&Request::default(), &[1, 2, 3], rows, ranked).unwrap_err()
    };
    assert_eq!(route(&[], &mut []).0, Status::NoEndpoint);
    let mut one = [Ranked::default()];
    let (status, words) = route(&[row, row], &mut one);
    assert_eq!(status, Status::BufferTooSmall);
    assert_eq!(words, "`ranked` has room for 1, needed are 2");
    assert_eq!((one[0].flags, one[0].score), (0, 0.0));
    let (status, words) = route(&[unknown], &mut []);
    assert_eq!(status, Status::UnknownEndpoint);
    assert_eq!(words, "endpoint 70000 was never added, or has been removed");

    let mut settings = Settings { preset: text("dynamoo"), ..Settings::default() };
    let mut error = Error { len: 0, text: [0; KVSCHED_ERROR_TEXT] };
    let mut scheduler = null_mut();
    let mut create = |settings: &Settings| {
        // SAFETY: every pointer is ours or a handle.
        unsafe {
            kvsched_scheduler_new(caller.hasher, settings, &raw mut scheduler, &raw mut error)
        }
    };
    assert_eq!(create(&settings), Status::Config);
    settings.preset = Str::default();
    settings.profile = text("p");
    assert_eq!(create(&settings), Status::Config);
    assert!(scheduler.is_null());
    assert_eq!(self::words(&error), "a profile is named, but no configuration is given");

    let brackets = "[".repeat(200_000);
    settings = Settings { config: text(&brackets), ..Settings::default() };
    let mut create = |settings: &Settings| {
        // SAFETY: every pointer is ours or a handle.
        unsafe {
            kvsched_scheduler_new(caller.hasher, settings, &raw mut scheduler, &raw mut error)
        }
    };
    assert_eq!(create(&settings), Status::Config);
    assert_eq!(self::words(&error), "a configuration of 200000 bytes: at most 65536 are read");
}

#[test]
fn a_handle_of_another_kind_or_none_is_refused() {
    let caller = Caller::new(null());
    let mut cached = 0;
    for (scheduler, status) in [
        (null(), Status::NullPointer),
        (caller.hasher.cast_const().cast::<Scheduler>(), Status::WrongHandle),
        (caller.scratch.cast_const().cast(), Status::WrongHandle),
    ] {
        // SAFETY: handles, if of the wrong kinds.
        let got = unsafe {
            let (none, out) = (null(), &raw mut cached);
            kvsched_cached_tokens(scheduler, caller.scratch, 0, none, 0, null(), out, null_mut())
        };
        assert_eq!(got, status);
    }
}

/// Routing threads beside one that writes: decisions are those of some state, and the end is the
/// writer's last.
#[test]
fn threads_share_a_scheduler() {
    let caller = Caller::new(null());
    let (a, b) = (caller.add("a"), caller.add("b"));
    let tokens: Vec<u32> = (0..33).collect();
    let rows = [a, b].map(|endpoint| Candidate { endpoint, ..Candidate::default() });
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (caller, tokens, rows) = (&caller, &tokens, &rows);
            scope.spawn(move || {
                let mut own =
                    Caller { hasher: null_mut(), scheduler: null_mut(), scratch: null_mut() };
                // SAFETY: every pointer is ours or a handle.
                let made = unsafe { kvsched_scratch_new(seed, &raw mut own.scratch, null_mut()) };
                assert_eq!(made, Status::Ok);
                own.scheduler = caller.scheduler;
                for _ in 0..20 {
                    let got = own.route(&Request::default(), tokens, rows, &mut []).unwrap();
                    assert!(matches!(got.matched_blocks, 0 | 2 | 8), "{}", got.matched_blocks);
                }
                own.scheduler = null_mut(); // not its own
            });
        }
        scope.spawn(|| {
            for sequence in 0..20 {
                let upto = if sequence % 2 == 0 { 8 } else { 33 };
                caller.ingest(b, sequence, &stored(&tokens[..upto]));
            }
        });
    });
    let got = caller.route(&Request::default(), &tokens, &rows, &mut []).unwrap();
    assert_eq!((got.endpoint, got.matched_blocks), (b, 8));
}

#[test]
fn two_threads_on_one_scratch_are_told_so() {
    let caller = Caller::new(null());
    let endpoint = caller.add("a");
    let row = Candidate { endpoint, ..Candidate::default() };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..50 {
                    match caller.route(&Request::default(), &[1; 40], &[row], &mut []) {
                        Ok(decision) => assert_eq!(decision.endpoint, endpoint),
                        Err((status, _)) => assert_eq!(status, Status::Busy),
                    }
                }
            });
        }
    });
}
