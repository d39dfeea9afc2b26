//! How far an endpoint's picture can be believed.

use crate::ApplyError;
use crate::events::vllm::DecodeError;
use kvsched_core::{Time, Trust};
use std::time::Duration;

/// An endpoint's trust, why it is that and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustReport {
    /// How far it can be believed.
    pub trust: Trust,
    /// Why.
    pub reason: TrustReason,
    /// Since when, on the caller's clock.
    pub since: Time,
}

/// Why an endpoint's picture is believed as far as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustReason {
    /// Every batch since the cache was empty has been applied.
    #[error("every event since the cache was empty is known")]
    Complete,
    /// Nothing was heard yet.
    #[error("no event has come yet")]
    Unheard,
    /// Batches are missing and were asked for again. Later ones wait.
    #[error("batches from {from} on are missing and were asked for")]
    ReplayPending {
        /// The first that is missing.
        from: u64,
    },
    /// Batches are gone for good: blocks that left in them still count as held.
    #[error("batches {from} to {to} are lost")]
    Lost {
        /// The first that is missing.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A batch could not be read, or not all of it, even when it was sent again.
    #[error("batch {sequence} cannot be read: {error}")]
    Unreadable {
        /// The batch.
        sequence: u64,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The index refused blocks the endpoint holds.
    #[error("blocks were not taken: {0}")]
    Refused(ApplyError),
    /// Nothing has come for so long.
    #[error("nothing has come for {0:?}")]
    Silent(Duration),
}
