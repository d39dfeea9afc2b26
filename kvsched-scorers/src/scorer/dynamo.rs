use crate::ParameterError;
use crate::parameter::quantity;
use crate::scale::{fewest_first, ratio};
use kvsched_core::{Context, Needs, Scorer, Tier};

/// Dynamo's cost, in blocks:
/// `scale · max((active prefill tokens + prompt tokens) / block − credit, 0) + decode blocks + new blocks`.
///
/// `credit = decay · device · w + 0.75 · host + 0.25 · disk + s · shared`, in matched blocks, with `w` = 1, `s` = 0.5 and
/// `decay = 1 / (1 + d · x)`, where `x` is the endpoint's prefill tokens beyond the least loaded's, over the prompt's, and
/// `d` = 0 unless set. Decode blocks are the KV in use; new blocks those not yet on the device.
/// A place between the highest (0) and the lowest cost (1): with the max-score picker that is
/// Dynamo's argmin, with [`Softmax`](crate::picker::Softmax) its sampling.
#[derive(Clone, Copy, Debug)]
pub struct Dynamo {
    credit: f64,
    scale: f64,
    decay: f64,
    shared: f64,
}

impl Dynamo {
    /// The name in configurations.
    pub const NAME: &'static str = "dynamo-cost-scorer";

    /// With Dynamo's defaults: credit 1, scale 1, decay 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { credit: 1.0, scale: 1.0, decay: 0.0, shared: 0.5 }
    }

    /// Sets the credit of a block on the device, the scale of the prefill term and the decay `d`.
    ///
    /// # Errors
    ///
    /// A number that is negative or not finite.
    pub fn with(credit: f64, scale: f64, decay: f64) -> Result<Self, ParameterError> {
        Ok(Self {
            credit: quantity(Self::NAME, "overlapScoreWeight", credit)?,
            scale: quantity(Self::NAME, "prefillLoadScale", scale)?,
            decay: quantity(Self::NAME, "creditDecay", decay)?,
            ..Self::new()
        })
    }

    /// Sets the credit `s` of a block in a shared store: 0.5 unless set, 0 where fetching from there is
    /// not worth waiting for.
    ///
    /// # Errors
    ///
    /// A number that is negative or not finite.
    pub fn shared_credit(mut self, credit: f64) -> Result<Self, ParameterError> {
        self.shared = quantity(Self::NAME, "sharedCredit", credit)?;
        Ok(self)
    }

    /// What a matched block in a tier slower than the device is worth.
    fn slow_credit(&self, tier: Tier) -> f64 {
        match tier {
            Tier::HOST => 0.75,
            Tier::SHARED => self.shared,
            _ => 0.25,
        }
    }
}

impl Default for Dynamo {
    fn default() -> Self {
        Self::new()
    }
}

impl Scorer for Dynamo {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let block = f64::from(cx.request.block_size.max(1));
        let prompt = f64::from(cx.request.prompt_tokens);
        let prompt_blocks = (prompt / block).ceil();
        let prefill = |c| cx.load(c).queued_prefill_tokens as f64;
        let least = cx.candidates.iter().map(prefill).fold(f64::INFINITY, f64::min);
        for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
            let load = cx.load(candidate);
            let mut device = f64::from(candidate.matched_blocks);
            let mut credit = 0.0;
            for run in cx.slow_runs(candidate) {
                let blocks = f64::from(run.blocks).min(device);
                device -= blocks;
                credit += blocks * self.slow_credit(run.tier);
            }
            let excess = ratio(prefill(candidate) - least, prompt);
            credit += device * self.credit / (1.0 + self.decay * excess);
            let work = (prefill(candidate) + prompt) / block;
            let decode = load.kv_share() * load.kv_capacity_tokens as f64 / block;
            let new = (prompt_blocks - device).max(0.0);
            *score = self.scale * (work - credit).max(0.0) + decode + new;
        }
        fewest_first(scores);
    }
}
