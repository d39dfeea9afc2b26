use crate::{ParameterError, ProfileError};

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is a configuration of something else.
    #[error("the configuration's kind is `{found}`, it must be `EndpointPickerConfig`")]
    Kind {
        /// Its kind.
        found: String,
    },
    /// A top-level key nobody knows.
    #[error("unknown section `{section}`; did you mean `{nearest}`?")]
    UnknownSection {
        /// The key.
        section: String,
        /// The known key closest to it.
        nearest: String,
    },
    /// A plugin type nobody knows.
    #[error("unknown plugin type `{kind}`; did you mean `{nearest}`?")]
    UnknownType {
        /// The type.
        kind: String,
        /// The known type closest to it.
        nearest: String,
    },
    /// A plugin type of llm-d or the Inference Extension that does not exist here.
    #[error("plugin type `{kind}` does not exist here; take {instead}")]
    NotHere {
        /// The type.
        kind: String,
        /// What does its work here.
        instead: &'static str,
    },
    /// A parameter the plugin does not have.
    #[error("`{plugin}` has no parameter `{parameter}`{}", did_you_mean(.nearest))]
    UnknownParameter {
        /// The plugin's type.
        plugin: String,
        /// The parameter.
        parameter: String,
        /// The plugin's parameter closest to it, empty if it has none.
        nearest: String,
    },
    /// A parameter of the wrong type.
    #[error("`{plugin}`: {parameter} must be {must}, it is {found}")]
    WrongType {
        /// The plugin's type.
        plugin: String,
        /// The parameter.
        parameter: String,
        /// What it must be.
        must: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A word that is none of the possible ones.
    #[error("`{plugin}`: {parameter} is `{word}`; did you mean `{nearest}`?")]
    UnknownWord {
        /// The plugin's type.
        plugin: String,
        /// The parameter.
        parameter: String,
        /// The word.
        word: String,
        /// The possible one closest to it.
        nearest: String,
    },
    /// A parameter that must be given.
    #[error("`{plugin}` needs the parameter `{parameter}`")]
    MissingParameter {
        /// The plugin's type.
        plugin: String,
        /// The parameter.
        parameter: String,
    },
    /// A parameter out of range.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// Two plugins of one name.
    #[error("two plugins are called `{name}`")]
    DuplicateName {
        /// Their name.
        name: String,
    },
    /// Two profiles of one name.
    #[error("two profiles are called `{name}`")]
    DuplicateProfile {
        /// Their name.
        name: String,
    },
    /// A profile handler refers to a plugin that is not declared, or is no decider.
    #[error("`{handler}` is to ask `{name}`, which is no declared decider{}", did_you_mean(.nearest))]
    UnknownDecider {
        /// The handler's type.
        handler: String,
        /// The reference.
        name: String,
        /// The declared decider closest to it, empty if there is none.
        nearest: String,
    },
    /// A profile handler without the profile that decides who answers.
    #[error("`{handler}` needs the profile `{profile}`{}", did_you_mean(.nearest))]
    MissingProfile {
        /// The handler's type.
        handler: String,
        /// The profile.
        profile: String,
        /// The declared profile closest to it, empty if there is none.
        nearest: String,
    },
    /// A profile refers to a plugin that is not declared.
    #[error("profile `{profile}` refers to `{name}`, which is not declared{}", did_you_mean(.nearest))]
    UnknownReference {
        /// The profile.
        profile: String,
        /// The reference.
        name: String,
        /// The declared name closest to it, empty if there is none.
        nearest: String,
    },
    /// A filter, a picker or a plugin of another part of a router with a weight.
    #[error("profile `{profile}` gives `{name}` a weight, but it is no scorer")]
    WeightWithoutScorer {
        /// The profile.
        profile: String,
        /// The reference.
        name: String,
    },
    /// A profile with two pickers.
    #[error("profile `{profile}` has more than one picker")]
    TwoPickers {
        /// The profile.
        profile: String,
    },
    /// A profile that cannot be built.
    #[error("profile `{profile}`: {source}")]
    Profile {
        /// The profile.
        profile: String,
        /// Why.
        source: ProfileError,
    },
}

fn did_you_mean(nearest: &str) -> String {
    if nearest.is_empty() { String::new() } else { format!("; did you mean `{nearest}`?") }
}
