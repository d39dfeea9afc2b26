use super::published::Sums;
use super::{InFlight, Outstanding, RECENT, Report, Routed, Ticket};
use kvsched_core::{EndpointId, Time};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What the ledger's writers know. Every change is published to the ledger's readers.
#[derive(Debug, Default)]
pub(super) struct Book {
    accounts: Vec<Account>,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Tickets by the end of their lease; those finished early wait for it, or until they are
    /// the more.
    leases: BinaryHeap<Reverse<(Time, Ticket)>>,
    /// Prefill routed within the window, oldest first.
    recent: VecDeque<(Time, EndpointId, u32)>,
    peers: Vec<(u64, Report)>,
    version: u64,
}

#[derive(Clone, Debug, Default)]
struct Account {
    outstanding: Outstanding,
    peers: Outstanding,
    recent_tokens: u64,
    sums: Sums,
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

impl Book {
    pub(super) fn route(
        &mut self,
        endpoint: EndpointId,
        routed: Routed,
        now: Time,
        ledger: &InFlight,
    ) -> Ticket {
        self.version += 1;
        let published = ledger.publish(endpoint);
        let account = self.account(endpoint);
        account.outstanding.add(&routed);
        account.recent_tokens += u64::from(routed.uncached_tokens);
        account.sums = account.sums.plus(1, 0, i64::from(routed.uncached_tokens));
        published.set_outstanding(&account.outstanding.plus(&account.peers));
        published.set_recent_tokens(account.recent_tokens);
        published.note(now, &account.sums);
        if routed.cached_tokens == 0 {
            published.cold_at(now);
        }
        self.recent.push_back((now, endpoint, routed.uncached_tokens));

        let entry = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, open: None });
            (self.entries.len() - 1) as u32
        });
        let slot = &mut self.entries[entry as usize];
        slot.open = Some(Open { endpoint, routed, decoding: false });
        let ticket = Ticket { entry, generation: slot.generation };
        self.leases.push(Reverse((now.after(ledger.lease), ticket)));
        let open = self.entries.len() - self.free.len();
        if self.leases.len() > 2 * open + 64 {
            let entries = &self.entries;
            self.leases.retain(|Reverse((_, ticket))| is_open(entries, ticket));
        }
        ticket
    }

    pub(super) fn first_token(&mut self, ticket: Ticket, ledger: &InFlight) -> bool {
        if !is_open(&self.entries, &ticket) {
            return false;
        }
        let Some(open) = &mut self.entries[ticket.entry as usize].open else { return false };
        if std::mem::replace(&mut open.decoding, true) {
            return false;
        }
        let Open { endpoint, routed, .. } = *open;
        self.version += 1;
        let account = self.account(endpoint);
        account.outstanding.decoding += 1;
        account.outstanding.prefill_tokens -= u64::from(routed.uncached_tokens);
        let published = ledger.publish(endpoint);
        published.set_outstanding(&account.outstanding.plus(&account.peers));
        true
    }

    pub(super) fn release(
        &mut self,
        ticket: Ticket,
        output_tokens: u32,
        now: Time,
        ledger: &InFlight,
    ) -> bool {
        if !is_open(&self.entries, &ticket) {
            return false;
        }
        let entry = &mut self.entries[ticket.entry as usize];
        let Some(Open { endpoint, routed, decoding }) = entry.open.take() else { return false };
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(ticket.entry);
        self.version += 1;
        let account = self.account(endpoint);
        account.outstanding.subtract(&routed, decoding);
        let kv_tokens = -i64::from(routed.uncached_tokens) - i64::from(output_tokens);
        account.sums = account.sums.plus(0, 1, kv_tokens);
        let published = ledger.publish(endpoint);
        published.set_outstanding(&account.outstanding.plus(&account.peers));
        published.note(now, &account.sums);
        true
    }

    pub(super) fn expire(&mut self, now: Time, ledger: &InFlight) -> usize {
        while let Some(&(at, endpoint, tokens)) = self.recent.front() {
            if now.since(at) <= RECENT {
                break;
            }
            self.recent.pop_front();
            let account = self.account(endpoint);
            account.recent_tokens -= u64::from(tokens);
            ledger.publish(endpoint).set_recent_tokens(account.recent_tokens);
        }
        let mut expired = 0;
        while let Some(&Reverse((end, ticket))) = self.leases.peek() {
            let open = is_open(&self.entries, &ticket);
            if open && end > now {
                break;
            }
            self.leases.pop();
            expired += usize::from(open && self.release(ticket, 0, now, ledger));
        }
        expired
    }

    pub(super) fn forget(&mut self, endpoint: EndpointId, ledger: &InFlight) {
        if endpoint.index() >= self.accounts.len() {
            return;
        }
        self.version += 1;
        for (i, entry) in self.entries.iter_mut().enumerate() {
            if entry.open.as_ref().is_some_and(|open| open.endpoint == endpoint) {
                *entry = Entry { generation: entry.generation.wrapping_add(1), open: None };
                self.free.push(i as u32);
            }
        }
        self.recent.retain(|(_, of, _)| *of != endpoint);
        self.peers.iter_mut().for_each(|(_, report)| report.rows.retain(|(of, _)| *of != endpoint));
        let account = self.account(endpoint);
        // Readers count by differences of the sums.
        *account = Account { sums: account.sums, ..Account::default() };
        ledger.publish(endpoint).forget();
    }

    pub(super) fn report(&self) -> Report {
        let rows = self.accounts.iter().enumerate();
        let rows = rows.filter(|(_, account)| account.outstanding.requests > 0);
        Report {
            version: self.version,
            rows: rows.map(|(i, account)| (EndpointId(i as u16), account.outstanding)).collect(),
        }
    }

    pub(super) fn merge(&mut self, replica: u64, report: Report, ledger: &InFlight) -> bool {
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
        for (i, account) in self.accounts.iter().enumerate() {
            let all = account.outstanding.plus(&account.peers);
            let endpoint = EndpointId(i as u16);
            if all != ledger.outstanding(endpoint) {
                ledger.publish(endpoint).set_outstanding(&all);
            }
        }
        true
    }

    fn account(&mut self, endpoint: EndpointId) -> &mut Account {
        if self.accounts.len() <= endpoint.index() {
            self.accounts.resize_with(endpoint.index() + 1, Account::default);
        }
        &mut self.accounts[endpoint.index()]
    }
}

fn is_open(entries: &[Entry], ticket: &Ticket) -> bool {
    let entry = entries.get(ticket.entry as usize);
    entry.is_some_and(|e| e.generation == ticket.generation && e.open.is_some())
}
