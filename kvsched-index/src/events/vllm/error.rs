/// Why bytes are not a batch of events, or not all of one.
///
/// Offsets count from the payload's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload ends within a value.
    #[error("byte {offset}: {needed} bytes are needed and {left} are left")]
    Truncated {
        /// Where the missing bytes would begin.
        offset: usize,
        /// How many are needed.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// A declared length is more than the rest of the payload can hold.
    #[error("byte {offset}: a length of {declared} is declared and {left} bytes are left")]
    Length {
        /// Where the value begins.
        offset: usize,
        /// The length.
        declared: u64,
        /// Bytes left after it.
        left: usize,
    },
    /// A value is of another type than its place asks for.
    #[error("byte {offset}: expected {expected}, found msgpack type {found:#04x}")]
    Type {
        /// Where the value begins.
        offset: usize,
        /// What should be there.
        expected: &'static str,
        /// The type byte that is.
        found: u8,
    },
    /// A number is too large, too small or negative for its place.
    #[error("byte {offset}: {what} is {value}, which is not in 0..={limit}")]
    Range {
        /// Where the value begins.
        offset: usize,
        /// What the number is.
        what: &'static str,
        /// The number.
        value: i128,
        /// The largest allowed.
        limit: u64,
    },
    /// A text is not UTF-8.
    #[error("byte {offset}: not UTF-8, in the text that starts at byte {value_offset}")]
    Text {
        /// The first offending byte.
        offset: usize,
        /// Where the text's value begins.
        value_offset: usize,
    },
    /// An event lacks a field without which it means nothing.
    #[error("byte {offset}: the event has no {field}")]
    Missing {
        /// Where the event begins.
        offset: usize,
        /// The field's name.
        field: &'static str,
    },
    /// Something follows the batch.
    #[error("byte {offset}: {bytes} bytes follow the batch")]
    Trailing {
        /// Where the batch ends.
        offset: usize,
        /// How many bytes follow.
        bytes: usize,
    },
    /// The payload is longer than any engine's.
    #[error("a payload of {bytes} bytes; at most {limit} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}
