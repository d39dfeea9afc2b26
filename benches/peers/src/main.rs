//! kvsched's index beside its peers: every figure in one run, ours and theirs.
//!
//! `--quick` takes under a minute; `--json` prints rows instead of a table; `--only` measures a part. Without `--quick`, the
//! pages and plots of `docs/peers` are written too.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say so and stop")]

mod changes;
mod go;
mod indexes;
mod matching;
mod measure;
mod pages;
mod plot;
mod report;
mod threads;
mod workload;

use indexes::{Crtc, Dynamo, KvIndex, Ours, OursShared, Scanned};
use report::Report;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: measure::Counting = measure::Counting;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    queries: usize,
    requests: usize,
    /// Entries of the largest indexes that are asked.
    most: usize,
    duration: Duration,
}

const QUICK: Effort = Effort {
    rounds: 5,
    queries: 1000,
    requests: 1200,
    most: 10_000_000,
    duration: Duration::from_millis(500),
};
const THOROUGH: Effort = Effort {
    rounds: 15,
    queries: 4000,
    requests: 6000,
    most: 10_000_000,
    duration: Duration::from_secs(3),
};

/// What `--only` may name.
const PARTS: [&str; 6] = ["match", "forks", "changes", "threads", "writes", "go"];

fn matches(report: &mut Report, effort: Effort) {
    for entries in [1_000_000, effort.most] {
        for (endpoints, length) in [(8, 450), (8, 2000), (512, 450)] {
            if entries > 1_000_000 && endpoints > 8 {
                continue;
            }
            let work = workload::private_chains(endpoints, length, entries, effort.queries);
            let shape = format!("{endpoints} x {length}, {}M", entries / 1_000_000);
            matching::matches::<Ours>(report, &work, &shape, effort.rounds);
            matching::matches::<KvIndex>(report, &work, &shape, effort.rounds);
            if entries == 1_000_000 {
                matching::matches::<OursShared>(report, &work, &shape, effort.rounds);
                matching::matches::<Dynamo>(report, &work, &shape, 1);
                matching::matches::<Crtc>(report, &work, &shape, effort.rounds);
            }
        }
    }
    let small = workload::private_chains(8, 450, 20_000, 20);
    matching::matches::<Ours>(report, &small, "8 x 450, 20k", effort.rounds);
    matching::matches::<Scanned>(report, &small, "8 x 450, 20k", 1);
    matching::tokens(report, effort.rounds);
}

fn forks(report: &mut Report, effort: Effort) {
    let trace = workload::trace(8, 60_000, effort.requests);
    matching::one_by_one(report, &trace, effort.rounds.min(5));
    for (forks, length) in [(0, 500), (0, 2000), (0, 8000), (4, 2000), (16, 2000), (64, 2000)] {
        let work = workload::forked(forks, length, 500_000, effort.queries);
        let shape = format!("{forks} forks in {length}");
        matching::by_forks::<Ours>(report, &work, &shape, effort.rounds);
        matching::by_forks::<KvIndex>(report, &work, &shape, effort.rounds);
    }
}

fn changes(report: &mut Report, effort: Effort) {
    let trace = workload::trace(8, 60_000, effort.requests);
    let rounds = effort.rounds.min(5);
    changes::events(report, &trace, rounds);
    changes::all_events::<Crtc>(report, &trace, rounds.min(2));
    let chains = workload::private_chains(8, 450, 400_000, 500);
    changes::removals(report, &chains, "8 x 450", rounds.min(3));
    changes::clear::<Ours>(report, 3);
    changes::clear::<KvIndex>(report, 1);
    changes::clear::<Dynamo>(report, 1);
    changes::clear::<Crtc>(report, 1);
    changes::memory::<Ours>(report);
    changes::memory::<KvIndex>(report);
    changes::memory::<Dynamo>(report);
    changes::memory::<Crtc>(report);
    changes::names(report);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    let only = arguments.iter().position(|a| a == "--only").and_then(|i| arguments.get(i + 1));
    let known =
        |a: &String| ["--quick", "--json", "--only"].contains(&a.as_str()) || Some(a) == only;
    if let Some(unknown) = arguments.iter().find(|a| !known(a)) {
        eprintln!("unknown option {unknown}; there are --quick, --json and --only PART: {PARTS:?}");
        std::process::exit(2);
    }
    let does = |part: &str| only.is_none_or(|only| only == part);
    let effort = if has("--quick") { QUICK } else { THOROUGH };
    let mut report = Report::new(has("--json"));
    if does("match") {
        matches(&mut report, effort);
    }
    if does("forks") {
        forks(&mut report, effort);
    }
    if does("changes") {
        changes(&mut report, effort);
    }
    if does("threads") {
        threads::queries(&mut report, effort.duration);
    }
    if does("writes") {
        threads::writes(&mut report, effort.rounds);
    }
    if does("go") {
        go::run(&mut report, has("--quick"));
    }
    report.conclude();
    if !has("--quick") && only.is_none() {
        pages::write(&report).expect("docs/peers can be written");
    }
}
