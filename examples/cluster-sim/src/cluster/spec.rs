//! The cluster around the engines, and what befalls it.

use crate::engine::{EngineSpec, TierSpec};

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Prefill and decode.
    #[default]
    Both,
    /// Prefill; the KV is then handed over.
    Prefill,
    /// Decode, with KV that was handed over.
    Decode,
}

/// What befalls an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It comes, or comes back, with empty caches. One whose first change this is was not there
    /// before.
    Join,
    /// It gets no more requests and finishes those it has.
    Drain,
    /// It is gone at once: what it was doing is asked of others.
    Crash,
}

/// Endpoints that go when nobody asks anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sleep {
    /// Seconds without a request after which all endpoints are stopped.
    pub idle: f64,
    /// Seconds from the next request until all are back, with empty caches.
    pub startup: f64,
}

/// The cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSpec {
    /// One entry an endpoint.
    pub engines: Vec<EngineSpec>,
    /// What they are for; [`Role::Both`] where it is shorter.
    pub roles: Vec<Role>,
    /// Data-parallel ranks: endpoints of one group step together, as slowly as the slowest.
    /// `None`, or no entry, for an endpoint by itself.
    pub groups: Vec<Option<u16>>,
    /// A store behind all engines' own tiers.
    pub shared_tier: Option<TierSpec>,
    /// Seconds from the routing decision to the engine's queue: gateway, tokenizer, HTTP server.
    pub way_there: f64,
    /// Seconds from the end of an engine's step to the client.
    pub way_back: f64,
    /// Seconds by which metrics are late.
    pub metrics_delay: f64,
    /// Least and most seconds by which cache events are late.
    pub event_delay: (f64, f64),
    /// Least seconds from one message of an engine's to the next: changes in between travel
    /// together. 0 sends one a step.
    pub event_batch: f64,
    /// Share of messages that are lost on the way; the router notices and asks for them.
    pub event_loss: f64,
    /// When what befalls whom, in seconds from the start.
    pub changes: Vec<(f64, u16, Change)>,
    /// Whether the cluster scales to zero.
    pub sleep: Option<Sleep>,
    /// Seconds between samples for plots.
    pub sample_every: f64,
}

impl ClusterSpec {
    /// The published cluster: eight equal pods.
    pub fn published() -> Self {
        Self {
            engines: vec![EngineSpec::qwen3_32b_tp2_h100(); 8],
            roles: Vec::new(),
            groups: Vec::new(),
            shared_tier: None,
            way_there: 0.05,
            way_back: 0.05,
            metrics_delay: 1.4,
            event_delay: (0.01, 0.05),
            event_batch: 0.0,
            event_loss: 0.0,
            changes: Vec::new(),
            sleep: None,
            sample_every: 1.0,
        }
    }

    /// What endpoint `e` is for.
    pub fn role(&self, e: usize) -> Role {
        self.roles.get(e).copied().unwrap_or_default()
    }

    /// Whether endpoint `e` is there at the start.
    pub fn is_there(&self, e: usize) -> bool {
        let first = self.changes.iter().filter(|c| usize::from(c.1) == e);
        let first = first.min_by(|a, b| a.0.total_cmp(&b.0));
        first.is_none_or(|c| c.2 != Change::Join)
    }

    /// The endpoints that step together, one entry each group.
    pub fn units(&self) -> Vec<Vec<u16>> {
        let mut units: Vec<(Option<u16>, Vec<u16>)> = Vec::new();
        for e in 0..self.engines.len() {
            let group = self.groups.get(e).copied().flatten();
            match units.iter_mut().find(|(g, _)| group.is_some() && *g == group) {
                Some((_, members)) => members.push(e as u16),
                None => units.push((group, vec![e as u16])),
            }
        }
        units.into_iter().map(|(_, members)| members).collect()
    }
}
