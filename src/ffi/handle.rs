//! Tagged boxes: what an opaque C pointer points to.
//!
//! A box counts the calls that use it. One that is changed by a call is refused to others, and one that is
//! given back in use, by a callback or another thread, goes when the last call that uses it returns.

use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::{Error, Result};

/// Ties an opaque C type to one Rust type.
///
/// # Safety
/// No two implementations may have the same `TAG`.
pub(super) unsafe trait Handle: Sized + Send + Sync + 'static {
    /// The opaque type in the header.
    type C;
    /// First bytes of every box of this type.
    const TAG: u32;
    /// Name for messages.
    const NAME: &'static str;
}

/// What a freed box is tagged with before its memory goes.
const FREED: u32 = 0xdead_f4ee;

/// Bit of `Head::users`: a call changes the value.
const CHANGING: u32 = 1 << 30;
/// Bit of `Head::users`: the handle was given back.
const GIVEN_BACK: u32 = 1 << 31;

#[repr(C)]
struct Head {
    tag: AtomicU32,
    /// How many calls read the value, and the bits above.
    users: AtomicU32,
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
        users: AtomicU32::new(0),
        poisoned: AtomicBool::new(false),
        drop: drop_box::<T>,
    };
    Box::into_raw(Box::new(Boxed { head, value })).cast()
}

/// Why a call may not use a handle.
enum Refused {
    Null,
    Unaligned,
    Mistaken,
    Poisoned,
    Busy,
}

/// One function for the messages of all types: each call of the API begins with several handles.
#[cold]
#[inline(never)]
fn refused(why: Refused, name: &str) -> Error {
    match why {
        Refused::Null => Error::argument(format!("a required {name} is NULL")),
        Refused::Unaligned => Error::argument(format!(
            "a handle given as {name} is none of this library's"
        )),
        Refused::Mistaken => Error::argument(format!(
            "a handle given as {name} is of another type or was given back"
        )),
        Refused::Poisoned => Error::state(format!(
            "a bug of the library was caught while this {name} was in use"
        )),
        Refused::Busy => Error::state(format!("this {name} is in use by another call")),
    }
}

/// A use of a handle by a call, which keeps it alive. A panic that ends it poisons the handle.
struct Use<T: Handle> {
    boxed: NonNull<Boxed<T>>,
    /// What it added to `Head::users`.
    weight: u32,
    was_panicking: bool,
}

impl<T: Handle> Use<T> {
    /// # Safety
    /// `pointer` is NULL or a live handle of this library.
    unsafe fn begin(pointer: *const T::C, weight: u32) -> Result<Self> {
        let Some(boxed) = NonNull::new(pointer.cast_mut().cast::<Boxed<T>>()) else {
            return Err(refused(Refused::Null, T::NAME));
        };
        if !boxed.is_aligned() {
            return Err(refused(Refused::Unaligned, T::NAME));
        }
        // SAFETY: the caller gives a handle of this library; its first bytes are a `Head` whatever its type.
        let head = unsafe { boxed.cast::<Head>().as_ref() };
        if head.tag.load(Ordering::Relaxed) != T::TAG {
            return Err(refused(Refused::Mistaken, T::NAME));
        }
        if head.poisoned.load(Ordering::Relaxed) {
            return Err(refused(Refused::Poisoned, T::NAME));
        }
        let entered = head
            .users
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |users| {
                let refused = if weight == CHANGING {
                    users != 0
                } else {
                    users & CHANGING != 0
                };
                (!refused).then(|| users + weight)
            });
        if entered.is_err() {
            return Err(refused(Refused::Busy, T::NAME));
        }
        Ok(Self {
            boxed,
            weight,
            was_panicking: std::thread::panicking(),
        })
    }

    fn value(&self) -> *mut T {
        // SAFETY: the box is alive while it is in use.
        unsafe { &raw mut (*self.boxed.as_ptr()).value }
    }
}

impl<T: Handle> Drop for Use<T> {
    fn drop(&mut self) {
        let head = self.boxed.cast::<Head>();
        // SAFETY: the box is alive until the last use ends; the last one, of a handle given back, drops it.
        unsafe {
            if std::thread::panicking() && !self.was_panicking {
                head.as_ref().poisoned.store(true, Ordering::Relaxed);
            }
            let before = head.as_ref().users.fetch_sub(self.weight, Ordering::AcqRel);
            if before == GIVEN_BACK | self.weight {
                (head.as_ref().drop)(head.as_ptr());
            }
        }
    }
}

/// The value behind a handle, for the length of a call.
pub(super) struct Lent<T: Handle> {
    the_use: Use<T>,
}

impl<T: Handle> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: nobody changes the value while uses like this one are counted.
        unsafe { &*self.the_use.value() }
    }
}

/// The value behind a handle, to be changed, for the length of a call.
pub(super) struct Held<T: Handle> {
    the_use: Use<T>,
}

impl<T: Handle> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this use is the only one.
        unsafe { &*self.the_use.value() }
    }
}

impl<T: Handle> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this use is the only one.
        unsafe { &mut *self.the_use.value() }
    }
}

/// The value behind a handle, without making an error: for signal handlers.
///
/// # Safety
/// As [`lend`], and `pointer` is not NULL.
pub(super) unsafe fn peek<'a, T: Handle>(pointer: *const T::C) -> Option<&'a T> {
    if !pointer.cast::<Boxed<T>>().is_aligned() {
        return None;
    }
    // SAFETY: as in `Use::begin`.
    unsafe {
        let right = (*pointer.cast::<Head>()).tag.load(Ordering::Relaxed) == T::TAG;
        right.then(|| &(*pointer.cast::<Boxed<T>>()).value)
    }
}

/// The value behind a handle. Fails with a `State` error while a call changes it.
///
/// # Safety
/// `pointer` is NULL or a live handle of this library.
pub(super) unsafe fn lend<T: Handle>(pointer: *const T::C) -> Result<Lent<T>> {
    // SAFETY: as above.
    unsafe { Use::begin(pointer, 1) }.map(|the_use| Lent { the_use })
}

/// The value behind a handle that may be NULL.
///
/// # Safety
/// As [`lend`].
pub(super) unsafe fn lend_opt<T: Handle>(pointer: *const T::C) -> Result<Option<Lent<T>>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as above.
    unsafe { lend::<T>(pointer).map(Some) }
}

/// The value behind a handle, to be changed. Fails with a `State` error while another call uses it.
///
/// # Safety
/// As [`lend`].
pub(super) unsafe fn lend_mut<T: Handle>(pointer: *mut T::C) -> Result<Held<T>> {
    // SAFETY: as above.
    unsafe { Use::begin(pointer, CHANGING) }.map(|the_use| Held { the_use })
}

/// Gives back any handle of any type. NULL does nothing. Every handle is given back exactly once, in any
/// order: handles keep what they need of each other alive. Does not wait for the network. Any thread, also in a
/// callback: a call that is running keeps what it uses until it returns, but none may still begin.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_free(handle: *mut c_void) {
    let head = handle.cast::<Head>();
    if head.is_null() || !head.is_aligned() {
        return;
    }
    super::boundary::quietly((), || {
        // SAFETY: a live handle begins with its head. Memory that was given back and not used for anything else is
        // only read, by a second call here: it belongs to the allocator, which keeps its own notes in it.
        unsafe {
            let tag = (*head).tag.load(Ordering::Relaxed);
            let ours = tag >> 8 == MAGIC
                && (*head)
                    .tag
                    .compare_exchange(tag, FREED, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok();
            if ours && (*head).users.fetch_or(GIVEN_BACK, Ordering::AcqRel) == 0 {
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
    use crate::error::ErrorKind;
    use std::sync::Arc;

    struct Apple(u32);
    /// Counts its drops, and has itself given back again while it goes.
    struct Pear {
        drops: Arc<AtomicU32>,
        own: *mut c_void,
    }
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

    // SAFETY: the pointer is only used by the drop.
    unsafe impl Send for Pear {}
    // SAFETY: as above.
    unsafe impl Sync for Pear {}

    impl Drop for Pear {
        fn drop(&mut self) {
            self.drops.fetch_add(1, Ordering::Relaxed);
            // SAFETY: the memory of the box is given back after this.
            unsafe {
                rt_free(self.own);
                assert!(lend::<Pear>(self.own.cast()).is_err());
            }
        }
    }

    fn pear() -> (*mut CPear, Arc<AtomicU32>) {
        let drops = Arc::new(AtomicU32::new(0));
        let pear = give(Pear {
            drops: Arc::clone(&drops),
            own: std::ptr::null_mut(),
        });
        // SAFETY: the handle was just made.
        unsafe { lend_mut::<Pear>(pear).unwrap().own = pear.cast() };
        (pear, drops)
    }

    fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
        result.err().map(|e| e.kind())
    }

    #[test]
    fn types_are_told_apart() {
        let apple = give(Apple(7));
        // SAFETY: a live handle, lent as what it is and as what it is not.
        unsafe {
            assert_eq!(lend::<Apple>(apple).unwrap().0, 7);
            assert!(peek::<Apple>(apple).is_some() && peek::<Pear>(apple.cast()).is_none());
            let wrong = lend::<Pear>(apple.cast()).err().unwrap();
            assert_eq!(wrong.kind(), ErrorKind::Argument);
            assert!(wrong.message().contains("pear"), "{wrong}");
            let odd = apple.cast::<u8>().wrapping_add(1).cast::<CApple>();
            assert_eq!(kind(lend::<Apple>(odd)), Some(ErrorKind::Argument));
            let null = std::ptr::null();
            assert_eq!(kind(lend::<Apple>(null)), Some(ErrorKind::Argument));
            assert!(lend_opt::<Apple>(null).unwrap().is_none());
            rt_free(apple.cast());
            rt_free(std::ptr::null_mut());
        }
    }

    /// What one call changes no other may use; readers do not disturb each other.
    #[test]
    fn one_changes_or_many_read() {
        let apple = give(Apple(7));
        // SAFETY: a live handle.
        unsafe {
            let first = lend::<Apple>(apple).unwrap();
            let second = lend::<Apple>(apple).unwrap();
            assert_eq!(kind(lend_mut::<Apple>(apple)), Some(ErrorKind::State));
            drop(first);
            assert_eq!(kind(lend_mut::<Apple>(apple)), Some(ErrorKind::State));
            drop(second);
            let mut changed = lend_mut::<Apple>(apple).unwrap();
            changed.0 = 8;
            assert_eq!(kind(lend::<Apple>(apple)), Some(ErrorKind::State));
            assert_eq!(kind(lend_mut::<Apple>(apple)), Some(ErrorKind::State));
            drop(changed);
            assert_eq!(lend::<Apple>(apple).unwrap().0, 8);
            rt_free(apple.cast());
        }
    }

    /// Given back in use, it goes with the last use; nobody can begin another.
    #[test]
    fn a_use_keeps_the_handle() {
        for changing in [false, true] {
            let (pear, drops) = pear();
            // SAFETY: the uses below began before the handle was given back.
            unsafe {
                let (lent, held) = if changing {
                    (vec![], Some(lend_mut::<Pear>(pear).unwrap()))
                } else {
                    let twice = [lend::<Pear>(pear).unwrap(), lend::<Pear>(pear).unwrap()];
                    (Vec::from(twice), None)
                };
                rt_free(pear.cast());
                assert_eq!(kind(lend::<Pear>(pear)), Some(ErrorKind::Argument));
                for lent in lent {
                    assert_eq!(lent.drops.load(Ordering::Relaxed), 0);
                }
                drop(held);
            }
            assert_eq!(drops.load(Ordering::Relaxed), 1, "changing: {changing}");
        }
    }

    /// A second `rt_free`, here while the first still runs, does nothing.
    #[test]
    fn a_second_free_does_nothing() {
        let (pear, drops) = pear();
        // SAFETY: given back once here; the drop does it again while the memory is still there.
        unsafe { rt_free(pear.cast()) };
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn threads_end_uses_in_any_order() {
        for _ in 0..200 {
            let (pear, drops) = pear();
            let gate = std::sync::Barrier::new(5);
            let shared = pear as usize;
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        // SAFETY: begun before the gate opens, given back after it.
                        let lent = unsafe { lend::<Pear>(shared as *const CPear) }.unwrap();
                        gate.wait();
                        drop(lent);
                    });
                }
                gate.wait();
                // SAFETY: all uses have begun.
                unsafe { rt_free(pear.cast()) };
            });
            assert_eq!(drops.load(Ordering::Relaxed), 1);
        }
    }
}
