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
}

/// Why a message was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The router does not know the endpoint.
    #[error("{0} was never added, or has been removed")]
    UnknownEndpoint(EndpointId),
}
