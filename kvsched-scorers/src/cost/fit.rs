use super::Cost;
use crate::parameter::ParameterError;
use kvsched_core::{EndpointId, Rates};

/// Fits every endpoint's [`Rates`] to what it was seen to do.
///
/// Recursive least squares over three figures each for prefill and for decode steps, per
/// endpoint: O(1) an outcome, nothing kept of the past. Robust, as an outcome far off the
/// usual error counts less (Huber); bounded, as no rate leaves a tenth to ten times of what it
/// started from; slowly forgetting, as endpoints change.
///
/// ```
/// use kvsched_core::{EndpointId, Rates};
/// use kvsched_scorers::cost::{Fit, Outcome};
///
/// let mut fit = Fit::new(Rates::default());
/// // An endpoint twice as fast as assumed.
/// for tokens in (1..200).map(|i| f64::from(i * 40)) {
///     let truth = Rates { prefill: 0.075, prefill_per_token: 28e-6, ..Rates::default() };
///     let ttft_secs = truth.prefill_secs(tokens, 0.0);
///     fit.observe(EndpointId(0), &Outcome { computed_tokens: tokens, ttft_secs, ..Outcome::default() })?;
/// }
/// let fitted = &fit.rates()[0];
/// assert!((fitted.prefill_secs(6000.0, 0.0) / 0.28 - 1.0).abs() < 0.05);
/// assert!(fit.error(EndpointId(0)).ttft < 0.05);
/// # Ok::<(), kvsched_scorers::cost::OutcomeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fit {
    prior: Rates,
    rates: Vec<Rates>,
    states: Vec<FitState>,
}

/// What became of a request: the caller's report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Prompt tokens that were computed.
    pub computed_tokens: f64,
    /// Prompt tokens that were reused.
    pub reused_tokens: f64,
    /// Prefill tokens that were queued before it, when it was routed.
    pub queued_tokens: f64,
    /// Seconds expected for fetching KV, which the time to the first token contains.
    pub fetch_secs: f64,
    /// Seconds to the first token; 0 where unknown.
    pub ttft_secs: f64,
    /// Mean seconds from one output token to the next; 0 where unknown.
    pub step_secs: f64,
    /// Mean sequences in the batch meanwhile.
    pub sequences: f64,
    /// Mean KV tokens in use meanwhile.
    pub kv_tokens: f64,
}

/// A figure of an [`Outcome`] that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("an outcome's {figure} is {value}, it must be finite and 0 or more")]
#[non_exhaustive]
pub struct OutcomeError {
    /// Which.
    pub figure: &'static str,
    /// Its value.
    pub value: f64,
}

/// How far predictions were off, as shares of what was observed, recent ones counting most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FitError {
    /// Outcomes seen.
    pub outcomes: u64,
    /// Mean error of the time to the first token, without its sign.
    pub ttft: f64,
    /// Mean error of the time to the first token: positive where predictions were too long.
    pub ttft_bias: f64,
    /// Mean error of the step time, without its sign.
    pub step: f64,
    /// Mean error of the step time: positive where predictions were too long.
    pub step_bias: f64,
}

/// All that a [`Fit`] knows of one endpoint, to be kept over a restart.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FitState {
    prefill: Rls,
    step: Rls,
    error: FitError,
}

/// What the features are measured in, so that the fitted figures are of like size.
const TOKENS: f64 = 1e3;
const PAIRS: f64 = 1e6;
const SEQUENCES: f64 = 10.0;
const KV: f64 = 1e5;

impl Fit {
    /// Every endpoint starts as `prior`.
    #[must_use]
    pub const fn new(prior: Rates) -> Self {
        Self { prior, rates: Vec::new(), states: Vec::new() }
    }

    /// The rates by endpoint id, for [`DecideInput::rates`](crate::DecideInput::rates). Ends
    /// with the last endpoint seen.
    #[must_use]
    pub fn rates(&self) -> &[Rates] {
        &self.rates
    }

    /// How far off the predictions for `endpoint` were.
    #[must_use]
    pub fn error(&self, endpoint: EndpointId) -> FitError {
        self.states.get(endpoint.index()).map_or_else(FitError::default, |state| state.error)
    }

    /// Learns from an outcome.
    ///
    /// # Errors
    ///
    /// A figure that is negative or not finite; nothing is learnt then.
    pub fn observe(&mut self, endpoint: EndpointId, outcome: &Outcome) -> Result<(), OutcomeError> {
        outcome.check()?;
        self.grow(endpoint);
        let state = &mut self.states[endpoint.index()];
        let rates = &mut self.rates[endpoint.index()];
        let Outcome { computed_tokens: u, reused_tokens: h, .. } = *outcome;
        state.error.outcomes += 1;
        if outcome.ttft_secs > 0.0 {
            let tokens = (u + outcome.queued_tokens) / TOKENS;
            let x = [1.0, tokens, u * (h + 0.5 * u) / PAIRS];
            let observed = (outcome.ttft_secs - outcome.fetch_secs).max(0.0);
            let off = state.prefill.learn(x, observed);
            FitError::track(&mut state.error.ttft, &mut state.error.ttft_bias, off);
            let [fixed, per_token, per_pair] = state.prefill.theta;
            rates.prefill = fixed;
            rates.prefill_per_token = per_token / TOKENS;
            rates.prefill_per_token_pair = per_pair / PAIRS;
        }
        if outcome.step_secs > 0.0 {
            let x = [1.0, outcome.sequences / SEQUENCES, outcome.kv_tokens / KV];
            let off = state.step.learn(x, outcome.step_secs);
            FitError::track(&mut state.error.step, &mut state.error.step_bias, off);
            let [fixed, per_sequence, per_kv_token] = state.step.theta;
            rates.step = fixed;
            rates.step_per_sequence = per_sequence / SEQUENCES;
            rates.step_per_kv_token = per_kv_token / KV;
        }
        Ok(())
    }

    /// What is known of `endpoint`, to be given to [`Fit::resume`] later.
    #[must_use]
    pub fn state(&self, endpoint: EndpointId) -> Option<&FitState> {
        self.states.get(endpoint.index())
    }

    /// Continues for `endpoint` from `state`, a fit's of the same prior.
    ///
    /// # Errors
    ///
    /// A state with figures that are not finite or outside the prior's bounds.
    pub fn resume(&mut self, endpoint: EndpointId, state: FitState) -> Result<(), ParameterError> {
        let fresh = FitState::new(&self.prior);
        for (own, bounds) in [(&state.prefill, &fresh.prefill), (&state.step, &fresh.step)] {
            let sound = own.is_sound(bounds);
            crate::parameter::check(
                Cost::NAME,
                "fit state",
                f64::NAN,
                "a fit's of this prior",
                |_| sound,
            )?;
        }
        self.grow(endpoint);
        let rates = &mut self.rates[endpoint.index()];
        rates.prefill = state.prefill.theta[0];
        rates.prefill_per_token = state.prefill.theta[1] / TOKENS;
        rates.prefill_per_token_pair = state.prefill.theta[2] / PAIRS;
        rates.step = state.step.theta[0];
        rates.step_per_sequence = state.step.theta[1] / SEQUENCES;
        rates.step_per_kv_token = state.step.theta[2] / KV;
        self.states[endpoint.index()] = state;
        Ok(())
    }

    fn grow(&mut self, endpoint: EndpointId) {
        let (len, prior) = (endpoint.index() + 1, &self.prior);
        if self.rates.len() < len {
            self.rates.resize_with(len, || prior.clone());
            self.states.resize_with(len, || FitState::new(prior));
        }
    }
}

impl Outcome {
    fn check(&self) -> Result<(), OutcomeError> {
        let figures = [
            ("computed_tokens", self.computed_tokens),
            ("reused_tokens", self.reused_tokens),
            ("queued_tokens", self.queued_tokens),
            ("fetch_secs", self.fetch_secs),
            ("ttft_secs", self.ttft_secs),
            ("step_secs", self.step_secs),
            ("sequences", self.sequences),
            ("kv_tokens", self.kv_tokens),
        ];
        match figures.into_iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            Some((figure, value)) => Err(OutcomeError { figure, value }),
            None => Ok(()),
        }
    }
}

impl FitError {
    /// How much a new error counts in the mean.
    const STEP: f64 = 0.05;

    fn track(mean: &mut f64, bias: &mut f64, off: f64) {
        *mean += Self::STEP * (off.abs() - *mean);
        *bias += Self::STEP * (off - *bias);
    }
}

impl FitState {
    fn new(prior: &Rates) -> Self {
        let prefill =
            [prior.prefill, prior.prefill_per_token * TOKENS, prior.prefill_per_token_pair * PAIRS];
        let step = [prior.step, prior.step_per_sequence * SEQUENCES, prior.step_per_kv_token * KV];
        Self { prefill: Rls::new(prefill), step: Rls::new(step), error: FitError::default() }
    }
}

/// Recursive least squares of three figures, none below 0.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Rls {
    theta: [f64; 3],
    /// Their covariance.
    p: [[f64; 3]; 3],
    /// The usual error, as a share of the prediction.
    spread: f64,
    prior: [f64; 3],
}

/// Share of the weight that an outcome keeps with each that follows: it halves in 346.
const MEMORY: f64 = 0.998;
/// How far off its start a figure may go, either way.
const BOUND: f64 = 10.0;
/// Errors beyond this many times the usual one count less (Huber's constant).
const OUTLYING: f64 = 2.5;
/// What an outcome is off by itself, as a share of the prediction.
const NOISE: f64 = 0.1;
/// The usual error at the start and at least, as shares of the prediction.
const SPREAD: f64 = 0.2;
const LEAST_SPREAD: f64 = 0.02;

impl Rls {
    fn new(prior: [f64; 3]) -> Self {
        let mut p = [[0.0; 3]; 3];
        for i in 0..3 {
            // Each figure is known to within itself.
            p[i][i] = prior[i] * prior[i];
        }
        Self { theta: prior, p, spread: SPREAD, prior }
    }

    /// Learns that `x` gave `y`; returns by what share of `y` it was predicted too long.
    fn learn(&mut self, x: [f64; 3], y: f64) -> f64 {
        let predicted = dot(&self.theta, &x);
        let error = y - predicted;
        let unit = predicted.max(1e-6);
        let usual = self.spread * unit;
        let weight = (OUTLYING * usual / error.abs().max(1e-12)).min(1.0);
        // Outliers widen the spread only by what they count.
        let seen = (error.abs() / unit).min(OUTLYING * self.spread);
        self.spread = (self.spread + 0.05 * (seen - self.spread)).clamp(LEAST_SPREAD, 1.0);

        let px = [dot(&self.p[0], &x), dot(&self.p[1], &x), dot(&self.p[2], &x)];
        // Not the usual error: a change would widen it and so outweigh what follows the change.
        let noise = NOISE * NOISE * unit * unit / weight;
        let gain = 1.0 / (noise + dot(&px, &x));
        for i in 0..3 {
            let moved = self.theta[i] + px[i] * gain * error;
            self.theta[i] = moved.clamp(self.prior[i] / BOUND, self.prior[i] * BOUND);
            for j in 0..3 {
                self.p[i][j] -= px[i] * gain * px[j];
            }
        }
        self.forget();
        -error / y.max(1e-6)
    }

    /// Lets the covariance grow, but never beyond what it was at the start: directions that no
    /// outcome tells about must not become arbitrary.
    fn forget(&mut self) {
        let within = (0..3).all(|i| self.p[i][i] / MEMORY <= self.prior[i] * self.prior[i]);
        if within {
            self.p.iter_mut().flatten().for_each(|x| *x /= MEMORY);
        }
    }

    fn is_sound(&self, fresh: &Self) -> bool {
        let finite = self.p.iter().flatten().all(|x| x.is_finite());
        let bounded = (0..3).all(|i| {
            let (low, high) = (fresh.prior[i] / BOUND, fresh.prior[i] * BOUND);
            (low..=high).contains(&self.theta[i]) && self.p[i][i] >= 0.0
        });
        finite
            && bounded
            && self.prior == fresh.prior
            && (LEAST_SPREAD..=1.0).contains(&self.spread)
    }
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}
