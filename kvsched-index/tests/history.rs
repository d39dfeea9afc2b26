//! The routing history beside a list that is too slow to be wrong.

use kvsched_core::{BlockHash, EndpointId, PrefixMatches, Time};
use kvsched_index::{Holder, Index, Repeat, RoutingHistory};
use proptest::prelude::*;
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
    history.find_matches(hashes, Time(now), &mut matches);
    assert_eq!(matches.prompt_blocks() as usize, hashes.len());
    matches.as_slice().to_vec()
}

/// Per endpoint the blocks in order of use, oldest first, with the end of their lease.
#[derive(Clone, Debug)]
struct Naive(Vec<(usize, Vec<(BlockHash, u64)>)>);

impl Naive {
    fn record(&mut self, endpoint: usize, hashes: &[BlockHash], now: u64) {
        let (capacity, used) = &mut self.0[endpoint];
        for &hash in hashes.iter().take(*capacity).rev() {
            used.retain(|&(h, _)| h != hash);
            used.push((hash, now + LEASE));
            if used.len() > *capacity {
                used.remove(0);
            }
        }
    }

    fn raise(&self, hashes: &[BlockHash], now: u64, matched: &mut [u32]) {
        for (length, (_, used)) in matched.iter_mut().zip(&self.0) {
            let lives = |h: &BlockHash| used.iter().any(|&(u, ends)| u == *h && ends > now);
            *length += hashes[*length as usize..].iter().take_while(|h| lives(h)).count() as u32;
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Record(usize, Vec<u64>),
    Forget(usize, Vec<u64>),
    Clear(usize),
    Capacity(usize, usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    // Prompts of few beginnings, so that they share prefixes.
    let prompt = || {
        (0..4u64, 0..12u64)
            .prop_map(|(p, n)| (0..n).map(|i| if i < 3 { i } else { p * 100 + i }).collect())
    };
    prop_oneof![
        6 => (0..3usize, prompt()).prop_map(|(e, p)| Op::Record(e, p)),
        1 => (0..3usize, prompt()).prop_map(|(e, p)| Op::Forget(e, p)),
        1 => (0..3usize).prop_map(Op::Clear),
        1 => (0..3usize, 0..20usize).prop_map(|(e, c)| Op::Capacity(e, c)),
        2 => (0..40u64).prop_map(Op::Wait),
    ]
}

proptest! {
    #[test]
    fn equals_the_oracle(ops in prop::collection::vec(op(), 1..80), start in prop::collection::vec(0..6u32, 3)) {
        let mut ours = history(10);
        let mut naive = Naive(vec![(10, Vec::new()); 3]);
        let mut now = 0;
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
                    naive.0[e].1.retain(|(h, _)| !p.contains(h));
                }
                Op::Clear(e) => {
                    ours.clear(EndpointId(e as u16));
                    naive.0[e].1.clear();
                }
                Op::Capacity(e, c) => {
                    ours.set_capacity(EndpointId(e as u16), c as u32);
                    let (capacity, used) = &mut naive.0[e];
                    *capacity = c;
                    used.drain(..used.len().saturating_sub(c));
                }
                Op::Wait(t) => now += t,
            }
            for (e, (_, used)) in naive.0.iter().enumerate() {
                prop_assert_eq!(ours.len(EndpointId(e as u16)), used.len());
            }
            prop_assert_eq!(ours.is_empty(), naive.0.iter().all(|(_, used)| used.is_empty()));
            for p in 0..4u64 {
                let prompt = blocks((0..12).map(|i| if i < 3 { i } else { p * 100 + i }));
                let mut expected = vec![0; 3];
                naive.raise(&prompt, now, &mut expected);
                let mut found = matched(&ours, &prompt, now);
                found.resize(3, 0);
                prop_assert_eq!(found, expected);
                // From matches that an index might have found.
                let mut raised = PrefixMatches::new();
                raised.reset(3, 12);
                raised.as_mut_slice().copy_from_slice(&start);
                ours.raise_matches(&prompt, Time(now), &mut raised);
                let mut expected = start.clone();
                naive.raise(&prompt, now, &mut expected);
                prop_assert_eq!(raised.as_slice(), &expected[..]);
            }
        }
    }
}

#[test]
fn a_full_endpoint_gives_up_the_ends_of_old_prompts_first() {
    let mut h = history(6);
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
    let mut h = history(10);
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
    let mut speculated = history(100);
    let prompt = blocks(0..8);
    index.store(Holder::device(A), None, &prompt[..2], Repeat::Known)?;
    speculated.record(B, &prompt, Time(0));
    speculated.record(A, &prompt[..4], Time(0));
    let mut matches = PrefixMatches::new();
    index.find_matches(&prompt, &mut matches);
    assert_eq!(matches.as_slice(), [2]);
    speculated.raise_matches(&prompt, Time(1), &mut matches);
    assert_eq!(matches.as_slice(), [4, 8]);

    // The event confirms; what is forgotten here goes on from what the index knows.
    index.store(Holder::device(B), None, &prompt[..6], Repeat::Known)?;
    speculated.forget(B, &prompt[..6]);
    index.find_matches(&prompt, &mut matches);
    speculated.raise_matches(&prompt, Time(1), &mut matches);
    assert_eq!(matches.as_slice(), [4, 8]);
    index.find_matches(&prompt, &mut matches);
    speculated.raise_matches(&prompt, Time(LEASE), &mut matches);
    assert_eq!(matches.as_slice(), [2, 6], "the lease has ended");
    Ok(())
}

#[test]
fn a_warm_history_allocates_nothing() {
    let mut h = history(50);
    let mut matches = PrefixMatches::new();
    let prompts: Vec<_> =
        (0..40u64).map(|p| blocks((0..20).map(|i| i + (i / 5) * p * 100))).collect();
    let mut round = |from: u64| {
        for (t, prompt) in (from..).zip(&prompts) {
            for e in [A, B] {
                h.find_matches(prompt, Time(t), &mut matches);
                h.record(e, prompt, Time(t));
            }
        }
    };
    // Tables that lose and gain rebuild themselves a few times before they are settled.
    (0..10).for_each(|i| round(i * 40));
    let used = allocation_counter::measure(|| round(400));
    assert_eq!(used.count_total, 0, "{used:?}");
    assert!(matches.longest() > 0);
}
