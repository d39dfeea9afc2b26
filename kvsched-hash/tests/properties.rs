//! Every way to the hashes gives the same hashes.
#![allow(clippy::unwrap_used)]

use kvsched_core::{BlockHash, Extras, Lora, MultimodalSpan, Prompt, PromptEmbeds};
use kvsched_hash::{
    Algorithm, BlockHasher, Digest, HashChain, HashError, LlmdAlgorithm, PrefixMemo, Scheme,
};
use proptest::prelude::*;

/// Every family, and of vLLM's history a version of each kind.
fn schemes() -> Vec<Scheme> {
    let vllm = |version: &str, algorithm| {
        Scheme::vllm(version.parse().unwrap(), algorithm, Some("0")).unwrap()
    };
    vec![
        vllm("0.9.2", Algorithm::Sha256),
        vllm("0.10.1", Algorithm::Sha256Cbor64Bit),
        vllm("0.11.0", Algorithm::Sha256Cbor),
        vllm("0.12.0", Algorithm::Sha256),
        vllm("0.18.0", Algorithm::XxHashCbor),
        vllm("0.30.0", Algorithm::XxHash),
        vllm("0.33.0", Algorithm::Sha256),
        vllm("0.33.0", Algorithm::Sha256Cbor),
        Scheme::content("model", b"secret").unwrap(),
        Scheme::llmd(LlmdAlgorithm::CborFnv, "0", "model").unwrap(),
        Scheme::llmd(LlmdAlgorithm::Xxh64, "0", "model").unwrap(),
        Scheme::sglang(),
    ]
}

fn any_hasher() -> impl Strategy<Value = BlockHasher> {
    let size = prop_oneof![Just(16_usize), Just(1), 1..70_usize];
    (prop::sample::select(schemes()), size, 0..3_usize).prop_map(|(scheme, size, lookahead)| {
        let builder = BlockHasher::builder(scheme).block_size(size);
        builder.clone().lookahead(lookahead).build().or_else(|_| builder.build()).unwrap()
    })
}

fn any_tokens(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u32>> {
    let token =
        prop_oneof![0..30_u32, 200..300_u32, 65_500..65_600_u32, 0..=BlockHasher::MAX_TOKEN];
    prop::collection::vec(token, len)
}

#[derive(Clone, Debug, Default)]
struct OwnedExtras {
    lora: bool,
    salt: Option<String>,
    items: Vec<(String, u32, u32)>,
    embeds: Option<Vec<u8>>,
}

fn any_extras() -> impl Strategy<Value = OwnedExtras> {
    let item = ("[a-z]{0,3}", 0..300_u32, 0..90_u32);
    let items = prop::collection::vec(item, 0..4).prop_map(|mut items| {
        items.sort_by_key(|i| i.1);
        items
    });
    let embeds = prop::option::weighted(0.1, prop::collection::vec(any::<u8>(), 0..200));
    let embeds = embeds.prop_map(|e| e.map(|e| e[..e.len() / 2 * 2].to_vec()));
    (any::<bool>(), prop::option::of("[a-z]{0,3}"), items, embeds)
        .prop_map(|(lora, salt, items, embeds)| OwnedExtras { lora, salt, items, embeds })
}

impl OwnedExtras {
    fn with<R>(&self, f: impl FnOnce(Extras<'_>) -> R) -> R {
        let multimodal: Vec<_> = (self.items.iter())
            .map(|(id, offset, length)| MultimodalSpan {
                identifier: id,
                offset: *offset,
                length: *length,
            })
            .collect();
        f(Extras {
            lora: self.lora.then_some(Lora { name: "adapter", path: "/adapter", int_id: 3 }),
            multimodal: &multimodal,
            cache_salt: self.salt.as_deref(),
            embeds: self.embeds.as_deref().map(|bytes| PromptEmbeds { bytes, row_bytes: 2 }),
        })
    }
}

fn all(hasher: &BlockHasher, prompt: &Prompt<'_>) -> Result<Vec<BlockHash>, HashError> {
    let mut out = Vec::new();
    hasher.hash_into(prompt, &mut out).map(|()| out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_chain_in_any_splits_is_the_whole_at_once(
        hasher in any_hasher(),
        tokens in any_tokens(0..400),
        extras in any_extras(),
        splits in prop::collection::vec(0..120_usize, 0..8),
    ) {
        extras.with(|extras| {
            let mut chain = HashChain::new(hasher.clone());
            let mut rest = &tokens[..];
            let mut failed = None;
            for split in splits.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(split.min(rest.len()));
                match chain.append(now, &extras) {
                    Ok(_) => rest = later,
                    Err(e) => { failed = Some(e); break }
                }
            }
            let whole = all(&hasher, &Prompt { tokens: &tokens, extras });
            match failed {
                Some(e) => prop_assert_eq!(whole, Err(e)),
                None => {
                    prop_assert_eq!(whole, Ok(chain.hashes().to_vec()));
                    prop_assert_eq!(chain.tokens(), tokens.len());
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn pulled_or_continued_or_cut_short_they_are_the_same(
        hasher in any_hasher(),
        tokens in any_tokens(0..400),
        extras in any_extras(),
        step in 1..9_usize,
    ) {
        extras.with(|extras| {
            let prompt = Prompt { tokens: &tokens, extras };
            let Ok(whole) = all(&hasher, &prompt) else { return Ok(()) };
            let mut lazy = hasher.lazy(prompt);
            let mut pulled = Vec::new();
            while lazy.pull(step, &mut pulled).unwrap() > 0 {}
            prop_assert_eq!(&pulled, &whole);
            prop_assert_eq!(lazy.done(), lazy.blocks());

            let mut digests = Vec::new();
            hasher.digests_into(&prompt, &mut digests).unwrap();
            let names: Vec<_> = digests.iter().map(|d| hasher.scheme().block_hash(d)).collect();
            prop_assert_eq!(&names, &whole);
            let (mut rest, mut first) = (Vec::new(), Vec::new());
            for done in (0..=digests.len()).step_by(step) {
                let parent = done.checked_sub(1).map_or(hasher.scheme().none_hash(), |i| digests[i]);
                hasher.continue_into(&prompt, done, &parent, &mut rest).unwrap();
                prop_assert_eq!(&rest, &digests[done..]);
                hasher.hash_first_into(&prompt, done, &mut first).unwrap();
                prop_assert_eq!(&first, &whole[..done]);
            }
            Ok(())
        })?;
    }

    #[test]
    fn with_a_memo_or_without(
        hasher in any_hasher(),
        stem in any_tokens(0..900),
        // Prompts: how much of the stem, and what follows; few choices, so that they repeat.
        prompts in prop::collection::vec((0..4_usize, 0..3_u32, 0..300_usize, 0..3_usize), 1..40),
        extras in prop::collection::vec(any_extras(), 3),
        runs in 1..6_usize,
    ) {
        let run = (128 * hasher.block_size() + hasher.lookahead()) * 4 + 128 * 41 + 200;
        let mut memo = PrefixMemo::new(hasher.clone(), runs * run).unwrap();
        let (mut remembered, mut blocks) = (Vec::new(), 0);
        for (quarter, tail, len, which) in prompts {
            let mut tokens = stem[..stem.len() * quarter / 4].to_vec();
            tokens.extend((0..len as u32).map(|i| i * 31 + tail));
            let extras = if which == 0 { &OwnedExtras::default() } else { &extras[which] };
            extras.with(|extras| {
                let prompt = Prompt { tokens: &tokens, extras };
                let plain = all(&hasher, &prompt);
                let done = memo.hash_into(&prompt, &mut remembered);
                let failed = done.is_err();
                prop_assert_eq!(done.map(|()| remembered.clone()), plain);
                if !failed {
                    blocks += remembered.len() as u64;
                    let stats = memo.stats();
                    prop_assert_eq!(stats.remembered_blocks + stats.hashed_blocks, blocks);
                }
                Ok(())
            })?;
        }
    }

    #[test]
    fn hashing_depends_on_every_token_and_on_nothing_behind(
        hasher in any_hasher(),
        tokens in any_tokens(1..300),
        at in any::<prop::sample::Index>(),
        bit in 0..31_u32,
    ) {
        let at = at.index(tokens.len());
        let mut other = tokens.clone();
        other[at] ^= 1 << bit;
        let a = all(&hasher, &Prompt::new(&tokens)).unwrap();
        let b = all(&hasher, &Prompt::new(&other)).unwrap();
        let first_to_differ = at.saturating_sub(hasher.lookahead()) / hasher.block_size();
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            // A block's lookahead reaches over its end, and never back.
            prop_assert_eq!(a == b, i < first_to_differ, "block {}", i);
        }
    }
}

#[test]
fn bad_input_is_an_error_that_says_what_and_where() {
    for scheme in schemes() {
        let name = scheme.to_string();
        let hasher = BlockHasher::builder(scheme.clone()).block_size(16).build().unwrap();
        let mut tokens = vec![5; 100];
        tokens[37] = 1 << 31;
        let refused = all(&hasher, &Prompt::new(&tokens));
        let want = HashError::TokenRange { position: 37, token: 1 << 31, limit: i32::MAX as u32 };
        assert_eq!(refused, Err(want), "{name}");
        let mut lazy = hasher.lazy(Prompt::new(&tokens));
        let mut out = Vec::new();
        assert_eq!(lazy.pull(2, &mut out), Ok(2), "{name}");
        assert!(lazy.pull(1, &mut out).is_err() && out.len() == 2, "{name}");

        let mut memo = PrefixMemo::new(hasher.clone(), 1 << 20).unwrap();
        let good = all(&hasher, &Prompt::new(&tokens[..32])).unwrap();
        for known in [false, true] {
            let refused = memo.hash_into(&Prompt::new(&tokens), &mut out);
            let want = all(&hasher, &Prompt::new(&tokens)).unwrap_err();
            assert_eq!((refused, out.len()), (Err(want), 0), "{name}, remembered: {known}");
            memo.hash_into(&Prompt::new(&tokens[..32]), &mut out).unwrap();
            assert_eq!(out, good, "{name}");
        }

        assert_eq!(all(&hasher, &Prompt::new(&[])), Ok(vec![]), "{name}");
        for size in [0, BlockHasher::MAX_BLOCK_SIZE + 1, usize::MAX] {
            let refused = BlockHasher::builder(scheme.clone()).block_size(size).build();
            assert!(refused.is_err(), "{name} took a block of {size}");
        }
        let refused =
            BlockHasher::builder(scheme.clone()).block_size(16).lookahead(usize::MAX).build();
        assert!(refused.is_err(), "{name} took any lookahead");
        let mut out = Vec::new();
        let prompt = Prompt::new(&tokens[..30]);
        let none = scheme.none_hash();
        let refused = hasher.continue_into(&prompt, 2, &none, &mut out);
        assert_eq!(refused, Err(HashError::PastTheEnd { done: 2, blocks: 1 }), "{name}");
        let short = Digest::new(&[1, 2, 3]).unwrap();
        let refused = hasher.continue_into(&prompt, 1, &short, &mut out);
        assert!(matches!(refused, Err(HashError::ParentLength { got: 3, .. })), "{name}");
    }
    let hasher = BlockHasher::builder(schemes()[6].clone()).block_size(4).build().unwrap();
    let item = |offset| MultimodalSpan { identifier: "i", offset, length: 2 };
    let extras = Extras { multimodal: &[item(5), item(4)], ..Extras::NONE };
    let refused = all(&hasher, &Prompt { tokens: &[0; 8], extras });
    assert_eq!(refused, Err(HashError::MultimodalOrder { item: 1, offset: 4, before: 5 }));
    let embeds = Some(PromptEmbeds { bytes: &[0; 7], row_bytes: 2 });
    let refused =
        all(&hasher, &Prompt { tokens: &[0; 8], extras: Extras { embeds, ..Extras::NONE } });
    assert_eq!(refused, Err(HashError::EmbedRows { bytes: 7, row_bytes: 2 }));
    let embeds = Some(PromptEmbeds { bytes: &[], row_bytes: 0 });
    let refused =
        all(&hasher, &Prompt { tokens: &[0; 8], extras: Extras { embeds, ..Extras::NONE } });
    assert_eq!(refused, Err(HashError::EmbedRows { bytes: 0, row_bytes: 0 }));
}
