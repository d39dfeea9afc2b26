use super::elsewhere::{INSTEAD, OTHER_PARTS};
use super::{ConfigError, Parameters, Value};
use crate::nearest::{nearest, shown};
use kvsched_core::{Filter, Picker, Scorer};
use std::collections::BTreeMap;
use std::fmt;

/// Which plugin types there are, and how each is made from its parameters.
///
/// ```
/// # use kvsched_core::{Context, Needs, Scorer};
/// # #[derive(Debug)]
/// # struct Steady(f64);
/// # impl Scorer for Steady {
/// #     fn name(&self) -> &str { "steady-scorer" }
/// #     fn needs(&self) -> Needs { Needs::NONE }
/// #     fn score(&self, _: &Context<'_>, scores: &mut [f64]) { scores.fill(self.0) }
/// # }
/// use kvsched_scorers::config::{Config, Registry};
///
/// // A scorer of one's own, by name.
/// let registry = Registry::new().scorer("steady-scorer", |parameters| {
///     Ok(Box::new(Steady(parameters.number("score")?.unwrap_or(0.5))))
/// });
/// let config = r#"{"plugins": [{"type": "steady-scorer", "parameters": {"scroe": 0.7}}]}"#;
/// let config: Config = serde_json::from_str(config)?;
/// assert_eq!(
///     config.profiles(&registry).unwrap_err().to_string(),
///     "`steady-scorer` has no parameter `scroe`; did you mean `score`?"
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
pub struct Registry {
    makers: BTreeMap<String, Maker>,
}

type Maker =
    Box<dyn Fn(&mut Parameters<'_>) -> Result<Plugin, ConfigError> + Send + Sync + 'static>;

/// What a type makes.
pub(super) enum Plugin {
    Filter(Box<dyn Filter>),
    Scorer(Box<dyn Scorer>),
    Picker(Box<dyn Picker>),
    /// A scorer that comes with filters of its own.
    Both(Vec<Box<dyn Filter>>, Box<dyn Scorer>),
}

impl Registry {
    pub(super) const fn empty() -> Self {
        Self { makers: BTreeMap::new() }
    }

    /// Adds the filter type `kind`, in place of one of that name.
    #[must_use]
    pub fn filter(
        mut self,
        kind: &str,
        make: impl Fn(&mut Parameters<'_>) -> Result<Box<dyn Filter>, ConfigError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.add(kind, move |parameters| make(parameters).map(Plugin::Filter));
        self
    }

    /// Adds the scorer type `kind`, in place of one of that name.
    #[must_use]
    pub fn scorer(
        mut self,
        kind: &str,
        make: impl Fn(&mut Parameters<'_>) -> Result<Box<dyn Scorer>, ConfigError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.add(kind, move |parameters| make(parameters).map(Plugin::Scorer));
        self
    }

    /// Adds the picker type `kind`, in place of one of that name.
    #[must_use]
    pub fn picker(
        mut self,
        kind: &str,
        make: impl Fn(&mut Parameters<'_>) -> Result<Box<dyn Picker>, ConfigError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.add(kind, move |parameters| make(parameters).map(Plugin::Picker));
        self
    }

    /// All types, in alphabetical order.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.makers.keys().map(String::as_str)
    }

    pub(super) fn add(
        &mut self,
        kind: &str,
        make: impl Fn(&mut Parameters<'_>) -> Result<Plugin, ConfigError> + Send + Sync + 'static,
    ) {
        self.makers.insert(kind.to_owned(), Box::new(make));
    }

    pub(super) fn knows(&self, kind: &str) -> bool {
        self.makers.contains_key(kind)
    }

    pub(super) fn make(&self, kind: &str, parameters: &Value) -> Result<Plugin, ConfigError> {
        let Some(make) = self.makers.get(kind) else {
            if let Some((_, instead)) = INSTEAD.iter().find(|(name, _)| *name == kind) {
                return Err(ConfigError::NotHere { kind: kind.to_owned(), instead });
            }
            let known = self.types().chain(OTHER_PARTS);
            return Err(ConfigError::UnknownType {
                kind: shown(kind),
                nearest: nearest(kind, known).unwrap_or_default().to_owned(),
            });
        };
        let mut parameters = Parameters::new(kind, parameters)?;
        let plugin = make(&mut parameters)?;
        parameters.finish()?;
        Ok(plugin)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.types()).finish()
    }
}
