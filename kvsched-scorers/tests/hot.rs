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
                let its = past.iter().filter(|(p, _)| *p == of);
                its.map(|&(_, at)| (-((now - at) as f64) / 1e10).exp() / 10.0).sum()
            };
            let got = hot.observe(BlockHash(prefix), Time(now));
            prop_assert!((got - demand(prefix)).abs() < 1e-9, "{got} {}", demand(prefix));
            for other in 0..4 {
                let got = hot.demand(BlockHash(other), Time(now));
                prop_assert!((got - demand(other)).abs() < 1e-9);
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
fn a_clock_that_goes_back_never_makes_demand_grow_wild() {
    let mut hot = HotPrefixes::new(16, Duration::from_secs(1));
    hot.observe(BlockHash(1), Time(1_000_000_000_000));
    let demand = hot.observe(BlockHash(1), Time(0));
    assert!((demand - 2.0).abs() < 1e-9, "{demand}");
}

#[test]
fn no_memory_at_all_is_held_at_a_millisecond() {
    let mut hot = HotPrefixes::new(0, Duration::ZERO);
    assert!((hot.observe(BlockHash(1), Time(0)) - 1000.0).abs() < 1e-9);
}
