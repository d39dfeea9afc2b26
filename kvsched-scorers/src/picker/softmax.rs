use crate::ParameterError;
use crate::parameter::positive;
use kvsched_core::{Context, Picker, Rng};

/// `softmax-picker`: anybody, with a probability proportional to `exp(score / temperature)`.
///
/// Dynamo's sampling: its costs, min-max-normalised, are scores turned around. Drawn as the
/// largest `score / temperature + g` with `g` Gumbel noise, so that no sum can overflow.
#[derive(Clone, Copy, Debug)]
pub struct Softmax {
    temperature: f64,
}

impl Softmax {
    /// The name in configurations.
    pub const NAME: &'static str = "softmax-picker";

    /// A higher temperature is closer to chance, a lower one closer to the highest score.
    ///
    /// # Errors
    ///
    /// A temperature that is not positive and finite.
    pub fn new(temperature: f64) -> Result<Self, ParameterError> {
        Ok(Self { temperature: positive(Self::NAME, "temperature", temperature)? })
    }
}

impl Picker for Softmax {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn pick(&self, _: &Context<'_>, scores: &[f64], rng: &mut Rng) -> usize {
        let (mut best, mut highest) = (0, f64::NEG_INFINITY);
        for (i, score) in scores.iter().enumerate() {
            // 1 − U lies in (0, 1]; at 1 the noise is +∞ and wins, as it should.
            let noise = -(-(1.0 - rng.unit_f64()).ln()).ln();
            let key = score / self.temperature + noise;
            if key > highest {
                (best, highest) = (i, key);
            }
        }
        best
    }
}
