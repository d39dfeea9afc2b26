//! What is asked of the cluster: jobs with made-up tokens, in stages.

mod ladder;
pub mod mix;

pub use ladder::{LADDER, Ladder};

use crate::engine::Document;
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

impl Default for Start {
    fn default() -> Self {
        Self::At(0.0)
    }
}

/// One request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// When it arrives.
    pub start: Start,
    /// Its prompt.
    pub prompt: Vec<Segment>,
    /// Tokens it generates.
    pub output: Segment,
    /// Whose conversation it is part of.
    pub session: u32,
    /// The adapter it is for.
    pub lora: Option<u32>,
    /// Which segments are documents whose KV may be reused at any position.
    pub documents: Range<usize>,
}

impl Job {
    /// Length of the prompt.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt.iter().map(|s| s.tokens).sum()
    }

    /// Its documents, as an engine and an index know them.
    pub fn documents(&self) -> Vec<Document> {
        let mut start = 0;
        let mut documents = Vec::new();
        for (i, segment) in self.prompt.iter().enumerate() {
            if self.documents.contains(&i) {
                documents.push(Document { key: segment.seed, start, tokens: segment.tokens });
            }
            start += segment.tokens;
        }
        documents
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

impl Workload {
    /// `copies` of a workload of one stage, with texts of their own: `at_once` at a time, then as
    /// many after those.
    #[must_use]
    pub fn copied(&self, copies: u32, at_once: u32) -> Self {
        let last = self.jobs.iter().map(|j| if let Start::At(s) = j.start { s } else { 0.0 });
        let length = last.fold(0.0, f64::max);
        let mut jobs = Vec::with_capacity(self.jobs.len() * copies as usize);
        for copy in 0..copies {
            let (first, later) = (jobs.len() as u32, f64::from(copy / at_once.max(1)) * length);
            let renamed = |s: &Segment| Segment {
                seed: s.seed ^ u64::from(copy).wrapping_mul(0x9fb2_1c65_1e98_df25),
                ..*s
            };
            jobs.extend(self.jobs.iter().map(|job| Job {
                start: match job.start {
                    Start::At(secs) => Start::At(secs + later),
                    Start::After(before, secs) => Start::After(before + first, secs),
                },
                prompt: job.prompt.iter().map(renamed).collect(),
                output: renamed(&job.output),
                ..job.clone()
            }));
        }
        let stages = vec![Stage { qps: 0.0, jobs: 0..jobs.len() as u32, warm_up: false }];
        Self { name: self.name.clone(), jobs, stages, client_limit: self.client_limit }
    }
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
