//! A warm decision allocates nothing.

mod common;

use common::{Fixed, Fleet, with_picker};
use kvsched_core::{Rng, Tier};
use kvsched_scorers::cost::{Cost, Split};
use kvsched_scorers::{Scratch, filter, picker, preset, scorer};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

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
    let profile = with_picker(picker::WeightedRandom)
        .filter(Box::new(filter::LoraAffinity))
        .filter(Box::new(filter::PrefixCacheAffinity::new()))
        .filter(Box::new(filter::Utilization::new()))
        .scorer(Box::new(scorer::PrefixCache::new()), 3.0)
        .scorer(Box::new(scorer::PrecisePrefixCache::new()), 1.0)
        .scorer(Box::new(scorer::Queue), 2.0)
        .scorer(Box::new(scorer::KvCacheUtilization), 2.0)
        .scorer(Box::new(scorer::TierCost::new(1e5, 1e-5).unwrap()), 1.0)
        .scorer(Box::new(Fixed(vec![f64::NAN; 512])), 1.0)
        .build()
        .unwrap();
    let matched: Vec<u32> = (0..512).map(|i| i % 100).collect();
    // Slow runs in descending order have to be sorted first.
    let fleet = (0..512)
        .rev()
        .fold(Fleet::new(512, 100).matched(&matched), |f, e| f.slow(e, Tier::HOST, 3))
        .load(|i, load| load.waiting_requests = i as u32 % 7);
    let (mut rng, mut scratch) = (Rng::new(0), Scratch::new());
    let mut decide = || {
        profile.decide(fleet.input(), &mut rng, &mut scratch).unwrap();
    };
    assert!(allocations(&mut decide) > 0, "the counter counts");
    assert_eq!(allocations(|| (0..10).for_each(|_| decide())), 0);
}

#[test]
fn no_preset_allocates_once_warm_and_neither_does_a_split() {
    let matched: Vec<u32> = (0..64).map(|i| i % 100).collect();
    let fleet = (0..64)
        .rev()
        .fold(Fleet::new(64, 100).matched(&matched), |f, e| f.slow(e, Tier::HOST, 3))
        .request(|r| r.prefix_demand = 50.0)
        .load(|i, load| load.running_requests = i as u32 % 7);
    // Half of the prompts are cold, for the scorers that sort then.
    let cold = Fleet::new(64, 100);
    let (mut rng, mut scratch) = (Rng::new(0), Scratch::new());
    for name in preset::NAMES {
        let profile = preset::by_name(name).unwrap();
        let mut decide = || {
            profile.decide(fleet.input(), &mut rng, &mut scratch).unwrap();
            profile.decide(cold.input(), &mut rng, &mut scratch).unwrap();
        };
        decide();
        assert_eq!(allocations(decide), 0, "{name}");
    }
    let split = Split::new(Cost::new().peers());
    let mut place = || {
        let placed = split.place(&fleet.input(), &mut rng, &mut scratch).unwrap();
        assert!(placed.secs > 0.0);
    };
    place();
    assert_eq!(allocations(place), 0);
}
