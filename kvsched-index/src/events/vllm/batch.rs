use super::super::msgpack::{RawHash, Reader};
use super::{DecodeError, WireHash};
use kvsched_core::{
    AnnouncedKey, AnnouncedKeys, AttentionKind, EngineHash, Event, Group, Locality, Medium,
    Removed, Stored, TokenId,
};
use std::ops::Range;

/// What one message says, borrowed from its bytes and the decoder's buffers.
#[derive(Debug)]
pub struct Batch<'a> {
    pub(super) timestamp: f64,
    pub(super) rank: Option<u32>,
    pub(super) payload: &'a [u8],
    pub(super) scratch: &'a mut Scratch,
    /// Both go back to `scratch` when the batch is dropped.
    pub(super) records: Vec<Record<'a>>,
    pub(super) keys: Vec<AnnouncedKey<'a>>,
    pub(super) tally: Tally,
}

/// What was left out of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) unknown_events: usize,
    pub(super) unknown_fields: usize,
    pub(super) lost: usize,
    pub(super) fault: Option<DecodeError>,
}

/// The decoder's buffers, kept from message to message.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) hashes: Vec<EngineHash>,
    pub(super) tokens: Vec<TokenId>,
    pub(super) ends: Vec<u32>,
    pub(super) records: Vec<Record<'static>>,
    pub(super) keys: Vec<AnnouncedKey<'static>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Stored,
    Removed,
    #[default]
    Cleared,
}

/// A run within one of the buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn len(self) -> u32 {
        self.end - self.start
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One event, its runs still in the buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) hashes: Span,
    /// Where the hashes and the parent stand in the payload.
    pub(super) hashes_at: u32,
    pub(super) parent_at: u32,
    pub(super) parent: Option<EngineHash>,
    pub(super) tokens: Span,
    pub(super) block_size: u32,
    pub(super) lora_id: Option<i64>,
    pub(super) medium: Option<&'a str>,
    pub(super) lora_name: Option<&'a str>,
    /// Runs of the keys and of their ends.
    pub(super) keys: Option<(Span, Span)>,
    pub(super) group: Option<Group>,
    pub(super) spec_kind: Option<&'a str>,
    pub(super) sliding_window: Option<u32>,
    pub(super) locality: Option<Locality>,
    pub(super) ownership: Option<&'a str>,
    pub(super) session_id: Option<&'a str>,
    pub(super) lookahead: Span,
    /// How many blocks it was announced for.
    pub(super) lookahead_blocks: u32,
}

impl<'a> Batch<'a> {
    /// When the engine sent it, in seconds since 1970 on the engine's clock.
    #[must_use]
    pub fn timestamp(&self) -> f64 {
        self.timestamp
    }

    /// The data-parallel rank that sent it; `None` from engines that do not say.
    #[must_use]
    pub fn data_parallel_rank(&self) -> Option<u32> {
        self.rank
    }

    /// How many events it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it holds no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Event `i`, or `None` past the end. O(1).
    #[must_use]
    pub fn get(&self, i: usize) -> Option<Event<'_>> {
        let r = self.records.get(i)?;
        let hashes = &self.scratch.hashes[r.hashes.range()];
        Some(match r.kind {
            Kind::Cleared => Event::Cleared,
            Kind::Removed => Event::Removed(Removed {
                hashes,
                medium: r.medium.map(Medium),
                group: r.group,
                locality: r.locality,
                ownership: r.ownership,
            }),
            Kind::Stored => Event::Stored(Stored {
                hashes,
                parent: r.parent,
                tokens: &self.scratch.tokens[r.tokens.range()],
                block_size: r.block_size,
                lora_id: r.lora_id,
                lora_name: r.lora_name,
                medium: r.medium.map(Medium),
                extra_keys: r.keys.and_then(|(keys, ends)| {
                    AnnouncedKeys::new(&self.keys[keys.range()], &self.scratch.ends[ends.range()])
                }),
                group: r.group,
                attention: r.spec_kind.map(AttentionKind::from_spec_kind),
                sliding_window: r.sliding_window,
                locality: r.locality,
                ownership: r.ownership,
                session_id: r.session_id,
                lookahead: &self.scratch.tokens[r.lookahead.range()],
            }),
        })
    }

    /// The events in order.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events { batch: self, range: 0..self.len() }
    }

    /// Events of types we do not know, passed over.
    #[must_use]
    pub fn unknown_events(&self) -> usize {
        self.tally.unknown_events
    }

    /// Fields we do not know, or whose optional value is of a form we do not know, passed over.
    #[must_use]
    pub fn unknown_fields(&self) -> usize {
        self.tally.unknown_fields
    }

    /// Events that were announced and could not be read. Not 0 means that this batch tells
    /// less than happened.
    #[must_use]
    pub fn lost_events(&self) -> usize {
        self.tally.lost
    }

    /// The first thing wrong with the message, if anything was.
    #[must_use]
    pub fn fault(&self) -> Option<&DecodeError> {
        self.tally.fault.as_ref()
    }

    /// What event `i` says that its 64-bit reading does not keep; `None` past the end. For
    /// whoever sends the event on, byte by byte the same.
    #[must_use]
    pub fn wire_form(&self, i: usize) -> Option<WireForm<'_>> {
        let r = self.records.get(i)?;
        let hash = |at: u32| {
            Reader::at(self.payload, at as usize).hash().ok().flatten().map(WireHash::from_raw)
        };
        let mut reader = Reader::at(self.payload, r.hashes_at as usize);
        let n = if r.kind == Kind::Cleared { 0 } else { reader.array("hashes").unwrap_or(0) };
        let hashes = (0..n).filter_map(|_| reader.hash().ok().flatten());
        Some(WireForm {
            hashes: hashes.map(WireHash::from_raw).collect(),
            parent: r.parent.and_then(|_| hash(r.parent_at)),
            spec_kind: r.spec_kind,
        })
    }
}

/// What an event says beyond its reading as an [`Event`]; see [`Batch::wire_form`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireForm<'a> {
    /// The hashes in full.
    pub hashes: Vec<WireHash<'a>>,
    /// The parent's hash in full.
    pub parent: Option<WireHash<'a>>,
    /// The engine's word for the group's kind of attention.
    pub spec_kind: Option<&'a str>,
}

impl<'a> WireHash<'a> {
    fn from_raw(raw: RawHash<'a>) -> Self {
        match raw {
            RawHash::Uint(n) => Self::Unsigned(n),
            RawHash::Negative(n) => Self::Signed(n),
            RawHash::Bytes(digest) => Self::Digest(digest),
        }
    }
}

/// The events of a [`Batch`], in order.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    batch: &'a Batch<'a>,
    range: Range<usize>,
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        self.batch.get(self.range.next()?)
    }

    fn nth(&mut self, n: usize) -> Option<Event<'a>> {
        self.batch.get(self.range.nth(n)?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl ExactSizeIterator for Events<'_> {}

impl<'b, 'a: 'b> IntoIterator for &'b Batch<'a> {
    type Item = Event<'b>;
    type IntoIter = Events<'b>;

    fn into_iter(self) -> Events<'b> {
        self.events()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.scratch.records = recycled(std::mem::take(&mut self.records), no_record);
        self.scratch.keys = recycled(std::mem::take(&mut self.keys), no_key);
    }
}

/// An empty vector with `v`'s memory, for things of another lifetime. `collect` into a type of
/// the same layout stays in place; `tests/events.rs` holds it to that.
pub(super) fn recycled<A, B>(mut v: Vec<A>, never: fn(A) -> B) -> Vec<B> {
    v.clear();
    v.into_iter().map(never).collect()
}

// Called for no element, since there is none; they only join two lifetimes in one signature.
pub(super) fn no_record<'b>(_: Record<'_>) -> Record<'b> {
    Record::default()
}

pub(super) fn no_key<'b>(_: AnnouncedKey<'_>) -> AnnouncedKey<'b> {
    AnnouncedKey::Int(0)
}
