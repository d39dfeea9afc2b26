//! What engines say about their KV caches: bytes to residency that can be believed.
//!
//! | item | turns | into |
//! |---|---|---|
//! | [`vllm`] | a message's payload (vLLM 0.9 to 0.33, SGLang) | events, and back |
//! | [`EventStream`] | numbered messages, in whatever state they arrive | an index's contents, replay requests and [trust](TrustReport) |
//! | [`Topic`], [`replay_message`] | the frames around a payload | their parts |
//!
//! No socket is opened here: the caller subscribes and hands in frames.

mod frames;
mod msgpack;
mod stream;
mod trust;
pub mod vllm;

pub use frames::{FrameError, ReplayMessage, Topic, replay_message, replay_request};
pub use stream::{EventStream, Heard, StreamSettings};
pub use trust::{TrustReason, TrustReport};
