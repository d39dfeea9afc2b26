//! The content scheme stays what it is, and is as good as a random function.
// A test may fail where it likes, and a long one says how it goes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use kvsched_core::{BlockHash, Extras, Lora, MultimodalSpan, Prompt, Rng};
use kvsched_hash::{BlockHasher, Digest, Scheme};

fn hasher(model: &str, secret: &[u8], block_size: usize) -> BlockHasher {
    let scheme = Scheme::content(model, secret).unwrap();
    BlockHasher::builder(scheme).block_size(block_size).build().unwrap()
}

fn hashes(hasher: &BlockHasher, tokens: &[u32]) -> Vec<u64> {
    let mut out = Vec::new();
    hasher.hash_into(&Prompt::new(tokens), &mut out).unwrap();
    out.into_iter().map(|h| h.0).collect()
}

/// Frozen: snapshots and replicas of other releases depend on these. A change of any is a
/// new edition of the scheme, not a correction of this table.
#[test]
fn the_digests_of_this_edition_are_frozen() {
    let counting: Vec<u32> = (0..64).collect();
    let edges = [0, 1, 255, 256, 65_535, 65_536, 151_643, BlockHasher::MAX_TOKEN].repeat(8);
    let image = [MultimodalSpan { identifier: "img-1", offset: 20, length: 30 }];
    let lora = Some(Lora { name: "adapter", path: "", int_id: 0 });
    let all = Extras { lora, multimodal: &image, cache_salt: Some("salt"), embeds: None };
    type Row<'a> = (&'a str, &'a [u8], usize, &'a [u32], Extras<'a>, u64);
    let table: [Row<'_>; 8] = [
        ("", b"", 16, &counting, Extras::NONE, FROZEN[0]),
        ("model", b"secret", 16, &counting, Extras::NONE, FROZEN[1]),
        ("model", b"secret", 16, &edges, Extras::NONE, FROZEN[2]),
        ("model", b"secret", 1, &counting, Extras::NONE, FROZEN[3]),
        ("model", b"secret", 24, &counting, Extras::NONE, FROZEN[4]),
        ("model", b"secret", 64, &counting, Extras::NONE, FROZEN[5]),
        ("model", b"secret", 16, &counting, all, FROZEN[6]),
        ("model", b"secret", 16, &[0; 16], Extras { lora, ..Extras::NONE }, FROZEN[7]),
    ];
    let mut got = Vec::new();
    for (model, secret, block_size, tokens, extras, _) in &table {
        let mut out = Vec::new();
        let hasher = hasher(model, secret, *block_size);
        hasher.hash_into(&Prompt { tokens, extras: *extras }, &mut out).unwrap();
        got.push(out.last().unwrap().0);
    }
    let want: Vec<u64> = table.iter().map(|row| row.5).collect();
    assert_eq!(got, want, "{got:#018x?}");
}

const FROZEN: [u64; 8] = [
    16695098435833725095,
    17655775269339650049,
    5602477436763756377,
    4439962646358098329,
    5654675226713728286,
    17655775269339650049,
    7087814790187343940,
    10719395358943110569,
];

#[test]
fn block_sizes_agree_where_they_meet() {
    let tokens: Vec<u32> = (0..192).map(|i| i * 37).collect();
    let by_16 = hashes(&hasher("m", b"s", 16), &tokens);
    for ratio in [2, 3, 4] {
        let coarse = hashes(&hasher("m", b"s", 16 * ratio), &tokens);
        assert!(kvsched_hash::group_view(&by_16, ratio).eq(&coarse), "{ratio}");
    }
}

#[test]
fn model_secret_and_parent_each_change_every_hash() {
    let tokens = [7; 64];
    let base = hashes(&hasher("m", b"s", 16), &tokens);
    for other in [hasher("n", b"s", 16), hasher("m", b"t", 16), hasher("", b"", 16)] {
        assert!(hashes(&other, &tokens).iter().zip(&base).all(|(a, b)| a != b));
    }
    // Model and secret are not run together.
    assert_ne!(hashes(&hasher("ab", b"c", 16), &tokens), hashes(&hasher("a", b"bc", 16), &tokens));
    let hasher = hasher("m", b"s", 16);
    let parent = Digest::from(BlockHash(base[0] ^ 1));
    let mut other = Vec::new();
    hasher.continue_into(&Prompt::new(&tokens), 1, &parent, &mut other).unwrap();
    assert!(other.iter().zip(&base[1..]).all(|(a, b)| a.block_hash().0 != *b));
}

/// Flipping any input bit flips every output bit half the time.
#[test]
fn avalanche() {
    const TRIALS: u32 = if cfg!(miri) { 4 } else { 2000 };
    let mut rng = Rng::new(1);
    // Worst input first: zeros, which real prompts have (padding, embeddings).
    for zeros in [true, false] {
        let mut flips = vec![[0_u32; 64]; 16 * 31];
        for trial in 0..TRIALS {
            let hasher = hasher("m", &trial.to_le_bytes(), 16);
            let mut tokens = [0_u32; 16];
            if !zeros {
                tokens = tokens.map(|_| rng.below(151_000) as u32);
            }
            let base = hashes(&hasher, &tokens)[0];
            for (input, flips) in flips.iter_mut().enumerate() {
                let mut other = tokens;
                other[input / 31] ^= 1 << (input % 31);
                let changed = hashes(&hasher, &other)[0] ^ base;
                for (bit, flips) in flips.iter_mut().enumerate() {
                    *flips += (changed >> bit & 1) as u32;
                }
            }
        }
        // 31,744 binomial counts: six standard deviations leave one chance in 16,000.
        let mean = f64::from(TRIALS) / 2.0;
        let most = 6.0 * (f64::from(TRIALS) / 4.0).sqrt();
        for (input, flips) in flips.iter().enumerate() {
            for (bit, &flips) in flips.iter().enumerate() {
                let off = (f64::from(flips) - mean).abs();
                assert!(off <= most, "input bit {input} flips output bit {bit} {flips} times");
            }
        }
    }
}

type Family = (&'static str, fn(u64) -> [u32; 16]);

/// Families of blocks that differ little, as prompts do. Block `i` of each.
const FAMILIES: [Family; 8] = [
    ("counting in the last token", |i| at(15, i)),
    ("counting in the first token", |i| at(0, i)),
    ("two tokens", |i| two(0, 1, i)),
    ("two tokens of different words", |i| two(3, 12, i)),
    ("two tokens of the added words", |i| two(12, 15, i)),
    ("small tokens", |i| std::array::from_fn(|k| (i >> (2 * k) & 3) as u32)),
    ("sparse bits", |i| {
        std::array::from_fn(|k| ((i >> (k % 8 * 8) & 0xff) as u32) << (k * 2 % 24))
    }),
    ("a vocabulary at random", |i| {
        let mut rng = Rng::new(i);
        std::array::from_fn(|_| rng.below(151_000) as u32)
    }),
];

fn at(k: usize, i: u64) -> [u32; 16] {
    let mut tokens = [0; 16];
    tokens[k] = i as u32 & BlockHasher::MAX_TOKEN;
    tokens[(k + 1) % 16] = (i >> 31) as u32;
    tokens
}

fn two(a: usize, b: usize, i: u64) -> [u32; 16] {
    let mut tokens = [9; 16];
    (tokens[a], tokens[b]) = ((i % 8192) as u32, (i / 8192) as u32);
    tokens
}

/// Hands `n` distinct blocks' hashes to `sink`.
fn hashes_of(family: usize, n: u64, mut sink: impl FnMut(u64)) {
    let hasher = hasher("m", b"some secret", 16);
    let mut out = Vec::new();
    let mut hash = |tokens: &[u32], from: usize| {
        hasher.hash_into(&Prompt::new(tokens), &mut out).unwrap();
        out[from..].iter().for_each(|h| sink(h.0));
    };
    if let Some((_, block)) = FAMILIES.get(family) {
        return (0..n).for_each(|i| hash(&block(i), 0));
    }
    // Chats: after one of sixteen system prompts, blocks of their own. Of tokens that are the
    // rarer the larger, as tokenizers number them.
    let mut tokens = [0; 16 * CHAT];
    for chat in 0..n / OWN as u64 {
        let mut system = Rng::new(chat % 16);
        let mut own = Rng::new(1000 + chat);
        for (i, token) in tokens.iter_mut().enumerate() {
            let rng = if i < 16 * (CHAT - OWN) { &mut system } else { &mut own };
            let random = rng.next_u64();
            *token = (random as u32 % 151_000) >> (random >> 32 & 15);
        }
        hash(&tokens, CHAT - OWN);
    }
}

/// Blocks of a chat, and how many of them are its own.
const CHAT: usize = 64;
const OWN: usize = 32;

/// Collisions of `n` hashes' pieces of `bits` bits, from the lowest of each of `shifts` on, against
/// the birthday bound.
fn birthdays(family: usize, n: u64, bits: u32, shifts: &[u32]) {
    let name = FAMILIES.get(family).map_or("chats of a vocabulary by frequency", |f| f.0);
    let mut seen: Vec<_> =
        shifts.iter().map(|&shift| (shift, 0_u64, vec![0_u64; 1 << (bits - 6)])).collect();
    let mut hashed = 0;
    hashes_of(family, n, |hash| {
        hashed += 1;
        for (shift, distinct, seen) in &mut seen {
            let piece = hash >> *shift & (u64::MAX >> (64 - bits));
            let word = &mut seen[(piece >> 6) as usize];
            *distinct += u64::from(*word >> (piece & 63) & 1 == 0);
            *word |= 1 << (piece & 63);
        }
    });
    assert_eq!(hashed, n);
    let (blocks, room) = (n as f64, 2_f64.powi(bits as i32));
    let expected = blocks - room * -(-blocks / room).exp_m1();
    for (shift, distinct, _) in seen {
        let collisions = n - distinct;
        // Fewer are welcome: one token that counts is spread evenly, as by Fibonacci hashing.
        let excess = (collisions as f64 - expected) / expected.sqrt();
        println!(
            "{name}, {n} blocks, {bits} bits from {shift}: {collisions} collisions, {excess:+.1} deviations"
        );
        assert!(excess < 6.0, "{name}, bits {shift}..: {collisions}, expected {expected}");
    }
}

#[test]
fn like_blocks_collide_no_more_than_random_numbers() {
    let (n, bits) = if cfg!(miri) { (256, 10) } else { (1 << 16, 22) };
    for family in 0..=FAMILIES.len() {
        birthdays(family, n, bits, &[0, (64 - bits) / 2, 64 - bits]);
    }
}

/// The same with 64 million to four billion blocks of chats, which takes an hour and four gigabytes:
/// `cargo test --release -p kvsched-hash --test content_quality -- --ignored --nocapture`.
#[test]
#[ignore = "an hour, and four gigabytes"]
fn billions_of_blocks_collide_no_more_than_random_numbers() {
    for log in [26, 28, 30, 32] {
        for shift in [0, 61 - log] {
            birthdays(FAMILIES.len(), 1 << log, log + 3, &[shift]);
        }
    }
}

/// Blocks of the same tokens in another order are other blocks.
#[test]
fn permutations_and_shifts_differ() {
    let hasher = hasher("m", b"s", 16);
    let tokens: [u32; 16] = std::array::from_fn(|i| i as u32 + 1);
    let mut seen = std::collections::HashSet::new();
    for a in 0..16 {
        for b in 0..=a {
            let mut swapped = tokens;
            swapped.swap(a, b);
            seen.insert(hashes(&hasher, &swapped)[0]);
        }
        let mut rotated = tokens;
        rotated.rotate_left(a);
        seen.insert(hashes(&hasher, &rotated)[0]);
    }
    assert_eq!(seen.len(), 120 + 1 + 15);
}
