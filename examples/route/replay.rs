//! Replays the recording of a real engine: every event message goes into a router, and before
//! every request the router says how many of its tokens the engine will serve from cache.

use crate::report::{CaptureResult, Note, RequestRow};
use kvsched::events::{ReplayMessage, vllm::Decoder};
use kvsched::{
    Algorithm, BlockHasher, Extras, Lora, Prompt, PromptEmbeds, RouteScratch, Router, Scheme, Time,
    VllmVersion,
};
use kvsched_testdata::capture::{Capture, Request, Step};

type Error = Box<dyn std::error::Error>;

/// The prompt as the engine's cache sees it.
pub(crate) fn prompt(request: &Request) -> Prompt<'_> {
    let embeds = request.prompt_embeds.as_ref();
    Prompt {
        tokens: &request.prompt_token_ids,
        extras: Extras {
            lora: request.lora_name.as_deref().map(|name| Lora {
                name,
                path: request.lora_path.as_deref().unwrap_or_default(),
                int_id: request.lora_int_id.unwrap_or_default(),
            }),
            cache_salt: request.cache_salt.as_deref(),
            embeds: embeds
                .map(|e| PromptEmbeds { bytes: &e.raw_le_hex.0, row_bytes: e.row_bytes() }),
            ..Extras::NONE
        },
    }
}

/// The captured engine's own way to name blocks; where nobody else can compute that (xxhash with
/// a random seed), the content scheme's.
pub(crate) fn engine_scheme(capture: &Capture) -> Result<Scheme, Error> {
    let version: VllmVersion = capture.version().parse()?;
    let algorithm: Algorithm = capture.settings.algo.parse()?;
    let own = Scheme::vllm(version, algorithm, capture.settings.seed.as_deref());
    Ok(own.or_else(|_| Scheme::content(&capture.settings.model, b"any"))?)
}

/// Predicts every request of `capture` from the messages that had arrived before it, with blocks
/// named by `scheme`.
pub(crate) fn replay(capture: &Capture, scheme: Scheme) -> Result<CaptureResult, Error> {
    let hasher = BlockHasher::builder(scheme).block_size(capture.settings.block).build()?;
    let router = Router::builder(hasher).build()?;
    let engine = router.add_endpoint(capture.name.as_str())?;
    let mut scratch = RouteScratch::new(0);
    let mut messages = capture.messages.iter().peekable();
    let mut rows = Vec::new();
    let mut decoder = Decoder::new();
    let mut reset = false;

    for (i, step) in capture.requests.iter().enumerate() {
        let Step::Request(request) = step else {
            reset = true;
            continue;
        };
        let predicted = router.cached_tokens(engine, &prompt(request), &mut scratch)?;
        let note = match (request.is_concurrent(), reset) {
            (true, _) => Note::Concurrent,
            (false, true) => Note::AfterReset,
            (false, false) => Note::Single,
        };
        rows.push(RequestRow {
            label: request.label.clone(),
            prompt_tokens: request.prompt_token_ids.len(),
            predicted,
            engine: request.num_cached_tokens,
            note,
        });
        reset &= request.is_concurrent();
        while let Some(message) = messages.next_if(|m| arrived(capture, &m.during, i)) {
            let sequence = message.sequence().unwrap_or_default();
            // A stream outlives bytes it cannot read; a recording should not hold any.
            let batch = decoder.decode(message.payload());
            let fault = batch.as_ref().map_or_else(Some, |batch| batch.fault());
            if let Some(fault) = fault {
                return Err(format!("message {sequence}: {fault}").into());
            }
            let heard = router.ingest(engine, sequence, message.payload(), Time(sequence))?;
            if heard.replay_from.is_some() {
                // A recording cannot be asked again.
                router.replayed(engine, ReplayMessage::End, Time(sequence))?;
            }
        }
    }

    let counted = || rows.iter().filter(|r| r.note != Note::Concurrent);
    Ok(CaptureResult {
        name: capture.name.clone(),
        requests: counted().count(),
        exact: counted().filter(|r| r.predicted == r.engine).count(),
        predicted_tokens: counted().map(|r| u64::from(r.predicted)).sum(),
        engine_tokens: counted().map(|r| u64::from(r.engine)).sum(),
        rows,
    })
}

/// Whether a message that arrived during the request (or concurrent batch) called `during` had
/// arrived when step `done` was over. All requests of a batch run together, so none of them may
/// be predicted from messages of their own.
fn arrived(capture: &Capture, during: &str, done: usize) -> bool {
    !capture.requests[done + 1..]
        .iter()
        .any(|step| matches!(step, Step::Request(later) if later.batch() == during))
}
