use kvsched_core::{Candidate, Context, EndpointId, Load, Rates, Tier};

/// What serving a request on one endpoint takes: what is computed, what is brought from where,
/// and how long that lasts.
///
/// Every tier's blocks, and with [`Cost::peers`](super::Cost::peers) those that only another
/// endpoint has on its device, are fetched where `t0 + tokens · per_token` is less than computing
/// them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Work {
    /// Prompt tokens to compute.
    pub computed_tokens: f64,
    /// Prompt tokens to bring to the device, from slower tiers and from a peer.
    pub fetched_tokens: f64,
    /// The endpoint that some of them come from; [`Plan::sources`] lists all.
    pub fetch_from: Option<EndpointId>,
    /// Seconds until the prefill queued before it is done.
    pub queue_secs: f64,
    /// Seconds until all that is fetched is there: sources deliver side by side.
    pub fetch_secs: f64,
    /// Seconds of prefill, of which [`Work::compute_secs`] are computing.
    pub prefill_secs: f64,
    /// Seconds that the device computes.
    pub compute_secs: f64,
    /// Seconds of a decode step with the request in the batch, or of the slowest rank that steps
    /// with it.
    pub step_secs: f64,
    /// By how many seconds that is longer than without the request.
    pub slower_secs: f64,
}

/// Where KV is brought from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A slower tier of the endpoint, or one that it shares.
    Tier(Tier),
    /// Another endpoint's device.
    Peer(EndpointId),
}

/// [`Work`] with where everything comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// What is computed and fetched, and how long that lasts.
    pub work: Work,
    tier_tokens: [f64; Tier::COUNT],
    slowest: Option<(Source, f64)>,
}

impl Plan {
    pub(super) fn of(cx: &Context<'_>, candidate: &Candidate, rates: &Rates, donor: Donor) -> Self {
        let (mut tier_tokens, mut slowest) = ([0.0; Tier::COUNT], None);
        let work = work(cx, candidate, rates, donor, |source, tokens, secs| {
            if let Source::Tier(tier) = source {
                tier_tokens[tier.index()] += tokens;
            }
            if slowest.is_none_or(|(_, most)| secs > most) {
                slowest = Some((source, secs));
            }
        });
        Self { work, tier_tokens, slowest }
    }

    /// Where to bring KV from, with how many tokens: tiers from fastest to slowest, then a peer.
    /// What a slower tier holds and is not listed is to be computed again.
    pub fn sources(&self) -> impl Iterator<Item = (Source, f64)> {
        let tiers = (0..).filter_map(Tier::new).take(Tier::COUNT);
        let tiers = tiers.map(|tier| (Source::Tier(tier), self.tier_tokens[tier.index()]));
        let Work { fetch_from, fetched_tokens, .. } = self.work;
        let from_peer = fetched_tokens - self.tier_tokens.iter().sum::<f64>();
        let peer = fetch_from.map(|e| (Source::Peer(e), from_peer));
        tiers.chain(peer).filter(|&(_, tokens)| tokens > 0.0)
    }

    /// What takes longest to come.
    #[must_use]
    pub fn slowest(&self) -> Option<Source> {
        self.slowest.map(|(source, _)| source)
    }
}

impl Work {
    /// Seconds to the first token.
    #[must_use]
    pub fn ttft_secs(&self) -> f64 {
        self.queue_secs + self.fetch_secs + self.prefill_secs
    }
}

/// The longest match of any endpoint, which a peer could hand over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Donor {
    endpoint: Option<EndpointId>,
    blocks: u32,
}

impl Donor {
    /// The endpoint with the longest match on its device; the first of equals. O(endpoints).
    pub(super) fn of(cx: &Context<'_>) -> Self {
        let mut best = Self::default();
        for (i, &blocks) in cx.matches.as_slice().iter().enumerate() {
            if blocks > best.blocks {
                best = Self { endpoint: Some(EndpointId(i as u16)), blocks };
            }
        }
        best
    }
}

/// Requests that decode beside it. Those that wait come first; what metrics show as running may be
/// older than what was sent since.
fn batch(load: &Load) -> f64 {
    f64::from(load.requests())
}

/// Requests that are delayed by what the endpoint does: its own, and those of ranks in lock-step.
pub(super) fn bystanders(load: &Load) -> f64 {
    batch(load) + f64::from(load.lock_step_requests)
}

/// KV in use on the endpoint, in tokens.
pub(super) fn kv_in_use(load: &Load) -> f64 {
    load.kv_share() * load.kv_capacity_tokens as f64
}

/// Tells `fetched_from` of every source with tokens and seconds: decisions have no use for them.
#[inline(always)]
pub(super) fn work(
    cx: &Context<'_>,
    candidate: &Candidate,
    rates: &Rates,
    donor: Donor,
    mut fetched_from: impl FnMut(Source, f64, f64),
) -> Work {
    let load = cx.load(candidate);
    let block = f64::from(cx.request.block_size);
    let prompt = f64::from(cx.request.prompt_tokens);
    let mut computed = f64::from(cx.uncached_tokens(candidate));
    let (mut fetched, mut fetch_secs, mut fetch_from) = (0.0, 0.0_f64, None);
    for run in cx.slow_runs(candidate) {
        let tokens = (f64::from(run.blocks) * block).min(prompt - computed);
        let fetch = rates.tiers[run.tier.index()].secs(tokens);
        if fetch < rates.compute_secs(tokens, prompt - computed - tokens) {
            fetched += tokens;
            fetch_secs = fetch_secs.max(fetch);
            fetched_from(Source::Tier(run.tier), tokens, fetch);
        } else {
            computed += tokens;
        }
    }
    if donor.blocks > candidate.matched_blocks {
        let tokens = f64::from(donor.blocks - candidate.matched_blocks) * block;
        let tokens = tokens.min(computed);
        let fetch = rates.peer.secs(tokens);
        if fetch < rates.compute_secs(tokens, prompt - computed) {
            computed -= tokens;
            fetched += tokens;
            fetch_secs = fetch_secs.max(fetch);
            fetch_from = donor.endpoint;
            if let Some(peer) = fetch_from {
                fetched_from(Source::Peer(peer), tokens, fetch);
            }
        }
    }
    let compute_secs = rates.compute_secs(computed, prompt - computed);
    let sequences = batch(load);
    let others = if load.lock_step_secs.is_finite() { load.lock_step_secs } else { 0.0 };
    let before = rates.step_secs(sequences, kv_in_use(load)).max(others);
    let step_secs = rates.step_secs(sequences + 1.0, kv_in_use(load) + prompt).max(others);
    Work {
        computed_tokens: computed,
        fetched_tokens: fetched,
        fetch_from,
        queue_secs: load.queued_prefill_tokens as f64 * rates.prefill_per_token,
        fetch_secs,
        prefill_secs: rates.prefill + compute_secs,
        compute_secs,
        step_secs,
        slower_secs: step_secs - before,
    }
}
