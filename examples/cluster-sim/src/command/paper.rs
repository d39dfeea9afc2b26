//! `paper`: the published 73%-of-capacity benchmark, their figures beside ours.

use super::shootout::speed;
use super::{Error, Result, Shared, run_one};
use crate::batch;
use crate::cluster::ClusterSpec;
use crate::policy::Policy;
use crate::published;
use crate::report::Row;
use crate::report::plot::{self, Chart, Line};
use crate::report::table::{Table, secs};
use crate::stats::{Estimate, Slo, Summary};
use crate::workload::Ladder;
use std::path::Path;

/// Policies that are run beside the published four: the 2026 guide's blend, the affinity +
/// token-load stack, and kvsched's default.
pub const NEWER: [&str; 3] = ["llm-d-guide", "llm-d-affinity", "cost"];

/// Runs it; the rows for `--json`.
///
/// # Errors
///
/// An unknown policy, or a picture that cannot be written.
pub fn paper(
    shared: &Shared,
    policies: &[String],
    spec: &ClusterSpec,
    ladder: &Ladder,
) -> std::result::Result<Vec<Row>, Error> {
    let policies: Vec<Policy> =
        policies.iter().map(|p| Policy::by_name(p)).collect::<std::result::Result<_, _>>()?;
    let tasks: Vec<(&Policy, u64)> =
        policies.iter().flat_map(|p| shared.seeds.iter().map(move |&s| (p, s))).collect();
    let results = batch::run(
        &tasks,
        shared.threads,
        shared.json,
        |(policy, seed)| format!("{} seed {seed}", policy.name),
        |&(policy, seed)| {
            let workload = ladder.workload(seed);
            run_one(spec, &workload, policy, Slo::default(), seed)
        },
    );
    let results: Vec<Result> = results.into_iter().collect::<std::result::Result<_, _>>()?;
    let by_policy: Vec<(&str, Vec<&Result>)> = policies
        .iter()
        .map(|p| (p.name.as_str(), results.iter().filter(|r| r.policy == p.name).collect()))
        .collect();
    if !shared.json {
        println!("{}", tables(&by_policy));
        println!("{}", speed(results.iter()));
    }
    if let Some(out) = &shared.out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("paper-tables.md"), tables(&by_policy))?;
        draw_ladder(&out.join("paper-ladder.svg"), &by_policy)?;
        draw_endpoints(&out.join("paper-endpoints.svg"), &by_policy)?;
    }
    Ok(rows(&results))
}

fn rows(results: &[Result]) -> Vec<Row> {
    let mut rows: Vec<_> = results.iter().flat_map(|r| r.rows("customers")).collect();
    for row in &mut rows {
        row.published = published::find(&row.policy, row.qps.unwrap_or(0.0));
    }
    rows
}

fn estimate(runs: &[&Result], of: impl Fn(&Result) -> f64) -> Estimate {
    Estimate::of(&runs.iter().map(|r| of(r)).collect::<Vec<_>>())
}

fn tables(by_policy: &[(&str, Vec<&Result>)]) -> String {
    let stages = by_policy.iter().map(|(policy, runs)| stages(policy, runs));
    std::iter::once(totals(by_policy)).chain(stages).collect::<Vec<_>>().join("\n")
}

fn totals(by_policy: &[(&str, Vec<&Result>)]) -> String {
    let seeds = by_policy.first().map_or(0, |(_, r)| r.len());
    let mut table = Table::new([
        "policy",
        "out tok/s",
        "published",
        "off by",
        "TTFT mean s",
        "published",
        "factor",
        "TTFT p90 s",
        "published",
        "hit rate",
        "waiting mean/p90/max",
        "KV use mean/p90",
        "preemptions",
    ]);
    for (policy, runs) in by_policy {
        let out = estimate(runs, |r| r.total.out_tok_s);
        let ttft = estimate(runs, |r| r.total.ttft.mean);
        let p90 = estimate(runs, |r| r.total.ttft.p90);
        let mean = |of: &dyn Fn(&Result) -> f64| estimate(runs, of).mean;
        let known = published::find(policy, 0.0);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        table.row([
            (*policy).to_owned(),
            with_interval(&out, 0),
            or_dash(known.map(|p| format!("{:.0}", p.out_tok_s))),
            or_dash(known.map(|p| format!("{:+.1}%", (out.mean / p.out_tok_s - 1.0) * 100.0))),
            with_interval(&ttft, 3),
            or_dash(known.map(|p| secs(p.ttft_mean_s))),
            or_dash(known.map(|p| format!("{:.2}", ttft.mean / p.ttft_mean_s))),
            secs(p90.mean),
            or_dash(known.map(|p| secs(p.ttft_p90_s))),
            format!("{:.3}", mean(&|r| r.total.hit_rate)),
            format!(
                "{:.1} / {:.0} / {:.0}",
                mean(&|r| r.total.waiting.mean),
                mean(&|r| r.total.waiting.p90),
                mean(&|r| r.total.waiting.max)
            ),
            format!(
                "{:.1} / {:.1}%",
                mean(&|r| r.total.kv_usage.mean) * 100.0,
                mean(&|r| r.total.kv_usage.p90) * 100.0
            ),
            format!("{:.0}", mean(&|r| r.run.preemptions as f64)),
        ]);
    }
    format!(
        "All stages, mean of {seeds} seeds ± 95% confidence, beside what was published\n\n{table}"
    )
}

fn with_interval(e: &Estimate, digits: usize) -> String {
    if e.half_width.is_finite() {
        format!("{:.digits$} ± {:.digits$}", e.mean, e.half_width)
    } else {
        format!("{:.digits$}", e.mean)
    }
}

fn stages(policy: &str, runs: &[&Result]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let mut table = Table::new([
        "qps",
        "out tok/s",
        "published",
        "TTFT mean s",
        "published",
        "TTFT p90 s",
        "published",
        "ITL mean s",
        "hit rate",
        "drained after s",
    ]);
    for (i, stage) in first.stages.iter().enumerate() {
        let mean = |of: &dyn Fn(&Summary) -> f64| estimate(runs, |r| of(&r.stages[i])).mean;
        let known = published::find(policy, stage.qps);
        let or_dash = |text: Option<String>| text.unwrap_or_default();
        table.row([
            format!("{}", stage.qps),
            format!("{:.0}", mean(&|s| s.out_tok_s)),
            or_dash(known.map(|p| format!("{:.0}", p.out_tok_s))),
            secs(mean(&|s| s.ttft.mean)),
            or_dash(known.map(|p| secs(p.ttft_mean_s))),
            secs(mean(&|s| s.ttft.p90)),
            or_dash(known.map(|p| secs(p.ttft_p90_s))),
            secs(mean(&|s| s.itl.mean)),
            format!("{:.3}", mean(&|s| s.hit_rate)),
            format!("{:.0}", mean(&|s| s.duration)),
        ]);
    }
    format!("{policy}\n\n{table}")
}

fn draw_ladder(path: &Path, by_policy: &[(&str, Vec<&Result>)]) -> std::result::Result<(), Error> {
    let chart = |title: &str,
                 y: &str,
                 log,
                 ours: &dyn Fn(&Summary) -> f64,
                 theirs: &dyn Fn(&published::Published) -> f64| {
        let mut lines = Vec::new();
        for (colour, (policy, runs)) in by_policy.iter().enumerate() {
            let Some(first) = runs.first() else { continue };
            let points = first
                .stages
                .iter()
                .enumerate()
                .map(|(i, stage)| (stage.qps, estimate(runs, |r| ours(&r.stages[i])).mean));
            let name = (*policy).to_owned();
            lines.push(Line { name, points: points.collect(), dots: false, colour });
            let published = first
                .stages
                .iter()
                .filter_map(|s| published::find(policy, s.qps).map(|p| (s.qps, theirs(&p))));
            let points: Vec<_> = published.collect();
            if !points.is_empty() {
                let name = format!("{policy}, published");
                lines.push(Line { name, points, dots: true, colour });
            }
        }
        let (title, x, y) = (title.to_owned(), "requests a second".to_owned(), y.to_owned());
        Chart { title, x, y, log, lines }
    };
    plot::write(
        path,
        &[
            chart(
                "Output throughput of a stage and its drain",
                "tokens a second",
                None,
                &|s| s.out_tok_s,
                &|p| p.out_tok_s,
            ),
            chart(
                "Mean time to first token",
                "seconds",
                Some((0.1, 200.0)),
                &|s| s.ttft.mean,
                &|p| p.ttft_mean_s,
            ),
        ],
        2,
    )
}

fn draw_endpoints(
    path: &Path,
    by_policy: &[(&str, Vec<&Result>)],
) -> std::result::Result<(), Error> {
    let mut charts = Vec::new();
    for (policy, runs) in by_policy {
        let Some(run) = runs.first().map(|r| &r.run) else { continue };
        let chart = |what: &str, of: &dyn Fn(&crate::cluster::Sample) -> f64| {
            let lines = (0..run.prefill_by_endpoint.len()).map(|e| {
                let samples = run.samples.iter().filter(|s| usize::from(s.endpoint) == e);
                Line {
                    name: String::new(),
                    points: plot::highest(samples.map(|s| (s.at, of(s))), POINTS),
                    dots: false,
                    colour: e,
                }
            });
            Chart {
                title: format!("{policy}: {what}, a line an endpoint"),
                x: "seconds".to_owned(),
                y: what.to_owned(),
                log: None,
                lines: lines.collect(),
            }
        };
        charts.push(chart("requests waiting", &|s| f64::from(s.metrics.waiting)));
        charts.push(chart("share of KV in use", &|s| s.metrics.kv_usage));
    }
    plot::write(path, &charts, 2)
}

/// Points of a line over a whole run.
const POINTS: usize = 150;
