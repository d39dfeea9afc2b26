use crate::boundary::boundary;
use crate::handle::{self, Kind};
use crate::memory::{Out, OutSlice, hand_over, slice};
use crate::scheduler::endpoint_id;
use crate::scratch::{Scratch, lock};
use crate::status::{Error, Failure, Status};
use kvsched::Time;
use kvsched::index::RoutingHistory;
use std::time::Duration;

/// What was sent where, without a scheduler around it: an approximation of what is cached, for engines
/// that announce nothing. Any number of threads may use one at a time, with any calls but
/// `kvsched_history_free`.
#[derive(Debug)]
pub struct History(());

impl Kind for History {
    const MAGIC: u64 = u64::from_le_bytes(*b"kvshist1");
    type State = RoutingHistory;
}

/// A new history: `blocks` is how many an endpoint's KV cache holds, `lease_ns` how long one that is
/// not used is believed to stay. The handle in `out` is the caller's to free with
/// `kvsched_history_free`.
///
/// Fails with `INVALID_ARGUMENT` if either is 0.
///
/// # Safety
///
/// `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_history_new(
    blocks: u32,
    lease_ns: u64,
    out: *mut *mut History,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new("out", out) }?;
        if blocks == 0 || lease_ns == 0 {
            let text = format!("`blocks` is {blocks} and `lease_ns` {lease_ns}; neither may be 0");
            return Err(Failure::new(Status::InvalidArgument, text));
        }
        handle::create(RoutingHistory::new(blocks, Duration::from_nanos(lease_ns)), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Frees a history and sets `*history` to NULL. NULL, or a pointer to NULL, is passed over.
///
/// # Safety
///
/// `*history` is NULL or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_history_free(history: *mut *mut History) -> Status {
    // SAFETY: the caller's promise.
    unsafe { boundary(std::ptr::null_mut(), || handle::free("history", history)) }
}

/// Says that a prompt of these block hashes was sent to `endpoint`.
///
/// # Safety
///
/// `history` and `scratch` are handles; `hashes_len` hashes are readable; `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_history_record(
    history: *const History,
    scratch: *const Scratch,
    endpoint: u32,
    hashes: *const u64,
    hashes_len: usize,
    now_ns: u64,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (history, hashes, mut buffers) = unsafe {
            (
                handle::borrow("history", history)?,
                slice("hashes", hashes, hashes_len)?,
                lock(scratch)?,
            )
        };
        let id = endpoint_id(endpoint)?;
        history.record(id, buffers.named(hashes).0, Time(now_ns));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// How many leading blocks of a prompt every endpoint probably holds at `now_ns`; rows and lengths as
/// `kvsched_index_match`.
///
/// # Safety
///
/// As `kvsched_index_match`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_history_match(
    history: *const History,
    scratch: *const Scratch,
    hashes: *const u64,
    hashes_len: usize,
    now_ns: u64,
    blocks: *mut u32,
    blocks_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (history, hashes, blocks, len, mut buffers) = unsafe {
            (
                handle::borrow("history", history)?,
                slice("hashes", hashes, hashes_len)?,
                OutSlice::new("blocks", blocks, blocks_cap)?,
                Out::new("len", len)?,
                lock(scratch)?,
            )
        };
        history.expire(Time(now_ns));
        let (named, found) = buffers.named(hashes);
        history.find_matches(named, found);
        hand_over("blocks", found.as_slice().iter().copied(), blocks, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Forgets all of `endpoint`.
///
/// # Safety
///
/// `history` is a handle, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_history_clear(
    history: *const History,
    endpoint: u32,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let history = unsafe { handle::borrow("history", history) }?;
        history.clear(endpoint_id(endpoint)?);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}
