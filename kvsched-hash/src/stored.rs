use crate::hasher::BlockHasher;
use crate::scheme::Family;
use crate::span::{Span, check_tokens};
use crate::{Digest, HashError, sglang};
use kvsched_core::{BlockHash, Extras, Stored};

impl BlockHasher {
    /// Replaces `out` with the digests of all blocks in an event's token range, computed from
    /// its tokens and announced extra keys.
    ///
    /// That is how an engine's blocks get content hashes (keep a map from announced to
    /// computed hashes for its removals), and how an engine's own scheme is verified. The
    /// event's blocks may be larger than the hasher's by a whole factor; `out` then holds
    /// several digests an announced block, of which the last names it: see
    /// [`group_view`](crate::group_view). `parent` is the digest before the first block;
    /// `None` at the prompt's start. For the content scheme it is [`Digest::from`] the block
    /// hash.
    ///
    /// Content hashes of an event equal those of the prompt, if the engine announces what
    /// enters its own hashes (vLLM 0.19 and later do; earlier ones keep salts or offsets to
    /// themselves).
    ///
    /// # Errors
    ///
    /// If the event's blocks are not multiples of the hasher's, the parent is missing, a
    /// token is out of range, or the keys cannot be reproduced: vLLM 0.31 and later hash an
    /// adapter's path, which no event carries.
    pub fn hash_stored_into(
        &self,
        stored: &Stored<'_>,
        parent: Option<Digest>,
        out: &mut Vec<Digest>,
    ) -> Result<(), HashError> {
        out.clear();
        let (block_size, tokens) = (self.block_size(), stored.tokens.len());
        let announced = stored.block_size as usize;
        if announced == 0
            || !announced.is_multiple_of(block_size)
            || !tokens.is_multiple_of(announced)
        {
            return Err(HashError::StoredShape {
                tokens,
                block_size: announced,
                hashed: block_size,
            });
        }
        if stored.parent.is_some() && parent.is_none() {
            return Err(HashError::MissingParent);
        }
        let lookahead = self.lookahead();
        let mut with_lookahead = Vec::new();
        let tokens = if lookahead == 0 {
            stored.tokens
        } else {
            // Announced for each block; those of the last follow the range's tokens.
            let last = stored.lookahead.len().checked_sub(lookahead);
            let last = last.ok_or(HashError::UnsupportedKey { key: "unannounced lookahead" })?;
            with_lookahead.extend_from_slice(stored.tokens);
            with_lookahead.extend_from_slice(&stored.lookahead[last..]);
            &with_lookahead
        };
        let span = Span {
            tokens,
            // Only whether it is the prompt's first block matters.
            start: if stored.parent.is_some() { block_size } else { 0 },
            blocks: stored.tokens.len() / block_size,
            block_size,
            lookahead,
            extras: Extras::NONE,
        };
        let parent = parent.unwrap_or(self.scheme().none_hash());
        out.reserve(span.blocks);
        let done = match &self.scheme().0 {
            Family::Vllm(vllm) => {
                vllm.hash_stored(&span, stored, parent, |d| out.push(d)).map(drop)
            }
            Family::Content(content) => {
                let mut hashes = vec![BlockHash(0); span.blocks];
                let done = content.hash_stored(&span, stored, parent.block_hash().0, &mut hashes);
                out.extend(hashes.into_iter().map(Digest::from));
                done
            }
            Family::Sglang => sglang::hash(&span, parent, |d| out.push(d)).map(drop),
            Family::Llmd(_) => check_tokens(tokens, 0)
                .and_then(|()| self.each_block(&span, &parent, |_, d| out.push(d)).map(drop)),
        };
        if done.is_err() {
            out.clear();
        }
        done
    }
}
