//! Which policy a run is routed by.

use kvsched_core::Tier;
use kvsched_scorers::cost::{Cost, Split};
use kvsched_scorers::preset::UnknownPreset;
use kvsched_scorers::scorer::TierPrice;
use kvsched_scorers::{Profile, ProfileBuilder, picker, preset, scorer};

/// Where a router's knowledge of caches comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// From the engines' events.
    Events,
    /// From its own decisions.
    History {
        /// Tokens a block of its own.
        block_tokens: u32,
        /// Blocks of a prompt that it looks at.
        prompt_blocks: u32,
        /// Blocks that it remembers an endpoint.
        capacity: u32,
    },
}

/// A policy by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The name.
    pub name: String,
    /// Where its knowledge comes from.
    pub knowledge: Knowledge,
    /// Whether it reads waiting, running and KV use as the late metrics say and caches as events
    /// say, without regard to what it sent since. So did the policies that were published with
    /// figures of 2025.
    pub raw_metrics: bool,
}

/// The tier behind the device in `cascade`: a store behind a narrow path, from which
/// a prefix of 6,500 tokens takes 1.7 s where computing it takes 0.4 s.
pub const SLOW_TIER: TierPrice = TierPrice { t0: 0.013, bytes_per_sec: 1e9 };

/// The four policies of the published benchmark.
pub const PUBLISHED: [&str; 4] = ["precise", "approximate", "load-aware", "random"];

impl Policy {
    /// One of [`PUBLISHED`], `tier-blind`, `tier-aware`, or a preset of kvsched-scorers.
    ///
    /// # Errors
    ///
    /// An unknown name; the error tells the nearest preset.
    pub fn by_name(name: &str) -> Result<Self, UnknownPreset> {
        let policy = Self {
            name: name.to_owned(),
            knowledge: match name {
                // 64 characters are about 16 tokens; 256 such blocks a prompt, 31,250 an endpoint.
                "approximate" => {
                    Knowledge::History { block_tokens: 16, prompt_blocks: 256, capacity: 31_250 }
                }
                _ => Knowledge::Events,
            },
            raw_metrics: PUBLISHED.contains(&name),
        };
        policy.profile()?;
        Ok(policy)
    }

    /// Its way to choose who prefills and who decodes at once, if it has one.
    pub fn split(&self) -> Option<Split> {
        (self.name == "cost").then(|| Split::new(Cost::new()))
    }

    /// Its profile, from the library.
    ///
    /// # Errors
    ///
    /// An unknown name.
    pub fn profile(&self) -> Result<Profile, UnknownPreset> {
        let name = match self.name.as_str() {
            "precise" => "llm-d",
            "load-aware" => "llm-d-load",
            "approximate" => return built(approximate(), "llm-d"),
            "tier-blind" => return built(tier_blind(), "llm-d"),
            "tier-aware" => return built(tier_aware(), "llm-d"),
            preset => preset,
        };
        preset::by_name(name)
    }
}

fn built(profile: ProfileBuilder, nearest: &'static str) -> Result<Profile, UnknownPreset> {
    // The weights are constants; what the library then says of them would be its bug.
    profile.build().or_else(|_| preset::by_name(nearest))
}

fn approximate() -> ProfileBuilder {
    Profile::builder()
        .scorer(Box::new(scorer::PrefixCache::new()), 1.0)
        .scorer(Box::new(scorer::Queue), 1.0)
        .scorer(Box::new(scorer::KvCacheUtilization), 1.0)
        .picker(Box::new(picker::MaxScore))
}

/// Precise prefix routing to which a block is a block, wherever it lies.
fn tier_blind() -> ProfileBuilder {
    let all_equal = [Tier::HOST, Tier::DISK, Tier::SHARED]
        .into_iter()
        .try_fold(scorer::PrecisePrefixCache::new(), |scorer, tier| scorer.weight(tier, 1.0));
    Profile::builder()
        .scorer(Box::new(all_equal.unwrap_or_default()), 3.0)
        .scorer(Box::new(scorer::Queue), 2.0)
        .scorer(Box::new(scorer::KvCacheUtilization), 2.0)
        .picker(Box::new(picker::MaxScore))
}

/// The same with the seconds that loading and computing take in place of the count of blocks.
fn tier_aware() -> ProfileBuilder {
    // Qwen3-32B: 256 KiB of KV and 1/15,928 s of prefill a token.
    let cost = scorer::TierCost::new(262_144.0, 1.0 / 15_928.0)
        .and_then(|cost| cost.tier(Tier::HOST, SLOW_TIER));
    let builder = match cost {
        Ok(cost) => Profile::builder().scorer(Box::new(cost), 3.0),
        Err(_) => Profile::builder(),
    };
    builder
        .scorer(Box::new(scorer::Queue), 2.0)
        .scorer(Box::new(scorer::KvCacheUtilization), 2.0)
        .picker(Box::new(picker::MaxScore))
}
