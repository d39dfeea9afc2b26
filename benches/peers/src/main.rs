//! kvsched's index beside its peers: every figure in one run, ours and theirs.
//!
//! `--quick` takes under a minute; `--json` prints rows instead of a table; `--only` measures a part. Without `--quick`, the
//! pages and plots of `docs/peers` are written too.
//!
//! Each part is a process of its own: what a part leaves of the heap would be where the next one's indexes
//! come to lie, and those that allocate much or little would pay for it differently.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say so and stop")]

mod changes;
mod go;
mod indexes;
mod matching;
mod measure;
mod pages;
mod parts;
mod plot;
mod report;
mod threads;
mod workload;

use indexes::{Crtc, Dynamo, KvIndex, Ours, OursShared, Scanned};
use report::{Format, Report};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: measure::Counting = measure::Counting;

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    is_quick: bool,
    rounds: usize,
    queries: usize,
    requests: usize,
    /// Entries of the largest indexes that are asked.
    most: usize,
    duration: Duration,
}

const QUICK: Effort = Effort {
    is_quick: true,
    rounds: 5,
    queries: 1000,
    requests: 1200,
    most: 10_000_000,
    duration: Duration::from_millis(500),
};
const THOROUGH: Effort = Effort {
    is_quick: false,
    rounds: 15,
    queries: 4000,
    requests: 6000,
    most: 10_000_000,
    duration: Duration::from_secs(3),
};

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
}

fn tokens(report: &mut Report, effort: Effort) {
    matching::tokens(report, effort.rounds);
}

fn trace(report: &mut Report, effort: Effort) {
    let trace = workload::trace(8, 60_000, effort.requests);
    matching::one_by_one(report, &trace, effort.rounds.min(5));
}

fn forks(report: &mut Report, effort: Effort) {
    for (forks, length) in [(0, 500), (0, 2000), (0, 8000), (4, 2000), (16, 2000), (64, 2000)] {
        let work = workload::forked(forks, length, 500_000, effort.queries);
        let shape = format!("{forks} forks in {length}");
        matching::by_forks::<Ours>(report, &work, &shape, effort.rounds);
        matching::by_forks::<KvIndex>(report, &work, &shape, effort.rounds);
    }
}

fn events(report: &mut Report, effort: Effort) {
    let trace = workload::trace(8, 60_000, effort.requests);
    changes::events(report, &trace, "trace, 8 endpoints", effort.rounds.min(9));
    changes::all_events::<Crtc>(report, &trace, 2);
}

/// The same where the allocator asks for large pages; see [`parts::run`].
fn large_pages(report: &mut Report, effort: Effort) {
    if !effort.is_quick {
        let trace = workload::trace(8, 60_000, effort.requests);
        changes::events(report, &trace, "trace, 8 endpoints, 2 MiB pages", effort.rounds.min(5));
    }
}

fn removals(report: &mut Report, effort: Effort) {
    let chains = workload::private_chains(8, 450, 400_000, 500);
    changes::removals(report, &chains, "8 x 450", effort.rounds.min(3));
}

fn memory(report: &mut Report, _: Effort) {
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

fn threads(report: &mut Report, effort: Effort) {
    threads::queries(report, effort.duration);
}

fn writes(report: &mut Report, effort: Effort) {
    threads::writes(report, effort.rounds);
}

fn go(report: &mut Report, effort: Effort) {
    go::run(report, effort.is_quick);
}

/// What `--only` may name.
const PARTS: [(&str, fn(&mut Report, Effort)); 11] = [
    ("match", matches),
    ("tokens", tokens),
    ("trace", trace),
    ("forks", forks),
    ("events", events),
    (parts::LARGE_PAGES, large_pages),
    ("removals", removals),
    ("memory", memory),
    ("threads", threads),
    ("writes", writes),
    ("go", go),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|a| a == flag);
    let only = arguments.iter().position(|a| a == "--only").and_then(|i| arguments.get(i + 1));
    let flags = ["--quick", "--json", "--columns", "--only"];
    let known = |a: &String| flags.contains(&a.as_str()) || Some(a) == only;
    if let Some(unknown) = arguments.iter().find(|a| !known(a)) {
        eprintln!("unknown option {unknown}; there are {}", flags.join(", "));
        std::process::exit(2);
    }
    let names = PARTS.map(|(name, _)| name);
    let chosen = only.and_then(|only| PARTS.iter().find(|(name, _)| name == only));
    if has("--only") && chosen.is_none() {
        eprintln!("--only takes one of {}", names.join(", "));
        std::process::exit(2);
    }
    let is_quick = has("--quick");
    let effort = if is_quick { QUICK } else { THOROUGH };
    let mut report = Report::new(Format::of(has("--json"), has("--columns")));
    match chosen {
        // The process of a part.
        Some((_, measure)) if has("--columns") => measure(&mut report, effort),
        Some((name, _)) => parts::run(&mut report, name, is_quick),
        None => names.iter().for_each(|name| parts::run(&mut report, name, is_quick)),
    }
    report.conclude();
    if !is_quick && only.is_none() {
        pages::write(&report).expect("docs/peers can be written");
    }
}
