use crate::ingest::with_identity;
use crate::members::Members;
use crate::{IngestError, RouteInput, RouteScratch, RouterBuilder, RouterError};
use kvsched_core::{BlockHash, Decision, EndpointId, Load, Prompt, Request, Time};
use kvsched_hash::{BlockHasher, BuildError, HashError, PrefixMemo};
use kvsched_index::events::{EventStream, Heard, ReplayMessage, StreamSettings, TrustReport};
use kvsched_index::{Endpoint, EndpointSpec, Identity, RegistryError, RoutingHistory, SharedIndex};
use kvsched_scorers::{DecideInput, InFlight, Profile, Receipt, Ticket};

/// Where a router's picture of the caches comes from.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per router")]
pub(crate) enum Picture {
    /// From what the engines announce: exact.
    Events {
        index: SharedIndex,
        settings: StreamSettings,
        /// What was just sent somewhere and no event has told of.
        speculative: Option<RoutingHistory>,
    },
    /// From its own decisions: what it sent somewhere is probably cached there.
    History(RoutingHistory),
}

/// Decides which endpoint serves a prompt, from what their engines announce.
///
/// The wiring of the other crates: events go through the decoder into the index, prompts
/// through the hasher to the index, matches and loads through the profile to a decision. All
/// buffers of a request are in the caller's [`RouteScratch`].
///
/// Any number of threads can call anything at the same time. Routing takes no lock and waits for
/// nobody; messages of different endpoints can be taken in side by side, those of one endpoint in
/// their order, by one thread at a time.
///
/// See the [crate's example](crate).
#[derive(Debug)]
pub struct Router {
    pub(crate) hasher: BlockHasher,
    pub(crate) picture: Picture,
    pub(crate) members: Members,
    pub(crate) profile: Profile,
    pub(crate) in_flight: Option<InFlight>,
    /// What the hasher makes of a certain prompt: tells routers of other engines apart.
    pub(crate) fingerprint: BlockHash,
}

impl Router {
    /// Settings of a router whose engines name their blocks as `hasher` does.
    pub fn builder(hasher: BlockHasher) -> RouterBuilder {
        RouterBuilder::new(hasher)
    }

    /// Buffers for this router that remember up to about `memo_bytes` of prompts' beginnings: a
    /// system prompt that many requests share meets an engine's SHA-256 once. The hashes are the
    /// same as without. Worth it for engines' SHA schemes; with another router the memory is
    /// not used.
    ///
    /// # Errors
    ///
    /// If `memo_bytes` is too little for a single prefix.
    pub fn scratch_with_memo(
        &self,
        seed: u64,
        memo_bytes: usize,
    ) -> Result<RouteScratch, BuildError> {
        let memo = PrefixMemo::new(self.hasher.clone(), memo_bytes)?;
        Ok(RouteScratch { memo: Some((memo, self.fingerprint)), ..RouteScratch::new(seed) })
    }

    /// Adds an endpoint, by its name or by all that is known of it, and returns its id; ids of
    /// removed endpoints are used again.
    ///
    /// # Errors
    ///
    /// If the name is empty, an endpoint has it, or all 65,535 ids are taken.
    pub fn add_endpoint(&self, spec: impl Into<EndpointSpec>) -> Result<EndpointId, RegistryError> {
        let settings = match &self.picture {
            Picture::Events { settings, .. } => Some(*settings),
            Picture::History(_) => None,
        };
        self.members.join(spec.into(), settings)
    }

    /// Forgets an endpoint and everything it holds. `false` for an unknown one.
    pub fn remove_endpoint(&self, endpoint: EndpointId) -> bool {
        self.members.leave(endpoint, || {
            match &self.picture {
                Picture::Events { index, .. } => index.remove_endpoint(endpoint),
                Picture::History(_) => {}
            }
            if let Some(history) = self.learned() {
                history.clear(endpoint);
            }
            if let Some(ledger) = &self.in_flight {
                ledger.forget(endpoint);
            }
        })
    }

    /// Says how many blocks `endpoint`'s cache holds, where a router that learns from its own
    /// decisions was given another number for the fleet. `false` for an unknown endpoint.
    pub fn set_cache_blocks(&self, endpoint: EndpointId, blocks: u32) -> bool {
        let known = self.members.has(endpoint);
        if known && let Picture::History(history) = &self.picture {
            history.set_capacity(endpoint, blocks);
        }
        known
    }

    /// Sets a label of an endpoint (its role, zone, rack), in place of what it was. `false` for an
    /// unknown one.
    pub fn set_label(&self, endpoint: EndpointId, key: &str, value: &str) -> bool {
        self.members.set_label(endpoint, key, value)
    }

    /// Whether there is such an endpoint. Takes no lock.
    #[must_use]
    pub fn has_endpoint(&self, endpoint: EndpointId) -> bool {
        self.members.has(endpoint)
    }

    /// What is known of an endpoint; `None` for an unknown one.
    #[must_use]
    pub fn endpoint(&self, endpoint: EndpointId) -> Option<Endpoint> {
        self.members.registry().by_id(endpoint).cloned()
    }

    /// Rank `rank` of the engine of this name, 0 where there is only one. O(log endpoints).
    #[must_use]
    pub fn find_endpoint(&self, name: &str, rank: u32) -> Option<EndpointId> {
        self.members.registry().find(name, rank).map(Endpoint::id)
    }

    /// How many endpoints there are.
    #[must_use]
    pub fn endpoint_count(&self) -> usize {
        self.members.registry().len()
    }

    /// The number of the next message that `endpoint`'s stream waits for: all before are in the
    /// picture. `None` for an unknown one and where there are no events.
    #[must_use]
    pub fn next_sequence(&self, endpoint: EndpointId) -> Option<u64> {
        Some(self.members.stream(endpoint)?.as_ref()?.next_sequence())
    }

    /// The endpoints, by id.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.members.registry().iter().cloned().collect()
    }

    /// Takes in one message of an engine's event stream: its sequence number and its payload, as
    /// the socket delivered them, at `now`.
    ///
    /// The outcome says whether the engine must be asked for a replay, because messages are
    /// missing; hand in the answers with [`Router::replayed`]. A router that learns from its own
    /// decisions ([`RouterBuilder::history`]) has no use for events and passes them over.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown. Bytes that are not events are no error of the caller's: the
    /// message counts as missing and the outcome asks for a replay.
    pub fn ingest(
        &self,
        endpoint: EndpointId,
        sequence: u64,
        payload: &[u8],
        now: Time,
    ) -> Result<Heard, IngestError> {
        self.with_stream(endpoint, |stream, mut index, identity| {
            stream.receive(&mut index, identity, sequence, payload, now)
        })
    }

    /// Takes in one message of a replay that [`Router::ingest`] asked for, at `now`.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown.
    pub fn replayed(
        &self,
        endpoint: EndpointId,
        message: ReplayMessage<'_>,
        now: Time,
    ) -> Result<Heard, IngestError> {
        self.with_stream(endpoint, |stream, mut index, identity| {
            stream.replayed(&mut index, identity, message, now)
        })
    }

    /// Lets time pass for `endpoint`'s stream: gives up on a replay that does not come, finds the
    /// engine silent. Call it every second or so.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown.
    pub fn tick(&self, endpoint: EndpointId, now: Time) -> Result<Heard, IngestError> {
        if let Some(history) = self.learned() {
            history.expire(now);
        }
        self.with_stream(endpoint, |stream, mut index, identity| {
            stream.tick(&mut index, identity, now)
        })
    }

    /// How far the picture of `endpoint` can be believed, and why; `None` for an unknown one and
    /// where there are no events.
    #[must_use]
    pub fn trust(&self, endpoint: EndpointId) -> Option<TrustReport> {
        Some(self.members.stream(endpoint)?.as_ref()?.trust())
    }

    fn with_stream(
        &self,
        endpoint: EndpointId,
        f: impl FnOnce(&mut EventStream, &SharedIndex, &mut Identity<'_>) -> Heard,
    ) -> Result<Heard, IngestError> {
        if let Picture::Events { index, .. } = &self.picture {
            if let Some(Some(stream)) = self.members.stream(endpoint).as_deref_mut() {
                let heard = with_identity(&self.hasher, |identity| f(stream, index, identity));
                if (heard.restarted || heard.applied.cleared)
                    && let Some(sent) = self.learned()
                {
                    sent.clear(endpoint);
                }
                return Ok(heard);
            }
        } else if self.members.has(endpoint) {
            return Ok(Heard::default());
        }
        Err(IngestError::UnknownEndpoint(endpoint))
    }

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
        self.look_up(prompt, scratch)?;
        scratch.prompt_tokens = u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX);
        scratch.expected_output_tokens = 0;
        scratch.block_size = self.block_size();
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
        for &candidate in input.candidates {
            if !self.members.has(candidate) {
                return Err(RouterError::UnknownEndpoint(candidate));
            }
        }
        if self.profile.needs().matches {
            self.look_up(&input.prompt, scratch)?;
            if let Picture::Events { speculative: Some(sent), .. } = &self.picture {
                sent.raise_matches(&scratch.hashes, &mut scratch.matches, &mut scratch.sent);
            }
        } else {
            scratch.hashes.clear();
            scratch.matches.reset(0, 0);
        }
        scratch.prompt_tokens = u32::try_from(input.prompt.tokens.len()).unwrap_or(u32::MAX);
        scratch.expected_output_tokens = input.request.expected_output_tokens;
        scratch.block_size = self.block_size();
        let request = Request {
            prompt_tokens: scratch.prompt_tokens,
            block_size: scratch.block_size,
            ..input.request
        };
        let loads = match &self.in_flight {
            Some(ledger) if input.loads.len() == input.candidates.len() => {
                update(ledger, input, &mut scratch.loads);
                &scratch.loads
            }
            _ => input.loads,
        };
        let labels = self.members.labels();
        let decide = DecideInput {
            request,
            loads,
            matches: &scratch.matches,
            labels: &labels,
            rates: input.rates,
            now: input.now,
            ..DecideInput::new(input.candidates)
        };
        Ok(self.profile.decide(decide, &mut scratch.rng, &mut scratch.profile)?)
    }

    /// Says that the request last routed (or looked up) with `scratch` was sent to `endpoint`.
    ///
    /// What a router without events knows, it learns here; one with events expects the prompt there
    /// until they tell ([`RouterBuilder::speculation`]). With a ledger
    /// ([`RouterBuilder::in_flight`]) the request's work counts from now on, until
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

    /// The last decision made with `scratch`, line by line, under the endpoints' names.
    #[must_use]
    pub fn explain(&self, scratch: &RouteScratch) -> String {
        let registry = self.members.registry();
        let name = |id: EndpointId| {
            registry.by_id(id).map_or_else(|| id.to_string(), |e| e.spec().name.clone())
        };
        self.receipt(scratch).map_or_else(|| "nothing was decided".to_owned(), |r| r.explain(name))
    }

    /// Tokens a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        // The hasher's builder holds it far below the limit of `u32`.
        self.hasher.block_size() as u32
    }

    /// What is remembered of our own decisions.
    const fn learned(&self) -> Option<&RoutingHistory> {
        match &self.picture {
            Picture::Events { speculative, .. } => speculative.as_ref(),
            Picture::History(history) => Some(history),
        }
    }

    /// Hashes as much of the prompt as can be reused, and asks who holds it.
    fn look_up(&self, prompt: &Prompt<'_>, scratch: &mut RouteScratch) -> Result<(), HashError> {
        // An engine always computes at least one token.
        let usable = prompt.tokens.len().saturating_sub(1) / self.hasher.block_size();
        match &mut scratch.memo {
            Some((memo, of)) if *of == self.fingerprint => {
                memo.hash_into(prompt, &mut scratch.hashes)?;
                scratch.hashes.truncate(usable);
            }
            _ => self.hasher.hash_first_into(prompt, usable, &mut scratch.hashes)?,
        }
        match &self.picture {
            Picture::Events { index, .. } => {
                index.find_matches(&scratch.hashes, &mut scratch.matches)
            }
            Picture::History(history) => {
                history.find_matches(&scratch.hashes, &mut scratch.matches);
            }
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
