//! Position-independent chunks: documents whose KV is reused wherever they stand in a prompt.
//!
//! A prompt is then a prefix, chunks and fresh text. An endpoint that holds a chunk computes
//! only a share of it: none of a KV Packet (arXiv 2604.13226), the first `k` tokens with EPIC,
//! 10 to 20 % with CacheBlend. What it saves goes to
//! [`DecideInput::saved_tokens`](crate::DecideInput::saved_tokens), so that every scorer that
//! asks for uncached tokens sees it.
//!
//! ```
//! use kvsched_scorers::segment::Reuse;
//! assert_eq!(Reuse::Packet.saved_tokens(1000), 1000);
//! assert_eq!(Reuse::Epic { leading_tokens: 30 }.saved_tokens(1000), 970);
//! assert_eq!(Reuse::CacheBlend { recomputed: 0.15 }.saved_tokens(1000), 850);
//! assert_eq!(Reuse::Epic { leading_tokens: 30 }.saved_tokens(20), 0);
//! ```

/// How a chunk's KV is reused at another position.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reuse {
    /// KV Packet: nothing is computed again. Usable only where the packet is complete.
    Packet,
    /// EPIC: the chunk's first tokens are computed again.
    Epic {
        /// How many.
        leading_tokens: u32,
    },
    /// CacheBlend: a share of the chunk is computed again.
    CacheBlend {
        /// The share; as published, 0.10 to 0.20. Held within \[0, 1\], NaN counts as 1.
        recomputed: f64,
    },
}

impl Reuse {
    /// How many of a chunk's `tokens` tokens need not be computed.
    #[must_use]
    pub fn saved_tokens(self, tokens: u32) -> u32 {
        match self {
            Self::Packet => tokens,
            Self::Epic { leading_tokens } => tokens.saturating_sub(leading_tokens),
            Self::CacheBlend { recomputed } => {
                let share = if recomputed.is_nan() { 1.0 } else { recomputed.clamp(0.0, 1.0) };
                // Rounded against reuse: what is computed is never under-counted.
                tokens - (f64::from(tokens) * share).ceil() as u32
            }
        }
    }
}
