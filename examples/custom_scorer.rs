//! A scorer of one's own: thirty lines, in code and by name in a configuration.
//!
//! `cargo run --example custom_scorer`
// Programs print; the library does not.
#![allow(clippy::print_stdout)]

use kvsched::{Context, EndpointId, Labels, Load, Needs, PrefixMatches, Request, Rng, Scorer};
use kvsched::{Profile, Receipt, picker, scorer};
use kvsched_scorers::config::{Config, Registry};
use kvsched_scorers::{DecideInput, Scratch};
use std::error::Error;

/// Prefers endpoints that run on clean power, by a label.
#[derive(Debug)]
struct CleanPower {
    /// The score of an endpoint whose power nobody knows.
    unknown: f64,
}

impl Scorer for CleanPower {
    fn name(&self) -> &str {
        "clean-power-scorer"
    }

    fn needs(&self) -> Needs {
        Needs::NONE // neither matches nor loads: for this scorer alone nothing is computed
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            *score = match cx.label(candidate.endpoint, "power") {
                Some("solar" | "wind") => 1.0,
                Some(_) => 0.0,
                None => self.unknown,
            };
        }
    }
}

const CONFIG: &str = r#"{
    "kind": "EndpointPickerConfig",
    "plugins": [
        {"type": "prefix-cache-scorer"},
        {"type": "queue-scorer"},
        {"type": "clean-power-scorer", "parameters": {"unknown": 0.25}}
    ],
    "schedulingProfiles": [{
        "name": "default",
        "plugins": [
            {"pluginRef": "prefix-cache-scorer", "weight": 3},
            {"pluginRef": "queue-scorer", "weight": 2},
            {"pluginRef": "clean-power-scorer", "weight": 2}
        ]
    }]
}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let in_code = Profile::builder()
        .scorer(Box::new(scorer::PrefixCache::new()), 3.0)
        .scorer(Box::new(scorer::Queue), 2.0)
        .scorer(Box::new(CleanPower { unknown: 0.25 }), 2.0)
        .picker(Box::new(picker::MaxScore))
        .build()?;

    let registry = Registry::new().scorer("clean-power-scorer", |parameters| {
        let unknown = parameters.number("unknown")?.unwrap_or(0.5);
        Ok(Box::new(CleanPower { unknown }))
    });
    let config: Config = serde_json::from_str(CONFIG)?;
    let (_, configured) = config.profiles(&registry)?.remove(0);

    // Three endpoints: one holds half of the prompt, one runs on wind, of one nothing is known.
    let mut matches = PrefixMatches::new();
    matches.reset(3, 10);
    matches.set(EndpointId(0), 5);
    let power = |source: &str| Labels::from_iter([("power", source)]);
    let input = DecideInput {
        request: Request { prompt_tokens: 160, block_size: 16, ..Request::default() },
        loads: &[Load::default(), Load::default(), Load::default()],
        matches: &matches,
        labels: &[power("coal"), power("wind"), Labels::new()],
        ..DecideInput::new(&[EndpointId(0), EndpointId(1), EndpointId(2)])
    };

    let mut scratch = Scratch::new();
    for (how, profile) in [("in code", in_code), ("from a configuration", configured)] {
        let decision = profile.decide(input, &mut Rng::new(1), &mut scratch)?;
        let receipt = Receipt::of(&profile, &scratch).ok_or("nothing was decided")?;
        let names = ["coal-1", "wind-1", "unknown-1"];
        println!("{how}:\n{}", receipt.explain(|e| names[e.index()].to_owned()));
        // Clean power outweighs half a prefix: 2 · 1.0 > 3 · 0.5.
        assert_eq!(decision.endpoint, EndpointId(1));
    }
    Ok(())
}
