use kvsched_core::{Context, Filter, Needs, Scorer};

/// `context-length-aware`: prefers endpoints whose range of context lengths fits the prompt.
///
/// The range stands in a label (`llm-d.ai/context-length-range`) as `min-max`. Within it
/// `0.3 + 0.7 · (0.7 / (1 + width/10⁴) + 0.3 · headroom/width)`, 1 for a width of 0; outside
/// `0.3 / (1 + distance/1000)`; without the label 0.5; with a label that cannot be read 0.
///
/// As a filter it drops endpoints out of range or with a label that cannot be read.
#[derive(Clone, Debug)]
pub struct ContextLength {
    label: String,
}

impl ContextLength {
    /// The name in configurations.
    pub const NAME: &'static str = "context-length-aware";
    /// The default label.
    pub const LABEL: &'static str = "llm-d.ai/context-length-range";

    /// Reads the range from [`ContextLength::LABEL`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_label(Self::LABEL)
    }

    /// Reads the range from `label`.
    #[must_use]
    pub fn with_label(label: impl Into<String>) -> Self {
        Self { label: label.into() }
    }
}

impl Default for ContextLength {
    fn default() -> Self {
        Self::new()
    }
}

/// `(min, max)` of "min-max".
fn range(text: &str) -> Option<(u32, u32)> {
    let (min, max) = text.split_once('-')?;
    let (min, max) = (min.trim().parse().ok()?, max.trim().parse().ok()?);
    (min <= max).then_some((min, max))
}

fn rate(length: u32, (min, max): (u32, u32)) -> f64 {
    if (min..=max).contains(&length) {
        if min == max {
            return 1.0;
        }
        let (width, headroom) = (f64::from(max - min), f64::from(max - length));
        0.3 + 0.7 * (0.7 / (1.0 + width / 1e4) + 0.3 * headroom / width)
    } else {
        let distance = if length > max { length - max } else { min - length };
        0.3 / (1.0 + f64::from(distance) / 1e3)
    }
}

impl Scorer for ContextLength {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let length = cx.request.prompt_tokens;
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            *score = match cx.label(candidate.endpoint, &self.label) {
                None => 0.5,
                Some(text) => range(text).map_or(0.0, |range| rate(length, range)),
            };
        }
    }
}

impl Filter for ContextLength {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        let length = cx.request.prompt_tokens;
        for (candidate, keep) in cx.candidates.iter().zip(keep) {
            let label = cx.label(candidate.endpoint, &self.label).map(range);
            *keep = label.is_none_or(|r| r.is_some_and(|(min, max)| (min..=max).contains(&length)));
        }
    }
}
