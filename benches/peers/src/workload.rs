//! What every index is asked to do: made once, the same for all.

use kvsched_core::{BlockHash, Rng};
use kvsched_testdata::trace::{self, TraceRequest};
use std::collections::{HashMap, VecDeque};

/// One change of one endpoint's cache.
#[derive(Clone, Debug)]
pub enum Op {
    /// New blocks, after `parent`.
    Store { endpoint: u16, parent: Option<u64>, hashes: Vec<u64>, decode: bool },
    /// Blocks that are gone.
    Remove { endpoint: u16, hashes: Vec<u64> },
    /// Everything is gone.
    Clear { endpoint: u16 },
}

impl Op {
    /// Blocks it names.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Store { hashes, .. } | Self::Remove { hashes, .. } => hashes.len(),
            Self::Clear { .. } => 0,
        }
    }
}

/// Changes that fill an index, and prompts to ask for afterwards.
pub struct Fill {
    pub endpoints: usize,
    pub ops: Vec<Op>,
    pub queries: Vec<Vec<u64>>,
}

/// A block's hash, from the one before it and a number.
pub fn chain(parent: u64, n: u64) -> u64 {
    let mixed =
        (parent ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ mixed >> 32
}

/// The hash of the block alone, as the peers want it beside the chained one.
pub fn content(hash: u64) -> u64 {
    let mixed = hash.wrapping_mul(0xa24b_aed4_963e_e407);
    mixed ^ mixed >> 29
}

pub fn blocks(hashes: &[u64]) -> Vec<BlockHash> {
    hashes.iter().map(|&h| BlockHash(h)).collect()
}

/// Prompts of `length` blocks, the first 32 the same everywhere, the rest on one endpoint only:
/// `entries` (block, endpoint) pairs in all.
pub fn private_chains(endpoints: usize, length: usize, entries: usize, queries: usize) -> Fill {
    let shared: Vec<u64> = (0..32)
        .scan(7, |h, i| {
            *h = chain(*h, i);
            Some(*h)
        })
        .collect();
    let each = (entries / endpoints / (length - 32)).max(1);
    let mut prompts = Vec::new();
    for i in 0..each {
        for e in 0..endpoints {
            let mut prompt = shared.clone();
            while prompt.len() < length {
                let n = ((i * endpoints + e) * length + prompt.len()) as u64;
                prompt.push(chain(prompt[prompt.len() - 1], n));
            }
            prompts.push((e as u16, prompt));
        }
    }
    let mut ops: Vec<Op> = Vec::new();
    for (n, (endpoint, prompt)) in prompts.iter().enumerate() {
        let endpoint = *endpoint;
        // An engine announces what it did not hold before.
        let (parent, hashes) = match n < endpoints {
            true => (None, prompt.clone()),
            false => (Some(prompt[31]), prompt[32..].to_vec()),
        };
        ops.push(Op::Store { endpoint, parent, hashes, decode: false });
    }
    let mut rng = Rng::new(3);
    let queries = (0..queries).map(|_| prompts[rng.below(prompts.len())].1.clone()).collect();
    Fill { endpoints, ops, queries }
}

/// Prompts of `length` blocks that others leave at `forks` places, evenly spread: `entries` blocks in
/// all. The queries are the prompts that go all the way.
pub fn forked(forks: usize, length: usize, entries: usize, queries: usize) -> Fill {
    let families = (entries / (length * (forks + 1))).max(8);
    let (mut ops, mut paths) = (Vec::new(), Vec::new());
    for family in 0..families {
        let mut path: Vec<u64> = Vec::new();
        for fork in 0..=forks {
            let mut prompt = path.clone();
            while prompt.len() < length {
                let n = ((family * (forks + 1) + fork) * length + prompt.len()) as u64;
                prompt.push(chain(prompt.last().copied().unwrap_or(1), n));
            }
            let known = path.len();
            path = prompt[..length * (fork + 1) / (forks + 1)].to_vec();
            let endpoint = (family % 8) as u16;
            let parent = known.checked_sub(1).map(|i| prompt[i]);
            let hashes = prompt[known..].to_vec();
            ops.push(Op::Store { endpoint, parent, hashes, decode: false });
        }
        paths.push(path);
    }
    let mut rng = Rng::new(4);
    let queries = (0..queries).map(|_| paths[rng.below(paths.len())].clone()).collect();
    Fill { endpoints: 8, ops, queries }
}

/// The shipped trace on engines of `capacity` blocks that evict the least recently used, tails first.
pub fn trace(endpoints: usize, capacity: usize, requests: usize) -> Fill {
    let requests: Vec<TraceRequest> = match trace::read(&trace::mooncake_conversation()) {
        Ok(all) => all.into_iter().take(requests).collect(),
        Err(e) => panic!("{e}"),
    };
    let mut engines: Vec<Engine> = (0..endpoints).map(|_| Engine::new(capacity)).collect();
    let (mut ops, mut queries) = (Vec::new(), Vec::new());
    for (n, request) in requests.iter().enumerate() {
        let mut prompt = Vec::new();
        for &id in &request.hash_ids {
            // A trace block is 512 tokens, ours 16.
            for part in 0..32 {
                prompt.push(chain(prompt.last().copied().unwrap_or(1), id * 32 + part));
            }
        }
        prompt.truncate((request.input_length / 16) as usize);
        if prompt.is_empty() {
            continue;
        }
        // Conversations stay where they began, mostly.
        let endpoint = (request.hash_ids[request.hash_ids.len().min(2) - 1] as usize
            + usize::from(n % 10 == 0))
            % endpoints;
        queries.push(prompt.clone());
        engines[endpoint].serve(endpoint as u16, &prompt, request.output_length / 16, n, &mut ops);
    }
    Fill { endpoints, ops, queries }
}

/// A cache of blocks that forgets the least recently used, of a prompt the last first.
struct Engine {
    capacity: usize,
    held: HashMap<u64, u32>,
    order: VecDeque<(u64, u32)>,
    clock: u32,
}

impl Engine {
    fn new(capacity: usize) -> Self {
        Self { capacity, held: HashMap::new(), order: VecDeque::new(), clock: 0 }
    }

    fn touch(&mut self, hashes: &[u64]) {
        self.clock += 1;
        for &hash in hashes.iter().rev() {
            self.held.insert(hash, self.clock);
            self.order.push_back((hash, self.clock));
        }
    }

    fn serve(&mut self, endpoint: u16, prompt: &[u64], output: u32, n: usize, ops: &mut Vec<Op>) {
        let hit = prompt.iter().take_while(|h| self.held.contains_key(h)).count();
        let mut all = prompt.to_vec();
        let before = |i: usize, all: &[u64]| i.checked_sub(1).map(|i: usize| all[i]);
        if hit < prompt.len() {
            let hashes = prompt[hit..].to_vec();
            let parent = before(hit, &all);
            ops.push(Op::Store { endpoint, parent, hashes, decode: false });
        }
        for i in 0..output {
            let parent = all[all.len() - 1];
            let hash = chain(parent, (n as u64) << 32 | u64::from(i));
            let parent = Some(parent);
            ops.push(Op::Store { endpoint, parent, hashes: vec![hash], decode: true });
            all.push(hash);
        }
        self.touch(&all);
        let mut gone = Vec::new();
        while self.held.len() > self.capacity {
            let Some((hash, clock)) = self.order.pop_front() else { break };
            if self.held.get(&hash) == Some(&clock) {
                self.held.remove(&hash);
                gone.push(hash);
            }
        }
        if !gone.is_empty() {
            ops.push(Op::Remove { endpoint, hashes: gone });
        }
    }
}
