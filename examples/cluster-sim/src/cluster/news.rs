//! How the router hears of the engines: numbered messages, late, in batches, some lost and asked
//! for again; metrics, late.

use super::{Happening, NANOS, Simulation};
use crate::engine::Metrics;
use crate::router::Ingested;
use crate::wire;
use kvsched_core::Time;
use std::collections::VecDeque;

/// Messages that an engine keeps for replays, as vLLM does by default.
const KEPT: usize = 10_000;

/// One event stream, at the end that sends.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// What was sent, by number from `first` on.
    kept: VecDeque<Vec<u8>>,
    first: u64,
    /// Numbers on their way, and whether they will arrive.
    travelling: VecDeque<(u64, bool)>,
    last_delivery_ns: u64,
    next_flush_ns: u64,
    flush_is_due: bool,
}

impl Publisher {
    /// Its process has started anew: numbers begin again at 0.
    pub(super) fn restart(&mut self) {
        *self = Self { last_delivery_ns: self.last_delivery_ns, ..Self::default() };
    }

    fn keep(&mut self, payload: Vec<u8>) -> u64 {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(payload);
        self.first + self.kept.len() as u64 - 1
    }

    fn get(&self, number: u64) -> Option<&[u8]> {
        let i = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.kept.get(i).map(Vec::as_slice)
    }
}

/// What is read from an endpoint now and then.
#[derive(Clone, Debug, Default)]
pub(super) struct News {
    pub(super) metrics: Metrics,
    pub(super) adapters: (Vec<u32>, Vec<u32>),
    pub(super) packets: Vec<(u64, bool)>,
}

impl Simulation<'_> {
    /// Publishes what a step of `e` changed: cache events and metrics.
    pub(super) fn announce(&mut self, e: u16) {
        let news = self.news_of(e);
        self.nodes[usize::from(e)].news.push_back((self.now, news));
        self.after(self.spec.metrics_delay, Happening::News(e));
        self.flush_soon(e);
        if self.shared.is_some() {
            self.flush_soon(self.nodes.len() as u16);
        }
    }

    /// What was read from `e` arrives.
    pub(super) fn tell(&mut self, e: u16) {
        let Some((at, news)) = self.nodes[usize::from(e)].news.pop_front() else { return };
        self.router.observe(e, &news.metrics, &news.adapters, Time(at));
        for (key, there) in news.packets {
            self.router.packet(e, key, there);
        }
    }

    /// The `i`th publisher: an endpoint's, or after those the shared store's.
    fn publisher(&mut self, i: u16) -> Option<&mut Publisher> {
        match self.nodes.get_mut(usize::from(i)) {
            Some(node) => Some(&mut node.publisher),
            None => self.shared.as_mut().map(|(_, publisher)| publisher),
        }
    }

    /// Sends what has changed, once the last message is long enough ago.
    fn flush_soon(&mut self, i: u16) {
        let now = self.now;
        let Some(publisher) = self.publisher(i) else { return };
        let at = publisher.next_flush_ns;
        if at <= now {
            self.flush(i);
        } else if !std::mem::replace(&mut publisher.flush_is_due, true) {
            self.at(at, Happening::Flush(i));
        }
    }

    pub(super) fn flush(&mut self, i: u16) {
        let mut payload = Vec::new();
        let (secs, reads) = (self.secs(), self.router.reads_events());
        let mut store = None;
        let (log, block_size) = match self.nodes.get_mut(usize::from(i)) {
            Some(node) => {
                let block_size = node.engine.spec().block_size;
                (Some(node.engine.log_mut()), block_size)
            }
            None => {
                store = self.shared.as_ref().map(|(store, _)| store.borrow_mut());
                (store.as_mut().and_then(|s| s.log_mut()), 0)
            }
        };
        let Some(log) = log else { return };
        if reads && !log.changes.is_empty() {
            wire::publish(log, block_size, secs, &mut payload);
        }
        log.clear();
        drop(store);
        if !payload.is_empty() {
            self.send(i, payload);
        }
    }

    fn send(&mut self, i: u16, payload: Vec<u8>) {
        let (least, most) = self.spec.event_delay;
        let delay = ((least + (most - least) * self.rng.unit_f64()) * NANOS) as u64;
        let arrives = self.spec.event_loss <= 0.0 || self.rng.unit_f64() >= self.spec.event_loss;
        let (now, batch) = (self.now, (self.spec.event_batch * NANOS) as u64);
        self.run.lost_messages += u64::from(!arrives);
        let Some(publisher) = self.publisher(i) else { return };
        let number = publisher.keep(payload);
        publisher.travelling.push_back((number, arrives));
        publisher.next_flush_ns = now + batch;
        publisher.flush_is_due = false;
        // A stream keeps its order.
        let at = publisher.last_delivery_ns.max(now + delay);
        publisher.last_delivery_ns = at;
        self.at(at, Happening::Publish(i));
    }

    /// The oldest message on its way arrives, or does not.
    pub(super) fn deliver(&mut self, i: u16) {
        let now = Time(self.now);
        let publisher = match self.nodes.get_mut(usize::from(i)) {
            Some(node) => &mut node.publisher,
            None => match &mut self.shared {
                Some((_, publisher)) => publisher,
                None => return,
            },
        };
        let Some((number, true)) = publisher.travelling.pop_front() else { return };
        let Some(payload) = publisher.get(number) else { return };
        let ingested = self.router.ingest(i, number, payload, now);
        self.heard(i, ingested);
    }

    fn heard(&mut self, i: u16, Ingested { lost, replay_from }: Ingested) {
        self.run.lost_events += lost;
        if let Some(from) = replay_from {
            self.run.replays += 1;
            // There and back.
            self.after(2.0 * self.spec.event_delay.1, Happening::Replay(i, from));
        }
    }

    pub(super) fn replay(&mut self, i: u16, from: u64) {
        let now = Time(self.now);
        let publisher = match self.nodes.get(usize::from(i)) {
            Some(node) => &node.publisher,
            None => match &self.shared {
                Some((_, publisher)) => publisher,
                None => return,
            },
        };
        let all = publisher.first..publisher.first + publisher.kept.len() as u64;
        let asked = all.filter(|&n| n >= from);
        let messages = asked.filter_map(|n| publisher.get(n).map(|payload| (n, payload)));
        let ingested = self.router.ingest_replay(i, messages, now);
        self.heard(i, ingested);
    }
}
