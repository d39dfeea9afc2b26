/// How far the picture of an endpoint's cache can be believed, best first.
///
/// ```
/// use kvsched_core::Trust;
/// assert!(Trust::Exact < Trust::Stale);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// All of the endpoint's events are known: it holds what is reported.
    Exact,
    /// Events are missing or were not understood: part of what is reported may be gone.
    Degraded,
    /// Only our own routing is known: what is reported was sent there.
    #[default]
    Approximate,
    /// Nothing was heard for too long: what is reported was true then.
    Stale,
}
