use kvsched_core::{Context, Picker, Rng};

/// `power-of-two-picker`: the better of two drawn at random (Mitzenmacher 2001). With
/// [`LeastRequest`](crate::scorer::LeastRequest) it is the usual power-of-two-choices
/// balancer, a baseline.
#[derive(Clone, Copy, Debug, Default)]
pub struct PowerOfTwo;

impl PowerOfTwo {
    /// The name in configurations.
    pub const NAME: &'static str = "power-of-two-picker";
}

impl Picker for PowerOfTwo {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn pick(&self, _: &Context<'_>, scores: &[f64], rng: &mut Rng) -> usize {
        let first = rng.below(scores.len());
        // Two different ones: the second is drawn from the others.
        let second = match rng.below(scores.len().saturating_sub(1)) {
            other if other >= first => other + 1,
            other => other,
        };
        match scores.get(second) {
            Some(&score) if score > scores[first] => second,
            _ => first,
        }
    }
}
