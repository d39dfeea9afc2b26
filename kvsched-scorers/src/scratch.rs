use kvsched_core::{Candidate, Decision, EndpointId, TierRun, Time};

/// The buffers of a decision, and what the last one left in them.
///
/// Keep one per thread and hand it to every call: once it has seen the fleet, a decision
/// allocates nothing. Right after a decision a [`Receipt`](crate::Receipt) can be taken
/// from it.
///
/// ```
/// let scratch = kvsched_scorers::Scratch::new();
/// assert_eq!(scratch.faults(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Candidates that passed the filters so far.
    pub(crate) candidates: Vec<Candidate>,
    /// What the filter at work says of each.
    pub(crate) keep: Vec<bool>,
    /// Who was dropped, with its matched blocks and the filter's position.
    pub(crate) dropped: Vec<Dropped>,
    /// Slow tier runs by endpoint.
    pub(crate) slow: Vec<TierRun>,
    /// Raw scores, one row of candidates a scorer.
    pub(crate) raw: Vec<f64>,
    /// Weighted sums by candidate.
    pub(crate) sums: Vec<f64>,
    /// Faulty scores by scorer.
    pub(crate) faults: Vec<u32>,
    /// Whether the picker chose a position that does not exist.
    pub(crate) picker_fault: bool,
    /// The last decision and the circumstances that the buffers do not show.
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    pub(crate) endpoint: EndpointId,
    pub(crate) matched_blocks: u32,
    pub(crate) filter: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) decision: Decision,
    pub(crate) picked: usize,
    pub(crate) seed: u64,
    pub(crate) now: Time,
    pub(crate) prompt_tokens: u32,
    pub(crate) block_size: u32,
}

impl Scratch {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many scores of the last decision were NaN, infinite or outside \[0, 1\] and were
    /// counted as 0.5, plus one if the picker chose nobody. Not 0: a plugin is broken, and the
    /// receipt names it.
    #[must_use]
    pub fn faults(&self) -> u32 {
        let scores = self.faults.iter().fold(0_u32, |sum, &n| sum.saturating_add(n));
        scores.saturating_add(u32::from(self.picker_fault))
    }
}
