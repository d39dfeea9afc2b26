//! Replaceable slices of atomic words: the one primitive that readers and the writer share.
//!
//! All that a query reads lies in [`Words`]: buckets of the directory, hashes of runs, lists of
//! holders. A word changes in place by an atomic store; a slice changes its length by being
//! replaced, and the old one is freed when no reader can still look at it.
//!
//! # Invariants
//!
//! 1. A non-null pointer in a [`Words`] comes from a [`Fresh`], and is owned by that one
//!    `Words` until it is swapped out; then it is owned by exactly one `Retired`.
//! 2. The length before the first word never changes after allocation.
//! 3. A slice is handed out for no longer than a [`Pin`] lives. A `Pin` is either a pinned epoch,
//!    or was lent by an [`Exclusive`], whose borrow keeps every writer out (`&self`) or whose
//!    writer frees nothing before its own pin ends (`&mut self`).
//! 4. The `Words` of one structure are reached through one `Exclusive` or one [`Concurrent`],
//!    never both.
#![allow(unsafe_code)]

use crossbeam_epoch as epoch;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

const WORD: usize = size_of::<u64>();
/// Bytes of a cache line, to which directory buckets are aligned.
const LINE: usize = 64;
/// Set in the word before the first where the slice begins on a cache line.
const ALIGNED: usize = 1 << (usize::BITS - 1);

/// A replaceable slice of atomic words, empty at first.
#[derive(Debug)]
pub(crate) struct Words(AtomicPtr<AtomicU64>);

/// A slice nobody else knows yet.
#[derive(Debug)]
pub(crate) struct Fresh(NonNull<AtomicU64>);

/// A slice that was swapped out.
#[derive(Debug)]
struct Retired(NonNull<AtomicU64>);

// SAFETY: the words are atomics, and ownership of the allocation moves with the value.
unsafe impl Send for Fresh {}
// SAFETY: as above; nobody reads a retired slice through this value.
unsafe impl Send for Retired {}

/// The allocation of a slice: its layout and the bytes before the first word. `head` is the length,
/// with the flag.
fn layout(head: usize) -> (Layout, usize) {
    let before = if head & ALIGNED != 0 { LINE } else { WORD };
    let len = head & !ALIGNED;
    let bytes = len.checked_mul(WORD).and_then(|b| b.checked_add(before));
    match bytes.map(|b| Layout::from_size_align(b, before)) {
        Some(Ok(layout)) => (layout, before),
        _ => unreachable!("a slice of {len} words exceeds the address space"),
    }
}

/// # Safety
///
/// `words` was made by [`Fresh::new`] and not freed.
unsafe fn head(words: NonNull<AtomicU64>) -> usize {
    // SAFETY: `Fresh::new` wrote the head one word before the first, and nobody writes it again
    // (invariant 2).
    unsafe { *words.as_ptr().cast::<usize>().sub(1) }
}

/// # Safety
///
/// As [`head`], and nobody changes anything but single words while `'a` lasts.
#[inline]
unsafe fn slice<'a>(words: NonNull<AtomicU64>) -> &'a [AtomicU64] {
    // SAFETY: the head says how many initialised words follow (all zero is a valid atomic).
    unsafe { std::slice::from_raw_parts(words.as_ptr(), head(words) & !ALIGNED) }
}

/// # Safety
///
/// As [`head`], and nobody will read the words again.
unsafe fn free(words: NonNull<AtomicU64>) {
    // SAFETY: the caller's promise; the layout is the one it was allocated with, since that is
    // a function of the head.
    unsafe {
        let (layout, before) = layout(head(words));
        dealloc(words.as_ptr().cast::<u8>().sub(before), layout);
    }
}

impl Fresh {
    /// `len` words of 0, at least one.
    pub(crate) fn zeroed(len: usize) -> Self {
        Self::new(len.max(1))
    }

    /// The same, beginning on a cache line.
    pub(crate) fn aligned(len: usize) -> Self {
        Self::new(len.max(1) | ALIGNED)
    }

    fn new(head: usize) -> Self {
        let (layout, before) = layout(head);
        // SAFETY: the layout has at least a word before the first and a word. The first lies
        // `before` bytes in, a multiple of its alignment, and one `usize` fits before it.
        unsafe {
            let base = alloc_zeroed(layout);
            if base.is_null() {
                handle_alloc_error(layout);
            }
            let words = base.add(before).cast::<AtomicU64>();
            words.cast::<usize>().sub(1).write(head);
            Self(NonNull::new_unchecked(words))
        }
    }

    fn bytes(&self) -> isize {
        // SAFETY: this value owns the slice.
        layout(unsafe { head(self.0) }).0.size() as isize
    }
}

impl Deref for Fresh {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: this value owns them.
        unsafe { slice(self.0) }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // SAFETY: this value is the only owner.
        unsafe { free(self.0) }
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        // SAFETY: the only owner (invariant 1), dropped when no pin of an earlier time is left
        // (invariant 3).
        unsafe { free(self.0) }
    }
}

impl Words {
    pub(crate) const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The words as they are now.
    #[inline]
    pub(crate) fn get<'p>(&'p self, _pin: &'p Pin) -> &'p [AtomicU64] {
        match NonNull::new(self.0.load(Ordering::Acquire)) {
            None => &[],
            // SAFETY: non-null pointers come from `Fresh` (invariant 1) and stay allocated while
            // the pin lives (invariant 3).
            Some(words) => unsafe { slice(words) },
        }
    }

    /// Puts other words in their place, or none.
    pub(crate) fn replace(&self, new: Option<Fresh>, pin: &WritePin) {
        let new = match new {
            None => ptr::null_mut(),
            Some(new) => {
                pin.count(new.bytes());
                let words = new.0.as_ptr();
                std::mem::forget(new);
                words
            }
        };
        if let Some(old) = NonNull::new(self.0.swap(new, Ordering::AcqRel)) {
            // SAFETY: it was published here and nobody else swaps it out again.
            pin.count(-(layout(unsafe { head(old) }).0.size() as isize));
            pin.retire(Retired(old));
        }
    }

    /// Begins to load word `i` into the cache; does nothing past the end.
    #[inline]
    pub(crate) fn prefetch(words: &[AtomicU64], i: usize) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if let Some(word) = words.get(i) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch changes nothing, and the address is that of a live word.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(word).cast()) }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = (words, i);
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        if let Some(words) = NonNull::new(*self.0.get_mut()) {
            // SAFETY: `&mut self` and the end of its life: no pin can borrow from it any more.
            unsafe { free(words) }
        }
    }
}

/// Begins to load the cache line of `value`.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch changes nothing, and the address is that of a live value.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(value).cast()) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

/// The right to look at words.
#[derive(Debug)]
pub(crate) struct Pin(#[expect(dead_code, reason = "held for its drop")] Option<epoch::Guard>);

/// The right to replace words, with what that leaves behind.
#[derive(Debug)]
pub(crate) struct WritePin {
    // Declared first, so that what was retired is freed while the borrow still lasts.
    retired: RefCell<Vec<Retired>>,
    epoch: Option<epoch::Guard>,
    pin: Pin,
    bytes: Cell<isize>,
}

impl WritePin {
    fn new(epoch: Option<epoch::Guard>) -> Self {
        Self { retired: RefCell::new(Vec::new()), epoch, pin: Pin(None), bytes: Cell::new(0) }
    }

    fn retire(&self, old: Retired) {
        match &self.epoch {
            None => self.retired.borrow_mut().push(old),
            // SAFETY: the slice was swapped out before this call, so only readers pinned by now
            // can see it; the closure owns it and may run on any thread (`Retired: Send`).
            Some(guard) => unsafe { guard.defer_unchecked(move || drop(old)) },
        }
    }

    /// Whether nobody reads while this pin lives.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.epoch.is_none()
    }

    /// Runs `f` when no reader of now is left: at once if there is none.
    pub(crate) fn after_readers(&self, f: impl FnOnce() + Send + 'static) {
        match &self.epoch {
            None => f(),
            Some(guard) => guard.defer(f),
        }
    }

    /// Books `bytes` more (or fewer) as allocated.
    pub(crate) fn count(&self, bytes: isize) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Bytes allocated less bytes given back under this pin so far.
    pub(crate) fn take_bytes(&self) -> isize {
        self.bytes.take()
    }
}

impl Deref for WritePin {
    type Target = Pin;

    fn deref(&self) -> &Pin {
        &self.pin
    }
}

/// A structure of words that one owner reads and writes: no epochs, memory is freed at once.
#[derive(Debug)]
pub(crate) struct Exclusive<T>(T);

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }

    #[inline]
    pub(crate) fn read(&self) -> (&T, Pin) {
        (&self.0, Pin(None))
    }

    #[inline]
    pub(crate) fn write(&mut self) -> (&mut T, WritePin) {
        (&mut self.0, WritePin::new(None))
    }
}

/// A structure of words `T` that many threads read while one at a time writes it, with what only
/// writers know, `W`.
#[derive(Debug)]
pub(crate) struct Concurrent<T, W> {
    published: T,
    writer: Mutex<W>,
}

impl<T, W> Concurrent<T, W> {
    pub(crate) fn new(published: T, writer: W) -> Self {
        Self { published, writer: Mutex::new(writer) }
    }

    #[inline]
    pub(crate) fn read(&self) -> (&T, Pin) {
        (&self.published, Pin(Some(epoch::pin())))
    }

    pub(crate) fn write<R>(&self, f: impl FnOnce(&T, &mut W, &WritePin) -> R) -> R {
        // A writer that panicked left every word valid: each is read on its own.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        f(&self.published, &mut writer, &WritePin::new(Some(epoch::pin())))
    }
}
