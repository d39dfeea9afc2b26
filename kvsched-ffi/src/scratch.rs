use crate::boundary::boundary;
use crate::handle::{self, Kind};
use crate::memory::Out;
use crate::status::{Error, Failure, Status};
use kvsched::{EndpointId, Load, RouteScratch};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Buffers and randomness of one routing thread, and its last decision. Keep one a thread: once
/// it has seen the fleet and the longest prompt, a decision allocates nothing. Two threads that
/// use one at a time get `BUSY`.
#[derive(Debug)]
pub struct Scratch(());

impl Kind for Scratch {
    const MAGIC: u64 = u64::from_le_bytes(*b"kvsscra1");
    type State = Mutex<Buffers>;
}

/// What a scratch keeps between calls.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) route: RouteScratch,
    pub(crate) candidates: Vec<EndpointId>,
    pub(crate) loads: Vec<Load>,
    /// Whether `route` holds a decision.
    pub(crate) decided: bool,
}

/// A new scratch. `seed` breaks ties: the same seed and the same calls give the same decisions.
/// The handle in `out` is the caller's to free with `kvsched_scratch_free`.
///
/// # Safety
///
/// `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_scratch_new(
    seed: u64,
    out: *mut *mut Scratch,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new("out", out) }?;
        let route = RouteScratch::new(seed);
        let buffers = Buffers { route, candidates: Vec::new(), loads: Vec::new(), decided: false };
        handle::create(Mutex::new(buffers), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Frees a scratch and sets `*scratch` to NULL. NULL, or a pointer to NULL, is passed over.
///
/// # Safety
///
/// `*scratch` is NULL or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_scratch_free(scratch: *mut *mut Scratch) -> Status {
    // SAFETY: the caller's promise.
    unsafe { boundary(std::ptr::null_mut(), || handle::free("scratch", scratch)) }
}

/// The buffers, if no other thread is using them.
///
/// # Safety
///
/// As [`handle::borrow`].
pub(crate) unsafe fn lock<'a>(scratch: *const Scratch) -> Result<MutexGuard<'a, Buffers>, Failure> {
    // SAFETY: the caller's promise.
    let scratch = unsafe { handle::borrow("scratch", scratch) }?;
    scratch.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => {
            Failure::new(Status::Busy, "another thread is using the scratch")
        }
        TryLockError::Poisoned(_) => {
            Failure::new(Status::Broken, "an earlier call panicked while it used the scratch")
        }
    })
}
