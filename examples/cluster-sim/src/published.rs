//! The published figures of the 73%-of-capacity benchmark.
//!
//! Source: llm-d, "KV-cache wins you can see", 8 pods × TP2 H100, Qwen3-32B.

use serde::Serialize;

/// One published result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    pub out_tok_s: f64,
    pub ttft_mean_s: f64,
    pub ttft_p90_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itl_mean_s: Option<f64>,
}

/// The policies, in the order of the table's columns.
pub const POLICIES: [&str; 4] = ["precise", "approximate", "load-aware", "random"];

/// Output tokens a second, mean TTFT, p90 TTFT.
type Row = [(f64, f64, f64); 4];

const STAGES: [(f64, Row); 8] = [
    (
        3.0,
        [
            (1219., 0.291, 0.498),
            (1311., 0.300, 0.497),
            (1275., 0.944, 1.609),
            (1314., 0.622, 0.820),
        ],
    ),
    (
        10.0,
        [(3902., 0.335, 0.600), (3842., 0.271, 0.499), (3607., 2.24, 4.12), (3569., 0.826, 1.40)],
    ),
    (
        15.0,
        [(5761., 0.249, 0.400), (5153., 0.232, 0.400), (3348., 4.01, 7.00), (3791., 1.28, 2.30)],
    ),
    (
        20.0,
        [(9185., 0.363, 0.600), (8083., 0.329, 0.600), (4903., 29.2, 77.7), (4933., 25.1, 70.3)],
    ),
    (
        30.0,
        [(9222., 0.296, 0.509), (8436., 0.373, 0.708), (4889., 32.8, 83.8), (4636., 32.2, 86.2)],
    ),
    (40.0, [(10271., 0.269, 0.488), (8046., 13.2, 43.0), (4946., 53.5, 101.), (4774., 54.2, 101.)]),
    (49.0, [(10297., 0.311, 0.600), (7456., 19.1, 46.3), (4005., 55.2, 105.), (4783., 56.1, 104.)]),
    (60.0, [(10497., 0.283, 0.500), (7248., 24.3, 50.2), (4745., 58.5, 110.), (4835., 57.4, 106.)]),
];

const TOTAL: [(f64, f64, f64, f64); 4] = [
    (8730., 0.298, 0.542, 0.026),
    (6944., 13.316, 31.083, 0.024),
    (4266., 46.987, 94.865, 0.024),
    (4429., 45.281, 92.551, 0.025),
];

/// What was published of `policy`; of one stage, or of all for 0 requests a second.
pub fn find(policy: &str, qps: f64) -> Option<Published> {
    let column = POLICIES.iter().position(|&p| p == policy)?;
    if qps == 0.0 {
        let (out_tok_s, ttft_mean_s, ttft_p90_s, itl) = TOTAL[column];
        return Some(Published { out_tok_s, ttft_mean_s, ttft_p90_s, itl_mean_s: Some(itl) });
    }
    let (_, row) = STAGES.iter().find(|(stage, _)| *stage == qps)?;
    let (out_tok_s, ttft_mean_s, ttft_p90_s) = row[column];
    Some(Published { out_tok_s, ttft_mean_s, ttft_p90_s, itl_mean_s: None })
}
