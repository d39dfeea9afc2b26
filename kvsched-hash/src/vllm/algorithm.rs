use crate::SchemeError;
use std::{fmt, str::FromStr};

/// What vLLM's `--prefix-caching-hash-algo` can be set to and another process can reproduce.
///
/// ```
/// use kvsched_hash::Algorithm;
/// assert_eq!("sha256_cbor".parse(), Ok(Algorithm::Sha256Cbor));
/// assert!("builtin".parse::<Algorithm>().is_err()); // Python's hash(): of one process only
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// `sha256`: SHA-256 of the pickled block; the default since 0.10.2.
    Sha256,
    /// `sha256_cbor`: SHA-256 of the block in canonical CBOR (since 0.10.2).
    Sha256Cbor,
    /// `sha256_cbor_64bit`: its last 64 bits, chained as a number (0.10.0 and 0.10.1).
    Sha256Cbor64Bit,
    /// `xxhash`: XXH3-128 of the pickled block (since 0.13).
    XxHash,
    /// `xxhash_cbor`: XXH3-128 of the block in canonical CBOR (since 0.13).
    XxHashCbor,
}

impl Algorithm {
    /// Every algorithm there is.
    pub const ALL: [Self; 5] =
        [Self::Sha256, Self::Sha256Cbor, Self::Sha256Cbor64Bit, Self::XxHash, Self::XxHashCbor];

    /// The engine's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha256Cbor => "sha256_cbor",
            Self::Sha256Cbor64Bit => "sha256_cbor_64bit",
            Self::XxHash => "xxhash",
            Self::XxHashCbor => "xxhash_cbor",
        }
    }

    /// Bytes of a digest.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 | Self::Sha256Cbor => 32,
            Self::XxHash | Self::XxHashCbor => 16,
            Self::Sha256Cbor64Bit => 8,
        }
    }

    pub(crate) const fn is_cbor(self) -> bool {
        matches!(self, Self::Sha256Cbor | Self::Sha256Cbor64Bit | Self::XxHashCbor)
    }

    pub(crate) const fn is_cryptographic(self) -> bool {
        !matches!(self, Self::XxHash | Self::XxHashCbor)
    }
}

impl FromStr for Algorithm {
    type Err = SchemeError;

    fn from_str(name: &str) -> Result<Self, SchemeError> {
        if name == "builtin" {
            return Err(SchemeError::BuiltinAlgorithm);
        }
        Self::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| SchemeError::UnknownAlgorithm { name: name.chars().take(64).collect() })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
