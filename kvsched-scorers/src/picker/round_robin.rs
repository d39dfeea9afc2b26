use kvsched_core::{Context, Picker, Rng};
use std::sync::atomic::{AtomicUsize, Ordering};

/// `round-robin-picker`: the candidates in turn, whatever the scores. A baseline.
///
/// The turn is the picker's only state, so a log of decisions replays from its start.
#[derive(Debug, Default)]
pub struct RoundRobin {
    turn: AtomicUsize,
}

impl RoundRobin {
    /// The name in configurations.
    pub const NAME: &'static str = "round-robin-picker";

    /// Starts with the first candidate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Picker for RoundRobin {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn pick(&self, _: &Context<'_>, scores: &[f64], _: &mut Rng) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % scores.len()
    }
}
