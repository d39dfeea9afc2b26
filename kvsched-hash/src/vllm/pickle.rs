//! Pickle protocol 5 as CPython's C pickler writes it, of as much as a block's hash input
//! needs. The opcodes are those of Python's `pickletools`; framing and memo follow
//! `Modules/_pickle.c` of CPython 3.9 to 3.13.
//!
//! Two equal strings are written out twice unless they are one *object*: the memo goes by
//! identity. In the engine's default process model every string of a request was decoded
//! from a message and is an object of its own, except the literals of the engine's source
//! (tags) and the strings that CPython keeps one object of (empty, and of one Latin-1
//! character). With an in-process engine two items may share an identifier object; the CBOR
//! algorithms do not have that ambiguity.

use super::encode::{Encode, Message, Tail};
use crate::Digest;

const PROTOCOL_5: [u8; 2] = [0x80, 5];
const FRAME: u8 = 0x95;
const FRAME_HEADER: usize = 9;
/// A frame that has reached this size ends before the next value.
const FRAME_TARGET: usize = 64 * 1024;
/// A frame of fewer bytes loses its header.
const FRAME_MIN: usize = 4;
const MEMOIZE: u8 = 0x94;
const STOP: u8 = b'.';

#[derive(Debug)]
pub(crate) struct Pickle {
    /// Where the open frame's header stands.
    frame: Option<usize>,
    /// Objects memoised so far.
    memo: u32,
    /// 1 + the memo index of the only tag that can occur twice, "mm"; 0 before.
    tag: u32,
    /// The same of the strings that are one object: 256 characters and the empty string.
    singletons: [u32; 257],
    /// Whether `singletons` is not all 0.
    singletons_seen: bool,
}

impl Default for Pickle {
    fn default() -> Self {
        Self { frame: None, memo: 0, tag: 0, singletons: [0; 257], singletons_seen: false }
    }
}

impl Pickle {
    /// What the pickler does on entry to every value: close a full frame.
    #[inline]
    fn boundary(&mut self, out: &mut Message<'_>) {
        if self.frame.is_some_and(|at| out.len() - at - FRAME_HEADER >= FRAME_TARGET) {
            self.close_frame(out);
        }
    }

    #[inline]
    fn open_frame(&mut self, out: &mut Message<'_>) {
        if self.frame.is_none() {
            self.frame = Some(out.len());
            out.put(&[FRAME, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
    }

    #[inline]
    fn close_frame(&mut self, out: &mut Message<'_>) {
        let Some(at) = self.frame.take() else { return };
        let len = out.len() - at - FRAME_HEADER;
        if len >= FRAME_MIN {
            out.patch(at + 1, (len as u64).to_le_bytes());
        } else {
            out.cut(at, FRAME_HEADER);
        }
    }

    #[inline]
    fn write(&mut self, out: &mut Message<'_>, bytes: &[u8]) {
        self.open_frame(out);
        out.put(bytes);
    }

    #[inline]
    fn memoize(&mut self, out: &mut Message<'_>) {
        self.write(out, &[MEMOIZE]);
        self.memo += 1;
    }

    fn get(&mut self, out: &mut Message<'_>, index: u32) {
        match u8::try_from(index) {
            Ok(index) => self.write(out, &[b'h', index]),
            Err(_) => {
                self.write(out, b"j");
                out.put(&index.to_le_bytes());
            }
        }
    }

    #[inline(always)]
    fn put_tokens(out: &mut Message<'_>, tokens: &[u32]) {
        let long = |token| {
            // 3 for a token of two bytes, 0 for one of four: so far are the opcodes apart.
            let two = u64::from(token).wrapping_sub(0x1_0000) >> 62;
            ((u64::from(token) << 8) + u64::from(b'J') + two, 5 - (two & 2) as usize)
        };
        let any = |token| {
            let (two, four) = (u64::from(token >= 0x100), u64::from(token >= 0x1_0000));
            let opcode = u64::from(b'K') + 2 * two - 3 * four;
            (u64::from(token) << 8 | opcode, (2 + two + 2 * four) as usize)
        };
        out.put_each(tokens, long, any);
    }

    /// A length-prefixed value; one of a frame's size stands outside of frames.
    fn sized(&mut self, out: &mut Message<'_>, short: u8, long: u8, data: &[u8]) {
        let unframed = data.len() >= FRAME_TARGET;
        if unframed {
            self.close_frame(out);
        } else {
            self.open_frame(out);
        }
        match u8::try_from(data.len()) {
            Ok(len) => out.put(&[short, len]),
            Err(_) => {
                out.put(&[long]);
                out.put(&(data.len() as u32).to_le_bytes());
            }
        }
        out.put(data);
        self.memoize(out);
    }
}

impl Encode for Pickle {
    fn start(&mut self, out: &mut Message<'_>) {
        (self.memo, self.tag, self.frame) = (0, 0, None);
        if self.singletons_seen {
            (self.singletons, self.singletons_seen) = ([0; 257], false);
        }
        out.put(&PROTOCOL_5);
    }

    fn finish(&mut self, out: &mut Message<'_>) {
        self.write(out, &[STOP]);
        self.close_frame(out);
    }

    fn open_tuple(&mut self, out: &mut Message<'_>, len: usize) {
        self.boundary(out);
        if len > 3 {
            self.write(out, b"(");
        }
    }

    fn close_tuple(&mut self, out: &mut Message<'_>, len: usize) {
        self.write(out, &[[b't', 0x85, 0x86, 0x87][if len > 3 { 0 } else { len }]]);
        self.memoize(out);
    }

    fn tokens(&mut self, out: &mut Message<'_>, tokens: &[u32]) {
        let at = match self.frame {
            Some(at) => at,
            None => out.len(),
        };
        let fits = out.len() - at + tokens.len() * 5 < FRAME_TARGET;
        if self.frame.is_none() || !fits {
            return tokens.iter().for_each(|&t| self.int(out, i64::from(t)));
        }
        Self::put_tokens(out, tokens);
    }

    #[inline]
    fn repeat(&mut self, out: &mut Message<'_>, tokens: &[u32], tail: &Tail) {
        // A message so short is one frame.
        self.frame = Some(PROTOCOL_5.len());
        Self::put_tokens(out, tokens);
        out.put_tail(tail);
        self.close_frame(out);
    }

    fn none(&mut self, out: &mut Message<'_>) {
        self.boundary(out);
        self.write(out, b"N");
    }

    fn int(&mut self, out: &mut Message<'_>, n: i64) {
        self.boundary(out);
        self.open_frame(out);
        match n {
            0..0x100 => out.put(&[b'K', n as u8]),
            0x100..0x1_0000 => {
                out.put(b"M");
                out.put(&(n as u16).to_le_bytes());
            }
            _ => match i32::try_from(n) {
                Ok(n) => {
                    out.put(b"J");
                    out.put(&n.to_le_bytes());
                }
                Err(_) => {
                    // Two's complement, as short as the sign allows.
                    let sign = (n >> 63) as u8;
                    let bytes = n.to_le_bytes();
                    let mut len = 8;
                    while bytes[len - 1] == sign && (bytes[len - 2] ^ sign) & 0x80 == 0 {
                        len -= 1;
                    }
                    out.put(&[0x8a, len as u8]);
                    out.put(&bytes[..len]);
                }
            },
        }
    }

    fn big_uint(&mut self, out: &mut Message<'_>, big_endian: &[u8]) {
        let digits = &big_endian[big_endian.iter().take_while(|&&b| b == 0).count()..];
        if digits.len() < 8 {
            return self.int(out, digits.iter().fold(0, |n, &b| n << 8 | i64::from(b)));
        }
        self.boundary(out);
        // A leading zero keeps the number positive.
        let zero = digits[0] >= 0x80;
        self.write(out, &[0x8a, digits.len() as u8 + u8::from(zero)]);
        digits.iter().rev().for_each(|&b| out.put(&[b]));
        if zero {
            out.put(&[0]);
        }
    }

    fn bytes(&mut self, out: &mut Message<'_>, bytes: &[u8]) {
        self.boundary(out);
        self.sized(out, b'C', b'B', bytes);
    }

    #[inline]
    fn digest(&mut self, out: &mut Message<'_>, digest: &Digest) -> usize {
        let len = digest.as_bytes().len();
        self.boundary(out);
        self.open_frame(out);
        out.put(&[b'C', len as u8]);
        let at = out.skip_digest(len);
        self.memoize(out);
        at
    }

    fn text(&mut self, out: &mut Message<'_>, text: &str) {
        self.boundary(out);
        let mut chars = text.chars();
        let singleton = match (chars.next().map(u32::from), chars.next()) {
            (None, _) => Some(256),
            (Some(c @ 0..256), None) => Some(c as usize),
            _ => None,
        };
        if let Some(i) = singleton {
            if let Some(index) = self.singletons[i].checked_sub(1) {
                return self.get(out, index);
            }
            self.singletons[i] = self.memo + 1;
            self.singletons_seen = true;
        }
        self.sized(out, 0x8c, b'X', text.as_bytes());
    }

    fn tag(&mut self, out: &mut Message<'_>, tag: &'static str) {
        self.boundary(out);
        if tag == super::extra_keys::MM {
            if let Some(index) = self.tag.checked_sub(1) {
                return self.get(out, index);
            }
            self.tag = self.memo + 1;
        }
        self.sized(out, 0x8c, b'X', tag.as_bytes());
    }
}
