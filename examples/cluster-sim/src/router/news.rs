//! What the router is told: events, metrics, answers as they pass, who is there.

use super::*;
use crate::engine::Metrics;
use kvsched_core::Tier;
use kvsched_index::Identity;
use kvsched_index::events::{Heard, ReplayMessage};

/// What came of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Events that could not be read or applied.
    pub lost: u64,
    /// A replay from this message on is to be asked for.
    pub replay_from: Option<u64>,
}

impl From<Heard> for Ingested {
    fn from(heard: Heard) -> Self {
        let lost = heard.unknown_events as u64 + u64::from(heard.applied.is_incomplete());
        Self { lost, replay_from: heard.replay_from }
    }
}

impl Router {
    /// One numbered message of endpoint `e`'s event stream, or of the shared store's, whose
    /// number follows the endpoints'.
    pub fn ingest(&mut self, e: u16, sequence: u64, payload: &[u8], now: Time) -> Ingested {
        let start = Instant::now();
        let stream = &mut self.streams[usize::from(e)];
        let heard = stream.receive(&mut self.index, &mut Identity::Engine, sequence, payload, now);
        self.effort.ingesting += start.elapsed();
        self.effort.messages += 1;
        heard.into()
    }

    /// The answer to a replay that was asked for.
    pub fn ingest_replay<'a>(
        &mut self,
        e: u16,
        messages: impl Iterator<Item = (u64, &'a [u8])>,
        now: Time,
    ) -> Ingested {
        let start = Instant::now();
        let batches =
            messages.map(|(sequence, payload)| ReplayMessage::Batch { sequence, payload });
        let mut all = Ingested::default();
        for message in batches.chain([ReplayMessage::End]) {
            let stream = &mut self.streams[usize::from(e)];
            let heard = stream.replayed(&mut self.index, &mut Identity::Engine, message, now);
            let Ingested { lost, replay_from } = heard.into();
            all.lost += lost;
            all.replay_from = replay_from.or(all.replay_from);
        }
        self.effort.ingesting += start.elapsed();
        all
    }

    /// An endpoint has, or no longer has, a document's packet.
    pub fn packet(&mut self, e: u16, key: u64, there: bool) {
        let key = ChunkKey { content: key, adapter: 0 };
        if there {
            // Beyond the limit it is not known, and computed again.
            let _ = self.chunks.store(key, EndpointId(e), Tier::HOST, true);
        } else {
            self.chunks.remove(key, EndpointId(e), Tier::HOST);
        }
    }

    /// An endpoint's metrics page, as it was at `observed`.
    pub fn observe(
        &mut self,
        e: u16,
        metrics: &Metrics,
        (active, waiting): &(Vec<u32>, Vec<u32>),
        observed: Time,
    ) {
        let load = &mut self.polled[usize::from(e)];
        load.waiting_requests = metrics.waiting;
        load.running_requests = metrics.running;
        load.kv_usage = metrics.kv_usage;
        load.lora.active = active.iter().copied().map(LoraId).collect();
        load.lora.waiting = waiting.iter().copied().map(LoraId).collect();
        load.observed_at = observed;
    }

    /// The first token of a job has passed, at whoever computed its prompt.
    pub fn first_token(&mut self, job: u32) {
        let Some([prefill, answer]) = self.tickets.get(job as usize) else { return };
        if let Some(ticket) = prefill.or(*answer) {
            self.ledger.first_token(ticket);
        }
    }

    /// Its KV was handed over.
    pub fn handed_over(&mut self, job: u32, now: Time) {
        let Some([prefill, answer]) = self.tickets.get_mut(job as usize) else { return };
        if let Some(ticket) = prefill.take() {
            self.ledger.finish(ticket, 1, now);
        }
        if let Some(ticket) = *answer {
            self.ledger.first_token(ticket);
        }
    }

    /// The last token of a job has passed, or it has come to nothing.
    pub fn finished(&mut self, job: u32, output_tokens: u32, now: Time) {
        let Some(tickets) = self.tickets.get_mut(job as usize) else { return };
        for ticket in tickets.iter_mut().filter_map(Option::take) {
            self.ledger.finish(ticket, output_tokens, now);
        }
    }

    /// Whether anybody takes requests.
    pub fn has_candidates(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// An endpoint takes requests from now on.
    pub fn join(&mut self, e: u16) {
        if let Err(place) = self.candidates.binary_search(&EndpointId(e)) {
            self.candidates.insert(place, EndpointId(e));
        }
    }

    /// An endpoint takes no more requests.
    pub fn drain(&mut self, e: u16) {
        self.candidates.retain(|&c| c != EndpointId(e));
    }

    /// An endpoint is gone, and all that it held and did.
    pub fn forget(&mut self, e: u16, now: Time) {
        let endpoint = EndpointId(e);
        self.drain(e);
        self.streams[endpoint.index()].restart(&mut self.index, now);
        self.history.clear(endpoint);
        self.chunks.clear(endpoint);
        self.ledger.forget(endpoint);
        let load = &mut self.polled[endpoint.index()];
        (load.waiting_requests, load.running_requests, load.kv_usage) = (0, 0, 0.0);
        load.lora.active.clear();
        load.lora.waiting.clear();
        load.observed_at = now;
    }
}
