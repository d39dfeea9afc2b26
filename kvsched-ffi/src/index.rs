use crate::boundary::boundary;
use crate::handle::{self, Kind};
use crate::memory::{Out, OutSlice, hand_over, optional, slice};
use crate::scheduler::endpoint_id;
use crate::scratch::{Scratch, lock};
use crate::snapshot::{Snapshot, Unread};
use crate::status::{Error, Failure, Status};
use kvsched::index::{IndexBuilder, Repeat};
use kvsched::{BlockHash, Holder, SharedIndex, Tier};

/// Who holds which blocks, without a scheduler around it. Any number of threads may use one at a time,
/// with any calls but `kvsched_index_free`; matching takes no lock.
#[derive(Debug)]
pub struct Index(());

impl Kind for Index {
    const MAGIC: u64 = u64::from_le_bytes(*b"kvsinde1");
    type State = SharedIndex;
}

/// What an index holds.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct IndexStats {
    /// Distinct blocks.
    pub blocks: u64,
    /// Blocks that wait for an unknown parent.
    pub pending: u64,
    /// Bytes allocated.
    pub bytes: u64,
    /// Blocks forgotten for want of budget: if more than 0, matches may be too short.
    pub evicted: u64,
}

pub(crate) fn build(block_size: u32, byte_budget: usize) -> Result<SharedIndex, Failure> {
    let builder = IndexBuilder::default().block_size(block_size);
    let builder = if byte_budget == 0 { builder } else { builder.byte_budget(byte_budget) };
    builder.build_shared().map_err(Failure::of(Status::InvalidArgument))
}

/// A new index of blocks of `block_size` tokens, in at most `byte_budget` bytes, 65,536 or more; 0 for
/// no limit. The handle in `out` is the caller's to free with `kvsched_index_free`.
///
/// Fails with `INVALID_ARGUMENT` for sizes out of range.
///
/// # Safety
///
/// `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_index_new(
    block_size: u32,
    byte_budget: usize,
    out: *mut *mut Index,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new("out", out) }?;
        handle::create(build(block_size, byte_budget)?, out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Frees an index and sets `*index` to NULL. NULL, or a pointer to NULL, is passed over.
///
/// # Safety
///
/// `*index` is NULL or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_index_free(index: *mut *mut Index) -> Status {
    // SAFETY: the caller's promise.
    unsafe { boundary(std::ptr::null_mut(), || handle::free("index", index)) }
}

/// Says that `endpoint` holds consecutive blocks in `tier`, behind the block `parent` or, if that is NULL,
/// from a prompt's first block on.
///
/// Fails with `INVALID_ARGUMENT` for an endpoint of 65,535 or more or a tier of `KVSCHED_TIERS` or more,
/// and if the blocks contradict what is known of their parents.
///
/// # Safety
///
/// `index` is a handle; `parent` is NULL or readable; `hashes_len` hashes are readable; `error` is NULL
/// or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_index_store(
    index: *const Index,
    endpoint: u32,
    tier: u32,
    parent: *const u64,
    hashes: *const u64,
    hashes_len: usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (index, parent, hashes) = unsafe {
            (
                handle::borrow("index", index)?,
                optional("parent", parent)?,
                slice("hashes", hashes, hashes_len)?,
            )
        };
        let holder = holder(endpoint, tier)?;
        let parent = parent.map(|&hash| BlockHash(hash));
        let hashes: Vec<BlockHash> = hashes.iter().map(|&hash| BlockHash(hash)).collect();
        let stored = index.store(holder, parent, &hashes, Repeat::Known);
        stored.map_err(Failure::of(Status::InvalidArgument))?;
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Says that `endpoint` no longer holds blocks in `tier`, in any order. Those that it does not hold are
/// passed over.
///
/// Fails as `kvsched_index_store`.
///
/// # Safety
///
/// As `kvsched_index_store`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_index_remove(
    index: *const Index,
    endpoint: u32,
    tier: u32,
    hashes: *const u64,
    hashes_len: usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (index, hashes) =
            unsafe { (handle::borrow("index", index)?, slice("hashes", hashes, hashes_len)?) };
        let hashes: Vec<BlockHash> = hashes.iter().map(|&hash| BlockHash(hash)).collect();
        index.remove(holder(endpoint, tier)?, &hashes);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Says that `endpoint` holds nothing any more, in any tier.
///
/// # Safety
///
/// `index` is a handle, `error` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_index_clear(
    index: *const Index,
    endpoint: u32,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let index = unsafe { handle::borrow("index", index) }?;
        index.remove_endpoint(endpoint_id(endpoint)?);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// How many leading blocks of a prompt every endpoint holds, by endpoint number: `hashes` are the
/// prompt's, as `kvsched_hasher_hash` gives them. `len` becomes how many rows there are, also where
/// `blocks_cap` is too small for them (`BUFFER_TOO_SMALL`); endpoints beyond hold nothing. Warm,
/// it allocates nothing.
///
/// # Safety
///
/// `index` and `scratch` are handles; the arrays are as long as said; `len` and `error` (unless NULL)
/// are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_index_match(
    index: *const Index,
    scratch: *const Scratch,
    hashes: *const u64,
    hashes_len: usize,
    blocks: *mut u32,
    blocks_cap: usize,
    len: *mut usize,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (index, hashes, blocks, len, mut buffers) = unsafe {
            (
                handle::borrow("index", index)?,
                slice("hashes", hashes, hashes_len)?,
                OutSlice::new("blocks", blocks, blocks_cap)?,
                Out::new("len", len)?,
                lock(scratch)?,
            )
        };
        let (named, found) = buffers.named(hashes);
        index.find_matches(named, found);
        hand_over("blocks", found.as_slice().iter().copied(), blocks, len)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// What the index holds.
///
/// # Safety
///
/// `index` is a handle, `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_index_stats(
    index: *const Index,
    out: *mut IndexStats,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (index, out) = unsafe { (handle::borrow("index", index)?, Out::new("out", out)?) };
        let stats = index.stats();
        out.write(IndexStats {
            blocks: stats.blocks as u64,
            pending: stats.pending as u64,
            bytes: stats.bytes as u64,
            evicted: stats.evicted,
        });
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

/// Writes the index down. Matching goes on meanwhile. To be read by `kvsched_snapshot_read`, and restored
/// by `kvsched_restore_new_index`.
///
/// # Safety
///
/// `index` is a handle, `out` and `error` (unless NULL) are writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvsched_index_snapshot(
    index: *const Index,
    out: *mut *mut Snapshot,
    error: *mut Error,
) -> Status {
    let body = || {
        // SAFETY: the caller's promise.
        let (index, out) = unsafe { (handle::borrow("index", index)?, Out::new("out", out)?) };
        let mut bytes = Vec::new();
        index.write_snapshot(&[], |piece| bytes.extend_from_slice(piece));
        handle::create(Unread::new(bytes), out);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { boundary(error, body) }
}

fn holder(endpoint: u32, tier: u32) -> Result<Holder, Failure> {
    let known = u8::try_from(tier).ok().and_then(Tier::new);
    let tier = known.ok_or_else(|| {
        let text = format_args!("`tier` is {tier}; there are {}", Tier::COUNT).to_string();
        Failure::new(Status::InvalidArgument, text)
    })?;
    Ok(Holder { tier, ..Holder::device(endpoint_id(endpoint)?) })
}
