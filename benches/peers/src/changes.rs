//! What changes cost, and what they leave behind.

use crate::indexes::{Contender, Crtc, Dynamo, KvIndex, Ours, OursShared};
use crate::matching::tail;
use crate::measure::{Samples, bytes, time};
use crate::report::Report;
use crate::workload::{self, Fill, Op, blocks};
use kvsched_core::{EndpointId, EngineHash, Rng};
use kvsched_index::{Holder, Repeat};

/// An index that has seen it all.
pub fn fill<C: Contender>(fill: &Fill) -> C {
    let mut index = C::new(fill.endpoints);
    for op in &fill.ops {
        index.apply(C::event(op));
    }
    index.settle();
    index
}

/// What the trace's events are told apart by.
const KINDS: [&str; 4] = ["prefill store", "decode store", "remove", "all events"];

/// Once the trace's events by kind, in nanoseconds a block. The clock is read where the kind changes: an
/// event of one block takes little longer than reading it.
fn pass<C: Contender>(work: &Fill) -> [f64; 4] {
    let kind = |op: &Op| match op {
        Op::Store { decode, .. } => usize::from(*decode),
        Op::Remove { .. } | Op::Clear { .. } => 2,
    };
    let mut index = C::new(work.endpoints);
    let mut sums = [(0.0, 0); 4];
    for ops in work.ops.chunks(1024) {
        let alike: Vec<(usize, usize, Vec<C::Event>)> = ops
            .chunk_by(|a, b| kind(a) == kind(b))
            .map(|ops| {
                let blocks = ops.iter().map(Op::blocks).sum();
                (kind(&ops[0]), blocks, ops.iter().map(C::event).collect())
            })
            .collect();
        for (kind, blocks, events) in alike {
            let (ns, ()) = time(|| events.into_iter().for_each(|e| index.apply(e)));
            for kind in [kind, 3] {
                sums[kind].0 += ns;
                sums[kind].1 += blocks;
            }
        }
    }
    sums.map(|(ns, blocks)| ns / blocks as f64)
}

/// The trace's events by kind. The contenders take turns, for a machine is not equally fast at all times.
pub fn events(report: &mut Report, work: &Fill, shape: &str, rounds: usize) {
    type Pass = fn(&Fill) -> [f64; 4];
    let contenders: [(&str, Pass, usize); 4] = [
        (Ours::NAME, pass::<Ours>, rounds),
        (OursShared::NAME, pass::<OursShared>, rounds),
        (KvIndex::NAME, pass::<KvIndex>, rounds),
        (Dynamo::NAME, pass::<Dynamo>, rounds.min(2)),
    ];
    let mut samples: [[Samples; 4]; 4] = Default::default();
    for round in 0..rounds {
        for ((_, pass, rounds), samples) in contenders.iter().zip(&mut samples) {
            if round < *rounds {
                samples.iter_mut().zip(pass(work)).for_each(|(s, ns)| s.push(ns));
            }
        }
    }
    for ((who, ..), samples) in contenders.iter().zip(samples) {
        for (bench, s) in KINDS.into_iter().zip(samples) {
            report.time(bench, shape, who, s.values());
        }
    }
}

/// The trace's events as a whole, for who does them on a thread of its own.
pub fn all_events<C: Contender>(report: &mut Report, work: &Fill, rounds: usize) {
    let blocks: usize = work.ops.iter().map(Op::blocks).sum();
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let mut index = C::new(work.endpoints);
        let events: Vec<_> = work.ops.iter().map(C::event).collect();
        let (ns, ()) = time(|| {
            events.into_iter().for_each(|e| index.apply(e));
            index.settle();
        });
        samples.push(ns / blocks as f64);
    }
    report.time("all events", "trace, 8 endpoints", C::NAME, samples.values());
}

/// What one round of removals gave, each a sample: nanoseconds a block, and of queries before and after.
struct Removed {
    ns: f64,
    before: [f64; 3],
    after: [f64; 3],
}

/// Once one block a message.
fn remove<C: Contender>(work: &Fill, order: &[(u16, u64)]) -> Removed {
    let mut index: C = fill(work);
    let before = [0; 3].map(|_| tail(&mut index, work));
    let events: Vec<C::Event> = order
        .iter()
        .map(|&(endpoint, hash)| C::event(&Op::Remove { endpoint, hashes: vec![hash] }))
        .collect();
    let n = events.len() as f64;
    let (ns, ()) = time(|| {
        events.into_iter().for_each(|e| index.apply(e));
        index.settle();
    });
    let after = [0; 3].map(|_| tail(&mut index, work));
    Removed { ns: ns / n, before, after }
}

/// Removals one block a message, in eviction order and in random order, and what queries cost before
/// and after the latter. The contenders take turns.
pub fn removals(report: &mut Report, work: &Fill, shape: &str, rounds: usize) {
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
    type Remove = fn(&Fill, &[(u16, u64)]) -> Removed;
    let contenders: [(&str, Remove); 4] = [
        (Ours::NAME, remove::<Ours>),
        (KvIndex::NAME, remove::<KvIndex>),
        (Dynamo::NAME, remove::<Dynamo>),
        (Crtc::NAME, remove::<Crtc>),
    ];
    for (bench, order) in [("remove one by one", blocks), ("remove in random order", shuffled)] {
        let mut samples: [[Samples; 3]; 4] = Default::default();
        for _ in 0..rounds {
            for ((_, remove), [ns, before, after]) in contenders.iter().zip(&mut samples) {
                let removed = remove(work, &order);
                ns.push(removed.ns);
                removed.before.into_iter().for_each(|p99| before.push(p99));
                removed.after.into_iter().for_each(|p99| after.push(p99));
            }
        }
        for ((who, _), [ns, before, after]) in contenders.iter().zip(samples) {
            report.time(bench, shape, who, ns.values());
            if bench == "remove in random order" {
                report.time("match p99 before it", shape, who, before.values());
                report.time("match p99 after it", shape, who, after.values());
            }
        }
    }
}

/// A clear of one endpoint's 450,000 blocks.
pub fn clear<C: Contender>(report: &mut Report, rounds: usize) {
    let work = workload::private_chains(1, 450, 450_000, 1);
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let mut index: C = fill(&work);
        let (ns, ()) = time(|| {
            index.apply(C::event(&Op::Clear { endpoint: 0 }));
            index.settle();
        });
        samples.push(ns / 1e3);
    }
    report.add("clear", "450k blocks", C::NAME, samples.values(), "us", true);
}

/// 400,000 blocks as prompts of 450, of which the first 32 are the same.
fn prompts() -> Vec<Vec<u64>> {
    let mut shared = Vec::new();
    let mut prompts = Vec::new();
    for op in workload::private_chains(1, 450, 400_000, 0).ops {
        if let Op::Store { parent, hashes, .. } = op {
            if parent.is_none() {
                shared = hashes[..32].to_vec();
                prompts.push(hashes);
            } else {
                prompts.push(shared.iter().copied().chain(hashes).collect());
            }
        }
    }
    prompts
}

/// Bytes a (block, holder) with one and with eight holders, and what the second one's store costs.
pub fn memory<C: Contender>(report: &mut Report) {
    let prompts = prompts();
    let before = bytes();
    let mut index = C::new(8);
    let blocks = (32 + prompts.len() * 418) as f64;
    for (holders, shape) in [(1, "1 holder"), (8, "8 holders")] {
        for endpoint in if holders == 1 { 0..1 } else { 1..8 } {
            let mut ns = 0.0;
            for prompt in &prompts {
                let hashes = prompt.clone();
                let event = C::event(&Op::Store { endpoint, parent: None, hashes, decode: false });
                ns += time(|| index.apply(event)).0;
            }
            let (waited, ()) = time(|| index.settle());
            if endpoint == 1 {
                let ns = (ns + waited) / (prompts.len() * 450) as f64;
                report.time("second holder's store", "450 blocks", C::NAME, (ns, ns));
            }
        }
        let each = (bytes() - before) as f64 / blocks / f64::from(holders);
        report.add("memory", shape, C::NAME, (each, each), "B/(block, holder)", true);
    }
}

/// Bytes a block where the engine's names are others, and lead to ours through a map.
pub fn names(report: &mut Report) {
    let prompts = prompts();
    let before = bytes();
    let mut index = Ours::new(1).index;
    for prompt in &prompts {
        let engine: Vec<_> = prompt.iter().map(|&h| EngineHash(!h)).collect();
        let holder = Holder::device(EndpointId(0));
        index.store_mapped(holder, None, &engine, &blocks(prompt), Repeat::Known).expect("a store");
    }
    let each = (bytes() - before) as f64 / (32 + prompts.len() * 418) as f64;
    let shape = "1 holder, engine's names";
    report.add("memory", shape, Ours::NAME, (each, each), "B/(block, holder)", true);
}
