//! One request inside an engine.

use super::packets::Document;
use super::pool::{BlockId, KvHash};
use kvsched_core::TokenId;

/// A request as it is handed to an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// The caller's number of it.
    pub request: u32,
    /// The prompt.
    pub prompt: Vec<TokenId>,
    /// Tokens to generate, at least one.
    pub output_tokens: u32,
    /// What the output's tokens are made from: [`crate::workload::token`].
    pub output_seed: u64,
    /// The adapter it is for.
    pub lora: Option<u32>,
    /// Documents in the prompt whose KV may be reused at any position.
    pub documents: Vec<Document>,
    /// For a request whose prompt was computed by another engine: nanoseconds until its KV
    /// has arrived. One token is left to compute, which brings the first of the output.
    pub transfer_ns: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) request: u32,
    /// Prompt, then output so far.
    pub(super) tokens: Vec<TokenId>,
    pub(super) prompt_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) output_seed: u64,
    pub(super) lora: Option<u32>,
    pub(super) documents: Vec<Document>,
    /// Ranges of the prompt whose KV packets bring, so that nobody computes it.
    pub(super) given: Vec<(u32, u32)>,
    pub(super) transfer_ns: Option<u64>,
    /// Of the full blocks of `tokens`, as far as asked for.
    pub(super) hashes: Vec<KvHash>,
    pub(super) blocks: Vec<BlockId>,
    /// Leading blocks that have been named in the pool.
    pub(super) named: usize,
    /// Leading tokens whose KV is there.
    pub(super) computed: u32,
    /// Tokens the current step gets it on, and how many of them it computes.
    pub(super) scheduled: u32,
    pub(super) computing: u32,
    /// Prompt tokens found in the cache at its first admission.
    pub(super) cached: Option<u32>,
}

impl Sequence {
    pub(super) fn new(s: Submission) -> Self {
        Self {
            request: s.request,
            prompt_tokens: s.prompt.len() as u32,
            tokens: s.prompt,
            output_tokens: s.output_tokens,
            output_seed: s.output_seed,
            lora: s.lora,
            documents: s.documents,
            given: Vec::new(),
            transfer_ns: s.transfer_ns,
            hashes: Vec::new(),
            blocks: Vec::new(),
            named: 0,
            computed: 0,
            scheduled: 0,
            computing: 0,
            cached: None,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.tokens.len() as u32
    }

    pub(super) fn generated(&self) -> u32 {
        self.len() - self.prompt_tokens
    }

    /// How many tokens a budget of computed ones gets it on, and how many of those are computed.
    pub(super) fn reach(&self, budget: u32) -> (u32, u32) {
        let (mut at, mut left) = (self.computed, budget);
        while at < self.len() {
            if let Some(&(_, end)) = self.given.iter().find(|g| (g.0..g.1).contains(&at)) {
                at = end;
                continue;
            }
            if left == 0 {
                break;
            }
            let starts = self.given.iter().map(|g| g.0).filter(|&start| start > at);
            let until = starts.min().unwrap_or(u32::MAX).min(self.len());
            let step = (until - at).min(left);
            (at, left) = (at + step, left - step);
        }
        (at - self.computed, budget - left)
    }

    /// Computes the hashes of the first `blocks` blocks, which are full.
    pub(super) fn hash_to(&mut self, blocks: usize, block_size: usize) {
        while self.hashes.len() < blocks {
            let at = self.hashes.len();
            let parent = self.hashes.last().copied().or_else(|| root(self.lora));
            let tokens = &self.tokens[at * block_size..(at + 1) * block_size];
            self.hashes.push(chain(parent, tokens));
        }
    }
}

/// Replaces `out` with the engine's names of the full blocks of a prompt that a request can find
/// in a cache: one token is always computed.
pub fn prefix_hashes(
    prompt: &[TokenId],
    block_size: u32,
    lora: Option<u32>,
    out: &mut Vec<KvHash>,
) {
    out.clear();
    let reusable = prompt.len().saturating_sub(1) / block_size as usize;
    for block in prompt.chunks_exact(block_size as usize).take(reusable) {
        out.push(chain(out.last().copied().or_else(|| root(lora)), block));
    }
}

/// What the first block of an adapter's prompt is chained to: an adapter's KV is its own.
fn root(lora: Option<u32>) -> Option<KvHash> {
    lora.map(|id| (u64::from(id) + 1).wrapping_mul(0xa076_1d64_78bd_642f))
}

/// The simulated engine's own block hash. Like every engine's it is chained and commits to
/// all tokens; that no router knows its function is the point of content-based identity.
fn chain(parent: Option<KvHash>, tokens: &[TokenId]) -> KvHash {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut h = parent.map_or(K, |p| p ^ 0x2545_f491_4f6c_dd1d);
    for pair in tokens.chunks(2) {
        let word = pair.iter().fold(1, |w, &t| w << 31 | u64::from(t));
        let wide = u128::from(h ^ word) * u128::from(K | 1);
        h = (wide as u64 ^ (wide >> 64) as u64).wrapping_add(word).rotate_left(23);
    }
    h
}

#[cfg(test)]
mod tests {
    use super::{Sequence, Submission};

    #[test]
    fn a_budget_passes_over_what_packets_bring() {
        let mut s = Sequence::new(Submission { prompt: vec![7; 100], ..Submission::default() });
        s.given = vec![(10, 40), (50, 90)];
        assert_eq!(s.reach(5), (5, 5));
        assert_eq!(s.reach(10), (40, 10), "and up to the next token to compute");
        assert_eq!(s.reach(15), (45, 15));
        assert_eq!(s.reach(30), (100, 30));
        assert_eq!(s.reach(1000), (100, 30));
        s.computed = 60;
        assert_eq!(s.reach(4), (34, 4));
    }
}
