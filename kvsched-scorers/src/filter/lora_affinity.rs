use kvsched_core::{Context, Filter, LoraId, LoraLoad, Needs};

/// `lora-affinity-filter`: keeps the endpoints on which the request's adapter is active or
/// waited for; if there are none, those with room for another; if there are none either,
/// everybody. The Gateway API Inference Extension's rule of 2025, without its exploration.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoraAffinity;

impl LoraAffinity {
    /// The name in configurations.
    pub const NAME: &'static str = "lora-affinity-filter";
}

impl Filter for LoraAffinity {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::LOADS
    }

    fn filter(&self, cx: &Context<'_>, keep: &mut [bool]) {
        let Some(lora) = cx.request.lora else { return };
        let tests: [fn(&LoraLoad, LoraId) -> bool; 2] = [has, |load, _| has_room(load)];
        for test in tests {
            for (candidate, keep) in cx.candidates.iter().zip(keep.iter_mut()) {
                *keep = test(&cx.load(candidate).lora, lora);
            }
            if keep.contains(&true) {
                return;
            }
        }
        keep.fill(true);
    }
}

fn has(load: &LoraLoad, lora: LoraId) -> bool {
    load.active.contains(&lora) || load.waiting.contains(&lora)
}

fn has_room(load: &LoraLoad) -> bool {
    load.active.len() + load.waiting.len() < load.slots as usize
}
