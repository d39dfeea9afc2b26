//! Engine hash to block hash, for engines that announce other hashes than ours.

mod slots;

use crate::chain::Place;
use crate::matcher::Residency;
use crate::mix::{mix, unmix};
use crate::shared::Pin;
use kvsched_core::{BlockHash, EngineHash};
use slots::Slots;
use std::collections::{HashMap, HashSet};

/// Most names of a stretch. A place among names is a stretch's number and 8 bits.
const LONGEST: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 8;
/// Stretches there can be. Names beyond them are not kept, which an event that needs one reports.
const MOST_STRETCHES: usize = 1 << (u32::BITS - PLACE_BITS);
/// Names below which nothing is swept.
const FEW: usize = 4096;

/// One map for the whole fleet: what a name means does not depend on who announced it.
///
/// A name is split. Its first 32 bits are looked up in [`Slots`], whose shard says eight of them and whose
/// slot says the others, beside a place. At that place are its last 32 bits, in a *stretch*: names of
/// consecutive blocks of one chain. So all 64 are compared, what they mean is where the
/// chain has its own hashes, and a name costs 7 bytes and a bit, and 4.
///
/// A name is forgotten after nobody holds its block any more: not at once (an engine may say that it
/// dropped a block from its device, and then that it has it elsewhere), but before names that mean
/// nothing are a quarter of all.
#[derive(Debug, Default)]
pub(crate) struct Names {
    slots: Slots,
    /// The first is nobody's.
    stretches: Vec<Stretch>,
    /// Numbers of stretches to be given again.
    free: Vec<u32>,
    /// By chain number: the first of a list of its stretches, 0 for none.
    of_chain: Vec<u32>,
    /// The blocks of stretches in no chain: of chains that ended, and of loose groups.
    listed: HashMap<u32, Vec<BlockHash>>,
    /// The stretch in no chain that takes further names, or 0.
    open: u32,
    /// The stretch begun last, which may have more room than it came to need.
    begun: u32,
    /// Room for last halves in all stretches.
    tails: usize,
    /// Room for blocks in all lists.
    listed_blocks: usize,
    /// Names known to mean nothing, at least.
    garbage: usize,
    /// Names when it was last swept.
    kept: usize,
}

/// Names of consecutive blocks of a chain, or of listed blocks.
#[derive(Debug, Default)]
struct Stretch {
    /// 0 for none.
    chain: u32,
    /// Another stretch of this chain, or 0.
    next: u32,
    /// The offset of the first block.
    first: u16,
    /// The last 32 bits of each name.
    tails: Vec<u32>,
}

/// What a name is to mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The block at a place.
    At(Place),
    /// A block that is in no chain.
    Listed(BlockHash),
}

/// A name's two halves, mixed: [`join`] undoes it.
#[inline]
fn split(name: EngineHash) -> (u32, u32) {
    let mixed = mix(name.0);
    ((mixed >> 32) as u32, mixed as u32)
}

fn join(head: u32, tail: u32) -> EngineHash {
    EngineHash(unmix(u64::from(head) << 32 | u64::from(tail)))
}

#[inline]
fn stretch_of(place: u32) -> (u32, usize) {
    (place >> PLACE_BITS, place as usize % LONGEST)
}

impl Names {
    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.bytes()
            + self.stretches.capacity() * size_of::<Stretch>()
            + (self.free.capacity() + self.of_chain.capacity() + self.tails) * size_of::<u32>()
            + self.listed_blocks * size_of::<BlockHash>()
            + crate::heap::table_bytes::<(u32, Vec<BlockHash>)>(self.listed.capacity())
    }

    /// Where `name` stands.
    fn find(&self, (head, tail): (u32, u32)) -> Option<u32> {
        self.slots.find(head, |place| {
            let (number, i) = stretch_of(place);
            self.stretches[number as usize].tails.get(i) == Some(&tail)
        })
    }

    /// What stands at a place among names.
    fn meaning(&self, place: u32) -> Option<Meaning> {
        let (number, i) = stretch_of(place);
        let stretch = &self.stretches[number as usize];
        if stretch.chain != 0 {
            let offset = stretch.first + i as u16;
            return Some(Meaning::At(Place { chain: stretch.chain, offset }));
        }
        self.listed.get(&number)?.get(i).map(|&block| Meaning::Listed(block))
    }

    pub(crate) fn get(&self, name: EngineHash, map: &Residency, pin: &Pin) -> Option<BlockHash> {
        self.meaning(self.find(split(name))?)?.block(map, pin)
    }

    /// Every name and what it means.
    pub(crate) fn for_each(
        &self,
        map: &Residency,
        pin: &Pin,
        mut f: impl FnMut(EngineHash, BlockHash),
    ) {
        for (head, place) in self.slots.each() {
            let (number, i) = stretch_of(place);
            let tail = self.stretches[number as usize].tails.get(i);
            let block = self.meaning(place).and_then(|m| m.block(map, pin));
            if let (Some(&tail), Some(block)) = (tail, block) {
                f(join(head, tail), block);
            }
        }
    }

    /// Lets `name` mean something, as the first of so many names of consecutive blocks.
    pub(crate) fn insert(&mut self, name: EngineHash, meaning: Meaning, more: usize) {
        let (head, tail) = split(name);
        let old = self.find((head, tail));
        if old.is_some_and(|old| self.meaning(old) == Some(meaning)) {
            return;
        }
        let Some(new) = self.push(tail, meaning, more) else { return };
        match old {
            Some(old) => {
                self.garbage += 1;
                self.slots.replace(head, old, new);
            }
            None => self.slots.add(head, new),
        }
    }

    /// Writes a name's last half where it belongs, and says where that is.
    fn push(&mut self, tail: u32, meaning: Meaning, more: usize) -> Option<u32> {
        let number = match meaning {
            Meaning::At(place) => self.stretch_at(place, more)?,
            Meaning::Listed(block) => self.list(block)?,
        };
        let tails = &mut self.stretches[number as usize].tails;
        let room = tails.capacity();
        if tails.len() == room {
            tails.reserve_exact((room / 4 + 2).min(LONGEST - room));
            self.tails += tails.capacity() - room;
        }
        tails.push(tail);
        Some(number << PLACE_BITS | (tails.len() - 1) as u32)
    }

    /// The stretch that goes on with this place.
    fn stretch_at(&mut self, place: Place, more: usize) -> Option<u32> {
        let chain = place.chain as usize;
        if chain >= self.of_chain.len() {
            if chain >= self.of_chain.capacity() {
                self.of_chain.reserve_exact(chain + chain / 4 + 16 - self.of_chain.len());
            }
            self.of_chain.resize(chain + 1, 0);
        }
        let next = self.of_chain[chain];
        if next != 0 {
            let last = &self.stretches[next as usize];
            let end = usize::from(last.first) + last.tails.len();
            if end == usize::from(place.offset) && last.tails.len() < LONGEST {
                return Some(next);
            }
        }
        let tails = Vec::with_capacity(more.min(LONGEST));
        let stretch = Stretch { chain: place.chain, next, first: place.offset, tails };
        let number = self.begin(stretch)?;
        self.of_chain[chain] = number;
        Some(number)
    }

    /// Notes a block in no chain, and says in which stretch.
    fn list(&mut self, block: BlockHash) -> Option<u32> {
        if self.open == 0 || self.stretches[self.open as usize].tails.len() == LONGEST {
            self.open = self.begin(Stretch::default())?;
        }
        let blocks = self.listed.entry(self.open).or_default();
        let room = blocks.capacity();
        blocks.push(block);
        self.listed_blocks += blocks.capacity() - room;
        Some(self.open)
    }

    /// Another stretch, unless there are too many.
    fn begin(&mut self, stretch: Stretch) -> Option<u32> {
        self.end_of_store();
        self.tails += stretch.tails.capacity();
        let number = match self.free.pop() {
            Some(number) => {
                self.stretches[number as usize] = stretch;
                number
            }
            None => {
                if self.stretches.len() == self.stretches.capacity() {
                    self.stretches.reserve_exact(self.stretches.len() / 4 + 8);
                }
                if self.stretches.is_empty() {
                    self.stretches.push(Stretch::default());
                }
                let number = self.stretches.len();
                if number == MOST_STRETCHES {
                    self.tails -= stretch.tails.capacity();
                    return None;
                }
                self.stretches.push(stretch);
                number as u32
            }
        };
        self.begun = number;
        Some(number)
    }

    /// Gives back room for names that did not come.
    pub(crate) fn end_of_store(&mut self) {
        let begun = std::mem::take(&mut self.begun) as usize;
        if let Some(Stretch { tails, .. }) = self.stretches.get_mut(begun) {
            self.tails -= fit(tails);
        }
    }

    /// The blocks of a chain that ends: their names mean them for a while yet.
    pub(crate) fn ended(&mut self, chain: u32, block_at: impl Fn(usize) -> Option<BlockHash>) {
        let Some(first) = self.of_chain.get_mut(chain as usize) else { return };
        let mut number = std::mem::take(first);
        while number != 0 {
            let stretch = &mut self.stretches[number as usize];
            let offsets = usize::from(stretch.first)..;
            let blocks: Vec<_> = offsets.take(stretch.tails.len()).map_while(&block_at).collect();
            self.garbage += stretch.tails.len();
            self.listed_blocks += blocks.capacity();
            self.listed.insert(number, blocks);
            stretch.chain = 0;
            number = std::mem::take(&mut stretch.next);
        }
    }

    /// Whether it is time for [`Names::sweep`]: each name pays for a few looks at others.
    pub(crate) fn is_due(&self) -> bool {
        let len = self.slots.len();
        self.garbage > FEW.max(len / 4) || len > FEW.max(self.kept + self.kept / 4)
    }

    /// Forgets the names of blocks that nobody holds, and gives their room back.
    pub(crate) fn sweep(&mut self, map: &Residency, pin: &Pin) {
        self.open = 0;
        self.begun = 0;
        for stretch in self.stretches.iter_mut().filter(|s| s.chain != 0) {
            stretch.forget_behind_the_end(map, pin);
        }
        // A listed stretch lives as long as one of its blocks.
        let mut alive = HashSet::new();
        let (stretches, listed) = (&self.stretches, &self.listed);
        self.slots.retain(|place| {
            let (number, i) = stretch_of(place);
            let stretch = &stretches[number as usize];
            if stretch.chain != 0 {
                return i < stretch.tails.len();
            }
            let block = listed.get(&number).and_then(|blocks| blocks.get(i));
            let is_known = block.is_some_and(|&block| map.knows(block, pin));
            if is_known {
                alive.insert(number);
            }
            is_known
        });
        self.listed.retain(|number, _| alive.contains(number));
        self.listed.shrink_to_fit();
        self.link(&alive);
        self.garbage = 0;
        self.kept = self.slots.len();
    }

    /// Frees the stretches that are empty or of no chain, and lists the others anew.
    fn link(&mut self, listed: &HashSet<u32>) {
        self.of_chain.fill(0);
        self.free.clear();
        self.tails = 0;
        let (mut stretches, mut chains) = (1, 0);
        for number in 1..self.stretches.len() {
            let stretch = &mut self.stretches[number];
            if stretch.chain == 0 && !listed.contains(&(number as u32)) || stretch.tails.is_empty()
            {
                *stretch = Stretch::default();
                self.free.push(number as u32);
                continue;
            }
            fit(&mut stretch.tails);
            self.tails += stretch.tails.capacity();
            stretches = number + 1;
            if stretch.chain != 0 {
                chains = chains.max(stretch.chain as usize + 1);
                // The one that ends last comes first: it may go on.
                let end = |s: &Stretch| usize::from(s.first) + s.tails.len();
                let (chain, ends) = (stretch.chain as usize, end(stretch));
                let first = self.of_chain[chain] as usize;
                if first == 0 || end(&self.stretches[first]) <= ends {
                    self.stretches[number].next = first as u32;
                    self.of_chain[chain] = number as u32;
                } else {
                    self.stretches[number].next = self.stretches[first].next;
                    self.stretches[first].next = number as u32;
                }
            }
        }
        if stretches == 1 {
            // Not even nobody's.
            stretches = 0;
        }
        self.free.retain(|&number| (number as usize) < stretches);
        self.stretches.truncate(stretches);
        self.of_chain.truncate(chains);
        for list in [&mut self.free, &mut self.of_chain] {
            fit(list);
        }
        fit(&mut self.stretches);
        self.listed_blocks = self.listed.values().map(Vec::capacity).sum();
    }

    /// Panics where it contradicts itself.
    pub(crate) fn validate(&self) {
        self.slots.validate();
        let mut seen = HashSet::new();
        for (head, place) in self.slots.each() {
            let (number, i) = stretch_of(place);
            let stretch = &self.stretches[number as usize];
            let Some(&tail) = stretch.tails.get(i) else { panic!("no name at {place:x}") };
            assert!(seen.insert((head, tail)), "{} has two places", join(head, tail));
            assert!(self.meaning(place).is_some(), "{} means nothing", join(head, tail));
        }
        let tails = self.stretches.iter().map(|s| s.tails.capacity()).sum::<usize>();
        assert_eq!(tails, self.tails, "room for names");
        let blocks = self.listed.values().map(Vec::capacity).sum::<usize>();
        assert_eq!(blocks, self.listed_blocks, "room for listed blocks");
    }
}

/// Gives room back that is more than a quarter of what is needed; returns how much.
fn fit<T>(list: &mut Vec<T>) -> usize {
    let room = list.capacity();
    if room > list.len() + list.len() / 4 {
        list.shrink_to_fit();
    }
    room - list.capacity()
}

impl Stretch {
    /// Leaves names of blocks that the chain still has, and those before another that is held elsewhere.
    fn forget_behind_the_end(&mut self, map: &Residency, pin: &Pin) {
        let Some(chain) = map.chains.get(self.chain) else { return };
        let first = usize::from(self.first);
        let is_known = |i: &usize| {
            let block = chain.hash(first + i, pin);
            block.is_some_and(|block| map.knows(block, pin))
        };
        let alive = chain.len().saturating_sub(first);
        let elsewhere = (alive..self.tails.len()).rev().find(is_known);
        self.tails.truncate(elsewhere.map_or(alive, |i| i + 1));
    }
}

impl Meaning {
    fn block(self, map: &Residency, pin: &Pin) -> Option<BlockHash> {
        match self {
            Self::At(place) => map.chains.get(place.chain)?.hash(usize::from(place.offset), pin),
            Self::Listed(block) => Some(block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_name_is_found_from_its_halves(name in proptest::prelude::any::<u64>()) {
            for name in [name, name >> 32, name << 32, 0, u64::MAX] {
                let (head, tail) = split(EngineHash(name));
                proptest::prop_assert_eq!(join(head, tail), EngineHash(name));
            }
        }
    }
}
