//! The main job, on data of a real engine and a real service:
//!
//! 1. replays recordings of a real engine and predicts, before every request, how many of its
//!    tokens the engine will serve from cache;
//! 2. routes a production trace over a simulated fleet under four policies, and explains one
//!    decision line by line.
//!
//! `cargo run --release --example route -- --help` lists what can be changed.
// Programs read files, clocks and arguments, and print; the library does not.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

mod fleet;
mod policies;
mod replay;
mod report;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kvsched_testdata::{Vectors, capture, trace, vector_files};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;

/// Replays real engine recordings and routes a real trace, and shows what was decided and why.
#[derive(Debug, Parser)]
struct Args {
    /// Recordings of engines to replay, in the format of testdata/vectors/engine_capture.json;
    /// without it, the recordings that the repository ships
    #[arg(long, value_name = "FILE")]
    capture: Vec<PathBuf>,
    /// Request trace to route: JSON lines with timestamp, input_length, output_length, hash_ids
    /// (Mooncake's with 512-token ids and milliseconds, Bailian's with 16-token ids and seconds)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Endpoints of the simulated fleet
    #[arg(long, default_value = "8")]
    endpoints: NonZeroU16,
    /// Replicas of the gateway, among which the requests are shared: engines announce to all of
    /// them, but none sees what another decides
    #[arg(long, default_value = "2")]
    gateways: NonZeroU16,
    /// KV cache of each simulated endpoint, in tokens
    #[arg(long, default_value = "1000000", value_name = "TOKENS")]
    cache_tokens: NonZeroUsize,
    /// Route only the first N requests of the trace
    #[arg(long, value_name = "N")]
    requests: Option<NonZeroUsize>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let files = if args.capture.is_empty() {
        vector_files(Vectors::EngineCapture)?
    } else {
        args.capture.clone()
    };
    let mut captures = Vec::new();
    for file in &files {
        for recorded in &capture::read(file)? {
            let result = replay::engine_scheme(recorded)
                .and_then(|scheme| replay::replay(recorded, scheme))
                .map_err(|e| format!("{}, capture {}: {e}", file.display(), recorded.name))?;
            captures.push(result);
        }
    }
    let trace_file = args.trace.clone().unwrap_or_else(trace::mooncake_conversation);
    let mut requests = trace::read(&trace_file)?;
    requests.truncate(args.requests.map_or(usize::MAX, NonZeroUsize::get));
    let trace_block = trace::block_tokens(&requests).ok_or_else(|| {
        format!(
            "{}: hash_ids fit neither 512 nor 16 tokens an id (see input_length)",
            trace_file.display()
        )
    })?;
    let setup = policies::Setup {
        endpoints: args.endpoints.get(),
        gateways: args.gateways.get(),
        cache_blocks: u32::try_from(args.cache_tokens.get() / policies::BLOCK_SIZE)
            .ok()
            .and_then(NonZeroU32::new)
            .ok_or_else(|| {
                format!(
                    "--cache-tokens {} is not between one block of {} and 2^32 blocks",
                    args.cache_tokens,
                    policies::BLOCK_SIZE
                )
            })?,
        trace_block,
        // Bailian's traces count seconds, Mooncake's milliseconds.
        time_unit: if trace_block == 16 { 1.0 } else { 1e-3 },
    };
    if !args.json {
        report::print_captures(&captures);
        println!(
            "{} requests of {} through {} gateways over {} endpoints, each with {} blocks of {} tokens",
            requests.len(),
            trace_file.file_name().unwrap_or_default().display(),
            setup.gateways,
            setup.endpoints,
            setup.cache_blocks,
            policies::BLOCK_SIZE
        );
    }
    let bar = ProgressBar::with_draw_target(
        Some(requests.len() as u64),
        if args.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() },
    );
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} requests, {eta} left")?);
    let (policies, explained) = policies::run(&requests, &setup, || bar.inc(1))?;
    bar.finish_and_clear();

    if args.json {
        println!("{}", serde_json::to_string(&report::Report { captures, policies })?);
    } else {
        println!();
        report::print_policies(&policies);
        println!("{explained}");
    }
    Ok(())
}
