use crate::content::ContentScheme;
use crate::directory::Directory;
use crate::span::Span;
use crate::{BlockHasher, Digest, HashError};
use kvsched_core::{BlockHash, TokenId};
use std::collections::TryReserveError;

/// Blocks that one run holds at most: one bit each in [`Run::digests`]. Longer ones are followed
/// faster, and leave more room empty behind a short tail.
pub(crate) const RUN: usize = 128;

/// Blocks hashed in one go, once one was not found; the next may be found again.
pub(crate) const PIECE: usize = 2 * RUN;

/// Runs of consecutive blocks with all that was learnt of them, in room that is asked for once.
#[derive(Debug)]
pub(crate) struct Runs {
    block_size: usize,
    lookahead: usize,
    /// Names runs; a private hash, of the parent's name and the first block's tokens.
    finder: ContentScheme,
    directory: Directory,
    runs: Vec<Run>,
    /// Of each run [`RUN`] blocks and the lookahead behind them.
    tokens: Vec<TokenId>,
    hashes: Vec<BlockHash>,
    digests: Vec<Digest>,
    /// Of the blocks that were hashed last.
    fresh: Vec<Digest>,
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
    /// Of which blocks the digest is known: the last, and those that a prompt left the run at.
    /// Most tails are never seen again, and of those that are most are continued at their end.
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

/// The first blocks of a run, which are the next ones of a prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    run: usize,
    pub(crate) blocks: usize,
}

impl Runs {
    /// Bytes that a run takes.
    pub(crate) const fn run_bytes(block_size: usize, lookahead: usize) -> usize {
        (RUN * block_size + lookahead) * size_of::<TokenId>()
            + RUN * (size_of::<BlockHash>() + size_of::<Digest>())
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
            tokens: room(capacity.saturating_mul(RUN * block_size + lookahead))?,
            hashes: room(capacity.saturating_mul(RUN))?,
            digests: room(capacity.saturating_mul(RUN))?,
            directory: Directory::new(capacity)?,
            fresh: vec![Digest::NONE; PIECE],
            capacity,
            hand: 0,
            evicted: 0,
        })
    }

    /// How many runs made room for others.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What is known of `rest`, which comes at `place`: as much as one run holds.
    pub(crate) fn find(&mut self, place: &Place, rest: &Span<'_>) -> Option<Known> {
        // Mostly what came next is what comes next.
        let next = place.run.and_then(|run| self.runs[run].next);
        let known = match next.and_then(|next| self.shared(next, place, rest)) {
            Some(known) => known,
            None => {
                let run = self.directory.get(self.key(place, rest))?;
                let known = self.shared(run, place, rest)?;
                self.link(place, run);
                known
            }
        };
        self.runs[known.run].used = true;
        Some(known)
    }

    /// How many blocks of `rest` a run begins with, if it begins at `place`.
    fn shared(&self, run: usize, place: &Place, rest: &Span<'_>) -> Option<Known> {
        let Run { parent, blocks, .. } = &self.runs[run];
        if *parent != place.digest {
            return None;
        }
        let len = blocks.min(&rest.blocks) * self.block_size + self.lookahead;
        let theirs = &self.tokens[run * self.run_tokens()..][..len];
        let equal = equal_tokens(&rest.tokens[..len], theirs);
        let blocks = equal.saturating_sub(self.lookahead) / self.block_size;
        (blocks > 0).then_some(Known { run, blocks })
    }

    /// The hashes of known blocks.
    pub(crate) fn hashes(&self, Known { run, blocks }: Known) -> &[BlockHash] {
        &self.hashes[run * RUN..][..blocks]
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
            hasher.each_digest(&part, &parent, |digest| {
                if let Some(place) = places.next() {
                    *place = *digest;
                }
            })?;
            parent = digests[known.blocks - 1];
            run.digests |= (u128::MAX >> (RUN - part.blocks)) << from;
        }
        let ends = known.blocks == run.blocks;
        Ok((Place { digest: parent, run: ends.then_some(known.run) }, part.blocks))
    }

    /// Hashes the blocks of `piece`, at most [`PIECE`], which come at `place`, appends their hashes
    /// to `out` and remembers them; moves on behind them.
    pub(crate) fn learn(
        &mut self,
        place: &mut Place,
        hasher: &BlockHasher,
        piece: &Span<'_>,
        out: &mut Vec<BlockHash>,
    ) -> Result<(), HashError> {
        let mut run = self.run_at(place, piece);
        let from = self.runs[run].blocks;
        let first = piece.part(0, RUN - from);
        let at = run * self.run_tokens() + from * self.block_size;
        let tokens = &mut self.tokens[at..at + first.tokens.len()];
        let mut fresh = self.fresh.iter_mut();
        let mut at = 0;
        hasher.each_digest(piece, &place.digest, |digest| {
            if let Some(slot) = fresh.next() {
                *slot = *digest;
            }
            // Hashing leaves the memory idle: it may fetch the lines that will be written.
            if let (Some(to), Some(from)) = (tokens.get_mut(at), piece.tokens.get(at)) {
                *to = *from;
            }
            at += piece.block_size;
        })?;
        let scheme = hasher.scheme();
        let hashed = out.len();
        out.extend(self.fresh[..piece.blocks].iter().map(|digest| scheme.block_hash(digest)));
        let (mut part, mut done) = (first, 0);
        loop {
            let end = done + part.blocks;
            let last = self.fresh[end - 1];
            self.append(run, &part, &out[hashed + done..hashed + end], last);
            *place = Place { digest: last, run: Some(run) };
            if end == piece.blocks {
                return Ok(());
            }
            (part, done) = (piece.part(end, RUN), end);
            run = self.run_at(place, &part);
        }
    }

    /// The run at `place`, if it has room, or a new one for what comes there.
    fn run_at(&mut self, place: &Place, blocks: &Span<'_>) -> usize {
        match place.run {
            Some(run) if self.runs[run].blocks < RUN => run,
            _ => {
                let run = self.new_run(self.key(place, blocks), place.digest);
                self.link(place, run);
                run
            }
        }
    }

    /// Adds blocks to a run, which has room for them. `last` is the last one's digest.
    fn append(&mut self, run: usize, part: &Span<'_>, hashes: &[BlockHash], last: Digest) {
        let at = run * self.run_tokens();
        let known = &mut self.runs[run];
        let (from, end) = (known.blocks, known.blocks + part.blocks);
        let at = at + from * self.block_size;
        self.tokens[at..at + part.tokens.len()].copy_from_slice(part.tokens);
        self.hashes[run * RUN + from..run * RUN + end].copy_from_slice(hashes);
        self.digests[run * RUN + end - 1] = last;
        known.blocks = end;
        known.digests |= 1 << (end - 1);
    }

    fn link(&mut self, place: &Place, next: usize) {
        if let Some(run) = place.run {
            self.runs[run].next = Some(next);
        }
    }

    /// What a run that begins at `place` with the first of `blocks` is found under.
    fn key(&self, place: &Place, blocks: &Span<'_>) -> u64 {
        let tokens = &blocks.tokens[..self.block_size + self.lookahead];
        self.finder.block(place.digest.block_hash().0, tokens, 0)
    }

    /// An empty run, which may take an old one's place.
    fn new_run(&mut self, key: u64, parent: Digest) -> usize {
        let fresh = Run { key, parent, blocks: 0, digests: 0, used: false, next: None };
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
            self.hand = if run + 1 == self.runs.len() { 0 } else { run + 1 };
            let old = &mut self.runs[run];
            if !std::mem::take(&mut old.used) {
                self.directory.remove(old.key, run);
                self.evicted += 1;
                return run;
            }
        }
    }

    const fn run_tokens(&self) -> usize {
        RUN * self.block_size + self.lookahead
    }
}

fn room<T>(len: usize) -> Result<Vec<T>, TryReserveError> {
    let mut empty = Vec::new();
    empty.try_reserve_exact(len)?;
    Ok(empty)
}

/// How many tokens two slices have in common, from the first on.
fn equal_tokens(a: &[TokenId], b: &[TokenId]) -> usize {
    // By the kilobyte, then by the dozen, and then one by one: the larger, the faster.
    let mut equal = equal_chunks::<256>(a, b);
    equal += equal_chunks::<16>(&a[equal..], &b[equal..]);
    equal + equal_chunks::<1>(&a[equal..], &b[equal..])
}

/// How many tokens the leading chunks that are equal have.
fn equal_chunks<const N: usize>(a: &[TokenId], b: &[TokenId]) -> usize {
    let chunks = a.as_chunks::<N>().0.iter().zip(b.as_chunks::<N>().0);
    N * chunks.take_while(|(a, b)| a == b).count()
}
