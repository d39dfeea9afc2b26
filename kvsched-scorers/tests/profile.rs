//! What a profile promises, whatever its plugins do.

mod common;

use common::{Fixed, Fleet, assert_close, profile, with_picker};
use kvsched_core::{Context, EndpointId, Filter, Needs, Picker, Rng, RouteError, Tier};
use kvsched_scorers::{
    DecideInput, Profile, ProfileError, Receipt, Scratch, filter, picker, scorer,
};

#[test]
fn sums_are_weighted_shares() {
    let p = profile()
        .scorer(Box::new(Fixed(vec![1.0, 0.0])), 3.0)
        .scorer(Box::new(Fixed(vec![0.5, 1.0])), 1.0)
        .build()
        .unwrap();
    let receipt = Fleet::new(2, 0).receipt(&p, 0);
    assert_close(&[receipt.rows[0].sum, receipt.rows[1].sum], &[0.875, 0.25]);
    assert_eq!(receipt.decision.endpoint, EndpointId(0));
    assert_eq!(receipt.decision.runner_up, Some((EndpointId(1), 0.25)));
    assert_close(&[receipt.margin().unwrap()], &[0.625]);
}

#[test]
fn huge_and_tiny_weights_keep_their_ratio() {
    let p = profile()
        .scorer(Box::new(Fixed(vec![1.0, 0.0])), f64::MAX)
        .scorer(Box::new(Fixed(vec![0.0, 1.0])), f64::MAX)
        .build()
        .unwrap();
    let receipt = Fleet::new(2, 0).receipt(&p, 0);
    assert_close(&[receipt.rows[0].sum, receipt.rows[1].sum], &[0.5, 0.5]);
}

#[test]
fn faulty_scores_are_reported_and_neutral() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.01, 1.01] {
        let p = profile().scorer(Box::new(Fixed(vec![0.4, bad, 0.6])), 1.0).build().unwrap();
        let fleet = Fleet::new(3, 0);
        let mut scratch = Scratch::new();
        let decision = p.decide(fleet.input(), &mut Rng::new(0), &mut scratch).unwrap();
        assert_eq!(decision.endpoint, EndpointId(2));
        assert_eq!(decision.runner_up, Some((EndpointId(1), 0.5)));
        assert_eq!(scratch.faults(), 1);
        let receipt = Receipt::of(&p, &scratch).unwrap();
        assert_eq!(receipt.rows[1].scores[0].to_bits(), bad.to_bits());
        assert!(receipt.to_string().contains("(fault, counted as 0.5)"), "{receipt}");
    }
}

#[test]
fn a_scorer_that_writes_nothing_is_neutral() {
    #[derive(Debug)]
    struct Idle;
    impl kvsched_core::Scorer for Idle {
        fn name(&self) -> &str {
            "idle"
        }
        fn needs(&self) -> Needs {
            Needs::NONE
        }
        fn score(&self, _: &Context<'_>, _: &mut [f64]) {}
    }
    let p = profile().scorer(Box::new(Idle), 1.0).build().unwrap();
    let mut scratch = Scratch::new();
    let d = p.decide(Fleet::new(2, 0).input(), &mut Rng::new(0), &mut scratch).unwrap();
    assert_eq!((d.score, scratch.faults()), (0.5, 2));
}

#[derive(Debug)]
struct Nowhere;
impl Picker for Nowhere {
    fn name(&self) -> &str {
        "nowhere"
    }
    fn pick(&self, _: &Context<'_>, scores: &[f64], _: &mut Rng) -> usize {
        scores.len()
    }
}

#[test]
fn a_picker_out_of_range_is_reported_and_overruled() {
    let p = with_picker(Nowhere).scorer(Box::new(Fixed(vec![0.1, 0.9])), 1.0).build().unwrap();
    let mut scratch = Scratch::new();
    let d = p.decide(Fleet::new(2, 0).input(), &mut Rng::new(0), &mut scratch).unwrap();
    assert_eq!((d.endpoint, scratch.faults()), (EndpointId(1), 1));
    assert!(Receipt::of(&p, &scratch).unwrap().to_string().contains("fault: nowhere"));
}

/// Keeps only the candidates at these positions.
#[derive(Debug)]
struct Only(&'static str, Vec<u16>);
impl Filter for Only {
    fn name(&self) -> &str {
        self.0
    }
    fn needs(&self) -> Needs {
        Needs::NONE
    }
    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        for (c, keep) in cx.candidates.iter().zip(keep) {
            *keep = self.1.contains(&c.endpoint.0);
        }
    }
}

#[test]
fn filters_narrow_one_after_the_other() {
    let p = profile()
        .filter(Box::new(Only("first", vec![1, 2])))
        .filter(Box::new(Only("second", vec![0, 2])))
        .scorer(Box::new(scorer::PrefixCache::new()), 1.0)
        .build()
        .unwrap();
    let fleet = Fleet::new(3, 4).matched(&[4, 3, 2]);
    let receipt = fleet.receipt(&p, 0);
    assert_eq!(receipt.decision.endpoint, EndpointId(2));
    assert_eq!(receipt.decision.candidates, 1);
    assert_eq!(receipt.decision.runner_up, None);
    let rows: Vec<_> =
        receipt.rows.iter().map(|r| (r.endpoint.0, r.matched_blocks, r.dropped_by)).collect();
    assert_eq!(rows, [(2, 2, None), (0, 4, Some(0)), (1, 3, Some(1))]);
    assert_eq!(
        receipt.to_string(),
        "endpoint 2 chosen by max-score-picker with 0.500, 2 of 4 blocks cached (2 more elsewhere), nobody else left\n  \
         endpoint 2 0.500, 2 blocks: prefix-cache-scorer 0.500 × 1\n  \
         endpoint 0 dropped by first, 4 blocks\n  \
         endpoint 1 dropped by second, 3 blocks\n  seed 0000000000000000\n"
    );
}

#[test]
fn the_filter_that_drops_the_last_is_named() {
    let p = profile()
        .filter(Box::new(Only("first", vec![1])))
        .filter(Box::new(Only("second", vec![0])))
        .build()
        .unwrap();
    let mut scratch = Scratch::new();
    let fleet = Fleet::new(3, 0);
    assert_eq!(
        p.decide(fleet.input(), &mut Rng::new(0), &mut scratch),
        Err(RouteError::AllFiltered { filter: "second".into(), candidates: 3 })
    );
    assert!(Receipt::of(&p, &scratch).is_none());
}

#[test]
fn a_failed_decision_leaves_no_receipt_of_the_one_before() {
    let p = profile().build().unwrap();
    let mut scratch = Scratch::new();
    p.decide(Fleet::new(1, 0).input(), &mut Rng::new(0), &mut scratch).unwrap();
    assert!(Receipt::of(&p, &scratch).is_some());
    let nobody = p.decide(DecideInput::new(&[]), &mut Rng::new(0), &mut scratch);
    assert_eq!(nobody, Err(RouteError::NoCandidates));
    assert!(Receipt::of(&p, &scratch).is_none());
}

#[test]
fn load_rows_must_fit_the_candidates() {
    let reads = profile().scorer(Box::new(scorer::Queue), 1.0).build().unwrap();
    let blind = profile().build().unwrap();
    let mut fleet = Fleet::new(2, 0);
    fleet.loads.pop();
    let error = Err(RouteError::LoadRows { candidates: 2, loads: 1 });
    assert_eq!(fleet.decide(&reads, 0), error);
    assert_eq!(fleet.decide(&blind, 0), error);
    fleet.loads.clear();
    assert_eq!(fleet.decide(&reads, 0), Err(RouteError::LoadRows { candidates: 2, loads: 0 }));
    assert!(fleet.decide(&blind, 0).is_ok());
}

#[test]
fn needs_are_what_the_plugins_declare() {
    assert_eq!(profile().build().unwrap().needs(), Needs::NONE);
    let p = profile().scorer(Box::new(scorer::Queue), 1.0);
    assert_eq!(p.build().unwrap().needs(), Needs::LOADS);
    let p = profile()
        .scorer(Box::new(scorer::Queue), 1.0)
        .filter(Box::new(filter::PrefixCacheAffinity::new().max_penalty_secs(0.0).unwrap()));
    assert_eq!(p.build().unwrap().needs(), Needs::ALL);
}

#[test]
fn contradictory_profiles_are_refused() {
    assert_eq!(Profile::builder().build().unwrap_err(), ProfileError::NoPicker);
    for weight in [-1.0, f64::INFINITY] {
        let error = profile().scorer(Box::new(scorer::Queue), weight).build().unwrap_err();
        assert_eq!(error, ProfileError::Weight { scorer: "queue-scorer".into(), weight });
    }
    assert!(profile().scorer(Box::new(scorer::Queue), f64::NAN).build().is_err());
}

#[test]
fn a_scorer_of_weight_zero_is_shown_but_not_counted() {
    let p = profile()
        .scorer(Box::new(Fixed(vec![0.0, 1.0])), 0.0)
        .scorer(Box::new(Fixed(vec![1.0, 0.0])), 2.0)
        .build()
        .unwrap();
    let receipt = Fleet::new(2, 0).receipt(&p, 0);
    assert_eq!(receipt.decision.endpoint, EndpointId(0));
    assert_eq!(receipt.rows[1].scores, [1.0, 0.0]);
    assert_eq!(receipt.rows[1].sum, 0.0);
}

#[test]
fn ties_go_to_the_least_full_and_then_to_lots() {
    let p = profile().build().unwrap();
    let fleet = Fleet::new(4, 0).load(|i, load| {
        load.kv_usage = [0.5, 0.2, 0.2, 0.2][i];
        load.running_requests = [0, 7, 3, 3][i];
    });
    let picks = fleet.picks(&p, 400);
    assert_eq!(picks[..2], [0, 0]);
    assert!(picks[2] > 150 && picks[3] > 150, "{picks:?}");
    // Without load rows everybody is equal.
    let picks = Fleet { loads: Vec::new(), ..fleet }.picks(&p, 400);
    assert!(picks.iter().all(|&n| n > 60), "{picks:?}");
}

#[test]
fn the_seed_decides_alike_and_a_used_scratch_changes_nothing() {
    let p = with_picker(picker::WeightedRandom)
        .scorer(Box::new(scorer::PrefixCache::new()), 1.0)
        .build()
        .unwrap();
    let fleet = Fleet::new(6, 8).matched(&[1, 2, 3, 4, 5, 6]);
    let other = Fleet::new(40, 3).slow(7, Tier::HOST, 1);
    let mut scratch = Scratch::new();
    for seed in 0..50 {
        let fresh = fleet.receipt(&p, seed);
        other.decide(&p, seed).unwrap();
        p.decide(other.input(), &mut Rng::new(seed), &mut scratch).unwrap();
        p.decide(fleet.input(), &mut Rng::new(fresh.seed), &mut scratch).unwrap();
        assert_eq!(Receipt::of(&p, &scratch).unwrap(), fresh);
    }
}

#[test]
fn a_match_beyond_the_prompt_or_an_unknown_endpoint_is_no_trouble() {
    let p = profile()
        .scorer(Box::new(scorer::PrefixCache::new()), 1.0)
        .scorer(Box::new(scorer::PrecisePrefixCache::new()), 1.0)
        .build()
        .unwrap();
    let mut fleet = Fleet::new(2, 4).matched(&[9, 0]).slow(0, Tier::HOST, 100);
    fleet.candidates.push(EndpointId(60_000));
    fleet.loads.push(Default::default());
    let receipt = fleet.receipt(&p, 0);
    assert_eq!(receipt.decision.matched_blocks, 4);
    assert_eq!(receipt.rows[2].matched_blocks, 0);
    assert!(receipt.rows.iter().flat_map(|r| &r.scores).all(|s| (0.0..=1.0).contains(s)));
}

/// Scores by the blocks that lie on the host, times a hundredth.
#[derive(Debug)]
struct OnHost;
impl kvsched_core::Scorer for OnHost {
    fn name(&self) -> &str {
        "on-host"
    }
    fn needs(&self) -> Needs {
        Needs::MATCHES
    }
    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let runs = cx.slow_runs(candidate).iter();
            assert!(runs.clone().all(|run| run.endpoint == candidate.endpoint));
            *score = runs.map(|run| f64::from(run.blocks)).sum::<f64>() / 100.0;
        }
    }
}

proptest::proptest! {
    #[test]
    fn slow_runs_find_their_candidates_in_any_order(
        runs in proptest::collection::vec((0..12_u16, 1..4_u8, 1..5_u32), 0..20),
        offered in proptest::collection::vec(0..12_u16, 1..20),
    ) {
        let mut fleet = Fleet::new(12, 90).matched(&[90; 12]);
        for (endpoint, tier, blocks) in runs {
            fleet = fleet.slow(endpoint, Tier::new(tier).unwrap(), blocks);
        }
        let want: Vec<f64> = offered
            .iter()
            .map(|&e| {
                let runs = fleet.matches.slow_runs().iter().filter(|r| r.endpoint.0 == e);
                f64::from(runs.map(|r| r.blocks).sum::<u32>()) / 100.0
            })
            .collect();
        fleet.candidates = offered.iter().copied().map(EndpointId).collect();
        fleet.loads = vec![Default::default(); offered.len()];
        assert_close(&fleet.scores(OnHost), &want);
    }
}
