use crate::ParameterError;
use crate::parameter::{positive, quantity};
use kvsched_core::{Rates, Tier, Transfer};

/// An endpoint described by its model and machine, where nothing was measured yet.
///
/// The compute-bound part of prefill is `2 · parameters / flops` a token and
/// `4 · layers · query width / flops` a pair of tokens; a decode step reads all weights and the
/// KV in use once. [`Fit`](super::Fit) starts from here.
///
/// ```
/// use kvsched_core::Tier;
/// use kvsched_scorers::cost::{Hardware, KvShape, TierLink};
///
/// // Qwen3-32B in 16 bits on two H100s.
/// let shape = KvShape { layers: 64, kv_heads: 8, head_dim: 128, bytes_per_element: 2.0 };
/// assert_eq!(shape.bytes_per_token(), 262_144.0);
/// let hardware = Hardware {
///     shape,
///     query_heads: 64,
///     parameters: 32.8e9,
///     weight_bytes: 65.6e9,
///     flops: 2.0 * 989e12 * 0.6,
///     memory_bytes_per_sec: 2.0 * 3.35e12 * 0.8,
///     step_overhead_secs: 0.005,
/// };
/// let host = TierLink { t0: 0.013, bytes_per_sec: 109e9 };
/// let rates = hardware.rates(&[(Tier::HOST, host)], host)?;
/// assert!((rates.prefill_per_token - 55e-6).abs() < 2e-6);
/// assert!((rates.tiers[Tier::HOST.index()].secs(1000.0) - 0.0154).abs() < 1e-4);
/// # Ok::<(), kvsched_scorers::ParameterError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hardware {
    /// The shape of the model's KV.
    pub shape: KvShape,
    /// Query heads of a layer.
    pub query_heads: u32,
    /// Parameters that a token passes: of a mixture of experts the active ones.
    pub parameters: f64,
    /// Bytes of weights that a decode step reads.
    pub weight_bytes: f64,
    /// Floating-point operations a second, as achieved, of all devices together.
    pub flops: f64,
    /// Bytes of device memory read a second, as achieved, of all devices together.
    pub memory_bytes_per_sec: f64,
    /// Seconds of a step that are neither computing nor reading.
    pub step_overhead_secs: f64,
}

/// The shape of a model's KV, from which its bytes follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvShape {
    /// Layers that keep KV.
    pub layers: u32,
    /// KV heads of a layer.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
    /// Bytes of an element: 2 for 16 bits, 1 for 8; of a compressed cache the mean, scales
    /// included (TurboQuant at 3.5 bits: 0.44).
    pub bytes_per_element: f64,
}

impl KvShape {
    /// Bytes that a token's keys and values take.
    #[must_use]
    pub fn bytes_per_token(&self) -> f64 {
        let elements = f64::from(self.layers) * f64::from(self.kv_heads) * f64::from(self.head_dim);
        2.0 * elements * self.bytes_per_element
    }
}

/// How KV comes from a tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierLink {
    /// Seconds before the first byte.
    pub t0: f64,
    /// Bytes a second.
    pub bytes_per_sec: f64,
}

impl Hardware {
    /// The rates that follow, with `tiers` beside the device and `peer` to other endpoints. A
    /// tier that is not named takes ten seconds before the first token: never worth it.
    ///
    /// # Errors
    ///
    /// A figure that is not positive, or a time that is negative; either not finite.
    pub fn rates(
        &self,
        tiers: &[(Tier, TierLink)],
        peer: TierLink,
    ) -> Result<Rates, ParameterError> {
        const NAME: &str = "hardware";
        let bytes = positive(NAME, "bytes_per_token", self.shape.bytes_per_token())?;
        let flops = positive(NAME, "flops", self.flops)?;
        let memory = positive(NAME, "memory_bytes_per_sec", self.memory_bytes_per_sec)?;
        let parameters = positive(NAME, "parameters", self.parameters)?;
        let weights = positive(NAME, "weight_bytes", self.weight_bytes)?;
        let overhead = quantity(NAME, "step_overhead_secs", self.step_overhead_secs)?;
        let transfer = |link: TierLink| {
            let t0 = quantity(NAME, "t0", link.t0)?;
            let per_token = bytes / positive(NAME, "bytes_per_sec", link.bytes_per_sec)?;
            Ok(Transfer { t0, per_token })
        };
        let mut rates = Rates {
            prefill: overhead + weights / memory,
            prefill_per_token: 2.0 * parameters / flops,
            prefill_per_token_pair: self.pair_operations() / flops,
            step: overhead + weights / memory,
            step_per_sequence: 2.0 * parameters / flops,
            step_per_kv_token: bytes / memory,
            tiers: [Transfer { t0: 10.0, per_token: 0.0 }; Tier::COUNT],
            peer: transfer(peer)?,
            ..Rates::default()
        };
        rates.tiers[Tier::DEVICE.index()].t0 = 0.0;
        for &(tier, link) in tiers {
            rates.tiers[tier.index()] = transfer(link)?;
        }
        Ok(rates)
    }

    /// Two products of `head_dim` multiply-adds for each query head and layer.
    fn pair_operations(&self) -> f64 {
        let KvShape { layers, head_dim, .. } = self.shape;
        4.0 * f64::from(layers) * f64::from(self.query_heads) * f64::from(head_dim)
    }
}
