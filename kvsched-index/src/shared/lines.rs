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
/// Bits of a pointer to a line that are 0, and so can say how often a length was doubled.
const DOUBLED: usize = LINE - 1;
/// Most doublings. So many lines are more than memory holds.
const MOST: usize = 50;

/// The lengths a slice can have: each twice the one before, or a line more.
///
/// Slices that grow together should not all do so at the same moment: they have different lengths
/// to begin with, so that together they have the same share of room in use at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lengths {
    /// Doubled four times, it is so many lines more than 16.
    start: u8,
}

impl Lengths {
    const fn new(start: usize) -> Self {
        Self { start: (start % 16) as u8 }
    }

    #[inline]
    fn at(self, doubled: usize) -> usize {
        ((16 + usize::from(self.start)) << doubled) >> 4
    }

    /// How often doubled there are at least `len` lines.
    fn doubled(self, len: usize) -> usize {
        (0..MOST).find(|&d| self.at(d) >= len).unwrap_or(MOST)
    }
}

/// A slice of cache lines whose pointer says how many they are.
///
/// # Invariants
///
/// As those of [`Words`](super::Words), with [`FreshLines`] for `Fresh`. All slices of one `Lines` have
/// its lengths.
#[derive(Debug)]
pub(crate) struct Lines {
    tagged: AtomicPtr<Line>,
    lengths: Lengths,
}

/// A slice nobody else knows yet, or no longer.
#[derive(Debug)]
pub(crate) struct FreshLines {
    tagged: NonNull<Line>,
    lengths: Lengths,
}

// SAFETY: the words are atomics, and ownership of the allocation moves with the value.
unsafe impl Send for FreshLines {}

/// The first line, and how many there are.
///
/// # Safety
///
/// `tagged` is that of a [`FreshLines`] of these lengths whose slice is not freed.
#[inline]
unsafe fn parts(tagged: NonNull<Line>, lengths: Lengths) -> (NonNull<Line>, usize) {
    let len = lengths.at(tagged.addr().get() & DOUBLED);
    // SAFETY: what is taken off was added to the address of a line, which was not 0.
    (unsafe { NonNull::new_unchecked(tagged.as_ptr().map_addr(|a| a & !DOUBLED)) }, len)
}

/// # Safety
///
/// As [`parts`], and nobody changes anything but single words while `'a` lasts.
#[inline]
unsafe fn slice<'a>(tagged: NonNull<Line>, lengths: Lengths) -> &'a [Line] {
    // SAFETY: so many initialised lines follow (all zero is a valid atomic).
    unsafe {
        let (first, len) = parts(tagged, lengths);
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
    /// At least `len` lines of 0.
    fn zeroed(lengths: Lengths, len: usize) -> Self {
        let doubled = lengths.doubled(len);
        let first = allocate(layout(lengths.at(doubled))).cast::<Line>();
        // SAFETY: the address is a multiple of a line's size and not 0, so that adding less than a
        // line cannot give 0.
        let tagged = unsafe { NonNull::new_unchecked(first.as_ptr().map_addr(|a| a | doubled)) };
        Self { tagged, lengths }
    }

    /// The lines.
    pub(crate) fn get(&self) -> &[Line] {
        // SAFETY: this value owns them.
        unsafe { slice(self.tagged, self.lengths) }
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
            let (first, len) = parts(self.tagged, self.lengths);
            dealloc(first.as_ptr().cast(), layout(len));
        }
    }
}

impl Lines {
    /// No lines. Those of different `start` (below 16) have different lengths.
    pub(crate) const fn empty(start: usize) -> Self {
        Self { tagged: AtomicPtr::new(ptr::null_mut()), lengths: Lengths::new(start) }
    }

    /// How many lines there will be for at least `len`.
    pub(crate) fn room(&self, len: usize) -> usize {
        self.lengths.at(self.lengths.doubled(len))
    }

    /// At least `len` lines of 0, to be put here.
    pub(crate) fn fresh(&self, len: usize) -> FreshLines {
        FreshLines::zeroed(self.lengths, len)
    }

    /// The lines as they are now.
    #[inline]
    pub(crate) fn get<'p>(&'p self, _pin: &'p Pin) -> &'p [Line] {
        match NonNull::new(self.tagged.load(Ordering::Acquire)) {
            None => &[],
            // SAFETY: non-null pointers come from a `FreshLines` of these lengths (invariant 1) and
            // stay allocated while the pin lives (invariant 3).
            Some(tagged) => unsafe { slice(tagged, self.lengths) },
        }
    }

    /// Puts other lines in their place, or none.
    ///
    /// # Panics
    ///
    /// If they were not made by [`Lines::fresh`] of one with the same lengths.
    pub(crate) fn replace(&self, new: Option<FreshLines>, pin: &WritePin) {
        let new = new.map_or(ptr::null_mut(), |new| {
            assert_eq!(new.lengths, self.lengths, "lines of other lengths");
            pin.count(new.bytes());
            let tagged = new.tagged.as_ptr();
            std::mem::forget(new);
            tagged
        });
        if let Some(tagged) = NonNull::new(self.tagged.swap(new, Ordering::AcqRel)) {
            // It was published here, and whoever swaps it out owns it.
            let old = FreshLines { tagged, lengths: self.lengths };
            pin.retire(old.bytes(), Retired::Lines(old));
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // `&mut self` and the end of its life: no pin can borrow from it any more.
        let lengths = self.lengths;
        drop(NonNull::new(*self.tagged.get_mut()).map(|tagged| FreshLines { tagged, lengths }));
    }
}
