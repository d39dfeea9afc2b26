/// Lends `use_it` at least `size` zeroed bytes: on the stack where it can be, because the
/// request path must not allocate. A small buffer is a small one to clear.
#[inline]
pub(crate) fn with<R>(size: usize, use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    if size <= 1024 {
        use_it(&mut [0; 1024])
    } else if size <= 16 * 1024 {
        use_it(&mut [0; 16 * 1024])
    } else {
        use_it(&mut vec![0; size])
    }
}
