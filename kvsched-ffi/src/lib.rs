//! `extern "C"`: kvsched for C, C++, Go and everything that calls C.
#![doc = include_str!("../README.md")]

mod boundary;
mod endpoint;
mod handle;
mod hasher;
mod ingest;
mod memory;
mod profile;
mod prompt;
mod rank;
mod route;
mod scheduler;
mod scratch;
mod status;
mod version;

pub use endpoint::{
    kvsched_endpoint_add, kvsched_endpoint_find, kvsched_endpoint_name, kvsched_endpoint_remove,
    kvsched_endpoint_set_label,
};
pub use hasher::{
    Hasher, kvsched_hasher_free, kvsched_hasher_hash, kvsched_hasher_new_content,
    kvsched_hasher_new_vllm,
};
pub use ingest::{
    Ingested, KVSCHED_TRUST_APPROXIMATE, KVSCHED_TRUST_DEGRADED, KVSCHED_TRUST_EXACT,
    KVSCHED_TRUST_STALE, TrustReport, kvsched_ingest, kvsched_replayed, kvsched_tick,
    kvsched_trust,
};
pub use memory::Str;
pub use prompt::{Extras, Multimodal};
pub use rank::{KVSCHED_RANKED_CHOSEN, KVSCHED_RANKED_DROPPED, KVSCHED_TIERS, Ranked};
pub use route::{
    Candidate, Decision, KVSCHED_REQUEST_LORA, KVSCHED_REQUEST_NEAR, KVSCHED_REQUEST_PINNED,
    KVSCHED_REQUEST_RECORD, Request, kvsched_cached_tokens, kvsched_explain, kvsched_matches,
    kvsched_record, kvsched_route,
};
pub use scheduler::{
    Scheduler, Settings, Stats, kvsched_scheduler_free, kvsched_scheduler_new,
    kvsched_scheduler_stats,
};
pub use scratch::{Scratch, kvsched_scratch_free, kvsched_scratch_new};
pub use status::{Error, KVSCHED_ERROR_TEXT, Status, kvsched_status_text};
pub use version::{
    KVSCHED_ABI, KVSCHED_VERSION_MAJOR, KVSCHED_VERSION_MINOR, KVSCHED_VERSION_PATCH, kvsched_abi,
    kvsched_abi_1, kvsched_version,
};
