//! A router's picture as bytes, to seed another.
//!
//! What the index writes ([`kvsched_index::SnapshotReader`] reads it), with a note of whose it is. The
//! note, version 1, all numbers little-endian: the version (u8), the hasher's fingerprint (u64), how
//! many endpoints (u32), and for each, by id: its id (u16), rank (u32), role (u8), whether its events
//! are known up to a message (u8) and which (u64), its name, its model, and how many labels (u32)
//! with key and value. Texts are their length in bytes (u32) and UTF-8.

use crate::router::Picture;
use crate::{BuildRouterError, Router};
use kvsched_core::{BlockHash, EndpointId, Labels, Time};
use kvsched_index::events::{EventStream, TrustReason};
use kvsched_index::{Endpoint, EndpointSpec, Role, SharedIndex, SnapshotError, SnapshotReader};

const VERSION: u8 = 1;

/// Why a snapshot was not written or not restored. No router has changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The router could not be built.
    #[error(transparent)]
    Build(#[from] BuildRouterError),
    /// The bytes are no snapshot, or not a whole one.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The router learns from its own decisions: there is nothing to write or restore.
    #[error("a router that learns from its own decisions has no snapshots")]
    NoEvents,
    /// The note beside the index is not a router's.
    #[error("byte {offset} of the snapshot's note: it is not of a router, or of a later kvsched")]
    Note {
        /// Where it stops making sense.
        offset: usize,
    },
    /// The snapshot's router named blocks otherwise: engine, seed, secret or block size differ.
    #[error(
        "the snapshot's blocks go by other names: {snapshot} where this router's hasher gives {ours} for the same tokens"
    )]
    Hasher {
        /// What its hasher makes of a certain prompt.
        snapshot: BlockHash,
        /// What ours does.
        ours: BlockHash,
    },
}

impl Router {
    /// Writes down the fleet and all that its caches hold, in pieces of at most 128 KiB, for
    /// [`RouterBuilder::restore`](crate::RouterBuilder::restore) elsewhere: a second replica, or this
    /// one after a restart. Routing goes on meanwhile; events and changes of the fleet wait.
    /// O(blocks).
    ///
    /// # Errors
    ///
    /// If the router learns from its own decisions instead of events.
    pub fn write_snapshot(&self, sink: impl FnMut(&[u8])) -> Result<(), RestoreError> {
        let Picture::Events { index, .. } = &self.picture else {
            return Err(RestoreError::NoEvents);
        };
        self.members.hold_still(|members| {
            let mut note = vec![VERSION];
            note.extend(self.fingerprint.0.to_le_bytes());
            note.extend((members.len() as u32).to_le_bytes());
            for (endpoint, stream) in members {
                write_endpoint(endpoint, *stream, &mut note);
            }
            index.write_snapshot(&note, sink);
        });
        Ok(())
    }
}

fn write_endpoint(endpoint: &Endpoint, stream: Option<&EventStream>, note: &mut Vec<u8>) {
    let spec = endpoint.spec();
    note.extend(endpoint.id().0.to_le_bytes());
    note.extend(spec.rank.to_le_bytes());
    note.push(match spec.role {
        Role::Prefill => 1,
        Role::Decode => 2,
        Role::Encode => 3,
        _ => 0,
    });
    // What is lost stays lost: such a stream has to start over.
    let whole = stream.filter(|stream| {
        matches!(stream.trust().reason, TrustReason::Complete | TrustReason::ReplayPending { .. })
    });
    note.push(whole.is_some().into());
    note.extend(whole.map_or(0, EventStream::next_sequence).to_le_bytes());
    let mut text = |text: &str| {
        note.extend((text.len() as u32).to_le_bytes());
        note.extend(text.as_bytes());
    };
    text(&spec.name);
    text(&spec.model);
    note.extend((spec.labels.iter().count() as u32).to_le_bytes());
    for word in spec.labels.iter().flat_map(|(key, value)| [key, value]) {
        note.extend((word.len() as u32).to_le_bytes());
        note.extend(word.as_bytes());
    }
}

/// A router that is being restored: made by
/// [`RouterBuilder::restore`](crate::RouterBuilder::restore).
#[derive(Debug)]
pub struct Restoring {
    /// Without its index.
    pub(crate) router: Router,
    pub(crate) reader: SnapshotReader<SharedIndex>,
}

impl Restoring {
    /// The next bytes of the snapshot, in pieces of any size.
    ///
    /// # Errors
    ///
    /// If they are not what a snapshot has there.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        Ok(self.reader.push(bytes)?)
    }

    /// The router, once all bytes have been pushed: the endpoints have the ids they had. Ask each
    /// engine for a replay from where its stream stands
    /// ([`Router::next_sequence`]), or just subscribe and follow what
    /// [`Router::ingest`] says.
    ///
    /// # Errors
    ///
    /// If bytes are missing, or the snapshot is of a router whose hasher was another.
    pub fn finish(mut self, now: Time) -> Result<Router, RestoreError> {
        let restored = self.reader.finish()?;
        let mut note = Note { bytes: &restored.note, offset: 0 };
        if note.array::<1>()? != [VERSION] {
            return Err(RestoreError::Note { offset: 0 });
        }
        let snapshot = BlockHash(u64::from_le_bytes(note.array()?));
        if snapshot != self.router.fingerprint {
            return Err(RestoreError::Hasher { snapshot, ours: self.router.fingerprint });
        }
        let Picture::Events { index, .. } = &mut self.router.picture else {
            return Err(RestoreError::NoEvents);
        };
        *index = restored.index;
        let mut strangers = Vec::new();
        for _ in 0..note.u32()? {
            let offset = note.offset;
            let (id, spec, next) = note.endpoint()?;
            // Ids are given in ascending order: those that nobody had are taken for a moment.
            loop {
                let vacant = self.router.endpoint_count() < usize::from(id.0);
                let spec = if vacant {
                    EndpointSpec::new(format!("\0{}", strangers.len()))
                } else {
                    spec.clone()
                };
                let got = self.router.add_endpoint(spec);
                let got = got.map_err(|_| RestoreError::Note { offset })?;
                if vacant {
                    strangers.push(got);
                    continue;
                }
                if got != id {
                    return Err(RestoreError::Note { offset });
                }
                break;
            }
            if let Some(next) = next {
                let resumed = self.router.members.with_line(id, |line| {
                    line.stream.resume(next, now);
                    line.stream.trust().trust
                });
                let trust = resumed.unwrap_or_default();
                self.router.members.publish(id, trust, Some(now));
            }
        }
        if note.offset != note.bytes.len() {
            return Err(RestoreError::Note { offset: note.offset });
        }
        for stranger in strangers {
            self.router.members.leave(stranger, || {});
        }
        Ok(self.router)
    }
}

/// The note, as it is read.
struct Note<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Note<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], RestoreError> {
        let end = self.offset.checked_add(len);
        let taken = end.and_then(|end| self.bytes.get(self.offset..end));
        let taken = taken.ok_or(RestoreError::Note { offset: self.offset })?;
        self.offset += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let offset = self.offset;
        self.take(N)?.try_into().map_err(|_| RestoreError::Note { offset })
    }

    fn u32(&mut self) -> Result<u32, RestoreError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, RestoreError> {
        let len = self.u32()? as usize;
        let offset = self.offset;
        str::from_utf8(self.take(len)?).map_err(|_| RestoreError::Note { offset })
    }

    /// An endpoint, and the next message that its stream waits for if all before are known.
    fn endpoint(&mut self) -> Result<(EndpointId, EndpointSpec, Option<u64>), RestoreError> {
        let id = EndpointId(u16::from_le_bytes(self.array()?));
        let rank = self.u32()?;
        let offset = self.offset;
        let role = match self.array()? {
            [0] => Role::Both,
            [1] => Role::Prefill,
            [2] => Role::Decode,
            [3] => Role::Encode,
            _ => return Err(RestoreError::Note { offset }),
        };
        let [whole] = self.array()?;
        let next = u64::from_le_bytes(self.array()?);
        let spec = EndpointSpec::new(self.text()?).rank(rank).role(role).model(self.text()?);
        let mut labels = Labels::new();
        for _ in 0..self.u32()? {
            labels.set(self.text()?, self.text()?);
        }
        Ok((id, spec.labels(labels), (whole != 0).then_some(next)))
    }
}
