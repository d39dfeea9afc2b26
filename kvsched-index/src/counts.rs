//! How many entries each shard of the directory has, and who may change it.

// Nothing else of the crate: the models in `tests` compile this file with atomics of their own.
use crate::shared::{AtomicU32, pause};
use std::sync::atomic::Ordering;

/// In a count's word: somebody holds it.
const HELD: u32 = 1 << 31;

/// Entries of each shard. Whoever changes a shard holds its count.
#[derive(Debug)]
pub(crate) struct DirectoryCounts {
    words: Box<[AtomicU32]>,
    stride: u32,
}

/// The same, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts<'c> {
    words: &'c [AtomicU32],
    /// Words from one count to the next, as a power of two: a cache line's, where several writers are at
    /// work.
    stride: u32,
}

/// A shard's count, and the right to change the shard until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'c> {
    word: &'c AtomicU32,
    pub(crate) count: u32,
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        self.word.store(self.count, Ordering::Release);
    }
}

impl DirectoryCounts {
    pub(crate) fn new(shards: usize, is_shared: bool) -> Self {
        let stride = if is_shared { 4 } else { 0 };
        Self { words: (0..shards << stride).map(|_| AtomicU32::new(0)).collect(), stride }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words.len() * size_of::<AtomicU32>()
    }

    #[inline]
    pub(crate) fn get(&self) -> Counts<'_> {
        Counts { words: &self.words, stride: self.stride }
    }

    /// The count of a shard, for whoever keeps writers away.
    pub(crate) fn of(&self, shard: usize) -> usize {
        self.words[shard << self.stride].load(Ordering::Relaxed) as usize
    }
}

impl<'c> Counts<'c> {
    /// Waits for the count of a shard, unless there is no other writer.
    #[inline]
    pub(crate) fn hold(self, shard: usize, is_alone: bool) -> Held<'c> {
        let word = &self.words[shard << self.stride];
        if is_alone {
            return Held { word, count: word.load(Ordering::Relaxed) };
        }
        match try_hold(word) {
            Some(held) => held,
            None => wait(word),
        }
    }
}

#[inline]
fn try_hold(word: &AtomicU32) -> Option<Held<'_>> {
    let count = word.load(Ordering::Relaxed);
    let held = |_| Held { word, count };
    (count & HELD == 0).then_some(())?;
    word.compare_exchange(count, count | HELD, Ordering::Acquire, Ordering::Relaxed).ok().map(held)
}

/// A shard is held for some dozen instructions, or while it grows.
#[cold]
fn wait(word: &AtomicU32) -> Held<'_> {
    for turn in 1.. {
        pause(turn);
        if let Some(held) = try_hold(word) {
            return held;
        }
    }
    unreachable!("a writer that waits for ever")
}
