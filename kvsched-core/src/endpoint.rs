use std::fmt;

/// What a pick returns: one engine process, or one data-parallel rank of it.
///
/// Ids are dense (a registry hands them out from zero), so that matches, loads and scores
/// can be plain arrays. At most 65,535 endpoints exist at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(transparent)]
pub struct EndpointId(pub u16);

impl EndpointId {
    /// The id as an array index.
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint {}", self.0)
    }
}

/// A KV-cache group of a hybrid model (vLLM's `group_idx`), 0 where there is only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Group(pub u8);

/// A LoRA adapter, by the dense id that a registry gave its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(transparent)]
pub struct LoraId(pub u32);
