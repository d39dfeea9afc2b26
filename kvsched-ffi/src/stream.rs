use crate::boundary::boundary;
use crate::handle::{self, Kind};
use crate::hasher::Hasher;
use crate::index::Index;
use crate::ingest::{Ingested, row};
use crate::memory::{Out, slice};
use crate::scheduler::endpoint_id;
use crate::status::{Error, Failure, Status};
use kvsched::events::{EventStream, Heard, ReplayMessage, StreamSettings};
use kvsched::index::Identity;
use kvsched::{SharedIndex, Time, with_identity};
use std::sync::{Mutex, PoisonError};

/// One endpoint's numbered messages on their way into an index, without a scheduler around it. Threads
/// take turns.
#[derive(Debug)]
pub struct Stream(());

impl Kind for Stream {
    const MAGIC: u64 = u64::from_le_bytes(*b"kvsstre1");
    type State = Mutex<EventStream>;
}

/// The stream of an endpoint of which nothing is known. The handle in `out` is the caller's to free with
/// `kvsched_stream_free`.
///
/// Fails with `UNKNOWN_ENDPOINT` for a number above 65,535.
///
/// # Safety
///
/// `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_stream_new(
    endpoint: u32,
    out: *mut *mut Stream,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new("out", out) }?;
        let stream = EventStream::new(endpoint_id(endpoint)?, StreamSettings::default());
        handle::create(Mutex::new(stream), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Frees a stream and sets `*stream` to NULL. NULL, or a pointer to NULL, is passed over. What its
/// endpoint holds stays in the index: see `kvsched_index_clear`.
///
/// # Safety
///
/// `*stream` is NULL or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_stream_free(stream: *mut *mut Stream) -> Status {
    // SAFETY: the caller's promise.
    unsafe { boundary(std::ptr::null_mut(), || handle::free("stream", stream)) }
}

/// Takes in one message of the endpoint's event stream, as `kvsched_ingest` does; always the same
/// `index`. Blocks are named as `hasher` names them; with NULL, as the engine does.
///
/// # Safety
///
/// `stream` and `index` are handles, `hasher` is NULL or one; `payload_len` bytes at `payload` are
/// readable; `out` and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_stream_receive(
    stream: *const Stream,
    index: *const Index,
    hasher: *const Hasher,
    sequence: u64,
    payload: *const u8,
    payload_len: usize,
    now_ns: u64,
    out: *mut Ingested,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe {
            let payload = slice("payload", payload, payload_len)?;
            hear(stream, index, hasher, out, |stream, mut index, identity| {
                stream.receive(&mut index, identity, sequence, payload, Time(now_ns))
            })
        }
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Takes in one message of the replay that an earlier call asked for, as `kvsched_replayed` does.
///
/// # Safety
///
/// As `kvsched_stream_receive`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_stream_replayed(
    stream: *const Stream,
    index: *const Index,
    hasher: *const Hasher,
    sequence: u64,
    payload: *const u8,
    payload_len: usize,
    now_ns: u64,
    out: *mut Ingested,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe {
            let payload = slice("payload", payload, payload_len)?;
            let message = ReplayMessage::numbered(sequence, payload);
            hear(stream, index, hasher, out, |stream, mut index, identity| {
                stream.replayed(&mut index, identity, message, Time(now_ns))
            })
        }
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Lets time pass, as `kvsched_tick` does.
///
/// # Safety
///
/// As `kvsched_stream_receive`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_stream_tick(
    stream: *const Stream,
    index: *const Index,
    hasher: *const Hasher,
    now_ns: u64,
    out: *mut Ingested,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        unsafe {
            hear(stream, index, hasher, out, |stream, mut index, identity| {
                stream.tick(&mut index, identity, Time(now_ns))
            })
        }
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// # Safety
///
/// `stream` and `index` are NULL or handles, `hasher` too; `out` is NULL or writable.
unsafe fn hear(
    stream: *const Stream,
    index: *const Index,
    hasher: *const Hasher,
    out: *mut Ingested,
    say: impl FnOnce(&mut EventStream, &SharedIndex, &mut Identity<'_>) -> Heard,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let (stream, index, hasher, out) = unsafe {
        (
            handle::borrow("stream", stream)?,
            handle::borrow("index", index)?,
            if hasher.is_null() { None } else { Some(handle::borrow("hasher", hasher)?) },
            Out::optional("out", out)?,
        )
    };
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    let heard = match hasher {
        Some(hasher) => with_identity(hasher, |identity| say(&mut stream, index, identity)),
        None => say(&mut stream, index, &mut Identity::Engine),
    };
    if let Some(out) = out {
        out.write(row(&heard));
    }
    Ok(())
}
