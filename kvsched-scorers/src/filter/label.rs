use kvsched_core::{Context, Filter, Needs};

/// `label-selector-filter`: keeps endpoints whose labels meet every requirement.
///
/// The deprecated names `by-label-selector` and `by-label` and the role filters are the same
/// filter with other requirements: see [`Label::prefill`], [`Label::decode`], [`Label::encode`].
///
/// ```
/// use kvsched_scorers::filter::{Label, Rule};
/// let h100_not_draining = Label::selector()
///     .require("gpu", Rule::In(vec!["h100".into()]))
///     .require("draining", Rule::DoesNotExist);
/// ```
#[derive(Clone, Debug)]
pub struct Label {
    name: &'static str,
    requirements: Vec<(String, Rule)>,
}

/// What a [`Label`] filter asks of one label; the operators of Kubernetes' selectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Its value is one of these.
    In(Vec<String>),
    /// Its value is none of these, or it is missing.
    NotIn(Vec<String>),
    /// It is one of these, or it is missing.
    InOrMissing(Vec<String>),
    /// It is there.
    Exists,
    /// It is missing.
    DoesNotExist,
}

impl Rule {
    fn met_by(&self, value: Option<&str>) -> bool {
        let among = |values: &[String], v: &str| values.iter().any(|x| x == v);
        match (self, value) {
            (Self::In(values), Some(v)) | (Self::InOrMissing(values), Some(v)) => among(values, v),
            (Self::NotIn(values), Some(v)) => !among(values, v),
            (Self::Exists, value) => value.is_some(),
            (Self::DoesNotExist, value) => value.is_none(),
            (Self::In(_), None) => false,
            (Self::NotIn(_) | Self::InOrMissing(_), None) => true,
        }
    }
}

impl Label {
    /// The name of the general filter in configurations.
    pub const NAME: &'static str = "label-selector-filter";
    /// The name of the filter on one label in configurations.
    pub const BY_LABEL: &'static str = "by-label";
    /// The name of [`Label::prefill`] in configurations.
    pub const PREFILL: &'static str = "prefill-filter";
    /// The name of [`Label::decode`] in configurations.
    pub const DECODE: &'static str = "decode-filter";
    /// The name of [`Label::encode`] in configurations.
    pub const ENCODE: &'static str = "encode-filter";
    /// The label that tells an endpoint's role.
    pub const ROLE: &'static str = "llm-d.ai/role";

    /// Without any requirement: keeps everybody.
    #[must_use]
    pub const fn selector() -> Self {
        Self { name: Self::NAME, requirements: Vec::new() }
    }

    /// Adds a requirement; all must be met.
    #[must_use]
    pub fn require(mut self, key: impl Into<String>, rule: Rule) -> Self {
        self.requirements.push((key.into(), rule));
        self
    }

    /// `by-label`: keeps endpoints whose label `key` is one of `values`, and those that lack it
    /// if `missing` may stay.
    #[must_use]
    pub fn one_of(key: impl Into<String>, values: Vec<String>, missing: bool) -> Self {
        let rule = if missing { Rule::InOrMissing(values) } else { Rule::In(values) };
        Self { name: Self::BY_LABEL, ..Self::selector().require(key, rule) }
    }

    fn role(name: &'static str, roles: &[&str], missing: bool) -> Self {
        let roles = roles.iter().map(|&r| r.to_owned()).collect();
        Self { name, ..Self::one_of(Self::ROLE, roles, missing) }
    }

    /// `prefill-filter`: keeps endpoints whose role includes prefill; drops those without a role.
    #[must_use]
    pub fn prefill() -> Self {
        let roles =
            ["prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"];
        Self::role(Self::PREFILL, &roles, false)
    }

    /// `decode-filter`: keeps endpoints whose role includes decode, and those without a role.
    #[must_use]
    pub fn decode() -> Self {
        let roles = ["decode", "prefill-decode", "both", "encode-prefill-decode"];
        Self::role(Self::DECODE, &roles, true)
    }

    /// `encode-filter`: keeps endpoints whose role includes encode; drops those without a role.
    #[must_use]
    pub fn encode() -> Self {
        Self::role(Self::ENCODE, &["encode", "encode-prefill", "encode-prefill-decode"], false)
    }
}

impl Filter for Label {
    fn name(&self) -> &str {
        self.name
    }

    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        for (candidate, keep) in cx.candidates.iter().zip(keep) {
            let meets =
                |(key, rule): &(String, Rule)| rule.met_by(cx.label(candidate.endpoint, key));
            *keep = self.requirements.iter().all(meets);
        }
    }
}
