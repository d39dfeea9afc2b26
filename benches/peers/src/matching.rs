//! What questions cost.

use crate::changes::fill;
use crate::indexes::{self, Contender, Crtc, KvIndex, Ours};
use crate::measure::{Samples, time};
use crate::report::Report;
use crate::workload::Fill;
use dynamo_kv_router::protocols::BlockHashOptions;
use dynamo_kv_router::{SyncIndexer, compute_block_hash_for_seq};
use kvsched_core::{EndpointId, PrefixMatches};
use kvsched_index::{Holder, Index, Repeat};
use std::hint::black_box;

/// Nanoseconds a query, over all queries, round by round.
pub fn matches<C: Contender>(report: &mut Report, work: &Fill, shape: &str, rounds: usize) {
    ask::<C>(report, work, ("match", shape), rounds);
}

/// As `matches`, for prompts that others leave here and there.
pub fn by_forks<C: Contender>(report: &mut Report, work: &Fill, shape: &str, rounds: usize) {
    ask::<C>(report, work, ("match by forks", shape), rounds);
}

fn ask<C: Contender>(
    report: &mut Report,
    work: &Fill,
    (bench, shape): (&str, &str),
    rounds: usize,
) {
    let mut index: C = fill(work);
    let queries: Vec<C::Query> = work.queries.iter().map(|q| C::query(q)).collect();
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let (ns, ()) = time(|| {
            for query in &queries {
                black_box(index.ask(query));
            }
        });
        samples.push(ns / queries.len() as f64);
    }
    report.time(bench, shape, C::NAME, samples.values());
}

/// The trace's queries one by one, each right after its hashes were written: mean and 99th percentile,
/// the best round of each. The contenders take turns.
pub fn one_by_one(report: &mut Report, work: &Fill, rounds: usize) {
    let (mut ours, mut kv) = (OneByOne::<Ours>::of(work), OneByOne::<KvIndex>::of(work));
    for _ in 0..rounds {
        ours.round();
        kv.round();
    }
    ours.report(report);
    kv.report(report);
}

struct OneByOne<C: Contender> {
    index: C,
    queries: Vec<C::Query>,
    means: Samples,
    tails: Samples,
}

impl<C: Contender> OneByOne<C> {
    fn of(work: &Fill) -> Self {
        let queries = work.queries.iter().map(|q| C::query(q)).collect();
        Self { index: fill(work), queries, means: Samples::default(), tails: Samples::default() }
    }

    fn round(&mut self) {
        let mut round = Samples::default();
        for query in &self.queries {
            // A gateway has just computed the hashes: they do not come from memory.
            let query = query.clone();
            round.push(time(|| black_box(self.index.ask(&query))).0);
        }
        self.means.push(round.mean());
        self.tails.push(round.quantile(0.99));
    }

    fn report(self, report: &mut Report) {
        for (bench, s) in [("match trace mean", self.means), ("match trace p99", self.tails)] {
            report.time(bench, "trace, 8 endpoints", C::NAME, s.values());
        }
    }
}

/// The 99th percentile of queries asked once.
pub fn tail<C: Contender>(index: &mut C, work: &Fill) -> f64 {
    let mut round = Samples::default();
    for query in work.queries.iter().map(|q| C::query(q)) {
        round.push(time(|| black_box(index.ask(&query))).0);
    }
    round.quantile(0.99)
}

/// From 7,200 tokens to matches.
pub fn tokens(report: &mut Report, rounds: usize) {
    let prompt: Vec<u32> = (0..7200u32).map(|t| t * 7919 % 50_000).collect();
    let scheme =
        kvsched_hash::Scheme::content("model", b"sixteen bytes or more").expect("a secret");
    let hasher = kvsched_hash::BlockHasher::builder(scheme).block_size(16).build().expect("a size");
    let mut hashes = Vec::new();
    let tokens = kvsched_core::Prompt::new(&prompt);
    hasher.hash_into(&tokens, &mut hashes).expect("small tokens");
    let mut index = Index::builder().build().expect("the defaults");
    let mut matches = PrefixMatches::new();
    index.store(Holder::device(EndpointId(0)), None, &hashes, Repeat::Known).expect("a store");
    let mut ours = Samples::default();
    let mut kv = Samples::default();
    let peer = kv_index::ChainIndex::new();
    let worker = peer.intern_worker("w0").expect("room");
    let contents = kv_index::compute_request_content_hashes(&prompt, 16);
    let names = kv_index::request_prefix_hashes(&contents);
    let stored: Vec<_> = contents
        .iter()
        .zip(&names)
        .map(|(&content_hash, &seq_hash)| kv_index::StoredBlock { seq_hash, content_hash })
        .collect();
    peer.apply_stored(worker, &stored, None, &mut kv_index::ChainBlockMap::new()).expect("stored");
    let mut tree = Crtc::new(8);
    let locals = compute_block_hash_for_seq(&prompt, 16, BlockHashOptions::default());
    tree.apply(indexes::stored(0, None, locals.iter().map(|&local| (local.0, local))));
    tree.settle();
    let mut dynamo = Samples::default();
    for _ in 0..rounds * 100 {
        ours.push(
            time(|| {
                hasher.hash_into(black_box(&tokens), &mut hashes).expect("small tokens");
                index.find_matches(&hashes, &mut matches);
            })
            .0,
        );
        kv.push(
            time(|| {
                let contents = kv_index::compute_request_content_hashes(black_box(&prompt), 16);
                peer.score_into(
                    &contents,
                    |h| h.0,
                    false,
                    |w, s| {
                        black_box((w, s));
                    },
                );
            })
            .0,
        );
        dynamo.push(
            time(|| {
                let options = BlockHashOptions::default();
                let locals = compute_block_hash_for_seq(black_box(&prompt), 16, options);
                tree.0.backend().find_matches(&locals, false)
            })
            .0,
        );
    }
    for (who, s) in [(Ours::NAME, ours), (KvIndex::NAME, kv), (Crtc::NAME, dynamo)] {
        report.time("tokens to matches", "7200 tokens", who, s.values());
    }
}
