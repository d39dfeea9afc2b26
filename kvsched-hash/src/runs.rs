use crate::content::ContentScheme;
use crate::directory::Directory;
use crate::span::Span;
use crate::{BlockHasher, Digest, HashError};
use kvsched_core::{BlockHash, TokenId};
use std::collections::TryReserveError;

/// Blocks that one run holds at most: longer ones are followed faster, and take longer to hash
/// again where a prompt leaves them.
const RUN: usize = 128;

/// There is room for so many shorter ones in place of each of the longest.
const SHORTER: usize = 8;

/// How many runs one new run may keep from making room for it, because they were used.
const CHANCES: usize = 16;

/// Runs of consecutive blocks with all that was learnt of them, in room that is asked for once.
///
/// Their blocks lie one behind the other in a ring, in the order in which they were learnt: each
/// takes what it needs, and few pages are touched, of which each that was not used lately is
/// expensive. The oldest make room first; those that were used are copied to the head instead.
#[derive(Debug)]
pub(crate) struct Runs {
    block_size: usize,
    lookahead: usize,
    /// Names runs; a private hash, of the parent's name and the first block's tokens.
    finder: ContentScheme,
    directory: Directory,
    runs: Vec<Run>,
    most_runs: usize,
    /// The first of those that are no runs any more, a list by [`Run::newer`].
    free: Option<usize>,
    /// The oldest and the newest run: the ends of a list by [`Run::newer`].
    order: Option<(usize, usize)>,
    /// Of each block.
    hashes: Vec<BlockHash>,
    /// Of each block. Behind each run is its lookahead, in room of whole blocks; where a run was
    /// split, that is the next one's beginning.
    tokens: Vec<TokenId>,
    /// Behind the newest run's blocks.
    head: usize,
    /// How many blocks there is room for.
    blocks: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Run {
    key: u64,
    parent: Digest,
    /// The first of its blocks.
    at: usize,
    /// How many; none if it is no run any more.
    blocks: usize,
    /// The last block's.
    last: Digest,
    /// Whether it was used since it might have made room last.
    used: bool,
    /// A run that came right after it once.
    next: Option<usize>,
    /// The run whose blocks come behind its own in the ring.
    newer: Option<usize>,
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
    /// Bytes that a run of the greatest length takes.
    pub(crate) const fn run_bytes(block_size: usize, lookahead: usize) -> usize {
        let block = block_size * size_of::<TokenId>() + size_of::<BlockHash>();
        room_for(RUN, block_size, lookahead) * block
            + SHORTER * (size_of::<Run>() + Directory::RUN_BYTES)
    }

    /// Room for `capacity` runs of the greatest length, at least one.
    pub(crate) fn new(
        block_size: usize,
        lookahead: usize,
        capacity: usize,
    ) -> Result<Self, TryReserveError> {
        let most_runs = capacity.saturating_mul(SHORTER).min(Directory::MAX_RUNS);
        let blocks = capacity.saturating_mul(room_for(RUN, block_size, lookahead));
        Ok(Self {
            block_size,
            lookahead,
            finder: ContentScheme::keyed(b"prefix memo"),
            hashes: room(blocks)?,
            tokens: room(blocks.saturating_mul(block_size))?,
            runs: room(most_runs)?,
            directory: Directory::new(most_runs)?,
            most_runs,
            free: None,
            order: None,
            head: 0,
            blocks,
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
                let key = self.key(&place.digest, rest.tokens);
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
        let Run { parent, at, blocks, .. } = &self.runs[run];
        if *parent != place.digest {
            return None;
        }
        let len = blocks.min(&rest.blocks) * self.block_size + self.lookahead;
        let theirs = &self.tokens[at * self.block_size..][..len];
        let equal = equal_tokens(&rest.tokens[..len], theirs);
        let blocks = equal.saturating_sub(self.lookahead) / self.block_size;
        (blocks > 0).then_some(Known { run, blocks })
    }

    /// The hashes of known blocks.
    pub(crate) fn hashes(&self, Known { run, blocks }: Known) -> &[BlockHash] {
        &self.hashes[self.runs[run].at..][..blocks]
    }

    /// The place behind known blocks, which `rest` begins with, and how many of them had to be
    /// hashed for that: all, if a prompt leaves the run in its middle, which makes two of it.
    pub(crate) fn behind(
        &mut self,
        known: Known,
        hasher: &BlockHasher,
        rest: &Span<'_>,
    ) -> Result<(Place, usize), HashError> {
        let run = &self.runs[known.run];
        let (digest, hashed) = if known.blocks == run.blocks {
            (run.last, 0)
        } else {
            let part = rest.part(0, known.blocks);
            let digest = hasher.each_block(&part, &run.parent, |_, _| ())?;
            self.split(known, digest);
            (digest, known.blocks)
        };
        Ok((Place { digest, run: Some(known.run) }, hashed))
    }

    /// Makes two runs of one: the known blocks, the last of which has this digest, and the others.
    fn split(&mut self, Known { run: first, blocks }: Known, digest: Digest) {
        let second = self.free_run();
        let run = &mut self.runs[first];
        let at = run.at + blocks;
        let others = Run {
            key: 0,
            parent: digest,
            at,
            blocks: run.blocks - blocks,
            last: run.last,
            used: false,
            next: run.next,
            newer: run.newer,
        };
        (run.blocks, run.last) = (blocks, digest);
        // Where there is no room for another run, they are forgotten.
        let Some(second) = second else { return };
        (run.next, run.newer) = (Some(second), Some(second));
        self.order = self
            .order
            .map(|(oldest, newest)| (oldest, if newest == first { second } else { newest }));
        let Key(key) = self.key(&digest, &self.tokens[at * self.block_size..]);
        self.enter(second, Run { key, ..others });
    }

    /// Hashes the first of `rest`, which come at `place` and were not found under `key`, appends
    /// their hashes to `out` and remembers them: as many as one run may hold. Returns the place
    /// behind them.
    pub(crate) fn learn(
        &mut self,
        place: &Place,
        Key(key): Key,
        hasher: &BlockHasher,
        rest: &Span<'_>,
        out: &mut Vec<BlockHash>,
    ) -> Result<Place, HashError> {
        let part = rest.part(0, RUN);
        let at = self.make_room(part.blocks);
        let hashes = &mut self.hashes[at..][..part.blocks];
        let tokens = &mut self.tokens[at * self.block_size..][..part.tokens.len()];
        // Hashing leaves the memory idle: it may fetch the lines that will be written. A run of
        // them begins to be one when nothing can be refused any more.
        let mut slots = hashes.iter_mut().zip(tokens.chunks_exact_mut(self.block_size));
        let last = hasher.each_block(&part, &place.digest, |hash, _| {
            if let Some((slot, line)) = slots.next() {
                *slot = hash;
                line[0] = 0;
            }
        })?;
        out.extend_from_slice(hashes);
        tokens.copy_from_slice(part.tokens);
        let (parent, blocks) = (place.digest, part.blocks);
        let run = Run { key, parent, at, blocks, last, used: false, next: None, newer: None };
        let Some(new) = self.free_run() else { return Ok(Place::after(last)) };
        self.enter(new, run);
        self.append(new);
        self.link(place, new);
        Ok(Place { digest: last, run: Some(new) })
    }

    fn link(&mut self, place: &Place, next: usize) {
        if let Some(run) = place.run {
            self.runs[run].next = Some(next);
        }
    }

    /// What a run behind the parent that begins with these tokens is found under.
    fn key(&self, parent: &Digest, tokens: &[TokenId]) -> Key {
        let tokens = &tokens[..self.block_size + self.lookahead];
        Key(self.finder.block(parent.block_hash().0, tokens, 0))
    }

    /// One that is none and may become one.
    fn free_run(&self) -> Option<usize> {
        let unused = self.runs.len();
        self.free.or((unused < self.most_runs).then_some(unused))
    }

    /// Makes a [free run](Self::free_run) one that can be found.
    fn enter(&mut self, new: usize, run: Run) {
        self.directory.insert(run.key, new);
        if let Some(old) = self.runs.get_mut(new) {
            self.free = old.newer;
            *old = run;
        } else {
            self.runs.push(run);
        }
    }

    /// Makes a run whose blocks are at the head the newest.
    fn append(&mut self, run: usize) {
        self.head += self.room_for(self.runs[run].blocks);
        self.runs[run].newer = None;
        self.order = match self.order {
            Some((oldest, newest)) => {
                self.runs[newest].newer = Some(run);
                Some((oldest, run))
            }
            None => Some((run, run)),
        };
    }

    /// Makes room for a run of so many blocks at the head, and tells where that is.
    fn make_room(&mut self, blocks: usize) -> usize {
        let mut chances = CHANCES;
        while !self.has_room(blocks) || self.free_run().is_none() {
            self.take_oldest(&mut chances);
        }
        self.grow(blocks);
        self.head
    }

    /// Whether there is room for a run of so many blocks at the head, or at the ring's beginning,
    /// which becomes the head then.
    fn has_room(&mut self, blocks: usize) -> bool {
        let room = self.room_for(blocks);
        let oldest = self.order.map(|(oldest, _)| self.runs[oldest].at);
        let end = match oldest {
            Some(at) if at >= self.head => at,
            _ if self.head + room <= self.blocks => self.blocks,
            _ => {
                self.head = 0;
                oldest.unwrap_or(self.blocks)
            }
        };
        self.head + room <= end
    }

    /// Takes the oldest run out, or makes it the newest if it was used and there are chances.
    fn take_oldest(&mut self, chances: &mut usize) {
        let Some((oldest, newest)) = self.order else { return };
        let Run { key, at, blocks, used, newer, .. } = self.runs[oldest];
        self.order = newer.map(|second| (second, newest));
        // One that was split has no room for its own lookahead.
        if used && *chances > 0 && self.has_room(blocks) {
            *chances -= 1;
            self.grow(blocks);
            let (to, size) = (self.head, self.block_size);
            let tokens = at * size..(at + blocks) * size + self.lookahead;
            self.hashes.copy_within(at..at + blocks, to);
            self.tokens.copy_within(tokens, to * size);
            let run = &mut self.runs[oldest];
            (run.at, run.used) = (to, false);
            self.append(oldest);
        } else {
            self.directory.remove(key, oldest);
            let run = &mut self.runs[oldest];
            (run.blocks, run.newer) = (0, self.free);
            self.free = Some(oldest);
            self.evicted += 1;
        }
    }

    /// Makes the room for so many blocks at the head usable, where it never was before.
    fn grow(&mut self, blocks: usize) {
        let end = self.head + self.room_for(blocks);
        if self.hashes.len() < end {
            self.hashes.resize(end, BlockHash(0));
            self.tokens.resize(end * self.block_size, 0);
        }
    }

    const fn room_for(&self, blocks: usize) -> usize {
        room_for(blocks, self.block_size, self.lookahead)
    }
}

/// Blocks that a run takes with its lookahead.
const fn room_for(blocks: usize, block_size: usize, lookahead: usize) -> usize {
    blocks + lookahead.div_ceil(block_size)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, Scheme, VllmVersion};
    use kvsched_core::{Extras, Prompt};
    use proptest::prelude::*;

    const MOST_PROMPTS: usize = if cfg!(miri) { 6 } else { 60 };

    /// All hashes of a prompt, of as many runs as it takes.
    fn ask(runs: &mut Runs, hasher: &BlockHasher, tokens: &[TokenId]) -> Vec<BlockHash> {
        let span = hasher.span(&Prompt::new(tokens), 0, usize::MAX).unwrap();
        let mut place = Place::after(hasher.scheme().none_hash());
        let mut out = Vec::new();
        while out.len() < span.blocks {
            let rest = span.part(out.len(), usize::MAX);
            place = match runs.find(&place, &rest) {
                Ok(known) => {
                    out.extend_from_slice(runs.hashes(known));
                    runs.behind(known, hasher, &rest).unwrap().0
                }
                Err(key) => runs.learn(&place, key, hasher, &rest, &mut out).unwrap(),
            };
        }
        out
    }

    /// Hashed anew each run is what it says, none shares a block with another, and none is lost.
    fn check(runs: &Runs, hasher: &BlockHasher) {
        let mut taken = vec![false; runs.blocks];
        let mut live = 0;
        let mut next = runs.order.map(|(oldest, _)| oldest);
        while let Some(i) = next {
            let run = &runs.runs[i];
            let reach = run.blocks * runs.block_size + runs.lookahead;
            let span = Span {
                tokens: &runs.tokens[run.at * runs.block_size..][..reach],
                start: 0,
                blocks: run.blocks,
                block_size: runs.block_size,
                lookahead: runs.lookahead,
                extras: Extras::NONE,
            };
            let mut hashes = Vec::new();
            let last = hasher.each_block(&span, &run.parent, |hash, _| hashes.push(hash)).unwrap();
            assert_eq!(last, run.last);
            assert_eq!(hashes, runs.hashes[run.at..][..run.blocks]);
            assert!(run.blocks > 0);
            for taken in &mut taken[run.at..][..run.blocks] {
                assert!(!std::mem::replace(taken, true));
            }
            live += 1;
            next = run.newer;
            assert_eq!(next.is_none(), runs.order.is_some_and(|(_, newest)| newest == i));
        }
        let mut dead = 0;
        let mut next = runs.free;
        while let Some(i) = next {
            assert_eq!(runs.runs[i].blocks, 0);
            dead += 1;
            next = runs.runs[i].newer;
        }
        assert_eq!(live + dead, runs.runs.len());
        assert!(runs.runs.len() <= runs.most_runs);
        assert!(runs.hashes.len() <= runs.blocks);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 48 }))]

        #[test]
        fn whatever_is_asked_each_run_tells_the_truth(
            block_size in 1..4_usize,
            lookahead in 0..6_usize,
            capacity in 1..4_usize,
            // How much of the stem, and how many blocks of which other text follow.
            prompts in prop::collection::vec((0..6_usize, 0..120_usize, 0..4_u32), 1..MOST_PROMPTS),
        ) {
            let scheme =
                Scheme::vllm(VllmVersion::LATEST, Algorithm::XxHashCbor, Some("0")).unwrap();
            let builder = BlockHasher::builder(scheme).block_size(block_size);
            let hasher = builder.lookahead(lookahead).build().unwrap();
            let mut runs = Runs::new(block_size, lookahead, capacity).unwrap();
            for (sixth, tail, text) in prompts {
                let stem = 0..(sixth * 36 * block_size) as u32;
                let tail = (0..(tail * block_size + lookahead) as u32).map(|i| 5000 + i * 7 + text);
                let prompt: Vec<_> = stem.chain(tail).collect();
                let mut plain = Vec::new();
                hasher.hash_into(&Prompt::new(&prompt), &mut plain).unwrap();
                prop_assert_eq!(ask(&mut runs, &hasher, &prompt), plain);
                check(&runs, &hasher);
            }
        }
    }
}
