//! Plugin types that are known and not made here.

/// Types of llm-d's router to August 2026, and of the Gateway API Inference Extension from 0.5 to
/// 1.6, that belong to other parts of a router.
pub(super) const OTHER_PARTS: [&str; 61] = [
    "agent-identity",
    "always-disagg-multimodal-decider",
    "always-disagg-pd-decider",
    "anthropic-parser",
    "approx-prefix-cache-producer",
    "burst-prefix-cache-producer",
    "concurrency-detector",
    "core-metrics-extractor",
    "data-parallel-profile-handler",
    "dcgm-data-source",
    "dcgm-extractor",
    "destination-endpoint-served-verifier",
    "disagg-headers-handler",
    "disagg-profile-handler",
    "edf-ordering-policy",
    "endpoint-notification-source",
    "eviction-priority-then-time-ordering",
    "eviction-sheddable-filter",
    "fcfs-ordering-policy",
    "file-discovery",
    "global-strict-fairness-policy",
    "header-profile-handler",
    "inflight-load-producer",
    "k8s-notification-source",
    "latency-slo-admitter",
    "local-syncer",
    "metrics-data-source",
    "mm-embeddings-cache-producer",
    "mock-metrics-source",
    "model-server-protocol-metrics",
    "model-server-protocol-models",
    "models-data-extractor",
    "models-data-source",
    "openai-parser",
    "passthrough-parser",
    "pd-profile-handler",
    "precise-prefix-cache-producer",
    "predicted-latency-producer",
    "prefill-header-handler",
    "prefix-based-pd-decider",
    "priority-holdback-policy",
    "priority-then-time-eviction-order-policy",
    "probabilistic-admitter",
    "program-aware-fairness",
    "request-attribute-reporter",
    "round-robin-fairness-policy",
    "session-id-producer",
    "sglanghttp-parser",
    "sheddable-eviction-filter",
    "single-profile-handler",
    "slo-aware-profile-handler",
    "slo-deadline-ordering-policy",
    "soft-reflective-ceiling-policy",
    "static-usage-limit-policy",
    "token-producer",
    "tokenizer",
    "topology-extractor",
    "utilization-detector",
    "vertexai-parser",
    "vllmgrpc-parser",
    "vllmhttp-parser",
];

/// Types that choose endpoints and do not exist here, with what to take instead.
pub(super) const INSTEAD: [(&str, &str); 7] = [
    ("decision-tree-filter", "its filters one after the other, and `queue-scorer`"),
    ("endpoint-attribute-filter", "`label-selector-filter`"),
    ("header-based-testing-filter", "`session-affinity-filter`"),
    ("least-kv-cache-filter", "`kv-cache-utilization-scorer`"),
    ("least-queue-filter", "`queue-scorer`"),
    ("low-queue-filter", "`utilization-filter` with a cap on `waiting-queue`"),
    ("mm-embeddings-cache-scorer", "`topology-affinity-scorer` in an encode profile"),
];

pub(super) fn is_other_part(kind: &str) -> bool {
    OTHER_PARTS.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::{INSTEAD, OTHER_PARTS};
    use crate::config::Registry;

    #[test]
    fn no_type_is_known_twice() {
        assert!(OTHER_PARTS.is_sorted());
        let registry = Registry::new();
        for kind in OTHER_PARTS.into_iter().chain(INSTEAD.map(|(kind, _)| kind)) {
            assert!(!registry.knows(kind), "{kind}");
        }
    }
}
