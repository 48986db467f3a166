//! Tagged boxes: what an opaque C pointer points to.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::{Error, Result};

/// Ties an opaque C type to one Rust type.
///
/// # Safety
/// No two implementations may have the same `TAG`.
pub(super) unsafe trait Handle: Sized + 'static {
    /// The opaque type in the header.
    type C;
    /// First bytes of every box of this type.
    const TAG: u32;
    /// Name for messages.
    const NAME: &'static str;
}

/// What a freed box is tagged with before its memory goes.
const FREED: u32 = 0xdead_f4ee;

#[repr(C)]
struct Head {
    tag: AtomicU32,
    /// A panic was caught while the handle was in use; what it holds may be half done.
    poisoned: AtomicBool,
    drop: unsafe fn(*mut Head),
}

#[repr(C)]
struct Boxed<T> {
    head: Head,
    value: T,
}

unsafe fn drop_box<T>(head: *mut Head) {
    // SAFETY: `give` stored this function in the head of a `Boxed<T>` from `Box::into_raw`.
    drop(unsafe { Box::from_raw(head.cast::<Boxed<T>>()) });
}

/// Hands a value over to C.
pub(super) fn give<T: Handle>(value: T) -> *mut T::C {
    let head = Head {
        tag: AtomicU32::new(T::TAG),
        poisoned: AtomicBool::new(false),
        drop: drop_box::<T>,
    };
    Box::into_raw(Box::new(Boxed { head, value })).cast()
}

unsafe fn check<T: Handle>(pointer: *const T::C) -> Result<*const Boxed<T>> {
    if pointer.is_null() {
        return Err(Error::argument(format!("a required {} is NULL", T::NAME)));
    }
    if !pointer.cast::<Head>().is_aligned() {
        return Err(Error::argument(format!(
            "a handle given as {} is none of this library's",
            T::NAME
        )));
    }
    // SAFETY: the caller gives a handle of this library; its first bytes are a `Head` whatever its type.
    let head = unsafe { &*pointer.cast::<Head>() };
    if head.tag.load(Ordering::Relaxed) != T::TAG {
        return Err(Error::argument(format!(
            "a handle given as {} is of another type or was given back",
            T::NAME
        )));
    }
    if head.poisoned.load(Ordering::Relaxed) {
        return Err(Error::state(format!(
            "a bug of the library was caught while this {} was in use",
            T::NAME
        )));
    }
    Ok(pointer.cast())
}

/// The value behind a handle, without making an error: for signal handlers.
///
/// # Safety
/// As [`lend`], and `pointer` is not NULL.
pub(super) unsafe fn peek<'a, T: Handle>(pointer: *const T::C) -> Option<&'a T> {
    if !pointer.cast::<Head>().is_aligned() {
        return None;
    }
    // SAFETY: as in `check`.
    unsafe {
        let right = (*pointer.cast::<Head>()).tag.load(Ordering::Relaxed) == T::TAG;
        right.then(|| &(*pointer.cast::<Boxed<T>>()).value)
    }
}

/// The value behind a handle.
///
/// # Safety
/// `pointer` is NULL or a live handle of this library, which stays alive for `'a`.
pub(super) unsafe fn lend<'a, T: Handle>(pointer: *const T::C) -> Result<&'a T> {
    // SAFETY: as above.
    unsafe { check::<T>(pointer).map(|b| &(*b).value) }
}

/// The value behind a handle that may be NULL.
///
/// # Safety
/// As [`lend`].
pub(super) unsafe fn lend_opt<'a, T: Handle>(pointer: *const T::C) -> Result<Option<&'a T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as above.
    unsafe { lend::<T>(pointer).map(Some) }
}

/// The value behind a handle, to be changed.
///
/// # Safety
/// As [`lend`], and no other thread uses the handle.
pub(super) unsafe fn lend_mut<'a, T: Handle>(pointer: *mut T::C) -> Result<&'a mut T> {
    // SAFETY: as above.
    unsafe { check::<T>(pointer).map(|b| &mut (*b.cast_mut()).value) }
}

/// Takes a value back from C.
///
/// # Safety
/// As [`lend`], and nobody uses the handle any more.
pub(super) unsafe fn take<T: Handle>(pointer: *mut T::C) -> Result<T> {
    // SAFETY: as above; the box came from `give`.
    unsafe {
        let boxed = check::<T>(pointer)?.cast_mut();
        (*boxed).head.tag.store(FREED, Ordering::Relaxed);
        Ok(Box::from_raw(boxed).value)
    }
}

/// Marks a handle, of any type, as unusable.
///
/// # Safety
/// `pointer` is NULL or a live handle of this library.
pub(super) unsafe fn poison(pointer: *const c_void) {
    if !pointer.is_null() {
        // SAFETY: as above.
        unsafe { &*pointer.cast::<Head>() }
            .poisoned
            .store(true, Ordering::Relaxed);
    }
}

/// Gives back any handle of any type. NULL does nothing. Every handle is given back exactly once, in any
/// order: handles keep what they need of each other alive. Does not wait for the network. Any thread, but no
/// call using the handle may be running or still begin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_free(handle: *mut c_void) {
    let head = handle.cast::<Head>();
    if head.is_null() || !head.is_aligned() {
        return;
    }
    super::boundary::quietly((), || {
        // SAFETY: a live handle begins with its head. Swapping the tag first lets a second free of memory
        // that was not reused yet do nothing.
        unsafe {
            let tag = (*head).tag.swap(FREED, Ordering::Relaxed);
            if tag >> 8 == MAGIC {
                ((*head).drop)(head);
            }
        }
    });
}

/// First three bytes of every tag.
const MAGIC: u32 = 0x72_74_68;

/// The tag with this number.
pub(super) const fn tag(number: u8) -> u32 {
    (MAGIC << 8) | number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Apple(u32);
    struct Pear;
    pub(super) struct CApple;
    pub(super) struct CPear;

    // SAFETY: the numbers are used by nothing else.
    unsafe impl Handle for Apple {
        type C = CApple;
        const TAG: u32 = tag(250);
        const NAME: &'static str = "apple";
    }

    // SAFETY: as above.
    unsafe impl Handle for Pear {
        type C = CPear;
        const TAG: u32 = tag(251);
        const NAME: &'static str = "pear";
    }

    #[test]
    fn types_are_told_apart() {
        let apple = give(Apple(7));
        // SAFETY: a live handle, lent as what it is and as what it is not.
        unsafe {
            assert_eq!(lend::<Apple>(apple).unwrap().0, 7);
            assert!(lend::<Pear>(apple.cast()).is_err());
            assert!(lend::<Apple>(std::ptr::null()).is_err());
            assert!(lend_opt::<Apple>(std::ptr::null()).unwrap().is_none());
            poison(apple.cast());
            assert_eq!(
                lend::<Apple>(apple).err().unwrap().kind(),
                crate::error::ErrorKind::State
            );
            rt_free(apple.cast());
            rt_free(std::ptr::null_mut());
            rt_free(give(Pear).cast());
        }
    }
}
