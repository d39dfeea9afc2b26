use super::{ConfigError, Value};
use crate::nearest::{nearest, shown};

/// The parameters of one plugin, read by name.
///
/// Every name that is asked for is known; once the plugin is made, a parameter nobody asked
/// for is an error.
#[derive(Debug)]
pub struct Parameters<'a> {
    plugin: &'a str,
    values: &'a [(String, Value)],
    asked: Vec<&'static str>,
}

impl<'a> Parameters<'a> {
    pub(super) fn new(plugin: &'a str, values: &'a Value) -> Result<Self, ConfigError> {
        let values = match values {
            Value::Null => &[],
            Value::Map(map) => map.as_slice(),
            other => {
                return Err(ConfigError::WrongType {
                    plugin: plugin.to_owned(),
                    parameter: "parameters".to_owned(),
                    must: "a map",
                    found: other.describe(),
                });
            }
        };
        Ok(Self { plugin, values, asked: Vec::new() })
    }

    /// The number `name`; `None` if it is not given.
    ///
    /// # Errors
    ///
    /// It is no number.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f64>, ConfigError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Number(n)) => Ok(Some(*n)),
            Some(other) => Err(self.wrong(name, "a number", other)),
        }
    }

    /// The text `name`; `None` if it is not given.
    ///
    /// # Errors
    ///
    /// It is no text.
    pub fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, ConfigError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", other)),
        }
    }

    /// Whether `name` is set; `false` if it is not given.
    ///
    /// # Errors
    ///
    /// It is neither true nor false.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, ConfigError> {
        match self.value(name) {
            None => Ok(false),
            Some(Value::Flag(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(name, "true or false", other)),
        }
    }

    /// The texts in the list `name`; none if it is not given.
    ///
    /// # Errors
    ///
    /// It is no list of texts.
    pub fn texts(&mut self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        let text = |value: &Value| match value {
            Value::Text(text) => Ok(text.clone()),
            other => Err(self.wrong(name, "a list of texts", other)),
        };
        let texts = match self.values.iter().find(|(key, _)| key == name).map(|(_, v)| v) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::List(list)) => list.iter().map(text).collect::<Result<_, _>>()?,
            Some(other) => return Err(self.wrong(name, "a list of texts", other)),
        };
        self.asked.push(name);
        Ok(texts)
    }

    /// The names and texts in the map `name`; none if it is not given.
    ///
    /// # Errors
    ///
    /// It is no map of texts.
    pub fn pairs(&mut self, name: &'static str) -> Result<Vec<(&'a str, &'a str)>, ConfigError> {
        let map = match self.value(name) {
            None => return Ok(Vec::new()),
            Some(Value::Map(map)) => map,
            Some(other) => return Err(self.wrong(name, "a map of texts", other)),
        };
        let text = |(key, value): &'a (String, Value)| match value {
            Value::Text(text) => Ok((key.as_str(), text.as_str())),
            other => Err(self.wrong(name, "a map of texts", other)),
        };
        map.iter().map(text).collect()
    }

    /// The parameters of every item in the list of maps `name`; none if it is not given.
    ///
    /// # Errors
    ///
    /// It is no list of maps.
    pub fn items(&mut self, name: &'static str) -> Result<Vec<Self>, ConfigError> {
        let list = match self.value(name) {
            None => return Ok(Vec::new()),
            Some(Value::List(list)) => list,
            Some(other) => return Err(self.wrong(name, "a list", other)),
        };
        list.iter().map(|item| Self::new(self.plugin, item)).collect()
    }

    /// Accepts the parameters `names`, whatever they are: they mean something to another part
    /// of the router.
    pub fn accept(&mut self, names: &[&'static str]) {
        self.asked.extend_from_slice(names);
    }

    /// The error of a parameter that must be given.
    #[must_use]
    pub fn missing(&self, name: &'static str) -> ConfigError {
        ConfigError::MissingParameter { plugin: self.plugin.to_owned(), parameter: name.to_owned() }
    }

    /// The error of a parameter that is none of the words it may be.
    #[must_use]
    pub fn unknown_word(&self, name: &'static str, word: &str, words: &[&str]) -> ConfigError {
        ConfigError::UnknownWord {
            plugin: self.plugin.to_owned(),
            parameter: name.to_owned(),
            word: shown(word),
            nearest: nearest(word, words.iter().copied()).unwrap_or_default().to_owned(),
        }
    }

    /// Refuses a parameter that nobody asked for.
    ///
    /// # Errors
    ///
    /// The first such parameter. A [`Registry`](super::Registry) asks this of a plugin's
    /// parameters by itself; only the maps of [`Parameters::items`] need it.
    pub fn finish(self) -> Result<(), ConfigError> {
        match self.values.iter().find(|(key, _)| !self.asked.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) => Err(ConfigError::UnknownParameter {
                plugin: self.plugin.to_owned(),
                parameter: shown(key),
                nearest: nearest(key, self.asked.iter().copied()).unwrap_or_default().to_owned(),
            }),
        }
    }

    fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        let found = self.values.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value).filter(|value| **value != Value::Null)
    }

    fn wrong(&self, name: &str, must: &'static str, found: &Value) -> ConfigError {
        ConfigError::WrongType {
            plugin: self.plugin.to_owned(),
            parameter: name.to_owned(),
            must,
            found: found.describe(),
        }
    }
}
