use crate::index::parts;
use crate::matcher::Residency;
use crate::shared::{Concurrent, Pin};
use crate::validate::validate;
use crate::write::{Write, Writer};
use crate::{
    GroupError, GroupRule, Holder, IndexBuilder, IndexStats, PoolError, Repeat, StoreError,
    StoreOutcome,
};
use kvsched_core::{BlockHash, EndpointId, EngineHash, Group, PrefixMatches};

/// An [`Index`](crate::Index) that many threads ask while others write.
///
/// The same structure behind `&self`. Queries take no lock, allocate nothing, and are never
/// blocked: not by other queries and not by a writer, even one that was suspended in the middle of
/// its work.
///
/// Writers take turns, whichever endpoint they write for: before its turn each asks for the memory that it
/// will look at. Two threads together write about as many blocks a second
/// as one (13 to 18 million, measured in `benches/peers`); one that waits spins for a few microseconds
/// before it sleeps. Decode and hash events before calling, where threads do not wait for each other.
///
/// # Consistency
///
/// What a query may see while a write is under way:
///
/// * Per endpoint and run of blocks, the state before or after each step of the write, never one
///   between. A run is what was stored together and holds at most 4,096 blocks. A store takes one
///   step a run. So does a removal of the last blocks of a run that names them backwards, as
///   engines do; any other removal takes a step a block. A clear takes one step a run.
/// * The runs of a prompt are looked at one after another, from the first. A block that was held
///   during the whole query is found if all before it were held during the whole query. A
///   block is only ever reported if it was held at some moment of the query.
/// * So a match of several runs that are written *during* the query may be of blocks that were
///   never held at the same time: as if the query had been asked a moment earlier for the
///   first run than for the last.
/// * The split by tier is read after the match. Where a write comes between, it may be that of the
///   later state, and its parts may not add up to the match.
/// * A query that begins after a write returned sees all of that write.
///
/// ```
/// use kvsched_core::{BlockHash, EndpointId, PrefixMatches};
/// use kvsched_index::{Holder, Index, Repeat};
///
/// let index = Index::builder().build_shared()?;
/// let prompt: Vec<_> = (0..100).map(BlockHash).collect();
/// std::thread::scope(|s| {
///     s.spawn(|| index.store(Holder::device(EndpointId(0)), None, &prompt, Repeat::Known));
///     s.spawn(|| {
///         let mut matches = PrefixMatches::new();
///         index.find_matches(&prompt, &mut matches);
///         assert!(matches!(matches.blocks(EndpointId(0)), 0 | 100)); // before or after
///     });
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SharedIndex {
    pub(crate) state: Concurrent<Residency, Writer>,
}

impl SharedIndex {
    pub(crate) fn new(settings: &IndexBuilder) -> Self {
        let (map, mut own) = parts(settings);
        let bytes = Concurrent::<Residency, Writer>::fixed_bytes();
        own.bytes += bytes;
        own.fixed_bytes += bytes;
        Self { state: Concurrent::new(map, own) }
    }

    fn write<R>(&self, f: impl FnOnce(&mut Write<'_>) -> R) -> R {
        self.write_blocks(None, &[], f)
    }

    /// As `write`, for a change of these blocks.
    fn write_blocks<R>(
        &self,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        f: impl FnOnce(&mut Write<'_>) -> R,
    ) -> R {
        let prepare = |map: &Residency, pin: &Pin| map.look_ahead(parent, hashes, pin);
        let (done, is_short) = self.state.write(prepare, |map, own, pin| {
            let done = f(&mut Write { map, own, pin });
            own.bytes = own.bytes.wrapping_add_signed(pin.take_bytes());
            (done, std::mem::take(&mut own.is_short))
        });
        if is_short {
            self.state.catch_up();
        }
        done
    }

    /// As [`Index::store`](crate::Index::store).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn store(
        &self,
        holder: Holder,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        self.write_blocks(parent, hashes, |w| w.store(holder, parent, hashes, repeat))
    }

    /// As [`Index::store_mapped`](crate::Index::store_mapped).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn store_mapped(
        &self,
        holder: Holder,
        parent: Option<BlockHash>,
        engine: &[EngineHash],
        hashes: &[BlockHash],
        repeat: Repeat,
    ) -> Result<StoreOutcome, StoreError> {
        self.write_blocks(parent, hashes, |w| {
            w.store_mapped(holder, parent, engine, hashes, repeat)
        })
    }

    /// As [`Index::remove`](crate::Index::remove).
    pub fn remove(&self, holder: Holder, hashes: &[BlockHash]) -> usize {
        self.write_blocks(None, hashes, |w| w.remove(holder, hashes))
    }

    /// As [`Index::clear`](crate::Index::clear).
    pub fn clear(&self, endpoint: EndpointId) {
        self.write(|w| w.clear(endpoint));
    }

    /// As [`Index::reclaim`](crate::Index::reclaim).
    pub fn reclaim(&self) {
        self.write(|w| w.reclaim());
    }

    /// As [`Index::remove_endpoint`](crate::Index::remove_endpoint).
    pub fn remove_endpoint(&self, endpoint: EndpointId) {
        self.write(|w| w.remove_endpoint(endpoint));
    }

    /// As [`Index::set_group`](crate::Index::set_group).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_group(
        &self,
        endpoint: EndpointId,
        group: Group,
        rule: GroupRule,
        block_size: u32,
    ) -> Result<(), GroupError> {
        self.write(|w| w.set_group(endpoint, group, rule, block_size))
    }

    /// As [`Index::set_pools`](crate::Index::set_pools).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_pools(&self, endpoint: EndpointId, pools: &[EndpointId]) -> Result<(), PoolError> {
        self.write(|w| w.set_pools(endpoint, pools))
    }

    /// As [`Index::find_matches`](crate::Index::find_matches), without a lock.
    pub fn find_matches(&self, hashes: &[BlockHash], out: &mut PrefixMatches) {
        let (map, pin) = self.state.read();
        map.find_matches(hashes, None, out, &pin);
    }

    /// As [`Index::find_matches_among`](crate::Index::find_matches_among), without a lock.
    pub fn find_matches_among(
        &self,
        hashes: &[BlockHash],
        candidates: &[EndpointId],
        out: &mut PrefixMatches,
    ) {
        let (map, pin) = self.state.read();
        map.find_matches(hashes, Some(candidates), out, &pin);
    }

    /// As [`Index::holds`](crate::Index::holds). Waits for the writer of the moment.
    #[must_use]
    pub fn holds(&self, holder: Holder, hash: BlockHash) -> bool {
        self.write(|w| w.own.holds(w.map, holder, hash, w.pin))
    }

    /// As [`Index::resolve`](crate::Index::resolve). Waits for the writer of the moment.
    #[must_use]
    pub fn resolve(&self, engine: EngineHash) -> Option<BlockHash> {
        self.write(|w| w.own.names.get(engine, w.map, w.pin))
    }

    /// As [`Index::stats`](crate::Index::stats). Waits for the writer of the moment.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        self.write(|w| w.own.stats(w.map))
    }

    /// As [`Index::block_size`](crate::Index::block_size). Waits for the writer of the moment.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.write(|w| w.own.unit)
    }

    /// Makes room for so many blocks in all.
    pub(crate) fn expect(&self, blocks: usize) {
        self.write(|w| w.expect(blocks));
    }

    /// Panics if the structure contradicts itself. For tests: it looks at everything.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.write(|w| validate(w.map, w.own, w.pin));
    }
}
