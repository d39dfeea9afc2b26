use kvsched_core::{EndpointId, Load, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// What was routed and has not come back: the router's own count, which no polling delays.
///
/// Metrics that are 50 ms old show nothing of the requests routed since, so that a burst would
/// land on one endpoint. The ledger credits a request at once, releases its prefill at the
/// first token and the rest at its end, or all of it when its lease ends because nobody
/// reported back. [`InFlight::apply`] brings a load row up to date.
///
/// ```
/// use kvsched_core::{EndpointId, Load, Time};
/// use kvsched_scorers::{InFlight, Routed};
/// use std::time::Duration;
///
/// let mut ledger = InFlight::new(Duration::from_secs(600));
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
#[derive(Clone, Debug)]
pub struct InFlight {
    lease: Duration,
    window: Duration,
    accounts: Vec<Account>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Tickets by the end of their lease, oldest first; those finished early wait for it.
    leases: VecDeque<(Time, Ticket)>,
    version: u64,
    peers: Vec<(u64, Report)>,
}

/// A request in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    entry: u32,
    /// Distinguishes the requests that had the same entry one after the other.
    generation: u32,
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

#[derive(Clone, Debug, Default)]
struct Account {
    outstanding: Outstanding,
    peers: Outstanding,
    last_cold_at: Option<Time>,
    /// Prefill routed within the window, oldest first, and its sum.
    recent: VecDeque<(Time, u32)>,
    recent_tokens: u64,
    /// What metrics may not show yet, oldest first.
    journal: VecDeque<Change>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    at: Time,
    requests: i32,
    kv_tokens: i64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    generation: u32,
    /// `None` once finished.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    endpoint: EndpointId,
    routed: Routed,
    decoding: bool,
}

impl InFlight {
    /// An empty ledger whose requests count for `lease` at most. Ten minutes is longer than
    /// most answers take.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self {
            lease,
            window: Duration::from_secs(180),
            accounts: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            leases: VecDeque::new(),
            version: 0,
            peers: Vec::new(),
        }
    }

    /// Credits `endpoint` with a request. Amortised O(1).
    pub fn route(&mut self, endpoint: EndpointId, routed: Routed, now: Time) -> Ticket {
        self.expire(now);
        self.version += 1;
        let window = self.window;
        let keep = self.lease;
        let account = self.account(endpoint);
        account.outstanding.add(&routed);
        if routed.cached_tokens == 0 {
            account.last_cold_at = account.last_cold_at.max(Some(now));
        }
        account.recent.push_back((now, routed.uncached_tokens));
        account.recent_tokens += u64::from(routed.uncached_tokens);
        account.forget(now, window, keep);
        let kv_tokens = i64::from(routed.uncached_tokens);
        account.journal.push_back(Change { at: now, requests: 1, kv_tokens });

        let open = Some(Open { endpoint, routed, decoding: false });
        let entry = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, open: None });
            (self.entries.len() - 1) as u32
        });
        let slot = &mut self.entries[entry as usize];
        slot.open = open;
        let ticket = Ticket { entry, generation: slot.generation };
        self.leases.push_back((now.after(self.lease), ticket));
        ticket
    }

    /// Releases the prefill of a request that has had its first token. `false` if it is
    /// finished or had it before.
    pub fn first_token(&mut self, ticket: Ticket) -> bool {
        let Some(open) = self.open(ticket).filter(|open| !open.decoding) else { return false };
        open.decoding = true;
        let Open { endpoint, routed, .. } = *open;
        self.version += 1;
        let outstanding = &mut self.account(endpoint).outstanding;
        outstanding.decoding += 1;
        outstanding.prefill_tokens -= u64::from(routed.uncached_tokens);
        true
    }

    /// Releases a request that ended, well or badly, after `output_tokens` tokens. `false` if it
    /// had ended before.
    pub fn finish(&mut self, ticket: Ticket, output_tokens: u32, now: Time) -> bool {
        let finished = self.release(ticket, output_tokens, now);
        self.expire(now);
        finished
    }

    /// Releases the requests whose lease has ended and returns how many. Called by
    /// [`InFlight::route`] and [`InFlight::finish`], too.
    pub fn expire(&mut self, now: Time) -> usize {
        let mut expired = 0;
        while let Some(&(end, ticket)) = self.leases.front() {
            let open = self.open(ticket).is_some();
            if open && end > now {
                break;
            }
            self.leases.pop_front();
            expired += usize::from(open && self.release(ticket, 0, now));
        }
        expired
    }

    /// What is in flight on `endpoint`, ours and the peers'.
    #[must_use]
    pub fn outstanding(&self, endpoint: EndpointId) -> Outstanding {
        self.accounts
            .get(endpoint.index())
            .map_or_else(Outstanding::default, |account| account.outstanding.plus(&account.peers))
    }

    /// Brings `load`, as polled from `endpoint`, up to date with what the ledger knows:
    ///
    /// - our own counts are filled in: requests in flight, queued and recent prefill, when it
    ///   last got a cold request; a larger figure that is already there stays;
    /// - what was routed or ended after [`Load::observed_at`] is added to or taken from the
    ///   requests and the KV in use: to those waiting if any wait, else to those running.
    ///
    /// Amortised O(changes since then).
    pub fn apply(&mut self, endpoint: EndpointId, load: &mut Load, now: Time) {
        let (window, keep) = (self.window, self.lease);
        let Some(account) = self.accounts.get_mut(endpoint.index()) else { return };
        account.forget(now, window, keep);
        let all = account.outstanding.plus(&account.peers);
        load.in_flight_requests = load.in_flight_requests.max(all.requests);
        load.queued_prefill_tokens = load.queued_prefill_tokens.max(all.prefill_tokens);
        load.recent_prefill_tokens = load.recent_prefill_tokens.max(account.recent_tokens);
        load.last_cold_at = load.last_cold_at.max(account.last_cold_at);

        let (mut routed, mut ended, mut kv_tokens) = (0_u32, 0_u32, 0_i64);
        for change in account.journal.iter().rev().take_while(|c| c.at > load.observed_at) {
            if change.requests > 0 {
                routed += 1
            } else {
                ended += 1
            }
            kv_tokens += change.kv_tokens;
        }
        let grows = if load.waiting_requests > 0 {
            &mut load.waiting_requests
        } else {
            &mut load.running_requests
        };
        *grows = grows.saturating_add(routed);
        load.running_requests = load.running_requests.saturating_sub(ended);
        if load.kv_capacity_tokens > 0 {
            let share = kv_tokens as f64 / load.kv_capacity_tokens as f64;
            load.kv_usage = (load.kv_share() + share).clamp(0.0, 1.0);
        }
    }

    /// What other replicas need to know of this ledger. O(endpoints).
    #[must_use]
    pub fn report(&self) -> Report {
        let rows = self.accounts.iter().enumerate();
        let rows = rows.filter(|(_, account)| account.outstanding.requests > 0);
        Report {
            version: self.version,
            rows: rows.map(|(i, account)| (EndpointId(i as u16), account.outstanding)).collect(),
        }
    }

    /// Counts what `replica` reported as in flight, in place of its earlier report. `false` if
    /// that one was as new. An empty report of a higher version forgets a replica that is gone.
    /// O(reports' rows).
    pub fn merge(&mut self, replica: u64, report: Report) -> bool {
        match self.peers.iter_mut().find(|(id, _)| *id == replica) {
            Some((_, known)) if known.version >= report.version => return false,
            Some((_, known)) => *known = report,
            None => self.peers.push((replica, report)),
        }
        self.accounts.iter_mut().for_each(|account| account.peers = Outstanding::default());
        let peers = std::mem::take(&mut self.peers);
        for (endpoint, outstanding) in peers.iter().flat_map(|(_, report)| &report.rows) {
            let account = self.account(*endpoint);
            account.peers = account.peers.plus(outstanding);
        }
        self.peers = peers;
        true
    }

    fn account(&mut self, endpoint: EndpointId) -> &mut Account {
        if self.accounts.len() <= endpoint.index() {
            self.accounts.resize_with(endpoint.index() + 1, Account::default);
        }
        &mut self.accounts[endpoint.index()]
    }

    fn open(&mut self, ticket: Ticket) -> Option<&mut Open> {
        let entry = self.entries.get_mut(ticket.entry as usize)?;
        if entry.generation == ticket.generation { entry.open.as_mut() } else { None }
    }

    fn release(&mut self, ticket: Ticket, output_tokens: u32, now: Time) -> bool {
        let Some(open) = self.open(ticket).copied() else { return false };
        let entry = &mut self.entries[ticket.entry as usize];
        entry.open = None;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(ticket.entry);
        self.version += 1;
        let (window, keep) = (self.window, self.lease);
        let account = self.account(open.endpoint);
        account.outstanding.subtract(&open);
        account.forget(now, window, keep);
        let kv_tokens = -i64::from(open.routed.uncached_tokens) - i64::from(output_tokens);
        account.journal.push_back(Change { at: now, requests: -1, kv_tokens });
        true
    }
}

impl Account {
    /// Drops what is too old to count: prefill beyond the window, and changes that any metrics
    /// worth reading already show.
    fn forget(&mut self, now: Time, window: Duration, keep: Duration) {
        while self.recent.front().is_some_and(|&(at, _)| now.since(at) > window) {
            self.recent_tokens -= self.recent.pop_front().map_or(0, |(_, n)| u64::from(n));
        }
        while self.journal.front().is_some_and(|change| now.since(change.at) > keep) {
            self.journal.pop_front();
        }
    }
}

impl Outstanding {
    fn add(&mut self, routed: &Routed) {
        self.requests += 1;
        self.prefill_tokens += u64::from(routed.uncached_tokens);
        self.kv_tokens += u64::from(routed.uncached_tokens) + u64::from(routed.output_tokens);
    }

    fn subtract(&mut self, Open { routed, decoding, .. }: &Open) {
        self.requests -= 1;
        self.kv_tokens -= u64::from(routed.uncached_tokens) + u64::from(routed.output_tokens);
        if *decoding {
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
