//! The second key space: chunks of KV that may stand anywhere in a prompt.

use crate::{Holder, IndexBuildError, IndexBuilder, IndexStats, Repeat, SharedIndex, StoreError};
use kvsched_core::{BlockHash, EndpointId, Group, PrefixMatches, Tier};
use std::hash::Hasher;
use twox_hash::XxHash64;

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

/// What was found, and buffers: keep one a thread, and a query allocates nothing once it has seen
/// the fleet.
#[derive(Clone, Debug, Default)]
pub struct ChunkHits {
    hits: Vec<ChunkHit>,
    whole: PrefixMatches,
    part: PrefixMatches,
}

impl ChunkHits {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { hits: Vec::new(), whole: PrefixMatches::new(), part: PrefixMatches::new() }
    }

    /// One hit an endpoint and position, by position and then by endpoint.
    #[must_use]
    pub fn as_slice(&self) -> &[ChunkHit] {
        &self.hits
    }
}

/// Who holds which chunks: keys without parents or order.
///
/// A [`SharedIndex`] of prompts that are one block long: what is said there of threads and of what
/// a query may see goes for this, too. A key's 128 bits are hashed to 64.
///
/// ```
/// use kvsched_core::{EndpointId, Tier};
/// use kvsched_index::{ChunkHits, ChunkIndex, ChunkKey};
///
/// let chunks = ChunkIndex::with_budget(16 << 20)?;
/// let manual = ChunkKey { content: 7, adapter: 1 };
/// chunks.store(manual, EndpointId(3), Tier::HOST, true)?;
///
/// let mut found = ChunkHits::new();
/// chunks.find(&[ChunkKey { content: 9, ..manual }, manual], &mut found);
/// let hit = found.as_slice()[0];
/// assert_eq!((hit.chunk, hit.endpoint, hit.complete), (1, EndpointId(3), true));
///
/// // Another version of the adapter is another chunk.
/// chunks.find(&[ChunkKey { adapter: 2, ..manual }], &mut found);
/// assert!(found.as_slice().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ChunkIndex {
    copies: SharedIndex,
}

impl ChunkIndex {
    /// An empty index of at most `bytes` bytes, at least 65,536; a chunk takes some 200 and every
    /// further holder 8. At the limit the chunks go that were stored longest ago
    /// ([`IndexStats::evicted`]).
    ///
    /// # Errors
    ///
    /// If that is too little.
    pub fn with_budget(bytes: usize) -> Result<Self, IndexBuildError> {
        Ok(Self { copies: IndexBuilder::default().byte_budget(bytes).build_shared()? })
    }

    /// `endpoint` holds the chunk in `tier`, all of it or not. Replaces what was known of that copy.
    /// O(1).
    ///
    /// # Errors
    ///
    /// If the endpoint's id is out of range.
    pub fn store(
        &self,
        key: ChunkKey,
        endpoint: EndpointId,
        tier: Tier,
        complete: bool,
    ) -> Result<(), StoreError> {
        let holder = Holder { endpoint, tier, group: Group(0) };
        self.copies.store(holder, None, &[name(key, complete)], Repeat::Known)?;
        self.copies.remove(holder, &[name(key, !complete)]);
        Ok(())
    }

    /// `endpoint` no longer holds the chunk in `tier`; whether it did. O(1).
    pub fn remove(&self, key: ChunkKey, endpoint: EndpointId, tier: Tier) -> bool {
        let holder = Holder { endpoint, tier, group: Group(0) };
        // Both: where two threads store one copy at once, it may be there as both.
        [true, false].map(|c| self.copies.remove(holder, &[name(key, c)])) != [0, 0]
    }

    /// `endpoint` holds no chunk any more. O(its copies).
    pub fn clear(&self, endpoint: EndpointId) {
        self.copies.clear(endpoint);
    }

    /// As [`clear`](Self::clear), and forgets the endpoint.
    pub fn remove_endpoint(&self, endpoint: EndpointId) {
        self.copies.remove_endpoint(endpoint);
    }

    /// Who holds the chunks of a request, without a lock. O(endpoints) a key.
    pub fn find(&self, keys: &[ChunkKey], found: &mut ChunkHits) {
        let ChunkHits { hits, whole, part } = found;
        hits.clear();
        for (chunk, &key) in keys.iter().enumerate() {
            self.copies.find_matches(&[name(key, true)], whole);
            self.copies.find_matches(&[name(key, false)], part);
            let first = hits.len();
            for id in 0..whole.as_slice().len().max(part.as_slice().len()) {
                let endpoint = EndpointId(id as u16);
                let complete = whole.blocks(endpoint) > 0;
                if complete || part.blocks(endpoint) > 0 {
                    hits.push(ChunkHit { chunk, endpoint, complete, tier: Tier::DEVICE });
                }
            }
            for (complete, matches) in [(true, &*whole), (false, &*part)] {
                for run in matches.slow_runs() {
                    let of = &mut hits[first..];
                    if let Ok(at) = of.binary_search_by_key(&run.endpoint, |hit| hit.endpoint)
                        && of[at].complete == complete
                    {
                        of[at].tier = run.tier;
                    }
                }
            }
        }
    }

    /// How much there is: blocks are chunks, those that are complete and those that are not apart.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        self.copies.stats()
    }
}

/// The name of a chunk in the index; incomplete copies have another.
fn name(key: ChunkKey, complete: bool) -> BlockHash {
    let mut hasher = XxHash64::with_seed(u64::from(complete));
    hasher.write(&key.content.to_le_bytes());
    hasher.write(&key.adapter.to_le_bytes());
    BlockHash(hasher.finish())
}
