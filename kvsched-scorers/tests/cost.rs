//! The seconds model by hand, its fit, and what is decided with it.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod common;

use common::{Fleet, assert_close};
use kvsched_core::{
    Context, EndpointId, Load, LoraId, Needs, Rates, Rng, RouteError, Scorer, Tier, Time, Transfer,
};
use kvsched_scorers::cost::{Cost, Fit, Outcome, Source, Split, Terms, Work, lock_step};
use kvsched_scorers::scorer::{Headroom, Latency};
use kvsched_scorers::{Receipt, Scratch, filter, preset};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Round figures: 0.1 s + 1 ms a token; a step of 20 ms + 1 ms a sequence.
fn rates() -> Rates {
    let mut rates = Rates {
        prefill: 0.1,
        prefill_per_token: 1e-3,
        prefill_per_token_pair: 0.0,
        step: 0.02,
        step_per_sequence: 1e-3,
        step_per_kv_token: 0.0,
        peer: Transfer { t0: 0.05, per_token: 1e-4 },
        lora_load: 2.0,
        interference: 1.0,
        ..Rates::default()
    };
    rates.tiers[Tier::HOST.index()] = Transfer { t0: 0.01, per_token: 1e-4 };
    rates.tiers[Tier::DISK.index()] = Transfer { t0: 0.2, per_token: 1e-4 };
    rates
}

fn cost() -> Cost {
    Cost::new()
        .default_rates(rates())
        .output_tokens(10.0)
        .and_then(|cost| cost.decode_weight(1.0))
        .unwrap()
}

/// What a method of the cost model says of every candidate.
macro_rules! look {
    ($fleet:expr, $cost:expr, $method:ident -> $t:ty) => {{
        #[derive(Debug)]
        struct Look(Cost, Arc<Mutex<Vec<$t>>>);
        impl Scorer for Look {
            fn name(&self) -> &str {
                "look"
            }
            fn needs(&self) -> Needs {
                Needs::ALL
            }
            fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
                let mut seen = self.1.lock().unwrap();
                seen.extend(cx.candidates.iter().map(|c| self.0.$method(cx, c)));
                scores.fill(0.5);
            }
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        $fleet.scores(Look($cost, Arc::clone(&seen)));
        let seen = seen.lock().unwrap().clone();
        seen
    }};
}

fn terms(fleet: &Fleet, cost: Cost) -> Vec<Terms> {
    look!(fleet, cost, terms -> Terms)
}

fn works(fleet: &Fleet, cost: Cost) -> Vec<Work> {
    look!(fleet, cost, work -> Work)
}

#[test]
fn an_idle_endpoint_costs_prefill_and_decode() {
    let fleet = Fleet::new(2, 10).matched(&[0, 6]);
    let t = terms(&fleet, cost());
    assert_close(&[t[0].prefill, t[1].prefill], &[0.1 + 0.160, 0.1 + 0.064]);
    assert_close(&[t[0].decode, t[0].total()], &[0.21, 0.26 + 0.21]);
    assert_close(&[t[1].total()], &[0.164 + 0.21]);
    assert_close(&fleet.scores(cost()), &[1.0 / 1.47, 1.0 / 1.374]);
}

#[test]
fn decoding_counts_by_its_weight() {
    let fleet = Fleet::new(1, 10).load(|_, l| l.running_requests = 4);
    let light = cost().decode_weight(0.1).unwrap();
    let (full, light) = (terms(&fleet, cost())[0], terms(&fleet, light)[0]);
    assert_close(&[light.decode], &[0.1 * full.decode]);
    // So do the stalls and the slower steps of four others.
    assert_close(&[full.others, light.others], &[4.0 * 0.16 + 0.04, 0.1 * (4.0 * 0.16 + 0.04)]);
}

#[test]
fn pairs_of_tokens_make_long_prompts_dearer() {
    let slow = Rates { prefill_per_token_pair: 1e-5, ..rates() };
    let fleet = Fleet::new(1, 10).matched(&[5]);
    let t = terms(&fleet, cost().default_rates(slow));
    assert_close(&[t[0].prefill], &[0.1 + 0.08 + 80.0 * (80.0 + 40.0) * 1e-5]);
}

#[test]
fn queue_and_others_count() {
    let fleet = Fleet::new(1, 10).load(|_, l| {
        l.queued_prefill_tokens = 500;
        l.running_requests = 4;
        l.pending_requests = 2;
    });
    let t = terms(&fleet, cost())[0];
    assert_close(&[t.queue, t.decode], &[0.5, 10.0 * 0.025]);
    // Who waits for a first token waits longer, who decodes stalls, and then all step slower.
    assert_close(&[t.others], &[(2.0 + 2.0) * 0.16 + 4.0 * 10.0 * 1e-3]);
    let apart = Rates { interference: 0.0, ..rates() };
    let t = terms(&fleet, cost().default_rates(apart))[0];
    assert_close(&[t.others], &[2.0 * 0.16 + 0.04]);
    // The weight is that of decoding: who waits counts in full.
    let t = terms(&fleet, cost().decode_weight(0.1).unwrap())[0];
    assert_close(&[t.others], &[2.0 * 0.16 + 0.1 * (2.0 * 0.16 + 0.04)]);
}

#[test]
fn who_waits_or_was_just_sent_decodes_beside_it_later() {
    // Four are there, say the metrics of now, those of a moment ago, and the own ledger.
    let fleet = Fleet::new(3, 10).load(|i, l| {
        (l.running_requests, l.waiting_requests) = [(4, 0), (1, 3), (2, 0)][i];
        l.in_flight_requests = [0, 0, 4][i];
    });
    let t = terms(&fleet, cost());
    assert_close(&t.iter().map(|t| t.decode).collect::<Vec<_>>(), &[10.0 * 0.025; 3]);
    assert_close(&t.iter().map(|t| t.others).collect::<Vec<_>>(), &[4.0 * 0.16 + 0.04; 3]);
}

#[test]
fn tiers_are_fetched_only_where_that_is_sooner() {
    let fleet = Fleet::new(3, 10)
        .matched(&[10, 10, 10])
        .slow(0, Tier::HOST, 10) // 0.01 + 0.016 < 0.16
        .slow(1, Tier::DISK, 10) // 0.2 + 0.016 > 0.16
        .slow(2, Tier::HOST, 4);
    let w = works(&fleet, cost());
    assert_close(&[w[0].fetched_tokens, w[0].computed_tokens], &[160.0, 0.0]);
    assert_close(&[w[0].ttft_secs()], &[0.026 + 0.1]);
    assert_close(&[w[1].fetched_tokens, w[1].computed_tokens], &[0.0, 160.0]);
    assert_close(&[w[1].ttft_secs()], &[0.26]);
    assert_close(&[w[2].fetch_secs, w[2].computed_tokens], &[0.0164, 0.0]);
    assert!(w.iter().all(|w| w.fetch_from.is_none()));
    // Loading layer by layer hides behind computing.
    let half = Fleet::new(1, 10).matched(&[5]).slow(0, Tier::HOST, 5);
    assert_close(&[terms(&half, cost())[0].fetch], &[0.018]);
    assert_close(&[terms(&half, cost().layer_wise())[0].fetch], &[0.0]);
}

#[test]
fn a_peer_hands_over_what_is_dearer_to_compute() {
    // 50 ms + 0.1 ms a token against 1 ms a token: from 56 tokens on.
    let fleet = Fleet::new(3, 10).matched(&[0, 10, 7]);
    let w = works(&fleet, cost().peers());
    assert_eq!(w[0].fetch_from, Some(EndpointId(1)));
    assert_close(&[w[0].fetch_secs, w[0].computed_tokens], &[0.066, 0.0]);
    assert_eq!((w[1].fetch_from, w[2].fetch_from), (None, None));
    assert_close(&[w[2].computed_tokens], &[48.0]);
    assert_eq!(works(&fleet, cost())[0].fetch_from, None);
}

#[test]
fn the_answer_says_what_to_fetch_from_where() {
    // Half on the device, a quarter on the host; a peer has the last quarter too. The runs are
    // not in the endpoints' order.
    let fleet = Fleet::new(2, 100)
        .matched(&[75, 100])
        .slow(1, Tier::DISK, 100)
        .slow(0, Tier::HOST, 25)
        .load(|i, l| l.queued_prefill_tokens = 9_000_000 * i as u64);
    let p = common::profile().scorer(Box::new(cost().peers()), 1.0).build().unwrap();
    let mut scratch = Scratch::new();
    let plan = |scratch: &Scratch| cost().peers().plan(&fleet.input(), scratch);
    assert_eq!(plan(&scratch), None);
    let decision = p.decide(fleet.input(), &mut Rng::new(5), &mut scratch).unwrap();
    assert_eq!(decision.endpoint, EndpointId(0));
    let first = plan(&scratch).unwrap();
    let want = [(Source::Tier(Tier::HOST), 400.0), (Source::Peer(EndpointId(1)), 400.0)];
    assert_eq!(first.sources().collect::<Vec<_>>(), want);
    let work = first.work;
    assert_close(&[work.computed_tokens, work.fetched_tokens], &[0.0, 800.0]);
    let receipt = Receipt::of(&p, &scratch).unwrap().with_terms(&p, &fleet.input(), &scratch);
    assert_eq!(receipt.rows[0].terms[0], ("fetch from peer".to_owned(), work.fetch_secs));
    // Nothing is told of a decision that was made from something else.
    assert_eq!(cost().plan(&Fleet::new(0, 0).input(), &scratch), None);
    let split = Split::new(cost().peers());
    let placed = split.place(&fleet.input(), &mut Rng::new(5), &mut scratch).unwrap();
    assert_eq!((placed.prefill, placed.plan), (EndpointId(0), first));
    assert_eq!(plan(&scratch), None);
    assert!(Receipt::of(&p, &scratch).is_none());
}

#[test]
fn what_is_evicted_is_computed_again_and_again() {
    let fleet = Fleet::new(3, 10).matched(&[0, 10, 0]).load(|i, l| {
        l.kv_capacity_tokens = [36_000, 36_000, 0][i];
        l.running_requests = 4;
    });
    let evict = |cost: Cost| terms(&fleet, cost).iter().map(|t| t.evict).collect::<Vec<_>>();
    // 170 and 10 tokens are added. Three in four are missed, of those again three in four... The
    // prompt's 160 then lie twice, which displaces as much each time they are asked for again.
    assert_close(&evict(cost()), &[3.0 * (0.17 + 3.0 * 0.16), 3.0 * 0.01, 0.0]);
    assert_close(&evict(cost().reuse(0.5).unwrap()), &[0.17 + 0.16, 0.01, 0.0]);
    assert_close(&evict(cost().reuse(0.0).unwrap()), &[0.0; 3]);
    let always = cost().reuse(1.0).unwrap();
    assert_close(&evict(always), &[99.0 * (0.17 + 99.0 * 0.16), 99.0 * 0.01, 0.0]);
    assert!(cost().reuse(1.1).is_err() && cost().reuse(-0.1).is_err());
}

#[test]
fn what_was_not_used_for_long_is_evicted_at_less() {
    // 36,000 tokens of memory, computed anew every 100 s, every 300 s, twice a second, and never.
    let turned = |recent: [u64; 4]| {
        let fleet = Fleet::new(4, 10).load(|i, l| {
            l.kv_capacity_tokens = 36_000;
            l.recent_prefill_tokens = recent[i];
        });
        move |cost: Cost| terms(&fleet, cost).iter().map(|t| t.evict).collect::<Vec<_>>()
    };
    let evict = turned([64_800, 21_600, 12_960_000, 0]);
    assert_close(&evict(cost()), &[3.0 * 0.17, 0.17, 99.0 * 0.17, 0.0]);
    assert_close(&evict(cost().reuse(0.5).unwrap()), &[0.17, 0.17 / 3.0, 99.0 * 0.17, 0.0]);
    assert_close(&evict(cost().reuse(0.0).unwrap()), &[0.0; 4]);
    // Who counts nothing is not taken for a fleet that computes nothing.
    assert_close(&turned([0; 4])(cost()), &[3.0 * 0.17; 4]);
}

#[test]
fn a_copy_that_is_kept_busy_displaces_nothing_in_vain() {
    let evict = |demand: f64, matched: [u32; 3]| {
        let fleet = Fleet::new(3, 10).matched(&matched).request(|r| r.prefix_demand = demand);
        let fleet = fleet.load(|_, l| l.kv_capacity_tokens = 36_000);
        terms(&fleet, cost())[2].evict
    };
    // A hit takes ten steps 1 ms more each; two holders and this one have time for 300 a second.
    for (demand, idle) in [(0.0, 1.0), (75.0, 0.75), (150.0, 0.5), (300.0, 0.0), (3000.0, 0.0)] {
        assert_close(&[evict(demand, [10, 10, 0])], &[3.0 * (0.17 + idle * 3.0 * 0.16)]);
    }
    // Only what it lacks is copied, and nothing if nobody has more.
    assert_close(&[evict(0.0, [10, 0, 4])], &[3.0 * (0.106 + 3.0 * 0.096)]);
    assert_close(&[evict(0.0, [4, 0, 4])], &[3.0 * 0.106]);
    assert_close(&[evict(f64::NAN, [10, 10, 0])], &[3.0 * (0.17 + 3.0 * 0.16)]);
}

#[test]
fn a_prompt_new_to_the_fleet_settles_where_it_will_be_found_again() {
    // 36,000 tokens of memory, of which a quarter, none, and all twice was renewed in three minutes.
    let home = |cost: Cost, matched: u32, capacity: u64| {
        let fleet = Fleet::new(3, 10).matched(&[matched]).load(|i, l| {
            l.kv_capacity_tokens = capacity;
            l.recent_prefill_tokens = [9_000, 0, 72_000][i];
        });
        terms(&fleet, cost).iter().map(|t| t.home).collect::<Vec<_>>()
    };
    // Three follow, and who misses it computes it and three times as much that it evicts.
    assert_close(&home(cost(), 0, 36_000), &[12.0 * 0.25 * 0.16, 0.0, 12.0 * 0.16]);
    assert_close(&home(cost(), 1, 36_000), &[0.0; 3]);
    assert_close(&home(cost(), 0, 0), &[0.0; 3]);
    for (reuse, chain) in [(0.0, 0.0), (0.5, 2.0), (0.95, 99.0), (1.0, 99.0)] {
        let cost = cost().reuse(reuse).unwrap();
        assert_close(&home(cost, 0, 36_000), &[chain * 0.25 * 0.16, 0.0, chain * 0.16]);
    }
}

#[test]
fn who_misses_a_home_is_computed_anywhere() {
    let slow = |times: f64| Rates { prefill_per_token: times * 1e-3, ..rates() };
    let home = |times: [f64; 3]| {
        let mut fleet = Fleet::new(3, 10).load(|i, l| {
            l.kv_capacity_tokens = 36_000;
            l.recent_prefill_tokens = [18_000, 18_000, 9_000][i];
        });
        fleet.rates = times.map(slow).to_vec();
        terms(&fleet, cost()).iter().map(|t| t.home).collect::<Vec<_>>()
    };
    // The fast one has no more room for being fast.
    assert_close(&home([1.0, 5.0, 3.0]), &[18.0 * 0.16, 18.0 * 0.16, 9.0 * 0.16]);
    // Rates that are no numbers say nothing of the others.
    for absurd in [f64::INFINITY, f64::NAN] {
        assert_close(&home([1.0, 5.0, absurd]), &[18.0 * 0.16, 18.0 * 0.16, 9.0 * 0.16]);
    }
    assert_close(&home([f64::NAN; 3]), &[0.0; 3]);
}

#[test]
fn memory_that_is_short_must_first_be_free() {
    // 1000 tokens of memory, 160 wanted, answers of 10 tokens.
    let room = |usage: f64, running: u32, waiting: u32, capacity: u64| {
        let fleet = Fleet::new(1, 10).load(|_, l| {
            l.kv_capacity_tokens = capacity;
            l.kv_usage = usage;
            l.running_requests = running;
            l.waiting_requests = waiting;
        });
        terms(&fleet, cost())[0].room
    };
    assert_close(&[room(0.83, 0, 0, 1000)], &[0.0]);
    // 60 too many, where 1000 come free in ten steps of 21 ms.
    assert_close(&[room(0.9, 0, 0, 1000)], &[0.06 * 0.21]);
    // Four running grow no faster than they end; two that wait want as much as this one.
    assert_close(&[room(0.9, 4, 2, 1000)], &[(0.06 + 0.32) * 0.27]);
    assert_close(&[room(0.9, 4, 2, 0)], &[0.0]);
}

#[test]
fn ranks_in_lock_step_are_as_slow_as_their_slowest() {
    // Steps of 20 ms + 1 ms a sequence: 23, 29 and 29 ms, and 24 for one by itself.
    let mut fleet = Fleet::new(4, 10).load(|i, l| l.running_requests = [3, 9, 9, 4][i]);
    lock_step(&[Some(5), Some(5), Some(5)], &mut fleet.loads, &rates());
    let t = terms(&fleet, cost());
    // The decode of the first runs at the others' pace and slows nobody.
    assert_close(&[t[0].decode, t[1].decode, t[3].decode], &[0.29, 0.30, 0.25]);
    let stalled = |bystanders: f64| bystanders * 0.16;
    assert_close(&[t[0].others], &[stalled(21.0)]);
    assert_close(&[t[1].others, t[2].others], &[stalled(21.0) + 21.0 * 10.0 * 1e-3; 2]);
    assert_close(&[t[3].others], &[stalled(4.0) + 4.0 * 10.0 * 1e-3]);
    // By themselves again.
    lock_step(&[], &mut fleet.loads, &rates());
    assert_close(&[terms(&fleet, cost())[0].decode], &[0.24]);
}

#[test]
fn adapters_cost_their_loading() {
    let fleet = Fleet::new(4, 10).request(|r| r.lora = Some(LoraId(1))).load(|i, l| {
        l.lora.active = [vec![LoraId(1)], vec![], vec![], vec![LoraId(2)]][i].clone();
        l.lora.waiting = [vec![], vec![LoraId(1)], vec![], vec![]][i].clone();
        l.lora.slots = 1;
    });
    let adapter: Vec<f64> = terms(&fleet, cost()).iter().map(|t| t.adapter).collect();
    assert_close(&adapter, &[0.0, 1.0, 2.0, 2.0 + 0.21]);
}

#[test]
fn chunks_need_not_be_computed() {
    let mut fleet = Fleet::new(3, 10).matched(&[2, 2, 2]);
    fleet.saved_tokens = vec![0, 100];
    let computed: Vec<f64> = works(&fleet, cost()).iter().map(|w| w.computed_tokens).collect();
    assert_close(&computed, &[128.0, 28.0, 128.0]);
}

#[test]
fn a_hot_prefix_pays_for_one_more_holder() {
    let at = |demand: f64| {
        let fleet = Fleet::new(3, 10).matched(&[10, 0, 10]).request(|r| r.prefix_demand = demand);
        terms(&fleet, cost())
    };
    // A hit takes ten steps 1 ms more each and there are two holders: 200 a second is all they can
    // do.
    for t in at(200.0) {
        assert_close(&[t.replica], &[0.0]);
    }
    let busy = at(400.0);
    assert_close(&[busy[0].replica, busy[1].replica], &[0.0, 0.5 * 0.16]);
    assert_close(&[at(f64::NAN)[1].replica, at(-1.0)[1].replica], &[0.0, 0.0]);
    // What is saved later would have stalled those who decode and evicted as much; a part is there
    // already.
    let fleet = Fleet::new(2, 10).matched(&[10, 4]).request(|r| r.prefix_demand = 200.0);
    let fleet = fleet.load(|i, l| {
        l.running_requests = 3 * i as u32;
        l.kv_capacity_tokens = 36_000;
    });
    let t = terms(&fleet, cost())[1];
    assert_close(&[t.replica], &[0.5 * 0.096 * (1.0 + 3.0 + 3.0)]);
    // With enough demand the newcomer costs no more than a holder.
    let huge = at(1e9);
    assert!((huge[1].total() - huge[0].total()).abs() < 1e-6);
}

#[test]
fn receipts_show_the_terms_and_the_age_of_what_was_known() {
    let p = common::profile().scorer(Box::new(cost()), 1.0).build().unwrap();
    let mut fleet = Fleet::new(2, 10).matched(&[0, 6]).load(|i, l| {
        l.observed_at = Time::from_secs_f64(i as f64);
    });
    fleet.now = Time::from_secs_f64(2.5);
    let mut scratch = Scratch::new();
    p.decide(fleet.input(), &mut Rng::new(5), &mut scratch).unwrap();
    let receipt = Receipt::of(&p, &scratch).unwrap().with_terms(&p, &fleet.input(), &scratch);
    assert_eq!(receipt.rows[0].load_age, Some(2.5));
    assert_eq!(receipt.rows[1].load_age, Some(1.5));
    assert_eq!(
        receipt.to_string(),
        "endpoint 1 chosen by max-score-picker with 0.728, 6 of 10 blocks cached, 0.048 ahead of endpoint 0
  endpoint 1 0.728, 6 blocks (load 1.5 s old): cost-scorer 0.728 × 1
    0.374 s = prefill 0.164 + decode 0.210
  endpoint 0 0.680, 0 blocks (load 2.5 s old): cost-scorer 0.680 × 1
    0.470 s = prefill 0.260 + decode 0.210
  seed 0000000000000005
"
    );
}

fn any_load() -> impl Strategy<Value = Load> {
    let odd = prop_oneof![Just(f64::NAN), Just(-1.0), Just(f64::INFINITY), 0.0..1.0, 0.9..1.2];
    let counts = (0..500_u32, 0..500_u32, any::<u64>(), 0..10_000_000_u64, 0..400_000_u64);
    (odd, counts).prop_map(|(kv_usage, (waiting, running, queued, recent, resident))| Load {
        waiting_requests: waiting,
        running_requests: running,
        kv_usage,
        kv_capacity_tokens: if resident % 3 == 0 { 0 } else { 300_000 },
        pending_requests: waiting,
        queued_prefill_tokens: if queued % 5 == 0 { queued } else { queued % 100_000 },
        recent_prefill_tokens: recent,
        resident_tokens: resident,
        ..Load::default()
    })
}

proptest! {
    #[test]
    fn every_term_is_finite_and_not_negative_whatever_the_metrics(
        loads in prop::collection::vec(any_load(), 1..6),
        matched in prop::collection::vec(0..20_u32, 6),
        demand in prop_oneof![Just(f64::NAN), 0.0..1e6],
    ) {
        let mut fleet = Fleet::new(loads.len() as u16, 10)
            .matched(&matched[..loads.len()])
            .request(|r| r.prefix_demand = demand);
        fleet.loads = loads;
        for t in terms(&fleet, Cost::new().peers()) {
            let parts = [t.queue, t.fetch, t.prefill, t.decode, t.others, t.evict, t.room];
            for secs in parts.into_iter().chain([t.home, t.adapter, t.replica, t.total()]) {
                prop_assert!(secs.is_finite() && secs >= 0.0, "{:?}", t);
            }
        }
        let scores = fleet.scores(Cost::new());
        prop_assert!(scores.iter().all(|s| (0.0..=1.0).contains(s)), "{scores:?}");
    }

    #[test]
    fn more_cached_is_never_dearer_and_more_load_never_cheaper(
        load in any_load(), matched in 0..10_u32, more in 1..1000_u32,
    ) {
        let fleet = Fleet::new(2, 10).matched(&[matched, matched + 1]).load(|_, l| *l = load.clone());
        let t = terms(&fleet, Cost::new());
        prop_assert!(t[1].total() <= t[0].total());
        let fleet = Fleet::new(2, 10).matched(&[matched; 2]).load(|i, l| {
            *l = load.clone();
            l.running_requests += more * i as u32;
            l.pending_requests += more * i as u32;
            l.queued_prefill_tokens = l.queued_prefill_tokens.saturating_add(u64::from(more) * i as u64);
        });
        let t = terms(&fleet, Cost::new());
        prop_assert!(t[1].total() >= t[0].total());
    }
}

/// An endpoint with rates of its own and a tenth of noise; every twentieth outcome is absurd.
fn observe(fit: &mut Fit, truth: &Rates, outcomes: u32, outliers: bool) {
    let mut rng = Rng::new(3);
    for i in 0..outcomes {
        let (u, h) = (rng.unit_f64() * 8000.0, rng.unit_f64() * 8000.0);
        let (queued, sequences) = (rng.unit_f64() * 20_000.0, rng.unit_f64() * 200.0);
        let kv_tokens = rng.unit_f64() * 3e5;
        let mut noise = || 0.9 + 0.2 * rng.unit_f64();
        let wild = if outliers && i % 20 == 19 { 50.0 } else { 1.0 };
        let ttft = truth.prefill_secs(u, h) + queued * truth.prefill_per_token;
        let outcome = Outcome {
            computed_tokens: u,
            reused_tokens: h,
            queued_tokens: queued,
            ttft_secs: ttft * noise() * wild,
            step_secs: truth.step_secs(sequences, kv_tokens) * noise() * wild,
            sequences,
            kv_tokens,
            ..Outcome::default()
        };
        fit.observe(EndpointId(1), &outcome).unwrap();
    }
}

fn truth() -> Rates {
    Rates {
        prefill: 0.05,
        prefill_per_token: 150e-6,
        prefill_per_token_pair: 5e-9,
        step: 0.04,
        step_per_sequence: 0.1e-3,
        step_per_kv_token: 90e-9,
        ..Rates::default()
    }
}

fn assert_near(got: &Rates, want: &Rates, tolerance: f64) {
    for (u, h) in [(0.0, 7000.0), (1200.0, 6000.0), (7200.0, 0.0)] {
        let (got, want) = (got.prefill_secs(u, h), want.prefill_secs(u, h));
        // Ten milliseconds of the fixed part drown in the noise of seconds.
        let allowed = tolerance * want + 0.01;
        assert!((got - want).abs() < allowed, "prefill of {u}: {got} against {want}");
    }
    for (b, k) in [(1.0, 1e4), (50.0, 1e5), (190.0, 2.9e5)] {
        let (got, want) = (got.step_secs(b, k), want.step_secs(b, k));
        assert!((got / want - 1.0).abs() < tolerance, "step at {b}: {got} against {want}");
    }
}

#[test]
fn the_fit_finds_an_endpoints_rates() {
    let mut fit = Fit::new(Rates::default());
    observe(&mut fit, &truth(), 500, false);
    assert_eq!(fit.rates().len(), 2);
    assert_eq!(fit.rates()[0], Rates::default(), "nothing was seen of endpoint 0");
    assert_near(&fit.rates()[1], &truth(), 0.1);
    let error = fit.error(EndpointId(1));
    assert_eq!(error.outcomes, 500);
    assert!(error.ttft < 0.08 && error.step < 0.08, "{error:?}");
    assert!(error.ttft_bias.abs() < 0.04 && error.step_bias.abs() < 0.04, "{error:?}");
}

#[test]
fn the_fit_withstands_outliers() {
    let mut fit = Fit::new(Rates::default());
    observe(&mut fit, &truth(), 1000, true);
    assert_near(&fit.rates()[1], &truth(), 0.25);
}

#[test]
fn the_fit_follows_an_endpoint_that_changes() {
    let mut fit = Fit::new(Rates::default());
    observe(&mut fit, &truth(), 2000, false);
    let slower = Rates { prefill_per_token: 300e-6, step: 0.08, ..truth() };
    observe(&mut fit, &slower, 2000, false);
    assert_near(&fit.rates()[1], &slower, 0.15);
}

#[test]
fn the_fit_stays_within_its_bounds() {
    let mut fit = Fit::new(Rates::default());
    for _ in 0..500 {
        let stuck =
            Outcome { computed_tokens: 10.0, ttft_secs: 1e9, step_secs: 1e9, ..Outcome::default() };
        fit.observe(EndpointId(0), &stuck).unwrap();
        let (got, prior) = (&fit.rates()[0], Rates::default());
        assert!(got.prefill <= 10.0 * prior.prefill && got.step <= 10.0 * prior.step);
        assert!(got.prefill_per_token >= 0.1 * prior.prefill_per_token);
    }
}

#[test]
fn impossible_outcomes_teach_nothing() {
    let mut fit = Fit::new(Rates::default());
    for bad in [f64::NAN, -1.0, f64::INFINITY] {
        let outcome = Outcome { ttft_secs: bad, ..Outcome::default() };
        let error = fit.observe(EndpointId(0), &outcome).unwrap_err();
        assert_eq!(error.figure, "ttft_secs");
    }
    assert!(fit.rates().is_empty());
}

#[test]
fn a_fit_resumes_where_it_was() {
    let mut first = Fit::new(Rates::default());
    observe(&mut first, &truth(), 100, false);
    let mut second = Fit::new(Rates::default());
    second.resume(EndpointId(1), first.state(EndpointId(1)).unwrap().clone()).unwrap();
    assert_eq!(second.rates(), first.rates());
    observe(&mut first, &truth(), 10, false);
    observe(&mut second, &truth(), 10, false);
    assert_eq!(second.rates(), first.rates());
    let other = Rates { prefill: 99.0, ..Rates::default() };
    let state = first.state(EndpointId(1)).unwrap().clone();
    assert!(Fit::new(other).resume(EndpointId(1), state).is_err());
}

fn place(fleet: &Fleet) -> Result<kvsched_scorers::cost::Placement, RouteError> {
    Split::new(cost()).place(&fleet.input(), &mut Rng::new(1), &mut Scratch::new())
}

const ROLE: &str = "llm-d.ai/role";

#[test]
fn splitting_pays_when_it_spares_a_batch() {
    let roles: [&[(&str, &str)]; 3] = [&[(ROLE, "prefill")], &[(ROLE, "decode")], &[]];
    // 1600 tokens: 1.6 s of computing; the transfer takes 0.05 + 0.16.
    let fleet = |running: u32| {
        Fleet::new(3, 100)
            .labelled(&roles)
            .load(move |i, l| l.running_requests = [0, running, running][i])
    };
    let idle = place(&fleet(0)).unwrap();
    assert!(!idle.is_split());
    assert_eq!(idle.decode, EndpointId(2));
    let busy = place(&fleet(10)).unwrap();
    assert_eq!((busy.prefill, busy.decode), (EndpointId(0), EndpointId(1)));
    assert_close(&[busy.transfer_secs], &[0.21]);
    // 1.7 s of prefill and, for others, nothing; 10 steps of 31 ms, and ten others 1 ms each.
    assert_close(&[busy.secs], &[1.7 + 0.21 + 0.31 + 0.1]);
    assert_close(&[busy.otherwise_secs.unwrap()], &[1.7 + 0.31 + 10.0 * 1.6 + 0.1]);
    // What the decoding side already holds need not be transferred.
    let held = fleet(10).matched(&[0, 99, 99]);
    assert!(!place(&held).unwrap().is_split());
}

#[test]
fn the_best_at_both_stages_leaves_one_of_them_to_the_second_best() {
    // Nobody has a role; endpoint 0 is the best at prefill and at decode.
    let fleet = Fleet::new(3, 100).matched(&[50, 0, 0]).load(|i, l| {
        l.queued_prefill_tokens = [0, 10, 20][i];
        l.running_requests = [0, 3, 4][i];
    });
    let placed = place(&fleet).unwrap();
    assert_eq!((placed.prefill, placed.decode), (EndpointId(0), EndpointId(0)));
    // Apart at best: prefill on 0 in 0.9 s; decode on 1, 10 steps of 24 ms that delay three by
    // 1 ms each, after a transfer of 1600 tokens. The other way round computes twice as much.
    assert_close(&[placed.otherwise_secs.unwrap()], &[0.9 + 0.24 + 0.03 + 0.05 + 0.16]);
}

#[test]
fn placements_need_somebody_for_both_stages() {
    let only = |role: &'static str| Fleet::new(2, 10).labelled(&[&[(ROLE, role)][..]; 2]);
    for (role, missing) in [("prefill", "decode-filter"), ("decode", "prefill-filter")] {
        let want = RouteError::AllFiltered { filter: missing.into(), candidates: 2 };
        assert_eq!(place(&only(role)).unwrap_err(), want);
    }
    assert_eq!(place(&Fleet::new(0, 10)).unwrap_err(), RouteError::NoCandidates);
    let mut fleet = Fleet::new(2, 10);
    fleet.loads.pop();
    assert_eq!(place(&fleet).unwrap_err(), RouteError::LoadRows { candidates: 2, loads: 1 });
}

proptest! {
    /// The placement found in one pass is the cheapest of all pairs.
    #[test]
    fn no_other_pair_is_cheaper(
        loads in prop::collection::vec(any_load(), 2..6),
        matched in prop::collection::vec(0..100_u32, 6),
        roles in prop::collection::vec(0..4_usize, 6),
    ) {
        const ROLES: [&[(&str, &str)]; 4] =
            [&[], &[(ROLE, "prefill")], &[(ROLE, "decode")], &[(ROLE, "both")]];
        let n = loads.len();
        let labels: Vec<_> = roles[..n].iter().map(|&r| ROLES[r]).collect();
        let mut fleet = Fleet::new(n as u16, 100).matched(&matched[..n]).labelled(&labels);
        fleet.loads = loads;
        let best = place(&fleet);
        // Every pair alone, as a fleet of two; every endpoint alone, as a fleet of one.
        let mut cheapest = f64::INFINITY;
        let alone = |keep: &[usize]| {
            let mut part = fleet.clone();
            part.candidates = keep.iter().map(|&i| EndpointId(i as u16)).collect();
            part.loads = keep.iter().map(|&i| fleet.loads[i].clone()).collect();
            place(&part).map_or(f64::INFINITY, |p| p.secs)
        };
        for i in 0..n {
            cheapest = cheapest.min(alone(&[i]));
            for j in 0..i {
                cheapest = cheapest.min(alone(&[i, j]));
            }
        }
        match best {
            Ok(best) => prop_assert!(best.secs <= cheapest * (1.0 + 1e-12), "{best:?} {cheapest}"),
            Err(_) => prop_assert_eq!(cheapest, f64::INFINITY),
        }
    }
}

#[test]
fn latency_scores_the_best_class_only() {
    // Times to the first token: 0.26, 0.26 + queue; times per token 0.02 + 1 ms a sequence.
    let fleet = |ttft: f64, tpot: f64| {
        Fleet::new(4, 10)
            .request(move |r| {
                r.ttft_slo = Some(Duration::from_secs_f64(ttft));
                r.tpot_slo = Some(Duration::from_secs_f64(tpot));
            })
            .load(|i, l| {
                l.queued_prefill_tokens = [0, 1000, 2000, 5000][i];
                l.running_requests = [39, 19, 9, 1][i];
            })
    };
    let latency = || Latency::new(cost());
    // Headrooms: 3.0, 2.0, 1.0, −2.0 and 40, 60, 70, 78 ms: the last one misses.
    // Combined for the first three: ttft (1, ½, 0), tpot (0, 2/3, 1) of the sizes.
    let kept = fleet(3.26, 0.1);
    let combined = [0.8, 0.8 * 0.5 + 0.2 * 2.0 / 3.0, 0.2];
    let want = combined.map(|c| 0.01 + 0.99 * (1.0 - c));
    assert_close(&kept.scores(latency()), &[want[0], want[1], want[2], 0.0]);
    let want = combined.map(|c| 0.01 + 0.99 * c);
    assert_close(&kept.scores(latency().most()), &[want[0], want[1], want[2], 0.0]);
    assert_eq!(kept.kept(filter::SloHeadroom::new(cost()).exploration(0.0).unwrap()), [0, 1, 2]);
    assert_eq!(kept.kept(filter::SloHeadroom::new(cost()).exploration(1.0).unwrap()), [3]);
    // Nobody keeps both; only the last two keep a time per token of 30 ms, only the first two
    // the first token: those miss the milder one.
    let missed = fleet(1.27, 0.030);
    let scores = missed.scores(latency().most());
    assert!(scores[1] > scores[0] && scores[0] > 0.0, "{scores:?}");
    assert_eq!(scores[2..], [0.0, 0.0]);
    assert_eq!(missed.kept(filter::SloHeadroom::new(cost())), [0, 1, 2, 3]);
    // An idle endpoint absorbs what nobody can do in time.
    let idle = fleet(0.0, 0.0).load(|i, l| {
        if i == 3 {
            *l = Load { queued_prefill_tokens: 9000, ..Load::default() };
        }
    });
    let scores = idle.scores(latency());
    assert_eq!(scores[..3], [0.0; 3]);
    assert!(scores[3] > 0.0);
}

#[test]
fn filters_explore_at_different_requests() {
    let fleet = Fleet::new(2, 10)
        .matched(&[10, 0])
        .request(|r| {
            (r.ttft_slo, r.tpot_slo) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(1)));
        })
        .load(|i, l| l.queued_prefill_tokens = 9_000 * (1 - i as u64));
    let explorers = [
        common::profile()
            .filter(Box::new(filter::PrefixCacheAffinity::new().exploration(0.5).unwrap())),
        common::profile()
            .filter(Box::new(filter::SloHeadroom::new(cost()).exploration(0.5).unwrap())),
    ]
    .map(|builder| builder.build().unwrap());
    // Both explore in a quarter of the requests, not in half of them.
    let explores = |p: &kvsched_scorers::Profile, seed| {
        let receipt = fleet.receipt(p, seed);
        let dropped = receipt.rows.iter().find(|row| row.dropped_by.is_some());
        dropped.is_none_or(|row| {
            row.endpoint == EndpointId(1) && receipt.filters[0].starts_with("slo")
        })
    };
    let both = (0..1_000).filter(|&seed| explorers.iter().all(|p| explores(p, seed))).count();
    assert!((200..300).contains(&both), "{both}");
}

#[test]
fn headroom_is_objective_minus_prediction() {
    #[derive(Debug)]
    struct Check;
    impl Scorer for Check {
        fn name(&self) -> &str {
            "check"
        }
        fn needs(&self) -> Needs {
            Needs::ALL
        }
        fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
            let headroom = Headroom::of(&cost(), cx, &cx.candidates[0]);
            scores[0] =
                if (headroom.ttft - 0.74).abs() < 1e-9 && !headroom.is_kept() { 1.0 } else { 0.0 };
        }
    }
    let fleet = Fleet::new(1, 10).request(|r| r.ttft_slo = Some(Duration::from_secs(1)));
    assert_eq!(fleet.scores(Check), [1.0]);
}

#[test]
fn rates_differ_by_endpoint() {
    let mut fleet = Fleet::new(2, 100);
    fleet.rates = vec![truth(), Rates { prefill_per_token: 1e-6, ..truth() }];
    let profile = preset::by_name("cost").unwrap();
    assert_eq!(fleet.decide(&profile, 0).unwrap().endpoint, EndpointId(1));
    fleet.rates.swap(0, 1);
    assert_eq!(fleet.decide(&profile, 0).unwrap().endpoint, EndpointId(0));
}
