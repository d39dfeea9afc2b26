use crate::boundary::boundary;
use crate::memory::{Out, OutSlice, Str, hand_over, required_text, slice};
use crate::scheduler::{Fleet, Scheduler, endpoint_id, fleet, nobody, unknown};
use crate::status::{Error, Failure, Status};
use kvsched::events::{Heard, ReplayMessage, Topic};
use kvsched::{EndpointId, IngestError, Router, Time, Trust};
use std::ffi::c_char;
use std::sync::atomic::Ordering;

/// How far the picture of an endpoint's cache can be believed: `kvsched_trust_report.trust`.
/// All of the endpoint's events are known.
pub const KVSCHED_TRUST_EXACT: u32 = 0;
/// Events are missing or were not understood: part of what is reported may be gone.
pub const KVSCHED_TRUST_DEGRADED: u32 = 1;
/// Only our own routing is known, or nothing yet.
pub const KVSCHED_TRUST_APPROXIMATE: u32 = 2;
/// Nothing was heard for too long: what is reported was true then.
pub const KVSCHED_TRUST_STALE: u32 = 3;

/// What came of a message, a replay's message or the passing of time.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Ingested {
    /// Ask the engine for a replay from this message on, now; only if `has_replay_from`.
    pub replay_from: u64,
    /// Messages that could be applied now.
    pub batches: u64,
    /// Blocks that the endpoint did not hold before.
    pub stored: u64,
    /// Blocks that it no longer holds.
    pub removed: u64,
    /// Blocks that it holds and the index does not know: not taken, or impossible to name.
    pub refused: u64,
    /// Events of unknown types, passed over.
    pub unknown_events: u64,
    /// 1 if `replay_from` is set.
    pub has_replay_from: u32,
    /// 1 if the message was known already.
    pub duplicate: u32,
    /// 1 if the engine has started anew, so that all it held was forgotten first.
    pub restarted: u32,
    /// 1 if the engine said that its cache is empty.
    pub cleared: u32,
}

/// How far the picture of an endpoint's cache can be believed.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TrustReport {
    /// Since when, in nanoseconds on the caller's clock.
    pub since_ns: u64,
    /// `KVSCHED_TRUST_…`.
    pub trust: u32,
}

/// Takes in one message of an engine's event stream at `now_ns`: its sequence number (the second
/// frame of the socket's message, eight bytes, big-endian) and its payload (the third), as they
/// came. Bytes that are no events are no error: the message counts as missing, and is to be asked
/// for again.
///
/// `out` may be NULL, but then nobody learns that a replay is needed. A scheduler with a history
/// passes events over. Fails with `UNKNOWN_ENDPOINT`.
///
/// Messages of one endpoint come from one thread at a time; threads may take in messages of
/// different endpoints side by side.
///
/// # Safety
///
/// `scheduler` is a handle, `payload_len` bytes at `payload` are readable, `out` and `error` are
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_ingest(
    scheduler: *const Scheduler,
    endpoint: u32,
    sequence: u64,
    payload: *const u8,
    payload_len: usize,
    now_ns: u64,
    out: *mut Ingested,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let payload = unsafe { slice("payload", payload, payload_len) }?;
        // SAFETY: the caller's promise.
        unsafe {
            hear(scheduler, endpoint, out, |router, id| {
                router.ingest(id, sequence, payload, Time(now_ns))
            })
        }
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Takes in a message of a socket that several engines publish to, each under a topic (the message's
/// first frame) of the form `kv@NAME@MODEL`: `kvsched_ingest` for rank `rank` of the engine called
/// NAME, whose number becomes `*endpoint`, for a replay and the like. `endpoint` may be NULL.
///
/// Fails with `INVALID_ARGUMENT` for a topic of another form, `UNKNOWN_ENDPOINT` if none has that name.
///
/// # Safety
///
/// As `kvsched_ingest`; `topic` is readable, `endpoint` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_ingest_topic(
    scheduler: *const Scheduler,
    topic: Str,
    rank: u32,
    sequence: u64,
    payload: *const u8,
    payload_len: usize,
    now_ns: u64,
    endpoint: *mut u32,
    out: *mut Ingested,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (topic, payload, endpoint, fleet) = unsafe {
            (
                required_text("topic", topic)?,
                slice("payload", payload, payload_len)?,
                Out::optional("endpoint", endpoint)?,
                fleet(scheduler)?,
            )
        };
        let name = Topic::parse(topic).map(|topic| topic.endpoint).ok_or_else(|| {
            let text = format!("`topic` is `{topic}`, not of the form kv@NAME@MODEL");
            Failure::new(Status::InvalidArgument, text)
        })?;
        let id = fleet.router.find_endpoint(name, rank).ok_or_else(|| nobody(name, rank))?;
        // SAFETY: the caller's promise.
        unsafe {
            hear(scheduler, id.0.into(), out, |router, id| {
                router.ingest(id, sequence, payload, Time(now_ns))
            })
        }?;
        if let Some(endpoint) = endpoint {
            endpoint.write(id.0.into());
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Takes in one message of the replay that an earlier call asked for. The engine ends a replay with
/// sequence `UINT64_MAX`; hand that in too.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// As `kvsched_ingest`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_replayed(
    scheduler: *const Scheduler,
    endpoint: u32,
    sequence: u64,
    payload: *const u8,
    payload_len: usize,
    now_ns: u64,
    out: *mut Ingested,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let payload = unsafe { slice("payload", payload, payload_len) }?;
        let message = ReplayMessage::numbered(sequence, payload);
        // SAFETY: the caller's promise.
        unsafe {
            hear(scheduler, endpoint, out, |router, id| router.replayed(id, message, Time(now_ns)))
        }
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Lets time pass for an endpoint's stream: gives up on a replay that does not come, finds an
/// engine silent. Call it every second or so.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` is a handle, `out` and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_tick(
    scheduler: *const Scheduler,
    endpoint: u32,
    now_ns: u64,
    out: *mut Ingested,
    error: *mut Error,
) -> Status {
    // SAFETY: the caller's promise.
    let body =
        || unsafe { hear(scheduler, endpoint, out, |router, id| router.tick(id, Time(now_ns))) };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// How far the picture of an endpoint's cache can be believed, and why, in words. `len` bytes of
/// UTF-8 without a NUL; with `reason_cap` 0 the words are left out and `len` is their length.
///
/// Fails with `UNKNOWN_ENDPOINT`, or `BUFFER_TOO_SMALL` if there is a `reason_cap` and it is too
/// small: `len` is then what is needed.
///
/// # Safety
///
/// `scheduler` is a handle; `reason` has room for `reason_cap` bytes; `out`, `len` and `error`
/// (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_trust(
    scheduler: *const Scheduler,
    endpoint: u32,
    out: *mut TrustReport,
    reason: *mut c_char,
    reason_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (out, reason, len) = unsafe {
            (
                Out::new("out", out)?,
                OutSlice::new("reason", reason, reason_cap)?,
                Out::new("len", len)?,
            )
        };
        let id = endpoint_id(endpoint)?;
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        if !fleet.router.has_endpoint(id) {
            return Err(unknown(endpoint));
        }
        let (row, words) = match fleet.router.trust(id) {
            Some(report) => {
                let trust = match report.trust {
                    Trust::Exact => KVSCHED_TRUST_EXACT,
                    Trust::Degraded => KVSCHED_TRUST_DEGRADED,
                    Trust::Approximate => KVSCHED_TRUST_APPROXIMATE,
                    Trust::Stale => KVSCHED_TRUST_STALE,
                };
                (TrustReport { since_ns: report.since.0, trust }, report.reason.to_string())
            }
            None => {
                let words = "only what was routed there is known".to_owned();
                (TrustReport { since_ns: 0, trust: KVSCHED_TRUST_APPROXIMATE }, words)
            }
        };
        if reason.is_empty() {
            len.write(words.len());
        } else {
            let bytes = words.bytes().map(|b| b.cast_signed() as c_char);
            hand_over("reason", bytes, reason, len)?;
        }
        out.write(row);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// What is wrong between an endpoint's engine and the scheduler, line by line, what matters most first,
/// with what to do about it. Empty where nothing is known to be, or nobody checks
/// (`kvsched_settings.fallback`). `len` bytes of UTF-8 without a NUL; `len` is also written where
/// `text_cap` is too small (`BUFFER_TOO_SMALL`).
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` is a handle; `text` has room for `text_cap` bytes; `len` and `error` (unless NULL) are
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_diagnose(
    scheduler: *const Scheduler,
    endpoint: u32,
    text: *mut c_char,
    text_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (fleet, text, len) = unsafe {
            (fleet(scheduler)?, OutSlice::new("text", text, text_cap)?, Out::new("len", len)?)
        };
        let id = endpoint_id(endpoint)?;
        if !fleet.router.has_endpoint(id) {
            return Err(unknown(endpoint));
        }
        let lines = fleet.router.diagnose(id).into_iter().map(|finding| format!("{finding}\n"));
        let told: String = lines.collect();
        hand_over("text", told.bytes().map(|b| b.cast_signed() as c_char), text, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The number of the next message that an endpoint's stream waits for: all before it are known. 0 where
/// there are no events.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` is a handle, `sequence` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_next_sequence(
    scheduler: *const Scheduler,
    endpoint: u32,
    sequence: *mut u64,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (fleet, sequence) = unsafe { (fleet(scheduler)?, Out::new("sequence", sequence)?) };
        let id = endpoint_id(endpoint)?;
        if !fleet.router.has_endpoint(id) {
            return Err(unknown(endpoint));
        }
        sequence.write(fleet.router.next_sequence(id).unwrap_or(0));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Lets the endpoint's stream hear something, counts what came of it and tells the caller.
///
/// # Safety
///
/// `scheduler` is NULL or a handle, `out` NULL or writable.
unsafe fn hear(
    scheduler: *const Scheduler,
    endpoint: u32,
    out: *mut Ingested,
    say: impl FnOnce(&Router, EndpointId) -> Result<Heard, IngestError>,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    let out = unsafe { Out::optional("out", out) }?;
    let id = endpoint_id(endpoint)?;
    // SAFETY: the caller's promise.
    let Fleet { router, counts, .. } = unsafe { fleet(scheduler) }?;
    let heard = say(router, id).map_err(Failure::of(Status::UnknownEndpoint))?;
    let row = row(&heard);
    counts.batches.fetch_add(row.batches, Ordering::Relaxed);
    counts.replays.fetch_add(u64::from(row.has_replay_from), Ordering::Relaxed);
    counts.duplicates.fetch_add(u64::from(row.duplicate), Ordering::Relaxed);
    counts.restarts.fetch_add(u64::from(row.restarted), Ordering::Relaxed);
    counts.unknown_events.fetch_add(row.unknown_events, Ordering::Relaxed);
    counts.stored.fetch_add(row.stored, Ordering::Relaxed);
    counts.removed.fetch_add(row.removed, Ordering::Relaxed);
    counts.refused.fetch_add(row.refused, Ordering::Relaxed);
    if let Some(out) = out {
        out.write(row);
    }
    Ok(())
}

/// What came of it, as C sees it.
pub(crate) fn row(heard: &Heard) -> Ingested {
    let applied = &heard.applied;
    Ingested {
        replay_from: heard.replay_from.unwrap_or_default(),
        batches: heard.batches as u64,
        stored: applied.stored as u64,
        removed: applied.removed as u64,
        refused: (applied.refused + applied.unnamed) as u64,
        unknown_events: heard.unknown_events as u64,
        has_replay_from: heard.replay_from.is_some().into(),
        duplicate: heard.duplicate.into(),
        restarted: heard.restarted.into(),
        cleared: applied.cleared.into(),
    }
}
