use crate::hasher::BlockHasher;
use crate::span::Span;
use crate::{Digest, HashError};
use kvsched_core::{BlockHash, Extras, TokenId};

/// The block hashes of a sequence that grows: a session whose next turn hashes only its new
/// tokens.
///
/// Equal to hashing the whole sequence at once, however it was cut. The tokens of an
/// unfinished block are kept, not hashed; those of finished blocks are forgotten, so a chain
/// of n blocks takes 8·n bytes and less than a block's tokens.
///
/// ```
/// # use kvsched_core::Extras;
/// # use kvsched_hash::{BlockHasher, HashChain, Scheme};
/// # let hasher = BlockHasher::builder(Scheme::sglang()).block_size(4).build()?;
/// let mut chain = HashChain::new(hasher);
/// assert_eq!(chain.append(&[1, 2, 3, 4, 5], &Extras::NONE)?.len(), 1);
/// assert_eq!(chain.append(&[6, 7], &Extras::NONE)?.len(), 0);
/// assert_eq!(chain.append(&[8, 9], &Extras::NONE)?.len(), 1);
/// assert_eq!(chain.hashes().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HashChain {
    hasher: BlockHasher,
    hashes: Vec<BlockHash>,
    last: Digest,
    /// Tokens from the first unhashed block on.
    tail: Vec<TokenId>,
}

impl HashChain {
    /// An empty sequence.
    #[must_use]
    pub fn new(hasher: BlockHasher) -> Self {
        let last = hasher.scheme().none_hash();
        Self { hasher, hashes: Vec::new(), last, tail: Vec::new() }
    }

    /// Adds tokens and returns the hashes of the blocks they have filled.
    ///
    /// `extras` are those of the whole sequence, with offsets from its first token: the same
    /// adapter and salt each time, and every multimodal item by the time its first token is
    /// appended.
    ///
    /// # Errors
    ///
    /// As [`BlockHasher::hash_into`]; the chain is then as it was.
    pub fn append(
        &mut self,
        tokens: &[TokenId],
        extras: &Extras<'_>,
    ) -> Result<&[BlockHash], HashError> {
        let before = (self.hashes.len(), self.tail.len());
        self.tail.extend_from_slice(tokens);
        let (block_size, lookahead) = (self.hasher.block_size(), self.hasher.lookahead());
        let span = Span {
            tokens: &self.tail,
            start: before.0 * block_size,
            blocks: self.hasher.full_blocks(self.tail.len()),
            block_size,
            lookahead,
            extras: *extras,
        };
        self.hashes.resize(before.0 + span.blocks, BlockHash(0));
        match self.hasher.fill(&span, &self.last, &mut self.hashes[before.0..]) {
            Ok(last) => {
                self.last = last;
                let hashed = span.blocks * block_size;
                self.tail.drain(..hashed);
                Ok(&self.hashes[before.0..])
            }
            Err(e) => {
                self.hashes.truncate(before.0);
                self.tail.truncate(before.1);
                Err(e)
            }
        }
    }

    /// The hashes of all full blocks so far.
    #[must_use]
    pub fn hashes(&self) -> &[BlockHash] {
        &self.hashes
    }

    /// The last full block's digest, or what stands in for the first one's parent.
    #[must_use]
    pub const fn last_digest(&self) -> &Digest {
        &self.last
    }

    /// How many tokens the sequence has.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.hashes.len() * self.hasher.block_size() + self.tail.len()
    }

    /// The hasher.
    #[must_use]
    pub const fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }
}
