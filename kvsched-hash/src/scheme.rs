use crate::{Algorithm, Digest, SchemeError, VllmVersion, vllm::VllmScheme};
use std::fmt;

/// How an engine names its blocks: family, version, algorithm and seed.
///
/// A value that was checked when it was made: every scheme can be computed. Cheap to clone.
///
/// ```
/// use kvsched_hash::{Algorithm, Scheme, VllmVersion};
/// let scheme = Scheme::vllm(VllmVersion::LATEST, Algorithm::Sha256, None)?;
/// assert_eq!(scheme.to_string(), "vLLM 0.33.0 sha256, seed unset");
///
/// // An older engine draws a random seed unless it is set.
/// let old = "0.11.2".parse()?;
/// assert!(Scheme::vllm(old, Algorithm::Sha256, None).is_err());
/// assert!(Scheme::vllm(old, Algorithm::Sha256, Some("0")).is_ok());
/// # Ok::<(), kvsched_hash::SchemeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme(pub(crate) Family);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Vllm(VllmScheme),
}

impl Scheme {
    /// The hashes of vLLM `version` with `--prefix-caching-hash-algo algorithm` and
    /// `PYTHONHASHSEED` set to `seed`, verbatim (`None`: unset).
    ///
    /// # Errors
    ///
    /// If the version does not have the algorithm, or without a seed hashes by a random one.
    pub fn vllm(
        version: VllmVersion,
        algorithm: Algorithm,
        seed: Option<&str>,
    ) -> Result<Self, SchemeError> {
        VllmScheme::new(version, algorithm, seed).map(Family::Vllm).map(Self)
    }

    /// The digest that stands in for the parent of every first block (vLLM's `NONE_HASH`).
    #[must_use]
    pub fn none_hash(&self) -> Digest {
        match &self.0 {
            Family::Vllm(vllm) => vllm.none_hash,
        }
    }

    /// Bytes of a digest.
    #[must_use]
    pub fn digest_len(&self) -> usize {
        match &self.0 {
            Family::Vllm(vllm) => vllm.algorithm.digest_len(),
        }
    }

    pub(crate) fn has_lookahead(&self) -> bool {
        match &self.0 {
            Family::Vllm(vllm) => vllm.has_lookahead(),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Family::Vllm(vllm) => {
                write!(f, "vLLM {} {}, seed ", vllm.version, vllm.algorithm)?;
                match &vllm.seed {
                    Some(seed) => write!(f, "{seed:?}"),
                    None => f.write_str("unset"),
                }
            }
        }
    }
}
