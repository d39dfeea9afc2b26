//! Several threads at once.

use crate::changes::fill;
use crate::indexes::{Contender, Crtc, KvEvent, KvIndex, OurEvent, OursShared};
use crate::measure::{Samples, time};
use crate::report::Report;
use crate::workload::{self, Op};
use kv_index::{ChainBlockMap, ChainIndex};
use kvsched_core::{BlockHash, EndpointId, PrefixMatches};
use kvsched_index::{Holder, Repeat, SharedIndex};
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rounds in which one thread, two, and one beside a writer take turns: a machine is not equally fast at
/// all times.
const ROUNDS: u32 = 5;

/// Queries of one thread and of two, and of one beside a writer.
pub fn queries(report: &mut Report, duration: Duration) {
    let work = workload::private_chains(8, 450, 1_000_000, 1000);
    let (shared, other): (OursShared, OursShared) = (fill(&work), fill(&work));
    let (index, other) = (&shared.index, &other.index);
    let queries: Vec<Vec<BlockHash>> = work.queries.iter().map(|q| workload::blocks(q)).collect();
    let ask = |index: &SharedIndex, stop: &AtomicBool| {
        let mut matches = PrefixMatches::new();
        let (mut asked, mut round) = (0u64, Samples::default());
        let start = Instant::now();
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
        (asked as f64 / start.elapsed().as_secs_f64() / 1e6, round.quantile(0.99))
    };
    let duration = duration / ROUNDS;
    let run = |readers: &[&SharedIndex], write: bool| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            let (ask, stop) = (&ask, &stop);
            let readers: Vec<_> =
                readers.iter().map(|&index| s.spawn(move || ask(index, stop))).collect();
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
    let mut each: [Samples; 5] = Default::default();
    for _ in 0..ROUNDS {
        let (one, idle) = run(&[index], false);
        let (two, _) = run(&[index, index], false);
        let (apart, _) = run(&[index, other], false);
        let (_, beside) = run(&[index], true);
        // Of rates the negative, so that the least is the best.
        let values = [-one, -two, -apart, idle, beside];
        values.into_iter().zip(&mut each).for_each(|(value, all)| all.push(value));
    }
    let [one, two, apart, idle, beside] = each.map(|samples| samples.values());
    let rate = |(best, median): (f64, f64)| (-best, -median);
    let who = OursShared::NAME;
    report.add("queries", "1 thread", who, rate(one), "M/s", false);
    report.add("queries", "2 threads", who, rate(two), "M/s", false);
    // What this machine gives two who share nothing.
    report.add("queries", "2 threads, an index each", who, rate(apart), "M/s", false);
    report.time("match p99 beside", "nobody", who, idle);
    report.time("match p99 beside", "a writer", who, beside);
}

/// Changes that one endpoint announces: prompts whose first 32 blocks are everyone's, and 16 blocks
/// decoded after each; of some the tails are removed again.
fn stream(endpoint: u16) -> Vec<Op> {
    let mut ops = Vec::new();
    for op in workload::private_chains(1, 450, 200_000, 0).ops {
        let Op::Store { parent, hashes, .. } = op else { continue };
        let own = |h: u64| workload::chain(h, u64::from(endpoint) + 1);
        let is_shared = |i: usize| parent.is_none() && i < 32;
        let hashes: Vec<u64> = hashes
            .iter()
            .enumerate()
            .map(|(i, &h)| if is_shared(i) { h } else { own(h) })
            .collect();
        let mut last = hashes[hashes.len() - 1];
        let tail: Vec<u64> = hashes.iter().rev().take(200).copied().collect();
        ops.push(Op::Store { endpoint, parent, hashes, decode: false });
        for n in 0..16 {
            let hash = workload::chain(last, n);
            ops.push(Op::Store { endpoint, parent: Some(last), hashes: vec![hash], decode: true });
            last = hash;
        }
        if ops.len() % 2 == 0 {
            ops.push(Op::Remove { endpoint, hashes: tail });
        }
    }
    ops
}

/// Blocks written a second by one thread for one endpoint, and by two for one each.
pub fn writes(report: &mut Report, rounds: usize) {
    let streams = [stream(0), stream(1)];
    for (writers, shape) in [(1, "1 writer"), (2, "2 writers")] {
        let streams = &streams[..writers];
        let blocks: usize = streams.iter().flatten().map(Op::blocks).sum();
        let mut each: [Samples; 3] = Default::default();
        for _ in 0..rounds {
            let index = OursShared::new(2).index;
            let events = streams.iter().map(|s| s.iter().map(OurEvent::from).collect()).collect();
            each[0].push(at_once(events, vec![(); writers], |(), event| match event {
                OurEvent::Store(holder, parent, hashes) => {
                    index.store(holder, parent, &hashes, Repeat::Known).expect("a store");
                }
                OurEvent::Remove(holder, hashes) => {
                    index.remove(holder, &hashes);
                }
                OurEvent::Clear(endpoint) => index.clear(endpoint),
            }));

            let peer = ChainIndex::with_max_workers(64);
            let worker =
                |w| (peer.intern_worker(&format!("w{w}")).expect("room"), ChainBlockMap::new());
            let workers = (0..writers).map(worker).collect();
            let events = streams.iter().map(|s| s.iter().map(KvIndex::event).collect()).collect();
            each[1].push(at_once(events, workers, |(worker, map), event| match event {
                KvEvent::Store(_, parent, stored) => {
                    let _ = peer.apply_stored(*worker, &stored, parent, map);
                }
                KvEvent::Remove(_, hashes) => peer.apply_removed(*worker, &hashes, map),
                KvEvent::Clear(_) => peer.apply_cleared(*worker, map),
            }));

            let mut tree = Crtc::with_threads(writers);
            let events: Vec<_> = in_turn(streams).map(Crtc::event).collect();
            let (ns, ()) = time(|| {
                events.into_iter().for_each(|e| tree.apply(e));
                tree.settle();
            });
            each[2].push(ns);
        }
        for (who, s) in [OursShared::NAME, KvIndex::NAME, Crtc::NAME].into_iter().zip(each) {
            let (best, median) = s.values();
            let rate = |ns: f64| blocks as f64 / ns * 1e3;
            report.add("writes", shape, who, (rate(best), rate(median)), "M blocks/s", false);
        }
    }
}

/// The streams' changes, one of each in turn.
fn in_turn(streams: &[Vec<Op>]) -> impl Iterator<Item = &Op> {
    let longest = streams.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|i| streams.iter().filter_map(move |s| s.get(i)))
}

/// Nanoseconds until all streams are applied, a thread each, with what that thread owns.
fn at_once<E: Send, S: Send>(
    streams: Vec<Vec<E>>,
    states: Vec<S>,
    apply: impl Fn(&mut S, E) + Sync,
) -> f64 {
    let ready = Barrier::new(streams.len());
    std::thread::scope(|s| {
        let threads: Vec<_> = streams
            .into_iter()
            .zip(states)
            .map(|(stream, mut state)| {
                let (ready, apply) = (&ready, &apply);
                s.spawn(move || {
                    ready.wait();
                    let start = Instant::now();
                    stream.into_iter().for_each(|event| apply(&mut state, event));
                    // What the thread owns is dropped after the clock was read.
                    (start, Instant::now(), state)
                })
            })
            .collect();
        let done: Vec<_> = threads.into_iter().map(|t| t.join().expect("a writer")).collect();
        let start = done.iter().map(|d| d.0).min();
        let end = done.iter().map(|d| d.1).max();
        start.zip(end).map_or(f64::NAN, |(start, end)| (end - start).as_nanos() as f64)
    })
}
