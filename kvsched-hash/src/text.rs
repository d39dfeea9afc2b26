//! Text and chat messages to token ids (feature `tokenizers`).

use aho_corasick::{AhoCorasick, MatchKind};
use kvsched_core::TokenId;
use std::collections::HashMap;
use tokenizers::Tokenizer;

/// A Hugging Face `tokenizer.json` with a bounded memory of text segments.
///
/// Tokenizing costs a thousand times what routing does, and chats repeat their beginnings.
/// Text is cut behind every special token, where Hugging Face tokenizers start over; the ids
/// of each segment are remembered under its whole text, so the result is exactly the
/// tokenizer's. Where a tokenizer does not start over (a special token that swallows blanks
/// or matches whole words only, a prefix for the very first word) nothing is cut, and whole
/// texts are remembered.
///
/// ```
/// # use kvsched_hash::TextTokenizer;
/// let json = br#"{
///     "model": {"type": "WordLevel", "vocab": {"hello": 1, "world": 2, "?": 0}, "unk_token": "?"},
///     "pre_tokenizer": {"type": "Whitespace"},
///     "added_tokens": [{"id": 3, "content": "<end>", "special": true, "normalized": false,
///                       "lstrip": false, "rstrip": false, "single_word": false}]
/// }"#;
/// let mut tokenizer = TextTokenizer::from_json(json, 1 << 20)?;
/// let mut ids = Vec::new();
/// tokenizer.encode_into("hello world<end>hello", &mut ids)?;
/// assert_eq!(ids, [1, 2, 3, 1]);
/// # Ok::<(), kvsched_hash::TextError>(())
/// ```
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    /// Finds special tokens; `None` where text must not be cut.
    special: Option<AhoCorasick>,
    /// Two generations: what is found in the old one moves to the young, and when that is
    /// full the old is dropped.
    young: Generation,
    old: Generation,
    generation_bytes: usize,
    stats: TextStats,
}

#[derive(Default)]
struct Generation {
    ids: HashMap<Box<str>, Box<[TokenId]>>,
    bytes: usize,
}

/// What a [`TextTokenizer`]'s memory has saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextStats {
    /// Bytes of text whose ids were remembered.
    pub remembered_bytes: u64,
    /// Bytes of text that were tokenized.
    pub tokenized_bytes: u64,
}

/// Why text cannot become tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The file is not a tokenizer, or of a kind that is not known.
    #[error("not a tokenizer.json: {reason}")]
    Tokenizer {
        /// The reader's words.
        reason: String,
    },
    /// The tokenizer refuses the text.
    #[error("the tokenizer failed: {reason}")]
    Encode {
        /// Its words.
        reason: String,
    },
    /// More text than a prompt can be.
    #[error("{bytes} bytes of text, more than {limit}")]
    Length {
        /// Its length.
        bytes: usize,
        /// The longest accepted.
        limit: usize,
    },
}

/// One message of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatMessage<'a> {
    /// Who speaks: `system`, `user`, `assistant`, …
    pub role: &'a str,
    /// What is said.
    pub content: &'a str,
}

/// How a model's chat template writes a plain conversation: for each message
/// `before_role role after_role content after_content`, then `generation`.
///
/// Enough for templates without tools or reasoning; for others render the text with the
/// engine's own template and use [`TextTokenizer::encode_into`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatFormat<'a> {
    /// Before everything.
    pub start: &'a str,
    /// Before a message's role.
    pub before_role: &'a str,
    /// Between role and content.
    pub after_role: &'a str,
    /// After the content.
    pub after_content: &'a str,
    /// What makes the model answer.
    pub generation: &'a str,
}

impl ChatFormat<'static> {
    /// ChatML, as the Qwen family speaks it.
    pub const CHATML: Self = Self {
        start: "",
        before_role: "<|im_start|>",
        after_role: "\n",
        after_content: "<|im_end|>\n",
        generation: "<|im_start|>assistant\n",
    };

    /// Llama 3, without its template's dated system message.
    pub const LLAMA_3: Self = Self {
        start: "<|begin_of_text|>",
        before_role: "<|start_header_id|>",
        after_role: "<|end_header_id|>\n\n",
        after_content: "<|eot_id|>",
        generation: "<|start_header_id|>assistant<|end_header_id|>\n\n",
    };
}

impl TextTokenizer {
    /// The longest text, in bytes.
    pub const MAX_BYTES: usize = 64 << 20;

    /// The tokenizer that a `tokenizer.json` describes, with at most about `memory` bytes of
    /// remembered segments (0: none).
    ///
    /// # Errors
    ///
    /// If the bytes are not such a file.
    pub fn from_json(json: &[u8], memory: usize) -> Result<Self, TextError> {
        let broken = |reason: String| TextError::Tokenizer { reason };
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|e| broken(e.to_string()))?;
        // Engines do neither while they tokenize prompts.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| broken(e.to_string()))?;
        let special = if starts_over(json, &tokenizer) {
            let added = tokenizer.get_added_tokens_decoder();
            let texts = added.values().filter(|t| !t.normalized).map(|t| t.content.as_str());
            let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts);
            Some(finder.map_err(|e| broken(e.to_string()))?)
        } else {
            None
        };
        Ok(Self {
            tokenizer,
            special,
            young: Generation::default(),
            old: Generation::default(),
            generation_bytes: memory / 2,
            stats: TextStats::default(),
        })
    }

    /// Replaces `out` with the ids of `text`, without those that a template would add around
    /// it: what an engine does with a rendered chat.
    ///
    /// # Errors
    ///
    /// If the text is too long or the tokenizer refuses it; `out` is then empty.
    pub fn encode_into(&mut self, text: &str, out: &mut Vec<TokenId>) -> Result<(), TextError> {
        out.clear();
        let (bytes, limit) = (text.len(), Self::MAX_BYTES);
        if bytes > limit {
            return Err(TextError::Length { bytes, limit });
        }
        let mut from = 0;
        while from < text.len() {
            let found = self.special.as_ref().and_then(|s| s.find(&text[from..]));
            let to = found.map_or(text.len(), |m| from + m.end());
            if let Err(e) = self.segment(&text[from..to], out) {
                out.clear();
                return Err(e);
            }
            from = to;
        }
        Ok(())
    }

    /// Replaces `out` with the ids of a prompt for completion, with the tokens that the
    /// tokenizer adds around it (a begin of text).
    ///
    /// # Errors
    ///
    /// As [`encode_into`](Self::encode_into).
    pub fn encode_with_added_into(
        &mut self,
        text: &str,
        out: &mut Vec<TokenId>,
    ) -> Result<(), TextError> {
        out.clear();
        let (bytes, limit) = (text.len(), Self::MAX_BYTES);
        if bytes > limit {
            return Err(TextError::Length { bytes, limit });
        }
        out.extend_from_slice(&self.tokenize(text, true)?);
        Ok(())
    }

    /// Replaces `out` with the ids of a conversation that asks for an answer.
    ///
    /// # Errors
    ///
    /// As [`encode_into`](Self::encode_into).
    pub fn encode_chat_into(
        &mut self,
        format: &ChatFormat<'_>,
        messages: &[ChatMessage<'_>],
        out: &mut Vec<TokenId>,
    ) -> Result<(), TextError> {
        let mut text = format.start.to_owned();
        for ChatMessage { role, content } in messages {
            for part in [format.before_role, role, format.after_role, content, format.after_content]
            {
                text.push_str(part);
            }
        }
        text.push_str(format.generation);
        self.encode_into(&text, out)
    }

    /// What the memory has saved.
    #[must_use]
    pub const fn stats(&self) -> TextStats {
        self.stats
    }

    fn segment(&mut self, text: &str, out: &mut Vec<TokenId>) -> Result<(), TextError> {
        if let Some(ids) = self.young.ids.get(text) {
            out.extend_from_slice(ids);
            self.stats.remembered_bytes += text.len() as u64;
            return Ok(());
        }
        let ids = match self.old.ids.remove(text) {
            Some(ids) => {
                self.old.bytes -= cost(text, &ids);
                self.stats.remembered_bytes += text.len() as u64;
                ids
            }
            None => self.tokenize(text, false)?,
        };
        out.extend_from_slice(&ids);
        let cost = cost(text, &ids);
        if cost > self.generation_bytes {
            return Ok(());
        }
        if self.young.bytes + cost > self.generation_bytes {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += cost;
        self.young.ids.insert(text.into(), ids);
        Ok(())
    }

    fn tokenize(&mut self, text: &str, added: bool) -> Result<Box<[TokenId]>, TextError> {
        self.stats.tokenized_bytes += text.len() as u64;
        let encoding = self.tokenizer.encode_fast(text, added);
        let encoding = encoding.map_err(|e| TextError::Encode { reason: e.to_string() })?;
        Ok(encoding.get_ids().into())
    }
}

/// Bytes that a remembered segment takes, with an estimate of the map's.
fn cost(text: &str, ids: &[TokenId]) -> usize {
    text.len() + size_of_val(ids) + 64
}

/// Whether text behind a special token is tokenized as if it stood alone.
fn starts_over(json: &[u8], tokenizer: &Tokenizer) -> bool {
    let simple = tokenizer
        .get_added_tokens_decoder()
        .values()
        .all(|t| !t.lstrip && !t.rstrip && !t.single_word);
    // Metaspace may mark the first word of the whole text only.
    let first = b"\"prepend_scheme\"";
    let marks_first = json.windows(first.len()).enumerate().any(|(at, w)| {
        let value = json[at + first.len()..].iter().filter(|b| !b.is_ascii_whitespace());
        w == first && value.take(7).copied().eq(*b":\"first")
    });
    simple && !marks_first
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer")
            .field("cuts", &self.special.is_some())
            .field("remembered_bytes", &(self.young.bytes + self.old.bytes))
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
