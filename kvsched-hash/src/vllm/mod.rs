//! vLLM's block hashes, 0.9 to 0.33.
//!
//! A block's digest is `hash((parent digest, tokens, extra keys))`, serialised by pickle or
//! CBOR and digested by SHA-256 or XXH3-128. Source: `vllm/v1/core/kv_cache_utils.py` and
//! `vllm/utils/hashing.py` of those releases.

mod algorithm;
mod announced;
mod canonical;
pub(crate) mod cbor;
pub(crate) mod encode;
mod extra_keys;
mod pickle;
mod rules;
mod version;

pub use algorithm::Algorithm;
pub(crate) use canonical::CanonicalKeys;
pub(crate) use extra_keys::{Keys, Window};
pub use version::VllmVersion;

use crate::span::{Span, check_tokens};
use crate::{Digest, HashError, SchemeError, scratch, sha256};
use announced::AnnouncedBlocks;
use cbor::Cbor;
use encode::{Encode, Message, SLACK, Tail};
use extra_keys::ExtraKeys;
use kvsched_core::Stored;
use pickle::Pickle;
use rules::Rules;
use std::sync::Arc;
use twox_hash::XxHash3_128;

/// A version's scheme with its seed resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VllmScheme {
    pub(crate) version: VllmVersion,
    pub(crate) algorithm: Algorithm,
    /// As it was set; `None` where it was not.
    pub(crate) seed: Option<Arc<str>>,
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
        let resolved = rules::seed(version, algorithm, seed)?;
        let (len, limit) = (resolved.len(), SchemeError::MAX_SEED);
        if len > limit {
            return Err(SchemeError::SeedLength { len, limit });
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
        Ok(Self { version, algorithm, seed: seed.map(Arc::from), rules, none_hash })
    }

    pub(crate) const fn has_lookahead(&self) -> bool {
        self.rules.lookahead
    }

    /// Hashes the blocks of `span`, each after `parent` and then its predecessor, into `sink`.
    pub(crate) fn hash(
        &self,
        span: &Span<'_>,
        parent: Digest,
        sink: impl FnMut(Digest),
    ) -> Result<Digest, HashError> {
        if span.blocks == 0 {
            return Ok(parent);
        }
        let keys = ExtraKeys::new(self.rules, &span.extras, span.start, span.lookahead)?;
        self.hash_keyed(span, keys, parent, sink)
    }

    /// The same of an event's blocks, with the keys that it announces.
    pub(crate) fn hash_stored(
        &self,
        span: &Span<'_>,
        stored: &Stored<'_>,
        parent: Digest,
        sink: impl FnMut(Digest),
    ) -> Result<Digest, HashError> {
        let keys = AnnouncedBlocks::new(self.rules, stored, span.block_size)?;
        self.hash_keyed(span, keys, parent, sink)
    }

    fn hash_keyed<K: Keys>(
        &self,
        span: &Span<'_>,
        keys: K,
        parent: Digest,
        sink: impl FnMut(Digest),
    ) -> Result<Digest, HashError> {
        check_tokens(span.tokens, span.start)?;
        let window = span.block_size + span.lookahead;
        let size = 128 + window * 5 + keys.bound(window) + SLACK + sha256::PADDING;
        let cbor = self.algorithm.is_cbor();
        Ok(scratch::with(2 * size, |buffer| {
            let (a, b) = buffer.split_at_mut(size);
            let messages = [Message::new(a), Message::new(b)];
            if self.rules.int_digests {
                let [this, _] = messages;
                return if cbor {
                    self.hash_ints(&mut Cbor, this, span, keys, parent, sink)
                } else {
                    self.hash_ints(&mut Pickle::default(), this, span, keys, parent, sink)
                };
            }
            match (cbor, self.algorithm.is_cryptographic()) {
                (true, true) => {
                    self.hash_bytes::<_, _, Sha256>(&mut Cbor, messages, span, keys, &parent, sink)
                }
                (true, false) => {
                    self.hash_bytes::<_, _, Xxh3>(&mut Cbor, messages, span, keys, &parent, sink)
                }
                (false, true) => self.hash_bytes::<_, _, Sha256>(
                    &mut Pickle::default(),
                    messages,
                    span,
                    keys,
                    &parent,
                    sink,
                ),
                (false, false) => self.hash_bytes::<_, _, Xxh3>(
                    &mut Pickle::default(),
                    messages,
                    span,
                    keys,
                    &parent,
                    sink,
                ),
            }
        }))
    }

    /// Hashes where digests are numbers, whose width differs, so that one must be there before
    /// the next message is written.
    fn hash_ints<E: Encode, K: Keys>(
        &self,
        to: &mut E,
        mut message: Message<'_>,
        span: &Span<'_>,
        mut keys: K,
        mut parent: Digest,
        mut sink: impl FnMut(Digest),
    ) -> Digest {
        for block in 0..span.blocks {
            self.write(to, &mut message, span, block, &mut keys, &parent);
            parent = digest(self.algorithm, &mut message);
            sink(parent);
        }
        parent
    }

    /// Hashes where digests are bytes.
    ///
    /// A digest takes several times as long as writing its message, but would wait for the
    /// message's last bytes to reach the cache. So each message is written one digest ahead,
    /// and only its parent filled in when that is known.
    fn hash_bytes<E: Encode, K: Keys, C: Chain>(
        &self,
        to: &mut E,
        [mut a, mut b]: [Message<'_>; 2],
        span: &Span<'_>,
        mut keys: K,
        parent: &Digest,
        mut sink: impl FnMut(Digest),
    ) -> Digest {
        let (mut this, mut next) = (&mut a, &mut b);
        let form = self.write(to, this, span, 0, &mut keys, parent);
        this.patch_digest(form.parent, parent);
        C::seal(this);
        // Without extra keys only parent and tokens differ from message to message.
        let repeats = keys.is_none() && span.lookahead == 0 && span.block_size <= 8192;
        if repeats {
            next.begin_as(this, form.tokens);
        }
        for block in 1..span.blocks {
            if repeats {
                next.truncate(form.tokens);
                to.repeat(next, span.block(block), &form.tail);
            } else {
                self.write(to, next, span, block, &mut keys, parent);
            }
            C::seal(next);
            let digest = C::digest(this);
            next.patch_digest(form.parent, &digest);
            sink(digest);
            std::mem::swap(&mut this, &mut next);
        }
        let last = C::digest(this);
        sink(last);
        last
    }

    /// Writes a block's hash input and tells what stands where in it.
    #[inline]
    fn write<E: Encode, K: Keys>(
        &self,
        to: &mut E,
        out: &mut Message<'_>,
        span: &Span<'_>,
        block: usize,
        keys: &mut K,
        parent: &Digest,
    ) -> Form {
        let at = block * span.block_size;
        let start = span.start + at;
        let end = start + span.block_size;
        let window = Window { start, end, window_end: end + span.lookahead };
        let tokens = span.block(block);
        let after = &span.tokens[at + span.block_size..][..span.lookahead];

        out.truncate(0);
        to.start(out);
        to.open_tuple(out, 3);
        let parent = if self.rules.int_digests {
            to.big_uint(out, parent.as_bytes());
            0
        } else {
            to.digest(out, parent)
        };
        to.open_tuple(out, tokens.len());
        let tokens_at = out.len();
        to.tokens(out, tokens);
        let tokens_end = out.len();
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
        Form { parent, tokens: tokens_at, tail: out.tail_from(tokens_end) }
    }
}

/// What stands where in a message.
#[derive(Debug)]
struct Form {
    /// Where the parent's bytes begin; 0 if it is a number.
    parent: usize,
    /// Where the tokens begin.
    tokens: usize,
    /// What follows them, if it is as short as without extra keys.
    tail: Tail,
}

/// A hash function whose digests are bytes.
trait Chain {
    /// Makes a message ready, but for its parent.
    fn seal(message: &mut Message<'_>);
    /// Of a message that is ready.
    fn digest(message: &Message<'_>) -> Digest;
}

struct Sha256;

impl Chain for Sha256 {
    #[inline]
    fn seal(message: &mut Message<'_>) {
        message.pad();
    }

    #[inline]
    fn digest(message: &Message<'_>) -> Digest {
        Digest::from_32(sha256::to_bytes(sha256::of_padded(message.padded())))
    }
}

struct Xxh3;

impl Chain for Xxh3 {
    #[inline]
    fn seal(_: &mut Message<'_>) {}

    #[inline]
    fn digest(message: &Message<'_>) -> Digest {
        Digest::from_u128(XxHash3_128::oneshot(message.written()))
    }
}

/// The digest of a whole message.
fn digest(algorithm: Algorithm, message: &mut Message<'_>) -> Digest {
    if !algorithm.is_cryptographic() {
        return Xxh3::digest(message);
    }
    Sha256::seal(message);
    let digest = Sha256::digest(message);
    if algorithm == Algorithm::Sha256Cbor64Bit {
        return Digest::from_u64(digest.block_hash().0);
    }
    digest
}
