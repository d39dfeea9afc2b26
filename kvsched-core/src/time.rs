use std::time::Duration;

/// A point on the caller's clock, in nanoseconds since a start the caller chose.
///
/// kvsched never reads a clock. A gateway passes a monotonic reading, a simulator its
/// virtual time; all that matters is that one scheduler sees one clock.
///
/// ```
/// use kvsched_core::Time;
/// use std::time::Duration;
/// let t = Time::from_secs_f64(1.5);
/// assert_eq!(t.since(Time(1_000_000_000)), Duration::from_millis(500));
/// assert_eq!(Time(0).since(t), Duration::ZERO); // a clock that goes back has not advanced
/// assert_eq!(t.before(Duration::from_secs(1)), Time(500_000_000));
/// assert_eq!(t.before(Duration::from_secs(2)), Time(0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(transparent)]
pub struct Time(pub u64);

impl Time {
    /// `secs` seconds after the clock's start; negative and NaN become the start, values
    /// beyond the range its end.
    #[must_use]
    pub fn from_secs_f64(secs: f64) -> Self {
        Self((secs * 1e9) as u64)
    }

    /// Seconds since the clock's start.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point plus `d`, held at the end of the range.
    #[must_use]
    pub const fn after(self, d: Duration) -> Self {
        let ns = d.as_nanos();
        Self(if ns > u64::MAX as u128 { u64::MAX } else { self.0.saturating_add(ns as u64) })
    }

    /// This point less `d`, held at the start.
    #[must_use]
    pub const fn before(self, d: Duration) -> Self {
        let ns = d.as_nanos();
        Self(if ns > u64::MAX as u128 { 0 } else { self.0.saturating_sub(ns as u64) })
    }
}
