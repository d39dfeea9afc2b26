use kvsched_core::{EndpointId, Group, Tier};
use std::fmt;

/// Who holds a block, and where: one endpoint's tier, in one KV-cache group.
///
/// ```
/// use kvsched_core::EndpointId;
/// use kvsched_index::Holder;
/// let holder = Holder::device(EndpointId(3));
/// assert_eq!(holder.to_string(), "endpoint 3, device, group 0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Where the block lies.
    pub tier: Tier,
    /// The KV-cache group it belongs to; group 0 where the model has only one.
    pub group: Group,
}

impl Holder {
    /// The device memory of `endpoint`, group 0: all there is in the plainest fleet.
    #[must_use]
    pub const fn device(endpoint: EndpointId) -> Self {
        Self { endpoint, tier: Tier::DEVICE, group: Group(0) }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, group {}", self.endpoint, self.tier, self.group.0)
    }
}

/// What storing a block that its holder already holds means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// The same physical block, announced again: nothing changes.
    #[default]
    Known,
    /// One more physical copy: the first removal afterwards takes only the copy away.
    Copy,
}

/// What a store changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreOutcome {
    /// Blocks that the holder did not hold before.
    pub stored: usize,
    /// Blocks that it already held.
    pub repeated: usize,
    /// Whether the blocks wait for their parent: they are held, and match once the parent is
    /// known.
    pub pending: bool,
}

/// Why blocks were not stored. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Ids stop below `u16::MAX`, so that a count of endpoints fits the same type.
    #[error("{0} is out of range: ids are 0 to 65534")]
    Endpoint(EndpointId),
    /// Every stored block needs its engine's name.
    #[error("{engine} engine hashes for {hashes} blocks")]
    Names {
        /// Engine hashes given.
        engine: usize,
        /// Blocks given.
        hashes: usize,
    },
    /// Too many blocks already wait for parents.
    #[error(
        "{blocks} blocks with an unknown parent do not fit beside {pending} pending ones: the limit is {limit}"
    )]
    Pending {
        /// Blocks that were to be stored.
        blocks: usize,
        /// Blocks that wait already.
        pending: usize,
        /// Most blocks that may wait.
        limit: usize,
    },
}
