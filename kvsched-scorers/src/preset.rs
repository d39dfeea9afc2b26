//! Other routers' policies, by name, for migration and for honest comparison.
//!
//! ```
//! use kvsched_scorers::preset;
//! let profile = preset::by_name("llm-d-affinity")?;
//! assert_eq!(profile.filters().len(), 1);
//! let error = preset::by_name("llmd-afinity").unwrap_err();
//! assert_eq!(error.nearest, "llm-d-affinity");
//! # Ok::<(), preset::UnknownPreset>(())
//! ```

use crate::nearest::nearest;
use crate::{Profile, ProfileBuilder, filter, picker, scorer};
use kvsched_core::{Picker, Scorer};

/// The names that [`by_name`] knows, with what they are.
///
/// | name | rule |
/// |---|---|
/// | `cost` | the fewest seconds of delay for everybody: [`cost`](crate::cost) |
/// | `llm-d` | precise prefix 3 + queue 2 + KV utilization 2, highest score |
/// | `llm-d-guide` | the same with no-hit LRU 2, llm-d's guide of 2026 |
/// | `llm-d-affinity` | prefix-cache affinity filter, then token load |
/// | `llm-d-load` | queue 1 + KV utilization 1 |
/// | `dynamo` | Dynamo's cost, the lowest |
/// | `dynamo-agentic` | the same with credit 2, scale 4, decay 64 |
/// | `smg-cache-aware` | SGLang's cache-aware rule on exact matches |
/// | `smg-least-load` | SGLang's least load in seconds |
/// | `aibrix` | AIBrix's prefix-cache rule |
/// | `preble` | Preble's E2 |
/// | `production-stack` | vLLM production-stack's load-aware rule |
/// | `ray` | Ray Serve LLM's prefix affinity |
/// | `lmetric` | LMetric's product |
/// | `least-request` | the smallest `4 · waiting + running` |
/// | `power-of-two` | the better of two drawn, by the same |
/// | `round-robin` | in turn |
/// | `random` | by lot |
pub const NAMES: [&str; 18] = [
    "cost",
    "llm-d",
    "llm-d-guide",
    "llm-d-affinity",
    "llm-d-load",
    "dynamo",
    "dynamo-agentic",
    "smg-cache-aware",
    "smg-least-load",
    "aibrix",
    "preble",
    "production-stack",
    "ray",
    "lmetric",
    "least-request",
    "power-of-two",
    "round-robin",
    "random",
];

/// There is no preset of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no preset is called `{name}`; did you mean `{nearest}`?")]
#[non_exhaustive]
pub struct UnknownPreset {
    /// What was asked for.
    pub name: String,
    /// The preset whose name is closest.
    pub nearest: &'static str,
}

/// The preset called `name`; see [`NAMES`].
///
/// # Errors
///
/// An unknown name; the error tells the nearest known one.
pub fn by_name(name: &str) -> Result<Profile, UnknownPreset> {
    let unknown = || UnknownPreset {
        name: name.to_owned(),
        nearest: nearest(name, NAMES).unwrap_or_default(),
    };
    let builder = builder(name).ok_or_else(unknown)?;
    // Weights and pickers of presets are constants, so that nothing can be wrong with them.
    builder.build().map_err(|_| unknown())
}

fn builder(name: &str) -> Option<ProfileBuilder> {
    Some(match name {
        "cost" => best(scorer::Cost::new()),
        "llm-d" => llm_d(),
        "llm-d-guide" => llm_d().scorer(Box::new(scorer::NoHitLru), 2.0),
        "llm-d-affinity" => {
            best(scorer::TokenLoad::new()).filter(Box::new(filter::PrefixCacheAffinity::new()))
        }
        "llm-d-load" => best(scorer::Queue).scorer(Box::new(scorer::KvCacheUtilization), 1.0),
        "dynamo" => best(scorer::Dynamo::new()),
        "dynamo-agentic" => best(scorer::Dynamo::with(2.0, 4.0, 64.0).ok()?),
        "smg-cache-aware" => best(scorer::SmgCacheAware::new()),
        "smg-least-load" => best(scorer::SmgLeastLoad),
        "aibrix" => best(scorer::Aibrix::new()),
        "preble" => best(scorer::Preble::new()),
        "production-stack" => best(scorer::ProductionStack),
        "ray" => {
            by(scorer::LeastRequest, picker::PowerOfTwo).filter(Box::new(filter::RayPrefix::new()))
        }
        "lmetric" => best(scorer::Lmetric),
        "least-request" => best(scorer::LeastRequest),
        "power-of-two" => by(scorer::LeastRequest, picker::PowerOfTwo),
        "round-robin" => Profile::builder().picker(Box::new(picker::RoundRobin::new())),
        "random" => Profile::builder().picker(Box::new(picker::Random)),
        _ => return None,
    })
}

fn llm_d() -> ProfileBuilder {
    Profile::builder()
        .scorer(Box::new(scorer::PrecisePrefixCache::new()), 3.0)
        .scorer(Box::new(scorer::Queue), 2.0)
        .scorer(Box::new(scorer::KvCacheUtilization), 2.0)
        .picker(Box::new(picker::MaxScore))
}

fn by(scorer: impl Scorer + 'static, picker: impl Picker + 'static) -> ProfileBuilder {
    Profile::builder().scorer(Box::new(scorer), 1.0).picker(Box::new(picker))
}

fn best(scorer: impl Scorer + 'static) -> ProfileBuilder {
    by(scorer, picker::MaxScore)
}

#[cfg(test)]
mod tests {
    use super::{NAMES, by_name};

    #[test]
    fn every_name_is_known_and_only_those() {
        for name in NAMES {
            assert!(by_name(name).is_ok(), "{name}");
        }
        let error = by_name("smg-cacheaware").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no preset is called `smg-cacheaware`; did you mean `smg-cache-aware`?"
        );
    }
}
