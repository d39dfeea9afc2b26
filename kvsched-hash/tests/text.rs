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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Conversations that grow, branch and are forgotten in between, some with special tokens
    /// that users typed.
    #[test]
    fn chats_remembered_or_not(
        turns in prop::collection::vec(
            (0..4_usize, 0..6_usize, prop::sample::select(vec!["a", "b", "cab"]), "[abc \n]{0,30}(<\\|im_(start|end)\\|>|<\\|im\\|>)?[ab]{0,5}"),
            1..60,
        ),
        memory in prop::sample::select(vec![0_usize, 1000, 1 << 20]),
    ) {
        let json = tokenizer_json("false", BYTE_LEVEL);
        let plain = Tokenizer::from_bytes(&json).unwrap();
        let mut remembering = TextTokenizer::from_json(json.as_bytes(), memory).unwrap();
        let mut chats: [Vec<(&str, String)>; 4] = Default::default();
        let mut ids = Vec::new();
        for (chat, keep, role, content) in turns {
            // Somebody edits an earlier message, or goes on.
            chats[chat].truncate(2 * keep);
            chats[chat].push((role, content));
            let format = if chat % 2 == 0 { ChatFormat::CHATML } else { ChatFormat::LLAMA_3 };
            let messages: Vec<_> =
                chats[chat].iter().map(|(role, content)| ChatMessage { role, content }).collect();
            remembering.encode_chat_into(&format, &messages, &mut ids).unwrap();
            let mut text = format.start.to_owned();
            for ChatMessage { role, content } in &messages {
                let (before, after, end) =
                    (format.before_role, format.after_role, format.after_content);
                text += &format!("{before}{role}{after}{content}{end}");
            }
            text += format.generation;
            let want = plain.encode(text.as_str(), false).unwrap();
            prop_assert_eq!(&ids, want.get_ids(), "{:?}", text);
        }
    }
}

#[test]
fn memory_stays_within_its_bound() {
    let json = tokenizer_json("false", BYTE_LEVEL);
    let limit = 10_000;
    let mut tokenizer = TextTokenizer::from_json(json.as_bytes(), limit).unwrap();
    let mut ids = Vec::new();
    for i in 0..2_000 {
        let n = if i % 2 == 0 { i % 5 } else { i % 97 };
        tokenizer.encode_into(&"abc ".repeat(n + 1), &mut ids).unwrap();
        let debug = format!("{tokenizer:?}");
        let held = debug.split("remembered_bytes: ").nth(1).unwrap();
        let held: usize = held.split(',').next().unwrap().parse().unwrap();
        assert!(held <= limit, "{debug}");
    }
    assert!(tokenizer.stats().remembered_bytes > 0);
}

#[test]
fn broken_files_are_errors() {
    let vocabulary = r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["#;
    for broken in [
        String::new(),
        "{".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        r#"{"model": {"type": "Nonsense"}}"#.to_owned(),
        format!("{vocabulary}\"a c\"]}}}}"),
        format!("{vocabulary}\"a\"]}}}}"),
        r#"{"model": {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}}"#.to_owned(),
        "[".repeat(100_000),
        "\u{feff}{}".to_owned(),
    ] {
        let refused = TextTokenizer::from_json(broken.as_bytes(), 0);
        let Err(TextError::Tokenizer { reason }) = refused else { panic!("{broken:?}") };
        assert!(!reason.is_empty());
    }
    assert!(TextTokenizer::from_json(&[0xff, 0xfe, 0], 0).is_err());
}

/// A file that was cut short or damaged anywhere: an error, or another tokenizer that works.
#[test]
fn damaged_files_never_panic() {
    let json = tokenizer_json("false", BYTE_LEVEL).into_bytes();
    for end in 0..json.len() {
        assert!(TextTokenizer::from_json(&json[..end], 0).is_err(), "cut at {end}");
    }
    let mut rng = kvsched_core::Rng::new(1);
    let mut ids = Vec::new();
    for _ in 0..1_500 {
        let mut damaged = json.clone();
        let at = rng.below(json.len());
        damaged[at] = *b"\"{}[]:,0z9 ".get(rng.below(11)).unwrap();
        if let Ok(mut tokenizer) = TextTokenizer::from_json(&damaged, 1000) {
            let _ = tokenizer.encode_into("abc <|im_start|>ab c\n<|im|>a", &mut ids);
        }
    }
}

#[test]
fn text_that_is_too_long_is_refused() {
    let json = tokenizer_json("false", BYTE_LEVEL);
    let mut tokenizer = TextTokenizer::from_json(json.as_bytes(), 0).unwrap();
    let (text, mut ids) = ("a".repeat(TextTokenizer::MAX_BYTES + 1), vec![1]);
    let refused = tokenizer.encode_into(&text, &mut ids);
    assert!(matches!(refused, Err(TextError::Length { .. })), "{refused:?}");
    assert!(ids.is_empty());
}
