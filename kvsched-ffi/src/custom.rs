use crate::memory::{Str, required_text, slice};
use crate::status::{Failure, Status};
use kvsched::{Candidate, Context, Needs, Profile, picker};
use std::ffi::c_void;

/// A scorer of the caller's, called once a request for all candidates.
///
/// `score` writes a score from 0 to 1 for every row, higher is better; one that is left alone, not finite
/// or out of range counts as neutral. It is called by whatever thread routes, by several at a time, and
/// must not unwind (a C++ exception must not leave it) or call the same scheduler. `context` is
/// handed to it as it is and has to live as long as the scheduler.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CustomScorer {
    /// The name it goes by in configurations and explanations.
    pub name: Str,
    /// What its scores weigh, where there is no configuration to say so; above 0.
    pub weight: f64,
    /// The function.
    pub score: ScoreFn,
    /// The caller's.
    pub context: *mut c_void,
}

/// See `kvsched_scorer`.
pub type ScoreFn = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        request: *const ScoredRequest,
        rows: *const ScoredRow,
        rows_len: usize,
        scores: *mut f64,
    ),
>;

/// The request that a custom scorer rates candidates for.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ScoredRequest {
    /// Now, in nanoseconds on the caller's clock.
    pub now_ns: u64,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Tokens a block.
    pub block_size: u32,
    /// Output tokens expected; 0 where unknown.
    pub expected_output_tokens: u32,
}

/// A candidate as a custom scorer sees it: what it holds of the prompt, and what it is doing,
/// brought up to date by the ledger if there is one.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ScoredRow {
    /// Who.
    pub endpoint: u32,
    /// Leading prompt blocks it holds in any tier.
    pub matched_blocks: u32,
    /// Prompt tokens that it would have to compute.
    pub uncached_tokens: u32,
    /// Requests that wait there.
    pub waiting_requests: u32,
    /// Requests in its batch.
    pub running_requests: u32,
    /// Requests sent there and not finished.
    pub in_flight_requests: u32,
    /// Share of its KV cache in use, 0 to 1.
    pub kv_usage: f64,
    /// Prompt tokens sent there and not yet computed.
    pub queued_prefill_tokens: u64,
}

/// How many candidates a call has room for without allocating.
const ON_THE_STACK: usize = 32;

/// A custom scorer among kvsched's.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    name: String,
    pub(crate) weight: f64,
    score:
        unsafe extern "C" fn(*mut c_void, *const ScoredRequest, *const ScoredRow, usize, *mut f64),
    context: *mut c_void,
}

// SAFETY: the caller was told that any thread calls, several at a time, and promised that the
// function and its context can bear it.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Callback {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl kvsched::Scorer for Callback {
    fn name(&self) -> &str {
        &self.name
    }

    fn needs(&self) -> Needs {
        Needs::ALL
    }

    fn score(&self, cx: &Context<'_>, scores: &mut [f64]) {
        let request = ScoredRequest {
            now_ns: cx.now.0,
            prompt_tokens: cx.request.prompt_tokens,
            block_size: cx.request.block_size,
            expected_output_tokens: cx.request.expected_output_tokens,
        };
        let mut few = [ScoredRow::default(); ON_THE_STACK];
        let many: Vec<ScoredRow>;
        let rows = if let Some(few) = few.get_mut(..cx.candidates.len()) {
            for (to, candidate) in few.iter_mut().zip(cx.candidates) {
                *to = row(cx, candidate);
            }
            &*few
        } else {
            many = cx.candidates.iter().map(|candidate| row(cx, candidate)).collect();
            &many
        };
        // SAFETY: what it is handed lives until it returns, and it promised to write no more than
        // one score a row.
        unsafe {
            (self.score)(
                self.context,
                &raw const request,
                rows.as_ptr(),
                rows.len(),
                scores.as_mut_ptr(),
            );
        }
    }
}

fn row(cx: &Context<'_>, candidate: &Candidate) -> ScoredRow {
    let known = ScoredRow {
        endpoint: candidate.endpoint.0.into(),
        matched_blocks: candidate.matched_blocks,
        uncached_tokens: cx.uncached_tokens(candidate),
        ..ScoredRow::default()
    };
    let load = cx.load(candidate);
    ScoredRow {
        waiting_requests: load.waiting_requests,
        running_requests: load.running_requests,
        in_flight_requests: load.in_flight_requests,
        kv_usage: load.kv_usage,
        queued_prefill_tokens: load.queued_prefill_tokens,
        ..known
    }
}

/// The caller's scorers.
///
/// # Safety
///
/// `len` rows are at `scorers`, with readable names; their functions do as they promise.
pub(crate) unsafe fn callbacks(
    scorers: *const CustomScorer,
    len: usize,
) -> Result<Vec<Callback>, Failure> {
    // SAFETY: the caller's promise.
    let rows = unsafe { slice("scorers", scorers, len) }?;
    let callback = |row: &CustomScorer| {
        // SAFETY: the caller's promise.
        let name = unsafe { required_text("scorers.name", row.name) }?.to_owned();
        let score = row.score.ok_or_else(|| {
            Failure::new(Status::NullPointer, format_args!("`scorers.score` of `{name}` is NULL"))
        })?;
        Ok(Callback { name, weight: row.weight, score, context: row.context })
    };
    rows.iter().map(callback).collect()
}

/// The profile of the caller's scorers alone.
pub(crate) fn profile_of(callbacks: Vec<Callback>) -> Result<Profile, Failure> {
    let builder = Profile::builder().picker(Box::new(picker::MaxScore));
    let builder = callbacks.into_iter().fold(builder, |builder, callback| {
        let weight = callback.weight;
        builder.scorer(Box::new(callback), weight)
    });
    builder.build().map_err(Failure::of(Status::Config))
}
