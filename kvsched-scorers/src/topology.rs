use kvsched_core::{Context, EndpointId};

/// How near two endpoints are, by the tightest level at which their labels agree.
///
/// Read from the well-known labels `kubernetes.io/hostname` and `topology.kubernetes.io/{rack,
/// zone, region}`, as llm-d's topology extractor does. The same host implies the same rack and
/// so on. A level that either lacks never agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proximity {
    /// Nothing in common.
    None,
    /// The same region.
    Region,
    /// The same zone.
    Zone,
    /// The same rack.
    Rack,
    /// The same host.
    Host,
}

impl Proximity {
    /// All levels with the label that tells them, tightest first.
    const LABELS: [(Self, &'static str); 4] = [
        (Self::Host, "kubernetes.io/hostname"),
        (Self::Rack, "topology.kubernetes.io/rack"),
        (Self::Zone, "topology.kubernetes.io/zone"),
        (Self::Region, "topology.kubernetes.io/region"),
    ];

    /// How near `a` and `b` are.
    #[must_use]
    pub fn of(cx: &Context<'_>, a: EndpointId, b: EndpointId) -> Self {
        let agree = |key: &str| {
            let value = cx.label(a, key).filter(|v| !v.is_empty());
            value.is_some() && value == cx.label(b, key)
        };
        Self::LABELS.iter().find(|(_, key)| agree(key)).map_or(Self::None, |&(level, _)| level)
    }

    /// Whether anything is known of where `endpoint` is.
    pub(crate) fn is_known(cx: &Context<'_>, endpoint: EndpointId) -> bool {
        Self::LABELS.iter().any(|(_, key)| cx.label(endpoint, key).is_some_and(|v| !v.is_empty()))
    }

    /// The level that configurations call `name`: `host`, `rack`, `zone` or `region`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "host" => Self::Host,
            "rack" => Self::Rack,
            "zone" => Self::Zone,
            "region" => Self::Region,
            _ => return None,
        })
    }
}
