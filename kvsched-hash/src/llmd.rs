//! The block keys of llm-d's own index (kv-cache 0.9, router 2026), for embedders that share
//! a store with it. Source: `pkg/kvcache/kvblock/token_processor.go`.

use crate::span::{Span, check_tokens};
use crate::vllm::cbor::Cbor;
use crate::vllm::encode::{Encode, Message, SLACK};
use crate::{HashError, SchemeError, scratch};
use kvsched_core::{BlockHash, MultimodalSpan};
use std::{fmt, str::FromStr, sync::Arc};
use twox_hash::XxHash64;

/// llm-d's `hashAlgorithm`.
///
/// ```
/// use kvsched_hash::LlmdAlgorithm;
/// assert_eq!("xxh64".parse(), Ok(LlmdAlgorithm::Xxh64));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LlmdAlgorithm {
    /// `cbor-fnv`, the default: FNV-1a (64 bits) of `[parent, tokens, extra]` in canonical CBOR.
    CborFnv,
    /// `xxh64`: XXH64 of the same in raw little-endian bytes.
    Xxh64,
}

impl FromStr for LlmdAlgorithm {
    type Err = SchemeError;

    fn from_str(name: &str) -> Result<Self, SchemeError> {
        [Self::CborFnv, Self::Xxh64]
            .into_iter()
            .find(|a| a.to_string() == name)
            .ok_or_else(|| SchemeError::UnknownAlgorithm { name: name.chars().take(64).collect() })
    }
}

impl fmt::Display for LlmdAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CborFnv => "cbor-fnv",
            Self::Xxh64 => "xxh64",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LlmdScheme {
    algorithm: LlmdAlgorithm,
    seed: Arc<str>,
    model: Arc<str>,
    /// What the first block is chained to.
    pub(crate) root: u64,
}

impl LlmdScheme {
    pub(crate) fn new(
        algorithm: LlmdAlgorithm,
        seed: &str,
        model: &str,
    ) -> Result<Self, SchemeError> {
        for len in [seed.len(), model.len()] {
            if len > SchemeError::MAX_SEED {
                return Err(SchemeError::SeedLength { len, limit: SchemeError::MAX_SEED });
            }
        }
        let start = algorithm.digest(seed.as_bytes());
        let root = scratch::with(model.len() + 64, |buffer| {
            let mut out = Message::new(buffer);
            match algorithm {
                LlmdAlgorithm::CborFnv => {
                    Cbor.open_tuple(&mut out, 3);
                    Cbor.big_uint(&mut out, &start.to_be_bytes());
                    Cbor.none(&mut out);
                    Cbor.text(&mut out, model);
                }
                LlmdAlgorithm::Xxh64 => {
                    out.put(&start.to_le_bytes());
                    put_counted(&mut out, model);
                }
            }
            algorithm.digest(out.written())
        });
        Ok(Self { algorithm, seed: seed.into(), model: model.into(), root })
    }

    pub(crate) fn hash(
        &self,
        span: &Span<'_>,
        mut parent: u64,
        out: &mut [BlockHash],
    ) -> Result<(), HashError> {
        check_tokens(span.tokens, span.start)?;
        let extras = &span.extras;
        for (there, key) in [
            (extras.lora.is_some(), "LoRA adapters (its model name stands for them)"),
            (extras.cache_salt.is_some_and(|s| !s.is_empty()), "cache salts"),
            (extras.embeds.is_some(), "prompt embeddings"),
        ] {
            if there {
                return Err(HashError::UnsupportedKey { key });
            }
        }
        let items: usize = extras.multimodal.iter().map(|i| i.identifier.len() + 32).sum();
        scratch::with(64 + span.block_size * 5 + items + SLACK, |buffer| {
            let mut message = Message::new(buffer);
            for (i, out) in out.iter_mut().enumerate() {
                let start = span.start + i * span.block_size;
                let overlapping = extras.multimodal.iter().filter(|item| {
                    let offset = item.offset as usize;
                    offset < start + span.block_size && offset + item.length as usize > start
                });
                parent = self.block(&mut message, parent, span.block(i), overlapping);
                *out = BlockHash(parent);
            }
        });
        Ok(())
    }

    fn block<'a>(
        &self,
        out: &mut Message<'_>,
        parent: u64,
        tokens: &[u32],
        items: impl Iterator<Item = &'a MultimodalSpan<'a>> + Clone,
    ) -> u64 {
        out.truncate(0);
        match self.algorithm {
            LlmdAlgorithm::CborFnv => {
                Cbor.open_tuple(out, 3);
                Cbor.big_uint(out, &parent.to_be_bytes());
                Cbor.open_tuple(out, tokens.len());
                Cbor.tokens(out, tokens);
                match items.clone().count() {
                    0 => Cbor.none(out),
                    n => Cbor.open_tuple(out, n),
                }
                for item in items {
                    // A map of one entry.
                    out.put(&[0xa1]);
                    Cbor.text(out, "Hash");
                    Cbor.text(out, item.identifier);
                }
            }
            LlmdAlgorithm::Xxh64 => {
                out.put(&parent.to_le_bytes());
                tokens.iter().for_each(|t| out.put(&t.to_le_bytes()));
                items.for_each(|item| put_counted(out, item.identifier));
            }
        }
        self.algorithm.digest(out.written())
    }
}

impl LlmdAlgorithm {
    fn digest(self, bytes: &[u8]) -> u64 {
        match self {
            // FNV-1a's published offset basis and prime.
            Self::CborFnv => bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| {
                (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
            }),
            Self::Xxh64 => XxHash64::oneshot(0, bytes),
        }
    }
}

fn put_counted(out: &mut Message<'_>, text: &str) {
    out.put(&(text.len() as u64).to_le_bytes());
    out.put(text.as_bytes());
}

impl fmt::Display for LlmdScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "llm-d {} of {:?}, seed {:?}", self.algorithm, self.model, self.seed)
    }
}
