//! The caller's memory: the only place where its pointers become Rust's references.

use crate::status::{Failure, Status};
use std::ptr::NonNull;

/// A text of the caller's: `len` bytes of UTF-8, without a NUL. `data` NULL means that there is
/// none, where that is allowed; a `len` of 0 with another `data` is an empty text.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Str {
    /// The first byte.
    pub data: *const u8,
    /// How many bytes.
    pub len: usize,
}

impl Default for Str {
    fn default() -> Self {
        Self { data: std::ptr::null(), len: 0 }
    }
}

fn check<T>(what: &str, ptr: *const T) -> Result<NonNull<T>, Failure> {
    let Some(ptr) = NonNull::new(ptr.cast_mut()) else {
        return Err(Failure::new(Status::NullPointer, format_args!("`{what}` is NULL")));
    };
    if !ptr.as_ptr().is_aligned() {
        let text = format!("`{what}` is {ptr:p}, not a multiple of {}", align_of::<T>());
        return Err(Failure::new(Status::Misaligned, text));
    }
    Ok(ptr)
}

/// The caller's array, which may be NULL if it is empty.
///
/// # Safety
///
/// `len` values are there, and stay as they are while `'a` lasts.
pub(crate) unsafe fn slice<'a, T>(
    what: &str,
    ptr: *const T,
    len: usize,
) -> Result<&'a [T], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    let ptr = check(what, ptr)?;
    check_len::<T>(what, len)?;
    // SAFETY: not NULL, aligned, not larger than memory; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(ptr.as_ptr(), len) })
}

fn check_len<T>(what: &str, len: usize) -> Result<(), Failure> {
    let limit = isize::MAX as usize / size_of::<T>().max(1);
    if len > limit {
        let text = format!("`{what}` has {len} elements; memory holds at most {limit}");
        return Err(Failure::new(Status::Length, text));
    }
    Ok(())
}

/// The caller's value.
///
/// # Safety
///
/// A value is there, and stays as it is while `'a` lasts.
pub(crate) unsafe fn reference<'a, T>(what: &str, ptr: *const T) -> Result<&'a T, Failure> {
    // SAFETY: not NULL and aligned; the rest is the caller's promise.
    check(what, ptr).map(|ptr| unsafe { ptr.as_ref() })
}

/// The caller's value, or none where it is NULL.
///
/// # Safety
///
/// As [`reference`], unless NULL.
pub(crate) unsafe fn optional<'a, T>(what: &str, ptr: *const T) -> Result<Option<&'a T>, Failure> {
    if ptr.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { reference(what, ptr) }.map(Some)
}

/// The caller's text, or none where it is NULL.
///
/// # Safety
///
/// As [`slice`].
pub(crate) unsafe fn text<'a>(what: &str, text: Str) -> Result<Option<&'a str>, Failure> {
    if text.data.is_null() && text.len == 0 {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(what, text.data, text.len) }?;
    let invalid = |e| Failure::new(Status::InvalidUtf8, format_args!("`{what}`: {e}"));
    std::str::from_utf8(bytes).map(Some).map_err(invalid)
}

/// The caller's text.
///
/// # Safety
///
/// As [`slice`].
pub(crate) unsafe fn required_text<'a>(what: &str, given: Str) -> Result<&'a str, Failure> {
    // SAFETY: the caller's promise.
    unsafe { text(what, given) }?
        .ok_or_else(|| Failure::new(Status::NullPointer, format_args!("`{what}` is NULL")))
}

/// A place of the caller's that a result goes to. Never read, so it may be uninitialised.
#[derive(Debug)]
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// # Safety
    ///
    /// The place is the caller's to write until the call returns.
    pub(crate) unsafe fn new(what: &str, ptr: *mut T) -> Result<Self, Failure> {
        check(what, ptr).map(Self)
    }

    /// No place where it is NULL.
    ///
    /// # Safety
    ///
    /// As [`Out::new`], unless NULL.
    pub(crate) unsafe fn optional(what: &str, ptr: *mut T) -> Result<Option<Self>, Failure> {
        if ptr.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        unsafe { Self::new(what, ptr) }.map(Some)
    }

    pub(crate) fn write(self, value: T) {
        // SAFETY: `new` was promised a place that may be written.
        unsafe { self.0.as_ptr().write(value) }
    }
}

/// An array of the caller's that results go to. Never read.
#[derive(Debug)]
pub(crate) struct OutSlice<T> {
    ptr: *mut T,
    len: usize,
}

impl<T: Copy> OutSlice<T> {
    /// # Safety
    ///
    /// `len` places are the caller's to write until the call returns.
    pub(crate) unsafe fn new(what: &str, ptr: *mut T, len: usize) -> Result<Self, Failure> {
        if len > 0 {
            check(what, ptr)?;
            check_len::<T>(what, len)?;
        }
        Ok(Self { ptr, len })
    }

    /// Refuses an array of fewer than `needed` places.
    pub(crate) fn check_room(&self, what: &str, needed: usize) -> Result<(), Failure> {
        if self.len < needed {
            let text = format!("`{what}` has room for {}, needed are {needed}", self.len);
            return Err(Failure::new(Status::BufferTooSmall, text));
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes as many as there is room for.
    pub(crate) fn fill(self, values: impl IntoIterator<Item = T>) {
        for (i, value) in values.into_iter().take(self.len).enumerate() {
            // SAFETY: `new` was promised `len` places, and `i` is below it.
            unsafe { self.ptr.add(i).write(value) }
        }
    }
}

/// Hands over `values`, and how many they are also where there is no room for them.
pub(crate) fn hand_over<T: Copy>(
    what: &str,
    values: impl ExactSizeIterator<Item = T>,
    to: OutSlice<T>,
    len: Out<usize>,
) -> Result<(), Failure> {
    let needed = values.len();
    let room = to.check_room(what, needed);
    len.write(needed);
    room.map(|()| to.fill(values))
}
