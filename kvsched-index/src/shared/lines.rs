//! Replaceable slices of cache lines that say in the pointer how long they are: whoever looks one up
//! touches no line but the one it looks for.

use super::{Pin, Retired, WritePin, allocate};
use std::alloc::{Layout, dealloc};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// A cache line of words.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [AtomicU64; 8]);

const LINE: usize = size_of::<Line>();
/// Bits of a pointer to a line that are 0, and so can say which length.
const LENGTH: usize = LINE - 1;

/// Lengths a slice can have, each half as long again as the one before. A pointer's low bits choose.
const LENGTHS: [usize; LENGTH + 1] = {
    let mut lengths = [1usize; LENGTH + 1];
    let mut i = 2;
    while i < lengths.len() {
        lengths[i] = lengths[i - 1] + lengths[i - 1].div_ceil(2);
        i += 1;
    }
    lengths
};

/// A slice of cache lines whose pointer says how many they are.
///
/// # Invariants
///
/// As those of [`Words`](super::Words), with [`FreshLines`] for `Fresh`.
#[derive(Debug)]
pub(crate) struct Lines(AtomicPtr<Line>);

/// A slice nobody else knows yet, or no longer.
#[derive(Debug)]
pub(crate) struct FreshLines(NonNull<Line>);

// SAFETY: the words are atomics, and ownership of the allocation moves with the value.
unsafe impl Send for FreshLines {}

/// The first line, and how many there are.
///
/// # Safety
///
/// `tagged` is that of a [`FreshLines`] whose slice is not freed.
#[inline]
unsafe fn parts(tagged: NonNull<Line>) -> (NonNull<Line>, usize) {
    let len = LENGTHS[tagged.addr().get() & LENGTH];
    // SAFETY: what is taken off was added to the address of a line, which was not 0.
    (unsafe { NonNull::new_unchecked(tagged.as_ptr().map_addr(|a| a & !LENGTH)) }, len)
}

/// # Safety
///
/// As [`parts`], and nobody changes anything but single words while `'a` lasts.
#[inline]
unsafe fn slice<'a>(tagged: NonNull<Line>) -> &'a [Line] {
    // SAFETY: so many initialised lines follow (all zero is a valid atomic).
    unsafe {
        let (first, len) = parts(tagged);
        std::slice::from_raw_parts(first.as_ptr(), len)
    }
}

/// The allocation of `len` lines.
fn layout(len: usize) -> Layout {
    match len.checked_mul(LINE).map(|bytes| Layout::from_size_align(bytes, LINE)) {
        Some(Ok(layout)) => layout,
        _ => unreachable!("{len} cache lines exceed the address space"),
    }
}

impl FreshLines {
    /// Lines there will be for at least `len`.
    pub(crate) fn room(len: usize) -> usize {
        LENGTHS[Self::length(len)]
    }

    /// Which of the lengths is at least `len`. The longest is more than memory holds.
    fn length(len: usize) -> usize {
        LENGTHS.partition_point(|&l| l < len).clamp(1, LENGTH)
    }

    /// `len` lines of 0, or some more.
    pub(crate) fn zeroed(len: usize) -> Self {
        let length = Self::length(len);
        let first = allocate(layout(LENGTHS[length])).cast::<Line>();
        // SAFETY: the address is a multiple of a line's size and not 0, so that adding less than a
        // line cannot give 0.
        Self(unsafe { NonNull::new_unchecked(first.as_ptr().map_addr(|a| a | length)) })
    }

    /// The lines.
    pub(crate) fn get(&self) -> &[Line] {
        // SAFETY: this value owns them.
        unsafe { slice(self.0) }
    }

    fn bytes(&self) -> isize {
        layout(self.get().len()).size() as isize
    }
}

impl Drop for FreshLines {
    fn drop(&mut self) {
        // SAFETY: this value is the only owner; the layout is the one it was allocated with, since
        // that is a function of the length.
        unsafe {
            let (first, len) = parts(self.0);
            dealloc(first.as_ptr().cast(), layout(len));
        }
    }
}

impl Lines {
    pub(crate) const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The lines as they are now.
    #[inline]
    pub(crate) fn get<'p>(&'p self, _pin: &'p Pin) -> &'p [Line] {
        match NonNull::new(self.0.load(Ordering::Acquire)) {
            None => &[],
            // SAFETY: non-null pointers come from `FreshLines` (invariant 1) and stay allocated
            // while the pin lives (invariant 3).
            Some(tagged) => unsafe { slice(tagged) },
        }
    }

    /// Puts other lines in their place, or none.
    pub(crate) fn replace(&self, new: Option<FreshLines>, pin: &WritePin) {
        let new = new.map_or(ptr::null_mut(), |new| {
            pin.count(new.bytes());
            let tagged = new.0.as_ptr();
            std::mem::forget(new);
            tagged
        });
        if let Some(old) = NonNull::new(self.0.swap(new, Ordering::AcqRel)) {
            // It was published here and nobody else swaps it out again.
            let old = FreshLines(old);
            pin.count(-old.bytes());
            pin.retire(Retired::Lines(old));
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // `&mut self` and the end of its life: no pin can borrow from it any more.
        drop(NonNull::new(*self.0.get_mut()).map(FreshLines));
    }
}
