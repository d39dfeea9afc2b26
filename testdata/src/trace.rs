//! Request traces as JSON lines with `hash_ids` (Mooncake, Bailian).

use crate::{DataError, read};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// One request of a trace.
#[derive(Clone, Debug, Deserialize)]
pub struct TraceRequest {
    /// Arrival: milliseconds in Mooncake's traces, seconds in Bailian's.
    pub timestamp: f64,
    /// Prompt length in tokens.
    pub input_length: u32,
    /// Generated tokens.
    pub output_length: u32,
    /// One id a block of the prompt; equal ids name equal prefixes. The last may be partial.
    pub hash_ids: Vec<u64>,
}

/// The conversation trace that the repository ships.
#[must_use]
pub fn mooncake_conversation() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/mooncake_conversation.jsonl")
}

/// Tokens that one `hash_id` stands for: the trace's block size, 512 or 16, told from the lengths.
///
/// `None` where the ids fit neither.
#[must_use]
pub fn block_tokens(requests: &[TraceRequest]) -> Option<u32> {
    [512, 16].into_iter().find(|&block| {
        requests.iter().all(|r| r.hash_ids.len() == (r.input_length.div_ceil(block)) as usize)
    })
}

/// Reads a trace.
///
/// # Errors
///
/// If it cannot be read, holds no request, or a line is not a request (the error names the line).
pub fn read(path: &Path) -> Result<Vec<TraceRequest>, DataError> {
    let text = read::text(path)?;
    let content = |message| DataError::Content { path: path.to_owned(), message };
    let mut requests = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let request: TraceRequest =
            serde_json::from_str(text).map_err(|e| DataError::format(path, line, &e))?;
        if request.input_length == 0 || request.hash_ids.is_empty() {
            return Err(content(format!("line {line}: a request without prompt or hash_ids")));
        }
        requests.push(request);
    }
    if requests.is_empty() {
        return Err(content("no request in the trace".to_owned()));
    }
    Ok(requests)
}
