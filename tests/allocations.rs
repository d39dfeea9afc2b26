//! A warm decision allocates nothing, from tokens to endpoint.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic")]
#![allow(clippy::disallowed_methods, reason = "threads belong to the caller: the test is one")]

use kvsched::events::vllm;
use kvsched::{
    Algorithm, BlockHasher, EngineHash, Event, Load, Prompt, RouteInput, Router, Scheme, Stored,
    Time, VllmVersion,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::thread;
use std::time::Duration;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn a_warm_decision_allocates_nothing() {
    assert!(allocations(|| drop(vec![1])) > 0, "counting works");
    let sha256 = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, None).unwrap();
    let content = Scheme::content("model", b"a secret of some length").unwrap();
    let engine = BlockHasher::builder(sha256.clone()).block_size(16).build().unwrap();
    let tokens: Vec<u32> = (0..7200).collect();
    let mut announced = Vec::new();
    engine.hash_into(&Prompt::new(&tokens), &mut announced).unwrap();
    let announced: Vec<EngineHash> = announced.iter().map(|b| EngineHash(b.0)).collect();

    for (scheme, memo) in [(&sha256, false), (&sha256, true), (&content, false)] {
        let hasher = BlockHasher::builder(scheme.clone()).block_size(16).build().unwrap();
        let router = Router::builder(hasher).in_flight(Duration::from_secs(600)).build().unwrap();
        let ids: Vec<_> =
            (0..64).map(|i| router.add_endpoint(format!("e{i}").as_str()).unwrap()).collect();
        for &id in &ids {
            let blocks = 10 * (1 + id.index() % 40);
            let range = &tokens[..blocks * 16];
            let stored = Event::Stored(Stored::new(None, &announced[..blocks], range, 16));
            let mut payload = Vec::new();
            vllm::encode(vllm::Version::NEWEST, 0.0, Some(0), &[stored.into()], &mut payload);
            // On a thread of its own, as in a gateway. A thread that both writes and asks pays for the
            // reclaiming of what it retired in whichever call it comes to it.
            thread::scope(|s| {
                s.spawn(|| router.ingest(id, 0, &payload, Time(0)).unwrap());
            });
        }
        let loads: Vec<_> = (0..64)
            .map(|i| Load { running_requests: i, observed_at: Time(0), ..Load::default() })
            .collect();
        let mut scratch = if memo {
            router.scratch_with_memo(1, 1 << 20).unwrap()
        } else {
            kvsched::RouteScratch::new(1)
        };
        let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &ids) };
        // Something recorded, so that speculation and ledger have something to say.
        let first = router.route(&input, &mut scratch).unwrap();
        router.record(first.endpoint, &scratch, Time(0)).unwrap();
        router.route(&input, &mut scratch).unwrap();

        let count = allocations(|| {
            for _ in 0..100 {
                router.route(&input, &mut scratch).unwrap();
            }
        });
        assert_eq!(count, 0, "{scheme:?}, memo {memo}");
        assert!(scratch.matches().longest() > 0);
    }
}
