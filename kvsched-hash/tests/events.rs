//! What a real engine announced, against schemes found out from it and against content hashes.
#![allow(clippy::unwrap_used)]

use kvsched_core::{
    AnnouncedKey, AnnouncedKeys, BlockHash, EngineHash, Extras, Lora, MultimodalSpan, Prompt,
    PromptEmbeds, Stored,
};
use kvsched_hash::{
    Algorithm, BlockHasher, Digest, Observation, Scheme, SchemeDetector, VllmVersion,
};
use kvsched_testdata::{Vectors, capture, vector_files};
use rmpv::Value;
use std::collections::HashMap;

struct Event {
    hashes: Vec<EngineHash>,
    parent: Option<EngineHash>,
    tokens: Vec<u32>,
    block_size: u32,
    lora_name: Option<String>,
    extra_keys: Option<Vec<Vec<Key>>>,
}

enum Key {
    Text(String),
    Item(String, i64),
    Bytes(Vec<u8>),
}

impl Event {
    fn with<R>(&self, f: impl FnOnce(&Stored<'_>) -> R) -> R {
        let (mut keys, mut ends) = (Vec::new(), Vec::new());
        for block in self.extra_keys.iter().flatten() {
            keys.extend(block.iter().map(|key| match key {
                Key::Text(text) => AnnouncedKey::Text(text),
                Key::Item(id, offset) => {
                    AnnouncedKey::Multimodal { identifier: id, offset: *offset }
                }
                Key::Bytes(bytes) => AnnouncedKey::Bytes(bytes),
            }));
            ends.push(keys.len() as u32);
        }
        let extra_keys =
            self.extra_keys.as_ref().map(|_| AnnouncedKeys::new(&keys, &ends).unwrap());
        f(&Stored {
            hashes: &self.hashes,
            parent: self.parent,
            tokens: &self.tokens,
            block_size: self.block_size,
            lora_name: self.lora_name.as_deref(),
            extra_keys,
            ..NOTHING
        })
    }
}

const NOTHING: Stored<'static> = Stored {
    hashes: &[],
    parent: None,
    tokens: &[],
    block_size: 0,
    lora_id: None,
    lora_name: None,
    medium: None,
    extra_keys: None,
    group: None,
    attention: None,
    sliding_window: None,
    locality: None,
    ownership: None,
    session_id: None,
    lookahead: &[],
};

/// The BlockStored events of a payload of maps by field name (vLLM 0.24 and later).
fn stored_events(payload: &[u8]) -> Vec<Event> {
    let batch = rmpv::decode::read_value(&mut &*payload).unwrap();
    let mut stored = Vec::new();
    for event in batch[1].as_array().unwrap() {
        let field = |name: &str| match &event[name] {
            Value::Nil => None,
            value => Some(value),
        };
        if field("type").unwrap().as_str() != Some("BlockStored") {
            continue;
        }
        let list = |name| field(name).unwrap().as_array().unwrap().iter();
        let key = |key: &Value| match key {
            Value::String(text) => Key::Text(text.as_str().unwrap().to_owned()),
            Value::Binary(bytes) => Key::Bytes(bytes.clone()),
            pair => Key::Item(pair[0].as_str().unwrap().to_owned(), pair[1].as_i64().unwrap()),
        };
        stored.push(Event {
            hashes: list("block_hashes").map(|h| EngineHash(h.as_u64().unwrap())).collect(),
            parent: field("parent_block_hash").map(|h| EngineHash(h.as_u64().unwrap())),
            tokens: list("token_ids").map(|t| t.as_u64().unwrap() as u32).collect(),
            block_size: field("block_size").unwrap().as_u64().unwrap() as u32,
            lora_name: field("lora_name").map(|n| n.as_str().unwrap().to_owned()),
            extra_keys: field("extra_keys").map(|blocks| {
                let blocks = blocks.as_array().unwrap().iter();
                blocks.map(|b| b.as_array().into_iter().flatten().map(key).collect()).collect()
            }),
        });
    }
    stored
}

fn captures() -> Vec<capture::Capture> {
    let files = vector_files(Vectors::EngineCapture).unwrap();
    files.iter().flat_map(|path| capture::read(path).unwrap()).collect()
}

#[test]
fn the_scheme_of_every_captured_engine_is_found_from_its_events_alone() {
    for run in captures() {
        let seeds = [None, Some("another"), run.settings.seed.as_deref()];
        let mut detector = SchemeDetector::new(Scheme::candidates(&seeds)).sample_one_in(1);
        let (mut verified, mut plain, mut keyed) = (0, 0, false);
        for event in run.messages.iter().flat_map(|m| stored_events(m.payload())) {
            keyed |= event.lora_name.is_none()
                && event.extra_keys.iter().flatten().any(|k| !k.is_empty());
            plain += usize::from(event.lora_name.is_none() && !event.hashes.is_empty());
            match event.with(|stored| detector.observe(stored)) {
                Observation::Verified => verified += 1,
                Observation::Unchecked => {}
                other => panic!("run {}: {other:?}", run.name),
            }
        }
        // The paths of adapters are not announced; everything else is verified.
        assert_eq!(verified, plain, "run {}", run.name);
        assert!(verified > 0);
        assert_eq!(detector.verified_events(), verified as u64);

        let hasher = detector.hasher().unwrap();
        assert_eq!(hasher.block_size(), run.settings.block);
        let scheme = |version: &str| {
            let algorithm = run.settings.algo.parse().unwrap();
            Scheme::vllm(version.parse().unwrap(), algorithm, run.settings.seed.as_deref()).unwrap()
        };
        // Versions that hash alike stay in play; the engine's own is always among them.
        let found = std::iter::once(hasher.scheme()).chain(detector.alternatives());
        let mut found: Vec<String> = found.map(ToString::to_string).collect();
        // Where the seed is unset it was a candidate twice.
        found.dedup();
        assert!(found.contains(&scheme("0.32.0").to_string()), "run {}: {found:?}", run.name);
        assert!(found.iter().all(|f| f.contains(&format!(" {},", run.settings.algo))), "{found:?}");
        // Keys are hashed otherwise before 0.31, which rules those versions out.
        assert_eq!(keyed, found.len() == 2, "run {}: {found:?}", run.name);
    }
}

#[test]
fn a_wrong_hash_is_named_with_its_block_and_what_was_expected() {
    let run = captures().into_iter().find(|c| c.name == "A").unwrap();
    let events: Vec<Event> = run.messages.iter().flat_map(|m| stored_events(m.payload())).collect();
    let first = events.iter().find(|e| e.parent.is_none() && e.hashes.len() > 2).unwrap();
    let wrong = Event {
        hashes: first
            .hashes
            .iter()
            .enumerate()
            .map(|(i, h)| EngineHash(h.0 ^ u64::from(i == 1)))
            .collect(),
        tokens: first.tokens.clone(),
        extra_keys: None,
        lora_name: None,
        ..*first
    };
    let mut detector = SchemeDetector::new(Scheme::candidates(&[Some("0")]));
    assert_eq!(first.with(|s| detector.observe(s)), Observation::Verified);
    let Observation::Mismatch(mismatch) = wrong.with(|s| detector.observe(s)) else {
        panic!("not noticed");
    };
    assert_eq!(mismatch.block, 1);
    assert_eq!(mismatch.announced, wrong.hashes[1].as_block_hash());
    assert_eq!(mismatch.expected, Some(first.hashes[1].as_block_hash()));
    assert_eq!(mismatch.tokens, first.tokens[32..40]);
    let text = mismatch.to_string();
    assert!(text.contains("block 1") && text.contains("sha256_cbor"), "{text}");

    // With the wrong seeds nothing is found, and the first event says so.
    let mut detector = SchemeDetector::new(Scheme::candidates(&[Some("7")]));
    let Observation::Mismatch(mismatch) = first.with(|s| detector.observe(s)) else {
        panic!("found by the wrong seed");
    };
    assert_eq!((mismatch.block, mismatch.expected, mismatch.scheme), (0, None, None));
    assert!(detector.hasher().is_none());
}

#[test]
fn a_hybrid_models_hash_block_is_found() {
    let scheme = Scheme::candidates(&[Some("0")]).swap_remove(0);
    let hasher = BlockHasher::builder(scheme.clone()).block_size(16).build().unwrap();
    let tokens: Vec<u32> = (0..192).collect();
    let mut hashes = Vec::new();
    hasher.hash_into(&Prompt::new(&tokens), &mut hashes).unwrap();
    let announced: Vec<_> = kvsched_hash::group_view(&hashes, 3).map(|h| EngineHash(h.0)).collect();
    let stored = Stored { hashes: &announced, tokens: &tokens, block_size: 48, ..NOTHING };
    let mut detector = SchemeDetector::new(vec![scheme]);
    assert_eq!(detector.observe(&stored), Observation::Verified);
    assert_eq!(detector.hasher().unwrap().block_size(), 16);
    // A window that left the middle blocks out.
    let some = [announced[0], announced[3]];
    let stored = Stored { hashes: &some, ..stored };
    assert_eq!(detector.observe(&stored), Observation::Verified);
    let stored = Stored { hashes: &[announced[3], announced[0]], ..stored };
    assert!(matches!(detector.observe(&stored), Observation::Mismatch(m) if m.block == 1));
}

/// What an engine announces of a prompt of whole blocks, all in one event. `keys` are those of each
/// block, as the engine's version writes them.
fn announce(
    engine: &BlockHasher,
    tokens: &[u32],
    extras: Extras<'_>,
    keys: Vec<Vec<Key>>,
) -> Event {
    let mut hashes = Vec::new();
    engine.hash_into(&Prompt { tokens, extras }, &mut hashes).unwrap();
    Event {
        hashes: hashes.iter().map(|h| EngineHash(h.0)).collect(),
        parent: None,
        tokens: tokens.to_vec(),
        block_size: engine.block_size() as u32,
        lora_name: None,
        extra_keys: Some(keys).filter(|k| !k.is_empty()),
    }
}

/// Every release, algorithm and seed that can be told from plain text and keys: the detector finds
/// one that hashes the same, however the keys are written.
#[test]
fn every_version_and_algorithm_is_found_with_its_family() {
    let seeds = [None, Some("0"), Some("random"), Some("4294967295")];
    let releases = [(9, 0), (9, 2), (10, 0), (10, 1), (10, 2), (11, 0), (11, 1)];
    let releases = releases.into_iter().chain((12..=34).map(|minor| (minor, 0)));
    let (mut found, mut families) = (0, std::collections::BTreeSet::new());
    for (minor, patch) in releases {
        let version = VllmVersion::new(0, minor, patch).unwrap();
        let since = |m, p| (minor, patch) >= (m, p);
        for (algorithm, seed) in Algorithm::ALL.into_iter().flat_map(|a| seeds.map(|s| (a, s))) {
            let Ok(scheme) = Scheme::vllm(version, algorithm, seed) else { continue };
            let engine = BlockHasher::builder(scheme.clone()).block_size(16).build().unwrap();
            let mut detector = SchemeDetector::new(Scheme::candidates(&seeds)).sample_one_in(1);
            let tokens: Vec<u32> = (0..64).map(|i| i * 2_417 + u32::from(minor)).collect();
            let mut verify = |event: Event| {
                let told = event.with(|stored| detector.observe(stored));
                assert_eq!(told, Observation::Verified, "{scheme}");
            };
            verify(announce(&engine, &tokens, Extras::NONE, Vec::new()));
            if since(17, 0) {
                let salted = Extras { cache_salt: Some("tenant"), ..Extras::NONE };
                let mut keys: Vec<Vec<Key>> = (0..4).map(|_| Vec::new()).collect();
                keys[0].push(Key::Text("tenant".to_owned()));
                verify(announce(&engine, &tokens, salted, keys));
                // An image over blocks 1 and 2.
                let image = [MultimodalSpan { identifier: "img", offset: 20, length: 20 }];
                let pictured = Extras { multimodal: &image, ..Extras::NONE };
                let key = |block: i64| match since(19, 0) {
                    true => vec![Key::Item("img".to_owned(), 20 - 16 * block)],
                    false => vec![Key::Text("img".to_owned())],
                };
                let keys = vec![vec![], key(1), key(2), vec![]];
                verify(announce(&engine, &tokens, pictured, keys));
            }
            // What was found hashes what the engine hashes, and so do all that are still in play.
            let hasher = detector.hasher().unwrap();
            for like in std::iter::once(hasher.scheme()).chain(detector.alternatives()) {
                let like = BlockHasher::builder(like.clone()).block_size(16).build().unwrap();
                let plain = Extras::NONE;
                let salted = Extras { cache_salt: Some("other"), ..plain };
                for extras in [Some(plain), since(17, 0).then_some(salted)].into_iter().flatten() {
                    let prompt = Prompt { tokens: &[9; 48], extras };
                    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                    like.hash_into(&prompt, &mut ours).unwrap();
                    engine.hash_into(&prompt, &mut theirs).unwrap();
                    assert_eq!(ours, theirs, "{scheme} was taken for {}", like.scheme());
                }
            }
            families.insert(hasher.scheme().to_string().split(' ').nth(1).unwrap().to_owned());
            found += 1;
        }
    }
    assert!(found > 200, "{found} schemes");
    // Where keys tell them apart: before 0.17, to 0.18, to 0.30, and later.
    assert!(families.len() >= 4, "{families:?}");
}

#[test]
fn lookahead_hashes_are_found_by_their_announced_tokens() {
    for lookahead in 1..4 {
        let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::XxHashCbor, Some("0")).unwrap();
        let builder = BlockHasher::builder(scheme.clone()).block_size(16);
        let engine = builder.lookahead(lookahead).build().unwrap();
        let tokens: Vec<u32> = (0..64 + lookahead as u32).map(|i| i * 37).collect();
        let mut hashes = Vec::new();
        engine.hash_into(&Prompt::new(&tokens), &mut hashes).unwrap();
        let names: Vec<_> = hashes.iter().map(|h| EngineHash(h.0)).collect();
        let after: Vec<u32> =
            (1..=4).flat_map(|block| tokens[block * 16..][..lookahead].to_vec()).collect();
        let stored = Stored {
            hashes: &names,
            tokens: &tokens[..64],
            block_size: 16,
            lookahead: &after,
            ..NOTHING
        };
        let mut detector = SchemeDetector::new(Scheme::candidates(&[None, Some("0")]));
        assert_eq!(detector.observe(&stored), Observation::Verified);
        let found = detector.hasher().unwrap();
        assert_eq!((found.scheme(), found.lookahead()), (&scheme, lookahead));
    }
}

#[test]
fn content_hashes_of_events_are_those_of_the_prompts() {
    for run in captures() {
        // Half the engine's block: every announced block is two of ours.
        let plain = run.requests.iter().all(|step| match step {
            capture::Step::Request(r) => r.prompt_embeds.is_none() && r.cache_salt.is_none(),
            capture::Step::Reset { .. } => true,
        });
        let sizes = if plain { vec![run.settings.block, 16] } else { vec![run.settings.block] };
        for size in sizes {
            let scheme = Scheme::content(&run.settings.model, b"secret").unwrap();
            let hasher = BlockHasher::builder(scheme).block_size(size).build().unwrap();
            check_content(&run, &hasher);
        }
    }
}

fn check_content(run: &capture::Capture, hasher: &BlockHasher) {
    let mut of_prompts = HashMap::new();
    for step in &run.requests {
        let capture::Step::Request(request) = step else { continue };
        let mut tokens = request.prompt_token_ids.clone();
        tokens.extend(&request.output_token_ids);
        let name = request.lora_name.as_deref();
        let extras = Extras {
            lora: name.map(|name| Lora { name, path: "not announced", int_id: 99 }),
            cache_salt: request.cache_salt.as_deref(),
            embeds: request
                .prompt_embeds
                .as_ref()
                .map(|e| PromptEmbeds { bytes: &e.raw_le_hex.0, row_bytes: e.row_bytes() }),
            ..Extras::NONE
        };
        let mut hashes = Vec::new();
        hasher.hash_into(&Prompt { tokens: &tokens, extras }, &mut hashes).unwrap();
        for (i, &hash) in hashes.iter().enumerate() {
            let identity = (
                tokens[..(i + 1) * hasher.block_size()].to_vec(),
                name.map(str::to_owned),
                request.cache_salt.clone(),
                request.prompt_embeds.is_some(),
            );
            // One name, one content.
            assert_eq!(
                of_prompts.insert(hash, identity.clone()).unwrap_or(identity.clone()),
                identity
            );
        }
    }
    let mut known: HashMap<EngineHash, Digest> = HashMap::new();
    let (mut digests, mut checked) = (Vec::new(), 0);
    for event in run.messages.iter().flat_map(|m| stored_events(m.payload())) {
        let parent = event.parent.map(|p| known[&p]);
        event.with(|s| hasher.hash_stored_into(s, parent, &mut digests)).unwrap();
        for digest in &digests {
            assert!(of_prompts.contains_key(&BlockHash(digest.block_hash().0)), "{}", run.name);
            checked += 1;
        }
        let ratio = event.block_size as usize / hasher.block_size();
        if digests.len() / ratio == event.hashes.len() {
            known.extend(
                event
                    .hashes
                    .iter()
                    .copied()
                    .zip(kvsched_hash::group_view(&digests, ratio).copied()),
            );
        }
    }
    assert!(checked > 0);
}
