use crate::{Algorithm, VllmVersion};

/// Why a scheme cannot be reproduced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemeError {
    /// The text is not a version number.
    #[error("not a vLLM version: {text:?} (expected something like 0.33.0)")]
    VersionSyntax {
        /// The text, at most 64 characters of it.
        text: String,
    },
    /// Nothing is known about so old a version.
    #[error("vLLM {version} is older than 0.9.0, the first version with known block hashes")]
    VersionTooOld {
        /// The version asked for.
        version: VllmVersion,
    },
    /// No engine has an algorithm of that name.
    #[error("unknown prefix caching hash algorithm {name:?}")]
    UnknownAlgorithm {
        /// The name, at most 64 characters of it.
        name: String,
    },
    /// `builtin` is Python's `hash()`, which other processes cannot compute.
    #[error("algorithm `builtin` is not reproducible: it is Python's hash() of one process")]
    BuiltinAlgorithm,
    /// The version does not offer the algorithm.
    #[error("vLLM {version} has no algorithm `{algorithm}`")]
    AlgorithmNotInVersion {
        /// The algorithm asked for.
        algorithm: Algorithm,
        /// The version asked for.
        version: VllmVersion,
    },
    /// Without PYTHONHASHSEED that engine draws a random seed.
    #[error(
        "vLLM {version} with `{algorithm}` and PYTHONHASHSEED unset hashes with a random seed, \
         which is not reproducible: set PYTHONHASHSEED"
    )]
    RandomSeed {
        /// The algorithm asked for.
        algorithm: Algorithm,
        /// The version asked for.
        version: VllmVersion,
    },
    /// The seed, the secret or the model's name is longer than any should be.
    #[error("a seed, secret or model name of {len} bytes, more than {limit}")]
    SeedLength {
        /// Its length in bytes.
        len: usize,
        /// The longest accepted.
        limit: usize,
    },
}

impl SchemeError {
    /// The longest seed, secret or model name, in bytes.
    pub(crate) const MAX_SEED: usize = 4096;
}

/// Why a hasher cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The block size was not given, or no engine has it.
    #[error("block size {got} is not in 1..={max}")]
    BlockSize {
        /// What was asked for; 0 where nothing was.
        got: usize,
        /// The largest accepted.
        max: usize,
    },
    /// More lookahead than any engine has.
    #[error("lookahead of {got} tokens is more than {max}")]
    Lookahead {
        /// What was asked for.
        got: usize,
        /// The largest accepted.
        max: usize,
    },
    /// A memo too small to remember anything.
    #[error("a memo of {got} bytes, where one run of blocks takes {min}")]
    MemoBytes {
        /// What was asked for.
        got: usize,
        /// The least that works.
        min: usize,
    },
    /// A memo larger than the memory there is.
    #[error("a memo of {got} bytes, for which there is no memory")]
    MemoMemory {
        /// What was asked for.
        got: usize,
    },
    /// The scheme hashes a block's own tokens only.
    #[error("{scheme} has no lookahead hashes")]
    NoLookahead {
        /// The scheme's name.
        scheme: String,
    },
}

/// Why a prompt cannot be hashed. The output then holds nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// A token id that no engine accepts.
    #[error("token {token} at position {position} is above {limit}")]
    TokenRange {
        /// Its place in the prompt.
        position: usize,
        /// The id.
        token: u32,
        /// The largest accepted.
        limit: u32,
    },
    /// The scheme does not know this kind of extra key, and leaving it out would give the
    /// hash of another prompt.
    #[error("the scheme has no {key}")]
    UnsupportedKey {
        /// The kind of key.
        key: &'static str,
    },
    /// Multimodal items must be given in order of their offset.
    #[error("multimodal item {item} has offset {offset}, after one with {before}")]
    MultimodalOrder {
        /// The item's index.
        item: usize,
        /// Its offset.
        offset: u32,
        /// The offset of the item before it.
        before: u32,
    },
    /// The embeddings' bytes are not whole rows.
    #[error("{bytes} bytes of prompt embeddings are not rows of {row_bytes} bytes")]
    EmbedRows {
        /// Bytes given.
        bytes: usize,
        /// Bytes a row.
        row_bytes: usize,
    },
    /// The parent is not a digest of this scheme.
    #[error("a parent digest of {got} bytes, where the scheme has {want}")]
    ParentLength {
        /// Bytes given.
        got: usize,
        /// Bytes a digest of the scheme has.
        want: usize,
    },
    /// Hashing cannot go on after more blocks than the prompt has.
    #[error("cannot continue after {done} blocks of a prompt that has {blocks}")]
    PastTheEnd {
        /// Blocks said to be done.
        done: usize,
        /// Full blocks of the prompt.
        blocks: usize,
    },
    /// An event's tokens do not make whole blocks of both sizes.
    #[error("{tokens} tokens in blocks of {block_size}, hashed by {hashed}")]
    StoredShape {
        /// Tokens announced.
        tokens: usize,
        /// Tokens a block of the event.
        block_size: usize,
        /// Tokens a hashed block.
        hashed: usize,
    },
    /// The event continues blocks whose digest was not given.
    #[error("the event has a parent, but no digest of it was given")]
    MissingParent,
}
