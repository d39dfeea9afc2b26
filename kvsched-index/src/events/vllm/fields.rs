//! The events' declarations, as data: which field is called what, since when, and where.

use super::Version;

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Hashes,
    Parent,
    Tokens,
    BlockSize,
    LoraId,
    Medium,
    LoraName,
    ExtraKeys,
    Group,
    SpecKind,
    SlidingWindow,
    Locality,
    Ownership,
    SessionId,
    Lookahead,
    CacheSalt,
}

impl Field {
    /// A bit of its own.
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// How an event's class declares a field.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) field: Field,
    pub(super) name: &'static str,
    /// The first release that has it.
    pub(super) since: Version,
    /// Whether it has no default, so that a map holds it even when it is nil.
    pub(super) required: bool,
}

const fn required(field: Field, name: &'static str, minor: u16, patch: u16) -> Declared {
    Declared { field, name, since: Version::of(minor, patch), required: true }
}

const fn optional(field: Field, name: &'static str, minor: u16) -> Declared {
    Declared { field, name, since: Version::of(minor, 0), required: false }
}

pub(super) const STORED_TAG: &str = "BlockStored";
pub(super) const REMOVED_TAG: &str = "BlockRemoved";
pub(super) const CLEARED_TAG: &str = "AllBlocksCleared";

/// `BlockStored`, in the order of an array's elements.
pub(super) const STORED: [Declared; 15] = [
    required(Field::Hashes, "block_hashes", 9, 0),
    required(Field::Parent, "parent_block_hash", 9, 0),
    required(Field::Tokens, "token_ids", 9, 0),
    required(Field::BlockSize, "block_size", 9, 0),
    required(Field::LoraId, "lora_id", 9, 0),
    required(Field::Medium, "medium", 10, 2),
    required(Field::LoraName, "lora_name", 14, 0),
    optional(Field::ExtraKeys, "extra_keys", 17),
    optional(Field::Group, "group_idx", 20),
    optional(Field::SpecKind, "kv_cache_spec_kind", 22),
    optional(Field::SlidingWindow, "kv_cache_spec_sliding_window", 22),
    optional(Field::Locality, "locality", 26),
    optional(Field::Ownership, "ownership", 29),
    optional(Field::SessionId, "session_id", 30),
    optional(Field::Lookahead, "lookahead_token_ids", 33),
];

/// `BlockRemoved`, in the order of an array's elements.
pub(super) const REMOVED: [Declared; 5] = [
    required(Field::Hashes, "block_hashes", 9, 0),
    required(Field::Medium, "medium", 10, 2),
    optional(Field::Group, "group_idx", 20),
    optional(Field::Locality, "locality", 26),
    optional(Field::Ownership, "ownership", 29),
];

/// The field of a map's key.
pub(super) fn named(key: &[u8]) -> Option<Field> {
    // SGLang's own field; everything else is vLLM's.
    if key == b"cache_salt" {
        return Some(Field::CacheSalt);
    }
    STORED.iter().find(|d| d.name.as_bytes() == key).map(|d| d.field)
}
