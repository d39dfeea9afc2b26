//! What entered a block's hash in which version.

use super::{Algorithm, VllmVersion};
use crate::SchemeError;

/// The seed when `PYTHONHASHSEED` is unset, since 0.29, for the cryptographic algorithms.
const UNSET_SEED: &str = "vllm-none-hash";

/// One row of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Digests are Python ints, and enter the next block's hash as such.
    pub(crate) int_digests: bool,
    /// Which of an adapter's three names enters.
    pub(crate) lora: LoraKey,
    /// A multimodal item enters with its offset.
    pub(crate) offsets: bool,
    /// A multimodal item that ends where a block begins still counts as in it.
    pub(crate) touching_items: bool,
    /// Keys carry a tag.
    pub(crate) tagged: bool,
    pub(crate) embeds: EmbedsKey,
    /// Blocks may be hashed with the tokens after them.
    pub(crate) lookahead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoraKey {
    IntId,
    Name,
    NameAndPath,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EmbedsKey {
    Unsupported,
    Raw,
    Sha256,
}

impl Rules {
    /// Not an engine's: the keys that engines announce with a block, told apart by tags, for
    /// the content scheme. Adapter paths are not announced.
    pub(crate) const CANONICAL: Self = Self {
        int_digests: false,
        lora: LoraKey::Name,
        offsets: true,
        touching_items: false,
        tagged: true,
        embeds: EmbedsKey::Sha256,
        lookahead: false,
    };

    pub(crate) const fn of(version: VllmVersion) -> Self {
        Self {
            int_digests: !version.at_least(10, 2),
            lora: if version.at_least(31, 0) {
                LoraKey::NameAndPath
            } else if version.at_least(11, 1) {
                LoraKey::Name
            } else {
                LoraKey::IntId
            },
            offsets: version.at_least(19, 0),
            touching_items: !version.at_least(19, 0),
            tagged: version.at_least(31, 0),
            embeds: if version.at_least(17, 0) {
                EmbedsKey::Sha256
            } else if version.at_least(11, 1) {
                EmbedsKey::Raw
            } else {
                EmbedsKey::Unsupported
            },
            lookahead: version.at_least(33, 0),
        }
    }
}

/// The seed that the engine uses, or why that cannot be known.
pub(crate) fn seed(
    version: VllmVersion,
    algorithm: Algorithm,
    seed: Option<&str>,
) -> Result<&str, SchemeError> {
    let exists = match algorithm {
        Algorithm::Sha256 => true,
        Algorithm::Sha256Cbor => version.at_least(10, 2),
        Algorithm::Sha256Cbor64Bit => version.at_least(10, 0) && !version.at_least(10, 2),
        Algorithm::XxHash | Algorithm::XxHashCbor => version.at_least(13, 0),
    };
    if !exists {
        return Err(SchemeError::AlgorithmNotInVersion { algorithm, version });
    }
    match seed {
        Some(seed) => Ok(seed),
        None if version.at_least(29, 0) && algorithm.is_cryptographic() => Ok(UNSET_SEED),
        None => Err(SchemeError::RandomSeed { algorithm, version }),
    }
}
