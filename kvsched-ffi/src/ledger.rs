use crate::boundary::boundary;
use crate::memory::Out;
use crate::scheduler::{Fleet, Scheduler, endpoint_id, fleet, unknown};
use crate::status::{Error, Failure, Status};
use kvsched::{InFlight, Ticket, Time};

/// What was sent to an endpoint and has not come back.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Outstanding {
    /// Prompt tokens to compute of requests without a first token.
    pub prefill_tokens: u64,
    /// KV that all of them will have added when they end: uncached prompt and expected output.
    pub kv_tokens: u64,
    /// Requests sent and not finished.
    pub requests: u32,
    /// Those of them that have had their first token.
    pub decoding: u32,
}

/// Says that a request has had its first token: its prompt is computed, and no longer counts as
/// work before others. `ticket` is from `kvsched_route` or `kvsched_record`; 0, which they give where
/// there is no ledger, is passed over.
///
/// Fails with `UNKNOWN_TICKET` if the request has finished, or had its first token, or its lease has
/// ended.
///
/// # Safety
///
/// `scheduler` is a handle, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_first_token(
    scheduler: *const Scheduler,
    ticket: u64,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        redeem(fleet, ticket, InFlight::first_token)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Says that a request has ended, well or badly, after `output_tokens` tokens. A `ticket` of 0 is passed
/// over.
///
/// Fails with `UNKNOWN_TICKET` if it has ended before, or its lease has.
///
/// # Safety
///
/// `scheduler` is a handle, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_finish(
    scheduler: *const Scheduler,
    ticket: u64,
    output_tokens: u32,
    now_ns: u64,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let fleet = unsafe { fleet(scheduler) }?;
        redeem(fleet, ticket, |ledger, ticket| ledger.finish(ticket, output_tokens, Time(now_ns)))
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// What was sent to an endpoint and has not come back; all zero where there is no ledger.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` is a handle, `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_outstanding(
    scheduler: *const Scheduler,
    endpoint: u32,
    out: *mut Outstanding,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (fleet, out) = unsafe { (fleet(scheduler)?, Out::new("out", out)?) };
        let id = endpoint_id(endpoint)?;
        if !fleet.router.has_endpoint(id) {
            return Err(unknown(endpoint));
        }
        let found = fleet.router.in_flight().map(|ledger| ledger.outstanding(id));
        let found = found.unwrap_or_default();
        out.write(Outstanding {
            prefill_tokens: found.prefill_tokens,
            kv_tokens: found.kv_tokens,
            requests: found.requests,
            decoding: found.decoding,
        });
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The number that C keeps for a ticket.
pub(crate) fn number(ticket: Option<Ticket>) -> u64 {
    ticket.map_or(0, Ticket::to_bits)
}

fn redeem(
    fleet: &Fleet,
    number: u64,
    tell: impl FnOnce(&InFlight, Ticket) -> bool,
) -> Result<(), Failure> {
    let Some(ticket) = Ticket::from_bits(number) else { return Ok(()) };
    if fleet.router.in_flight().is_some_and(|ledger| tell(ledger, ticket)) {
        return Ok(());
    }
    let text = format!("ticket {number:#x} is of no request that is under way there");
    Err(Failure::new(Status::UnknownTicket, text))
}
