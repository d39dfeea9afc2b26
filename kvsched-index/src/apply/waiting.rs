use crate::Holder;
use crate::events::vllm::{Version, encode};
use kvsched_core::{EngineHash, Event, Stored};
use std::collections::BTreeMap;

/// Stores whose blocks cannot be named before their parent is: kept as the message that
/// announced them, which is their smallest form.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    children: BTreeMap<EngineHash, Vec<Child>>,
    /// How often each hash waits.
    announced: BTreeMap<EngineHash, u32>,
    /// How often it was removed meanwhile; at most as often as it waits.
    removed: BTreeMap<(Holder, EngineHash), u32>,
    bytes: usize,
}

/// One store that waits.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) holder: Holder,
    pub(super) payload: Vec<u8>,
    pub(super) hashes: Vec<EngineHash>,
}

/// Most bytes that may wait for one endpoint: some hundred thousand tokens.
const LIMIT: usize = 1 << 20;

/// What a waiting hash takes in its three places.
const HASH_BYTES: usize = 80;

impl Child {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.payload.len() + self.hashes.len() * HASH_BYTES
    }
}

impl Waiting {
    /// Keeps a store until its parent has a name. Returns how many blocks had to be given up
    /// for want of room: what waits longest waits in vain, so all go at once.
    pub(super) fn push(&mut self, holder: Holder, stored: &Stored<'_>) -> usize {
        let Some(parent) = stored.parent else { return 0 };
        let mut payload = Vec::new();
        let event = Event::Stored(*stored);
        encode(Version::NEWEST, 0.0, None, &[event.into()], &mut payload);
        let child = Child { holder, payload, hashes: stored.hashes.to_vec() };
        let mut given_up = 0;
        if self.bytes + child.bytes() > LIMIT {
            given_up = self.children.values().flatten().map(|c| c.hashes.len()).sum();
            self.clear();
        }
        if child.bytes() > LIMIT {
            return given_up + child.hashes.len();
        }
        self.bytes += child.bytes();
        for &hash in &child.hashes {
            *self.announced.entry(hash).or_default() += 1;
        }
        self.children.entry(parent).or_default().push(child);
        given_up
    }

    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// The stores that wait for `parent`, in the order they came.
    pub(super) fn take_children(&mut self, parent: EngineHash) -> Vec<Child> {
        let children = self.children.remove(&parent).unwrap_or_default();
        self.bytes -= children.iter().map(Child::bytes).sum::<usize>();
        children
    }

    /// Notes a removal of what waits; nothing for a hash that does not.
    pub(super) fn note_removed(&mut self, holder: Holder, hash: EngineHash) {
        let waiting = self.announced.get(&hash).copied().unwrap_or(0);
        if waiting > 0 {
            let removed = self.removed.entry((holder, hash)).or_default();
            *removed = waiting.min(*removed + 1);
        }
    }

    /// Whether a hash of a taken child was removed while it waited. Asked once for each.
    pub(super) fn was_removed(&mut self, holder: Holder, hash: EngineHash) -> bool {
        if let Some(waiting) = self.announced.get_mut(&hash) {
            *waiting -= 1;
            if *waiting == 0 {
                self.announced.remove(&hash);
            }
        }
        let Some(removed) = self.removed.get_mut(&(holder, hash)) else { return false };
        *removed -= 1;
        if *removed == 0 {
            self.removed.remove(&(holder, hash));
        }
        true
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
