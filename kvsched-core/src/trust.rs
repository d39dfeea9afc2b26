use crate::Time;

/// How far the picture of an endpoint's cache can be believed, best first.
///
/// ```
/// use kvsched_core::Trust;
/// assert!(Trust::Exact < Trust::Stale);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

impl Trust {
    /// The share of a reported match to count on, for whoever weighs it against work: 1 where
    /// it is exact, 0.9 where events are missing, 0.75 where only our own routing is known, 0.5
    /// where nothing was heard for long.
    ///
    /// The third is measured: of the blocks that two gateways of a production trace expected from
    /// their own decisions, 77% were still there. The others are put around it.
    #[must_use]
    pub const fn belief(self) -> f64 {
        match self {
            Self::Exact => 1.0,
            Self::Degraded => 0.9,
            Self::Approximate => 0.75,
            Self::Stale => 0.5,
        }
    }
}

/// What is known of an endpoint's cache is worth so much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Knowledge {
    /// How far it can be believed.
    pub trust: Trust,
    /// When the endpoint was last heard of, on the caller's clock.
    pub heard_at: Time,
}
