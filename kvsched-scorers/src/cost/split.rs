use super::fleet::Fleet;
use super::work::{Donor, Plan, bystanders, work};
use super::{Cost, adapter_secs, pending, room_secs};
use crate::filter::Label;
use crate::profile::{enter, open};
use crate::{DecideInput, Scratch};
use kvsched_core::{Candidate, Context, EndpointId, Rng, RouteError};

/// Prefill and decode, together or apart: one minimisation over both, instead of a threshold.
///
/// An endpoint's role ([`Label::ROLE`]) says what it may do; one without a role may do both.
/// Together costs the [`Terms`](super::Terms) of one endpoint. Apart costs waiting, fetching and
/// computing on the one, decoding on the other, and between them the transfer of what the other
/// does not hold: `t0 + tokens · per token` ([`Rates::peer`](kvsched_core::Rates)). Each side
/// pays for the others that it delays: that is what splitting saves.
///
/// ```
/// use kvsched_core::{EndpointId, Labels, Load, Request, Rng};
/// use kvsched_scorers::cost::{Cost, Split};
/// use kvsched_scorers::{DecideInput, Scratch};
///
/// let role = |role: &str| Labels::from_iter([("llm-d.ai/role", role)]);
/// let busy = Load { running_requests: 60, ..Load::default() };
/// let input = DecideInput {
///     request: Request { prompt_tokens: 12_000, block_size: 16, ..Request::default() },
///     loads: &[Load::default(), busy.clone(), busy],
///     labels: &[role("prefill"), role("prefill-decode"), role("prefill-decode")],
///     ..DecideInput::new(&[EndpointId(0), EndpointId(1), EndpointId(2)])
/// };
/// let split = Split::new(Cost::new());
/// let placed = split.place(&input, &mut Rng::new(1), &mut Scratch::new())?;
/// // A long prompt would stall sixty answers: it is computed elsewhere.
/// assert!(placed.is_split());
/// assert_eq!(placed.prefill, EndpointId(0));
/// # Ok::<(), kvsched_core::RouteError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Split {
    cost: Cost,
}

/// Where a request is prefilled and where it is decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Placement {
    /// Who prefills.
    pub prefill: EndpointId,
    /// Who decodes; the same where both are done together.
    pub decode: EndpointId,
    /// What that costs, in seconds.
    pub secs: f64,
    /// Seconds of it for handing the KV over.
    pub transfer_secs: f64,
    /// What the one who prefills is to do: compute, or fetch and from where.
    pub plan: Plan,
    /// What the best placement of the other kind would have cost, if there was one.
    pub otherwise_secs: Option<f64>,
}

impl Placement {
    /// Whether one endpoint prefills and another decodes.
    #[must_use]
    pub fn is_split(&self) -> bool {
        self.prefill != self.decode
    }
}

/// The two cheapest so far, by different endpoints; equal ones draw lots.
#[derive(Clone, Copy, Debug, Default)]
struct Cheapest {
    best: Option<Offer>,
    second: Option<Offer>,
    ties: usize,
}

#[derive(Clone, Copy, Debug)]
struct Offer {
    secs: f64,
    endpoint: EndpointId,
    transfer_secs: f64,
}

impl Cheapest {
    fn offer(&mut self, new: Offer, rng: &mut Rng) {
        match self.best {
            Some(best) if new.secs > best.secs => {
                if self.second.is_none_or(|second| new.secs < second.secs) {
                    self.second = Some(new);
                }
                return;
            }
            // A reservoir of one: each of k equals stays with probability 1/k.
            Some(best) if new.secs == best.secs => {
                self.ties += 1;
                if rng.below(self.ties) != 0 {
                    self.second = Some(new);
                    return;
                }
            }
            _ => self.ties = 1,
        }
        self.second = self.best;
        self.best = Some(new);
    }
}

/// The cheapest pair of two different endpoints.
fn cheapest_pair(prefill: &Cheapest, decode: &Cheapest) -> Option<(Offer, Offer)> {
    let pairs =
        [(prefill.best, decode.best), (prefill.best, decode.second), (prefill.second, decode.best)];
    let pairs = pairs.into_iter().filter_map(|(p, d)| p.zip(d));
    let different = pairs.filter(|(p, d)| p.endpoint != d.endpoint);
    different.min_by(|(p, d), (q, e)| (p.secs + d.secs).total_cmp(&(q.secs + e.secs)))
}

impl Split {
    /// With the terms of `cost`.
    #[must_use]
    pub const fn new(cost: Cost) -> Self {
        Self { cost }
    }

    /// The cheapest placement. O(endpoints), for the transfer depends only on who decodes.
    ///
    /// # Errors
    ///
    /// No candidates, load rows that are not one a candidate, or nobody who may decode while
    /// nobody may do both.
    pub fn place(
        &self,
        input: &DecideInput<'_>,
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> Result<Placement, RouteError> {
        let (n, loads) = (input.candidates.len(), input.loads.len());
        if n == 0 {
            return Err(RouteError::NoCandidates);
        }
        if n != loads {
            return Err(RouteError::LoadRows { candidates: n, loads });
        }
        // Its buffers are no longer those of the decision before.
        let Scratch { candidates, slow, outcome, .. } = scratch;
        *outcome = None;
        let mut cx = open(input, rng.next_u64(), slow);
        enter(input, cx.slow_runs, candidates);
        cx.candidates = candidates;

        let fleet = self.cost.fleet(&cx);
        let [mut together, mut prefill, mut decode] = [Cheapest::default(); 3];
        for candidate in cx.candidates {
            let (prefills, decodes) = stages(&cx, candidate.endpoint);
            let offer =
                |secs, transfer_secs| Offer { secs, endpoint: candidate.endpoint, transfer_secs };
            if prefills && decodes {
                together.offer(offer(self.cost.terms_in(&fleet, &cx, candidate).total(), 0.0), rng);
            }
            if prefills {
                prefill.offer(offer(self.prefill_secs(&fleet, &cx, candidate), 0.0), rng);
            }
            if decodes {
                let (secs, transfer) = self.decode_secs(&fleet, &cx, candidate);
                decode.offer(offer(secs + transfer, transfer), rng);
            }
        }
        let placement = |p: Offer, decode: EndpointId, secs, transfer_secs| {
            let who = cx.candidates.iter().find(|c| c.endpoint == p.endpoint)?;
            Some(Placement {
                prefill: p.endpoint,
                decode,
                secs,
                transfer_secs,
                plan: Plan::of(&cx, who, self.cost.rates(&cx, who), fleet.donor),
                otherwise_secs: None,
            })
        };
        let together = together.best.and_then(|t| placement(t, t.endpoint, t.secs, 0.0));
        let apart = cheapest_pair(&prefill, &decode);
        let apart =
            apart.and_then(|(p, d)| placement(p, d.endpoint, p.secs + d.secs, d.transfer_secs));
        match (together, apart) {
            (Some(t), Some(a)) if a.secs < t.secs => {
                Ok(Placement { otherwise_secs: Some(t.secs), ..a })
            }
            (Some(t), a) => Ok(Placement { otherwise_secs: a.map(|a| a.secs), ..t }),
            (None, Some(a)) => Ok(a),
            (None, None) => {
                let missing = if decode.best.is_none() { Label::DECODE } else { Label::PREFILL };
                Err(RouteError::AllFiltered { filter: missing.to_owned(), candidates: n })
            }
        }
    }

    /// Waiting, fetching, computing, and what that does to others.
    fn prefill_secs(&self, fleet: &Fleet, cx: &Context<'_>, candidate: &Candidate) -> f64 {
        let rates = self.cost.rates(cx, candidate);
        let load = cx.load(candidate);
        let work = work(cx, candidate, rates, fleet.donor, |_, _, _| {});
        let idle = fleet.copy(cx, candidate, rates, 0.0).idle;
        let eviction = Cost::eviction(fleet, load);
        let answer = self.cost.expected_output(cx) * work.step_secs;
        work.ttft_secs()
            + adapter_secs(cx, &load.lora, rates, answer)
            + (pending(load) + self.cost.stalled(load, rates)) * work.compute_secs
            + Cost::evict_secs(eviction, fleet, (candidate, rates), &work, (0.0, idle))
            + Cost::home_secs(fleet, load)
    }

    /// Decoding and what that does to others; then the transfer before it.
    fn decode_secs(&self, fleet: &Fleet, cx: &Context<'_>, candidate: &Candidate) -> (f64, f64) {
        let rates = self.cost.rates(cx, candidate);
        let load = cx.load(candidate);
        let output = self.cost.expected_output(cx);
        let counted = self.cost.decode_weight * output;
        let batch = bystanders(load);
        let missing = f64::from(cx.uncached_tokens(candidate));
        let work = work(cx, candidate, rates, Donor::default(), |_, _, _| {});
        let secs = counted * (work.step_secs + batch * work.slower_secs)
            + adapter_secs(cx, &load.lora, rates, output * work.step_secs)
            + Cost::eviction(fleet, load) * rates.compute_secs(missing + output, 0.0)
            + room_secs(load, missing, output, work.step_secs);
        (secs, rates.peer.secs(missing))
    }
}

/// Whether `endpoint` may prefill, and whether it may decode.
fn stages(cx: &Context<'_>, endpoint: EndpointId) -> (bool, bool) {
    match cx.label(endpoint, Label::ROLE) {
        None | Some("prefill-decode" | "both" | "encode-prefill-decode") => (true, true),
        Some("prefill" | "encode-prefill") => (true, false),
        Some("decode") => (false, true),
        Some(_) => (false, false),
    }
}
