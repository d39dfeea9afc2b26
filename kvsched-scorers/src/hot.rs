use kvsched_core::{BlockHash, Time};
use std::time::Duration;

/// How often prefixes are asked for again: requests a second, the recent counting most.
///
/// A prefix's first request says nothing of how often it is wanted, and a young prefix's further
/// ones are counted over its age: a burst for a new prefix shows within a few requests.
///
/// A prefix is named by the hash of its last block, say the last that any endpoint holds. The
/// figure belongs into [`Request::prefix_demand`](kvsched_core::Request): when it outgrows
/// what the prefix's holders have time for, the cost scorer makes one more holder cheaper.
///
/// Memory is fixed: prefixes share rows of four, and the least wanted of a row gives way.
///
/// ```
/// use kvsched_core::{BlockHash, Time};
/// use kvsched_scorers::HotPrefixes;
/// use std::time::Duration;
///
/// let mut hot = HotPrefixes::new(1024, Duration::from_secs(30));
/// let mut demand = 0.0;
/// for i in 0..1000_u64 {
///     demand = hot.observe(BlockHash(7), Time(i * 100_000_000)); // ten a second
/// }
/// assert!((demand - 10.0).abs() < 1.0);
/// assert!(hot.demand(BlockHash(7), Time(300_000_000_000)) < 0.1);
/// assert_eq!(hot.demand(BlockHash(8), Time(0)), 0.0);
/// ```
#[derive(Clone, Debug)]
pub struct HotPrefixes {
    rows: Vec<[Option<Heat>; 4]>,
    memory: f64,
}

#[derive(Clone, Copy, Debug)]
struct Heat {
    prefix: BlockHash,
    /// Of all requests after the first.
    per_sec: f64,
    at: Time,
    first: Time,
}

impl Heat {
    /// What is left of it at `now`.
    fn per_sec(&self, now: Time, memory: f64) -> f64 {
        self.per_sec * (-now.since(self.at).as_secs_f64() / memory).exp()
    }

    /// The same over the part of the memory that the prefix has lived in.
    fn demand(&self, now: Time, memory: f64) -> f64 {
        let lived = 1.0 - (-now.since(self.first).as_secs_f64() / memory).exp();
        self.per_sec(now, memory) / lived.max(LEAST_LIVED)
    }
}

/// Requests that come at once must not make demand infinite.
const LEAST_LIVED: f64 = 1e-3;

impl HotPrefixes {
    /// Remembers about `prefixes` prefixes, a request counting for `memory` (at least a
    /// millisecond) on average.
    #[must_use]
    pub fn new(prefixes: usize, memory: Duration) -> Self {
        Self {
            rows: vec![[None; 4]; prefixes.div_ceil(4).max(1)],
            memory: memory.as_secs_f64().max(1e-3),
        }
    }

    /// Counts a request for `prefix` and returns the demand with it. O(1).
    pub fn observe(&mut self, prefix: BlockHash, now: Time) -> f64 {
        let (memory, row) = (self.memory, self.row(prefix));
        let row = &mut self.rows[row];
        let known = row.iter().position(|slot| slot.is_some_and(|heat| heat.prefix == prefix));
        let (slot, before) = match known {
            Some(slot) => (slot, row[slot]),
            None => {
                // Of prefixes that were asked for once, the one that waits longest goes first.
                let wanted = |i: &usize| {
                    row[*i].map_or((-1.0, Time(0)), |heat| (heat.per_sec(now, memory), heat.at))
                };
                let coldest = (0..row.len()).min_by(|a, b| {
                    let (a, b) = (wanted(a), wanted(b));
                    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
                });
                (coldest.unwrap_or(0), None)
            }
        };
        let heat = match before {
            None => Heat { prefix, per_sec: 0.0, at: now, first: now },
            Some(heat) => {
                let per_sec = heat.per_sec(now, memory) + 1.0 / memory;
                Heat { per_sec, at: heat.at.max(now), ..heat }
            }
        };
        row[slot] = Some(heat);
        heat.demand(now, memory)
    }

    /// The demand for `prefix`; 0 for one that is not remembered. O(1).
    #[must_use]
    pub fn demand(&self, prefix: BlockHash, now: Time) -> f64 {
        let row = self.rows[self.row(prefix)].iter().flatten();
        let found = row.into_iter().find(|heat| heat.prefix == prefix);
        found.map_or(0.0, |heat| heat.demand(now, self.memory))
    }

    fn row(&self, prefix: BlockHash) -> usize {
        // Multiplied, so that hashes that differ in their low bits alone spread as well.
        let mixed = prefix.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mixed) * self.rows.len() as u128) >> 64) as usize
    }
}
