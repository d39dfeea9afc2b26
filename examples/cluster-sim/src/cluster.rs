//! The discrete-event loop: clients, router and engines on one virtual clock.
//!
//! Everything the router knows is late: metrics by [`ClusterSpec::metrics_delay`], cache events
//! by a random delay, the engine's queue by the way there. It sees answers as they pass, as a
//! proxy does.

use crate::engine::{Engine, EngineSpec, Metrics, StepResult, Submission};
use crate::router::{Effort, Router};
use crate::wire;
use crate::workload::{Job, Start, Workload};
use kvsched_core::{Rng, Time};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The cluster around the engines.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSpec {
    /// One entry an endpoint.
    pub engines: Vec<EngineSpec>,
    /// Seconds from the routing decision to the engine's queue: gateway, tokenizer, HTTP server.
    pub way_there: f64,
    /// Seconds from the end of an engine's step to the client.
    pub way_back: f64,
    /// Seconds by which metrics are late.
    pub metrics_delay: f64,
    /// Least and most seconds by which cache events are late.
    pub event_delay: (f64, f64),
    /// Seconds between samples for plots.
    pub sample_every: f64,
}

impl ClusterSpec {
    /// The published cluster: eight equal pods.
    pub fn published() -> Self {
        Self {
            engines: vec![EngineSpec::qwen3_32b_tp2_h100(); 8],
            way_there: 0.05,
            way_back: 0.05,
            metrics_delay: 1.4,
            event_delay: (0.01, 0.05),
            sample_every: 1.0,
        }
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// When the client sent it, seconds.
    pub sent: f64,
    /// When its first token was back.
    pub first_token: f64,
    /// When its last token was back.
    pub done: f64,
    /// Who served it.
    pub endpoint: u16,
    /// Prompt tokens that the engine found in its caches.
    pub cached_tokens: u32,
    /// Prompt tokens that the router expected it to find.
    pub expected_tokens: u32,
    /// Whether it was refused because no engine can hold it.
    pub refused: bool,
}

/// One look at one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When, seconds.
    pub at: f64,
    /// Where.
    pub endpoint: u16,
    /// What its metrics page showed.
    pub metrics: Metrics,
    /// Blocks in slower tiers.
    pub tier_blocks: u32,
}

/// A finished run.
#[derive(Debug, Default)]
pub struct Run {
    /// By job.
    pub outcomes: Vec<Outcome>,
    /// When each stage began and ended, seconds.
    pub stages: Vec<(f64, f64)>,
    /// Looks at the endpoints.
    pub samples: Vec<Sample>,
    /// Prompt tokens computed, recomputation after preemption included.
    pub prefill_tokens: u64,
    /// Prompt tokens computed by endpoint.
    pub prefill_by_endpoint: Vec<u64>,
    /// Preemptions.
    pub preemptions: u64,
    /// Blocks loaded from slower tiers.
    pub loaded_blocks: u64,
    /// Events that the library could not read or apply: none, unless something is broken.
    pub lost_events: u64,
    /// What the library's part took.
    pub effort: Effort,
}

impl Run {
    /// The busiest endpoint's prefill over the mean.
    pub fn prefill_spread(&self) -> f64 {
        let max = self.prefill_by_endpoint.iter().max().copied().unwrap_or(0);
        let mean = self.prefill_tokens as f64 / self.prefill_by_endpoint.len().max(1) as f64;
        max as f64 / mean.max(1.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrive(u32),
    Submit(u32),
    StepEnd(u16),
    Wake(u16),
    Publish(u16),
    Metrics(u16),
    Sample,
}

struct Node {
    engine: Engine,
    published: VecDeque<Vec<u8>>,
    last_delivery_ns: u64,
    /// With the moment they were true.
    metrics: VecDeque<(u64, Metrics)>,
}

struct Simulation<'a> {
    spec: &'a ClusterSpec,
    workload: &'a Workload,
    router: &'a mut Router,
    nodes: Vec<Node>,
    agenda: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    ticket: u64,
    now: u64,
    rng: Rng,
    /// Prompts on their way to an engine.
    dispatched: Vec<Option<Submission>>,
    /// Jobs that start after another is done, by that job.
    followers: Vec<Vec<u32>>,
    at_client: VecDeque<u32>,
    open: u32,
    undone: u32,
    run: Run,
}

const NANOS: f64 = 1e9;

/// Runs `workload` over the cluster.
pub fn simulate(spec: &ClusterSpec, workload: &Workload, router: &mut Router, seed: u64) -> Run {
    let jobs = workload.jobs.len();
    let mut followers = vec![Vec::new(); jobs];
    for (i, job) in workload.jobs.iter().enumerate() {
        if let Start::After(before, _) = job.start {
            followers[before as usize].push(i as u32);
        }
    }
    let nodes = spec.engines.iter().map(|e| Node {
        engine: Engine::new(e.clone()),
        published: VecDeque::new(),
        last_delivery_ns: 0,
        metrics: VecDeque::new(),
    });
    let mut simulation = Simulation {
        spec,
        workload,
        router,
        nodes: nodes.collect(),
        agenda: BinaryHeap::new(),
        ticket: 0,
        now: 0,
        rng: Rng::new(seed ^ 0xc1u64 << 32),
        dispatched: vec![None; jobs],
        followers,
        at_client: VecDeque::new(),
        open: 0,
        undone: 0,
        run: Run { outcomes: vec![Outcome::default(); jobs], ..Run::default() },
    };
    for (i, _) in workload.stages.iter().enumerate() {
        simulation.stage(i);
    }
    let mut run = simulation.run;
    let engines = || simulation.nodes.iter().map(|n| &n.engine);
    run.preemptions = engines().map(Engine::preemptions).sum();
    run.effort = simulation.router.effort();
    run.loaded_blocks = engines().map(Engine::loaded_blocks).sum();
    run
}

impl Simulation<'_> {
    fn at(&mut self, time: u64, what: Happening) {
        self.ticket += 1;
        self.agenda.push(Reverse((time, self.ticket, what)));
    }

    fn after(&mut self, secs: f64, what: Happening) {
        self.at(self.now + (secs * NANOS) as u64, what);
    }

    fn secs(&self) -> f64 {
        self.now as f64 / NANOS
    }

    fn stage(&mut self, i: usize) {
        let stage = &self.workload.stages[i];
        let began = self.secs();
        self.undone = stage.jobs.end - stage.jobs.start;
        for job in stage.jobs.clone() {
            if let Start::At(secs) = self.workload.jobs[job as usize].start {
                self.after(secs, Happening::Arrive(job));
            }
        }
        if i == 0 {
            self.after(0.0, Happening::Sample);
        }
        while self.undone > 0 {
            let Some(Reverse((time, _, what))) = self.agenda.pop() else { break };
            self.now = self.now.max(time);
            self.happen(what);
        }
        let ended = self.secs() + self.spec.way_back;
        self.now = (ended * NANOS) as u64;
        self.run.stages.push((began, ended));
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrive(job) => {
                self.at_client.push_back(job);
                self.send_waiting();
            }
            Happening::Submit(job) => self.submit(job),
            Happening::StepEnd(e) => self.step_end(e),
            Happening::Wake(e) => self.start_step(e),
            Happening::Publish(e) => self.deliver(e),
            Happening::Metrics(e) => {
                if let Some((at, metrics)) = self.nodes[e as usize].metrics.pop_front() {
                    self.router.observe(e, &metrics, Time(at));
                }
            }
            Happening::Sample => self.sample(),
        }
    }

    /// Sends what the client has, as far as its limit lets it.
    fn send_waiting(&mut self) {
        while self.workload.client_limit.is_none_or(|limit| self.open < limit) {
            let Some(job) = self.at_client.pop_front() else { return };
            self.open += 1;
            self.route(job);
        }
    }

    fn route(&mut self, number: u32) {
        let job: &Job = &self.workload.jobs[number as usize];
        let tokens = job.tokens();
        let routed = self.router.route(number, &tokens, job.output.tokens, Time(self.now));
        let outcome = &mut self.run.outcomes[number as usize];
        outcome.sent = self.now as f64 / NANOS;
        let Ok(routed) = routed else {
            outcome.refused = true;
            self.finish(number);
            return;
        };
        outcome.endpoint = routed.endpoint;
        outcome.expected_tokens = routed.expected_tokens;
        self.dispatched[number as usize] = Some(Submission {
            request: number,
            prompt: tokens,
            output_tokens: job.output.tokens.max(1),
            output_seed: job.output.seed,
            transfer_ns: None,
        });
        self.after(self.spec.way_there, Happening::Submit(number));
    }

    fn submit(&mut self, number: u32) {
        let Some(submission) = self.dispatched[number as usize].take() else { return };
        let e = self.run.outcomes[number as usize].endpoint;
        if self.nodes[e as usize].engine.submit(submission).is_err() {
            self.run.outcomes[number as usize].refused = true;
            self.finish(number);
            return;
        }
        self.start_step(e);
    }

    fn start_step(&mut self, e: u16) {
        let engine = &mut self.nodes[e as usize].engine;
        if engine.in_step() {
            return;
        }
        match engine.begin_step(self.now) {
            Some(secs) => self.after(secs, Happening::StepEnd(e)),
            None => {
                if let Some(at) = engine.next_arrival_ns() {
                    self.at(at, Happening::Wake(e));
                }
            }
        }
    }

    fn step_end(&mut self, e: u16) {
        let mut result = StepResult::default();
        self.nodes[e as usize].engine.end_step(&mut result);
        self.run.prefill_tokens += result.prefill_tokens;
        self.run.prefill_by_endpoint.resize(self.nodes.len(), 0);
        self.run.prefill_by_endpoint[e as usize] += result.prefill_tokens;
        self.announce(e);
        let back = self.secs() + self.spec.way_back;
        for &(number, cached) in &result.first_tokens {
            let outcome = &mut self.run.outcomes[number as usize];
            outcome.first_token = back;
            outcome.cached_tokens = cached;
            self.router.first_token(number);
        }
        for &number in &result.finished {
            self.run.outcomes[number as usize].done = back;
            self.finish(number);
        }
        self.start_step(e);
    }

    fn finish(&mut self, number: u32) {
        let tokens = self.workload.jobs[number as usize].output.tokens;
        self.router.finished(number, tokens, Time(self.now));
        self.undone -= 1;
        self.open -= 1;
        for follower in std::mem::take(&mut self.followers[number as usize]) {
            if let Start::After(_, secs) = self.workload.jobs[follower as usize].start {
                self.after(secs, Happening::Arrive(follower));
            }
        }
        self.send_waiting();
    }

    /// Publishes what the last step changed: cache events and metrics.
    fn announce(&mut self, e: u16) {
        let now = self.secs();
        let (least, most) = self.spec.event_delay;
        let delay = least + (most - least) * self.rng.unit_f64();
        let node = &mut self.nodes[e as usize];
        node.metrics.push_back((self.now, node.engine.metrics()));
        let block_size = node.engine.spec().block_size;
        let log = node.engine.log_mut();
        let mut delivery = None;
        if !log.changes.is_empty() {
            if self.router.reads_events() {
                let mut payload = Vec::new();
                wire::publish(log, block_size, now, &mut payload);
                node.published.push_back(payload);
                // A stream keeps its order.
                let at = self.now + (delay * NANOS) as u64;
                node.last_delivery_ns = node.last_delivery_ns.max(at);
                delivery = Some(node.last_delivery_ns);
            }
            log.clear();
        }
        if let Some(at) = delivery {
            self.at(at, Happening::Publish(e));
        }
        self.after(self.spec.metrics_delay, Happening::Metrics(e));
    }

    fn deliver(&mut self, e: u16) {
        let node = &mut self.nodes[e as usize];
        let Some(payload) = node.published.pop_front() else { return };
        self.run.lost_events += self.router.ingest(e, &payload);
    }

    fn sample(&mut self) {
        let at = self.secs();
        for (e, node) in self.nodes.iter().enumerate() {
            self.run.samples.push(Sample {
                at,
                endpoint: e as u16,
                metrics: node.engine.metrics(),
                tier_blocks: node.engine.tier_blocks().map(|(_, n)| n as u32).sum(),
            });
        }
        self.after(self.spec.sample_every, Happening::Sample);
    }
}
