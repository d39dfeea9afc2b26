//! What new KV pushes out of an endpoint's memory, and who will miss it.

use super::Cost;
use super::fleet::Fleet;
use super::work::Work;
use crate::inflight::RECENT;
use crate::scale::ratio;
use kvsched_core::{Candidate, Load, Rates};
use std::time::Duration;

/// For how long KV was not used of which [`Cost::reuse`] speaks.
const UNUSED: Duration = Duration::from_secs(100);

/// Beyond this a chain of evictions is not followed: `p / (1 − p)` of 0.99.
pub(super) const MOST_ODDS: f64 = 99.0;

impl Cost {
    /// What a second's worth of new KV evicts, in seconds. Nothing where memory's size is unknown.
    #[inline]
    pub(super) fn eviction(fleet: &Fleet, load: &Load) -> f64 {
        if load.kv_capacity_tokens == 0 {
            return 0.0;
        }
        let turns = if fleet.knows_turnover {
            renewed(load) * (UNUSED.as_secs_f64() / RECENT.as_secs_f64())
        } else {
            1.0
        };
        (fleet.odds * turns).min(MOST_ODDS)
    }

    /// What is evicted, at `eviction`, for the prompt's KV that is new on `candidate` and for
    /// `output` tokens.
    ///
    /// What is computed although another endpoint holds it is held twice from then on, and as
    /// often as it is asked for at both it stays: `p / (1 − p)` more times. A prefix with demand
    /// enough to keep its copy busy displaces nothing in vain: `idle` is the share of the copy's time
    /// that it is not.
    #[inline]
    pub(super) fn evict_secs(
        eviction: f64,
        fleet: &Fleet,
        (candidate, rates): (&Candidate, &Rates),
        work: &Work,
        (output, idle): (f64, f64),
    ) -> f64 {
        let added = work.computed_tokens + work.fetched_tokens + output;
        let copied = fleet.copied_tokens(candidate).min(work.computed_tokens);
        let stays = fleet.odds * idle;
        eviction * (rates.compute_secs(added, 0.0) + stays * rates.compute_secs(copied, 0.0))
    }

    /// What those who follow a prompt of which nobody holds anything will compute again, as they
    /// are sent to where it lies: of all they could, the share of memory renewed since the last of them.
    #[inline]
    pub(super) fn home_secs(fleet: &Fleet, load: &Load) -> f64 {
        if fleet.home_secs > 0.0 { fleet.home_secs * renewed(load).min(1.0) } else { 0.0 }
    }
}

/// The share of memory that was computed anew within [`RECENT`]; 0 where its size is unknown.
fn renewed(load: &Load) -> f64 {
    ratio(load.recent_prefill_tokens as f64, load.kv_capacity_tokens as f64)
}

/// How often what is asked for again with this chance will be, over and over.
pub(super) fn odds(share: f64) -> f64 {
    if share < 1.0 { share / (1.0 - share) } else { MOST_ODDS }
}
