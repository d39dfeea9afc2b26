//! Histories that an engine could have, against the oracle, validated after every step.
#![no_main]

#[path = "../../kvsched-index/tests/world/mod.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use world::{Choices, Variety, World};

/// Choices from the fuzzer's bytes, and zeros when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Choices for Bytes<'_> {
    fn below(&mut self, n: usize) -> usize {
        let (taken, rest) = self.0.split_at(self.0.len().min(2));
        self.0 = rest;
        let n = n.max(1);
        taken.iter().fold(0, |value, &byte| value << 8 | usize::from(byte)) % n
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Bytes(data);
    let variety = Variety::ALL[choices.below(Variety::ALL.len())];
    let mut world = World::new(variety, &mut choices);
    while !choices.0.is_empty() {
        world.step(&mut choices);
        world.index.validate();
    }
    world.ask_all();
});
