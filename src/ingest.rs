//! From an engine's messages to the index: where events meet hashing.

use crate::line::Line;
use crate::router::Picture;
use crate::{Doctor, Finding, IngestError, Router};
use kvsched_core::{BlockHash, EndpointId, Prompt, Stored, Time};
use kvsched_hash::{BlockHasher, Digest, group_view};
use kvsched_index::events::{EventStream, Heard, ReplayMessage, TrustReport};
use kvsched_index::{Confirming, Identity, SharedIndex};

/// The index, whose events settle what the router expected.
type Held<'a> = Confirming<'a, &'a SharedIndex>;

impl Router {
    /// Takes in one message of an engine's event stream: its sequence number and its payload, as
    /// the socket delivered them, at `now`.
    ///
    /// The outcome says whether the engine must be asked for a replay, because messages are
    /// missing; hand in the answers with [`Router::replayed`]. A router that learns from its own
    /// decisions ([`history`](crate::RouterBuilder::history)) has no use for events and passes them over.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown. Bytes that are not events are no error of the caller's: the
    /// message counts as missing and the outcome asks for a replay.
    pub fn ingest(
        &self,
        endpoint: EndpointId,
        sequence: u64,
        payload: &[u8],
        now: Time,
    ) -> Result<Heard, IngestError> {
        self.with_stream(endpoint, Some((payload, now)), |stream, held, identity| {
            stream.receive(held, identity, sequence, payload, now)
        })
    }

    /// Takes in one message of a replay that [`Router::ingest`] asked for, at `now`.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown.
    pub fn replayed(
        &self,
        endpoint: EndpointId,
        message: ReplayMessage<'_>,
        now: Time,
    ) -> Result<Heard, IngestError> {
        let payload = match message {
            ReplayMessage::Batch { payload, .. } => payload,
            _ => &[],
        };
        self.with_stream(endpoint, Some((payload, now)), |stream, held, identity| {
            stream.replayed(held, identity, message, now)
        })
    }

    /// Lets time pass for `endpoint`'s stream: gives up on a replay that does not come, finds the
    /// engine silent. Call it every second or so.
    ///
    /// # Errors
    ///
    /// If the endpoint is unknown.
    pub fn tick(&self, endpoint: EndpointId, now: Time) -> Result<Heard, IngestError> {
        if let Some(history) = self.learned() {
            history.expire(now);
        }
        self.with_stream(endpoint, None, |stream, held, identity| stream.tick(held, identity, now))
    }

    /// How far the picture of `endpoint` can be believed, and why; `None` for an unknown one and
    /// where there are no events.
    #[must_use]
    pub fn trust(&self, endpoint: EndpointId) -> Option<TrustReport> {
        self.members.with_line(endpoint, |line| line.stream.trust())
    }

    /// Tells `endpoint`'s doctor how many tokens of `prompt` were predicted to be cached there and
    /// how many the engine says were ([`Doctor::compare`]), once the answer and the events of that
    /// time are there. Without a doctor ([`check`](crate::RouterBuilder::check)), nothing.
    pub fn compare(
        &self,
        endpoint: EndpointId,
        prompt: &Prompt<'_>,
        predicted: u32,
        reported: u32,
    ) {
        self.members.with_line(endpoint, |line| {
            if let Some(doctor) = &mut line.doctor {
                doctor.compare(prompt, predicted, reported);
            }
        });
    }

    /// What is wrong between `endpoint`'s engine and this router, what matters most first, with what
    /// to do about it; empty where nothing is known to be, or nobody
    /// [checks](crate::RouterBuilder::check).
    #[must_use]
    pub fn diagnose(&self, endpoint: EndpointId) -> Vec<Finding> {
        let report = |line: &mut Line| line.doctor.as_ref().map(Doctor::report);
        self.members.with_line(endpoint, report).flatten().unwrap_or_default()
    }

    fn with_stream(
        &self,
        endpoint: EndpointId,
        message: Option<(&[u8], Time)>,
        f: impl FnOnce(&mut EventStream, &mut Held<'_>, &mut Identity<'_>) -> Heard,
    ) -> Result<Heard, IngestError> {
        if let Picture::Events { index, .. } = &self.picture {
            if let Some(Some(line)) = self.members.line(endpoint).as_deref_mut() {
                if let Some((payload, _)) = message
                    && line.examine(payload)
                {
                    // Under the old names nobody will ask for what it holds.
                    index.clear(endpoint);
                    self.members.name_by_content(endpoint);
                }
                let hasher = if line.by_content { self.fallback.as_ref() } else { None };
                let mut index = index;
                let mut held = Held::new(&mut index, self.learned());
                let heard = with_identity(hasher.unwrap_or(&self.hasher), |identity| {
                    f(&mut line.stream, &mut held, identity)
                });
                if heard.restarted
                    && let Some(doctor) = &mut line.doctor
                {
                    doctor.restart();
                }
                let trust = line.stream.trust().trust;
                self.members.publish(endpoint, trust, message.map(|(_, now)| now));
                return Ok(heard);
            }
        } else if self.members.has(endpoint) {
            return Ok(Heard::default());
        }
        Err(IngestError::UnknownEndpoint(endpoint))
    }
}

/// Calls `f` with the way in which announced hashes become those that `hasher` computes.
///
/// An engine whose scheme is computed announces them as they are. For every other scheme they
/// come from the announced tokens; what those do not tell is left out of the index and counted
/// ([`Applied::unnamed`](kvsched_index::Applied::unnamed)).
pub fn with_identity<R>(hasher: &BlockHasher, f: impl FnOnce(&mut Identity<'_>) -> R) -> R {
    if hasher.scheme().is_announced() {
        return f(&mut Identity::Engine);
    }
    let mut digests = Vec::new();
    let mut naming =
        |stored: &Stored<'_>, parent: Option<BlockHash>, names: &mut Vec<BlockHash>| {
            let parent = parent.map(Digest::from);
            if hasher.hash_stored_into(stored, parent, &mut digests).is_err() {
                return false;
            }
            let ratio = stored.block_size as usize / hasher.block_size();
            let named = group_view(&digests, ratio);
            names.extend(named.map(|digest| hasher.scheme().block_hash(digest)));
            true
        };
    f(&mut Identity::Content(&mut naming))
}
