//! What real engines sent, with our side configured right and wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

#[path = "../examples/doctor.rs"]
#[allow(dead_code, reason = "the example's own end")]
mod example;

use example::{Case, Error, Ours, captures, causes, hasher, play, scheme};
use kvsched::{
    Algorithm, BlockHasher, Doctor, EngineHash, Event, Extras, Finding, Lora, Parity, Prompt,
    Scheme, Stored, VllmVersion,
};
use kvsched_testdata::capture::Capture;

fn case<'a>(capture: &'a Capture, scheme: Scheme, spoil: fn(&mut Ours)) -> Result<Case<'a>, Error> {
    let hasher = hasher(scheme, capture.settings.block)?;
    Ok(Case { cause: "", capture, hasher, subscribed: None, spoil })
}

/// Every engine ever recorded is well when our side is right: nothing is found.
#[test]
fn a_right_configuration_is_let_alone() -> Result<(), Error> {
    for capture in &captures()? {
        let content = Scheme::content("m", b"a secret")?;
        for (scheme, parity) in [(scheme(capture)?, Parity::Verified), (content, Parity::NotNeeded)]
        {
            let outcome = play(&case(capture, scheme, |_| {})?)?;
            assert_eq!(outcome.doctor.report(), [], "capture {}", capture.name);
            assert_eq!(outcome.doctor.parity(), parity);
            assert!(outcome.predicted > 0);
        }
    }
    Ok(())
}

#[test]
fn each_of_the_seven_causes_is_named() -> Result<(), Error> {
    let captures = captures()?;
    let says = [
        "the engine hashes as vLLM 0.32.0 sha256_cbor, seed \"0\", configured is vLLM 0.32.0 sha256, seed \"0\"",
        "the engine hashes as vLLM 0.32.0 sha256_cbor, seed \"0\", configured is vLLM 0.32.0 sha256_cbor, seed \"1\"",
        "block size 32, configured 16: configure 32",
        "LoRA path of `adapterA` is `/host/adapters/adapterA` here, `/adapters/adapterA` in the engine",
        "cache salt none here, `tenant-2` in the engine",
        "which has 1 fewer in front",
        "messages come under topic `kv@pod-1@gemma`, subscribed to is `kv@pod-2@`",
    ];
    let causes = causes(&captures)?;
    assert_eq!(causes.len(), says.len());
    for (case, says) in causes.iter().zip(says) {
        let outcome = play(case)?;
        assert!(outcome.predicted < outcome.reported, "{}", case.cause);
        let report = outcome.doctor.to_string();
        assert!(report.contains(says), "{}: {report}", case.cause);
    }
    Ok(())
}

fn vllm(algorithm: Algorithm, seed: &str) -> BlockHasher {
    let scheme = Scheme::vllm(VllmVersion::LATEST, algorithm, Some(seed)).unwrap();
    BlockHasher::builder(scheme).block_size(4).build().unwrap()
}

/// What an engine of this scheme announces of a prompt, as one store.
fn announced(engine: &BlockHasher, prompt: &Prompt<'_>) -> Vec<EngineHash> {
    let mut hashes = Vec::new();
    engine.hash_into(prompt, &mut hashes).unwrap();
    hashes.iter().map(|h| EngineHash(h.0)).collect()
}

fn tell(doctor: &mut Doctor, engine: &BlockHasher, tokens: &[u32]) {
    let hashes = announced(engine, &Prompt::new(tokens));
    doctor.observe(&Stored::new(None, &hashes, tokens, 4));
}

fn tokens(seed: u32) -> Vec<u32> {
    (0..32).map(|i| (seed * 100 + i).wrapping_mul(2_654_435_761) >> 12).collect()
}

#[test]
fn a_seed_that_nobody_told_is_called_unknown() {
    let ours = vllm(Algorithm::Sha256, "0");
    let mut doctor = Doctor::new("pod", &ours, &[]);
    assert_eq!(doctor.parity(), Parity::Unproven);
    tell(&mut doctor, &vllm(Algorithm::Sha256, "4711"), &tokens(1));
    assert_eq!(doctor.parity(), Parity::Broken);
    let [Finding::UnknownScheme { tried, mismatch, .. }] = &doctor.report()[..] else {
        panic!("{doctor}")
    };
    assert!(*tried > 10 && mismatch.block == 0);
    assert!(doctor.report()[0].breaks_the_scheme());
    // Once the seed is set, the engine is well.
    doctor.restart();
    assert_eq!(doctor.parity(), Parity::Unproven);
    tell(&mut doctor, &ours, &tokens(1));
    assert_eq!((doctor.parity(), doctor.report()), (Parity::Verified, vec![]));
    assert_eq!(doctor.detected().map(BlockHasher::block_size), Some(4));
}

#[test]
fn an_engine_that_changes_is_not_believed_before_it_restarts() {
    let (ours, other) = (vllm(Algorithm::Sha256, "0"), vllm(Algorithm::Sha256, "1"));
    let mut doctor = Doctor::new("pod", &ours, &[]);
    tell(&mut doctor, &ours, &tokens(1));
    tell(&mut doctor, &other, &tokens(2));
    tell(&mut doctor, &ours, &tokens(3));
    assert_eq!(doctor.parity(), Parity::Broken);
    assert!(matches!(doctor.report()[..], [Finding::Diverged { verified: 1, .. }]), "{doctor}");
}

#[test]
fn nothing_heard_and_no_beginning_are_told_apart() {
    let ours = vllm(Algorithm::Sha256, "0");
    let mut doctor = Doctor::new("pod", &ours, &[]);
    let tokens = tokens(1);
    doctor.compare(&Prompt::new(&tokens), 0, 0);
    assert_eq!(doctor.report(), []);
    doctor.compare(&Prompt::new(&tokens), 0, 16);
    assert_eq!(doctor.report(), [Finding::Unheard { requests: 1 }]);
    let hashes = announced(&ours, &Prompt::new(&tokens));
    for _ in 0..8 {
        let child = Stored::new(Some(EngineHash(9)), &hashes[..1], &tokens[..4], 4);
        doctor.observe_events([Event::Stored(child)]);
    }
    assert_eq!(doctor.report(), [Finding::NoRoot { stores: 8 }]);
    assert_eq!(doctor.parity(), Parity::Unproven);
}

#[test]
fn a_burst_is_no_miss_and_strangers_explain_nothing() {
    let ours = vllm(Algorithm::Sha256, "0");
    let mut doctor = Doctor::new("pod", &ours, &[]);
    let prompt = tokens(1);
    tell(&mut doctor, &ours, &prompt);
    for _ in 0..30 {
        doctor.compare(&Prompt::new(&prompt), 0, 28);
    }
    assert_eq!(doctor.report(), [], "announced since the prediction");
    for _ in 0..30 {
        doctor.compare(&Prompt::new(&prompt), 28, 8);
    }
    let [Finding::Overestimated { requests: 30, of: 60, tokens: 600 }] = doctor.report()[..] else {
        panic!("{doctor}")
    };
}

#[test]
fn more_in_front_of_the_engines_prompt_is_a_begin_of_text() {
    for content in [false, true] {
        let engine = vllm(Algorithm::Sha256, "0");
        let scheme = Scheme::content("m", b"").unwrap();
        let by_content = BlockHasher::builder(scheme).block_size(4).build().unwrap();
        let ours = if content { by_content } else { engine.clone() };
        let mut doctor = Doctor::new("pod", &ours, &[]);
        let prompt = tokens(1);
        let engines: Vec<u32> = [128_000, 128_006].into_iter().chain(prompt.clone()).collect();
        tell(&mut doctor, &engine, &tokens(5));
        tell(&mut doctor, &engine, &engines);
        doctor.compare(&Prompt::new(&prompt), 0, 24);
        let report = doctor.report();
        let [Finding::Tokens { at: 0, shift: 2, engine, .. }] = &report[..] else {
            panic!("{doctor}")
        };
        assert_eq!(engine[..2], [128_000, 128_006]);
        // Another template shows where it begins to differ, once.
        let mut other = prompt.clone();
        other[10] += 1;
        tell(&mut doctor, &vllm(Algorithm::Sha256, "0"), &prompt);
        doctor.compare(&Prompt::new(&other), 8, 28);
        assert_eq!(doctor.report(), report);
    }
}

#[test]
fn an_adapter_on_one_side_only_is_named() {
    let engine = vllm(Algorithm::Sha256, "0");
    let mut doctor = Doctor::new("pod", &engine, &[]);
    let prompt = tokens(1);
    tell(&mut doctor, &engine, &prompt);
    let lora = Some(Lora { name: "sql", path: "/sql", int_id: 1 });
    let asked = Prompt { tokens: &prompt, extras: Extras { lora, ..Extras::NONE } };
    doctor.compare(&asked, 0, 28);
    let named = Finding::LoraName { configured: Some("sql".into()), engine: None, block: 0 };
    assert_eq!(doctor.report(), [named]);
    // The adapter's announcements explain more than the plain ones.
    let theirs = Some(Lora { name: "sql", path: "/cache/9f", int_id: 1 });
    let asked_there = Prompt { tokens: &prompt, extras: Extras { lora: theirs, ..Extras::NONE } };
    let hashes = announced(&engine, &asked_there);
    let mut doctor = Doctor::new("pod", &engine, &[]);
    tell(&mut doctor, &engine, &prompt);
    let stored = Stored { lora_name: Some("sql"), ..Stored::new(None, &hashes, &prompt, 4) };
    doctor.observe(&stored);
    doctor.compare(&asked, 0, 28);
    let says = "LoRA path of `sql` is `/sql` here, another in the engine";
    assert!(doctor.to_string().contains(says), "{doctor}");
}

/// Of an endless stream a bounded part is kept, and what was forgotten is not made up.
#[test]
fn what_was_forgotten_is_no_evidence() {
    let ours = vllm(Algorithm::Sha256, "0");
    let mut doctor = Doctor::new("pod", &ours, &[]);
    tell(&mut doctor, &ours, &tokens(1));
    for seed in 2..5000 {
        tell(&mut doctor, &ours, &tokens(seed));
    }
    for _ in 0..30 {
        doctor.compare(&Prompt::new(&tokens(1)), 0, 28);
    }
    let [Finding::Missed { requests: 30, of: 30, tokens: 840 }] = doctor.report()[..] else {
        panic!("{doctor}")
    };
}
