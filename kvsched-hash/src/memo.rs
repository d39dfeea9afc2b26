use crate::hasher::BlockHasher;
use crate::runs::{Place, Runs};
use crate::span::Span;
use crate::{BuildError, Digest, HashError};
use kvsched_core::{BlockHash, Prompt};

/// A bounded memory of prefixes that were hashed before, so that a system prompt which
/// thousands of requests begin with meets SHA-256 once.
///
/// Exact: a remembered block is used only after all its tokens and its parent's full digest
/// were compared, so the hashes are those of the hasher, always. Remembered are *runs* of up
/// to 128 consecutive blocks; a prompt that leaves a run in its middle makes two of it and
/// continues in one of its own, so that nothing is kept twice. The oldest run makes room first,
/// unless it was used again. Blocks from the first multimodal item on, and prompts of
/// embeddings, are hashed as always.
///
/// A run takes what its tokens take, eight bytes a block and 160 of its own, for which there is
/// room if runs have sixteen blocks on average.
///
/// Worth it for the SHA schemes, where a remembered block costs a twentieth; the content
/// scheme is as fast without.
///
/// ```
/// # use kvsched_core::Prompt;
/// # use kvsched_hash::{BlockHasher, PrefixMemo, Scheme};
/// # let hasher = BlockHasher::builder(Scheme::sglang()).block_size(4).build()?;
/// let mut memo = PrefixMemo::new(hasher, 1 << 20)?;
/// let mut hashes = Vec::new();
/// memo.hash_into(&Prompt::new(&[7; 400]), &mut hashes)?;
/// memo.hash_into(&Prompt::new(&[7; 400]), &mut hashes)?;
/// assert_eq!(memo.stats().remembered_blocks, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PrefixMemo {
    hasher: BlockHasher,
    runs: Runs,
    remembered_blocks: u64,
    hashed_blocks: u64,
}

/// What a [`PrefixMemo`] has saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoStats {
    /// Blocks that were found in the memo.
    pub remembered_blocks: u64,
    /// Blocks that were hashed.
    pub hashed_blocks: u64,
    /// Runs that made room for others.
    pub evicted_runs: u64,
}

impl PrefixMemo {
    /// An empty memo of `hasher`'s hashes that takes at most about `bytes` of memory, all
    /// asked for here.
    ///
    /// # Errors
    ///
    /// If not even one run fits, or there is not so much memory.
    pub fn new(hasher: BlockHasher, bytes: usize) -> Result<Self, BuildError> {
        let (block_size, lookahead) = (hasher.block_size(), hasher.lookahead());
        let run = Runs::run_bytes(block_size, lookahead);
        if bytes < run {
            return Err(BuildError::MemoBytes { got: bytes, min: run });
        }
        let runs = Runs::new(block_size, lookahead, bytes / run)
            .map_err(|_| BuildError::MemoMemory { got: bytes })?;
        Ok(Self { hasher, runs, remembered_blocks: 0, hashed_blocks: 0 })
    }

    /// Replaces `out` with the hashes of all full blocks, as [`BlockHasher::hash_into`] does.
    ///
    /// # Errors
    ///
    /// As [`BlockHasher::hash_into`].
    pub fn hash_into(
        &mut self,
        prompt: &Prompt<'_>,
        out: &mut Vec<BlockHash>,
    ) -> Result<(), HashError> {
        out.clear();
        let span = self.hasher.span(prompt, 0, usize::MAX)?;
        out.reserve(span.blocks);
        let done = self.append(&span, out);
        if done.is_err() {
            out.clear();
        }
        done
    }

    /// Appends the hashes of the span's blocks, which are a prompt's first, to the empty `out`.
    fn append(&mut self, span: &Span<'_>, out: &mut Vec<BlockHash>) -> Result<(), HashError> {
        let extras = &span.extras;
        // Blocks that hold nothing but tokens. The adapter is in every block, but the parent
        // digest commits to it from the second block on, as it does to the salt.
        let mut plain = span.blocks;
        if extras.embeds.is_some() {
            plain = 0;
        } else if let Some(item) = extras.multimodal.first() {
            let reach = (item.offset as usize).saturating_sub(span.lookahead);
            plain = plain.min(reach / span.block_size);
        }
        let mut place = Place::after(self.hasher.scheme().none_hash());
        if plain > 0 && !extras.is_none() {
            place = self.hash(&span.part(0, 1), &place.digest, out)?;
        }
        while out.len() < plain {
            let rest = span.part(out.len(), plain - out.len());
            let known = match self.runs.find(&place, &rest) {
                Ok(known) => known,
                Err(key) => {
                    let before = out.len();
                    place = self.runs.learn(&place, key, &self.hasher, &rest, out)?;
                    self.hashed_blocks += (out.len() - before) as u64;
                    continue;
                }
            };
            out.extend_from_slice(self.runs.hashes(known));
            let mut again = 0;
            if out.len() < span.blocks {
                (place, again) = self.runs.behind(known, &self.hasher, &rest)?;
            }
            self.hashed_blocks += again as u64;
            self.remembered_blocks += (known.blocks - again) as u64;
        }
        // Keys that the scheme refuses are refused without a block, too.
        if out.len() < span.blocks || out.is_empty() {
            self.hash(&span.part(out.len(), usize::MAX), &place.digest, out)?;
        }
        Ok(())
    }

    /// Hashes blocks, and returns the place behind them.
    fn hash(
        &mut self,
        part: &Span<'_>,
        parent: &Digest,
        out: &mut Vec<BlockHash>,
    ) -> Result<Place, HashError> {
        let from = out.len();
        out.resize(from + part.blocks, BlockHash(0));
        let last = self.hasher.fill(part, parent, &mut out[from..])?;
        self.hashed_blocks += part.blocks as u64;
        Ok(Place::after(last))
    }

    /// What it has saved since it was made.
    #[must_use]
    pub const fn stats(&self) -> MemoStats {
        MemoStats {
            remembered_blocks: self.remembered_blocks,
            hashed_blocks: self.hashed_blocks,
            evicted_runs: self.runs.evicted(),
        }
    }

    /// The hasher.
    #[must_use]
    pub const fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }
}
