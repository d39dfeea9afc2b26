//! The second key space: chunks of KV that may stand anywhere in a prompt.

use kvsched_core::{EndpointId, Tier};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What names a chunk whose KV is reusable at any position.
///
/// The KV of a chunk is made for one adapter, and a later version of the adapter makes another:
/// so its version is part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkKey {
    /// Hash of the chunk's tokens, without anything before it.
    pub content: u64,
    /// Version of the adapter (a model's trained wrapping, say); any number that changes with it.
    pub adapter: u64,
}

/// That an endpoint holds a chunk that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkHit {
    /// Position in the keys that were asked for.
    pub chunk: usize,
    /// Who holds it.
    pub endpoint: EndpointId,
    /// Whether it holds all of it. A KV Packet is usable only then.
    pub complete: bool,
    /// The fastest tier it lies in; of complete copies, if there is one.
    pub tier: Tier,
}

/// Why a chunk was not stored. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// The index is as large as it may be.
    #[error("one copy more than the limit of {limit}")]
    Full {
        /// Most copies there may be.
        limit: usize,
    },
}

/// Who holds which chunks: keys without parents or order.
///
/// ```
/// use kvsched_core::{EndpointId, Tier};
/// use kvsched_index::{ChunkIndex, ChunkKey};
///
/// let mut chunks = ChunkIndex::with_limit(1 << 20);
/// let manual = ChunkKey { content: 7, adapter: 1 };
/// chunks.store(manual, EndpointId(3), Tier::HOST, true)?;
///
/// let mut hits = Vec::new();
/// chunks.find(&[ChunkKey { content: 9, ..manual }, manual], &mut hits);
/// assert_eq!((hits[0].chunk, hits[0].endpoint, hits[0].complete), (1, EndpointId(3), true));
///
/// // Another version of the adapter is another chunk.
/// chunks.find(&[ChunkKey { adapter: 2, ..manual }], &mut hits);
/// assert!(hits.is_empty());
/// # Ok::<(), kvsched_index::ChunkError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChunkIndex {
    /// Whether the copy is complete.
    copies: BTreeMap<(ChunkKey, EndpointId, Tier), bool>,
    limit: usize,
}

impl ChunkIndex {
    /// An empty index of at most `limit` copies (of a chunk, on an endpoint, in a tier).
    #[must_use]
    pub const fn with_limit(limit: usize) -> Self {
        Self { copies: BTreeMap::new(), limit }
    }

    /// `endpoint` holds the chunk in `tier`, all of it or not. Replaces what was known of that copy.
    /// O(log copies).
    ///
    /// # Errors
    ///
    /// If it is one copy too many.
    pub fn store(
        &mut self,
        key: ChunkKey,
        endpoint: EndpointId,
        tier: Tier,
        complete: bool,
    ) -> Result<(), ChunkError> {
        let is_full = self.copies.len() >= self.limit;
        match self.copies.entry((key, endpoint, tier)) {
            Entry::Occupied(mut copy) => *copy.get_mut() = complete,
            Entry::Vacant(_) if is_full => return Err(ChunkError::Full { limit: self.limit }),
            Entry::Vacant(place) => {
                place.insert(complete);
            }
        }
        Ok(())
    }

    /// `endpoint` no longer holds the chunk in `tier`; whether it did. O(log copies).
    pub fn remove(&mut self, key: ChunkKey, endpoint: EndpointId, tier: Tier) -> bool {
        self.copies.remove(&(key, endpoint, tier)).is_some()
    }

    /// `endpoint` holds no chunk any more. O(copies of everyone).
    pub fn clear(&mut self, endpoint: EndpointId) {
        self.copies.retain(|&(_, holder, _), _| holder != endpoint);
    }

    /// Who holds the chunks of a request: one hit an endpoint and position, by position and then by
    /// endpoint. `hits` is overwritten. O(log copies) a key and O(1) a copy of it; allocates
    /// nothing once `hits` is large enough.
    pub fn find(&self, keys: &[ChunkKey], hits: &mut Vec<ChunkHit>) {
        hits.clear();
        let (first, last) = (EndpointId(0), EndpointId(u16::MAX));
        for (chunk, &key) in keys.iter().enumerate() {
            let range = (key, first, Tier::DEVICE)..=(key, last, Tier::MAX);
            for (&(_, endpoint, tier), &complete) in self.copies.range(range) {
                let hit = ChunkHit { chunk, endpoint, complete, tier };
                match hits.last_mut() {
                    // Tiers come fastest first: only a complete copy is better than an earlier one.
                    Some(last) if (last.chunk, last.endpoint) == (chunk, endpoint) => {
                        if complete && !last.complete {
                            *last = hit;
                        }
                    }
                    _ => hits.push(hit),
                }
            }
        }
    }

    /// Copies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Whether nobody holds a chunk.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }
}
