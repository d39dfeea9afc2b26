//! Engine hash to block hash, for engines that announce other hashes than ours.

use kvsched_core::{BlockHash, EngineHash};

/// Slots of a table beside those it needs.
const SPARE: usize = 16;

/// One table for the whole fleet: what a name means does not depend on who announced it.
///
/// A name is forgotten after nobody holds its block any more: not at once, but before the table
/// would grow.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Pairs, found from their home on without a gap. A name of 0 is a gap.
    slots: Vec<(u64, u64)>,
    len: usize,
    /// What the name 0 means.
    zero: Option<BlockHash>,
}

impl Names {
    pub(crate) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<(u64, u64)>()
    }

    /// The slot of `name`, or the gap where it would be. There is a gap.
    fn slot(&self, name: EngineHash) -> usize {
        let mixed = (name.0 ^ name.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut i = ((u128::from(mixed) * self.slots.len() as u128) >> 64) as usize;
        while self.slots[i].0 != 0 && self.slots[i].0 != name.0 {
            i = if i + 1 == self.slots.len() { 0 } else { i + 1 };
        }
        i
    }

    pub(crate) fn get(&self, name: EngineHash) -> Option<BlockHash> {
        if name.0 == 0 {
            return self.zero;
        }
        if self.slots.is_empty() {
            return None;
        }
        let (there, block) = self.slots[self.slot(name)];
        (there == name.0).then_some(BlockHash(block))
    }

    /// Every name and what it means.
    pub(crate) fn for_each(&self, mut f: impl FnMut(EngineHash, BlockHash)) {
        if let Some(block) = self.zero {
            f(EngineHash(0), block);
        }
        for &(name, block) in self.slots.iter().filter(|(name, _)| *name != 0) {
            f(EngineHash(name), BlockHash(block));
        }
    }

    /// Forgets the names of unknown blocks, and gives the room back.
    pub(crate) fn fit(&mut self, is_known: impl Fn(BlockHash) -> bool) {
        if self.len > 0 {
            self.rebuild(9, is_known);
        }
    }

    /// Keeps the names of known blocks, with eighths of a slot for each.
    fn rebuild(&mut self, eighths: usize, is_known: impl Fn(BlockHash) -> bool) {
        let mut kept = std::mem::take(&mut self.slots);
        kept.retain(|&(name, block)| name != 0 && is_known(BlockHash(block)));
        self.slots = vec![(0, 0); kept.len() * eighths / 8 + SPARE];
        self.len = kept.len();
        for pair in kept {
            let slot = self.slot(EngineHash(pair.0));
            self.slots[slot] = pair;
        }
    }

    /// `is_known` says whether a block is still held.
    pub(crate) fn insert(
        &mut self,
        name: EngineHash,
        block: BlockHash,
        is_known: impl Fn(BlockHash) -> bool,
    ) {
        if name.0 == 0 {
            self.zero = Some(block);
            return;
        }
        if (self.len + 1) * 7 > self.slots.len() * 6 {
            self.rebuild(14, is_known);
        }
        let slot = self.slot(name);
        self.len += usize::from(self.slots[slot].0 == 0);
        self.slots[slot] = (name.0, block.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    proptest::proptest! {
        #[test]
        fn names_are_found_until_their_block_is_gone(
            pairs in proptest::collection::vec((0u64..300, 0u64..40), 0..600),
        ) {
            // Blocks below 10 are gone.
            let known = |b: BlockHash| b.0 >= 10 || b.0 == 0;
            let (mut names, mut truth) = (Names::default(), HashMap::new());
            for (name, block) in pairs {
                names.insert(EngineHash(name), BlockHash(block), known);
                truth.insert(name, block);
            }
            for name in 0..300 {
                let got = names.get(EngineHash(name)).map(|b| b.0);
                let want = truth.get(&name).copied();
                proptest::prop_assert!(
                    got == want || want.is_some_and(|b| !known(BlockHash(b))) && got.is_none(),
                    "{name}: {got:?}, not {want:?}"
                );
            }
        }
    }
}
