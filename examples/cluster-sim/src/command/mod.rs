//! What the program can do, one file each.

pub mod cascade;
pub mod paper;
pub mod shootout;
pub mod size;

use crate::cluster::{ClusterSpec, Run, simulate};
use crate::policy::Policy;
use crate::report::{Row, Whole};
use crate::router::{Router, RouterError};
use crate::stats::{Slo, Summary};
use crate::workload::Workload;
use std::path::PathBuf;

/// What goes wrong at the edge of the program.
pub type Error = Box<dyn std::error::Error>;

/// Settings that all commands share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Seeds to run with.
    pub seeds: Vec<u64>,
    /// Runs at once.
    pub threads: usize,
    /// Print JSON instead of tables.
    pub json: bool,
    /// Where pictures go.
    pub out: Option<PathBuf>,
}

/// One run with what it came to.
#[derive(Debug)]
pub struct Result {
    pub policy: String,
    pub seed: u64,
    pub run: Run,
    pub stages: Vec<Summary>,
    pub total: Summary,
    /// Seconds it took to simulate.
    pub wall: f64,
}

/// Runs one policy.
///
/// # Errors
///
/// An unknown policy.
pub fn run_one(
    spec: &ClusterSpec,
    workload: &Workload,
    policy: &Policy,
    slo: Slo,
    seed: u64,
) -> std::result::Result<Result, RouterError> {
    let mut router = Router::new(policy, spec, seed)?;
    let start = std::time::Instant::now();
    let run = simulate(spec, workload, &mut router, seed);
    let wall = start.elapsed().as_secs_f64();
    Ok(Result {
        policy: policy.name.clone(),
        seed,
        stages: Summary::stages(workload, &run, slo),
        total: Summary::total(workload, &run, slo),
        run,
        wall,
    })
}

impl Result {
    /// Its row for the whole run, then its stages' where there are several.
    pub fn rows(&self, workload: &str) -> Vec<Row> {
        let whole = Whole {
            preemptions: self.run.preemptions,
            prefill_tokens: self.run.prefill_tokens,
            prefill_spread: self.run.prefill_spread(),
        };
        let row = |s: &Summary| Row::new(&self.policy, workload, self.seed, s, whole);
        if let [only] = self.stages.as_slice() {
            // Where a stage has no one rate, what it was asked on average.
            let rate = only.requests as f64 / only.duration.max(1e-9);
            return vec![Row {
                qps: Some(if only.qps > 0.0 { only.qps } else { rate }),
                ..row(only)
            }];
        }
        std::iter::once(&self.total).chain(&self.stages).map(row).collect()
    }

    /// How many times faster than the clock of the simulated world.
    pub fn speed(&self) -> f64 {
        self.run.stages.last().map_or(0.0, |s| s.1) / self.wall.max(1e-9)
    }

    /// The library's share of the time it took.
    pub fn library_share(&self) -> f64 {
        let effort = self.run.effort;
        (effort.deciding + effort.ingesting).as_secs_f64() / self.wall.max(1e-9)
    }
}
