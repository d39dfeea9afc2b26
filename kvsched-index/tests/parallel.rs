//! Writers for different endpoints at the same time, each beside an oracle of its own endpoints: whatever the
//! others do, these hold what was said of them.
#![allow(clippy::disallowed_methods, reason = "threads are what is tested")]
#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use kvsched_core::{BlockHash, EndpointId, EngineHash, PrefixMatches, Rng};
use kvsched_index::{Holder, Index, Repeat, SharedIndex};
use std::sync::Barrier;
use world::{Variety, World};

const WRITERS: usize = if cfg!(miri) { 2 } else { 4 };

/// Runs `write` as so many threads that begin together.
fn in_parallel(index: &SharedIndex, write: impl Fn(usize) + Sync) {
    let start = Barrier::new(WRITERS);
    std::thread::scope(|s| {
        for n in 0..WRITERS {
            let (start, write) = (&start, &write);
            s.spawn(move || {
                start.wait();
                write(n);
            });
        }
    });
    index.validate();
}

/// Worlds of a few prompts that all writers share, so that they meet in the same chains all the time.
fn drive(seed: u64, worlds: usize, steps: usize) -> usize {
    for i in 0..worlds {
        let seed = seed.wrapping_add(i as u64);
        let variety = Variety::ALL[i % Variety::ALL.len()];
        let index = Index::builder().build_shared().unwrap();
        in_parallel(&index, |n| {
            let mut world = World::part(variety, (n, WRITERS), &index, &mut Rng::new(seed));
            let mut rng = Rng::new(seed ^ (n as u64 + 1) << 48);
            (0..steps).for_each(|_| world.step(&mut rng));
            world.ask_all();
        });
    }
    WRITERS * worlds * steps
}

#[test]
fn each_endpoint_holds_what_its_writer_says() {
    let (worlds, steps) = if cfg!(miri) { (1, 40) } else { (60, 1_000) };
    assert_eq!(drive(1, worlds, steps), WRITERS * worlds * steps);
}

/// `cargo test --release -p kvsched-index --test parallel -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes"]
fn ten_million_operations_in_parallel() {
    let mut done = 0;
    let mut seed = 1 << 33;
    while done < 10_000_000 {
        done += drive(seed, 120, 2_000);
        seed += 120;
        #[allow(clippy::print_stdout, reason = "how far a long run is")]
        {
            println!("{done} operations, 0 mismatches");
        }
    }
}

/// The same new prompts, stored by all at once: whoever is first writes a block, and none is written twice.
#[test]
fn a_prompt_that_all_store_at_once_is_there_once() {
    let (rounds, blocks) = if cfg!(miri) { (3, 20) } else { (300, 300) };
    let index = Index::builder().build_shared().unwrap();
    in_parallel(&index, |n| {
        let endpoint = EndpointId(n as u16);
        for round in 0..rounds {
            let prompt: Vec<_> = (0..blocks).map(|b| BlockHash(round << 32 | b)).collect();
            // Some begin in the middle, or announce block by block.
            let (first, rest) = prompt.split_at((n * 7) % 20);
            let holder = Holder::device(endpoint);
            if n % 2 == 0 {
                index.store(holder, None, first, Repeat::Known).unwrap();
                let parent = first.last().copied();
                index.store(holder, parent, rest, Repeat::Known).unwrap();
            } else {
                let mut parent = None;
                for &block in &prompt {
                    index.store(holder, parent, &[block], Repeat::Known).unwrap();
                    parent = Some(block);
                }
            }
            let mut matches = PrefixMatches::new();
            index.find_matches(&prompt, &mut matches);
            assert_eq!(u64::from(matches.blocks(endpoint)), blocks, "round {round}");
        }
    });
    let stats = index.stats();
    assert_eq!(stats.blocks as u64, rounds * blocks);
    assert_eq!(stats.pending, 0);
}

#[test]
fn names_mean_the_same_whoever_says_them() {
    let (rounds, blocks) = if cfg!(miri) { (1, 40) } else { (400, 60) };
    let index = Index::builder().build_shared().unwrap();
    let name = |block: BlockHash| EngineHash(block.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 5);
    in_parallel(&index, |n| {
        let holder = Holder::device(EndpointId(n as u16));
        let mut rng = Rng::new(n as u64);
        for _ in 0..rounds {
            let prompt: Vec<_> =
                (0..blocks).map(|b| BlockHash((rng.below(6) as u64) << 32 | b)).collect();
            // One of six prompts, and hashes name all before them: so all blocks are of one.
            let which = prompt[0].0 >> 32;
            let prompt: Vec<_> = (0..blocks).map(|b| BlockHash(which << 32 | b)).collect();
            let names: Vec<_> = prompt.iter().map(|&b| name(b)).collect();
            index.store_mapped(holder, None, &names, &prompt, Repeat::Known).unwrap();
            for (&engine, &block) in names.iter().zip(&prompt) {
                assert_eq!(index.resolve(engine), Some(block));
            }
            let kept = rng.below(prompt.len());
            let gone: Vec<_> = prompt[kept..].iter().rev().copied().collect();
            assert_eq!(index.remove(holder, &gone), gone.len());
        }
        index.clear(holder.endpoint);
    });
    index.reclaim();
    index.validate();
    assert_eq!(index.stats().blocks, 0);
}

#[test]
fn a_budget_is_kept_beside_writers() {
    let budget = 1 << 20;
    let index = Index::builder().byte_budget(budget).build_shared().unwrap();
    let rounds = if cfg!(miri) { 3 } else { 1_500 };
    in_parallel(&index, |n| {
        let holder = Holder::device(EndpointId(n as u16));
        let mut matches = PrefixMatches::new();
        for round in 0..rounds {
            let prompt: Vec<_> =
                (0..60).map(|b| BlockHash((round * 4 + n as u64 % 3) << 20 | b)).collect();
            index.store(holder, None, &prompt, Repeat::Known).unwrap();
            index.find_matches(&prompt, &mut matches);
            assert!(matches.blocks(holder.endpoint) <= 60);
        }
    });
    let stats = index.stats();
    assert!(stats.bytes <= budget, "{} bytes", stats.bytes);
    assert!(cfg!(miri) || stats.evicted > 0 && stats.blocks > 10_000, "{stats:?}");
}
