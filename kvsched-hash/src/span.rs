//! What is hashed: a run of a prompt's blocks, and the bounds of what a prompt may hold.

use crate::HashError;
use kvsched_core::{Extras, TokenId};

/// The largest block size: far beyond any engine's, small enough to stay allocatable.
pub(crate) const MAX_BLOCK_SIZE: usize = 1 << 20;

/// The largest token id: engines keep them in a signed 32-bit number.
pub(crate) const MAX_TOKEN: TokenId = i32::MAX as u32;

/// Consecutive blocks to be hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    /// Tokens from the first block on: at least all blocks and the lookahead after them.
    pub(crate) tokens: &'a [TokenId],
    /// The position of the first of them in the prompt.
    pub(crate) start: usize,
    /// How many blocks.
    pub(crate) blocks: usize,
    pub(crate) block_size: usize,
    pub(crate) lookahead: usize,
    /// Of the whole prompt.
    pub(crate) extras: Extras<'a>,
}

impl Span<'_> {
    /// The tokens of its `i`th block.
    #[inline]
    pub(crate) fn block(&self, i: usize) -> &[TokenId] {
        &self.tokens[i * self.block_size..][..self.block_size]
    }

    /// At most `blocks` blocks, from the `from`th on.
    pub(crate) fn part(&self, from: usize, blocks: usize) -> Self {
        let blocks = blocks.min(self.blocks - from);
        let at = if blocks == 0 { 0 } else { from * self.block_size };
        let reach = if blocks == 0 { 0 } else { blocks * self.block_size + self.lookahead };
        Self { tokens: &self.tokens[at..at + reach], start: self.start + at, blocks, ..*self }
    }
}

/// Refuses what no engine accepts. `start` is the position of the first token.
pub(crate) fn check_tokens(tokens: &[TokenId], start: usize) -> Result<(), HashError> {
    let limit = MAX_TOKEN;
    // One pass without branches; the place is looked for only when there is one.
    if tokens.iter().fold(0, |all, &t| all | t) <= limit {
        return Ok(());
    }
    let i = tokens.iter().position(|&t| t > limit).unwrap_or_default();
    Err(HashError::TokenRange { position: start + i, token: tokens[i], limit })
}
