//! `block_hashes*.json` and `block_hashes_legacy*.json`: what vLLM's own functions answered.

use crate::{DataError, Hex, read};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A file of block hashes of one engine version (or, in the legacy files, of several).
#[derive(Debug, Deserialize)]
pub struct BlockHashes {
    /// NONE_HASH by algorithm and seed.
    #[serde(default)]
    pub none_hashes: Vec<NoneHash>,
    /// Digests with a group id packed behind them.
    #[serde(default)]
    pub group_id_packing: Vec<GroupPacking>,
    /// Hashes seen in the larger blocks of a hybrid model's group.
    #[serde(default)]
    pub hybrid_views: Vec<HybridView>,
    /// Prompts and their block hashes.
    pub cases: Vec<Case>,
}

/// The parent of every first block.
#[derive(Debug, Deserialize)]
pub struct NoneHash {
    /// The engine's name of the algorithm.
    pub algo: String,
    /// `PYTHONHASHSEED`; `None` where unset.
    pub hash_seed: Option<String>,
    /// The digest.
    pub none_hash: Hex,
}

/// The engine's internal key: a digest and a group id.
#[derive(Debug, Deserialize)]
pub struct GroupPacking {
    /// The digest.
    pub block_hash: Hex,
    /// The group.
    pub group_id: u32,
    /// Both in one.
    pub packed: Hex,
}

/// Hashes of blocks of `hash_block_size`, seen as blocks of `target_block_size`.
#[derive(Debug, Deserialize)]
pub struct HybridView {
    /// Tokens a hashed block.
    pub hash_block_size: usize,
    /// Tokens a block of the group.
    pub target_block_size: usize,
    /// The engine's name of the algorithm.
    pub algo: String,
    /// `PYTHONHASHSEED`; `None` where unset.
    pub hash_seed: Option<String>,
    /// The prompt.
    pub token_ids: Vec<u32>,
    /// Digests of the hashed blocks.
    pub hash_block_hashes: Vec<Hex>,
    /// Digests of the group's blocks.
    pub target_block_hashes: Vec<Hex>,
}

/// One prompt and what the engine answered.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The case's name.
    pub name: String,
    /// The engine version; absent in files of one version.
    pub vllm_version: Option<String>,
    /// The engine's name of the algorithm.
    pub algo: String,
    /// `PYTHONHASHSEED`; `None` where unset.
    pub hash_seed: Option<String>,
    /// Tokens a block.
    pub block_size: usize,
    /// Tokens after the block that enter its hash.
    #[serde(default)]
    pub num_hash_lookahead_tokens: usize,
    /// The prompt.
    pub token_ids: Vec<u32>,
    /// What else enters the hashes.
    pub extra: Extra,
    /// The parent of the first block.
    pub none_hash: Option<Hex>,
    /// The answer.
    pub expected: Expected,
}

/// Inputs besides the tokens.
#[derive(Debug, Default, Deserialize)]
pub struct Extra {
    /// The adapter's name.
    pub lora_name: Option<String>,
    /// The adapter's path.
    pub lora_path: Option<String>,
    /// The adapter's number.
    pub lora_int_id: Option<i64>,
    /// The cache salt.
    pub cache_salt: Option<String>,
    /// Multimodal items.
    #[serde(default)]
    pub mm_features: Vec<MmFeature>,
    /// Prompt embeddings.
    pub prompt_embeds: Option<Embeds>,
}

/// A multimodal item.
#[derive(Debug, Deserialize)]
pub struct MmFeature {
    /// Its identifier.
    pub identifier: String,
    /// Its first token.
    pub offset: u32,
    /// Its number of tokens.
    pub length: u32,
}

/// A tensor of prompt embeddings.
#[derive(Debug, Deserialize)]
pub struct Embeds {
    /// The element type's name.
    pub dtype: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The bytes, row by row, little-endian.
    pub raw_le_hex: Hex,
}

impl Embeds {
    /// Bytes of one row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.raw_le_hex.0.len().checked_div(self.shape[0]).unwrap_or(0)
    }
}

/// What the engine answered.
#[derive(Debug, Deserialize)]
pub struct Expected {
    /// Full digests.
    pub hashes: Vec<Hex>,
    /// The 64-bit names that events carry.
    pub external_ids_u64: Vec<u64>,
    /// Extra keys as hashed, a list or null a block.
    pub hash_extra_keys: Option<Vec<Value>>,
    /// Extra keys as announced, a list or null a block.
    pub event_extra_keys: Option<Vec<Value>>,
}

impl BlockHashes {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is not of this format; the error names the line.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        read::json(path)
    }

    /// How many single answers the file holds.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.cases.len()
            + self.none_hashes.len()
            + self.group_id_packing.len()
            + self.hybrid_views.len()
    }
}
