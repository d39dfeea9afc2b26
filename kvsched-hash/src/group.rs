/// The hashes of a KV-cache group whose blocks are `ratio` times the hashed ones: of every
/// `ratio` consecutive hashes the last, because it names the whole prefix.
///
/// A hybrid model's engine hashes at one block size and keeps groups of several. A group's
/// partial last block has no hash. The same for digests and for 64-bit hashes; a `ratio` of
/// 0 gives nothing. Source: vLLM 0.20 to 0.33 (0.12 to 0.19 strung all `ratio` digests
/// together, which ends in the same 64-bit name).
///
/// ```
/// let hashes = [10, 11, 12, 13, 14];
/// assert!(kvsched_hash::group_view(&hashes, 2).eq([&11, &13]));
/// ```
pub fn group_view<T>(hashes: &[T], ratio: usize) -> impl ExactSizeIterator<Item = &T> {
    let whole = hashes.len().checked_div(ratio).unwrap_or(0);
    (0..whole).map(move |i| &hashes[(i + 1) * ratio - 1])
}
