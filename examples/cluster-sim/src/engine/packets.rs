//! KV of documents that is reused at any position of a prompt: a KV Packet each (arXiv
//! 2604.13226), kept in host memory, whole or not at all.

use lru::LruCache;
use rustc_hash::FxBuildHasher;

/// A document in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name: a hash of its tokens.
    pub key: u64,
    /// Where it begins.
    pub start: u32,
    /// Its length.
    pub tokens: u32,
}

/// The packets of an engine.
#[derive(Debug)]
pub(super) struct Packets {
    room: u64,
    tokens: u64,
    held: LruCache<u64, u32, FxBuildHasher>,
    /// Packets that came (`true`) and went since the last announcement.
    pub(super) changes: Vec<(u64, bool)>,
}

impl Packets {
    /// At most `room` tokens.
    pub(super) fn new(room: u64) -> Self {
        let held = LruCache::unbounded_with_hasher(FxBuildHasher);
        Self { room, tokens: 0, held, changes: Vec::new() }
    }

    /// Whether it holds a document's packet, which is thereby used.
    pub(super) fn find(&mut self, document: &Document) -> bool {
        self.held.get(&document.key).is_some()
    }

    /// Keeps the packet of a document that was computed.
    pub(super) fn keep(&mut self, document: &Document) {
        if u64::from(document.tokens) > self.room || self.find(document) {
            return;
        }
        self.held.put(document.key, document.tokens);
        self.tokens += u64::from(document.tokens);
        self.changes.push((document.key, true));
        while self.tokens > self.room {
            let Some((gone, tokens)) = self.held.pop_lru() else { return };
            self.tokens -= u64::from(tokens);
            self.changes.push((gone, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Document, Packets};

    #[test]
    fn the_packet_used_longest_ago_makes_room() {
        let document = |key| Document { key, start: 0, tokens: 10 };
        let mut packets = Packets::new(25);
        packets.keep(&document(1));
        packets.keep(&document(2));
        assert!(packets.find(&document(1)));
        packets.keep(&document(3));
        assert_eq!(packets.changes, [(1, true), (2, true), (3, true), (2, false)]);
        assert!(!packets.find(&document(2)));
        packets.keep(&Document { tokens: 26, ..document(4) });
        assert!(!packets.find(&document(4)), "larger than all the room");
    }
}
