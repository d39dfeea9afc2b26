/// A token id, as tokenizers and engines count them.
///
/// Engines keep ids below 2³¹; hashers refuse larger ones.
pub type TokenId = u32;

/// What an engine's cache key is made of: the tokens and whatever else makes two equal
/// token sequences different KV.
///
/// ```
/// use kvsched_core::{Extras, Prompt};
/// let tokens = [1, 2, 3];
/// let plain = Prompt::new(&tokens);
/// let salted = Prompt { extras: Extras { cache_salt: Some("tenant-1"), ..Extras::NONE }, ..plain };
/// assert!(!salted.extras.is_none());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// The prompt's tokens, in order. For a prompt of embeddings, zeros.
    pub tokens: &'a [TokenId],
    /// Everything but the tokens that enters the cache key.
    pub extras: Extras<'a>,
}

impl<'a> Prompt<'a> {
    /// A prompt of nothing but tokens.
    #[must_use]
    pub const fn new(tokens: &'a [TokenId]) -> Self {
        Self { tokens, extras: Extras::NONE }
    }
}

/// What enters a block's cache key besides its tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// The LoRA adapter the request runs with.
    pub lora: Option<Lora<'a>>,
    /// Multimodal items, in order of their offset.
    pub multimodal: &'a [MultimodalSpan<'a>],
    /// The request's cache salt. An empty one counts as none, as in the engine.
    pub cache_salt: Option<&'a str>,
    /// The request's prompt embeddings.
    pub embeds: Option<PromptEmbeds<'a>>,
}

impl Extras<'_> {
    /// No extra keys.
    pub const NONE: Self = Self { lora: None, multimodal: &[], cache_salt: None, embeds: None };

    /// Whether there is nothing here that could enter a cache key.
    #[inline]
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lora.is_none()
            && self.multimodal.is_empty()
            && self.cache_salt.is_none_or(str::is_empty)
            && self.embeds.is_none()
    }
}

/// A LoRA adapter as the engine knows it. Which of the three enters the key depends on the
/// engine's version: vLLM hashed `int_id` to 0.11.0, `name` to 0.30, `name` and `path` since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lora<'a> {
    /// The adapter's name.
    pub name: &'a str,
    /// The adapter's path, exactly as the engine was given it.
    pub path: &'a str,
    /// The engine's number for the adapter.
    pub int_id: i64,
}

/// One multimodal item (an image, a sound) within the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultimodalSpan<'a> {
    /// The item's content hash or the identifier its user gave it.
    pub identifier: &'a str,
    /// Its first token's position in the prompt.
    pub offset: u32,
    /// How many tokens it takes.
    pub length: u32,
}

/// Prompt embeddings: the raw little-endian tensor, row by row, one row a prompt token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptEmbeds<'a> {
    /// The tensor's bytes. May hold fewer rows than the sequence has tokens: what was
    /// generated has no embedding.
    pub bytes: &'a [u8],
    /// Bytes of one row; not 0.
    pub row_bytes: usize,
}
