//! The routing history beside a list that is too slow to be wrong.
#![allow(clippy::disallowed_methods, reason = "threads are part of what is tested")]

use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Tier, Time};
use kvsched_index::{Confirming, Holder, Holdings, Index, Repeat, RoutingHistory};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const A: EndpointId = EndpointId(0);
const B: EndpointId = EndpointId(1);
const LEASE: u64 = 50;

fn history(capacity: u32) -> RoutingHistory {
    RoutingHistory::new(capacity, Duration::from_nanos(LEASE))
}

fn blocks(of: impl IntoIterator<Item = u64>) -> Vec<BlockHash> {
    of.into_iter().map(BlockHash).collect()
}

fn matched(history: &RoutingHistory, hashes: &[BlockHash], now: u64) -> Vec<u32> {
    let mut matches = PrefixMatches::new();
    history.expire(Time(now));
    history.find_matches(hashes, &mut matches);
    assert_eq!(matches.prompt_blocks() as usize, hashes.len());
    matches.as_slice().to_vec()
}

/// Per endpoint its capacity and blocks in order of use, oldest first, with the end of their
/// lease.
#[derive(Clone, Debug)]
struct Naive {
    /// Of the last record.
    now: u64,
    endpoints: Vec<(usize, Vec<(BlockHash, u64)>)>,
}

impl Naive {
    fn expire(&mut self, now: u64) {
        for (_, used) in &mut self.endpoints {
            used.retain(|&(_, ends)| ends > now);
        }
    }

    fn record(&mut self, endpoint: usize, hashes: &[BlockHash], now: u64) {
        self.now = self.now.max(now);
        self.expire(self.now);
        let (capacity, used) = &mut self.endpoints[endpoint];
        for &hash in hashes.iter().take(*capacity).rev() {
            used.retain(|&(h, _)| h != hash);
            used.push((hash, self.now + LEASE));
            if used.len() > *capacity {
                used.remove(0);
            }
        }
    }

    fn raise(&self, hashes: &[BlockHash], matched: &mut [u32]) {
        for (length, (_, used)) in matched.iter_mut().zip(&self.endpoints) {
            let held = |h: &BlockHash| used.iter().any(|(u, _)| u == h);
            *length += hashes[*length as usize..].iter().take_while(|h| held(h)).count() as u32;
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Record(usize, Vec<u64>),
    Forget(usize, Vec<u64>),
    Clear(usize),
    Capacity(usize, usize),
    Expire,
    Wait(u64),
    Back(u64),
}

fn op() -> impl Strategy<Value = Op> {
    // Prompts of few beginnings, so that they share prefixes.
    let prompt = || {
        (0..4u64, 0..12u64)
            .prop_map(|(p, n)| (0..n).map(|i| if i < 3 { i } else { p * 100 + i }).collect())
    };
    // A part anywhere, as events confirm it.
    let part = || {
        (0..4u64, 0..12u64, 0..12u64).prop_map(|(p, from, n)| {
            (from..12.min(from + n)).map(|i| if i < 3 { i } else { p * 100 + i }).collect()
        })
    };
    prop_oneof![
        6 => (0..3usize, prompt()).prop_map(|(e, p)| Op::Record(e, p)),
        2 => (0..3usize, part()).prop_map(|(e, p)| Op::Forget(e, p)),
        1 => (0..3usize).prop_map(Op::Clear),
        1 => (0..3usize, 0..20usize).prop_map(|(e, c)| Op::Capacity(e, c)),
        1 => Just(Op::Expire),
        2 => (0..40u64).prop_map(Op::Wait),
        1 => (0..20u64).prop_map(Op::Back),
    ]
}

proptest! {
    #[test]
    fn equals_the_oracle(ops in prop::collection::vec(op(), 1..80), start in prop::collection::vec(0..6u32, 4)) {
        let ours = history(10);
        let mut naive = Naive { now: 0, endpoints: vec![(10, Vec::new()); 3] };
        let mut now = 0u64;
        let (mut found, mut spare) = (PrefixMatches::new(), PrefixMatches::new());
        for op in ops {
            match op {
                Op::Record(e, p) => {
                    let p = blocks(p);
                    ours.record(EndpointId(e as u16), &p, Time(now));
                    naive.record(e, &p, now);
                }
                Op::Forget(e, p) => {
                    let p = blocks(p);
                    ours.forget(EndpointId(e as u16), &p);
                    naive.endpoints[e].1.retain(|(h, _)| !p.contains(h));
                }
                Op::Clear(e) => {
                    ours.clear(EndpointId(e as u16));
                    naive.endpoints[e].1.clear();
                }
                Op::Capacity(e, c) => {
                    ours.set_capacity(EndpointId(e as u16), c as u32);
                    let (capacity, used) = &mut naive.endpoints[e];
                    *capacity = c;
                    used.drain(..used.len().saturating_sub(c));
                }
                Op::Expire => {
                    ours.expire(Time(now));
                    naive.expire(now);
                }
                Op::Wait(t) => now += t,
                Op::Back(t) => now = now.saturating_sub(t),
            }
            for (e, (_, used)) in naive.endpoints.iter().enumerate() {
                prop_assert_eq!(ours.len(EndpointId(e as u16)), used.len());
            }
            prop_assert_eq!(ours.is_empty(), naive.endpoints.iter().all(|(_, used)| used.is_empty()));
            for p in 0..4u64 {
                let prompt = blocks((0..12).map(|i| if i < 3 { i } else { p * 100 + i }));
                let mut expected = vec![0; 3];
                naive.raise(&prompt, &mut expected);
                ours.find_matches(&prompt, &mut found);
                prop_assert_eq!(found.prompt_blocks(), 12);
                let mut found = found.as_slice().to_vec();
                found.resize(3, 0);
                prop_assert_eq!(found, expected);
                // From matches that an index might have found, one of them of an endpoint that
                // was never routed to.
                let mut raised = PrefixMatches::new();
                raised.reset(4, 12);
                raised.as_mut_slice().copy_from_slice(&start);
                ours.raise_matches(&prompt, &mut raised, &mut spare);
                let mut expected = start.clone();
                naive.raise(&prompt, &mut expected);
                prop_assert_eq!(raised.as_slice(), &expected[..]);
            }
        }
    }
}

#[test]
fn a_full_endpoint_gives_up_the_ends_of_old_prompts_first() {
    let h = history(6);
    h.record(A, &blocks(0..4), Time(0));
    h.record(A, &blocks(10..14), Time(1));
    assert_eq!(matched(&h, &blocks(0..4), 2), [2]);
    assert_eq!(matched(&h, &blocks(10..14), 2), [4]);
    // A prompt larger than the cache leaves its beginning.
    h.record(A, &blocks(20..40), Time(2));
    assert_eq!(matched(&h, &blocks(20..40), 3), [6]);
    assert_eq!(h.len(A), 6);
}

#[test]
fn a_lease_ends_unless_it_is_used() {
    let h = history(10);
    h.record(A, &blocks(0..3), Time(0));
    h.record(A, &blocks(0..2), Time(LEASE - 1));
    assert_eq!(matched(&h, &blocks(0..3), LEASE - 1), [3]);
    assert_eq!(matched(&h, &blocks(0..3), LEASE), [2]);
    assert_eq!(matched(&h, &blocks(0..3), 2 * LEASE - 1), [0]);
}

/// A burst: the second request finds the first's endpoint before any event does.
#[test]
fn speculation_bridges_the_time_until_the_event() -> Result<(), Box<dyn std::error::Error>> {
    let mut index = Index::builder().build()?;
    let speculated = history(100);
    let prompt = blocks(0..8);
    index.store(Holder::device(A), None, &prompt[..2], Repeat::Known)?;
    speculated.record(B, &prompt, Time(0));
    speculated.record(A, &prompt[..4], Time(0));
    let (mut matches, mut spare) = (PrefixMatches::new(), PrefixMatches::new());
    index.find_matches(&prompt, &mut matches);
    assert_eq!(matches.as_slice(), [2]);
    speculated.raise_matches(&prompt, &mut matches, &mut spare);
    assert_eq!(matches.as_slice(), [4, 8]);

    // The event confirms; what is still expected goes on from what the index knows.
    let mut confirming = Confirming::new(&mut index, Some(&speculated));
    confirming.store(Holder::device(B), None, &prompt[..6], Repeat::Known)?;
    assert_eq!(speculated.len(B), 2);
    index.find_matches(&prompt, &mut matches);
    speculated.raise_matches(&prompt, &mut matches, &mut spare);
    assert_eq!(matches.as_slice(), [4, 8]);
    index.find_matches(&prompt, &mut matches);
    speculated.expire(Time(LEASE));
    speculated.raise_matches(&prompt, &mut matches, &mut spare);
    assert_eq!(matches.as_slice(), [2, 6], "the lease has ended");

    // A removal denies; what slower tiers say is no matter.
    speculated.record(B, &prompt, Time(LEASE));
    let host = Holder { tier: Tier::HOST, ..Holder::device(B) };
    let mut confirming = Confirming::new(&mut index, Some(&speculated));
    confirming.store(host, None, &prompt[..6], Repeat::Known)?;
    confirming.remove(host, &prompt[..6]);
    assert_eq!(speculated.len(B), 8);
    let mut confirming = Confirming::new(&mut index, Some(&speculated));
    confirming.remove(Holder::device(B), &prompt[4..]);
    index.find_matches(&prompt, &mut matches);
    speculated.raise_matches(&prompt, &mut matches, &mut spare);
    assert_eq!(matches.as_slice(), [2, 4]);
    Confirming::new(&mut index, Some(&speculated)).clear(B);
    assert!(speculated.is_empty() && !index.holds(Holder::device(B), prompt[0]));
    Ok(())
}

#[test]
fn a_record_sweeps_what_ended_everywhere() {
    let h = history(10);
    h.record(A, &blocks(0..3), Time(0));
    h.record(B, &blocks(10..12), Time(LEASE));
    assert_eq!((h.len(A), h.len(B)), (0, 2));
}

#[test]
fn nobody_has_the_last_id() {
    let h = history(10);
    h.record(EndpointId(u16::MAX), &blocks(0..3), Time(0));
    assert!(h.is_empty());
    assert_eq!(matched(&h, &blocks(0..3), 0), Vec::<u32>::new());
}

#[test]
fn queries_allocate_nothing_once_warm() {
    let h = history(50);
    let (mut matches, mut spare) = (PrefixMatches::new(), PrefixMatches::new());
    let prompts: Vec<_> =
        (0..40u64).map(|p| blocks((0..20).map(|i| i + (i / 5) * p * 100))).collect();
    let mut longest = 0;
    let mut ask = |h: &RoutingHistory| {
        for prompt in &prompts {
            h.find_matches(prompt, &mut matches);
            longest = longest.max(matches.longest());
            h.raise_matches(prompt, &mut matches, &mut spare);
        }
    };
    for (t, prompt) in (0..).zip(&prompts) {
        h.record(if t % 2 == 0 { A } else { B }, prompt, Time(t));
    }
    // Now and then somebody frees what records left behind, other tests' too; a list of that is
    // the only thing that is ever allocated.
    let used = (0..100).map(|_| allocation_counter::measure(|| ask(&h)).count_total);
    assert_eq!(used.min(), Some(0));
    assert_eq!(longest, 20);
}

/// Threads that record, forget and ask at once: every answer is of something that was sent there,
/// and afterwards ledger and index agree.
#[test]
fn threads_share_it() {
    let h = RoutingHistory::new(64, Duration::from_secs(1));
    let clock = AtomicU64::new(0);
    let prompts: Vec<_> = (0..16u64)
        .map(|p| blocks((0..30).map(|i| if i < 10 { i } else { (p + 1) * 1000 + i })))
        .collect();
    std::thread::scope(|s| {
        for thread in 0..3u16 {
            let (h, clock, prompts) = (&h, &clock, &prompts);
            s.spawn(move || {
                let (mut matches, mut spare) = (PrefixMatches::new(), PrefixMatches::new());
                for round in 0..if cfg!(miri) { 5 } else { 2000 } {
                    let prompt = &prompts[(round * 7 + thread as usize) % prompts.len()];
                    h.find_matches(prompt, &mut matches);
                    h.raise_matches(prompt, &mut matches, &mut spare);
                    assert!(matches.as_slice().iter().all(|&m| m <= 30));
                    assert!(matches.as_slice().len() <= 3);
                    let now = Time(clock.fetch_add(1, Ordering::Relaxed));
                    h.record(EndpointId(thread), prompt, now);
                    h.forget(EndpointId(thread), &prompt[20..]);
                    h.find_matches(prompt, &mut matches);
                    assert_eq!(matches.blocks(EndpointId(thread)), 20, "nobody else takes it away");
                }
            });
        }
    });
    for endpoint in (0..3).map(EndpointId) {
        h.clear(endpoint);
    }
    assert!(h.is_empty());
    assert_eq!(matched(&h, &prompts[0], 0), [0; 3]);
}
