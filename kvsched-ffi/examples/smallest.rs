//! What the smallest decision costs in Rust, between one endpoint and no other, for a prompt of no tokens: what the
//! border costs C and Go is measured against it (`go/bench`).
//!
//! `cargo run --release -p kvsched-ffi --example smallest`
// It looks at the clock and prints, which the library does not.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use kvsched::{
    Algorithm, BlockHasher, Load, Prompt, RouteInput, RouteScratch, Router, Scheme, Time,
};
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;
const CALLS: u32 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scheme = Scheme::vllm("0.33.0".parse()?, Algorithm::Sha256, None)?;
    let router = Router::builder(BlockHasher::builder(scheme).block_size(16).build()?).build()?;
    let endpoints = [router.add_endpoint("a")?];
    let mut scratch = RouteScratch::new(1);
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for now in 0..CALLS {
            let loads = [Load::default()];
            let input = RouteInput {
                loads: &loads,
                now: Time(now.into()),
                ..RouteInput::new(Prompt::new(&[]), &endpoints)
            };
            std::hint::black_box(router.route(&input, &mut scratch)?);
        }
        best = best.min(start.elapsed() / CALLS);
    }
    println!("kvsched, smallest decision, from Rust: {best:?}");
    Ok(())
}
