//! The published rules of llm-d's remaining plugins and of the other routers, as tables.

mod common;

use common::{Fixed, Fleet, assert_close, with_picker};
use kvsched_core::{EndpointId, Load, Tier, Time};
use kvsched_scorers::filter::{self, Label, Rule};
use kvsched_scorers::{Proximity, picker, scorer};

/// The endpoints, best first.
fn order(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

fn requests(counts: &'static [u32]) -> impl Fn(usize, &mut Load) {
    move |i, load| load.running_requests = counts[i]
}

#[test]
fn token_load_counts_the_queue_and_the_request() {
    // 160 tokens, of which the second endpoint has half.
    let fleet = Fleet::new(4, 10).matched(&[0, 5, 0, 0]).load(|i, l| {
        l.queued_prefill_tokens = [4_194_304 / 2 - 160, 0, 4_194_304, u64::MAX][i];
    });
    let want = [0.5, 1.0 - 80.0 / 4_194_304.0, 0.0, 0.0];
    assert_close(&fleet.scores(scorer::TokenLoad::new()), &want);
    let small = scorer::TokenLoad::new().threshold(160.0).unwrap();
    assert_close(&fleet.scores(small), &[0.0, 0.5, 0.0, 0.0]);
}

#[test]
fn active_request_spares_the_idle() {
    let fleet = Fleet::new(4, 0).load(|i, l| l.in_flight_requests = [0, 2, 5, 8][i]);
    let plain = fleet.scores(scorer::ActiveRequest::new());
    assert_close(&plain, &[1.0, 0.75, 0.375, 0.0]);
    let tuned = fleet.scores(scorer::ActiveRequest::with(2.0, 0.5).unwrap());
    assert_close(&tuned, &[1.0, 1.0, 0.1875, 0.0]);
    assert_close(&Fleet::new(2, 0).scores(scorer::ActiveRequest::new()), &[1.0, 1.0]);
}

#[test]
fn load_aware_never_exceeds_a_half() {
    let fleet = Fleet::new(4, 0).load(|i, l| l.waiting_requests = [0, 64, 128, 500][i]);
    assert_close(&fleet.scores(scorer::LoadAware::new()), &[0.5, 0.25, 0.0, 0.0]);
}

#[test]
fn no_hit_lru_ranks_the_cold() {
    let fleet = |times: [Option<u64>; 5]| {
        Fleet::new(5, 4).load(move |i, l| l.last_cold_at = times[i].map(Time))
    };
    let used = fleet([Some(50), Some(10), Some(40), Some(20), Some(30)]);
    assert_close(&used.scores(scorer::NoHitLru), &[0.0, 1.0, 0.25, 0.75, 0.5]);
    let some = fleet([Some(50), None, Some(40), None, Some(30)]).scores(scorer::NoHitLru);
    assert_close(&[some[0], some[2], some[4]], &[0.0, 0.25, 0.5]);
    assert_close(&[some[1] + some[3], some[1] * some[3]], &[1.75, 0.75]);
    let hit = used.matched(&[0, 0, 0, 0, 1]);
    assert_close(&hit.scores(scorer::NoHitLru), &[0.5; 5]);
    assert_close(&Fleet::new(1, 4).scores(scorer::NoHitLru), &[1.0]);
}

#[test]
fn no_hit_lru_draws_lots_among_the_unused() {
    let profile = common::profile().scorer(Box::new(scorer::NoHitLru), 1.0).build().unwrap();
    let picks = Fleet::new(4, 4).picks(&profile, 400);
    assert!(picks.iter().all(|&n| n > 60), "{picks:?}");
}

#[test]
fn context_length_prefers_the_range_that_fits() {
    const RANGE: &str = "llm-d.ai/context-length-range";
    let fleet = Fleet::new(7, 0).request(|r| r.prompt_tokens = 2000).labelled(&[
        &[(RANGE, "0-4000")],
        &[(RANGE, "2000-2000")],
        &[(RANGE, "0-1000")],
        &[(RANGE, "4000 - 9000")],
        &[],
        &[(RANGE, "many")],
        &[(RANGE, "9-1")],
    ]);
    let in_range = 0.3 + 0.7 * (0.7 / 1.4 + 0.3 * 0.5);
    let want = [in_range, 1.0, 0.15, 0.1, 0.5, 0.0, 0.0];
    assert_close(&fleet.scores(scorer::ContextLength::new()), &want);
    assert_eq!(fleet.kept(filter::ContextLength::new()), [0, 1, 4]);
    assert_close(&fleet.scores(scorer::ContextLength::with_label("other")), &[0.5; 7]);
}

#[test]
fn sessions_stay_where_they_are_pinned() {
    let fleet = Fleet::new(3, 0).request(|r| r.pinned = Some(EndpointId(1)));
    assert_close(&fleet.scores(scorer::SessionAffinity), &[0.0, 1.0, 0.0]);
    assert_eq!(fleet.kept(filter::SessionAffinity), [1]);
    let gone = Fleet::new(3, 0).request(|r| r.pinned = Some(EndpointId(9)));
    assert_eq!(gone.kept(filter::SessionAffinity), [0, 1, 2]);
    assert_close(&gone.scores(scorer::SessionAffinity), &[0.0; 3]);
}

#[test]
fn topology_is_the_tightest_level_in_common() {
    const HOST: &str = "kubernetes.io/hostname";
    const RACK: &str = "topology.kubernetes.io/rack";
    const ZONE: &str = "topology.kubernetes.io/zone";
    const REGION: &str = "topology.kubernetes.io/region";
    let all = |h, r, z, g| [(HOST, h), (RACK, r), (ZONE, z), (REGION, g)];
    let rows = [
        all("a", "r", "z", "g"),
        all("a", "x", "x", "x"),
        all("b", "r", "z", "g"),
        all("b", "x", "z", "g"),
        all("b", "x", "x", "g"),
        all("", "", "", ""),
    ];
    let labels: Vec<&[(&str, &str)]> = rows.iter().map(<[_; 4]>::as_slice).collect();
    let fleet = Fleet::new(6, 0).labelled(&labels);
    let near = fleet.clone().request(|r| r.near = Some(EndpointId(0)));
    assert_close(&near.scores(scorer::TopologyAffinity), &[1.0, 1.0, 0.2, 0.05, 0.02, 0.0]);
    assert_eq!(near.kept(filter::TopologyAffinity::default()), [0, 1]);
    assert_eq!(near.kept(filter::TopologyAffinity::new(Proximity::Zone)), [0, 1, 2, 3]);
    let unknown = fleet.clone().request(|r| r.near = Some(EndpointId(5)));
    assert_close(&unknown.scores(scorer::TopologyAffinity), &[0.0; 6]);
    assert_eq!(unknown.kept(filter::TopologyAffinity::default()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(fleet.kept(filter::TopologyAffinity::default()), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn roles_and_selectors() {
    let role = |r: &'static str| [(Label::ROLE, r)];
    let rows =
        ["encode", "prefill", "decode", "encode-prefill", "prefill-decode", "both"].map(role);
    let mut labels: Vec<&[(&str, &str)]> = rows.iter().map(<[_; 1]>::as_slice).collect();
    labels.push(&[(Label::ROLE, "encode-prefill-decode")]);
    labels.push(&[("gpu", "h100")]);
    let fleet = Fleet::new(8, 0).labelled(&labels);
    assert_eq!(fleet.kept(Label::encode()), [0, 3, 6]);
    assert_eq!(fleet.kept(Label::prefill()), [1, 3, 4, 5, 6]);
    assert_eq!(fleet.kept(Label::decode()), [2, 4, 5, 6, 7]);
    let values = || vec!["both".to_owned()];
    let role = |rule| Label::selector().require(Label::ROLE, rule);
    assert_eq!(fleet.kept(role(Rule::In(values()))), [5]);
    assert_eq!(fleet.kept(role(Rule::NotIn(values()))), [0, 1, 2, 3, 4, 6, 7]);
    assert_eq!(fleet.kept(role(Rule::Exists)), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(fleet.kept(role(Rule::DoesNotExist).require("gpu", Rule::Exists)), [7]);
    assert_eq!(fleet.kept(Label::one_of(Label::ROLE, values(), true)), [5, 7]);
}

#[test]
fn dynamo_counts_blocks() {
    // 10 blocks of 16; costs by hand:
    // 0: max((0+160)/16 − 0, 0) + 0 + 10 = 20
    // 1: 10 − 6 + 0 + 4 = 8
    // 2: (160+160)/16 − 6 + 4 = 18
    // 3: 10 + decode 0.5·320/16 = 10 + 10 new = 30
    // 4: 4 on the host: 10 − (2 + 3) + 8 = 13
    let fleet = Fleet::new(5, 10).matched(&[0, 6, 6, 0, 6]).slow(4, Tier::HOST, 4).load(|i, l| {
        l.queued_prefill_tokens = [0, 0, 160, 0, 0][i];
        l.kv_usage = [0.0, 0.0, 0.0, 0.5, 0.0][i];
        l.kv_capacity_tokens = 320;
    });
    let want = [20.0, 8.0, 18.0, 30.0, 13.0].map(|cost| (30.0 - cost) / 22.0);
    assert_close(&fleet.scores(scorer::Dynamo::new()), &want);
    // Credit 2, scale 4, decay 64: endpoint 2 has an excess of one request.
    let credit = 12.0 / 65.0;
    let want = [50.0, 4.0, 4.0 * (20.0 - credit) + 4.0, 60.0, 4.0 * (10.0 - 7.0) + 8.0];
    let worst = want[2];
    let want = want.map(|cost| (worst - cost) / (worst - 4.0));
    assert_close(&fleet.scores(scorer::Dynamo::with(2.0, 4.0, 64.0).unwrap()), &want);
    // A shared store's four blocks count a half each, or nothing: 10 − 2 + 10 − 0 against 10 + 10.
    let fleet = Fleet::new(3, 10).matched(&[0, 4, 10]).slow(1, Tier::SHARED, 4);
    let costs = |shared: f64| [20.0, 10.0 - 4.0 * shared + 10.0, 0.0];
    for shared in [0.5, 0.0] {
        let want = costs(shared).map(|cost| (20.0 - cost) / 20.0);
        let scorer = scorer::Dynamo::new().shared_credit(shared).unwrap();
        assert_close(&fleet.scores(scorer), &want);
    }
    assert_close(&fleet.scores(scorer::Dynamo::new()), &[0.0, 0.1, 1.0]);
    assert!(scorer::Dynamo::new().shared_credit(f64::NAN).is_err());
}

#[test]
fn sglang_leaves_the_cache_when_imbalanced() {
    let cached = |counts| Fleet::new(3, 10).matched(&[9, 9, 2]).load(requests(counts));
    // 33 apart and more than 1.1 times: the least loaded.
    let scorer = scorer::SmgCacheAware::new();
    assert_eq!(order(&cached(&[40, 33, 7]).scores(scorer)), [2, 1, 0]);
    // 32 apart is not enough.
    assert_eq!(order(&cached(&[40, 33, 8]).scores(scorer)), [1, 0, 2]);
    // 33 apart but within a factor of 1.1.
    assert_eq!(order(&cached(&[433, 420, 400]).scores(scorer)), [1, 0, 2]);
    // A guessed match of exactly half is not trusted.
    let half = Fleet::new(2, 10).matched(&[5, 0]).load(requests(&[2, 1]));
    assert_eq!(order(&half.scores(scorer::SmgCacheAware::approximate())), [1, 0]);
    assert_eq!(order(&half.scores(scorer)), [0, 1]);
}

#[test]
fn sglang_least_load_is_in_seconds() {
    let fleet = Fleet::new(4, 0).load(|i, l| {
        l.queued_prefill_tokens = [1000, 1000, 0, 0][i];
        l.prefill_tokens_per_sec = [1000.0, 2000.0, f64::NAN, 0.0][i];
        l.kv_usage = [0.0, 0.5, 0.0, 0.8][i];
    });
    // 1.0, 0.5 + 0.15, 0, 0.6
    assert_close(&fleet.scores(scorer::SmgLeastLoad), &[0.0, 0.35, 1.0, 0.4]);
    let unknown = Fleet::new(2, 0).load(|i, l| l.queued_prefill_tokens = [15_928, 0][i]);
    let full = unknown.load(|i, l| l.kv_usage = [0.0, 1.0][i]);
    assert_eq!(order(&full.scores(scorer::SmgLeastLoad)), [0, 1]);
}

#[test]
fn aibrix_tolerates_one_deviation() {
    let scorer = scorer::Aibrix::new();
    let fleet = |counts| Fleet::new(4, 10).matched(&[9, 5, 0, 0]).load(requests(counts));
    // A gap of 9: the least loaded.
    assert_eq!(order(&fleet(&[9, 5, 1, 0]).scores(scorer)), [3, 2, 1, 0]);
    // A gap of 8: mean 2, deviation 3.46; endpoint 0 is too busy, 1 holds the most of the rest.
    assert_eq!(order(&fleet(&[8, 0, 0, 0]).scores(scorer))[0], 1);
    // Mean 1.5, deviation 1.12: all but endpoint 1 are near enough.
    assert_eq!(order(&fleet(&[2, 3, 1, 0]).scores(scorer)), [0, 3, 2, 1]);
}

#[test]
fn preble_exploits_above_one_half() {
    let load = |i: usize, l: &mut Load| {
        l.running_requests = [9, 1, 0][i];
        l.recent_prefill_tokens = [0, 500, 100][i];
        l.kv_capacity_tokens = 1000;
        l.kv_usage = [0.9, 0.0, 0.0][i];
    };
    let exploit = Fleet::new(3, 10).matched(&[6, 6, 0]).load(load);
    assert_eq!(order(&exploit.scores(scorer::Preble::new())), [1, 0, 2]);
    // 80 + max(80 − 100, 0); 500 + 80; 100 + 160
    let explore = Fleet::new(3, 10).matched(&[5, 5, 0]).load(load);
    assert_close(&explore.scores(scorer::Preble::new()), &[1.0, 0.0, 320.0 / 500.0]);
    // Cold: 160 + (160 − 100) evicted; 660; 260
    let cold = Fleet::new(3, 10).load(load);
    assert_close(&cold.scores(scorer::Preble::new()), &[1.0, 0.0, 400.0 / 440.0]);
    let free = scorer::Preble::new().reuse(0.0).unwrap();
    assert_close(&cold.scores(free), &[1.0, 0.0, 0.8]);
}

#[test]
fn production_stack_trades_match_for_load() {
    // mean 4: 0.5 − (6−4)/4 = 0, 0 − (2−4)/4 = 0.5, 0.9 − 0 = 0.9
    let fleet = Fleet::new(3, 10).matched(&[5, 0, 9]).load(requests(&[6, 2, 4]));
    assert_close(&fleet.scores(scorer::ProductionStack), &[0.0, 0.5 / 0.9, 1.0]);
}

#[test]
fn lmetric_multiplies() {
    // (100+160)·1, (0+80)·3, (0+160)·2
    let fleet = Fleet::new(3, 10).matched(&[0, 5, 0]).load(|i, l| {
        l.queued_prefill_tokens = [100, 0, 0][i];
        l.running_requests = [0, 2, 1][i];
    });
    assert_close(&fleet.scores(scorer::Lmetric), &[60.0 / 80.0, 1.0, 0.0]);
}

#[test]
fn ray_narrows_by_match_or_by_room() {
    let ray = filter::RayPrefix::new();
    let fill = |i: usize, l: &mut Load| l.kv_usage = [0.5, 0.1, 0.1][i];
    assert_eq!(Fleet::new(3, 10).matched(&[1, 0, 1]).load(fill).kept(ray), [0, 2]);
    assert_eq!(Fleet::new(3, 11).matched(&[1, 0, 1]).load(fill).kept(ray), [1, 2]);
    let apart = Fleet::new(3, 10).matched(&[9, 0, 0]).load(requests(&[5, 0, 0]));
    assert_eq!(apart.kept(ray), [0]);
    assert_eq!(apart.kept(ray.imbalance(4.0).unwrap()), [0, 1, 2]);
}

#[test]
fn softmax_has_boltzmanns_probabilities() {
    let scores = || Box::new(Fixed(vec![1.0, 0.5, 0.0]));
    let p = with_picker(picker::Softmax::new(0.5).unwrap()).scorer(scores(), 1.0).build().unwrap();
    let draws = 20_000_u64;
    let picks = Fleet::new(3, 0).picks(&p, draws);
    let weights = [2.0_f64.exp(), 1.0_f64.exp(), 1.0];
    let sum: f64 = weights.iter().sum();
    for (&got, weight) in picks.iter().zip(weights) {
        let p = weight / sum;
        let deviation = (draws as f64 * p * (1.0 - p)).sqrt();
        assert!((got as f64 - draws as f64 * p).abs() < 4.0 * deviation, "{picks:?}");
    }
    let cold = picker::Softmax::new(1e-300).unwrap();
    let p = with_picker(cold).scorer(scores(), 1.0).build().unwrap();
    assert_eq!(Fleet::new(3, 0).picks(&p, 50), [50, 0, 0]);
    assert!(picker::Softmax::new(0.0).is_err());
}
