use crate::{Algorithm, BlockHasher, Digest, Scheme, VllmVersion};
use kvsched_core::{BlockHash, Stored};
use std::collections::{HashMap, VecDeque};
use std::fmt;

/// Finds out how an engine hashes from what it announces, and keeps checking: the parity
/// doctor.
///
/// Every Stored event carries tokens *and* hashes, so the first event at a prompt's start
/// proves which of the candidate schemes, and which hash block size, the engine uses. Later
/// events narrow down what plain text leaves open (vLLM versions that differ only in extra
/// keys), and are then checked for ever, one in so many. A mismatch says which block, which
/// tokens, what was announced and what was expected, instead of silently finding nothing.
///
/// ```
/// use kvsched_hash::{Observation, Scheme, SchemeDetector};
/// # use kvsched_core::Stored;
/// // Every vLLM version and SGLang, with the seeds that this deployment may have set.
/// let mut detector = SchemeDetector::new(Scheme::candidates(&[None, Some("0")]));
/// # fn check(mut detector: SchemeDetector, events: &[Stored<'_>]) {
/// for stored in events {
///     match detector.observe(stored) {
///         Observation::Mismatch(wrong) => eprintln!("{wrong}"), // fall back to content hashes
///         _ => {}
///     }
/// }
/// if let Some(hasher) = detector.hasher() {
///     println!("{} in blocks of {}", hasher.scheme(), hasher.block_size());
/// }
/// # }
/// ```
///
/// Cannot tell: blocks of adapters where their path is hashed (vLLM 0.31), events whose parent
/// it has not seen, and prompts with salts or images of engines that do not announce extra
/// keys (vLLM before 0.17), which look like a mismatch.
#[derive(Debug)]
pub struct SchemeDetector {
    candidates: Vec<Scheme>,
    /// Hashers that explain everything seen so far; best first. Empty while searching.
    fitting: Vec<BlockHasher>,
    /// Digests of announced blocks, of the best fitting hasher.
    digests: Recent,
    checked: u64,
    seen: u64,
    every: u64,
    scratch: Vec<Digest>,
}

/// What an event told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observation {
    /// Every announced hash is as computed.
    Verified,
    /// The event was not among those checked, or does not hold what a check needs.
    Unchecked,
    /// No candidate explains the event.
    Mismatch(Mismatch),
}

/// The first block that diverges.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// Its index among the event's announced hashes.
    pub block: usize,
    /// What the engine announced.
    pub announced: BlockHash,
    /// What the scheme in force gives; `None` if none was found yet, or if the engine
    /// announces more blocks than the tokens have.
    pub expected: Option<BlockHash>,
    /// The first tokens of the block, at most 8.
    pub tokens: Vec<u32>,
    /// The scheme in force.
    pub scheme: Option<String>,
    /// Whether the block had announced extra keys.
    pub extra_keys: bool,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} (tokens {:?}", self.block, self.tokens)?;
        f.write_str(if self.extra_keys { ", with extra keys)" } else { ")" })?;
        write!(f, " was announced as {}, ", self.announced)?;
        match (&self.scheme, self.expected) {
            (Some(scheme), Some(expected)) => write!(f, "but {scheme} gives {expected}"),
            (Some(scheme), None) => write!(f, "but {scheme} gives none"),
            (None, _) => f.write_str("which no candidate scheme gives"),
        }
    }
}

impl Scheme {
    /// Every engine scheme there is, for these values of `PYTHONHASHSEED` (`None`: unset),
    /// newest first: vLLM in one version of each kind, and SGLang.
    #[must_use]
    pub fn candidates(seeds: &[Option<&str>]) -> Vec<Self> {
        // The last version of each row of the history.
        const LAST: [(u16, u16); 9] =
            [(33, 0), (32, 0), (30, 0), (28, 0), (18, 0), (16, 0), (11, 0), (10, 1), (9, 2)];
        let versions =
            LAST.iter().filter_map(|&(minor, patch)| VllmVersion::new(0, minor, patch).ok());
        let mut all: Vec<Self> = versions
            .flat_map(|version| Algorithm::ALL.map(|algorithm| (version, algorithm)))
            .flat_map(|(version, algorithm)| seeds.iter().map(move |&s| (version, algorithm, s)))
            .filter_map(|(version, algorithm, seed)| Self::vllm(version, algorithm, seed).ok())
            .collect();
        all.push(Self::sglang());
        all
    }
}

/// What comparing an event with one hasher gave.
enum Fit {
    Same,
    Differs(Mismatch),
    CannotTell,
}

impl SchemeDetector {
    /// Events that are all checked after a scheme was found, before only a sample is.
    const SETTLED: u64 = 32;

    /// A detector among `candidates`; of those that explain the same, the first is preferred.
    #[must_use]
    pub fn new(candidates: Vec<Scheme>) -> Self {
        Self {
            candidates,
            fitting: Vec::new(),
            digests: Recent::default(),
            checked: 0,
            seen: 0,
            every: 16,
            scratch: Vec::new(),
        }
    }

    /// Checks one event in `events` once the scheme is settled (16 unless set; 0 counts as 1).
    #[must_use]
    pub fn sample_one_in(mut self, events: u64) -> Self {
        self.every = events.max(1);
        self
    }

    /// Looks at one event of the engine.
    ///
    /// Searching costs every candidate once; a check what hashing the event's tokens costs.
    pub fn observe(&mut self, stored: &Stored<'_>) -> Observation {
        if stored.hashes.is_empty() || stored.tokens.is_empty() || stored.block_size == 0 {
            return Observation::Unchecked;
        }
        self.seen += 1;
        if self.fitting.is_empty() {
            return self.search(stored);
        }
        if self.checked > Self::SETTLED && !self.seen.is_multiple_of(self.every) {
            return Observation::Unchecked;
        }
        let Ok(parent) = self.parent_of(stored) else { return Observation::Unchecked };
        match compare(&self.fitting[0], stored, parent, &mut self.scratch) {
            Fit::CannotTell => return Observation::Unchecked,
            Fit::Same => self.remember(stored),
            Fit::Differs(wrong) => {
                // Another version may explain this event and all before; told apart only by
                // keys, they have had the same digests so far.
                let (scratch, fitting) = (&mut self.scratch, &self.fitting[1..]);
                let better = fitting
                    .iter()
                    .position(|h| matches!(compare(h, stored, parent, scratch), Fit::Same));
                let Some(better) = better else { return Observation::Mismatch(wrong) };
                self.fitting.drain(..=better);
                self.remember(stored);
            }
        }
        let scratch = &mut self.scratch;
        let first = self.fitting[0].clone();
        self.fitting.retain(|h| {
            h.scheme() == first.scheme()
                || !matches!(compare(h, stored, parent, scratch), Fit::Differs(_))
        });
        self.checked += 1;
        Observation::Verified
    }

    /// A hasher of the scheme that was found.
    #[must_use]
    pub fn hasher(&self) -> Option<&BlockHasher> {
        self.fitting.first()
    }

    /// The schemes that explain everything seen as well as the one that was found.
    pub fn alternatives(&self) -> impl Iterator<Item = &Scheme> {
        self.fitting.iter().skip(1).map(BlockHasher::scheme)
    }

    /// How many events were checked and right since the scheme was found.
    #[must_use]
    pub const fn verified_events(&self) -> u64 {
        self.checked
    }

    /// Forgets what was found, to search anew: after an engine's restart, or a mismatch.
    pub fn reset(&mut self) {
        self.fitting.clear();
        self.digests = Recent::default();
        (self.checked, self.seen) = (0, 0);
    }

    fn search(&mut self, stored: &Stored<'_>) -> Observation {
        if stored.parent.is_some() {
            return Observation::Unchecked;
        }
        let announced = stored.block_size as usize;
        let lookahead = stored.lookahead.len() / stored.hashes.len();
        let mut wrong = None;
        // A hybrid model's groups may have blocks of several hashed ones: the largest hash
        // block that explains the event is taken, because it costs least.
        for block_size in (1..=announced).rev().filter(|&n| announced.is_multiple_of(n)) {
            for scheme in &self.candidates {
                let builder = BlockHasher::builder(scheme.clone()).block_size(block_size);
                let Ok(hasher) = builder.lookahead(lookahead).build() else { continue };
                match compare(&hasher, stored, None, &mut self.scratch) {
                    Fit::Same => self.fitting.push(hasher),
                    Fit::Differs(mismatch) => wrong = wrong.or(Some(mismatch)),
                    Fit::CannotTell => {}
                }
            }
            if !self.fitting.is_empty() {
                self.checked = 1;
                // The scratch buffer holds the last candidate's digests: compute the first's.
                if let Fit::Same = compare(&self.fitting[0], stored, None, &mut self.scratch) {
                    self.remember(stored);
                }
                return Observation::Verified;
            }
        }
        match wrong {
            Some(wrong) => {
                Observation::Mismatch(Mismatch { expected: None, scheme: None, ..wrong })
            }
            None => Observation::Unchecked,
        }
    }

    fn parent_of(&self, stored: &Stored<'_>) -> Result<Option<Digest>, ()> {
        match stored.parent {
            None => Ok(None),
            Some(parent) => self.digests.get(parent.as_block_hash()).map(Some).ok_or(()),
        }
    }

    /// Keeps the digests in the scratch buffer, as parents of events to come.
    fn remember(&mut self, stored: &Stored<'_>) {
        let scheme = self.fitting[0].scheme();
        let ratio = stored.block_size as usize / self.fitting[0].block_size();
        for digest in crate::group_view(&self.scratch, ratio) {
            self.digests.insert(scheme.block_hash(digest), *digest);
        }
    }
}

/// Computes an event's digests into `digests` and compares what was announced.
fn compare(
    hasher: &BlockHasher,
    stored: &Stored<'_>,
    parent: Option<Digest>,
    digests: &mut Vec<Digest>,
) -> Fit {
    let lookahead = stored.lookahead.len() / stored.hashes.len();
    let announced = stored.block_size as usize;
    let blocks = stored.tokens.len() / announced;
    // Where blocks were left out, it is unknown whose lookahead was announced.
    if lookahead != hasher.lookahead() || lookahead > 0 && blocks != stored.hashes.len() {
        return Fit::CannotTell;
    }
    if hasher.hash_stored_into(stored, parent, digests).is_err() {
        return Fit::CannotTell;
    }
    let ratio = announced / hasher.block_size();
    let scheme = hasher.scheme();
    let mut computed = crate::group_view(digests, ratio).map(|d| scheme.block_hash(d)).enumerate();
    let skips = blocks > stored.hashes.len();
    for (block, hash) in stored.hashes.iter().enumerate() {
        let want = hash.as_block_hash();
        let expected = if skips {
            // A sliding window leaves blocks out, in order.
            computed.find(|(_, got)| *got == want)
        } else {
            computed.next()
        };
        if expected.is_none_or(|(_, got)| got != want) {
            let at = expected.map_or(block, |(at, _)| at) * announced;
            let tokens = stored.tokens.get(at..).unwrap_or_default();
            let keys = stored.extra_keys.and_then(|k| k.of_block(block));
            return Fit::Differs(Mismatch {
                block,
                announced: want,
                expected: expected.map(|(_, got)| got),
                tokens: tokens.iter().take(8).copied().collect(),
                scheme: Some(scheme.to_string()),
                extra_keys: keys.is_some_and(|k| !k.is_empty()),
            });
        }
    }
    Fit::Same
}

/// The digests of the last blocks announced, a bounded number.
#[derive(Debug, Default)]
struct Recent {
    digests: HashMap<BlockHash, Digest>,
    order: VecDeque<BlockHash>,
}

impl Recent {
    const MAX: usize = 4096;

    fn get(&self, hash: BlockHash) -> Option<Digest> {
        self.digests.get(&hash).copied()
    }

    fn insert(&mut self, hash: BlockHash, digest: Digest) {
        if self.digests.insert(hash, digest).is_none() {
            self.order.push_back(hash);
        }
        if self.order.len() > Self::MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }
}
