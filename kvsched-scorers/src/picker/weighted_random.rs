use kvsched_core::{Context, Picker, Rng};

/// `weighted-random-picker`: anybody, with a probability proportional to the score.
///
/// A-Res sampling (Efraimidis, Spirakis 2006) of one: the largest `U^(1/score)`, compared
/// as `ln(U)/score`. If all scores are 0, everybody is equally likely.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRandom;

impl WeightedRandom {
    /// The name in configurations.
    pub const NAME: &'static str = "weighted-random-picker";
}

impl Picker for WeightedRandom {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn pick(&self, _: &Context<'_>, scores: &[f64], rng: &mut Rng) -> usize {
        let mut best = None;
        for (i, &score) in scores.iter().enumerate().filter(|(_, s)| **s > 0.0) {
            // 1 − U lies in (0, 1], where the logarithm is finite.
            let key = (1.0 - rng.unit_f64()).ln() / score;
            if best.is_none_or(|(_, k)| key > k) {
                best = Some((i, key));
            }
        }
        best.map_or_else(|| rng.below(scores.len()), |(i, _)| i)
    }
}
