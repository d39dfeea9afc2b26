//! Routes a trace over a simulated fleet under several policies, with the router a gateway would
//! embed: what differs between policies is its profile and where its knowledge comes from.

use crate::fleet::{CacheChange, Endpoint};
use crate::report::PolicyResult;
use kvsched::events::vllm;
use kvsched::{
    Algorithm, BlockHash, BlockHasher, EndpointId, EndpointSpec, EngineHash, Event, Group, Load,
    Medium, Prompt, Removed, Rng, RouteInput, RouteScratch, Router, Scheme, Stored, Time, TokenId,
    VllmVersion, preset,
};
use kvsched_testdata::trace::TraceRequest;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

type Error = Box<dyn std::error::Error>;

/// Tokens a block of the simulated engines, as in llm-d's published benchmark.
pub(crate) const BLOCK_SIZE: usize = 64;
/// How long the approximate policy believes in a block nobody asked for; longer than the trace.
const LEASE: Duration = Duration::from_secs(24 * 3600);
/// Ids in the synthetic vocabulary, about Qwen3's.
const VOCABULARY: usize = 151_669;

/// The policies, worst informed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    RoundRobin,
    LeastLoaded,
    Approximate,
    Precise,
}

impl Policy {
    pub(crate) const ALL: [Self; 4] =
        [Self::RoundRobin, Self::LeastLoaded, Self::Approximate, Self::Precise];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::Approximate => "approximate",
            Self::Precise => "precise",
        }
    }

    fn knows_prefixes(self) -> bool {
        matches!(self, Self::Approximate | Self::Precise)
    }
}

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) endpoints: u16,
    /// Replicas of the gateway; requests go to them in turn, events to all.
    pub(crate) gateways: u16,
    pub(crate) cache_blocks: NonZeroU32,
    /// Tokens that one `hash_id` of the trace stands for.
    pub(crate) trace_block: u32,
    /// Seconds a unit of the trace's timestamps.
    pub(crate) time_unit: f64,
}

/// One policy's routers and the fleet they route over.
struct Run {
    policy: Policy,
    routers: Vec<Router>,
    /// Whose wire format the simulated engines speak.
    version: vllm::Version,
    scratch: RouteScratch,
    fleet: Vec<Endpoint>,
    ids: Vec<EndpointId>,
    sequences: Vec<u64>,
    decisions_ns: Vec<u64>,
    hit_blocks: u64,
    prompt_blocks: u64,
    overestimated_blocks: u64,
    underestimated_blocks: u64,
    /// The decision that found most in a cache so far: its blocks, and why it was made.
    explained: (u32, String),
}

impl Run {
    fn new(policy: Policy, setup: &Setup, hasher: BlockHasher) -> Result<Self, Error> {
        let mut routers = Vec::new();
        for _ in 0..setup.gateways {
            let builder = Router::builder(hasher.clone());
            let router = match policy {
                Policy::RoundRobin => builder.profile(preset::by_name("round-robin")?),
                Policy::LeastLoaded => builder.profile(preset::by_name("least-request")?),
                // What an operator can know without events: how many blocks the engine has.
                Policy::Approximate => builder.history(setup.cache_blocks, LEASE),
                Policy::Precise => builder,
            }
            .build()?;
            for i in 0..setup.endpoints {
                router.add_endpoint(EndpointSpec::new(format!("endpoint-{i}")))?;
            }
            routers.push(router);
        }
        let ids = (0..setup.endpoints).map(EndpointId).collect();
        let fleet = (0..setup.endpoints).map(|_| Endpoint::new(setup.cache_blocks, BLOCK_SIZE));
        Ok(Self {
            policy,
            routers,
            version: vllm::Version::NEWEST,
            scratch: RouteScratch::new(7),
            fleet: fleet.collect(),
            ids,
            sequences: vec![0; usize::from(setup.endpoints)],
            decisions_ns: Vec::new(),
            hit_blocks: 0,
            prompt_blocks: 0,
            overestimated_blocks: 0,
            underestimated_blocks: 0,
            explained: (0, String::new()),
        })
    }

    /// Routes one request, serves it, and tells the router what happened.
    fn step(&mut self, work: &Work, change: &mut CacheChange) -> Result<(), Error> {
        let loads: Vec<Load> = self.fleet.iter_mut().map(|e| e.load(work.now)).collect();
        let now = Time::from_secs_f64(work.now);
        let input = RouteInput {
            loads: &loads,
            now,
            ..RouteInput::new(Prompt::new(work.prompt()), &self.ids)
        };

        let turn = self.decisions_ns.len() % self.routers.len();
        let router = &self.routers[turn];

        let start = Instant::now();
        let decision = router.route(&input, &mut self.scratch)?;
        self.decisions_ns.push(start.elapsed().as_nanos() as u64);
        router.record(decision.endpoint, &self.scratch, now)?;
        if decision.matched_blocks > self.explained.0 {
            self.explained =
                (decision.matched_blocks, router.explain_with_terms(&input, &self.scratch));
        }

        let chosen = decision.endpoint.index();
        self.fleet[chosen].serve(
            work.now,
            &work.blocks,
            BLOCK_SIZE,
            work.prompt_tokens,
            work.output_tokens,
            change,
        );
        self.hit_blocks += change.hit_blocks as u64;
        self.prompt_blocks += (work.prompt_tokens / BLOCK_SIZE) as u64;
        let (expected, got) = (u64::from(decision.matched_blocks), change.hit_blocks as u64);
        self.overestimated_blocks += expected.saturating_sub(got);
        self.underestimated_blocks += got.saturating_sub(expected);

        if self.policy == Policy::Precise {
            let payload = announce(work, change, self.version);
            let sequence = self.sequences[chosen];
            self.sequences[chosen] += 1;
            for router in &mut self.routers {
                router.ingest(decision.endpoint, sequence, &payload, now)?;
            }
        }
        Ok(())
    }

    fn result(mut self) -> PolicyResult {
        self.decisions_ns.sort_unstable();
        let percentile = |p: f64| {
            let last = self.decisions_ns.len().saturating_sub(1);
            self.decisions_ns.get((last as f64 * p) as usize).copied().unwrap_or(0)
        };
        let prefilled = self.fleet.iter().map(|e| e.prefilled_tokens);
        let mean = prefilled.clone().sum::<u64>() as f64 / self.fleet.len() as f64;
        PolicyResult {
            name: self.policy.name(),
            requests: self.decisions_ns.len(),
            hit_rate: self.hit_blocks as f64 / self.prompt_blocks.max(1) as f64,
            saved_tokens: self.hit_blocks * BLOCK_SIZE as u64,
            load_spread: prefilled.max().unwrap_or(0) as f64 / mean.max(1.0),
            decision_p50_ns: percentile(0.50),
            decision_p99_ns: percentile(0.99),
            overestimated_blocks: self.overestimated_blocks,
            underestimated_blocks: self.underestimated_blocks,
            knows_prefixes: self.policy.knows_prefixes(),
        }
    }
}

/// One request of the trace, made concrete.
#[derive(Default)]
struct Work {
    now: f64,
    /// The prompt and what is generated after it, whose blocks fill the cache too.
    tokens: Vec<TokenId>,
    prompt_tokens: usize,
    output_tokens: u32,
    /// Hashes of all full blocks of `tokens`.
    blocks: Vec<BlockHash>,
}

impl Work {
    fn prompt(&self) -> &[TokenId] {
        &self.tokens[..self.prompt_tokens]
    }

    /// Writes out the tokens that the trace's `hash_ids` stand for: any, as long as equal ids
    /// give equal tokens.
    fn fill(
        &mut self,
        sequence: u64,
        request: &TraceRequest,
        setup: &Setup,
        hasher: &BlockHasher,
    ) -> Result<(), Error> {
        self.now = request.timestamp * setup.time_unit;
        self.output_tokens = request.output_length;
        self.tokens.clear();
        for &id in &request.hash_ids {
            let mut rng = Rng::new(id);
            self.tokens.extend((0..setup.trace_block).map(|_| rng.below(VOCABULARY) as TokenId));
        }
        self.tokens.truncate(request.input_length as usize);
        self.prompt_tokens = self.tokens.len();
        // Seeded apart from every `hash_id`, since nobody asks for it again.
        let mut generated = Rng::new(!sequence);
        self.tokens.extend((0..request.output_length).map(|_| generated.below(VOCABULARY) as u32));
        self.blocks.clear();
        hasher.hash_into(&Prompt::new(&self.tokens), &mut self.blocks)?;
        Ok(())
    }
}

/// The message that an engine publishes after a step: what it evicted, then what it stored.
fn announce(work: &Work, change: &CacheChange, version: vllm::Version) -> Vec<u8> {
    let engine = |blocks: &[BlockHash]| -> Vec<EngineHash> {
        blocks.iter().map(|b| EngineHash(b.0)).collect()
    };
    let evicted = engine(&change.evicted);
    let stored = engine(&work.blocks[change.stored.clone()]);
    let tokens = &work.tokens[change.stored.start * BLOCK_SIZE..change.stored.end * BLOCK_SIZE];
    let parent = change.stored.start.checked_sub(1).map(|last| EngineHash(work.blocks[last].0));
    let removed = Removed {
        hashes: &evicted,
        medium: Some(Medium("GPU")),
        group: Some(Group(0)),
        locality: None,
        ownership: None,
    };
    let stored = Stored {
        medium: Some(Medium("GPU")),
        group: Some(Group(0)),
        ..Stored::new(parent, &stored, tokens, BLOCK_SIZE as u32)
    };
    let mut events = Vec::new();
    if !evicted.is_empty() {
        events.push(Event::Removed(removed).into());
    }
    if !change.stored.is_empty() {
        events.push(Event::Stored(stored).into());
    }
    let mut payload = Vec::new();
    vllm::encode(version, work.now, Some(0), &events, &mut payload);
    payload
}

/// Routes `requests` under every policy; `progress` is called after each request. Returns also the
/// explanation of the last policy's decision that found most in a cache.
pub(crate) fn run(
    requests: &[TraceRequest],
    setup: &Setup,
    mut progress: impl FnMut(),
) -> Result<(Vec<PolicyResult>, String), Error> {
    let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, None)?;
    let hasher = BlockHasher::builder(scheme).block_size(BLOCK_SIZE).build()?;
    let mut runs = Policy::ALL
        .into_iter()
        .map(|policy| Run::new(policy, setup, hasher.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let mut work = Work::default();
    let mut change = CacheChange::default();
    for (sequence, request) in (0..).zip(requests) {
        work.fill(sequence, request, setup, &hasher)?;
        for run in &mut runs {
            run.step(&work, &mut change)?;
        }
        progress();
    }
    let explained = runs.last().map(|run| run.explained.1.clone()).unwrap_or_default();
    Ok((runs.into_iter().map(Run::result).collect(), explained))
}
