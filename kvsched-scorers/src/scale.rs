//! From figures of which less is better to scores.

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
