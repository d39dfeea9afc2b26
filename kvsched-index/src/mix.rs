//! Spreading hashes over tables: announced ones are mostly uniform, small numbers and the like are not.

/// All bits of a hash, mixed into the highest ones. A bijection: [`unmix`] undoes it.
#[inline]
pub(crate) fn mix(hash: u64) -> u64 {
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The hash that [`mix`] made this of.
pub(crate) fn unmix(mixed: u64) -> u64 {
    let folded = mixed.wrapping_mul(0xf1de_83e1_9937_733d);
    folded ^ folded >> 32
}
