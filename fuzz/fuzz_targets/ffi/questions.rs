use crate::input::Input;
use kvsched_ffi::*;
use std::ffi::CStr;
use std::ptr::{null, null_mut};

/// One of each kind.
pub struct Handles {
    pub hasher: *mut Hasher,
    pub scheduler: *mut Scheduler,
    pub scratch: *mut Scratch,
    pub index: *mut Index,
    pub stream: *mut Stream,
    pub history: *mut History,
}

/// Calls that look things up, or come after others.
///
/// # Safety
///
/// The handles are.
pub unsafe fn ask(all: &Handles, input: &mut Input<'_>) {
    let &Handles { hasher, scheduler, scratch, index, stream, history } = all;
    let endpoint = input.number() as u32;
    let now = input.number();
    let (mut number, mut len) = (0_u32, 0_usize);
    let mut error = Error { len: 0, text: [0; KVSCHED_ERROR_TEXT] };
    let error = &raw mut error;
    let none = null_mut();
    // SAFETY: every pointer is ours or a handle, and lengths are those of what they point to.
    unsafe {
        match input.byte() % 8 {
            0 => {
                let (tokens, mut rows) = (input.tokens(), [0; 16]);
                let (data, length) = (tokens.as_ptr(), tokens.len());
                let s = input.handle(scheduler, hasher);
                let to = &raw mut number;
                let status =
                    kvsched_cached_tokens(s, scratch, endpoint, data, length, null(), to, error);
                assert!(status != Status::Ok || number as usize <= length);
                let room = usize::from(input.byte() % 17);
                kvsched_matches(scratch, rows.as_mut_ptr(), room, &raw mut len, error);
            }
            1 => {
                let (name, mut rows) = (input.text(), [0; 8]);
                let found =
                    kvsched_endpoint_find(scheduler, name, endpoint % 3, &raw mut number, error);
                let listed =
                    kvsched_endpoint_list(scheduler, rows.as_mut_ptr(), 8, &raw mut len, error);
                if found == Status::Ok && listed == Status::Ok {
                    assert!(rows[..len].contains(&number));
                }
            }
            2 => {
                let (text, mut tokens) = (input.text(), [0; 64]);
                let room = usize::from(input.byte() % 65);
                let to = tokens.as_mut_ptr();
                let status = kvsched_text_tokens(text, to, room, &raw mut len, error);
                assert!(status != Status::Ok || len == text.len / 3);
            }
            3 => {
                let (topic, payload) = (input.text(), input.bytes());
                let (data, length) = (payload.as_ptr(), payload.len());
                let of = &raw mut number;
                kvsched_ingest_topic(
                    scheduler, topic, endpoint, now, data, length, now, of, none, error,
                );
                // As such a topic is, of an endpoint that may be there.
                let name = input.bytes();
                let topic = [b"kv@", name, b"@m"].concat();
                let topic = Str { data: topic.as_ptr(), len: topic.len() };
                kvsched_ingest_topic(
                    scheduler,
                    topic,
                    0,
                    now,
                    data,
                    length,
                    now,
                    none.cast(),
                    none,
                    error,
                );
            }
            4 => {
                let mut text = [0; 512];
                let room = usize::from(input.byte()) * 2;
                let to = text.as_mut_ptr();
                kvsched_diagnose(scheduler, endpoint, to, room, &raw mut len, error);
                let words = CStr::from_ptr(kvsched_status_text(endpoint));
                assert!(!words.is_empty());
            }
            5 => {
                let payload = input.bytes();
                let (data, length) = (payload.as_ptr(), payload.len());
                let hasher = if input.byte() % 2 == 0 { null() } else { hasher };
                kvsched_stream_replayed(stream, index, hasher, now, data, length, now, none, error);
                kvsched_stream_tick(input.handle(stream, index), index, hasher, now, none, error);
                kvsched_history_clear(input.handle(history, stream), endpoint, error);
            }
            6 => {
                let (version, algorithm, seed) = (input.text(), input.text(), input.text());
                let (block, mut made) = (input.number() as usize, null_mut());
                kvsched_hasher_new_vllm(version, algorithm, seed, block, &raw mut made, error);
                assert_eq!(kvsched_hasher_free(&raw mut made), Status::Ok);
                let (bytes, mut made) = (input.number() as usize % (1 << 20), null_mut());
                kvsched_scratch_new_with_memo(scheduler, now, bytes, &raw mut made, error);
                assert_eq!(kvsched_scratch_free(&raw mut made), Status::Ok);
            }
            _ => copy(index),
        }
    }
}

/// An index and its restored copy have the same blocks.
///
/// # Safety
///
/// `index` is a handle.
unsafe fn copy(index: *mut Index) {
    let (mut snapshot, mut restore, mut copied) = (null_mut(), null_mut(), null_mut());
    let (mut piece, mut len) = ([0; 512], 0);
    let none = null_mut();
    let (mut before, mut after) = (IndexStats::default(), IndexStats::default());
    // SAFETY: every pointer is ours or a handle.
    unsafe {
        assert_eq!(kvsched_index_stats(index, &raw mut before, none), Status::Ok);
        assert_eq!(kvsched_index_snapshot(index, &raw mut snapshot, none), Status::Ok);
        assert_eq!(kvsched_restore_new_index(4, 0, &raw mut restore, none), Status::Ok);
        loop {
            let (to, room) = (piece.as_mut_ptr(), piece.len());
            let status = kvsched_snapshot_read(snapshot, to, room, &raw mut len, none);
            assert_eq!(status, Status::Ok);
            if len == 0 {
                break;
            }
            assert_eq!(kvsched_restore_push(restore, piece.as_ptr(), len, none), Status::Ok);
        }
        assert_eq!(kvsched_restore_finish_index(restore, &raw mut copied, none), Status::Ok);
        assert_eq!(kvsched_index_stats(copied, &raw mut after, none), Status::Ok);
        assert_eq!(before.blocks, after.blocks);
        assert_eq!(kvsched_index_free(&raw mut copied), Status::Ok);
        assert_eq!(kvsched_restore_free(&raw mut restore), Status::Ok);
        assert_eq!(kvsched_snapshot_free(&raw mut snapshot), Status::Ok);
    }
}
