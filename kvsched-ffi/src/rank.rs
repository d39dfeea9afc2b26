use kvsched::{RouteScratch, Router, Tier};

/// `kvsched_ranked.flags`: the endpoint was chosen.
pub const KVSCHED_RANKED_CHOSEN: u32 = 1;
/// `kvsched_ranked.flags`: a filter dropped the endpoint; its score is 0.
pub const KVSCHED_RANKED_DROPPED: u32 = 2;
/// How many tiers of memory a block may lie in: 0 is the device, 1 its host, 2 a disk, 3 a shared
/// store; the others are the embedder's, the last one also that of an unknown medium.
pub const KVSCHED_TIERS: usize = 8;

const _: () = assert!(KVSCHED_TIERS == Tier::COUNT);

/// What became of one candidate.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Ranked {
    /// Its final score, 0 to 1, higher is better.
    pub score: f64,
    /// Who.
    pub endpoint: u32,
    /// `KVSCHED_RANKED_…`, or-ed.
    pub flags: u32,
    /// Leading prompt blocks it holds in any tier.
    pub matched_blocks: u32,
    /// Those of them that each tier serves, being the fastest that holds them.
    pub tier_blocks: [u32; KVSCHED_TIERS],
}

/// All candidates of the last decision: the chosen one, the others by falling score, the dropped.
pub(crate) fn rank(router: &Router, scratch: &RouteScratch) -> Vec<Ranked> {
    let Some(receipt) = router.receipt(scratch) else {
        return Vec::new();
    };
    let matches = scratch.matches();
    let rows = receipt.rows.iter().enumerate().map(|(i, row)| {
        let chosen = if i == receipt.chosen { KVSCHED_RANKED_CHOSEN } else { 0 };
        let dropped = if row.dropped_by.is_some() { KVSCHED_RANKED_DROPPED } else { 0 };
        let tier = |t| Tier::new(t as u8).map_or(0, |tier| matches.blocks_on(row.endpoint, tier));
        Ranked {
            score: row.sum,
            endpoint: row.endpoint.0.into(),
            flags: chosen | dropped,
            matched_blocks: row.matched_blocks,
            tier_blocks: std::array::from_fn(tier),
        }
    });
    let mut rows: Vec<Ranked> = rows.collect();
    // Stable: what scores alike stays in the caller's order.
    rows.sort_by(|a, b| {
        let class = |row: &Ranked| (row.flags & KVSCHED_RANKED_CHOSEN == 0, row.flags);
        class(a).cmp(&class(b)).then(b.score.total_cmp(&a.score))
    });
    rows
}
