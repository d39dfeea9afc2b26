//! The segment memory changes nothing but the time.
#![allow(clippy::unwrap_used)]

use kvsched_hash::{ChatFormat, ChatMessage, TextError, TextTokenizer};
use proptest::prelude::*;
use tokenizers::Tokenizer;

/// A byte-level BPE with merges and ChatML's special tokens, one of them a prefix of another.
fn tokenizer_json(flag: &str, prepend: &str) -> String {
    let letters = ["a", "b", "c", "Ġ", "Ċ", "ab", "abc", "Ġa", "Ġab", "Ġabc", "ca"];
    let vocab: Vec<String> =
        letters.iter().enumerate().map(|(i, l)| format!("\"{l}\": {i}")).collect();
    let special = ["<|im_start|>", "<|im_end|>", "<|im|>", "<|im|>a"];
    let added: Vec<String> = special
        .iter()
        .enumerate()
        .map(|(i, s)| {
            format!(
                r#"{{"id": {}, "content": "{s}", "special": true, "normalized": false,
                    "lstrip": false, "rstrip": {}, "single_word": false}}"#,
                11 + i,
                flag
            )
        })
        .collect();
    format!(
        r#"{{"model": {{"type": "BPE", "vocab": {{{}}},
            "merges": ["a b", "ab c", "Ġ a", "Ġ ab", "Ġ abc", "c a"]}},
            "pre_tokenizer": {prepend}, "added_tokens": [{}]}}"#,
        vocab.join(","),
        added.join(",")
    )
}

const BYTE_LEVEL: &str =
    r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}"#;
const FIRST_WORD: &str = r#"{"type": "Sequence", "pretokenizers": [
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme" : "first", "split": false},
    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn remembered_or_not(
        texts in prop::collection::vec(
            prop::collection::vec(
                prop::sample::select(vec![
                    "a", "b", "abc", " ", "\n", "  ab", "<|im_start|>", "<|im_end|>", "<|im|>", "<|im", "|>a",
                ]),
                0..12,
            ),
            1..20,
        ),
        memory in prop::sample::select(vec![0_usize, 300, 2000, 1 << 20]),
        kind in 0..3_usize,
    ) {
        let json = match kind {
            0 => tokenizer_json("false", BYTE_LEVEL),
            1 => tokenizer_json("true", BYTE_LEVEL),
            _ => tokenizer_json("false", FIRST_WORD),
        };
        let plain = Tokenizer::from_bytes(&json).unwrap();
        let mut remembering = TextTokenizer::from_json(json.as_bytes(), memory).unwrap();
        let mut ids = Vec::new();
        for text in texts {
            let text = text.concat();
            remembering.encode_into(&text, &mut ids).unwrap();
            let want = plain.encode(text.as_str(), false).unwrap();
            prop_assert_eq!(&ids, want.get_ids(), "{:?}", text);
        }
    }
}

#[test]
fn a_conversations_earlier_turns_are_remembered() {
    let json = tokenizer_json("false", BYTE_LEVEL);
    let mut tokenizer = TextTokenizer::from_json(json.as_bytes(), 1 << 20).unwrap();
    let system = ChatMessage { role: "a", content: "abc abc" };
    let user = ChatMessage { role: "b", content: "cab" };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    tokenizer.encode_chat_into(&ChatFormat::CHATML, &[system, user], &mut first).unwrap();
    let before = tokenizer.stats();
    tokenizer.encode_chat_into(&ChatFormat::CHATML, &[system, user, user], &mut second).unwrap();
    let after = tokenizer.stats();
    assert_eq!(after.tokenized_bytes, before.tokenized_bytes, "the second turn holds nothing new");
    assert!(after.remembered_bytes > before.remembered_bytes);
    let generation = first.len() - first.iter().rposition(|&id| id == 11).unwrap();
    assert_eq!(first[..first.len() - generation], second[..first.len() - generation]);
}

#[test]
fn broken_files_are_errors() {
    for broken in ["", "{", "null", "{}", r#"{"model": {"type": "Nonsense"}}"#] {
        let refused = TextTokenizer::from_json(broken.as_bytes(), 0);
        assert!(matches!(refused, Err(TextError::Tokenizer { .. })), "{broken:?}");
    }
}
