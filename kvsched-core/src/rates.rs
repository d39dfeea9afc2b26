use crate::Tier;

/// How fast an endpoint is, in seconds: the constants of the cost model, fitted from what it
/// did or derived from its hardware.
///
/// - prefill of `u` tokens after `h` cached ones:
///   `prefill + prefill_per_token · u + prefill_per_token_pair · u · (h + u/2)`
/// - one decode step of `b` sequences over `k` tokens of KV:
///   `step + step_per_sequence · b + step_per_kv_token · k`
///
/// The default is a 32B model on two H100s, as published and measured for llm-d's
/// benchmark of 2025 and 2026: a full hit's floor of 0.15 s, 57 µs a token, 2.1 ns a pair, steps of
/// 22 ms + 0.4 ms a sequence, 256 KiB of KV a token.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rates {
    /// Seconds to the first token of a prompt that is wholly cached.
    pub prefill: f64,
    /// Seconds a token to compute.
    pub prefill_per_token: f64,
    /// Seconds a pair of a token to compute and one that it attends to.
    pub prefill_per_token_pair: f64,
    /// Seconds a decode step takes at least.
    pub step: f64,
    /// Seconds a running sequence adds to a step.
    pub step_per_sequence: f64,
    /// Seconds a token of KV in use adds to a step.
    pub step_per_kv_token: f64,
    /// What bringing KV from each tier to the device takes. The device's own is not read.
    pub tiers: [Transfer; Tier::COUNT],
    /// What handing KV over to another endpoint takes.
    pub peer: Transfer,
    /// Seconds to load a LoRA adapter.
    pub lora_load: f64,
    /// Whether a prefill runs in the same steps as the decoding requests and delays them: 1 where
    /// it does, 0 where prefill has an engine of its own.
    pub interference: f64,
}

/// What moving KV takes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Transfer {
    /// Seconds before the first token arrives.
    pub t0: f64,
    /// Seconds a token.
    pub per_token: f64,
}

impl Transfer {
    /// Seconds for `tokens` tokens; 0 for none.
    #[inline]
    #[must_use]
    pub fn secs(self, tokens: f64) -> f64 {
        if tokens > 0.0 { self.t0 + self.per_token * tokens } else { 0.0 }
    }
}

impl Default for Rates {
    fn default() -> Self {
        let from = |per_token| Transfer { t0: 0.013, per_token };
        let mut tiers = [from(22e-6); Tier::COUNT];
        tiers[Tier::DEVICE.index()] = Transfer { t0: 0.0, per_token: 0.0 };
        tiers[Tier::HOST.index()] = from(2.4e-6);
        tiers[Tier::SHARED.index()] = from(10.5e-6);
        Self {
            prefill: 0.15,
            prefill_per_token: 57e-6,
            prefill_per_token_pair: 2.1e-9,
            step: 0.022,
            step_per_sequence: 0.4e-3,
            step_per_kv_token: 39e-9,
            tiers,
            peer: from(5.2e-6),
            lora_load: 0.5,
            interference: 1.0,
        }
    }
}

impl Rates {
    /// Seconds to prefill `tokens` tokens that follow `cached` ones.
    #[inline]
    #[must_use]
    pub fn prefill_secs(&self, tokens: f64, cached: f64) -> f64 {
        self.prefill + self.compute_secs(tokens, cached)
    }

    /// [`Rates::prefill_secs`] without the floor that every request pays.
    #[inline]
    #[must_use]
    pub fn compute_secs(&self, tokens: f64, cached: f64) -> f64 {
        tokens * (self.prefill_per_token + self.prefill_per_token_pair * (cached + 0.5 * tokens))
    }

    /// Seconds of one decode step of `sequences` sequences over `kv_tokens` tokens of KV.
    ///
    /// ```
    /// use kvsched_core::Rates;
    /// let rates = Rates { step_per_kv_token: 0.0, ..Rates::default() };
    /// assert_eq!(rates.step_secs(10.0, 5e4), 0.026);
    /// ```
    #[inline]
    #[must_use]
    pub fn step_secs(&self, sequences: f64, kv_tokens: f64) -> f64 {
        self.step + self.step_per_sequence * sequences + self.step_per_kv_token * kv_tokens
    }
}
