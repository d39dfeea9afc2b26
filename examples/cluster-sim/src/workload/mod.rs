//! What is asked of the cluster: jobs with made-up tokens, in stages.

mod ladder;
pub mod mix;

pub use ladder::{LADDER, Ladder};

use kvsched_core::TokenId;
use std::ops::Range;

/// Token ids are below this: Qwen3's vocabulary.
const VOCABULARY: u64 = 151_669;

/// Token `i` of the text called `seed`: any function will do that gives equal texts equal
/// tokens and different texts different ones.
#[inline]
pub fn token(seed: u64, i: u32) -> TokenId {
    let z = (seed ^ u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32;
    ((z * VOCABULARY) >> 32) as TokenId
}

/// The name of a text, from what it is and its number.
pub fn text(kind: u32, number: u64) -> u64 {
    (u64::from(kind) << 48 ^ number).wrapping_mul(0xd6e8_feb8_6659_fd93) | 1
}

/// The first `tokens` tokens of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which text.
    pub seed: u64,
    /// How much of it.
    pub tokens: u32,
}

/// When a job arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// So many seconds after its stage began.
    At(f64),
    /// So many seconds after another job of its stage was done: the next turn of a conversation.
    After(u32, f64),
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// When it arrives.
    pub start: Start,
    /// Its prompt.
    pub prompt: Vec<Segment>,
    /// Tokens it generates.
    pub output: Segment,
    /// Whose conversation it is part of.
    pub session: u32,
}

impl Job {
    /// Length of the prompt.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt.iter().map(|s| s.tokens).sum()
    }

    /// The prompt itself.
    pub fn tokens(&self) -> Vec<TokenId> {
        let segments = self.prompt.iter();
        segments.flat_map(|s| (0..s.tokens).map(move |i| token(s.seed, i))).collect()
    }
}

/// Jobs that are offered together; the next stage begins when all of this one are done.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Requests a second, or 0 where it has no one rate.
    pub qps: f64,
    /// Which jobs.
    pub jobs: Range<u32>,
    /// Whether it only fills caches and is left out of the results.
    pub warm_up: bool,
}

/// A whole benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// What it is called.
    pub name: String,
    /// All jobs, stage by stage.
    pub jobs: Vec<Job>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Requests that the load generator keeps open at most. The others wait in it, and their
    /// clocks start when they are sent.
    pub client_limit: Option<u32>,
}
