use super::work::Donor;
use kvsched_core::{Candidate, Context, Rates};

/// What a request's candidates have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fleet {
    pub(super) donor: Donor,
    pub(super) prefix: Prefix,
    /// Whether anybody counts what is computed anew: without a ledger that is 0 everywhere.
    pub(super) knows_turnover: bool,
}

impl Fleet {
    /// O(endpoints).
    pub(super) fn of(cx: &Context<'_>, donor: Donor) -> Self {
        let knows_turnover = cx.loads.iter().any(|load| load.recent_prefill_tokens > 0);
        Self { donor, prefix: Prefix::of(cx), knows_turnover }
    }
}

/// The prefix that the fleet holds, and by how many endpoints.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prefix {
    longest: u32,
    holders: u32,
}

impl Prefix {
    /// Holders have at least half of the longest match. Nothing where no demand is known.
    /// O(endpoints).
    fn of(cx: &Context<'_>) -> Self {
        let demand = cx.request.prefix_demand;
        if demand <= 0.0 || !demand.is_finite() {
            return Self::default();
        }
        let longest = cx.matches.longest();
        let holds = |&&blocks: &&u32| blocks > 0 && 2 * u64::from(blocks) >= u64::from(longest);
        let holders = cx.matches.as_slice().iter().filter(holds).count() as u32;
        Self { longest, holders }
    }

    /// What one more holder is worth to the requests to come.
    ///
    /// Where its holders are asked for more than they have time for, the requests beyond
    /// are computed elsewhere sooner or later: paying for it now is worth the share that is
    /// beyond, of what computing the prefix takes. Nothing for a holder, and for a prefix that
    /// nobody holds.
    pub(super) fn replica_secs(
        &self,
        cx: &Context<'_>,
        candidate: &Candidate,
        rates: &Rates,
        output: f64,
    ) -> f64 {
        let holds = 2 * u64::from(candidate.matched_blocks) >= u64::from(self.longest);
        if self.holders == 0 || holds {
            return 0.0;
        }
        let block = f64::from(cx.request.block_size);
        let prompt = f64::from(cx.request.prompt_tokens);
        let prefix = (f64::from(self.longest) * block).min(prompt);
        // What a hit keeps its engine busy with: the rest of the prompt, and its part of the steps.
        let part_of_step = rates.step_secs(1.0, prompt) - rates.step_secs(0.0, 0.0);
        let hit_secs = rates.compute_secs(prompt - prefix, prefix) + output * part_of_step;
        let asked = cx.request.prefix_demand * hit_secs / f64::from(self.holders);
        let beyond = ((asked - 1.0) / asked.max(1.0)).max(0.0);
        let matched = f64::from(candidate.matched_blocks) * block;
        beyond * rates.compute_secs(prefix - matched, matched)
    }
}
