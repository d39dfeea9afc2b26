//! The engine under random loads: what must hold after every step.

use cluster_sim::engine::{
    Engine, EngineSpec, StepResult, StepTime, Submission, TierSpec, prefix_hashes,
};
use cluster_sim::wire;
use cluster_sim::workload::token;
use kvsched_core::{BlockHash, EndpointId, Event, PrefixMatches, Tier, TokenId};
use kvsched_index::events::vllm::Decoder;
use kvsched_index::{Holder, Index, Repeat};
use proptest::prelude::*;
use std::num::NonZeroUsize;

const BLOCK: u32 = 4;

fn spec(kv_blocks: u32, budget: u32, host_blocks: Option<usize>) -> EngineSpec {
    let tiers = host_blocks.and_then(NonZeroUsize::new).map(|blocks| TierSpec {
        tier: Tier::HOST,
        blocks,
        latency: 1e-3,
        bytes_per_sec: 1e6,
    });
    EngineSpec {
        block_size: BLOCK,
        kv_blocks,
        max_batched_tokens: budget,
        max_running: 6,
        step_time: StepTime::QWEN3_32B_TP2_H100,
        kv_bytes_per_token: 100,
        tiers: tiers.into_iter().collect(),
        lora_slots: 0,
        lora_load: 0.0,
        packet_tokens: 0,
    }
}

/// A few texts with long common prefixes, cut anywhere.
fn prompt(text: u64, len: u32) -> Vec<TokenId> {
    (0..len).map(|i| token(if i < 12 { text % 2 } else { text }, i)).collect()
}

#[derive(Clone, Debug)]
struct Arrival {
    text: u64,
    prompt: u32,
    output: u32,
    steps_before: u8,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let one =
        (0u64..5, 1u32..40, 1u32..12, 0u8..5).prop_map(|(text, prompt, output, steps_before)| {
            Arrival { text, prompt, output, steps_before }
        });
    proptest::collection::vec(one, 1..40)
}

struct Driven {
    engine: Engine,
    now: u64,
    result: StepResult,
    first_tokens: Vec<u32>,
    finished: Vec<u32>,
    output_tokens: u64,
}

impl Driven {
    fn new(spec: EngineSpec) -> Self {
        Self {
            engine: Engine::new(spec),
            now: 0,
            result: StepResult::default(),
            first_tokens: Vec::new(),
            finished: Vec::new(),
            output_tokens: 0,
        }
    }

    /// One step, or the wait for KV that is being loaded; `false` when there is nothing to do.
    fn step(&mut self) -> Result<bool, TestCaseError> {
        let Some(secs) = self.engine.begin_step(self.now) else {
            let Some(at) = self.engine.next_arrival_ns() else { return Ok(false) };
            prop_assert!(at > self.now);
            self.now = at;
            return Ok(true);
        };
        prop_assert!(secs > 0.0);
        prop_assert_eq!(self.engine.validate(), Ok(()));
        self.now += (secs * 1e9) as u64;
        self.engine.end_step(&mut self.result);
        prop_assert_eq!(self.engine.validate(), Ok(()));
        self.first_tokens.extend(self.result.first_tokens.iter().map(|f| f.0));
        self.finished.extend(&self.result.finished);
        self.output_tokens += self.result.output_tokens;
        Ok(true)
    }

    fn submit(&mut self, request: u32, a: &Arrival) -> bool {
        let submission = Submission {
            request,
            prompt: prompt(a.text, a.prompt),
            output_tokens: a.output,
            output_seed: 1000 + u64::from(request),
            ..Submission::default()
        };
        self.engine.submit(submission).is_ok()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_request_that_fits_is_served_once_and_no_block_is_lost(
        kv_blocks in 8u32..30, budget in 3u32..40, host in proptest::option::of(1usize..20),
        arrivals in arrivals(),
    ) {
        let mut driven = Driven::new(spec(kv_blocks, budget, host));
        let mut expected = Vec::new();
        for (i, a) in arrivals.iter().enumerate() {
            for _ in 0..a.steps_before {
                driven.step()?;
            }
            let fits = a.prompt + a.output <= kv_blocks * BLOCK;
            prop_assert_eq!(driven.submit(i as u32, a), fits);
            if fits {
                expected.push(i as u32);
            }
        }
        let mut steps = 0;
        while driven.step()? {
            steps += 1;
            prop_assert!(steps < 100_000, "the engine makes no progress");
        }
        driven.finished.sort_unstable();
        driven.first_tokens.sort_unstable();
        prop_assert_eq!(&driven.finished, &expected);
        prop_assert_eq!(&driven.first_tokens, &expected);
        let tokens: u64 = expected.iter().map(|&i| u64::from(arrivals[i as usize].output)).sum();
        prop_assert_eq!(driven.output_tokens, tokens);
        prop_assert_eq!(driven.engine.metrics().kv_usage, 0.0);
    }

    #[test]
    fn the_index_knows_exactly_what_the_engine_would_hit_when_events_are_instant(
        kv_blocks in 8u32..30, budget in 3u32..40, arrivals in arrivals(),
    ) {
        let mut driven = Driven::new(spec(kv_blocks, budget, None));
        let mut index = Index::builder().block_size(BLOCK).build().unwrap();
        let mut decoder = Decoder::new();
        let holder = Holder::device(EndpointId(0));
        let (mut matches, mut hashes) = (PrefixMatches::new(), Vec::new());
        for (i, a) in arrivals.iter().enumerate() {
            driven.submit(i as u32, a);
            for _ in 0..a.steps_before {
                driven.step()?;
                let mut payload = Vec::new();
                wire::publish(driven.engine.log_mut(), BLOCK, 0.0, &mut payload);
                driven.engine.log_mut().clear();
                let batch = decoder.decode(&payload).unwrap();
                for event in batch.events() {
                    match event {
                        Event::Stored(s) => {
                            let stored: Vec<_> = s.hashes.iter().map(|h| h.as_block_hash()).collect();
                            let parent = s.parent.map(|p| p.as_block_hash());
                            // Equal prompts of one batch make copies, and the engine evicts each.
                            index.store(holder, parent, &stored, Repeat::Copy).unwrap();
                        }
                        Event::Removed(r) => {
                            let gone: Vec<_> = r.hashes.iter().map(|h| h.as_block_hash()).collect();
                            index.remove(holder, &gone);
                        }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                for a in &arrivals {
                    let asked = prompt(a.text, a.prompt);
                    prefix_hashes(&asked, BLOCK, None, &mut hashes);
                    let blocks: Vec<_> = hashes.iter().copied().map(BlockHash).collect();
                    index.find_matches(&blocks, &mut matches);
                    prop_assert_eq!(matches.blocks(EndpointId(0)), driven.engine.usable_blocks(&asked));
                }
            }
        }
    }
}

#[test]
fn a_full_hit_computes_one_block_and_a_miss_all() {
    let mut driven = Driven::new(spec(64, 1000, None));
    let a = Arrival { text: 3, prompt: 41, output: 1, steps_before: 0 };
    driven.submit(0, &a);
    assert!(driven.step().unwrap());
    assert_eq!((driven.result.prefill_tokens, driven.result.first_tokens[0].1), (41, 0));
    driven.submit(1, &a);
    assert!(driven.step().unwrap());
    // Ten full blocks of four; the last token is always computed.
    assert_eq!((driven.result.prefill_tokens, driven.result.first_tokens[0].1), (1, 40));
}

#[test]
fn the_tail_of_a_finished_request_is_evicted_before_its_head() {
    let mut driven = Driven::new(spec(10, 1000, None));
    driven.submit(0, &Arrival { text: 3, prompt: 32, output: 1, steps_before: 0 });
    driven.step().unwrap();
    // Two blocks were never used; four more must be taken from the eight of the first prompt.
    driven.submit(1, &Arrival { text: 4, prompt: 23, output: 1, steps_before: 0 });
    driven.step().unwrap();
    assert_eq!(driven.engine.usable_blocks(&prompt(3, 33)), 4);
}

#[test]
fn what_the_device_evicts_is_loaded_back_from_the_host() {
    let mut driven = Driven::new(spec(10, 1000, Some(100)));
    let first = Arrival { text: 3, prompt: 33, output: 1, steps_before: 0 };
    driven.submit(0, &first);
    driven.step().unwrap();
    driven.submit(1, &Arrival { text: 4, prompt: 36, output: 1, steps_before: 0 });
    driven.step().unwrap();
    assert!(driven.engine.usable_blocks(&prompt(3, 33)) < 3);
    driven.submit(2, &first);
    let before = driven.now;
    assert!(driven.step().unwrap(), "waits for the host");
    assert!(driven.now >= before + 1_000_000, "latency of the tier");
    assert!(driven.step().unwrap());
    assert_eq!((driven.result.prefill_tokens, driven.result.first_tokens[0].1), (1, 32));
    assert!(driven.engine.loaded_blocks() >= 5);
}
