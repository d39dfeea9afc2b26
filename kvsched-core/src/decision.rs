use crate::EndpointId;

/// Where a request goes, and how sure that was.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Decision {
    /// The endpoint to send the request to.
    pub endpoint: EndpointId,
    /// Its final score, 0 to 1, higher is better.
    pub score: f64,
    /// Leading prompt blocks it was expected to serve from cache.
    pub matched_blocks: u32,
    /// Full blocks of the prompt that could have been served from cache at best.
    pub prompt_blocks: u32,
    /// The best endpoint not taken, with its score.
    pub runner_up: Option<(EndpointId, f64)>,
    /// How many candidates passed all filters.
    pub candidates: u32,
}

/// Why no endpoint could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The caller offered no endpoint.
    #[error("no candidate endpoint was given")]
    NoCandidates,
    /// A filter left nobody over.
    #[error("filter `{filter}` dropped the last of {candidates} candidates")]
    AllFiltered {
        /// The filter that did it.
        filter: String,
        /// How many candidates the caller had offered.
        candidates: usize,
    },
    /// Two tables of the caller do not have a row for each other's.
    #[error("{candidates} candidates but {loads} load rows")]
    LoadRows {
        /// Candidates offered.
        candidates: usize,
        /// Load rows offered.
        loads: usize,
    },
}
