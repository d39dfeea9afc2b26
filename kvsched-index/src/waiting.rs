//! Chains without a known parent, by the parent.

use crate::heap::table_bytes;
use crate::shared::WritePin;
use crate::turns::take;
use kvsched_core::BlockHash;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type ByParent = HashMap<BlockHash, Vec<u32>>;

/// Whoever adds to it is alone: a writer beside others finds it as it was when it came, or with less.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    by_parent: Mutex<ByParent>,
    parents: AtomicUsize,
}

impl Waiting {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.parents.load(Ordering::Relaxed) == 0
    }

    /// Whether a chain waits for one of `hashes`.
    pub(crate) fn awaits(&self, hashes: &[BlockHash]) -> bool {
        let known = |by_parent: &ByParent| hashes.iter().any(|h| by_parent.contains_key(h));
        !self.is_empty() && known(&take(&self.by_parent))
    }

    /// Changes it, and counts what that takes.
    fn change<R>(&self, pin: &WritePin, f: impl FnOnce(&mut ByParent) -> R) -> R {
        let mut by_parent = take(&self.by_parent);
        let bytes = |m: &ByParent| table_bytes::<(BlockHash, Vec<u32>)>(m.capacity());
        let before = bytes(&by_parent);
        let done = f(&mut by_parent);
        self.parents.store(by_parent.len(), Ordering::Relaxed);
        if by_parent.is_empty() {
            *by_parent = ByParent::new();
        }
        pin.recount(before, bytes(&by_parent));
        done
    }

    /// Chain `number` waits for `parent`.
    pub(crate) fn add(&self, parent: BlockHash, number: u32, pin: &WritePin) {
        self.change(pin, |m| m.entry(parent).or_default().push(number));
    }

    /// It waits no more.
    pub(crate) fn forget(&self, parent: BlockHash, number: u32, pin: &WritePin) {
        self.change(pin, |m| {
            if let Some(waiting) = m.get_mut(&parent) {
                waiting.retain(|&n| n != number);
                if waiting.is_empty() {
                    m.remove(&parent);
                }
            }
        });
    }

    /// Takes out those that wait for `parent`.
    pub(crate) fn arrived(&self, parent: BlockHash, pin: &WritePin) -> Vec<u32> {
        self.change(pin, |m| m.remove(&parent).unwrap_or_default())
    }
}
