//! How long one step of an engine takes.

/// Seconds of one step: `base + sequences + context + prefill`, each linear in what it counts.
///
/// The shape is a roofline's: a step reads the weights once (`base`), the KV of every sequence
/// it continues (`per_context_token`), pays for each sequence's sampling and bookkeeping
/// (`per_sequence`), and computes prompt tokens at the speed of the arithmetic units
/// (`per_prefill_token`), with attention over what is before them
/// (`per_prefill_token_and_context_token`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// Seconds a step that does nothing else.
    pub base: f64,
    /// Seconds a sequence in the step.
    pub per_sequence: f64,
    /// Seconds a token of KV that a decoding sequence attends to.
    pub per_context_token: f64,
    /// Seconds a prompt token computed.
    pub per_prefill_token: f64,
    /// Seconds a prompt token computed and a token it attends to.
    pub per_prefill_token_and_context_token: f64,
}

/// What one step does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepWork {
    /// Sequences in it.
    pub sequences: u32,
    /// Tokens of KV that its decoding sequences attend to.
    pub context_tokens: u64,
    /// Prompt tokens it computes.
    pub prefill_tokens: u64,
    /// Pairs of a computed prompt token and a token it attends to.
    pub prefill_pairs: f64,
    /// Seconds for all else: loading adapters and packets.
    pub other_secs: f64,
}

impl StepWork {
    /// Adds `tokens` prompt tokens after `context` earlier ones.
    pub fn prefill(&mut self, tokens: u32, context: u32) {
        self.sequences += 1;
        self.prefill_tokens += u64::from(tokens);
        let tokens = f64::from(tokens);
        self.prefill_pairs += tokens * (f64::from(context) + tokens / 2.0);
    }

    /// Adds one output token after `context` earlier ones.
    pub fn decode(&mut self, context: u32) {
        self.sequences += 1;
        self.context_tokens += u64::from(context);
    }
}

impl StepTime {
    /// Qwen3-32B on two H100 under the vLLM of 2025.
    ///
    /// Three constants are physics: a token of KV is 128 KiB on each of the two devices, read at
    /// 3.1 TB/s; prefill is the roofline's 57 µs a token and 2.1 ns a pair, which makes a
    /// prompt of 7,200 tokens run at 15,500 tokens a second, published 15,928. The other two
    /// are fitted to the published stage durations: see `docs/sim/paper.md`.
    pub const QWEN3_32B_TP2_H100: Self = Self {
        base: 0.022,
        per_sequence: 60e-6,
        per_context_token: 42e-9,
        per_prefill_token: 57e-6,
        per_prefill_token_and_context_token: 2.1e-9,
    };

    /// The same model on two A100: 312 TFLOP/s of arithmetic instead of 989, 2.0 TB/s of memory
    /// instead of 3.35.
    pub const QWEN3_32B_TP2_A100: Self = Self {
        base: 0.036,
        per_sequence: 60e-6,
        per_context_token: 69e-9,
        per_prefill_token: 180e-6,
        per_prefill_token_and_context_token: 6.7e-9,
    };

    /// Seconds that `work` takes.
    pub fn seconds(&self, work: &StepWork) -> f64 {
        self.base
            + self.per_sequence * f64::from(work.sequences)
            + self.per_context_token * work.context_tokens as f64
            + self.per_prefill_token * work.prefill_tokens as f64
            + self.per_prefill_token_and_context_token * work.prefill_pairs
            + work.other_secs
    }
}
