use crate::ParameterError;
use crate::parameter::{quantity, share};
use kvsched_core::{Context, Filter, Load, Needs};

/// `utilization-filter`: drops endpoints of which a figure is above its cap.
///
/// An endpoint stays where it keeps every cap. If nobody does, the request fails unless
/// [`Utilization::or_everybody`] was asked for.
///
/// ```
/// use kvsched_scorers::filter::{Metric, Utilization};
/// let filter = Utilization::new()
///     .cap(Metric::RunningRequests, 40.0)?
///     .cap(Metric::KvCacheUtilization, 0.8)?
///     .or_everybody();
/// # Ok::<(), kvsched_scorers::ParameterError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Utilization {
    caps: Vec<(Metric, f64)>,
    or_everybody: bool,
}

/// A figure that [`Utilization`] caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests routed there and not yet finished, by the router's own count.
    ActiveRequests,
    /// Requests in the running batch.
    RunningRequests,
    /// Requests waiting for their first scheduling.
    WaitingQueue,
    /// Share of the KV cache in use.
    KvCacheUtilization,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ActiveRequests, Self::RunningRequests, Self::WaitingQueue, Self::KvCacheUtilization];

    /// Its name in configurations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveRequests => "active-requests",
            Self::RunningRequests => "running-requests",
            Self::WaitingQueue => "waiting-queue",
            Self::KvCacheUtilization => "kv-cache-utilization",
        }
    }

    fn of(self, load: &Load) -> f64 {
        match self {
            Self::ActiveRequests => f64::from(load.in_flight_requests),
            Self::RunningRequests => f64::from(load.running_requests),
            Self::WaitingQueue => f64::from(load.waiting_requests),
            Self::KvCacheUtilization => load.kv_share(),
        }
    }
}

impl Utilization {
    /// The name in configurations.
    pub const NAME: &'static str = "utilization-filter";

    /// Without any cap: drops nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self { caps: Vec::new(), or_everybody: false }
    }

    /// Drops endpoints whose `metric` is above `most`.
    ///
    /// # Errors
    ///
    /// A cap that is negative or not finite, or above 1 for a share.
    pub fn cap(mut self, metric: Metric, most: f64) -> Result<Self, ParameterError> {
        let most = match metric {
            Metric::KvCacheUtilization => share(Self::NAME, "maxValue", most)?,
            _ => quantity(Self::NAME, "maxValue", most)?,
        };
        self.caps.push((metric, most));
        Ok(self)
    }

    /// Keeps everybody where nobody keeps all caps.
    #[must_use]
    pub const fn or_everybody(mut self) -> Self {
        self.or_everybody = true;
        self
    }
}

impl Filter for Utilization {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        for (candidate, keep) in cx.candidates.iter().zip(keep.iter_mut()) {
            let load = cx.load(candidate);
            *keep = self.caps.iter().all(|&(metric, most)| metric.of(load) <= most);
        }
        if self.or_everybody && !keep.contains(&true) {
            keep.fill(true);
        }
    }
}
