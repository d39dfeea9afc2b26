use super::Outstanding;
use kvsched_core::Time;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, fence};

/// How many changes a reader can look back.
const REACH: u64 = 256;
/// Twice that, so that only a reader during whose reading as many changes happen must start
/// over.
const SLOTS: u64 = 2 * REACH;

/// One endpoint's account as those see it who hold no lock. Written by one at a time.
#[derive(Default)]
pub(super) struct Published {
    requests: AtomicU32,
    decoding: AtomicU32,
    prefill_tokens: AtomicU64,
    kv_tokens: AtomicU64,
    recent_tokens: AtomicU64,
    /// One more than the time; 0 for never.
    last_cold_at: AtomicU64,
    /// How many changes there have been; the last of them are in the ring.
    changes: AtomicU64,
    /// The changes before this one were of an endpoint that is gone.
    first: AtomicU64,
    /// Made at the first change.
    ring: OnceLock<Box<[Slot]>>,
}

/// The sums after a change, and when that was.
#[derive(Default)]
struct Slot {
    at: AtomicU64,
    routed: AtomicU32,
    ended: AtomicU32,
    kv_tokens: AtomicI64,
}

/// What has changed on an endpoint since some time, or ever; wraps, as only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Requests routed there.
    pub(super) routed: u32,
    /// Requests ended there.
    pub(super) ended: u32,
    /// KV tokens added less those released.
    pub(super) kv_tokens: i64,
}

impl Published {
    pub(super) fn set_outstanding(&self, now: &Outstanding) {
        self.requests.store(now.requests, Relaxed);
        self.decoding.store(now.decoding, Relaxed);
        self.prefill_tokens.store(now.prefill_tokens, Relaxed);
        self.kv_tokens.store(now.kv_tokens, Relaxed);
    }

    /// Every figure is true by itself; while somebody writes, two may be a change apart.
    pub(super) fn outstanding(&self) -> Outstanding {
        Outstanding {
            requests: self.requests.load(Relaxed),
            decoding: self.decoding.load(Relaxed),
            prefill_tokens: self.prefill_tokens.load(Relaxed),
            kv_tokens: self.kv_tokens.load(Relaxed),
        }
    }

    pub(super) fn set_recent_tokens(&self, tokens: u64) {
        self.recent_tokens.store(tokens, Relaxed);
    }

    pub(super) fn recent_tokens(&self) -> u64 {
        self.recent_tokens.load(Relaxed)
    }

    pub(super) fn cold_at(&self, now: Time) {
        self.last_cold_at.fetch_max(now.0.saturating_add(1), Relaxed);
    }

    pub(super) fn last_cold_at(&self) -> Option<Time> {
        self.last_cold_at.load(Relaxed).checked_sub(1).map(Time)
    }

    /// Starts over, for another endpoint with the same id.
    pub(super) fn forget(&self) {
        self.first.store(self.changes.load(Relaxed), Relaxed);
        self.set_outstanding(&Outstanding::default());
        self.set_recent_tokens(0);
        self.last_cold_at.store(0, Relaxed);
    }

    /// Notes a change at `at`, after which the sums are `sums`.
    pub(super) fn note(&self, at: Time, sums: &Sums) {
        let changes = self.changes.load(Relaxed);
        // Who sees a value of this change also sees that the one before it is complete.
        fence(Release);
        let ring = self.ring.get_or_init(|| (0..SLOTS).map(|_| Slot::default()).collect());
        let slot = &ring[(changes % SLOTS) as usize];
        slot.at.store(at.0, Relaxed);
        slot.routed.store(sums.routed, Relaxed);
        slot.ended.store(sums.ended, Relaxed);
        slot.kv_tokens.store(sums.kv_tokens, Relaxed);
        self.changes.store(changes + 1, Release);
    }

    /// What has changed after `time`, by the last [`REACH`] changes.
    ///
    /// Waits for nobody: it starts over only if [`REACH`] changes happened meanwhile.
    pub(super) fn since(&self, time: Time) -> Sums {
        let Some(ring) = self.ring.get() else { return Sums::default() };
        let slot = |change: u64| &ring[(change % SLOTS) as usize];
        loop {
            let changes = self.changes.load(Acquire);
            let first = changes.saturating_sub(REACH).max(self.first.load(Relaxed));
            let mut from = changes;
            while from > first && slot(from - 1).at.load(Relaxed) > time.0 {
                from -= 1;
            }
            let sums_after = |n: u64| n.checked_sub(1).map(|last| slot(last).sums());
            let now = sums_after(changes).unwrap_or_default();
            let then = sums_after(from).unwrap_or_default();
            // If a slot was written anew meanwhile, so many changes are now seen.
            fence(Acquire);
            let oldest_read = from.saturating_sub(1);
            if self.changes.load(Relaxed) < oldest_read + SLOTS {
                return now.minus(&then);
            }
        }
    }
}

impl Slot {
    fn sums(&self) -> Sums {
        Sums {
            routed: self.routed.load(Relaxed),
            ended: self.ended.load(Relaxed),
            kv_tokens: self.kv_tokens.load(Relaxed),
        }
    }
}

impl fmt::Debug for Published {
    /// Without the ring.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("outstanding", &self.outstanding())
            .field("recent_tokens", &self.recent_tokens())
            .field("last_cold_at", &self.last_cold_at())
            .finish_non_exhaustive()
    }
}

impl Sums {
    pub(super) fn plus(&self, routed: u32, ended: u32, kv_tokens: i64) -> Self {
        Self {
            routed: self.routed.wrapping_add(routed),
            ended: self.ended.wrapping_add(ended),
            kv_tokens: self.kv_tokens.wrapping_add(kv_tokens),
        }
    }

    fn minus(&self, earlier: &Self) -> Self {
        Self {
            routed: self.routed.wrapping_sub(earlier.routed),
            ended: self.ended.wrapping_sub(earlier.ended),
            kv_tokens: self.kv_tokens.wrapping_sub(earlier.kv_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Published, REACH, Sums};
    use kvsched_core::Time;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    #[test]
    fn looks_back_as_far_as_it_can() {
        let published = Published::default();
        assert_eq!(published.since(Time(0)), Sums::default());
        let mut sums = Sums::default();
        for at in 1..=3 * REACH {
            sums = sums.plus(1, 0, 10);
            published.note(Time(at), &sums);
            let got = published.since(Time(at.saturating_sub(5)));
            let n = at.min(5);
            assert_eq!(got, Sums { routed: n as u32, ended: 0, kv_tokens: 10 * n as i64 });
        }
        assert_eq!(published.since(Time(0)).routed, REACH as u32);
    }

    /// Readers run beside a writer that goes round the ring many times.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test of threads")]
    fn a_reader_sees_whole_changes() {
        let rounds = if cfg!(miri) { 2 } else { 2_000 } * 2 * REACH;
        let published = Published::default();
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for back in [0, 3, REACH / 2] {
                let (published, done) = (&published, &done);
                scope.spawn(move || {
                    loop {
                        let before = done.load(SeqCst);
                        let then = before.saturating_sub(back);
                        let got = published.since(Time(then));
                        let after = done.load(SeqCst);
                        // Change `n` is noted at time `n`, brings one request that ends at once
                        // and 10 tokens; `done` follows it.
                        assert_eq!(got.routed, got.ended);
                        assert_eq!(i64::from(got.routed) * 10, got.kv_tokens);
                        let least = (before - then).min(REACH);
                        assert!(u64::from(got.routed) >= least, "{got:?} {then} {before}");
                        assert!(u64::from(got.routed) <= after + 1 - then, "{got:?} {then}");
                        if before == rounds {
                            break;
                        }
                    }
                });
            }
            let mut sums = Sums::default();
            for n in 1..=rounds {
                sums = sums.plus(1, 1, 10);
                published.note(Time(n), &sums);
                done.store(n, SeqCst);
            }
        });
    }
}
