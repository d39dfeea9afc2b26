use crate::{EngineHash, Group, Medium, TokenId};

/// One change of an engine's KV cache, as its event stream announces it.
///
/// Borrowed from the decoded message; nothing here is interpreted yet. Field by field the
/// events of vLLM 0.9 to 0.33 and SGLang fit, with absent fields as `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Blocks have become reusable.
    Stored(Stored<'a>),
    /// Blocks are gone from one medium.
    Removed(Removed<'a>),
    /// The whole cache is empty.
    Cleared,
}

/// Consecutive blocks of one request and one KV-cache group have become reusable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored<'a> {
    /// The blocks' hashes, in prompt order. May be fewer than the token range has blocks,
    /// even none: a sliding-window group leaves out those it does not keep.
    pub hashes: AnnouncedHashes<'a>,
    /// The hash before the first block of the token range; `None` at the prompt's start.
    pub parent: Option<EngineHash>,
    /// The tokens of the whole range, `block_size` a block. Empty in placeholder events of
    /// offloading connectors.
    pub tokens: &'a [TokenId],
    /// Tokens a block; 0 in placeholder events.
    pub block_size: u32,
    /// The engine's number of the LoRA adapter.
    pub lora_id: Option<i64>,
    /// The LoRA adapter's name.
    pub lora_name: Option<&'a str>,
    /// Where the blocks lie; `None` from engines that know only their device.
    pub medium: Option<Medium<'a>>,
    /// What entered each block's hash besides its tokens; `None` where it was not announced.
    pub extra_keys: Option<AnnouncedKeys<'a>>,
    /// The KV-cache group; `None` from engines that know only one.
    pub group: Option<Group>,
    /// What kind of attention the group serves.
    pub attention: Option<AttentionKind>,
    /// The window of a sliding-window group, in tokens.
    pub sliding_window: Option<u32>,
    /// Whether the blocks lie with the engine or elsewhere.
    pub locality: Option<Locality>,
    /// Who owns the blocks, in the engine's words (vLLM 0.29).
    pub ownership: Option<&'a str>,
    /// The session whose request stored them (vLLM 0.30).
    pub session_id: Option<&'a str>,
    /// The tokens after each block that entered its hash (vLLM 0.33), equally many for each
    /// announced hash, one block's after the other's. Empty where none did.
    pub lookahead: &'a [TokenId],
}

impl<'a> Stored<'a> {
    /// Blocks on the engine's device, of which nothing optional is announced.
    #[must_use]
    pub const fn new(
        parent: Option<EngineHash>,
        hashes: AnnouncedHashes<'a>,
        tokens: &'a [TokenId],
        block_size: u32,
    ) -> Self {
        Self {
            hashes,
            parent,
            tokens,
            block_size,
            lora_id: None,
            lora_name: None,
            medium: None,
            extra_keys: None,
            group: None,
            attention: None,
            sliding_window: None,
            locality: None,
            ownership: None,
            session_id: None,
            lookahead: &[],
        }
    }
}

/// Blocks have left one medium.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Removed<'a> {
    /// The blocks' hashes, in any order.
    pub hashes: AnnouncedHashes<'a>,
    /// The medium they left; `None` from engines that know only their device.
    pub medium: Option<Medium<'a>>,
    /// The KV-cache group; `None` from engines that know only one.
    pub group: Option<Group>,
    /// Whether they lay with the engine or elsewhere.
    pub locality: Option<Locality>,
    /// Who owned them, in the engine's words (vLLM 0.29).
    pub ownership: Option<&'a str>,
}

/// Announced hashes, as 64-bit names.
pub type AnnouncedHashes<'a> = &'a [EngineHash];

/// What entered each block's hash besides its tokens: keys of all blocks one after the
/// other, with where each block's keys end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedKeys<'a> {
    keys: &'a [AnnouncedKey<'a>],
    ends: &'a [u32],
}

impl<'a> AnnouncedKeys<'a> {
    /// Keys of `ends.len()` blocks; those of block `i` end before `ends[i]`.
    ///
    /// `None` unless `ends` is non-decreasing and its last value is `keys.len()`.
    #[must_use]
    pub fn new(keys: &'a [AnnouncedKey<'a>], ends: &'a [u32]) -> Option<Self> {
        let last = ends.last().copied().unwrap_or(0);
        (ends.is_sorted() && last as usize == keys.len()).then_some(Self { keys, ends })
    }

    /// How many blocks the keys are of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether they are of no block at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The keys of block `i`; empty for a block without extra keys, `None` past the end.
    #[must_use]
    pub fn of_block(&self, i: usize) -> Option<&'a [AnnouncedKey<'a>]> {
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        self.keys.get(start..end)
    }
}

/// One extra key as announced, which is without a tag: a text may be a LoRA name, a cache
/// salt, or (vLLM 0.17, 0.18) a multimodal identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnnouncedKey<'a> {
    /// A LoRA name, a cache salt, or a bare multimodal identifier.
    Text(&'a str),
    /// A multimodal item, and its start relative to the block's.
    Multimodal {
        /// The item's identifier.
        identifier: &'a str,
        /// Its first token's position minus the block's first; negative if it began before.
        offset: i64,
    },
    /// A digest of prompt embeddings, or (vLLM to 0.16) the embeddings themselves.
    Bytes(&'a [u8]),
    /// A LoRA number (vLLM to 0.11.0).
    Int(i64),
}

/// What a KV-cache group must keep for a prefix to be usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AttentionKind {
    /// Every block from the first (full, MLA and sink attention).
    Full,
    /// Only the blocks that overlap the window before the resume point.
    SlidingWindow,
    /// Only the blocks of the chunk that the resume point lies in.
    ChunkedLocal,
    /// Only the state saved exactly at the resume point (Mamba and other recurrences).
    Recurrent,
    /// Keys of an encoder, or attention without a reusable prefix.
    NotPrefix,
    /// A word we do not know.
    Unknown,
}

impl AttentionKind {
    /// Reads vLLM's `kv_cache_spec_kind` (0.22 to 0.33).
    ///
    /// ```
    /// use kvsched_core::AttentionKind;
    /// assert_eq!(AttentionKind::from_spec_kind("mla_attention"), AttentionKind::Full);
    /// ```
    #[must_use]
    pub fn from_spec_kind(kind: &str) -> Self {
        match kind {
            "full_attention" | "mla_attention" | "sink_full_attention" => Self::Full,
            "sliding_window" | "sliding_window_mla" => Self::SlidingWindow,
            "chunked_local_attention" => Self::ChunkedLocal,
            "mamba" => Self::Recurrent,
            "encoder_only_attention" | "cross_attention" => Self::NotPrefix,
            _ => Self::Unknown,
        }
    }
}

/// Whether blocks lie with the engine that announces them (vLLM 0.26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Locality {
    /// In memory of the engine or its host.
    Local,
    /// In a store that other engines can reach too.
    Remote,
}
