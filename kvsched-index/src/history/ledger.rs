//! How long recorded blocks count: the order of their use, and the ends of their leases.

use kvsched_core::{BlockHash, EndpointId, Time};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

/// The recorded blocks of all endpoints, each in the order of its endpoint's use and of all use.
#[derive(Debug)]
pub(super) struct Ledger {
    capacity: u32,
    lease: Duration,
    /// The latest time at which something was recorded.
    recorded: Time,
    entries: Vec<Entry>,
    /// Unused entries.
    free: Vec<u32>,
    endpoints: Vec<Endpoint>,
    /// Everything, by use: as all leases are equally long and time does not go back, also by the
    /// end of its lease.
    all: List,
    /// The entry of each hash and endpoint.
    found: HashMap<(BlockHash, EndpointId), u32, BuildHasherDefault<Mix>>,
    /// What went and was not yet told: the blocks, and where each endpoint's run of them ends.
    gone: Vec<BlockHash>,
    gone_of: Vec<(EndpointId, usize)>,
}

/// A block on an endpoint.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: BlockHash,
    ends: Time,
    of_all: Links,
    of_endpoint: Links,
    endpoint: EndpointId,
}

#[derive(Clone, Copy, Debug)]
struct Endpoint {
    used: List,
    len: u32,
    capacity: u32,
}

/// Entries by use.
#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
}

/// An entry's neighbours in a list.
#[derive(Clone, Copy, Debug)]
struct Links {
    newer: u32,
    older: u32,
}

/// No entry.
const NONE: u32 = u32::MAX;
const EMPTY: List = List { newest: NONE, oldest: NONE };
const ALONE: Links = Links { newer: NONE, older: NONE };

impl List {
    fn push_newest(&mut self, entries: &mut [Entry], i: u32, links: fn(&mut Entry) -> &mut Links) {
        let second = std::mem::replace(&mut self.newest, i);
        match entries.get_mut(second as usize) {
            Some(entry) => links(entry).newer = i,
            None => self.oldest = i,
        }
        *links(&mut entries[i as usize]) = Links { newer: NONE, older: second };
    }

    fn unlink(&mut self, entries: &mut [Entry], i: u32, links: fn(&mut Entry) -> &mut Links) {
        let Links { newer, older } = *links(&mut entries[i as usize]);
        match entries.get_mut(newer as usize) {
            Some(entry) => links(entry).older = older,
            None => self.newest = older,
        }
        match entries.get_mut(older as usize) {
            Some(entry) => links(entry).newer = newer,
            None => self.oldest = newer,
        }
    }
}

fn of_all(entry: &mut Entry) -> &mut Links {
    &mut entry.of_all
}

fn of_endpoint(entry: &mut Entry) -> &mut Links {
    &mut entry.of_endpoint
}

impl Ledger {
    pub(super) fn new(capacity: u32, lease: Duration) -> Self {
        Self {
            capacity,
            lease,
            recorded: Time::default(),
            entries: Vec::new(),
            free: Vec::new(),
            endpoints: Vec::new(),
            all: EMPTY,
            found: HashMap::default(),
            gone: Vec::new(),
            gone_of: Vec::new(),
        }
    }

    pub(super) fn len(&self, endpoint: EndpointId) -> usize {
        self.endpoints.get(endpoint.index()).map_or(0, |e| e.len as usize)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn set_capacity(&mut self, endpoint: EndpointId, blocks: u32) {
        self.endpoint(endpoint).capacity = blocks;
        self.trim(endpoint);
    }

    /// Uses the first of `hashes`, as many as `endpoint` has room for, and returns how many.
    pub(super) fn record(
        &mut self,
        endpoint: EndpointId,
        hashes: &[BlockHash],
        now: Time,
    ) -> usize {
        self.recorded = self.recorded.max(now);
        self.expire(self.recorded);
        // One number is no entry's.
        let room = (self.endpoint(endpoint).capacity as usize).min(NONE as usize - 1);
        let kept = hashes.len().min(room);
        let ends = self.recorded.after(self.lease);
        for &hash in hashes[..kept].iter().rev() {
            let i = match self.found.get(&(hash, endpoint)) {
                Some(&i) => {
                    self.unlink(i);
                    i
                }
                None => self.insert(hash, endpoint),
            };
            self.entries[i as usize].ends = ends;
            self.all.push_newest(&mut self.entries, i, of_all);
            let endpoint = &mut self.endpoints[endpoint.index()];
            endpoint.used.push_newest(&mut self.entries, i, of_endpoint);
        }
        self.trim(endpoint);
        kept
    }

    /// When the first lease ends.
    pub(super) fn next_end(&self) -> Option<Time> {
        self.entries.get(self.all.oldest as usize).map(|entry| entry.ends)
    }

    pub(super) fn expire(&mut self, now: Time) {
        while self.next_end().is_some_and(|ends| ends <= now) {
            self.remove(self.all.oldest);
        }
    }

    pub(super) fn forget(&mut self, endpoint: EndpointId, hashes: &[BlockHash]) {
        for &hash in hashes {
            if let Some(&i) = self.found.get(&(hash, endpoint)) {
                self.remove(i);
            }
        }
    }

    pub(super) fn clear(&mut self, endpoint: EndpointId) {
        while let Some(e) = self.endpoints.get(endpoint.index())
            && e.used.oldest != NONE
        {
            self.remove(e.used.oldest);
        }
    }

    /// Tells what is gone since the last call, in the order in which it went.
    pub(super) fn tell_gone(&mut self, mut gone: impl FnMut(EndpointId, &[BlockHash])) {
        let mut start = 0;
        for &(endpoint, end) in &self.gone_of {
            gone(endpoint, &self.gone[start..end]);
            start = end;
        }
        self.gone.clear();
        self.gone_of.clear();
    }

    fn endpoint(&mut self, endpoint: EndpointId) -> &mut Endpoint {
        let new = Endpoint { used: EMPTY, len: 0, capacity: self.capacity };
        if self.endpoints.len() <= endpoint.index() {
            self.endpoints.resize(endpoint.index() + 1, new);
        }
        &mut self.endpoints[endpoint.index()]
    }

    /// Lets the least recently used go until `endpoint` is within its capacity.
    fn trim(&mut self, endpoint: EndpointId) {
        loop {
            let Endpoint { used, len, capacity } = self.endpoints[endpoint.index()];
            if len <= capacity {
                return;
            }
            self.remove(used.oldest);
        }
    }

    /// A new entry, in no order of use yet.
    fn insert(&mut self, hash: BlockHash, endpoint: EndpointId) -> u32 {
        if self.free.is_empty() && self.entries.len() >= NONE as usize {
            self.remove(self.all.oldest);
        }
        let entry =
            Entry { hash, ends: Time::default(), of_all: ALONE, of_endpoint: ALONE, endpoint };
        let i = match self.free.pop() {
            Some(i) => {
                self.entries[i as usize] = entry;
                i
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.found.insert((hash, endpoint), i);
        self.endpoints[endpoint.index()].len += 1;
        i
    }

    fn remove(&mut self, i: u32) {
        let Some(&Entry { hash, endpoint, .. }) = self.entries.get(i as usize) else { return };
        self.unlink(i);
        self.found.remove(&(hash, endpoint));
        self.endpoints[endpoint.index()].len -= 1;
        self.free.push(i);
        self.gone.push(hash);
        match self.gone_of.last_mut() {
            Some((of, end)) if *of == endpoint => *end += 1,
            _ => self.gone_of.push((endpoint, self.gone.len())),
        }
    }

    /// Takes an entry out of both orders.
    fn unlink(&mut self, i: u32) {
        self.all.unlink(&mut self.entries, i, of_all);
        let endpoint = self.entries[i as usize].endpoint.index();
        self.endpoints[endpoint].used.unlink(&mut self.entries, i, of_endpoint);
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
