use kvsched_core::{EndpointId, RouteError};
use kvsched_hash::HashError;

/// Why a prompt could not be routed or looked up.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// The prompt cannot be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// No endpoint could be chosen.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The router does not know the endpoint.
    #[error("{0} was never added, or has been removed")]
    UnknownEndpoint(EndpointId),
    /// The prompt has chunks, and the router keeps none.
    #[error("{0} chunks for a router that was built without an index of chunks")]
    NoChunks(usize),
    /// A chunk overlaps the one before it, or ends behind the prompt.
    #[error(
        "a chunk of {tokens} tokens from token {start}: it has to lie between token {free}, where \
         the one before it ends, and the prompt's end at {prompt}"
    )]
    Chunk {
        /// Where it begins.
        start: u32,
        /// How long it is.
        tokens: u32,
        /// Where the chunk before it ends.
        free: u32,
        /// The prompt's length.
        prompt: u32,
    },
}

/// Why a message was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The router does not know the endpoint.
    #[error("{0} was never added, or has been removed")]
    UnknownEndpoint(EndpointId),
}
