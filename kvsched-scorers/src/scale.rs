//! From figures to scores.

use kvsched_core::{Candidate, Context};

/// Replaces every figure by its place between the largest (score 0) and the smallest
/// (score 1): `(max − x) / (max − min)`. Equal figures all score 1. NaN stays NaN.
pub(crate) fn fewest_first(figures: &mut [f64]) {
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    for &x in figures.iter() {
        min = min.min(x);
        max = max.max(x);
    }
    let range = max - min;
    if range > 0.0 {
        figures.iter_mut().for_each(|x| *x = (max - *x) / range);
    } else {
        figures.iter_mut().filter(|x| !x.is_nan()).for_each(|x| *x = 1.0);
    }
}

/// `numerator / denominator`, and 0 where there is nothing to divide by.
pub(crate) fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}

/// The requests of every candidate, summed up.
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
    pub(crate) deviation: f64,
}

impl Spread {
    /// Of the requests that each candidate waits for, runs or was routed.
    pub(crate) fn of_requests(cx: &Context<'_>) -> Self {
        let n = cx.candidates.len() as f64;
        let all = || cx.candidates.iter().map(|c| requests(cx, c));
        let mean = all().sum::<f64>() / n;
        let variance = all().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        Self {
            min: all().fold(f64::INFINITY, f64::min),
            max: all().fold(f64::NEG_INFINITY, f64::max),
            mean,
            deviation: variance.sqrt(),
        }
    }
}

/// The requests that `candidate` waits for, runs or was routed.
pub(crate) fn requests(cx: &Context<'_>, candidate: &Candidate) -> f64 {
    f64::from(cx.load(candidate).requests())
}

/// Scores by the fewest requests.
pub(crate) fn fewest_requests(cx: &Context<'_>, scores: &mut [f64]) {
    for (candidate, score) in cx.candidates.iter().zip(scores.iter_mut()) {
        *score = requests(cx, candidate);
    }
    fewest_first(scores);
}

/// Scores by the longest match among those who are `eligible`, equal matches by the fewest
/// requests. The others come after them, by the fewest requests.
pub(crate) fn longest_match_first(
    cx: &Context<'_>,
    spread: &Spread,
    scores: &mut [f64],
    eligible: impl Fn(&Candidate) -> bool,
) {
    // Matches are whole numbers, so a load within [0, 1) never outweighs one block.
    let steps = f64::from(cx.matches.prompt_blocks()) + 2.0;
    let range = spread.max - spread.min + 1.0;
    for (candidate, score) in cx.candidates.iter().zip(scores) {
        let free = (spread.max - requests(cx, candidate)) / range;
        let matched =
            if eligible(candidate) { f64::from(candidate.matched_blocks) + 1.0 } else { 0.0 };
        *score = (matched + free) / steps;
    }
}

#[cfg(test)]
mod tests {
    use super::fewest_first;

    #[test]
    fn places_between_the_extremes() {
        let mut a = [4.0, 0.0, 1.0];
        fewest_first(&mut a);
        assert_eq!(a, [0.0, 1.0, 0.75]);
        let mut same = [7.0, 7.0];
        fewest_first(&mut same);
        assert_eq!(same, [1.0, 1.0]);
        let mut broken = [f64::NAN, 2.0, 2.0];
        fewest_first(&mut broken);
        assert!(broken[0].is_nan());
        assert_eq!(broken[1..], [1.0, 1.0]);
        fewest_first(&mut []);
    }
}
