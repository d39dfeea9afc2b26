//! Why prompts do not find what an engine holds.

mod finding;
mod parting;
mod said;

pub use finding::Finding;

use kvsched_core::{BlockHash, Event, Prompt, Stored, Tier};
use kvsched_hash::{BlockHasher, Mismatch, Observation, Scheme, SchemeDetector};
use parting::Cause;
use said::Said;
use std::cmp::Reverse;
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
/// let ours = BlockHasher::builder(vllm(Some("0"))?).block_size(16).build()?;
/// let engines = BlockHasher::builder(vllm(Some("1"))?).block_size(16).build()?;
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
        // Of schemes that explain the same, the one most like ours.
        let ours = hasher.scheme().to_string();
        let likeness = |scheme: &Scheme| {
            ours.split(' ').zip(scheme.to_string().split(' ')).take_while(|(a, b)| a == b).count()
        };
        candidates.sort_by_cached_key(|scheme| Reverse(likeness(scheme)));
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
        let size = stored.block_size as usize;
        if blocks == Some(stored.hashes.len()) && size == self.hasher.block_size() {
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
            // Of hashes that are not understood nothing can be said.
            let cause = match self.parity {
                Parity::Broken => Cause::Late,
                _ => self.diagnose(prompt, predicted as usize, reported as usize),
            };
            if let Cause::Found(finding) = cause {
                self.keep(finding);
            } else if let Cause::Unknown = cause {
                self.compared.missed += 1;
                self.compared.missed_tokens += u64::from(reported - predicted);
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
        // An engine that contradicted itself is not believed again before it restarts.
        if matches!(self.scheme, Some(Finding::Diverged { .. })) {
            return;
        }
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
        if matches!(self.scheme, Some(Finding::Diverged { .. })) {
            return;
        }
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
}

impl fmt::Display for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report();
        if report.is_empty() {
            let Compared { requests, .. } = self.compared;
            let well = match self.parity {
                Parity::Verified => "hashes are as computed",
                Parity::NotNeeded => "blocks are named by their content",
                _ => "nothing has shown yet whether hashes are as computed",
            };
            return write!(f, "{}: {well}; {requests} requests compared", self.name);
        }
        for (i, finding) in report.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{}: {finding}", self.name)?;
        }
        Ok(())
    }
}
