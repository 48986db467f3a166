//! What stands between the core and C: panics end here, and outs are always written.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::error::{rt_error, rt_status};
use super::handle::{give, poison};
use crate::error::{Error, Result};

thread_local! {
    /// How many calls from C this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Silences the message of panics that are caught here; others go to the hook there was.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = DEPTH.try_with(|d| d.get() > 0).unwrap_or(true)
                || std::thread::current()
                    .name()
                    .is_some_and(|n| n.starts_with("rt-"));
            if !ours {
                previous(info);
            }
        }));
    });
}

/// Runs `body` without letting a panic out.
fn guard<T>(body: impl FnOnce() -> T) -> Result<T> {
    install_hook();
    DEPTH.with(|d| d.set(d.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(body));
    DEPTH.with(|d| d.set(d.get().saturating_sub(1)));
    result.map_err(|payload| {
        // The payload's own drop may panic; it is small, and this happens once in a bug.
        std::mem::forget(payload);
        Error::internal("a bug of the library was caught; the handle involved is unusable")
    })
}

/// For functions without a status: the neutral value stands for every failure.
pub(super) fn quietly<T>(neutral: T, body: impl FnOnce() -> T) -> T {
    guard(body).unwrap_or(neutral)
}

/// As [`quietly`] for bodies that may fail.
pub(super) fn or<T>(neutral: T, body: impl FnOnce() -> Result<T>) -> T {
    guard(body).and_then(|r| r).unwrap_or(neutral)
}

/// For functions with a status and no error argument.
pub(super) fn status(body: impl FnOnce() -> Result<()>) -> rt_status {
    match guard(body).and_then(|r| r) {
        Ok(()) => 0,
        Err(e) => e.kind() as rt_status,
    }
}

/// For functions with a status and an error argument: writes the error or NULL. A panic makes `involved`
/// unusable.
///
/// # Safety
/// `err` is NULL or writable; `involved` are NULL or live handles.
pub(super) unsafe fn call(
    err: *mut *mut rt_error,
    involved: &[*const c_void],
    body: impl FnOnce() -> Result<()>,
) -> rt_status {
    let result = guard(body).unwrap_or_else(|bug| {
        for handle in involved {
            // SAFETY: as above.
            unsafe { poison(*handle) };
        }
        Err(bug)
    });
    let (status, error) = match result {
        Ok(()) => (0, std::ptr::null_mut()),
        Err(e) => (
            e.kind() as rt_status,
            if err.is_null() {
                std::ptr::null_mut()
            } else {
                give(super::error::CError::new(e))
            },
        ),
    };
    // SAFETY: as above.
    unsafe { write(err, error) };
    status
}

/// Writes an out-argument that may be NULL.
///
/// # Safety
/// `out` is NULL or writable.
pub(super) unsafe fn write<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: as above.
        unsafe { out.write(value) };
    }
}

/// Refuses an out-argument that is NULL although the result has nowhere else to go.
pub(super) fn required<T>(out: *mut T, name: &str) -> Result<()> {
    if out.is_null() {
        Err(Error::argument(format!("{name} is NULL")))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// ABI 31: the handle that was in use when a bug was caught is unusable, others are not.
    #[test]
    fn a_bug_spoils_only_its_handle() {
        let (spoiled, other) = (give(crate::op::Op::new()), give(crate::op::Op::new()));
        let mut err = std::ptr::null_mut();
        // SAFETY: the handles were just made and are given back once.
        unsafe {
            assert_eq!(
                call(&mut err, &[spoiled.cast_const().cast()], || panic!("boom")),
                98
            );
            super::super::handle::rt_free(err.cast());
            let state = super::super::handle::lend::<crate::op::Op>(spoiled)
                .err()
                .unwrap();
            assert_eq!(state.kind(), ErrorKind::State);
            assert!(super::super::handle::lend::<crate::op::Op>(other).is_ok());
            super::super::handle::rt_free(spoiled.cast());
            super::super::handle::rt_free(other.cast());
        }
    }

    #[test]
    fn panics_end_here() {
        assert_eq!(quietly(-1, || panic!("boom")), -1);
        assert_eq!(status(|| panic!("boom")), ErrorKind::Internal as i32);
        let mut err = std::ptr::null_mut();
        // SAFETY: the error argument is a local, no handles are involved.
        let got = unsafe { call(&mut err, &[], || panic!("boom")) };
        assert_eq!(got, 98);
        assert!(!err.is_null());
        // SAFETY: the error was just made.
        unsafe { super::super::handle::rt_free(err.cast()) };
    }
}
