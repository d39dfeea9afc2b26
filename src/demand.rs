//! How often prefixes are asked for, counted by those who record and read by those who route.

use kvsched_core::{BlockHash, Time};
use kvsched_scorers::HotPrefixes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a request counts in the demand for its prefix.
const MEMORY: Duration = Duration::from_secs(10);
/// Prefixes whose demand is watched.
const WATCHED: usize = 4096;

/// The demand for hot prefixes.
#[derive(Debug)]
pub(crate) struct Demand {
    hot: Mutex<HotPrefixes>,
    /// The last figure of each prefix, in the slot that its hash names; a colder one that shares
    /// the slot is overwritten.
    told: Box<[Told]>,
}

/// One prefix, for readers without a lock. A reader that sees one prefix with the other's figure
/// prices one replica wrongly, once.
#[derive(Debug, Default)]
struct Told {
    prefix: AtomicU64,
    /// Requests a second, as bits.
    per_sec: AtomicU64,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            hot: Mutex::new(HotPrefixes::new(WATCHED, MEMORY)),
            told: (0..WATCHED).map(|_| Told::default()).collect(),
        }
    }
}

impl Demand {
    /// Counts a request for `prefix`.
    pub(crate) fn observe(&self, prefix: BlockHash, now: Time) {
        let mut hot = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        let per_sec = hot.observe(prefix, now);
        let told = self.slot(prefix);
        let before = BlockHash(told.prefix.load(Ordering::Relaxed));
        if before == prefix || hot.demand(before, now) <= per_sec {
            told.prefix.store(prefix.0, Ordering::Relaxed);
            told.per_sec.store(per_sec.to_bits(), Ordering::Relaxed);
        }
    }

    /// Requests a second for `prefix` when it was last recorded; 0 where that is not known. Takes
    /// no lock.
    pub(crate) fn of(&self, prefix: BlockHash) -> f64 {
        let told = self.slot(prefix);
        let known = told.prefix.load(Ordering::Relaxed) == prefix.0;
        if known { f64::from_bits(told.per_sec.load(Ordering::Relaxed)) } else { 0.0 }
    }

    fn slot(&self, prefix: BlockHash) -> &Told {
        &self.told[prefix.0 as usize % WATCHED]
    }
}
