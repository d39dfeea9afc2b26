use super::super::msgpack::Writer;
use super::fields::{CLEARED_TAG, Declared, Field, REMOVED, REMOVED_TAG, STORED, STORED_TAG};
use kvsched_core::{
    AnnouncedKey, AttentionKind, EngineHash, Event, Locality, Medium, Removed, Stored,
};

/// A release of vLLM, 0.`minor`.`patch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    minor: u16,
    patch: u16,
}

impl Version {
    /// The newest whose form is known.
    pub const NEWEST: Self = Self::of(33, 0);

    /// vLLM 0.`minor`.`patch`; `None` before 0.9, which published no events. Releases after
    /// 0.33 are taken to write what 0.33 writes.
    #[must_use]
    pub const fn new(minor: u16, patch: u16) -> Option<Self> {
        if minor < 9 { None } else { Some(Self::of(minor, patch)) }
    }

    pub(super) const fn of(minor: u16, patch: u16) -> Self {
        Self { minor, patch }
    }

    fn writes_maps(self) -> bool {
        self >= Self::of(24, 0)
    }

    fn writes_rank(self) -> bool {
        self >= Self::of(9, 1)
    }
}

/// A hash in the form an engine gives it on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireHash<'a> {
    /// An unsigned number, the usual form.
    Unsigned(u64),
    /// A signed number (vLLM to 0.10.1 with `builtin` hashes; SGLang).
    Signed(i64),
    /// The whole digest (`VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES=0`).
    Digest(&'a [u8]),
}

impl WireHash<'_> {
    fn write(self, w: &mut Writer<'_>) {
        match self {
            Self::Unsigned(n) => w.uint(n),
            Self::Signed(n) => w.int(n),
            Self::Digest(digest) => w.bytes(digest),
        }
    }
}

/// An event to be written, with what an [`Event`] does not keep of the wire's form.
#[derive(Clone, Copy, Debug)]
pub struct WireEvent<'a> {
    /// The event.
    pub event: Event<'a>,
    /// Its hashes' form; `None` for unsigned numbers.
    pub hashes: Option<&'a [WireHash<'a>]>,
    /// Its parent's form; `None` for an unsigned number.
    pub parent: Option<WireHash<'a>>,
    /// The engine's word for its kind of attention; `None` for the commonest of the kind.
    pub spec_kind: Option<&'a str>,
}

impl<'a> From<Event<'a>> for WireEvent<'a> {
    fn from(event: Event<'a>) -> Self {
        Self { event, hashes: None, parent: None, spec_kind: None }
    }
}

/// Appends to `out` the payload that vLLM of `version` would publish, byte for byte.
///
/// What `version` has no field for is left out. `rank` is the data-parallel rank, `timestamp`
/// seconds since 1970.
///
/// ```
/// use kvsched_core::Event;
/// use kvsched_index::events::vllm::{Decoder, Version, encode};
///
/// let version = Version::new(33, 0).expect("publishes events");
/// let mut payload = Vec::new();
/// encode(version, 1.5, Some(0), &[Event::Cleared.into()], &mut payload);
/// let mut decoder = Decoder::new();
/// let batch = decoder.decode(&payload)?;
/// assert!(batch.events().eq([Event::Cleared]));
/// # Ok::<(), kvsched_index::events::vllm::DecodeError>(())
/// ```
pub fn encode(
    version: Version,
    timestamp: f64,
    rank: Option<u32>,
    events: &[WireEvent<'_>],
    out: &mut Vec<u8>,
) {
    let mut w = Writer(out);
    w.array(if version.writes_rank() { 3 } else { 2 });
    w.float(timestamp);
    w.array(events.len());
    for event in events {
        write_event(version, event, &mut w);
    }
    if version.writes_rank() {
        or_nil(&mut w, rank, |w, r| w.uint(u64::from(r)));
    }
}

fn write_event(version: Version, event: &WireEvent<'_>, w: &mut Writer<'_>) {
    let (tag, class): (_, &[Declared]) = match event.event {
        Event::Stored(_) => (STORED_TAG, &STORED),
        Event::Removed(_) => (REMOVED_TAG, &REMOVED),
        _ => (CLEARED_TAG, &[]),
    };
    let declared = class.iter().filter(|d| d.since <= version);
    if version.writes_maps() {
        let fields = || declared.clone().filter(|d| d.required || is_set(d.field, event));
        let pairs = 1 + fields().count();
        // msgspec reserves the header for every declared field, so a class of more than 15
        // keeps the wide one however few of them it writes.
        if 1 + declared.clone().count() > 15 {
            w.map16(pairs)
        } else {
            w.fixed_map(pairs)
        }
        w.text("type");
        w.text(tag);
        for d in fields() {
            w.text(d.name);
            write_field(d.field, event, w);
        }
    } else {
        w.array(1 + declared.clone().count());
        w.text(tag);
        for d in declared {
            write_field(d.field, event, w);
        }
    }
}

fn or_nil<'w, T>(w: &mut Writer<'w>, value: Option<T>, write: impl FnOnce(&mut Writer<'w>, T)) {
    match value {
        Some(value) => write(w, value),
        None => w.nil(),
    }
}

/// Whether a field with a default differs from it.
fn is_set(field: Field, event: &WireEvent<'_>) -> bool {
    match (&event.event, field) {
        (Event::Stored(s), Field::ExtraKeys) => s.extra_keys.is_some(),
        (Event::Stored(s), Field::Group) => s.group.is_some(),
        (Event::Stored(s), Field::SpecKind) => s.attention.is_some() || event.spec_kind.is_some(),
        (Event::Stored(s), Field::SlidingWindow) => s.sliding_window.is_some(),
        (Event::Stored(s), Field::Locality) => s.locality.is_some(),
        (Event::Stored(s), Field::Ownership) => s.ownership.is_some(),
        (Event::Stored(s), Field::SessionId) => s.session_id.is_some(),
        (Event::Stored(s), Field::Lookahead) => !s.lookahead.is_empty(),
        (Event::Removed(r), Field::Group) => r.group.is_some(),
        (Event::Removed(r), Field::Locality) => r.locality.is_some(),
        (Event::Removed(r), Field::Ownership) => r.ownership.is_some(),
        _ => false,
    }
}

fn write_field(field: Field, event: &WireEvent<'_>, w: &mut Writer<'_>) {
    match &event.event {
        Event::Stored(stored) => write_stored(field, stored, event, w),
        Event::Removed(removed) => write_removed(field, removed, event, w),
        _ => {}
    }
}

fn write_removed(field: Field, r: &Removed<'_>, event: &WireEvent<'_>, w: &mut Writer<'_>) {
    match field {
        Field::Hashes => write_hashes(r.hashes, event, w),
        Field::Medium => write_medium(r.medium, w),
        Field::Group => or_nil(w, r.group, |w, g| w.uint(u64::from(g.0))),
        Field::Locality => write_locality(r.locality, w),
        _ => or_nil(w, r.ownership, Writer::text),
    }
}

fn write_stored(field: Field, s: &Stored<'_>, event: &WireEvent<'_>, w: &mut Writer<'_>) {
    match field {
        Field::Hashes => write_hashes(s.hashes, event, w),
        Field::Parent => {
            let parent = event.parent.or(s.parent.map(|p| WireHash::Unsigned(p.0)));
            or_nil(w, parent, |w, p| p.write(w));
        }
        Field::Tokens => write_tokens(s.tokens, w),
        Field::BlockSize => w.uint(u64::from(s.block_size)),
        Field::LoraId => or_nil(w, s.lora_id, Writer::int),
        Field::Medium => write_medium(s.medium, w),
        Field::LoraName => or_nil(w, s.lora_name, Writer::text),
        Field::ExtraKeys => or_nil(w, s.extra_keys, |w, keys| {
            w.array(keys.len());
            for block in (0..keys.len()).filter_map(|i| keys.of_block(i)) {
                or_nil(w, (!block.is_empty()).then_some(block), write_keys);
            }
        }),
        Field::Group => or_nil(w, s.group, |w, g| w.uint(u64::from(g.0))),
        Field::SpecKind => {
            or_nil(w, event.spec_kind.or(s.attention.map(spec_kind)), Writer::text);
        }
        Field::SlidingWindow => or_nil(w, s.sliding_window, |w, n| w.uint(u64::from(n))),
        Field::Locality => write_locality(s.locality, w),
        Field::Ownership => or_nil(w, s.ownership, Writer::text),
        Field::SessionId => or_nil(w, s.session_id, Writer::text),
        Field::Lookahead => {
            let each = s.lookahead.len().checked_div(s.hashes.len()).unwrap_or(0);
            let some = (each > 0).then_some(each);
            or_nil(w, some, |w, each| {
                w.array(s.hashes.len());
                s.lookahead.chunks(each).take(s.hashes.len()).for_each(|t| write_tokens(t, w));
            });
        }
        Field::CacheSalt => {}
    }
}

fn write_hashes(hashes: &[EngineHash], event: &WireEvent<'_>, w: &mut Writer<'_>) {
    match event.hashes {
        Some(wire) => {
            w.array(wire.len());
            wire.iter().for_each(|h| h.write(w));
        }
        None => {
            w.array(hashes.len());
            hashes.iter().for_each(|h| w.uint(h.0));
        }
    }
}

fn write_tokens(tokens: &[u32], w: &mut Writer<'_>) {
    w.array(tokens.len());
    tokens.iter().for_each(|&t| w.uint(u64::from(t)));
}

fn write_medium(medium: Option<Medium<'_>>, w: &mut Writer<'_>) {
    or_nil(w, medium, |w, m| w.text(m.0));
}

fn write_locality(locality: Option<Locality>, w: &mut Writer<'_>) {
    let word = match locality {
        Some(Locality::Local) => Some("LOCAL"),
        Some(Locality::Remote) => Some("REMOTE"),
        _ => None,
    };
    or_nil(w, word, Writer::text);
}

fn write_keys(w: &mut Writer<'_>, keys: &[AnnouncedKey<'_>]) {
    w.array(keys.len());
    for key in keys {
        match *key {
            AnnouncedKey::Text(text) => w.text(text),
            AnnouncedKey::Multimodal { identifier, offset } => {
                w.array(2);
                w.text(identifier);
                w.int(offset);
            }
            AnnouncedKey::Bytes(bytes) => w.bytes(bytes),
            AnnouncedKey::Int(n) => w.int(n),
            _ => w.nil(),
        }
    }
}

fn spec_kind(kind: AttentionKind) -> &'static str {
    match kind {
        AttentionKind::Full => "full_attention",
        AttentionKind::SlidingWindow => "sliding_window",
        AttentionKind::ChunkedLocal => "chunked_local_attention",
        AttentionKind::Recurrent => "mamba",
        AttentionKind::NotPrefix => "encoder_only_attention",
        _ => "unknown",
    }
}
