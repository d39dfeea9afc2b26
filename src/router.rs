use crate::demand::Demand;
use crate::line::Line;
use crate::members::Members;
use crate::{Doctor, RouteScratch, RouterBuilder};
use kvsched_core::{BlockHash, EndpointId};
use kvsched_hash::{BlockHasher, BuildError, PrefixMemo};
use kvsched_index::events::StreamSettings;
use kvsched_index::{
    ChunkIndex, Endpoint, EndpointSpec, RegistryError, RoutingHistory, SharedIndex,
};
use kvsched_scorers::{InFlight, Profile};

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
    pub(crate) demand: Demand,
    /// Who holds which position-independent chunks.
    pub(crate) chunks: Option<ChunkIndex>,
    /// Names the blocks of endpoints whose hashes are not ours; there are doctors if there is one.
    pub(crate) fallback: Option<BlockHasher>,
    /// Seeds that doctors try.
    pub(crate) seeds: Vec<Option<String>>,
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
        let spec = spec.into();
        let name = match spec.rank {
            0 => spec.name.clone(),
            rank => format!("{} rank {rank}", spec.name),
        };
        self.members.join(spec, |id| {
            let Picture::Events { settings, .. } = &self.picture else { return None };
            let doctor = self.fallback.as_ref().map(|_| {
                let seeds: Vec<_> = self.seeds.iter().map(Option::as_deref).collect();
                Doctor::new(name, &self.hasher, &seeds)
            });
            Some(Line::new(id, *settings, doctor))
        })
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
            if let Some(chunks) = &self.chunks {
                chunks.remove_endpoint(endpoint);
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
        self.members.with_line(endpoint, |line| line.stream.next_sequence())
    }

    /// The endpoints, by id.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.members.registry().iter().cloned().collect()
    }

    /// Tokens a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        // The hasher's builder holds it far below the limit of `u32`.
        self.hasher.block_size() as u32
    }

    /// What is remembered of our own decisions.
    pub(crate) const fn learned(&self) -> Option<&RoutingHistory> {
        match &self.picture {
            Picture::Events { speculative, .. } => speculative.as_ref(),
            Picture::History(history) => Some(history),
        }
    }
}
