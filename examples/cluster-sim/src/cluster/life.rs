//! Endpoints that come and go, and what becomes of the jobs they had.

use super::{Change, JobStage, NANOS, News, Sample, Simulation};
use crate::engine::{Engine, EngineSpec, Submission, TierStore};
use crate::workload::Start;
use kvsched_core::Time;
use std::cell::RefCell;
use std::rc::Rc;

use super::Happening;

/// An engine that has just started.
pub(super) fn started(spec: &EngineSpec, shared: Option<&Rc<RefCell<TierStore>>>) -> Engine {
    let mut engine = Engine::new(spec.clone());
    if let Some(store) = shared {
        engine.attach(Rc::clone(store));
    }
    engine
}

impl Simulation<'_> {
    pub(super) fn change(&mut self, i: usize) {
        let (_, e, change) = self.spec.changes[i];
        match change {
            Change::Join => self.join(e),
            Change::Drain => self.router.drain(e),
            Change::Crash => self.crash(e),
        }
    }

    fn join(&mut self, e: u16) {
        self.nodes[usize::from(e)].is_up = true;
        self.router.join(e);
        for number in std::mem::take(&mut self.at_gateway) {
            self.route(number);
        }
    }

    /// Its process is gone with all it held; who waited for it is sent elsewhere.
    fn crash(&mut self, e: u16) {
        self.count(e);
        let shared = self.shared.as_ref().map(|(store, _)| store);
        let node = &mut self.nodes[usize::from(e)];
        let mut orphans: Vec<u32> = node.engine.requests().collect();
        orphans.sort_unstable();
        node.engine = started(&self.spec.engines[usize::from(e)], shared);
        node.is_up = false;
        node.publisher.restart();
        node.news.clear();
        self.router.forget(e, Time(self.now));
        for number in orphans {
            self.retry(number);
        }
    }

    /// Adds up what an engine did, before it is gone.
    pub(super) fn count(&mut self, e: u16) {
        let engine = &self.nodes[usize::from(e)].engine;
        self.run.preemptions += engine.preemptions();
        self.run.loaded_blocks += engine.loaded_blocks();
    }

    pub(super) fn retry(&mut self, number: u32) {
        self.run.outcomes[number as usize].retries += 1;
        self.router.finished(number, 0, Time(self.now));
        self.route(number);
    }

    /// What one endpoint prefilled, another decodes.
    pub(super) fn hand_over(&mut self, number: u32, decode: u16, secs: f64) {
        let job = &self.workload.jobs[number as usize];
        self.router.handed_over(number, Time(self.now));
        self.stages[number as usize] = JobStage::Decode;
        let submission = Submission {
            request: number,
            prompt: job.tokens(),
            output_tokens: job.output.tokens.max(1),
            output_seed: job.output.seed,
            lora: job.lora,
            documents: Vec::new(),
            transfer_ns: Some((secs * NANOS) as u64),
        };
        self.dispatched[number as usize] = Some((decode, submission));
        self.submit(number);
    }

    pub(super) fn finish(&mut self, number: u32) {
        let tokens = self.workload.jobs[number as usize].output.tokens;
        self.router.finished(number, tokens, Time(self.now));
        self.undone -= 1;
        self.open -= 1;
        self.last_busy = self.now;
        for follower in std::mem::take(&mut self.followers[number as usize]) {
            if let Start::After(_, secs) = self.workload.jobs[follower as usize].start {
                self.after(secs, Happening::Arrive(follower));
            }
        }
        self.send_waiting();
        if let Some(sleep) = self.spec.sleep.filter(|_| self.open == 0) {
            self.after(sleep.idle, Happening::FallAsleep);
        }
    }

    pub(super) fn fall_asleep(&mut self) {
        let idle = self.spec.sleep.map_or(f64::INFINITY, |s| s.idle);
        let rested = (self.now - self.last_busy) as f64 / NANOS >= idle;
        if self.open > 0 || !rested {
            return;
        }
        for e in 0..self.nodes.len() as u16 {
            if self.nodes[usize::from(e)].is_up {
                self.crash(e);
            }
        }
    }

    /// Somebody asks and nobody is there: they are started, or come by themselves, or nobody
    /// ever will.
    pub(super) fn ring(&mut self, number: u32) {
        let now = self.secs();
        let comes = self.spec.changes.iter().any(|c| c.2 == Change::Join && c.0 >= now);
        if self.spec.sleep.is_none() && !comes {
            return self.refuse(number);
        }
        self.at_gateway.push_back(number);
        if let Some(sleep) = self.spec.sleep.filter(|_| !self.is_waking) {
            self.is_waking = true;
            self.after(sleep.startup, Happening::WakeUp);
        }
    }

    pub(super) fn wake_up(&mut self) {
        self.is_waking = false;
        for e in 0..self.nodes.len() as u16 {
            self.nodes[usize::from(e)].is_up = true;
            self.router.join(e);
        }
        for number in std::mem::take(&mut self.at_gateway) {
            self.route(number);
        }
    }

    pub(super) fn sample(&mut self) {
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

    /// What an endpoint's metrics page and its list of packets show now.
    pub(super) fn news_of(&mut self, e: u16) -> News {
        let engine = &mut self.nodes[usize::from(e)].engine;
        News {
            metrics: engine.metrics(),
            adapters: engine.adapters(),
            packets: engine.take_packet_changes(),
        }
    }
}
