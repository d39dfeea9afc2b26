//! Streams over a bad line, beside an engine that is simulated and knows what it holds.

// A test may fail where it likes.
#![allow(clippy::unwrap_used)]

use kvsched_core::{
    BlockHash, EndpointId, EngineHash, Event, PrefixMatches, Removed, Rng, Stored, Time, Trust,
};
use kvsched_index::events::vllm::{Version, encode};
use kvsched_index::events::{
    EventStream, FrameError, Heard, ReplayMessage, StreamSettings, TrustReason, replay_message,
};
use kvsched_index::{Identity, Index};
use kvsched_testdata::capture::{self, Capture};
use kvsched_testdata::{Vectors, vector_files};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const A: EndpointId = EndpointId(0);

/// Prompts of few beginnings: prompt `p` is `p`'s digits, each naming the prefix so far.
fn prompt(p: u64) -> Vec<u64> {
    (1..=4u32).map(|n| 1 + p / 3u64.pow(4 - n) + u64::from(n) * 1000).collect()
}

const PROMPTS: u64 = 81;

/// What an engine holds: copies by block.
type Cache = BTreeMap<u64, u32>;

/// An engine that publishes.
struct Engine {
    cache: Cache,
    sequence: u64,
    buffer: VecDeque<(u64, Vec<u8>)>,
    buffered: usize,
    /// The cache after each batch.
    history: Vec<Cache>,
    rng: Rng,
}

#[derive(Clone)]
enum Say {
    Store(Option<u64>, Vec<u64>),
    Remove(u64),
    Clear,
}

impl Engine {
    fn new(seed: u64, buffered: usize) -> Self {
        Self {
            cache: Cache::new(),
            sequence: 0,
            buffer: VecDeque::new(),
            buffered,
            history: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    fn compute(&mut self, p: u64, says: &mut Vec<Say>) {
        let blocks = prompt(p);
        let hit = blocks.iter().take_while(|b| self.cache.contains_key(b)).count();
        self.store(&blocks, hit, says);
    }

    fn store(&mut self, blocks: &[u64], hit: usize, says: &mut Vec<Say>) {
        for &b in &blocks[hit..] {
            *self.cache.entry(b).or_default() += 1;
        }
        if hit < blocks.len() {
            let parent = hit.checked_sub(1).map(|i| blocks[i]);
            says.push(Say::Store(parent, blocks[hit..].to_vec()));
        }
    }

    /// One scheduler step.
    fn step(&mut self, now: Time) -> (u64, Vec<u8>) {
        let mut says = Vec::new();
        for _ in 0..1 + self.rng.below(3) {
            let p = self.rng.below(PROMPTS as usize) as u64;
            match self.rng.below(40) {
                0 => self.clear(&mut says),
                1..20 => self.compute(p, &mut says),
                20..24 => {
                    // A prompt that is held, computed anew: others go to make room for it.
                    let blocks = prompt(p);
                    let is_other = |b: &&u64| !blocks.contains(b);
                    let others: Vec<u64> =
                        self.cache.keys().rev().filter(is_other).take(4).copied().collect();
                    if others.len() == 4 && blocks.iter().all(|b| self.cache.contains_key(b)) {
                        others.into_iter().for_each(|b| self.remove(b, &mut says));
                        self.store(&blocks, 0, &mut says);
                    }
                }
                24..27 => {
                    // A full hit: its last block is computed again.
                    let blocks = prompt(p);
                    if blocks.iter().all(|b| self.cache.contains_key(b)) {
                        self.store(&blocks, blocks.len() - 1, &mut says);
                    }
                }
                _ => {
                    let last = self.cache.keys().next_back().copied();
                    if let Some(b) = last {
                        self.remove(b, &mut says);
                    }
                }
            }
        }
        self.publish(&says, now)
    }

    fn remove(&mut self, block: u64, says: &mut Vec<Say>) {
        says.push(Say::Remove(block));
        let copies = self.cache.get_mut(&block).unwrap();
        *copies -= 1;
        if *copies == 0 {
            self.cache.remove(&block);
        }
    }

    fn clear(&mut self, says: &mut Vec<Say>) {
        self.cache.clear();
        says.push(Say::Clear);
    }

    fn publish(&mut self, says: &[Say], now: Time) -> (u64, Vec<u8>) {
        let hashes: Vec<Vec<EngineHash>> = says
            .iter()
            .map(|say| match say {
                Say::Store(_, blocks) => blocks.iter().copied().map(EngineHash).collect(),
                Say::Remove(b) => vec![EngineHash(*b)],
                Say::Clear => Vec::new(),
            })
            .collect();
        let tokens = vec![0; 4 * 16];
        let events: Vec<_> = says
            .iter()
            .zip(&hashes)
            .map(|(say, hashes)| match say {
                Say::Store(parent, _) => Event::Stored(Stored::new(
                    parent.map(EngineHash),
                    hashes,
                    &tokens[..hashes.len() * 16],
                    16,
                )),
                Say::Remove(_) => Event::Removed(Removed {
                    hashes,
                    medium: None,
                    group: None,
                    locality: None,
                    ownership: None,
                }),
                Say::Clear => Event::Cleared,
            })
            .map(Into::into)
            .collect();
        let mut payload = Vec::new();
        encode(Version::NEWEST, now.as_secs_f64(), Some(0), &events, &mut payload);
        let sequence = self.sequence;
        self.sequence += 1;
        self.history.push(self.cache.clone());
        self.buffer.push_back((sequence, payload.clone()));
        if self.buffer.len() > self.buffered {
            self.buffer.pop_front();
        }
        (sequence, payload)
    }
}

/// A gateway's side: the stream, the index, and a clock.
struct Side {
    index: Index,
    stream: EventStream,
    now: Time,
}

impl Side {
    fn new() -> Self {
        let settings = StreamSettings::default();
        let index = Index::builder().block_size(16).build().unwrap();
        Self { index, stream: EventStream::new(A, settings), now: Time(0) }
    }

    fn receive(&mut self, sequence: u64, payload: &[u8]) -> Heard {
        self.stream.receive(&mut self.index, &mut Identity::Engine, sequence, payload, self.now)
    }

    fn replayed(&mut self, message: ReplayMessage<'_>) -> Heard {
        self.stream.replayed(&mut self.index, &mut Identity::Engine, message, self.now)
    }

    fn wait(&mut self, seconds: u64) -> Heard {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.stream.tick(&mut self.index, &mut Identity::Engine, self.now)
    }

    /// The engine answers a replay request, and those that follow from its answer.
    fn answer(&mut self, engine: &Engine, from: u64) {
        let mut from = Some(from);
        while let Some(first) = from.take() {
            for (sequence, payload) in engine.buffer.iter().filter(|(s, _)| *s >= first) {
                let batch = ReplayMessage::Batch { sequence: *sequence, payload };
                assert_eq!(self.replayed(batch).replay_from, None, "one question at a time");
            }
            from = self.replayed(ReplayMessage::End).replay_from;
        }
    }

    fn matched(&self, blocks: &[u64]) -> usize {
        let hashes: Vec<_> = blocks.iter().copied().map(BlockHash).collect();
        let mut matches = PrefixMatches::new();
        self.index.find_matches(&hashes, &mut matches);
        matches.blocks(A) as usize
    }

    fn trust(&self) -> Trust {
        self.stream.trust().trust
    }

    /// While trust says exact, every match is the engine's own, as of the last batch applied.
    fn check(&self, engine: &Engine) -> Result<(), TestCaseError> {
        if self.trust() != Trust::Exact {
            return Ok(());
        }
        let empty = Cache::new();
        let last = self.stream.next_sequence().checked_sub(1);
        let cache = last.map_or(&empty, |l| &engine.history[l as usize]);
        for p in 0..PROMPTS {
            let blocks = prompt(p);
            let held = blocks.iter().take_while(|b| cache.contains_key(b)).count();
            prop_assert_eq!(self.matched(&blocks), held, "prompt {} after {:?}", p, last);
        }
        Ok(())
    }
}

/// What the line does to the next message.
#[derive(Clone, Copy, Debug)]
enum Line {
    Deliver,
    Drop,
    Twice,
    /// Delivered after the one that follows.
    Late,
    Truncated(usize),
    /// An old message comes once more.
    Old(usize),
    /// The engine starts anew, and whether somebody tells.
    Restart(bool),
    Wait(u64),
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        12 => Just(Line::Deliver),
        2 => Just(Line::Drop),
        1 => Just(Line::Twice),
        2 => Just(Line::Late),
        1 => (0..200usize).prop_map(Line::Truncated),
        1 => (0..100usize).prop_map(Line::Old),
        1 => any::<bool>().prop_map(Line::Restart),
        1 => (0..20u64).prop_map(Line::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn over_any_line_trust_is_kept_and_regained(
        lines in prop::collection::vec(line(), 1..120),
        seed in any::<u64>(),
        buffered in prop_oneof![Just(0usize), Just(3), Just(20), Just(10_000)],
        answers in 0..4u32,
    ) {
        let mut engine = Engine::new(seed, buffered);
        let mut side = Side::new();
        let mut late: Option<(u64, Vec<u8>)> = None;
        let mut old: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut luck = Rng::new(seed ^ 1);
        for line in lines {
            side.now = side.now.after(Duration::from_millis(100));
            let message = engine.step(side.now);
            let mut arriving = Vec::new();
            match line {
                Line::Deliver => arriving.push(message.clone()),
                Line::Drop => {}
                Line::Twice => arriving.extend([message.clone(), message.clone()]),
                Line::Late => {
                    if late.is_none() {
                        late = Some(message.clone());
                    } else {
                        arriving.push(message.clone());
                    }
                }
                Line::Truncated(at) => {
                    let (sequence, payload) = &message;
                    arriving.push((*sequence, payload[..at.min(payload.len())].to_vec()));
                }
                Line::Old(i) => {
                    arriving.push(message.clone());
                    arriving.extend(old.get(i % old.len().max(1)).cloned());
                }
                Line::Wait(seconds) => {
                    side.wait(seconds);
                    arriving.push(message.clone());
                }
                Line::Restart(is_told) => {
                    engine = Engine::new(seed ^ side.now.0, buffered);
                    (late, old) = (None, Vec::new());
                    if is_told {
                        side.stream.restart(&mut side.index, side.now);
                    }
                    // Whoever is not told needs its first message, which shows it.
                    let first = engine.step(side.now.after(Duration::from_millis(1)));
                    if !is_told {
                        arriving.push(first);
                    }
                }
            }
            if !matches!(line, Line::Late | Line::Restart(_)) {
                arriving.extend(late.take());
                old.push(message);
            }
            for (sequence, payload) in arriving {
                let heard = side.receive(sequence, &payload);
                prop_assert!(heard.batches as u64 <= engine.sequence);
                if let Some(from) = heard.replay_from {
                    // Some questions are never answered.
                    if luck.below(3) < answers as usize {
                        side.answer(&engine, from);
                    }
                }
                side.check(&engine)?;
            }
            side.index.validate();
        }
        // The line gets better, and the engine clears its cache one day.
        for i in 0..6 {
            side.wait(6);
            let message = match i {
                2 => {
                    let mut says = Vec::new();
                    engine.clear(&mut says);
                    engine.publish(&says, side.now)
                }
                _ => engine.step(side.now),
            };
            let heard = side.receive(message.0, &message.1);
            if let Some(from) = heard.replay_from {
                side.answer(&engine, from);
            }
            side.check(&engine)?;
        }
        prop_assert_eq!(side.trust(), Trust::Exact, "{:?}", side.stream.trust());
        prop_assert_eq!(side.stream.next_sequence(), engine.sequence);
    }

    /// With a replay that reaches back far enough nothing is ever lost, and no clear is needed.
    #[test]
    fn what_can_be_replayed_is_never_lost(
        drops in prop::collection::vec(any::<bool>(), 1..100), seed in any::<u64>(),
    ) {
        let mut engine = Engine::new(seed, 10_000);
        let mut side = Side::new();
        for is_dropped in drops.into_iter().chain([false]) {
            side.now = side.now.after(Duration::from_millis(100));
            let (sequence, payload) = engine.step(side.now);
            if !is_dropped {
                if let Some(from) = side.receive(sequence, &payload).replay_from {
                    prop_assert_eq!(side.trust(), Trust::Degraded);
                    side.answer(&engine, from);
                }
                prop_assert_eq!(side.trust(), Trust::Exact);
                side.check(&engine)?;
            }
        }
    }
}

fn captures() -> Vec<Capture> {
    let files = vector_files(Vectors::EngineCapture).unwrap();
    files.iter().flat_map(|f| capture::read(f).unwrap()).collect()
}

/// Compatible with vLLM: the recorded answers to a question for a replay, in the framing of
/// 0.26 and, without the topic, in that of the versions before.
#[test]
fn compatible_replays_fill_the_gap() {
    let mut filled = 0;
    for capture in captures() {
        let Some(complete) = capture.replays.iter().find(|r| r.start_seq == 3) else { continue };
        for has_topic in [true, false] {
            let mut straight = Side::new();
            let mut gapped = Side::new();
            let block = capture.settings.block as u32;
            for side in [&mut straight, &mut gapped] {
                side.index = Index::builder().block_size(block).build().unwrap();
            }
            let mut asked = None;
            for (i, message) in capture.messages.iter().enumerate() {
                straight.receive(message.sequence().unwrap(), message.payload());
                if i < 3 || i + 1 == capture.messages.len() {
                    let heard = gapped.receive(message.sequence().unwrap(), message.payload());
                    asked = asked.or(heard.replay_from);
                }
            }
            assert_eq!(asked, Some(3), "capture {}", capture.name);
            assert_eq!(gapped.trust(), Trust::Degraded);
            for reply in &complete.replies {
                let frames: Vec<_> = reply.iter().map(|f| f.0.as_slice()).collect();
                let frames = if has_topic { frames } else { [&frames[..1], &frames[2..]].concat() };
                gapped.replayed(replay_message(&frames).unwrap());
            }
            assert_eq!(gapped.stream.trust().reason, TrustReason::Complete, "{}", capture.name);
            assert_eq!(gapped.stream.next_sequence(), straight.stream.next_sequence());
            assert_eq!(gapped.index.stats().blocks, straight.index.stats().blocks);
            filled += 1;
        }
    }
    assert!(filled >= 8, "{filled} replays");
}

#[test]
fn compatible_end_markers() {
    for capture in captures() {
        for replay in &capture.replays {
            let Some(last) = replay.replies.last() else { continue };
            let frames: Vec<_> = last.iter().map(|f| f.0.as_slice()).collect();
            assert_eq!(replay_message(&frames), Ok(ReplayMessage::End));
        }
    }
    assert_eq!(replay_message(&[b"x"]), Err(FrameError::TooFew { frames: 1 }));
    assert_eq!(replay_message(&[b"short", b""]), Err(FrameError::Sequence { bytes: 5 }));
}

/// A few batches of one engine.
fn batches(n: usize) -> (Engine, Vec<(u64, Vec<u8>)>) {
    let mut engine = Engine::new(7, 10_000);
    let batches = (0..n).map(|i| engine.step(Time::from_secs_f64(i as f64))).collect();
    (engine, batches)
}

#[test]
fn a_replay_too_short_is_told_and_the_rest_applied() {
    let (_, batches) = batches(10);
    let mut side = Side::new();
    side.receive(0, &batches[0].1);
    assert_eq!(side.receive(5, &batches[5].1).replay_from, Some(1));
    // The buffer reaches back to 3 only.
    for (sequence, payload) in &batches[3..6] {
        side.replayed(ReplayMessage::Batch { sequence: *sequence, payload });
    }
    side.replayed(ReplayMessage::End);
    let report = side.stream.trust();
    assert_eq!(report.reason, TrustReason::Lost { from: 1, to: 2 });
    assert_eq!(report.reason.to_string(), "batches 1 to 2 are lost");
    assert_eq!((report.trust, side.stream.next_sequence()), (Trust::Degraded, 6));
}

#[test]
fn a_replay_that_does_not_come_is_given_up() {
    let (_, batches) = batches(10);
    let mut side = Side::new();
    side.receive(0, &batches[0].1);
    side.receive(2, &batches[2].1);
    assert_eq!(side.wait(4).batches, 0);
    // A message of the subscription is no answer.
    side.receive(3, &batches[3].1);
    assert_eq!(side.stream.trust().reason, TrustReason::ReplayPending { from: 1 });
    assert_eq!(side.wait(1).batches, 2);
    assert_eq!(side.stream.trust().reason, TrustReason::Lost { from: 1, to: 1 });
    assert_eq!(side.stream.next_sequence(), 4);
    assert_eq!(side.stream.trust().since, side.now);
    // An answer that comes after all changes nothing.
    assert!(side.replayed(ReplayMessage::Batch { sequence: 1, payload: &batches[1].1 }).duplicate);
}

#[test]
fn what_waits_is_bounded() {
    let (_, batches) = batches(100);
    let mut settings = StreamSettings::default();
    settings.held_bytes = 2000;
    let mut side = Side::new();
    side.stream = EventStream::new(A, settings);
    let (mut waiting, mut reasons) = (0, Vec::new());
    for (sequence, payload) in &batches[1..] {
        let heard = side.receive(*sequence, payload);
        waiting = if heard.batches == 0 { waiting + payload.len() } else { 0 };
        assert!(waiting <= 2000);
        reasons.push(side.stream.trust().reason);
    }
    assert!(reasons.contains(&TrustReason::Lost { from: 0, to: 0 }), "{reasons:?}");
}

#[test]
fn an_endpoint_that_falls_silent_is_stale_until_it_speaks() {
    let (_, batches) = batches(3);
    let mut side = Side::new();
    assert_eq!(side.trust(), Trust::Approximate);
    side.receive(0, &batches[0].1);
    side.wait(599);
    assert_eq!(side.trust(), Trust::Exact);
    side.wait(1);
    assert_eq!(side.stream.trust().reason.to_string(), "nothing has come for 600s");
    assert_eq!(side.stream.trust().since, Time::from_secs_f64(600.0));
    side.receive(1, &batches[1].1);
    assert_eq!((side.trust(), side.stream.trust().since), (Trust::Exact, side.now));
}

#[test]
fn a_restart_is_told_from_a_duplicate() {
    let (_, old) = batches(2000);
    let mut side = Side::new();
    for (sequence, payload) in &old {
        side.receive(*sequence, payload);
    }
    let held = side.index.stats().blocks;
    // Within and beyond what is remembered.
    for i in [0, 100, 1500, 1999] {
        let heard = side.receive(i, &old[i as usize].1);
        assert!(heard.duplicate && !heard.restarted);
    }
    assert_eq!(side.index.stats().blocks, held);
    // The new engine's first messages are lost; its clock is later.
    let mut new = Engine::new(8, 10_000);
    for _ in 0..5 {
        new.step(Time::from_secs_f64(3000.0));
    }
    let (sequence, payload) = new.step(Time::from_secs_f64(3000.0));
    let heard = side.receive(sequence, &payload);
    assert!(heard.restarted && heard.replay_from == Some(0));
    assert_eq!(prompts_matched(&side), 0);
    side.answer(&new, 0);
    assert_eq!(side.trust(), Trust::Exact);
    side.check(&new).unwrap();
}

fn prompts_matched(side: &Side) -> usize {
    (0..PROMPTS).filter(|&p| side.matched(&prompt(p)) > 0).count()
}

#[test]
fn a_batch_that_cannot_be_read_is_asked_for_again() {
    let (engine, batches) = batches(4);
    let mut side = Side::new();
    side.receive(0, &batches[0].1);
    let cut = &batches[1].1[..batches[1].1.len() - 1];
    assert_eq!(side.receive(1, cut).replay_from, Some(1));
    side.answer(&engine, 1);
    assert_eq!((side.trust(), side.stream.next_sequence()), (Trust::Exact, 4));
    side.check(&engine).unwrap();

    // It comes back no better.
    let mut side = Side::new();
    side.receive(0, &batches[0].1);
    side.receive(1, cut);
    side.replayed(ReplayMessage::Batch { sequence: 1, payload: cut });
    side.replayed(ReplayMessage::End);
    let why = side.stream.trust().reason.to_string();
    assert!(why.starts_with("batch 1 cannot be read: byte "), "{why}");
    assert_eq!(side.receive(2, &batches[2].1).batches, 1);
    // Or comes again by itself, whole.
    let mut side = Side::new();
    side.receive(0, cut);
    assert_eq!(side.receive(0, &batches[0].1).batches, 1);
    assert_eq!(side.trust(), Trust::Exact);
}

/// The number that ends a replay is no batch's, wherever it turns up.
#[test]
fn the_last_number_of_all_is_passed_over() {
    let (engine, batches) = batches(4);
    let mut side = Side::new();
    side.receive(0, &batches[0].1);
    let payload = &batches[1].1;
    assert_eq!(side.receive(u64::MAX, payload), Heard::default());
    side.wait(60);
    assert_eq!((side.trust(), side.stream.next_sequence()), (Trust::Exact, 1));
    // One before it is a batch, if a lonely one; the next that comes shows a restart.
    assert_eq!(side.receive(u64::MAX - 1, payload).replay_from, Some(1));
    let last = ReplayMessage::Batch { sequence: u64::MAX, payload };
    assert_eq!(side.replayed(last).batches, 0);
    side.wait(60);
    assert_eq!((side.trust(), side.stream.next_sequence()), (Trust::Degraded, u64::MAX));
    let heard = side.receive(3, &batches[3].1);
    assert!(heard.restarted && heard.replay_from == Some(0));
    side.answer(&engine, 0);
    assert_eq!((side.trust(), side.stream.next_sequence()), (Trust::Exact, 4));
    side.check(&engine).unwrap();
}

/// A caller's clock that jumps back makes nothing late, silent or undone.
#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let (engine, batches) = batches(6);
    let mut side = Side::new();
    side.now = Time::from_secs_f64(1000.0);
    side.receive(0, &batches[0].1);
    assert_eq!(side.receive(2, &batches[2].1).replay_from, Some(1));
    side.now = Time(0);
    assert_eq!(side.wait(4).batches, 0, "the question is not late by a clock that went back");
    assert_eq!(side.trust(), Trust::Degraded);
    side.answer(&engine, 1);
    assert_eq!((side.trust(), side.stream.next_sequence()), (Trust::Exact, 6));
    side.wait(599);
    assert_eq!(side.trust(), Trust::Exact);
    side.now = Time(0);
    side.wait(0);
    assert_eq!(side.trust(), Trust::Exact);
    side.check(&engine).unwrap();
}

/// What follows a clear in its own batch is counted as after any other clear.
#[test]
fn copies_count_again_from_the_clear_on() {
    let (_, batches) = batches(3);
    let mut side = Side::new();
    side.receive(2, &batches[2].1);
    side.wait(5);
    assert_eq!(side.trust(), Trust::Degraded);
    let mut engine = Engine::new(1, 10);
    engine.sequence = 3;
    let run = |blocks: [u64; 2]| Say::Store(None, blocks.to_vec());
    let (first, second) = (run([1, 2]), run([1, 2]));
    let says = [Say::Clear, first, run([8, 9]), Say::Remove(9), Say::Remove(8), second];
    let (sequence, payload) = engine.publish(&says, Time(1));
    side.receive(sequence, &payload);
    let (sequence, payload) = engine.publish(&[Say::Remove(2)], Time(2));
    side.receive(sequence, &payload);
    assert_eq!((side.trust(), side.matched(&[1, 2])), (Trust::Exact, 2));
}
