/// What an endpoint is, as opposed to what it is doing: key-value pairs such as its role,
/// zone or rack, set when it joins the fleet.
///
/// ```
/// use kvsched_core::Labels;
/// let labels: Labels = [("llm-d.ai/role", "decode"), ("zone", "b")].into_iter().collect();
/// assert_eq!(labels.get("zone"), Some("b"));
/// assert_eq!(labels.get("rack"), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    /// No labels.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of label `key`. O(labels): an endpoint has a handful.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Sets label `key`, in place of what it was.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(label) => label.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// All labels, in the order they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut labels = Self::new();
        for (key, value) in pairs {
            labels.set(key, value);
        }
        labels
    }
}
