use crate::{Algorithm, Digest, LlmdAlgorithm, SchemeError, VllmVersion};
use crate::{content::ContentScheme, llmd::LlmdScheme, span, vllm::VllmScheme};
use kvsched_core::BlockHash;
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
    Content(ContentScheme),
    Llmd(LlmdScheme),
    Sglang,
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

    /// kvsched's own hashes of what the blocks hold, for engines whose hashes need not or
    /// cannot be imitated: tokens in, 64 bits out, several times faster than any engine's.
    ///
    /// Prompts of different models never share a hash; nor do LoRA adapters (by name), cache
    /// salts and multimodal items, which are read from the prompt. `secret` is up to the
    /// embedder: with 16 or more random bytes that tenants do not know, none of them can make
    /// two prompts collide on purpose (chance at most about 2⁻⁶⁴ a pair of blocks). All
    /// replicas that exchange knowledge must share it. The hashes of one model and secret
    /// stay what they are across releases.
    ///
    /// # Errors
    ///
    /// If the model's name or the secret is longer than 4096 bytes.
    ///
    /// ```
    /// # use kvsched_core::Prompt;
    /// # use kvsched_hash::{BlockHasher, Scheme};
    /// let scheme = Scheme::content("llama-3.1-8b", b"sixteen or more random bytes")?;
    /// let hasher = BlockHasher::builder(scheme).block_size(16).build()?;
    /// let (mut a, mut b) = (Vec::new(), Vec::new());
    /// hasher.hash_into(&Prompt::new(&[7; 32]), &mut a)?;
    /// hasher.hash_into(&Prompt::new(&[7; 48]), &mut b)?;
    /// assert_eq!(a, b[..2]); // equal prefixes, equal hashes
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn content(model: &str, secret: &[u8]) -> Result<Self, SchemeError> {
        ContentScheme::new(model, secret).map(Family::Content).map(Self)
    }

    /// The block keys of llm-d's own index with `hashSeed` `seed`, for the model of that name.
    ///
    /// Its keys know multimodal items by identifier only, and neither LoRA adapters nor cache
    /// salts; prompts with those are refused here, because llm-d's key would be shared by
    /// blocks that differ.
    ///
    /// # Errors
    ///
    /// If the seed or the model's name is longer than 4096 bytes.
    pub fn llmd(algorithm: LlmdAlgorithm, seed: &str, model: &str) -> Result<Self, SchemeError> {
        LlmdScheme::new(algorithm, seed, model).map(Family::Llmd).map(Self)
    }

    /// SGLang's page hashes, as its events announce them (a signed 64-bit number there, the
    /// same bits here). The block size is its `page_size`; with EAGLE set a lookahead of 1.
    /// A cache salt is hashed as 0.5.23 does; LoRA adapters are refused.
    #[must_use]
    pub const fn sglang() -> Self {
        Self(Family::Sglang)
    }

    /// The digest that stands in for the parent of every first block (vLLM's `NONE_HASH`);
    /// of no bytes in SGLang, which has none.
    #[must_use]
    pub fn none_hash(&self) -> Digest {
        match &self.0 {
            Family::Vllm(vllm) => vllm.none_hash,
            Family::Content(content) => Digest::from_u64(content.root),
            Family::Llmd(llmd) => Digest::from_u64(llmd.root),
            Family::Sglang => Digest::NONE,
        }
    }

    /// Bytes of a digest.
    #[must_use]
    pub fn digest_len(&self) -> usize {
        match &self.0 {
            Family::Vllm(vllm) => vllm.algorithm.digest_len(),
            Family::Content(_) | Family::Llmd(_) => 8,
            Family::Sglang => 32,
        }
    }

    /// The 64-bit name under which the engine announces the block with this digest.
    #[inline]
    #[must_use]
    pub fn block_hash(&self, digest: &Digest) -> BlockHash {
        match &self.0 {
            Family::Sglang => digest.first_eight(),
            _ => digest.block_hash(),
        }
    }

    /// Whether an engine of this scheme announces these very hashes in its events. Where it
    /// does not (the content scheme, llm-d's keys), events must be hashed from their tokens:
    /// [`BlockHasher::hash_stored_into`](crate::BlockHasher::hash_stored_into).
    #[must_use]
    pub const fn is_announced(&self) -> bool {
        matches!(self.0, Family::Vllm(_) | Family::Sglang)
    }

    /// The most tokens of lookahead.
    pub(crate) fn max_lookahead(&self) -> usize {
        match &self.0 {
            Family::Vllm(vllm) if vllm.has_lookahead() => span::MAX_BLOCK_SIZE,
            // Bigrams.
            Family::Sglang => 1,
            Family::Vllm(_) | Family::Content(_) | Family::Llmd(_) => 0,
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
            Family::Content(content) => content.fmt(f),
            Family::Llmd(llmd) => llmd.fmt(f),
            Family::Sglang => f.write_str("SGLang"),
        }
    }
}
