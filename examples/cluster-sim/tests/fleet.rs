//! Clusters that are more than equal endpoints, and what befalls them.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use cluster_sim::cluster::{Change, ClusterSpec, Role, Sleep};
use cluster_sim::command::{Result, run_one};
use cluster_sim::engine::{
    Document, Engine, EngineSpec, StepResult, StepTime, Submission, TierSpec, TierStore,
};
use cluster_sim::policy::Policy;
use cluster_sim::scenario::{self, Scenario};
use cluster_sim::stats::Slo;
use cluster_sim::workload::{Job, Ladder, Segment, Start, Workload, token};
use kvsched_core::Tier;
use proptest::prelude::*;
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

fn small(seed: u64) -> Workload {
    let stages = vec![(10.0, 12.0), (20.0, 10.0)];
    Ladder { customers: 24, users: 3, output_tokens: 100, stages, ..Ladder::default() }
        .workload(seed)
}

fn run(policy: &str, spec: &ClusterSpec, workload: &Workload) -> Result {
    let policy = Policy::by_name(policy).unwrap();
    run_one(spec, workload, &policy, Slo::default(), 5).unwrap()
}

fn quick() -> ClusterSpec {
    ClusterSpec { metrics_delay: 0.05, ..ClusterSpec::published() }
}

/// Every job was answered, or everything was in vain.
fn all_answered(result: &Result) {
    for (i, o) in result.run.outcomes.iter().enumerate() {
        assert!(!o.refused && o.sent < o.first_token && o.first_token <= o.done, "{i}: {o:?}");
    }
    assert_eq!(result.run.lost_events, 0);
}

#[test]
fn lost_messages_are_asked_for_again_and_the_picture_stays_right() {
    let spec = ClusterSpec { event_loss: 0.05, event_batch: 0.05, ..quick() };
    let lossy = run("llm-d", &spec, &small(1));
    all_answered(&lossy);
    assert!(lossy.run.lost_messages > 20, "{}", lossy.run.lost_messages);
    assert!(lossy.run.replays > 10, "{}", lossy.run.replays);
    let whole = run("llm-d", &quick(), &small(1));
    assert_eq!((whole.run.lost_messages, whole.run.replays), (0, 0));
    // What was lost comes a moment later: hits are as good, and hardly ever expected in vain.
    assert!(lossy.total.hit_rate > whole.total.hit_rate - 0.03);
    assert!(lossy.total.overestimated < 0.01, "{}", lossy.total.overestimated);
}

#[test]
fn batching_sends_fewer_messages() {
    let batched = run("llm-d", &ClusterSpec { event_batch: 2.0, ..quick() }, &small(1));
    let each = run("llm-d", &quick(), &small(1));
    all_answered(&batched);
    let secs = batched.run.stages.last().unwrap().1;
    let messages = batched.run.effort.messages;
    assert!(messages as f64 <= 8.0 * (secs / 2.0 + 1.0), "{messages} in {secs} s");
    assert!(messages < each.run.effort.messages);
}

#[test]
fn who_joins_gets_work_who_drains_finishes_and_what_a_crash_lost_is_asked_again() {
    let changes = vec![
        (5.0, 7, Change::Join),
        (8.0, 0, Change::Drain),
        (11.0, 1, Change::Crash),
        (16.0, 1, Change::Join),
    ];
    let spec = ClusterSpec { changes, ..quick() };
    for policy in ["cost", "llm-d", "random"] {
        let result = run(policy, &spec, &small(2));
        all_answered(&result);
        let served = |e: u16, from: f64, to: f64| {
            let all = result.run.outcomes.iter();
            all.filter(|o| o.endpoint == e && o.retries == 0 && (from..to).contains(&o.sent))
                .count()
        };
        assert_eq!(served(7, 0.0, 4.99), 0, "{policy}: not there yet");
        assert!(served(7, 5.0, 1e9) > 0, "{policy}");
        assert_eq!(served(0, 8.01, 1e9), 0, "{policy}: drained");
        assert_eq!(served(1, 11.01, 15.99), 0, "{policy}: crashed");
        // Others may be right to stay where the caches are.
        assert!(served(1, 16.0, 1e9) > 0 || policy != "random", "back");
        let retried = result.run.outcomes.iter().filter(|o| o.retries > 0).count();
        assert!(retried > 0, "{policy}: somebody was on it");
    }
}

#[test]
fn a_cluster_that_scaled_to_zero_wakes_for_the_next_request() {
    let job = |at: f64, number: u64| Job {
        start: Start::At(at),
        prompt: vec![Segment { seed: 9, tokens: 2_000 }],
        output: Segment { seed: number, tokens: 20 },
        ..Job::default()
    };
    let workload = Workload {
        name: "visits".to_owned(),
        jobs: vec![job(0.0, 1), job(5.0, 2), job(60.0, 3), job(61.0, 4), job(95.0, 5)],
        stages: vec![cluster_sim::workload::Stage { qps: 0.0, jobs: 0..5, warm_up: false }],
        client_limit: None,
    };
    let sleep = Some(Sleep { idle: 20.0, startup: 15.0 });
    let result = run("cost", &ClusterSpec { sleep, ..quick() }, &workload);
    all_answered(&result);
    let ttft: Vec<f64> = result.run.outcomes.iter().map(|o| o.first_token - o.sent).collect();
    assert!(ttft[1] < ttft[0], "cached: {ttft:?}");
    assert!((15.0..17.0).contains(&ttft[2]), "waits for the start, and computes anew: {ttft:?}");
    assert!((14.0..16.0).contains(&ttft[3]), "waits for the same start: {ttft:?}");
    assert!(ttft[4] < 1.0, "still awake: {ttft:?}");
    assert_eq!(result.run.outcomes[2].cached_tokens, 0, "what was stopped forgot");
}

#[test]
fn where_nobody_will_ever_come_requests_are_refused() {
    let changes = (0..8).map(|e| (1.0, e, Change::Crash)).collect();
    let result = run("cost", &ClusterSpec { changes, ..quick() }, &small(3));
    assert!(result.run.outcomes.iter().any(|o| o.refused));
    assert!(result.run.outcomes.iter().all(|o| o.refused || o.done <= 1.1));
}

#[test]
fn prefill_and_decode_apart_hand_every_prompt_over() {
    let roles = [[Role::Prefill; 3].as_slice(), &[Role::Decode; 5]].concat();
    let spec = ClusterSpec { roles, ..quick() };
    for policy in ["cost", "llm-d-affinity"] {
        let result = run(policy, &spec, &small(4));
        all_answered(&result);
        assert!(result.run.outcomes.iter().all(|o| o.endpoint >= 3), "{policy}");
        let by_endpoint = &result.run.prefill_by_endpoint;
        let (prefill, decode) = by_endpoint.split_at(3);
        assert!(prefill.iter().all(|&t| t > 10_000), "{policy}: {by_endpoint:?}");
        // Of each prompt one token is left to compute.
        let jobs = result.run.outcomes.len() as u64;
        assert!(decode.iter().sum::<u64>() <= 2 * jobs, "{policy}: {by_endpoint:?}");
        assert!(result.total.hit_rate > 0.5, "{policy}: {}", result.total.hit_rate);
    }
}

#[test]
fn a_rank_steps_as_slowly_as_the_slowest_of_its_group() {
    // One endpoint computes long prompts, another decodes beside it.
    let job = |number: u64, prompt: u32, output: u32, lora| Job {
        start: Start::At(0.001 * number as f64),
        prompt: vec![Segment { seed: 100 + number, tokens: prompt }],
        output: Segment { seed: 200 + number, tokens: output },
        lora,
        ..Job::default()
    };
    let workload = Workload {
        name: "pair".to_owned(),
        jobs: vec![job(0, 500, 100, None), job(1, 60_000, 1, None)],
        stages: vec![cluster_sim::workload::Stage { qps: 0.0, jobs: 0..2, warm_up: false }],
        client_limit: None,
    };
    let engines = vec![EngineSpec::qwen3_32b_tp2_h100(); 2];
    let itl = |groups: Vec<Option<u16>>| {
        let spec = ClusterSpec { engines: engines.clone(), groups, ..quick() };
        let result = run("least-request", &spec, &workload);
        all_answered(&result);
        let [a, b] = [&result.run.outcomes[0], &result.run.outcomes[1]];
        assert_ne!(a.endpoint, b.endpoint);
        (a.done - a.first_token) / 99.0
    };
    let (apart, together) = (itl(Vec::new()), itl(vec![Some(0), Some(0)]));
    assert!(together > 1.5 * apart, "{together} against {apart}");
}

#[test]
fn faster_machines_get_more_of_the_work() {
    let Scenario { spec, mut workload } = scenario::by_name("mixed", 1, 8).unwrap();
    workload.jobs.truncate(600);
    workload.stages[0].jobs = 0..600;
    let result = run("cost", &spec, &workload);
    let (fast, slow) = result.run.prefill_by_endpoint.split_at(4);
    // Prefixes lie where there is memory, on slow machines as on fast ones; what is beside them does not.
    assert!(4 * fast.iter().min().unwrap() > 5 * slow.iter().max().unwrap(), "{fast:?} {slow:?}");
}

fn tiny(lora_slots: u32, packet_tokens: u64) -> EngineSpec {
    EngineSpec {
        block_size: 4,
        kv_blocks: 64,
        max_batched_tokens: 1_000,
        max_running: 8,
        step_time: StepTime::QWEN3_32B_TP2_H100,
        kv_bytes_per_token: 1_000,
        tiers: Vec::new(),
        lora_slots,
        lora_load: 0.5,
        packet_tokens,
    }
}

fn submission(request: u32, text: u64, prompt: u32, output_tokens: u32) -> Submission {
    let prompt = (0..prompt).map(|i| token(text, i)).collect();
    let output_seed = 1_000 + u64::from(request);
    Submission { request, prompt, output_tokens, output_seed, ..Submission::default() }
}

#[test]
fn engines_that_share_a_store_find_what_others_left_and_wait_for_each_other() {
    let spec = TierSpec {
        tier: Tier::SHARED,
        blocks: NonZeroUsize::new(1_000).unwrap(),
        latency: 0.001,
        bytes_per_sec: 1e5,
    };
    let store = Rc::new(RefCell::new(TierStore::shared(spec)));
    let mut engines: Vec<Engine> = (0..3)
        .map(|_| {
            let mut engine = Engine::new(EngineSpec { kv_blocks: 20, ..tiny(0, 0) });
            engine.attach(Rc::clone(&store));
            engine
        })
        .collect();
    let mut result = StepResult::default();
    // The first engine's later prompts push the first one out, into the store.
    for (request, text) in [(0, 1), (1, 2), (2, 3)] {
        engines[0].submit(submission(request, text, 61, 1)).unwrap();
        assert!(engines[0].begin_step(0).is_some());
        engines[0].end_step(&mut result);
    }
    assert!(store.borrow_mut().log_mut().is_some_and(|log| log.changes.len() >= 10));
    // The others load it from there, one after the other.
    let arrivals: Vec<u64> = (1..3)
        .map(|e| {
            engines[e].submit(submission(5, 1, 61, 1)).unwrap();
            assert_eq!(engines[e].begin_step(0), None, "it waits");
            engines[e].next_arrival_ns().unwrap()
        })
        .collect();
    let alone = arrivals[0] as f64 / 1e9;
    assert!(arrivals[1] as f64 / 1e9 > 1.8 * alone, "{arrivals:?}");
    assert!(engines[1].begin_step(arrivals[0]).is_some());
    engines[1].end_step(&mut result);
    assert!(result.first_tokens[0].1 >= 40, "{result:?}");
}

#[test]
fn documents_are_reused_wherever_they_stand() {
    let mut engine = Engine::new(tiny(0, 10_000));
    let mut result = StepResult::default();
    let mut ask = |request: u32, before: u32, document: bool| {
        let mut s = submission(request, 50 + u64::from(request), before, 1);
        s.prompt.extend((0..100).map(|i| token(7, i)));
        s.prompt.extend((0..9).map(|i| token(90 + u64::from(request), i)));
        if document {
            s.documents = vec![Document { key: 7, start: before, tokens: 100 }];
        }
        engine.submit(s).unwrap();
        engine.begin_step(0).unwrap();
        engine.end_step(&mut result);
        assert_eq!(engine.validate(), Ok(()));
        (result.prefill_tokens, result.first_tokens[0].1)
    };
    assert_eq!(ask(0, 10, true), (119, 0), "nobody has it yet");
    assert_eq!(ask(1, 23, true), (32, 100), "at another place");
    assert_eq!(ask(2, 23, false), (132, 0), "it is the document that is reused, not the tokens");
}

#[test]
fn adapters_beyond_the_slots_wait_and_others_pass_them() {
    let mut engine = Engine::new(tiny(1, 0));
    let with = |request, lora, output| Submission {
        lora,
        ..submission(request, u64::from(request), 9, output)
    };
    engine.submit(with(0, Some(3), 4)).unwrap();
    engine.submit(with(1, Some(4), 1)).unwrap();
    engine.submit(with(2, Some(3), 1)).unwrap();
    engine.submit(with(3, None, 1)).unwrap();
    let (mut result, mut first) = (StepResult::default(), Vec::new());
    let mut secs = Vec::new();
    while let Some(step) = engine.begin_step(0) {
        secs.push(step);
        engine.end_step(&mut result);
        first.extend(result.first_tokens.iter().map(|f| f.0));
    }
    assert_eq!(first, [0, 2, 3, 1]);
    assert!(secs[0] > 0.5 && secs[1] < 0.1 && secs[4] > 0.5, "each is loaded once: {secs:?}");
    assert!(Engine::new(tiny(0, 0)).submit(with(9, Some(1), 1)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes in whatever order: no more adapters at once than slots, blocks conserved,
    /// everybody served once, and prompts of two adapters never share KV.
    #[test]
    fn adapters_and_documents_keep_the_books(
        slots in 1u32..4, budget in 3u32..60, packet_tokens in 0u64..60,
        requests in proptest::collection::vec(
            (0u64..4, proptest::option::of(0u32..5), 1u32..40, 1u32..6, proptest::option::of(0u64..4), 0u8..4), 1..30),
    ) {
        let mut engine = Engine::new(EngineSpec { max_batched_tokens: budget, ..tiny(slots, packet_tokens) });
        let (mut result, mut now, mut finished) = (StepResult::default(), 0u64, Vec::new());
        let mut step = |engine: &mut Engine, finished: &mut Vec<u32>| {
            let Some(secs) = engine.begin_step(now) else { return Ok(false) };
            now += (secs * 1e9) as u64;
            prop_assert!(engine.adapters().0.len() <= slots as usize);
            prop_assert_eq!(engine.validate(), Ok(()));
            engine.end_step(&mut result);
            prop_assert_eq!(engine.validate(), Ok(()));
            finished.extend(&result.finished);
            Ok(true)
        };
        for (i, &(text, lora, prompt, output, document, steps)) in requests.iter().enumerate() {
            let mut s = submission(i as u32, text, prompt, output);
            s.lora = lora;
            if let Some(key) = document {
                s.documents = vec![Document { key, start: prompt, tokens: 20 }];
                s.prompt.extend((0..20).map(|t| token(500 + key, t)));
                s.prompt.push(1);
            }
            engine.submit(s).unwrap();
            for _ in 0..steps {
                step(&mut engine, &mut finished)?;
            }
        }
        let mut steps = 0;
        while step(&mut engine, &mut finished)? {
            steps += 1;
            prop_assert!(steps < 10_000, "no progress");
        }
        finished.sort_unstable();
        let all: Vec<u32> = (0..requests.len() as u32).collect();
        prop_assert_eq!(finished, all);
        prop_assert_eq!(engine.metrics().kv_usage, 0.0);
        prop_assert!(engine.adapters().0.is_empty());
    }
}

#[test]
fn every_scenario_gives_the_same_run_again() {
    for (name, _) in scenario::NAMES.iter().skip(8).chain([&scenario::ELASTIC]) {
        let Scenario { spec, mut workload } = scenario::by_name(name, 3, 8).unwrap();
        // Cut where no conversation is.
        workload.jobs.truncate(300);
        workload.stages[0].jobs = 0..300;
        let (first, again) = (run("cost", &spec, &workload), run("cost", &spec, &workload));
        assert_eq!(first.run.outcomes, again.run.outcomes, "{name}");
        assert_eq!(first.run.samples, again.run.samples, "{name}");
        all_answered(&first);
    }
}
