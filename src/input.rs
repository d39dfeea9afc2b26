use crate::Chunk;
use kvsched_core::{BlockHash, EndpointId, Load, Prompt, Rates, Request, Time};

/// A request to be routed: its prompt, who may serve it, and what they are doing.
#[derive(Clone, Copy, Debug)]
pub struct RouteInput<'a> {
    /// The prompt.
    pub prompt: Prompt<'a>,
    /// The hashes of the prompt's blocks, where the caller has them already: they are then not
    /// computed. A prompt may then come without tokens; it counts as one token longer than
    /// these blocks, and endpoints whose hashes are not ours
    /// ([`check`](crate::RouterBuilder::check)) match nothing.
    pub hashes: Option<&'a [BlockHash]>,
    /// Parts of the prompt whose KV is reused wherever they stand, in their order and apart from each
    /// other; for a router that keeps [`chunks`](crate::RouterBuilder::chunks).
    pub chunks: &'a [Chunk],
    /// What else is known of the request. The router fills in the prompt's length and the
    /// block size.
    pub request: Request<'a>,
    /// Who may serve it.
    pub candidates: &'a [EndpointId],
    /// What they are doing, row `i` for candidate `i`. May be empty where the profile reads no
    /// loads.
    pub loads: &'a [Load],
    /// How fast the endpoints are, by endpoint id; may be shorter than there are ids.
    pub rates: &'a [Rates],
    /// Now, on the caller's clock.
    pub now: Time,
}

impl<'a> RouteInput<'a> {
    /// `prompt` for one of `candidates`, with nothing else known.
    #[must_use]
    pub fn new(prompt: Prompt<'a>, candidates: &'a [EndpointId]) -> Self {
        Self {
            prompt,
            hashes: None,
            chunks: &[],
            request: Request::default(),
            candidates,
            loads: &[],
            rates: &[],
            now: Time(0),
        }
    }
}
