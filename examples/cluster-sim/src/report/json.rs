//! `--json`.

use crate::published::Published;
use crate::stats::Summary;
use serde::Serialize;

/// One policy on one stage of one workload with one seed.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub policy: String,
    pub workload: String,
    /// Requests a second; null where the row is of all stages together.
    pub qps: Option<f64>,
    pub seed: u64,
    pub requests: usize,
    #[serde(skip_serializing_if = "is_zero")]
    pub refused: usize,
    pub duration_s: f64,
    pub out_tok_s: f64,
    pub ttft_mean_s: f64,
    pub ttft_p50_s: f64,
    pub ttft_p90_s: f64,
    pub ttft_p99_s: f64,
    pub itl_mean_s: f64,
    pub itl_p50_s: f64,
    pub itl_p90_s: f64,
    pub itl_p99_s: f64,
    pub hit_rate: f64,
    /// Requests a second that kept the service level, and their share.
    pub goodput_rps: f64,
    pub good_share: f64,
    /// Dollars for a thousand requests' prompts.
    pub prompt_cost_usd_per_1k: f64,
    pub overestimated_share: f64,
    pub waiting_mean: f64,
    pub waiting_p90: f64,
    pub waiting_max: f64,
    pub kv_usage_mean: f64,
    pub kv_usage_p90: f64,
    /// Of the whole run, the same in each of its rows.
    pub preemptions: u64,
    pub prefill_tokens: u64,
    /// The busiest endpoint's prefill over the mean.
    pub prefill_spread: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// What `size` tried.
    #[serde(flatten)]
    pub size: Option<Size>,
}

/// A cluster that may be large enough.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Size {
    pub host_gb: f64,
    pub endpoints: u16,
    /// Whether it keeps the service level.
    pub enough: bool,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
}

/// What a whole run adds to each of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Whole {
    pub preemptions: u64,
    pub prefill_tokens: u64,
    pub prefill_spread: f64,
}

impl Row {
    /// The row of one summary.
    pub fn new(policy: &str, workload: &str, seed: u64, s: &Summary, whole: Whole) -> Self {
        Self {
            policy: policy.to_owned(),
            workload: workload.to_owned(),
            qps: (s.qps > 0.0).then_some(s.qps),
            seed,
            requests: s.requests,
            refused: s.refused,
            duration_s: s.duration,
            out_tok_s: s.out_tok_s,
            ttft_mean_s: s.ttft.mean,
            ttft_p50_s: s.ttft.p50,
            ttft_p90_s: s.ttft.p90,
            ttft_p99_s: s.ttft.p99,
            itl_mean_s: s.itl.mean,
            itl_p50_s: s.itl.p50,
            itl_p90_s: s.itl.p90,
            itl_p99_s: s.itl.p99,
            hit_rate: s.hit_rate,
            goodput_rps: s.goodput,
            good_share: s.good_share,
            prompt_cost_usd_per_1k: s.prompt_cost,
            overestimated_share: s.overestimated,
            waiting_mean: s.waiting.mean,
            waiting_p90: s.waiting.p90,
            waiting_max: s.waiting.max,
            kv_usage_mean: s.kv_usage.mean,
            kv_usage_p90: s.kv_usage.p90,
            preemptions: whole.preemptions,
            prefill_tokens: whole.prefill_tokens,
            prefill_spread: whole.prefill_spread,
            published: None,
            size: None,
        }
    }
}
