use crate::Router;
use crate::members::Members;
use crate::router::Picture;
use kvsched_core::{BlockHash, Prompt};
use kvsched_hash::BlockHasher;
use kvsched_index::events::StreamSettings;
use kvsched_index::{IndexBuildError, IndexBuilder, RoutingHistory};
use kvsched_scorers::{Profile, ProfileError, picker, scorer};
use std::num::NonZeroU32;
use std::time::Duration;

/// Settings of a [`Router`].
#[derive(Debug)]
#[must_use]
pub struct RouterBuilder {
    hasher: BlockHasher,
    profile: Option<Profile>,
    history: Option<(NonZeroU32, Duration)>,
    index: IndexBuilder,
    streams: StreamSettings,
}

/// Why a router could not be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildRouterError {
    /// The index refused its settings.
    #[error(transparent)]
    Index(#[from] IndexBuildError),
    /// The profile refused its plugins.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl RouterBuilder {
    pub(crate) fn new(hasher: BlockHasher) -> Self {
        Self {
            hasher,
            profile: None,
            history: None,
            index: IndexBuilder::default(),
            streams: StreamSettings::default(),
        }
    }

    /// How endpoints are filtered, rated and picked. Default: llm-d's
    /// [weights](RouterBuilder#default-profile).
    ///
    /// # Default profile
    ///
    /// `prefix-cache-scorer` 3, `queue-scorer` 2, `kv-cache-utilization-scorer` 2, and the
    /// endpoint with the highest sum.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = Some(profile);
        self
    }

    /// Learns what is cached from the router's own decisions instead of from events: the
    /// approximate path, for engines that announce nothing. `blocks` is the size of one
    /// endpoint's KV cache in the engine's own blocks, `lease` how long an unused block is
    /// believed to stay.
    pub fn history(mut self, blocks: NonZeroU32, lease: Duration) -> Self {
        self.history = Some((blocks, lease));
        self
    }

    /// Most bytes the index may take, at least 65,536. Default: no limit; about 24 bytes a distinct
    /// block. See [`IndexBuilder::byte_budget`] for what happens at the limit.
    pub fn byte_budget(mut self, bytes: usize) -> Self {
        self.index = self.index.byte_budget(bytes);
        self
    }

    /// Bounds of the endpoints' event streams: bytes that wait for a replay, and patience.
    pub const fn streams(mut self, settings: StreamSettings) -> Self {
        self.streams = settings;
        self
    }

    /// The router.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn build(self) -> Result<Router, BuildRouterError> {
        let block_size = self.hasher.block_size() as u32;
        let picture = match self.history {
            Some((blocks, lease)) => {
                Picture::History(RoutingHistory::new(blocks.get(), lease).into())
            }
            None => Picture::Events {
                index: self.index.block_size(block_size).build_shared()?,
                settings: self.streams,
            },
        };
        let profile = match self.profile {
            Some(profile) => profile,
            None => Profile::builder()
                .scorer(Box::new(scorer::PrefixCache::new()), 3.0)
                .scorer(Box::new(scorer::Queue), 2.0)
                .scorer(Box::new(scorer::KvCacheUtilization), 2.0)
                .picker(Box::new(picker::MaxScore))
                .build()?,
        };
        let fingerprint = fingerprint(&self.hasher);
        Ok(Router {
            hasher: self.hasher,
            picture,
            members: Members::default(),
            profile,
            fingerprint,
        })
    }
}

/// The hash of one block of ascending tokens, with what lookahead needs behind it.
fn fingerprint(hasher: &BlockHasher) -> BlockHash {
    let tokens: Vec<u32> = (0..2 * hasher.block_size() as u32).collect();
    let mut hashes = Vec::new();
    // Such a prompt can always be hashed.
    let hashed = hasher.hash_into(&Prompt::new(&tokens), &mut hashes);
    hashed.ok().and(hashes.first().copied()).unwrap_or(BlockHash(0))
}
