//! Diagnoses each of the seven known causes of routing that silently finds nothing, from what
//! real engines sent. In each case our side is configured wrong in one respect.
//!
//! `cargo run --example doctor`
#![allow(clippy::print_stdout, reason = "an example prints")]

use kvsched::events::{EventStream, StreamSettings, vllm::Decoder};
use kvsched::{
    Algorithm, BlockHasher, Doctor, EndpointId, Extras, Index, Lora, Parity, PrefixMatches, Prompt,
    PromptEmbeds, Scheme, Time, VllmVersion, with_identity,
};
use kvsched_testdata::capture::{self, Capture, Request, Step};
use kvsched_testdata::{Vectors, vector_files};

pub(crate) type Error = Box<dyn std::error::Error>;

/// What our side makes of a request.
pub(crate) struct Ours {
    pub(crate) tokens: Vec<u32>,
    pub(crate) lora_path: Option<String>,
    pub(crate) cache_salt: Option<String>,
}

/// One recording, looked at from our side.
pub(crate) struct Case<'a> {
    pub(crate) cause: &'static str,
    pub(crate) capture: &'a Capture,
    pub(crate) hasher: BlockHasher,
    /// The topic we subscribe to; `None` for the engine's own.
    pub(crate) subscribed: Option<&'static str>,
    /// What is done to our prompts.
    pub(crate) spoil: fn(&mut Ours),
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) doctor: Doctor,
    /// Of the tokens that the engine served from its cache.
    pub(crate) predicted: u64,
    pub(crate) reported: u64,
}

/// How the engine of a recording names its blocks.
pub(crate) fn scheme(capture: &Capture) -> Result<Scheme, Error> {
    let version: VllmVersion = capture.version().parse()?;
    let algorithm: Algorithm = capture.settings.algo.parse()?;
    Ok(Scheme::vllm(version, algorithm, capture.settings.seed.as_deref())?)
}

pub(crate) fn hasher(scheme: Scheme, block_size: usize) -> Result<BlockHasher, Error> {
    Ok(BlockHasher::builder(scheme).block_size(block_size).build()?)
}

/// Plays a recording: predicts every request, takes in what the engine then announced, and shows
/// the doctor both.
pub(crate) fn play(case: &Case<'_>) -> Result<Outcome, Error> {
    let Case { capture, hasher, .. } = case;
    let mut doctor = Doctor::new(capture.name.as_str(), hasher, &[Some("0"), Some("42")]);
    let mut index = Index::builder().block_size(hasher.block_size() as u32).build()?;
    let mut stream = EventStream::new(EndpointId(0), StreamSettings::default());
    let (mut decoder, mut hashes) = (Decoder::new(), Vec::new());
    let mut matches = PrefixMatches::new();
    let (mut predicted, mut reported) = (0, 0);
    let steps = capture.requests.iter();
    let requests: Vec<&Request> = steps
        .filter_map(|step| match step {
            Step::Request(request) => Some(&**request),
            Step::Reset { .. } => None,
        })
        .collect();
    let mut messages = capture.messages.iter().peekable();
    for batch in requests.chunk_by(|a, b| a.batch() == b.batch()) {
        let mut asked = Vec::new();
        for &request in batch {
            let mut ours = Ours {
                tokens: request.prompt_token_ids.clone(),
                lora_path: request.lora_path.clone(),
                cache_salt: request.cache_salt.clone(),
            };
            (case.spoil)(&mut ours);
            let prompt = prompt(request, &ours);
            let usable = ours.tokens.len().saturating_sub(1) / hasher.block_size();
            hasher.hash_first_into(&prompt, usable, &mut hashes)?;
            index.find_matches(&hashes, &mut matches);
            let found = matches.blocks(EndpointId(0)) * hasher.block_size() as u32;
            predicted += u64::from(found.min(request.num_cached_tokens));
            reported += u64::from(request.num_cached_tokens);
            asked.push((request, ours, found));
        }
        let label = batch[0].batch();
        while let Some(message) = messages.next_if(|m| m.during == label) {
            let topic = std::str::from_utf8(&message.frames[0].0)?;
            let subscribed = case.subscribed.unwrap_or(topic);
            doctor.topic(subscribed, topic);
            if !topic.starts_with(subscribed) {
                continue;
            }
            doctor.observe_events(decoder.decode(message.payload())?.events());
            let sequence = message.sequence().unwrap_or_default();
            with_identity(hasher, |identity| {
                stream.receive(&mut index, identity, sequence, message.payload(), Time(sequence))
            });
        }
        for (request, ours, found) in asked {
            doctor.compare(&prompt(request, &ours), found, request.num_cached_tokens);
        }
    }
    Ok(Outcome { doctor, predicted, reported })
}

fn prompt<'a>(request: &'a Request, ours: &'a Ours) -> Prompt<'a> {
    let lora = request.lora_name.as_deref().map(|name| Lora {
        name,
        path: ours.lora_path.as_deref().unwrap_or_default(),
        int_id: request.lora_int_id.unwrap_or_default(),
    });
    let cache_salt = ours.cache_salt.as_deref();
    let embeds = request.prompt_embeds.as_ref();
    let embeds = embeds.map(|e| PromptEmbeds { bytes: &e.raw_le_hex.0, row_bytes: e.row_bytes() });
    Prompt { tokens: &ours.tokens, extras: Extras { lora, cache_salt, embeds, ..Extras::NONE } }
}

pub(crate) fn captures() -> Result<Vec<Capture>, Error> {
    let mut captures = Vec::new();
    for file in vector_files(Vectors::EngineCapture)? {
        captures.extend(capture::read(&file)?);
    }
    Ok(captures)
}

/// The seven causes, each made from the recording called `name`.
pub(crate) fn causes(captures: &[Capture]) -> Result<Vec<Case<'_>>, Error> {
    let called = |name: &str| {
        captures.iter().find(|c| c.name == name).ok_or_else(|| format!("no recording {name}"))
    };
    let (a, c, h) = (called("A")?, called("C")?, called("H")?);
    let (version, block) = (a.version().parse()?, a.settings.block);
    let other_algorithm = Scheme::vllm(version, Algorithm::Sha256, Some("0"))?;
    let other_seed = Scheme::vllm(version, Algorithm::Sha256Cbor, Some("1"))?;
    let right = |cause, capture, spoil| -> Result<Case<'_>, Error> {
        let hasher = hasher(scheme(capture)?, capture.settings.block)?;
        Ok(Case { cause, capture, hasher, subscribed: None, spoil })
    };
    let keep: fn(&mut Ours) = |_| {};
    Ok(vec![
        Case { hasher: hasher(other_algorithm, block)?, ..right("hash algorithm", a, keep)? },
        Case { hasher: hasher(other_seed, block)?, ..right("seed", a, keep)? },
        Case { hasher: hasher(scheme(a)?, block / 2)?, ..right("block size", a, keep)? },
        right("LoRA path", h, |ours| {
            ours.lora_path = ours.lora_path.as_ref().map(|path| format!("/host{path}"));
        })?,
        right("cache salt", h, |ours| ours.cache_salt = None)?,
        right("chat template", a, |ours| ours.tokens.insert(0, 1))?,
        Case { subscribed: Some("kv@pod-2@"), ..right("topic", c, keep)? },
    ])
}

fn main() -> Result<(), Error> {
    let captures = captures()?;
    for case in causes(&captures)? {
        let Outcome { doctor, predicted, reported } = play(&case)?;
        println!("{}", case.cause);
        println!("  {predicted} of {reported} cached tokens were predicted");
        for finding in doctor.report() {
            println!("  {finding}");
        }
        if doctor.parity() == Parity::Broken {
            let content = Scheme::content(&case.capture.settings.model, b"a secret")?;
            let fallback = Case { hasher: hasher(content, case.hasher.block_size())?, ..case };
            let Outcome { predicted, reported, .. } = play(&fallback)?;
            println!("  meanwhile, with blocks named by their content: {predicted} of {reported}");
        }
        println!();
    }
    Ok(())
}
