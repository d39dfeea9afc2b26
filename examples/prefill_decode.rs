//! Prefill and decode, together or apart: a threshold against one minimisation.
//!
//! Two endpoints that only prefill, four that only decode, two that do both. The threshold of
//! llm-d's configurations looks at the prompt alone; the minimisation also at who is busy and at
//! what the transfer takes.
//!
//! `cargo run --example prefill_decode`
// Programs print; the library does not.
#![allow(clippy::print_stdout)]

use kvsched::{EndpointId, Labels, Load, PrefixMatches, Profile, Request, Rng};
use kvsched::{filter::Label, picker, scorer};
use kvsched_scorers::cost::{Cost, Split};
use kvsched_scorers::{DecideInput, Pair, Scratch};
use std::error::Error;

const ROLES: [&str; 8] =
    ["prefill", "prefill", "decode", "decode", "decode", "decode", "both", "both"];

fn profile(role: Label) -> Result<Profile, Box<dyn Error>> {
    Ok(Profile::builder()
        .filter(Box::new(role))
        .scorer(Box::new(scorer::PrefixCache::new()), 2.0)
        .scorer(Box::new(scorer::LeastRequest), 1.0)
        .picker(Box::new(picker::MaxScore))
        .build()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let threshold = Pair::new(profile(Label::prefill())?, profile(Label::decode())?, 512);
    let split = Split::new(Cost::new());
    let candidates: Vec<_> = (0..ROLES.len() as u16).map(EndpointId).collect();
    let labels = ROLES.map(|role| Labels::from_iter([(Label::ROLE, role)]));
    let (mut rng, mut first, mut second) = (Rng::new(1), Scratch::new(), Scratch::new());

    println!(
        "Endpoints 0 and 1 only prefill, 2 to 5 only decode, 6 and 7 do both. `1 → 3`: 1 computes\n\
         the prompt and 3 answers. Costs are those of the minimisation's choice, and of the best\n\
         placement of the other kind. Endpoint 6 holds `cached` tokens of the prompt; all that decode\n\
         run `running` requests.\n"
    );
    println!(
        "{:>7} {:>7} {:>8}  {:<14} {:<14} {:>9} {:>9} {:>9}",
        "prompt", "cached", "running", "threshold", "minimisation", "cost", "otherwise", "transfer"
    );
    let mut disagreements = 0;
    for (prompt, cached_blocks) in [(200, 0), (2_000, 0), (12_000, 0), (12_000, 700), (60_000, 0)] {
        for running in [0, 8, 64] {
            let mut matches = PrefixMatches::new();
            matches.reset(ROLES.len(), prompt / 16);
            matches.set(EndpointId(6), cached_blocks);
            let load = |role: &str| Load {
                running_requests: if role == "prefill" { 0 } else { running },
                kv_usage: f64::from(running) / 128.0,
                kv_capacity_tokens: 1_000_000,
                ..Load::default()
            };
            let loads = ROLES.map(load);
            let request = Request { prompt_tokens: prompt, block_size: 16, ..Request::default() };
            let input = DecideInput {
                request,
                loads: &loads,
                matches: &matches,
                labels: &labels,
                ..DecideInput::new(&candidates)
            };
            let (decode, prefill) = threshold.decide(input, &mut rng, &mut first, &mut second)?;
            let placed = split.place(&input, &mut rng, &mut first)?;
            let show = |p: EndpointId, d: EndpointId| {
                if p == d { format!("{} both", p.0) } else { format!("{} → {}", p.0, d.0) }
            };
            let by_threshold = prefill.map_or(decode.endpoint, |p| p.endpoint);
            println!(
                "{prompt:>7} {:>7} {running:>8}  {:<14} {:<14} {:>7.2} s {:>7.2} s {:>7.3} s",
                cached_blocks * 16,
                show(by_threshold, decode.endpoint),
                show(placed.prefill, placed.decode),
                placed.secs,
                placed.otherwise_secs.unwrap_or(f64::NAN),
                placed.transfer_secs,
            );
            disagreements += u32::from(placed.is_split() != prefill.is_some());
        }
    }
    println!("\n{disagreements} of 15 requests are split by one and not by the other.");
    Ok(())
}
