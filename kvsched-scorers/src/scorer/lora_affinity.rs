use kvsched_core::{Context, LoraLoad, Needs, Scorer};

/// `lora-affinity-scorer`: how soon the endpoint can run the request's adapter.
///
/// 1.0 where it is active, 0.8 where there is room for another, 0.6 where it is already
/// waited for, else 0. A request without an adapter is run at once anywhere: 1.0.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoraAffinity;

impl LoraAffinity {
    /// The name in configurations.
    pub const NAME: &'static str = "lora-affinity-scorer";
}

impl Scorer for LoraAffinity {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let Some(lora) = cx.request.lora else {
            scores.fill(1.0);
            return;
        };
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let LoraLoad { active, waiting, slots } = &cx.load(candidate).lora;
            *score = if active.contains(&lora) {
                1.0
            } else if active.len() + waiting.len() < *slots as usize {
                0.8
            } else if waiting.contains(&lora) {
                0.6
            } else {
                0.0
            };
        }
    }
}
