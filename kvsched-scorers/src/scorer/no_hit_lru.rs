use kvsched_core::{Candidate, Context, Needs, Rng, Scorer};

/// `no-hit-lru-scorer`: spreads the requests that nobody has anything of.
///
/// If any candidate holds a block of the prompt, all score 0.5. Otherwise `1 − rank/(n − 1)`,
/// ranked by when the endpoint last got such a request
/// ([`Load::last_cold_at`](kvsched_core::Load::last_cold_at)): those that never did first, in
/// an order drawn by lot, then the longest ago. O(n log n).
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHitLru;

impl NoHitLru {
    /// The name in configurations.
    pub const NAME: &'static str = "no-hit-lru-scorer";
}

impl Scorer for NoHitLru {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        if cx.candidates.iter().any(|c| c.matched_blocks > 0) {
            scores.fill(0.5);
            return;
        }
        if let [only] = scores {
            *only = 1.0;
            return;
        }
        let lot = |c: &Candidate| Rng::new(cx.seed ^ u64::from(c.row)).next_u64();
        let key = |position: f64| {
            let c = &cx.candidates[position as usize];
            (cx.load(c).last_cold_at, lot(c))
        };
        // The scores serve as the list of positions to sort: no buffer of one's own.
        scores.iter_mut().enumerate().for_each(|(i, s)| *s = i as f64);
        scores.sort_unstable_by_key(|&position| key(position));
        invert(scores);
        let last = (scores.len() - 1) as f64;
        scores.iter_mut().for_each(|rank| *rank = 1.0 - *rank / last);
    }
}

/// Turns "who is at rank i" into "what rank is i at", in place: follows every cycle once and
/// marks what is done by a negative sign.
fn invert(permutation: &mut [f64]) {
    for start in 0..permutation.len() {
        let (mut rank, mut who) = (start, permutation[start]);
        while who >= 0.0 {
            let next = permutation[who as usize];
            permutation[who as usize] = -1.0 - rank as f64;
            (rank, who) = (who as usize, next);
        }
    }
    permutation.iter_mut().for_each(|x| *x = -1.0 - *x);
}

#[cfg(test)]
mod tests {
    use super::invert;

    #[test]
    fn inverts_every_permutation_of_five() {
        for code in 0..3125_u32 {
            let p: Vec<f64> = (0..5).map(|i| f64::from(code / 5_u32.pow(i) % 5)).collect();
            let mut seen = p.clone();
            seen.sort_by(f64::total_cmp);
            if seen != [0.0, 1.0, 2.0, 3.0, 4.0] {
                continue;
            }
            let mut inverse = p.clone();
            invert(&mut inverse);
            for (i, &x) in p.iter().enumerate() {
                assert_eq!(inverse[x as usize], i as f64, "{p:?} became {inverse:?}");
            }
        }
    }
}
