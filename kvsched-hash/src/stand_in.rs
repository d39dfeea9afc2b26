//! Text without a tokenizer: stand-ins for its tokens.

use kvsched_core::TokenId;

/// Bytes a stand-in: tokens of English prose have four to five, of code and most other
/// languages about three.
const BYTES: usize = 3;

/// Replaces `out` with stand-ins for the tokens of a text, given in pieces: each is three bytes of
/// the UTF-8, from the first piece's first. One or two bytes at the end are left out.
///
/// Where no tokenizer is at hand, prompts can still be recognised by their text: hash the
/// stand-ins like tokens, by the content scheme, and let a routing history learn what was sent
/// where. Equal beginnings have equal blocks, of 48 bytes where a block has 16 tokens; lengths are
/// about those in tokens, a third more for English. Engines hash real tokens, so their events
/// cannot be compared with it. Pieces are joined as they are: put roles and separators of
/// a chat in between, as its template would.
///
/// Allocates only while `out` grows.
///
/// ```
/// use kvsched_core::Prompt;
/// use kvsched_hash::{BlockHasher, Scheme, stand_in_tokens};
///
/// let hasher = BlockHasher::builder(Scheme::content("m", b"secret")?).block_size(16).build()?;
/// let (mut tokens, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
/// let system = "You are a helpful assistant. Answer in one sentence, and politely.\n";
/// stand_in_tokens([system, "What is a hash?"], &mut tokens);
/// hasher.hash_into(&Prompt::new(&tokens), &mut first)?;
/// stand_in_tokens([system, "What is the longest river?"], &mut tokens);
/// hasher.hash_into(&Prompt::new(&tokens), &mut second)?;
/// assert_eq!(first[0], second[0]); // the system prompt's first 48 bytes
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn stand_in_tokens<'a>(text: impl IntoIterator<Item = &'a str>, out: &mut Vec<TokenId>) {
    out.clear();
    let (mut token, mut bytes) = (0, 0);
    for piece in text {
        for &byte in piece.as_bytes() {
            token = token << 8 | u32::from(byte);
            bytes += 1;
            if bytes == BYTES {
                out.push(token);
                (token, bytes) = (0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However a text is cut, and as far as two begin alike.
        #[test]
        fn pieces_do_not_matter_and_beginnings_do(
            text in "\\PC{0,60}", more in "\\PC{0,9}", cut in 0..60usize,
        ) {
            let (mut whole, mut cut_up) = (vec![9], vec![8]);
            stand_in_tokens([&*text], &mut whole);
            let at = text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
            stand_in_tokens([&text[..at], "", &text[at..]], &mut cut_up);
            prop_assert_eq!(&whole, &cut_up);
            let naive: Vec<u32> = text.as_bytes().chunks_exact(3)
                .map(|b| u32::from_be_bytes([0, b[0], b[1], b[2]])).collect();
            prop_assert_eq!(&whole, &naive);
            stand_in_tokens([&*text, &*more], &mut cut_up);
            prop_assert!(cut_up.starts_with(&whole));
        }
    }
}
