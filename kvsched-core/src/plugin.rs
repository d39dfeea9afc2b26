use crate::{
    EndpointId, Knowledge, Labels, Load, LoraId, PrefixMatches, Rates, Rng, TierRun, Time, Trust,
};
use std::fmt::Debug;
use std::time::Duration;

/// What is known of a request when it is routed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request<'a> {
    /// Length of the prompt in tokens.
    pub prompt_tokens: u32,
    /// Tokens a block of the matches; 0 where no prefix was looked up.
    pub block_size: u32,
    /// The adapter it asks for.
    pub lora: Option<LoraId>,
    /// The conversation it belongs to, if the gateway knows one.
    pub session: Option<&'a str>,
    /// Output tokens expected; 0 where unknown.
    pub expected_output_tokens: u32,
    /// The endpoint its session is pinned to, as its session token says.
    pub pinned: Option<EndpointId>,
    /// The endpoint already chosen for another stage of it: topology is measured from there.
    pub near: Option<EndpointId>,
    /// Requests a second expected for the prefix it shares; 0 where unknown.
    pub prefix_demand: f64,
    /// Time to the first token it must keep.
    pub ttft_slo: Option<Duration>,
    /// Time per output token it must keep.
    pub tpot_slo: Option<Duration>,
}

/// One endpoint that may still be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub endpoint: EndpointId,
    /// Its row in the caller's load table.
    pub row: u32,
    /// Leading prompt blocks it holds in any tier.
    pub matched_blocks: u32,
    /// Prompt tokens behind the match that it need not compute either: those of chunks it
    /// holds for any position.
    pub saved_tokens: u32,
    /// Its rows in [`Context::slow_runs`]: the first, and one past the last.
    pub slow: (u32, u32),
}

/// Everything a plugin may look at: the request, the candidates left, what they hold and what
/// they are doing.
///
/// Scores are written by position in [`Context::candidates`].
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The request.
    pub request: Request<'a>,
    /// The endpoints still in the running, in the order the caller offered them.
    pub candidates: &'a [Candidate],
    /// The caller's load table, indexed by [`Candidate::row`].
    pub loads: &'a [Load],
    /// What the index knows of the prompt.
    pub matches: &'a PrefixMatches,
    /// The parts of the matches that lie in slower tiers than the device, by endpoint.
    pub slow_runs: &'a [TierRun],
    /// What the endpoints are labelled, by endpoint id; may be shorter than there are ids.
    pub labels: &'a [Labels],
    /// How fast the endpoints are, by endpoint id; may be shorter than there are ids.
    pub rates: &'a [Rates],
    /// How far what the index knows of the endpoints can be believed, by endpoint id; exact where
    /// it is shorter than there are ids.
    pub knowledge: &'a [Knowledge],
    /// Now, on the caller's clock.
    pub now: Time,
    /// A random number of this decision, for plugins that explore: seed an [`Rng`] with it.
    pub seed: u64,
}

impl<'a> Context<'a> {
    /// The load row of `candidate`.
    ///
    /// # Panics
    ///
    /// If `candidate` does not come from this context.
    #[inline]
    #[must_use]
    pub fn load(&self, candidate: &Candidate) -> &'a Load {
        &self.loads[candidate.row as usize]
    }

    /// The parts of `candidate`'s match that lie in slower tiers than the device.
    ///
    /// # Panics
    ///
    /// If `candidate` does not come from this context.
    #[inline]
    #[must_use]
    pub fn slow_runs(&self, candidate: &Candidate) -> &'a [TierRun] {
        &self.slow_runs[candidate.slow.0 as usize..candidate.slow.1 as usize]
    }

    /// The value of `endpoint`'s label `key`.
    #[inline]
    #[must_use]
    pub fn label(&self, endpoint: EndpointId, key: &str) -> Option<&'a str> {
        self.labels.get(endpoint.index())?.get(key)
    }

    /// How far what is known of `endpoint`'s cache can be believed.
    #[inline]
    #[must_use]
    pub fn trust(&self, endpoint: EndpointId) -> Trust {
        self.knowledge.get(endpoint.index()).map_or(Trust::Exact, |known| known.trust)
    }

    /// Prompt tokens that `candidate` would have to compute, if its match holds as far as it can
    /// be [believed](Trust::belief).
    #[inline]
    #[must_use]
    pub fn uncached_tokens(&self, candidate: &Candidate) -> u32 {
        let mut cached = candidate.matched_blocks.saturating_mul(self.request.block_size);
        let trust = self.trust(candidate.endpoint);
        if trust != Trust::Exact {
            cached = (f64::from(cached) * trust.belief()) as u32;
        }
        let cached = cached.saturating_add(candidate.saved_tokens);
        self.request.prompt_tokens.saturating_sub(cached)
    }
}

/// What a plugin reads, so that what nobody reads need not be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Prefix matches: without them the prompt is not even hashed.
    pub matches: bool,
    /// Load rows.
    pub loads: bool,
}

impl Needs {
    /// Nothing but the candidates themselves.
    pub const NONE: Self = Self { matches: false, loads: false };
    /// Prefix matches only.
    pub const MATCHES: Self = Self { matches: true, loads: false };
    /// Load rows only.
    pub const LOADS: Self = Self { matches: false, loads: true };
    /// Both.
    pub const ALL: Self = Self { matches: true, loads: true };

    /// What both together read.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { matches: self.matches || other.matches, loads: self.loads || other.loads }
    }
}

/// Drops candidates that must not get the request.
pub trait Filter: Debug + Send + Sync {
    /// The name it goes by in configurations and receipts.
    fn name(&self) -> &str;

    /// What it reads.
    fn needs(&self) -> Needs;

    /// Clears `keep[i]` for every candidate `i` that must go.
    ///
    /// `keep` has one entry a candidate, all true. A filter that would drop everybody makes
    /// the request fail; one that merely prefers should keep all when nobody is preferred.
    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]);
}

/// Rates all candidates at once.
///
/// ```
/// use kvsched_core::{Context, Needs, Scorer};
///
/// /// Prefers endpoints with short queues.
/// #[derive(Debug)]
/// struct ShortQueue;
///
/// impl Scorer for ShortQueue {
///     fn name(&self) -> &str { "short-queue" }
///     fn needs(&self) -> Needs { Needs::LOADS }
///     fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
///         for (candidate, score) in cx.candidates.iter().zip(scores) {
///             *score = 1.0 / (1.0 + f64::from(cx.load(candidate).waiting_requests));
///         }
///     }
/// }
/// let _boxed: Box<dyn Scorer> = Box::new(ShortQueue);
/// ```
pub trait Scorer: Debug + Send + Sync {
    /// The name it goes by in configurations and receipts.
    fn name(&self) -> &str;

    /// What it reads.
    fn needs(&self) -> Needs;

    /// Writes a score in \[0, 1\] for every candidate, higher is better.
    ///
    /// `scores` has one entry a candidate, pre-filled with NaN. A score that is left NaN, not
    /// finite, or out of range is a fault of the scorer: the profile reports it and counts
    /// it as neutral (0.5).
    fn score(&self, cx: &Context<'_>, scores: &mut [f64]);

    /// Hands `term` the parts that made up the score of the candidate at `position`, each with
    /// a name and a value in seconds, for receipts. Default: there are none.
    fn terms(&self, _cx: &Context<'_>, _position: usize, _term: &mut dyn FnMut(&'static str, f64)) {
    }
}

/// Chooses one candidate by the scores.
pub trait Picker: Debug + Send + Sync {
    /// The name it goes by in configurations and receipts.
    fn name(&self) -> &str;

    /// What it reads besides the scores. Default: nothing.
    fn needs(&self) -> Needs {
        Needs::NONE
    }

    /// The position of the candidate to take. `scores` is not empty, finite, and has one entry
    /// a candidate.
    ///
    /// All randomness must come from `rng`. A position out of range is a fault of the
    /// picker; the profile then takes the highest score.
    fn pick(&self, cx: &Context<'_>, scores: &[f64], rng: &mut Rng) -> usize;
}
