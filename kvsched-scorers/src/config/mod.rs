//! Profiles as data: an `EndpointPickerConfig` of llm-d's router or the Gateway API Inference
//! Extension, in YAML, JSON or anything else that serde reads.
//!
//! Plugin types, parameters and weights are llm-d's. What a configuration says about other
//! parts of a router (data sources, flow control, …) is accepted and listed by
//! [`Config::elsewhere`]; a name or parameter that nobody knows is an error that tells the
//! nearest one that is known.
//!
//! Work and memory are linear in what the reader hands over, and messages stay short. Readers differ:
//! some YAML readers take time quadratic in nesting, so bound a text from strangers before reading it.
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

mod elsewhere;
mod error;
mod handler;
mod known;
mod parameters;
mod registry;
mod value;

pub use error::ConfigError;
pub use parameters::Parameters;
pub use registry::Registry;
pub use value::Value;

use crate::nearest::{nearest, shown};
use crate::{Profile, ProfileBuilder, picker};
use elsewhere::is_other_part;
use registry::Plugin;
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};

/// An `EndpointPickerConfig`, read but not yet understood: see [`Config::profiles`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    plugins: Vec<PluginSpec>,
    #[serde(default, deserialize_with = "or_nothing")]
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
    #[serde(default, deserialize_with = "or_nothing")]
    plugins: Vec<Reference>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reference {
    plugin_ref: String,
    #[serde(default)]
    weight: Option<f64>,
}

/// A list, of which YAML may hold only the key.
fn or_nothing<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// Sections of a configuration that belong to other parts of a router; the data layer's was called
/// `data` in the Inference Extension 1.3 and 1.4.
const SECTIONS: [&str; 8] = [
    "apiVersion",
    "data",
    "featureGates",
    "dataLayer",
    "flowControl",
    "requestHandler",
    "saturationDetector",
    "parser",
];

impl PluginSpec {
    fn name(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.kind)
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
        let plugins = self.declared(registry)?;
        if self.scheduling_profiles.is_empty() {
            let ours = self.plugins.iter().filter(|spec| registry.knows(&spec.kind));
            let all = ours.map(|s| Reference { plugin_ref: s.name().to_owned(), weight: None });
            let all = ProfileSpec { name: "default".to_owned(), plugins: all.collect() };
            return Ok(vec![(all.name.clone(), profile(&all, &plugins, registry)?)]);
        }
        let mut names = BTreeSet::new();
        let build = |spec: &ProfileSpec| {
            if !names.insert(spec.name.clone()) {
                return Err(ConfigError::DuplicateProfile { name: shown(&spec.name) });
            }
            Ok((spec.name.clone(), profile(spec, &plugins, registry)?))
        };
        self.scheduling_profiles.iter().map(build).collect()
    }

    /// The names of its plugins that are not about choosing an endpoint, such as metric
    /// sources and profile handlers: the router around has to provide them.
    pub fn elsewhere(&self) -> impl Iterator<Item = &str> {
        let theirs = self.plugins.iter().filter(|spec| is_other_part(&spec.kind));
        theirs.map(PluginSpec::name)
    }

    fn check_sections(&self) -> Result<(), ConfigError> {
        const KIND: &str = "EndpointPickerConfig";
        if let Some(kind) = self.kind.as_ref().filter(|kind| *kind != KIND) {
            return Err(ConfigError::Kind { found: shown(kind) });
        }
        match self.rest.keys().find(|key| !SECTIONS.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let known = SECTIONS.into_iter().chain(["kind", "plugins", "schedulingProfiles"]);
                Err(ConfigError::UnknownSection {
                    section: shown(key),
                    nearest: nearest(key, known).unwrap_or_default().to_owned(),
                })
            }
        }
    }

    /// Its plugins by name, each tried once, whether or not a profile uses it.
    fn declared(&self, registry: &Registry) -> Result<Declared<'_>, ConfigError> {
        let mut declared = Declared::new();
        for spec in &self.plugins {
            if declared.insert(spec.name(), spec).is_some() {
                return Err(ConfigError::DuplicateName { name: shown(spec.name()) });
            }
            if !is_other_part(&spec.kind) {
                registry.make(&spec.kind, &spec.parameters)?;
            }
        }
        Ok(declared)
    }
}

type Declared<'a> = BTreeMap<&'a str, &'a PluginSpec>;

fn profile(
    spec: &ProfileSpec,
    plugins: &Declared<'_>,
    registry: &Registry,
) -> Result<Profile, ConfigError> {
    let mut builder = Profile::builder();
    let mut picker = None;
    for Reference { plugin_ref, weight } in &spec.plugins {
        let in_profile = || (shown(&spec.name), shown(plugin_ref));
        let Some(plugin) = plugins.get(plugin_ref.as_str()) else {
            let (profile, name) = in_profile();
            let nearest = nearest(plugin_ref, plugins.keys().copied()).unwrap_or_default();
            return Err(ConfigError::UnknownReference {
                profile,
                name,
                nearest: nearest.to_owned(),
            });
        };
        if is_other_part(&plugin.kind) {
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
            Plugin::Both(filters, scorer) => {
                let builder = filters.into_iter().fold(builder, ProfileBuilder::filter);
                builder.scorer(scorer, weight.unwrap_or(1.0))
            }
            Plugin::Picker(made) => {
                if picker.replace(made).is_some() {
                    return Err(ConfigError::TwoPickers { profile: shown(&spec.name) });
                }
                builder
            }
        };
    }
    let builder = builder.picker(picker.unwrap_or_else(|| Box::new(picker::MaxScore)));
    builder.build().map_err(|source| ConfigError::Profile { profile: shown(&spec.name), source })
}
