use crate::chain::Chains;
use crate::directory::Directory;
use crate::matcher::Residency;
use crate::shared::Exclusive;
use crate::turns;
use crate::validate::validate;
use crate::view::View;
use crate::write::Write;
use crate::writers::{Lane, Lanes, Writers};
use crate::{
    GroupError, GroupRule, Holder, IndexBuilder, IndexStats, PoolError, Repeat, StoreError,
    StoreOutcome,
};
use arc_swap::ArcSwap;
use kvsched_core::{BlockHash, EndpointId, EngineHash, Group, PrefixMatches};
use std::sync::atomic::AtomicUsize;

/// Which endpoint holds which blocks, and how much of a prompt that is.
///
/// Blocks are named by hash alone. A store may begin anywhere, repeat known blocks, extend
/// them, or arrive before its parent; removals may come in any order. See
/// [`Index::find_matches`].
#[derive(Debug)]
pub struct Index {
    state: Exclusive<((Residency, Writers), Lane)>,
}

/// What readers see and what only writers know, of an index without blocks that one or several write.
pub(crate) fn parts(settings: &IndexBuilder, is_shared: bool) -> (Residency, Writers) {
    let (directory, counts) = Directory::of_blocks(settings.byte_budget, is_shared);
    let (heads, head_counts) = Directory::of_heads(&directory, is_shared);
    let map = Residency {
        directory,
        heads,
        chains: Chains::new(),
        endpoints: AtomicUsize::new(0),
        hybrids: ArcSwap::default(),
        hybrid_count: AtomicUsize::new(0),
        scopes: ArcSwap::default(),
        scope_count: AtomicUsize::new(0),
    };
    let own = Writers::new(settings, &map, (counts, head_counts), is_shared);
    (map, own)
}

impl Index {
    /// Settings of a new index.
    #[must_use]
    pub fn builder() -> IndexBuilder {
        IndexBuilder::default()
    }

    pub(crate) fn new(settings: IndexBuilder) -> Self {
        Self { state: Exclusive::new((parts(&settings, false), Lane::default())) }
    }

    fn write<R>(&mut self, f: impl FnOnce(&mut Write<'_>) -> R) -> R {
        let ((parts, lane), pin) = self.state.write();
        let done = f(&mut Write::alone(parts, Lanes::One(lane), &pin));
        parts.1.book(&pin);
        done
    }

    pub(crate) fn view<R>(&self, f: impl FnOnce(View<'_>) -> R) -> R {
        let (((map, own), lane), pin) = self.state.read();
        f(View { map, own, lanes: &[lane], pin: &pin })
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
        self.write(|w| w.store(holder, parent, hashes, repeat)).map(|stored| stored.outcome)
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
        let stored = self.write(|w| w.store_mapped(holder, parent, engine, hashes, repeat));
        stored.map(|stored| stored.outcome)
    }

    /// The block that an engine announced as `engine` to [`Index::store_mapped`]; `None` for one
    /// that nobody holds any more.
    #[must_use]
    pub fn resolve(&self, engine: EngineHash) -> Option<BlockHash> {
        self.view(|view| turns::take(&view.own.names).get(engine, view.map, view.pin))
    }

    /// `holder` no longer holds `hashes`, in whatever order they come. Blocks it does not hold
    /// are passed over.
    ///
    /// Returns how many blocks it held before and does not now. A block with a further copy
    /// ([`Repeat::Copy`]) loses the copy and stays.
    pub fn remove(&mut self, holder: Holder, hashes: &[BlockHash]) -> usize {
        self.write(|w| w.remove(holder, hashes))
    }

    /// `endpoint` holds nothing any more, in no tier and no group. Its groups' rules stay.
    pub fn clear(&mut self, endpoint: EndpointId) {
        self.write(|w| w.clear(endpoint));
    }

    /// Gives back now what clears have left behind.
    ///
    /// A clear costs the runs it touches, not their blocks: those are forgotten little by little by
    /// the writes that follow. Nothing but memory tells the difference.
    pub fn reclaim(&mut self) {
        self.write(|w| w.reclaim());
    }

    /// Forgets `endpoint`: its blocks and its groups' rules. Its id may be given to another.
    pub fn remove_endpoint(&mut self, endpoint: EndpointId) {
        self.write(|w| w.remove_endpoint(endpoint));
    }

    /// Whether `holder` holds the block, pending or not.
    #[must_use]
    pub fn holds(&self, holder: Holder, hash: BlockHash) -> bool {
        self.view(|view| view.holds(holder, hash))
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
        self.write(|w| w.set_group(endpoint, group, rule, block_size))
    }

    /// What each of `pools` holds counts for `endpoint` too, in place of the pools it had.
    ///
    /// A pool is an endpoint like any other that is stored to and removed from: a store of several
    /// hosts, or a host's memory that its ranks share. Take an id for it that nobody picks. A block
    /// counts for `endpoint` where it or one of its pools holds it, in all groups of whoever that
    /// is, and in the fastest tier of any. A query costs a further walk of the prompt for each endpoint
    /// with pools. Pools are no part of a snapshot: declare them again after restoring one.
    ///
    /// ```
    /// use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Tier};
    /// use kvsched_index::{Holder, Index, Repeat};
    ///
    /// let mut index = Index::builder().build()?;
    /// let (worker, pool) = (EndpointId(0), EndpointId(1));
    /// index.set_pools(worker, &[pool])?;
    /// let prompt: Vec<_> = (0..10).map(BlockHash).collect();
    /// index.store(Holder::device(worker), None, &prompt[..4], Repeat::Known)?;
    /// let shared = Holder { tier: Tier::SHARED, ..Holder::device(pool) };
    /// index.store(shared, None, &prompt, Repeat::Known)?;
    ///
    /// let mut matches = PrefixMatches::new();
    /// index.find_matches(&prompt, &mut matches);
    /// assert_eq!(matches.blocks(worker), 10);
    /// assert_eq!(matches.blocks_on(worker, Tier::SHARED), 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If an id is out of range, or the endpoint is among its pools.
    pub fn set_pools(
        &mut self,
        endpoint: EndpointId,
        pools: &[EndpointId],
    ) -> Result<(), PoolError> {
        self.write(|w| w.set_pools(endpoint, pools))
    }

    /// Tokens that one hash of a query stands for.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.view(|view| view.own.unit)
    }

    /// Makes room for so many blocks in all.
    pub(crate) fn expect(&mut self, blocks: usize) {
        self.write(|w| w.expect(blocks));
    }

    /// Panics if the structure contradicts itself. For tests and fuzzing: it looks at everything.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.view(validate);
    }

    /// How much there is.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        self.view(|view| view.stats())
    }

    /// The longest usable prefix of a prompt on every endpoint, split by tier.
    ///
    /// `hashes` are the prompt's block hashes from the first. An engine computes at least one
    /// token itself, so leave out a block that ends with the prompt. `out` is overwritten.
    pub fn find_matches(&self, hashes: &[BlockHash], out: &mut PrefixMatches) {
        let (((map, _), _), pin) = self.state.read();
        map.find_matches(hashes, None, out, &pin);
    }

    /// As [`Index::find_matches`], for some endpoints only; the others count as holding nothing.
    pub fn find_matches_among(
        &self,
        hashes: &[BlockHash],
        candidates: &[EndpointId],
        out: &mut PrefixMatches,
    ) {
        let (((map, _), _), pin) = self.state.read();
        map.find_matches(hashes, Some(candidates), out, &pin);
    }
}
