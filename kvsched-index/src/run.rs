//! What only writers know of a chain.

use kvsched_core::BlockHash;
use std::sync::atomic::{AtomicU64, Ordering};

/// Two words beside each chain. Whoever changes them has the chain's lock, or is alone.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The block before the first, if there is one.
    parent: AtomicU64,
    /// From the lowest: 16 bits of most blocks it ever had, 16 of flags, and when it was stored to.
    state: AtomicU64,
}

const HAS_PARENT: u64 = 1 << 16;
/// It waits for its parent.
const PENDING: u64 = 1 << 17;
/// It is in the list of those that lost a holder by a clear.
const STALE: u64 = 1 << 18;
const TOUCHED_SHIFT: u32 = 32;

impl Run {
    #[inline]
    fn state(&self) -> u64 {
        self.state.load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, state: u64) {
        self.state.store(state, Ordering::Relaxed);
    }

    fn flag(&self, flag: u64, is_set: bool) {
        self.set(if is_set { self.state() | flag } else { self.state() & !flag });
    }

    /// A chain begins, without blocks.
    pub(crate) fn begin(&self, parent: Option<BlockHash>, is_pending: bool, now: u32) {
        self.parent.store(parent.map_or(0, |p| p.0), Ordering::Relaxed);
        let parent = if parent.is_some() { HAS_PARENT } else { 0 };
        let pending = if is_pending { PENDING } else { 0 };
        self.set(u64::from(now) << TOUCHED_SHIFT | parent | pending);
    }

    pub(crate) fn parent(&self) -> Option<BlockHash> {
        let has_parent = self.state() & HAS_PARENT != 0;
        has_parent.then(|| BlockHash(self.parent.load(Ordering::Relaxed)))
    }

    /// When something of it was last stored.
    pub(crate) fn touched(&self) -> u32 {
        (self.state() >> TOUCHED_SHIFT) as u32
    }

    #[inline]
    pub(crate) fn touch(&self, now: u32) {
        let kept = self.state() as u32;
        self.set(u64::from(now) << TOUCHED_SHIFT | u64::from(kept));
    }

    /// Most blocks it ever had: hashes below are written for good.
    #[inline]
    pub(crate) fn written(&self) -> usize {
        usize::from(self.state() as u16)
    }

    /// Something was stored to it, and it has so many blocks now.
    #[inline]
    pub(crate) fn write(&self, blocks: usize, now: u32) {
        let flags = self.state() & 0xffff_0000;
        let most = self.written().max(blocks) as u64;
        self.set(u64::from(now) << TOUCHED_SHIFT | flags | most);
    }

    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.state() & PENDING != 0
    }

    /// Its parent is known.
    pub(crate) fn end_pending(&self) {
        self.flag(PENDING, false);
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.state() & STALE != 0
    }

    pub(crate) fn set_stale(&self, is_stale: bool) {
        self.flag(STALE, is_stale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_disturbs_its_neighbours() {
        let run = Run::default();
        run.begin(Some(BlockHash(7)), true, u32::MAX);
        run.write(4096, u32::MAX);
        run.set_stale(true);
        assert_eq!(
            (run.touched(), run.written(), run.parent()),
            (u32::MAX, 4096, Some(BlockHash(7)))
        );
        assert!(run.is_pending() && run.is_stale());
        run.end_pending();
        run.touch(2);
        assert_eq!((run.touched(), run.written(), run.is_stale()), (2, 4096, true));
        run.write(5, 3);
        assert_eq!((run.touched(), run.written(), run.parent()), (3, 4096, Some(BlockHash(7))));
        assert!(!run.is_pending() && run.is_stale());
        run.begin(None, false, 9);
        assert_eq!((run.touched(), run.written(), run.parent()), (9, 0, None));
        assert!(!run.is_pending() && !run.is_stale());
    }
}
