use crate::boundary::boundary;
use crate::handle::{self, Kind};
use crate::memory::Out;
use crate::scheduler::{Scheduler, fleet};
use crate::status::{Error, Failure, Status};
use kvsched::{BlockHash, EndpointId, Load, PrefixMatches, RouteScratch};
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
    pub(crate) hashes: Vec<BlockHash>,
    pub(crate) stand_ins: Vec<u32>,
    found: PrefixMatches,
    /// Whether `route` holds a decision.
    pub(crate) decided: bool,
}

impl Buffers {
    fn new(route: RouteScratch) -> Mutex<Self> {
        Self {
            route,
            candidates: Vec::new(),
            loads: Vec::new(),
            hashes: Vec::new(),
            stand_ins: Vec::new(),
            found: PrefixMatches::new(),
            decided: false,
        }
        .into()
    }

    /// The caller's hashes, and where matches of them may go.
    pub(crate) fn named(&mut self, hashes: &[u64]) -> (&[BlockHash], &mut PrefixMatches) {
        self.hashes.clear();
        self.hashes.extend(hashes.iter().map(|&hash| BlockHash(hash)));
        (&self.hashes, &mut self.found)
    }

    /// The stand-ins for the tokens of the caller's text.
    pub(crate) fn written(&mut self, text: &str) {
        kvsched::hash::stand_in_tokens([text], &mut self.stand_ins);
    }
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
        handle::create(Buffers::new(RouteScratch::new(seed)), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// A new scratch that remembers up to about `memo_bytes` of prompts' beginnings for calls with
/// `scheduler`: a system prompt that many requests share meets an engine's SHA-256 once. The hashes
/// are the same as without. Of no use for content hashers, which are as fast.
///
/// Fails with `INVALID_ARGUMENT` if `memo_bytes` is too little for a single prefix.
///
/// # Safety
///
/// `scheduler` is a handle; `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_scratch_new_with_memo(
    scheduler: *const Scheduler,
    seed: u64,
    memo_bytes: usize,
    out: *mut *mut Scratch,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (fleet, out) = unsafe { (fleet(scheduler)?, Out::new("out", out)?) };
        let route = fleet.router.scratch_with_memo(seed, memo_bytes);
        handle::create(Buffers::new(route.map_err(Failure::of(Status::InvalidArgument))?), out);
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
