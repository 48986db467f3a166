//! Control of running calls.

use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use super::boundary::{or, quietly, status, write};
use super::callback::{User, rt_drop_fn};
use super::error::rt_status;
use super::handle::{Handle, give, lend, tag};
use crate::error::Error;
use crate::op::Op;

/// Control of one running call from other threads: cancel, progress, time limit.
pub struct rt_op {
    _private: [u8; 0],
}

// SAFETY: no other type has this tag.
unsafe impl Handle for Op {
    type C = rt_op;
    const TAG: u32 = tag(5);
    const NAME: &'static str = "rt_op";
}

/// Reports done of total bytes (total is -1 when unknown). Returns 0, or non-zero to stop the call with
/// RT_E_CANCELLED.
pub type rt_progress_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, done: i64, total: i64) -> i32>;

/// A fresh control object, for one call (and the reading of its answer) at a time. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn rt_op_new() -> *mut rt_op {
    quietly(std::ptr::null_mut(), || give(Op::new()))
}

/// Stops the call using op, now or when it starts, within about 200 ms, in whatever it is doing. For good: later
/// calls with this op end at once. Any thread; async-signal-safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_op_cancel(op: *const rt_op) {
    // A signal handler may run this: nothing here allocates, locks or unwinds.
    if !op.is_null() {
        // SAFETY: the header's rules for handles.
        if let Some(op) = unsafe { super::handle::peek::<Op>(op) } {
            op.cancel();
        }
    }
}

/// Limits each later call using op to ms milliseconds in all, the reading of its answer included; 0 removes the
/// limit. RT_E_ARG for a negative number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_op_set_timeout_ms(op: *mut rt_op, ms: i64) -> rt_status {
    status(|| {
        // SAFETY: the header's rules for handles.
        let op = unsafe { lend::<Op>(op) }?;
        let ms = u64::try_from(ms).map_err(|_| Error::argument("ms is negative"))?;
        op.set_timeout((ms > 0).then(|| Duration::from_millis(ms)));
        Ok(())
    })
}

/// Body bytes moved so far and in all (-1 unknown). Any thread. Either pointer may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_op_progress(op: *const rt_op, done: *mut i64, total: *mut i64) {
    // SAFETY: the header's rules for handles.
    let (d, t) = or((0, None), || Ok(unsafe { lend::<Op>(op) }?.progress()));
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // SAFETY: the header's rules for outs.
    unsafe {
        write(done, number(d));
        write(total, t.map_or(-1, number));
    }
}

/// Calls f as bytes move, on the thread running the call. NULL f removes it. drop may be NULL; it runs when f is
/// replaced or removed, or when op and every answer got under it are freed, also when this call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_op_set_progress(
    op: *mut rt_op,
    f: rt_progress_fn,
    user: *mut c_void,
    drop: rt_drop_fn,
) -> rt_status {
    let user = User::new(user, drop);
    status(move || {
        // SAFETY: the header's rules for handles.
        let op = unsafe { lend::<Op>(op) }?;
        op.set_progress(f.map(|f| {
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            Arc::new(move |done: u64, total: Option<u64>| {
                // SAFETY: the header asks for a function of this type.
                unsafe { f(user.get(), number(done), total.map_or(-1, number)) == 0 }
            }) as Arc<crate::op::ProgressFn>
        }));
        Ok(())
    })
}
