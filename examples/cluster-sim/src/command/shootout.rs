//! `shootout`: every policy on every workload, with the same arrivals.

use super::{Error, Result, Shared, run_one};
use crate::batch;
use crate::policy::Policy;
use crate::report::Row;
use crate::report::grid::{self, Cell, Grid};
use crate::report::table::{Table, secs};
use crate::scenario::Scenario;
use crate::stats::{Estimate, Slo};

/// A scenario for each seed, under one name.
pub type Draw<'a> = dyn Fn(u64) -> Option<Scenario> + Sync + 'a;

/// Runs `policies` on each of `workloads`; the rows for `--json`.
///
/// # Errors
///
/// An unknown policy or workload.
pub fn shootout(
    shared: &Shared,
    policies: &[Policy],
    workloads: &[(String, Box<Draw<'_>>)],
    slo: Slo,
) -> std::result::Result<Vec<Row>, Error> {
    let tasks: Vec<(usize, &Policy, u64)> = (0..workloads.len())
        .flat_map(|w| policies.iter().map(move |p| (w, p)))
        .flat_map(|(w, p)| shared.seeds.iter().map(move |&s| (w, p, s)))
        .collect();
    let results = batch::run(
        &tasks,
        shared.threads,
        shared.json,
        |(w, policy, seed)| format!("{} on {}, seed {seed}", policy.name, workloads[*w].0),
        |&(w, policy, seed)| {
            let Scenario { spec, workload } = workloads[w].1(seed).ok_or_else(|| {
                format!("no workload is called `{}`; see `shootout --help`", workloads[w].0)
            })?;
            let mut result =
                run_one(&spec, &workload, policy, slo, seed).map_err(|e| e.to_string())?;
            // A run's details are large, and nobody asks for them here.
            result.run.outcomes = Vec::new();
            result.run.samples = Vec::new();
            Ok::<_, String>((w, result))
        },
    );
    let results: Vec<(usize, Result)> =
        results.into_iter().collect::<std::result::Result<_, _>>()?;
    let mut report = format!(
        "{} seeds ± 95% confidence; good: first token within {} s and {} s a token. A star: within noise of the best.\n",
        shared.seeds.len(),
        slo.ttft,
        slo.tpot
    );
    let names: Vec<&str> = workloads.iter().map(|(name, _)| name.as_str()).collect();
    let mut shares = Vec::new();
    for (w, name) in names.iter().enumerate() {
        let of = |p: &Policy| -> Vec<&Result> {
            results.iter().filter(|(i, r)| *i == w && r.policy == p.name).map(|(_, r)| r).collect()
        };
        let by_policy: Vec<_> = policies.iter().map(|p| (p.name.as_str(), of(p))).collect();
        report += &format!("\n### {name}\n\n{}", table(&by_policy));
        shares.push(shares_of_best(&by_policy));
    }
    if workloads.len() > 1 {
        report += &format!("\n### All together\n\n{}", overall(policies, &names, &shares));
    }
    report += &format!("\n{}\n", speed(results.iter().map(|(_, r)| r)));
    if !shared.json {
        println!("{report}");
    }
    if let Some(out) = &shared.out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("shootout-tables.md"), report)?;
        grid::write(&out.join("shootout.svg"), &grids(policies, &names, &shares))?;
    }
    Ok(results.iter().flat_map(|(w, r)| r.rows(&workloads[*w].0)).collect())
}

/// How fast the runs were, and the library's part in them.
pub fn speed<'a>(results: impl Iterator<Item = &'a Result> + Clone) -> String {
    let slowest = results.clone().map(Result::speed).fold(f64::INFINITY, f64::min);
    let mut shares: Vec<f64> = results.clone().map(Result::library_share).collect();
    shares.sort_by(f64::total_cmp);
    let middle = shares.get(shares.len() / 2).copied().unwrap_or(0.0);
    let most = shares.last().copied().unwrap_or(0.0);
    let decisions: u64 = results.clone().map(|r| r.run.effort.decisions).sum();
    let deciding: f64 = results.map(|r| r.run.effort.deciding.as_secs_f64()).sum();
    format!(
        "Every run at least {slowest:.0} times as fast as the clock; the library took {:.0}% of the median run, at most {:.0}%, and {:.0} µs a decision, block hashes included.",
        middle * 100.0,
        most * 100.0,
        deciding / decisions.max(1) as f64 * 1e6
    )
}

/// The figures of [`overall`] to look at.
fn grids(policies: &[Policy], workloads: &[&str], shares: &[Vec<(f64, f64)>]) -> Vec<Grid> {
    let grid = |title: &str, ratio: &dyn Fn(&(f64, f64)) -> f64| {
        let rows = policies.iter().enumerate().map(|(i, policy)| {
            let cells = shares.iter().map(|s| {
                let ratio = ratio(&s[i]);
                let text =
                    if ratio < 9.995 { format!("{ratio:.2}") } else { format!("{ratio:.0}") };
                Cell { text, ratio }
            });
            (policy.name.clone(), cells.collect())
        });
        let columns = workloads.iter().map(|&name| name.to_owned()).collect();
        Grid { title: title.to_owned(), columns, rows: rows.collect() }
    };
    vec![
        grid("Time to first token, p90, over the best policy's", &|s| s.0),
        grid("The best policy's goodput over this one's", &|s| 1.0 / s.1.max(1e-3)),
    ]
}

/// Of each policy: its TTFT p90 over the best policy's, and its goodput over the best's.
fn shares_of_best(by_policy: &[(&str, Vec<&Result>)]) -> Vec<(f64, f64)> {
    let mean = |runs: &[&Result], of: &dyn Fn(&Result) -> f64| {
        runs.iter().map(|r| of(r)).sum::<f64>() / runs.len().max(1) as f64
    };
    let figures: Vec<(f64, f64)> = by_policy
        .iter()
        .map(|(_, r)| (mean(r, &|r| r.total.ttft.p90), mean(r, &|r| r.total.goodput)))
        .collect();
    let fastest = figures.iter().map(|f| f.0).fold(f64::INFINITY, f64::min);
    let most = figures.iter().map(|f| f.1).fold(0.0, f64::max);
    figures.iter().map(|f| (f.0 / fastest.max(1e-9), f.1 / most.max(1e-9))).collect()
}

/// Every policy's TTFT p90 by workload, as a multiple of the best policy's, and geometric means.
fn overall(policies: &[Policy], workloads: &[&str], shares: &[Vec<(f64, f64)>]) -> Table {
    let header = ["policy", "TTFT p90 over the best", "goodput of the best", "worst TTFT p90"];
    let mut table = Table::new(header.into_iter().chain(workloads.iter().copied()));
    for (i, policy) in policies.iter().enumerate() {
        let of = |which: &dyn Fn(&(f64, f64)) -> f64| {
            shares.iter().map(|s| which(&s[i])).collect::<Vec<_>>()
        };
        let (p90, good) = (of(&|s| s.0), of(&|s| s.1));
        let mean =
            |v: &[f64]| (v.iter().map(|x| x.max(1e-9).ln()).sum::<f64>() / v.len() as f64).exp();
        let head = [
            policy.name.clone(),
            format!("{:.2}", mean(&p90)),
            format!("{:.2}", mean(&good)),
            format!("{:.2}", p90.iter().copied().fold(0.0, f64::max)),
        ];
        table.row(head.into_iter().chain(p90.iter().map(|x| format!("{x:.2}"))));
    }
    table
}

fn table(by_policy: &[(&str, Vec<&Result>)]) -> Table {
    let estimate = |runs: &[&Result], of: &dyn Fn(&Result) -> f64| {
        Estimate::of(&runs.iter().map(|r| of(r)).collect::<Vec<_>>())
    };
    let p90 = |runs: &[&Result]| estimate(runs, &|r| r.total.ttft.p90);
    let good = |runs: &[&Result]| estimate(runs, &|r| r.total.goodput);
    let all = || by_policy.iter().filter(|(_, runs)| !runs.is_empty());
    let best_p90 = all().map(|(_, r)| p90(r)).min_by(|a, b| a.mean.total_cmp(&b.mean));
    let best_good = all().map(|(_, r)| good(r)).max_by(|a, b| a.mean.total_cmp(&b.mean));
    let star = |e: &Estimate, best: Option<Estimate>| {
        if best.is_some_and(|b| e.within_noise_of(&b)) { "*" } else { "" }
    };
    let mut table = Table::new([
        "policy",
        "out tok/s",
        "TTFT mean s",
        "p50",
        "p90",
        "±",
        "p99",
        "ITL mean s",
        "p90",
        "good req/s",
        "±",
        "good",
        "hit rate",
        "$ / 1k prompts",
        "Mtok prefilled",
        "spread",
        "decision µs",
    ]);
    for (policy, runs) in all() {
        let mean = |of: &dyn Fn(&Result) -> f64| estimate(runs, of).mean;
        let (slow, kept) = (p90(runs), good(runs));
        let decisions = |r: &Result| {
            r.run.effort.deciding.as_secs_f64() / r.run.effort.decisions.max(1) as f64 * 1e6
        };
        table.row([
            (*policy).to_owned(),
            format!("{:.0}", mean(&|r| r.total.out_tok_s)),
            secs(mean(&|r| r.total.ttft.mean)),
            secs(mean(&|r| r.total.ttft.p50)),
            format!("{}{}", secs(slow.mean), star(&slow, best_p90)),
            secs(slow.half_width),
            secs(mean(&|r| r.total.ttft.p99)),
            secs(mean(&|r| r.total.itl.mean)),
            secs(mean(&|r| r.total.itl.p90)),
            format!("{:.2}{}", kept.mean, star(&kept, best_good)),
            format!("{:.2}", kept.half_width),
            format!("{:.0}%", mean(&|r| r.total.good_share * 100.0)),
            format!("{:.3}", mean(&|r| r.total.hit_rate)),
            format!("{:.2}", mean(&|r| r.total.prompt_cost)),
            format!("{:.1}", mean(&|r| r.run.prefill_tokens as f64 / 1e6)),
            format!("{:.2}", mean(&|r| r.run.prefill_spread())),
            format!("{:.0}", mean(&decisions)),
        ]);
    }
    table
}
