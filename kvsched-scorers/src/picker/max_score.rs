use kvsched_core::{Candidate, Context, Load, Needs, Picker, Rng};
use std::cmp::Ordering;

/// `max-score-picker`: the highest score.
///
/// Equal scores go to the least full endpoint: the smallest share of KV cache in use, then
/// the fewest requests waiting or running; those who are equal in that too draw lots. llm-d
/// draws lots at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaxScore;

impl MaxScore {
    /// The name in configurations.
    pub const NAME: &'static str = "max-score-picker";
}

impl Picker for MaxScore {
    fn name(&self) -> &str {
        Self::NAME
    }

    /// The load rows, where there are any: without them ties are drawn at once.
    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn pick(&self, cx: &Context<'_>, scores: &[f64], rng: &mut Rng) -> usize {
        let (mut best, mut ties) = (0, 1_usize);
        for i in 1..scores.len() {
            let order = scores[i]
                .partial_cmp(&scores[best])
                .unwrap_or(Ordering::Equal)
                .then_with(|| emptier(cx, &cx.candidates[i], &cx.candidates[best]));
            match order {
                Ordering::Greater => (best, ties) = (i, 1),
                Ordering::Equal => {
                    // A reservoir of one: each of k equals is kept with probability 1/k.
                    ties += 1;
                    if rng.below(ties) == 0 {
                        best = i;
                    }
                }
                Ordering::Less => {}
            }
        }
        best
    }
}

/// `Greater` where `a` is less full than `b`.
fn emptier(cx: &Context<'_>, a: &Candidate, b: &Candidate) -> Ordering {
    if cx.loads.is_empty() {
        return Ordering::Equal;
    }
    let (a, b): (&Load, &Load) = (cx.load(a), cx.load(b));
    b.kv_share().total_cmp(&a.kv_share()).then(b.requests().cmp(&a.requests()))
}
