//! Canonical CBOR (RFC 8949, section 4.2.1), of as much as a block's hash input needs.

use super::encode::{Encode, Message};

const UNSIGNED: u8 = 0 << 5;
const NEGATIVE: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const NULL: u8 = 0xf6;

#[derive(Debug, Default)]
pub(crate) struct Cbor;

impl Cbor {
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

    fn tokens(&mut self, out: &mut Message<'_>, tokens: &[u32]) {
        for &token in tokens {
            // The four widths of a token, without a branch: real prompts mix them at random.
            let width =
                usize::from(token >= 24) + usize::from(token >= 256) + usize::from(token >= 65536);
            const HEADS: [u64; 4] = [0, 24 << 56, 25 << 56, 26 << 56];
            const SHIFTS: [u32; 4] = [56, 48, 40, 24];
            const LENGTHS: [usize; 4] = [1, 2, 3, 5];
            let word = HEADS[width] | u64::from(token) << SHIFTS[width];
            out.put_front(word.to_be_bytes(), LENGTHS[width]);
        }
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

    fn text(&mut self, out: &mut Message<'_>, text: &str) {
        Self::head(out, TEXT, text.len() as u64);
        out.put(text.as_bytes());
    }

    fn tag(&mut self, out: &mut Message<'_>, tag: &'static str) {
        self.text(out, tag);
    }
}
