use crate::scratch::{Dropped, Outcome, Scratch};
use kvsched_core::{
    Candidate, Context, Decision, EndpointId, Filter, Knowledge, Labels, Load, Needs, Picker,
    PrefixMatches, Rates, Request, Rng, RouteError, Scorer, TierRun, Time,
};

/// A policy: which endpoints may serve a request, how they are rated, and who of them does.
///
/// Filters run in the order they were added, each on what the ones before it left over. Every
/// scorer then rates all who are left; the sum of `weight × score`, divided by the sum of the
/// weights, is a candidate's final score in \[0, 1\]. The picker chooses by it.
///
/// The same inputs, seed and plugin state give the same decision. O(candidates × plugins).
#[derive(Debug)]
pub struct Profile {
    filters: Vec<Box<dyn Filter>>,
    scorers: Vec<Weighted>,
    picker: Box<dyn Picker>,
    needs: Needs,
}

#[derive(Debug)]
struct Weighted {
    scorer: Box<dyn Scorer>,
    weight: f64,
    /// The weight as a share of all weights.
    share: f64,
}

/// The score of a candidate whose scorer failed, or whom nobody rates.
const NEUTRAL: f64 = 0.5;

static NO_MATCHES: PrefixMatches = PrefixMatches::new();

/// What a decision is made from.
///
/// ```
/// use kvsched_core::{EndpointId, Load};
/// use kvsched_scorers::DecideInput;
/// let input = DecideInput {
///     loads: &[Load::default()],
///     ..DecideInput::new(&[EndpointId(4)])
/// };
/// assert_eq!(input.candidates.len(), input.loads.len());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DecideInput<'a> {
    /// The request.
    pub request: Request<'a>,
    /// Who may be asked to serve it.
    pub candidates: &'a [EndpointId],
    /// What they are doing, row `i` for candidate `i`. May be empty where
    /// [`Profile::needs`] says that nobody reads it.
    pub loads: &'a [Load],
    /// Who holds how much of its prompt.
    pub matches: &'a PrefixMatches,
    /// Prompt tokens behind the match that an endpoint need not compute, by endpoint id; may be
    /// shorter than there are ids. See [`segment`](crate::segment).
    pub saved_tokens: &'a [u32],
    /// What the endpoints are labelled, by endpoint id; may be shorter than there are ids.
    pub labels: &'a [Labels],
    /// How fast the endpoints are, by endpoint id; may be shorter than there are ids.
    pub rates: &'a [Rates],
    /// How far `matches` can be believed, by endpoint id; exact where it is shorter than there
    /// are ids.
    pub knowledge: &'a [Knowledge],
    /// Now, on the caller's clock.
    pub now: Time,
}

impl<'a> DecideInput<'a> {
    /// A request of which nothing is known, at the start of the clock, to be completed field
    /// by field.
    #[must_use]
    pub fn new(candidates: &'a [EndpointId]) -> Self {
        Self {
            request: Request::default(),
            candidates,
            loads: &[],
            matches: &NO_MATCHES,
            saved_tokens: &[],
            labels: &[],
            rates: &[],
            knowledge: &[],
            now: Time(0),
        }
    }
}

/// Why a profile cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// A weight is negative or not a number.
    #[error("scorer `{scorer}` has weight {weight}; a weight is a finite number, 0 or more")]
    Weight {
        /// Whose.
        scorer: String,
        /// The weight.
        weight: f64,
    },
    /// No picker was given.
    #[error("a profile needs a picker")]
    NoPicker,
}

impl Profile {
    /// An empty profile, to be filled.
    pub fn builder() -> ProfileBuilder {
        ProfileBuilder::default()
    }

    /// What its plugins read; the rest need not be computed.
    #[must_use]
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Its filters, in order.
    pub fn filters(&self) -> impl ExactSizeIterator<Item = &dyn Filter> {
        self.filters.iter().map(AsRef::as_ref)
    }

    /// Its scorers with their weights, in order.
    pub fn scorers(&self) -> impl ExactSizeIterator<Item = (&dyn Scorer, f64)> {
        self.scorers.iter().map(|w| (w.scorer.as_ref(), w.weight))
    }

    /// Its picker.
    #[must_use]
    pub fn picker(&self) -> &dyn Picker {
        self.picker.as_ref()
    }

    /// Chooses an endpoint. Allocates nothing once `scratch` has seen as many candidates.
    ///
    /// A score that is NaN, infinite or outside \[0, 1\] counts as 0.5 and is reported by
    /// [`Scratch::faults`]; a position that the picker made up is replaced by the highest
    /// score. A candidate offered twice counts twice.
    ///
    /// # Errors
    ///
    /// Nobody to choose from, a filter that left nobody over, or load rows that are not one a
    /// candidate. `scratch` then holds no decision.
    pub fn decide(
        &self,
        input: DecideInput<'_>,
        rng: &mut Rng,
        scratch: &mut Scratch,
    ) -> Result<Decision, RouteError> {
        scratch.outcome = None;
        self.check(&input)?;
        let Scratch { candidates, keep, dropped, slow, raw, sums, faults, picker_fault, outcome } =
            scratch;
        let seed = rng.state();
        let mut cx = open(&input, rng.next_u64(), slow);
        enter(&input, cx.slow_runs, candidates);
        self.drop_candidates(&mut cx, candidates, keep, dropped)?;
        cx.candidates = candidates;
        self.rate(&cx, raw, sums, faults);

        let mut picked = self.picker.pick(&cx, sums, rng);
        *picker_fault = picked >= sums.len();
        if *picker_fault {
            picked = highest(sums, usize::MAX).unwrap_or(0);
        }
        let chosen = candidates[picked];
        let decision = Decision {
            endpoint: chosen.endpoint,
            score: sums[picked],
            matched_blocks: chosen.matched_blocks,
            prompt_blocks: input.matches.prompt_blocks(),
            runner_up: highest(sums, picked).map(|i| (candidates[i].endpoint, sums[i])),
            candidates: candidates.len() as u32,
        };
        *outcome = Some(Outcome {
            decision,
            picked,
            seed,
            now: input.now,
            prompt_tokens: input.request.prompt_tokens,
            block_size: input.request.block_size,
        });
        Ok(decision)
    }

    fn check(&self, input: &DecideInput<'_>) -> Result<(), RouteError> {
        let (candidates, loads) = (input.candidates.len(), input.loads.len());
        if candidates == 0 {
            return Err(RouteError::NoCandidates);
        }
        if candidates != loads && (self.needs.loads || loads != 0) {
            return Err(RouteError::LoadRows { candidates, loads });
        }
        Ok(())
    }

    /// Runs the filters and compacts `candidates` after each.
    fn drop_candidates<'a>(
        &self,
        cx: &mut Context<'a>,
        candidates: &mut Vec<Candidate>,
        keep: &mut Vec<bool>,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), RouteError> {
        let offered = candidates.len();
        dropped.clear();
        for (position, filter) in self.filters.iter().enumerate() {
            keep.clear();
            keep.resize(candidates.len(), true);
            filter.filter(&Context { candidates, ..*cx }, keep);
            let mut verdicts = keep.iter();
            candidates.retain(|c| {
                let keep = verdicts.next().copied().unwrap_or(true);
                if !keep {
                    let Candidate { endpoint, matched_blocks, .. } = *c;
                    dropped.push(Dropped { endpoint, matched_blocks, filter: position });
                }
                keep
            });
            if candidates.is_empty() {
                let filter = filter.name().to_owned();
                return Err(RouteError::AllFiltered { filter, candidates: offered });
            }
        }
        Ok(())
    }

    /// Fills in the raw scores and their weighted sums.
    fn rate(
        &self,
        cx: &Context<'_>,
        raw: &mut Vec<f64>,
        sums: &mut Vec<f64>,
        faults: &mut Vec<u32>,
    ) {
        let n = cx.candidates.len();
        raw.clear();
        raw.resize(n * self.scorers.len(), f64::NAN);
        sums.clear();
        sums.resize(n, if self.rates() { 0.0 } else { NEUTRAL });
        faults.clear();
        for (weighted, scores) in self.scorers.iter().zip(raw.chunks_exact_mut(n)) {
            weighted.scorer.score(cx, scores);
            let mut broken = 0;
            for (sum, &score) in sums.iter_mut().zip(scores.iter()) {
                let sound = (0.0..=1.0).contains(&score);
                broken += u32::from(!sound);
                *sum += weighted.share * if sound { score } else { NEUTRAL };
            }
            faults.push(broken);
        }
        // The shares add up to 1 only within rounding.
        sums.iter_mut().for_each(|sum| *sum = sum.min(1.0));
    }

    /// Whether any scorer counts.
    fn rates(&self) -> bool {
        self.scorers.iter().any(|w| w.weight > 0.0)
    }
}

/// What plugins see of `input`, as yet without candidates.
pub(crate) fn open<'a>(
    input: &DecideInput<'a>,
    seed: u64,
    slow: &'a mut Vec<TierRun>,
) -> Context<'a> {
    Context {
        request: input.request,
        candidates: &[],
        loads: input.loads,
        matches: input.matches,
        slow_runs: sort_runs(input.matches.slow_runs(), slow),
        labels: input.labels,
        rates: input.rates,
        knowledge: input.knowledge,
        now: input.now,
        seed,
    }
}

/// What plugins saw of `input` in the decision last made with `scratch`.
pub(crate) fn reopen<'a>(input: &DecideInput<'a>, scratch: &'a Scratch) -> Context<'a> {
    let runs = input.matches.slow_runs();
    let seed = scratch.outcome.map_or(0, |outcome| Rng::new(outcome.seed).next_u64());
    Context {
        request: input.request,
        candidates: &scratch.candidates,
        loads: input.loads,
        matches: input.matches,
        slow_runs: if runs.is_sorted() { runs } else { &scratch.slow },
        labels: input.labels,
        rates: input.rates,
        knowledge: input.knowledge,
        now: input.now,
        seed,
    }
}

/// The runs ordered by endpoint: as they are where they already are, else in `buffer`.
fn sort_runs<'a>(runs: &'a [TierRun], buffer: &'a mut Vec<TierRun>) -> &'a [TierRun] {
    if runs.is_sorted() {
        return runs;
    }
    buffer.clear();
    buffer.extend_from_slice(runs);
    buffer.sort_unstable();
    buffer
}

/// Starts the list of candidates with everybody who was offered.
pub(crate) fn enter(input: &DecideInput<'_>, runs: &[TierRun], candidates: &mut Vec<Candidate>) {
    let prompt_blocks = input.matches.prompt_blocks();
    let mut cursor = 0;
    let mut slow = |endpoint: EndpointId| {
        // Candidates mostly come in ascending order, as the runs do: one walk over both.
        if runs[..cursor].last().is_some_and(|run| run.endpoint >= endpoint) {
            cursor = runs.partition_point(|run| run.endpoint < endpoint);
        }
        cursor += runs[cursor..].iter().take_while(|run| run.endpoint < endpoint).count();
        let from = cursor;
        cursor += runs[cursor..].iter().take_while(|run| run.endpoint == endpoint).count();
        (from as u32, cursor as u32)
    };
    candidates.clear();
    candidates.extend(input.candidates.iter().enumerate().map(|(row, &endpoint)| Candidate {
        endpoint,
        row: row as u32,
        matched_blocks: input.matches.blocks(endpoint).min(prompt_blocks),
        saved_tokens: input.saved_tokens.get(endpoint.index()).copied().unwrap_or(0),
        slow: if runs.is_empty() { (0, 0) } else { slow(endpoint) },
    }));
}

/// The position of the highest score but `except`'s; the first of equals.
fn highest(scores: &[f64], except: usize) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (i, &score) in scores.iter().enumerate() {
        if i != except && best.is_none_or(|b| score > scores[b]) {
            best = Some(i);
        }
    }
    best
}

/// Collects the plugins of a [`Profile`].
#[derive(Debug, Default)]
#[must_use]
pub struct ProfileBuilder {
    filters: Vec<Box<dyn Filter>>,
    scorers: Vec<(Box<dyn Scorer>, f64)>,
    picker: Option<Box<dyn Picker>>,
}

impl ProfileBuilder {
    /// Adds a filter after those already there.
    pub fn filter(mut self, filter: Box<dyn Filter>) -> Self {
        self.filters.push(filter);
        self
    }

    /// Adds a scorer. Only the ratio of the weights matters; weight 0 computes and reports
    /// the score without counting it.
    pub fn scorer(mut self, scorer: Box<dyn Scorer>, weight: f64) -> Self {
        self.scorers.push((scorer, weight));
        self
    }

    /// Sets the picker, in place of an earlier one.
    pub fn picker(mut self, picker: Box<dyn Picker>) -> Self {
        self.picker = Some(picker);
        self
    }

    /// Checks what was collected.
    ///
    /// # Errors
    ///
    /// A weight that is negative or not finite, or no picker.
    pub fn build(self) -> Result<Profile, ProfileError> {
        let picker = self.picker.ok_or(ProfileError::NoPicker)?;
        if let Some((scorer, weight)) =
            self.scorers.iter().find(|(_, w)| !w.is_finite() || *w < 0.0)
        {
            return Err(ProfileError::Weight { scorer: scorer.name().to_owned(), weight: *weight });
        }
        // Divided by the largest first, so that the sum stays finite.
        let largest = self.scorers.iter().map(|&(_, w)| w).fold(0.0, f64::max);
        let total: f64 = self.scorers.iter().map(|(_, w)| w / largest).sum();
        let share = |w: f64| if largest > 0.0 { w / largest / total } else { 0.0 };
        let needs = self.filters.iter().fold(picker.needs(), |n, f| n.and(f.needs()));
        let needs = self.scorers.iter().fold(needs, |n, (s, _)| n.and(s.needs()));
        let scorers = self.scorers.into_iter();
        Ok(Profile {
            filters: self.filters,
            scorers: scorers
                .map(|(scorer, weight)| Weighted { share: share(weight), scorer, weight })
                .collect(),
            picker,
            needs,
        })
    }
}
