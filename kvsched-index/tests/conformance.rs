//! Compatible with vLLM: every payload of every `kv_events*.json` file means what vLLM meant
//! and is written again byte for byte. One trial a file, which always says how much it checked.

// Saying how much was checked is this binary's purpose.
#![allow(clippy::print_stdout)]

use kvsched_core::{
    AnnouncedKey, AnnouncedKeys, AttentionKind, EngineHash, Event, Group, Locality, Medium, Stored,
};
use kvsched_index::events::vllm::{Decoder, Version, WireEvent, WireHash, encode};
use kvsched_testdata::{Vectors, kv_events, unhex, vector_files};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Map, Value};
use std::path::Path;

fn main() -> std::process::ExitCode {
    let args = Arguments::from_args();
    let trials = match vector_files(Vectors::KvEvents) {
        Ok(files) if !files.is_empty() => files.into_iter().map(|path| {
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
            Trial::test(name, move || check_file(&path))
        }),
        Ok(_) => panic!("no kv_events*.json file to check"),
        Err(e) => panic!("{e}"),
    };
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

fn check_file(path: &Path) -> Result<(), Failed> {
    let file = kv_events::KvEvents::read(path)?;
    let mut failures = Vec::new();
    let mut events = 0;
    // One decoder for all, so that nothing of one payload may show in the next.
    let mut decoder = Decoder::new();
    for case in &file.cases {
        events += case.decoded.events.len();
        if let Err(why) = check_case(&mut decoder, case) {
            failures.push(format!("{}: {why}", case.name));
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    println!(
        "{name}: {} of {} payloads ({events} events) decoded and re-encoded as by vLLM",
        file.cases.len() - failures.len(),
        file.cases.len(),
    );
    if file.cases.is_empty() {
        return Err("the file has no case".into());
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

macro_rules! same {
    ($what:expr, $ours:expr, $theirs:expr) => {{
        let (ours, theirs) = ($ours, $theirs);
        if ours != theirs {
            return Err(format!("{}: decoded {ours:?}, vLLM meant {theirs:?}", $what));
        }
    }};
}

fn check_case(decoder: &mut Decoder, case: &kv_events::Case) -> Result<(), String> {
    let payload = &case.payload_hex.0;
    let batch = decoder.decode(payload).map_err(|e| e.to_string())?;
    let meant = &case.decoded;
    same!("fault", batch.fault(), None);
    same!("lost events", batch.lost_events(), 0);
    same!("unknown", (batch.unknown_events(), batch.unknown_fields()), (0, 0));
    same!("timestamp", batch.timestamp(), meant.ts);
    same!("rank", batch.data_parallel_rank().map(i64::from), meant.data_parallel_rank);
    same!("number of events", batch.len(), meant.events.len());
    for (event, meant) in batch.events().zip(&meant.events) {
        check_event(event, meant)?;
    }

    let forms: Vec<_> = (0..batch.len()).filter_map(|i| batch.wire_form(i)).collect();
    let wire: Vec<WireEvent<'_>> = batch
        .events()
        .zip(&forms)
        .map(|(event, form)| WireEvent {
            event,
            hashes: Some(&form.hashes),
            parent: form.parent,
            spec_kind: form.spec_kind,
        })
        .collect();
    let mut again = Vec::new();
    let version = version(&case.vllm_version)?;
    encode(version, batch.timestamp(), batch.data_parallel_rank(), &wire, &mut again);
    same!("re-encoded", &again, payload);

    // Where the 64-bit reading keeps every hash, the plain event must do as well; of the engine's
    // words for kinds of attention it keeps only what they come to.
    let plain = forms.iter().all(|f| {
        let number = |h: &WireHash<'_>| matches!(h, WireHash::Unsigned(_));
        f.hashes.iter().all(number) && f.parent.as_ref().is_none_or(number)
    });
    if plain {
        let events = batch.events().zip(&forms);
        let wire: Vec<WireEvent<'_>> = events
            .map(|(event, form)| WireEvent { spec_kind: form.spec_kind, ..WireEvent::from(event) })
            .collect();
        again.clear();
        encode(version, batch.timestamp(), batch.data_parallel_rank(), &wire, &mut again);
        same!("re-encoded from plain events", &again, payload);
    }
    Ok(())
}

fn version(text: &str) -> Result<Version, String> {
    let mut parts = text.split('.').map(str::parse::<u16>);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Ok(0)), Some(Ok(minor)), Some(Ok(patch))) => Version::new(minor, patch),
        _ => None,
    }
    .ok_or_else(|| format!("not a version with events: {text}"))
}

/// Takes the fields out of `meant` one by one; what is left over nobody checked.
fn check_event(event: Event<'_>, meant: &Map<String, Value>) -> Result<(), String> {
    let mut meant = meant.clone();
    let mut take = |name: &str| meant.remove(name).unwrap_or(Value::Null);
    let tag = take("type");
    match event {
        Event::Stored(s) => {
            same!("type", "BlockStored", tag);
            same!("block_hashes", s.hashes.to_vec(), hashes(&take("block_hashes"))?);
            same!("parent", s.parent, hash(&take("parent_block_hash"))?);
            same!("token_ids", Value::from(s.tokens), take("token_ids"));
            same!("block_size", Value::from(s.block_size), take("block_size"));
            same!("lora_id", Value::from(s.lora_id), take("lora_id"));
            same!("medium", Value::from(s.medium.map(|m| m.0)), take("medium"));
            same!("lora_name", Value::from(s.lora_name), take("lora_name"));
            same!("extra_keys", Value::from(s.extra_keys.map(keys)), take("extra_keys"));
            same!("group", Value::from(s.group.map(|Group(g)| g)), take("group_idx"));
            let kind = take("kv_cache_spec_kind");
            same!("spec kind", s.attention, kind.as_str().map(AttentionKind::from_spec_kind));
            let window = take("kv_cache_spec_sliding_window");
            same!("window", Value::from(s.sliding_window), window);
            same!("locality", locality(s.locality), take("locality"));
            same!("ownership", Value::from(s.ownership), take("ownership"));
            same!("session", Value::from(s.session_id), take("session_id"));
            same!("lookahead", lookahead(&s), take("lookahead_token_ids"));
        }
        Event::Removed(r) => {
            same!("type", "BlockRemoved", tag);
            same!("block_hashes", r.hashes.to_vec(), hashes(&take("block_hashes"))?);
            same!("medium", Value::from(r.medium.map(|Medium(m)| m)), take("medium"));
            same!("group", Value::from(r.group.map(|Group(g)| g)), take("group_idx"));
            same!("locality", locality(r.locality), take("locality"));
            same!("ownership", Value::from(r.ownership), take("ownership"));
        }
        Event::Cleared => same!("type", "AllBlocksCleared", tag),
        other => return Err(format!("an event this test does not know: {other:?}")),
    }
    if meant.is_empty() { Ok(()) } else { Err(format!("unchecked fields: {meant:?}")) }
}

fn locality(l: Option<Locality>) -> Value {
    Value::from(l.map(|l| if l == Locality::Local { "LOCAL" } else { "REMOTE" }))
}

fn lookahead(s: &Stored<'_>) -> Value {
    if s.lookahead.is_empty() {
        return Value::Null;
    }
    let each = s.lookahead.len() / s.hashes.len();
    Value::from(s.lookahead.chunks(each).map(Value::from).collect::<Vec<_>>())
}

fn keys(keys: AnnouncedKeys<'_>) -> Value {
    let key = |key: &AnnouncedKey<'_>| match *key {
        AnnouncedKey::Text(text) => Value::from(text),
        AnnouncedKey::Multimodal { identifier, offset } => {
            Value::from(vec![Value::from(identifier), Value::from(offset)])
        }
        AnnouncedKey::Bytes(bytes) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            Value::from_iter([("bytes_hex", hex)])
        }
        AnnouncedKey::Int(n) => Value::from(n),
        _ => Value::Null,
    };
    let block = |block: &[AnnouncedKey<'_>]| match block {
        [] => Value::Null,
        block => block.iter().map(key).collect(),
    };
    (0..keys.len()).filter_map(|i| keys.of_block(i)).map(block).collect()
}

fn hashes(values: &Value) -> Result<Vec<EngineHash>, String> {
    let values = values.as_array().ok_or("block_hashes are not a list")?;
    values.iter().map(|v| hash(v)?.ok_or_else(|| "a null hash".to_owned())).collect()
}

/// The low 64 bits of a number, or of a digest read as one big-endian number.
fn hash(value: &Value) -> Result<Option<EngineHash>, String> {
    Ok(Some(EngineHash(match value {
        Value::Null => return Ok(None),
        Value::Object(bytes) => {
            let hex = bytes.get("bytes_hex").and_then(Value::as_str).ok_or("no bytes_hex")?;
            let digest = unhex(hex).ok_or("not hexadecimal")?;
            digest.iter().fold(0, |n: u64, &b| n << 8 | u64::from(b))
        }
        number => number
            .as_u64()
            .or_else(|| number.as_i64().map(i64::cast_unsigned))
            .ok_or_else(|| format!("not a hash: {number}"))?,
    })))
}
