//! The atomics of [`Epochs`](super::epochs::Epochs), whose models bring others.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Lets a `SeqCst` exchange become visible before anything that follows.
#[inline]
pub(crate) fn fence_after_exchange() {
    // There the exchange is a barrier already, and only the compiler has to be told. (Miri knows no
    // processor.)
    if cfg!(all(target_arch = "x86_64", not(miri))) {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}
