//! Why prompts do not find what an engine holds.

mod finding;
mod said;

pub use finding::Finding;

use kvsched_core::{BlockHash, EngineHash, Event, Lora, Prompt, Stored, Tier, TokenId};
use kvsched_hash::{BlockHasher, Mismatch, Observation, Scheme, SchemeDetector};
use said::{Said, Store, common};
use std::fmt;

/// Compares what one engine announces and reports with what is computed and predicted here, and
/// says what to do where they differ: the parity doctor.
///
/// Routing that silently finds nothing has seven causes: another hash algorithm, seed, block
/// size, LoRA path, cache salt, chat template, or topic on one side than on the other. The first
/// three show in any event at a prompt's start, which carries tokens *and* hashes
/// ([`Doctor::observe`]); the next three when the engine reports more cached tokens than were
/// predicted, and its announcements show what it understood instead of the prompt
/// ([`Doctor::compare`]); the last in the topic ([`Doctor::topic`]), or in that nothing comes.
///
/// Keeps the tokens of the last announcements, at most half a megabyte. All of it is advice:
/// nothing is changed but [`Doctor::parity`], by which an endpoint's blocks are named by their
/// content as long as its hashes are not understood.
///
/// ```
/// use kvsched::{BlockHasher, Doctor, EngineHash, Parity, Scheme, Stored};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let vllm = |seed| Scheme::vllm(kvsched::VllmVersion::LATEST, kvsched::Algorithm::Sha256, seed);
/// let ours = BlockHasher::builder(vllm(Some("0"))?).build()?;
/// let engines = BlockHasher::builder(vllm(Some("1"))?).build()?;
/// let mut hashes = Vec::new();
/// engines.hash_into(&kvsched::Prompt::new(&[7; 32]), &mut hashes)?;
/// let announced: Vec<_> = hashes.iter().map(|h| EngineHash(h.0)).collect();
///
/// let mut doctor = Doctor::new("pod-a", &ours, &[Some("1")]);
/// doctor.observe(&Stored::new(None, &announced, &[7; 32], 16));
/// assert_eq!(doctor.parity(), Parity::Broken);
/// assert_eq!(
///     doctor.to_string(),
///     "pod-a: the engine hashes as vLLM 0.33.0 sha256, seed \"1\", configured is vLLM 0.33.0 \
///      sha256, seed \"0\": configure the former"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Doctor {
    name: String,
    hasher: BlockHasher,
    detector: SchemeDetector,
    candidates: usize,
    parity: Parity,
    said: Said,
    stores: u64,
    roots: u64,
    topic: Option<Finding>,
    /// What is wrong with the hashes.
    scheme: Option<Finding>,
    /// What is wrong with prompts, once each.
    prompts: Vec<Finding>,
    compared: Compared,
    hashes: Vec<BlockHash>,
}

/// Whether an engine's hashes are those that are computed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parity {
    /// Nothing has shown it yet.
    Unproven,
    /// They are.
    Verified,
    /// They are not.
    Broken,
    /// They need not be: blocks are named by their content.
    NotNeeded,
}

/// Predictions and what became of them.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    requests: u64,
    hits: u64,
    missed: u64,
    missed_tokens: u64,
    over: u64,
    over_tokens: u64,
}

/// Kinds of findings about prompts that are kept.
const KEPT: usize = 16;
/// Requests before a share of them means something.
const ENOUGH: u64 = 20;
/// One in so many that are mispredicted is nothing to speak of: siblings of a burst hit what no
/// event has told of yet.
const SOME: u64 = 10;
/// Stores of which none begins a prompt before that is reported.
const ROOTLESS: u64 = 8;

impl Doctor {
    /// A doctor for the engine called `name`, whose blocks are expected to be named as `hasher`
    /// does. Besides that scheme it tries every engine's, under `seeds` (values of
    /// `PYTHONHASHSEED` that an engine may have been given) and unset.
    #[must_use]
    pub fn new(name: impl Into<String>, hasher: &BlockHasher, seeds: &[Option<&str>]) -> Self {
        let mut candidates = vec![hasher.scheme().clone()];
        let unset = (!seeds.contains(&None)).then_some(None);
        let seeds: Vec<_> = seeds.iter().copied().chain(unset).chain([Some("0")]).collect();
        for scheme in Scheme::candidates(&seeds) {
            if !candidates.contains(&scheme) {
                candidates.push(scheme);
            }
        }
        let is_announced = hasher.scheme().is_announced();
        Self {
            name: name.into(),
            hasher: hasher.clone(),
            candidates: candidates.len(),
            detector: SchemeDetector::new(candidates),
            parity: if is_announced { Parity::Unproven } else { Parity::NotNeeded },
            said: Said::default(),
            stores: 0,
            roots: 0,
            topic: None,
            scheme: None,
            prompts: Vec::new(),
            compared: Compared::default(),
            hashes: Vec::new(),
        }
    }

    /// Looks at a message's topic: a subscription gets what begins with what it `subscribed` to.
    pub fn topic(&mut self, subscribed: &str, heard: &str) {
        let (subscribed, heard) = (subscribed.to_owned(), heard.to_owned());
        self.topic =
            (!heard.starts_with(&subscribed)).then_some(Finding::Topic { subscribed, heard });
    }

    /// Looks at what the engine announced, one message's events.
    pub fn observe_events<'e>(&mut self, events: impl IntoIterator<Item = Event<'e>>) {
        for event in events {
            match event {
                Event::Stored(stored) => self.observe(&stored),
                Event::Cleared => self.said.clear(),
                _ => {}
            }
        }
    }

    /// Looks at one announcement.
    ///
    /// The first at a prompt's start costs every scheme's hashing of its tokens; later ones a
    /// copy of them, and one in sixteen their hashing once.
    pub fn observe(&mut self, stored: &Stored<'_>) {
        let is_device = stored.medium.is_none_or(|m| m.tier() == Some(Tier::DEVICE));
        let blocks = stored.tokens.len().checked_div(stored.block_size as usize);
        if !is_device || blocks.is_none_or(|blocks| blocks == 0) || stored.hashes.is_empty() {
            return;
        }
        self.stores += 1;
        self.roots += u64::from(stored.parent.is_none());
        if blocks == Some(stored.hashes.len()) {
            self.said.push(stored);
        }
        if self.parity == Parity::NotNeeded {
            return;
        }
        let observation = self.detector.observe(stored);
        match observation {
            Observation::Verified => self.verify(),
            Observation::Mismatch(mismatch) => self.note_mismatch(mismatch),
            _ => {}
        }
    }

    /// The engine has started anew, perhaps as another: forgets what it announced.
    pub fn restart(&mut self) {
        self.said.clear();
        self.detector.reset();
        self.scheme = None;
        (self.stores, self.roots) = (0, 0);
        if self.parity != Parity::NotNeeded {
            self.parity = Parity::Unproven;
        }
    }

    /// Compares a prediction with what the engine did: of `prompt`, `predicted` tokens were
    /// expected to come from its cache, and it has `reported` so many.
    ///
    /// Call it when the answer is there and the events of that time have been observed. Costs
    /// nothing where both agree; else a look at all that is remembered.
    pub fn compare(&mut self, prompt: &Prompt<'_>, predicted: u32, reported: u32) {
        let compared = &mut self.compared;
        compared.requests += 1;
        compared.hits += u64::from(reported > 0);
        if reported < predicted {
            compared.over += 1;
            compared.over_tokens += u64::from(predicted - reported);
        } else if reported > predicted {
            compared.missed += 1;
            compared.missed_tokens += u64::from(reported - predicted);
            if let Some(finding) = self.diagnose(prompt, predicted as usize, reported as usize) {
                self.keep(finding);
            }
        }
    }

    /// Whether the engine's hashes are those that are computed here.
    ///
    /// While it is [`Parity::Broken`], name this endpoint's blocks by their content.
    #[must_use]
    pub fn parity(&self) -> Parity {
        self.parity
    }

    /// The engine's own scheme and block size, as far as it is known.
    #[must_use]
    pub fn detected(&self) -> Option<&BlockHasher> {
        self.detector.hasher()
    }

    /// All that is wrong, what matters most first; empty where nothing is known to be.
    #[must_use]
    pub fn report(&self) -> Vec<Finding> {
        let c = self.compared;
        let is_often = |n: u64| c.requests >= ENOUGH && n * SOME >= c.requests;
        let mut report: Vec<_> = self.topic.iter().chain(&self.scheme).cloned().collect();
        if self.stores == 0 && c.hits > 0 && self.topic.is_none() {
            report.push(Finding::Unheard { requests: c.hits });
        }
        if self.roots == 0 && self.stores >= ROOTLESS {
            report.push(Finding::NoRoot { stores: self.stores });
        }
        report.extend(self.prompts.iter().cloned());
        if report.is_empty() && is_often(c.missed) {
            let (requests, of, tokens) = (c.missed, c.requests, c.missed_tokens);
            report.push(Finding::Missed { requests, of, tokens });
        }
        if is_often(c.over) {
            let (requests, of, tokens) = (c.over, c.requests, c.over_tokens);
            report.push(Finding::Overestimated { requests, of, tokens });
        }
        report
    }

    fn verify(&mut self) {
        let Some(engine) = self.detector.hasher() else { return };
        let (configured, found) = (self.hasher.block_size(), engine.block_size());
        self.scheme = if engine.scheme() != self.hasher.scheme() {
            Some(Finding::Scheme {
                configured: self.hasher.scheme().to_string(),
                engine: engine.scheme().to_string(),
            })
        } else if configured != found {
            Some(Finding::BlockSize { configured, engine: found })
        } else {
            None
        };
        self.parity = if self.scheme.is_some() { Parity::Broken } else { Parity::Verified };
    }

    fn note_mismatch(&mut self, mismatch: Mismatch) {
        let verified = self.detector.verified_events();
        self.parity = Parity::Broken;
        self.scheme = Some(if self.detector.hasher().is_some() {
            Finding::Diverged { verified, mismatch }
        } else {
            Finding::UnknownScheme {
                configured: self.hasher.scheme().to_string(),
                tried: self.candidates,
                mismatch,
            }
        });
    }

    /// Notes a finding about a prompt, unless one like it is known.
    fn keep(&mut self, finding: Finding) {
        let is_known = self.prompts.iter().any(|known| match (known, &finding) {
            (Finding::LoraPath { adapter: a, .. }, Finding::LoraPath { adapter: b, .. }) => a == b,
            (known, finding) => std::mem::discriminant(known) == std::mem::discriminant(finding),
        });
        if !is_known && self.prompts.len() < KEPT {
            self.prompts.push(finding);
        }
    }

    /// Follows a prompt through what the engine announced to where the two part, which must be
    /// before token `reported` of it, and after those that were found here.
    fn diagnose(
        &mut self,
        prompt: &Prompt<'_>,
        predicted: usize,
        reported: usize,
    ) -> Option<Finding> {
        // Of hashes that are not understood nothing can be said.
        if self.parity == Parity::Broken {
            return None;
        }
        let size = self.hasher.block_size();
        let mut hashes = std::mem::take(&mut self.hashes);
        let is_hashed = self.hasher.hash_into(prompt, &mut hashes).is_ok();
        let finding =
            if is_hashed { self.part(prompt, &hashes, size, predicted, reported) } else { None };
        self.hashes = hashes;
        finding
    }

    fn part(
        &self,
        prompt: &Prompt<'_>,
        hashes: &[BlockHash],
        size: usize,
        predicted: usize,
        reported: usize,
    ) -> Option<Finding> {
        let mut parent: Option<EngineHash> = None;
        let mut block = 0;
        loop {
            let ours = prompt.tokens.get(block * size..)?;
            let matching = |store: &Store| common(&store.tokens, ours);
            // Whole blocks that are ours, by tokens and keys.
            let same = |store: &Store| match self.parity {
                Parity::NotNeeded => {
                    let keyed = block > 0 || self.keys_differ(prompt, store, block).is_none();
                    if keyed { matching(store) / size } else { 0 }
                }
                _ => {
                    let ours = hashes.get(block..).unwrap_or_default();
                    ours.iter().zip(&*store.hashes).take_while(|(a, b)| a.0 == b.0).count()
                }
            };
            let (best, blocks) = self
                .said
                .after(parent)
                .map(|store| (store, same(store)))
                .max_by_key(|&(store, blocks)| (blocks, matching(store)))?;
            if blocks > 0 {
                block += blocks;
                parent = best.hashes.get(blocks - 1).copied();
                if blocks == best.hashes.len() || self.said.after(parent).next().is_some() {
                    continue;
                }
                // The store goes on where the prompt does not.
                let rest = Rest { store: best, skipped: blocks, hashes };
                return self.differ(prompt, rest, block, size, predicted, reported);
            }
            let rest = Rest { store: best, skipped: 0, hashes };
            return self.differ(prompt, rest, block, size, predicted, reported);
        }
    }

    /// What is different from `block` on, where `rest` is the engine's closest.
    fn differ(
        &self,
        prompt: &Prompt<'_>,
        rest: Rest<'_>,
        block: usize,
        size: usize,
        predicted: usize,
        reported: usize,
    ) -> Option<Finding> {
        let at = block * size;
        // Found here but no longer remembered, or beyond what the engine had.
        if at < predicted || at >= reported {
            return None;
        }
        let ours = prompt.tokens.get(at..)?;
        let theirs = rest.store.tokens.get(rest.skipped * size..)?;
        let same = common(ours, theirs);
        if same >= size.min(ours.len()) {
            return Some(self.keys_differ(prompt, rest.store, block).unwrap_or_else(|| {
                self.path_differs(prompt, rest, block).unwrap_or(Finding::Keys { block })
            }));
        }
        let shift = if at == 0 { shift(ours, theirs) } else { 0 };
        // A stranger's prompt, where the right one may have been forgotten.
        if self.said.is_cut && same < size / 2 && shift == 0 {
            return None;
        }
        let from = |tokens: &[TokenId]| tokens.iter().skip(same).take(8).copied().collect();
        Some(Finding::Tokens { at: at + same, configured: from(ours), engine: from(theirs), shift })
    }

    fn keys_differ(&self, prompt: &Prompt<'_>, store: &Store, block: usize) -> Option<Finding> {
        let configured = prompt.extras.lora.map(|l| l.name.to_owned());
        let engine = store.lora.as_deref().map(str::to_owned);
        if configured != engine {
            return Some(Finding::LoraName { configured, engine, block });
        }
        let configured = prompt.extras.cache_salt.filter(|s| !s.is_empty()).map(str::to_owned);
        let engine = store.salt.as_deref().map(str::to_owned);
        (block == 0 && configured != engine).then_some(Finding::Salt { configured, engine })
    }

    /// Whether another path of its adapter gives the announced hash.
    fn path_differs(&self, prompt: &Prompt<'_>, rest: Rest<'_>, block: usize) -> Option<Finding> {
        let lora = prompt.extras.lora?;
        let announced = rest.store.hashes.get(rest.skipped)?;
        let mut hashes = Vec::new();
        let mut gives = |path: &str| {
            let mut prompt = *prompt;
            prompt.extras.lora = Some(Lora { path, ..lora });
            self.hasher.hash_first_into(&prompt, block + 1, &mut hashes).is_ok()
                && hashes.get(block).is_some_and(|h| h.0 == announced.0)
        };
        // A path matters only where it enters the hash.
        let other = format!("{}?", lora.path);
        if gives(&other) || {
            let mut ours = rest.hashes.get(block).is_none();
            ours |= !self.is_hashed_with_path(prompt, lora, block);
            ours
        } {
            return None;
        }
        let engine = likely_paths(lora).into_iter().find(|path| gives(path));
        let (adapter, configured) = (lora.name.to_owned(), lora.path.to_owned());
        Some(Finding::LoraPath { adapter, configured, engine, block })
    }
}
