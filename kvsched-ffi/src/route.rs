use crate::boundary::boundary;
use crate::ledger::number;
use crate::memory::{Out, OutSlice, Str, hand_over, reference, slice, text};
use crate::prompt::{Extras, with_prompt};
use crate::rank::{Ranked, rank};
use crate::scheduler::{Scheduler, endpoint_id, fleet, unknown};
use crate::scratch::{Buffers, Scratch, lock};
use crate::status::{Error, Failure, Status};
use kvsched::{EndpointId, Load, LoraId, RouteInput, RouterError, Time};
use std::ffi::c_char;
use std::time::Duration;

/// `kvsched_request.flags`: `lora_id` is set.
pub const KVSCHED_REQUEST_LORA: u32 = 1;
/// `kvsched_request.flags`: `pinned` is set.
pub const KVSCHED_REQUEST_PINNED: u32 = 2;
/// `kvsched_request.flags`: `near` is set.
pub const KVSCHED_REQUEST_NEAR: u32 = 4;
/// `kvsched_request.flags`: the request will be sent to whomever the call chooses. Saves the call of
/// `kvsched_record`.
pub const KVSCHED_REQUEST_RECORD: u32 = 8;

const FLAGS: u32 =
    KVSCHED_REQUEST_LORA | KVSCHED_REQUEST_PINNED | KVSCHED_REQUEST_NEAR | KVSCHED_REQUEST_RECORD;

/// What is known of a request besides its prompt. All zero: nothing.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Request {
    /// Now, in nanoseconds on the caller's clock, which is one for all calls.
    pub now_ns: u64,
    /// Time to the first token it must keep; 0 for none.
    pub ttft_slo_ns: u64,
    /// Time per output token it must keep; 0 for none.
    pub tpot_slo_ns: u64,
    /// Requests a second expected for the prefix it shares; 0 where unknown.
    pub prefix_demand: f64,
    /// The conversation it belongs to; NULL for none.
    pub session: Str,
    /// The hashes of the prompt's blocks, from `kvsched_hasher_hash` or elsewhere, where the caller has
    /// them already: `tokens` may then be NULL. NULL: they are computed of the tokens.
    pub hashes: *const u64,
    /// How many.
    pub hashes_len: usize,
    /// The prompt as it is written, where no tokenizer is at hand: it is taken for the tokens that
    /// `kvsched_text_tokens` makes of it, and `tokens` has to be empty. NULL: there are tokens or hashes.
    pub text: Str,
    /// `KVSCHED_REQUEST_…`, or-ed: which of the fields below are set.
    pub flags: u32,
    /// The adapter it asks for, numbered as in the candidates' rows.
    pub lora_id: u32,
    /// The endpoint its session is pinned to.
    pub pinned: u32,
    /// The endpoint already chosen for another stage of it.
    pub near: u32,
    /// Output tokens expected; 0 where unknown.
    pub expected_output_tokens: u32,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            now_ns: 0,
            ttft_slo_ns: 0,
            tpot_slo_ns: 0,
            prefix_demand: 0.0,
            session: Str::default(),
            hashes: std::ptr::null(),
            hashes_len: 0,
            text: Str::default(),
            flags: 0,
            lora_id: 0,
            pinned: 0,
            near: 0,
            expected_output_tokens: 0,
        }
    }
}

/// An endpoint that may be chosen, and what it is doing. Zeros: an idle one.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Candidate {
    /// Who.
    pub endpoint: u32,
    /// Requests that wait for their first scheduling (`vllm:num_requests_waiting`).
    pub waiting_requests: u32,
    /// Requests in the running batch (`vllm:num_requests_running`).
    pub running_requests: u32,
    /// Requests routed here and not yet finished, by the caller's own count.
    pub in_flight_requests: u32,
    /// Share of the KV cache in use, 0 to 1 (`vllm:kv_cache_usage_perc`).
    pub kv_usage: f64,
    /// KV cache size in tokens; 0 where unknown.
    pub kv_capacity_tokens: u64,
    /// KV in the cache, in use or kept for reuse, in tokens; 0 where unknown.
    pub resident_tokens: u64,
    /// Prompt tokens routed here and not yet prefilled, without cached ones.
    pub queued_prefill_tokens: u64,
    /// Prompt tokens computed for requests routed here lately, without cached ones.
    pub recent_prefill_tokens: u64,
    /// Prefill speed in tokens a second; 0 where unknown.
    pub prefill_tokens_per_sec: f64,
    /// When these figures were true, in nanoseconds on the caller's clock.
    pub observed_at_ns: u64,
    /// When a request of which nothing was cached was last routed here.
    pub last_cold_at_ns: u64,
    /// 1 if `last_cold_at_ns` is set, 0 if not.
    pub has_last_cold_at: u32,
    /// How many LoRA adapters fit at once; 0 where it serves none.
    pub lora_slots: u32,
    /// How many adapters running requests use: the next so many of `lora_ids`.
    pub lora_active: u32,
    /// How many adapters waiting requests want: the next so many after those.
    pub lora_waiting: u32,
}

/// Where a request goes, and how sure that was.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Decision {
    /// Its final score, 0 to 1, higher is better.
    pub score: f64,
    /// The best score of an endpoint not taken.
    pub runner_up_score: f64,
    /// The endpoint to send the request to.
    pub endpoint: u32,
    /// The endpoint with `runner_up_score`.
    pub runner_up: u32,
    /// 1 if there is a runner-up, 0 if not.
    pub has_runner_up: u32,
    /// Leading prompt blocks it was expected to serve from cache.
    pub matched_blocks: u32,
    /// Full blocks of the prompt that could have been served from cache at best.
    pub prompt_blocks: u32,
    /// How many candidates passed all filters.
    pub candidates: u32,
    /// With `KVSCHED_REQUEST_RECORD` and a ledger: what `kvsched_first_token` and `kvsched_finish` are to
    /// be told; else 0.
    pub ticket: u64,
}

/// Chooses an endpoint for a prompt: the one call a request needs.
///
/// `extras` may be NULL. `lora_ids` belongs to the counts in the candidates' rows, and may be NULL
/// where they are 0. `ranked`, unless `ranked_cap` is 0, needs one row a candidate and is filled
/// with all of them, the chosen one first, then by falling score, then those that a filter
/// dropped. With `ranked_cap` 0, a warm call allocates nothing (but for multimodal items).
///
/// Fails with `UNKNOWN_ENDPOINT`, `NO_ENDPOINT`, `PROMPT`, `BUSY`, `BUFFER_TOO_SMALL`; nothing is
/// written then.
///
/// # Safety
///
/// `scheduler` and `scratch` are handles; the arrays are as long as said; `decision` and `error`
/// (unless NULL) are writable; outputs do not overlap inputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_route(
    scheduler: *const Scheduler,
    scratch: *const Scratch,
    request: *const Request,
    tokens: *const u32,
    tokens_len: usize,
    extras: *const Extras,
    candidates: *const Candidate,
    candidates_len: usize,
    lora_ids: *const u32,
    lora_ids_len: usize,
    decision: *mut Decision,
    ranked: *mut Ranked,
    ranked_cap: usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (request, tokens, candidates, lora_ids, decision, ranked) = unsafe {
            (
                reference("request", request)?,
                slice("tokens", tokens, tokens_len)?,
                slice("candidates", candidates, candidates_len)?,
                slice("lora_ids", lora_ids, lora_ids_len)?,
                Out::new("decision", decision)?,
                OutSlice::new("ranked", ranked, ranked_cap)?,
            )
        };
        if !ranked.is_empty() {
            ranked.check_room("ranked", candidates.len())?;
        }
        // SAFETY: the caller's promise.
        let (fleet, mut buffers) = unsafe { (fleet(scheduler)?, lock(scratch)?) };
        buffers.decided = false;
        fill_rows(candidates, lora_ids, &mut buffers)?;
        // SAFETY: the caller's promise.
        let (named, written) = unsafe {
            (
                slice("request.hashes", request.hashes, request.hashes_len)?,
                text("request.text", request.text)?,
            )
        };
        buffers.named(named);
        if let Some(written) = written {
            buffers.written(written);
        }
        let Buffers { route, candidates: ids, loads, decided, hashes, stand_ins, .. } =
            &mut *buffers;
        let tokens = match written {
            None => tokens,
            Some(_) if tokens.is_empty() => stand_ins,
            Some(_) => {
                let text = format!("`request.text` is set, and there are {} tokens", tokens.len());
                return Err(Failure::new(Status::InvalidArgument, text));
            }
        };
        // SAFETY: the caller's promise.
        let chosen = unsafe {
            let known = known(request)?;
            with_prompt(tokens, extras, |prompt| {
                let input = RouteInput {
                    request: known,
                    hashes: (!request.hashes.is_null()).then_some(hashes.as_slice()),
                    loads,
                    now: Time(request.now_ns),
                    ..RouteInput::new(*prompt, ids)
                };
                fleet.router.route(&input, route).map_err(router_failure)
            })
        }?;
        *decided = true;
        if !ranked.is_empty() {
            ranked.fill(rank(&fleet.router, route));
        }
        let mut ticket = None;
        if request.flags & KVSCHED_REQUEST_RECORD != 0 {
            let now = Time(request.now_ns);
            ticket = fleet.router.record(chosen.endpoint, route, now).map_err(router_failure)?;
        }
        decision.write(Decision {
            score: chosen.score,
            runner_up_score: chosen.runner_up.map_or(0.0, |(_, score)| score),
            endpoint: chosen.endpoint.0.into(),
            runner_up: chosen.runner_up.map_or(0, |(endpoint, _)| endpoint.0.into()),
            has_runner_up: chosen.runner_up.is_some().into(),
            matched_blocks: chosen.matched_blocks,
            prompt_blocks: chosen.prompt_blocks,
            candidates: chosen.candidates,
            ticket: number(ticket),
        });
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Says that the prompt last routed or looked up with `scratch` was sent to `endpoint`. A scheduler
/// with a history learns from it; one that knows caches from events expects the prompt there until
/// they tell. With a ledger, the request counts as work under way from now on, until
/// `kvsched_finish` of `*ticket`, which may be NULL and becomes 0 without a ledger.
///
/// Fails with `UNKNOWN_ENDPOINT`.
///
/// # Safety
///
/// `scheduler` and `scratch` are handles, `ticket` and `error` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_record(
    scheduler: *const Scheduler,
    scratch: *const Scratch,
    endpoint: u32,
    now_ns: u64,
    ticket: *mut u64,
    error: *mut Error,
) -> Status {
    let body = || {
        let id = endpoint_id(endpoint)?;
        // SAFETY: the caller's promise.
        let (fleet, buffers, ticket) =
            unsafe { (fleet(scheduler)?, lock(scratch)?, Out::optional("ticket", ticket)?) };
        let recorded = fleet.router.record(id, &buffers.route, Time(now_ns));
        let recorded = recorded.map_err(router_failure)?;
        if let Some(ticket) = ticket {
            ticket.write(number(recorded));
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// How many of a prompt's tokens `endpoint` would serve from its cache. What the other endpoints
/// hold of the prompt is then in the scratch too, for `kvsched_matches`; a decision it held is
/// gone. O(prompt).
///
/// Fails with `UNKNOWN_ENDPOINT` or `PROMPT`.
///
/// # Safety
///
/// `scheduler` and `scratch` are handles; the array is as long as said; `extras` is NULL or
/// readable; `cached` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_cached_tokens(
    scheduler: *const Scheduler,
    scratch: *const Scratch,
    endpoint: u32,
    tokens: *const u32,
    tokens_len: usize,
    extras: *const Extras,
    cached: *mut u32,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (tokens, cached) =
            unsafe { (slice("tokens", tokens, tokens_len)?, Out::new("cached", cached)?) };
        let id = endpoint_id(endpoint)?;
        // SAFETY: the caller's promise.
        let (fleet, mut buffers) = unsafe { (fleet(scheduler)?, lock(scratch)?) };
        if !fleet.router.has_endpoint(id) {
            return Err(unknown(endpoint));
        }
        buffers.decided = false;
        // SAFETY: the caller's promise.
        let found = unsafe {
            with_prompt(tokens, extras, |prompt| {
                fleet
                    .router
                    .cached_tokens(id, prompt, &mut buffers.route)
                    .map_err(Failure::of(Status::Prompt))
            })
        }?;
        cached.write(found);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// How many leading blocks every endpoint holds of the prompt last routed or looked up with
/// `scratch`, by endpoint number. `len` becomes how many rows there are, also where `blocks_cap`
/// is too small for them (`BUFFER_TOO_SMALL`); endpoints beyond hold nothing.
///
/// # Safety
///
/// `scratch` is a handle; `blocks` has room for `blocks_cap` rows; `len` and `error` (unless NULL)
/// are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_matches(
    scratch: *const Scratch,
    blocks: *mut u32,
    blocks_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (blocks, len, buffers) = unsafe {
            (OutSlice::new("blocks", blocks, blocks_cap)?, Out::new("len", len)?, lock(scratch)?)
        };
        hand_over("blocks", buffers.route.matches().as_slice().iter().copied(), blocks, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// The last decision made with `scratch`, line by line: every candidate with every score. `len`
/// bytes of UTF-8 without a NUL; `len` is also written where `text_cap` is too small
/// (`BUFFER_TOO_SMALL`).
///
/// Fails with `NO_DECISION` if the last call with the scratch was not a `kvsched_route` that
/// succeeded.
///
/// # Safety
///
/// `scheduler` and `scratch` are handles; `text` has room for `text_cap` bytes; `len` and `error`
/// (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_explain(
    scheduler: *const Scheduler,
    scratch: *const Scratch,
    text: *mut c_char,
    text_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (text, len) =
            unsafe { (OutSlice::new("text", text, text_cap)?, Out::new("len", len)?) };
        // SAFETY: the caller's promise.
        let (fleet, buffers) = unsafe { (fleet(scheduler)?, lock(scratch)?) };
        if !buffers.decided {
            let text = "nothing has been decided with this scratch";
            return Err(Failure::new(Status::NoDecision, text));
        }
        let told = fleet.router.explain(&buffers.route);
        hand_over("text", told.bytes().map(|b| b.cast_signed() as c_char), text, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// # Safety
///
/// The session's text is readable.
unsafe fn known<'a>(request: &Request) -> Result<kvsched::Request<'a>, Failure> {
    if request.flags & !FLAGS != 0 {
        let text = format!("`request.flags` is {:#x}; known are {FLAGS:#x}", request.flags);
        return Err(Failure::new(Status::InvalidArgument, text));
    }
    let set = |flag| request.flags & flag != 0;
    let endpoint = |flag, endpoint| set(flag).then(|| endpoint_id(endpoint)).transpose();
    let slo = |ns| (ns > 0).then(|| Duration::from_nanos(ns));
    Ok(kvsched::Request {
        lora: set(KVSCHED_REQUEST_LORA).then_some(LoraId(request.lora_id)),
        // SAFETY: the caller's promise.
        session: unsafe { text("request.session", request.session) }?,
        expected_output_tokens: request.expected_output_tokens,
        pinned: endpoint(KVSCHED_REQUEST_PINNED, request.pinned)?,
        near: endpoint(KVSCHED_REQUEST_NEAR, request.near)?,
        prefix_demand: request.prefix_demand,
        ttft_slo: slo(request.ttft_slo_ns),
        tpot_slo: slo(request.tpot_slo_ns),
        ..kvsched::Request::default()
    })
}

/// Turns the caller's rows into the scratch's, whose memory is used again.
fn fill_rows(
    candidates: &[Candidate],
    mut lora_ids: &[u32],
    buffers: &mut Buffers,
) -> Result<(), Failure> {
    let Buffers { candidates: ids, loads, .. } = buffers;
    ids.clear();
    if loads.len() != candidates.len() {
        loads.resize(candidates.len(), Load::default());
    }
    let total = lora_ids.len();
    for (row, load) in candidates.iter().zip(loads) {
        ids.push(endpoint_id(row.endpoint)?);
        load.waiting_requests = row.waiting_requests;
        load.running_requests = row.running_requests;
        load.in_flight_requests = row.in_flight_requests;
        load.kv_usage = row.kv_usage;
        load.kv_capacity_tokens = row.kv_capacity_tokens;
        load.resident_tokens = row.resident_tokens;
        load.queued_prefill_tokens = row.queued_prefill_tokens;
        load.recent_prefill_tokens = row.recent_prefill_tokens;
        load.prefill_tokens_per_sec = row.prefill_tokens_per_sec;
        load.observed_at = Time(row.observed_at_ns);
        load.last_cold_at = (row.has_last_cold_at != 0).then_some(Time(row.last_cold_at_ns));
        load.lora.slots = row.lora_slots;
        for (list, count) in
            [(&mut load.lora.active, row.lora_active), (&mut load.lora.waiting, row.lora_waiting)]
        {
            let taken = lora_ids.split_at_checked(count as usize).ok_or_else(|| {
                let text = format!("`lora_ids` has {total} elements, fewer than the rows count");
                Failure::new(Status::InvalidArgument, text)
            })?;
            list.clear();
            list.extend(taken.0.iter().copied().map(LoraId));
            lora_ids = taken.1;
        }
    }
    if !lora_ids.is_empty() {
        let text = format!("`lora_ids` has {} of {total} elements too many", lora_ids.len());
        return Err(Failure::new(Status::InvalidArgument, text));
    }
    Ok(())
}

fn router_failure(error: RouterError) -> Failure {
    let status = match &error {
        RouterError::UnknownEndpoint(EndpointId(_)) => Status::UnknownEndpoint,
        RouterError::Hash(_) => Status::Prompt,
        _ => Status::NoEndpoint,
    };
    Failure::new(status, error)
}
