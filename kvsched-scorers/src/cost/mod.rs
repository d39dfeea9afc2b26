//! Thinking in seconds: what a placement costs, everybody's delay added up.
//!
//! Tiers, queues, adapters, eviction and the harm done to others are all seconds, so that they
//! add instead of being weighed. The constants are the endpoint's [`Rates`]: derived from
//! its hardware ([`Hardware`]) and fitted to what it did ([`Fit`]), so that a mixed fleet works.
//!
//! Over the cluster simulator's fourteen workloads together no preset has a shorter time to the
//! first token; `docs/sim/shootout.md` has the figures, and those where another is better.

mod evict;
mod fit;
mod fleet;
mod hardware;
mod lock_step;
mod split;
mod work;

pub use fit::{Fit, FitError, FitState, Outcome, OutcomeError};
pub use hardware::{Hardware, KvShape, TierLink};
pub use lock_step::lock_step;
pub use split::{Placement, Split};
pub use work::{Plan, Source, Work};

use crate::ParameterError;
use crate::parameter::{quantity, share};
use crate::profile::reopen;
use crate::scale::ratio;
use crate::{DecideInput, Scratch};
use fleet::Fleet;
use kvsched_core::{Candidate, Context, Load, LoraLoad, Needs, Rates, Scorer, Tier};
use work::{Donor, bystanders, kv_in_use, work};

/// `cost-scorer`: the seconds of delay that serving the request on an endpoint causes, scored
/// `1 / (1 + seconds)`.
///
/// With `u` tokens computed after `h` reused ones, `Q` queued prefill tokens of `P` requests, `B`
/// requests in all, `o` expected output tokens, and `w` the [decode weight](Cost::decode_weight),
/// the [`Terms`] are:
///
/// | term | seconds |
/// |---|---|
/// | queue | `c1 · Q` |
/// | fetch | the slowest of `t0 + tokens · per token` over tiers and a peer |
/// | prefill | `c0 + compute`, `compute = c1 · u + c2 · u · (h + u/2)` |
/// | decode | `w · o · step(B + 1)` |
/// | others | `(P + w · κ · (B − P)) · compute + w · B · o · ∂step` |
/// | evict | `p/(1 − p) · 100 s / T · (compute of all KV added + p/(1 − p) · idle · compute of what is copied)` |
/// | home | `p/(1 − p)² · min(1, 180 s / T) · mean compute of the prompt`, if nobody holds any of it |
/// | room | `short / capacity · o · step`, `short` what memory lacks for its prompt and those waiting |
/// | adapter | 0 active, ½ load while loading, 1 load with room, else one load and one answer |
/// | replica | the value of one more holder of a hot prefix, taken off |
///
/// `B` is [`Load::requests`], for those that wait now decode beside it later, and counts the requests
/// of ranks in [lock-step](lock_step), too. `κ` is [`Rates::interference`].
///
/// Eviction: `p` is [`Cost::reuse`], the chance that KV unused for 100 s is asked for again. What is
/// missed is computed again, which evicts as much, and so on: `p/(1 − p)` times. The longer KV was not
/// asked for, the less likely it will be, as `τ/(τ + T)`, whose odds are `τ/T`. `T` is three minutes
/// times the memory's size over [`Load::recent_prefill_tokens`]: a memory that turns over slowly
/// has old KV to give away, and costs little to take up. Where no endpoint's recent prefill is known,
/// `T` is 100 s everywhere and no home is priced.
///
/// Copies: what is computed here although another endpoint holds it displaces once more for each
/// time it is asked for again, as it then lies twice. `idle` is the share of its time that
/// the [demand](kvsched_core::Request::prefix_demand) for it, shared by its holders and this one,
/// leaves such a copy without work.
///
/// Home: who is first sent a prompt that is new to the whole fleet will be sent all that follow it,
/// `p/(1 − p)` of them. Each finds it evicted with a chance of `180 s / T`; it is then new to the whole
/// fleet again, computed wherever its next home will be (the mean over all candidates), and evicts
/// as much, and so on: `1/(1 − p)` times.
#[derive(Clone, Debug)]
pub struct Cost {
    default_rates: Rates,
    output_tokens: f64,
    reuse: f64,
    decode_weight: f64,
    layer_wise: bool,
    peers: bool,
}

/// The parts of a cost, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Terms {
    /// Waiting behind queued prefill.
    pub queue: f64,
    /// Bringing KV to the device.
    pub fetch: f64,
    /// Prefill of what is neither there nor fetched.
    pub prefill: f64,
    /// Decoding the answer.
    pub decode: f64,
    /// What others are delayed by.
    pub others: f64,
    /// What computing evicted KV again will take.
    pub evict: f64,
    /// What requests that follow a prompt new to the fleet will compute again here.
    pub home: f64,
    /// Waiting until answers have ended that take up the KV memory its prompt needs.
    pub room: f64,
    /// Loading the adapter.
    pub adapter: f64,
    /// The value of one more replica of the prefix, to be taken off.
    pub replica: f64,
}

impl Terms {
    /// All together; at least 0.
    #[must_use]
    pub fn total(&self) -> f64 {
        let displaced = self.evict + self.home + self.room;
        let sum = self.before_decode() + self.decode + self.others + displaced;
        (sum - self.replica).max(0.0)
    }

    fn before_decode(&self) -> f64 {
        self.queue + self.fetch + self.prefill + self.adapter
    }
}

impl Cost {
    /// The name in configurations.
    pub const NAME: &'static str = "cost-scorer";

    /// With the [`Rates`]' defaults for endpoints without any, 256 output tokens where the request
    /// does not say, a chance of three in four that evicted KV is asked for again, and a decode weight
    /// of 0.1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            default_rates: Rates::default(),
            output_tokens: 256.0,
            reuse: 0.75,
            decode_weight: 0.1,
            layer_wise: false,
            peers: false,
        }
    }

    /// Sets the rates of endpoints that have none of their own.
    #[must_use]
    pub fn default_rates(mut self, rates: Rates) -> Self {
        self.default_rates = rates;
        self
    }

    /// Sets how many output tokens to expect where the request does not say.
    ///
    /// # Errors
    ///
    /// A number that is negative or not finite.
    pub fn output_tokens(mut self, tokens: f64) -> Result<Self, ParameterError> {
        self.output_tokens = quantity(Self::NAME, "outputTokens", tokens)?;
        Ok(self)
    }

    /// Sets the chance that KV which nobody used for 100 seconds is asked for again. Odds beyond those
    /// of 0.99 count as these. 0 makes eviction free.
    ///
    /// Too small a chance copies prefixes to wherever the queue is shorter for a moment, and the copy
    /// stays; with too large a one a burst for a new prefix waits for a single endpoint.
    ///
    /// # Errors
    ///
    /// A chance outside \[0, 1\].
    pub fn reuse(mut self, chance: f64) -> Result<Self, ParameterError> {
        self.reuse = share(Self::NAME, "reuse", chance)?;
        Ok(self)
    }

    /// Sets what a second of decoding, one's own or another's, counts against one before the first
    /// token.
    ///
    /// Long answers make decoding the largest term by far. At a weight of 1 batches are kept even at
    /// the price of the caches, and requests queue behind a long prefill where nobody decodes
    /// although another endpoint is free.
    ///
    /// # Errors
    ///
    /// A weight that is negative or not finite.
    pub fn decode_weight(mut self, weight: f64) -> Result<Self, ParameterError> {
        self.decode_weight = quantity(Self::NAME, "decodeWeight", weight)?;
        Ok(self)
    }

    /// Counts fetching only as far as it outlasts computing: engines that load layer by layer do
    /// both at once.
    #[must_use]
    pub const fn layer_wise(mut self) -> Self {
        self.layer_wise = true;
        self
    }

    /// Lets an endpoint fetch from the one with the longest match, where that is faster than
    /// computing.
    #[must_use]
    pub const fn peers(mut self) -> Self {
        self.peers = true;
        self
    }

    /// What serving the request on `candidate` takes. O(endpoints) with
    /// [`Cost::peers`], else O(tiers).
    #[must_use]
    pub fn work(&self, cx: &Context<'_>, candidate: &Candidate) -> Work {
        work(cx, candidate, self.rates(cx, candidate), self.donor(cx), |_, _, _| {})
    }

    /// What the endpoint of the decision last made with `scratch` is to do: compute, or fetch and
    /// from where. `None` if none was made, or not from `input`. Whatever profile made it.
    ///
    /// ```
    /// use kvsched_core::{EndpointId, Load, PrefixMatches, Request, Rng, Tier};
    /// use kvsched_scorers::cost::{Cost, Source};
    /// use kvsched_scorers::{DecideInput, Scratch, preset};
    ///
    /// // All of the prompt's 400 blocks lie on the host, but for the last of its tokens.
    /// let mut matches = PrefixMatches::new();
    /// matches.reset(1, 400);
    /// matches.set(EndpointId(0), 400);
    /// matches.push_slow(EndpointId(0), Tier::HOST, 400);
    /// let input = DecideInput {
    ///     request: Request { prompt_tokens: 6_401, block_size: 16, ..Request::default() },
    ///     loads: &[Load::default()],
    ///     matches: &matches,
    ///     ..DecideInput::new(&[EndpointId(0)])
    /// };
    /// let mut scratch = Scratch::new();
    /// preset::by_name("cost")?.decide(input, &mut Rng::new(1), &mut scratch)?;
    /// let plan = Cost::new().plan(&input, &scratch).ok_or("no decision")?;
    /// let from_host = (Source::Tier(Tier::HOST), 6_400.0);
    /// assert_eq!(plan.sources().collect::<Vec<_>>(), [from_host]);
    /// assert_eq!(plan.work.computed_tokens, 1.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn plan(&self, input: &DecideInput<'_>, scratch: &Scratch) -> Option<Plan> {
        let chosen = scratch.candidates.get(scratch.outcome?.picked)?;
        let cx = reopen(input, scratch);
        let known = (chosen.row as usize) < cx.loads.len()
            && chosen.slow.1 as usize <= cx.slow_runs.len()
            && input.candidates.get(chosen.row as usize) == Some(&chosen.endpoint);
        known.then(|| self.plan_for(&cx, chosen))
    }

    fn plan_for(&self, cx: &Context<'_>, candidate: &Candidate) -> Plan {
        Plan::of(cx, candidate, self.rates(cx, candidate), self.donor(cx))
    }

    /// The parts of what it costs to serve the request on `candidate`.
    #[must_use]
    pub fn terms(&self, cx: &Context<'_>, candidate: &Candidate) -> Terms {
        self.terms_in(&self.fleet(cx), cx, candidate)
    }

    fn donor(&self, cx: &Context<'_>) -> Donor {
        if self.peers { Donor::of(cx) } else { Donor::default() }
    }

    fn rates<'a>(&'a self, cx: &Context<'a>, candidate: &Candidate) -> &'a Rates {
        cx.rates.get(candidate.endpoint.index()).unwrap_or(&self.default_rates)
    }

    fn expected_output(&self, cx: &Context<'_>) -> f64 {
        match cx.request.expected_output_tokens {
            0 => self.output_tokens,
            tokens => f64::from(tokens),
        }
    }

    fn fleet(&self, cx: &Context<'_>) -> Fleet {
        Fleet::of(cx, self)
    }

    /// Inlined, or the terms go through memory in pieces that a processor cannot put together at once: a
    /// third of a decision.
    #[inline(always)]
    fn terms_in(&self, fleet: &Fleet, cx: &Context<'_>, candidate: &Candidate) -> Terms {
        let rates = self.rates(cx, candidate);
        let load = cx.load(candidate);
        let work = work(cx, candidate, rates, fleet.donor, |_, _, _| {});
        let eviction = Self::eviction(fleet, load);
        let output = self.expected_output(cx);
        let batch = bystanders(load);
        let stalled = self.stalled(load, rates);
        let copy = fleet.copy(cx, candidate, rates, output);
        let fetch = if self.layer_wise {
            (work.fetch_secs - work.compute_secs).max(0.0)
        } else {
            work.fetch_secs
        };
        let decode = output * work.step_secs;
        let counted = self.decode_weight * output;
        Terms {
            queue: work.queue_secs,
            fetch,
            prefill: work.prefill_secs,
            decode: counted * work.step_secs,
            others: (pending(load) + stalled) * work.compute_secs
                + batch * counted * work.slower_secs,
            evict: Self::evict_secs(
                eviction,
                fleet,
                (candidate, rates),
                &work,
                (output, copy.idle),
            ),
            home: Self::home_secs(fleet, load),
            room: room_secs(
                load,
                work.computed_tokens + work.fetched_tokens,
                output,
                work.step_secs,
            ),
            adapter: adapter_secs(cx, &load.lora, rates, decode),
            replica: copy.saves_secs * (1.0 + stalled + eviction),
        }
    }

    /// What a second of computing costs those who decode.
    fn stalled(&self, load: &Load, rates: &Rates) -> f64 {
        let decoding = (bystanders(load) - pending(load)).max(0.0);
        self.decode_weight * rates.interference * decoding
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::new()
    }
}

/// Requests before their first token: they are in the same steps, or behind.
fn pending(load: &Load) -> f64 {
    f64::from(load.pending_requests)
}

/// Until there is room for `added` tokens beside what is in use, and for as much for each that
/// waits already. Memory turns over once an answer. What answers grow by meanwhile does not count:
/// as much comes free as others end, and who is too many then has had his first token.
fn room_secs(load: &Load, added: f64, output: f64, step_secs: f64) -> f64 {
    let capacity = load.kv_capacity_tokens as f64;
    let wanted = added * (1.0 + f64::from(load.waiting_requests));
    let short = (kv_in_use(load) + wanted - capacity).max(0.0);
    ratio(short, capacity) * output * step_secs
}

fn adapter_secs(cx: &Context<'_>, lora: &LoraLoad, rates: &Rates, answer: f64) -> f64 {
    let Some(id) = cx.request.lora else { return 0.0 };
    if lora.active.contains(&id) {
        0.0
    } else if lora.waiting.contains(&id) {
        // It started some time ago: half of it is left on average.
        0.5 * rates.lora_load
    } else if lora.active.len() + lora.waiting.len() < lora.slots as usize {
        rates.lora_load
    } else {
        // A slot falls free when an answer ends.
        rates.lora_load + answer
    }
}

impl Scorer for Cost {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let fleet = self.fleet(cx);
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            *score = 1.0 / (1.0 + self.terms_in(&fleet, cx, candidate).total());
        }
    }

    fn terms(&self, cx: &Context<'_>, position: usize, term: &mut dyn FnMut(&'static str, f64)) {
        let Some(candidate) = cx.candidates.get(position) else { return };
        let t = Self::terms(self, cx, candidate);
        let fetch = match self.plan_for(cx, candidate).slowest() {
            Some(Source::Tier(Tier::HOST)) => "fetch from host",
            Some(Source::Tier(Tier::DISK)) => "fetch from disk",
            Some(Source::Tier(Tier::SHARED)) => "fetch from shared store",
            Some(Source::Peer(_)) => "fetch from peer",
            Some(Source::Tier(_)) | None => "fetch",
        };
        for (name, secs) in [
            ("queue", t.queue),
            (fetch, t.fetch),
            ("prefill", t.prefill),
            ("decode", t.decode),
            ("others", t.others),
            ("evict", t.evict),
            ("home", t.home),
            ("room", t.room),
            ("adapter", t.adapter),
            ("replica", -t.replica),
        ] {
            if secs != 0.0 {
                term(name, secs);
            }
        }
    }
}
