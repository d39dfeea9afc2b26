use std::ffi::{CStr, c_char};
use std::fmt::Display;

/// What a call came to.
///
/// `KVSCHED_STATUS_OK` is not 0, so that zeroed memory never reads as success: compare with it,
/// do not test for truth. Numbers keep their meaning for ever; one that is given up is not used
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Status {
    /// The call did what it says.
    Ok = 1,
    /// A pointer that must not be NULL is.
    NullPointer = 10,
    /// A pointer is not aligned as its type needs.
    Misaligned = 11,
    /// An array is longer than memory can be.
    Length = 12,
    /// A handle is of another kind than the call needs, or has been freed.
    WrongHandle = 13,
    /// A text is not UTF-8.
    InvalidUtf8 = 14,
    /// A number or flag is out of its range.
    InvalidArgument = 15,
    /// The caller's buffer is too small; where there is a length output, it says what is needed.
    BufferTooSmall = 16,
    /// Another thread is using the scratch.
    Busy = 20,
    /// An earlier call panicked while it changed the handle: free it and start anew.
    Broken = 21,
    /// A bug in kvsched: the call panicked. The process is intact.
    Panic = 22,
    /// The hashes of that engine, version, algorithm and seed cannot be reproduced.
    Scheme = 30,
    /// The preset is unknown, or the configuration is wrong.
    Config = 31,
    /// The bytes are no snapshot, or not a whole one, or of another hasher.
    Snapshot = 32,
    /// The endpoint was never added, or has been removed.
    UnknownEndpoint = 40,
    /// An endpoint of that name exists.
    NameTaken = 41,
    /// No endpoint id is left.
    Full = 42,
    /// The ticket is of no request that is under way.
    UnknownTicket = 43,
    /// The prompt cannot be hashed.
    Prompt = 50,
    /// No endpoint can be chosen: none was offered, or filters dropped all.
    NoEndpoint = 51,
    /// Nothing has been decided with this scratch.
    NoDecision = 52,
}

impl Status {
    const ALL: [(Self, &'static CStr); 21] = [
        (Self::Ok, c"ok"),
        (Self::NullPointer, c"null pointer"),
        (Self::Misaligned, c"misaligned pointer"),
        (Self::Length, c"impossible length"),
        (Self::WrongHandle, c"wrong or freed handle"),
        (Self::InvalidUtf8, c"text is not UTF-8"),
        (Self::InvalidArgument, c"argument out of range"),
        (Self::BufferTooSmall, c"buffer too small"),
        (Self::Busy, c"scratch in use by another thread"),
        (Self::Broken, c"handle broken by an earlier panic"),
        (Self::Panic, c"bug in kvsched: panic"),
        (Self::Scheme, c"hash scheme cannot be reproduced"),
        (Self::Config, c"wrong configuration"),
        (Self::Snapshot, c"wrong snapshot"),
        (Self::UnknownEndpoint, c"unknown endpoint"),
        (Self::NameTaken, c"endpoint name taken"),
        (Self::Full, c"no endpoint id left"),
        (Self::UnknownTicket, c"unknown ticket"),
        (Self::Prompt, c"prompt cannot be hashed"),
        (Self::NoEndpoint, c"no endpoint can be chosen"),
        (Self::NoDecision, c"nothing was decided"),
    ];
}

/// A few words for a status, never NULL: for logs. The text of a particular failure, with its
/// values and limits, is in the `kvsched_error` of the call.
///
/// The text is static. Any thread may call at any time.
#[unsafe(no_mangle)]
pub extern "C" fn kvsched_status_text(status: u32) -> *const c_char {
    let known = Status::ALL.iter().find(|(s, _)| *s as u32 == status);
    known.map_or(c"unknown status", |(_, text)| text).as_ptr()
}

/// Bytes of `kvsched_error.text`, with the NUL at its end.
pub const KVSCHED_ERROR_TEXT: usize = 504;

/// Why a call failed, in words. The caller's memory; written only by calls that fail.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Error {
    /// Bytes of the text, without the NUL.
    pub len: usize,
    /// The text: UTF-8 with a NUL after it, cut off where it is too long.
    pub text: [c_char; KVSCHED_ERROR_TEXT],
}

/// A status that is not `Ok`, with its text.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    text: String,
}

impl Failure {
    pub(crate) fn new(status: Status, text: impl Display) -> Self {
        Self { status, text: text.to_string() }
    }

    /// For [`Result::map_err`].
    pub(crate) fn of<E: Display>(status: Status) -> impl Fn(E) -> Self {
        move |error| Self::new(status, error)
    }

    /// The text as C sees it.
    pub(crate) fn error(&self) -> Error {
        let fits = |&len: &usize| self.text.is_char_boundary(len);
        let longest = self.text.len().min(KVSCHED_ERROR_TEXT - 1);
        let len = (0..=longest).rev().find(fits).unwrap_or(0);
        let mut text = [0; KVSCHED_ERROR_TEXT];
        for (to, from) in text.iter_mut().zip(&self.text.as_bytes()[..len]) {
            // A NUL inside would end the text for C.
            *to = if *from == 0 { b' ' } else { *from }.cast_signed() as c_char;
        }
        Error { len, text }
    }
}
