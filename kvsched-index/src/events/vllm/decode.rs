use super::super::msgpack::{Reader, Value};
use super::DecodeError;
use super::batch::{Batch, Kind, Record, Scratch, Span, Tally, no_key, no_record, recycled};
use super::fields::{self, CLEARED_TAG, Declared, Field, REMOVED, REMOVED_TAG, STORED, STORED_TAG};
use kvsched_core::{AnnouncedKey, Group, Locality};

/// Reads payloads into events, in buffers that it keeps: once warm it allocates nothing.
///
/// Time and memory are bounded by the payload's length (at most some 100 bytes of buffer a
/// byte, for payloads made to be the worst).
///
/// See [the module](super) for an example.
#[derive(Debug, Default)]
pub struct Decoder {
    scratch: Scratch,
}

type Result<T> = std::result::Result<T, DecodeError>;

/// Spans and offsets are 32-bit.
const LONGEST: usize = u32::MAX as usize;

impl Decoder {
    /// A decoder with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one payload.
    ///
    /// An event that cannot be read is left out, the events around it are kept, and
    /// [`Batch::lost_events`] and [`Batch::fault`] tell of it: whoever applies the rest knows
    /// less than happened. Unknown events and fields are passed over and counted.
    ///
    /// # Errors
    ///
    /// When the payload is not even the beginning of a batch: no events can be told from it.
    pub fn decode<'a>(&'a mut self, payload: &'a [u8]) -> Result<Batch<'a>> {
        if payload.len() > LONGEST {
            return Err(DecodeError::TooLong { bytes: payload.len(), limit: LONGEST });
        }
        let mut reader = Reader::new(payload);
        let parts = reader.array("a batch [timestamp, events, rank]")?;
        if parts < 2 {
            return Err(DecodeError::Missing { offset: 0, field: "timestamp and list of events" });
        }
        let timestamp = reader.float("a timestamp")?;
        let announced = reader.array("a list of events")?;

        let scratch = &mut self.scratch;
        scratch.hashes.clear();
        scratch.tokens.clear();
        scratch.ends.clear();
        let mut pass = Pass {
            records: recycled(std::mem::take(&mut scratch.records), no_record),
            keys: recycled(std::mem::take(&mut scratch.keys), no_key),
            scratch,
            reader,
            tally: Tally::default(),
        };
        let read = pass.events(announced).and_then(|()| pass.envelope_rest(parts));
        let rank = read.unwrap_or_else(|fault| {
            pass.tally.fault.get_or_insert(fault);
            None
        });
        let Pass { records, keys, scratch, tally, .. } = pass;
        Ok(Batch { timestamp, rank, payload, scratch, records, keys, tally })
    }
}

/// One payload on its way into the buffers.
struct Pass<'a> {
    reader: Reader<'a>,
    scratch: &'a mut Scratch,
    records: Vec<Record<'a>>,
    keys: Vec<AnnouncedKey<'a>>,
    tally: Tally,
}

impl<'a> Pass<'a> {
    /// Reads `announced` events. An error means that the structure itself is broken, so that
    /// nothing can be told of what follows.
    fn events(&mut self, announced: usize) -> Result<()> {
        for i in 0..announced {
            let (start, tally) = (self.reader.clone(), self.tally);
            let marks = [
                self.scratch.hashes.len(),
                self.scratch.tokens.len(),
                self.scratch.ends.len(),
                self.keys.len(),
            ];
            let Err(fault) = self.event() else { continue };
            self.tally = tally;
            self.tally.lost += 1;
            self.tally.fault.get_or_insert(fault);
            self.scratch.hashes.truncate(marks[0]);
            self.scratch.tokens.truncate(marks[1]);
            self.scratch.ends.truncate(marks[2]);
            self.keys.truncate(marks[3]);
            self.reader = start;
            if let Err(broken) = self.reader.skip() {
                self.tally.lost += announced - i - 1;
                return Err(broken);
            }
        }
        Ok(())
    }

    /// Reads what follows the events: the rank, parts of later versions, nothing.
    fn envelope_rest(&mut self, parts: usize) -> Result<Option<u32>> {
        let rank = match parts {
            2 => None,
            _ => self.reader.count("a data-parallel rank", u32::MAX)?,
        };
        for _ in 3..parts {
            self.tally.unknown_fields += 1;
            self.reader.skip()?;
        }
        match self.reader.left() {
            0 => {}
            bytes => {
                let offset = self.reader.position();
                self.tally.fault.get_or_insert(DecodeError::Trailing { offset, bytes });
            }
        }
        Ok(rank)
    }

    fn event(&mut self) -> Result<()> {
        let start = self.reader.position();
        if matches!(self.reader.peek(), Some(0x80..=0x8f | 0xde | 0xdf)) {
            self.map_event(start)
        } else {
            self.array_event(start)
        }
    }

    fn array_event(&mut self, start: usize) -> Result<()> {
        let len = self.reader.array("an event (array or map)")?;
        if len == 0 {
            return Err(DecodeError::Missing { offset: start, field: "type" });
        }
        let tag = self.reader.word("an event's type")?;
        let Some((kind, declared)) = class(tag) else {
            self.tally.unknown_events += 1;
            return self.skip(len - 1);
        };
        let mut record = Record { kind, ..Record::default() };
        let mut seen = 0;
        for Declared { field, .. } in declared.iter().take(len - 1) {
            seen |= field.bit();
            self.field(*field, &mut record)?;
        }
        let beyond = (len - 1).saturating_sub(declared.len());
        self.tally.unknown_fields += beyond;
        self.skip(beyond)?;
        self.keep(record, seen, None, start)
    }

    fn map_event(&mut self, start: usize) -> Result<()> {
        let pairs = self.reader.map("an event (array or map)")?;
        // The engine writes the type first; any other place will do.
        let mut kind = None;
        let mut record = Record::default();
        let (mut seen, mut unknown) = (0, 0);
        let mut salt = None;
        for _ in 0..pairs {
            let key = self.reader.word("a field's name")?;
            if key == b"type" {
                let tag = self.reader.word("an event's type")?;
                kind = Some(class(tag));
                continue;
            }
            match (kind, fields::named(key)) {
                // Whatever the fields of an unknown event are called, they are not these.
                (Some(None), _) => self.reader.skip()?,
                (_, None) => {
                    unknown += 1;
                    self.reader.skip()?;
                }
                (_, Some(Field::CacheSalt)) => salt = self.reader.text("a cache salt")?,
                (_, Some(field)) => {
                    seen |= field.bit();
                    self.field(field, &mut record)?;
                }
            }
        }
        match kind {
            None => Err(DecodeError::Missing { offset: start, field: "type" }),
            Some(None) => {
                self.tally.unknown_events += 1;
                Ok(())
            }
            Some(Some((kind, _))) => {
                self.tally.unknown_fields += unknown;
                self.keep(Record { kind, ..record }, seen, salt, start)
            }
        }
    }

    fn skip(&mut self, values: usize) -> Result<()> {
        (0..values).try_for_each(|_| self.reader.skip())
    }

    /// Adds a record that has what its kind needs.
    fn keep(
        &mut self,
        mut record: Record<'a>,
        seen: u32,
        salt: Option<&'a str>,
        start: usize,
    ) -> Result<()> {
        let needed: &[Field] = match record.kind {
            Kind::Stored => &[Field::Hashes, Field::Parent, Field::Tokens, Field::BlockSize],
            Kind::Removed => &[Field::Hashes],
            Kind::Cleared => &[],
        };
        if let Some(field) = needed.iter().find(|f| seen & f.bit() == 0) {
            let declared = STORED.iter().find(|d| d.field == *field);
            let field = declared.map_or("field", |d| d.name);
            return Err(DecodeError::Missing { offset: start, field });
        }
        if record.lookahead_blocks != record.hashes.len() && record.lookahead_blocks != 0 {
            self.tally.unknown_fields += 1;
            record.lookahead = Span::default();
        }
        if let Some(salt) = salt.filter(|_| record.kind == Kind::Stored && record.keys.is_none()) {
            record.keys = Some(self.salted(&record, salt));
        }
        self.records.push(record);
        Ok(())
    }

    /// SGLang's `cache_salt`, told as vLLM tells it: an extra key of the prompt's first block.
    fn salted(&mut self, record: &Record<'a>, salt: &'a str) -> (Span, Span) {
        let (key, end) = (self.keys.len(), self.scratch.ends.len());
        if record.parent.is_none() {
            self.keys.push(AnnouncedKey::Text(salt));
        }
        let count = (self.keys.len() - key) as u32;
        let blocks = record.hashes.len() as usize;
        self.scratch.ends.resize(end + blocks, count);
        if blocks == 0 {
            self.keys.truncate(key);
        }
        (span(key, self.keys.len()), span(end, self.scratch.ends.len()))
    }

    fn field(&mut self, field: Field, record: &mut Record<'a>) -> Result<()> {
        let reader = &mut self.reader;
        let at = reader.position() as u32;
        match field {
            Field::Hashes => {
                let start = self.scratch.hashes.len();
                reader.hashes(&mut self.scratch.hashes)?;
                record.hashes = span(start, self.scratch.hashes.len());
                record.hashes_at = at;
            }
            Field::Parent => {
                record.parent = reader.hash()?.map(super::super::msgpack::RawHash::name);
                record.parent_at = at;
            }
            Field::Tokens => {
                let start = self.scratch.tokens.len();
                reader.tokens(&mut self.scratch.tokens)?;
                record.tokens = span(start, self.scratch.tokens.len());
            }
            Field::BlockSize => {
                let size = reader.count("a block size", u32::MAX)?;
                record.block_size = size.ok_or(DecodeError::Type {
                    offset: at as usize,
                    expected: "a block size",
                    found: 0xc0,
                })?;
            }
            Field::LoraId => record.lora_id = reader.integer("a LoRA id")?,
            Field::Medium => record.medium = reader.text("a medium")?,
            Field::LoraName => record.lora_name = reader.text("a LoRA name")?,
            Field::ExtraKeys => record.keys = self.extra_keys()?,
            Field::Group => {
                let group = reader.count("a group", u32::from(u8::MAX))?;
                record.group = group.map(|g| Group(g as u8));
            }
            Field::SpecKind => record.spec_kind = reader.text("a kind of attention")?,
            Field::SlidingWindow => {
                record.sliding_window = reader.count("a sliding window", u32::MAX)?;
            }
            Field::Locality => {
                record.locality = match reader.text("a locality")? {
                    Some("LOCAL") => Some(Locality::Local),
                    Some("REMOTE") => Some(Locality::Remote),
                    None => None,
                    Some(_) => {
                        self.tally.unknown_fields += 1;
                        None
                    }
                };
            }
            Field::Ownership => record.ownership = reader.text("an owner")?,
            Field::SessionId => record.session_id = reader.text("a session")?,
            Field::Lookahead => {
                (record.lookahead, record.lookahead_blocks) = self.lookahead()?;
            }
            Field::CacheSalt => reader.skip()?,
        }
        Ok(())
    }

    /// Keys of each block; `None` for nil, and for a form we do not know.
    fn extra_keys(&mut self) -> Result<Option<(Span, Span)>> {
        let rewind = self.reader.clone();
        let (key, end) = (self.keys.len(), self.scratch.ends.len());
        let known = match self.reader.value()? {
            Value::Nil => return Ok(None),
            Value::Array(blocks) => self.keys_of_blocks(blocks)?,
            _ => false,
        };
        if known {
            return Ok(Some((span(key, self.keys.len()), span(end, self.scratch.ends.len()))));
        }
        self.tally.unknown_fields += 1;
        self.keys.truncate(key);
        self.scratch.ends.truncate(end);
        self.reader = rewind;
        self.reader.skip()?;
        Ok(None)
    }

    /// Reads the keys of `blocks` blocks; false as soon as something is not a key.
    fn keys_of_blocks(&mut self, blocks: usize) -> Result<bool> {
        let first = self.keys.len();
        for _ in 0..blocks {
            match self.reader.value()? {
                Value::Nil => {}
                Value::Array(keys) => {
                    for _ in 0..keys {
                        let Some(key) = self.extra_key()? else { return Ok(false) };
                        self.keys.push(key);
                    }
                }
                _ => return Ok(false),
            }
            self.scratch.ends.push((self.keys.len() - first) as u32);
        }
        Ok(true)
    }

    fn extra_key(&mut self) -> Result<Option<AnnouncedKey<'a>>> {
        Ok(match self.reader.value()? {
            Value::Text(text) => Some(AnnouncedKey::Text(text)),
            Value::Bytes(bytes) => Some(AnnouncedKey::Bytes(bytes)),
            Value::Int(n) => Some(AnnouncedKey::Int(n)),
            Value::Array(2) => match (self.reader.value()?, self.reader.value()?) {
                (Value::Text(identifier), Value::Int(offset)) => {
                    Some(AnnouncedKey::Multimodal { identifier, offset })
                }
                _ => None,
            },
            Value::Nil | Value::Array(_) | Value::Other => None,
        })
    }

    /// `[[token…]…]`, equally many tokens a block; empty for nil and for a form we do not know.
    /// With the number of blocks.
    fn lookahead(&mut self) -> Result<(Span, u32)> {
        let rewind = self.reader.clone();
        let start = self.scratch.tokens.len();
        match self.reader.value()? {
            Value::Nil => return Ok((Span::default(), 0)),
            Value::Array(blocks) => {
                let mut each = None;
                for _ in 0..blocks {
                    let before = self.scratch.tokens.len();
                    self.reader.tokens(&mut self.scratch.tokens)?;
                    let tokens = self.scratch.tokens.len() - before;
                    if *each.get_or_insert(tokens) != tokens {
                        each = Some(usize::MAX);
                    }
                }
                if each != Some(usize::MAX) {
                    return Ok((span(start, self.scratch.tokens.len()), blocks as u32));
                }
            }
            _ => {}
        }
        self.tally.unknown_fields += 1;
        self.scratch.tokens.truncate(start);
        self.reader = rewind;
        self.reader.skip()?;
        Ok((Span::default(), 0))
    }
}

/// What a tag stands for, and its fields in the order of an array.
fn class(tag: &[u8]) -> Option<(Kind, &'static [Declared])> {
    match tag {
        t if t == STORED_TAG.as_bytes() => Some((Kind::Stored, &STORED)),
        t if t == REMOVED_TAG.as_bytes() => Some((Kind::Removed, &REMOVED)),
        t if t == CLEARED_TAG.as_bytes() => Some((Kind::Cleared, &[])),
        _ => None,
    }
}

/// Buffers are never longer than the payload, whose length fits.
fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}
