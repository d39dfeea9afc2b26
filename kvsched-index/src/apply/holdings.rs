use crate::{GroupError, GroupRule, Holder, Index, Repeat, SharedIndex, StoreError, StoreOutcome};
use kvsched_core::{BlockHash, EndpointId, EngineHash, Group};

/// What an [`Applier`](super::Applier) needs of an index. [`Index`] has it, and a reference to
/// a [`SharedIndex`]; every method is as theirs of that name.
#[allow(missing_docs, reason = "documented where they are implemented")]
pub trait Holdings {
    fn store(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError>;
    fn store_mapped(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        engine: &[EngineHash],
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError>;
    fn resolve(&self, engine: EngineHash) -> Option<BlockHash>;
    fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize;
    fn clear(&mut self, endpoint: EndpointId);
    fn holds(&self, holder: Holder, hash: BlockHash) -> bool;
    fn set_group(
        &mut self,
        endpoint: EndpointId,
        group: Group,
        rule: GroupRule,
        block_size: u32,
    ) -> Result<(), GroupError>;
    fn block_size(&self) -> u32;
    /// Expects so many blocks in all: a hint.
    fn expect(&mut self, blocks: usize);
}

macro_rules! as_the_index {
    ($t:ty, $index:ty) => {
        impl Holdings for $t {
            fn store(
                &mut self,
                holder: Holder,
                parent: Option<BlockHash>,
                hashes: &[BlockHash],
                repeat: Repeat,
            ) -> Result<StoreOutcome, StoreError> {
                <$index>::store(self, holder, parent, hashes, repeat)
            }
            fn store_mapped(
                &mut self,
                holder: Holder,
                parent: Option<BlockHash>,
                engine: &[EngineHash],
                hashes: &[BlockHash],
                repeat: Repeat,
            ) -> Result<StoreOutcome, StoreError> {
                <$index>::store_mapped(self, holder, parent, engine, hashes, repeat)
            }
            fn resolve(&self, engine: EngineHash) -> Option<BlockHash> {
                <$index>::resolve(self, engine)
            }
            fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
                <$index>::remove(self, holder, hashes)
            }
            fn clear(&mut self, endpoint: EndpointId) {
                <$index>::clear(self, endpoint);
            }
            fn holds(&self, holder: Holder, hash: BlockHash) -> bool {
                <$index>::holds(self, holder, hash)
            }
            fn set_group(
                &mut self,
                endpoint: EndpointId,
                group: Group,
                rule: GroupRule,
                block_size: u32,
            ) -> Result<(), GroupError> {
                <$index>::set_group(self, endpoint, group, rule, block_size)
            }
            fn block_size(&self) -> u32 {
                <$index>::block_size(self)
            }
            fn expect(&mut self, blocks: usize) {
                <$index>::expect(self, blocks);
            }
        }
    };
}

as_the_index!(Index, Index);
as_the_index!(SharedIndex, SharedIndex);
as_the_index!(&SharedIndex, SharedIndex);
