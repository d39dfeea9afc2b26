//! An llm-d configuration in, decisions and receipts out.
//!
//! `cargo run --example migrate` reads a configuration that this file holds,
//! `cargo run --example migrate -- epp-config.yaml` one of yours.
// Programs read files and arguments, and print; the library does not.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use kvsched::{EndpointId, Labels, Load, PrefixMatches, Receipt, Request, Rng, Tier};
use kvsched_scorers::config::{Config, Registry};
use kvsched_scorers::{DecideInput, Scratch};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Loads an EndpointPickerConfig as it is and shows what it decides for a small fleet
#[derive(Debug, Parser)]
struct Args {
    /// The configuration, YAML or JSON
    config: Option<PathBuf>,
    /// The seed that breaks ties
    #[arg(long, default_value = "1")]
    seed: u64,
}

/// Weights as in llm-d's guide for exact prefix caching.
const GUIDE: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
  - type: token-producer
  - type: precise-prefix-cache-producer
  - type: single-profile-handler
  - type: decode-filter
  - type: prefix-cache-scorer
    parameters:
      prefixMatchInfoProducerName: precise-prefix-cache-producer
  - type: kv-cache-utilization-scorer
  - type: queue-scorer
  - type: no-hit-lru-scorer
  - type: max-score-picker
schedulingProfiles:
  - name: default
    plugins:
      - pluginRef: decode-filter
      - pluginRef: prefix-cache-scorer
        weight: 3
      - pluginRef: kv-cache-utilization-scorer
        weight: 2
      - pluginRef: queue-scorer
        weight: 2
      - pluginRef: no-hit-lru-scorer
        weight: 2
      - pluginRef: max-score-picker
";

/// YAML readers take time quadratic in nesting.
const MOST_BYTES: usize = 64 << 10;

const PODS: [&str; 5] = ["decode-0", "decode-1", "decode-2", "prefill-0", "encode-0"];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let text = match &args.config {
        Some(path) => std::fs::read_to_string(path)?,
        None => GUIDE.to_owned(),
    };
    if text.len() > MOST_BYTES {
        return Err(format!("a configuration of {} bytes; at most {MOST_BYTES}", text.len()).into());
    }
    let config: Config = serde_yaml_ng::from_str(&text)?;
    let registry = Registry::new();
    let profiles = config.profiles(&registry)?;
    let pair = config.pair(&registry)?;
    let elsewhere: Vec<_> = config.elsewhere().collect();
    println!("left to the gateway around: {}\n", elsewhere.join(", "));

    let candidates: Vec<_> = (0..PODS.len() as u16).map(EndpointId).collect();
    let role = |pod: &&str| {
        Labels::from_iter([("llm-d.ai/role", pod.split_once('-').map_or("", |p| p.0))])
    };
    let labels: Vec<_> = PODS.iter().map(role).collect();
    let loads = [(0, 0.62), (3, 0.80), (0, 0.35), (0, 0.10), (0, 0.0)]
        .map(|(waiting_requests, kv_usage)| Load { waiting_requests, kv_usage, ..Load::default() });

    let pod = |e: EndpointId| PODS[e.index()];
    let (mut rng, mut scratch, mut second) = (Rng::new(args.seed), Scratch::new(), Scratch::new());
    for (what, held) in [
        ("a prompt that decode-0 mostly holds", [400, 90, 0, 0, 0]),
        ("a prompt that busy decode-1 holds, half of it on its host", [0, 440, 90, 0, 0]),
        ("a prompt that nobody has seen", [0, 0, 0, 0, 0]),
    ] {
        let mut matches = PrefixMatches::new();
        matches.reset(PODS.len(), 450);
        candidates.iter().zip(held).for_each(|(&pod, blocks)| matches.set(pod, blocks));
        if held[1] > 200 {
            matches.push_slow(EndpointId(1), Tier::HOST, 220);
        }
        let input = DecideInput {
            request: Request { prompt_tokens: 7200, block_size: 16, ..Request::default() },
            loads: &loads,
            matches: &matches,
            labels: &labels,
            ..DecideInput::new(&candidates)
        };
        for (name, profile) in &profiles {
            println!("{what}, profile `{name}`:");
            if let Err(nobody) = profile.decide(input, &mut rng, &mut scratch) {
                println!("{nobody}\n");
                continue;
            }
            let receipt = Receipt::of(profile, &scratch).ok_or("nothing was decided")?;
            println!("{}", receipt.explain(|e| pod(e).to_owned()));
        }
        match pair.as_ref().map(|pair| pair.decide(input, &mut rng, &mut scratch, &mut second)) {
            None => {}
            Some(Err(nobody)) => println!("{what}, all stages: {nobody}\n"),
            Some(Ok((decode, prefill))) => println!(
                "{what}, all stages: {} computes it, {} answers\n",
                pod(prefill.map_or(decode.endpoint, |p| p.endpoint)),
                pod(decode.endpoint)
            ),
        }
    }
    Ok(())
}
