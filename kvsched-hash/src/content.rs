//! The content scheme: a keyed, chained 64-bit hash of what a block holds, for engines whose
//! own hashes need not, or cannot, be imitated.
//!
//! Sixteen tokens, a *stride*, are eight 64-bit words. NH (Black, Halevi, Krawczyk, Krovetz
//! and Rogaway, "UMAC", 1999) compresses the first six: the sum modulo 2¹²⁸ of products of
//! two words, each after a secret number was added to it. The last two words are added to
//! that sum as one 128-bit number. NH's difference for two inputs takes any given value with
//! probability at most 2⁻⁶⁴ over the secret, and without such a difference the sums differ
//! anyway: so two different strides have one sum with probability at most 2⁻⁶⁴, for whoever
//! chooses them without knowing the secret. Nothing of this depends on what came before, so
//! a processor computes several strides at once.
//!
//! The sum then enters the chain by one multiplication folded to 64 bits, the step of wyhash
//! and of XXH3's middle lengths: the only serial part.
//!
//! A hash names the tokens from the prompt's start to its block's end. Block sizes that are
//! multiples of sixteen therefore agree at every boundary that they share.
//!
//! All arithmetic is on numbers, none on memory, so every platform computes the same.

use crate::span::{Span, check_tokens};
use crate::vllm::{CanonicalKeys, Keys, Window};
use crate::{HashError, SchemeError, scratch, sha256};
use kvsched_core::{BlockHash, Stored, TokenId};
use std::{fmt, sync::Arc};

/// Tokens that are compressed at once.
pub(crate) const STRIDE: usize = 16;

/// Enters every key: another edition is another hash.
const EDITION: &[u8] = b"kvsched content 1";

/// The content scheme of one model under one secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ContentScheme {
    model: Arc<str>,
    keys: Secrets,
    /// What the first block is chained to.
    pub(crate) root: u64,
    /// The key of what enters besides tokens.
    extras: [u8; 32],
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Secrets {
    words: [u64; 6],
    /// Tells strides of different numbers of tokens apart.
    length: u64,
}

impl ContentScheme {
    pub(crate) fn new(model: &str, secret: &[u8]) -> Result<Self, SchemeError> {
        for len in [model.len(), secret.len()] {
            if len > SchemeError::MAX_SEED {
                return Err(SchemeError::SeedLength { len, limit: SchemeError::MAX_SEED });
            }
        }
        Ok(Self::derived(model, secret))
    }

    /// Without a model, for internal use.
    pub(crate) fn keyed(secret: &[u8]) -> Self {
        Self::derived("", secret)
    }

    fn derived(model: &str, secret: &[u8]) -> Self {
        // Key derivation: SHA-256 of a label and unambiguously delimited inputs.
        let derive = |label: u8, parts: &[&[u8]]| {
            let mut message = EDITION.to_vec();
            message.push(label);
            for part in parts {
                message.extend_from_slice(&(part.len() as u64).to_le_bytes());
                message.extend_from_slice(part);
            }
            sha256::of(&message)
        };
        let [k0, k1, k2, k3] = numbers_of(derive(0, &[secret]));
        let [k4, k5, length, _] = numbers_of(derive(1, &[secret]));
        let [root, ..] = numbers_of(derive(2, &[secret, model.as_bytes()]));
        let keys = Secrets { words: [k0, k1, k2, k3, k4, k5], length };
        Self { model: model.into(), keys, root, extras: derive(3, &[secret]) }
    }

    /// Fills `out`, of one hash a block of `span`, each after `parent` and then its
    /// predecessor.
    pub(crate) fn hash(
        &self,
        span: &Span<'_>,
        parent: u64,
        out: &mut [BlockHash],
    ) -> Result<(), HashError> {
        let tokens = &span.tokens[..span.blocks * span.block_size];
        if !span.extras.is_none() {
            let keys = CanonicalKeys::of_prompt(&span.extras, span.start)?;
            return self.hash_keyed(span, keys, parent, out);
        }
        if span.block_size != STRIDE {
            check_tokens(tokens, span.start)?;
            let mut hash = parent;
            for (out, block) in out.iter_mut().zip(tokens.chunks_exact(span.block_size)) {
                hash = self.block(hash, block, 0);
                *out = BlockHash(hash);
            }
            return Ok(());
        }
        let all = self.keys.blocks(tokens.as_chunks().0, parent, out);
        check_tokens(&all, 0).or_else(|_| check_tokens(tokens, span.start))
    }

    /// The same of an event's blocks, with the keys that it announces.
    pub(crate) fn hash_stored(
        &self,
        span: &Span<'_>,
        stored: &Stored<'_>,
        parent: u64,
        out: &mut [BlockHash],
    ) -> Result<(), HashError> {
        let keys = CanonicalKeys::of_stored(stored, span.block_size)?;
        if keys.is_none() {
            return self.hash(span, parent, out);
        }
        self.hash_keyed(span, keys, parent, out)
    }

    /// Apart, so that its scratch is not part of every call's stack.
    #[inline(never)]
    fn hash_keyed<K: Keys>(
        &self,
        span: &Span<'_>,
        mut keys: CanonicalKeys<K>,
        parent: u64,
        out: &mut [BlockHash],
    ) -> Result<(), HashError> {
        check_tokens(span.tokens, span.start)?;
        scratch::with(keys.bound(), |buffer| {
            let mut hash = parent;
            for (i, out) in out.iter_mut().enumerate() {
                let start = span.start + i * span.block_size;
                let end = start + span.block_size;
                let len = keys.write(buffer, Window { start, end, window_end: end });
                hash = self.block(hash, span.block(i), self.tweak(&buffer[..len]));
                *out = BlockHash(hash);
            }
        });
        Ok(())
    }

    /// The hash of a block after `parent`, tweaked by its extra keys (0 without any).
    pub(crate) fn block(&self, parent: u64, block: &[TokenId], mut tweak: u128) -> u64 {
        let (strides, rest) = block.as_chunks();
        let mut hash = parent;
        for stride in strides {
            hash = chain(hash, self.keys.stride(stride).wrapping_add(tweak));
            tweak = 0;
        }
        if !rest.is_empty() {
            let mut stride = [0; STRIDE];
            stride[..rest.len()].copy_from_slice(rest);
            let length = u128::from(self.keys.length) * rest.len() as u128;
            let sum = self.keys.stride(&stride).wrapping_add(length);
            hash = chain(hash, sum.wrapping_add(tweak));
        }
        hash
    }

    /// What the canonical bytes of its extra keys add to a block's first sum; 0 without any.
    pub(crate) fn tweak(&self, keys: &[u8]) -> u128 {
        if keys.is_empty() {
            return 0;
        }
        let [a, b, ..] = numbers_of(sha256::of_two(&self.extras, keys));
        u128::from(a) << 64 | u128::from(b)
    }
}

impl Secrets {
    /// Blocks of the usual size, without inner loops; hashes go to `out`. Returns numbers that have the bits
    /// of all tokens together: their check rides along in vector registers, which the multiplications leave
    /// idle; by itself it would cost a fifth.
    ///
    /// A function of its own, for it needs all registers there are.
    #[inline(never)]
    fn blocks(
        &self,
        blocks: &[[TokenId; STRIDE]],
        mut hash: u64,
        out: &mut [BlockHash],
    ) -> [TokenId; 4] {
        let mut all = [0; 4];
        for (out, block) in out.iter_mut().zip(blocks) {
            for (lane, all) in all.iter_mut().enumerate() {
                *all |= block[lane] | block[4 + lane] | block[8 + lane] | block[12 + lane];
            }
            hash = chain(hash, self.stride(block));
            *out = BlockHash(hash);
        }
        all
    }

    #[inline(always)]
    fn stride(&self, tokens: &[TokenId; STRIDE]) -> u128 {
        let word = |i: usize| u64::from(tokens[2 * i]) | u64::from(tokens[2 * i + 1]) << 32;
        let keyed = |i: usize| u128::from(word(i).wrapping_add(self.words[i]));
        (u128::from(word(7)) << 64 | u128::from(word(6)))
            .wrapping_add(keyed(0) * keyed(1))
            .wrapping_add(keyed(2) * keyed(3))
            .wrapping_add(keyed(4) * keyed(5))
    }
}

#[inline(always)]
fn chain(parent: u64, sum: u128) -> u64 {
    let product = u128::from(parent ^ sum as u64) * (sum >> 64);
    product as u64 ^ (product >> 64) as u64
}

fn numbers_of(digest: [u8; 32]) -> [u64; 4] {
    let mut numbers = [0; 4];
    for (n, bytes) in numbers.iter_mut().zip(digest.as_chunks().0) {
        *n = u64::from_le_bytes(*bytes);
    }
    numbers
}

impl fmt::Display for ContentScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "content of {:?}", self.model)
    }
}

/// The secret, and what was derived from it, stay out of logs.
impl fmt::Debug for ContentScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentScheme").field("model", &self.model).finish_non_exhaustive()
    }
}
