//! The seam to kvsched: what the simulated gateway asks and tells it.
//!
//! Every decision is the library's: event bytes go through its decoder and applier into its
//! index, prompts through the index and a profile of its presets, late metrics through its
//! in-flight ledger. The engines' block hashes are looked up as they are: the simulated
//! gateway computes the simulated engine's own hash, as kvsched-hash computes a real engine's.

use crate::engine::{EngineSpec, Metrics, prefix_hashes};
use crate::policy::{Knowledge, Policy};
use kvsched_core::{
    BlockHash, EndpointId, Load, PrefixMatches, Request, RouteError, Time, TokenId,
};
use kvsched_core::{Rates, Rng};
use kvsched_index::events::vllm::Decoder;
use kvsched_index::{Applier, Identity, Index, IndexBuildError, RoutingHistory};
use kvsched_scorers::preset::UnknownPreset;
use kvsched_scorers::{DecideInput, HotPrefixes, InFlight, Profile, Routed, Scratch, Ticket};
use std::time::{Duration, Instant};

/// How long a request that was just sent counts as cached where no event has said so.
const SPECULATION: Duration = Duration::from_secs(2);
/// How long a request counts in the demand for its prefix.
const DEMAND: Duration = Duration::from_secs(10);
/// Prefixes whose demand is watched.
const WATCHED: usize = 4096;
/// Longer than any simulation.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A decision, as far as the cluster needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Where the request goes.
    pub endpoint: u16,
    /// Prompt tokens expected in the cache there.
    pub expected_tokens: u32,
}

/// Why there is no router for a policy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RouterError {
    /// No such policy.
    #[error(transparent)]
    Policy(#[from] UnknownPreset),
    /// The index refused its settings.
    #[error(transparent)]
    Index(#[from] IndexBuildError),
}

/// Time spent in the library, on the clock of the machine that simulates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Hashing, matching and deciding.
    pub deciding: Duration,
    /// Decisions made.
    pub decisions: u64,
    /// Decoding and applying events.
    pub ingesting: Duration,
    /// Messages taken in.
    pub messages: u64,
}

/// The gateway's brain for one run.
#[derive(Debug)]
pub struct Router {
    profile: Profile,
    knowledge: Knowledge,
    raw_metrics: bool,
    block_size: u32,
    index: Index,
    decoder: Decoder,
    appliers: Vec<Applier>,
    ledger: InFlight,
    tickets: Vec<Option<Ticket>>,
    /// What each endpoint's metrics last said, and those figures brought up to date.
    polled: Vec<Load>,
    loads: Vec<Load>,
    rates: Vec<Rates>,
    candidates: Vec<EndpointId>,
    /// On the approximate path all that is known; else what was just sent and not yet announced.
    history: RoutingHistory,
    demand: HotPrefixes,
    matches: PrefixMatches,
    /// Of the prompt's rest, while matches are raised.
    spare: PrefixMatches,
    hashes: Vec<u64>,
    blocks: Vec<BlockHash>,
    scratch: Scratch,
    rng: Rng,
    effort: Effort,
}

impl Router {
    /// A router for these engines, which have one block size. It is told what an operator knows
    /// of them: KV capacity, and how fast they are.
    ///
    /// # Errors
    ///
    /// An unknown policy.
    pub fn new(policy: &Policy, engines: &[EngineSpec], seed: u64) -> Result<Self, RouterError> {
        let block_size = engines.first().map_or(16, |e| e.block_size);
        let (block_size, history) = match policy.knowledge {
            Knowledge::Events => {
                let most = engines.iter().map(|e| e.kv_blocks).max().unwrap_or(0);
                (block_size, RoutingHistory::new(most, SPECULATION))
            }
            Knowledge::History { block_tokens, capacity, .. } => {
                (block_tokens, RoutingHistory::new(capacity, FOREVER))
            }
        };
        let load = |e: &EngineSpec| Load { kv_capacity_tokens: e.kv_tokens(), ..Load::default() };
        let candidates: Vec<_> = (0..engines.len() as u16).map(EndpointId).collect();
        Ok(Self {
            profile: policy.profile()?,
            knowledge: policy.knowledge,
            raw_metrics: policy.raw_metrics,
            block_size,
            index: Index::builder().block_size(block_size).build()?,
            decoder: Decoder::new(),
            appliers: candidates.iter().map(|&e| Applier::new(e)).collect(),
            ledger: InFlight::new(FOREVER),
            tickets: Vec::new(),
            polled: engines.iter().map(load).collect(),
            loads: Vec::new(),
            rates: engines.iter().map(rates).collect(),
            history,
            demand: HotPrefixes::new(WATCHED, DEMAND),
            candidates,
            matches: PrefixMatches::new(),
            spare: PrefixMatches::new(),
            hashes: Vec::new(),
            blocks: Vec::new(),
            scratch: Scratch::new(),
            rng: Rng::new(seed),
            effort: Effort::default(),
        })
    }

    /// Whether engines need to tell it anything.
    pub fn reads_events(&self) -> bool {
        self.profile.needs().matches && self.knowledge == Knowledge::Events
    }

    /// Time spent in the library so far.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Decides where job number `job` goes, and remembers that it went there.
    ///
    /// # Errors
    ///
    /// Nobody can be chosen.
    pub fn route(
        &mut self,
        job: u32,
        prompt: &[TokenId],
        output_tokens: u32,
        now: Time,
    ) -> Result<Destination, RouteError> {
        let start = Instant::now();
        self.look_up(prompt, now);
        self.bring_up_to_date(now);
        let known = self.matches.longest().checked_sub(1);
        let known = known.and_then(|last| self.blocks.get(last as usize));
        let prefix_demand = known.map_or(0.0, |&prefix| self.demand.observe(prefix, now));
        let prompt_tokens = prompt.len() as u32;
        let input = DecideInput {
            request: Request {
                prompt_tokens,
                block_size: self.block_size,
                expected_output_tokens: output_tokens,
                prefix_demand,
                ..Request::default()
            },
            loads: &self.loads,
            matches: &self.matches,
            rates: &self.rates,
            now,
            ..DecideInput::new(&self.candidates)
        };
        let decision = self.profile.decide(input, &mut self.rng, &mut self.scratch)?;
        let endpoint = decision.endpoint;
        let cached_tokens = (self.matches.blocks(endpoint) * self.block_size).min(prompt_tokens);
        let uncached_tokens = prompt_tokens - cached_tokens;
        let routed = Routed { uncached_tokens, cached_tokens, output_tokens };
        let ticket = self.ledger.route(endpoint, routed, now);
        self.remember(endpoint, now);
        self.effort.deciding += start.elapsed();
        self.effort.decisions += 1;
        let job = job as usize;
        self.tickets.resize(self.tickets.len().max(job + 1), None);
        self.tickets[job] = Some(ticket);
        Ok(Destination { endpoint: endpoint.0, expected_tokens: cached_tokens })
    }

    fn look_up(&mut self, prompt: &[TokenId], now: Time) {
        self.blocks.clear();
        if !self.profile.needs().matches {
            return;
        }
        prefix_hashes(prompt, self.block_size, &mut self.hashes);
        self.blocks.extend(self.hashes.iter().copied().map(BlockHash));
        self.history.expire(now);
        if let Knowledge::History { prompt_blocks, .. } = self.knowledge {
            self.blocks.truncate(prompt_blocks as usize);
            self.history.find_matches(&self.blocks, &mut self.matches);
            return;
        }
        self.index.find_matches(&self.blocks, &mut self.matches);
        if !self.raw_metrics {
            self.history.raise_matches(&self.blocks, &mut self.matches, &mut self.spare);
        }
    }

    /// Fills [`Self::loads`] from what was polled and what is in flight.
    fn bring_up_to_date(&mut self, now: Time) {
        self.loads.clone_from(&self.polled);
        for ((&e, load), polled) in self.candidates.iter().zip(&mut self.loads).zip(&self.polled) {
            self.ledger.apply(e, load, now);
            if self.raw_metrics {
                load.waiting_requests = polled.waiting_requests;
                load.running_requests = polled.running_requests;
                load.kv_usage = polled.kv_usage;
            }
        }
    }

    /// What was sent there is probably cached there soon.
    fn remember(&mut self, endpoint: EndpointId, now: Time) {
        if self.knowledge != Knowledge::Events || !self.raw_metrics {
            self.history.record(endpoint, &self.blocks, now);
        }
    }

    /// An endpoint's metrics page, as it was at `observed`.
    pub fn observe(&mut self, endpoint: u16, metrics: &Metrics, observed: Time) {
        let load = &mut self.polled[endpoint as usize];
        load.waiting_requests = metrics.waiting;
        load.running_requests = metrics.running;
        load.kv_usage = metrics.kv_usage;
        load.observed_at = observed;
    }

    /// One message of an engine's event stream. What could not be read or applied.
    pub fn ingest(&mut self, endpoint: u16, payload: &[u8]) -> u64 {
        let start = Instant::now();
        let lost = match self.decoder.decode(payload) {
            Ok(batch) => {
                let applier = &mut self.appliers[endpoint as usize];
                let identity = &mut Identity::Engine;
                let applied = applier.apply(&mut self.index, identity, batch.events());
                // What the endpoint keeps, as its events add up.
                let resident = &mut self.polled[endpoint as usize].resident_tokens;
                *resident += applied.stored as u64 * u64::from(self.block_size);
                *resident =
                    resident.saturating_sub(applied.removed as u64 * u64::from(self.block_size));
                batch.lost_events() as u64 + u64::from(applied.is_incomplete())
            }
            Err(_) => 1,
        };
        self.effort.ingesting += start.elapsed();
        self.effort.messages += 1;
        lost
    }

    /// The first token of a job has passed.
    pub fn first_token(&mut self, job: u32) {
        if let Some(&Some(ticket)) = self.tickets.get(job as usize) {
            self.ledger.first_token(ticket);
        }
    }

    /// The last token of a job has passed.
    pub fn finished(&mut self, job: u32, output_tokens: u32, now: Time) {
        if let Some(ticket) = self.tickets.get_mut(job as usize).and_then(Option::take) {
            self.ledger.finish(ticket, output_tokens, now);
        }
    }
}

/// The engine's speed in the library's words.
fn rates(engine: &EngineSpec) -> Rates {
    let step = engine.step_time;
    Rates {
        prefill: step.base + 0.1,
        prefill_per_token: step.per_prefill_token,
        prefill_per_token_pair: step.per_prefill_token_and_context_token,
        step: step.base,
        step_per_sequence: step.per_sequence,
        step_per_kv_token: step.per_context_token,
        ..Rates::default()
    }
}
