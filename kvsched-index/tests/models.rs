//! The protocols between writers and readers, under every interleaving that the memory model allows:
//! the directory's table and counts and the epochs with their own code, the other two in small. What is modelled is named at
//! each; `shared` names the tools for the rest.
#![cfg(not(miri))]
#![allow(clippy::unwrap_used, reason = "test code")]

// The code of the crate, with what it takes from it in the terms of the model.
#[allow(dead_code, unreachable_pub, reason = "a model takes a part of it")]
#[path = "../src/table.rs"]
mod table;

#[allow(dead_code, unreachable_pub, reason = "a model takes a part of it")]
#[path = "../src/counts.rs"]
mod counts;

#[allow(dead_code, unreachable_pub, reason = "a model takes a part of it")]
#[path = "../src/shared/epochs.rs"]
mod epochs;

mod atomics {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

    /// A processor may have nothing to do for it; the model has.
    pub(crate) fn fence_after_exchange() {
        fence(Ordering::SeqCst);
    }
}

mod chain {
    /// As the crate's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Place {
        pub(crate) chain: u32,
        pub(crate) offset: u16,
    }

    impl Place {
        pub(crate) fn to_bits(self) -> u64 {
            u64::from(self.chain) << 12 | u64::from(self.offset)
        }

        pub(crate) fn from_bits(bits: u64) -> Self {
            Self { chain: (bits >> 12) as u32, offset: bits as u16 % 4096 }
        }
    }
}

mod shared {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64};

    /// Others go on.
    pub(crate) fn pause(_turn: u32) {
        loom::thread::yield_now();
    }

    #[derive(Debug)]
    pub(crate) struct Line(pub(crate) [AtomicU64; 8]);
}

use chain::Place;
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;
use shared::{AtomicU64, Line};

/// Tag 0: at home in the first bucket.
const TAG: u64 = 0;

/// Some buckets of the directory.
struct Buckets(Vec<Line>);

impl Buckets {
    /// So many buckets, with entries `ids` under one tag, put in this order.
    fn of(buckets: usize, ids: impl IntoIterator<Item = u32>) -> Arc<Self> {
        let line = || Line(std::array::from_fn(|_| AtomicU64::new(0)));
        let buckets = Self((0..buckets).map(|_| line()).collect());
        ids.into_iter().for_each(|id| buckets.put(id));
        Arc::new(buckets)
    }

    fn slot(id: u32) -> u64 {
        table::slot_of(TAG, Place { chain: id, offset: 0 })
    }

    fn put(&self, id: u32) {
        assert!(self.find_or_put(id, |place| place.chain == id).is_none(), "{id} was there");
    }

    fn find_or_put(&self, id: u32, is_it: impl FnMut(Place) -> bool) -> Option<Place> {
        table::Table::of(&self.0).find_or_put(Self::slot(id), is_it)
    }

    fn take(&self, id: u32) {
        assert!(table::Table::of(&self.0).take(Self::slot(id)), "{id} was there");
    }

    fn finds(&self, id: u32) -> bool {
        table::Table::of(&self.0).find(TAG, |place| place.chain == id).is_some()
    }
}

/// Asserts that a reader finds `id` while somebody writes.
fn find_while(buckets: &Arc<Buckets>, id: u32, write: impl FnOnce(&Buckets)) {
    let reader = {
        let buckets = Arc::clone(buckets);
        thread::spawn(move || assert!(buckets.finds(id)))
    };
    write(buckets);
    reader.join().unwrap();
}

/// Every interleaving with at most `preemptions` switches in the middle of something.
fn bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// A reader who looks for an entry that stays does not stop short of it while others come and go:
/// the eighth of a bucket of seven, which went to the next one.
///
/// Here and below, the writer is the thread that loom runs first: of a location it remembers the last
/// access only, and the writer's own look at what it changes would hide the reader's.
#[test]
fn what_went_on_is_found_while_others_come_and_go() {
    bounded(3, || {
        find_while(&Buckets::of(2, 1..9), 8, |buckets| {
            buckets.take(3);
            buckets.put(20);
            buckets.take(20);
        });
    });
}

/// Nor while another goes away that lay farther than it, so that the reach of its home gets less.
#[test]
fn what_is_near_is_found_while_the_farthest_goes() {
    bounded(3, || {
        let buckets = Buckets::of(3, 1..16);
        find_while(&buckets, 14, |buckets| buckets.take(15));
        assert_eq!(table::Table::of(&buckets.0).validated(), Some(14));
    });
}

/// An entry that a finished write put past a full bucket is found by whoever knows of the write.
#[test]
fn what_a_finished_write_put_is_found() {
    bounded(3, || {
        let buckets = Buckets::of(2, 1..8);
        let done = Arc::new(AtomicU64::new(0));
        let reader = {
            let (buckets, done) = (Arc::clone(&buckets), Arc::clone(&done));
            thread::spawn(move || {
                if done.load(Ordering::Acquire) == 1 {
                    assert!(buckets.finds(9));
                }
            })
        };
        buckets.put(9);
        done.store(1, Ordering::Release);
        reader.join().unwrap();
    });
}

/// Two writers who store the same new block into chains of their own, each its hash first and then the slot:
/// one puts it, the other finds that and knows by the hash that it is the same.
#[test]
fn a_block_that_two_store_is_put_once() {
    const HASH: u64 = 99;
    /// The first hash of each chain.
    struct World {
        hashes: [AtomicU64; 2],
        buckets: Arc<Buckets>,
        counts: counts::DirectoryCounts,
    }
    impl World {
        /// Where the block is, if it was there before.
        fn store(&self, chain: u32) -> Option<u32> {
            self.hashes[chain as usize - 1].store(HASH, Ordering::Release);
            let mut held = self.counts.get().hold(0, false);
            let hash_of = |place: Place| &self.hashes[place.chain as usize - 1];
            let is_it = |place| hash_of(place).load(Ordering::Relaxed) == HASH;
            let known = self.buckets.find_or_put(chain, is_it).map(|place| place.chain);
            held.count += u32::from(known.is_none());
            known
        }
    }
    bounded(3, || {
        let hashes = [AtomicU64::new(0), AtomicU64::new(0)];
        let counts = counts::DirectoryCounts::new(1, true);
        let world = Arc::new(World { hashes, buckets: Buckets::of(2, []), counts });
        let second = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.store(2))
        };
        let known = [world.store(1), second.join().unwrap()];
        assert!(matches!(known, [None, Some(1)] | [Some(2), None]), "{known:?}");
        assert_eq!(world.counts.of(0), 1);
        assert_eq!(table::Table::of(&world.buckets.0).validated(), Some(1));
    });
}

/// `holders::put`: an entry moves only to where a reader looks later, first there and then away: who
/// looks in that order sees it at least once.
#[test]
fn an_entry_on_its_way_is_seen() {
    loom::model(|| {
        let (lane, list) = (Arc::new(AtomicU64::new(9)), Arc::new(AtomicU64::new(0)));
        let writer = {
            let (lane, list) = (Arc::clone(&lane), Arc::clone(&list));
            thread::spawn(move || {
                list.store(9, Ordering::Release);
                lane.store(0, Ordering::Release);
            })
        };
        let seen = [lane.load(Ordering::Acquire), list.load(Ordering::Acquire)];
        assert!(seen.contains(&9), "{seen:?}");
        writer.join().unwrap();
    });
}

/// `matcher::Step::held_inside`: an entry is changed before its record is given to another, so who
/// finds the entry unchanged after reading the record has read the right one.
#[test]
fn a_record_read_under_an_unchanged_entry_is_its_own() {
    loom::model(|| {
        // The entry says record 1, whose bits are 5.
        let (entry, record) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(5)));
        let writer = {
            let (entry, record) = (Arc::clone(&entry), Arc::clone(&record));
            thread::spawn(move || {
                entry.store(2, Ordering::Release);
                record.store(99, Ordering::Release);
            })
        };
        if entry.load(Ordering::Acquire) == 1 {
            let bits = record.load(Ordering::Acquire);
            if entry.load(Ordering::Acquire) == 1 {
                assert_eq!(bits, 5);
            }
        }
        writer.join().unwrap();
    });
}

/// Who reads under `epochs` what one writer replaces, with the crate's own code.
mod reclaiming {
    use super::bounded;
    use crate::epochs::Epochs;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;
    use std::sync::atomic::AtomicBool;

    /// What is read and freed. The model finds accesses at the same time, and the flag those that come
    /// too late.
    struct Cell {
        access: UnsafeCell<()>,
        is_freed: AtomicBool,
    }

    /// Its owner.
    struct Memory(Arc<Cell>);

    impl Drop for Memory {
        fn drop(&mut self) {
            self.0.access.with_mut(|_| self.0.is_freed.store(true, Ordering::Relaxed));
        }
    }

    struct Shared {
        epochs: Epochs<Memory>,
        /// Which of the memories is published.
        published: AtomicUsize,
        memories: [Arc<Cell>; 2],
    }

    impl Shared {
        /// With so many slots of readers' own.
        fn new(own: usize) -> Arc<Self> {
            let memories = std::array::from_fn(|_| {
                Arc::new(Cell { access: UnsafeCell::new(()), is_freed: AtomicBool::new(false) })
            });
            let (epochs, published) = (Epochs::new(own, 1), AtomicUsize::new(0));
            Arc::new(Self { epochs, published, memories })
        }

        /// Reads what is published: it is not freed, and nobody frees it meanwhile.
        fn read(&self, who: u64) {
            let inside = self.epochs.enter(who);
            let at = self.published.load(Ordering::Acquire);
            assert!(!self.is_freed(at), "read after it was freed");
            drop(inside);
        }

        fn is_freed(&self, at: usize) -> bool {
            let cell = &self.memories[at];
            cell.access.with(|_| cell.is_freed.load(Ordering::Relaxed))
        }

        fn replace(&self) {
            let old = self.published.swap(1, Ordering::AcqRel);
            self.epochs.put_away([Memory(Arc::clone(&self.memories[old]))].into_iter(), 1 << 20);
        }
    }

    /// A reader with a slot of its own, and a second one that comes to the same slot and shares
    /// another: neither reads what is freed.
    #[test]
    fn nothing_is_freed_under_a_reader() {
        for (slots, who) in [(2, [0, u64::MAX]), (1, [0, 0])] {
            bounded(3, move || {
                let shared = Shared::new(slots);
                let readers = who.map(|who| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.read(who))
                });
                shared.replace();
                readers.into_iter().for_each(|reader| reader.join().unwrap());
            });
        }
    }

    /// A reader that comes again has seen all that was done before it was let in.
    #[test]
    fn a_reader_may_come_again() {
        bounded(3, || {
            let shared = Shared::new(1);
            let reader = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || (0..2).for_each(|_| shared.read(0)))
            };
            shared.replace();
            shared.epochs.collect();
            reader.join().unwrap();
        });
    }

    /// What nobody reads is freed: by the collection after the last reader has left.
    #[test]
    fn what_nobody_reads_is_freed() {
        loom::model(|| {
            let shared = Shared::new(1);
            let reader = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.read(0))
            };
            shared.replace();
            reader.join().unwrap();
            shared.epochs.collect();
            assert!(shared.is_freed(0));
        });
    }
}
