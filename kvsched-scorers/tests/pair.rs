//! Prefill and decode by threshold, as llm-d's decider has it.

#![allow(clippy::expect_used, reason = "a helper of tests fails as a test does")]

mod common;

use common::Fleet;
use kvsched_core::Rng;
use kvsched_core::{Decision, EndpointId, RouteError};
use kvsched_scorers::filter::Label;
use kvsched_scorers::{Pair, Receipt, Scratch, scorer};

const ROLE: &str = "llm-d.ai/role";
const HOST: &str = "kubernetes.io/hostname";

fn pair(threshold: u32) -> Pair {
    let prefill = common::profile()
        .filter(Box::new(Label::prefill()))
        .scorer(Box::new(scorer::TopologyAffinity), 1.0)
        .build()
        .expect("sound");
    let decode = common::profile()
        .filter(Box::new(Label::decode()))
        .scorer(Box::new(scorer::PrefixCache::new()), 1.0)
        .build()
        .expect("sound");
    Pair::new(prefill, decode, threshold)
}

/// Two that prefill, on hosts a and b; two that decode, likewise. The last holds 6 blocks of 10.
fn fleet() -> Fleet {
    Fleet::new(4, 10).matched(&[10, 10, 0, 6]).labelled(&[
        &[(ROLE, "prefill"), (HOST, "a")],
        &[(ROLE, "prefill"), (HOST, "b")],
        &[(ROLE, "decode"), (HOST, "a")],
        &[(ROLE, "decode"), (HOST, "b")],
    ])
}

fn decide(fleet: &Fleet, threshold: u32) -> Result<(Decision, Option<Decision>), RouteError> {
    let (mut first, mut second) = (Scratch::new(), Scratch::new());
    pair(threshold).decide(fleet.input(), &mut Rng::new(1), &mut first, &mut second)
}

#[test]
fn splits_from_the_threshold_on() {
    // 160 tokens, 96 of them cached where it is decoded.
    for (threshold, splits) in [(64, true), (65, false), (1, true), (0, false)] {
        let (decode, prefill) = decide(&fleet(), threshold).unwrap();
        assert_eq!(decode.endpoint, EndpointId(3), "the longest match that may decode");
        assert_eq!(prefill.is_some(), splits, "threshold {threshold}");
    }
}

#[test]
fn the_prefill_is_chosen_near_the_decode() {
    let (mut first, mut second) = (Scratch::new(), Scratch::new());
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let made = pair(1).decide(fleet().input(), &mut rng, &mut first, &mut second);
        assert_eq!(made.unwrap().1.unwrap().endpoint, EndpointId(1));
    }
    let pair = pair(1);
    pair.decide(fleet().input(), &mut Rng::new(1), &mut first, &mut second).unwrap();
    // Each scratch holds its own decision.
    let profile = common::profile().build().unwrap();
    assert_eq!(Receipt::of(&profile, &first).unwrap().decision.endpoint, EndpointId(3));
    assert_eq!(Receipt::of(&profile, &second).unwrap().decision.endpoint, EndpointId(1));
}

#[test]
fn a_stage_that_nobody_does_is_named() {
    let both = |role: &'static str| Fleet::new(4, 10).labelled(&[&[(ROLE, role)][..]; 4]);
    let all = |filter: &str| RouteError::AllFiltered { filter: filter.into(), candidates: 4 };
    assert_eq!(decide(&both("prefill"), 1).unwrap_err(), all("decode-filter"));
    assert_eq!(decide(&both("decode"), 1).unwrap_err(), all("prefill-filter"));
    assert!(decide(&both("decode"), 0).is_ok(), "without a split nobody needs to prefill alone");
}

#[test]
fn items_are_encoded_near_the_prompt() {
    let encode = || {
        common::profile()
            .filter(Box::new(Label::encode()))
            .scorer(Box::new(scorer::TopologyAffinity), 1.0)
            .build()
            .expect("sound")
    };
    let fleet = Fleet::new(3, 10).labelled(&[
        &[(ROLE, "encode"), (HOST, "a")],
        &[(ROLE, "encode"), (HOST, "b")],
        &[(ROLE, "decode"), (HOST, "b")],
    ]);
    let (mut rng, mut scratch) = (Rng::new(1), Scratch::new());
    let near = EndpointId(2);
    let itself = pair(1).decide_encode(fleet.input(), near, &mut rng, &mut scratch);
    assert_eq!(itself, Ok(None));
    let pair = pair(1).encode(encode());
    for _ in 0..20 {
        let made = pair.decide_encode(fleet.input(), near, &mut rng, &mut scratch).unwrap();
        assert_eq!(made.unwrap().endpoint, EndpointId(1));
    }
    let nobody = Fleet::new(2, 10);
    let refused = pair.decide_encode(nobody.input(), near, &mut rng, &mut scratch).unwrap_err();
    assert_eq!(refused, RouteError::AllFiltered { filter: "encode-filter".into(), candidates: 2 });
}
