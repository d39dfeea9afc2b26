//! The command line.

use clap::{Parser, Subcommand};
use cluster_sim::cluster::ClusterSpec;
use cluster_sim::command::{Error, Shared, paper};
use cluster_sim::policy::PUBLISHED;
use cluster_sim::workload::Ladder;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;

/// Simulates a cluster of inference engines, routed by kvsched, on virtual time
///
/// Every engine is simulated step by step: continuous batching with chunked prefill, a finite
/// paged KV cache with the engine's own eviction, preemption. The router is the library itself,
/// fed with the bytes such engines publish. The same seed gives the same output.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// How many seeds to run: every figure is then a mean with its confidence interval
    #[arg(long, global = true, default_value = "3", value_name = "N")]
    seeds: NonZeroU64,
    /// Runs at once; without it, one a core
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Print JSON (`rows[]`, one a policy, stage and seed) instead of tables
    #[arg(long, global = true)]
    json: bool,
    /// Write pictures (SVG) into this directory
    #[arg(long, global = true, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The published benchmark at 73% of capacity: their figures beside ours
    ///
    /// 150 customers × 5 users on 8 pods of two H100, a ladder of 16 stages from 3 to 60
    /// requests a second, each drained before the next begins. One set of constants for all
    /// policies.
    Paper {
        /// Policies to run [default: the published four, the 2026 guide's and its affinity stack]
        #[arg(value_name = "POLICY")]
        policies: Vec<String>,
        /// By how many seconds the metrics that the router reads are late
        #[arg(long, default_value = "1.2", value_name = "SECONDS")]
        metrics_delay: f64,
        /// Requests that the load generator keeps open at most, 0 for any number
        #[arg(long, default_value = "800", value_name = "N")]
        client_limit: u32,
    },
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Error> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let shared = Shared {
        seeds: (1..=args.seeds.get()).collect(),
        threads: args.threads.unwrap_or_else(cores),
        json: args.json,
        out: args.out,
    };
    match args.command {
        Command::Paper { policies, metrics_delay, client_limit } => {
            let all = || PUBLISHED.iter().chain(&paper::NEWER).map(|&p| p.to_owned()).collect();
            let policies = if policies.is_empty() { all() } else { policies };
            let spec = ClusterSpec { metrics_delay, ..ClusterSpec::published() };
            let client_limit = (client_limit > 0).then_some(client_limit);
            let ladder = Ladder { client_limit, ..Ladder::default() };
            paper::paper(&shared, &policies, &spec, &ladder)
        }
    }
}
