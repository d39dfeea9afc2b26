use crate::demand::Demand;
use crate::members::Members;
use crate::router::Picture;
use crate::{RestoreError, Restoring, Router};
use kvsched_core::{BlockHash, Prompt};
use kvsched_hash::BlockHasher;
use kvsched_index::events::StreamSettings;
use kvsched_index::{ChunkIndex, IndexBuildError, IndexBuilder, RoutingHistory, SnapshotReader};
use kvsched_scorers::{InFlight, Profile, ProfileError, picker, scorer};
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
    in_flight: Option<InFlight>,
    speculation: Duration,
    chunk_bytes: Option<usize>,
    fallback: Option<BlockHasher>,
    seeds: Vec<Option<String>>,
}

/// How long a request takes to be announced, at most.
const SPECULATION: Duration = Duration::from_secs(2);

/// Blocks that may be sent to one endpoint in that time and are remembered: a million tokens.
const SPECULATIVE_BLOCKS: u32 = 1 << 16;

/// Why a router could not be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildRouterError {
    /// The index refused its settings.
    #[error(transparent)]
    Index(#[from] IndexBuildError),
    /// The fallback names blocks as engines do, or of another size.
    #[error(
        "a fallback of {scheme} with {tokens} tokens a block: it has to be of the content scheme \
         with the hasher's {block_size}"
    )]
    Fallback {
        /// Its scheme.
        scheme: String,
        /// Its tokens a block.
        tokens: usize,
        /// The hasher's.
        block_size: u32,
    },
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
            in_flight: None,
            speculation: SPECULATION,
            chunk_bytes: None,
            fallback: None,
            seeds: Vec::new(),
        }
    }

    /// How endpoints are filtered, rated and picked. Default: the fewest seconds of delay, by the cost
    /// model ([`scorer::Cost`]); [`preset`](kvsched_scorers::preset) has other routers' policies.
    ///
    /// The cost model reads how fast endpoints are from [`RouteInput::rates`](crate::RouteInput::rates),
    /// and takes a model of 32 billion parameters on two H100 where they are not given.
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

    /// Gives every endpoint a [`Doctor`](crate::Doctor), who checks that the engine's hashes are the
    /// hasher's and tells why not ([`Router::diagnose`]), trying these `seeds` (values of
    /// `PYTHONHASHSEED` that an engine may have been given) besides none. Blocks of an endpoint whose
    /// hashes differ are named by `fallback` from then on, so that they are found all the same.
    ///
    /// `fallback` is of the [content scheme](kvsched_hash::Scheme::content), with the hasher's block
    /// size.
    pub fn check(mut self, fallback: BlockHasher, seeds: &[Option<&str>]) -> Self {
        self.fallback = Some(fallback);
        self.seeds = seeds.iter().map(|seed| seed.map(str::to_owned)).collect();
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

    /// How long a prompt that was recorded ([`Router::record`]) is expected where it was sent, though
    /// no event has told of it yet: else the requests of a burst scatter over the fleet, each
    /// finding nothing cached. Default 2 s; zero goes by events alone.
    pub const fn speculation(mut self, lease: Duration) -> Self {
        self.speculation = lease;
        self
    }

    /// Counts what was routed and has not come back, and brings the load rows of every request up
    /// to date with it: metrics are polled late, and a burst would all land where they showed
    /// room. Tell the router of every request that is sent ([`Router::record`]) and the ledger
    /// ([`Router::in_flight`]) when it ended, and say in [`Load::observed_at`] how old metrics
    /// are. A request that nobody ends counts for `lease`; ten minutes is longer than most
    /// answers take.
    ///
    /// [`Load::observed_at`]: kvsched_core::Load::observed_at
    pub fn in_flight(mut self, lease: Duration) -> Self {
        self.in_flight = Some(InFlight::new(lease));
        self
    }

    /// Keeps an index of position-independent chunks ([`Router::chunks`]) of at most `bytes` bytes, at
    /// least 65,536; about 200 a chunk. Default: none.
    pub fn chunks(mut self, bytes: usize) -> Self {
        self.chunk_bytes = Some(bytes);
        self
    }

    /// A router that begins with what another wrote down ([`Router::write_snapshot`]). Push the
    /// snapshot's bytes, then finish.
    ///
    /// ```
    /// # use kvsched::{Algorithm, BlockHasher, Router, Scheme, Time, VllmVersion};
    /// # let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, None)?;
    /// # let hasher = BlockHasher::builder(scheme).block_size(16).build()?;
    /// let router = Router::builder(hasher.clone()).build()?;
    /// let pod = router.add_endpoint("pod-a")?;
    /// let mut file = Vec::new();
    /// router.write_snapshot(|piece| file.extend(piece))?;
    ///
    /// let mut restoring = Router::builder(hasher).restore()?;
    /// for piece in file.chunks(1000) {
    ///     restoring.push(piece)?;
    /// }
    /// let replica = restoring.finish(Time(0))?;
    /// assert_eq!(replica.find_endpoint("pod-a", 0), Some(pod));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`RouterBuilder::build`], or if it were to learn from its own decisions.
    pub fn restore(self) -> Result<Restoring, RestoreError> {
        let index = self.index.clone().block_size(self.hasher.block_size() as u32);
        let router = self.build()?;
        if let Picture::History(_) = router.picture {
            return Err(RestoreError::NoEvents);
        }
        let index = index.build_shared().map_err(BuildRouterError::from)?;
        Ok(Restoring { router, reader: SnapshotReader::new(index) })
    }

    /// The router.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn build(self) -> Result<Router, BuildRouterError> {
        let block_size = self.hasher.block_size() as u32;
        if let Some(fallback) = &self.fallback {
            let tokens = fallback.block_size();
            if fallback.scheme().is_announced() || tokens != self.hasher.block_size() {
                let scheme = fallback.scheme().to_string();
                return Err(BuildRouterError::Fallback { scheme, tokens, block_size });
            }
        }
        let picture = match self.history {
            Some((blocks, lease)) => Picture::History(RoutingHistory::new(blocks.get(), lease)),
            None => Picture::Events {
                index: self.index.block_size(block_size).build_shared()?,
                settings: self.streams,
                speculative: (!self.speculation.is_zero())
                    .then(|| RoutingHistory::new(SPECULATIVE_BLOCKS, self.speculation)),
            },
        };
        let profile = match self.profile {
            Some(profile) => profile,
            None => Profile::builder()
                .scorer(Box::new(scorer::Cost::new()), 1.0)
                .picker(Box::new(picker::MaxScore))
                .build()?,
        };
        let fingerprint = fingerprint(&self.hasher);
        let chunks = self.chunk_bytes.map(ChunkIndex::with_budget).transpose()?;
        Ok(Router {
            hasher: self.hasher,
            picture,
            members: Members::default(),
            profile,
            in_flight: self.in_flight,
            demand: Demand::default(),
            chunks,
            fallback: self.fallback,
            seeds: self.seeds,
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
