//! What collections of the standard library allocate.

/// A hash table's bytes: at most 8 entries in 7/8 of a power of two of slots, each with a byte beside
/// it.
pub(crate) fn table_bytes<T>(capacity: usize) -> usize {
    (capacity * 8).div_ceil(7) * (size_of::<T>() + 1)
}
