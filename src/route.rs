//! From a prompt to an endpoint.

use crate::router::Picture;
use crate::{RouteInput, RouteScratch, Router, RouterError};
use kvsched_core::{BlockHash, Decision, EndpointId, Load, Prompt, Request, Rng, Time};
use kvsched_hash::{BlockHasher, HashError};
use kvsched_index::SharedIndex;
use kvsched_scorers::{DecideInput, InFlight, Receipt, Scratch, Ticket};

/// What a profile decides from: borrows only those fields of the scratch that it needs, so that the
/// others can be written meanwhile.
macro_rules! decide_input {
    ($input:expr, $scratch:expr, $labels:expr) => {
        DecideInput {
            request: Request {
                prompt_tokens: $scratch.prompt_tokens,
                block_size: $scratch.block_size,
                prefix_demand: $scratch.prefix_demand,
                ..$input.request
            },
            loads: if $scratch.updated { &$scratch.loads } else { $input.loads },
            matches: &$scratch.matches,
            saved_tokens: &$scratch.wanted.saved,
            labels: $labels,
            rates: $input.rates,
            knowledge: &$scratch.knowledge,
            now: $input.now,
            ..DecideInput::new($input.candidates)
        }
    };
}

impl Router {
    /// How many of the prompt's tokens `endpoint` would serve from its cache, as far as its events
    /// (or without events, our decisions) tell. O(prompt).
    ///
    /// # Errors
    ///
    /// If the prompt cannot be hashed.
    pub fn cached_tokens(
        &self,
        endpoint: EndpointId,
        prompt: &Prompt<'_>,
        scratch: &mut RouteScratch,
    ) -> Result<u32, HashError> {
        self.look_up(prompt, None, &[endpoint], scratch)?;
        scratch.prompt_tokens = u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX);
        scratch.expected_output_tokens = 0;
        scratch.block_size = self.block_size();
        scratch.wanted.saved.clear();
        Ok(scratch.matches.blocks(endpoint) * self.block_size())
    }

    /// Chooses an endpoint. Changes nothing: tell [`Router::record`] if the request is sent.
    ///
    /// # Errors
    ///
    /// If the prompt cannot be hashed, a candidate is unknown, or nobody can be chosen.
    pub fn route(
        &self,
        input: &RouteInput<'_>,
        scratch: &mut RouteScratch,
    ) -> Result<Decision, RouterError> {
        let by_profile = |input: &DecideInput<'_>, rng: &mut Rng, scratch: &mut Scratch| {
            self.profile.decide(*input, rng, scratch)
        };
        Ok(self.gather(input, self.profile.needs().matches, scratch, by_profile)??)
    }

    /// As [`route`](Self::route), but `decide` does so instead of the router's profile, from all that
    /// the router knows: for prefill and decode apart ([`Split`](kvsched_scorers::cost::Split),
    /// [`Pair`](kvsched_scorers::Pair)), for several profiles, for what to fetch from where
    /// ([`Cost::plan`](kvsched_scorers::cost::Cost::plan)). Where two endpoints serve a request,
    /// [`record`](Self::record) both.
    ///
    /// ```
    /// # use kvsched::hash::Scheme;
    /// # use kvsched::scorers::cost::{Cost, Split};
    /// # use kvsched::filter::Label;
    /// # use kvsched::{BlockHasher, Load, Prompt, RouteInput, RouteScratch, Router, Time};
    /// # let hasher = BlockHasher::builder(Scheme::content("m", b"a secret")?).block_size(16).build()?;
    /// let router = Router::builder(hasher).build()?;
    /// let pods = [router.add_endpoint("a")?, router.add_endpoint("b")?];
    /// router.set_label(pods[0], Label::ROLE, "prefill");
    /// router.set_label(pods[1], Label::ROLE, "prefill-decode");
    /// let split = Split::new(Cost::new());
    ///
    /// // A long prompt would stall sixty answers: it is computed elsewhere.
    /// let tokens: Vec<u32> = (0..12_000).collect();
    /// let loads = [Load::default(), Load { running_requests: 60, ..Load::default() }];
    /// let input = RouteInput { loads: &loads, ..RouteInput::new(Prompt::new(&tokens), &pods) };
    /// let mut scratch = RouteScratch::new(1);
    /// let placed = router.route_by(&input, &mut scratch, |input, rng, scratch| {
    ///     split.place(input, rng, scratch)
    /// })??;
    /// assert_eq!((placed.prefill, placed.decode), (pods[0], pods[1]));
    /// router.record(placed.prefill, &scratch, Time(0))?;
    /// router.record(placed.decode, &scratch, Time(0))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the prompt cannot be hashed or a candidate is unknown.
    pub fn route_by<R>(
        &self,
        input: &RouteInput<'_>,
        scratch: &mut RouteScratch,
        decide: impl FnOnce(&DecideInput<'_>, &mut Rng, &mut Scratch) -> R,
    ) -> Result<R, RouterError> {
        self.gather(input, true, scratch, decide)
    }

    /// Gathers all that is known of a request and hands it over.
    fn gather<R>(
        &self,
        input: &RouteInput<'_>,
        matches: bool,
        scratch: &mut RouteScratch,
        decide: impl FnOnce(&DecideInput<'_>, &mut Rng, &mut Scratch) -> R,
    ) -> Result<R, RouterError> {
        for &candidate in input.candidates {
            if !self.members.has(candidate) {
                return Err(RouterError::UnknownEndpoint(candidate));
            }
        }
        if matches {
            self.look_up(&input.prompt, input.hashes, input.candidates, scratch)?;
            if let Picture::Events { speculative: Some(sent), .. } = &self.picture {
                sent.raise_matches(&scratch.hashes, &mut scratch.matches, &mut scratch.sent);
            }
        } else {
            scratch.hashes.clear();
            scratch.matches.reset(0, 0);
        }
        let named = input.hashes.map_or(0, |hashes| hashes.len() * self.hasher.block_size() + 1);
        let tokens = if input.prompt.tokens.is_empty() { named } else { input.prompt.tokens.len() };
        scratch.prompt_tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        scratch.expected_output_tokens = input.request.expected_output_tokens;
        scratch.block_size = self.block_size();
        self.look_up_chunks(input, scratch)?;
        scratch.prefix_demand = match (input.request.prefix_demand, scratch.prefix()) {
            (0.0, Some(prefix)) => self.demand.of(prefix),
            (told, _) => told,
        };
        scratch.updated = match &self.in_flight {
            Some(ledger) if input.loads.len() == input.candidates.len() => {
                update(ledger, input, &mut scratch.loads);
                true
            }
            _ => false,
        };
        scratch.knowledge.clear();
        if let Picture::Events { .. } = self.picture {
            self.members.note_knowledge(input.candidates, &mut scratch.knowledge);
        }
        let labels = self.members.labels();
        let RouteScratch { profile, rng, .. } = scratch;
        Ok(decide(&decide_input!(input, scratch, &labels), rng, profile))
    }

    /// Says that the request last routed (or looked up) with `scratch` was sent to `endpoint`.
    ///
    /// What a router without events knows, it learns here; one with events expects the prompt there
    /// until they tell ([`speculation`](crate::RouterBuilder::speculation)). With a ledger
    /// ([`in_flight`](crate::RouterBuilder::in_flight)) the request's work counts from now on, until
    /// [`InFlight::finish`] of the ticket.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown.
    pub fn record(
        &self,
        endpoint: EndpointId,
        scratch: &RouteScratch,
        now: Time,
    ) -> Result<Option<Ticket>, RouterError> {
        if !self.members.has(endpoint) {
            return Err(RouterError::UnknownEndpoint(endpoint));
        }
        if let Some(history) = self.learned() {
            history.record(endpoint, &scratch.hashes, now);
        }
        if let Some(prefix) = scratch.prefix() {
            self.demand.observe(prefix, now);
        }
        let ledger = self.in_flight.as_ref();
        Ok(ledger.map(|ledger| ledger.route(endpoint, scratch.routed(endpoint), now)))
    }

    /// The ledger of what was recorded and has not come back, if the router keeps one: to say that
    /// a request had its first token or has ended, and to exchange with other replicas.
    #[must_use]
    pub const fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }

    /// Why the last decision made with `scratch` was made; `None` before the first.
    #[must_use]
    pub fn receipt(&self, scratch: &RouteScratch) -> Option<Receipt> {
        Receipt::of(&self.profile, &scratch.profile)
    }

    /// The same with what made up the scores, in seconds, and how far the picture of each endpoint
    /// could be believed. `input` must be what was decided from.
    #[must_use]
    pub fn receipt_with_terms(
        &self,
        input: &RouteInput<'_>,
        scratch: &RouteScratch,
    ) -> Option<Receipt> {
        let labels = self.members.labels();
        let decided = decide_input!(input, scratch, &labels);
        Some(self.receipt(scratch)?.with_terms(&self.profile, &decided, &scratch.profile))
    }

    /// The last decision made with `scratch`, line by line, under the endpoints' names.
    #[must_use]
    pub fn explain(&self, scratch: &RouteScratch) -> String {
        self.tell(self.receipt(scratch))
    }

    /// The same with what made up the scores, in seconds, and how far the picture of each endpoint
    /// could be believed. `input` must be what was decided from.
    #[must_use]
    pub fn explain_with_terms(&self, input: &RouteInput<'_>, scratch: &RouteScratch) -> String {
        self.tell(self.receipt_with_terms(input, scratch))
    }

    fn tell(&self, receipt: Option<Receipt>) -> String {
        let registry = self.members.registry();
        let name = |id: EndpointId| {
            registry.by_id(id).map_or_else(|| id.to_string(), |e| e.spec().name.clone())
        };
        receipt.map_or_else(|| "nothing was decided".to_owned(), |r| r.explain(name))
    }

    /// Names as much of the prompt as can be reused, unless the caller has, and asks who holds it.
    fn look_up(
        &self,
        prompt: &Prompt<'_>,
        named: Option<&[BlockHash]>,
        candidates: &[EndpointId],
        scratch: &mut RouteScratch,
    ) -> Result<(), HashError> {
        // An engine always computes at least one token.
        let usable = prompt.tokens.len().saturating_sub(1) / self.hasher.block_size();
        match (named, &mut scratch.memo) {
            (Some(named), _) => {
                let usable = if prompt.tokens.is_empty() { named.len() } else { usable };
                scratch.hashes.clear();
                scratch.hashes.extend_from_slice(&named[..usable.min(named.len())]);
            }
            (None, Some((memo, of))) if *of == self.fingerprint => {
                memo.hash_into(prompt, &mut scratch.hashes)?;
                scratch.hashes.truncate(usable);
            }
            _ => self.hasher.hash_first_into(prompt, usable, &mut scratch.hashes)?,
        }
        match &self.picture {
            Picture::Events { index, .. } => {
                index.find_matches(&scratch.hashes, &mut scratch.matches);
                if let Some(fallback) = &self.fallback {
                    self.look_up_by_content(index, fallback, prompt, candidates, scratch)?;
                }
            }
            Picture::History(history) => {
                history.find_matches(&scratch.hashes, &mut scratch.matches);
            }
        }
        Ok(())
    }

    /// Asks once more, by content, for those candidates whose hashes are not the hasher's.
    fn look_up_by_content(
        &self,
        index: &SharedIndex,
        fallback: &BlockHasher,
        prompt: &Prompt<'_>,
        candidates: &[EndpointId],
        scratch: &mut RouteScratch,
    ) -> Result<(), HashError> {
        let RouteScratch { by_content, content, matches, sent, .. } = scratch;
        by_content.clear();
        by_content.extend(candidates.iter().filter(|&&id| self.members.is_by_content(id)));
        if by_content.is_empty() {
            return Ok(());
        }
        fallback.hash_first_into(prompt, scratch.hashes.len(), content)?;
        index.find_matches_among(content, by_content, sent);
        matches.cover(sent.as_slice().len());
        for &id in by_content.iter() {
            matches.set(id, sent.blocks(id));
        }
        for run in sent.slow_runs() {
            matches.push_slow(run.endpoint, run.tier, run.blocks);
        }
        Ok(())
    }
}

/// The caller's load rows as of now, in a buffer that is kept.
fn update(ledger: &InFlight, input: &RouteInput<'_>, rows: &mut Vec<Load>) {
    rows.resize_with(input.loads.len(), Load::default);
    for ((row, polled), &endpoint) in rows.iter_mut().zip(input.loads).zip(input.candidates) {
        row.clone_from(polled);
        ledger.apply(endpoint, row, input.now);
    }
}
