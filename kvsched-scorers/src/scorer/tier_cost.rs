use crate::ParameterError;
use crate::parameter::{positive, quantity};
use kvsched_core::{Context, Needs, Scorer, Tier};

/// `tier-cost-scorer`: seconds until the prompt's KV is on the device, against computing all
/// of it.
///
/// Every tier's blocks are either loaded, at `t0 + bytes / bandwidth`, or computed again,
/// whichever is sooner. Tiers load side by side, so the slowest load counts; what is computed
/// is added. `score = 1 − seconds / seconds without any cache`: 1 where everything lies on the
/// device, 0 where nothing helps. On the device alone it equals the
/// [`PrefixCache`](super::PrefixCache) scorer for a prompt of whole blocks, so its weight carries
/// over.
///
/// ```
/// use kvsched_core::Tier;
/// use kvsched_scorers::scorer::{TierCost, TierPrice};
/// let scorer = TierCost::new(262_144.0, 57e-6)?
///     .tier(Tier::HOST, TierPrice { t0: 0.013, bytes_per_sec: 109e9 })?;
/// # Ok::<(), kvsched_scorers::ParameterError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct TierCost {
    bytes_per_token: f64,
    compute_secs_per_token: f64,
    prices: [TierPrice; Tier::COUNT],
}

/// What it costs to bring KV from a tier to the device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierPrice {
    /// Seconds before the first byte.
    pub t0: f64,
    /// Bytes a second.
    pub bytes_per_sec: f64,
}

impl TierCost {
    /// The name in configurations.
    pub const NAME: &'static str = "tier-cost-scorer";

    /// For a model whose KV takes `bytes_per_token` on an endpoint that computes a token's
    /// prefill in `compute_secs_per_token`.
    ///
    /// Tiers start as measured on hosts with H100s: host memory over PCIe 109 GB/s, local disk
    /// 12 GB/s, a shared store 25 GB/s; before the first byte 13 ms everywhere (one H20, prefixes of
    /// 1k to 64k tokens from the host). A tier beyond those is priced like the disk.
    ///
    /// # Errors
    ///
    /// A figure that is not positive and finite.
    pub fn new(bytes_per_token: f64, compute_secs_per_token: f64) -> Result<Self, ParameterError> {
        let price = |gigabytes| TierPrice { t0: 0.013, bytes_per_sec: gigabytes * 1e9 };
        let mut prices = [price(12.0); Tier::COUNT];
        prices[Tier::HOST.index()] = price(109.0);
        prices[Tier::SHARED.index()] = price(25.0);
        let per_token = positive(Self::NAME, "computeSecondsPerToken", compute_secs_per_token)?;
        Ok(Self {
            bytes_per_token: positive(Self::NAME, "bytesPerToken", bytes_per_token)?,
            compute_secs_per_token: per_token,
            prices,
        })
    }

    /// Sets the price of `tier`. The device's is not read: its blocks are used in place.
    ///
    /// # Errors
    ///
    /// A start-up time that is negative, a bandwidth that is not positive, either not finite.
    pub fn tier(mut self, tier: Tier, price: TierPrice) -> Result<Self, ParameterError> {
        quantity(Self::NAME, "t0", price.t0)?;
        positive(Self::NAME, "bytesPerSecond", price.bytes_per_sec)?;
        self.prices[tier.index()] = price;
        Ok(self)
    }
}

impl Scorer for TierCost {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn needs(&self) -> Needs {
        Needs::MATCHES
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let block = f64::from(cx.request.block_size);
        let everything = f64::from(cx.request.prompt_tokens.max(1)) * self.compute_secs_per_token;
        for (candidate, score) in cx.candidates.iter().zip(scores) {
            let mut load = 0.0_f64;
            let mut compute =
                f64::from(cx.uncached_tokens(candidate)) * self.compute_secs_per_token;
            for run in cx.slow_runs(candidate) {
                let tokens = f64::from(run.blocks) * block;
                let price = &self.prices[run.tier.index()];
                let fetch = price.t0 + tokens * self.bytes_per_token / price.bytes_per_sec;
                let again = tokens * self.compute_secs_per_token;
                if fetch < again { load = load.max(fetch) } else { compute += again }
            }
            *score = (1.0 - (load + compute) / everything).clamp(0.0, 1.0);
        }
    }
}
