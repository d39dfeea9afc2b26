//! Reading and writing msgpack, as much as event messages need of it.
//!
//! By hand because tokens are nine tenths of every message and must land in a reused buffer:
//! general readers hand them over one checked value at a time. Format:
//! <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use super::vllm::DecodeError;
use kvsched_core::{EngineHash, TokenId};

/// A cursor over one message. Time and memory of every method are bounded by the bytes left:
/// declared lengths are checked against them before anything is reserved.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

/// The head of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Head {
    Nil,
    Bool,
    Uint(u64),
    Negative(i64),
    Float(f64),
    Text(usize),
    Bytes(usize),
    Array(usize),
    Map(usize),
    /// An extension's data, with the type byte counted in.
    Extension(usize),
}

/// An announced hash as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawHash<'a> {
    Uint(u64),
    Negative(i64),
    Bytes(&'a [u8]),
}

impl RawHash<'_> {
    /// The 64-bit name; negative numbers (vLLM to 0.10.1, SGLang) as two's complement.
    pub(super) fn name(self) -> EngineHash {
        match self {
            Self::Uint(n) => EngineHash(n),
            Self::Negative(n) => EngineHash(n.cast_unsigned()),
            Self::Bytes(digest) => EngineHash::from_digest(digest),
        }
    }
}

/// A value of which the caller allows several types.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// So many values follow.
    Array(usize),
    /// Skipped already.
    Other,
}

type Result<T> = std::result::Result<T, DecodeError>;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    pub(super) fn at(bytes: &'a [u8], pos: usize) -> Self {
        Self { bytes, pos }
    }

    pub(super) fn position(&self) -> usize {
        self.pos
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.pos
    }

    /// The next byte, which tells a value's type.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.pos).copied()
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let end = self.pos.checked_add(n).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(DecodeError::Truncated { offset: self.pos, needed: n, left: self.left() });
        };
        let taken = &self.bytes[self.pos..end];
        self.pos = end;
        Ok(taken)
    }

    fn uint(&mut self, width: usize) -> Result<u64> {
        Ok(self.take(width)?.iter().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    fn int(&mut self, width: usize) -> Result<Head> {
        let shift = 64 - 8 * width as u32;
        let n = (self.uint(width)? << shift).cast_signed() >> shift;
        Ok(u64::try_from(n).map_or(Head::Negative(n), Head::Uint))
    }

    /// A length of things of at least `each` bytes, refused where they cannot be there.
    fn length(&mut self, width: usize, each: usize) -> Result<usize> {
        let offset = self.pos.saturating_sub(1);
        let declared = self.uint(width)?;
        self.check_length(offset, declared, each)
    }

    fn check_length(&self, offset: usize, declared: u64, each: usize) -> Result<usize> {
        let left = self.left();
        usize::try_from(declared)
            .ok()
            .filter(|&n| n.checked_mul(each).is_some_and(|bytes| bytes <= left))
            .ok_or(DecodeError::Length { offset, declared, left })
    }

    fn head(&mut self) -> Result<Head> {
        let offset = self.pos;
        let marker = self.take(1)?[0];
        let small = |mask: u8| u64::from(marker & mask);
        Ok(match marker {
            0x00..=0x7f => Head::Uint(u64::from(marker)),
            0x80..=0x8f => Head::Map(self.check_length(offset, small(0x0f), 2)?),
            0x90..=0x9f => Head::Array(self.check_length(offset, small(0x0f), 1)?),
            0xa0..=0xbf => Head::Text(self.check_length(offset, small(0x1f), 1)?),
            0xc0 => Head::Nil,
            0xc1 => {
                return Err(DecodeError::Type {
                    offset,
                    expected: "a msgpack value",
                    found: marker,
                });
            }
            0xc2 | 0xc3 => Head::Bool,
            0xc4 => Head::Bytes(self.length(1, 1)?),
            0xc5 => Head::Bytes(self.length(2, 1)?),
            0xc6 => Head::Bytes(self.length(4, 1)?),
            0xc7 => Head::Extension(self.length(1, 1)?.saturating_add(1)),
            0xc8 => Head::Extension(self.length(2, 1)?.saturating_add(1)),
            0xc9 => Head::Extension(self.length(4, 1)?.saturating_add(1)),
            0xca => Head::Float(f64::from(f32::from_bits(self.uint(4)? as u32))),
            0xcb => Head::Float(f64::from_bits(self.uint(8)?)),
            0xcc => Head::Uint(self.uint(1)?),
            0xcd => Head::Uint(self.uint(2)?),
            0xce => Head::Uint(self.uint(4)?),
            0xcf => Head::Uint(self.uint(8)?),
            0xd0 => self.int(1)?,
            0xd1 => self.int(2)?,
            0xd2 => self.int(4)?,
            0xd3 => self.int(8)?,
            0xd4..=0xd8 => Head::Extension(1 + (1 << (marker - 0xd4))),
            0xd9 => Head::Text(self.length(1, 1)?),
            0xda => Head::Text(self.length(2, 1)?),
            0xdb => Head::Text(self.length(4, 1)?),
            0xdc => Head::Array(self.length(2, 1)?),
            0xdd => Head::Array(self.length(4, 1)?),
            0xde => Head::Map(self.length(2, 2)?),
            0xdf => Head::Map(self.length(4, 2)?),
            0xe0..=0xff => Head::Negative(i64::from(marker.cast_signed())),
        })
    }

    /// An error about the value that starts at `offset`.
    fn mismatch<T>(&self, offset: usize, expected: &'static str) -> Result<T> {
        let found = self.bytes.get(offset).copied().unwrap_or_default();
        Err(DecodeError::Type { offset, expected, found })
    }

    /// Passes over one value. A counter stands in for the nesting, so that no depth of it
    /// costs stack.
    pub(super) fn skip(&mut self) -> Result<()> {
        let mut pending = 1usize;
        while pending > 0 {
            let offset = self.pos;
            pending -= 1;
            match self.head()? {
                Head::Nil | Head::Bool | Head::Uint(_) | Head::Negative(_) | Head::Float(_) => {}
                Head::Text(n) | Head::Bytes(n) | Head::Extension(n) => {
                    self.take(n)?;
                }
                // `head` has bounded both by the bytes left, so the sums cannot overflow.
                Head::Array(n) => pending += n,
                Head::Map(n) => pending += 2 * n,
            }
            if pending > self.left() {
                return Err(DecodeError::Length {
                    offset,
                    declared: pending as u64,
                    left: self.left(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn array(&mut self, expected: &'static str) -> Result<usize> {
        let offset = self.pos;
        match self.head()? {
            Head::Array(n) => Ok(n),
            _ => self.mismatch(offset, expected),
        }
    }

    /// The number of pairs of a map.
    pub(super) fn map(&mut self, expected: &'static str) -> Result<usize> {
        let offset = self.pos;
        match self.head()? {
            Head::Map(n) => Ok(n),
            _ => self.mismatch(offset, expected),
        }
    }

    /// The bytes of a text that is only compared, so that its encoding need not be checked.
    pub(super) fn word(&mut self, expected: &'static str) -> Result<&'a [u8]> {
        let offset = self.pos;
        match self.head()? {
            Head::Text(n) => self.take(n),
            _ => self.mismatch(offset, expected),
        }
    }

    fn utf8(&self, offset: usize, bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|e| DecodeError::Text {
            offset: self.pos - bytes.len() + e.valid_up_to(),
            value_offset: offset,
        })
    }

    /// A text or nil.
    pub(super) fn text(&mut self, expected: &'static str) -> Result<Option<&'a str>> {
        let offset = self.pos;
        match self.head()? {
            Head::Nil => Ok(None),
            Head::Text(n) => {
                let bytes = self.take(n)?;
                self.utf8(offset, bytes).map(Some)
            }
            _ => self.mismatch(offset, expected),
        }
    }

    /// A point in time: any number.
    pub(super) fn float(&mut self, expected: &'static str) -> Result<f64> {
        let offset = self.pos;
        match self.head()? {
            Head::Float(x) => Ok(x),
            Head::Uint(n) => Ok(n as f64),
            Head::Negative(n) => Ok(n as f64),
            _ => self.mismatch(offset, expected),
        }
    }

    /// A signed number or nil.
    pub(super) fn integer(&mut self, expected: &'static str) -> Result<Option<i64>> {
        let offset = self.pos;
        match self.head()? {
            Head::Nil => Ok(None),
            Head::Negative(n) => Ok(Some(n)),
            Head::Uint(n) => i64::try_from(n).map(Some).map_err(|_| DecodeError::Range {
                offset,
                what: expected,
                value: i128::from(n),
                limit: i64::MAX.cast_unsigned(),
            }),
            _ => self.mismatch(offset, expected),
        }
    }

    /// A number from 0 to `limit`, or nil.
    pub(super) fn count(&mut self, expected: &'static str, limit: u32) -> Result<Option<u32>> {
        let offset = self.pos;
        let value = match self.head()? {
            Head::Nil => return Ok(None),
            Head::Uint(n) => i128::from(n),
            Head::Negative(n) => i128::from(n),
            _ => return self.mismatch(offset, expected),
        };
        u32::try_from(value).ok().filter(|&n| n <= limit).map(Some).ok_or(DecodeError::Range {
            offset,
            what: expected,
            value,
            limit: u64::from(limit),
        })
    }

    /// One hash, or nil.
    pub(super) fn hash(&mut self) -> Result<Option<RawHash<'a>>> {
        let offset = self.pos;
        match self.head()? {
            Head::Nil => Ok(None),
            Head::Uint(n) => Ok(Some(RawHash::Uint(n))),
            Head::Negative(n) => Ok(Some(RawHash::Negative(n))),
            Head::Bytes(n) => Ok(Some(RawHash::Bytes(self.take(n)?))),
            _ => self.mismatch(offset, "a block hash (integer or bytes)"),
        }
    }

    /// An array of hashes, behind those already in `out`.
    pub(super) fn hashes(&mut self, out: &mut Vec<EngineHash>) -> Result<()> {
        let n = self.array("an array of block hashes")?;
        out.reserve(n);
        for _ in 0..n {
            // The usual forms first, of which the signed one is taken as two's complement;
            // `hash` reads all of them.
            if let Some([0xcf | 0xd3, a, b, c, d, e, f, g, h]) =
                self.bytes[self.pos..].first_chunk()
            {
                out.push(EngineHash(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])));
                self.pos += 9;
                continue;
            }
            let offset = self.pos;
            match self.hash()? {
                Some(hash) => out.push(hash.name()),
                None => return self.mismatch(offset, "a block hash (integer or bytes)"),
            }
        }
        Ok(())
    }

    /// An array of token ids, behind those already in `out`.
    pub(super) fn tokens(&mut self, out: &mut Vec<TokenId>) -> Result<()> {
        let n = self.array("an array of token ids")?;
        let start = out.len();
        out.resize(start + n, 0);
        for slot in &mut out[start..] {
            // Three forms make up nearly all tokens; `count` reads every form.
            (*slot, self.pos) = match *self.bytes[self.pos..].first_chunk().unwrap_or(&[0xc0; 5]) {
                [0xcd, a, b, ..] => (u32::from(u16::from_be_bytes([a, b])), self.pos + 3),
                [0xce, a, b, c, d] => (u32::from_be_bytes([a, b, c, d]), self.pos + 5),
                [small @ 0..=0x7f, ..] => (u32::from(small), self.pos + 1),
                _ => (self.token()?, self.pos),
            };
        }
        Ok(())
    }

    /// One token id in any form. Of SGLang's pairs (token, next token), which it announces
    /// under EAGLE, the first.
    fn token(&mut self) -> Result<TokenId> {
        let offset = self.pos;
        let is_pair = self.peek() == Some(0x92);
        if is_pair {
            self.array("a token id")?;
        }
        let Some(token) = self.count("a token id", u32::MAX)? else {
            return self.mismatch(offset, "a token id");
        };
        if is_pair && self.count("a token id", u32::MAX)?.is_none() {
            return self.mismatch(offset, "a token id");
        }
        Ok(token)
    }

    /// Whatever comes next, arrays entered and the unexpected skipped.
    pub(super) fn value(&mut self) -> Result<Value<'a>> {
        let offset = self.pos;
        Ok(match self.head()? {
            Head::Nil => Value::Nil,
            Head::Negative(n) => Value::Int(n),
            Head::Uint(n) => i64::try_from(n).map_or(Value::Other, Value::Int),
            Head::Text(n) => {
                let bytes = self.take(n)?;
                Value::Text(self.utf8(offset, bytes)?)
            }
            Head::Bytes(n) => Value::Bytes(self.take(n)?),
            Head::Array(n) => Value::Array(n),
            Head::Bool | Head::Float(_) => Value::Other,
            Head::Map(_) | Head::Extension(_) => {
                self.pos = offset;
                self.skip()?;
                Value::Other
            }
        })
    }
}

/// Writes values in their shortest form, as msgspec does.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn nil(&mut self) {
        self.0.push(0xc0);
    }

    pub(super) fn float(&mut self, x: f64) {
        self.0.push(0xcb);
        self.0.extend(x.to_bits().to_be_bytes());
    }

    pub(super) fn uint(&mut self, n: u64) {
        match n {
            0..=0x7f => self.0.push(n as u8),
            0x80..=0xff => self.0.extend([0xcc, n as u8]),
            0x100..=0xffff => self.sized(0xcd, &(n as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.sized(0xce, &(n as u32).to_be_bytes()),
            _ => self.sized(0xcf, &n.to_be_bytes()),
        }
    }

    pub(super) fn int(&mut self, n: i64) {
        match n {
            0.. => self.uint(n.cast_unsigned()),
            -0x20..0 => self.0.push(n as u8),
            -0x80..-0x20 => self.0.extend([0xd0, n as u8]),
            -0x8000..-0x80 => self.sized(0xd1, &(n as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => self.sized(0xd2, &(n as i32).to_be_bytes()),
            _ => self.sized(0xd3, &n.to_be_bytes()),
        }
    }

    fn sized(&mut self, marker: u8, bytes: &[u8]) {
        self.0.push(marker);
        self.0.extend(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        match text.len() {
            n @ 0..=0x1f => self.0.push(0xa0 | n as u8),
            n @ 0x20..=0xff => self.0.extend([0xd9, n as u8]),
            n @ 0x100..=0xffff => self.sized(0xda, &(n as u16).to_be_bytes()),
            n => self.sized(0xdb, &(n as u32).to_be_bytes()),
        }
        self.0.extend(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        match bytes.len() {
            n @ 0..=0xff => self.0.extend([0xc4, n as u8]),
            n @ 0x100..=0xffff => self.sized(0xc5, &(n as u16).to_be_bytes()),
            n => self.sized(0xc6, &(n as u32).to_be_bytes()),
        }
        self.0.extend(bytes);
    }

    pub(super) fn array(&mut self, n: usize) {
        match n {
            0..=0x0f => self.0.push(0x90 | n as u8),
            0x10..=0xffff => self.sized(0xdc, &(n as u16).to_be_bytes()),
            _ => self.sized(0xdd, &(n as u32).to_be_bytes()),
        }
    }

    pub(super) fn fixed_map(&mut self, pairs: usize) {
        self.0.push(0x80 | pairs as u8);
    }

    pub(super) fn map16(&mut self, pairs: usize) {
        self.sized(0xde, &(pairs as u16).to_be_bytes());
    }
}
