//! What a run comes to: the figures that benchmarks of the field report.

use crate::cluster::{Outcome, Run};
use crate::workload::Workload;

/// The service level a request must keep to count as good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slo {
    /// Most seconds to the first token.
    pub ttft: f64,
    /// Most seconds a further token, on the request's average.
    pub tpot: f64,
}

impl Default for Slo {
    fn default() -> Self {
        Self { ttft: 2.0, tpot: 0.15 }
    }
}

/// Mean and percentiles of something, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// Of these values, in any order; zeros where there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut v: Vec<f64> = values.collect();
        v.sort_by(f64::total_cmp);
        let Some(&max) = v.last() else { return Self::default() };
        // The smallest value that so many are not above.
        let p = |share: f64| v[((v.len() as f64 * share).ceil() as usize).max(1) - 1];
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        Self { mean, p50: p(0.5), p90: p(0.9), p99: p(0.99), max }
    }
}

/// A stage, or all stages but the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Requests a second of the stage; 0 for all.
    pub qps: f64,
    /// Requests served.
    pub requests: usize,
    /// Requests that no engine can hold.
    pub refused: usize,
    /// Seconds from the stage's first moment to its last answer.
    pub duration: f64,
    /// Output tokens a second over that time; of all stages, the mean of theirs.
    pub out_tok_s: f64,
    /// To the first token.
    pub ttft: Spread,
    /// Between tokens, a request's average.
    pub itl: Spread,
    /// Share of prompt tokens that came from a cache.
    pub hit_rate: f64,
    /// Requests a second that kept the service level.
    pub goodput: f64,
    /// Share of requests that did.
    pub good_share: f64,
    /// Dollars for a thousand requests' prompts, at 3.00 a million computed tokens and 0.30 a
    /// million cached.
    pub prompt_cost: f64,
    /// Prompt tokens that the router expected in the cache and the engine did not find, as a
    /// share of all.
    pub overestimated: f64,
    /// Requests waiting at an endpoint.
    pub waiting: Spread,
    /// Share of KV in use at an endpoint.
    pub kv_usage: Spread,
}

impl Summary {
    fn of(workload: &Workload, run: &Run, stages: &[usize], slo: Slo) -> Self {
        let served = || {
            let jobs = stages.iter().flat_map(|&s| workload.stages[s].jobs.clone());
            jobs.map(|j| (&workload.jobs[j as usize], &run.outcomes[j as usize]))
        };
        let answered = || served().filter(|(_, o)| !o.refused);
        let ttft = |o: &Outcome| o.first_token - o.sent;
        let itl = |o: &Outcome, n: u32| (o.done - o.first_token) / f64::from(n.max(2) - 1);
        let count = answered().count();
        let per_stage = |s: usize| {
            let jobs = workload.stages[s].jobs.clone().map(|j| j as usize);
            let tokens = jobs.filter(|&j| !run.outcomes[j].refused);
            let tokens: u64 = tokens.map(|j| u64::from(workload.jobs[j].output.tokens)).sum();
            tokens as f64 / (run.stages[s].1 - run.stages[s].0)
        };
        let prompt: f64 = answered().map(|(j, _)| f64::from(j.prompt_tokens())).sum();
        let cached: f64 = answered().map(|(_, o)| f64::from(o.cached_tokens)).sum();
        let over = answered().map(|(_, o)| o.expected_tokens.saturating_sub(o.cached_tokens));
        let over: f64 = over.map(f64::from).sum();
        let good = answered()
            .filter(|(j, o)| ttft(o) <= slo.ttft && itl(o, j.output.tokens) <= slo.tpot)
            .count();
        let duration: f64 = stages.iter().map(|&s| run.stages[s].1 - run.stages[s].0).sum();
        let within =
            |at: f64| stages.iter().any(|&s| (run.stages[s].0..run.stages[s].1).contains(&at));
        let samples = || run.samples.iter().filter(|s| within(s.at));
        Self {
            qps: if let [one] = stages { workload.stages[*one].qps } else { 0.0 },
            requests: count,
            refused: served().count() - count,
            duration,
            out_tok_s: stages.iter().map(|&s| per_stage(s)).sum::<f64>() / stages.len() as f64,
            ttft: Spread::of(answered().map(|(_, o)| ttft(o))),
            itl: Spread::of(answered().map(|(j, o)| itl(o, j.output.tokens))),
            hit_rate: cached / prompt.max(1.0),
            goodput: good as f64 / duration,
            good_share: good as f64 / count.max(1) as f64,
            prompt_cost: (3.0 * (prompt - cached) + 0.3 * cached) / 1e3 / count.max(1) as f64,
            overestimated: over / prompt.max(1.0),
            waiting: Spread::of(samples().map(|s| f64::from(s.metrics.waiting))),
            kv_usage: Spread::of(samples().map(|s| s.metrics.kv_usage)),
        }
    }

    /// Of every stage but the warm-up.
    pub fn stages(workload: &Workload, run: &Run, slo: Slo) -> Vec<Self> {
        measured(workload).map(|s| Self::of(workload, run, &[s], slo)).collect()
    }

    /// Of all stages but the warm-up together.
    pub fn total(workload: &Workload, run: &Run, slo: Slo) -> Self {
        let stages: Vec<usize> = measured(workload).collect();
        Self { qps: 0.0, ..Self::of(workload, run, &stages, slo) }
    }
}

fn measured(workload: &Workload) -> impl Iterator<Item = usize> {
    let stages = workload.stages.iter().enumerate();
    stages.filter(|(_, s)| !s.warm_up).map(|(i, _)| i)
}

/// A mean over seeds and half the width of its 95% confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    /// By Student's t; infinite for a single value.
    pub half_width: f64,
}

impl Estimate {
    /// Of one value a seed.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let half_width = match values.len() {
            0 | 1 => f64::INFINITY,
            len => student_t(len - 1) * (variance / n).sqrt(),
        };
        Self { mean, half_width }
    }

    /// Whether the intervals of both touch.
    pub fn within_noise_of(&self, other: &Self) -> bool {
        (self.mean - other.mean).abs() <= self.half_width + other.half_width
    }
}

/// The 97.5% quantile of Student's distribution.
fn student_t(freedom: usize) -> f64 {
    const TABLE: [f64; 10] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    TABLE.get(freedom - 1).copied().unwrap_or(1.96 + 2.7 / freedom as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let s = Spread::of((1..=10).rev().map(f64::from));
        assert_eq!((s.mean, s.p50, s.p90, s.p99, s.max), (5.5, 5.0, 9.0, 10.0, 10.0));
        assert_eq!(Spread::of(std::iter::once(3.0)).p50, 3.0);
        assert_eq!(Spread::of(std::iter::empty()), Spread::default());
    }

    #[test]
    fn an_estimate_of_three_seeds_uses_students_t() {
        let e = Estimate::of(&[1.0, 2.0, 3.0]);
        assert_eq!(e.mean, 2.0);
        assert!((e.half_width - 4.303 / 3f64.sqrt()).abs() < 1e-9);
        assert_eq!(Estimate::of(&[1.0]).half_width, f64::INFINITY);
        assert!(e.within_noise_of(&Estimate::of(&[4.0, 5.0, 6.0])));
        assert!(!e.within_noise_of(&Estimate { mean: 5.0, half_width: 0.4 }));
    }
}
