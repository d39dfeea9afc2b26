use crate::boundary::boundary;
use crate::memory::{Out, OutSlice, Str, hand_over, required_text};
use crate::scheduler::{Scheduler, endpoint_id, fleet, nobody, unknown};
use crate::status::{Error, Failure, Status};
use kvsched::{EndpointSpec, RegistryError};
use std::ffi::c_char;

/// Adds an endpoint: data-parallel rank `rank` of the engine called `name`, 0 where there is only
/// one. `endpoint` becomes its number, which names it from now on; numbers of removed endpoints
/// are used again.
///
/// Fails with `NAME_TAKEN`, with `FULL` after 65,535, or with `INVALID_ARGUMENT` without a name.
///
/// # Safety
///
/// `scheduler` is a handle, `name` readable, `endpoint` and `error` (unless NULL) writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_endpoint_add(
    scheduler: *const Scheduler,
    name: Str,
    rank: u32,
    endpoint: *mut u32,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (name, endpoint) =
            unsafe { (required_text("name", name)?, Out::new("endpoint", endpoint)?) };
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        let spec = EndpointSpec::new(name).rank(rank);
        let id = fleet.router.add_endpoint(spec).map_err(|e| {
            let status = match e {
                RegistryError::Taken { .. } => Status::NameTaken,
                RegistryError::Full { .. } => Status::Full,
                _ => Status::InvalidArgument,
            };
            Failure::new(status, e)
        })?;
        endpoint.write(id.0.into());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Forgets an endpoint, its labels and everything it holds.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` is a handle, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_endpoint_remove(
    scheduler: *const Scheduler,
    endpoint: u32,
    error: *mut Error,
) -> Status {
    let body = || {
        let id = endpoint_id(endpoint)?;
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        if !fleet.router.remove_endpoint(id) {
            return Err(unknown(endpoint));
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The number of rank `rank` of the engine called `name`.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// As `kvsched_endpoint_add`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_endpoint_find(
    scheduler: *const Scheduler,
    name: Str,
    rank: u32,
    endpoint: *mut u32,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (name, endpoint) =
            unsafe { (required_text("name", name)?, Out::new("endpoint", endpoint)?) };
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        let found = fleet.router.find_endpoint(name, rank).ok_or_else(|| nobody(name, rank))?;
        endpoint.write(found.0.into());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The numbers of all endpoints, rising. `len` is also written where `endpoints_cap` is too small
/// (`BUFFER_TOO_SMALL`).
///
/// # Safety
///
/// `scheduler` is a handle; `endpoints` has room for `endpoints_cap` numbers; `len` and `error` (unless
/// NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_endpoint_list(
    scheduler: *const Scheduler,
    endpoints: *mut u32,
    endpoints_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (fleet, endpoints, len) = unsafe {
            (
                fleet(scheduler)?,
                OutSlice::new("endpoints", endpoints, endpoints_cap)?,
                Out::new("len", len)?,
            )
        };
        let all = fleet.router.endpoints();
        hand_over("endpoints", all.iter().map(|e| u32::from(e.id().0)), endpoints, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The name of an endpoint's engine: `len` bytes without a NUL. `len` is also written where `name_cap` is
/// too small (`BUFFER_TOO_SMALL`).
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` is a handle; `name` has room for `name_cap` bytes, `len` and `error` (unless NULL)
/// are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_endpoint_name(
    scheduler: *const Scheduler,
    endpoint: u32,
    name: *mut c_char,
    name_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (name, len) =
            unsafe { (OutSlice::new("name", name, name_cap)?, Out::new("len", len)?) };
        let id = endpoint_id(endpoint)?;
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        let found = fleet.router.endpoint(id).ok_or_else(|| unknown(endpoint))?;
        let bytes = found.spec().name.bytes();
        hand_over("name", bytes.map(|b| b.cast_signed() as c_char), name, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Says how many blocks an endpoint's KV cache holds, where a scheduler with a history was told another
/// number for all (`vllm:cache_config_info`). One that knows caches from events passes it over.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` is a handle, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_endpoint_set_cache_blocks(
    scheduler: *const Scheduler,
    endpoint: u32,
    blocks: u32,
    error: *mut Error,
) -> Status {
    let body = || {
        let id = endpoint_id(endpoint)?;
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        if fleet.router.set_cache_blocks(id, blocks) { Ok(()) } else { Err(unknown(endpoint)) }
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Sets a label of an endpoint (its role, zone, rack), in place of what it was: what label filters
/// and topology scorers read.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` is a handle, `key` and `value` are readable, `error` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_endpoint_set_label(
    scheduler: *const Scheduler,
    endpoint: u32,
    key: Str,
    value: Str,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (key, value) = unsafe { (required_text("key", key)?, required_text("value", value)?) };
        let id = endpoint_id(endpoint)?;
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        if fleet.router.set_label(id, key, value) { Ok(()) } else { Err(unknown(endpoint)) }
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}
