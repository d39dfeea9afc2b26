//! `size`: how many endpoints, and how much host memory, a trace needs to keep a service level.

use super::{Error, Result, Shared, run_one};
use crate::batch;
use crate::cluster::ClusterSpec;
use crate::engine::{EngineSpec, TierSpec};
use crate::policy::Policy;
use crate::report::table::{Table, secs};
use crate::report::{Row, Size};
use crate::stats::Slo;
use crate::workload::Workload;
use kvsched_core::Tier;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The service level.
    pub slo: Slo,
    /// The share of requests that must keep it.
    pub share: f64,
    /// Host memory sizes to try, in gigabytes an endpoint; 0 for none.
    pub host_gigabytes: Vec<f64>,
    /// Most endpoints to try.
    pub most: u16,
}

/// For each host memory size, the fewest endpoints that keep the level with every seed, by
/// bisection: more endpoints are never worse but for noise. `workloads` are one for each seed. The
/// rows for `--json`, one a seed of every size that was tried.
///
/// # Errors
///
/// An unknown policy.
pub fn size(
    shared: &Shared,
    workloads: &[Workload],
    policy: &Policy,
    question: &Question,
) -> std::result::Result<Vec<Row>, Error> {
    let tasks: Vec<(&Workload, u64)> = workloads.iter().zip(shared.seeds.iter().copied()).collect();
    let mut tried: Vec<(Size, Vec<Row>)> = Vec::new();
    let mut answers: BTreeMap<u64, Option<u16>> = BTreeMap::new();
    for &host_gb in &question.host_gigabytes {
        let mut attempt = |endpoints: u16| -> std::result::Result<bool, Error> {
            let spec = fleet(endpoints, host_gb);
            let results = batch::run(
                &tasks,
                shared.threads,
                shared.json,
                |(_, seed)| format!("{endpoints} endpoints, {host_gb} GB, seed {seed}"),
                |&(workload, seed)| run_one(&spec, workload, policy, question.slo, seed),
            );
            let results: Vec<Result> =
                results.into_iter().collect::<std::result::Result<_, _>>()?;
            let enough = results.iter().all(|r| good_share(r) >= question.share);
            let size = Size { host_gb, endpoints, enough };
            // Of a workload in stages, all together.
            let whole = |r: &Result| r.rows(&tasks[0].0.name).into_iter().next();
            let row = |r: &Result| {
                whole(r).map(|row| Row { good_share: good_share(r), size: Some(size), ..row })
            };
            tried.push((size, results.iter().filter_map(row).collect()));
            Ok(enough)
        };
        let answer = fewest(question.most, &mut attempt)?;
        answers.insert(host_gb.to_bits(), answer);
    }
    let mut table = Table::new([
        "host GB an endpoint",
        "endpoints",
        "good, least",
        "mean",
        "TTFT p90 s",
        "ITL p90 s",
        "hit rate",
        "",
    ]);
    for (t, rows) in &tried {
        let mean =
            |of: &dyn Fn(&Row) -> f64| rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64;
        let least = rows.iter().map(|row| row.good_share).fold(1.0, f64::min);
        let answer = answers.get(&t.host_gb.to_bits()).copied().flatten() == Some(t.endpoints);
        table.row([
            format!("{}", t.host_gb),
            t.endpoints.to_string(),
            format!("{:.1}%", least * 100.0),
            format!("{:.1}%", mean(&|row| row.good_share) * 100.0),
            secs(mean(&|row| row.ttft_p90_s)),
            secs(mean(&|row| row.itl_p90_s)),
            format!("{:.3}", mean(&|row| row.hit_rate)),
            if answer {
                "fewest"
            } else if t.enough {
                "enough"
            } else {
                "too few"
            }
            .to_owned(),
        ]);
    }
    let mut report = format!(
        "{} seeds: the level is kept with the least of them; what follows are means.\n\n{table}\n",
        tasks.len()
    );
    for (bits, answer) in answers {
        let found = answer.map_or(format!("more than {}", question.most), |n| n.to_string());
        report += &format!(
            "With {} GB of host memory an endpoint: {found} endpoints.\n",
            f64::from_bits(bits)
        );
    }
    if !shared.json {
        println!("{report}");
    }
    if let Some(out) = &shared.out {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("size-tables.md"), report)?;
    }
    Ok(tried.into_iter().flat_map(|(_, rows)| rows).collect())
}

/// The share of requests that kept the level. One that no engine can hold is not served well.
fn good_share(r: &Result) -> f64 {
    let all = (r.total.requests + r.total.refused).max(1);
    r.total.good_share * r.total.requests as f64 / all as f64
}

/// The fewest in `1..=most` for which `enough` holds: doubling, then bisection.
fn fewest(
    most: u16,
    enough: &mut dyn FnMut(u16) -> std::result::Result<bool, Error>,
) -> std::result::Result<Option<u16>, Error> {
    let (mut too_few, mut n) = (0, 1);
    while !enough(n)? {
        if n >= most {
            return Ok(None);
        }
        too_few = n;
        n = (n * 2).min(most);
    }
    while n - too_few > 1 {
        let middle = too_few + (n - too_few) / 2;
        if enough(middle)? { n = middle } else { too_few = middle }
    }
    Ok(Some(n))
}

fn fleet(endpoints: u16, host_gb: f64) -> ClusterSpec {
    let base = EngineSpec::qwen3_32b_tp2_h100();
    let block_bytes = f64::from(base.block_size) * base.kv_bytes_per_token as f64;
    let tiers = NonZeroUsize::new((host_gb * 1e9 / block_bytes) as usize)
        .map(|blocks| TierSpec { tier: Tier::HOST, blocks, latency: 0.013, bytes_per_sec: 109e9 })
        .into_iter()
        .collect();
    let engine = EngineSpec { tiers, ..base };
    ClusterSpec {
        engines: vec![engine; usize::from(endpoints)],
        metrics_delay: 0.05,
        ..ClusterSpec::published()
    }
}

#[cfg(test)]
mod tests {
    use super::fewest;

    #[test]
    fn bisection_finds_the_fewest_and_says_when_there_is_none() {
        for need in 1..=40u16 {
            let mut asked = 0;
            let found = fewest(40, &mut |n| {
                asked += 1;
                Ok(n >= need)
            });
            assert_eq!(found.unwrap(), Some(need));
            assert!(asked <= 13, "{need} took {asked}");
        }
        assert_eq!(fewest(40, &mut |_| Ok(false)).unwrap(), None);
    }
}
