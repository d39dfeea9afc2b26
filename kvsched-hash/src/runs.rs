use crate::content::ContentScheme;
use crate::directory::Directory;
use crate::span::Span;
use crate::{BlockHasher, Digest, HashError};
use kvsched_core::{BlockHash, TokenId};
use std::collections::TryReserveError;

/// Blocks that one run holds at most: one bit each in [`Run::digests`]. Longer ones are followed
/// faster, and leave more room empty behind a short tail.
const RUN: usize = 128;

/// Words of a hash.
const HASH: usize = 2;

/// Runs of consecutive blocks with all that was learnt of them, in room that is asked for once.
#[derive(Debug)]
pub(crate) struct Runs {
    block_size: usize,
    lookahead: usize,
    /// Names runs; a private hash, of the parent's name and the first block's tokens.
    finder: ContentScheme,
    directory: Directory,
    runs: Vec<Run>,
    /// Of each run the hashes, of two words each, and then the tokens, with the lookahead behind
    /// them: side by side, because a page that was not used lately is expensive.
    words: Vec<u32>,
    /// Of each run, where [`Run::digests`] says so.
    digests: Vec<Digest>,
    capacity: usize,
    /// The next run that may have to go.
    hand: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Run {
    key: u64,
    parent: Digest,
    blocks: usize,
    /// The last block's.
    last: Digest,
    /// Of which others the digest is known: those that a prompt left the run at. Most tails are
    /// never seen again, and of those that are most are continued at their end.
    digests: u128,
    /// Whether it was used since the hand last passed.
    used: bool,
    /// A run that came right after it once.
    next: Option<usize>,
}

/// Between two blocks of a prompt.
#[derive(Debug)]
pub(crate) struct Place {
    /// Of the block before.
    pub(crate) digest: Digest,
    /// The run that ends with that block.
    run: Option<usize>,
}

impl Place {
    /// Behind a block that is in no run.
    pub(crate) const fn after(digest: Digest) -> Self {
        Self { digest, run: None }
    }
}

/// What the run that begins at a place of a prompt is found under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(u64);

/// The first blocks of a run, which are the next ones of a prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    run: usize,
    pub(crate) blocks: usize,
}

impl Runs {
    /// Bytes that a run takes.
    pub(crate) const fn run_bytes(block_size: usize, lookahead: usize) -> usize {
        words(block_size, lookahead) * size_of::<u32>()
            + RUN * size_of::<Digest>()
            + size_of::<Run>()
            + Directory::RUN_BYTES
    }

    /// Room for `capacity` runs, at least one.
    pub(crate) fn new(
        block_size: usize,
        lookahead: usize,
        capacity: usize,
    ) -> Result<Self, TryReserveError> {
        let capacity = capacity.min(Directory::MAX_RUNS);
        Ok(Self {
            block_size,
            lookahead,
            finder: ContentScheme::keyed(b"prefix memo"),
            runs: room(capacity)?,
            words: room(capacity.saturating_mul(words(block_size, lookahead)))?,
            digests: room(capacity.saturating_mul(RUN))?,
            directory: Directory::new(capacity)?,
            capacity,
            hand: 0,
            evicted: 0,
        })
    }

    /// How many runs made room for others.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What is known of `rest`, which comes at `place`: as much as one run holds. Or what it
    /// would be found under.
    pub(crate) fn find(&mut self, place: &Place, rest: &Span<'_>) -> Result<Known, Key> {
        // Mostly what came next is what comes next.
        let next = place.run.and_then(|run| self.runs[run].next);
        let known = match next.and_then(|next| self.shared(next, place, rest)) {
            Some(known) => known,
            None => {
                let key = self.key(place, rest);
                let run = self.directory.get(key.0).ok_or(key)?;
                let known = self.shared(run, place, rest).ok_or(key)?;
                self.link(place, run);
                known
            }
        };
        self.runs[known.run].used = true;
        Ok(known)
    }

    /// How many blocks of `rest` a run begins with, if it begins at `place`.
    fn shared(&self, run: usize, place: &Place, rest: &Span<'_>) -> Option<Known> {
        let Run { parent, blocks, .. } = &self.runs[run];
        if *parent != place.digest {
            return None;
        }
        let len = blocks.min(&rest.blocks) * self.block_size + self.lookahead;
        let theirs = &self.words[run * self.run_words() + RUN * HASH..][..len];
        let equal = equal_tokens(&rest.tokens[..len], theirs);
        let blocks = equal.saturating_sub(self.lookahead) / self.block_size;
        (blocks > 0).then_some(Known { run, blocks })
    }

    /// The hashes of known blocks.
    pub(crate) fn hashes(
        &self,
        Known { run, blocks }: Known,
    ) -> impl ExactSizeIterator<Item = BlockHash> {
        let words = &self.words[run * self.run_words()..][..blocks * HASH];
        words.as_chunks().0.iter().map(|words| from_words(*words))
    }

    /// The place behind known blocks, which `rest` begins with, and how many of them had to be
    /// hashed for that.
    pub(crate) fn behind(
        &mut self,
        known: Known,
        hasher: &BlockHasher,
        rest: &Span<'_>,
    ) -> Result<(Place, usize), HashError> {
        let run = &mut self.runs[known.run];
        if known.blocks == run.blocks {
            return Ok((Place { digest: run.last, run: Some(known.run) }, 0));
        }
        let digests = &mut self.digests[known.run * RUN..][..known.blocks];
        let before = run.digests << (RUN - known.blocks);
        let unknown = before.leading_zeros() as usize;
        let (from, mut parent) = match known.blocks.checked_sub(unknown) {
            Some(from @ 1..) => (from, digests[from - 1]),
            _ => (0, run.parent),
        };
        let part = rest.part(from, known.blocks - from);
        if part.blocks > 0 {
            let mut places = digests[from..].iter_mut();
            hasher.each_block(&part, &parent, |_, digest| {
                if let Some(place) = places.next() {
                    *place = digest;
                }
            })?;
            parent = digests[known.blocks - 1];
            run.digests |= (u128::MAX >> (RUN - part.blocks)) << from;
        }
        Ok((Place::after(parent), part.blocks))
    }

    /// Hashes the first of `rest`, which come at `place` and were not found under `key`, appends
    /// their hashes to `out` and remembers them: as many as one run has room for. Returns the
    /// place behind them.
    pub(crate) fn learn(
        &mut self,
        place: &Place,
        key: Key,
        hasher: &BlockHasher,
        rest: &Span<'_>,
        out: &mut Vec<BlockHash>,
    ) -> Result<Place, HashError> {
        let run = self.run_at(place, key);
        let from = self.runs[run].blocks;
        let part = rest.part(0, RUN - from);
        let words = self.run_words();
        let (hashes, tokens) = self.words[run * words..][..words].split_at_mut(RUN * HASH);
        let hashes = &mut hashes.as_chunks_mut().0[from..][..part.blocks];
        let tokens = &mut tokens[from * self.block_size..][..part.tokens.len()];
        // Hashing leaves the memory idle: it may fetch the lines that will be written. What is
        // refused is refused before the first block, so nothing that is known is overwritten.
        let mut slots = hashes.iter_mut().zip(tokens.chunks_exact_mut(self.block_size));
        let last = hasher.each_block(&part, &place.digest, |hash, _| {
            if let Some((slot, line)) = slots.next() {
                *slot = to_words(hash);
                line[0] = 0;
            }
        })?;
        out.extend(hashes.iter().map(|words| from_words(*words)));
        tokens.copy_from_slice(part.tokens);
        let known = &mut self.runs[run];
        if let Some(before) = from.checked_sub(1) {
            self.digests[run * RUN + before] = known.last;
            known.digests |= 1 << before;
        }
        (known.blocks, known.last) = (from + part.blocks, last);
        Ok(Place { digest: last, run: Some(run) })
    }

    /// The run at `place`, if it has room, or a new one for what comes there.
    fn run_at(&mut self, place: &Place, key: Key) -> usize {
        match place.run {
            Some(run) if self.runs[run].blocks < RUN => run,
            _ => {
                let run = self.new_run(key.0, place.digest);
                self.link(place, run);
                run
            }
        }
    }

    fn link(&mut self, place: &Place, next: usize) {
        if let Some(run) = place.run {
            self.runs[run].next = Some(next);
        }
    }

    /// What a run that begins at `place` with the first of `blocks` is found under.
    fn key(&self, place: &Place, blocks: &Span<'_>) -> Key {
        let tokens = &blocks.tokens[..self.block_size + self.lookahead];
        Key(self.finder.block(place.digest.block_hash().0, tokens, 0))
    }

    /// An empty run, which may take an old one's place.
    fn new_run(&mut self, key: u64, parent: Digest) -> usize {
        let fresh =
            Run { key, parent, blocks: 0, last: parent, digests: 0, used: false, next: None };
        let run = if self.runs.len() < self.capacity {
            self.runs.push(fresh);
            let runs = self.runs.len();
            self.words.resize(runs * self.run_words(), 0);
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
            self.hand = if run + 1 == self.runs.len() { 0 } else { run + 1 };
            let old = &mut self.runs[run];
            if !std::mem::take(&mut old.used) {
                self.directory.remove(old.key, run);
                self.evicted += 1;
                return run;
            }
        }
    }

    const fn run_words(&self) -> usize {
        words(self.block_size, self.lookahead)
    }
}

/// Of a run.
const fn words(block_size: usize, lookahead: usize) -> usize {
    RUN * HASH + RUN * block_size + lookahead
}

fn to_words(hash: BlockHash) -> [u32; HASH] {
    [hash.0 as u32, (hash.0 >> 32) as u32]
}

fn from_words([low, high]: [u32; HASH]) -> BlockHash {
    BlockHash(u64::from(high) << 32 | u64::from(low))
}

fn room<T>(len: usize) -> Result<Vec<T>, TryReserveError> {
    let mut empty = Vec::new();
    empty.try_reserve_exact(len)?;
    Ok(empty)
}

/// How many tokens two slices have in common, from the first on.
fn equal_tokens(a: &[TokenId], b: &[TokenId]) -> usize {
    // By the thousand first and one by one at last: the larger, the faster.
    let mut equal = equal_chunks::<1024>(a, b);
    equal += equal_chunks::<128>(&a[equal..], &b[equal..]);
    equal += equal_chunks::<16>(&a[equal..], &b[equal..]);
    equal + equal_chunks::<1>(&a[equal..], &b[equal..])
}

/// How many tokens the leading chunks that are equal have.
fn equal_chunks<const N: usize>(a: &[TokenId], b: &[TokenId]) -> usize {
    let chunks = a.as_chunks::<N>().0.iter().zip(b.as_chunks::<N>().0);
    N * chunks.take_while(|(a, b)| a == b).count()
}
