//! SGLang's page hashes: SHA-256 of the parent's digest and the page's tokens, four bytes
//! each, little-endian. With EAGLE a page is of bigrams, each token with its successor.
//! Source: `sglang/srt/mem_cache/{utils,events}.py` of 0.5.

use crate::span::{Span, check_tokens};
use crate::vllm::encode::Message;
use crate::{Digest, HashError, scratch, sha256};

/// What the parent's place is filled with where a cache salt is given (0.5.23).
const SALT: &[u8; 21] = b"sglang-cache-salt-v1\0";

/// Hashes the pages of `span`, each after `parent` and then its predecessor.
pub(crate) fn hash(
    span: &Span<'_>,
    mut parent: Digest,
    mut sink: impl FnMut(Digest),
) -> Result<Digest, HashError> {
    check_tokens(span.tokens, span.start)?;
    let extras = &span.extras;
    for (there, key) in [
        (extras.lora.is_some(), "LoRA adapters"),
        (extras.embeds.is_some(), "prompt embeddings"),
        // SGLang puts an item's identity into the tokens themselves.
        (!extras.multimodal.is_empty(), "multimodal items (pass its padded tokens)"),
    ] {
        if there {
            return Err(HashError::UnsupportedKey { key });
        }
    }
    if let Some(salt) = extras.cache_salt.filter(|s| !s.is_empty() && span.start == 0) {
        parent = Digest::from_32(sha256::of_two(SALT, salt.as_bytes()));
    }
    let bigrams = span.lookahead == 1;
    scratch::with(32 + span.block_size * 8 + sha256::PADDING, |buffer| {
        let mut message = Message::new(buffer);
        for i in 0..span.blocks {
            message.truncate(0);
            message.put(parent.as_bytes());
            let at = i * span.block_size;
            for (j, token) in span.block(i).iter().enumerate() {
                message.put(&token.to_le_bytes());
                if bigrams {
                    message.put(&span.tokens[at + j + 1].to_le_bytes());
                }
            }
            message.pad();
            parent = Digest::from_32(sha256::to_bytes(sha256::of_padded(message.padded())));
            sink(parent);
        }
    });
    Ok(parent)
}
