//! `extern "C"`: kvsched for C, C++, Go and everything that calls C.
#![doc = include_str!("../README.md")]

mod boundary;
mod custom;
mod endpoint;
mod handle;
mod hasher;
mod history;
mod index;
mod ingest;
mod ledger;
mod memory;
mod profile;
mod prompt;
mod rank;
mod route;
mod scheduler;
mod scratch;
mod snapshot;
mod status;
mod stream;
mod version;

pub use custom::{CustomScorer, ScoreFn, ScoredRequest, ScoredRow};
pub use endpoint::{
    kvsched_endpoint_add, kvsched_endpoint_find, kvsched_endpoint_list, kvsched_endpoint_name,
    kvsched_endpoint_remove, kvsched_endpoint_set_cache_blocks, kvsched_endpoint_set_label,
};
pub use hasher::{
    Hasher, kvsched_hasher_free, kvsched_hasher_hash, kvsched_hasher_new_content,
    kvsched_hasher_new_vllm, kvsched_text_tokens,
};
pub use history::{
    History, kvsched_history_clear, kvsched_history_free, kvsched_history_match,
    kvsched_history_new, kvsched_history_record,
};
pub use index::{
    Index, IndexStats, kvsched_index_clear, kvsched_index_free, kvsched_index_match,
    kvsched_index_new, kvsched_index_remove, kvsched_index_snapshot, kvsched_index_stats,
    kvsched_index_store,
};
pub use ingest::{
    Ingested, KVSCHED_TRUST_APPROXIMATE, KVSCHED_TRUST_DEGRADED, KVSCHED_TRUST_EXACT,
    KVSCHED_TRUST_STALE, TrustReport, kvsched_diagnose, kvsched_ingest, kvsched_ingest_topic,
    kvsched_next_sequence, kvsched_replayed, kvsched_tick, kvsched_trust,
};
pub use ledger::{Outstanding, kvsched_finish, kvsched_first_token, kvsched_outstanding};
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
pub use scratch::{
    Scratch, kvsched_scratch_free, kvsched_scratch_new, kvsched_scratch_new_with_memo,
};
pub use snapshot::{
    Restore, Snapshot, kvsched_restore_finish, kvsched_restore_finish_index, kvsched_restore_free,
    kvsched_restore_new, kvsched_restore_new_index, kvsched_restore_push, kvsched_snapshot_free,
    kvsched_snapshot_new, kvsched_snapshot_read,
};
pub use status::{Error, KVSCHED_ERROR_TEXT, Status, kvsched_status_text};
pub use stream::{
    Stream, kvsched_stream_free, kvsched_stream_new, kvsched_stream_receive,
    kvsched_stream_replayed, kvsched_stream_tick,
};
pub use version::{
    KVSCHED_ABI, KVSCHED_VERSION_MAJOR, KVSCHED_VERSION_MINOR, KVSCHED_VERSION_PATCH, kvsched_abi,
    kvsched_abi_1, kvsched_version,
};
