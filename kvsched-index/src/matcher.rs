//! Block hashes to prefix matches: one step a fork.

use crate::chain::{Chain, Chains, Entry, Place};
use crate::detail::Detail;
use crate::directory::Directory;
use crate::holders::{self, LANES, More};
use crate::loose::Hybrid;
use crate::pool::Scope;
use crate::shared::{self, Pin};
use arc_swap::ArcSwap;
use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Tier};
use std::sync::atomic::{AtomicUsize, Ordering};

/// All that a query reads.
#[derive(Debug)]
pub(crate) struct Residency {
    /// Where every block is.
    pub(crate) directory: Directory,
    /// Where the first block of every chain is, once more. What follows a block of another chain begins
    /// its own, so that a query needs no other; and most queries end with a block that nobody knows,
    /// which these few lines tell without a look at the many.
    pub(crate) heads: Directory,
    pub(crate) chains: Chains,
    /// Endpoints are below this number.
    pub(crate) endpoints: AtomicUsize,
    /// Endpoints with loose groups. Changed as a whole, and rarely.
    pub(crate) hybrids: ArcSwap<Vec<Hybrid>>,
    pub(crate) hybrid_count: AtomicUsize,
    /// Endpoints with pools. Changed as a whole, and rarely.
    pub(crate) scopes: ArcSwap<Vec<Scope>>,
    pub(crate) scope_count: AtomicUsize,
}

/// A stretch of the prompt that lies in one chain.
#[derive(Clone, Copy)]
pub(crate) struct Step<'p> {
    pub(crate) chain: &'p Chain,
    pub(crate) offset: usize,
    pub(crate) blocks: usize,
}

/// What the holders of a step hold of it.
#[derive(Clone, Copy, Default)]
struct Reached {
    /// Endpoints that hold all of it.
    alive: usize,
    /// Whether somebody's share is split over tiers.
    split: bool,
}

impl Residency {
    /// The place of `hash`.
    #[inline]
    pub(crate) fn place(&self, hash: BlockHash, pin: &Pin) -> Option<Place> {
        self.directory.find(hash, pin, |place| {
            let chain = self.chains.get(place.chain);
            chain.is_some_and(|c| c.is(usize::from(place.offset), hash, pin))
        })
    }

    /// Whether anyone may hold the block.
    pub(crate) fn knows(&self, hash: BlockHash, pin: &Pin) -> bool {
        let loose =
            || self.hybrids.load().iter().any(|h| h.groups.iter().any(|g| g.contains(hash, pin)));
        self.place(hash, pin).is_some() || loose()
    }

    /// The chain that continues with the hash `at` which `prompt` has come, and for how long.
    #[inline]
    pub(crate) fn step<'p>(
        &'p self,
        prompt: &[BlockHash],
        at: usize,
        pin: &'p Pin,
    ) -> Option<Step<'p>> {
        let prompt = prompt.get(at..)?;
        let step = self.step_in(&self.heads, prompt, pin);
        // Whoever asks may begin in the middle of what was stored.
        if step.is_none() && at == 0 {
            return self.step_in(&self.directory, prompt, pin);
        }
        step
    }

    #[inline]
    fn step_in<'p>(
        &'p self,
        directory: &Directory,
        prompt: &[BlockHash],
        pin: &'p Pin,
    ) -> Option<Step<'p>> {
        let first = *prompt.first()?;
        let mut found = None;
        directory.find(first, pin, |place| {
            let Some(chain) = self.chains.get(place.chain) else { return false };
            let offset = usize::from(place.offset);
            // While the hashes come from memory, so may what the next step will ask for.
            for end in chain.forks().chain([chain.len()]).filter(|&end| end > offset) {
                if let Some(&next) = prompt.get(end - offset) {
                    self.heads.prefetch(next, pin);
                }
            }
            let blocks = chain.common(offset, prompt, pin);
            found = (blocks > 0).then_some(Step { chain, offset, blocks });
            found.is_some()
        });
        found
    }

    /// The answer of [`Index::find_matches`](crate::Index::find_matches).
    pub(crate) fn find_matches(
        &self,
        prompt: &[BlockHash],
        only: Option<&[EndpointId]>,
        out: &mut PrefixMatches,
        pin: &Pin,
    ) {
        if let Some(&first) = prompt.first() {
            self.heads.prefetch(first, pin);
        }
        let prompt = &prompt[..prompt.len().min(u32::MAX as usize - 1)];
        out.reset(self.endpoints.load(Ordering::Acquire), prompt.len() as u32);
        let blocks = out.as_mut_slice();
        if let Some(only) = only {
            // Nobody else takes part: no position of the prompt is this far.
            blocks.fill(u32::MAX);
            for e in only {
                if let Some(b) = blocks.get_mut(e.index()) {
                    *b = 0;
                }
            }
        }
        let mut at = 0;
        let mut split = false;
        while let Some(step) = self.step(prompt, at, pin) {
            let reached = step.advance(at as u32, blocks, pin);
            at += step.blocks;
            split |= reached.split;
            if reached.alive == 0 {
                break;
            }
        }
        let pooled = self.scope_count.load(Ordering::Acquire) > 0;
        if pooled {
            for scope in self.scopes.load().iter() {
                match blocks.get_mut(scope.endpoint.index()) {
                    None | Some(&mut u32::MAX) => {}
                    Some(b) => *b = self.pooled(scope, prompt, pin).blocks as u32,
                }
            }
        }
        if self.hybrid_count.load(Ordering::Acquire) > 0 {
            for hybrid in self.hybrids.load().iter() {
                match blocks.get_mut(hybrid.endpoint.index()) {
                    None | Some(&mut u32::MAX) => {}
                    Some(b) => {
                        let limit = if hybrid.chained { *b as usize } else { prompt.len() };
                        *b = hybrid.longest(limit, prompt, pin) as u32;
                    }
                }
            }
        }
        if only.is_some() {
            for b in blocks.iter_mut().filter(|b| **b == u32::MAX) {
                *b = 0;
            }
        }
        if split {
            self.split(prompt, out, pin);
        }
        if pooled {
            for scope in self.scopes.load().iter() {
                let blocks = out.blocks(scope.endpoint) as usize;
                let by_tier = self.pooled(scope, &prompt[..blocks], pin).by_tier;
                push_slow(out, scope.endpoint, &by_tier);
            }
        }
    }

    /// Walks the same way again, and says what lies in slower tiers.
    fn split(&self, prompt: &[BlockHash], out: &mut PrefixMatches, pin: &Pin) {
        let longest = out.longest() as usize;
        let mut at = 0;
        let scopes = self.scopes.load();
        while let Some(step) = self.step(&prompt[..longest.max(at)], at, pin) {
            let _ = holders::all(step.chain, pin, |entry| {
                let end = (out.blocks(entry.endpoint) as usize).min(at + step.blocks);
                let is_scoped = || scopes.iter().any(|s| s.endpoint == entry.endpoint);
                if entry.is_split && end > at && !is_scoped() {
                    push_slow(out, entry.endpoint, &step.by_tier(entry, end - at, pin));
                }
                true
            });
            at += step.blocks;
        }
    }
}

/// Says how much of an endpoint's match lies in slower tiers than the device.
fn push_slow(out: &mut PrefixMatches, endpoint: EndpointId, by_tier: &[u32; Tier::COUNT]) {
    for (n, &blocks) in by_tier.iter().enumerate().skip(1) {
        if let (Some(tier), 1..) = (Tier::new(n as u8), blocks) {
            out.push_slow(endpoint, tier, blocks);
        }
    }
}

impl Step<'_> {
    /// Moves every endpoint that has come as far as `at` on by what it holds of this step.
    #[inline]
    fn advance(&self, at: u32, blocks: &mut [u32], pin: &Pin) -> Reached {
        let mut reached = Reached::default();
        shared::prefetch(&self.chain.inline);
        for word in &self.chain.inline {
            if let Some(entry) = Entry::from_bits(word.load(Ordering::Acquire)) {
                self.advance_one(entry, at, blocks, &mut reached, pin);
            }
        }
        let more = More::of(self.chain, pin);
        if !more.dense.is_empty() {
            self.advance_dense(more, at, blocks, &mut reached);
        }
        for word in more.list {
            if let Some(entry) = Entry::from_bits(word.load(Ordering::Acquire)) {
                self.advance_one(entry, at, blocks, &mut reached, pin);
            }
        }
        reached
    }

    #[inline]
    fn advance_one(
        &self,
        entry: Entry,
        at: u32,
        blocks: &mut [u32],
        reached: &mut Reached,
        pin: &Pin,
    ) {
        let Some(mine) = blocks.get_mut(entry.endpoint.index()) else { return };
        if *mine != at {
            return;
        }
        let held = if self.offset == 0 {
            usize::from(entry.blocks).min(self.blocks)
        } else {
            self.held_inside(entry, pin)
        };
        *mine = at + held as u32;
        reached.alive += usize::from(held == self.blocks);
        reached.split |= entry.is_split;
    }

    /// Blocks held from an offset other than 0 on: the prompt begins in the middle of what was
    /// stored as one.
    #[cold]
    fn held_inside(&self, entry: Entry, pin: &Pin) -> usize {
        let before = usize::from(entry.blocks).saturating_sub(self.offset).min(self.blocks);
        let detail = Detail::of(entry, self.chain.details.get(pin));
        let held = detail.map_or(before, |d| d.leading(self.offset, self.blocks));
        let same = holders::find(self.chain, entry.endpoint, pin) == Some(entry);
        if same { held } else { before }
    }

    /// As `advance_one` for the watermarks that are listed by endpoint.
    #[inline]
    fn advance_dense(&self, more: More<'_>, at: u32, blocks: &mut [u32], reached: &mut Reached) {
        /// Words copied at a time, so that the comparison runs on plain numbers, many at once.
        const COPY: usize = 64;
        let most = self.blocks as u32;
        let from = self.offset as u32;
        let Some(blocks) = blocks.get_mut(more.first..) else { return };
        for (words, blocks) in more.dense.chunks(COPY).zip(blocks.chunks_mut(COPY * LANES)) {
            let mut held = [0u16; COPY * LANES];
            for (word, held) in words.iter().zip(held.chunks_exact_mut(LANES)) {
                let word = word.load(Ordering::Acquire);
                for (lane, held) in held.iter_mut().enumerate() {
                    *held = (word >> (16 * lane)) as u16;
                }
            }
            let mut alive = 0;
            for (mine, held) in blocks.iter_mut().zip(&held) {
                let held = u32::from(*held).saturating_sub(from).min(most);
                let here = *mine == at;
                *mine += if here { held } else { 0 };
                alive += u32::from(here & (held == most));
            }
            reached.alive += alive as usize;
        }
    }

    /// The first `blocks` of this step by the tier that serves them.
    fn by_tier(&self, entry: Entry, blocks: usize, pin: &Pin) -> [u32; Tier::COUNT] {
        let mut counts = [0; Tier::COUNT];
        if let Some(detail) = Detail::of(entry, self.chain.details.get(pin)) {
            detail.by_tier(self.offset, blocks, &mut counts);
        }
        // A record is given back only after its entry has changed.
        let same = holders::find(self.chain, entry.endpoint, pin) == Some(entry);
        if same { counts } else { [0; Tier::COUNT] }
    }
}
