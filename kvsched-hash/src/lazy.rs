use crate::{BlockHasher, Digest, HashError};
use kvsched_core::{BlockHash, Prompt};

/// A prompt's block hashes, computed as far as somebody asks: what a matcher that stops at
/// its first miss did not ask for is never hashed. From [`BlockHasher::lazy`].
///
/// ```
/// # use kvsched_core::Prompt;
/// # use kvsched_hash::{BlockHasher, Scheme};
/// # let hasher = BlockHasher::builder(Scheme::sglang()).block_size(4).build()?;
/// let tokens: Vec<u32> = (0..400).collect();
/// let mut lazy = hasher.lazy(Prompt::new(&tokens));
/// let mut hashes = Vec::new();
/// while lazy.pull(32, &mut hashes)? > 0 {
///     let all_resident = hashes.len() < 40; // whatever the index says
///     if !all_resident {
///         break;
///     }
/// }
/// assert_eq!(hashes.len(), 64); // of 100
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LazyHashes<'a> {
    hasher: &'a BlockHasher,
    prompt: Prompt<'a>,
    done: usize,
    parent: Digest,
}

impl BlockHasher {
    /// The prompt's hashes, to be pulled piece by piece.
    #[must_use]
    pub fn lazy<'a>(&'a self, prompt: Prompt<'a>) -> LazyHashes<'a> {
        LazyHashes { hasher: self, prompt, done: 0, parent: self.scheme().none_hash() }
    }
}

impl LazyHashes<'_> {
    /// Appends the next hashes, at most `blocks`, and tells how many; 0 when all full blocks
    /// are done.
    ///
    /// # Errors
    ///
    /// As [`BlockHasher::hash_into`], of the tokens it reads; nothing is appended then, and
    /// the next pull begins at the same place.
    pub fn pull(&mut self, blocks: usize, out: &mut Vec<BlockHash>) -> Result<usize, HashError> {
        let span = self.hasher.span(&self.prompt, self.done, blocks)?;
        let before = out.len();
        out.resize(before + span.blocks, BlockHash(0));
        match self.hasher.fill(&span, &self.parent, &mut out[before..]) {
            Ok(last) => {
                self.parent = last;
                self.done += span.blocks;
                Ok(span.blocks)
            }
            Err(e) => {
                out.truncate(before);
                Err(e)
            }
        }
    }

    /// How many blocks were pulled.
    #[must_use]
    pub const fn done(&self) -> usize {
        self.done
    }

    /// How many there are.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.hasher.full_blocks(self.prompt.tokens.len())
    }
}
