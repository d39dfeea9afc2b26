/// Why a plugin's parameter is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{plugin}`: {parameter} is {value}, it must be {must}")]
#[non_exhaustive]
pub struct ParameterError {
    /// The plugin's name.
    pub plugin: &'static str,
    /// The parameter.
    pub parameter: &'static str,
    /// What it was set to.
    pub value: f64,
    /// What it may be.
    pub must: &'static str,
}

/// Gives `value` back if it passes, and otherwise says what it should have been.
pub(crate) fn check(
    plugin: &'static str,
    parameter: &'static str,
    value: f64,
    must: &'static str,
    passes: impl Fn(f64) -> bool,
) -> Result<f64, ParameterError> {
    if passes(value) { Ok(value) } else { Err(ParameterError { plugin, parameter, value, must }) }
}

/// [`check`] for a share.
pub(crate) fn share(
    plugin: &'static str,
    parameter: &'static str,
    value: f64,
) -> Result<f64, ParameterError> {
    check(plugin, parameter, value, "between 0 and 1", |v| (0.0..=1.0).contains(&v))
}

/// [`check`] for a divisor.
pub(crate) fn positive(
    plugin: &'static str,
    parameter: &'static str,
    value: f64,
) -> Result<f64, ParameterError> {
    check(plugin, parameter, value, "finite and more than 0", |v| v.is_finite() && v > 0.0)
}

/// [`check`] for a quantity.
pub(crate) fn quantity(
    plugin: &'static str,
    parameter: &'static str,
    value: f64,
) -> Result<f64, ParameterError> {
    check(plugin, parameter, value, "finite and 0 or more", |v| v.is_finite() && v >= 0.0)
}
