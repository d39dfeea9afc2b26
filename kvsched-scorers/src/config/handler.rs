//! llm-d's profile handlers for stages: which profile decides what, and when a stage is apart.

use super::{Config, ConfigError, Parameters, PluginSpec, Registry};
use crate::nearest::{nearest, shown};
use crate::parameter::quantity;
use crate::{Pair, Profile};

const DISAGG: &str = "disagg-profile-handler";
/// Its predecessor.
const PD: &str = "pd-profile-handler";
const BY_TOKENS: &str = "prefix-based-pd-decider";
const ALWAYS: &str = "always-disagg-pd-decider";
const MULTIMODAL: &str = "always-disagg-multimodal-decider";

/// When a prefill is split off.
#[derive(Clone, Copy, Debug)]
enum Prefill {
    Never,
    Always,
    /// From so many uncached tokens on.
    From(u32),
}

/// A handler's parameters.
#[derive(Debug)]
struct Stages<'a> {
    decode: &'a str,
    prefill: &'a str,
    encode: &'a str,
    prefill_decider: Option<&'a str>,
    encode_decider: Option<&'a str>,
    /// In characters, of llm-d 0.2 to 0.5.
    threshold: Option<f64>,
}

impl<'a> Stages<'a> {
    fn read(spec: &'a PluginSpec) -> Result<Self, ConfigError> {
        let mut p = Parameters::new(&spec.kind, &spec.parameters)?;
        p.accept(&["hashBlockSize", "prefixPluginType", "prefixPluginName", "primaryPort"]);
        let mut stages = Self {
            decode: p.text("decodeProfile")?.unwrap_or("decode"),
            prefill: p.text("prefillProfile")?.unwrap_or("prefill"),
            encode: p.text("encodeProfile")?.unwrap_or("encode"),
            prefill_decider: match p.text("prefillDeciderPluginName")? {
                None => p.text("deciderPluginName")?,
                named => named,
            },
            encode_decider: p.text("encodeDeciderPluginName")?,
            threshold: p.number("threshold")?,
        };
        p.accept(&["deciderPluginName"]);
        for (stage, profile) in p.pairs("profiles")? {
            match stage {
                "decode" => stages.decode = profile,
                "prefill" => stages.prefill = profile,
                "encode" => stages.encode = profile,
                word => {
                    let known = ["decode", "prefill", "encode"];
                    return Err(p.unknown_word("profiles", word, &known));
                }
            }
        }
        for (stage, decider) in p.pairs("deciders")? {
            match stage {
                "prefill" => stages.prefill_decider = Some(decider),
                "encode" => stages.encode_decider = Some(decider),
                word => return Err(p.unknown_word("deciders", word, &["prefill", "encode"])),
            }
        }
        p.finish()?;
        Ok(stages)
    }

    fn when(&self, handler: &'static str, config: &Config) -> Result<Prefill, ConfigError> {
        if let Some(name) = self.prefill_decider {
            return decider(config, handler, name);
        }
        if handler == DISAGG {
            return Ok(Prefill::Never);
        }
        if let Some(characters) = self.threshold {
            // llm-d's own estimate of characters a token.
            return Ok(match whole(handler, "threshold", characters)?.div_ceil(4) {
                0 => Prefill::Always,
                least => Prefill::From(least),
            });
        }
        let by_tokens = config.plugins.iter().any(|p| p.name() == BY_TOKENS);
        if by_tokens { decider(config, handler, BY_TOKENS) } else { Ok(Prefill::Always) }
    }
}

impl Config {
    /// Prefill, decode and encode as its profile handler has them, if it names
    /// `disagg-profile-handler` or `pd-profile-handler`; `None` where it names neither, so that
    /// [`Config::profiles`] are all there is.
    ///
    /// A stage whose profile is not declared is never apart, as in llm-d. The `threshold` of
    /// llm-d 0.2 to 0.5 is in characters, of which four count as a token here as there.
    ///
    /// # Errors
    ///
    /// Those of [`Config::profiles`], and deciders, parameters or a profile for decoding that do
    /// not exist.
    pub fn pair(&self, registry: &Registry) -> Result<Option<Pair>, ConfigError> {
        let mut profiles = self.profiles(registry)?;
        let handler = |spec| Some(([DISAGG, PD].into_iter().find(|h| *h == kind(spec))?, spec));
        let Some((handler, spec)) = self.plugins.iter().find_map(handler) else {
            return Ok(None);
        };
        let stages = Stages::read(spec)?;
        let names: Vec<_> = profiles.iter().map(|(name, _)| name.clone()).collect();
        let mut take = |name: &str| -> Option<Profile> {
            let position = profiles.iter().position(|(profile, _)| profile == name)?;
            Some(profiles.swap_remove(position).1)
        };
        let Some(decode) = take(stages.decode) else {
            let nearest = nearest(stages.decode, names.iter().map(String::as_str));
            return Err(ConfigError::MissingProfile {
                handler: handler.to_owned(),
                profile: shown(stages.decode),
                nearest: shown(nearest.unwrap_or_default()),
            });
        };
        let when = stages.when(handler, self)?;
        let pair = match (when, take(stages.prefill)) {
            (Prefill::Never, _) | (_, None) => Pair::together(decode),
            (Prefill::Always, Some(prefill)) => Pair::always(prefill, decode),
            (Prefill::From(tokens), Some(prefill)) => Pair::new(prefill, decode, tokens),
        };
        let Some(name) = stages.encode_decider else { return Ok(Some(pair)) };
        decider(self, handler, name)?;
        Ok(Some(match take(stages.encode) {
            Some(encode) => pair.encode(encode),
            None => pair,
        }))
    }
}

fn kind(spec: &PluginSpec) -> &str {
    &spec.kind
}

/// What the declared decider `name` says.
fn decider(config: &Config, handler: &str, name: &str) -> Result<Prefill, ConfigError> {
    let deciders =
        config.plugins.iter().filter(|p| [BY_TOKENS, ALWAYS, MULTIMODAL].contains(&kind(p)));
    let Some(spec) = deciders.clone().find(|p| p.name() == name) else {
        let nearest = nearest(name, deciders.map(PluginSpec::name)).unwrap_or_default();
        return Err(ConfigError::UnknownDecider {
            handler: handler.to_owned(),
            name: shown(name),
            nearest: shown(nearest),
        });
    };
    let mut p = Parameters::new(&spec.kind, &spec.parameters)?;
    if spec.kind != BY_TOKENS {
        p.finish()?;
        return Ok(Prefill::Always);
    }
    let least = p.number("nonCachedTokens")?.unwrap_or(0.0);
    p.finish()?;
    Ok(match whole(BY_TOKENS, "nonCachedTokens", least)? {
        0 => Prefill::Never,
        least => Prefill::From(least),
    })
}

/// A whole number.
fn whole(plugin: &'static str, parameter: &'static str, count: f64) -> Result<u32, ConfigError> {
    Ok(quantity(plugin, parameter, count)?.ceil() as u32)
}
