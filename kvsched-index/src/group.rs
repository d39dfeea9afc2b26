use kvsched_core::{EndpointId, Group};

/// Which blocks a KV-cache group must hold for a prefix to be usable.
///
/// A prefix of `p` tokens is usable where *every* group of the endpoint agrees; what is
/// reported is the longest such prefix, not the shortest of the groups' own answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupRule {
    /// Full attention: all blocks before `p`.
    #[default]
    Full,
    /// A sliding window: the last `⌈(tokens − 1) / block⌉` blocks before `p`, since the token to
    /// be computed is in the window itself.
    SlidingWindow {
        /// The window, in tokens; not 0.
        tokens: u32,
    },
    /// Attention within chunks: the blocks from the last multiple of `tokens` to `p`.
    ChunkedLocal {
        /// The chunk, in tokens: a multiple of the block size, not 0.
        tokens: u32,
    },
    /// A recurrent state (Mamba): exactly the block that ends at `p`.
    Recurrent,
    /// A group that has no say, such as one that caches nothing reusable.
    Ignored,
}

/// Why a group's rule was refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The endpoint's id is out of range.
    #[error("{0} is out of range: ids are 0 to 65534")]
    Endpoint(EndpointId),
    /// A group's blocks consist of whole hashed blocks.
    #[error("group {}: blocks of {block_size} tokens are no multiple of the index's {unit}", group.0)]
    BlockSize {
        /// The group.
        group: Group,
        /// Tokens a block of it.
        block_size: u32,
        /// Tokens a block of the index.
        unit: u32,
    },
    /// A window of no tokens, or a chunk of no whole blocks.
    #[error("group {}: a window of {tokens} tokens does not fit blocks of {block_size}", group.0)]
    Window {
        /// The group.
        group: Group,
        /// The window or chunk.
        tokens: u32,
        /// Tokens a block of the group.
        block_size: u32,
    },
    /// The rule came after blocks of that group.
    #[error("group {} of {endpoint} already holds blocks under another rule: clear it first", group.0)]
    InUse {
        /// The endpoint.
        endpoint: EndpointId,
        /// The group.
        group: Group,
    },
}

/// One group of one endpoint, with its rule in hashed blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grouping {
    pub(crate) rule: GroupRule,
    /// Hashed blocks a block of this group.
    pub(crate) ratio: u32,
    /// Tokens a block of this group.
    pub(crate) block_size: u32,
}

impl Grouping {
    /// Checks a rule against the block size of the index.
    pub(crate) fn new(
        group: Group,
        rule: GroupRule,
        block_size: u32,
        unit: u32,
    ) -> Result<Self, GroupError> {
        if block_size == 0 || !block_size.is_multiple_of(unit) {
            return Err(GroupError::BlockSize { group, block_size, unit });
        }
        let fits = match rule {
            GroupRule::SlidingWindow { tokens } => tokens > 0,
            GroupRule::ChunkedLocal { tokens } => tokens > 0 && tokens.is_multiple_of(block_size),
            _ => true,
        };
        match rule {
            GroupRule::SlidingWindow { tokens } | GroupRule::ChunkedLocal { tokens } if !fits => {
                Err(GroupError::Window { group, tokens, block_size })
            }
            _ => Ok(Self { rule, ratio: block_size / unit, block_size }),
        }
    }

    /// The group of an engine that announces none: full attention, one hash a block.
    pub(crate) const fn plain(unit: u32) -> Self {
        Self { rule: GroupRule::Full, ratio: 1, block_size: unit }
    }

    /// Whether its blocks are the hashed blocks of whole prefixes, so that chains hold them.
    pub(crate) fn is_chained(self) -> bool {
        self.rule == GroupRule::Full && self.ratio == 1
    }

    /// The longest usable prefix of at most `limit` hashed blocks, where `holds(i)` says whether
    /// the group holds the block whose hash is the prompt's `i`-th.
    pub(crate) fn longest(self, limit: usize, holds: impl Fn(usize) -> bool) -> usize {
        let ratio = self.ratio as usize;
        let held = |block: usize| holds((block + 1) * ratio - 1);
        let blocks = limit / ratio;
        let usable = match self.rule {
            GroupRule::Ignored => return limit,
            GroupRule::Full => (0..blocks).find(|&b| !held(b)).unwrap_or(blocks),
            GroupRule::Recurrent => (0..blocks).rev().find(|&b| held(b)).map_or(0, |b| b + 1),
            GroupRule::SlidingWindow { tokens } => {
                let window = (tokens - 1).div_ceil(self.block_size) as usize;
                let mut end = blocks;
                let mut block = blocks;
                while block > 0 && end - block < window {
                    block -= 1;
                    if !held(block) {
                        end = block;
                    }
                }
                end
            }
            GroupRule::ChunkedLocal { tokens } => {
                let chunk = (tokens / self.block_size) as usize;
                let start = blocks / chunk * chunk;
                (start..blocks).find(|&b| !held(b)).unwrap_or(blocks)
            }
        };
        usable * ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules as the sentences say them: is a prefix of exactly `p` blocks usable?
    fn usable(g: Grouping, p: usize, held: &[bool]) -> bool {
        let ratio = g.ratio as usize;
        let (p_blocks, block) = (p / ratio, g.block_size as usize);
        let has = |b: usize| held[(b + 1) * ratio - 1];
        p.is_multiple_of(ratio)
            && match g.rule {
                GroupRule::Full => (0..p_blocks).all(has),
                GroupRule::SlidingWindow { tokens } => {
                    let w = (tokens as usize - 1).div_ceil(block);
                    (p_blocks.saturating_sub(w)..p_blocks).all(has)
                }
                GroupRule::ChunkedLocal { tokens } => {
                    let start = p_blocks * block / tokens as usize * tokens as usize / block;
                    (start..p_blocks).all(has)
                }
                GroupRule::Recurrent => p_blocks == 0 || has(p_blocks - 1),
                GroupRule::Ignored => true,
            }
    }

    proptest::proptest! {
        #[test]
        fn longest_is_the_longest_usable(
            held in proptest::collection::vec(proptest::bool::weighted(0.8), 0..40),
            rule in 0..4, tokens in 1u32..200, ratio in 1u32..4,
        ) {
            let rule = match rule {
                0 => GroupRule::Full,
                1 => GroupRule::SlidingWindow { tokens },
                2 => GroupRule::ChunkedLocal { tokens: tokens.div_ceil(16 * ratio) * 16 * ratio },
                _ => GroupRule::Recurrent,
            };
            let g = Grouping::new(Group(0), rule, 16 * ratio, 16).unwrap();
            let truth = (0..=held.len()).rev().find(|&p| usable(g, p, &held)).unwrap();
            proptest::prop_assert_eq!(g.longest(held.len(), |i| held[i]), truth);
        }
    }

    #[test]
    fn rules_that_fit_nothing_are_refused() {
        let new = |rule, block| Grouping::new(Group(1), rule, block, 16);
        assert!(matches!(new(GroupRule::Full, 24), Err(GroupError::BlockSize { unit: 16, .. })));
        assert!(matches!(new(GroupRule::Full, 0), Err(GroupError::BlockSize { .. })));
        let none = GroupRule::SlidingWindow { tokens: 0 };
        assert!(matches!(new(none, 16), Err(GroupError::Window { .. })));
        let odd = GroupRule::ChunkedLocal { tokens: 24 };
        assert!(matches!(new(odd, 16), Err(GroupError::Window { tokens: 24, .. })));
    }
}
