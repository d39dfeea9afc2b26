//! One endpoint's numbered messages, in whatever state they arrive.

use super::frames::END;
use super::vllm::{Batch, DecodeError, Decoder};
use super::{ReplayMessage, TrustReason, TrustReport};
use crate::{Applied, Applier, Holdings, Identity};
use kvsched_core::{EndpointId, Time, Trust};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Bounds of an [`EventStream`]; every one has a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSettings {
    /// Most bytes of payloads that wait for a replay. Default 16 MiB.
    pub held_bytes: usize,
    /// How long a replay may say nothing before it counts as failed. Default 5 s.
    pub replay_timeout: Duration,
    /// How long an endpoint may say nothing before its picture is stale. An idle engine
    /// publishes nothing. Default 10 minutes.
    pub silence: Duration,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self {
            held_bytes: 16 << 20,
            replay_timeout: Duration::from_secs(5),
            silence: Duration::from_secs(600),
        }
    }
}

/// What came of a message, a replay's message or the passing of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What the batches that could be applied now came to.
    pub applied: Applied,
    /// How many batches those were.
    pub batches: usize,
    /// Ask the endpoint for a replay from this batch on, now.
    pub replay_from: Option<u64>,
    /// The message was known already.
    pub duplicate: bool,
    /// The endpoint has started anew: all it held is gone, and was cleared.
    pub restarted: bool,
    /// Events of types we do not know, passed over.
    pub unknown_events: usize,
}

/// The event stream of one endpoint (one data-parallel rank), from numbered messages to the
/// index, with how far the result can be believed.
///
/// Nothing happens by itself: the caller owns sockets and clock, hands in what arrives
/// ([`EventStream::receive`]), asks for a replay when told to ([`Heard::replay_from`]), hands in
/// its answers ([`EventStream::replayed`]), and lets time pass now and then
/// ([`EventStream::tick`]).
///
/// - Batches are applied in order and once. What arrives early waits while the missing are asked
///   for, within [`StreamSettings::held_bytes`].
/// - A number that was used is a duplicate if it comes with the same batch, or with one no later
///   than the newest; otherwise the engine has started anew and the endpoint is cleared. Where a
///   restarted engine's first messages are lost and its numbers have passed the old ones, only
///   the caller can know ([`EventStream::restart`]).
/// - A batch that cannot be read is asked for again; if it comes back no better, what can be read
///   of it is applied.
/// - Batches that no replay brings back are lost, and what left the cache in them still counts as
///   held: the picture is [`Trust::Degraded`] until the endpoint clears its cache, restarts, or
///   is restored from a snapshot ([`EventStream::resume`]). It is kept, for engines do not
///   announce hits: the blocks of a prompt that everybody uses would never be heard of again.
///   Those that are gone do little harm: if somebody asks for one, the engine computes it and it
///   is there. Until then repetitions count as said again, never as copies.
///
/// ```
/// use kvsched_core::{EndpointId, Event, Time, Trust};
/// use kvsched_index::events::{EventStream, StreamSettings, vllm};
/// use kvsched_index::{Identity, Index};
///
/// let mut index = Index::builder().build()?;
/// let mut stream = EventStream::new(EndpointId(0), StreamSettings::default());
/// let mut payload = Vec::new();
/// vllm::encode(vllm::Version::NEWEST, 1.0, Some(0), &[Event::Cleared.into()], &mut payload);
///
/// let heard = stream.receive(&mut index, &mut Identity::Engine, 0, &payload, Time(1));
/// assert_eq!((heard.batches, heard.replay_from), (1, None));
/// assert_eq!(stream.trust().trust, Trust::Exact);
/// let heard = stream.receive(&mut index, &mut Identity::Engine, 3, &payload, Time(2));
/// assert_eq!((heard.batches, heard.replay_from), (0, Some(1)));
/// assert_eq!(stream.trust().reason.to_string(), "batches from 1 on are missing and were asked for");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventStream {
    applier: Applier,
    settings: StreamSettings,
    decoder: Decoder,
    /// The number of the next batch to apply.
    next: u64,
    /// The highest number received, and the engine's time of that batch.
    newest: Option<(u64, f64)>,
    /// Fingerprints of the batches before `next`, the last one last.
    applied: VecDeque<u64>,
    /// Payloads by number, all above `next`, and their size.
    held: BTreeMap<u64, Vec<u8>>,
    held_bytes: usize,
    replay: Option<Replay>,
    /// What is wrong until the cache is known to be empty.
    standing: Option<TrustReason>,
    heard_at: Option<Time>,
    report: TrustReport,
}

/// A replay that was asked for.
#[derive(Clone, Copy, Debug)]
struct Replay {
    from: u64,
    /// When it was asked for or last brought something.
    at: Time,
}

/// Fingerprints kept, to tell a batch that comes twice from a restarted engine's.
const REMEMBERED: usize = 1024;

impl EventStream {
    /// The stream of an endpoint that the index knows nothing of.
    #[must_use]
    pub fn new(endpoint: EndpointId, settings: StreamSettings) -> Self {
        Self {
            applier: Applier::new(endpoint),
            settings,
            decoder: Decoder::new(),
            next: 0,
            newest: None,
            applied: VecDeque::new(),
            held: BTreeMap::new(),
            held_bytes: 0,
            replay: None,
            standing: None,
            heard_at: None,
            report: TrustReport {
                trust: Trust::Approximate,
                reason: TrustReason::Unheard,
                since: Time::default(),
            },
        }
    }

    /// Whose stream it is.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.applier.endpoint()
    }

    /// How far the endpoint's picture can be believed, as of the last call that was given a time.
    #[must_use]
    pub fn trust(&self) -> TrustReport {
        self.report
    }

    /// The number of the next batch to be applied: what a snapshot taken now goes up to.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// A message of the subscription: its sequence number and payload.
    ///
    /// One numbered `u64::MAX`, by which engines end a replay, is no batch and passed over.
    pub fn receive(
        &mut self,
        index: &mut impl Holdings,
        identity: &mut Identity<'_>,
        sequence: u64,
        payload: &[u8],
        now: Time,
    ) -> Heard {
        let mut heard = Heard::default();
        if sequence == END {
            return heard;
        }
        self.heard_at = Some(now);
        let mut decoder = std::mem::take(&mut self.decoder);
        let batch = decoder.decode(payload);
        if self.shows_restart(sequence, payload, batch.as_ref().ok().map(Batch::timestamp)) {
            self.restart(index, now);
            self.heard_at = Some(now);
            heard.restarted = true;
        }
        let is_next = sequence == self.next && is_whole(&batch);
        if is_next {
            self.unhold(sequence);
            self.apply_batch(index, identity, payload, batch, &mut heard);
        } else {
            drop(batch);
        }
        self.decoder = decoder;
        if is_next {
            self.drain(index, identity, &mut heard);
        } else if sequence < self.next || self.held.contains_key(&sequence) {
            heard.duplicate = true;
        } else {
            self.held_bytes += payload.len();
            self.held.insert(sequence, payload.to_vec());
            if self.held_bytes > self.settings.held_bytes {
                self.give_up(index, identity, &mut heard);
            }
        }
        self.settle(&mut heard, now);
        heard
    }

    /// A message of a replay; see [`super::replay_message`].
    pub fn replayed(
        &mut self,
        index: &mut impl Holdings,
        identity: &mut Identity<'_>,
        message: ReplayMessage<'_>,
        now: Time,
    ) -> Heard {
        let mut heard = Heard::default();
        let Some(replay) = &mut self.replay else {
            heard.duplicate = true;
            return heard;
        };
        replay.at = now;
        self.heard_at = Some(now);
        match message {
            ReplayMessage::Batch { sequence, .. } if sequence < self.next || sequence == END => {
                heard.duplicate = true;
            }
            ReplayMessage::Batch { sequence, payload } => {
                // It answers in order, so what it leaves out before this it no longer has.
                self.lose_until(index, identity, sequence, &mut heard);
                self.unhold(sequence);
                self.apply(index, identity, payload, &mut heard);
                self.drain(index, identity, &mut heard);
            }
            ReplayMessage::End => {
                let brought = self.next > replay.from;
                self.replay = None;
                // What is still missing was published after the question, and is asked for in
                // turn; what the answer should have held is lost.
                if !brought {
                    self.skip_gap(index, identity, &mut heard);
                }
            }
        }
        self.settle(&mut heard, now);
        heard
    }

    /// Lets time pass: gives up on a replay that does not come, and finds an endpoint silent.
    /// Call it every second or so.
    pub fn tick(
        &mut self,
        index: &mut impl Holdings,
        identity: &mut Identity<'_>,
        now: Time,
    ) -> Heard {
        let mut heard = Heard::default();
        if self.replay.is_some_and(|r| now.since(r.at) >= self.settings.replay_timeout) {
            self.give_up(index, identity, &mut heard);
        }
        self.note(now);
        heard
    }

    /// The engine has started anew, as the caller knows from elsewhere: clears the endpoint and
    /// waits for batch 0.
    pub fn restart(&mut self, index: &mut impl Holdings, now: Time) {
        self.applier.clear(index);
        self.resume(0, now);
        self.heard_at = None;
        self.note(now);
    }

    /// The index holds what the endpoint held after all batches before `sequence`: it was
    /// restored from a snapshot. What the last of them stored counts as stored long ago: a second
    /// copy of it in the next batch is taken as the first said again.
    pub fn resume(&mut self, sequence: u64, now: Time) {
        self.next = sequence;
        self.newest = None;
        self.applied.clear();
        self.held.clear();
        self.held_bytes = 0;
        self.replay = None;
        self.standing = None;
        self.heard_at = Some(now);
        self.note(now);
    }

    /// Whether a batch is of another engine than those before it: its number was used, by
    /// another batch or by one that is older.
    fn shows_restart(&mut self, sequence: u64, payload: &[u8], timestamp: Option<f64>) -> bool {
        // Of what cannot be read nothing can be told; the next batch will show it.
        let Some(timestamp) = timestamp else { return false };
        let (newest, newest_timestamp) = self.newest.unwrap_or((sequence, timestamp));
        if sequence > newest {
            self.newest = Some((sequence, timestamp));
            return false;
        }
        self.newest = Some((newest, newest_timestamp));
        let back = usize::try_from(self.next.saturating_sub(sequence)).unwrap_or(usize::MAX);
        match self.applied.len().checked_sub(back) {
            Some(i) if back > 0 => self.applied[i] != fingerprint(payload),
            _ => timestamp > newest_timestamp,
        }
    }

    /// Applies the batch `next`, as far as it can be read.
    fn apply(
        &mut self,
        index: &mut impl Holdings,
        identity: &mut Identity<'_>,
        payload: &[u8],
        heard: &mut Heard,
    ) {
        let mut decoder = std::mem::take(&mut self.decoder);
        self.apply_batch(index, identity, payload, decoder.decode(payload), heard);
        self.decoder = decoder;
    }

    fn apply_batch(
        &mut self,
        index: &mut impl Holdings,
        identity: &mut Identity<'_>,
        payload: &[u8],
        batch: Result<Batch<'_>, DecodeError>,
        heard: &mut Heard,
    ) {
        let sequence = self.next;
        self.next += 1;
        if self.applied.len() == REMEMBERED {
            self.applied.pop_front();
        }
        self.applied.push_back(fingerprint(payload));
        let unreadable = match batch {
            Ok(batch) => {
                self.applier.count_copies(self.standing.is_none());
                let applied = self.applier.apply(index, identity, batch.events());
                heard.batches += 1;
                heard.unknown_events += batch.unknown_events();
                heard.applied = heard.applied.and(applied);
                if applied.cleared {
                    self.standing = None;
                }
                if let Some(error) = applied.refusal {
                    self.standing.get_or_insert(TrustReason::Refused(error));
                }
                batch.fault().copied()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = unreadable {
            self.standing.get_or_insert(TrustReason::Unreadable { sequence, error });
        }
    }

    /// Applies what waited for what was just applied.
    fn drain(&mut self, index: &mut impl Holdings, identity: &mut Identity<'_>, heard: &mut Heard) {
        while let Some(payload) = self.held.remove(&self.next) {
            let mut decoder = std::mem::take(&mut self.decoder);
            let batch = decoder.decode(&payload);
            let is_whole = is_whole(&batch);
            if is_whole {
                self.held_bytes -= payload.len();
                self.apply_batch(index, identity, &payload, batch, heard);
            } else {
                // One that cannot be read is first asked for again.
                drop(batch);
                self.held.insert(self.next, payload);
            }
            self.decoder = decoder;
            if !is_whole {
                return;
            }
        }
    }

    fn unhold(&mut self, sequence: u64) -> Option<Vec<u8>> {
        let payload = self.held.remove(&sequence)?;
        self.held_bytes -= payload.len();
        Some(payload)
    }

    /// Applies all that waits, whatever is missing between.
    fn give_up(
        &mut self,
        index: &mut impl Holdings,
        identity: &mut Identity<'_>,
        heard: &mut Heard,
    ) {
        self.replay = None;
        while !self.held.is_empty() {
            self.skip_gap(index, identity, heard);
        }
    }

    /// Goes on at the first batch that waits; what is missing before it is lost.
    fn skip_gap(
        &mut self,
        index: &mut impl Holdings,
        identity: &mut Identity<'_>,
        heard: &mut Heard,
    ) {
        if let Some((sequence, payload)) = self.held.pop_first() {
            self.held_bytes -= payload.len();
            self.lose(sequence);
            self.apply(index, identity, &payload, heard);
            self.drain(index, identity, heard);
        }
    }

    /// Loses what is missing before `sequence`, and applies what is not.
    fn lose_until(
        &mut self,
        index: &mut impl Holdings,
        identity: &mut Identity<'_>,
        sequence: u64,
        heard: &mut Heard,
    ) {
        while self.held.first_key_value().is_some_and(|(&first, _)| first < sequence) {
            self.skip_gap(index, identity, heard);
        }
        self.lose(sequence);
    }

    fn lose(&mut self, until: u64) {
        if self.next < until {
            let (from, to) = (self.next, until - 1);
            self.standing.get_or_insert(TrustReason::Lost { from, to });
            self.next = until;
            self.applied.clear();
        }
    }

    /// Asks for what is missing, if that was not done, and notes the trust.
    fn settle(&mut self, heard: &mut Heard, now: Time) {
        if !self.held.is_empty() && self.replay.is_none() {
            self.replay = Some(Replay { from: self.next, at: now });
            heard.replay_from = Some(self.next);
        }
        self.note(now);
    }

    fn note(&mut self, now: Time) {
        let (trust, reason) = match (self.heard_at, self.replay, self.standing) {
            (None, ..) => (Trust::Approximate, TrustReason::Unheard),
            (Some(at), ..) if now.since(at) >= self.settings.silence => {
                (Trust::Stale, TrustReason::Silent(self.settings.silence))
            }
            (_, Some(_), _) if !self.held.is_empty() => {
                (Trust::Degraded, TrustReason::ReplayPending { from: self.next })
            }
            (_, _, Some(reason)) => (Trust::Degraded, reason),
            _ => (Trust::Exact, TrustReason::Complete),
        };
        if (trust, reason) != (self.report.trust, self.report.reason) {
            self.report = TrustReport { trust, reason, since: now };
        }
    }
}

/// Whether all of a message could be read.
fn is_whole(batch: &Result<Batch<'_>, DecodeError>) -> bool {
    batch.as_ref().is_ok_and(|batch| batch.fault().is_none())
}

/// A short name of a payload. Not for strangers: an engine has no reason to deceive us about
/// its own batches.
fn fingerprint(payload: &[u8]) -> u64 {
    let mut n = payload.len() as u64;
    for word in payload.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        n = (n ^ u64::from_le_bytes(bytes)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        n ^= n >> 29;
    }
    n
}
