//! Parts of prompts whose KV is reused wherever they stand.

use crate::{RouteInput, RouteScratch, Router, RouterError};
use kvsched_index::{ChunkHits, ChunkIndex, ChunkKey};
use kvsched_scorers::segment::Reuse;

/// A part of a prompt whose KV does not depend on what stands before it, such as a retrieved
/// document.
///
/// ```
/// # use kvsched::hash::Scheme;
/// # use kvsched::{BlockHasher, Chunk, EndpointId, Load, Prompt, RouteInput, RouteScratch, Router, Tier};
/// # use kvsched::index::ChunkKey;
/// # use kvsched::segment::Reuse;
/// # let hasher = BlockHasher::builder(Scheme::content("m", b"a secret")?).block_size(16).build()?;
/// let router = Router::builder(hasher).chunks(16 << 20).build()?;
/// let pods = [router.add_endpoint("a")?, router.add_endpoint("b")?];
/// // The second pod has this document's packet.
/// let manual = ChunkKey { content: 0x6d61_6e75_616c, adapter: 1 };
/// let chunks = router.chunks().ok_or("no chunks are kept")?;
/// chunks.store(manual, pods[1], Tier::DEVICE, true)?;
///
/// // 100 tokens of instructions, the document, and a question of 50.
/// let tokens: Vec<u32> = (0..1150).collect();
/// let document = Chunk { key: manual, start: 100, tokens: 1000, reuse: Reuse::Packet };
/// let mut scratch = RouteScratch::new(1);
/// let input = RouteInput {
///     chunks: &[document],
///     loads: &[Load::default(), Load::default()],
///     ..RouteInput::new(Prompt::new(&tokens), &pods)
/// };
/// router.route(&input, &mut scratch)?;
/// assert_eq!(scratch.saved_tokens(), [0, 1000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chunk {
    /// Its name.
    pub key: ChunkKey,
    /// Where it begins in the prompt, in tokens.
    pub start: u32,
    /// How long it is, in tokens.
    pub tokens: u32,
    /// How much of it is computed again where it is held.
    pub reuse: Reuse,
}

/// What a request's chunks are looked up with.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    keys: Vec<ChunkKey>,
    found: ChunkHits,
    /// Tokens behind the match that need not be computed, by endpoint id.
    pub(crate) saved: Vec<u32>,
}

impl Router {
    /// Who holds which chunks, for whoever knows: no engine announces them. `None` without
    /// [`RouterBuilder::chunks`](crate::RouterBuilder::chunks).
    ///
    /// Snapshots do not hold them, and an engine's restart does not clear them.
    #[must_use]
    pub fn chunks(&self) -> Option<&ChunkIndex> {
        self.chunks.as_ref()
    }

    /// Finds what chunks of the prompt save behind what matched of it.
    pub(crate) fn look_up_chunks(
        &self,
        input: &RouteInput<'_>,
        scratch: &mut RouteScratch,
    ) -> Result<(), RouterError> {
        let RouteScratch { wanted: Wanted { keys, found, saved }, .. } = scratch;
        saved.clear();
        if input.chunks.is_empty() {
            return Ok(());
        }
        let index = self.chunks.as_ref().ok_or(RouterError::NoChunks(input.chunks.len()))?;
        let (mut free, prompt) = (0, scratch.prompt_tokens);
        for &Chunk { start, tokens, .. } in input.chunks {
            let end = start.checked_add(tokens).filter(|&end| free <= start && end <= prompt);
            free = end.ok_or(RouterError::Chunk { start, tokens, free, prompt })?;
        }
        keys.clear();
        keys.extend(input.chunks.iter().map(|chunk| chunk.key));
        index.find(keys, found);
        for hit in found.as_slice().iter().filter(|hit| hit.complete) {
            let Chunk { start, tokens, reuse, .. } = input.chunks[hit.chunk];
            let matched = scratch.matches.blocks(hit.endpoint).saturating_mul(scratch.block_size);
            // What matched of the chunk is reused anyway.
            let behind = (start + tokens).saturating_sub(matched);
            let at = hit.endpoint.index();
            if saved.len() <= at {
                saved.resize(at + 1, 0);
            }
            saved[at] += reuse.saved_tokens(tokens).min(behind);
        }
        Ok(())
    }
}
