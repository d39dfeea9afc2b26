//! Configurations in the shape of those published for llm-d 0.2 to 0.8 and the Gateway API
//! Inference Extension 0.5 to 1.6: they load as they are.
#![cfg(feature = "serde")]
#![allow(clippy::expect_used, reason = "a helper of tests fails as a test does")]

mod common;

use common::Fleet;
use kvsched_core::{EndpointId, Rng};
use kvsched_scorers::config::{Config, Registry};
use kvsched_scorers::{Pair, Profile, Scratch};

fn config(yaml: &str) -> Config {
    serde_yaml_ng::from_str(yaml).expect("well-formed")
}

fn profiles(yaml: &str) -> Vec<(String, Profile)> {
    config(yaml).profiles(&Registry::new()).expect("sound")
}

fn weights(profile: &Profile) -> Vec<(String, f64)> {
    profile.scorers().map(|(s, weight)| (s.name().to_owned(), weight)).collect()
}

fn owned(weights: &[(&str, f64)]) -> Vec<(String, f64)> {
    weights.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect()
}

/// Inference Extension 0.5, whose KV scorer had another name.
#[test]
fn inference_extension_0_5() {
    let made = profiles(
        "
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-scorer
- type: prefix-cache-scorer
  parameters: {hashBlockSize: 64, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}
- type: max-score-picker
  parameters: {maxNumOfEndpoints: 1}
- type: single-profile-handler
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 1}
  - {pluginRef: kv-cache-scorer, weight: 1}
  - {pluginRef: prefix-cache-scorer, weight: 1}
  - {pluginRef: max-score-picker}
",
    );
    let want =
        [("queue-scorer", 1.0), ("kv-cache-utilization-scorer", 1.0), ("prefix-cache-scorer", 1.0)];
    assert_eq!(weights(&made[0].1), owned(&want));
}

/// Inference Extension 1.2 to 1.4: gates, detectors, flow control and the data layer's first name.
#[test]
fn inference_extension_1_2_to_1_4() {
    let yaml = "
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
featureGates: [dataLayer, flowControl, prepareDataPlugins]
plugins:
- type: model-server-protocol-metrics
- type: metrics-data-source
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: running-requests-size-scorer
- type: lora-affinity-scorer
- name: approximate
  type: prefix-cache-scorer
  parameters: {autoTune: true, blockSize: 5, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 31250}
- type: weighted-random-picker
data:
  sources:
  - pluginRef: metrics-data-source
    extractors: [{pluginRef: model-server-protocol-metrics}]
saturationDetector: {queueDepthThreshold: 5, kvCacheUtilThreshold: 0.8, metricsStalenessThreshold: 200ms}
flowControl: {maxBytes: 1000000, priorityBands: [{priority: 1}]}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: running-requests-size-scorer}
  - {pluginRef: lora-affinity-scorer, weight: 1}
  - {pluginRef: approximate, weight: 3}
  - {pluginRef: weighted-random-picker}
";
    let made = profiles(yaml);
    assert_eq!(made[0].1.picker().name(), "weighted-random-picker");
    assert_eq!(made[0].1.scorers().len(), 5);
    let elsewhere: Vec<_> = config(yaml).elsewhere().map(str::to_owned).collect();
    assert_eq!(elsewhere, ["model-server-protocol-metrics", "metrics-data-source"]);
}

/// Inference Extension 1.5 and 1.6, llm-d 0.8: predictions, parsers, the data layer.
#[test]
fn predicted_latency() {
    let made = profiles(
        "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: predicted-latency-producer
  parameters: {samplingMean: 100, sloBufferFactor: 1, streamingMode: true}
- type: prefix-cache-affinity-filter
  parameters: {affinityThreshold: 0.8, explorationProbability: 0.01, maxTTFTPenaltyMs: 5000}
- type: slo-headroom-tier-filter
  parameters: {epsilonExploreNeg: 0.01}
- type: latency-scorer
  parameters: {ttftWeight: 0.8, tpotWeight: 0.2, headroomSelectionStrategy: least}
- type: latency-slo-admitter
- type: weighted-random-picker
- type: openai-parser
parser: {pluginRef: openai-parser}
dataLayer: {injectDefaults: true}
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: prefix-cache-affinity-filter
  - pluginRef: slo-headroom-tier-filter
  - pluginRef: latency-scorer
    weight: 1
  - pluginRef: weighted-random-picker
",
    );
    assert_eq!(made[0].1.filters().len(), 2);
    assert_eq!(weights(&made[0].1), owned(&[("latency-scorer", 1.0)]));
}

/// Inference Extension 1.3 and 1.4, where all that was one plugin.
#[test]
fn predicted_latency_as_one_plugin() {
    for kind in ["predicted-latency-scorer", "slo-aware-routing"] {
        let made = profiles(&format!(
            "
kind: EndpointPickerConfig
plugins:
- type: {kind}
  parameters: {{headroomTTFTWeight: 0.7, headroomTPOTWeight: 0.3, selectionMode: linear, affinityGateTau: 0.9}}
- type: slo-aware-profile-handler
- type: queue-scorer
schedulingProfiles:
- name: latency
  plugins:
  - pluginRef: {kind}
  - pluginRef: queue-scorer
    weight: 0.5
"
        ));
        let filters: Vec<_> = made[0].1.filters().map(|f| f.name().to_owned()).collect();
        assert_eq!(filters, ["prefix-cache-affinity-filter", "slo-headroom-tier-filter"]);
        let want = [("latency-scorer", 1.0), ("queue-scorer", 0.5)];
        assert_eq!(weights(&made[0].1), owned(&want));
    }
}

/// llm-d 0.2, whose precise scorer was a mode of the approximate one, and keys without lists.
#[test]
fn llm_d_0_2_and_empty_keys() {
    let made = profiles(
        "
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: prefix-cache-scorer
  name: \"\"
  parameters:
    mode: cache_tracking
    indexerConfig: {prefixStoreConfig: {blockSize: 256}, kvBlockIndexConfig: {enableMetrics: true}}
    kvEventsConfig: {zmqEndpoint: 'tcp://*:5557', topicFilter: kv@}
- type: decode-filter
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: decode-filter}
  - {pluginRef: prefix-cache-scorer, weight: 2.0}
- name: idle
  plugins:
",
    );
    assert_eq!(weights(&made[0].1), owned(&[("prefix-cache-scorer", 2.0)]));
    assert_eq!((made[1].0.as_str(), made[1].1.scorers().len()), ("idle", 0));
    assert_eq!(profiles("{plugins: , schedulingProfiles: }")[0].0, "default");
}

const STAGES: &str = "
- type: prefill-filter
- type: decode-filter
- type: encode-filter
- type: prefix-cache-scorer
  parameters: {blockSizeTokens: 16, maxPrefixBlocksToMatch: 256, lruCapacityPerServer: 256}
- type: max-score-picker
schedulingProfiles:
- {name: encode, plugins: [{pluginRef: encode-filter}]}
- name: prefill
  plugins: [{pluginRef: prefill-filter}, {pluginRef: max-score-picker}, {pluginRef: prefix-cache-scorer, weight: 2}]
- name: decode
  plugins: [{pluginRef: decode-filter}, {pluginRef: max-score-picker}, {pluginRef: prefix-cache-scorer, weight: 2}]
";

fn staged(handlers: &str) -> Config {
    config(&format!("plugins:\n{}{STAGES}", handlers.trim_start()))
}

fn pair(handlers: &str) -> Pair {
    staged(handlers).pair(&Registry::new()).expect("sound").expect("a handler of stages")
}

/// Who prefills apart for whom, with so many of ten blocks of 16 tokens on the decode endpoint;
/// and who encodes.
fn placed(pair: &Pair, cached: u32) -> (Option<EndpointId>, Option<EndpointId>) {
    const ROLE: &str = "llm-d.ai/role";
    let fleet = Fleet::new(3, 10).matched(&[0, 0, cached]).labelled(&[
        &[(ROLE, "encode")],
        &[(ROLE, "prefill")],
        &[(ROLE, "decode")],
    ]);
    let (mut rng, mut one, mut other) = (Rng::new(1), Scratch::new(), Scratch::new());
    let (decode, prefill) =
        pair.decide(fleet.input(), &mut rng, &mut one, &mut other).expect("somebody");
    assert_eq!(decode.endpoint, EndpointId(2));
    let encode =
        pair.decide_encode(fleet.input(), decode.endpoint, &mut rng, &mut one).expect("somebody");
    (prefill.map(|d| d.endpoint), encode.map(|d| d.endpoint))
}

#[test]
fn stages_are_split_as_the_handler_says() {
    let prefill = Some(EndpointId(1));
    let encode = Some(EndpointId(0));
    // From llm-d 0.6 on: a decider of so many uncached tokens.
    let by_tokens = "
- type: prefix-based-pd-decider
  parameters: {nonCachedTokens: 64}
- type: disagg-profile-handler
  parameters: {deciders: {prefill: prefix-based-pd-decider}}";
    assert_eq!(placed(&pair(by_tokens), 6), (prefill, None)); // 64 uncached
    assert_eq!(placed(&pair(by_tokens), 7), (None, None)); // 48
    let flat =
        by_tokens.replace("{deciders: {prefill: ", "{deciderPluginName: ").replace("}}", "}");
    assert_eq!(placed(&pair(&flat), 6), (prefill, None));
    assert_eq!(placed(&pair(&flat), 7), (None, None));
    // The older handler asks the decider of that name.
    let older = by_tokens
        .replace("disagg-", "pd-")
        .replace("\n  parameters: {deciders: {prefill: prefix-based-pd-decider}}", "");
    assert_eq!(placed(&pair(&older), 6), (prefill, None));
    assert_eq!(placed(&pair(&older), 7), (None, None));
    let off = by_tokens.replace("64", "0");
    assert_eq!(placed(&pair(&off), 0), (None, None));
    // llm-d 0.3 to 0.5: a threshold in characters, 0 for always.
    let threshold =
        "\n- type: pd-profile-handler\n  parameters: {threshold: 256, hashBlockSize: 5}";
    assert_eq!(placed(&pair(threshold), 6), (prefill, None));
    assert_eq!(placed(&pair(threshold), 7), (None, None));
    assert_eq!(placed(&pair(&threshold.replace("256", "0")), 10), (prefill, None));
    let all = "
- type: always-disagg-pd-decider
- type: always-disagg-multimodal-decider
  name: images
- type: disagg-profile-handler
  parameters:
    profiles: {decode: decode}
    deciders: {prefill: always-disagg-pd-decider, encode: images}";
    assert_eq!(placed(&pair(all), 10), (prefill, encode));
    assert_eq!(placed(&pair("\n- type: disagg-profile-handler"), 0), (None, None));
    // A stage without a profile is never apart.
    let missing = all.replace("{decode: decode}", "{prefill: p, encode: e}");
    assert_eq!(placed(&pair(&missing), 0), (None, None));
    let single = staged("\n- type: single-profile-handler").pair(&Registry::new());
    assert!(single.expect("sound").is_none());
}

#[test]
fn faulty_handlers_are_named() {
    let cases = [
        (
            "\n- type: always-disagg-pd-decider\n- type: disagg-profile-handler\n  parameters: {deciders: {prefill: always-disag}}",
            "`disagg-profile-handler` is to ask `always-disag`, which is no declared decider; did you mean `always-disagg-pd-decider`?",
        ),
        (
            "\n- type: disagg-profile-handler\n  parameters: {profiles: {decode: deocde}}",
            "`disagg-profile-handler` needs the profile `deocde`; did you mean `decode`?",
        ),
        (
            "\n- type: disagg-profile-handler\n  parameters: {profiles: {prefil: x}}",
            "`disagg-profile-handler`: profiles is `prefil`; did you mean `prefill`?",
        ),
        (
            "\n- type: pd-profile-handler\n  parameters: {treshold: 3}",
            "`pd-profile-handler` has no parameter `treshold`; did you mean `threshold`?",
        ),
        (
            "\n- type: pd-profile-handler\n  parameters: {threshold: -4}",
            "`pd-profile-handler`: threshold is -4, it must be finite and 0 or more",
        ),
    ];
    for (handler, want) in cases {
        let error = staged(handler).pair(&Registry::new()).expect_err("a fault");
        assert_eq!(error.to_string(), want);
    }
}
