//! Locks beside each other: who takes another one than everybody else waits for nobody.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// How often a writer asks for its turn before it sleeps until it comes: most are shorter than going to
/// sleep and being woken.
const SPINS: usize = 400;

/// Locks by number, each with a cache line of its own.
#[derive(Debug)]
pub(crate) struct Turns<T>(Box<[Apart<Mutex<T>>]>);

/// Something that writers change all the time, in cache lines of its own: nobody else has to fetch again
/// what lies beside it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Apart<T>(pub(crate) T);

impl<T> Deref for Apart<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Default> Turns<T> {
    /// At least `count`, a power of two.
    pub(crate) fn new(count: usize) -> Self {
        let turn = |_| Apart(Mutex::new(T::default()));
        Self((0..count.next_power_of_two()).map(turn).collect())
    }
}

impl<T> Turns<T> {
    /// Bytes beside what the values hold.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len() * size_of::<Apart<Mutex<T>>>()
    }

    /// Waits for the lock of `number`, which others share.
    #[inline]
    pub(crate) fn take(&self, number: usize) -> MutexGuard<'_, T> {
        take(&self.0[number & (self.0.len() - 1)])
    }

    /// Waits for all of them, one after the other.
    pub(crate) fn take_all(&self) -> Vec<MutexGuard<'_, T>> {
        self.0.iter().map(|turn| take(turn)).collect()
    }
}

/// Waits for a lock. A writer that panicked left every word valid: each is read on its own.
#[inline]
pub(crate) fn take<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.try_lock() {
        Ok(guard) => guard,
        Err(_) => wait(mutex),
    }
}

#[cold]
fn wait<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for _ in 0..SPINS {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(guard)) => return guard.into_inner(),
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
        }
    }
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
