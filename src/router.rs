use crate::ingest::with_identity;
use crate::{IngestError, RouteScratch, RouterBuilder, RouterError};
use kvsched_core::{Decision, EndpointId, Labels, Load, Prompt, Request, Time};
use kvsched_hash::{BlockHasher, HashError};
use kvsched_index::events::{EventStream, Heard, ReplayMessage, StreamSettings, TrustReport};
use kvsched_index::{
    Endpoint, EndpointSpec, Identity, Index, Registry, RegistryError, RoutingHistory,
};
use kvsched_scorers::{DecideInput, Profile, Receipt};

/// A request to be routed: its prompt, who may serve it, and what they are doing.
#[derive(Clone, Copy, Debug)]
pub struct RouteInput<'a> {
    /// The prompt.
    pub prompt: Prompt<'a>,
    /// What else is known of the request. The router fills in the prompt's length and the
    /// block size.
    pub request: Request<'a>,
    /// Who may serve it.
    pub candidates: &'a [EndpointId],
    /// What they are doing, row `i` for candidate `i`. May be empty where the profile reads no
    /// loads.
    pub loads: &'a [Load],
    /// What the endpoints are labelled, by endpoint id; may be shorter than there are ids.
    pub labels: &'a [Labels],
    /// Now, on the caller's clock.
    pub now: Time,
}

impl<'a> RouteInput<'a> {
    /// `prompt` for one of `candidates`, with nothing else known.
    #[must_use]
    pub fn new(prompt: Prompt<'a>, candidates: &'a [EndpointId]) -> Self {
        Self {
            prompt,
            request: Request::default(),
            candidates,
            loads: &[],
            labels: &[],
            now: Time(0),
        }
    }
}

/// Where a router's picture of the caches comes from.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per router")]
pub(crate) enum Picture {
    /// From what the engines announce: exact.
    Events { index: Index, streams: Vec<EventStream> },
    /// From its own decisions: what it sent somewhere is probably cached there.
    History(RoutingHistory),
}

/// Decides which endpoint serves a prompt, from what their engines announce.
///
/// The wiring of the other crates: events go through the decoder into the index, prompts
/// through the hasher to the index, matches and loads through the profile to a decision. All
/// state is in this value; all buffers of a request are in the caller's [`RouteScratch`].
/// Routing takes `&self`, so any number of threads can route at once; what changes the picture
/// takes `&mut self`.
///
/// See the [crate's example](crate).
#[derive(Debug)]
pub struct Router {
    pub(crate) hasher: BlockHasher,
    pub(crate) picture: Picture,
    pub(crate) registry: Registry,
    pub(crate) profile: Profile,
}

impl Router {
    /// Settings of a router whose engines name their blocks as `hasher` does.
    pub const fn builder(hasher: BlockHasher) -> RouterBuilder {
        RouterBuilder::new(hasher)
    }

    /// Adds an endpoint, by its name or by all that is known of it, and returns its id; ids of
    /// removed endpoints are used again.
    ///
    /// # Errors
    ///
    /// If the name is empty, an endpoint has it, or all 65,535 ids are taken.
    pub fn add_endpoint(
        &mut self,
        spec: impl Into<EndpointSpec>,
    ) -> Result<EndpointId, RegistryError> {
        let id = self.registry.join(spec.into())?.id();
        if let Picture::Events { streams, .. } = &mut self.picture {
            let stream = EventStream::new(id, StreamSettings::default());
            match streams.get_mut(id.index()) {
                Some(predecessors) => *predecessors = stream,
                None => streams.push(stream),
            }
        }
        Ok(id)
    }

    /// Forgets an endpoint and everything it holds. Unknown ids are passed over.
    pub fn remove_endpoint(&mut self, endpoint: EndpointId) {
        let Some(key) = self.registry.by_id(endpoint).map(Endpoint::key) else { return };
        self.registry.leave(key);
        match &mut self.picture {
            Picture::Events { index, .. } => index.remove_endpoint(endpoint),
            Picture::History(history) => history.clear(endpoint),
        }
    }

    /// Who the endpoints are.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
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
        &mut self,
        endpoint: EndpointId,
        sequence: u64,
        payload: &[u8],
        now: Time,
    ) -> Result<Heard, IngestError> {
        self.with_stream(endpoint, |stream, index, identity| {
            stream.receive(index, identity, sequence, payload, now)
        })
    }

    /// Takes in one message of a replay that [`Router::ingest`] asked for, at `now`.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown.
    pub fn replayed(
        &mut self,
        endpoint: EndpointId,
        message: ReplayMessage<'_>,
        now: Time,
    ) -> Result<Heard, IngestError> {
        self.with_stream(endpoint, |stream, index, identity| {
            stream.replayed(index, identity, message, now)
        })
    }

    /// Lets time pass for `endpoint`'s stream: gives up on a replay that does not come, finds the
    /// engine silent. Call it every second or so.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown.
    pub fn tick(&mut self, endpoint: EndpointId, now: Time) -> Result<Heard, IngestError> {
        self.with_stream(endpoint, |stream, index, identity| stream.tick(index, identity, now))
    }

    /// How far the picture of `endpoint` can be believed, and why; `None` for an unknown one and
    /// where there are no events.
    #[must_use]
    pub fn trust(&self, endpoint: EndpointId) -> Option<TrustReport> {
        let Picture::Events { streams, .. } = &self.picture else { return None };
        self.registry.by_id(endpoint)?;
        Some(streams.get(endpoint.index())?.trust())
    }

    fn with_stream(
        &mut self,
        endpoint: EndpointId,
        f: impl FnOnce(&mut EventStream, &mut Index, &mut Identity<'_>) -> Heard,
    ) -> Result<Heard, IngestError> {
        if self.registry.by_id(endpoint).is_none() {
            return Err(IngestError::UnknownEndpoint(endpoint));
        }
        let Picture::Events { index, streams } = &mut self.picture else {
            return Ok(Heard::default());
        };
        let Some(stream) = streams.get_mut(endpoint.index()) else { return Ok(Heard::default()) };
        Ok(with_identity(&self.hasher, |identity| f(stream, index, identity)))
    }

    /// How many of the prompt's tokens `endpoint` would serve from its cache. O(prompt).
    ///
    /// # Errors
    ///
    /// If the prompt cannot be hashed.
    pub fn cached_tokens(
        &self,
        endpoint: EndpointId,
        prompt: &Prompt<'_>,
        now: Time,
        scratch: &mut RouteScratch,
    ) -> Result<u32, HashError> {
        self.look_up(prompt, now, scratch)?;
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
            self.registry.by_id(candidate).ok_or(RouterError::UnknownEndpoint(candidate))?;
        }
        if self.profile.needs().matches {
            self.look_up(&input.prompt, input.now, scratch)?;
        } else {
            scratch.hashes.clear();
            scratch.matches.reset(0, 0);
        }
        let request = Request {
            prompt_tokens: u32::try_from(input.prompt.tokens.len()).unwrap_or(u32::MAX),
            block_size: self.block_size(),
            ..input.request
        };
        let decide = DecideInput {
            request,
            loads: input.loads,
            matches: &scratch.matches,
            labels: input.labels,
            now: input.now,
            ..DecideInput::new(input.candidates)
        };
        Ok(self.profile.decide(decide, &mut scratch.rng, &mut scratch.profile)?)
    }

    /// Says that the request last routed with `scratch` was sent to `endpoint`.
    ///
    /// What a router without events knows, it learns here.
    pub fn record(&mut self, endpoint: EndpointId, scratch: &RouteScratch, now: Time) {
        if let Picture::History(history) = &mut self.picture {
            history.record(endpoint, &scratch.hashes, now);
        }
    }

    /// Why the last decision made with `scratch` was made; `None` before the first.
    #[must_use]
    pub fn receipt(&self, scratch: &RouteScratch) -> Option<Receipt> {
        Receipt::of(&self.profile, &scratch.profile)
    }

    /// The last decision made with `scratch`, line by line, under the endpoints' names.
    #[must_use]
    pub fn explain(&self, scratch: &RouteScratch) -> String {
        let name = |id: EndpointId| {
            self.registry.by_id(id).map_or_else(|| id.to_string(), |e| e.spec().name.clone())
        };
        self.receipt(scratch).map_or_else(|| "nothing was decided".to_owned(), |r| r.explain(name))
    }

    /// Tokens a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        // The hasher's builder holds it far below the limit of `u32`.
        self.hasher.block_size() as u32
    }

    /// Hashes as much of the prompt as can be reused, and asks who holds it.
    fn look_up(
        &self,
        prompt: &Prompt<'_>,
        now: Time,
        scratch: &mut RouteScratch,
    ) -> Result<(), HashError> {
        // An engine always computes at least one token.
        let usable = prompt.tokens.len().saturating_sub(1) / self.hasher.block_size();
        self.hasher.hash_first_into(prompt, usable, &mut scratch.hashes)?;
        match &self.picture {
            Picture::Events { index, .. } => {
                index.find_matches(&scratch.hashes, &mut scratch.matches)
            }
            Picture::History(history) => {
                history.find_matches(&scratch.hashes, now, &mut scratch.matches);
            }
        }
        Ok(())
    }
}
