use crate::scheme::Family;
use crate::span::{self, Span};
use crate::{BuildError, Digest, HashError, Scheme, sglang};
use kvsched_core::{BlockHash, Prompt, TokenId};

/// Turns prompts into the block hashes of one scheme and block size.
///
/// Immutable and cheap to clone; hash with one hasher from as many threads as you like.
///
/// ```
/// use kvsched_core::{BlockHash, Prompt};
/// use kvsched_hash::{Algorithm, BlockHasher, Scheme, VllmVersion};
///
/// let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256Cbor, Some("0"))?;
/// let hasher = BlockHasher::builder(scheme).block_size(16).build()?;
///
/// let tokens: Vec<u32> = (0..40).collect();
/// let mut hashes = Vec::new();
/// hasher.hash_into(&Prompt::new(&tokens), &mut hashes)?;
/// assert_eq!(hashes.len(), 2); // the last eight tokens fill no block
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockHasher {
    scheme: Scheme,
    block_size: usize,
    lookahead: usize,
}

/// Settings of a [`BlockHasher`]; from [`BlockHasher::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BlockHasherBuilder {
    scheme: Scheme,
    block_size: usize,
    lookahead: usize,
}

impl BlockHasherBuilder {
    /// Tokens a block: the engine's *hash* block size, 1 to [`BlockHasher::MAX_BLOCK_SIZE`].
    /// Must be set; engines default to 16.
    ///
    /// For one KV-cache group that is its block size (times the decode context parallelism);
    /// for a hybrid model vLLM's `prefix_match_unit`, or the greatest common divisor of the
    /// groups' block sizes. See [`group_view`](crate::group_view) for the groups' own.
    pub fn block_size(mut self, tokens: usize) -> Self {
        self.block_size = tokens;
        self
    }

    /// Tokens after each block that enter its hash (vLLM 0.33 with EAGLE: 1; with multi-module
    /// MTP: the number of speculative tokens). 0 unless set.
    pub fn lookahead(mut self, tokens: usize) -> Self {
        self.lookahead = tokens;
        self
    }

    /// The hasher.
    ///
    /// # Errors
    ///
    /// If the block size is missing or out of range, or the scheme has no lookahead hashes.
    pub fn build(self) -> Result<BlockHasher, BuildError> {
        let Self { scheme, block_size, lookahead } = self;
        let max = BlockHasher::MAX_BLOCK_SIZE;
        if block_size == 0 || block_size > max {
            return Err(BuildError::BlockSize { got: block_size, max });
        }
        match scheme.max_lookahead() {
            0 if lookahead > 0 => {
                return Err(BuildError::NoLookahead { scheme: scheme.to_string() });
            }
            max if lookahead > max => return Err(BuildError::Lookahead { got: lookahead, max }),
            _ => {}
        }
        Ok(BlockHasher { scheme, block_size, lookahead })
    }
}

impl BlockHasher {
    /// The largest block size: far beyond any engine's, small enough to stay allocatable.
    pub const MAX_BLOCK_SIZE: usize = span::MAX_BLOCK_SIZE;

    /// The largest token id: engines keep them in a signed 32-bit number.
    pub const MAX_TOKEN: TokenId = span::MAX_TOKEN;

    /// Settings of a hasher of `scheme`.
    pub const fn builder(scheme: Scheme) -> BlockHasherBuilder {
        BlockHasherBuilder { scheme, block_size: 0, lookahead: 0 }
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Tokens a block.
    #[must_use]
    pub const fn block_size(&self) -> usize {
        self.block_size
    }

    /// Tokens after each block that enter its hash.
    #[must_use]
    pub const fn lookahead(&self) -> usize {
        self.lookahead
    }

    /// How many blocks of a prompt of so many tokens have a hash.
    #[must_use]
    pub const fn full_blocks(&self, tokens: usize) -> usize {
        tokens.saturating_sub(self.lookahead) / self.block_size
    }

    /// Replaces `out` with the hashes of all full blocks. O(tokens); allocates only what `out`
    /// lacks (and a scratch buffer for blocks of thousands of tokens).
    ///
    /// # Errors
    ///
    /// If a token, an extra key or their order is not of the scheme; `out` is then empty.
    pub fn hash_into(
        &self,
        prompt: &Prompt<'_>,
        out: &mut Vec<BlockHash>,
    ) -> Result<(), HashError> {
        self.hash_first_into(prompt, usize::MAX, out)
    }

    /// Replaces `out` with the hashes of the first `blocks` blocks, or of as many as are full.
    ///
    /// # Errors
    ///
    /// As [`hash_into`](Self::hash_into), of the tokens it reads.
    pub fn hash_first_into(
        &self,
        prompt: &Prompt<'_>,
        blocks: usize,
        out: &mut Vec<BlockHash>,
    ) -> Result<(), HashError> {
        let done = self.span(prompt, 0, blocks).and_then(|span| {
            // What is overwritten need not be zero before.
            out.truncate(span.blocks);
            out.resize(span.blocks, BlockHash(0));
            self.fill(&span, &self.scheme.none_hash(), out)
        });
        if done.is_err() {
            out.clear();
        }
        done.map(drop)
    }

    /// Replaces `out` with the full digests of all full blocks.
    ///
    /// # Errors
    ///
    /// As [`hash_into`](Self::hash_into).
    pub fn digests_into(
        &self,
        prompt: &Prompt<'_>,
        out: &mut Vec<Digest>,
    ) -> Result<(), HashError> {
        self.continue_into(prompt, 0, &self.scheme.none_hash(), out)
    }

    /// Replaces `out` with the digests of the full blocks after the first `done`, the last of
    /// which has digest `parent`. `prompt` is the whole prompt, from its first token.
    ///
    /// # Errors
    ///
    /// As [`hash_into`](Self::hash_into); and if the prompt has fewer than `done` full blocks
    /// or `parent` is no digest of the scheme.
    pub fn continue_into(
        &self,
        prompt: &Prompt<'_>,
        done: usize,
        parent: &Digest,
        out: &mut Vec<Digest>,
    ) -> Result<(), HashError> {
        out.clear();
        let span = self.span(prompt, done, usize::MAX)?;
        let want = self.scheme.digest_len();
        if parent.as_bytes().len() != want && (done > 0 || *parent != self.scheme.none_hash()) {
            return Err(HashError::ParentLength { got: parent.as_bytes().len(), want });
        }
        out.reserve(span.blocks);
        let done = self.each_block(&span, parent, |_, digest| out.push(digest));
        if done.is_err() {
            out.clear();
        }
        done.map(drop)
    }

    /// At most `blocks` full blocks after the first `done`, with their tokens checked.
    pub(crate) fn span<'a>(
        &self,
        prompt: &Prompt<'a>,
        done: usize,
        blocks: usize,
    ) -> Result<Span<'a>, HashError> {
        let full = self.full_blocks(prompt.tokens.len());
        if done > full {
            return Err(HashError::PastTheEnd { done, blocks: full });
        }
        let (block_size, lookahead) = (self.block_size, self.lookahead);
        let start = done * block_size;
        let blocks = blocks.min(full - done);
        let reach = if blocks == 0 { 0 } else { blocks * block_size + lookahead };
        let tokens = &prompt.tokens[start..start + reach];
        Ok(Span { tokens, start, blocks, block_size, lookahead, extras: prompt.extras })
    }

    /// Writes the hashes of the span's blocks and returns the last one's digest.
    pub(crate) fn fill(
        &self,
        span: &Span<'_>,
        parent: &Digest,
        out: &mut [BlockHash],
    ) -> Result<Digest, HashError> {
        match &self.scheme.0 {
            Family::Content(content) => content.hash(span, parent.block_hash().0, out)?,
            Family::Llmd(llmd) => llmd.hash(span, parent.block_hash().0, out)?,
            Family::Vllm(_) | Family::Sglang => {
                let mut slots = out.iter_mut();
                return self.each_block(span, parent, |hash, _| {
                    if let Some(slot) = slots.next() {
                        *slot = hash;
                    }
                });
            }
        }
        Ok(out.last().map_or(*parent, |hash| Digest::from_u64(hash.0)))
    }

    /// Hands hash and digest of each of the span's blocks to `sink`, and returns the last digest.
    pub(crate) fn each_block(
        &self,
        span: &Span<'_>,
        parent: &Digest,
        mut sink: impl FnMut(BlockHash, Digest),
    ) -> Result<Digest, HashError> {
        match &self.scheme.0 {
            Family::Vllm(vllm) => {
                vllm.hash(span, *parent, |digest| sink(digest.block_hash(), digest))
            }
            Family::Sglang => {
                sglang::hash(span, *parent, |digest| sink(digest.first_eight(), digest))
            }
            Family::Content(_) | Family::Llmd(_) => {
                // A digest is the hash itself.
                let mut hashes = [BlockHash(0); 64];
                let mut parent = *parent;
                for from in (0..span.blocks).step_by(hashes.len()) {
                    let part = span.part(from, hashes.len());
                    let hashes = &mut hashes[..part.blocks];
                    parent = self.fill(&part, &parent, hashes)?;
                    hashes.iter().for_each(|hash| sink(*hash, Digest::from_u64(hash.0)));
                }
                Ok(parent)
            }
        }
    }
}
