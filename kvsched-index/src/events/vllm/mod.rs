//! The payloads of vLLM's event publisher, 0.9 to 0.33, and of SGLang's, which uses the same
//! format.
//!
//! ```
//! use kvsched_core::{EngineHash, Event};
//! use kvsched_index::events::vllm::Decoder;
//!
//! // [1.0, [["BlockRemoved", [7], "GPU"]], 0] as msgpack
//! let payload = b"\x93\xcb\x3f\xf0\0\0\0\0\0\0\x91\x93\xacBlockRemoved\x91\x07\xa3GPU\x00";
//! let mut decoder = Decoder::new();
//! let batch = decoder.decode(payload)?;
//! let Some(Event::Removed(removed)) = batch.get(0) else { panic!("a removal") };
//! assert_eq!(removed.hashes, [EngineHash(7)]);
//! assert_eq!(batch.data_parallel_rank(), Some(0));
//! # Ok::<(), kvsched_index::events::vllm::DecodeError>(())
//! ```
//!
//! A payload is `[timestamp, [event…], data-parallel rank]`. An event is an array
//! `[tag, field…]` (vLLM to 0.23, SGLang to 0.5.9 and the like) or a map
//! `{"type": tag, field: value…}` (vLLM since 0.24, newer SGLang). Source of the layouts: the
//! `msgspec` declarations in `vllm/distributed/kv_events.py` of each release and in
//! `sglang/srt/disaggregation/kv_events.py` of 0.5.23.

mod batch;
mod decode;
mod encode;
mod error;
mod fields;

pub use batch::{Batch, Events, WireForm};
pub use decode::Decoder;
pub use encode::{Version, WireEvent, WireHash, encode};
pub use error::DecodeError;
