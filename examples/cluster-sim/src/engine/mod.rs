//! One inference engine: continuous batching with chunked prefill over a paged KV cache.
//!
//! The scheduler is vLLM's: every step first continues the running sequences in the order
//! they were admitted, then admits waiting ones in the order they came, all out of one budget
//! of tokens. A running sequence that finds no free block preempts the one admitted last,
//! which starts over (its blocks may still be hit); a step that preempted admits nobody.
//! Prefix hits, evictions and announcements all follow from the finite pool of blocks.

mod adapters;
mod admit;
mod log;
mod packets;
mod pool;
mod sequence;
mod tiers;
mod timing;

pub use log::{CacheLog, Change};
pub use packets::Document;
pub use pool::{BlockId, BlockPool, KvHash};
pub use sequence::{Submission, prefix_hashes};
pub use tiers::{TierSpec, TierStore};
pub use timing::{StepTime, StepWork};

use crate::workload::token;
use adapters::Adapters;
use kvsched_core::Tier;
use packets::Packets;
use sequence::Sequence;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What an engine is.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSpec {
    /// Tokens a KV block.
    pub block_size: u32,
    /// KV blocks on the device.
    pub kv_blocks: u32,
    /// Tokens a step computes at most.
    pub max_batched_tokens: u32,
    /// Sequences running at once at most.
    pub max_running: u32,
    /// How long steps take.
    pub step_time: StepTime,
    /// Bytes of KV a token.
    pub kv_bytes_per_token: u64,
    /// Slower tiers, fastest first.
    pub tiers: Vec<TierSpec>,
    /// LoRA adapters on the device at once.
    pub lora_slots: u32,
    /// Seconds to load one; the step that does waits for it.
    pub lora_load: f64,
    /// Tokens of documents whose KV it keeps for any position of a prompt; 0 for an engine that
    /// cannot.
    pub packet_tokens: u64,
}

impl EngineSpec {
    /// One pod of the published benchmark: Qwen3-32B on two H100 with 307,328 tokens of KV.
    pub fn qwen3_32b_tp2_h100() -> Self {
        Self {
            block_size: 64,
            kv_blocks: 307_328 / 64,
            max_batched_tokens: 8_192,
            max_running: 1_024,
            step_time: StepTime::QWEN3_32B_TP2_H100,
            kv_bytes_per_token: 256 * 1024,
            tiers: Vec::new(),
            lora_slots: 0,
            lora_load: 0.5,
            packet_tokens: 0,
        }
    }

    /// The same model on two A100, which compute about a third as fast.
    pub fn qwen3_32b_tp2_a100() -> Self {
        Self { step_time: StepTime::QWEN3_32B_TP2_A100, ..Self::qwen3_32b_tp2_h100() }
    }

    /// Tokens of KV on the device.
    pub fn kv_tokens(&self) -> u64 {
        u64::from(self.kv_blocks) * u64::from(self.block_size)
    }
}

/// A request that can never run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It could not even run alone.
    #[error("request {request} needs {tokens} tokens of KV, the engine has {capacity}")]
    TooLong {
        /// Which.
        request: u32,
        /// Prompt and output together.
        tokens: u64,
        /// Tokens of KV of the engine.
        capacity: u64,
    },
    /// The engine serves no adapters.
    #[error("request {request} is for adapter {adapter}, the engine has no slots for any")]
    NoAdapters {
        /// Which.
        request: u32,
        /// What it is for.
        adapter: u32,
    },
}

/// What a finished step brought.
#[derive(Debug, Default)]
pub struct StepResult {
    /// Requests that got their first token, with their prompt tokens found in the cache.
    pub first_tokens: Vec<(u32, u32)>,
    /// Requests that are done.
    pub finished: Vec<u32>,
    /// Output tokens of all.
    pub output_tokens: u64,
    /// Prompt (and, after preemption, output) tokens computed.
    pub prefill_tokens: u64,
}

/// What the engine's metrics page shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Sequences waiting, preempted ones included.
    pub waiting: u32,
    /// Sequences running.
    pub running: u32,
    /// Share of KV blocks in use by sequences.
    pub kv_usage: f64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    spec: EngineSpec,
    pool: BlockPool,
    tiers: Vec<Rc<RefCell<TierStore>>>,
    adapters: Adapters,
    packets: Packets,
    waiting: VecDeque<Sequence>,
    /// Admitted, but KV is still on its way; with the time it arrives.
    loading: Vec<(u64, Sequence)>,
    running: Vec<Sequence>,
    log: CacheLog,
    in_step: bool,
    preemptions: u64,
    /// Blocks loaded from slower tiers so far.
    loaded_blocks: u64,
}

impl Engine {
    /// An idle engine with an empty cache.
    pub fn new(spec: EngineSpec) -> Self {
        Self {
            pool: BlockPool::new(spec.kv_blocks),
            tiers: spec.tiers.iter().map(|&t| Rc::new(RefCell::new(TierStore::new(t)))).collect(),
            adapters: Adapters::new(spec.lora_slots),
            packets: Packets::new(spec.packet_tokens),
            spec,
            waiting: VecDeque::new(),
            loading: Vec::new(),
            running: Vec::new(),
            log: CacheLog::default(),
            in_step: false,
            preemptions: 0,
            loaded_blocks: 0,
        }
    }

    /// Puts a store that other engines use, too, behind its own tiers.
    pub fn attach(&mut self, shared: Rc<RefCell<TierStore>>) {
        self.tiers.push(shared);
    }

    /// Takes a request into the queue.
    ///
    /// # Errors
    ///
    /// If it can never run here.
    pub fn submit(&mut self, s: Submission) -> Result<(), SubmitError> {
        let tokens = s.prompt.len() as u64 + u64::from(s.output_tokens);
        let capacity = self.spec.kv_tokens();
        if tokens > capacity {
            return Err(SubmitError::TooLong { request: s.request, tokens, capacity });
        }
        if let (Some(adapter), 0) = (s.lora, self.spec.lora_slots) {
            return Err(SubmitError::NoAdapters { request: s.request, adapter });
        }
        self.waiting.push_back(Sequence::new(s));
        Ok(())
    }

    /// What it is.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// Whether a step is under way.
    pub fn in_step(&self) -> bool {
        self.in_step
    }

    /// Preemptions so far.
    pub fn preemptions(&self) -> u64 {
        self.preemptions
    }

    /// Blocks loaded from slower tiers so far.
    pub fn loaded_blocks(&self) -> u64 {
        self.loaded_blocks
    }

    /// Blocks each slower tier holds.
    pub fn tier_blocks(&self) -> impl Iterator<Item = (Tier, usize)> {
        self.tiers.iter().map(|t| (t.borrow().spec.tier, t.borrow().len()))
    }

    /// Changes of the caches that have not been taken with [`CacheLog::clear`].
    pub fn log_mut(&mut self) -> &mut CacheLog {
        &mut self.log
    }

    /// Packets that came (`true`) and went since this was last asked.
    pub fn take_packet_changes(&mut self) -> Vec<(u64, bool)> {
        std::mem::take(&mut self.packets.changes)
    }

    /// Requests it has not finished, in no particular order.
    pub fn requests(&self) -> impl Iterator<Item = u32> {
        let loading = self.loading.iter().map(|(_, s)| s);
        self.waiting.iter().chain(loading).chain(&self.running).map(|s| s.request)
    }

    /// Adapters that running requests use, and those that waiting ones want.
    pub fn adapters(&self) -> (Vec<u32>, Vec<u32>) {
        let mut waiting = Vec::new();
        for adapter in self.waiting.iter().filter_map(|s| s.lora) {
            if !waiting.contains(&adapter) {
                waiting.push(adapter);
            }
        }
        (self.active_adapters(), waiting)
    }

    fn active_adapters(&self) -> Vec<u32> {
        let loading = self.loading.iter().map(|(_, s)| s);
        let mut active: Vec<u32> =
            self.running.iter().chain(loading).filter_map(|s| s.lora).collect();
        active.sort_unstable();
        active.dedup();
        active
    }

    /// What its metrics page shows now.
    pub fn metrics(&self) -> Metrics {
        Metrics {
            waiting: (self.waiting.len() + self.loading.len()) as u32,
            running: self.running.len() as u32,
            kv_usage: self.pool.usage(),
        }
    }

    /// Leading blocks of `prompt` it could use from the device right now, as the engine itself
    /// would count them at admission: at least one token is always computed.
    pub fn usable_blocks(&self, prompt: &[kvsched_core::TokenId]) -> u32 {
        let mut probe = Sequence::new(Submission {
            prompt: prompt.to_vec(),
            output_tokens: 1,
            ..Submission::default()
        });
        let full = reusable_blocks(probe.len(), self.spec.block_size);
        probe.hash_to(full, self.spec.block_size as usize);
        probe.hashes.iter().take_while(|&&h| self.pool.lookup(h).is_some()).count() as u32
    }

    /// When loading KV next lets a sequence run.
    pub fn next_arrival_ns(&self) -> Option<u64> {
        self.loading.iter().map(|(at, _)| *at).min()
    }

    /// Starts a step: schedules, allocates, evicts. The seconds it takes, or `None` when there
    /// is nothing to compute.
    pub fn begin_step(&mut self, now_ns: u64) -> Option<f64> {
        debug_assert!(!self.in_step);
        self.land(now_ns);
        let mut work = StepWork::default();
        let mut budget = self.spec.max_batched_tokens;
        let preempted = self.continue_running(&mut budget, &mut work);
        if !preempted {
            self.admit_waiting(&mut budget, &mut work, now_ns);
        }
        if work.sequences == 0 {
            return None;
        }
        self.in_step = true;
        Some(self.spec.step_time.seconds(&work))
    }

    /// Ends the step: tokens come out, finished requests leave.
    pub fn end_step(&mut self, result: &mut StepResult) {
        debug_assert!(self.in_step);
        self.in_step = false;
        result.first_tokens.clear();
        result.finished.clear();
        (result.output_tokens, result.prefill_tokens) = (0, 0);
        let (pool, packets) = (&mut self.pool, &mut self.packets);
        self.running.retain_mut(|s| {
            if s.scheduled == 0 {
                return true;
            }
            let decoding = s.scheduled == 1 && s.generated() > 0 && s.computed + 1 == s.len();
            if !decoding {
                result.prefill_tokens += u64::from(s.computing);
            }
            s.computed += s.scheduled;
            (s.scheduled, s.computing) = (0, 0);
            if s.computed < s.len() {
                return true;
            }
            s.tokens.push(token(s.output_seed, s.generated()));
            result.output_tokens += 1;
            if s.generated() == 1 {
                result.first_tokens.push((s.request, s.cached.unwrap_or(0)));
                s.documents.iter().for_each(|d| packets.keep(d));
            }
            if s.generated() < s.output_tokens {
                return true;
            }
            result.finished.push(s.request);
            pool.release(&s.blocks);
            false
        });
    }

    /// Lets sequences run whose KV has arrived.
    fn land(&mut self, now_ns: u64) {
        while let Some(i) = self.loading.iter().position(|(at, _)| *at <= now_ns) {
            let (_, mut s) = self.loading.remove(i);
            name_blocks(&mut s, &mut self.pool, &mut self.log, self.spec.block_size);
            self.running.push(s);
        }
    }

    /// Schedules running sequences; whether somebody was preempted.
    fn continue_running(&mut self, budget: &mut u32, work: &mut StepWork) -> bool {
        let block_size = self.spec.block_size;
        let mut preempted = false;
        let mut i = 0;
        while i < self.running.len() && *budget > 0 {
            let s = &self.running[i];
            let (new, computing) = s.reach(*budget);
            let wanted = (s.computed + new).div_ceil(block_size) as usize;
            while self.running.len() > i && !self.has_room(i, wanted) {
                preempted = true;
                self.preempt_last();
            }
            if self.running.len() <= i {
                break;
            }
            self.grow(i, wanted);
            let s = &mut self.running[i];
            schedule(s, new, computing, work);
            name_blocks(s, &mut self.pool, &mut self.log, block_size);
            *budget -= computing;
            i += 1;
        }
        preempted
    }

    fn has_room(&self, i: usize, wanted: usize) -> bool {
        wanted.saturating_sub(self.running[i].blocks.len()) <= self.pool.free() as usize
    }

    fn grow(&mut self, i: usize, wanted: usize) {
        while self.running[i].blocks.len() < wanted {
            let Some(block) = self.take_block() else { return };
            self.running[i].blocks.push(block);
        }
    }

    /// Sends the sequence admitted last back to the head of the queue.
    fn preempt_last(&mut self) {
        let Some(mut victim) = self.running.pop() else { return };
        self.pool.release(&victim.blocks);
        victim.blocks.clear();
        (victim.named, victim.computed, victim.scheduled, victim.computing) = (0, 0, 0, 0);
        victim.given.clear();
        self.waiting.push_front(victim);
        self.preemptions += 1;
    }

    /// A block for new KV; what it held moves down the tiers.
    fn take_block(&mut self) -> Option<BlockId> {
        let (block, evicted) = self.pool.take()?;
        if let Some(hash) = evicted {
            self.log.changes.push(Change::Removed(hash, Tier::DEVICE));
            if self.pool.lookup(hash).is_none() {
                self.demote(hash);
            }
        }
        Some(block)
    }

    fn demote(&mut self, hash: KvHash) {
        let mut moving = Some(hash);
        for store in &self.tiers {
            let Some(hash) = moving.take() else { return };
            let mut store = store.borrow_mut();
            if let Ok(displaced) = store.insert(hash) {
                let tier = store.spec.tier;
                let log = store.log.as_mut().unwrap_or(&mut self.log);
                log.changes.push(Change::Demoted(hash, tier));
                log.changes.extend(displaced.map(|old| Change::Removed(old, tier)));
                moving = displaced;
            }
        }
    }

    /// Everything that must hold at all times, or what does not.
    pub fn validate(&self) -> Result<(), String> {
        self.pool.validate()?;
        let mut uses = vec![0u32; self.spec.kv_blocks as usize];
        let loading = self.loading.iter().map(|(_, s)| s);
        for s in self.running.iter().chain(loading) {
            for &b in &s.blocks {
                uses[b as usize] += 1;
            }
            let room = s.blocks.len() as u64 * u64::from(self.spec.block_size);
            if room < u64::from(s.computed) {
                return Err(format!("request {} has more KV than blocks", s.request));
            }
        }
        if self.waiting.iter().any(|s| !s.blocks.is_empty()) {
            return Err("a waiting sequence holds blocks".to_owned());
        }
        let used = uses.iter().filter(|&&n| n > 0).count() as u32;
        if used + self.pool.free() != self.spec.kv_blocks {
            return Err(format!("{used} used + {} free blocks", self.pool.free()));
        }
        match uses.iter().enumerate().find(|&(b, &n)| n > 0 && self.pool.is_free(b as u32)) {
            Some((b, n)) => Err(format!("block {b} is free with {n} users")),
            None => Ok(()),
        }
    }
}

/// Full blocks a prompt of `tokens` tokens can find in a cache: one token is always computed.
fn reusable_blocks(tokens: u32, block_size: u32) -> usize {
    (tokens.saturating_sub(1) / block_size) as usize
}

fn schedule(s: &mut Sequence, new: u32, computing: u32, work: &mut StepWork) {
    (s.scheduled, s.computing) = (new, computing);
    if new == 1 && s.generated() > 0 {
        work.decode(s.computed);
    } else {
        work.prefill(computing, s.computed + new - computing);
    }
}

/// Names blocks that are full once the scheduled tokens are computed. vLLM does so when it
/// allocates: siblings in the same step already hit them.
fn name_blocks(s: &mut Sequence, pool: &mut BlockPool, log: &mut CacheLog, block_size: u32) {
    let size = block_size as usize;
    let full = (s.computed + s.scheduled) as usize / size;
    if full <= s.named {
        return;
    }
    s.hash_to(full, size);
    for (&block, &hash) in s.blocks[s.named..full].iter().zip(&s.hashes[s.named..full]) {
        pool.fill(block, hash);
    }
    let parent = s.named.checked_sub(1).map(|p| s.hashes[p]);
    log.stored(parent, s.lora, &s.hashes[s.named..full], &s.tokens[s.named * size..full * size]);
    s.named = full;
}
