//! What stands between the core and C: panics end here, and outs are always written.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::error::{rt_error, rt_status};
use super::handle::give;
use crate::error::{Error, Result};

thread_local! {
    /// How many calls from C this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Silences the message of panics that are caught here; others go to the hook there was.
fn install_hook() {
    // A fuzzer must see each panic.
    if cfg!(fuzzing) {
        return;
    }
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
        bug()
    })
}

#[cold]
#[inline(never)]
fn bug() -> Error {
    Error::internal("a bug of the library was caught; the handles involved are unusable")
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

/// For functions with a status and an error argument: writes the error or NULL.
///
/// # Safety
/// `err` is NULL or writable.
pub(super) unsafe fn call(err: *mut *mut rt_error, body: impl FnOnce() -> Result<()>) -> rt_status {
    // SAFETY: as above.
    unsafe {
        match guard(body).and_then(|r| r) {
            Ok(()) => {
                write(err, std::ptr::null_mut());
                0
            }
            Err(e) => failed(err, e),
        }
    }
}

/// # Safety
/// As [`call`].
#[cold]
#[inline(never)]
unsafe fn failed(err: *mut *mut rt_error, e: Error) -> rt_status {
    let status = e.kind() as rt_status;
    if !err.is_null() {
        // SAFETY: as above.
        unsafe { err.write(give(super::error::CError::new(e))) };
    }
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
        Err(missing(name))
    } else {
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn missing(name: &str) -> Error {
    Error::argument(format!("{name} is NULL"))
}

#[cfg(test)]
mod tests {
    use super::super::handle::{lend, lend_mut, lend_opt, rt_free};
    use super::*;
    use crate::error::ErrorKind;
    use crate::op::Op;
    use crate::request::Request;

    /// The handles that were in use when a bug was caught are unusable, whatever the function returns;
    /// others are not.
    #[test]
    fn a_bug_spoils_only_the_handles_in_use() {
        let (spoiled, other) = (give(Op::new()), give(Op::new()));
        let (changed, read) = (
            give(Request::new(None, "./a")),
            give(Request::new(None, "./b")),
        );
        let mut err = std::ptr::null_mut();
        // SAFETY: the handles were just made and are given back once.
        unsafe {
            let status_of_call = call(&mut err, || {
                let _in_use = (lend::<Op>(spoiled)?, lend_opt::<Request>(read)?);
                panic!("boom")
            });
            assert_eq!(status_of_call, 98);
            rt_free(err.cast());
            let plain = status(|| {
                let _in_use = lend_mut::<Request>(changed)?;
                panic!("boom")
            });
            assert_eq!(plain, 98);
            let state = Some(ErrorKind::State);
            assert_eq!(lend::<Op>(spoiled).err().map(|e| e.kind()), state);
            assert_eq!(lend::<Request>(read).err().map(|e| e.kind()), state);
            assert_eq!(lend_mut::<Request>(changed).err().map(|e| e.kind()), state);
            assert!(lend::<Op>(other).is_ok());
            rt_free(spoiled.cast());
            rt_free(other.cast());
            rt_free(changed.cast());
            rt_free(read.cast());
        }
    }

    /// A failure is no bug: the handle stays usable.
    #[test]
    fn a_failure_spoils_nothing() {
        let op = give(Op::new());
        // SAFETY: a live handle.
        unsafe {
            let failed = call(std::ptr::null_mut(), || {
                let _in_use = lend::<Op>(op)?;
                Err(Error::network("gone"))
            });
            assert_eq!(failed, ErrorKind::Network as i32);
            assert!(lend::<Op>(op).is_ok());
            rt_free(op.cast());
        }
    }

    #[test]
    fn panics_end_here() {
        assert_eq!(quietly(-1, || panic!("boom")), -1);
        assert_eq!(or(-1, || panic!("boom")), -1);
        assert_eq!(status(|| panic!("boom")), ErrorKind::Internal as i32);
        let mut err = std::ptr::null_mut();
        // SAFETY: the error argument is a local, no handles are involved.
        let got = unsafe { call(&mut err, || panic!("boom")) };
        assert_eq!(got, 98);
        assert!(!err.is_null());
        // SAFETY: the error was just made.
        unsafe { rt_free(err.cast()) };
    }

    /// Panics caught here print nothing, others do. The test runs itself, to see its output.
    #[test]
    fn caught_panics_are_silent() {
        const INSIDE: &str = "RT_TEST_PRINTS";
        if std::env::var_os(INSIDE).is_some() {
            assert_eq!(status(|| panic!("caught at the boundary")), 98);
            let _ = std::panic::catch_unwind(|| panic!("a panic of the program"));
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("ffi::boundary::tests::caught_panics_are_silent")
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}");
        assert!(printed.contains("a panic of the program"), "{printed}");
        assert!(!printed.contains("caught at the boundary"), "{printed}");
    }
}
