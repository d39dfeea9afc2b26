//! Who reads, and what must wait for them.
//!
//! # Protocol
//!
//! A reader writes the epoch it read into a slot, lets that become visible before it looks at anything
//! (the fence in [`Epochs::enter`]), and empties the slot when it is done. A writer makes
//! something unreachable, puts it into the bin under the current epoch, and at times turns the
//! epoch, lets that and all it did before become visible (the fence in [`Epochs::collect`]), and
//! frees what is older than every reader it finds. Of two fences one is first:
//!
//! * the reader's: then the writer finds the reader's slot taken, with an epoch no later than
//!   that under which it put away what the reader may still see, and keeps it;
//! * the writer's: then the reader no longer sees what the writer made unreachable.
//!
//! A reader with a later epoch than something's in the bin has seen the epoch turn after that was
//! unreachable.

// Nothing else of the crate: the models in `tests` compile this file with atomics of their own.
use super::atomics::{AtomicU64, Ordering, fence, fence_after_exchange};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many slots a reader asks in turn before it shares one.
const ASKED: usize = 8;
/// In the word of a shared slot, above its epoch: how many readers share it.
const ONE: u64 = 1 << EPOCH_BITS;
const EPOCH_BITS: u32 = 48;
/// What waits in the bin before somebody looks who reads: things, and bytes.
const THINGS: usize = 64;
const BYTES: usize = 64 << 10;

/// A word with a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Slot(AtomicU64);

/// Readers of a structure, and what it left behind.
#[derive(Debug)]
pub(crate) struct Epochs<G> {
    /// Never 0.
    epoch: Slot,
    /// The epoch of the reader inside, or 0.
    own: Box<[Slot]>,
    /// Epochs of several readers each, and their number.
    shared: Box<[Slot]>,
    bin: Mutex<Bin<G>>,
}

/// What is unreachable for new readers, the oldest first.
#[derive(Debug)]
struct Bin<G> {
    garbage: VecDeque<(u64, G)>,
    /// Bytes of it that came since it was last gone through.
    bytes: usize,
    /// As many things before it is gone through again.
    enough: usize,
}

/// A reader inside: what was reachable when it came stays until this is dropped.
#[derive(Debug)]
pub(crate) struct Inside<'e> {
    word: &'e AtomicU64,
    is_shared: bool,
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_shared {
            self.word.fetch_sub(ONE, Ordering::Release);
        } else {
            self.word.store(0, Ordering::Release);
        }
    }
}

impl<G> Epochs<G> {
    /// For so many readers with a slot of their own, and any number that share others.
    pub(crate) fn new(own: usize, shared: usize) -> Self {
        let slots = |n| (0..n).map(|_| Slot(AtomicU64::new(0))).collect();
        Self {
            epoch: Slot(AtomicU64::new(1)),
            own: slots(own.max(1)),
            shared: slots(shared.max(1)),
            bin: Mutex::new(Bin { garbage: VecDeque::new(), bytes: 0, enough: THINGS }),
        }
    }

    /// Bytes beside the structure itself.
    pub(crate) const fn bytes(own: usize, shared: usize) -> usize {
        (own + shared) * size_of::<Slot>()
    }

    /// Begins to read. `who` should be another number for every thread, mostly the same for one, and
    /// evenly spread over all there are.
    #[inline]
    pub(crate) fn enter(&self, who: u64) -> Inside<'_> {
        let now = self.epoch.0.load(Ordering::Acquire);
        let first = ((who >> 32) as usize * self.own.len()) >> 32;
        let word = &self.own[first].0;
        match word.compare_exchange(0, now, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => {
                fence_after_exchange();
                Inside { word, is_shared: false }
            }
            Err(_) => self.enter_elsewhere(first, now),
        }
    }

    #[cold]
    fn enter_elsewhere(&self, first: usize, now: u64) -> Inside<'_> {
        for i in 1..ASKED.min(self.own.len()) {
            let word = &self.own[(first + i) % self.own.len()].0;
            if word.compare_exchange(0, now, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                fence_after_exchange();
                return Inside { word, is_shared: false };
            }
        }
        // An empty one, or else the one with the latest epoch, so that the others become empty.
        loop {
            let words = self.shared.iter().map(|slot| (slot.0.load(Ordering::Relaxed), &slot.0));
            let best =
                words.max_by_key(|&(seen, _)| if seen < ONE { u64::MAX } else { seen % ONE });
            let Some((seen, word)) = best else { unreachable!("there is a shared slot") };
            let joined = if seen < ONE { ONE | now } else { seen.wrapping_add(ONE) };
            // At 65,535 readers of one slot others wait for one of them.
            if joined >= ONE
                && word.compare_exchange(seen, joined, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                fence_after_exchange();
                return Inside { word, is_shared: true };
            }
            std::hint::spin_loop();
        }
    }

    /// Takes what no new reader can reach, so many bytes of it, and frees what no reader can see any
    /// more, if there may be much.
    pub(crate) fn put_away(&self, garbage: impl Iterator<Item = G>, bytes: usize) {
        let mut bin = self.bin();
        let now = self.epoch.0.load(Ordering::Relaxed);
        bin.garbage.extend(garbage.map(|g| (now, g)));
        bin.bytes += bytes;
        if bin.garbage.len() >= bin.enough || bin.bytes >= BYTES {
            self.empty(bin);
        }
    }

    /// Frees what no reader can see any more.
    pub(crate) fn collect(&self) {
        self.empty(self.bin());
    }

    fn empty(&self, mut bin: MutexGuard<'_, Bin<G>>) {
        // Only here does the epoch turn, under the bin's lock.
        self.epoch.0.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let own = self.own.iter().map(|slot| slot.0.load(Ordering::Acquire));
        let own = own.filter(|&epoch| epoch != 0);
        let shared = self.shared.iter().map(|slot| slot.0.load(Ordering::Acquire));
        let shared = shared.filter(|&word| word >= ONE).map(|word| word % ONE);
        let oldest = own.chain(shared).min().unwrap_or(u64::MAX);
        let gone = bin.garbage.partition_point(|&(epoch, _)| epoch < oldest);
        let gone: Vec<_> = bin.garbage.drain(..gone).collect();
        bin.bytes = 0;
        // Where readers keep much, it is not gone through for every thing that comes.
        bin.enough = THINGS.max(2 * bin.garbage.len());
        if bin.garbage.is_empty() {
            bin.garbage = VecDeque::new();
        }
        drop(bin);
        drop(gone);
    }

    fn bin(&self) -> MutexGuard<'_, Bin<G>> {
        self.bin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
