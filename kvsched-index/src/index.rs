use crate::naive::Naive;
use crate::{
    GroupError, GroupRule, Holder, IndexBuilder, IndexStats, Repeat, StoreError, StoreOutcome,
};
use kvsched_core::{BlockHash, EndpointId, EngineHash, Group, PrefixMatches};
use std::collections::HashMap;

/// Which endpoint holds which blocks, and how much of a prompt that is.
///
/// Blocks are named by hash alone. A store may begin anywhere, repeat known blocks, extend
/// them, or arrive before its parent; removals may come in any order. See
/// [`Index::find_matches`].
#[derive(Debug)]
pub struct Index {
    blocks: Naive,
    names: HashMap<EngineHash, BlockHash>,
}

impl Index {
    /// Settings of a new index.
    #[must_use]
    pub fn builder() -> IndexBuilder {
        IndexBuilder::default()
    }

    pub(crate) fn new(settings: IndexBuilder) -> Self {
        Self { blocks: Naive::new(settings.block_size), names: HashMap::new() }
    }

    /// `holder` now holds `hashes`: consecutive blocks, the first of them after `parent`, or at
    /// the start of a prompt where that is `None`.
    ///
    /// Blocks whose parent nobody has stored are held too, and become part of matches when
    /// the parent arrives.
    ///
    /// # Errors
    ///
    /// If the endpoint is out of range or too many blocks wait for parents.
    pub fn store(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        if holder.endpoint.0 == u16::MAX {
            return Err(StoreError::Endpoint(holder.endpoint));
        }
        Ok(self.blocks.store(holder, parent, hashes, repeat))
    }

    /// As [`Index::store`], for an engine that announces other hashes than ours: `engine[i]` is
    /// its name of `hashes[i]`, and [`Index::resolve`] finds it again when it is removed.
    ///
    /// # Errors
    ///
    /// As [`Index::store`], and if the lists are not equally long.
    pub fn store_mapped(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        engine: &[EngineHash],
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        if engine.len() != hashes.len() {
            return Err(StoreError::Names { engine: engine.len(), hashes: hashes.len() });
        }
        let outcome = self.store(holder, parent, hashes, repeat)?;
        self.names.extend(engine.iter().copied().zip(hashes.iter().copied()));
        Ok(outcome)
    }

    /// The block that an engine announced as `engine` to [`Index::store_mapped`]; `None` for one
    /// that nobody holds any more.
    #[must_use]
    pub fn resolve(&self, engine: EngineHash) -> Option<BlockHash> {
        self.names.get(&engine).copied()
    }

    /// `holder` no longer holds `hashes`, in whatever order they come. Blocks it does not hold
    /// are passed over.
    ///
    /// Returns how many blocks it held before and does not now. A block with a further copy
    /// ([`Repeat::Copy`]) loses the copy and stays.
    pub fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
        self.blocks.remove(holder, hashes)
    }

    /// `endpoint` holds nothing any more, in no tier and no group. Its groups' rules stay.
    pub fn clear(&mut self, endpoint: EndpointId) {
        self.blocks.clear(endpoint);
    }

    /// Forgets `endpoint`: its blocks and its groups' rules. Its id may be given to another.
    pub fn remove_endpoint(&mut self, endpoint: EndpointId) {
        self.blocks.remove_endpoint(endpoint);
    }

    /// Whether `holder` holds the block, pending or not.
    #[must_use]
    pub fn holds(&self, holder: Holder, hash: BlockHash) -> bool {
        self.blocks.holds(holder, hash)
    }

    /// Says what a group of `endpoint` needs for a prefix to be usable. A group that is
    /// stored to without a rule is [`GroupRule::Full`] with the index's block size.
    ///
    /// # Errors
    ///
    /// If the rule fits no block, or the group already holds blocks under another rule.
    pub fn set_group(
        &mut self,
        endpoint: EndpointId,
        group: Group,
        rule: GroupRule,
        block_size: u32,
    ) -> Result<(), GroupError> {
        if endpoint.0 == u16::MAX {
            return Err(GroupError::Endpoint(endpoint));
        }
        self.blocks.set_group(endpoint, group, rule, block_size)
    }

    /// How much there is.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        IndexStats::default()
    }

    /// The longest usable prefix of a prompt on every endpoint, split by tier.
    ///
    /// `hashes` are the prompt's block hashes from the first. An engine computes at least one
    /// token itself, so leave out a block that ends with the prompt. `out` is overwritten.
    pub fn find_matches(&self, hashes: &[BlockHash], out: &mut PrefixMatches) {
        self.blocks.find_matches(hashes, out);
    }
}
