use std::fmt;

/// Where a block's KV lies, ordered from fastest to slowest.
///
/// The four tiers of the field have names; an embedder with more (or others) may use the
/// numbers up to [`Tier::MAX`]. A lower number is a faster tier: where a block lies in
/// several tiers, the lowest one serves it.
///
/// A tier is not the engine's *medium* string: see [`Medium`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Tier(u8);

impl Tier {
    /// Accelerator memory: the block can be used in place.
    pub const DEVICE: Self = Self(0);
    /// Memory of the engine's host.
    pub const HOST: Self = Self(1);
    /// A disk of the engine's host.
    pub const DISK: Self = Self(2);
    /// A store that several endpoints share.
    pub const SHARED: Self = Self(3);
    /// The slowest tier there is; also where a block of an unrecognised medium is booked,
    /// so that it is never priced like device memory.
    pub const MAX: Self = Self(7);
    /// How many tiers can exist.
    pub const COUNT: usize = Self::MAX.0 as usize + 1;

    /// Tier number `n`, or `None` above [`Tier::MAX`].
    ///
    /// ```
    /// use kvsched_core::Tier;
    /// assert_eq!(Tier::new(1), Some(Tier::HOST));
    /// assert_eq!(Tier::new(8), None);
    /// ```
    #[must_use]
    pub const fn new(n: u8) -> Option<Self> {
        if n <= Self::MAX.0 { Some(Self(n)) } else { None }
    }

    /// The tier as an array index, below [`Tier::COUNT`].
    #[inline]
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Tier {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Tier {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = u8::deserialize(deserializer)?;
        let no_tier =
            || serde::de::Error::custom(format_args!("tier {n} is above {}", Self::MAX.0));
        Self::new(n).ok_or_else(no_tier)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DEVICE => f.write_str("device"),
            Self::HOST => f.write_str("host"),
            Self::DISK => f.write_str("disk"),
            Self::SHARED => f.write_str("shared"),
            Self(n) => write!(f, "tier {n}"),
        }
    }
}

/// The engine's own word for a storage medium, as it stands in an event.
///
/// ```
/// use kvsched_core::{Medium, Tier};
/// assert_eq!(Medium("GPU").tier(), Some(Tier::DEVICE));
/// assert_eq!(Medium("cpu").tier(), Some(Tier::HOST));
/// assert_eq!(Medium("tape").tier(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Medium<'a>(pub &'a str);

impl Medium<'_> {
    /// The tier that this medium is in vLLM, its connectors and SGLang, compared without
    /// regard to case; `None` for a word we do not know.
    ///
    /// Source of the words: vLLM 0.9 to 0.33 (`GPU`, `CPU`, `STORAGE`, `FS`, `OBJ`),
    /// Mooncake's connector (`cpu`), SGLang (`CPU_PINNED`, `CPU_TIER1`, `CPU_TIER2`, `DISK`,
    /// `EXTERNAL`), LMCache and NIXL (`DRAM`, `SSD`, `NVME`, `REMOTE`).
    #[must_use]
    pub fn tier(self) -> Option<Tier> {
        const WORDS: [(&str, Tier); 16] = [
            ("gpu", Tier::DEVICE),
            ("hbm", Tier::DEVICE),
            ("vram", Tier::DEVICE),
            ("cpu", Tier::HOST),
            ("cpu_pinned", Tier::HOST),
            ("cpu_tier1", Tier::HOST),
            ("cpu_tier2", Tier::HOST),
            ("dram", Tier::HOST),
            ("disk", Tier::DISK),
            ("storage", Tier::DISK),
            ("fs", Tier::DISK),
            ("ssd", Tier::DISK),
            ("nvme", Tier::DISK),
            ("obj", Tier::SHARED),
            ("external", Tier::SHARED),
            ("remote", Tier::SHARED),
        ];
        WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(self.0)).map(|&(_, tier)| tier)
    }
}
