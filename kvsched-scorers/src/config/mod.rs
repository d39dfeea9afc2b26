//! Profiles as data: an `EndpointPickerConfig` of llm-d's router or the Gateway API Inference
//! Extension, in YAML, JSON or anything else that serde reads.
//!
//! Plugin types, parameters and weights are llm-d's. What a configuration says about other
//! parts of a router (data sources, flow control, …) is accepted and listed by
//! [`Config::elsewhere`]; a name or parameter that nobody knows is an error that tells the
//! nearest one that is known.
//!
//! ```
//! use kvsched_scorers::config::{Config, Registry};
//!
//! let config: Config = serde_json::from_str(r#"{
//!     "kind": "EndpointPickerConfig",
//!     "plugins": [
//!         {"type": "prefix-cache-scorer"},
//!         {"type": "queue-scorer", "name": "short-queue"}
//!     ],
//!     "schedulingProfiles": [{
//!         "name": "default",
//!         "plugins": [
//!             {"pluginRef": "prefix-cache-scorer", "weight": 3},
//!             {"pluginRef": "short-queue", "weight": 2}
//!         ]
//!     }]
//! }"#)?;
//! let profiles = config.profiles(&Registry::new())?;
//! assert_eq!(profiles[0].0, "default");
//! assert_eq!(profiles[0].1.scorers().len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod known;
mod parameters;
mod registry;
mod value;

pub use error::ConfigError;
pub use parameters::Parameters;
pub use registry::Registry;
pub use value::Value;

use crate::nearest::nearest;
use crate::{Profile, picker};
use registry::Plugin;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An `EndpointPickerConfig`, read but not yet understood: see [`Config::profiles`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    plugins: Vec<PluginSpec>,
    #[serde(default)]
    scheduling_profiles: Vec<ProfileSpec>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    parameters: Value,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileSpec {
    name: String,
    #[serde(default)]
    plugins: Vec<Reference>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reference {
    plugin_ref: String,
    #[serde(default)]
    weight: Option<f64>,
}

/// Sections of a configuration that belong to other parts of a router.
const SECTIONS: [&str; 7] = [
    "apiVersion",
    "featureGates",
    "dataLayer",
    "flowControl",
    "requestHandler",
    "saturationDetector",
    "parser",
];

impl PluginSpec {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }
}

impl Config {
    /// Builds every profile, with its name, from the plugins that `registry` knows.
    ///
    /// As in llm-d, a plugin without a name goes by its type, a scorer without a weight has 1, a
    /// profile without a picker takes the highest score, and a configuration without profiles has
    /// one, `default`, of all its plugins.
    ///
    /// # Errors
    ///
    /// The first thing that is unknown, contradictory or out of range.
    pub fn profiles(&self, registry: &Registry) -> Result<Vec<(String, Profile)>, ConfigError> {
        self.check_sections()?;
        self.check_plugins(registry)?;
        if self.scheduling_profiles.is_empty() {
            let ours = self.plugins.iter().filter(|spec| registry.knows(&spec.kind));
            let all = ours.map(|s| Reference { plugin_ref: s.name().to_owned(), weight: None });
            let all = ProfileSpec { name: "default".to_owned(), plugins: all.collect() };
            return Ok(vec![(all.name.clone(), self.profile(&all, registry)?)]);
        }
        let build = |spec: &ProfileSpec| Ok((spec.name.clone(), self.profile(spec, registry)?));
        self.scheduling_profiles.iter().map(build).collect()
    }

    /// The names of its plugins that are not about choosing an endpoint, such as metric
    /// sources and profile handlers: the router around has to provide them.
    pub fn elsewhere(&self) -> impl Iterator<Item = &str> {
        let elsewhere = |spec: &&PluginSpec| known::ELSEWHERE.contains(&spec.kind.as_str());
        self.plugins.iter().filter(elsewhere).map(PluginSpec::name)
    }

    fn check_sections(&self) -> Result<(), ConfigError> {
        const KIND: &str = "EndpointPickerConfig";
        if let Some(kind) = self.kind.as_ref().filter(|kind| *kind != KIND) {
            return Err(ConfigError::Kind { found: kind.clone() });
        }
        match self.rest.keys().find(|key| !SECTIONS.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let known = SECTIONS.into_iter().chain(["kind", "plugins", "schedulingProfiles"]);
                Err(ConfigError::UnknownSection {
                    section: key.clone(),
                    nearest: nearest(key, known).unwrap_or_default().to_owned(),
                })
            }
        }
    }

    /// Tries every plugin once, whether or not a profile uses it.
    fn check_plugins(&self, registry: &Registry) -> Result<(), ConfigError> {
        for (i, spec) in self.plugins.iter().enumerate() {
            if self.plugins[..i].iter().any(|other| other.name() == spec.name()) {
                return Err(ConfigError::DuplicateName { name: spec.name().to_owned() });
            }
            if !known::ELSEWHERE.contains(&spec.kind.as_str()) {
                registry.make(&spec.kind, &spec.parameters)?;
            }
        }
        Ok(())
    }

    fn profile(&self, spec: &ProfileSpec, registry: &Registry) -> Result<Profile, ConfigError> {
        let mut builder = Profile::builder();
        let mut picker = None;
        for Reference { plugin_ref, weight } in &spec.plugins {
            let in_profile = || (spec.name.clone(), plugin_ref.clone());
            let Some(plugin) = self.plugins.iter().find(|p| p.name() == plugin_ref) else {
                let (profile, name) = in_profile();
                let names = self.plugins.iter().map(PluginSpec::name);
                let nearest = nearest(plugin_ref, names).unwrap_or_default().to_owned();
                return Err(ConfigError::UnknownReference { profile, name, nearest });
            };
            if known::ELSEWHERE.contains(&plugin.kind.as_str()) {
                // llm-d's own samples name parsers and reporters here.
                if weight.is_some() {
                    let (profile, name) = in_profile();
                    return Err(ConfigError::WeightWithoutScorer { profile, name });
                }
                continue;
            }
            let made = registry.make(&plugin.kind, &plugin.parameters)?;
            if weight.is_some() && !matches!(made, Plugin::Scorer(_) | Plugin::Both(..)) {
                let (profile, name) = in_profile();
                return Err(ConfigError::WeightWithoutScorer { profile, name });
            }
            builder = match made {
                Plugin::Filter(filter) => builder.filter(filter),
                Plugin::Scorer(scorer) => builder.scorer(scorer, weight.unwrap_or(1.0)),
                Plugin::Both(filter, scorer) => {
                    builder.filter(filter).scorer(scorer, weight.unwrap_or(1.0))
                }
                Plugin::Picker(made) => {
                    if picker.replace(made).is_some() {
                        return Err(ConfigError::TwoPickers { profile: spec.name.clone() });
                    }
                    builder
                }
            };
        }
        let builder = builder.picker(picker.unwrap_or_else(|| Box::new(picker::MaxScore)));
        builder
            .build()
            .map_err(|source| ConfigError::Profile { profile: spec.name.clone(), source })
    }
}
