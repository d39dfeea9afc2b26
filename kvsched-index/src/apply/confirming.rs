use super::Holdings;
use crate::{GroupError, GroupRule, Holder, Repeat, RoutingHistory, StoreError, StoreOutcome};
use kvsched_core::{BlockHash, EndpointId, EngineHash, Group, Tier};

/// An index whose events settle what was only expected: whatever an endpoint announces of its
/// device, stored or removed, is no longer remembered as sent there.
///
/// Hand it to [`EventStream`](crate::events::EventStream) or [`Applier`](super::Applier) in the
/// index's place where a [`RoutingHistory`] gives speculative residency beside the index.
/// Costs a look-up a block while anything is remembered, and nothing else.
///
/// ```
/// use kvsched_core::{BlockHash, EndpointId, Time};
/// use kvsched_index::{Confirming, Holder, Holdings, Index, Repeat, RoutingHistory};
/// use std::time::Duration;
///
/// let (mut index, sent) =
///     (Index::builder().build()?, RoutingHistory::new(1000, Duration::from_secs(2)));
/// let prompt = [1, 2, 3].map(BlockHash);
/// sent.record(EndpointId(0), &prompt, Time(0));
/// let device = Holder::device(EndpointId(0));
/// Confirming::new(&mut index, Some(&sent)).store(device, None, &prompt[..2], Repeat::Known)?;
/// assert_eq!(sent.len(EndpointId(0)), 1); // the last is still only expected
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Confirming<'a, H> {
    held: &'a mut H,
    sent: Option<&'a RoutingHistory>,
}

impl<'a, H: Holdings> Confirming<'a, H> {
    /// `held` with what was `sent`; just `held` where nobody remembers that.
    pub const fn new(held: &'a mut H, sent: Option<&'a RoutingHistory>) -> Self {
        Self { held, sent }
    }

    fn settle(&self, holder: Holder, hashes: &[BlockHash]) {
        if let (Some(sent), Tier::DEVICE) = (self.sent, holder.tier) {
            sent.forget(holder.endpoint, hashes);
        }
    }
}

impl<H: Holdings> Holdings for Confirming<'_, H> {
    fn store(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        let outcome = self.held.store(holder, parent, hashes, repeat)?;
        self.settle(holder, hashes);
        Ok(outcome)
    }

    fn store_mapped(
        &mut self,
        holder: Holder,
        parent: Option<BlockHash>,
        engine: &[EngineHash],
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        let outcome = self.held.store_mapped(holder, parent, engine, hashes, repeat)?;
        self.settle(holder, hashes);
        Ok(outcome)
    }

    fn resolve(&self, engine: EngineHash) -> Option<BlockHash> {
        self.held.resolve(engine)
    }

    fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
        self.settle(holder, hashes);
        self.held.remove(holder, hashes)
    }

    fn clear(&mut self, endpoint: EndpointId) {
        if let Some(sent) = self.sent {
            sent.clear(endpoint);
        }
        self.held.clear(endpoint);
    }

    fn holds(&self, holder: Holder, hash: BlockHash) -> bool {
        self.held.holds(holder, hash)
    }

    fn set_group(
        &mut self,
        endpoint: EndpointId,
        group: Group,
        rule: GroupRule,
        block_size: u32,
    ) -> Result<(), GroupError> {
        self.held.set_group(endpoint, group, rule, block_size)
    }

    fn block_size(&self) -> u32 {
        self.held.block_size()
    }

    fn expect(&mut self, blocks: usize) {
        self.held.expect(blocks);
    }
}
