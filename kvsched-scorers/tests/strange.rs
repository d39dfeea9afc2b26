//! Whatever the caller hands over: a decision or an error, never a panic, and no faulty score.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use kvsched_core::{
    EndpointId, Knowledge, Labels, Load, LoraId, PrefixMatches, Rates, Request, Rng, Scorer, Tier,
    Time, Transfer, Trust,
};
use kvsched_scorers::cost::{Cost, Split};
use kvsched_scorers::filter::{Label, SloHeadroom};
use kvsched_scorers::scorer::{ContextLength, Latency};
use kvsched_scorers::{DecideInput, Profile, Receipt, Scratch, picker, preset};
use proptest::prelude::*;
use std::time::Duration;

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(-1.0),
        Just(0.0),
        0.0..1.0,
    ]
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), 0..4_u32, Just(u32::MAX)]
}

fn total() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..4_u64, 0..400_000_u64, Just(u64::MAX)]
}

prop_compose! {
    fn load()(
        (waiting_requests, running_requests, in_flight_requests) in (count(), count(), count()),
        (pending_requests, lock_step_requests, slots) in (count(), count(), count()),
        (kv_usage, prefill_tokens_per_sec, lock_step_secs) in (float(), float(), float()),
        (kv_capacity_tokens, resident_tokens, queued_prefill_tokens) in (total(), total(), total()),
        (recent_prefill_tokens, observed_at, cold) in (total(), total(), total()),
        (active, wanted) in (prop::collection::vec(0..3_u32, 0..3), prop::collection::vec(0..3_u32, 0..3)),
    ) -> Load {
        let mut load = Load {
            waiting_requests, running_requests, in_flight_requests, pending_requests, lock_step_requests,
            kv_usage, prefill_tokens_per_sec, lock_step_secs, kv_capacity_tokens, resident_tokens,
            queued_prefill_tokens, recent_prefill_tokens,
            observed_at: Time(observed_at),
            last_cold_at: Some(Time(cold)),
            ..Load::default()
        };
        load.lora.active = active.into_iter().map(LoraId).collect();
        load.lora.waiting = wanted.into_iter().map(LoraId).collect();
        load.lora.slots = slots;
        load
    }
}

prop_compose! {
    fn rates()(f in prop::collection::vec(float(), 8)) -> Rates {
        Rates {
            prefill: f[0], prefill_per_token: f[1], prefill_per_token_pair: f[2], step: f[3],
            step_per_sequence: f[4], step_per_kv_token: f[5], lora_load: f[6], interference: f[7],
            tiers: [Transfer { t0: f[7], per_token: f[6] }; Tier::COUNT],
            peer: Transfer { t0: f[5], per_token: f[4] },
        }
    }
}

#[derive(Clone, Debug)]
struct Strange {
    request: Request<'static>,
    candidates: Vec<EndpointId>,
    loads: Vec<Load>,
    matches: PrefixMatches,
    saved: Vec<u32>,
    labels: Vec<Labels>,
    rates: Vec<Rates>,
    knowledge: Vec<Knowledge>,
    now: Time,
}

prop_compose! {
    fn strange()(
        rows in prop::collection::vec((0..12_u16, load()), 1..9),
        matched in prop::collection::vec(count(), 0..10),
        slow in prop::collection::vec((0..10_u16, 0..8_u8, count()), 0..6),
        (prompt_blocks, prompt_tokens, block_size, output) in (count(), count(), count(), count()),
        (demand, now, lora) in (float(), total(), prop::option::of(0..3_u32)),
        slo in prop::option::of((total(), total())),
        saved in prop::collection::vec(count(), 0..9),
        rates in prop::collection::vec(rates(), 0..9),
        trusts in prop::collection::vec(0..4_usize, 0..9),
        ranges in prop::collection::vec("[0-9]{0,12}-?[0-9]{0,12}", 0..9),
        (pinned, near) in (prop::option::of(0..12_u16), prop::option::of(0..12_u16)),
    ) -> Strange {
        let mut matches = PrefixMatches::new();
        matches.reset(matched.len(), prompt_blocks);
        matched.iter().enumerate().for_each(|(i, &n)| matches.set(EndpointId(i as u16), n));
        for (endpoint, tier, blocks) in slow {
            if let Some(tier) = Tier::new(tier).filter(|t| *t != Tier::DEVICE) {
                matches.push_slow(EndpointId(endpoint), tier, blocks);
            }
        }
        let trust = [Trust::Exact, Trust::Degraded, Trust::Approximate, Trust::Stale];
        let (candidates, loads) = rows.into_iter().map(|(id, load)| (EndpointId(id), load)).unzip();
        Strange {
            request: Request {
                prompt_tokens,
                block_size,
                expected_output_tokens: output,
                prefix_demand: demand,
                lora: lora.map(LoraId),
                pinned: pinned.map(EndpointId),
                near: near.map(EndpointId),
                ttft_slo: slo.map(|(ttft, _)| Duration::from_nanos(ttft)),
                tpot_slo: slo.map(|(_, tpot)| Duration::from_nanos(tpot)),
                ..Request::default()
            },
            candidates,
            loads,
            matches,
            saved,
            labels: ranges.into_iter().map(|r| [(ContextLength::LABEL, r.as_str()), (Label::ROLE, "both")].into_iter().collect()).collect(),
            rates,
            knowledge: trusts.iter().map(|&t| Knowledge { trust: trust[t], heard_at: Time(now) }).collect(),
            now: Time(now / 2),
        }
    }
}

impl Strange {
    fn input(&self) -> DecideInput<'_> {
        DecideInput {
            request: self.request,
            loads: &self.loads,
            matches: &self.matches,
            saved_tokens: &self.saved,
            labels: &self.labels,
            rates: &self.rates,
            knowledge: &self.knowledge,
            now: self.now,
            ..DecideInput::new(&self.candidates)
        }
    }
}

fn others() -> [(&'static str, Profile); 4] {
    let latency = || Latency::new(Cost::new().peers());
    let slo = SloHeadroom::new(Cost::new().layer_wise());
    let by = |scorer: Box<dyn Scorer>| Profile::builder().scorer(scorer, f64::MIN_POSITIVE);
    [
        ("latency", by(Box::new(latency()))),
        ("most", by(Box::new(latency().most())).filter(Box::new(slo))),
        ("context", by(Box::new(ContextLength::new()))),
        ("peers", by(Box::new(Cost::new().peers()))),
    ]
    .map(|(name, builder)| {
        (name, builder.picker(Box::new(picker::WeightedRandom)).build().unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn nothing_is_fatal(s in strange(), seed in any::<u64>()) {
        let presets = preset::NAMES.map(|name| (name, preset::by_name(name).unwrap()));
        let mut scratch = Scratch::new();
        let sane = Strange { rates: Vec::new(), ..s.clone() };
        for (name, profile) in presets.into_iter().chain(others()) {
            for (s, sane) in [(&s, s.rates.is_empty()), (&sane, true)] {
                let input = s.input();
                let decision = profile.decide(input, &mut Rng::new(seed), &mut scratch);
                let Ok(decision) = decision else {
                    prop_assert!(false, "{} failed: {:?}", name, decision);
                    continue;
                };
                prop_assert!(s.candidates.contains(&decision.endpoint));
                prop_assert!((0.0..=1.0).contains(&decision.score), "{name}: {}", decision.score);
                prop_assert!(!sane || scratch.faults() == 0, "{name} wrote a faulty score");
                let receipt = Receipt::of(&profile, &scratch).unwrap();
                let receipt = receipt.with_terms(&profile, &input, &scratch);
                prop_assert!(receipt.to_string().contains("chosen by"));
                prop_assert!(Cost::new().peers().plan(&input, &scratch).is_some());
            }
        }
        let split = Split::new(Cost::new().peers());
        prop_assert!(split.place(&sane.input(), &mut Rng::new(seed), &mut scratch).is_ok());
        let _ = split.place(&s.input(), &mut Rng::new(seed), &mut scratch);
    }
}
