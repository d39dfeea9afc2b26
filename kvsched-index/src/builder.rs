use crate::Index;

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
    /// The empty index would already be over its budget.
    #[error("a budget of {budget} bytes is below the smallest, {smallest}")]
    Budget {
        /// Bytes allowed.
        budget: usize,
        /// Bytes that every index needs.
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

    /// Most bytes the index may take. Default: no limit.
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
        if self.block_size == 0 {
            return Err(IndexBuildError::BlockSize);
        }
        Ok(Index::new(self))
    }
}
