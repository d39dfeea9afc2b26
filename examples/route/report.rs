//! What the example prints: tables for people, one JSON object for programs.

use serde::Serialize;

/// Everything `--json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) captures: Vec<CaptureResult>,
    pub(crate) policies: Vec<PolicyResult>,
}

/// One engine capture, predicted against reported.
#[derive(Debug, Serialize)]
pub(crate) struct CaptureResult {
    pub(crate) name: String,
    /// Single requests, the ones that can be predicted.
    pub(crate) requests: usize,
    /// Those whose cached tokens were predicted exactly.
    pub(crate) exact: usize,
    pub(crate) predicted_tokens: u64,
    pub(crate) engine_tokens: u64,
    #[serde(skip)]
    pub(crate) rows: Vec<RequestRow>,
}

/// One request of a capture.
#[derive(Debug)]
pub(crate) struct RequestRow {
    pub(crate) label: String,
    pub(crate) prompt_tokens: usize,
    pub(crate) predicted: u32,
    pub(crate) engine: u32,
    pub(crate) note: Note,
}

/// What the reader must know of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A request on its own: the prediction must be exact.
    Single,
    /// Ran beside others and may have hit blocks that nobody had announced; not counted.
    Concurrent,
    /// The first after a reset, which the engine announces only with this request's own step.
    AfterReset,
}

/// One policy over the whole trace.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyResult {
    pub(crate) name: &'static str,
    pub(crate) requests: usize,
    /// Share of all full prompt blocks that were served from a cache.
    pub(crate) hit_rate: f64,
    /// Prompt tokens that did not have to be prefilled.
    pub(crate) saved_tokens: u64,
    /// Prefilled tokens of the busiest endpoint over the mean; 1 is perfectly even.
    pub(crate) load_spread: f64,
    pub decision_p50_ns: u64,
    pub decision_p99_ns: u64,
    /// Blocks expected at the chosen endpoint that it no longer held.
    #[serde(skip)]
    pub(crate) overestimated_blocks: u64,
    /// Blocks the chosen endpoint held and the policy did not know of.
    #[serde(skip)]
    pub(crate) underestimated_blocks: u64,
    #[serde(skip)]
    pub(crate) knows_prefixes: bool,
}

pub(crate) fn print_captures(captures: &[CaptureResult]) {
    println!(
        "Cached prompt tokens, predicted from the engine's own events / reported by the engine"
    );
    println!();
    for capture in captures {
        println!("capture {}", capture.name);
        println!("  {:<34} {:>7} {:>10} {:>8}", "request", "prompt", "predicted", "engine");
        for row in &capture.rows {
            let note = match row.note {
                Note::Single if row.predicted == row.engine => "",
                Note::Single => "  MISPREDICTED",
                Note::Concurrent => {
                    "  concurrent: siblings' blocks are not announced yet; not counted"
                }
                Note::AfterReset => "  first after a reset that no event had announced",
            };
            println!(
                "  {:<34} {:>7} {:>10} {:>8}{note}",
                row.label, row.prompt_tokens, row.predicted, row.engine
            );
        }
        println!();
    }
    println!(
        "{:<10} {:>9} {:>7} {:>18} {:>15}",
        "capture", "requests", "exact", "predicted tokens", "engine tokens"
    );
    for c in captures {
        println!(
            "{:<10} {:>9} {:>7} {:>18} {:>15}",
            c.name, c.requests, c.exact, c.predicted_tokens, c.engine_tokens
        );
    }
    let sum = |f: fn(&CaptureResult) -> u64| captures.iter().map(f).sum::<u64>();
    println!(
        "{:<10} {:>9} {:>7} {:>18} {:>15}",
        "total",
        sum(|c| c.requests as u64),
        sum(|c| c.exact as u64),
        sum(|c| c.predicted_tokens),
        sum(|c| c.engine_tokens)
    );
    println!();
}

pub(crate) fn print_policies(policies: &[PolicyResult]) {
    println!(
        "{:<14} {:>9} {:>9} {:>14} {:>12} {:>11} {:>11}",
        "policy", "requests", "hit rate", "tokens saved", "load spread", "p50", "p99"
    );
    for p in policies {
        println!(
            "{:<14} {:>9} {:>8.1}% {:>13.1}M {:>12.2} {:>8.2} µs {:>8.2} µs",
            p.name,
            p.requests,
            100.0 * p.hit_rate,
            p.saved_tokens as f64 / 1e6,
            p.load_spread,
            p.decision_p50_ns as f64 / 1e3,
            p.decision_p99_ns as f64 / 1e3,
        );
    }
    println!();
    for p in policies.iter().filter(|p| p.knows_prefixes) {
        println!(
            "{}: of what it expected, {} blocks were gone; it missed {} that were there",
            p.name, p.overestimated_blocks, p.underestimated_blocks
        );
    }
    println!();
}
