//! The command line.

use clap::{Parser, Subcommand};
use cluster_sim::cluster::ClusterSpec;
use cluster_sim::command::size::Question;
use cluster_sim::command::{Error, Shared, cascade, paper, shootout, size};
use cluster_sim::engine::EngineSpec;
use cluster_sim::policy::{PUBLISHED, Policy};
use cluster_sim::report::{Report, Row};
use cluster_sim::scenario::{self, Scenario};
use cluster_sim::stats::Slo;
use cluster_sim::workload::{Ladder, Workload, mix};
use kvsched_scorers::preset;
use kvsched_testdata::trace;
use std::num::NonZeroU32;
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
    #[arg(long, global = true, default_value_t = 3, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
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
        #[arg(long, default_value_t = PAPER_DELAY, value_name = "SECONDS")]
        #[arg(value_parser = between(0.0, 60.0))]
        metrics_delay: f64,
        /// Requests that the load generator keeps open at most, 0 for any number
        #[arg(long, default_value_t = PAPER_LIMIT, value_name = "N")]
        client_limit: u32,
    },
    /// Tier-blind against tier-aware routing while prefixes are pushed off the device
    ///
    /// Eight prefill pods whose device memory holds half of the tenants' prefixes; the rest lies in
    /// a slow tier behind it. Both policies see the same arrivals.
    Cascade {
        /// Requests a second
        #[arg(long, default_value_t = CASCADE_QPS, value_name = "N")]
        #[arg(value_parser = between(0.1, 100.0))]
        qps: f64,
    },
    /// Every policy on every workload, with the same arrivals
    ///
    /// Policies: the presets of kvsched-scorers (a wrong name lists the nearest), and the
    /// published four.
    /// Workloads: customers, overcommitted, chat, agents, rag, burst, one-shot, tenants, each on
    /// equal endpoints; tiers, packets, adapters, mixed, ranks, split, elastic, each on a cluster of
    /// its own; or traces.
    Shootout {
        /// Policies to run [default: all presets]
        #[arg(value_name = "POLICY")]
        policies: Vec<String>,
        /// Workloads to run [default: all, and no trace]
        #[arg(long, value_name = "NAME")]
        workload: Vec<String>,
        #[command(flatten)]
        trace: Trace,
        /// Equal endpoints, each Qwen3-32B on two H100
        #[arg(long, default_value_t = 8, value_name = "N")]
        #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
        endpoints: u16,
        /// Play a workload of one stage so many times, each with prompts of its own, one for every
        /// eight endpoints at a time
        #[arg(long, default_value = "1", value_name = "N")]
        copies: NonZeroU32,
        #[command(flatten)]
        level: Level,
    },
    /// Everything that docs/sim shows, with one command
    ///
    /// `paper`, `cascade`, `shootout` of all presets on all workloads, and `size`, each with its
    /// tables (Markdown) and pictures (SVG) written to `--out`.
    Report,
    /// How many endpoints, and how much host memory, a workload needs to keep a service level
    Size {
        /// The workload
        #[arg(long, default_value = SIZED, value_name = "NAME")]
        workload: String,
        #[command(flatten)]
        trace: Trace,
        /// The policy
        #[arg(long, default_value = DEFAULT)]
        policy: String,
        /// Share of requests that must keep the level
        #[arg(long, default_value_t = SHARE, value_name = "SHARE")]
        #[arg(value_parser = between(0.0, 1.0))]
        share: f64,
        /// Host memory for KV to try, in gigabytes an endpoint
        #[arg(long, default_values_t = HOST_GB, value_name = "GB")]
        #[arg(value_parser = between(0.0, 10_000.0))]
        host_gb: Vec<f64>,
        /// Most endpoints to try
        #[arg(long, default_value_t = MOST, value_name = "N")]
        #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
        most: u16,
        #[command(flatten)]
        level: Level,
    },
}

#[derive(Debug, clap::Args)]
struct Trace {
    /// A request trace: JSON lines with timestamp, input_length, output_length, hash_ids
    /// (Mooncake's with 512-token ids and milliseconds, Bailian's with 16-token ids and seconds)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Play only the first N requests of the trace
    #[arg(long, value_name = "N")]
    requests: Option<NonZeroU32>,
    /// Play the trace so many times as fast
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    #[arg(value_parser = between(1e-3, 1e3))]
    speed: f64,
}

impl Trace {
    /// The trace as a workload, if one was given.
    fn load(&self) -> Result<Option<Workload>, Error> {
        let Some(path) = &self.trace else { return Ok(None) };
        let mut requests = trace::read(path)?;
        let block = trace::block_tokens(&requests).ok_or_else(|| {
            format!("{}: hash_ids fit neither 512 nor 16 tokens an id", path.display())
        })?;
        requests.truncate(self.requests.map_or(usize::MAX, |n| n.get() as usize));
        let unit = if block == 16 { 1.0 } else { 1e-3 };
        let times = || requests.iter().map(|r| r.timestamp * unit / self.speed);
        let days = (times().fold(f64::MIN, f64::max) - times().fold(f64::MAX, f64::min)) / 86_400.0;
        if days > LONGEST_DAYS {
            let file = path.display();
            return Err(format!("{file}: {days:.3e} days long, more than {LONGEST_DAYS}").into());
        }
        let name = path.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Ok(Some(mix::trace(&name, &requests, block, unit, self.speed)))
    }
}

#[derive(Debug, clap::Args)]
struct Level {
    /// Seconds to the first token that a good request keeps
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    #[arg(value_parser = between(0.0, 1e6))]
    ttft: f64,
    /// Seconds a further token, on average, that a good request keeps
    #[arg(long, default_value_t = 0.15, value_name = "SECONDS")]
    #[arg(value_parser = between(0.0, 1e6))]
    tpot: f64,
}

impl Level {
    fn slo(&self) -> Slo {
        Slo { ttft: self.ttft, tpot: self.tpot }
    }
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
        seeds: (1..=args.seeds).collect(),
        threads: args.threads.unwrap_or_else(cores),
        json: args.json,
        out: args.out,
    };
    let json = shared.json;
    if let Some(out) = &shared.out {
        // Before minutes of work, not after.
        std::fs::create_dir_all(out).map_err(|e| format!("--out {}: {e}", out.display()))?;
    }
    let rows = match args.command {
        Command::Paper { policies, metrics_delay, client_limit } => {
            paper_of(&shared, policies, metrics_delay, client_limit)?
        }
        Command::Cascade { qps } => cascade::cascade(&shared, qps)?,
        Command::Shootout { policies, workload, trace, endpoints, copies, level } => {
            let traffic = Traffic { workload, recorded: trace.load()?, endpoints, copies };
            shootout_of(&shared, policies, traffic, level.slo())?
        }
        Command::Report => {
            let out = shared.out.clone().unwrap_or_else(|| PathBuf::from("report"));
            let shared = Shared { out: Some(out), ..shared };
            let mut rows = paper_of(&shared, Vec::new(), PAPER_DELAY, PAPER_LIMIT)?;
            rows.extend(cascade::cascade(&shared, CASCADE_QPS)?);
            rows.extend(shootout_of(&shared, Vec::new(), Traffic::default(), Slo::default())?);
            let question = Question {
                slo: Slo::default(),
                share: SHARE,
                host_gigabytes: HOST_GB.to_vec(),
                most: MOST,
            };
            let draw = |&seed: &u64| mix::by_name(SIZED, seed).ok_or("no such workload");
            let agents: Vec<_> = shared.seeds.iter().map(draw).collect::<Result<_, _>>()?;
            rows.extend(size::size(&shared, &agents, &Policy::by_name(DEFAULT)?, &question)?);
            rows
        }
        Command::Size { workload, trace, policy, share, host_gb, most, level } => {
            let recorded = trace.load()?;
            // A trace is one sequence of arrivals; seeds change ties only.
            let draw = |&seed: &u64| {
                let drawn = recorded.clone().or_else(|| mix::by_name(&workload, seed));
                drawn.ok_or_else(|| format!("no workload is called `{workload}`"))
            };
            let drawn: Vec<_> = shared.seeds.iter().map(draw).collect::<Result<_, _>>()?;
            let question = Question { slo: level.slo(), share, host_gigabytes: host_gb, most };
            size::size(&shared, &drawn, &Policy::by_name(&policy)?, &question)?
        }
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&Report { rows })?);
    }
    Ok(())
}

/// What `paper` and `cascade` do unless told otherwise.
const PAPER_DELAY: f64 = 1.4;
const PAPER_LIMIT: u32 = 640;
const CASCADE_QPS: f64 = 6.0;
/// What `size` asks unless told otherwise.
const SIZED: &str = "agents";
const DEFAULT: &str = "cost";
const SHARE: f64 = 0.95;
const HOST_GB: [f64; 2] = [0.0, 256.0];
const MOST: u16 = 64;
/// A longer trace is more likely in another unit.
const LONGEST_DAYS: f64 = 30.0;
/// Requests of all copies together: they lie in memory.
const MOST_REQUESTS: u64 = 20_000_000;

fn paper_of(
    shared: &Shared,
    policies: Vec<String>,
    metrics_delay: f64,
    client_limit: u32,
) -> Result<Vec<Row>, Error> {
    let all = || PUBLISHED.iter().chain(&paper::NEWER).map(|&p| p.to_owned()).collect();
    let policies = if policies.is_empty() { all() } else { policies };
    let spec = ClusterSpec { metrics_delay, ..ClusterSpec::published() };
    let client_limit = (client_limit > 0).then_some(client_limit);
    let ladder = Ladder { client_limit, ..Ladder::default() };
    paper::paper(shared, &policies, &spec, &ladder)
}

/// What a shootout is about.
struct Traffic {
    workload: Vec<String>,
    recorded: Option<Workload>,
    endpoints: u16,
    copies: NonZeroU32,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { workload: Vec::new(), recorded: None, endpoints: 8, copies: NonZeroU32::MIN }
    }
}

fn shootout_of(
    shared: &Shared,
    policies: Vec<String>,
    traffic: Traffic,
    slo: Slo,
) -> Result<Vec<Row>, Error> {
    let Traffic { workload, recorded, endpoints, copies } = traffic;
    let names: Vec<String> = match policies.is_empty() {
        true => preset::NAMES.iter().map(|&n| n.to_owned()).collect(),
        false => policies,
    };
    let policies: Vec<Policy> =
        names.iter().map(|n| Policy::by_name(n)).collect::<Result<_, _>>()?;
    let names: Vec<String> = match workload.is_empty() && recorded.is_none() {
        true => scenario::NAMES.iter().map(|(n, _)| (*n).to_owned()).collect(),
        false => workload,
    };
    let copies = copies.get();
    for name in names.iter().filter(|_| copies > 1) {
        let Some(Scenario { workload, .. }) = scenario::by_name(name, 1, 1) else { continue };
        let stages = workload.stages.len();
        if stages > 1 {
            return Err(format!("--copies: `{name}` has {stages} stages, not one").into());
        }
        let all = workload.jobs.len() as u64 * u64::from(copies);
        if all > MOST_REQUESTS {
            let message =
                format!("--copies {copies} of `{name}`: {all} requests, more than {MOST_REQUESTS}");
            return Err(message.into());
        }
    }
    let draw = move |name: &str, seed: u64| {
        let mut scenario = scenario::by_name(name, seed, endpoints)?;
        if copies > 1 {
            let at_once = u32::from(endpoints) / 8;
            scenario.workload = scenario.workload.copied(copies, at_once);
        }
        Some(scenario)
    };
    let mut scenarios: Vec<(String, Box<shootout::Draw<'_>>)> = Vec::new();
    for name in names {
        let drawn = name.clone();
        scenarios.push((name, Box::new(move |seed| draw(&drawn, seed))));
    }
    if let Some(workload) = &recorded {
        let engines = vec![EngineSpec::qwen3_32b_tp2_h100(); usize::from(endpoints)];
        let spec = ClusterSpec { engines, metrics_delay: 0.05, ..ClusterSpec::published() };
        let scenario = Scenario { spec, workload: workload.clone() };
        scenarios.push((workload.name.clone(), Box::new(move |_| Some(scenario.clone()))));
    }
    shootout::shootout(shared, &policies, &scenarios, slo)
}

/// Reads a number that lies between two others.
fn between(least: f64, most: f64) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| match text.parse::<f64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("not a number from {least} to {most}")),
    }
}
