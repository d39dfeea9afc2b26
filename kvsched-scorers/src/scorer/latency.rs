use crate::ParameterError;
use crate::cost::Cost;
use crate::parameter::quantity;
use crate::scale::ratio;
use kvsched_core::{Candidate, Context, Needs, Scorer};

/// `latency-scorer`: by the predicted latency's headroom against the objectives
/// ([`Request::ttft_slo`](kvsched_core::Request), [`Request::tpot_slo`](kvsched_core::Request)).
///
/// Headroom is objective − prediction, an objective that is not set counting as 0. If some
/// endpoints keep both objectives, only they score. If none does, only idle ones, if there are any;
/// else only the mildest of: time per token missed, time to the first token missed, both missed.
/// Among those, `1 − (0.8 · TTFT + 0.2 · TPOT)` of the headrooms' sizes, each by its place
/// between the smallest and the largest: the closest to the objective first, which packs; with
/// [`Latency::most`] the roomiest. A headroom that is the same everywhere leaves all the weight to
/// the other. Everybody else scores 0, those above it more.
///
/// Predictions come from the [`Cost`] model and the endpoints'
/// [`Rates`](kvsched_core::Rates).
#[derive(Clone, Debug)]
pub struct Latency {
    cost: Cost,
    ttft_weight: f64,
    tpot_weight: f64,
    most: bool,
}

/// How far a prediction is from the objectives, in seconds; negative where they are missed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Headroom {
    /// Of the time to the first token.
    pub ttft: f64,
    /// Of the time per output token.
    pub tpot: f64,
}

impl Headroom {
    /// Of `candidate`, as `cost` predicts it.
    #[must_use]
    pub fn of(cost: &Cost, cx: &Context<'_>, candidate: &Candidate) -> Self {
        let work = cost.work(cx, candidate);
        let secs = |slo: Option<std::time::Duration>| slo.map_or(0.0, |d| d.as_secs_f64());
        Self {
            ttft: secs(cx.request.ttft_slo) - work.ttft_secs(),
            tpot: secs(cx.request.tpot_slo) - work.step_secs,
        }
    }

    /// Whether both objectives are kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.ttft >= 0.0 && self.tpot >= 0.0
    }

    /// 0 where both are kept, then the worse the higher.
    fn severity(&self) -> u8 {
        2 * u8::from(self.ttft < 0.0) + u8::from(self.tpot < 0.0)
    }
}

impl Latency {
    /// The name in configurations.
    pub const NAME: &'static str = "latency-scorer";

    /// With llm-d's weights, predicting by `cost`.
    #[must_use]
    pub const fn new(cost: Cost) -> Self {
        Self { cost, ttft_weight: 0.8, tpot_weight: 0.2, most: false }
    }

    /// Sets what the headrooms of the times to the first token and per token count. If both are
    /// 0, the first counts alone.
    ///
    /// # Errors
    ///
    /// A weight that is negative or not finite.
    pub fn weights(mut self, ttft: f64, tpot: f64) -> Result<Self, ParameterError> {
        self.ttft_weight = quantity(Self::NAME, "ttftWeight", ttft)?;
        self.tpot_weight = quantity(Self::NAME, "tpotWeight", tpot)?;
        if self.ttft_weight + self.tpot_weight <= 0.0 {
            self.ttft_weight = 1.0;
        }
        Ok(self)
    }

    /// Prefers the most headroom where objectives are kept; where none is, the closest all the
    /// same.
    #[must_use]
    pub const fn most(mut self) -> Self {
        self.most = true;
        self
    }
}

/// The smallest and the largest size of a headroom.
#[derive(Clone, Copy, Debug)]
struct Range {
    min: f64,
    max: f64,
}

impl Range {
    const EMPTY: Self = Self { min: f64::INFINITY, max: 0.0 };
    /// A range below this counts as none, as in llm-d.
    const LEAST: f64 = 1e-9;

    fn include(&mut self, headroom: f64) {
        self.min = self.min.min(headroom.abs());
        self.max = self.max.max(headroom.abs());
    }

    fn is_wide(&self) -> bool {
        self.max - self.min > Self::LEAST
    }

    fn place(&self, headroom: f64) -> f64 {
        if self.is_wide() { ratio(headroom.abs() - self.min, self.max - self.min) } else { 0.5 }
    }
}

/// Which endpoints score: those in the best class that anybody is in.
fn class(headroom: &Headroom, idle: bool) -> u8 {
    match headroom.severity() {
        0 => 0,
        _ if idle => 1,
        severity => 1 + severity,
    }
}

impl Scorer for Latency {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let rate = |candidate: &Candidate| {
            let headroom = Headroom::of(&self.cost, cx, candidate);
            (headroom, class(&headroom, cx.load(candidate).requests() == 0))
        };
        let mut best = u8::MAX;
        let (mut ttft, mut tpot) = (Range::EMPTY, Range::EMPTY);
        for candidate in cx.candidates {
            let (headroom, class) = rate(candidate);
            if class < best {
                (best, ttft, tpot) = (class, Range::EMPTY, Range::EMPTY);
            }
            if class == best {
                ttft.include(headroom.ttft);
                tpot.include(headroom.tpot);
            }
        }
        let total = self.ttft_weight + self.tpot_weight;
        let (alpha, beta) = match (ttft.is_wide(), tpot.is_wide()) {
            (false, true) => (0.0, 1.0),
            (true, false) => (1.0, 0.0),
            _ => (self.ttft_weight / total, self.tpot_weight / total),
        };
        let roomiest = self.most && best == 0;
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let (headroom, class) = rate(candidate);
            let room = alpha * ttft.place(headroom.ttft) + beta * tpot.place(headroom.tpot);
            let place = if roomiest { room } else { 1.0 - room };
            // One part in a hundred keeps the worst of the class above those outside it.
            *score = if class == best { (0.01 + 0.99 * place).clamp(0.0, 1.0) } else { 0.0 };
        }
    }
}
