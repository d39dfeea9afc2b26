//! `kv_events*.json`: payloads of vLLM's event publisher and their meaning.

use crate::{DataError, Hex, read};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// A file of payloads.
#[derive(Debug, Deserialize)]
pub struct KvEvents {
    /// Framing examples.
    #[serde(default)]
    pub meta: Meta,
    /// The payloads.
    pub cases: Vec<Case>,
}

/// Framing examples of the file.
#[derive(Debug, Default, Deserialize)]
pub struct Meta {
    /// Messages as published.
    #[serde(default)]
    pub zmq_examples: Vec<ZmqExample>,
    /// Frames of the end-of-replay marker, by framing.
    #[serde(default)]
    pub end_of_replay: Map<String, Value>,
}

/// A published message.
#[derive(Debug, Deserialize)]
pub struct ZmqExample {
    /// The topic.
    pub topic: String,
    /// The sequence number.
    pub seq: u64,
    /// The frames; the payload's is the text `<payload>`.
    pub frames_hex: Vec<String>,
}

/// One payload and what it says.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The case's name.
    pub name: String,
    /// The engine version.
    pub vllm_version: String,
    /// `array` or `map`.
    pub event_layout: String,
    /// The msgpack bytes.
    pub payload_hex: Hex,
    /// The same as data.
    pub decoded: Decoded,
}

/// The payload as data.
#[derive(Debug, Deserialize)]
pub struct Decoded {
    /// Seconds since the epoch.
    pub ts: f64,
    /// The publishing rank.
    pub data_parallel_rank: Option<i64>,
    /// The events, fields under the engine's own names; byte strings as
    /// `{"bytes_hex": "…"}`.
    pub events: Vec<Map<String, Value>>,
}

impl KvEvents {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not of this format; the error names the line.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        read::json(path)
    }
}
