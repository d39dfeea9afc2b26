//! Residency without events, learned from where requests were sent.

use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Time};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

/// What endpoints should hold because we sent it there: the approximate path.
///
/// Needs no events. Each endpoint has a list of the blocks of the prompts that were routed to it,
/// the least recently used first to go, as long as the engine's cache is large; a block also
/// goes when its lease ends. Blocks are the engine's own, or any chained hash of anything, such
/// as chunks of text where no tokenizer is at hand.
///
/// The same object with a short lease gives **speculative residency** beside an index fed by
/// events: [`RoutingHistory::record`] each decision, [`RoutingHistory::raise_matches`] after each
/// query, so that the second request of a burst finds the first's endpoint before any event has
/// told of it, and [`RoutingHistory::forget`] what events confirm.
///
/// Memory is bounded by the capacities, about 80 bytes a block and endpoint; once the lists are
/// full nothing allocates.
///
/// ```
/// use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Time};
/// use kvsched_index::RoutingHistory;
/// use std::time::Duration;
///
/// let mut history = RoutingHistory::new(1000, Duration::from_secs(60));
/// let prompt = [1, 2, 3].map(BlockHash);
/// history.record(EndpointId(1), &prompt[..2], Time(0));
///
/// let mut matches = PrefixMatches::new();
/// history.find_matches(&prompt, Time(1), &mut matches);
/// assert_eq!(matches.as_slice(), [0, 2]);
/// history.find_matches(&prompt, Time::from_secs_f64(60.0), &mut matches);
/// assert_eq!(matches.as_slice(), [0, 0]); // the lease has ended
/// ```
#[derive(Debug)]
pub struct RoutingHistory {
    capacity: u32,
    lease: Duration,
    entries: Vec<Entry>,
    /// The first of the unused entries, chained by `newer`.
    free: u32,
    endpoints: Vec<Recency>,
    /// One entry of each hash, chained to the others by `next`.
    holders: HashMap<BlockHash, u32, BuildHasherDefault<Mix>>,
    /// The entry of each hash and endpoint.
    found: HashMap<(BlockHash, EndpointId), u32, BuildHasherDefault<Mix>>,
}

/// A block on an endpoint, in that endpoint's order of use and among the block's holders.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: BlockHash,
    ends: Time,
    newer: u32,
    older: u32,
    next: u32,
    previous: u32,
    endpoint: EndpointId,
}

/// An endpoint's entries by use.
#[derive(Clone, Copy, Debug)]
struct Recency {
    newest: u32,
    oldest: u32,
    len: u32,
    capacity: u32,
}

/// No entry.
const NONE: u32 = u32::MAX;

impl RoutingHistory {
    /// An empty history of `capacity` blocks an endpoint, each of which counts for `lease` after
    /// its last use.
    ///
    /// Take the capacity from the engine (`num_gpu_blocks` in its cache configuration); see
    /// [`RoutingHistory::set_capacity`] for mixed fleets.
    #[must_use]
    pub fn new(capacity: u32, lease: Duration) -> Self {
        Self {
            capacity,
            lease,
            entries: Vec::new(),
            free: NONE,
            endpoints: Vec::new(),
            holders: HashMap::default(),
            found: HashMap::default(),
        }
    }

    /// Gives `endpoint` a capacity of its own, in blocks. What is over it goes at once.
    pub fn set_capacity(&mut self, endpoint: EndpointId, blocks: u32) {
        self.endpoint(endpoint).capacity = blocks;
        while self.endpoints[endpoint.index()].len > blocks {
            self.remove(self.endpoints[endpoint.index()].oldest);
        }
    }

    /// How many blocks are kept of `endpoint`, ended leases among them.
    #[must_use]
    pub fn len(&self, endpoint: EndpointId) -> usize {
        self.endpoints.get(endpoint.index()).map_or(0, |e| e.len as usize)
    }

    /// Whether nothing is kept of any endpoint.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// A prompt of these blocks was sent to `endpoint`, or its answer came back.
    ///
    /// The prompt's beginning counts as used last, since engines give up a prompt's end first;
    /// of a prompt larger than the capacity the beginning is kept. O(blocks).
    pub fn record(&mut self, endpoint: EndpointId, hashes: &[BlockHash], now: Time) {
        let capacity = self.endpoint(endpoint).capacity as usize;
        let ends = now.after(self.lease);
        for &hash in hashes[..hashes.len().min(capacity)].iter().rev() {
            let i = match self.found.get(&(hash, endpoint)) {
                Some(&i) => {
                    self.unlink_use(i);
                    i
                }
                None => self.insert(hash, endpoint),
            };
            self.entries[i as usize].ends = ends;
            self.link_newest(i);
        }
    }

    /// The longest prefix of a prompt that every endpoint was sent within its lease and capacity.
    /// O(blocks matched, over all endpoints).
    ///
    /// An engine computes at least one token itself, so leave out a block that ends with the
    /// prompt. `out` is overwritten.
    pub fn find_matches(&self, hashes: &[BlockHash], now: Time, out: &mut PrefixMatches) {
        out.reset(self.endpoints.len(), hashes.len() as u32);
        self.raise_matches(hashes, now, out);
    }

    /// Lengthens the matches an index found by the blocks that go on from them here: what was
    /// just sent to an endpoint and no event has told of. They count as on the device.
    pub fn raise_matches(&self, hashes: &[BlockHash], now: Time, matches: &mut PrefixMatches) {
        matches.cover(self.endpoints.len());
        let matched = matches.as_mut_slice();
        let mut longest = matched.iter().copied().max().unwrap_or(0);
        for (block, hash) in (0..).zip(hashes) {
            if block > longest {
                break;
            }
            let mut i = self.holders.get(hash).copied().unwrap_or(NONE);
            while let Some(entry) = self.entries.get(i as usize) {
                let length = &mut matched[entry.endpoint.index()];
                if *length == block && entry.ends > now {
                    *length = block + 1;
                    longest = longest.max(*length);
                }
                i = entry.next;
            }
        }
    }

    /// `endpoint` no longer needs these blocks remembered, or does not hold them.
    pub fn forget(&mut self, endpoint: EndpointId, hashes: &[BlockHash]) {
        for &hash in hashes {
            if let Some(&i) = self.found.get(&(hash, endpoint)) {
                self.remove(i);
            }
        }
    }

    /// `endpoint` holds nothing any more: it was restarted, or its id goes to another.
    pub fn clear(&mut self, endpoint: EndpointId) {
        while let Some(oldest) = self.endpoints.get(endpoint.index()).map(|e| e.oldest)
            && oldest != NONE
        {
            self.remove(oldest);
        }
    }

    fn endpoint(&mut self, endpoint: EndpointId) -> &mut Recency {
        let new = Recency { newest: NONE, oldest: NONE, len: 0, capacity: self.capacity };
        if self.endpoints.len() <= endpoint.index() {
            self.endpoints.resize(endpoint.index() + 1, new);
        }
        &mut self.endpoints[endpoint.index()]
    }

    /// A new entry among its block's holders, not yet in the order of use.
    fn insert(&mut self, hash: BlockHash, endpoint: EndpointId) -> u32 {
        let recency = self.endpoints[endpoint.index()];
        if recency.len >= recency.capacity || self.entries.len() >= NONE as usize {
            self.remove(recency.oldest);
        }
        let next = self.holders.get(&hash).copied().unwrap_or(NONE);
        let entry = Entry {
            hash,
            ends: Time::default(),
            newer: NONE,
            older: NONE,
            next,
            previous: NONE,
            endpoint,
        };
        let i = match self.entries.get_mut(self.free as usize) {
            Some(free) => {
                let i = self.free;
                self.free = free.newer;
                *free = entry;
                i
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = i;
        }
        self.holders.insert(hash, i);
        self.found.insert((hash, endpoint), i);
        i
    }

    fn remove(&mut self, i: u32) {
        let Some(&Entry { hash, endpoint, next, previous, .. }) = self.entries.get(i as usize)
        else {
            return;
        };
        self.unlink_use(i);
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = previous;
        }
        match self.entries.get_mut(previous as usize) {
            Some(previous) => previous.next = next,
            None if next == NONE => {
                self.holders.remove(&hash);
            }
            None => {
                self.holders.insert(hash, next);
            }
        }
        self.found.remove(&(hash, endpoint));
        self.entries[i as usize].newer = self.free;
        self.free = i;
    }

    fn link_newest(&mut self, i: u32) {
        let endpoint = self.entries[i as usize].endpoint.index();
        let recency = &mut self.endpoints[endpoint];
        let second = std::mem::replace(&mut recency.newest, i);
        recency.len += 1;
        match self.entries.get_mut(second as usize) {
            Some(entry) => entry.newer = i,
            None => recency.oldest = i,
        }
        let entry = &mut self.entries[i as usize];
        (entry.newer, entry.older) = (NONE, second);
    }

    fn unlink_use(&mut self, i: u32) {
        let Entry { endpoint, newer, older, .. } = self.entries[i as usize];
        let recency = &mut self.endpoints[endpoint.index()];
        recency.len -= 1;
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => recency.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => recency.oldest = newer,
        }
    }
}

/// Spreads what is random already: block hashes. Multiplication by the golden ratio's fraction
/// reaches the high bits, which the table reads too.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(u64::from(b)));
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        let mixed = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}
