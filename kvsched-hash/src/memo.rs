use crate::content::ContentScheme;
use crate::hasher::BlockHasher;
use crate::span::Span;
use crate::{BuildError, Digest, HashError};
use kvsched_core::{BlockHash, Prompt, TokenId};
use std::collections::HashMap;

/// Blocks that one run remembers at most.
const RUN: usize = 64;

/// Runs hashed in one go, once one was not found; the next may be found again.
const PIECE: usize = 4;

/// A bounded memory of prefixes that were hashed before, so that a system prompt which
/// thousands of requests begin with meets SHA-256 once.
///
/// Exact: a remembered block is used only after all its tokens and its parent's full digest
/// were compared, so the hashes are those of the hasher, always. Remembered are *runs* of up
/// to 64 consecutive blocks; a prompt that leaves a run in its middle continues in a run of
/// its own, so that nothing is kept twice. Runs that were never used again make room first.
/// Blocks from the first multimodal item on, and prompts of embeddings, are hashed as always.
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
    /// Finds runs; a private hash, of the parent's name and the first block's tokens.
    finder: ContentScheme,
    directory: HashMap<u64, usize>,
    runs: Vec<Run>,
    /// Of each run [`RUN`] blocks and the lookahead behind them.
    tokens: Vec<TokenId>,
    hashes: Vec<BlockHash>,
    digests: Vec<Digest>,
    capacity: usize,
    /// The next run that may have to go.
    hand: usize,
    stats: MemoStats,
}

#[derive(Debug)]
struct Run {
    key: u64,
    parent: Digest,
    blocks: usize,
    /// Whether it was used since the hand last passed.
    used: bool,
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
    /// asked for here (the directory's share is estimated).
    ///
    /// # Errors
    ///
    /// If not even one run fits.
    pub fn new(hasher: BlockHasher, bytes: usize) -> Result<Self, BuildError> {
        let tokens = RUN * hasher.block_size() + hasher.lookahead();
        let run = tokens * size_of::<TokenId>()
            + RUN * (size_of::<BlockHash>() + size_of::<Digest>())
            + size_of::<Run>()
            + 5 * size_of::<(u64, usize)>();
        let capacity = bytes / run;
        if capacity == 0 {
            return Err(BuildError::MemoBytes { got: bytes, min: run });
        }
        let finder = ContentScheme::keyed(b"prefix memo");
        Ok(Self {
            hasher,
            finder,
            // Twice, because a map more than half full grows when it has seen many removals.
            directory: HashMap::with_capacity(2 * capacity),
            runs: Vec::with_capacity(capacity),
            tokens: Vec::with_capacity(capacity * tokens),
            hashes: Vec::with_capacity(capacity * RUN),
            digests: Vec::with_capacity(capacity * RUN),
            capacity,
            hand: 0,
            stats: MemoStats::default(),
        })
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
        out.resize(span.blocks, BlockHash(0));
        let done = self.fill(&span, out);
        if done.is_err() {
            out.clear();
        }
        done
    }

    fn fill(&mut self, span: &Span<'_>, out: &mut [BlockHash]) -> Result<(), HashError> {
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
        let mut parent = self.hasher.scheme().none_hash();
        let mut done = 0;
        if plain > 0 && !extras.is_none() {
            parent = self.hash(span, 0, 1, &parent, out)?;
            done = 1;
        }
        // The run that was just used to its end, which more blocks may be added to.
        let mut open = None;
        while done < plain {
            let rest = span.part(done, plain - done);
            if let Some((run, blocks)) = self.find(self.key(&parent, &rest), &parent, &rest) {
                let at = run * RUN;
                out[done..done + blocks].copy_from_slice(&self.hashes[at..at + blocks]);
                parent = self.digests[at + blocks - 1];
                done += blocks;
                self.stats.remembered_blocks += blocks as u64;
                self.runs[run].used = true;
                open = (blocks == self.runs[run].blocks && blocks < RUN).then_some(run);
                continue;
            }
            for _ in 0..PIECE {
                let run = match open.take() {
                    Some(run) => run,
                    None => self.new_run(self.key(&parent, &span.part(done, 1)), parent),
                };
                let blocks = (plain - done).min(RUN - self.runs[run].blocks);
                let more = span.part(done, blocks);
                parent =
                    self.hash_and_remember(run, &more, &parent, &mut out[done..done + blocks])?;
                done += blocks;
                if done == plain {
                    break;
                }
            }
        }
        self.hash(span, done, span.blocks - done, &parent, out)?;
        Ok(())
    }

    /// Hashes `blocks` blocks after the first `done`, unremembered.
    fn hash(
        &mut self,
        span: &Span<'_>,
        done: usize,
        blocks: usize,
        parent: &Digest,
        out: &mut [BlockHash],
    ) -> Result<Digest, HashError> {
        self.stats.hashed_blocks += blocks as u64;
        self.hasher.fill(&span.part(done, blocks), parent, &mut out[done..done + blocks])
    }

    /// A run that begins with this block after this parent, and how many of its blocks the
    /// prompt has too.
    fn find(&self, key: u64, parent: &Digest, rest: &Span<'_>) -> Option<(usize, usize)> {
        let run = *self.directory.get(&key)?;
        let known = &self.runs[run];
        if known.parent != *parent {
            return None;
        }
        let Span { block_size, lookahead, .. } = *rest;
        let blocks = known.blocks.min(rest.blocks);
        let len = blocks * block_size + lookahead;
        let ours = &rest.tokens[..len];
        let theirs = &self.tokens[run * self.run_tokens()..][..len];
        let blocks = if ours == theirs {
            blocks
        } else {
            equal_tokens(ours, theirs).saturating_sub(lookahead) / block_size
        };
        (blocks > 0).then_some((run, blocks))
    }

    /// Hashes the blocks of `more`, adds them to the end of a run, and returns the last one's digest.
    fn hash_and_remember(
        &mut self,
        run: usize,
        more: &Span<'_>,
        parent: &Digest,
        out: &mut [BlockHash],
    ) -> Result<Digest, HashError> {
        let run_tokens = self.run_tokens();
        let Self { hasher, runs, tokens, hashes, digests, stats, .. } = self;
        let (from, block) = (runs[run].blocks, more.block_size);
        let slots = run * RUN + from..run * RUN + from + more.blocks;
        let tokens = &mut tokens[run * run_tokens + from * block..][..more.tokens.len()];
        let (plain, ahead) = tokens.split_at_mut(more.blocks * block);
        let (from_plain, from_ahead) = more.tokens.split_at(more.blocks * block);
        // Written while it is hashed, which leaves the memory idle.
        let mut places = digests[slots.clone()]
            .iter_mut()
            .zip(&mut hashes[slots.clone()])
            .zip(out)
            .zip(plain.chunks_exact_mut(block).zip(from_plain.chunks_exact(block)));
        let scheme = hasher.scheme();
        hasher.each_digest(more, parent, |digest| {
            let Some((((kept, hash), out), (tokens, given))) = places.next() else { return };
            *kept = *digest;
            *hash = scheme.block_hash(digest);
            *out = *hash;
            tokens.copy_from_slice(given);
        })?;
        ahead.copy_from_slice(from_ahead);
        runs[run].blocks += more.blocks;
        stats.hashed_blocks += more.blocks as u64;
        Ok(digests[slots.end - 1])
    }

    /// What a run that begins with the first of `blocks` after `parent` is found under.
    fn key(&self, parent: &Digest, blocks: &Span<'_>) -> u64 {
        self.finder.block(parent.block_hash().0, blocks.block(0), 0)
    }

    /// An empty run, which may take an old one's place.
    fn new_run(&mut self, key: u64, parent: Digest) -> usize {
        let fresh = Run { key, parent, blocks: 0, used: false };
        // Two runs with one key: the newer stays findable.
        if let Some(&run) = self.directory.get(&key) {
            self.runs[run] = fresh;
            return run;
        }
        let run = if self.runs.len() < self.capacity {
            self.runs.push(fresh);
            let runs = self.runs.len();
            self.tokens.resize(runs * self.run_tokens(), 0);
            self.hashes.resize(runs * RUN, BlockHash(0));
            self.digests.resize(runs * RUN, Digest::NONE);
            runs - 1
        } else {
            let run = self.evict();
            self.runs[run] = fresh;
            run
        };
        self.directory.insert(key, run);
        run
    }

    /// The clock algorithm: the first run that was not used since the hand's last round.
    fn evict(&mut self) -> usize {
        loop {
            let run = self.hand;
            self.hand = (self.hand + 1) % self.runs.len();
            if !std::mem::take(&mut self.runs[run].used) {
                self.directory.remove(&self.runs[run].key);
                self.stats.evicted_runs += 1;
                return run;
            }
        }
    }

    fn run_tokens(&self) -> usize {
        RUN * self.hasher.block_size() + self.hasher.lookahead()
    }

    /// What it has saved since it was made.
    #[must_use]
    pub const fn stats(&self) -> MemoStats {
        self.stats
    }

    /// The hasher.
    #[must_use]
    pub const fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }
}

/// How many tokens two slices have in common, from the first on.
fn equal_tokens(a: &[TokenId], b: &[TokenId]) -> usize {
    // By the dozen, in vector instructions, and then one by one.
    let (many_a, many_b) = (a.as_chunks::<16>().0, b.as_chunks::<16>().0);
    let equal = 16 * many_a.iter().zip(many_b).take_while(|(a, b)| a == b).count();
    equal + a[equal..].iter().zip(&b[equal..]).take_while(|(a, b)| a == b).count()
}
