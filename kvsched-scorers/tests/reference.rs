//! Every preset beside a slow reference: maps, sorting and the rules as they are written down, with
//! nothing shared with the crate but the inputs.

mod common;

use common::Fleet;
#[cfg(feature = "serde")]
use kvsched_core::LoraId;
use kvsched_core::{EndpointId, Load, Rng, Tier, TierRun, Time};
use kvsched_scorers::{Receipt, Record, Scratch, preset};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use std::collections::BTreeMap;

/// One endpoint as the rules speak of it.
#[derive(Clone, Debug)]
struct Row {
    matched: f64,
    by_tier: BTreeMap<Tier, f64>,
    load: Load,
}

/// A fleet as the rules speak of it.
struct World {
    rows: Vec<Row>,
    prompt_tokens: f64,
    block: f64,
    blocks: f64,
}

impl World {
    fn of(fleet: &Fleet) -> Self {
        let row = |(i, load): (usize, &Load)| {
            let e = EndpointId(i as u16);
            let tiers = (0..=Tier::MAX.index() as u8).filter_map(Tier::new);
            let by_tier = tiers.map(|t| (t, f64::from(fleet.matches.blocks_on(e, t)))).collect();
            Row { matched: f64::from(fleet.matches.blocks(e)), by_tier, load: load.clone() }
        };
        Self {
            rows: fleet.loads.iter().enumerate().map(row).collect(),
            prompt_tokens: f64::from(fleet.request.prompt_tokens),
            block: f64::from(fleet.request.block_size),
            blocks: f64::from(fleet.matches.prompt_blocks()),
        }
    }

    fn each(&self, f: impl Fn(&Row) -> f64) -> Vec<f64> {
        self.rows.iter().map(f).collect()
    }

    fn share(&self, row: &Row) -> f64 {
        if self.blocks > 0.0 { row.matched / self.blocks } else { 0.0 }
    }

    fn uncached(&self, row: &Row) -> f64 {
        (self.prompt_tokens - row.matched * self.block).max(0.0)
    }

    /// `key` first, and among equals the fewest requests: a score for each.
    fn lexicographic(&self, key: impl Fn(&Row) -> f64) -> Vec<f64> {
        self.each(|row| key(row) * 1e6 - requests(row))
    }
}

fn requests(row: &Row) -> f64 {
    let Load { waiting_requests, running_requests, in_flight_requests, .. } = row.load;
    f64::from((waiting_requests + running_requests).max(in_flight_requests))
}

fn least(xs: &[f64]) -> f64 {
    xs.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(xs: &[f64]) -> f64 {
    xs.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn normal(costs: Vec<f64>) -> Vec<f64> {
    let (min, max) = (least(&costs), most(&costs));
    costs.iter().map(|c| if max > min { (max - c) / (max - min) } else { 1.0 }).collect()
}

fn negative(costs: Vec<f64>) -> Vec<f64> {
    costs.into_iter().map(|c| -c).collect()
}

fn llm_d(w: &World, no_hit: bool) -> Vec<f64> {
    let weight = |t: &Tier| match *t {
        Tier::DEVICE => 1.0,
        Tier::HOST => 0.8,
        Tier::DISK | Tier::SHARED => 0.5,
        _ => 0.2,
    };
    let queue = normal(w.each(|r| f64::from(r.load.waiting_requests)));
    let cold = w.rows.iter().all(|r| r.matched == 0.0);
    let n = w.rows.len();
    let last = |r: &Row| r.load.last_cold_at.map_or(0, |t| t.0);
    let score = |(i, r): (usize, &Row)| {
        let worth: f64 = r.by_tier.iter().map(|(t, blocks)| weight(t) * blocks).sum();
        let prefix = if w.blocks > 0.0 { worth / w.blocks } else { 0.0 };
        let rank = w.rows.iter().filter(|other| last(other) < last(r)).count();
        let lru = match n {
            _ if !cold => 0.5,
            1 => 1.0,
            _ => 1.0 - rank as f64 / (n - 1) as f64,
        };
        let sum = 3.0 * prefix + 2.0 * queue[i] + 2.0 * (1.0 - r.load.kv_usage);
        if no_hit { (sum + 2.0 * lru) / 9.0 } else { sum / 7.0 }
    };
    w.rows.iter().enumerate().map(score).collect()
}

fn dynamo(w: &World, credit: f64, scale: f64, d: f64) -> Vec<f64> {
    let prefill = |r: &Row| r.load.queued_prefill_tokens as f64;
    let floor = least(&w.each(prefill));
    let isl = w.prompt_tokens;
    negative(w.each(|r| {
        let decay = 1.0 / (1.0 + if isl > 0.0 { d * (prefill(r) - floor) / isl } else { 0.0 });
        let device = r.by_tier[&Tier::DEVICE];
        let slow =
            r.by_tier.iter().filter(|(t, _)| **t != Tier::DEVICE).map(|(t, blocks)| match *t {
                Tier::HOST => 0.75 * blocks,
                Tier::SHARED => 0.5 * blocks,
                _ => 0.25 * blocks,
            });
        let credit = credit * decay * device + slow.sum::<f64>();
        let decode = r.load.kv_usage * r.load.kv_capacity_tokens as f64 / w.block;
        scale * ((prefill(r) + isl) / w.block - credit).max(0.0)
            + decode
            + ((isl / w.block).ceil() - device).max(0.0)
    }))
}

/// The score that each endpoint deserves under `name`, minus infinity for those that a filter
/// drops; `None` where the choice is by lot or by turn among those not dropped.
fn deserved(name: &str, w: &World) -> Vec<f64> {
    let loads = w.each(requests);
    let mean = loads.iter().sum::<f64>() / loads.len() as f64;
    match name {
        "llm-d" => llm_d(w, false),
        "llm-d-guide" => llm_d(w, true),
        "llm-d-load" => {
            let queue = normal(w.each(|r| f64::from(r.load.waiting_requests)));
            queue.iter().zip(&w.rows).map(|(q, r)| (q + 1.0 - r.load.kv_usage) / 2.0).collect()
        }
        "llm-d-affinity" => {
            let sticky = w.each(|r| f64::from(u8::from(w.share(r) >= 0.8)));
            let ttft = |flag: f64| {
                let them = w.rows.iter().zip(&sticky).filter(|(_, s)| **s == flag);
                let secs = them.map(|(r, _)| r.load.queued_prefill_tokens as f64 / 15_928.0);
                least(&secs.collect::<Vec<_>>())
            };
            let all =
                most(&sticky) == 0.0 || (least(&sticky) == 0.0 && ttft(1.0) - ttft(0.0) > 18.0);
            let load = w.each(|r| {
                let tokens = r.load.queued_prefill_tokens as f64 + w.uncached(r);
                1.0 - tokens.min(4_194_304.0) / 4_194_304.0
            });
            let keep = |(s, f): (f64, f64)| if all || f == 1.0 { s } else { f64::NEG_INFINITY };
            load.into_iter().zip(sticky).map(keep).collect()
        }
        "dynamo" => dynamo(w, 1.0, 1.0, 0.0),
        "dynamo-agentic" => dynamo(w, 2.0, 4.0, 64.0),
        "smg-cache-aware" => {
            let (min, max) = (least(&loads), most(&loads));
            let nothing = w.rows.iter().all(|r| r.matched == 0.0);
            if (max - min > 32.0 && max > 1.1 * min) || nothing {
                negative(loads)
            } else {
                w.lexicographic(|r| r.matched)
            }
        }
        "smg-least-load" => negative(w.each(|r| {
            let k = r.load.kv_usage.min(0.999);
            r.load.queued_prefill_tokens as f64 / 15_928.0 + 0.15 * k / (1.0 - k)
        })),
        "aibrix" => {
            if most(&loads) - least(&loads) > 8.0 {
                return negative(loads);
            }
            let variance =
                loads.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / loads.len() as f64;
            w.lexicographic(|r| {
                if requests(r) <= mean + variance.sqrt() { r.matched + 1.0 } else { 0.0 }
            })
        }
        "preble" => {
            let longest = most(&w.each(|r| r.matched));
            if longest * 2.0 > w.blocks {
                return w.lexicographic(|r| f64::from(u8::from(r.matched == longest)));
            }
            negative(w.each(|r| {
                let capacity = r.load.kv_capacity_tokens as f64;
                let free =
                    if capacity > 0.0 { capacity * (1.0 - r.load.kv_usage) } else { f64::INFINITY };
                let new = w.uncached(r);
                r.load.recent_prefill_tokens as f64 + new + (new - free).max(0.0)
            }))
        }
        "production-stack" => w.each(|r| w.share(r) - (requests(r) - mean) / mean.max(1.0)),
        "lmetric" => negative(w.each(|r| {
            (r.load.queued_prefill_tokens as f64 + w.uncached(r))
                * (f64::from(r.load.running_requests) + 1.0)
        })),
        "least-request" => negative(w.each(|r| {
            4.0 * f64::from(r.load.waiting_requests) + f64::from(r.load.running_requests)
        })),
        "ray" => {
            let longest = most(&w.each(|r| r.matched));
            let emptiest = least(&w.each(|r| r.load.kv_usage));
            let by_match = longest > 0.0 && longest >= 0.1 * w.blocks;
            w.each(|r| {
                let in_it =
                    if by_match { r.matched == longest } else { r.load.kv_usage <= emptiest };
                if in_it { 0.0 } else { f64::NEG_INFINITY }
            })
        }
        "random" | "round-robin" | "power-of-two" => w.each(|_| 0.0),
        "cost" => negative(w.each(|r| seconds(w, r))),
        other => panic!("the reference does not know `{other}`"),
    }
}

/// The cost model with its defaults, written down once more.
fn seconds(w: &World, r: &Row) -> f64 {
    let (c0, c1, c2) = (0.15, 57e-6, 2.1e-9);
    let compute = |u: f64, h: f64| u * (c1 + c2 * (h + u / 2.0));
    let mut u = w.uncached(r);
    let (mut fetch, mut fetched) = (0.0_f64, 0.0);
    for (tier, &blocks) in r.by_tier.iter().filter(|(t, b)| **t != Tier::DEVICE && **b > 0.0) {
        let tokens = blocks * w.block;
        let per_token = match *tier {
            Tier::HOST => 2.4e-6,
            Tier::SHARED => 10.5e-6,
            _ => 22e-6,
        };
        let secs = 0.013 + per_token * tokens;
        if secs < compute(tokens, w.prompt_tokens - u - tokens) {
            fetch = fetch.max(secs);
            fetched += tokens;
        } else {
            u += tokens;
        }
    }
    let own = compute(u, w.prompt_tokens - u);
    let there = r.load.waiting_requests + r.load.running_requests;
    let (b, o) = (f64::from(there.max(r.load.in_flight_requests)), 256.0);
    let capacity = r.load.kv_capacity_tokens as f64;
    let in_use = r.load.kv_usage * capacity;
    let step = 0.022 + 0.4e-3 * (b + 1.0) + 39e-9 * (in_use + w.prompt_tokens);
    let added = u + fetched + o;
    let wanted = (u + fetched) * (1.0 + f64::from(r.load.waiting_requests));
    let short = (in_use + wanted - capacity).max(0.0);
    let room = if capacity > 0.0 { short / capacity * o * step } else { 0.0 };
    // KV unused for 100 s has odds of three to one, which fall as one over the time.
    let recent = |r: &Row| r.load.recent_prefill_tokens as f64;
    let kept_secs = match w.each(recent).into_iter().sum::<f64>() {
        0.0 => 100.0,
        _ => 180.0 * capacity / recent(r),
    };
    let odds = if capacity > 0.0 { (3.0 * 100.0 / kept_secs).min(99.0) } else { 0.0 };
    // What another holds and this one computes lies twice, and three more times displaces as much.
    let longest = most(&w.each(|r| r.matched));
    let copied = ((longest - r.matched) * w.block).min(u);
    // Who gets what nobody holds gets three that follow, of which each finds it evicted with a chance,
    // and computes it four times.
    let renewed = if capacity > 0.0 { (recent(r) / capacity).min(1.0) } else { 0.0 };
    let home = if longest == 0.0 { 12.0 * renewed * compute(w.prompt_tokens, 0.0) } else { 0.0 };
    let p = f64::from(r.load.pending_requests);
    r.load.queued_prefill_tokens as f64 * c1
        + fetch
        + c0
        + own
        + 0.1 * o * step
        + (p + 0.1 * (b - p).max(0.0)) * own
        + 0.1 * b * o * (0.4e-3 + 39e-9 * w.prompt_tokens)
        + odds * (compute(added, 0.0) + 3.0 * compute(copied, 0.0))
        + home
        + room
}

fn load() -> impl Strategy<Value = Load> {
    let counts = (0..4_u32, 0..60_u32, 0..70_u32, 0..3_u64);
    let memory = (0..=20_u32, any::<bool>(), 0..300_000_u64);
    (counts, memory, 0..400_000_u64, 0..5_000_000_u64, 1..9_u64).prop_map(
        |((waiting, running, in_flight, quiet), (kv, sized, resident), queued, recent, cold)| {
            Load {
                waiting_requests: waiting * quiet as u32,
                running_requests: running,
                in_flight_requests: in_flight,
                pending_requests: in_flight / 3,
                kv_usage: f64::from(kv) / 20.0,
                kv_capacity_tokens: if sized { 300_000 } else { 0 },
                resident_tokens: resident,
                queued_prefill_tokens: queued * quiet,
                recent_prefill_tokens: recent * quiet,
                last_cold_at: Some(Time(cold)),
                ..Load::default()
            }
        },
    )
}

prop_compose! {
    fn fleet()(loads in prop::collection::vec(load(), 1..9))(
        // Few values, so that equal matches are common.
        matched in prop::collection::vec((0..=4_u32).prop_map(|n| n * 25), loads.len()),
        slow in prop::collection::vec((0..8_u8, 0..=25_u32), loads.len()),
        odd in 0..2_u32,
        warm in any::<bool>(),
        even in any::<bool>(),
        loads in Just(loads),
    ) -> Fleet {
        let n = loads.len() as u16;
        let mut fleet = Fleet::new(n, 100).request(|r| r.prompt_tokens += 7 * odd);
        for (i, &blocks) in matched.iter().enumerate().filter(|_| warm) {
            fleet.matches.set(EndpointId(i as u16), blocks);
        }
        // In descending order, so that they must be sorted.
        for (i, &(tier, blocks)) in slow.iter().enumerate().rev().filter(|_| warm) {
            if let Some(tier) = Tier::new(tier).filter(|t| *t != Tier::DEVICE) {
                let e = EndpointId(i as u16);
                let blocks = blocks.min(fleet.matches.blocks(e));
                if blocks > 0 {
                    fleet.matches.push_slow(e, tier, blocks);
                }
            }
        }
        let first = loads[0].clone();
        fleet.loads = loads;
        if even {
            for load in &mut fleet.loads {
                load.running_requests = first.running_requests + load.running_requests % 3;
                load.in_flight_requests = 0;
            }
        }
        fleet
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_preset_chooses_what_the_reference_would(fleet in fleet(), seed in any::<u64>()) {
        let world = World::of(&fleet);
        for name in preset::NAMES {
            let profile = preset::by_name(name).unwrap();
            let decision = fleet.decide(&profile, seed).unwrap();
            let deserved = deserved(name, &world);
            let best = most(&deserved);
            let chosen = deserved[decision.endpoint.index()];
            // No-hit ties are broken by lot, which the reference has no part in.
            let slack = if name == "llm-d-guide" { 0.0 } else { 1e-9 * best.abs().max(1.0) };
            if name == "llm-d-guide" {
                let times: Vec<_> = fleet.loads.iter().map(|l| l.last_cold_at).collect();
                let mut distinct = times.clone();
                distinct.sort();
                distinct.dedup();
                if distinct.len() < times.len() {
                    continue;
                }
            }
            prop_assert!(
                chosen >= best - slack - 1e-9,
                "{name} chose {} ({chosen}) of {deserved:?}", decision.endpoint
            );
        }
    }

    #[test]
    fn scores_are_sound_and_the_order_of_candidates_does_not_matter(fleet in fleet()) {
        for name in preset::NAMES {
            let profile = preset::by_name(name).unwrap();
            let mut scratch = Scratch::new();
            profile.decide(fleet.input(), &mut Rng::new(1), &mut scratch).unwrap();
            prop_assert_eq!(scratch.faults(), 0, "{} wrote a faulty score", name);
            if name == "llm-d-guide" {
                continue; // ranks those of equal age by lot
            }
            let rows = |receipt: Receipt| {
                let mut rows: Vec<_> = receipt
                    .rows
                    .into_iter()
                    .map(|r| (r.endpoint, r.dropped_by, (r.sum * 1e9).round() as i64))
                    .collect();
                rows.sort();
                rows
            };
            let forwards = rows(Receipt::of(&profile, &scratch).unwrap());
            let mut turned = fleet.clone();
            turned.candidates.reverse();
            turned.loads.reverse();
            prop_assert_eq!(rows(turned.receipt(&profile, 1)), forwards, "{}", name);
        }
    }

    #[test]
    fn a_record_decides_again_alike(fleets in prop::collection::vec(fleet(), 1..8), seed in any::<u64>()) {
        for name in preset::NAMES {
            let (profile, again) = (preset::by_name(name).unwrap(), preset::by_name(name).unwrap());
            let (mut rng, mut scratch) = (Rng::new(seed), Scratch::new());
            let mut log = Vec::new();
            for fleet in &fleets {
                let record = Record::of(&fleet.input(), &rng);
                profile.decide(fleet.input(), &mut rng, &mut scratch).unwrap();
                let receipt = Receipt::of(&profile, &scratch).unwrap();
                log.push((record, receipt.with_terms(&profile, &fleet.input(), &scratch)));
            }
            for (record, receipt) in &log {
                record.replay(&again, &mut scratch).unwrap();
                let replayed = Receipt::of(&again, &scratch).unwrap();
                prop_assert_eq!(&replayed.with_terms(&again, &record.input(), &scratch), receipt);
            }
        }
    }
}

#[test]
fn the_generated_fleets_have_what_the_rules_turn_on() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut slow, mut cold, mut busy, mut sticky) = (0, 0, 0, 0);
    for _ in 0..300 {
        let fleet = fleet().new_tree(&mut runner).unwrap().current();
        let world = World::of(&fleet);
        let loads = world.each(requests);
        slow += u32::from(fleet.matches.slow_runs().iter().any(|r: &TierRun| r.blocks > 0));
        cold += u32::from(fleet.matches.longest() == 0);
        busy += u32::from(most(&loads) - least(&loads) > 32.0);
        sticky += u32::from(fleet.matches.longest() >= 80);
    }
    assert!([slow, cold, busy, sticky].iter().all(|&n| n > 30), "{slow} {cold} {busy} {sticky}");
}

#[cfg(feature = "serde")]
#[test]
fn logs_replay_byte_for_byte() {
    let profile = preset::by_name("cost").unwrap();
    let mut scratch = Scratch::new();
    let mut rng = Rng::new(11);
    for n in 1..20_u16 {
        let mut fleet = Fleet::new(n, 40).matched(&[n.into()]).load(|i, l| {
            l.running_requests = i as u32 * 7 % 5;
            l.kv_usage = if i == 3 { 0.1 + 0.2 } else { 0.5 };
            l.lora.active = vec![LoraId(i as u32)];
        });
        fleet.request.session = Some("a \"session\"");
        let record = Record::of(&fleet.input(), &rng);
        profile.decide(fleet.input(), &mut rng, &mut scratch).unwrap();
        let receipt = Receipt::of(&profile, &scratch).unwrap();
        let line = serde_json::to_string(&(&record, &receipt)).unwrap();

        let (read, seen): (Record, Receipt) = serde_json::from_str(&line).unwrap();
        read.replay(&profile, &mut scratch).unwrap();
        let again = Receipt::of(&profile, &scratch).unwrap();
        assert_eq!(serde_json::to_string(&(&read, &again)).unwrap(), line);
        assert_eq!(seen, receipt);
    }
}

#[cfg(feature = "serde")]
#[test]
fn faulty_scores_survive_being_written_down() {
    let faulty = common::Fixed(vec![f64::NAN, f64::INFINITY, -1.0]);
    let profile = common::profile().scorer(Box::new(faulty), 1.0).build().unwrap();
    let receipt = Fleet::new(3, 0).receipt(&profile, 0);
    let line = serde_json::to_string(&receipt).unwrap();
    assert!(line.contains(r#"["NaN"]"#) && line.contains(r#"["inf"]"#), "{line}");
    let read: Receipt = serde_json::from_str(&line).unwrap();
    let bits = |r: &Receipt| r.rows.iter().map(|r| r.scores[0].to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&read), bits(&receipt));
}
