mod book;
mod published;

use book::Book;
use kvsched_core::{EndpointId, Load, Time};
use published::Published;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What was routed and has not come back: the router's own count, which no polling delays.
///
/// Metrics that are 50 ms old show nothing of the requests routed since, so that a burst would
/// land on one endpoint. The ledger credits a request at once, releases its prefill at the
/// first token and the rest at its end, or all of it when its lease ends because nobody
/// reported back. [`InFlight::apply`] brings a load row up to date.
///
/// Any number of threads may use one ledger. Those who change it take turns behind a lock,
/// held for some tens of nanoseconds; [`InFlight::apply`] and [`InFlight::outstanding`] take
/// none.
///
/// ```
/// use kvsched_core::{EndpointId, Load, Time};
/// use kvsched_scorers::{InFlight, Routed};
/// use std::time::Duration;
///
/// let ledger = InFlight::new(Duration::from_secs(600));
/// let routed = Routed { uncached_tokens: 700, cached_tokens: 0, output_tokens: 100 };
/// let ticket = ledger.route(EndpointId(1), routed, Time(5));
///
/// // Metrics from before that.
/// let mut load = Load { running_requests: 3, observed_at: Time(2), ..Load::default() };
/// ledger.apply(EndpointId(1), &mut load, Time(10));
/// assert_eq!((load.running_requests, load.queued_prefill_tokens), (4, 700));
///
/// ledger.first_token(ticket);
/// let mut load = Load { running_requests: 4, observed_at: Time(9), ..Load::default() };
/// ledger.apply(EndpointId(1), &mut load, Time(10));
/// assert_eq!((load.running_requests, load.queued_prefill_tokens), (4, 0));
/// assert!(ledger.finish(ticket, 100, Time(20)));
/// assert!(!ledger.finish(ticket, 100, Time(21)), "once only");
/// ```
#[derive(Debug)]
pub struct InFlight {
    lease: Duration,
    book: Mutex<Book>,
    /// What readers see, by endpoint id, in pages made when first written to.
    pages: Box<[OnceLock<Box<[Published]>>]>,
}

/// How long routed prefill counts as recent: Preble's window.
pub(crate) const RECENT: Duration = Duration::from_secs(180);

/// Endpoints a page.
const PAGE: usize = 16;

/// A request in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    entry: u32,
    /// Distinguishes the requests that had the same entry one after the other.
    generation: u32,
}

impl Ticket {
    /// The ticket as a number, for callers that cannot keep one. Never 0.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        ((self.generation as u64) << 32 | self.entry as u64).wrapping_add(1)
    }

    /// The ticket of a number that [`Ticket::to_bits`] gave. Another number gives the ticket of no
    /// request, or of another one; `None` for 0.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match bits.checked_sub(1) {
            Some(bits) => Some(Self { entry: bits as u32, generation: (bits >> 32) as u32 }),
            None => None,
        }
    }
}

/// What a request brings to its endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// Prompt tokens to compute there.
    pub uncached_tokens: u32,
    /// Prompt tokens found in its cache.
    pub cached_tokens: u32,
    /// Output tokens expected; 0 where unknown.
    pub output_tokens: u32,
}

/// What is in flight on one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outstanding {
    /// Requests routed and not finished.
    pub requests: u32,
    /// Those of them that have had their first token.
    pub decoding: u32,
    /// Prompt tokens to compute of those that have not.
    pub prefill_tokens: u64,
    /// KV that all of them will have added when they end: uncached prompt and expected output.
    pub kv_tokens: u64,
}

/// One ledger's outstanding work, for the other replicas of a router.
///
/// A report says everything, so that one that is lost or comes twice does no harm and the
/// newest alone counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Grows with every change of the ledger.
    pub version: u64,
    /// The endpoints with something outstanding, by id.
    pub rows: Vec<(EndpointId, Outstanding)>,
}

impl InFlight {
    /// An empty ledger whose requests count for `lease` at most. Ten minutes is longer than
    /// most answers take.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        let pages = (usize::from(u16::MAX) + 1).div_ceil(PAGE);
        Self { lease, book: Mutex::default(), pages: (0..pages).map(|_| OnceLock::new()).collect() }
    }

    /// Credits `endpoint` with a request. Amortised O(1).
    pub fn route(&self, endpoint: EndpointId, routed: Routed, now: Time) -> Ticket {
        let mut book = self.book();
        book.expire(now, self);
        book.route(endpoint, routed, now, self)
    }

    /// Releases the prefill of a request that has had its first token. `false` if it is
    /// finished or had it before.
    pub fn first_token(&self, ticket: Ticket) -> bool {
        self.book().first_token(ticket, self)
    }

    /// Releases a request that ended, well or badly, after `output_tokens` tokens. `false` if it
    /// had ended before.
    pub fn finish(&self, ticket: Ticket, output_tokens: u32, now: Time) -> bool {
        let mut book = self.book();
        let finished = book.release(ticket, output_tokens, now, self);
        book.expire(now, self);
        finished
    }

    /// Releases the requests whose lease has ended and returns how many; forgets prefill older
    /// than three minutes. Called by [`InFlight::route`] and [`InFlight::finish`], too; call it
    /// every second or so where those may not come.
    pub fn expire(&self, now: Time) -> usize {
        self.book().expire(now, self)
    }

    /// Releases all that is in flight on an endpoint that is gone, before another gets its id,
    /// and forgets what else was known of it. O(requests in flight).
    pub fn forget(&self, endpoint: EndpointId) {
        self.book().forget(endpoint, self);
    }

    /// What is in flight on `endpoint`, ours and the peers'. O(1), without a lock.
    #[must_use]
    pub fn outstanding(&self, endpoint: EndpointId) -> Outstanding {
        self.published(endpoint).map_or_else(Outstanding::default, Published::outstanding)
    }

    /// Brings `load`, as polled from `endpoint`, up to date with what the ledger knows:
    ///
    /// - our own counts are filled in: requests in flight and pending, queued and recent prefill, when it
    ///   last got a cold request; a larger figure that is already there stays;
    /// - what was routed or ended after [`Load::observed_at`] is added to or taken from the
    ///   requests and the KV in use: to those waiting if any wait, else to those running. Changes
    ///   longer ago than a lease, and more than the last 256, do not count: metrics that old say
    ///   nothing of now.
    ///
    /// O(changes since then), without a lock.
    pub fn apply(&self, endpoint: EndpointId, load: &mut Load, now: Time) {
        let Some(published) = self.published(endpoint) else { return };
        let all = published.outstanding();
        load.in_flight_requests = load.in_flight_requests.max(all.requests);
        let pending = all.requests.saturating_sub(all.decoding);
        load.pending_requests = load.pending_requests.max(pending);
        load.queued_prefill_tokens = load.queued_prefill_tokens.max(all.prefill_tokens);
        load.recent_prefill_tokens = load.recent_prefill_tokens.max(published.recent_tokens());
        load.last_cold_at = load.last_cold_at.max(published.last_cold_at());

        let unseen = published.since(load.observed_at.max(now.before(self.lease)));
        let grows = if load.waiting_requests > 0 {
            &mut load.waiting_requests
        } else {
            &mut load.running_requests
        };
        *grows = grows.saturating_add(unseen.routed);
        load.running_requests = load.running_requests.saturating_sub(unseen.ended);
        if load.kv_capacity_tokens > 0 {
            let share = unseen.kv_tokens as f64 / load.kv_capacity_tokens as f64;
            load.kv_usage = (load.kv_share() + share).clamp(0.0, 1.0);
        }
    }

    /// What other replicas need to know of this ledger. O(endpoints).
    #[must_use]
    pub fn report(&self) -> Report {
        self.book().report()
    }

    /// Counts what `replica` reported as in flight, in place of its earlier report. `false` if
    /// that one was as new. An empty report of a higher version forgets a replica that is gone.
    /// O(reports' rows).
    pub fn merge(&self, replica: u64, report: Report) -> bool {
        self.book().merge(replica, report, self)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Nothing panics while it is held; if something did, the counts would still be usable.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self, endpoint: EndpointId) -> Option<&Published> {
        Some(&self.pages[endpoint.index() / PAGE].get()?[endpoint.index() % PAGE])
    }

    fn publish(&self, endpoint: EndpointId) -> &Published {
        let page = self.pages[endpoint.index() / PAGE]
            .get_or_init(|| (0..PAGE).map(|_| Published::default()).collect());
        &page[endpoint.index() % PAGE]
    }
}

impl Outstanding {
    fn add(&mut self, routed: &Routed) {
        self.requests += 1;
        self.prefill_tokens += u64::from(routed.uncached_tokens);
        self.kv_tokens += u64::from(routed.uncached_tokens) + u64::from(routed.output_tokens);
    }

    fn subtract(&mut self, routed: &Routed, decoding: bool) {
        self.requests -= 1;
        self.kv_tokens -= u64::from(routed.uncached_tokens) + u64::from(routed.output_tokens);
        if decoding {
            self.decoding -= 1;
        } else {
            self.prefill_tokens -= u64::from(routed.uncached_tokens);
        }
    }

    /// Both together. Saturates, as a peer may report anything.
    fn plus(&self, other: &Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            decoding: self.decoding.saturating_add(other.decoding),
            prefill_tokens: self.prefill_tokens.saturating_add(other.prefill_tokens),
            kv_tokens: self.kv_tokens.saturating_add(other.kv_tokens),
        }
    }
}
