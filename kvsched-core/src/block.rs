use std::fmt;

/// The name of a full KV-cache block *and of the whole prefix that ends with it*.
///
/// Block hashes are chained: two prompts have an equal hash at block `i` exactly when
/// (up to 64-bit collisions) all their tokens and extra keys up to the end of block `i`
/// are equal. Every value is a valid hash; there is no sentinel, "no parent" is an
/// `Option`.
///
/// ```
/// use kvsched_core::BlockHash;
/// assert_eq!(BlockHash(255).to_string(), "00000000000000ff");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct BlockHash(pub u64);

/// A block hash as an engine announced it in an event.
///
/// Equal to the [`BlockHash`] of the same block when kvsched computes the engine's own
/// scheme; an unrelated number when it does not. Keeping the two apart in the type
/// system is what stops one from being looked up as the other.
///
/// Engines announce 64-bit integers, or byte strings whose last eight bytes, read
/// big-endian, are that integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EngineHash(pub u64);

impl EngineHash {
    /// The 64-bit name of a full digest: its last eight bytes, big-endian (vLLM's external
    /// block hash). Digests shorter than eight bytes are read as a big-endian number.
    ///
    /// ```
    /// use kvsched_core::EngineHash;
    /// assert_eq!(EngineHash::from_digest(&[9, 0, 0, 0, 0, 0, 0, 1, 2]), EngineHash(0x0102));
    /// ```
    #[inline]
    #[must_use]
    pub fn from_digest(digest: &[u8]) -> Self {
        let tail = &digest[digest.len().saturating_sub(8)..];
        Self(tail.iter().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    /// Reads the announced hash as our own block hash. Correct only where kvsched
    /// reproduces the engine's scheme.
    #[inline]
    #[must_use]
    pub const fn as_block_hash(self) -> BlockHash {
        BlockHash(self.0)
    }
}

macro_rules! hex {
    ($($t:ident),*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($t), "({:016x})"), self.0)
            }
        }
    )*};
}
hex!(BlockHash, EngineHash);
