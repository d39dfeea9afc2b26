//! Where events meet hashing: what an announced block is called in the index.

use kvsched_core::{BlockHash, Stored};
use kvsched_hash::{BlockHasher, Digest, group_view};
use kvsched_index::Identity;

/// Calls `f` with the way in which announced hashes become those that `hasher` computes.
///
/// An engine whose scheme is computed announces them as they are. For every other scheme they
/// come from the announced tokens; what those do not tell is left out of the index and counted
/// ([`Applied::unnamed`](kvsched_index::Applied::unnamed)).
pub(crate) fn with_identity<R>(hasher: &BlockHasher, f: impl FnOnce(&mut Identity<'_>) -> R) -> R {
    if hasher.scheme().is_announced() {
        return f(&mut Identity::Engine);
    }
    let mut digests = Vec::new();
    let mut naming =
        |stored: &Stored<'_>, parent: Option<BlockHash>, names: &mut Vec<BlockHash>| {
            let parent = parent.map(Digest::from);
            if hasher.hash_stored_into(stored, parent, &mut digests).is_err() {
                return false;
            }
            let ratio = stored.block_size as usize / hasher.block_size();
            let named = group_view(&digests, ratio);
            names.extend(named.map(|digest| hasher.scheme().block_hash(digest)));
            true
        };
    f(&mut Identity::Content(&mut naming))
}
