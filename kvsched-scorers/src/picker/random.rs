use kvsched_core::{Context, Picker, Rng};

/// `random-picker`: anybody, whatever the scores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

impl Random {
    /// The name in configurations.
    pub const NAME: &'static str = "random-picker";
}

impl Picker for Random {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn pick(&self, _: &Context<'_>, scores: &[f64], rng: &mut Rng) -> usize {
        rng.below(scores.len())
    }
}
