use crate::index::parts;
use crate::matcher::Residency;
use crate::shared::Concurrent;
use crate::store::Stored;
use crate::turns::{self, Turns};
use crate::validate::validate;
use crate::view::View;
use crate::write::Write;
use crate::writers::{Lane, Lanes, Writers};
use crate::{
    GroupError, GroupRule, Holder, IndexBuilder, IndexStats, PoolError, Repeat, StoreError,
    StoreOutcome,
};
use kvsched_core::{BlockHash, EndpointId, EngineHash, Group, PrefixMatches};

/// As many blocks at least a writer tidies up after as if it had written them, once all others wait for it:
/// some 8 µs of work for 1 µs of taking the locks.
const TIDIED: usize = 128;

/// An [`Index`](crate::Index) that many threads ask while others write.
///
/// The same structure behind `&self`. Queries take no lock, allocate nothing, and are never
/// blocked: not by other queries and not by a writer, even one that was suspended in the middle of
/// its work.
///
/// # Writers
///
/// Writers for different endpoints work in parallel: what they change of a run of blocks or of
/// a 256th of the directory is locked for that moment only, and one that finds it taken spins for a few
/// microseconds before it sleeps. Those for one endpoint take turns, and so do some for others (endpoints
/// whose ids are equal modulo 64). For a moment alone, with all others waiting, works a writer that
///
/// * names an endpoint or a group for the first time, gives a group a rule, declares pools or removes an endpoint;
/// * stores blocks whose parent is unknown, or for which others wait;
/// * comes after a clear, and forgets some of what that has left;
/// * finds the byte budget exceeded;
///
/// and so do [`stats`](Self::stats) and [`write_snapshot`](Self::write_snapshot).
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
    state: Concurrent<(Residency, Writers), Lane>,
}

impl SharedIndex {
    pub(crate) fn new(settings: &IndexBuilder) -> Self {
        let (map, mut own) = parts(settings, true);
        let lanes = Turns::new(1 << own.lane_bits);
        own.add_fixed(lanes.bytes() + Concurrent::<(Residency, Writers), Lane>::fixed_bytes());
        Self { state: Concurrent::new((map, own), lanes) }
    }

    /// Runs `f` in turn with other writers for this endpoint, and beside those for others. What it leaves to
    /// one alone is done then.
    fn write<R>(
        &self,
        endpoint: EndpointId,
        blocks: usize,
        f: impl FnOnce(&mut Write<'_>) -> R,
    ) -> R {
        let (done, is_untidy) = self.state.write(endpoint.index(), |parts, lane, pin| {
            let done = f(&mut Write::beside(parts, lane, pin));
            parts.1.book(pin);
            (done, parts.1.is_untidy())
        });
        if is_untidy {
            self.write_alone(|w| w.tidy(blocks.max(TIDIED)));
        }
        done
    }

    /// Runs `f` when there is no other writer.
    fn write_alone<R>(&self, f: impl FnOnce(&mut Write<'_>) -> R) -> R {
        let (done, is_short) = self.state.write_alone(|parts, lanes, pin| {
            let mut write = Write::alone(parts, Lanes::All(lanes), pin);
            let done = f(&mut write);
            parts.1.book(pin);
            (done, write.is_short)
        });
        if is_short {
            self.state.catch_up();
        }
        done
    }

    /// Shows everything, when there is no writer.
    pub(crate) fn view<R>(&self, f: impl FnOnce(View<'_>) -> R) -> R {
        self.state.write_alone(|(map, own), lanes, pin| {
            let lanes: Vec<_> = lanes.iter().map(|lane| &**lane).collect();
            f(View { map, own, lanes: &lanes, pin })
        })
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
        let store =
            |w: &mut Write<'_>, parent, done| w.store(holder, parent, &hashes[done..], repeat);
        self.store_with(holder.endpoint, parent, hashes, store)
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
        self.store_with(holder.endpoint, parent, hashes, |w, parent, done| {
            let engine = engine.get(done..).unwrap_or_default();
            w.store_mapped(holder, parent, engine, &hashes[done..], repeat)
        })
    }

    /// Stores `hashes`, from the one with the number it is given on, behind `parent`: beside other writers,
    /// and what is left alone.
    fn store_with(
        &self,
        endpoint: EndpointId,
        parent: Option<BlockHash>,
        hashes: &[BlockHash],
        store: impl Fn(&mut Write<'_>, Option<BlockHash>, usize) -> Result<Stored, StoreError>,
    ) -> Result<StoreOutcome, StoreError> {
        let stored = self.write(endpoint, hashes.len(), |w| store(w, parent, 0))?;
        let Some(done) = stored.rest else { return Ok(stored.outcome) };
        let parent = done.checked_sub(1).map_or(parent, |last| Some(hashes[last]));
        let rest = self.write_alone(|w| store(w, parent, done))?;
        Ok(StoreOutcome {
            stored: stored.outcome.stored + rest.outcome.stored,
            repeated: stored.outcome.repeated + rest.outcome.repeated,
            pending: rest.outcome.pending,
        })
    }

    /// As [`Index::remove`](crate::Index::remove).
    pub fn remove(&self, holder: Holder, hashes: &[BlockHash]) -> usize {
        self.write(holder.endpoint, hashes.len(), |w| w.remove(holder, hashes))
    }

    /// As [`Index::clear`](crate::Index::clear).
    pub fn clear(&self, endpoint: EndpointId) {
        self.write_alone(|w| w.clear(endpoint));
    }

    /// As [`Index::reclaim`](crate::Index::reclaim).
    pub fn reclaim(&self) {
        self.write_alone(|w| w.reclaim());
    }

    /// As [`Index::remove_endpoint`](crate::Index::remove_endpoint).
    pub fn remove_endpoint(&self, endpoint: EndpointId) {
        self.write_alone(|w| w.remove_endpoint(endpoint));
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
        self.write_alone(|w| w.set_group(endpoint, group, rule, block_size))
    }

    /// As [`Index::set_pools`](crate::Index::set_pools).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_pools(&self, endpoint: EndpointId, pools: &[EndpointId]) -> Result<(), PoolError> {
        self.write_alone(|w| w.set_pools(endpoint, pools))
    }

    /// As [`Index::find_matches`](crate::Index::find_matches), without a lock.
    pub fn find_matches(&self, hashes: &[BlockHash], out: &mut PrefixMatches) {
        let ((map, _), pin) = self.state.read();
        map.find_matches(hashes, None, out, &pin);
    }

    /// As [`Index::find_matches_among`](crate::Index::find_matches_among), without a lock.
    pub fn find_matches_among(
        &self,
        hashes: &[BlockHash],
        candidates: &[EndpointId],
        out: &mut PrefixMatches,
    ) {
        let ((map, _), pin) = self.state.read();
        map.find_matches(hashes, Some(candidates), out, &pin);
    }

    /// As [`Index::holds`](crate::Index::holds). Waits for this endpoint's writer of the moment.
    #[must_use]
    pub fn holds(&self, holder: Holder, hash: BlockHash) -> bool {
        self.state.write(holder.endpoint.index(), |(map, own), lane, pin| {
            View { map, own, lanes: &[lane], pin }.holds(holder, hash)
        })
    }

    /// As [`Index::resolve`](crate::Index::resolve). Waits for whoever writes names at the moment.
    #[must_use]
    pub fn resolve(&self, engine: EngineHash) -> Option<BlockHash> {
        let ((map, own), pin) = self.state.read();
        turns::take(&own.names).get(engine, map, &pin)
    }

    /// As [`Index::stats`](crate::Index::stats). Waits for the writers of the moment.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        self.view(|view| view.stats())
    }

    /// As [`Index::block_size`](crate::Index::block_size).
    #[must_use]
    pub fn block_size(&self) -> u32 {
        let ((_, own), _) = self.state.read();
        own.unit
    }

    /// Makes room for so many blocks in all.
    pub(crate) fn expect(&self, blocks: usize) {
        self.write_alone(|w| w.expect(blocks));
    }

    /// Panics if the structure contradicts itself. For tests: it looks at everything.
    #[doc(hidden)]
    pub fn validate(&self) {
        self.view(validate);
    }
}
