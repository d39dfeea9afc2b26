//! Bytes that other programs made (`tests/data/README.md`).

use kvsched_core::{Extras, Lora, MultimodalSpan, Prompt};
use kvsched_hash::{BlockHasher, HashError, LlmdAlgorithm, Scheme, VllmVersion};
use serde::Deserialize;

#[derive(Deserialize)]
struct LlmdCase {
    algorithm: String,
    seed: String,
    model: String,
    block_size: usize,
    tokens: Vec<u32>,
    items: Vec<Item>,
    hashes: Option<Vec<u64>>,
}

#[derive(Deserialize)]
struct Item {
    identifier: String,
    offset: u32,
    length: u32,
}

#[derive(Deserialize)]
struct SglangCase {
    block_size: usize,
    bigram: bool,
    cache_salt: Option<String>,
    tokens: Vec<u32>,
    digests: Vec<String>,
    announced: Vec<i64>,
}

/// A few of `block_hashes.json`, here as numbers for platforms that cannot read it.
#[test]
fn vllm_hashes_are_compatible() {
    let hash = |algorithm: &str, block_size, prompt: &Prompt<'_>| {
        let scheme =
            Scheme::vllm(VllmVersion::LATEST, algorithm.parse().unwrap(), Some("0")).unwrap();
        let hasher = BlockHasher::builder(scheme).block_size(block_size).build().unwrap();
        let mut out = Vec::new();
        hasher.hash_into(prompt, &mut out).unwrap();
        out.into_iter().map(|h| h.0).collect::<Vec<u64>>()
    };
    let tiny = Prompt::new(&[24, 16777215, 0, 65535, 128, 255]);
    assert_eq!(
        hash("sha256", 2, &tiny),
        [11168133743849295221, 8407864160111579765, 10425112008678671766]
    );
    assert_eq!(
        hash("sha256_cbor", 2, &tiny),
        [15115687996337930589, 13006987309163364156, 7533912286708262747]
    );
    let items = [
        MultimodalSpan { identifier: "img-1", offset: 0, length: 4 },
        MultimodalSpan { identifier: "img-2", offset: 9, length: 70 },
    ];
    let lora = Lora { name: "sql-adapter", path: "/models/lora/sql-adapter", int_id: 1 };
    let extras =
        Extras { lora: Some(lora), multimodal: &items, cache_salt: Some("s1"), embeds: None };
    let keyed = Prompt { tokens: &[0, 1, 2, 3, 4, 5], extras };
    assert_eq!(
        hash("xxhash", 1, &keyed),
        [
            1536547976631468684,
            12261748692670319966,
            10019915991164148431,
            1395479331238205725,
            9792954971321208588,
            16355094391875184082
        ]
    );
    assert_eq!(
        hash("sha256_cbor", 1, &keyed),
        [
            12140574987390300422,
            9786561645992057122,
            14922309532566982030,
            8113199870782385612,
            18160867471120673813,
            6560012252127752478
        ]
    );
}

#[test]
fn llmd_keys_are_compatible() {
    let cases: Vec<LlmdCase> = serde_json::from_str(include_str!("data/llmd_keys.json")).unwrap();
    assert_eq!(cases.len(), 50);
    for (i, case) in cases.iter().enumerate() {
        let algorithm: LlmdAlgorithm = case.algorithm.parse().unwrap();
        let scheme = Scheme::llmd(algorithm, &case.seed, &case.model).unwrap();
        let hasher = BlockHasher::builder(scheme).block_size(case.block_size).build().unwrap();
        let items: Vec<_> = (case.items.iter())
            .map(|i| MultimodalSpan {
                identifier: &i.identifier,
                offset: i.offset,
                length: i.length,
            })
            .collect();
        let extras = Extras { multimodal: &items, ..Extras::NONE };
        let mut hashes = Vec::new();
        hasher.hash_into(&Prompt { tokens: &case.tokens, extras }, &mut hashes).unwrap();
        let hashes: Vec<u64> = hashes.iter().map(|h| h.0).collect();
        assert_eq!(&hashes, case.hashes.as_deref().unwrap_or_default(), "case {i}");
    }
}

#[test]
fn sglang_hashes_are_compatible() {
    let cases: Vec<SglangCase> =
        serde_json::from_str(include_str!("data/sglang_hashes.json")).unwrap();
    assert_eq!(cases.len(), 16);
    // Every third under Miri, which takes seconds for a digest: bigrams and salts are among them
    // as in all, and every block size.
    let step = if cfg!(miri) { 3 } else { 1 };
    for (i, case) in cases.iter().enumerate().step_by(step) {
        let hasher = BlockHasher::builder(Scheme::sglang())
            .block_size(case.block_size)
            .lookahead(usize::from(case.bigram))
            .build()
            .unwrap();
        let extras = Extras { cache_salt: case.cache_salt.as_deref(), ..Extras::NONE };
        let prompt = Prompt { tokens: &case.tokens, extras };
        let (mut digests, mut hashes) = (Vec::new(), Vec::new());
        hasher.digests_into(&prompt, &mut digests).unwrap();
        hasher.hash_into(&prompt, &mut hashes).unwrap();
        let texts: Vec<String> = digests.iter().map(ToString::to_string).collect();
        assert_eq!(texts, case.digests, "case {i}");
        assert!(hashes.iter().map(|h| h.0 as i64).eq(case.announced.iter().copied()), "case {i}");
    }
}

#[test]
fn keys_that_a_scheme_does_not_know_are_refused() {
    let llmd = Scheme::llmd(LlmdAlgorithm::Xxh64, "", "m").unwrap();
    let extras = Extras { cache_salt: Some("s"), ..Extras::NONE };
    let prompt = Prompt { tokens: &[1, 2], extras };
    let hasher = BlockHasher::builder(llmd).block_size(1).build().unwrap();
    let mut out = vec![kvsched_core::BlockHash(1)];
    let refused = hasher.hash_into(&prompt, &mut out);
    assert_eq!(refused, Err(HashError::UnsupportedKey { key: "cache salts" }));
    assert!(out.is_empty());

    let extras = Extras {
        lora: Some(kvsched_core::Lora { name: "a", path: "b", int_id: 1 }),
        ..Extras::NONE
    };
    let hasher = BlockHasher::builder(Scheme::sglang()).block_size(1).build().unwrap();
    let refused = hasher.hash_into(&Prompt { tokens: &[1, 2], extras }, &mut out);
    assert_eq!(refused, Err(HashError::UnsupportedKey { key: "LoRA adapters" }));
}
