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
//! 3. A slice is handed out for no longer than a [`Pin`] is borrowed. A `Pin` is either lent by
//!    somebody inside ([`Reading`], [`Concurrent::write`]), whom [`Epochs`] frees nothing under that was
//!    retired after it came; or by an [`Exclusive`], whose borrow keeps every writer out (`&self`)
//!    or whose writer frees nothing before its own pin ends (`&mut self`).
//! 4. The `Words` of one structure are reached through one `Exclusive` or one [`Concurrent`],
//!    never both.
//! 5. A slice is swapped out by one atomic exchange, so that of two writers at once each owns what it
//!    got.
//!
//! # Checked with
//!
//! loom (`tests/models.rs`, a part of `cargo test`), Miri, and ThreadSanitizer:
//!
//! ```text
//! cargo test --release -p kvsched-index --test models
//! MIRIFLAGS="-Zmiri-tree-borrows" cargo +nightly miri test -p kvsched-index --test concurrent --test parallel --test probes
//! RUSTFLAGS=-Zsanitizer=thread cargo +nightly test --release -Zbuild-std \
//!     --target x86_64-unknown-linux-gnu -p kvsched-index --test concurrent --test parallel
//! ```
#![allow(unsafe_code)]

mod atomics;
mod epochs;
mod lines;

pub(crate) use lines::{FreshLines, Line, Lines};

use crate::turns::Turns;
use epochs::{Epochs, Inside};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicPtr, Ordering};
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

const WORD: usize = size_of::<u64>();
/// Readers at a time that have a cache line of their own, and such lines for those beyond.
const OWN_SLOTS: usize = 64;
const SHARED_SLOTS: usize = 2;

/// A replaceable slice of atomic words, empty at first.
#[derive(Debug)]
pub(crate) struct Words(AtomicPtr<AtomicU64>);

/// A slice nobody else knows yet.
#[derive(Debug)]
pub(crate) struct Fresh(NonNull<AtomicU64>);

/// What was swapped out, or waits for the same moment.
enum Retired {
    Words(#[expect(dead_code, reason = "held for its drop")] Fresh),
    Lines(#[expect(dead_code, reason = "held for its drop")] FreshLines),
    Then(Option<Box<dyn FnOnce() + Send>>),
}

// SAFETY: the words are atomics, and ownership of the allocation moves with the value.
unsafe impl Send for Fresh {}

/// The allocation of a slice: a length and that many words.
fn layout(len: usize) -> Layout {
    let bytes = len.checked_add(1).and_then(|words| words.checked_mul(WORD));
    match bytes.map(|b| Layout::from_size_align(b, WORD)) {
        Some(Ok(layout)) => layout,
        _ => unreachable!("a slice of {len} words exceeds the address space"),
    }
}

/// `layout`, zeroed.
fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: no caller's layout is empty.
    match NonNull::new(unsafe { alloc_zeroed(layout) }) {
        Some(base) => base,
        None => handle_alloc_error(layout),
    }
}

/// # Safety
///
/// `words` was made by [`Fresh::zeroed`] and not freed.
unsafe fn length(words: NonNull<AtomicU64>) -> usize {
    // SAFETY: `Fresh::zeroed` wrote it one word before the first, and nobody writes it again
    // (invariant 2).
    unsafe { *words.as_ptr().cast::<usize>().sub(1) }
}

/// # Safety
///
/// As [`length`], and nobody changes anything but single words while `'a` lasts.
#[inline]
unsafe fn slice<'a>(words: NonNull<AtomicU64>) -> &'a [AtomicU64] {
    // SAFETY: so many initialised words follow (all zero is a valid atomic).
    unsafe { std::slice::from_raw_parts(words.as_ptr(), length(words)) }
}

/// # Safety
///
/// As [`length`], and nobody will read the words again.
unsafe fn free(words: NonNull<AtomicU64>) {
    // SAFETY: the caller's promise; the layout is the one it was allocated with, since that is
    // a function of the length.
    unsafe { dealloc(words.as_ptr().sub(1).cast(), layout(length(words))) }
}

impl Fresh {
    /// `len` words of 0, at least one.
    pub(crate) fn zeroed(len: usize) -> Self {
        let len = len.max(1);
        // SAFETY: the layout has room for the length and a word at least.
        unsafe {
            let base = allocate(layout(len)).cast::<AtomicU64>();
            base.cast::<usize>().write(len);
            Self(base.add(1))
        }
    }

    fn bytes(&self) -> isize {
        // SAFETY: this value owns the slice.
        layout(unsafe { length(self.0) }).size() as isize
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
        if let Self::Then(f) = self
            && let Some(f) = f.take()
        {
            f();
        }
    }
}

impl std::fmt::Debug for Retired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Retired")
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
            // It was published here, and whoever swaps it out owns it (invariant 5).
            let old = Fresh(old);
            pin.retire(old.bytes(), Retired::Words(old));
        }
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

/// Lets some time pass, for the so-manyth time that something was not free.
pub(crate) fn pause(turn: u32) {
    /// So often it is mostly free soon. Then whoever has it may be waiting for this processor.
    const SPINS: u32 = 100;
    if turn.is_multiple_of(SPINS) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Begins to load the cache line of `value`.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    prefetch_at(ptr::from_ref(value).cast());
}

/// Begins to load a line and the one after it, if there is one.
#[inline]
pub(crate) fn prefetch_two(line: &Line) {
    let line = ptr::from_ref(line);
    prefetch_at(line.cast());
    prefetch_at(line.wrapping_add(1).cast());
}

#[inline]
fn prefetch_at(address: *const i8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch changes nothing, and of an address where nothing is it does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// The right to look at words.
#[derive(Debug)]
pub(crate) struct Pin(());

/// The right to look at words that others replace meanwhile.
#[derive(Debug)]
pub(crate) struct Reading<'c> {
    pin: Pin,
    _inside: Inside<'c>,
}

impl Deref for Reading<'_> {
    type Target = Pin;

    #[inline]
    fn deref(&self) -> &Pin {
        &self.pin
    }
}

/// The right to replace words, with what that leaves behind.
#[derive(Debug)]
pub(crate) struct WritePin {
    retired: RefCell<Vec<Retired>>,
    retired_bytes: Cell<usize>,
    is_exclusive: bool,
    pin: Pin,
    bytes: Cell<isize>,
}

impl WritePin {
    fn new(is_exclusive: bool) -> Self {
        Self {
            retired: RefCell::default(),
            retired_bytes: Cell::new(0),
            is_exclusive,
            pin: Pin(()),
            bytes: Cell::new(0),
        }
    }

    /// Keeps so many bytes, which nobody can reach any more, for those who still look at them.
    fn retire(&self, bytes: isize, old: Retired) {
        self.count(-bytes);
        self.retired_bytes.set(self.retired_bytes.get() + bytes.unsigned_abs());
        self.retired.borrow_mut().push(old);
    }

    /// Whether nobody reads while this pin lives.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    /// Runs `f` when no reader of now is left: at once if there is none.
    pub(crate) fn after_readers(&self, f: impl FnOnce() + Send + 'static) {
        if self.is_exclusive {
            f();
        } else {
            self.retire(0, Retired::Then(Some(Box::new(f))));
        }
    }

    /// Books `bytes` more (or fewer) as allocated.
    pub(crate) fn count(&self, bytes: isize) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Books that something takes `now` bytes instead of `before`.
    pub(crate) fn recount(&self, before: usize, now: usize) {
        self.count((now as isize).wrapping_sub(before as isize));
    }

    /// Bytes allocated less bytes given back under this pin, since they were last taken.
    pub(crate) fn bytes(&self) -> isize {
        self.bytes.get()
    }

    /// As `bytes`, and begins to count anew.
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

/// A structure of words that one owner reads and writes: memory is freed when a write ends.
#[derive(Debug)]
pub(crate) struct Exclusive<T>(T);

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }

    #[inline]
    pub(crate) fn read(&self) -> (&T, Pin) {
        (&self.0, Pin(()))
    }

    #[inline]
    pub(crate) fn write(&mut self) -> (&mut T, WritePin) {
        (&mut self.0, WritePin::new(true))
    }
}

/// A structure of words `T` that many threads read while others write it, one at a time in each *lane*,
/// each lane with what only its writers know, `L`.
///
/// What a writer replaced is freed by writers alone, when all who were reading then have ended: at the latest
/// when some dozens of things wait or 64 KiB, and nobody who was there before reads any more. A reader
/// that is held up inside a query keeps what is replaced meanwhile, however much that is.
///
/// Writers of different lanes are no danger to this module, whatever they do: words are atomics, and of
/// two who replace the same slice each retires what it swapped out itself.
#[derive(Debug)]
pub(crate) struct Concurrent<T, L> {
    published: T,
    lanes: Turns<L>,
    epochs: Epochs<Retired>,
}

/// A write under way. What it retires goes where readers keep it, also if the write panics.
struct Writing<'c> {
    epochs: &'c Epochs<Retired>,
    inside: Option<Inside<'c>>,
    pin: WritePin,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        // Nobody waits for this writer any more.
        self.inside = None;
        let retired = self.pin.retired.take();
        if !retired.is_empty() {
            self.epochs.put_away(retired.into_iter(), self.pin.retired_bytes.get());
        }
    }
}

/// Another number for every thread that runs: each has a stack of its own.
#[inline]
fn who() -> u64 {
    let here = 0u8;
    // Stacks lie some 64 KiB apart at least and mostly at equal distances, which multiplying by the golden
    // ratio spreads evenly.
    let stack = ptr::from_ref(&here).addr() as u64 >> 16;
    stack.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<T, L> Concurrent<T, L> {
    pub(crate) fn new(published: T, lanes: Turns<L>) -> Self {
        let epochs = Epochs::new(OWN_SLOTS, SHARED_SLOTS);
        Self { published, lanes, epochs }
    }

    /// Bytes beside the structure and what it holds.
    pub(crate) const fn fixed_bytes() -> usize {
        Epochs::<Retired>::bytes(OWN_SLOTS, SHARED_SLOTS)
    }

    #[inline]
    pub(crate) fn read(&self) -> (&T, Reading<'_>) {
        (&self.published, Reading { pin: Pin(()), _inside: self.epochs.enter(who()) })
    }

    /// Runs `f` in turn with other writers of the lane of `number`, and beside those of others.
    pub(crate) fn write<R>(
        &self,
        number: usize,
        f: impl for<'w> FnOnce(&'w T, &'w mut L, &'w WritePin) -> R,
    ) -> R {
        let writing = self.begin();
        let mut lane = self.lanes.take(number);
        let done = f(&self.published, &mut lane, &writing.pin);
        // The lock is open again before anything is freed.
        drop(lane);
        done
    }

    /// Runs `f` when there is no other writer.
    pub(crate) fn write_alone<R>(
        &self,
        f: impl for<'w> FnOnce(&'w T, Vec<MutexGuard<'w, L>>, &'w WritePin) -> R,
    ) -> R {
        let writing = self.begin();
        f(&self.published, self.lanes.take_all(), &writing.pin)
    }

    fn begin(&self) -> Writing<'_> {
        let inside = Some(self.epochs.enter(who()));
        Writing { epochs: &self.epochs, inside, pin: WritePin::new(false) }
    }

    /// Frees what no reader can still mean, now rather than later.
    pub(crate) fn catch_up(&self) {
        self.epochs.collect();
    }
}
