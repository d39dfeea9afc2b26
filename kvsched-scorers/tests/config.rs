//! Configurations in, profiles or clear errors out.
#![cfg(feature = "serde")]
#![allow(clippy::expect_used, reason = "a helper of tests fails as a test does")]

mod common;

use common::Fleet;
use kvsched_core::EndpointId;
use kvsched_scorers::Profile;
use kvsched_scorers::config::{Config, ConfigError, Registry};

fn profiles(yaml: &str) -> Result<Vec<(String, Profile)>, ConfigError> {
    let config: Config = serde_yaml_ng::from_str(yaml).expect("well-formed");
    config.profiles(&Registry::new())
}

fn error(yaml: &str) -> String {
    profiles(yaml).expect_err("a fault").to_string()
}

/// The shape of llm-d's prefill/decode samples.
const PREFILL_DECODE: &str = "
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [prefixCacheScorerV2]
plugins:
- type: approx-prefix-cache-producer
  parameters: {lruCapacityPerServer: 31250}
- type: prefix-cache-scorer
  parameters: {matchLengthWeight: 0.25, prefixMatchInfoProducerName: approx}
- type: queue-scorer
- type: prefill-filter
- type: decode-filter
- type: max-score-picker
- type: prefix-cache-affinity-filter
  name: sticky
  parameters:
    affinityThreshold: 0.9
    maxTTFTPenaltyMs: 5000
- type: disagg-profile-handler
dataLayer:
  sources: []
schedulingProfiles:
- name: prefill
  plugins:
  - pluginRef: prefill-filter
  - pluginRef: max-score-picker
  - pluginRef: prefix-cache-scorer
    weight: 2
  - pluginRef: queue-scorer
- name: decode
  plugins:
  - pluginRef: decode-filter
  - pluginRef: sticky
  - pluginRef: queue-scorer
    weight: 0.5
";

#[test]
fn a_prefill_decode_configuration_loads_as_it_is() {
    let config: Config = serde_yaml_ng::from_str(PREFILL_DECODE).expect("well-formed");
    let elsewhere: Vec<_> = config.elsewhere().collect();
    assert_eq!(elsewhere, ["approx-prefix-cache-producer", "disagg-profile-handler"]);
    let profiles = config.profiles(&Registry::new()).expect("sound");
    let seen: Vec<_> = profiles
        .iter()
        .map(|(name, p)| {
            let filters: Vec<_> = p.filters().map(|f| f.name().to_owned()).collect();
            let scorers: Vec<_> = p.scorers().map(|(s, w)| (s.name().to_owned(), w)).collect();
            (name.as_str(), filters, scorers, p.picker().name().to_owned())
        })
        .collect();
    let owned = |s: &str| s.to_owned();
    let max = owned("max-score-picker");
    assert_eq!(
        seen,
        [
            (
                "prefill",
                vec![owned("prefill-filter")],
                vec![(owned("prefix-cache-scorer"), 2.0), (owned("queue-scorer"), 1.0)],
                max.clone()
            ),
            (
                "decode",
                vec![owned("decode-filter"), owned("prefix-cache-affinity-filter")],
                vec![(owned("queue-scorer"), 0.5)],
                max
            ),
        ]
    );
}

#[test]
fn parameters_reach_their_plugins() {
    let profiles = profiles(PREFILL_DECODE).expect("sound");
    let fleet = Fleet::new(3, 10)
        .matched(&[8, 9, 0])
        .labelled(&[&[("llm-d.ai/role", "both")][..]; 3])
        .load(|i, l| {
            l.queued_prefill_tokens = [0, 79_640, 0][i];
            l.waiting_requests = [0, 5, 0][i];
        });
    // 0.25 · (144/8192)² + 0.75 · 0.9
    let receipt = fleet.receipt(&profiles[0].1, 0);
    let length = 144.0 / 8192.0;
    common::assert_close(&receipt.rows[1].scores[..1], &[0.25 * length * length + 0.675]);
    // Exactly five seconds behind at 15,928 tokens a second: endpoint 1 alone reaches 0.9.
    assert_eq!(fleet.decide(&profiles[1].1, 0).expect("somebody").endpoint, EndpointId(1));
    let slower = fleet.load(|i, l| l.queued_prefill_tokens += u64::from(i == 1));
    assert_ne!(slower.decide(&profiles[1].1, 0).expect("somebody").endpoint, EndpointId(1));
}

#[test]
fn json_is_read_alike_and_defaults_are_llm_ds() {
    let json = r#"{"plugins": [
        {"type": "queue-scorer"}, {"type": "single-profile-handler"}, {"type": "decode-filter"}
    ]}"#;
    let config: Config = serde_json::from_str(json).expect("well-formed");
    let profiles = config.profiles(&Registry::new()).expect("sound");
    let [(name, profile)] = profiles.as_slice() else { panic!("{profiles:?}") };
    assert_eq!((name.as_str(), profile.picker().name()), ("default", "max-score-picker"));
    assert_eq!(profile.filters().len(), 1);
    assert_eq!(profile.scorers().map(|(_, w)| w).collect::<Vec<_>>(), [1.0]);
}

#[test]
fn every_plugin_type_can_be_made() {
    let required = |kind: &str| match kind {
        "tier-cost-scorer" => "{bytesPerToken: 262144, computeSecondsPerToken: 5.7e-5}",
        "by-label" => "{label: gpu, validValues: [h100]}",
        "softmax-picker" => "{temperature: 0.5}",
        "utilization-filter" => "{conditions: [{metric: waiting-queue, maxValue: 3}]}",
        _ => "{}",
    };
    let older =
        ["by-label-selector", "kv-cache-scorer", "predicted-latency-scorer", "slo-aware-routing"];
    for kind in Registry::new().types() {
        let yaml = format!("plugins: [{{type: {kind}, parameters: {}}}]", required(kind));
        let made = profiles(&yaml).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let profile = &made[0].1;
        let named = profile.filters().any(|f| f.name() == kind)
            || profile.scorers().any(|(s, _)| s.name() == kind)
            || profile.picker().name() == kind
            || older.contains(&kind);
        assert!(named, "{kind} does not go by its name");
        let misspelt = format!("plugins: [{{type: {kind}, parameters: {{zzz: 1}}}}]");
        assert!(profiles(&misspelt).is_err(), "{kind} takes a parameter it does not have");
    }
}

#[test]
fn the_documentation_lists_every_plugin_type_and_its_test() {
    let listed = include_str!("../../docs/scorers.md");
    for kind in Registry::new().types() {
        assert!(listed.contains(&format!("`{kind}`")), "docs/scorers.md lacks {kind}");
    }
    let tests = [
        include_str!("formulas.rs"),
        include_str!("peers.rs"),
        include_str!("cost.rs"),
        include_str!("profile.rs"),
    ]
    .concat();
    let rows = listed.lines().skip_while(|line| !line.starts_with("## Every plugin"));
    let rows = rows.take_while(|line| !line.starts_with("## Coming"));
    let names = rows.filter_map(|row| row.strip_suffix("` |")?.rsplit_once('`'));
    let names: Vec<_> = names.map(|(_, name)| name).filter(|name| name.contains('_')).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}

#[test]
fn faults_are_named_with_what_was_probably_meant() {
    let cases = [
        (
            "plugins: [{type: que-scorer}]",
            "unknown plugin type `que-scorer`; did you mean `queue-scorer`?",
        ),
        (
            "plugins: [{type: token-producr}]",
            "unknown plugin type `token-producr`; did you mean `token-producer`?",
        ),
        (
            "plugins: [{type: token-load-scorer, parameters: {queueTresholdTokens: 5}}]",
            "`token-load-scorer` has no parameter `queueTresholdTokens`; did you mean `queueThresholdTokens`?",
        ),
        (
            "plugins: [{type: queue-scorer, parameters: {x: 5}}]",
            "`queue-scorer` has no parameter `x`",
        ),
        (
            "plugins: [{type: load-aware-scorer, parameters: {threshold: high}}]",
            "`load-aware-scorer`: threshold must be a number, it is a text",
        ),
        (
            "plugins: [{type: load-aware-scorer, parameters: {threshold: -1}}]",
            "`load-aware-scorer`: threshold is -1, it must be finite and more than 0",
        ),
        (
            "plugins: [{type: load-aware-scorer, parameters: [1]}]",
            "`load-aware-scorer`: parameters must be a map, it is a list",
        ),
        (
            "plugins: [{type: decision-tree-filter}]",
            "plugin type `decision-tree-filter` does not exist here; take its filters one after the other, and `queue-scorer`",
        ),
        (
            "{plugins: [{type: queue-scorer}], schedulingProfiles: [{name: p}, {name: p}]}",
            "two profiles are called `p`",
        ),
        ("plugins: [{type: by-label}]", "`by-label` needs the parameter `label`"),
        (
            "plugins: [{type: topology-affinity-filter, parameters: {minAffinity: hosts}}]",
            "`topology-affinity-filter`: minAffinity is `hosts`; did you mean `host`?",
        ),
        (
            "plugins: [{type: max-score-picker, parameters: {maxNumOfEndpoints: 2}}]",
            "`max-score-picker`: maxNumOfEndpoints is 2, it must be 1",
        ),
        (
            "plugins: [{type: queue-scorer}, {type: queue-scorer}]",
            "two plugins are called `queue-scorer`",
        ),
        (
            "{plugins: [{type: queue-scorer}], schedulingProfiles: [{name: p, plugins: [{pluginRef: queue}]}]}",
            "profile `p` refers to `queue`, which is not declared; did you mean `queue-scorer`?",
        ),
        (
            "{plugins: [{type: token-producer}], schedulingProfiles: [{name: p, plugins: [{pluginRef: token-producer, weight: 1}]}]}",
            "profile `p` gives `token-producer` a weight, but it is no scorer",
        ),
        (
            "{plugins: [{type: decode-filter}], schedulingProfiles: [{name: p, plugins: [{pluginRef: decode-filter, weight: 2}]}]}",
            "profile `p` gives `decode-filter` a weight, but it is no scorer",
        ),
        (
            "{plugins: [{type: random-picker}, {type: max-score-picker}]}",
            "profile `default` has more than one picker",
        ),
        (
            "{plugins: [{type: queue-scorer}], schedulingProfiles: [{name: p, plugins: [{pluginRef: queue-scorer, weight: -2}]}]}",
            "profile `p`: scorer `queue-scorer` has weight -2; a weight is a finite number, 0 or more",
        ),
        (
            "{kind: Deployment}",
            "the configuration's kind is `Deployment`, it must be `EndpointPickerConfig`",
        ),
        (
            "{schedulingProfile: []}",
            "unknown section `schedulingProfile`; did you mean `schedulingProfiles`?",
        ),
        (
            "plugins: [{type: utilization-filter, parameters: {conditions: [{metric: waiting, maxValue: 1}]}}]",
            "`utilization-filter`: metric is `waiting`; did you mean `waiting-queue`?",
        ),
        (
            "plugins: [{type: prefix-cache-affinity-filter, parameters: {ttftSource: latencyPredictor}}]",
            "`prefix-cache-affinity-filter`: ttftSource is `latencyPredictor`; did you mean `prefillThroughput`?",
        ),
    ];
    for (yaml, want) in cases {
        assert_eq!(error(yaml), want, "{yaml}");
    }
}

#[test]
fn label_selectors_are_read_whole() {
    let yaml = "plugins:
- type: label-selector-filter
  parameters:
    matchLabels: {gpu: h100}
    matchExpressions:
    - {key: zone, operator: NotIn, values: [a, b]}
    - {key: draining, operator: DoesNotExist}
";
    let profile = &profiles(yaml).expect("sound")[0].1;
    let fleet = Fleet::new(5, 0).labelled(&[
        &[("gpu", "h100"), ("zone", "a")],
        &[("gpu", "h100"), ("zone", "c")],
        &[("gpu", "h200"), ("zone", "c")],
        &[("gpu", "h100")],
        &[("gpu", "h100"), ("draining", "")],
    ]);
    let receipt = fleet.receipt(profile, 0);
    let kept: Vec<_> = receipt.rows.iter().filter(|r| r.dropped_by.is_none()).collect();
    assert_eq!(kept.iter().map(|r| r.endpoint.0).collect::<Vec<_>>(), [1, 3]);
}

/// As llm-d's samples do.
#[test]
fn a_profile_may_name_plugins_of_other_parts() {
    let config: Config = serde_yaml_ng::from_str(
        "{plugins: [{type: openai-parser}, {type: queue-scorer}],
          schedulingProfiles: [{name: p, plugins: [{pluginRef: openai-parser}, {pluginRef: queue-scorer, weight: 2}]}]}",
    )
    .unwrap();
    let profiles = config.profiles(&Registry::new()).unwrap();
    let scorers: Vec<_> = profiles[0].1.scorers().map(|(s, weight)| (s.name(), weight)).collect();
    assert_eq!(scorers, [("queue-scorer", 2.0)]);
    assert!(config.elsewhere().eq(["openai-parser"]));
}

#[test]
fn malformed_text_is_refused_with_its_place() {
    let cases = [
        (
            "plugins:\n- type: queue-scorer\n  parameters:\n    a: 1\n    a: 2\n",
            "plugins[0].parameters: `a` is there twice at line 4 column 5",
        ),
        (
            "plugins:\n- type: queue-scorer\n  type: max-score-picker\n",
            "plugins[0]: duplicate field `type` at line 2 column 3",
        ),
        (
            "plugins:\n- type: queue-scorer\n  paramters: {}\n",
            "plugins[0]: unknown field `paramters`, expected one of `type`, `name`, `parameters` at line 3 column 3",
        ),
        (
            "schedulingProfiles:\n- name: p\n  plugins:\n  - {pluginRef: q, weight: heavy}\n",
            "schedulingProfiles[0].plugins[0].weight: invalid type: string \"heavy\", expected f64 at line 4 column 28",
        ),
        ("plugins: [", "did not find expected node content at line 2 column 1"),
    ];
    for (yaml, want) in cases {
        let error = serde_yaml_ng::from_str::<Config>(yaml).expect_err("a fault").to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// What a stranger may send: none of it may take memory or time out of proportion.
#[test]
fn bombs_are_defused() {
    let read = |yaml: &str| serde_yaml_ng::from_str::<Config>(yaml);
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..40 {
        let last = format!("*a{}", i - 1);
        aliases += &format!("a{i}: &a{i} [{}]\n", [last.as_str(); 9].join(", "));
    }
    assert!(read(&format!("dataLayer:\n  {}", aliases.replace('\n', "\n  "))).is_err());
    assert!(read(&format!("dataLayer: {}{}", "[".repeat(2_000), "]".repeat(2_000))).is_err());

    let many: String =
        (0..5_000).map(|i| format!("- {{type: queue-scorer, name: q{i}}}\n")).collect();
    let references: String = (0..5_000).map(|i| format!("  - pluginRef: q{i}\n")).collect();
    let yaml = format!("plugins:\n{many}schedulingProfiles:\n- name: p\n  plugins:\n{references}");
    let profiles = profiles(&yaml).expect("sound");
    assert_eq!(profiles[0].1.scorers().len(), 5_000);
    let long = "q".repeat(1 << 20);
    let unknown = error(&format!("plugins: [{{type: {long}}}]"));
    assert!(unknown.len() < 1000, "{} bytes of message", unknown.len());
    let unknown = error(&format!(
        "plugins:\n{many}schedulingProfiles: [{{name: {long}, plugins: [{{pluginRef: {long}}}]}}]"
    ));
    assert!(unknown.len() < 1000, "{} bytes of message", unknown.len());
}
