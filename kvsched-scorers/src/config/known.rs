//! The plugins of this crate, by type.

use super::registry::{Plugin, Registry};
use super::{ConfigError, Parameters};
use crate::cost::Cost;
use crate::filter::{self, Label, Metric, Rule};
use crate::{Proximity, picker, scorer};
use kvsched_core::{Filter, Picker, Scorer, Tier};

type Made = Result<Plugin, ConfigError>;

impl Registry {
    /// All plugins of this crate.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Self::empty();
        scorers(&mut registry);
        other_routers(&mut registry);
        filters(&mut registry);
        pickers(&mut registry);
        registry
    }
}

fn made(scorer: impl Scorer + 'static) -> Made {
    Ok(Plugin::Scorer(Box::new(scorer)))
}

fn kept(filter: impl Filter + 'static) -> Made {
    Ok(Plugin::Filter(Box::new(filter)))
}

fn picked(picker: impl Picker + 'static) -> Made {
    Ok(Plugin::Picker(Box::new(picker)))
}

fn scorers(r: &mut Registry) {
    r.add(scorer::ActiveRequest::NAME, |p| {
        p.accept(&["requestTimeout", "inFlightLoadProducerName"]);
        let idle = p.number("idleThreshold")?.unwrap_or(0.0);
        made(scorer::ActiveRequest::with(idle, p.number("maxBusyScore")?.unwrap_or(1.0))?)
    });
    r.add(scorer::ContextLength::NAME, |p| {
        let label = p.text("label")?.unwrap_or(scorer::ContextLength::LABEL);
        let scorer = scorer::ContextLength::with_label(label);
        if p.flag("enableFiltering")? {
            Ok(Plugin::Both(vec![Box::new(scorer.clone())], Box::new(scorer)))
        } else {
            made(scorer)
        }
    });
    r.add(Cost::NAME, |p| made(cost(p)?));
    r.add(scorer::Latency::NAME, |p| {
        p.accept(&["compositeKVWeight", "compositeQueueWeight", "compositePrefixWeight"]);
        p.accept(&["latencyPredictionInfoProducerName", "prefixMatchInfoProducerName"]);
        made(latency(p, "ttftWeight", "tpotWeight")?)
    });
    for name in ["predicted-latency-scorer", "slo-aware-routing"] {
        r.add(name, predicted_latency);
    }
    // Its name in the Inference Extension 0.5 and llm-d 0.3.
    for name in [scorer::KvCacheUtilization::NAME, "kv-cache-scorer"] {
        r.add(name, |_| made(scorer::KvCacheUtilization));
    }
    r.add(scorer::LoadAware::NAME, |p| {
        let scorer = scorer::LoadAware::new();
        made(match p.number("threshold")? {
            Some(requests) => scorer.threshold(requests)?,
            None => scorer,
        })
    });
    r.add(scorer::LoraAffinity::NAME, |_| made(scorer::LoraAffinity));
    r.add(scorer::NoHitLru::NAME, |p| {
        p.accept(&["prefixPluginType", "prefixPluginName", "lruSize"]);
        p.accept(&["prefixMatchInfoProducerName"]);
        made(scorer::NoHitLru)
    });
    r.add(scorer::PrecisePrefixCache::NAME, |p| {
        p.accept(&["tokenProcessorConfig", "indexerConfig", "kvEventsConfig"]);
        p.accept(&["speculativeIndexing", "speculativeTTL"]);
        let mut scorer = scorer::PrecisePrefixCache::new();
        for (name, tier) in TIERS {
            if let Some(weight) = p.number(name)? {
                scorer = scorer.weight(tier, weight)?;
            }
        }
        made(scorer)
    });
    r.add(scorer::PrefixCache::NAME, |p| {
        p.accept(&["prefixMatchInfoProducerName"]);
        // Of the index that these scorers kept themselves: the caller's matches stand in for it.
        p.accept(&["autoTune", "blockSize", "blockSizeTokens", "hashBlockSize"]);
        p.accept(&["lruCapacityPerServer", "maxPrefixBlocksToMatch", "maxPrefixTokensToMatch"]);
        p.accept(&["mode", "tokenProcessorConfig", "indexerConfig", "kvEventsConfig"]);
        let weight = p.number("matchLengthWeight")?.unwrap_or(0.0);
        let scale = p.number("matchLengthScaleTokens")?;
        let scale = scale.unwrap_or(scorer::PrefixCache::LENGTH_SCALE);
        made(scorer::PrefixCache::with_length(weight, scale)?)
    });
    r.add(scorer::Queue::NAME, |_| made(scorer::Queue));
    r.add(scorer::RunningRequests::NAME, |_| made(scorer::RunningRequests));
    r.add(scorer::SessionAffinity::NAME, |p| {
        p.accept(&["strategy", "profileName", "encodedEndpointHeaderConfig", "sessionIdConfig"]);
        made(scorer::SessionAffinity)
    });
    r.add(scorer::TierCost::NAME, |p| {
        let bytes = p.number("bytesPerToken")?.ok_or_else(|| p.missing("bytesPerToken"))?;
        let compute = p.number("computeSecondsPerToken")?;
        let compute = compute.ok_or_else(|| p.missing("computeSecondsPerToken"))?;
        made(scorer::TierCost::new(bytes, compute)?)
    });
    r.add(scorer::TokenLoad::NAME, |p| {
        p.accept(&["inFlightLoadProducerName"]);
        let scorer = scorer::TokenLoad::new();
        made(match p.number("queueThresholdTokens")? {
            Some(tokens) => scorer.threshold(tokens)?,
            None => scorer,
        })
    });
    r.add(scorer::TopologyAffinity::NAME, |p| {
        p.accept(&["topologyProducerName"]);
        made(scorer::TopologyAffinity)
    });
}

fn latency(
    p: &mut Parameters<'_>,
    ttft: &'static str,
    tpot: &'static str,
) -> Result<scorer::Latency, ConfigError> {
    const STRATEGIES: [&str; 2] = ["least", "most"];
    const STRATEGY: &str = "headroomSelectionStrategy";
    let (ttft, tpot) = (p.number(ttft)?.unwrap_or(0.8), p.number(tpot)?.unwrap_or(0.2));
    let scorer = scorer::Latency::new(cost(p)?).weights(ttft, tpot)?;
    match p.text(STRATEGY)?.unwrap_or(STRATEGIES[0]) {
        "least" => Ok(scorer),
        "most" => Ok(scorer.most()),
        word => Err(p.unknown_word(STRATEGY, word, &STRATEGIES)),
    }
}

/// What the Inference Extension 1.2 to 1.4 had as one plugin, in the three that 1.5 split it into.
fn predicted_latency(p: &mut Parameters<'_>) -> Made {
    p.accept(&["samplingMean", "maxSampledTokens", "sloBufferFactor", "contextTTL"]);
    p.accept(&["negHeadroomTTFTWeight", "negHeadroomTPOTWeight", "affinityGateTauGlobal"]);
    p.accept(&["compositeKVWeight", "compositeQueueWeight", "compositePrefixWeight"]);
    p.accept(&["selectionMode", "streamingMode", "endpointRoleLabel"]);
    let sticky = filter::PrefixCacheAffinity::new()
        .threshold(p.number("affinityGateTau")?.unwrap_or(0.8))?
        .exploration(p.number("epsilonExploreSticky")?.unwrap_or(0.01))?
        .max_penalty_secs(p.number("affinityMaxTTFTPenaltyMs")?.unwrap_or(0.0) / 1e3)?;
    let exploration = p.number("epsilonExploreNeg")?.unwrap_or(0.01);
    let tier = filter::SloHeadroom::new(cost(p)?).exploration(exploration)?;
    let scorer = latency(p, "headroomTTFTWeight", "headroomTPOTWeight")?;
    Ok(Plugin::Both(vec![Box::new(sticky), Box::new(tier)], Box::new(scorer)))
}

/// The cost model, with the parameters that concern it.
fn cost(p: &mut Parameters<'_>) -> Result<Cost, ConfigError> {
    let mut cost = Cost::new();
    if let Some(tokens) = p.number("outputTokens")? {
        cost = cost.output_tokens(tokens)?;
    }
    if let Some(chance) = p.number("reuse")? {
        cost = cost.reuse(chance)?;
    }
    if let Some(weight) = p.number("decodeWeight")? {
        cost = cost.decode_weight(weight)?;
    }
    if p.flag("layerWise")? {
        cost = cost.layer_wise();
    }
    Ok(if p.flag("peers")? { cost.peers() } else { cost })
}

/// Names of the tiers in parameters.
const TIERS: [(&str, Tier); 4] = [
    ("deviceWeight", Tier::DEVICE),
    ("hostWeight", Tier::HOST),
    ("diskWeight", Tier::DISK),
    ("sharedWeight", Tier::SHARED),
];

fn other_routers(r: &mut Registry) {
    r.add(scorer::Aibrix::NAME, |p| {
        let gap = p.number("maxGap")?.unwrap_or(8.0);
        made(scorer::Aibrix::with(gap, p.number("standardDeviations")?.unwrap_or(1.0))?)
    });
    r.add(scorer::Dynamo::NAME, |p| {
        let credit = p.number("overlapScoreWeight")?.unwrap_or(1.0);
        let scale = p.number("prefillLoadScale")?.unwrap_or(1.0);
        let decay = p.number("creditDecay")?.unwrap_or(0.0);
        let shared = p.number("sharedCredit")?.unwrap_or(0.5);
        made(scorer::Dynamo::with(credit, scale, decay)?.shared_credit(shared)?)
    });
    r.add(scorer::LeastRequest::NAME, |_| made(scorer::LeastRequest));
    r.add(scorer::Lmetric::NAME, |_| made(scorer::Lmetric));
    r.add(scorer::Preble::NAME, |p| {
        made(scorer::Preble::new().reuse(p.number("evictedHitRate")?.unwrap_or(1.0))?)
    });
    r.add(scorer::ProductionStack::NAME, |_| made(scorer::ProductionStack));
    r.add(scorer::SmgCacheAware::NAME, |p| {
        let absolute = p.number("balanceAbsThreshold")?.unwrap_or(32.0);
        let relative = p.number("balanceRelThreshold")?.unwrap_or(1.1);
        let trusted = p.number("cacheThreshold")?.unwrap_or(0.0);
        made(scorer::SmgCacheAware::new().imbalance(absolute, relative)?.trusted(trusted)?)
    });
    r.add(scorer::SmgLeastLoad::NAME, |_| made(scorer::SmgLeastLoad));
    r.add(filter::RayPrefix::NAME, |p| {
        let filter = filter::RayPrefix::new();
        let filter = filter.least_match(p.number("matchRateThreshold")?.unwrap_or(0.1))?;
        kept(match p.number("imbalancedThreshold")? {
            Some(requests) => filter.imbalance(requests)?,
            None => filter,
        })
    });
}

fn filters(r: &mut Registry) {
    for name in [Label::NAME, "by-label-selector"] {
        r.add(name, selector);
    }
    r.add(Label::BY_LABEL, |p| {
        let label = p.text("label")?.ok_or_else(|| p.missing("label"))?;
        let values = p.texts("validValues")?;
        let missing = p.flag("allowsNoLabel")?;
        if values.is_empty() && !missing {
            return Err(p.missing("validValues"));
        }
        kept(Label::one_of(label, values, missing))
    });
    r.add(Label::PREFILL, |_| kept(Label::prefill()));
    r.add(Label::DECODE, |_| kept(Label::decode()));
    r.add(Label::ENCODE, |_| kept(Label::encode()));
    r.add(filter::LoraAffinity::NAME, |_| kept(filter::LoraAffinity));
    r.add(filter::PrefixCacheAffinity::NAME, |p| {
        p.accept(&["prefixMatchInfoProducerName", "latencyPredictionInfoProducerName"]);
        p.accept(&["inFlightLoadProducerName"]);
        const SOURCE: &str = "prefillThroughput";
        if let Some(word) = p.text("ttftSource")?.filter(|word| *word != SOURCE) {
            return Err(p.unknown_word("ttftSource", word, &[SOURCE]));
        }
        let filter = filter::PrefixCacheAffinity::new()
            .threshold(p.number("affinityThreshold")?.unwrap_or(0.8))?
            .exploration(p.number("explorationProbability")?.unwrap_or(0.0))?
            .max_penalty_secs(p.number("maxTTFTPenaltyMs")?.unwrap_or(18_000.0) / 1e3)?;
        kept(match p.number("peakPrefillThroughput")? {
            Some(speed) => filter.prefill_tokens_per_sec(speed)?,
            None => filter,
        })
    });
    r.add(filter::SessionAffinity::NAME, |p| {
        p.accept(&["strategy", "profileName", "encodedEndpointHeaderConfig", "sessionIdConfig"]);
        kept(filter::SessionAffinity)
    });
    r.add(filter::SloHeadroom::NAME, |p| {
        p.accept(&["latencyPredictionInfoProducerName"]);
        let exploration = p.number("epsilonExploreNeg")?.unwrap_or(0.01);
        kept(filter::SloHeadroom::new(cost(p)?).exploration(exploration)?)
    });
    r.add(filter::TopologyAffinity::NAME, |p| {
        p.accept(&["topologyProducerName"]);
        const LEVELS: [&str; 4] = ["host", "rack", "zone", "region"];
        let word = p.text("minAffinity")?.unwrap_or(LEVELS[0]);
        let level = Proximity::by_name(word);
        let level = level.ok_or_else(|| p.unknown_word("minAffinity", word, &LEVELS))?;
        kept(filter::TopologyAffinity::new(level))
    });
    r.add(filter::Utilization::NAME, utilization);
}

fn selector(p: &mut Parameters<'_>) -> Made {
    let mut filter = Label::selector();
    for (key, value) in p.pairs("matchLabels")? {
        filter = filter.require(key, Rule::In(vec![value.to_owned()]));
    }
    for mut item in p.items("matchExpressions")? {
        const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
        let key = item.text("key")?.ok_or_else(|| item.missing("key"))?;
        let operator = item.text("operator")?.ok_or_else(|| item.missing("operator"))?;
        let values = item.texts("values")?;
        let rule = match operator {
            "In" => Rule::In(values),
            "NotIn" => Rule::NotIn(values),
            "Exists" => Rule::Exists,
            "DoesNotExist" => Rule::DoesNotExist,
            word => return Err(item.unknown_word("operator", word, &OPERATORS)),
        };
        item.finish()?;
        filter = filter.require(key, rule);
    }
    kept(filter)
}

fn utilization(p: &mut Parameters<'_>) -> Made {
    p.accept(&["inFlightLoadProducerName"]);
    let mut filter = filter::Utilization::new();
    let conditions = p.items("conditions")?;
    if conditions.is_empty() {
        return Err(p.missing("conditions"));
    }
    for mut item in conditions {
        let word = item.text("metric")?.ok_or_else(|| item.missing("metric"))?;
        let metric = Metric::ALL.into_iter().find(|metric| metric.name() == word);
        let names = Metric::ALL.map(Metric::name);
        let metric = metric.ok_or_else(|| item.unknown_word("metric", word, &names))?;
        let most = item.number("maxValue")?.ok_or_else(|| item.missing("maxValue"))?;
        item.finish()?;
        filter = filter.cap(metric, most)?;
    }
    kept(if p.flag("fallbackOnEmpty")? { filter.or_everybody() } else { filter })
}

fn pickers(r: &mut Registry) {
    r.add(picker::MaxScore::NAME, |p| {
        one(p, picker::MaxScore::NAME)?;
        picked(picker::MaxScore)
    });
    r.add(picker::Random::NAME, |p| {
        one(p, picker::Random::NAME)?;
        picked(picker::Random)
    });
    r.add(picker::WeightedRandom::NAME, |p| {
        one(p, picker::WeightedRandom::NAME)?;
        picked(picker::WeightedRandom)
    });
    r.add(picker::PowerOfTwo::NAME, |_| picked(picker::PowerOfTwo));
    r.add(picker::RoundRobin::NAME, |_| picked(picker::RoundRobin::new()));
    r.add(picker::Softmax::NAME, |p| {
        let temperature = p.number("temperature")?.ok_or_else(|| p.missing("temperature"))?;
        picked(picker::Softmax::new(temperature)?)
    });
}

/// llm-d's pickers may return several endpoints; a decision here is one.
fn one(p: &mut Parameters<'_>, name: &'static str) -> Result<(), ConfigError> {
    let count = p.number("maxNumOfEndpoints")?.unwrap_or(1.0);
    crate::parameter::check(name, "maxNumOfEndpoints", count, "1", |n| n == 1.0)?;
    Ok(())
}
