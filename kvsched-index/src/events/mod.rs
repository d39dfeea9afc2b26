//! What engines say about their KV caches: bytes to [`Event`](kvsched_core::Event)s.
//!
//! | module | turns | into |
//! |---|---|---|
//! | [`vllm`] | a message's payload (vLLM 0.9 to 0.33, SGLang) | events, and back |
//!
//! No socket is opened here: the caller subscribes and hands in frames.

mod msgpack;
pub mod vllm;
