use crate::memory::{Out, reference};
use crate::status::{Failure, Status};

/// A kind of handle: the name that C knows, and what is behind it.
pub(crate) trait Kind: Sized {
    /// What every living handle of the kind begins with.
    const MAGIC: u64;
    /// What is behind it.
    type State;
}

/// What a handle points to. All kinds begin alike, so that one can be told from another.
#[repr(C)]
struct Body<T> {
    magic: u64,
    state: T,
}

/// Makes a handle, which the caller owns.
pub(crate) fn create<K: Kind>(state: K::State, out: Out<*mut K>) {
    let body = Box::new(Body { magic: K::MAGIC, state });
    out.write(Box::into_raw(body).cast());
}

/// What is behind a handle.
///
/// # Safety
///
/// `handle` is NULL or came from [`create`], of whatever kind, and is not freed while `'a` lasts.
pub(crate) unsafe fn borrow<'a, K: Kind>(
    what: &str,
    handle: *const K,
) -> Result<&'a K::State, Failure> {
    // SAFETY: every kind's body begins with the magic number.
    let magic = unsafe { reference(what, handle.cast::<u64>()) }?;
    if *magic != K::MAGIC {
        return Err(Failure::new(
            Status::WrongHandle,
            format_args!("`{what}` is not such a handle, or was freed"),
        ));
    }
    // SAFETY: the magic number says that `create` made it with this state.
    Ok(unsafe { &(*handle.cast::<Body<K::State>>()).state })
}

/// Frees a handle and sets the caller's pointer to NULL, so that freeing again does nothing.
///
/// # Safety
///
/// `handle` is NULL or the caller's pointer, which is NULL or came from [`create`]; nobody else
/// uses what it points to.
pub(crate) unsafe fn free<K: Kind>(what: &str, handle: *mut *mut K) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's promise.
    let own = *unsafe { reference(what, handle) }?;
    if own.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's promise.
    unsafe { borrow(what, own) }?;
    // SAFETY: the caller's promise.
    unsafe { Out::new(what, handle) }?.write(std::ptr::null_mut());
    let body = own.cast::<Body<K::State>>();
    // SAFETY: the magic number says that it is a body of this kind, and nobody else uses it.
    // Zeroed first, so that a stale copy of the pointer is caught for as long as nobody else
    // gets the memory.
    unsafe { (&raw mut (*body).magic).write_volatile(0) };
    // SAFETY: `create` made it with `Box::into_raw`.
    drop(unsafe { Box::from_raw(body) });
    Ok(())
}
