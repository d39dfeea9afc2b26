//! The ledger beside one that forgets nothing and adds up everything anew.

use kvsched_core::{EndpointId, Load, Time};
use kvsched_scorers::{InFlight, Outstanding, Routed, Ticket};
use proptest::prelude::*;
use std::time::Duration;

const LEASE: u64 = 50;

#[derive(Clone, Debug)]
enum Op {
    Route {
        endpoint: u16,
        uncached: u32,
        cached: u32,
        output: u32,
    },
    FirstToken(usize),
    Finish {
        which: usize,
        output: u32,
    },
    /// Moves the clock, forwards or backwards.
    Wait(i64),
    Poll {
        endpoint: u16,
        age: u64,
        waiting: u32,
        running: u32,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..3_u16, 0..1000_u32, 0..2_u32, 0..500_u32).prop_map(
            |(endpoint, uncached, cached, output)| {
                Op::Route { endpoint, uncached, cached, output }
            }
        ),
        (0..40_usize).prop_map(Op::FirstToken),
        (0..40_usize, 0..500_u32).prop_map(|(which, output)| Op::Finish { which, output }),
        (0..30_i64).prop_map(Op::Wait),
        (0..3_u16, 0..40_u64, 0..3_u32, 0..9_u32).prop_map(|(endpoint, age, waiting, running)| {
            Op::Poll { endpoint, age, waiting, running }
        }),
    ]
}

/// A request and all that happened to it.
#[derive(Clone, Debug)]
struct Story {
    ticket: Ticket,
    endpoint: u16,
    routed: Routed,
    at: u64,
    decoding: bool,
    ended: Option<(u64, u32)>,
}

#[derive(Default)]
struct Naive {
    stories: Vec<Story>,
}

impl Naive {
    fn expire(&mut self, now: u64) {
        for story in self.stories.iter_mut().filter(|s| s.ended.is_none()) {
            if story.at + LEASE <= now {
                story.ended = Some((now, 0));
            }
        }
    }

    fn outstanding(&self, endpoint: u16) -> Outstanding {
        let mut sum = Outstanding::default();
        for s in self.stories.iter().filter(|s| s.endpoint == endpoint && s.ended.is_none()) {
            sum.requests += 1;
            sum.decoding += u32::from(s.decoding);
            sum.prefill_tokens += if s.decoding { 0 } else { s.routed.uncached_tokens.into() };
            sum.kv_tokens += u64::from(s.routed.uncached_tokens + s.routed.output_tokens);
        }
        sum
    }

    fn expected(&self, endpoint: u16, mut load: Load) -> Load {
        let here = || self.stories.iter().filter(|s| s.endpoint == endpoint);
        let routed = here().filter(|s| s.at > load.observed_at.0);
        let ended = here().filter(|s| s.ended.is_some_and(|(at, _)| at > load.observed_at.0));
        let sum = self.outstanding(endpoint);
        let mut kv = 0.0;
        routed.clone().for_each(|s| kv += f64::from(s.routed.uncached_tokens));
        for s in ended.clone() {
            let output = s.ended.map_or(0, |(_, tokens)| tokens);
            kv -= f64::from(s.routed.uncached_tokens) + f64::from(output);
        }
        load.in_flight_requests = sum.requests;
        load.queued_prefill_tokens = sum.prefill_tokens;
        load.last_cold_at =
            here().filter(|s| s.routed.cached_tokens == 0).map(|s| Time(s.at)).max();
        load.recent_prefill_tokens = here().map(|s| u64::from(s.routed.uncached_tokens)).sum();
        if load.waiting_requests > 0 {
            load.waiting_requests += routed.count() as u32;
        } else {
            load.running_requests += routed.count() as u32;
        }
        load.running_requests = load.running_requests.saturating_sub(ended.count() as u32);
        load.kv_usage = (load.kv_usage + kv / 1e4).clamp(0.0, 1.0);
        load
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_the_naive_ledger(ops in prop::collection::vec(op(), 1..80)) {
        let mut ledger = InFlight::new(Duration::from_nanos(LEASE));
        let mut naive = Naive::default();
        let mut now = 100_u64;
        for op in ops {
            match op {
                Op::Route { endpoint, uncached, cached, output } => {
                    naive.expire(now);
                    let routed = Routed {
                        uncached_tokens: uncached,
                        cached_tokens: cached,
                        output_tokens: output,
                    };
                    let ticket = ledger.route(EndpointId(endpoint), routed, Time(now));
                    let (at, decoding, ended) = (now, false, None);
                    naive.stories.push(Story { ticket, endpoint, routed, at, decoding, ended });
                }
                Op::FirstToken(which) => {
                    if let Some(story) = naive.stories.get_mut(which) {
                        let fresh = story.ended.is_none() && !story.decoding;
                        prop_assert_eq!(ledger.first_token(story.ticket), fresh);
                        story.decoding |= fresh;
                    }
                }
                Op::Finish { which, output } => {
                    if let Some(story) = naive.stories.get_mut(which) {
                        let open = story.ended.is_none();
                        prop_assert_eq!(ledger.finish(story.ticket, output, Time(now)), open);
                        if open {
                            story.ended = Some((now, output));
                        }
                        naive.expire(now);
                    }
                }
                Op::Wait(ns) => {
                    now = now.saturating_add_signed(ns);
                    let before: u32 = (0..3).map(|e| naive.outstanding(e).requests).sum();
                    naive.expire(now);
                    let after: u32 = (0..3).map(|e| naive.outstanding(e).requests).sum();
                    prop_assert_eq!(ledger.expire(Time(now)), (before - after) as usize);
                }
                Op::Poll { endpoint, age, waiting, running } => {
                    let load = Load {
                        waiting_requests: waiting,
                        running_requests: running,
                        kv_usage: 0.5,
                        kv_capacity_tokens: 10_000,
                        observed_at: Time(now - age),
                        ..Load::default()
                    };
                    let mut got = load.clone();
                    ledger.apply(EndpointId(endpoint), &mut got, Time(now));
                    let want = naive.expected(endpoint, load);
                    prop_assert!((got.kv_usage - want.kv_usage).abs() < 1e-9);
                    got.kv_usage = want.kv_usage;
                    prop_assert_eq!(got, want);
                }
            }
            for endpoint in 0..3 {
                let got = ledger.outstanding(EndpointId(endpoint));
                prop_assert_eq!(got, naive.outstanding(endpoint));
            }
        }
    }
}

fn routed(uncached_tokens: u32) -> Routed {
    Routed { uncached_tokens, ..Routed::default() }
}

#[test]
fn a_clock_that_goes_back_releases_nothing_early_and_panics_nowhere() {
    let mut ledger = InFlight::new(Duration::from_nanos(LEASE));
    let ticket = ledger.route(EndpointId(0), routed(5), Time(1000));
    ledger.route(EndpointId(0), routed(6), Time(10));
    assert_eq!(ledger.expire(Time(0)), 0);
    assert_eq!(ledger.outstanding(EndpointId(0)).requests, 2);
    assert!(ledger.finish(ticket, 0, Time(5)));
    assert_eq!(ledger.expire(Time(60)), 1);
    assert_eq!(ledger.outstanding(EndpointId(0)), Outstanding::default());
}

#[test]
fn memory_follows_what_is_open_not_what_ever_was() {
    let mut ledger = InFlight::new(Duration::from_secs(1));
    for i in 0..100_000_u64 {
        let ticket = ledger.route(EndpointId(0), routed(1), Time(i * 1_000_000));
        ledger.finish(ticket, 1, Time(i * 1_000_000 + 1));
    }
    // A second of leases at a thousand a second.
    assert!(format!("{ledger:?}").len() < 6_000_000, "{}", format!("{ledger:?}").len());
}

#[test]
fn the_recent_prefill_is_that_of_three_minutes() {
    let mut ledger = InFlight::new(Duration::from_secs(1));
    let secs = |s: u64| Time(s * 1_000_000_000);
    ledger.route(EndpointId(0), routed(100), secs(0));
    ledger.route(EndpointId(0), routed(10), secs(100));
    let mut recent = |s| {
        let mut load = Load::default();
        ledger.apply(EndpointId(0), &mut load, secs(s));
        load.recent_prefill_tokens
    };
    assert_eq!([recent(100), recent(180), recent(181), recent(281)], [110, 110, 10, 0]);
}

#[test]
fn replicas_see_each_others_work_once() {
    let lease = Duration::from_secs(1);
    let (mut a, mut b) = (InFlight::new(lease), InFlight::new(lease));
    let ticket = a.route(EndpointId(2), routed(40), Time(1));
    b.route(EndpointId(2), routed(2), Time(1));
    let early = a.report();
    assert!(b.merge(7, early.clone()));
    assert!(!b.merge(7, early.clone()));
    assert_eq!(b.outstanding(EndpointId(2)).prefill_tokens, 42);
    assert_eq!(b.report().rows[0].1.prefill_tokens, 2, "a report is of one's own work alone");
    a.finish(ticket, 0, Time(2));
    assert!(b.merge(7, a.report()));
    assert!(!b.merge(7, early), "an old report comes late");
    assert_eq!(b.outstanding(EndpointId(2)).prefill_tokens, 2);
}
