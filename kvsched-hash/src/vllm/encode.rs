//! What the two serialisations have in common.

use crate::{Digest, sha256};

/// Writes the values of a block's hash input, one after the other.
pub(crate) trait Encode {
    /// Begins a new input at the message's start.
    fn start(&mut self, out: &mut Message<'_>);
    /// Ends it.
    fn finish(&mut self, out: &mut Message<'_>);
    /// Begins a tuple of `len` values.
    fn open_tuple(&mut self, out: &mut Message<'_>, len: usize);
    /// Ends a tuple of `len` values.
    fn close_tuple(&mut self, out: &mut Message<'_>, len: usize);
    /// A run of small ints.
    fn tokens(&mut self, out: &mut Message<'_>, tokens: &[u32]);
    /// Ends a message that was cut before its tokens, with other tokens and the `tail` it had.
    fn repeat(&mut self, out: &mut Message<'_>, tokens: &[u32], tail: &Tail);
    fn none(&mut self, out: &mut Message<'_>);
    fn int(&mut self, out: &mut Message<'_>, n: i64);
    /// A digest that is a Python int.
    fn big_uint(&mut self, out: &mut Message<'_>, big_endian: &[u8]);
    fn bytes(&mut self, out: &mut Message<'_>, bytes: &[u8]);
    /// Room for a digest that is bytes; tells where in the message it is.
    fn digest(&mut self, out: &mut Message<'_>, digest: &Digest) -> usize;
    fn text(&mut self, out: &mut Message<'_>, text: &str);
    /// A literal of the engine's source, which Python keeps as one object.
    fn tag(&mut self, out: &mut Message<'_>, tag: &'static str);
}

/// A message under construction, in a buffer that was measured to hold it.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    buffer: &'a mut [u8],
    len: usize,
    /// The length with the padding.
    padded: usize,
}

/// The last bytes of a message without extra keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    bytes: [u8; 8],
    len: usize,
}

/// Tokens that [`Message::put_each`] takes at once, and more than the bytes they become.
const LANES: usize = 8;
const WINDOW: usize = 64;

/// Bytes behind a message that [`Message::put_each`] may touch.
pub(crate) const SLACK: usize = WINDOW + 8;

impl<'a> Message<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0, padded: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Pads it for SHA-256.
    #[inline]
    pub(crate) fn pad(&mut self) {
        self.padded = sha256::pad(self.buffer, self.len);
    }

    /// The message with its padding.
    #[inline]
    pub(crate) fn padded(&self) -> &[u8] {
        &self.buffer[..self.padded]
    }

    /// What was put so far.
    pub(crate) fn written(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Becomes the first `len` bytes of another.
    pub(crate) fn begin_as(&mut self, other: &Self, len: usize) {
        self.buffer[..len].copy_from_slice(&other.buffer[..len]);
        self.len = len;
    }

    /// Keeps the first `len` bytes.
    #[inline]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// What follows byte `at`; cut off where a [`Tail`] ends.
    pub(crate) fn tail_from(&self, at: usize) -> Tail {
        let mut tail = Tail { bytes: [0; 8], len: (self.len - at).min(8) };
        tail.bytes[..tail.len].copy_from_slice(&self.buffer[at..at + tail.len]);
        tail
    }

    #[inline]
    pub(crate) fn put_tail(&mut self, tail: &Tail) {
        self.buffer[self.len..self.len + 8].copy_from_slice(&tail.bytes);
        self.len += tail.len;
    }

    /// Overwrites the bytes at `at`.
    #[inline]
    pub(crate) fn patch<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.buffer[at..at + N].copy_from_slice(&bytes);
    }

    /// Overwrites a digest's bytes at `at`.
    #[inline]
    pub(crate) fn patch_digest(&mut self, at: usize, digest: &Digest) {
        let bytes = digest.as_bytes();
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Leaves `len` bytes for a digest and tells where.
    #[inline]
    pub(crate) fn skip_digest(&mut self, len: usize) -> usize {
        self.len += len;
        self.len - len
    }

    /// Appends a value of 1 to 5 bytes for each token: of a little-endian word so many bytes.
    /// `long` is for tokens of at least two bytes, as those of words are; `any` for all.
    ///
    /// Token by token nothing is branched on: texts mix short tokens and long ones.
    #[inline(always)]
    pub(crate) fn put_each(
        &mut self,
        tokens: &[u32],
        long: impl Fn(u32) -> (u64, usize),
        any: impl Fn(u32) -> (u64, usize),
    ) {
        let (whole, rest) = tokens.as_chunks::<LANES>();
        if are_long(tokens) {
            for tokens in whole {
                // A fixed number is unrolled.
                self.put_few(tokens, &long);
            }
        } else {
            for tokens in whole {
                self.put_few(tokens, &any);
            }
        }
        self.put_few(rest, &any);
    }

    #[inline(always)]
    fn put_few(&mut self, tokens: &[u32], encode: impl Fn(u32) -> (u64, usize)) {
        let to = &mut self.buffer[self.len..self.len + WINDOW + 8];
        let mut at = 0;
        for &token in tokens {
            let (word, len) = encode(token);
            // The mask spares a check: `at` stays below 5 times the lanes.
            to[at % WINDOW..][..8].copy_from_slice(&word.to_le_bytes());
            at += len;
        }
        self.len += at;
    }

    /// Takes `len` bytes at `at` out, moving what follows.
    pub(crate) fn cut(&mut self, at: usize, len: usize) {
        self.buffer.copy_within(at + len..self.len, at);
        self.len -= len;
    }
}

/// Whether all tokens are above 255 and none above 2³¹.
#[inline(always)]
fn are_long(tokens: &[u32]) -> bool {
    // In lanes, as vector instructions have them, and not with `all`, which stops at the first.
    let mut lanes = [0; 4];
    let (whole, rest) = tokens.as_chunks::<4>();
    for tokens in whole {
        lanes = std::array::from_fn(|i| lanes[i] | tokens[i].wrapping_sub(0x100));
    }
    let rest = rest.iter().map(|token| token.wrapping_sub(0x100));
    lanes.into_iter().chain(rest).fold(0, |all, lane| all | lane) < 1 << 31
}
