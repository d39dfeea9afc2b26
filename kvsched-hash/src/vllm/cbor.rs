//! Canonical CBOR (RFC 8949, section 4.2.1), of as much as a block's hash input needs.

use super::encode::{Encode, Message, Tail};
use crate::Digest;

const UNSIGNED: u8 = 0 << 5;
const NEGATIVE: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const NULL: u8 = 0xf6;

#[derive(Debug, Default)]
pub(crate) struct Cbor;

impl Cbor {
    #[inline(always)]
    fn put_tokens(out: &mut Message<'_>, tokens: &[u32]) {
        let long = |token: u32| {
            // All ones for a token of two bytes, 0 for one of four.
            let two = (i64::from(token) - 0x1_0000) >> 63;
            let argument = i64::from(token.swap_bytes()) << 8 >> (two & 16);
            ((argument + 0x1a + two) as u64, (5 + 2 * two) as usize)
        };
        let any = |token: u32| {
            let one = u64::from(token >= 24);
            let (two, four) = (u64::from(token >= 0x100), u64::from(token >= 0x1_0000));
            let bytes = one + two + 2 * four;
            let head = if one > 0 { 0x17 + one + two + four } else { u64::from(token) };
            let argument = u64::from(token.swap_bytes()) >> (32 - 8 * bytes);
            (argument << 8 | head, 1 + bytes as usize)
        };
        out.put_each(tokens, long, any);
    }

    #[inline]
    fn head(out: &mut Message<'_>, major: u8, n: u64) {
        match n {
            0..24 => out.put(&[major | n as u8]),
            24..0x100 => out.put(&[major | 24, n as u8]),
            0x100..0x1_0000 => {
                out.put(&[major | 25]);
                out.put(&(n as u16).to_be_bytes());
            }
            0x1_0000..0x1_0000_0000 => {
                out.put(&[major | 26]);
                out.put(&(n as u32).to_be_bytes());
            }
            _ => {
                out.put(&[major | 27]);
                out.put(&n.to_be_bytes());
            }
        }
    }
}

impl Encode for Cbor {
    fn start(&mut self, _: &mut Message<'_>) {}

    fn finish(&mut self, _: &mut Message<'_>) {}

    fn open_tuple(&mut self, out: &mut Message<'_>, len: usize) {
        Self::head(out, ARRAY, len as u64);
    }

    fn close_tuple(&mut self, _: &mut Message<'_>, _: usize) {}

    #[inline]
    fn tokens(&mut self, out: &mut Message<'_>, tokens: &[u32]) {
        Self::put_tokens(out, tokens);
    }

    #[inline]
    fn repeat(&mut self, out: &mut Message<'_>, tokens: &[u32], tail: &Tail) {
        Self::put_tokens(out, tokens);
        out.put_tail(tail);
    }

    fn none(&mut self, out: &mut Message<'_>) {
        out.put(&[NULL]);
    }

    fn int(&mut self, out: &mut Message<'_>, n: i64) {
        if n >= 0 {
            Self::head(out, UNSIGNED, n as u64);
        } else {
            // RFC 8949: -1 minus the argument.
            Self::head(out, NEGATIVE, !n as u64);
        }
    }

    fn big_uint(&mut self, out: &mut Message<'_>, big_endian: &[u8]) {
        // Only 64-bit digests are chained as numbers in a CBOR scheme.
        Self::head(out, UNSIGNED, big_endian.iter().fold(0, |n, &b| n << 8 | u64::from(b)));
    }

    fn bytes(&mut self, out: &mut Message<'_>, bytes: &[u8]) {
        Self::head(out, BYTES, bytes.len() as u64);
        out.put(bytes);
    }

    #[inline]
    fn digest(&mut self, out: &mut Message<'_>, digest: &Digest) -> usize {
        let bytes = digest.as_bytes();
        Self::head(out, BYTES, bytes.len() as u64);
        out.skip_digest(bytes.len())
    }

    fn text(&mut self, out: &mut Message<'_>, text: &str) {
        Self::head(out, TEXT, text.len() as u64);
        out.put(text.as_bytes());
    }

    fn tag(&mut self, out: &mut Message<'_>, tag: &'static str) {
        self.text(out, tag);
    }
}
