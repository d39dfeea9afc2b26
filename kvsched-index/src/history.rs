//! Residency without events, learned from where requests were sent.

use crate::{Holder, IndexBuilder, Repeat, SharedIndex};
use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Time};
use ledger::Ledger;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod ledger;

/// What endpoints should hold because we sent it there: the approximate path.
///
/// Needs no events. Each endpoint has a list of the blocks of the prompts that were routed to it,
/// the least recently used first to go, as long as the engine's cache is large; a block also
/// goes when its lease ends. Blocks are the engine's own, or any chained hash of anything, such
/// as pieces of text where no tokenizer is at hand (`kvsched_hash::stand_in_tokens`).
///
/// The same object with a short lease gives **speculative residency** beside an index fed by
/// events: [`RoutingHistory::record`] each decision, [`RoutingHistory::raise_matches`] after each
/// query, so that the second request of a burst finds the first's endpoint before any event has
/// told of it, and let [`Confirming`](crate::Confirming) forget what events confirm or deny.
///
/// # Threads
///
/// Everything takes `&self`. Queries ([`find_matches`](Self::find_matches),
/// [`raise_matches`](Self::raise_matches)) take no lock, allocate nothing and are never blocked;
/// what they may see of a write under way stands at [`SharedIndex`]. The others take turns.
///
/// # Leases
///
/// A block's lease begins anew whenever it is recorded, and ends `lease` later. What has ended
/// is taken out by the next [`record`](Self::record), of whichever endpoint, or
/// [`expire`](Self::expire), before these do anything else; queries have no clock and count it
/// until then. Call [`expire`](Self::expire) every second or so, or before a query that must be
/// exact. A record with an earlier time than one before counts as made at the same time.
///
/// # Cost
///
/// A query costs what one of a [`SharedIndex`] does: it depends on how often prompts fork, not on
/// their length. A record or a block that goes costs some hundred nanoseconds. Memory is bounded
/// by the capacities: about 70 bytes a block and endpoint, and an index of what is held.
///
/// ```
/// use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Time};
/// use kvsched_index::RoutingHistory;
/// use std::time::Duration;
///
/// let history = RoutingHistory::new(1000, Duration::from_secs(60));
/// let prompt = [1, 2, 3].map(BlockHash);
/// history.record(EndpointId(1), &prompt[..2], Time(0));
///
/// let mut matches = PrefixMatches::new();
/// history.find_matches(&prompt, &mut matches);
/// assert_eq!(matches.as_slice(), [0, 2]);
/// history.expire(Time::from_secs_f64(60.0));
/// history.find_matches(&prompt, &mut matches);
/// assert_eq!(matches.as_slice(), [0, 0]); // the lease has ended
/// ```
#[derive(Debug)]
pub struct RoutingHistory {
    /// What queries read.
    held: SharedIndex,
    /// What decides how long it is held. Its lock is held during every write of `held`, so that
    /// both always say the same.
    ledger: Mutex<Ledger>,
    /// When the first lease ends, as of the last write; the clock's end where there is none.
    next_end: AtomicU64,
}

impl RoutingHistory {
    /// An empty history of `capacity` blocks an endpoint, each of which counts for `lease` after
    /// its last use.
    ///
    /// Take the capacity from the engine (`num_gpu_blocks` in its cache configuration); see
    /// [`RoutingHistory::set_capacity`] for mixed fleets.
    #[must_use]
    pub fn new(capacity: u32, lease: Duration) -> Self {
        let held = SharedIndex::new(&IndexBuilder::default());
        Self {
            held,
            ledger: Mutex::new(Ledger::new(capacity, lease)),
            next_end: AtomicU64::new(u64::MAX),
        }
    }

    /// Gives `endpoint` a capacity of its own, in blocks. What is over it goes at once.
    pub fn set_capacity(&self, endpoint: EndpointId, blocks: u32) {
        let mut ledger = self.ledger();
        ledger.set_capacity(endpoint, blocks);
        self.drop_gone(&mut ledger);
    }

    /// How many blocks are kept of `endpoint`. Waits for the writer of the moment.
    #[must_use]
    pub fn len(&self, endpoint: EndpointId) -> usize {
        self.ledger().len(endpoint)
    }

    /// Whether nothing is kept of any endpoint. Waits for the writer of the moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ledger().is_empty()
    }

    /// A prompt of these blocks, from its first, was sent to `endpoint`, or its answer came back.
    ///
    /// The prompt's beginning counts as used last, since engines give up a prompt's end first;
    /// of a prompt larger than the capacity the beginning is kept. O(blocks). Nothing is recorded
    /// of the id 65,535, which no endpoint has.
    pub fn record(&self, endpoint: EndpointId, hashes: &[BlockHash], now: Time) {
        let mut ledger = self.ledger();
        let kept = ledger.record(endpoint, hashes, now);
        self.drop_gone(&mut ledger);
        // Of a prompt's beginning nothing waits for a parent: all that can be refused is the id.
        let stored =
            self.held.store(Holder::device(endpoint), None, &hashes[..kept], Repeat::Known);
        if stored.is_err() {
            ledger.clear(endpoint);
            self.drop_gone(&mut ledger);
        }
    }

    /// Takes out what has its lease ended at `now`. O(blocks that go); one look at a number, and
    /// no lock, where nothing has.
    pub fn expire(&self, now: Time) {
        if now.0 < self.next_end.load(Ordering::Acquire) {
            return;
        }
        let mut ledger = self.ledger();
        ledger.expire(now);
        self.drop_gone(&mut ledger);
    }

    /// The longest prefix of a prompt that every endpoint was sent, within its capacity and
    /// [lease](Self#leases).
    ///
    /// An engine computes at least one token itself, so leave out a block that ends with the
    /// prompt. `out` is overwritten.
    pub fn find_matches(&self, hashes: &[BlockHash], out: &mut PrefixMatches) {
        self.held.find_matches(hashes, out);
    }

    /// Lengthens the matches an index found by the blocks that go on from them here: what was
    /// just sent to an endpoint and no event has told of. They count as on the device.
    ///
    /// A query of the rest of the prompt for each different length among the matches. `spare` is
    /// overwritten.
    pub fn raise_matches(
        &self,
        hashes: &[BlockHash],
        matches: &mut PrefixMatches,
        spare: &mut PrefixMatches,
    ) {
        let mut from = Some(0);
        while let Some(at) = from {
            let Some(rest @ [_, ..]) = hashes.get(at as usize..) else { return };
            self.held.find_matches(rest, spare);
            matches.cover(spare.as_slice().len());
            from = None;
            let matched = matches.as_mut_slice();
            for (length, more) in matched.iter_mut().zip(spare.as_slice()) {
                if *length == at {
                    *length += more;
                } else if *length > at {
                    from = Some(from.map_or(*length, |from: u32| from.min(*length)));
                }
            }
        }
    }

    /// `endpoint` no longer needs these blocks remembered, or does not hold them.
    ///
    /// One look at a number, and no lock, where nothing is remembered.
    pub fn forget(&self, endpoint: EndpointId, hashes: &[BlockHash]) {
        if self.next_end.load(Ordering::Acquire) == u64::MAX {
            return;
        }
        let mut ledger = self.ledger();
        ledger.forget(endpoint, hashes);
        self.drop_gone(&mut ledger);
    }

    /// `endpoint` holds nothing any more: it was restarted, or its id goes to another.
    pub fn clear(&self, endpoint: EndpointId) {
        let mut ledger = self.ledger();
        ledger.clear(endpoint);
        self.drop_gone(&mut ledger);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic in the middle of a write leaves lists that are whole enough to go on with.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from what queries read whatever the ledger let go.
    fn drop_gone(&self, ledger: &mut Ledger) {
        ledger.tell_gone(|endpoint, hashes| {
            self.held.remove(Holder::device(endpoint), hashes);
        });
        let next_end = ledger.next_end().map_or(u64::MAX, |ends| ends.0);
        self.next_end.store(next_end, Ordering::Release);
    }
}
