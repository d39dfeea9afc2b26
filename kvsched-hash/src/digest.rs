use kvsched_core::BlockHash;
use std::fmt;

/// A block's full digest, 1 to 32 bytes: what the next block's hash is chained to.
///
/// vLLM's SHA-256 schemes have 32 bytes, its XXH3 schemes 16, schemes of 64-bit numbers 8
/// (big-endian). The [`BlockHash`] is only its last eight bytes; the chain never shortens it.
///
/// ```
/// use kvsched_hash::Digest;
/// let digest = Digest::new(&[0, 0, 0, 0, 0, 0, 1, 0]).unwrap();
/// assert_eq!(digest.block_hash().0, 256);
/// assert_eq!(digest.to_string(), "0000000000000100");
/// assert!(Digest::new(&[]).is_none() && Digest::new(&[0; 33]).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    // Right-aligned and zero before, so that the last eight bytes are at a fixed place.
    bytes: [u8; 32],
    len: u8,
}

impl Digest {
    /// A digest of these bytes; `None` unless there are 1 to 32.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > 32 {
            return None;
        }
        let mut all = [0; 32];
        all[32 - bytes.len()..].copy_from_slice(bytes);
        Some(Self { bytes: all, len: bytes.len() as u8 })
    }

    /// No digest at all: SGLang's first page has no parent.
    pub(crate) const NONE: Self = Self { bytes: [0; 32], len: 0 };

    #[inline]
    pub(crate) const fn from_32(bytes: [u8; 32]) -> Self {
        Self { bytes, len: 32 }
    }

    #[inline]
    pub(crate) fn from_u128(n: u128) -> Self {
        let mut bytes = [0; 32];
        bytes[16..].copy_from_slice(&n.to_be_bytes());
        Self { bytes, len: 16 }
    }

    #[inline]
    pub(crate) fn from_u64(n: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&n.to_be_bytes());
        Self { bytes, len: 8 }
    }

    /// The digest's bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[32 - usize::from(self.len)..]
    }

    /// The last eight bytes, big-endian; a shorter digest is read as a number. The name under
    /// which every engine but SGLang announces the block: see [`Scheme::block_hash`].
    ///
    /// [`Scheme::block_hash`]: crate::Scheme::block_hash
    #[inline]
    #[must_use]
    pub fn block_hash(&self) -> BlockHash {
        let [.., a, b, c, d, e, f, g, h] = self.bytes;
        BlockHash(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    #[inline]
    pub(crate) fn first_eight(&self) -> BlockHash {
        BlockHash(self.as_bytes().iter().take(8).fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    /// Appends vLLM's internal key of the block in one KV-cache group to `out`: the digest,
    /// then the group's number as four bytes, big-endian. It never leaves the engine; stores
    /// that are keyed by it can be asked with it.
    pub fn append_group_key(&self, group: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
        out.extend_from_slice(&group.to_be_bytes());
    }
}

impl From<BlockHash> for Digest {
    /// The digest of a scheme of 64-bit hashes, as the content scheme is.
    fn from(hash: BlockHash) -> Self {
        Self::from_u64(hash.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
