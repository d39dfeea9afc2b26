use crate::profile::reopen;
use crate::{DecideInput, Profile, Scratch};
use kvsched_core::{Decision, EndpointId, Knowledge, Time, Trust};
use std::fmt;

/// Why a decision was made: every candidate with every score.
///
/// ```
/// # use kvsched_core::{EndpointId, Load, Rng};
/// # use kvsched_scorers::{picker, scorer, DecideInput, Profile, Receipt, Scratch};
/// # let profile = Profile::builder()
/// #     .scorer(Box::new(scorer::Queue), 2.0)
/// #     .picker(Box::new(picker::MaxScore))
/// #     .build()?;
/// let busy = Load { waiting_requests: 9, ..Load::default() };
/// let input = DecideInput {
///     loads: &[busy, Load::default()],
///     ..DecideInput::new(&[EndpointId(0), EndpointId(1)])
/// };
/// let mut scratch = Scratch::new();
/// profile.decide(input, &mut Rng::new(7), &mut scratch)?;
/// let receipt = Receipt::of(&profile, &scratch).ok_or("no decision")?;
/// let names = ["pod-a", "pod-b"];
/// assert_eq!(
///     receipt.explain(|e| names[e.index()].to_owned()),
///     "\
/// pod-b chosen by max-score-picker with 1.000, 0 of 0 blocks cached, 1.000 ahead of pod-a
///   pod-b 1.000, 0 blocks: queue-scorer 1.000 × 2
///   pod-a 0.000, 0 blocks: queue-scorer 0.000 × 2
///   seed 0000000000000007
/// "
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Receipt {
    /// What was decided.
    pub decision: Decision,
    /// The state of the random generator before the decision:
    /// [`Rng::new`](kvsched_core::Rng::new) of it and the same inputs decide the same.
    pub seed: u64,
    /// When, on the caller's clock.
    pub now: Time,
    /// Length of the prompt in tokens.
    pub prompt_tokens: u32,
    /// Tokens a block.
    pub block_size: u32,
    /// The profile's filters, in order.
    pub filters: Vec<String>,
    /// The profile's scorers with their weights, in order.
    pub scorers: Vec<(String, f64)>,
    /// The profile's picker.
    pub picker: String,
    /// Whether the picker chose a position that does not exist, so that the highest score was
    /// taken instead.
    pub picker_fault: bool,
    /// One row a candidate: first those that were rated, the chosen one at
    /// [`Receipt::chosen`], then those that a filter dropped.
    pub rows: Vec<ReceiptRow>,
    /// Position of the chosen candidate's row.
    pub chosen: usize,
}

/// What became of one candidate.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct ReceiptRow {
    /// Who.
    pub endpoint: EndpointId,
    /// Leading prompt blocks it held in any tier.
    pub matched_blocks: u32,
    /// The position of the filter that dropped it.
    pub dropped_by: Option<usize>,
    /// What each scorer wrote, as it wrote it: a value that is NaN or outside \[0, 1\] was
    /// counted as 0.5. Empty for a dropped candidate.
    #[cfg_attr(feature = "serde", serde(with = "crate::any_float"))]
    pub scores: Vec<f64>,
    /// The weighted sum; 0 for a dropped candidate.
    pub sum: f64,
    /// What made up its scores, in seconds, where [`Receipt::with_terms`] asked for it.
    pub terms: Vec<(String, f64)>,
    /// How old its load row was, in seconds, where [`Receipt::with_terms`] asked for it.
    pub load_age: Option<f64>,
    /// How far its match could be believed, and when it was last heard of, where
    /// [`Receipt::with_terms`] asked for it and it is known.
    pub knowledge: Option<Knowledge>,
}

impl Receipt {
    /// The receipt of the decision that `profile` last made with `scratch`; `None` if it made
    /// none or failed. Allocates.
    #[must_use]
    pub fn of(profile: &Profile, scratch: &Scratch) -> Option<Self> {
        let outcome = scratch.outcome?;
        let n = scratch.candidates.len();
        let rated = scratch.candidates.iter().enumerate().map(|(i, c)| ReceiptRow {
            endpoint: c.endpoint,
            matched_blocks: c.matched_blocks,
            dropped_by: None,
            scores: scratch.raw.iter().skip(i).step_by(n).copied().collect(),
            sum: scratch.sums[i],
            terms: Vec::new(),
            load_age: None,
            knowledge: None,
        });
        let dropped = scratch.dropped.iter().map(|d| ReceiptRow {
            endpoint: d.endpoint,
            matched_blocks: d.matched_blocks,
            dropped_by: Some(d.filter),
            scores: Vec::new(),
            sum: 0.0,
            terms: Vec::new(),
            load_age: None,
            knowledge: None,
        });
        Some(Self {
            decision: outcome.decision,
            seed: outcome.seed,
            now: outcome.now,
            prompt_tokens: outcome.prompt_tokens,
            block_size: outcome.block_size,
            filters: profile.filters().map(|f| f.name().to_owned()).collect(),
            scorers: profile.scorers().map(|(s, weight)| (s.name().to_owned(), weight)).collect(),
            picker: profile.picker().name().to_owned(),
            picker_fault: scratch.picker_fault,
            rows: rated.chain(dropped).collect(),
            chosen: outcome.picked,
        })
    }

    /// The same with what made up the scores, and how old the knowledge was, from `input`, which
    /// must be what was decided from.
    #[must_use]
    pub fn with_terms(
        mut self,
        profile: &Profile,
        input: &DecideInput<'_>,
        scratch: &Scratch,
    ) -> Self {
        let cx = reopen(input, scratch);
        for (position, (row, candidate)) in self.rows.iter_mut().zip(cx.candidates).enumerate() {
            for (scorer, _) in profile.scorers() {
                scorer.terms(&cx, position, &mut |name, secs| {
                    row.terms.push((name.to_owned(), secs));
                });
            }
            let load = input.loads.get(candidate.row as usize);
            row.load_age = load.map(|load| input.now.since(load.observed_at).as_secs_f64());
        }
        for row in &mut self.rows {
            row.knowledge = input.knowledge.get(row.endpoint.index()).copied();
        }
        self
    }

    /// Blocks of the longest match of any candidate, dropped ones included, beyond the chosen
    /// one's: cached work that the decision passed over.
    #[must_use]
    pub fn regret_blocks(&self) -> u32 {
        let reachable = self.rows.iter().map(|row| row.matched_blocks).max().unwrap_or(0);
        reachable.saturating_sub(self.decision.matched_blocks)
    }

    /// How far the chosen endpoint's score is above the best one not taken; negative where the
    /// picker passed over a better one, `None` where there was no other.
    #[must_use]
    pub fn margin(&self) -> Option<f64> {
        self.decision.runner_up.map(|(_, score)| self.decision.score - score)
    }

    /// The receipt for a person to read, a line a candidate, best first, with `name` telling
    /// what an endpoint is called.
    #[must_use]
    pub fn explain(&self, name: impl Fn(EndpointId) -> String) -> String {
        Explained { receipt: self, name }.to_string()
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Explained { receipt: self, name: |e: EndpointId| e.to_string() }.fmt(f)
    }
}

struct Explained<'a, N> {
    receipt: &'a Receipt,
    name: N,
}

impl<N: Fn(EndpointId) -> String> fmt::Display for Explained<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receipt: r, name } = self;
        let d = &r.decision;
        write!(
            f,
            "{} chosen by {} with {:.3}, {} of {} blocks cached",
            name(d.endpoint),
            r.picker,
            d.score,
            d.matched_blocks,
            d.prompt_blocks
        )?;
        if self.receipt.regret_blocks() > 0 {
            write!(f, " ({} more elsewhere)", self.receipt.regret_blocks())?;
        }
        match d.runner_up {
            None => writeln!(f, ", nobody else left")?,
            Some((other, score)) if score > d.score => {
                writeln!(f, ", {:.3} behind {}", score - d.score, name(other))?;
            }
            Some((other, score)) => {
                writeln!(f, ", {:.3} ahead of {}", d.score - score, name(other))?;
            }
        }
        if r.picker_fault {
            writeln!(f, "  fault: {} chose nobody, took the highest score", r.picker)?;
        }
        let mut order: Vec<usize> = (0..r.rows.len()).collect();
        // Stable: dropped rows stay behind, in the order they were dropped.
        let key = |i: &usize| (*i != r.chosen, r.rows[*i].dropped_by.is_some());
        order.sort_by(|a, b| key(a).cmp(&key(b)).then(r.rows[*b].sum.total_cmp(&r.rows[*a].sum)));
        for row in order.into_iter().map(|i| &r.rows[i]) {
            self.row(row, f)?;
        }
        writeln!(f, "  seed {:016x}", r.seed)
    }
}

impl<N: Fn(EndpointId) -> String> Explained<'_, N> {
    fn row(&self, row: &ReceiptRow, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (r, name) = (self.receipt, (self.name)(row.endpoint));
        if let Some(filter) = row.dropped_by {
            let filter = r.filters.get(filter).map_or("?", String::as_str);
            return writeln!(f, "  {name} dropped by {filter}, {} blocks", row.matched_blocks);
        }
        write!(f, "  {name} {:.3}, {} blocks", row.sum, row.matched_blocks)?;
        if let Some(known) = row.knowledge.filter(|known| known.trust != Trust::Exact) {
            let age = r.now.since(known.heard_at).as_secs_f64();
            write!(f, " ({:?}, heard of {age:.1} s ago)", known.trust)?;
        }
        if let Some(age) = row.load_age.filter(|age| *age > 0.0) {
            write!(f, " (load {age:.1} s old)")?;
        }
        for (i, ((scorer, weight), score)) in r.scorers.iter().zip(&row.scores).enumerate() {
            write!(f, "{} {scorer} {score:.3} × {weight}", if i == 0 { ":" } else { " +" })?;
            if !(0.0..=1.0).contains(score) {
                write!(f, " (fault, counted as 0.5)")?;
            }
        }
        writeln!(f)?;
        if !row.terms.is_empty() {
            let total: f64 = row.terms.iter().map(|(_, secs)| secs).sum();
            write!(f, "    {total:.3} s =")?;
            for (i, (term, secs)) in row.terms.iter().enumerate() {
                write!(f, "{} {term} {secs:.3}", if i == 0 { "" } else { " +" })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
