/// How much an index holds and takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Endpoints are below this number.
    pub endpoints: usize,
    /// Distinct blocks that the index remembers; a few of them nobody may hold any more.
    pub blocks: usize,
    /// Runs of consecutive blocks that they are stored in.
    pub runs: usize,
    /// Blocks that wait for an unknown parent.
    pub pending: usize,
    /// Bytes allocated.
    pub bytes: usize,
    /// Blocks forgotten for want of budget, since the index was built. More than 0 means that matches
    /// may be too short.
    pub evicted: u64,
}
