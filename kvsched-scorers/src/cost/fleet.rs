use super::Cost;
use super::evict::{MOST_ODDS, odds};
use super::work::Donor;
use crate::scale::ratio;
use kvsched_core::{Candidate, Context, Rates};

/// What a request's candidates have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fleet {
    pub(super) donor: Donor,
    /// Blocks of the longest match.
    pub(super) longest: u32,
    block_tokens: f64,
    /// Who has at least half of it. Not counted where no demand is known.
    holders: u32,
    /// Whether anybody counts what is computed anew: without a ledger that is 0 everywhere.
    pub(super) knows_turnover: bool,
    /// How many more times evicted KV will be asked for, if unused for as long as
    /// [`Cost::reuse`](super::Cost::reuse) speaks of.
    pub(super) odds: f64,
    /// What all who follow the prompt would compute if none found it again; 0 if somebody holds any
    /// of it.
    pub(super) home_secs: f64,
}

/// What one more holder of the prefix comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Copy {
    /// What requests to come will not have to compute, in seconds.
    pub(super) saves_secs: f64,
    /// The share of its time that they leave it idle.
    pub(super) idle: f64,
}

impl Fleet {
    /// O(endpoints).
    pub(super) fn of(cx: &Context<'_>, cost: &Cost) -> Self {
        let (donor, odds) = (cost.donor(cx), odds(cost.reuse));
        let knows_turnover = cx.loads.iter().any(|load| load.recent_prefill_tokens > 0);
        let longest = cx.matches.longest();
        let demand = cx.request.prefix_demand;
        let holders = if demand > 0.0 && demand.is_finite() {
            let holds = |&&blocks: &&u32| blocks > 0 && has_half(blocks, longest);
            cx.matches.as_slice().iter().filter(holds).count() as u32
        } else {
            0
        };
        let block_tokens = f64::from(cx.request.block_size);
        let home_secs = if longest == 0 { home_secs(cx, cost, odds) } else { 0.0 };
        Self { donor, longest, block_tokens, holders, knows_turnover, odds, home_secs }
    }

    /// Tokens that `candidate` lacks of the longest match.
    pub(super) fn copied_tokens(&self, candidate: &Candidate) -> f64 {
        f64::from(self.longest.saturating_sub(candidate.matched_blocks)) * self.block_tokens
    }

    /// What `candidate` as one more holder comes to.
    ///
    /// Where its holders are asked for more than they have time for, the requests beyond
    /// are computed elsewhere sooner or later: paying for it now is worth the share that is
    /// beyond, of what computing the prefix takes. Nothing for a holder, and for a prefix that
    /// nobody holds.
    #[inline]
    pub(super) fn copy(
        &self,
        cx: &Context<'_>,
        candidate: &Candidate,
        rates: &Rates,
        output: f64,
    ) -> Copy {
        if self.holders == 0 || has_half(candidate.matched_blocks, self.longest) {
            return Copy { saves_secs: 0.0, idle: 1.0 };
        }
        let prompt = f64::from(cx.request.prompt_tokens);
        let prefix = (f64::from(self.longest) * self.block_tokens).min(prompt);
        // What a hit keeps its engine busy with: the rest of the prompt, and its part of the steps.
        let part_of_step = rates.step_secs(1.0, prompt) - rates.step_secs(0.0, 0.0);
        let hit_secs = rates.compute_secs(prompt - prefix, prefix) + output * part_of_step;
        let busy = cx.request.prefix_demand * hit_secs;
        let holders = f64::from(self.holders);
        let asked = busy / holders;
        let beyond = ((asked - 1.0) / asked.max(1.0)).max(0.0);
        let matched = f64::from(candidate.matched_blocks) * self.block_tokens;
        Copy {
            saves_secs: beyond * rates.compute_secs(prefix - matched, matched),
            idle: (1.0 - busy / (holders + 1.0)).max(0.0),
        }
    }
}

/// Of those who follow, `p / (1 − p)`, each would compute the prompt, and with it again what that
/// evicts: `1 / (1 − p)` times in all. Who finds the prompt evicted finds it nowhere, and is computed
/// wherever its next home will be: in what it takes on the mean of the candidates.
fn home_secs(cx: &Context<'_>, cost: &Cost, odds: f64) -> f64 {
    let prompt = f64::from(cx.request.prompt_tokens);
    let (mut all, mut known) = (0.0, 0.0);
    for candidate in cx.candidates {
        let secs = cost.rates(cx, candidate).compute_secs(prompt, 0.0);
        // Absurd rates are their own endpoint's trouble alone.
        if secs.is_finite() {
            (all, known) = (all + secs, known + 1.0);
        }
    }
    (odds * (1.0 + odds)).min(MOST_ODDS) * ratio(all, known)
}

fn has_half(blocks: u32, longest: u32) -> bool {
    2 * u64::from(blocks) >= u64::from(longest)
}
