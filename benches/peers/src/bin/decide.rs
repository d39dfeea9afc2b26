//! kvsched's decision beside Dynamo's selector: the same matches and loads of 8, 64 and 512
//! endpoints, prepared in each one's own types before the clock starts, taking turns.
//!
//! `--json` prints rows instead of a table.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say so and stop")]

#[path = "../measure.rs"]
#[allow(dead_code, reason = "shared with the other benchmarks")]
mod measure;

use dynamo_kv_router::protocols::{RoutingConstraints, WorkerConfigLike, WorkerWithDpRank};
use dynamo_kv_router::scheduling::{OverlapSignals, ScheduleMode};
use dynamo_kv_router::{
    DefaultWorkerSelector, KvRouterConfig, SchedulingRequest, WorkerLoadProjection,
    WorkerSelectionInput, WorkerSelector,
};
use kvsched_core::{EndpointId, Load, PrefixMatches, Request, Rng};
use kvsched_scorers::{DecideInput, Profile, Scratch, filter, picker, preset, scorer};
use measure::{Row, Samples, time};
use std::collections::{HashMap, HashSet};
use std::hint::black_box;

const PROMPT: u32 = 7_200;
const BLOCK: u32 = 16;
const ROUNDS: usize = 1_500;

type Contender<'a> = (&'static str, Box<dyn FnMut() + 'a>);

/// What is known of one endpoint.
struct Figures {
    blocks: u32,
    waiting: u32,
    running: u32,
    queued_tokens: u64,
    kv_usage: f64,
}

/// What Dynamo wants to know of a worker.
struct Worker(HashSet<String>);

impl WorkerConfigLike for Worker {
    fn data_parallel_start_rank(&self) -> u32 {
        0
    }
    fn data_parallel_size(&self) -> u32 {
        1
    }
    fn max_num_batched_tokens(&self) -> Option<u64> {
        None
    }
    fn total_kv_blocks(&self) -> Option<u64> {
        Some(19_208)
    }
    fn taints(&self) -> &HashSet<String> {
        &self.0
    }
}

fn fleet(n: u16) -> Vec<Figures> {
    let mut rng = Rng::new(1);
    (0..n)
        .map(|_| Figures {
            blocks: rng.below(450) as u32,
            waiting: rng.below(4) as u32,
            running: rng.below(200) as u32,
            queued_tokens: rng.below(20_000) as u64,
            kv_usage: rng.unit_f64(),
        })
        .collect()
}

/// One filter, three weighted scorers, a picker: what most configurations are.
fn weighted() -> Profile {
    let filter = filter::Utilization::new().cap(filter::Metric::WaitingQueue, 64.0);
    Profile::builder()
        .filter(Box::new(filter.expect("a cap")))
        .scorer(Box::new(scorer::PrefixCache::new()), 3.0)
        .scorer(Box::new(scorer::Queue), 2.0)
        .scorer(Box::new(scorer::KvCacheUtilization), 2.0)
        .picker(Box::new(picker::MaxScore))
        .build()
        .expect("a profile")
}

fn ours<'a>(
    profile: Profile,
    candidates: &'a [EndpointId],
    loads: &'a [Load],
    matches: &'a PrefixMatches,
) -> Box<dyn FnMut() + 'a> {
    let request = Request { prompt_tokens: PROMPT, block_size: BLOCK, ..Request::default() };
    let (mut rng, mut scratch) = (Rng::new(1), Scratch::new());
    Box::new(move || {
        let input = DecideInput { request, loads, matches, ..DecideInput::new(candidates) };
        let decided = profile.decide(black_box(input), &mut rng, &mut scratch);
        black_box(decided.expect("somebody"));
    })
}

fn theirs(fleet: &[Figures]) -> Box<dyn FnMut()> {
    let worker = |i: usize| WorkerWithDpRank::from_worker_id(i as u64);
    let each = || fleet.iter().enumerate();
    let workers: HashMap<u64, Worker> =
        each().map(|(i, _)| (i as u64, Worker(HashSet::new()))).collect();
    let request = SchedulingRequest {
        mode: ScheduleMode::QueryOnly { request_id: None },
        token_seq: None,
        isl_tokens: PROMPT as usize,
        lora_name: None,
        expected_output_tokens: None,
        affinity_target: None,
        pinned_worker: None,
        allowed_worker_ids: None,
        routing_constraints: RoutingConstraints {
            required_taints: HashSet::new(),
            preferred_taints: Default::default(),
        },
        router_config_override: None,
        track_prefill_tokens: true,
        priority_jump: 0.0,
        strict_priority: 0,
        policy_class: None,
        session_context: None,
        overlap: OverlapSignals {
            tier_overlap_blocks: Default::default(),
            effective_overlap_blocks: each()
                .map(|(i, f)| (worker(i), f64::from(f.blocks)))
                .collect(),
            effective_cached_tokens: each()
                .map(|(i, f)| (worker(i), (f.blocks * BLOCK) as usize))
                .collect(),
        },
        kv_transfer_candidates: None,
        retain_kv_transfer_chain: false,
        shared_cache_hits: None,
        worker_loads: each()
            .map(|(i, f)| {
                let load = WorkerLoadProjection {
                    active_prefill_tokens: f.queued_tokens as usize,
                    active_decode_blocks: (f.kv_usage * 19_208.0) as usize,
                    active_requests: (f.waiting + f.running) as usize,
                    ..Default::default()
                };
                (worker(i), load)
            })
            .collect(),
        resp_tx: None,
    };
    let selector = DefaultWorkerSelector::new(Some(KvRouterConfig::default()), "prefill");
    Box::new(move || {
        let selected = selector.select_worker(WorkerSelectionInput::configured(
            black_box(&workers),
            black_box(&request),
            request.eligibility(),
            BLOCK,
        ));
        black_box(selected.expect("somebody"));
    })
}

fn main() {
    let json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(other) => {
            eprintln!("unknown option {other}; there is --json");
            std::process::exit(2);
        }
    };
    for n in [8_u16, 64, 512] {
        let fleet = fleet(n);
        let candidates: Vec<EndpointId> = (0..n).map(EndpointId).collect();
        let mut matches = PrefixMatches::new();
        matches.reset(n.into(), PROMPT / BLOCK);
        for (&endpoint, figures) in candidates.iter().zip(&fleet) {
            matches.set(endpoint, figures.blocks);
        }
        let loads: Vec<Load> = fleet
            .iter()
            .map(|f| Load {
                waiting_requests: f.waiting,
                running_requests: f.running,
                kv_usage: f.kv_usage,
                kv_capacity_tokens: 307_328,
                queued_prefill_tokens: f.queued_tokens,
                ..Load::default()
            })
            .collect();
        let mut contenders: Vec<Contender<'_>> =
            vec![("kvsched weighted profile", ours(weighted(), &candidates, &loads, &matches))];
        for (who, name) in [
            ("kvsched dynamo preset", "dynamo"),
            ("kvsched llm-d preset", "llm-d"),
            ("kvsched cost", "cost"),
        ] {
            let profile = preset::by_name(name).expect("a preset");
            contenders.push((who, ours(profile, &candidates, &loads, &matches)));
        }
        contenders.push(("dynamo 1.6.1 selector", theirs(&fleet)));

        let mut samples = vec![Samples::default(); contenders.len()];
        for _ in 0..ROUNDS {
            for ((_, decide), samples) in contenders.iter_mut().zip(&mut samples) {
                decide(); // its own caches are warm again, whoever ran before
                let (ns, ()) = time(|| (0..4).for_each(|_| decide()));
                samples.push(ns / 4.0);
            }
        }
        let least = |i: usize| samples[i].quantile(0.0);
        let dynamo = least(contenders.len() - 1);
        for (i, (who, _)) in contenders.iter().enumerate() {
            let (min, median) = (least(i), samples[i].quantile(0.5));
            let shape = format!("{n} endpoints");
            let unit = "ns/decision";
            let row = Row::least("decide", &shape, who, (min, median), unit);
            if json {
                println!("{}", row.json());
            } else {
                let gain = dynamo / min;
                println!(
                    "{:14} {who:26} {min:9.0} {median:9.0}  {unit}  {gain:6.2} times the selector's speed",
                    row.shape
                );
            }
        }
    }
}
