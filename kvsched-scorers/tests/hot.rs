//! Demand beside a list of everything that was ever asked for.

use kvsched_core::{BlockHash, Time};
use kvsched_scorers::HotPrefixes;
use proptest::prelude::*;
use std::time::Duration;

proptest! {
    #[test]
    fn agrees_with_the_whole_past_while_there_is_room(
        asked in prop::collection::vec((0..4_u64, 0..20_000_000_000_u64), 1..60),
    ) {
        // Up to four prefixes share a row without one giving way.
        let mut hot = HotPrefixes::new(1, Duration::from_secs(10));
        let (mut now, mut past) = (0_u64, Vec::new());
        for (prefix, wait) in asked {
            now += wait;
            past.push((prefix, now));
            let demand = |of: u64| -> f64 {
                let its = || past.iter().filter(|(p, _)| *p == of).map(|&(_, at)| at);
                let left = |at: u64| (-((now - at) as f64) / 1e10).exp();
                let Some(first) = its().next() else { return 0.0 };
                let again: f64 = its().skip(1).map(|at| left(at) / 10.0).sum();
                again / (1.0 - left(first)).max(1e-3)
            };
            let got = hot.observe(BlockHash(prefix), Time(now));
            prop_assert!((got - demand(prefix)).abs() < 1e-6, "{got} {}", demand(prefix));
            for other in 0..4 {
                let got = hot.demand(BlockHash(other), Time(now));
                prop_assert!((got - demand(other)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_most_wanted_of_a_row_stay(strangers in prop::collection::vec(10..10_000_u64, 1..200)) {
        let mut hot = HotPrefixes::new(4, Duration::from_secs(60));
        let now = Time(1);
        for _ in 0..50 {
            hot.observe(BlockHash(1), now);
        }
        let wanted = hot.demand(BlockHash(1), now);
        for stranger in strangers {
            hot.observe(BlockHash(stranger), now);
        }
        prop_assert_eq!(hot.demand(BlockHash(1), now), wanted);
    }
}

#[test]
fn a_burst_for_a_new_prefix_shows_at_once() {
    let mut hot = HotPrefixes::new(16, Duration::from_secs(10));
    let mut at = |ms: u64| hot.observe(BlockHash(1), Time(ms * 1_000_000));
    assert_eq!(at(0), 0.0, "one request is no demand");
    let seen: Vec<f64> = (1..=8).map(|i| at(i * 25)).collect();
    assert!(seen.iter().all(|demand| (39.0..42.0).contains(demand)), "{seen:?}");
}

#[test]
fn a_clock_that_goes_back_never_makes_demand_grow_wild() {
    let mut hot = HotPrefixes::new(16, Duration::from_secs(1));
    hot.observe(BlockHash(1), Time(1_000_000_000_000));
    let demand = hot.observe(BlockHash(1), Time(0));
    // One more within no time counts as within a thousandth of the memory.
    assert!((demand - 1000.0).abs() < 1e-9, "{demand}");
}

#[test]
fn no_memory_at_all_is_held_at_a_millisecond() {
    let mut hot = HotPrefixes::new(0, Duration::ZERO);
    hot.observe(BlockHash(1), Time(0));
    let demand = hot.observe(BlockHash(1), Time(1_000_000_000));
    assert!((demand - 1000.0).abs() < 1e-9, "{demand}");
}
