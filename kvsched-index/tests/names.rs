//! Engines' own names of blocks, beside a plain map.

#![allow(clippy::unwrap_used, reason = "test code")]

use kvsched_core::{BlockHash, EndpointId, EngineHash, Group};
use kvsched_index::{GroupRule, Holder, Index, Repeat};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// What names mean, as far as it is certain.
#[derive(Default)]
struct Truth {
    meaning: HashMap<u64, u64>,
    /// Names whose block somebody has held ever since it was named.
    certain: HashSet<u64>,
    held: HashSet<(u16, u8, u64)>,
}

impl Truth {
    fn store(&mut self, holder: Holder, names: &[EngineHash], blocks: &[BlockHash]) {
        for (name, block) in names.iter().zip(blocks) {
            self.held.insert((holder.endpoint.0, holder.group.0, block.0));
            self.meaning.insert(name.0, block.0);
            self.certain.insert(name.0);
        }
    }

    fn lose(&mut self, lost: impl Fn(&(u16, u8, u64)) -> bool) {
        self.held.retain(|h| !lost(h));
        let held: HashSet<u64> = self.held.iter().map(|&(_, _, block)| block).collect();
        let meaning = &self.meaning;
        self.certain.retain(|name| held.contains(&meaning[name]));
    }

    fn check(&self, index: &Index) -> Result<(), TestCaseError> {
        for (&name, &block) in &self.meaning {
            let got = index.resolve(EngineHash(name)).map(|b| b.0);
            let may_be_gone = !self.certain.contains(&name);
            prop_assert!(
                got == Some(block) || got.is_none() && may_be_gone,
                "{name:x} is {got:x?}, not {block:x}"
            );
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// Blocks of a prompt, from one on, as an engine of this accent names them.
    Store {
        endpoint: u16,
        loose: bool,
        prompt: u64,
        from: u64,
        blocks: u64,
        accent: u64,
    },
    Remove {
        endpoint: u16,
        loose: bool,
        prompt: u64,
        from: u64,
        blocks: u64,
        backwards: bool,
    },
    Clear {
        endpoint: u16,
    },
    Reclaim,
}

fn op() -> impl Strategy<Value = Op> {
    let stretch = || (0u16..4, any::<bool>(), 0u64..6, 0u64..400, 0u64..700);
    prop_oneof![
        6 => (stretch(), 0u64..4).prop_map(|((endpoint, loose, prompt, from, blocks), accent)| {
            Op::Store { endpoint, loose, prompt, from, blocks, accent }
        }),
        4 => (stretch(), any::<bool>()).prop_map(
            |((endpoint, loose, prompt, from, blocks), backwards)| {
                Op::Remove { endpoint, loose, prompt, from, blocks, backwards }
            }
        ),
        1 => (0u16..4).prop_map(|endpoint| Op::Clear { endpoint }),
        1 => Just(Op::Reclaim),
    ]
}

fn blocks(prompt: u64, from: u64, blocks: u64) -> Vec<BlockHash> {
    (from..from + blocks).map(|i| BlockHash(prompt << 32 | i)).collect()
}

/// How hostile engines may choose their names: few bits that differ, and where.
fn name(crowd: u8, accent: u64, block: BlockHash) -> EngineHash {
    // A name under which different engines mean different blocks, too.
    let dense = ((block.0 >> 32 << 12) + block.0 % 4096) * 3 + accent;
    EngineHash(match crowd {
        0 => dense,
        1 => !dense,
        2 => dense << 44,
        3 => dense << 24,
        4 => dense.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29),
        // Their mixed first halves are the same.
        _ => {
            let folded = dense.wrapping_mul(0xf1de_83e1_9937_733d);
            folded ^ folded >> 32
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 48 }))]

    /// Operations in any order; engines that name the same block differently, and different blocks
    /// alike; blocks of chains and of loose groups.
    #[test]
    fn names_are_a_map(ops in proptest::collection::vec(op(), 0..40), crowd in 0u8..6) {
        let mut index = Index::builder().build().unwrap();
        for endpoint in 0..4 {
            let rule = GroupRule::SlidingWindow { tokens: 64 };
            index.set_group(EndpointId(endpoint), Group(1), rule, 16).unwrap();
        }
        let holder = |endpoint, loose: bool| Holder {
            group: Group(u8::from(loose)), ..Holder::device(EndpointId(endpoint))
        };
        let mut truth = Truth::default();
        for op in ops {
            match op {
                Op::Store { endpoint, loose, prompt, from, blocks: n, accent } => {
                    let held = blocks(prompt, from, n);
                    let names: Vec<_> = held.iter().map(|&b| name(crowd, accent, b)).collect();
                    let parent = from.checked_sub(1).map(|i| BlockHash(prompt << 32 | i));
                    let holder = holder(endpoint, loose);
                    let stored = index.store_mapped(holder, parent, &names, &held, Repeat::Known);
                    if stored.is_ok() {
                        truth.store(holder, &names, &held);
                    }
                }
                Op::Remove { endpoint, loose, prompt, from, blocks: n, backwards } => {
                    let mut gone = blocks(prompt, from, n);
                    if backwards {
                        gone.reverse();
                    }
                    index.remove(holder(endpoint, loose), &gone);
                    let gone: HashSet<_> = gone.iter().map(|b| b.0).collect();
                    truth.lose(|&(e, g, block)| {
                        e == endpoint && g == u8::from(loose) && gone.contains(&block)
                    });
                }
                Op::Clear { endpoint } => {
                    index.clear(EndpointId(endpoint));
                    truth.lose(|&(e, _, _)| e == endpoint);
                }
                Op::Reclaim => index.reclaim(),
            }
            index.validate();
            truth.check(&index)?;
        }
        for endpoint in 0..4 {
            index.clear(EndpointId(endpoint));
        }
        index.reclaim();
        index.validate();
        prop_assert!(truth.meaning.keys().all(|&name| index.resolve(EngineHash(name)).is_none()));
    }
}

fn engine_names(prompt: &[BlockHash], engine: u64) -> Vec<EngineHash> {
    prompt
        .iter()
        .map(|b| EngineHash((b.0 ^ engine << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect()
}

fn named(named: bool, prompts: u64, len: u64) -> Index {
    let mut index = Index::builder().build().unwrap();
    for n in 0..prompts {
        let prompt = blocks(n, 0, len);
        let names = engine_names(&prompt, 0);
        let holder = Holder::device(EndpointId(0));
        if named {
            index.store_mapped(holder, None, &names, &prompt, Repeat::Known).unwrap();
        } else {
            index.store(holder, None, &prompt, Repeat::Known).unwrap();
        }
    }
    index
}

/// A block that a chain has lost may be held by a group that is no chain.
#[test]
fn a_name_stays_while_a_loose_group_holds_its_block() {
    let mut index = Index::builder().build().unwrap();
    let rule = GroupRule::SlidingWindow { tokens: 64 };
    index.set_group(EndpointId(1), Group(1), rule, 16).unwrap();
    let prompt = blocks(1, 0, 100);
    let names = engine_names(&prompt, 0);
    let chained = Holder::device(EndpointId(0));
    let loose = Holder { group: Group(1), ..Holder::device(EndpointId(1)) };
    index.store_mapped(chained, None, &names, &prompt, Repeat::Known).unwrap();
    let others = engine_names(&prompt[50..], 1);
    index.store_mapped(loose, Some(prompt[49]), &others, &prompt[50..], Repeat::Known).unwrap();
    // First behind the end of a chain that goes on, then after its own end.
    for left in [30, 0] {
        index.remove(chained, &prompt[left..]);
        index.reclaim();
        index.validate();
        for i in 50..100 {
            assert_eq!(index.resolve(names[i]), Some(prompt[i]));
            assert_eq!(index.resolve(others[i - 50]), Some(prompt[i]));
        }
    }
    index.remove(loose, &prompt[50..]);
    index.reclaim();
    assert!((50..100).all(|i| index.resolve(names[i]).is_none()));
}

/// What it says its names take is what the allocator counts.
#[test]
#[cfg_attr(miri, ignore = "takes long")]
fn bytes_of_names_are_what_the_allocator_says() {
    for (prompts, len) in [(300, 450), (3000, 12), (20, 4000)] {
        let mut index = None;
        let info = allocation_counter::measure(|| index = Some(named(true, prompts, len)));
        let said = index.unwrap().stats().bytes as f64;
        let ratio = said / info.bytes_current as f64;
        assert!((0.97..1.03).contains(&ratio), "{said} said, {} allocated", info.bytes_current);
    }
}

/// However full its tables happen to be: at sizes a tenth apart.
#[test]
#[cfg_attr(miri, ignore = "takes long")]
fn a_name_costs_twelve_bytes() {
    let mut prompts = 200.0;
    while prompts < 700.0 {
        let plain = named(false, prompts as u64, 450).stats();
        let named = named(true, prompts as u64, 450).stats();
        assert_eq!(plain.blocks, named.blocks);
        let each = (named.bytes - plain.bytes) as f64 / named.blocks as f64;
        println!("{} blocks: {each:.2} B a name", named.blocks);
        assert!(each <= 12.0, "{each} B a name with {} blocks", named.blocks);
        prompts *= 1.1;
    }
}

/// Engines that have nothing in common but the content cost a name each, and no more.
#[test]
#[cfg_attr(miri, ignore = "takes long")]
fn an_engine_more_costs_its_names() {
    let mut index = Index::builder().build().unwrap();
    let mut before = 0;
    for engine in 0..4 {
        for n in 0..400 {
            let prompt = blocks(n, 0, 450);
            let names = engine_names(&prompt, engine);
            let holder = Holder::device(EndpointId(engine as u16));
            index.store_mapped(holder, None, &names, &prompt, Repeat::Known).unwrap();
        }
        let bytes = index.stats().bytes;
        if engine > 0 {
            let each = (bytes - before) as f64 / (400.0 * 450.0);
            assert!(each <= 12.5, "{each} B a block of engine {engine}");
        }
        before = bytes;
    }
    for engine in 0..4 {
        let prompt = blocks(399, 0, 450);
        let first = engine_names(&prompt, engine)[0];
        assert_eq!(index.resolve(first), Some(prompt[0]));
    }
}

/// What comes and goes leaves neither names nor room for them, without being asked.
#[test]
#[cfg_attr(miri, ignore = "takes long")]
fn names_go_with_their_blocks() {
    let mut index = Index::builder().build().unwrap();
    let holder = Holder::device(EndpointId(0));
    let mut most = 0;
    for n in 0..2000 {
        let prompt = blocks(n, 0, 450);
        index
            .store_mapped(holder, None, &engine_names(&prompt, 0), &prompt, Repeat::Known)
            .unwrap();
        if n >= 100 {
            let mut old = blocks(n - 100, 0, 450);
            old.reverse();
            assert_eq!(index.remove(holder, &old), 450);
        }
        if n < 300 {
            most = most.max(index.stats().bytes);
        }
    }
    let bytes = index.stats().bytes;
    assert!(bytes <= most + most / 8, "{bytes} B after {most}");
    index.clear(EndpointId(0));
    index.reclaim();
    let empty = index.stats();
    assert!(empty.bytes < most / 8, "{} B of nothing", empty.bytes);
}

/// Blocks appended one at a time, as decoding does.
#[test]
fn decoded_blocks_have_names() {
    let mut index = Index::builder().build().unwrap();
    let holder = Holder::device(EndpointId(0));
    let prompts: Vec<_> = (0..20).map(|n| blocks(n, 0, 300)).collect();
    for i in 0..300 {
        for prompt in &prompts {
            let parent = (i > 0).then(|| prompt[i - 1]);
            let block = &prompt[i..=i];
            let names = engine_names(block, 0);
            index.store_mapped(holder, parent, &names, block, Repeat::Known).unwrap();
        }
    }
    index.validate();
    for prompt in &prompts {
        for (block, name) in prompt.iter().zip(engine_names(prompt, 0)) {
            assert_eq!(index.resolve(name), Some(*block));
        }
    }
}

/// An engine may say that it dropped a block from its device, and then that it has it elsewhere.
#[test]
fn a_name_outlives_its_block_for_a_while() {
    let mut index = Index::builder().build().unwrap();
    let holder = Holder::device(EndpointId(0));
    let prompt = blocks(1, 0, 10);
    let names = engine_names(&prompt, 0);
    index.store_mapped(holder, None, &names, &prompt, Repeat::Known).unwrap();
    index.remove(holder, &prompt);
    assert_eq!(index.stats().blocks, 0);
    assert_eq!(index.resolve(names[3]), Some(prompt[3]));
    index.reclaim();
    assert_eq!(index.resolve(names[3]), None);
}
