//! Simulated endpoints: each a finite cache of KV blocks with the engine's own eviction order,
//! and one prefill queue. Thin on purpose: it is there to give the policies something to
//! know, not to predict seconds.

use kvsched::{BlockHash, Load, Time};
use lru::LruCache;
use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::Range;

/// Prefill speed of one endpoint, tokens a second: Qwen3-32B on two H100 through the full
/// serving path, as published with llm-d's benchmark.
const PREFILL_TOKENS_PER_SECOND: f64 = 15_928.0;
/// Time between two output tokens of one request, same source.
const SECONDS_PER_OUTPUT_TOKEN: f64 = 0.025;

/// What serving one request changed in an endpoint's cache, in the order it happened.
#[derive(Debug, Default)]
pub(crate) struct CacheChange {
    /// Leading blocks that were served from the cache.
    pub(crate) hit_blocks: usize,
    /// Blocks that had to go, coldest first.
    pub(crate) evicted: Vec<BlockHash>,
    /// The blocks that are newly stored, of the prompt and of what was generated.
    pub(crate) stored: Range<usize>,
}

/// One simulated engine.
#[derive(Debug)]
pub(crate) struct Endpoint {
    cache: LruCache<BlockHash, ()>,
    capacity_tokens: u64,
    prefill_free_at: f64,
    in_flight: VecDeque<InFlight>,
    /// Prompt tokens it has prefilled so far.
    pub(crate) prefilled_tokens: u64,
}

#[derive(Debug)]
struct InFlight {
    prefill_from: f64,
    prefill_done: f64,
    finished: f64,
    uncached_tokens: u64,
    /// Prompt and output.
    tokens: u64,
}

impl Endpoint {
    /// An endpoint whose cache holds `blocks` blocks of `block_size` tokens.
    pub(crate) fn new(blocks: NonZeroU32, block_size: usize) -> Self {
        Self {
            cache: LruCache::new(blocks.try_into().unwrap_or(NonZeroUsize::MAX)),
            capacity_tokens: u64::from(blocks.get()) * block_size as u64,
            prefill_free_at: 0.0,
            in_flight: VecDeque::new(),
            prefilled_tokens: 0,
        }
    }

    /// What its metrics page would show at `now` seconds.
    pub(crate) fn load(&mut self, now: f64) -> Load {
        self.in_flight.retain(|r| r.finished > now);
        let waiting = self.in_flight.iter().filter(|r| r.prefill_from > now);
        let queued = self.in_flight.iter().filter(|r| r.prefill_done > now);
        // Blocks that no running request refers to are free in the engine's own count.
        let used: u64 = self.in_flight.iter().map(|r| r.tokens).sum();
        let waiting = waiting.count() as u32;
        Load {
            waiting_requests: waiting,
            running_requests: self.in_flight.len() as u32 - waiting,
            kv_usage: (used as f64 / self.capacity_tokens as f64).min(1.0),
            kv_capacity_tokens: self.capacity_tokens,
            queued_prefill_tokens: queued.map(|r| r.uncached_tokens).sum(),
            observed_at: Time::from_secs_f64(now),
            ..Load::default()
        }
    }

    /// Serves a request at `now` seconds: a prompt of `prompt_tokens` tokens and what is
    /// generated after it, which together have the full blocks `blocks`.
    pub(crate) fn serve(
        &mut self,
        now: f64,
        blocks: &[BlockHash],
        block_size: usize,
        prompt_tokens: usize,
        output_tokens: u32,
        change: &mut CacheChange,
    ) {
        change.evicted.clear();
        // What exceeds the whole cache cannot stay in it.
        let blocks = &blocks[..blocks.len().min(self.cache.cap().get())];
        // At least one token is always computed, so the last block may not be a hit.
        let usable = prompt_tokens.saturating_sub(1) / block_size;
        let hit = blocks.iter().take(usable).take_while(|b| self.cache.contains(b)).count();
        change.hit_blocks = hit;
        change.stored = hit..blocks.len();
        // What is used now is not evicted for it.
        for block in &blocks[..hit] {
            self.cache.promote(block);
        }
        // A finished request's blocks are freed tail first, so that the tail is the coldest.
        for &block in blocks[hit..].iter().rev() {
            if let Some((evicted, ())) = self.cache.push(block, ()).filter(|(b, ())| *b != block) {
                change.evicted.push(evicted);
            }
        }
        for block in blocks[..hit].iter().rev() {
            self.cache.promote(block);
        }

        let uncached = (prompt_tokens - hit * block_size) as u64;
        self.prefilled_tokens += uncached;
        let prefill_from = self.prefill_free_at.max(now);
        let prefill_done = prefill_from + uncached as f64 / PREFILL_TOKENS_PER_SECOND;
        self.prefill_free_at = prefill_done;
        self.in_flight.push_back(InFlight {
            prefill_from,
            prefill_done,
            finished: prefill_done + f64::from(output_tokens) * SECONDS_PER_OUTPUT_TOKEN,
            uncached_tokens: uncached,
            tokens: prompt_tokens as u64 + u64::from(output_tokens),
        });
    }
}
