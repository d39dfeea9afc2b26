use crate::boundary::boundary;
use crate::handle::{self, Kind};
use crate::hasher::Hasher;
use crate::index::Index;
use crate::memory::{Out, OutSlice, slice};
use crate::scheduler::{Fleet, Scheduler, Settings, builder, fleet};
use crate::status::{Error, Failure, Status};
use kvsched::index::SnapshotReader;
use kvsched::{RestoreError, Restoring, SharedIndex, Time};
use std::sync::{Mutex, PoisonError};

/// What a scheduler or an index knows, as bytes that are read piece by piece. Versioned and
/// checksummed. Threads take turns.
#[derive(Debug)]
pub struct Snapshot(());

impl Kind for Snapshot {
    const MAGIC: u64 = u64::from_le_bytes(*b"kvssnap1");
    type State = Mutex<Unread>;
}

/// Bytes, and how many of them have been read.
#[derive(Debug)]
pub(crate) struct Unread {
    bytes: Vec<u8>,
    read: usize,
}

impl Unread {
    pub(crate) fn new(bytes: Vec<u8>) -> Mutex<Self> {
        Self { bytes, read: 0 }.into()
    }
}

/// A scheduler or an index on its way back from a snapshot's bytes. Threads take turns.
#[derive(Debug)]
pub struct Restore(());

impl Kind for Restore {
    const MAGIC: u64 = u64::from_le_bytes(*b"kvsrest1");
    type State = Mutex<Half>;
}

/// What is being restored; nothing once it is finished or has failed.
#[derive(Debug)]
pub(crate) enum Half {
    Scheduler(Box<Restoring>),
    Index(Box<SnapshotReader<SharedIndex>>),
    Nothing,
}

/// Writes down the fleet and all that its caches hold: for a second replica, or for this one after a
/// restart. Routing goes on meanwhile; events and changes of the fleet wait. The handle in `out` is
/// the caller's to free with `kvsched_snapshot_free`.
///
/// Fails with `INVALID_ARGUMENT` for a scheduler with a history.
///
/// # Safety
///
/// `scheduler` is a handle, `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_snapshot_new(
    scheduler: *const Scheduler,
    out: *mut *mut Snapshot,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (fleet, out) = unsafe { (fleet(scheduler)?, Out::new("out", out)?) };
        let mut bytes = Vec::new();
        let written = fleet.router.write_snapshot(|piece| bytes.extend_from_slice(piece));
        written.map_err(Failure::of(Status::InvalidArgument))?;
        handle::create(Unread::new(bytes), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The next bytes of a snapshot, at most `bytes_cap`. `len` becomes how many they are: 0 at the end.
///
/// # Safety
///
/// `snapshot` is a handle; `bytes` has room for `bytes_cap`; `len` and `error` (unless NULL) are
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_snapshot_read(
    snapshot: *const Snapshot,
    bytes: *mut u8,
    bytes_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (snapshot, bytes, len) = unsafe {
            (
                handle::borrow("snapshot", snapshot)?,
                OutSlice::new("bytes", bytes, bytes_cap)?,
                Out::new("len", len)?,
            )
        };
        if bytes.is_empty() {
            return Err(Failure::new(Status::BufferTooSmall, "`bytes` has no room"));
        }
        let mut unread = snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = unread.bytes.get(unread.read..).unwrap_or_default();
        let piece = rest.len().min(bytes_cap);
        bytes.fill(rest.iter().copied());
        unread.read += piece;
        len.write(piece);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Frees a snapshot and sets `*snapshot` to NULL. NULL, or a pointer to NULL, is passed over.
///
/// # Safety
///
/// `*snapshot` is NULL or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_snapshot_free(snapshot: *mut *mut Snapshot) -> Status {
    // SAFETY: the caller's promise.
    unsafe { boundary(std::ptr::null_mut(), || handle::free("snapshot", snapshot)) }
}

/// Begins to restore a scheduler from the bytes of a snapshot: hand them to `kvsched_restore_push`, then
/// call `kvsched_restore_finish`. `hasher` and `settings` are as for `kvsched_scheduler_new`; the hasher
/// has to give the same names as the one the snapshot was written with. The handle in `out` is the
/// caller's to free with `kvsched_restore_free`.
///
/// Fails as `kvsched_scheduler_new`, and with `CONFIG` for settings with a history.
///
/// # Safety
///
/// As `kvsched_scheduler_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_restore_new(
    hasher: *const Hasher,
    settings: *const Settings,
    out: *mut *mut Restore,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (builder, out) = unsafe { (builder(hasher, settings)?, Out::new("out", out)?) };
        let restoring = builder.restore().map_err(Failure::of(Status::Config))?;
        handle::create(Half::Scheduler(Box::new(restoring)).into(), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// As `kvsched_restore_new`, of an index: to be finished by `kvsched_restore_finish_index`.
///
/// Fails as `kvsched_index_new`.
///
/// # Safety
///
/// `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_restore_new_index(
    block_size: u32,
    byte_budget: usize,
    out: *mut *mut Restore,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new("out", out) }?;
        let reader = SnapshotReader::new(crate::index::build(block_size, byte_budget)?);
        handle::create(Half::Index(Box::new(reader)).into(), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The next bytes of the snapshot, in pieces of any size.
///
/// Fails with `SNAPSHOT` if they are not what a snapshot has there; the restore is then over.
///
/// # Safety
///
/// `restore` is a handle, `bytes_len` bytes at `bytes` are readable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_restore_push(
    restore: *const Restore,
    bytes: *const u8,
    bytes_len: usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (restore, bytes) =
            unsafe { (handle::borrow("restore", restore)?, slice("bytes", bytes, bytes_len)?) };
        let mut half = restore.lock().unwrap_or_else(PoisonError::into_inner);
        let pushed = match &mut *half {
            Half::Scheduler(restoring) => restoring.push(bytes),
            Half::Index(reader) => reader.push(bytes).map_err(RestoreError::from),
            Half::Nothing => return Err(over()),
        };
        pushed.map_err(|e| {
            *half = Half::Nothing;
            Failure::new(Status::Snapshot, e)
        })
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The scheduler, once all bytes have been pushed: its endpoints have the numbers they had
/// (`kvsched_endpoint_list`). Ask each engine for a replay from where its stream stands
/// (`kvsched_next_sequence`), or just subscribe and do what `kvsched_ingest` says. The restore is over,
/// and is still to be freed.
///
/// Fails with `SNAPSHOT` if bytes are missing or the snapshot's hasher was another.
///
/// # Safety
///
/// `restore` is a handle, `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_restore_finish(
    restore: *const Restore,
    now_ns: u64,
    out: *mut *mut Scheduler,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (half, out) = unsafe { (take(restore)?, Out::new("out", out)?) };
        let Half::Scheduler(restoring) = half else { return Err(over()) };
        let router = restoring.finish(Time(now_ns)).map_err(Failure::of(Status::Snapshot))?;
        handle::create(Fleet::new(router), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The index, once all bytes have been pushed. The restore is over, and is still to be freed.
///
/// Fails with `SNAPSHOT` if bytes are missing.
///
/// # Safety
///
/// As `kvsched_restore_finish`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_restore_finish_index(
    restore: *const Restore,
    out: *mut *mut Index,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (half, out) = unsafe { (take(restore)?, Out::new("out", out)?) };
        let Half::Index(reader) = half else { return Err(over()) };
        let restored = reader.finish().map_err(Failure::of(Status::Snapshot))?;
        handle::create(restored.index, out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Frees a restore and sets `*restore` to NULL. NULL, or a pointer to NULL, is passed over.
///
/// # Safety
///
/// `*restore` is NULL or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_restore_free(restore: *mut *mut Restore) -> Status {
    // SAFETY: the caller's promise.
    unsafe { boundary(std::ptr::null_mut(), || handle::free("restore", restore)) }
}

/// # Safety
///
/// As [`handle::borrow`].
unsafe fn take(restore: *const Restore) -> Result<Half, Failure> {
    // SAFETY: the caller's promise.
    let restore = unsafe { handle::borrow("restore", restore) }?;
    let mut half = restore.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::replace(&mut *half, Half::Nothing))
}

fn over() -> Failure {
    let text = "the restore is of another kind, or is finished, or has failed";
    Failure::new(Status::InvalidArgument, text)
}
