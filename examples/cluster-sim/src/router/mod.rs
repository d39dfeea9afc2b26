//! The seam to kvsched: what the simulated gateway asks and tells it.
//!
//! Every decision is the library's: event bytes go through its decoder and applier into its
//! index, prompts through the index and a profile of its presets, late metrics through its
//! in-flight ledger. The engines' block hashes are looked up as they are: the simulated
//! gateway computes the simulated engine's own hash, as kvsched-hash computes a real engine's.

mod choose;
mod news;

pub use news::Ingested;

use crate::cluster::{ClusterSpec, Role};
use crate::engine::{EngineSpec, prefix_hashes};
use crate::policy::{Knowledge, Policy};
use crate::workload::Job;
use kvsched_core::{
    BlockHash, EndpointId, Knowledge as Trusted, Labels, Load, LoraId, PrefixMatches, Rates,
    Request, Rng, RouteError, Time, TokenId, Transfer, Trust,
};
use kvsched_index::events::{EventStream, StreamSettings};
use kvsched_index::{
    ChunkHits, ChunkIndex, ChunkKey, Index, IndexBuildError, PoolError, RoutingHistory,
};
use kvsched_scorers::cost::Split;
use kvsched_scorers::filter::Label;
use kvsched_scorers::preset::UnknownPreset;
use kvsched_scorers::segment::Reuse;
use kvsched_scorers::{HotPrefixes, InFlight, Profile, Routed, Scratch, Ticket};
use std::time::{Duration, Instant};

/// How long a request that was just sent counts as cached where no event has said so.
const SPECULATION: Duration = Duration::from_secs(2);
/// How long a request counts in the demand for its prefix.
const DEMAND: Duration = Duration::from_secs(10);
/// Prefixes whose demand is watched.
const WATCHED: usize = 4096;
/// Memory for knowing who holds which documents.
const CHUNK_BYTES: usize = 64 << 20;
/// Longer than any simulation.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A decision, as far as the cluster needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Destination {
    /// Who answers it.
    pub endpoint: u16,
    /// Who computes its prompt before that, if somebody else does, and the seconds that handing
    /// the KV over takes.
    pub prefill: Option<(u16, f64)>,
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
    /// The index refused a shared store.
    #[error(transparent)]
    Pool(#[from] PoolError),
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
    /// The cost model's way to choose two endpoints at once.
    split: Option<Split>,
    knowledge: Knowledge,
    raw_metrics: bool,
    block_size: u32,
    index: Index,
    /// One an endpoint, then the shared store's.
    streams: Vec<EventStream>,
    trusted: Vec<Trusted>,
    chunks: ChunkIndex,
    ledger: InFlight,
    /// By job: of who computes the prompt, if somebody else does, and of who answers.
    tickets: Vec<[Option<Ticket>; 2]>,
    /// What each endpoint's metrics last said, and those figures brought up to date.
    polled: Vec<Load>,
    loads: Vec<Load>,
    rates: Vec<Rates>,
    labels: Vec<Labels>,
    groups: Vec<Option<u16>>,
    /// Who takes requests.
    candidates: Vec<EndpointId>,
    /// On the approximate path all that is known; else what was just sent and not yet announced.
    history: RoutingHistory,
    demand: HotPrefixes,
    matches: PrefixMatches,
    /// Of the prompt's rest, while matches are raised.
    spare: PrefixMatches,
    /// By endpoint: prompt tokens that documents save it.
    saved: Vec<u32>,
    chunk_hits: ChunkHits,
    hashes: Vec<u64>,
    blocks: Vec<BlockHash>,
    scratch: Scratch,
    rng: Rng,
    effort: Effort,
}

impl Router {
    /// A router for this cluster, whose engines have one block size. It is told what an operator
    /// knows of them: KV capacity, roles, and how fast they are.
    ///
    /// # Errors
    ///
    /// An unknown policy.
    pub fn new(policy: &Policy, spec: &ClusterSpec, seed: u64) -> Result<Self, RouterError> {
        let engines = &spec.engines;
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
        let load = |e: &EngineSpec| Load {
            kv_capacity_tokens: e.kv_tokens(),
            lora: kvsched_core::LoraLoad { slots: e.lora_slots, ..Default::default() },
            ..Load::default()
        };
        let mut index = Index::builder().block_size(block_size).build()?;
        let all: Vec<_> = (0..engines.len() as u16).map(EndpointId).collect();
        let store = EndpointId(engines.len() as u16);
        if spec.shared_tier.is_some() {
            for &endpoint in &all {
                index.set_pools(endpoint, &[store])?;
            }
        }
        let stream = |&e: &EndpointId| EventStream::new(e, StreamSettings::default());
        let roles = (0..engines.len()).map(|e| match spec.role(e) {
            Role::Both => "prefill-decode",
            Role::Prefill => "prefill",
            Role::Decode => "decode",
        });
        let has_roles = spec.roles.iter().any(|&r| r != Role::Both);
        let there = |e: &EndpointId| spec.is_there(e.index());
        Ok(Self {
            profile: policy.profile()?,
            split: policy.split().filter(|_| has_roles),
            knowledge: policy.knowledge,
            raw_metrics: policy.raw_metrics,
            block_size,
            index,
            streams: all.iter().chain([&store]).map(stream).collect(),
            trusted: Vec::new(),
            chunks: ChunkIndex::with_budget(CHUNK_BYTES)?,
            ledger: InFlight::new(FOREVER),
            tickets: Vec::new(),
            polled: engines.iter().map(load).collect(),
            loads: Vec::new(),
            rates: engines.iter().zip(0..).map(|(e, i)| rates(e, spec.role(i))).collect(),
            labels: roles.map(|role| Labels::from_iter([(Label::ROLE, role)])).collect(),
            groups: spec.groups.clone(),
            candidates: all.iter().copied().filter(there).collect(),
            history,
            demand: HotPrefixes::new(WATCHED, DEMAND),
            matches: PrefixMatches::new(),
            spare: PrefixMatches::new(),
            saved: Vec::new(),
            chunk_hits: ChunkHits::new(),
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
}

/// The engine's speed in the library's words.
fn rates(engine: &EngineSpec, role: Role) -> Rates {
    let step = engine.step_time;
    let mut rates = Rates {
        prefill: step.base + 0.1,
        prefill_per_token: step.per_prefill_token,
        prefill_per_token_pair: step.per_prefill_token_and_context_token,
        step: step.base,
        step_per_sequence: step.per_sequence,
        step_per_kv_token: step.per_context_token,
        lora_load: engine.lora_load,
        // Nobody decodes where there is only prefill.
        interference: if role == Role::Prefill { 0.0 } else { 1.0 },
        ..Rates::default()
    };
    for tier in &engine.tiers {
        let per_token = engine.kv_bytes_per_token as f64 / tier.bytes_per_sec;
        rates.tiers[tier.tier.index()] = Transfer { t0: tier.latency, per_token };
    }
    rates
}
