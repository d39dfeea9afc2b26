//! Every recorded answer of the real engines, computed again. One trial a file; each says how
//! many answers it checked.

// A test binary with its own `main`: it prints its counts, and fails by panicking.
#![allow(clippy::expect_used, clippy::print_stdout)]

use kvsched_core::{BlockHash, Extras, Lora, MultimodalSpan, Prompt, PromptEmbeds};
use kvsched_hash::{BlockHasher, Digest, Scheme, VllmVersion, group_view};
use kvsched_testdata::block_hashes::{BlockHashes, Case, Embeds};
use kvsched_testdata::{Vectors, capture, vector_files};
use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::{HashMap, HashSet};
use std::path::Path;

type Outcome<T = ()> = Result<T, Failed>;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for kind in [Vectors::BlockHashes, Vectors::LegacyBlockHashes] {
        for path in vector_files(kind).expect("the vectors' folders") {
            let file = BlockHashes::read(&path);
            let answers = file.as_ref().map_or(0, BlockHashes::answers);
            let name = format!("{}: {answers} answers", path.display());
            trials.push(Trial::test(name, move || check_file(&path, &file?)));
        }
    }
    for path in vector_files(Vectors::EngineCapture).expect("the vectors' folders") {
        let captures = capture::read(&path);
        let messages =
            captures.as_ref().map_or(0, |c| c.iter().map(|c| c.messages.len()).sum::<usize>());
        let name = format!("{}: {messages} messages", path.display());
        trials.push(Trial::test(name, move || check_captures(&path, &captures?)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn check_file(path: &Path, file: &BlockHashes) -> Outcome {
    let mut wrong = Vec::new();
    let mut note = |name: &str, outcome: Outcome| {
        if let Err(e) = outcome {
            wrong.push(format!("{name}: {}", e.message().unwrap_or("failed")));
        }
    };
    for case in &file.cases {
        note(&case.name, check_case(case));
    }
    for none in &file.none_hashes {
        let name = format!("NONE_HASH of {} with seed {:?}", none.algo, none.hash_seed);
        note(
            &name,
            (|| {
                let scheme = scheme(None, &none.algo, none.hash_seed.as_deref())?;
                equal(scheme.none_hash().as_bytes(), &none.none_hash.0)
            })(),
        );
    }
    for (i, view) in file.hybrid_views.iter().enumerate() {
        note(
            &format!("hybrid view {i}"),
            (|| {
                let scheme = scheme(None, &view.algo, view.hash_seed.as_deref())?;
                let hasher =
                    BlockHasher::builder(scheme).block_size(view.hash_block_size).build()?;
                let mut digests = Vec::new();
                hasher.digests_into(&Prompt::new(&view.token_ids), &mut digests)?;
                same_digests(&digests, view.hash_block_hashes.iter().map(|h| &*h.0))?;
                let seen: Vec<Digest> =
                    group_view(&digests, view.target_block_size / view.hash_block_size)
                        .copied()
                        .collect();
                same_digests(&seen, view.target_block_hashes.iter().map(|h| &*h.0))
            })(),
        );
    }
    for (i, packing) in file.group_id_packing.iter().enumerate() {
        let mut packed = Vec::new();
        let digest = Digest::new(&packing.block_hash.0).ok_or("not a digest")?;
        digest.append_group_key(packing.group_id, &mut packed);
        note(&format!("group key {i}"), equal(&packed, &packing.packed.0));
    }
    println!(
        "{}: checked {} prompts, {} NONE_HASHes, {} hybrid views, {} group keys; {} wrong",
        path.display(),
        file.cases.len(),
        file.none_hashes.len(),
        file.hybrid_views.len(),
        file.group_id_packing.len(),
        wrong.len()
    );
    if file.answers() == 0 {
        return Err("the file holds no answer".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

fn scheme(version: Option<&str>, algorithm: &str, seed: Option<&str>) -> Outcome<Scheme> {
    let version = version.map_or(Ok(VllmVersion::LATEST), str::parse)?;
    Ok(Scheme::vllm(version, algorithm.parse()?, seed)?)
}

fn check_case(case: &Case) -> Outcome {
    let scheme = scheme(case.vllm_version.as_deref(), &case.algo, case.hash_seed.as_deref())?;
    if let Some(none) = &case.none_hash {
        equal(scheme.none_hash().as_bytes(), &none.0)?;
    }
    let hasher = BlockHasher::builder(scheme)
        .block_size(case.block_size)
        .lookahead(case.num_hash_lookahead_tokens)
        .build()?;
    let items: Vec<_> = (case.extra.mm_features.iter())
        .map(|f| MultimodalSpan { identifier: &f.identifier, offset: f.offset, length: f.length })
        .collect();
    let extra = &case.extra;
    let extras = Extras {
        lora: lora(extra.lora_name.as_deref(), extra.lora_path.as_deref(), extra.lora_int_id),
        multimodal: &items,
        cache_salt: extra.cache_salt.as_deref(),
        embeds: extra.prompt_embeds.as_ref().map(embeds),
    };
    let prompt = Prompt { tokens: &case.token_ids, extras };
    let expected = &case.expected;

    let mut digests = Vec::new();
    hasher.digests_into(&prompt, &mut digests)?;
    same_digests(&digests, expected.hashes.iter().map(|h| &*h.0))?;

    let mut hashes = Vec::new();
    hasher.hash_into(&prompt, &mut hashes)?;
    if !hashes.iter().map(|h| h.0).eq(expected.external_ids_u64.iter().copied()) {
        return Err("the 64-bit names differ".into());
    }
    // From every block on, and up to every block.
    let mut some = Vec::new();
    for done in 0..=digests.len() {
        let parent = done.checked_sub(1).map_or(hasher.scheme().none_hash(), |i| digests[i]);
        hasher.continue_into(&prompt, done, &parent, &mut some)?;
        if some != digests[done..] {
            return Err(format!("continued after {done} blocks it differs").into());
        }
        let mut first = Vec::new();
        hasher.hash_first_into(&prompt, done, &mut first)?;
        if first != hashes[..done] {
            return Err(format!("the first {done} blocks differ").into());
        }
    }
    Ok(())
}

fn lora<'a>(name: Option<&'a str>, path: Option<&'a str>, int_id: Option<i64>) -> Option<Lora<'a>> {
    let path = path.unwrap_or_default();
    name.map(|name| Lora { name, path, int_id: int_id.unwrap_or_default() })
}

fn embeds(embeds: &Embeds) -> PromptEmbeds<'_> {
    PromptEmbeds { bytes: &embeds.raw_le_hex.0, row_bytes: embeds.row_bytes() }
}

fn equal(got: &[u8], want: &[u8]) -> Outcome {
    if got == want { Ok(()) } else { Err(format!("got {got:02x?}, want {want:02x?}").into()) }
}

fn same_digests<'a>(got: &[Digest], want: impl ExactSizeIterator<Item = &'a [u8]>) -> Outcome {
    if got.len() != want.len() {
        return Err(format!("{} blocks, not {}", got.len(), want.len()).into());
    }
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        equal(got.as_bytes(), want)
            .map_err(|e| format!("block {i}: {}", e.message().unwrap_or_default()))?;
    }
    Ok(())
}

fn check_captures(path: &Path, captures: &[capture::Capture]) -> Outcome {
    for run in captures {
        let scheme = scheme(Some(run.version()), &run.settings.algo, run.settings.seed.as_deref())?;
        let hasher = BlockHasher::builder(scheme).block_size(run.settings.block).build()?;
        // Every block of every request: its hash, its tokens and the hash before it.
        let mut blocks: HashMap<BlockHash, (Vec<u32>, Option<BlockHash>)> = HashMap::new();
        for step in &run.requests {
            let capture::Step::Request(request) = step else { continue };
            let mut tokens = request.prompt_token_ids.clone();
            if tokens.is_empty()
                && let Some(embeds) = &request.prompt_embeds
            {
                tokens = vec![0; embeds.shape[0]];
            }
            tokens.extend(&request.output_token_ids);
            let extras = Extras {
                lora: lora(
                    request.lora_name.as_deref(),
                    request.lora_path.as_deref(),
                    request.lora_int_id,
                ),
                multimodal: &[],
                cache_salt: request.cache_salt.as_deref(),
                embeds: request.prompt_embeds.as_ref().map(embeds),
            };
            let mut hashes = Vec::new();
            hasher.hash_into(&Prompt { tokens: &tokens, extras }, &mut hashes)?;
            for (i, (&hash, block)) in
                hashes.iter().zip(tokens.chunks_exact(run.settings.block)).enumerate()
            {
                let parent = i.checked_sub(1).map(|i| hashes[i]);
                blocks.insert(hash, (block.to_vec(), parent));
            }
        }
        let (mut announced, mut distinct) = (0, HashSet::new());
        for (i, message) in run.messages.iter().enumerate() {
            for event in stored_events(message.payload())? {
                check_stored(&event, &blocks, run.settings.block).map_err(|e| {
                    format!("{}, message {i}: {}", run.name, e.message().unwrap_or(""))
                })?;
                announced += event.hashes.len();
                distinct.extend(event.hashes);
            }
        }
        println!(
            "{}, run {}: checked {announced} announced hashes ({} distinct) of {}",
            path.display(),
            run.name,
            distinct.len(),
            hasher.scheme()
        );
        if announced == 0 {
            return Err(format!("{}: no hash was announced", run.name).into());
        }
    }
    Ok(())
}

struct StoredEvent {
    hashes: Vec<BlockHash>,
    parent: Option<BlockHash>,
    tokens: Vec<u32>,
}

fn check_stored(
    event: &StoredEvent,
    blocks: &HashMap<BlockHash, (Vec<u32>, Option<BlockHash>)>,
    block_size: usize,
) -> Outcome {
    let chunks: Vec<&[u32]> = event.tokens.chunks(block_size).collect();
    let skips = chunks.len() != event.hashes.len();
    let mut from = 0;
    for (i, hash) in event.hashes.iter().enumerate() {
        let (tokens, parent) =
            blocks.get(hash).ok_or_else(|| format!("hash {i}, {hash}, was not computed"))?;
        // A sliding-window group may leave blocks out, but keeps their order.
        let at = chunks[from..].iter().position(|c| c == tokens).map(|at| from + at);
        let at = at.ok_or_else(|| format!("hash {i}, {hash}, names other tokens"))?;
        if !skips && (at != i || i == 0 && *parent != event.parent) {
            return Err(format!("hash {i}, {hash}, stands at another place").into());
        }
        from = at + 1;
    }
    Ok(())
}

/// The BlockStored events of a payload of vLLM 0.24 or later: maps by field name.
fn stored_events(payload: &[u8]) -> Outcome<Vec<StoredEvent>> {
    let batch = rmpv::decode::read_value(&mut &*payload)?;
    let events = batch.as_array().and_then(|b| b.get(1)?.as_array()).ok_or("no event batch")?;
    let mut stored = Vec::new();
    for event in events {
        let field = |name: &str| {
            let fields = event.as_map()?;
            fields.iter().find(|(k, _)| k.as_str() == Some(name)).map(|(_, v)| v)
        };
        if field("type").and_then(|t| t.as_str()) != Some("BlockStored") {
            continue;
        }
        let numbers = |name: &str| -> Option<Vec<u64>> {
            field(name)?.as_array()?.iter().map(rmpv::Value::as_u64).collect()
        };
        stored.push(StoredEvent {
            hashes: numbers("block_hashes").ok_or("hashes")?.into_iter().map(BlockHash).collect(),
            parent: field("parent_block_hash").and_then(rmpv::Value::as_u64).map(BlockHash),
            tokens: numbers("token_ids").ok_or("tokens")?.into_iter().map(|t| t as u32).collect(),
        });
    }
    Ok(stored)
}
