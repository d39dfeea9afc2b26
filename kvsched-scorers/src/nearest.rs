//! What somebody who misspelt a name probably meant.

/// The name in `known` that takes the fewest insertions, deletions and replacements to reach
/// from `word`, without regard to case; `None` if `known` is empty. Only the first 64 characters
/// count, so that a word of megabytes costs no more than one that somebody mistyped.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|name| distance(start(word), start(name)))
}

/// `word` for a message: no more than its start if it is long.
#[cfg(feature = "serde")]
pub(crate) fn shown(word: &str) -> String {
    let start = start(word);
    if start.len() < word.len() { format!("{start}…") } else { word.to_owned() }
}

fn start(word: &str) -> &str {
    word.char_indices().nth(64).map_or(word, |(end, _)| &word[..end])
}

/// Levenshtein's distance of the lower-cased words. O(|a|·|b|).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "Sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("queue", "queue"), 0);
        assert_eq!(nearest("que-scorer", ["prefix-scorer", "queue-scorer"]), Some("queue-scorer"));
        assert_eq!(nearest("x", []), None);
        let long = "ä".repeat(10_000_000);
        assert_eq!(nearest(&long, ["ä", "b"]), Some("ä"));
    }
}
