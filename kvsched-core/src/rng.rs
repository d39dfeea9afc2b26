/// The only randomness in kvsched: a seed in, the same decisions out.
///
/// SplitMix64 (Steele, Lea, Flood 2014; the constants of Vigna's public-domain version).
/// Its stream is part of the contract: receipts replay byte for byte across releases. It
/// breaks ties; it is not for secrets.
///
/// ```
/// use kvsched_core::Rng;
/// let mut rng = Rng::new(1234567);
/// assert_eq!(rng.next_u64(), 6457827717110365317); // the published test vector
/// assert!(rng.below(10) < 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts at `seed`; every seed is as good as another.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 when `n` is 0. The bias is below `n / 2^64`.
    #[inline]
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// A number in `[0, 1)` with 53 random bits.
    #[inline]
    pub fn unit_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The current state, from which [`Rng::new`] continues the stream.
    #[must_use]
    pub const fn state(&self) -> u64 {
        self.0
    }
}
