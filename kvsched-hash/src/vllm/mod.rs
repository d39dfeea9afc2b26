//! vLLM's block hashes, 0.9 to 0.33.
//!
//! A block's digest is `hash((parent digest, tokens, extra keys))`, serialised by pickle or
//! CBOR and digested by SHA-256 or XXH3-128. Source: `vllm/v1/core/kv_cache_utils.py` and
//! `vllm/utils/hashing.py` of those releases.

mod algorithm;
mod cbor;
mod encode;
mod extra_keys;
mod pickle;
mod rules;
mod version;

pub use algorithm::Algorithm;
pub use version::VllmVersion;

use crate::{Digest, HashError, SchemeError, hasher::Span, sha256};
use cbor::Cbor;
use encode::{Encode, Message, SLACK};
use extra_keys::{ExtraKeys, Window};
use pickle::Pickle;
use rules::Rules;
use twox_hash::XxHash3_128;

/// A version's scheme with its seed resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VllmScheme {
    pub(crate) version: VllmVersion,
    pub(crate) algorithm: Algorithm,
    /// As it was set; `None` where it was not.
    pub(crate) seed: Option<Box<str>>,
    rules: Rules,
    /// The parent of every first block.
    pub(crate) none_hash: Digest,
}

impl VllmScheme {
    pub(crate) fn new(
        version: VllmVersion,
        algorithm: Algorithm,
        seed: Option<&str>,
    ) -> Result<Self, SchemeError> {
        const LIMIT: usize = 4096;
        let resolved = rules::seed(version, algorithm, seed)?;
        if resolved.len() > LIMIT {
            return Err(SchemeError::SeedLength { len: resolved.len(), limit: LIMIT });
        }
        let mut buffer = vec![0; resolved.len() + 32 + sha256::PADDING];
        let mut message = Message::new(&mut buffer);
        let encode_seed = |to: &mut dyn Encode, message: &mut Message<'_>| {
            to.start(message);
            to.text(message, resolved);
            to.finish(message);
        };
        if algorithm.is_cbor() {
            encode_seed(&mut Cbor, &mut message);
        } else {
            encode_seed(&mut Pickle::default(), &mut message);
        }
        let none_hash = digest(algorithm, &mut message);
        let rules = Rules::of(version);
        Ok(Self { version, algorithm, seed: seed.map(Box::from), rules, none_hash })
    }

    pub(crate) const fn has_lookahead(&self) -> bool {
        self.rules.lookahead
    }

    /// Hashes the blocks of `span`, each after `parent` and then its predecessor, into `sink`.
    pub(crate) fn hash(
        &self,
        span: &Span<'_>,
        parent: Digest,
        sink: impl FnMut(&Digest),
    ) -> Result<(), HashError> {
        if span.blocks == 0 {
            return Ok(());
        }
        let keys = ExtraKeys::new(self.rules, &span.extras, span.start, span.lookahead)?;
        let window = span.block_size + span.lookahead;
        let size = 128 + window * 5 + keys.bound(window) + SLACK + sha256::PADDING;
        // A buffer on the stack is cleared once a call, one on the heap allocated: the usual
        // block sizes take the smallest.
        if size <= 1024 {
            self.hash_in(&mut [0; 1024], span, keys, parent, sink);
        } else if size <= 16 * 1024 {
            self.hash_in(&mut [0; 16 * 1024], span, keys, parent, sink);
        } else {
            self.hash_in(&mut vec![0; size], span, keys, parent, sink);
        }
        Ok(())
    }

    fn hash_in(
        &self,
        buffer: &mut [u8],
        span: &Span<'_>,
        keys: ExtraKeys<'_>,
        parent: Digest,
        sink: impl FnMut(&Digest),
    ) {
        if self.algorithm.is_cbor() {
            self.hash_with(&mut Cbor, buffer, span, keys, parent, sink);
        } else {
            self.hash_with(&mut Pickle::default(), buffer, span, keys, parent, sink);
        }
    }

    fn hash_with<E: Encode>(
        &self,
        to: &mut E,
        buffer: &mut [u8],
        span: &Span<'_>,
        mut keys: ExtraKeys<'_>,
        mut parent: Digest,
        mut sink: impl FnMut(&Digest),
    ) {
        let mut message = Message::new(buffer);
        let out = &mut message;
        for block in 0..span.blocks {
            let at = block * span.block_size;
            let start = span.start + at;
            let end = start + span.block_size;
            let window = Window { start, end, window_end: end + span.lookahead };
            let tokens = &span.tokens[at..at + span.block_size + span.lookahead];
            let (tokens, after) = tokens.split_at(span.block_size);

            out.clear();
            to.start(out);
            to.open_tuple(out, 3);
            if self.rules.int_digests {
                to.big_uint(out, parent.as_bytes());
            } else {
                to.bytes(out, parent.as_bytes());
            }
            to.open_tuple(out, tokens.len());
            to.tokens(out, tokens);
            to.close_tuple(out, tokens.len());
            if after.is_empty() {
                keys.write(to, out, window);
            } else {
                to.open_tuple(out, 1 + after.len());
                keys.write(to, out, window);
                to.tokens(out, after);
                to.close_tuple(out, 1 + after.len());
            }
            to.close_tuple(out, 3);
            to.finish(out);

            parent = digest(self.algorithm, out);
            sink(&parent);
        }
    }
}

#[inline]
fn digest(algorithm: Algorithm, message: &mut Message<'_>) -> Digest {
    let len = message.len();
    let buffer = message.buffer();
    match algorithm {
        Algorithm::Sha256 | Algorithm::Sha256Cbor => Digest::from_32(sha256::in_place(buffer, len)),
        Algorithm::Sha256Cbor64Bit => {
            let all = Digest::from_32(sha256::in_place(buffer, len));
            Digest::from_u64(all.block_hash().0)
        }
        Algorithm::XxHash | Algorithm::XxHashCbor => {
            Digest::from_u128(XxHash3_128::oneshot(&buffer[..len]))
        }
    }
}
