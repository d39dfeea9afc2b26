use crate::custom::{Callback, profile_of};
use crate::status::{Failure, Status};
use kvsched::Profile;
use kvsched_scorers::config::{Config, Registry};
use kvsched_scorers::preset;

/// Bytes of a configuration. Readers of YAML take time that grows with the square of some texts.
const LONGEST_CONFIG: usize = 64 << 10;

/// The profile that settings name, or none where they name none. The caller's scorers are plugins that a
/// configuration may name; without one, they are the profile.
pub(crate) fn profile(
    preset: Option<&str>,
    config: Option<&str>,
    name: Option<&str>,
    scorers: Vec<Callback>,
) -> Result<Option<Profile>, Failure> {
    let wrong = |text: String| Failure::new(Status::Config, text);
    match (preset, config) {
        (Some(_), Some(_)) => Err(wrong("both a preset and a configuration are given".to_owned())),
        (None, None) | (Some(_), None) if name.is_some() => {
            Err(wrong("a profile is named, but no configuration is given".to_owned()))
        }
        (None, None) if scorers.is_empty() => Ok(None),
        (None, None) => profile_of(scorers).map(Some),
        (Some(_), None) if !scorers.is_empty() => Err(wrong(
            "both a preset and scorers are given: name both in a configuration".to_owned(),
        )),
        (Some(preset), None) => {
            preset::by_name(preset).map(Some).map_err(Failure::of(Status::Config))
        }
        (None, Some(config)) if config.len() > LONGEST_CONFIG => Err(wrong(format!(
            "a configuration of {} bytes: at most {LONGEST_CONFIG} are read",
            config.len()
        ))),
        (None, Some(config)) => {
            let config: Config =
                serde_yaml_ng::from_str(config).map_err(Failure::of(Status::Config))?;
            let registry = scorers.into_iter().fold(Registry::new(), |registry, scorer| {
                let name = scorer.name().to_owned();
                registry.scorer(&name, move |_| Ok(Box::new(scorer.clone())))
            });
            let profiles = config.profiles(&registry).map_err(Failure::of(Status::Config))?;
            choose(profiles, name).map(Some)
        }
    }
}

fn choose(profiles: Vec<(String, Profile)>, name: Option<&str>) -> Result<Profile, Failure> {
    let names: Vec<&str> = profiles.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join("`, `");
    let several = profiles.len() > 1;
    let mut fitting = profiles.into_iter().filter(|(own, _)| name.is_none_or(|name| name == own));
    match (fitting.next(), name) {
        (Some(_), None) if several => {
            let text = format!("name one of the configuration's profiles: `{names}`");
            Err(Failure::new(Status::Config, text))
        }
        (Some((_, profile)), _) => Ok(profile),
        (None, name) => {
            let name = name.unwrap_or_default();
            let text = format!("no profile is called `{name}`; the configuration has `{names}`");
            Err(Failure::new(Status::Config, text))
        }
    }
}
