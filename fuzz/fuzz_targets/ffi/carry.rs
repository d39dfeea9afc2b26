use crate::input::Input;
use kvsched_ffi::*;
use std::ptr::null_mut;

/// Restores the scheduler from its snapshot, or from one that something happened to.
///
/// # Safety
///
/// The handles are.
pub unsafe fn carry(
    scheduler: *const Scheduler,
    hasher: *const Hasher,
    settings: &Settings,
    input: &mut Input<'_>,
) {
    let (mut snapshot, mut restore, mut restored) = (null_mut(), null_mut(), null_mut());
    let none = null_mut();
    // SAFETY: every pointer is ours or a handle.
    unsafe {
        if kvsched_snapshot_new(scheduler, &raw mut snapshot, none) != Status::Ok {
            return; // it learns from its own decisions
        }
        assert_eq!(kvsched_restore_new(hasher, settings, &raw mut restore, none), Status::Ok);
        let (broken, at) = (input.byte() % 2 == 0, input.number());
        let (mut piece, mut len, mut total) = ([0; 512], 0, 0);
        let mut whole = true;
        loop {
            let (to, room) = (piece.as_mut_ptr(), piece.len());
            let status = kvsched_snapshot_read(snapshot, to, room, &raw mut len, none);
            assert_eq!(status, Status::Ok);
            if len == 0 {
                break;
            }
            if broken && (total..total + len as u64).contains(&at) {
                piece[(at - total) as usize] ^= 1 << input.byte() % 8;
            }
            total += len as u64;
            whole &= kvsched_restore_push(restore, piece.as_ptr(), len, none) == Status::Ok;
        }
        let status = kvsched_restore_finish(restore, 1, &raw mut restored, none);
        let intact = !broken || at >= total;
        assert!(status == Status::Ok || !intact || !whole, "an intact snapshot: {status:?}");
        assert!(status != Status::Ok || intact, "one bit was changed, and nobody noticed");
        assert_eq!(kvsched_scheduler_free(&raw mut restored), Status::Ok);
        assert_eq!(kvsched_restore_free(&raw mut restore), Status::Ok);
        assert_eq!(kvsched_snapshot_free(&raw mut snapshot), Status::Ok);
    }
}
