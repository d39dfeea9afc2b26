//! kvsched's index beside its peers: every figure in one run, ours and theirs.
//!
//! `--quick` takes under a minute; `--json` prints rows instead of a table.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say so and stop")]

mod indexes;
mod measure;
mod workload;

use indexes::{Contender, Dynamo, KvIndex, Ours, OursShared, Scanned};
use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Rng};
use kvsched_index::{Holder, Index, Repeat};
use measure::{Row, Samples, bytes, time};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use workload::{Fill, Op};

#[global_allocator]
static ALLOCATOR: measure::Counting = measure::Counting;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    queries: usize,
    requests: usize,
    /// Entries of the indexes that are asked.
    entries: &'static [usize],
}

const QUICK: Effort = Effort { rounds: 5, queries: 1000, requests: 1200, entries: &[1_000_000] };
const THOROUGH: Effort =
    Effort { rounds: 15, queries: 4000, requests: 6000, entries: &[1_000_000, 10_000_000] };

struct Report {
    rows: Vec<Row>,
    json: bool,
}

impl Report {
    fn add(
        &mut self,
        bench: &'static str,
        shape: &str,
        who: &'static str,
        values: (f64, f64),
        unit: &'static str,
        lower_is_better: bool,
    ) {
        let (min, median) = values;
        let row = Row { bench, shape: shape.into(), who, min, median, unit, lower_is_better };
        if self.json {
            println!("{}", row.json());
        } else {
            println!("{bench:22} {shape:24} {who:24} {min:11.1} {median:11.1}  {unit}");
        }
        self.rows.push(row);
    }

    /// Our figure against the best peer's, row by row.
    fn ratios(&self) {
        let ours = self.rows.iter().filter(|r| r.who == Ours::NAME);
        for row in ours {
            let peers = self.rows.iter().filter(|p| {
                (p.bench, &p.shape) == (row.bench, &row.shape) && !p.who.starts_with("kvsched")
            });
            let gain = |p: &Row| {
                if row.lower_is_better { p.min / row.min } else { row.min / p.min }
            };
            let Some(best) = peers.min_by(|a, b| gain(a).total_cmp(&gain(b))) else { continue };
            let (bench, shape, who, gain) = (row.bench, &row.shape, best.who, gain(best));
            if self.json {
                println!(
                    r#"{{"bench":"{bench}","shape":"{shape}","who":"kvsched / {who}","value":{gain:.3},"unit":"times better","better":"higher"}}"#
                );
            } else {
                println!("{bench:22} {shape:24} {gain:8.2} times better than {who}");
            }
        }
    }
}

fn fill<C: Contender>(fill: &Fill) -> C {
    let mut index = C::new(fill.endpoints);
    for op in &fill.ops {
        index.apply(C::event(op));
    }
    index
}

/// Nanoseconds a query, over all queries, round by round.
fn matches<C: Contender>(report: &mut Report, work: &Fill, shape: &str, rounds: usize) {
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
    let values = (samples.quantile(0.0), samples.quantile(0.5));
    report.add("match", shape, C::NAME, values, "ns/query", true);
}

/// The trace's queries one by one: mean and 99th percentile, the best round of each.
fn matches_one_by_one<C: Contender>(report: &mut Report, work: &Fill, rounds: usize) {
    let mut index: C = fill(work);
    let queries: Vec<C::Query> = work.queries.iter().map(|q| C::query(q)).collect();
    let (mut means, mut tails) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let mut round = Samples::default();
        for query in &queries {
            round.push(time(|| black_box(index.ask(query))).0);
        }
        means.push(round.mean());
        tails.push(round.quantile(0.99));
    }
    for (bench, s) in [("match trace mean", means), ("match trace p99", tails)] {
        let values = (s.quantile(0.0), s.quantile(0.5));
        report.add(bench, "trace, 8 endpoints", C::NAME, values, "ns/query", true);
    }
}

/// The trace's events by kind, a block.
fn events<C: Contender>(report: &mut Report, work: &Fill, rounds: usize) {
    const KINDS: [&str; 4] = ["prefill store", "decode store", "remove", "all events"];
    let mut samples: [Samples; 4] = Default::default();
    for _ in 0..rounds {
        let mut index = C::new(work.endpoints);
        let mut sums = [(0.0, 0usize); 4];
        for ops in work.ops.chunks(1024) {
            let kind = |op: &Op| match op {
                Op::Store { decode: false, hashes, .. } => (0, hashes.len()),
                Op::Store { hashes, .. } => (1, hashes.len()),
                Op::Remove { hashes, .. } => (2, hashes.len()),
                Op::Clear { .. } => (3, 0),
            };
            let events: Vec<_> = ops.iter().map(|op| (kind(op), C::event(op))).collect();
            let mut last = Instant::now();
            for ((kind, blocks), event) in events {
                index.apply(event);
                let now = Instant::now();
                for kind in [kind, 3] {
                    sums[kind].0 += now.duration_since(last).as_nanos() as f64;
                    sums[kind].1 += blocks;
                }
                last = now;
            }
        }
        for (samples, (ns, blocks)) in samples.iter_mut().zip(sums) {
            samples.push(ns / blocks.max(1) as f64);
        }
    }
    for (bench, s) in KINDS.into_iter().zip(samples) {
        let values = (s.quantile(0.0), s.quantile(0.5));
        report.add(bench, "trace, 8 endpoints", C::NAME, values, "ns/block", true);
    }
}

/// Removals one block a message, in eviction order and in random order; then what queries cost.
fn removals<C: Contender>(report: &mut Report, endpoints: usize, length: usize) {
    let work = workload::private_chains(endpoints, length, 400_000, 500);
    let mut blocks: Vec<(u16, u64)> = Vec::new();
    for op in &work.ops {
        if let Op::Store { endpoint, hashes, .. } = op {
            blocks.extend(hashes.iter().rev().map(|&h| (*endpoint, h)));
        }
    }
    let mut shuffled = blocks.clone();
    let mut rng = Rng::new(9);
    for i in (1..shuffled.len()).rev() {
        shuffled.swap(i, rng.below(i + 1));
    }
    shuffled.truncate(blocks.len() / 2);
    let runs = [("remove one by one", blocks), ("remove in random order", shuffled)];
    for (bench, order) in runs {
        let mut index: C = fill(&work);
        let events: Vec<C::Event> = order
            .iter()
            .map(|&(endpoint, hash)| C::event(&Op::Remove { endpoint, hashes: vec![hash] }))
            .collect();
        let n = events.len() as f64;
        let (ns, ()) = time(|| events.into_iter().for_each(|e| index.apply(e)));
        let shape = format!("{endpoints} x {length}");
        report.add(bench, &shape, C::NAME, (ns / n, ns / n), "ns/block", true);
        if bench == "remove in random order" {
            let mut round = Samples::default();
            for query in work.queries.iter().map(|q| C::query(q)) {
                round.push(time(|| black_box(index.ask(&query))).0);
            }
            let p99 = round.quantile(0.99);
            report.add("match p99 after it", &shape, C::NAME, (p99, p99), "ns/query", true);
        }
    }
}

/// A clear of one endpoint's 450,000 blocks.
fn clear<C: Contender>(report: &mut Report, rounds: usize) {
    let work = workload::private_chains(1, 450, 450_000, 1);
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let mut index: C = fill(&work);
        samples.push(time(|| index.apply(C::event(&Op::Clear { endpoint: 0 }))).0 / 1e3);
    }
    let values = (samples.quantile(0.0), samples.quantile(0.5));
    report.add("clear", "450k blocks", C::NAME, values, "us", true);
}

/// Bytes a (block, holder) with one and with eight holders, and what the second one's store costs.
fn memory<C: Contender>(report: &mut Report) {
    let prompts: Vec<Vec<u64>> = workload::private_chains(1, 450, 400_000, 0)
        .ops
        .into_iter()
        .scan(Vec::new(), |shared: &mut Vec<u64>, op| {
            let Op::Store { parent, hashes, .. } = op else { return None };
            if parent.is_none() {
                *shared = hashes[..32].to_vec();
                return Some(hashes);
            }
            Some(shared.iter().copied().chain(hashes).collect())
        })
        .collect();
    let before = bytes();
    let mut index = C::new(8);
    let blocks = (32 + prompts.len() * 418) as f64;
    for holders in [1, 8] {
        for endpoint in if holders == 1 { 0..1 } else { 1..8 } {
            let mut ns = 0.0;
            for prompt in &prompts {
                let hashes = prompt.clone();
                let event = C::event(&Op::Store { endpoint, parent: None, hashes, decode: false });
                ns += time(|| index.apply(event)).0;
            }
            if endpoint == 1 {
                let ns = ns / (prompts.len() * 450) as f64;
                report.add(
                    "second holder's store",
                    "450 blocks",
                    C::NAME,
                    (ns, ns),
                    "ns/block",
                    true,
                );
            }
        }
        let each = (bytes() - before) as f64 / blocks / f64::from(holders);
        let shape = format!("{holders} holders");
        report.add("memory", &shape, C::NAME, (each, each), "B/(block, holder)", true);
    }
}

/// Queries of one thread and of two, and of one beside a writer.
fn threads(report: &mut Report, duration: Duration) {
    let work = workload::private_chains(8, 450, 1_000_000, 1000);
    let shared: OursShared = fill(&work);
    let index = &shared.index;
    let queries: Vec<Vec<BlockHash>> = work.queries.iter().map(|q| workload::blocks(q)).collect();
    let ask = |stop: &AtomicBool| {
        let mut matches = PrefixMatches::new();
        let (mut asked, mut round) = (0u64, Samples::default());
        while !stop.load(Ordering::Relaxed) {
            for batch in queries.chunks(4) {
                let (ns, ()) = time(|| {
                    for q in batch {
                        index.find_matches(q, &mut matches);
                    }
                });
                black_box(&matches);
                asked += batch.len() as u64;
                if asked % 64 == 0 {
                    round.push(ns / batch.len() as f64);
                }
            }
        }
        (asked as f64 / duration.as_secs_f64() / 1e6, round.quantile(0.99))
    };
    let run = |readers: usize, write: bool| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            let readers: Vec<_> = (0..readers).map(|_| s.spawn(|| ask(&stop))).collect();
            let start = Instant::now();
            let mut written = 0u64;
            while start.elapsed() < duration {
                if !write {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let mut prompt = queries[written as usize % queries.len()][..32].to_vec();
                for i in 0..64 {
                    prompt.push(BlockHash(workload::chain(written << 8 | i, 77)));
                }
                let holder = Holder::device(EndpointId((written % 8) as u16));
                let _ = index.store(holder, None, &prompt, Repeat::Known);
                prompt.reverse();
                index.remove(holder, &prompt[..64]);
                written += 1;
            }
            stop.store(true, Ordering::Relaxed);
            let each: Vec<_> = readers.into_iter().map(|r| r.join().expect("a reader")).collect();
            (each.iter().map(|e| e.0).sum::<f64>(), each[0].1)
        })
    };
    let (one, idle) = run(1, false);
    let (two, _) = run(2, false);
    let (_, beside) = run(1, true);
    let who = OursShared::NAME;
    report.add("queries", "1 thread", who, (one, one), "M/s", false);
    report.add("queries", "2 threads", who, (two, two), "M/s", false);
    report.add("match p99", "idle", who, (idle, idle), "ns/query", true);
    report.add("match p99", "beside a writer", who, (beside, beside), "ns/query", true);
}

/// From 7,200 tokens to matches.
fn tokens(report: &mut Report, rounds: usize) {
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
    for _ in 0..rounds * 100 {
        ours.push(
            time(|| {
                hashes.clear();
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
    }
    for (who, s) in [(Ours::NAME, ours), (KvIndex::NAME, kv)] {
        let values = (s.quantile(0.0), s.quantile(0.5));
        report.add("tokens to matches", "7200 tokens", who, values, "ns/query", true);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    if let Some(unknown) = arguments.iter().find(|a| !["--quick", "--json"].contains(&a.as_str())) {
        eprintln!("unknown option {unknown}; there are --quick and --json");
        std::process::exit(2);
    }
    let effort = if has("--quick") { QUICK } else { THOROUGH };
    let mut report = Report { rows: Vec::new(), json: has("--json") };
    for &entries in effort.entries {
        for (endpoints, length) in [(8, 450), (8, 2000), (512, 450)] {
            let work = workload::private_chains(endpoints, length, entries, effort.queries);
            let shape = format!("{endpoints} x {length}, {}M", entries / 1_000_000);
            matches::<Ours>(&mut report, &work, &shape, effort.rounds);
            matches::<OursShared>(&mut report, &work, &shape, effort.rounds);
            matches::<KvIndex>(&mut report, &work, &shape, effort.rounds);
            if entries == 1_000_000 {
                matches::<Dynamo>(&mut report, &work, &shape, 1);
            }
        }
    }
    let small = workload::private_chains(8, 450, 20_000, 20);
    matches::<Ours>(&mut report, &small, "8 x 450, 20k", effort.rounds);
    matches::<Scanned>(&mut report, &small, "8 x 450, 20k", 1);
    let trace = workload::trace(8, 60_000, effort.requests);
    let rounds = effort.rounds.min(5);
    events::<Ours>(&mut report, &trace, rounds);
    events::<OursShared>(&mut report, &trace, rounds);
    events::<KvIndex>(&mut report, &trace, rounds);
    events::<Dynamo>(&mut report, &trace, 1);
    matches_one_by_one::<Ours>(&mut report, &trace, rounds);
    matches_one_by_one::<KvIndex>(&mut report, &trace, rounds);
    removals::<Ours>(&mut report, 8, 450);
    removals::<KvIndex>(&mut report, 8, 450);
    removals::<Dynamo>(&mut report, 8, 450);
    clear::<Ours>(&mut report, 3);
    clear::<KvIndex>(&mut report, 1);
    clear::<Dynamo>(&mut report, 1);
    memory::<Ours>(&mut report);
    memory::<KvIndex>(&mut report);
    memory::<Dynamo>(&mut report);
    threads(&mut report, Duration::from_millis(if has("--quick") { 500 } else { 3000 }));
    tokens(&mut report, effort.rounds);
    report.ratios();
}
