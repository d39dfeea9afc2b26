//! The discrete-event loop: clients, router and engines on one virtual clock.
//!
//! Everything the router knows is late: metrics by [`ClusterSpec::metrics_delay`], cache events
//! by a random delay, the engine's queue by the way there. It sees answers as they pass, as a
//! proxy does.

mod life;
mod news;
mod run;
mod spec;

pub use run::{Outcome, Run, Sample};
pub use spec::{Change, ClusterSpec, Role, Sleep};

use crate::engine::{Engine, StepResult, Submission, TierStore};
use crate::router::Router;
use crate::workload::{Job, Start, Workload};
use kvsched_core::{Rng, Time};
use news::{News, Publisher};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrive(u32),
    Submit(u32),
    /// The endpoints of a unit have finished a step.
    StepEnd(u16),
    Wake(u16),
    /// A publisher sends what has changed.
    Flush(u16),
    /// Its oldest message arrives.
    Publish(u16),
    /// The answer to a replay request arrives.
    Replay(u16, u64),
    News(u16),
    Change(usize),
    FallAsleep,
    WakeUp,
    Sample,
}

/// Where a job is being served.
#[derive(Clone, Copy, Debug, PartialEq)]
enum JobStage {
    /// By one endpoint from prompt to answer.
    Alone,
    /// By one that only prefills; who decodes then, and the seconds until the KV is there.
    Prefill(u16, f64),
    /// By that one.
    Decode,
}

struct Node {
    engine: Engine,
    /// Of endpoints that step together; itself, if it steps alone.
    unit: u16,
    is_up: bool,
    publisher: Publisher,
    /// With the moment they were true.
    news: VecDeque<(u64, News)>,
}

/// Endpoints that step together.
struct Unit {
    members: Vec<u16>,
    is_stepping: bool,
}

struct Simulation<'a> {
    spec: &'a ClusterSpec,
    workload: &'a Workload,
    router: &'a mut Router,
    nodes: Vec<Node>,
    units: Vec<Unit>,
    shared: Option<(Rc<RefCell<TierStore>>, Publisher)>,
    agenda: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    ticket: u64,
    now: u64,
    rng: Rng,
    /// Prompts on their way to an engine.
    dispatched: Vec<Option<(u16, Submission)>>,
    stages: Vec<JobStage>,
    /// Jobs that start after another is done, by that job.
    followers: Vec<Vec<u32>>,
    at_client: VecDeque<u32>,
    /// Jobs that came while nobody was there.
    at_gateway: VecDeque<u32>,
    is_waking: bool,
    last_busy: u64,
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
    let shared = spec.shared_tier.map(|t| Rc::new(RefCell::new(TierStore::shared(t))));
    let units = spec.units();
    let nodes = spec.engines.iter().enumerate().map(|(e, engine)| Node {
        engine: life::started(engine, shared.as_ref()),
        unit: units.iter().position(|u| u.contains(&(e as u16))).unwrap_or(e) as u16,
        is_up: spec.is_there(e),
        publisher: Publisher::default(),
        news: VecDeque::new(),
    });
    let mut simulation = Simulation {
        spec,
        workload,
        router,
        nodes: nodes.collect(),
        units: units.into_iter().map(|members| Unit { members, is_stepping: false }).collect(),
        shared: shared.map(|store| (store, Publisher::default())),
        agenda: BinaryHeap::new(),
        ticket: 0,
        now: 0,
        rng: Rng::new(seed ^ 0xc1u64 << 32),
        dispatched: vec![None; jobs],
        stages: vec![JobStage::Alone; jobs],
        followers,
        at_client: VecDeque::new(),
        at_gateway: VecDeque::new(),
        is_waking: false,
        last_busy: 0,
        open: 0,
        undone: 0,
        run: Run { outcomes: vec![Outcome::default(); jobs], ..Run::default() },
    };
    simulation.run.prefill_by_endpoint.resize(spec.engines.len(), 0);
    for (i, change) in spec.changes.iter().enumerate() {
        simulation.at((change.0 * NANOS) as u64, Happening::Change(i));
    }
    simulation.at(0, Happening::Sample);
    for i in 0..workload.stages.len() {
        simulation.stage(i);
    }
    for e in 0..simulation.nodes.len() {
        simulation.count(e as u16);
    }
    let mut run = simulation.run;
    run.effort = simulation.router.effort();
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
            Happening::StepEnd(unit) => self.step_end(unit),
            Happening::Wake(unit) => self.start_step(unit),
            Happening::Flush(publisher) => self.flush(publisher),
            Happening::Publish(publisher) => self.deliver(publisher),
            Happening::Replay(publisher, from) => self.replay(publisher, from),
            Happening::News(e) => self.tell(e),
            Happening::Change(i) => self.change(i),
            Happening::FallAsleep => self.fall_asleep(),
            Happening::WakeUp => self.wake_up(),
            Happening::Sample => self.sample(),
        }
    }

    /// Sends what the client has, as far as its limit lets it.
    fn send_waiting(&mut self) {
        while self.workload.client_limit.is_none_or(|limit| self.open < limit) {
            let Some(number) = self.at_client.pop_front() else { return };
            self.open += 1;
            self.last_busy = self.now;
            self.run.outcomes[number as usize].sent = self.secs();
            self.route(number);
        }
    }

    fn route(&mut self, number: u32) {
        if !self.router.has_candidates() {
            return self.ring(number);
        }
        let job: &Job = &self.workload.jobs[number as usize];
        let tokens = job.tokens();
        let Ok(to) = self.router.route(number, job, &tokens, Time(self.now)) else {
            return self.refuse(number);
        };
        let outcome = &mut self.run.outcomes[number as usize];
        outcome.endpoint = to.endpoint;
        outcome.expected_tokens = to.expected_tokens;
        let submission = Submission {
            request: number,
            prompt: tokens,
            output_tokens: if to.prefill.is_some() { 1 } else { job.output.tokens.max(1) },
            output_seed: job.output.seed,
            lora: job.lora,
            documents: job.documents(),
            transfer_ns: None,
        };
        self.stages[number as usize] =
            to.prefill.map_or(JobStage::Alone, |(_, secs)| JobStage::Prefill(to.endpoint, secs));
        let first = to.prefill.map_or(to.endpoint, |(e, _)| e);
        self.dispatched[number as usize] = Some((first, submission));
        self.after(self.spec.way_there, Happening::Submit(number));
    }

    fn refuse(&mut self, number: u32) {
        self.run.outcomes[number as usize].refused = true;
        self.finish(number);
    }

    fn submit(&mut self, number: u32) {
        let Some((e, submission)) = self.dispatched[number as usize].take() else { return };
        let node = &mut self.nodes[usize::from(e)];
        if !node.is_up {
            return self.retry(number);
        }
        if node.engine.submit(submission).is_err() {
            return self.refuse(number);
        }
        let unit = node.unit;
        self.start_step(unit);
    }

    /// Starts a step of all who step together, as long as the longest of theirs.
    fn start_step(&mut self, unit: u16) {
        let Unit { members, is_stepping } = &mut self.units[usize::from(unit)];
        if *is_stepping {
            return;
        }
        let (mut longest, mut arrival) = (None::<f64>, None::<u64>);
        for &e in members.iter() {
            let engine = &mut self.nodes[usize::from(e)].engine;
            match engine.begin_step(self.now) {
                Some(secs) => longest = Some(longest.unwrap_or(0.0).max(secs)),
                None => arrival = arrival.into_iter().chain(engine.next_arrival_ns()).min(),
            }
        }
        *is_stepping = longest.is_some();
        match (longest, arrival) {
            (Some(secs), _) => self.after(secs, Happening::StepEnd(unit)),
            (None, Some(at)) => self.at(at, Happening::Wake(unit)),
            (None, None) => {}
        }
    }

    fn step_end(&mut self, unit: u16) {
        self.units[usize::from(unit)].is_stepping = false;
        let mut result = StepResult::default();
        for i in 0..self.units[usize::from(unit)].members.len() {
            let e = self.units[usize::from(unit)].members[i];
            let engine = &mut self.nodes[usize::from(e)].engine;
            if !engine.in_step() {
                continue;
            }
            engine.end_step(&mut result);
            self.run.prefill_tokens += result.prefill_tokens;
            self.run.prefill_by_endpoint[usize::from(e)] += result.prefill_tokens;
            self.announce(e);
            self.answer(&result);
        }
        self.start_step(unit);
    }

    fn answer(&mut self, result: &StepResult) {
        let back = self.secs() + self.spec.way_back;
        for &(number, cached) in &result.first_tokens {
            self.router.first_token(number);
            let outcome = &mut self.run.outcomes[number as usize];
            match self.stages[number as usize] {
                JobStage::Alone => (outcome.cached_tokens, outcome.first_token) = (cached, back),
                JobStage::Prefill(..) => outcome.cached_tokens = cached,
                JobStage::Decode => outcome.first_token = back,
            }
        }
        for &number in &result.finished {
            if let JobStage::Prefill(decode, secs) = self.stages[number as usize] {
                self.hand_over(number, decode, secs);
                continue;
            }
            self.run.outcomes[number as usize].done = back;
            self.finish(number);
        }
    }
}
