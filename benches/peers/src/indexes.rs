//! The indexes, behind one face. What each is handed is prepared before the clock starts.

use crate::workload::{Op, blocks, content};
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, RouterEvent,
};
use dynamo_kv_router::{ConcurrentRadixTreeCompressed, RadixTree, SyncIndexer, ThreadPoolIndexer};
use kv_index::{ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock};
use kvsched_core::{BlockHash, EndpointId, PrefixMatches};
use kvsched_index::naive::Naive;
use kvsched_index::{Holder, Index, Repeat, SharedIndex};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// An index under measurement.
pub trait Contender {
    const NAME: &'static str;
    type Event;
    type Query: Clone;

    fn new(endpoints: usize) -> Self;
    fn event(op: &Op) -> Self::Event;
    fn query(hashes: &[u64]) -> Self::Query;
    fn apply(&mut self, event: Self::Event);
    /// Waits until what was applied has been done, where that is done elsewhere.
    fn settle(&mut self) {}
    /// The longest match, so that nothing is optimised away.
    fn ask(&mut self, query: &Self::Query) -> u32;
}

/// An operation as kvsched takes it.
pub enum OurEvent {
    Store(Holder, Option<BlockHash>, Vec<BlockHash>),
    Remove(Holder, Vec<BlockHash>),
    Clear(EndpointId),
}

impl From<&Op> for OurEvent {
    fn from(op: &Op) -> Self {
        let holder = |&e: &u16| Holder::device(EndpointId(e));
        match op {
            Op::Store { endpoint, parent, hashes, .. } => {
                Self::Store(holder(endpoint), parent.map(BlockHash), blocks(hashes))
            }
            Op::Remove { endpoint, hashes } => Self::Remove(holder(endpoint), blocks(hashes)),
            Op::Clear { endpoint } => Self::Clear(EndpointId(*endpoint)),
        }
    }
}

pub struct Ours {
    pub index: Index,
    matches: PrefixMatches,
}

impl Contender for Ours {
    const NAME: &'static str = "kvsched";
    type Event = OurEvent;
    type Query = Vec<BlockHash>;

    fn new(_: usize) -> Self {
        let index = Index::builder().build().expect("the defaults");
        Self { index, matches: PrefixMatches::new() }
    }

    fn event(op: &Op) -> OurEvent {
        op.into()
    }

    fn query(hashes: &[u64]) -> Self::Query {
        blocks(hashes)
    }

    fn apply(&mut self, event: OurEvent) {
        match event {
            OurEvent::Store(holder, parent, hashes) => {
                self.index.store(holder, parent, &hashes, Repeat::Known).expect("a store");
            }
            OurEvent::Remove(holder, hashes) => {
                self.index.remove(holder, &hashes);
            }
            OurEvent::Clear(endpoint) => self.index.clear(endpoint),
        }
    }

    fn ask(&mut self, query: &Self::Query) -> u32 {
        self.index.find_matches(query, &mut self.matches);
        self.matches.as_slice()[0]
    }
}

pub struct OursShared {
    pub index: SharedIndex,
    matches: PrefixMatches,
}

impl Contender for OursShared {
    const NAME: &'static str = "kvsched (shared)";
    type Event = OurEvent;
    type Query = Vec<BlockHash>;

    fn new(_: usize) -> Self {
        let index = Index::builder().build_shared().expect("the defaults");
        Self { index, matches: PrefixMatches::new() }
    }

    fn event(op: &Op) -> OurEvent {
        op.into()
    }

    fn query(hashes: &[u64]) -> Self::Query {
        blocks(hashes)
    }

    fn apply(&mut self, event: OurEvent) {
        match event {
            OurEvent::Store(holder, parent, hashes) => {
                self.index.store(holder, parent, &hashes, Repeat::Known).expect("a store");
            }
            OurEvent::Remove(holder, hashes) => {
                self.index.remove(holder, &hashes);
            }
            OurEvent::Clear(endpoint) => self.index.clear(endpoint),
        }
    }

    fn ask(&mut self, query: &Self::Query) -> u32 {
        self.index.find_matches(query, &mut self.matches);
        self.matches.as_slice()[0]
    }
}

pub struct Scanned(Naive, PrefixMatches);

impl Contender for Scanned {
    const NAME: &'static str = "naive";
    type Event = OurEvent;
    type Query = Vec<BlockHash>;

    fn new(_: usize) -> Self {
        Self(Naive::new(16), PrefixMatches::new())
    }

    fn event(op: &Op) -> OurEvent {
        op.into()
    }

    fn query(hashes: &[u64]) -> Self::Query {
        blocks(hashes)
    }

    fn apply(&mut self, event: OurEvent) {
        match event {
            OurEvent::Store(holder, parent, hashes) => {
                self.0.store(holder, parent, &hashes, Repeat::Known);
            }
            OurEvent::Remove(holder, hashes) => {
                self.0.remove(holder, &hashes);
            }
            OurEvent::Clear(endpoint) => self.0.clear(endpoint),
        }
    }

    fn ask(&mut self, query: &Self::Query) -> u32 {
        self.0.find_matches(query, &mut self.1);
        self.1.as_slice()[0]
    }
}

/// kv-index's chains, by their fastest public path: `score_into` a dense buffer.
pub struct KvIndex {
    pub index: ChainIndex,
    workers: Vec<(u32, ChainBlockMap)>,
    scores: Vec<u32>,
}

pub enum KvEvent {
    Store(u16, Option<SequenceHash>, Vec<StoredBlock>),
    Remove(u16, Vec<SequenceHash>),
    Clear(u16),
}

impl Contender for KvIndex {
    const NAME: &'static str = "kv-index 2.0.0";
    type Event = KvEvent;
    type Query = Vec<u64>;

    fn new(endpoints: usize) -> Self {
        let index = ChainIndex::with_max_workers(endpoints.max(64));
        let workers = (0..endpoints)
            .map(|e| (index.intern_worker(&format!("w{e}")).expect("room"), ChainBlockMap::new()))
            .collect();
        Self { index, workers, scores: vec![0; endpoints] }
    }

    fn event(op: &Op) -> KvEvent {
        match op {
            Op::Store { endpoint, parent, hashes, .. } => KvEvent::Store(
                *endpoint,
                parent.map(SequenceHash),
                hashes
                    .iter()
                    .map(|&h| StoredBlock {
                        seq_hash: SequenceHash(h),
                        content_hash: ContentHash(content(h)),
                    })
                    .collect(),
            ),
            Op::Remove { endpoint, hashes } => {
                KvEvent::Remove(*endpoint, hashes.iter().map(|&h| SequenceHash(h)).collect())
            }
            Op::Clear { endpoint } => KvEvent::Clear(*endpoint),
        }
    }

    fn query(hashes: &[u64]) -> Self::Query {
        hashes.iter().map(|&h| content(h)).collect()
    }

    fn apply(&mut self, event: KvEvent) {
        match event {
            KvEvent::Store(e, parent, stored) => {
                let (worker, map) = &mut self.workers[usize::from(e)];
                // It refuses a store whose parent it does not know: the blocks stay unknown.
                let _ = self.index.apply_stored(*worker, &stored, parent, map);
            }
            KvEvent::Remove(e, hashes) => {
                let (worker, map) = &mut self.workers[usize::from(e)];
                self.index.apply_removed(*worker, &hashes, map);
            }
            KvEvent::Clear(e) => {
                let (worker, map) = &mut self.workers[usize::from(e)];
                self.index.apply_cleared(*worker, map);
            }
        }
    }

    fn ask(&mut self, query: &Self::Query) -> u32 {
        self.scores.fill(0);
        let scores = &mut self.scores;
        self.index.score_into(
            query,
            |&h| h,
            false,
            |worker, score| {
                if let Some(s) = scores.get_mut(worker as usize) {
                    *s = score;
                }
            },
        );
        self.scores[0]
    }
}

/// Dynamo's single-threaded tree, which takes events directly.
pub struct Dynamo(RadixTree);

impl Contender for Dynamo {
    const NAME: &'static str = "dynamo 1.6.1 RadixTree";
    type Event = RouterEvent;
    type Query = Vec<LocalBlockHash>;

    fn new(_: usize) -> Self {
        Self(RadixTree::new())
    }

    fn event(op: &Op) -> RouterEvent {
        router_event(op)
    }

    fn query(hashes: &[u64]) -> Self::Query {
        hashes.iter().map(|&h| LocalBlockHash(content(h))).collect()
    }

    fn apply(&mut self, event: RouterEvent) {
        let _ = self.0.apply_event(event);
    }

    fn ask(&mut self, query: &Self::Query) -> u32 {
        // It takes the hashes by value; the copy is its price.
        self.0.find_matches(query.clone(), false).scores.len() as u32
    }
}

/// Dynamo's compressed tree, which takes events on a thread of its own.
pub struct Crtc(pub ThreadPoolIndexer<ConcurrentRadixTreeCompressed>);

impl Crtc {
    pub fn with_threads(threads: usize) -> Self {
        Self(ThreadPoolIndexer::new(ConcurrentRadixTreeCompressed::new(), threads, 16))
    }
}

impl Contender for Crtc {
    const NAME: &'static str = "dynamo 1.6.1 CRTC";
    type Event = RouterEvent;
    type Query = Vec<LocalBlockHash>;

    fn new(_: usize) -> Self {
        Self::with_threads(1)
    }

    fn event(op: &Op) -> RouterEvent {
        router_event(op)
    }

    fn query(hashes: &[u64]) -> Self::Query {
        hashes.iter().map(|&h| LocalBlockHash(content(h))).collect()
    }

    fn apply(&mut self, event: RouterEvent) {
        let _ = self.0.enqueue_event(event);
    }

    fn settle(&mut self) {
        let _ = wait(self.0.flush_and_wait());
    }

    fn ask(&mut self, query: &Self::Query) -> u32 {
        self.0.backend().find_matches(query, false).scores.len() as u32
    }
}

/// Waits for what another thread does.
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn router_event(op: &Op) -> RouterEvent {
    match op {
        Op::Store { endpoint, parent, hashes, .. } => {
            let blocks = hashes.iter().map(|&h| (h, LocalBlockHash(content(h))));
            stored(*endpoint, *parent, blocks)
        }
        Op::Remove { endpoint, hashes } => {
            let block_hashes = hashes.iter().map(|&h| ExternalSequenceBlockHash(h)).collect();
            changed(*endpoint, KvCacheEventData::Removed(KvCacheRemoveData { block_hashes }))
        }
        Op::Clear { endpoint } => changed(*endpoint, KvCacheEventData::Cleared),
    }
}

/// Dynamo's event of blocks by both their names.
pub fn stored(
    endpoint: u16,
    parent: Option<u64>,
    blocks: impl Iterator<Item = (u64, LocalBlockHash)>,
) -> RouterEvent {
    let block = |(hash, tokens_hash)| KvCacheStoredBlockData {
        block_hash: ExternalSequenceBlockHash(hash),
        tokens_hash,
        mm_extra_info: None,
    };
    let data = KvCacheStoreData {
        parent_hash: parent.map(ExternalSequenceBlockHash),
        start_position: None,
        blocks: blocks.map(block).collect(),
    };
    changed(endpoint, KvCacheEventData::Stored(data))
}

fn changed(endpoint: u16, data: KvCacheEventData) -> RouterEvent {
    RouterEvent::new(u64::from(endpoint), KvCacheEvent { event_id: 0, data, dp_rank: 0 })
}
