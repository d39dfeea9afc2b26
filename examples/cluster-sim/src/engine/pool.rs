//! The paged KV cache of one engine: a fixed number of blocks, reference counts, and the
//! engine's own order of eviction.
//!
//! The rules are vLLM's: a block without references stays where it is, keeps its hash and may
//! be hit again, until the free list reaches it. The free list is a queue: blocks enter it at
//! the tail when their last reference goes (a finished request's last block first, so that
//! prefixes outlive what follows them) and are taken from the head.

use rustc_hash::FxHashMap;

/// A position in the pool.
pub type BlockId = u32;

/// The engine's name of a full block and of everything before it.
pub type KvHash = u64;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Block {
    hash: Option<KvHash>,
    references: u32,
    /// Neighbours in the free list; meaningless while referenced.
    older: BlockId,
    newer: BlockId,
    /// The next copy of the same hash.
    copy: BlockId,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct BlockPool {
    blocks: Vec<Block>,
    oldest: BlockId,
    newest: BlockId,
    free: u32,
    /// The first block of each hash. Equal prompts of one batch leave several.
    cached: FxHashMap<KvHash, BlockId>,
}

impl BlockPool {
    /// A pool of `blocks` empty blocks.
    pub fn new(blocks: u32) -> Self {
        let mut pool = Self {
            blocks: vec![
                Block { hash: None, references: 0, older: NONE, newer: NONE, copy: NONE };
                blocks as usize
            ],
            oldest: NONE,
            newest: NONE,
            free: 0,
            cached: FxHashMap::default(),
        };
        (0..blocks).for_each(|b| pool.push_free(b));
        pool
    }

    /// Blocks in the pool.
    pub fn capacity(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Blocks nobody references, whether or not they hold something reusable.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// Share of blocks that somebody references.
    pub fn usage(&self) -> f64 {
        1.0 - f64::from(self.free) / f64::from(self.capacity().max(1))
    }

    /// A block that holds `hash`.
    pub fn lookup(&self, hash: KvHash) -> Option<BlockId> {
        self.cached.get(&hash).copied()
    }

    /// Whether nobody references `block`.
    pub fn is_free(&self, block: BlockId) -> bool {
        self.blocks[block as usize].references == 0
    }

    /// Adds a reference to a cached block.
    pub fn reference(&mut self, block: BlockId) {
        if self.is_free(block) {
            self.unlink(block);
        }
        self.blocks[block as usize].references += 1;
    }

    /// Takes the free block that was unused longest, with one reference; the hash it held, if
    /// that was the last copy or not, is returned with it. `None` when all are referenced.
    pub fn take(&mut self) -> Option<(BlockId, Option<KvHash>)> {
        let block = self.oldest;
        if block == NONE {
            return None;
        }
        self.unlink(block);
        self.blocks[block as usize].references = 1;
        let evicted = self.blocks[block as usize].hash.take();
        if let Some(hash) = evicted {
            self.forget(hash, block);
        }
        Some((block, evicted))
    }

    /// Names the content of a referenced block that has become full.
    pub fn fill(&mut self, block: BlockId, hash: KvHash) {
        debug_assert!(!self.is_free(block) && self.blocks[block as usize].hash.is_none());
        self.blocks[block as usize].hash = Some(hash);
        match self.cached.get(&hash).copied() {
            None => {
                self.cached.insert(hash, block);
            }
            Some(first) => {
                self.blocks[block as usize].copy = self.blocks[first as usize].copy;
                self.blocks[first as usize].copy = block;
            }
        }
    }

    /// Drops one reference of each of `blocks`, which are a request's in prompt order: the
    /// last is the first to be evicted.
    pub fn release(&mut self, blocks: &[BlockId]) {
        for &block in blocks.iter().rev() {
            let b = &mut self.blocks[block as usize];
            debug_assert!(b.references > 0, "released twice");
            b.references -= 1;
            if b.references == 0 {
                self.push_free(block);
            }
        }
    }

    fn push_free(&mut self, block: BlockId) {
        let newest = self.newest;
        let b = &mut self.blocks[block as usize];
        (b.older, b.newer) = (newest, NONE);
        match newest {
            NONE => self.oldest = block,
            n => self.blocks[n as usize].newer = block,
        }
        self.newest = block;
        self.free += 1;
    }

    fn unlink(&mut self, block: BlockId) {
        let Block { older, newer, .. } = self.blocks[block as usize];
        match older {
            NONE => self.oldest = newer,
            o => self.blocks[o as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            n => self.blocks[n as usize].older = older,
        }
        self.free -= 1;
    }

    /// Takes `block` out of the copies of `hash`.
    fn forget(&mut self, hash: KvHash, block: BlockId) {
        let next = std::mem::replace(&mut self.blocks[block as usize].copy, NONE);
        let Some(&first) = self.cached.get(&hash) else { return };
        if first == block {
            match next {
                NONE => self.cached.remove(&hash),
                next => self.cached.insert(hash, next),
            };
            return;
        }
        let mut at = first;
        while self.blocks[at as usize].copy != block {
            at = self.blocks[at as usize].copy;
            if at == NONE {
                return;
            }
        }
        self.blocks[at as usize].copy = next;
    }

    /// Everything that must hold at all times, or what does not.
    pub fn validate(&self) -> Result<(), String> {
        let (mut at, mut before, mut seen) = (self.oldest, NONE, 0);
        while at != NONE {
            let b = &self.blocks[at as usize];
            if b.references != 0 {
                return Err(format!("block {at} is in the free list with {} uses", b.references));
            }
            if b.older != before {
                return Err(format!("the free list is torn at block {at}"));
            }
            (before, at) = (at, b.newer);
            seen += 1;
            if seen > self.capacity() {
                return Err("the free list is a ring".to_owned());
            }
        }
        let unused = self.blocks.iter().filter(|b| b.references == 0).count() as u32;
        if (seen, seen) != (self.free, unused) {
            return Err(format!(
                "{seen} blocks listed free, {} counted, {unused} unused",
                self.free
            ));
        }
        let mut reachable = 0;
        for (&hash, &first) in &self.cached {
            let mut at = first;
            while at != NONE {
                let b = &self.blocks[at as usize];
                if b.hash != Some(hash) {
                    return Err(format!("block {at} is filed under {hash:x}, holds {:?}", b.hash));
                }
                (at, reachable) = (b.copy, reachable + 1);
            }
        }
        let named = self.blocks.iter().filter(|b| b.hash.is_some()).count();
        if named != reachable {
            return Err(format!("{named} blocks hold a hash, {reachable} can be found"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// The same rules with lists and scans.
    #[derive(Default)]
    struct Naive {
        hash: Vec<Option<KvHash>>,
        references: Vec<u32>,
        free: VecDeque<BlockId>,
    }

    impl Naive {
        fn holders(&self, hash: KvHash) -> Vec<BlockId> {
            (0..self.hash.len() as u32).filter(|&b| self.hash[b as usize] == Some(hash)).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Take,
        Fill(usize, u64),
        Hit(u64),
        Release(Vec<usize>),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Take),
            4 => (any::<usize>(), 0u64..12).prop_map(|(i, h)| Op::Fill(i, h)),
            3 => (0u64..12).prop_map(Op::Hit),
            3 => proptest::collection::vec(any::<usize>(), 1..5).prop_map(Op::Release),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_lists_and_scans(size in 1u32..9, ops in proptest::collection::vec(op(), 1..120)) {
            let mut pool = BlockPool::new(size);
            let mut naive = Naive {
                hash: vec![None; size as usize],
                references: vec![0; size as usize],
                free: (0..size).collect(),
            };
            // One entry a reference that somebody holds.
            let mut held: Vec<BlockId> = Vec::new();
            for op in ops {
                match op {
                    Op::Take => {
                        let expected = naive.free.pop_front().map(|b| {
                            naive.references[b as usize] = 1;
                            (b, naive.hash[b as usize].take())
                        });
                        prop_assert_eq!(pool.take(), expected);
                        held.extend(expected.map(|(b, _)| b));
                    }
                    Op::Fill(i, hash) => {
                        let Some(&b) = held.get(i % held.len().max(1)) else { continue };
                        if naive.hash[b as usize].is_some() { continue }
                        naive.hash[b as usize] = Some(hash);
                        pool.fill(b, hash);
                    }
                    Op::Hit(hash) => {
                        let holders = naive.holders(hash);
                        let found = pool.lookup(hash);
                        prop_assert_eq!(found.is_some(), !holders.is_empty());
                        let Some(b) = found else { continue };
                        prop_assert!(holders.contains(&b));
                        prop_assert_eq!(pool.is_free(b), naive.references[b as usize] == 0);
                        pool.reference(b);
                        naive.free.retain(|&f| f != b);
                        naive.references[b as usize] += 1;
                        held.push(b);
                    }
                    Op::Release(which) => {
                        let mut group = Vec::new();
                        for i in which {
                            if !held.is_empty() {
                                group.push(held.swap_remove(i % held.len()));
                            }
                        }
                        for &b in group.iter().rev() {
                            naive.references[b as usize] -= 1;
                            if naive.references[b as usize] == 0 { naive.free.push_back(b); }
                        }
                        pool.release(&group);
                    }
                }
                prop_assert_eq!(pool.free() as usize, naive.free.len());
                prop_assert_eq!(pool.validate(), Ok(()));
            }
        }
    }
}
