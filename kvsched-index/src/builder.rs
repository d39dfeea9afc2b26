use crate::{Index, SharedIndex};

/// The fixed parts take a quarter of it.
const SMALLEST_BUDGET: usize = 64 << 10;

/// Settings of an [`Index`]; every one has a default.
#[derive(Clone, Debug)]
pub struct IndexBuilder {
    pub(crate) block_size: u32,
    pub(crate) pending_blocks: usize,
    pub(crate) byte_budget: Option<usize>,
}

/// Why an index was not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexBuildError {
    /// Blocks must hold tokens.
    #[error("a block size of 0 tokens")]
    BlockSize,
    /// Too little to hold anything.
    #[error("a budget of {budget} bytes: the smallest is {smallest}")]
    Budget {
        /// Bytes allowed.
        budget: usize,
        /// The smallest budget.
        smallest: usize,
    },
}

impl Default for IndexBuilder {
    fn default() -> Self {
        Self { block_size: 16, pending_blocks: 1 << 20, byte_budget: None }
    }
}

impl IndexBuilder {
    /// Tokens that one hash of a query stands for. Default 16.
    ///
    /// It matters where [`Index::set_group`] gives windows in tokens or larger blocks.
    #[must_use]
    pub fn block_size(mut self, tokens: u32) -> Self {
        self.block_size = tokens;
        self
    }

    /// Most blocks that may wait for an unknown parent. Default 1,048,576.
    #[must_use]
    pub fn pending_blocks(mut self, blocks: usize) -> Self {
        self.pending_blocks = blocks;
        self
    }

    /// Most bytes the index may take, at least 65,536. Default: no limit.
    ///
    /// A write that would exceed it makes the index forget the coldest tails of prompts, down to
    /// seven eighths; [`IndexStats::evicted`](crate::IndexStats::evicted) counts the blocks. Matches
    /// are then shorter than the truth, never longer. Memory that a table needs only while it is
    /// being replaced is not counted.
    #[must_use]
    pub fn byte_budget(mut self, bytes: usize) -> Self {
        self.byte_budget = Some(bytes);
        self
    }

    /// An empty index.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn build(self) -> Result<Index, IndexBuildError> {
        self.check()?;
        Ok(Index::new(self))
    }

    /// An empty index that threads can share.
    ///
    /// # Errors
    ///
    /// If a setting is out of its range.
    pub fn build_shared(self) -> Result<SharedIndex, IndexBuildError> {
        self.check()?;
        Ok(SharedIndex::new(&self))
    }

    fn check(&self) -> Result<(), IndexBuildError> {
        if self.block_size == 0 {
            return Err(IndexBuildError::BlockSize);
        }
        match self.byte_budget {
            Some(budget) if budget < SMALLEST_BUDGET => {
                Err(IndexBuildError::Budget { budget, smallest: SMALLEST_BUDGET })
            }
            _ => Ok(()),
        }
    }
}
