//! Numbers of chains: which are in use, and which may be given again.

use crate::chain::{Chains, MOST_CHAINS};
use crate::shared::WritePin;
use crate::turns::take;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Chains together take this part of a byte budget at most, so that there is something left to put into
/// them: of a prompt of one block they are little more than half.
const PART: usize = 2;
/// Chains that a store finds free, if it has so many blocks.
pub(crate) const SPARE: usize = 16;

#[derive(Debug)]
pub(crate) struct Numbers {
    lists: Mutex<Lists>,
    /// Those of chains that have ended, once no reader can still mean the old chain.
    later: Arc<Mutex<Vec<u32>>>,
    /// Bytes of room for chains.
    bytes: AtomicUsize,
    budget: Option<usize>,
}

#[derive(Debug)]
struct Lists {
    /// The lowest number never given; 0 is nobody's.
    next: u32,
    /// To be given again.
    unused: Vec<u32>,
    /// Chains there are.
    alive: usize,
}

impl Lists {
    fn bytes(&self) -> usize {
        self.unused.capacity() * size_of::<u32>()
    }
}

impl Numbers {
    pub(crate) fn new(budget: Option<usize>) -> Self {
        Self {
            lists: Mutex::new(Lists { next: 1, unused: Vec::new(), alive: 0 }),
            later: Arc::default(),
            bytes: AtomicUsize::new(0),
            budget,
        }
    }

    /// Changes the lists, and counts what that takes.
    fn change<R>(&self, pin: &WritePin, f: impl FnOnce(&mut Lists) -> R) -> R {
        let mut lists = take(&self.lists);
        let before = lists.bytes();
        let done = f(&mut lists);
        pin.recount(before, lists.bytes());
        done
    }

    /// One more than the highest number ever given.
    pub(crate) fn end(&self) -> u32 {
        take(&self.lists).next
    }

    /// Chains there are.
    pub(crate) fn alive(&self) -> usize {
        take(&self.lists).alive
    }

    /// Bytes of room for chains, which stays whatever is forgotten.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A number for another chain, and room for it; `None` where the budget has none.
    pub(crate) fn begin(&self, chains: &Chains, pin: &WritePin) -> Option<u32> {
        self.change(pin, |lists| {
            if lists.unused.is_empty() {
                std::mem::swap(&mut lists.unused, &mut take(&self.later));
            }
            let number = match lists.unused.pop() {
                Some(number) => number,
                None => self.another(lists, chains, pin)?,
            };
            lists.alive += 1;
            Some(number)
        })
    }

    /// A number never used before.
    fn another(&self, lists: &mut Lists, chains: &Chains, pin: &WritePin) -> Option<u32> {
        let number = lists.next;
        if number > MOST_CHAINS {
            return None;
        }
        if let Some(more) = chains.missing(number) {
            if !self.may_grow(more) {
                return None;
            }
            let bytes = chains.create(number);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            pin.count(bytes as isize);
        }
        lists.next += 1;
        Some(number)
    }

    /// Whether there may be room for so many more chains.
    fn may_grow(&self, chains: usize) -> bool {
        let room = self.bytes() + Chains::bytes(chains);
        self.budget.is_none_or(|budget| room <= budget / PART)
    }

    /// Whether a store of so many blocks finds numbers, without many chains having to end before.
    pub(crate) fn has_room(&self, blocks: usize, chains: &Chains) -> bool {
        let lists = take(&self.lists);
        let numbers = lists.next as usize;
        let may_grow = |chains| self.may_grow(chains);
        lists.alive + blocks.min(SPARE) < numbers - numbers / 16
            || chains.missing((numbers + SPARE) as u32).is_none_or(may_grow)
    }

    /// A chain has ended. Its number may be given again when no reader can mean it any more, if it
    /// `is_free`, and else after [`Numbers::free`].
    pub(crate) fn ended(&self, number: u32, is_free: bool, pin: &WritePin) {
        let at_once = is_free && pin.is_exclusive();
        self.change(pin, |lists| {
            lists.alive -= 1;
            lists.unused.extend(at_once.then_some(number));
        });
        if is_free && !at_once {
            self.free(number, pin);
        }
    }

    /// A chain was begun that nobody has seen and that will not be.
    pub(crate) fn unbegin(&self, number: u32, pin: &WritePin) {
        self.change(pin, |lists| {
            lists.alive -= 1;
            lists.unused.push(number);
        });
    }

    /// The number of a chain that ended before.
    pub(crate) fn free(&self, number: u32, pin: &WritePin) {
        if pin.is_exclusive() {
            return self.change(pin, |lists| lists.unused.push(number));
        }
        let later = Arc::clone(&self.later);
        pin.after_readers(move || take(&later).push(number));
    }
}
