//! The ledger beside one that forgets nothing and adds up everything anew.

use kvsched_core::{EndpointId, Load, Time};
use kvsched_scorers::{InFlight, Outstanding, Report, Routed, Ticket};
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
    Forget(u16),
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
        (-5..30_i64).prop_map(Op::Wait),
        (0..3_u16).prop_map(Op::Forget),
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
    ended: bool,
    /// Its endpoint was forgotten since.
    gone: bool,
}

/// Somebody came or went.
struct Change {
    endpoint: u16,
    at: u64,
    came: bool,
    kv_tokens: f64,
}

#[derive(Default)]
struct Naive {
    stories: Vec<Story>,
    changes: Vec<Change>,
}

impl Naive {
    fn route(&mut self, ticket: Ticket, endpoint: u16, routed: Routed, at: u64) {
        let kv_tokens = f64::from(routed.uncached_tokens);
        self.changes.push(Change { endpoint, at, came: true, kv_tokens });
        let (decoding, ended, gone) = (false, false, false);
        self.stories.push(Story { ticket, endpoint, routed, at, decoding, ended, gone });
    }

    fn end(&mut self, which: usize, output: u32, at: u64) {
        let story = &mut self.stories[which];
        story.ended = true;
        let kv_tokens = -f64::from(story.routed.uncached_tokens) - f64::from(output);
        self.changes.push(Change { endpoint: story.endpoint, at, came: false, kv_tokens });
    }

    fn expire(&mut self, now: u64) -> usize {
        let late = |s: &Story| !s.ended && s.at + LEASE <= now;
        let late: Vec<_> = (0..self.stories.len()).filter(|&i| late(&self.stories[i])).collect();
        late.iter().for_each(|&i| self.end(i, 0, now));
        late.len()
    }

    fn forget(&mut self, endpoint: u16) {
        self.changes.retain(|change| change.endpoint != endpoint);
        for story in self.stories.iter_mut().filter(|s| s.endpoint == endpoint) {
            (story.ended, story.gone) = (true, true);
        }
    }

    fn outstanding(&self, endpoint: u16) -> Outstanding {
        let mut sum = Outstanding::default();
        for s in self.stories.iter().filter(|s| s.endpoint == endpoint && !s.ended) {
            sum.requests += 1;
            sum.decoding += u32::from(s.decoding);
            sum.prefill_tokens += if s.decoding { 0 } else { s.routed.uncached_tokens.into() };
            sum.kv_tokens += u64::from(s.routed.uncached_tokens + s.routed.output_tokens);
        }
        sum
    }

    fn expected(&self, endpoint: u16, mut load: Load) -> Load {
        let here = || self.stories.iter().filter(|s| s.endpoint == endpoint && !s.gone);
        let sum = self.outstanding(endpoint);
        load.in_flight_requests = sum.requests;
        load.pending_requests = sum.requests - sum.decoding;
        load.queued_prefill_tokens = sum.prefill_tokens;
        load.last_cold_at =
            here().filter(|s| s.routed.cached_tokens == 0).map(|s| Time(s.at)).max();
        load.recent_prefill_tokens = here().map(|s| u64::from(s.routed.uncached_tokens)).sum();
        let (mut came, mut went, mut kv) = (0, 0, 0.0);
        for change in self.changes.iter().rev().filter(|change| change.endpoint == endpoint) {
            if change.at <= load.observed_at.0 {
                break;
            }
            if change.came {
                came += 1
            } else {
                went += 1
            }
            kv += change.kv_tokens;
        }
        if load.waiting_requests > 0 {
            load.waiting_requests += came;
        } else {
            load.running_requests += came;
        }
        load.running_requests = load.running_requests.saturating_sub(went);
        load.kv_usage = (load.kv_usage + kv / 1e4).clamp(0.0, 1.0);
        load
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_the_naive_ledger(ops in prop::collection::vec(op(), 1..80)) {
        let ledger = InFlight::new(Duration::from_nanos(LEASE));
        let mut naive = Naive::default();
        let mut now = 1000_u64;
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
                    naive.route(ticket, endpoint, routed, now);
                }
                Op::FirstToken(which) => {
                    if let Some(story) = naive.stories.get_mut(which) {
                        let fresh = !story.ended && !story.decoding;
                        prop_assert_eq!(ledger.first_token(story.ticket), fresh);
                        story.decoding |= fresh;
                    }
                }
                Op::Finish { which, output } => {
                    if let Some(story) = naive.stories.get(which) {
                        let open = !story.ended;
                        prop_assert_eq!(ledger.finish(story.ticket, output, Time(now)), open);
                        if open {
                            naive.end(which, output, now);
                        }
                        naive.expire(now);
                    }
                }
                Op::Wait(ns) => {
                    now = now.saturating_add_signed(ns);
                    prop_assert_eq!(ledger.expire(Time(now)), naive.expire(now));
                }
                Op::Forget(endpoint) => {
                    ledger.forget(EndpointId(endpoint));
                    naive.forget(endpoint);
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
    let ledger = InFlight::new(Duration::from_nanos(LEASE));
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
    let ledger = InFlight::new(Duration::from_secs(600));
    for i in 0..100_000_u64 {
        let now = Time(i * 100_000_000);
        let ticket = ledger.route(EndpointId(0), routed(1), now);
        ledger.finish(ticket, 1, now);
    }
    // Three minutes of recent prefill, ten a second; of ten minutes of leases only a few.
    assert!(format!("{ledger:?}").len() < 200_000, "{}", format!("{ledger:?}").len());
}

#[test]
fn the_recent_prefill_is_that_of_three_minutes() {
    let ledger = InFlight::new(Duration::from_secs(1));
    let secs = |s: u64| Time(s * 1_000_000_000);
    ledger.route(EndpointId(0), routed(100), secs(0));
    ledger.route(EndpointId(0), routed(10), secs(100));
    let recent = |s| {
        ledger.expire(secs(s));
        let mut load = Load::default();
        ledger.apply(EndpointId(0), &mut load, secs(s));
        load.recent_prefill_tokens
    };
    assert_eq!([recent(100), recent(180), recent(181), recent(281)], [110, 110, 10, 0]);
}

#[test]
fn replicas_see_each_others_work_once() {
    let lease = Duration::from_secs(1);
    let (a, b) = (InFlight::new(lease), InFlight::new(lease));
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

#[test]
fn an_id_that_is_used_again_starts_empty() {
    let ledger = InFlight::new(Duration::from_secs(1));
    ledger.merge(7, Report { version: 1, rows: vec![(EndpointId(0), peer(5))] });
    let old = ledger.route(EndpointId(0), routed(40), Time(10));
    ledger.forget(EndpointId(0));
    ledger.forget(EndpointId(9));
    let mut load = Load::default();
    ledger.apply(EndpointId(0), &mut load, Time(11));
    assert_eq!(load, Load::default());
    let new = ledger.route(EndpointId(0), routed(2), Time(12));
    assert!(!ledger.finish(old, 0, Time(13)), "it went with its endpoint");
    assert_eq!(ledger.outstanding(EndpointId(0)).prefill_tokens, 2);
    assert!(ledger.finish(new, 0, Time(14)));
}

fn peer(requests: u32) -> Outstanding {
    Outstanding { requests, ..Outstanding::default() }
}

#[test]
fn a_peer_may_report_anything() {
    let ledger = InFlight::new(Duration::from_secs(1));
    let most = Outstanding {
        requests: u32::MAX,
        decoding: u32::MAX,
        prefill_tokens: u64::MAX,
        kv_tokens: u64::MAX,
    };
    let rows = [0, 0, u16::MAX].map(|id| (EndpointId(id), most)).to_vec();
    assert!(ledger.merge(1, Report { version: u64::MAX, rows }));
    ledger.route(EndpointId(0), routed(u32::MAX), Time(u64::MAX));
    assert_eq!(ledger.outstanding(EndpointId(0)), most);
    assert_eq!(ledger.outstanding(EndpointId(u16::MAX)), most);
    let mut load = Load { kv_capacity_tokens: 1, kv_usage: f64::NAN, ..Load::default() };
    ledger.apply(EndpointId(0), &mut load, Time(u64::MAX));
    assert_eq!((load.in_flight_requests, load.kv_usage), (u32::MAX, 1.0));
}

/// Every thread routes to all endpoints and finishes what it routed, while others read.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test of threads")]
fn threads_share_one_ledger() {
    const THREADS: u64 = 4;
    let rounds: u64 = if cfg!(miri) { 20 } else { 20_000 };
    let ledger = InFlight::new(Duration::from_secs(1));
    let writers_left = std::sync::atomic::AtomicU64::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ledger, left) = (&ledger, &writers_left);
            scope.spawn(move || {
                for i in 0..rounds {
                    let endpoint = EndpointId(((thread + i) % 5) as u16);
                    let ticket = ledger.route(endpoint, routed(7), Time(i));
                    assert!(ledger.outstanding(endpoint).requests > 0, "one's own counts at once");
                    assert!(ledger.first_token(ticket));
                    assert!(ledger.finish(ticket, 3, Time(i)));
                    assert!(!ledger.finish(ticket, 3, Time(i)));
                }
                left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            while writers_left.load(std::sync::atomic::Ordering::SeqCst) > 0 {
                for endpoint in (0..5).map(EndpointId) {
                    let mut load = Load { observed_at: Time(u64::MAX), ..Load::default() };
                    ledger.apply(endpoint, &mut load, Time(0));
                    assert!(u64::from(load.in_flight_requests) <= THREADS);
                    assert!(load.queued_prefill_tokens <= 7 * THREADS);
                    assert_eq!(load.running_requests, 0);
                }
            }
        });
    });
    for endpoint in (0..5).map(EndpointId) {
        assert_eq!(ledger.outstanding(endpoint), Outstanding::default());
    }
}

#[test]
fn a_ticket_survives_as_a_number_and_foreign_numbers_release_nothing() {
    let ledger = InFlight::new(Duration::from_secs(60));
    let ticket = ledger.route(EndpointId(3), routed(100), Time(1));
    let bits = ticket.to_bits();
    assert_ne!(bits, 0);
    assert_eq!(Ticket::from_bits(bits), Some(ticket));
    assert_eq!(Ticket::from_bits(0), None);
    for foreign in [1 << 32 | bits, bits + 1, bits - 1, u64::MAX, 1 << 63] {
        let Some(foreign) = Ticket::from_bits(foreign).filter(|t| *t != ticket) else { continue };
        assert!(!ledger.first_token(foreign) && !ledger.finish(foreign, 1, Time(2)), "{foreign:?}");
    }
    assert!(ledger.finish(ticket, 1, Time(3)));
}
