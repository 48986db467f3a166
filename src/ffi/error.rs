//! Failures.

use std::ffi::{CString, c_char};
use std::time::Duration;

use super::boundary::{or, write};
use super::handle::{Handle, lend, tag};
use super::text::{c_text, pointer};
use crate::error::{Error, Result};
use crate::rate_limit::RateLimit;

/// RT_OK or one of the RT_E_ values.
pub type rt_status = i32;
/// Success.
pub const RT_OK: i32 = 0;
/// A required pointer was NULL, a handle had the wrong type, text was not UTF-8, or a value is out of range.
pub const RT_E_ARG: i32 = 1;
/// Unknown option key, or what this build (see rt_has_feature), the registry or a configuration does not offer.
pub const RT_E_UNSUPPORTED: i32 = 2;
/// The name, path, digest or URL does not parse.
pub const RT_E_SYNTAX: i32 = 3;
/// Name resolution, connect, proxy, or a broken connection. Usually worth a retry.
pub const RT_E_NETWORK: i32 = 4;
/// TLS handshake or certificate failure.
pub const RT_E_TLS: i32 = 5;
/// A deadline or time-out passed.
pub const RT_E_TIMEOUT: i32 = 6;
/// rt_op_cancel or rt_transport_close was called, or a callback returned non-zero.
pub const RT_E_CANCELLED: i32 = 7;
/// No usable credentials, or the token service or registry refused them.
pub const RT_E_AUTH: i32 = 8;
/// The registry answered with a status the request did not accept.
pub const RT_E_STATUS: i32 = 9;
/// The answer had a media type the request did not accept.
pub const RT_E_MEDIA_TYPE: i32 = 10;
/// The bytes do not have the digest or the length they should have.
pub const RT_E_DIGEST: i32 = 11;
/// A limit was exceeded: one that an option sets, 128 header fields in an answer, or one that a function names; or
/// there was no memory for a body.
pub const RT_E_LIMIT: i32 = 12;
/// A local file could not be read or written; see rt_error_os_code.
pub const RT_E_IO: i32 = 13;
/// The peer broke HTTP or the registry protocol, or wanted to lead somewhere it may not.
pub const RT_E_PROTOCOL: i32 = 14;
/// The handle is busy, already consumed, or was made before fork().
pub const RT_E_STATE: i32 = 15;
/// A bug in this library was caught at the boundary; the handles involved are unusable.
pub const RT_E_INTERNAL: i32 = 98;
/// What a program takes a number for that it does not know. Never returned.
pub const RT_E_OTHER: i32 = 99;

/// A failure. Immutable; any thread may read it.
pub struct rt_error {
    _private: [u8; 0],
}

/// An error with its text as C wants it.
pub(super) struct CError {
    error: Error,
    message: CString,
    diagnostics: Vec<[Option<CString>; 3]>,
}

impl CError {
    pub(super) fn new(error: Error) -> Self {
        let text = |t: &Option<String>| t.as_deref().map(c_text);
        let diagnostics = error
            .diagnostics()
            .iter()
            .map(|d| [text(&d.code), text(&d.message), text(&d.detail)])
            .collect();
        Self {
            message: c_text(error.message()),
            diagnostics,
            error,
        }
    }
}

// SAFETY: no other type has this tag.
unsafe impl Handle for CError {
    type C = rt_error;
    const TAG: u32 = tag(1);
    const NAME: &'static str = "rt_error";
}

/// The status this error carries; RT_E_ARG if err is not an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_code(err: *const rt_error) -> rt_status {
    or(RT_E_ARG, || {
        // SAFETY: the header's rules for handles.
        Ok(unsafe { lend::<CError>(err) }?.error.kind() as rt_status)
    })
}

/// One line for people: what failed, on which host, what to do. No secrets, no line end. Lives as long as
/// err.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_message(err: *const rt_error) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        Ok(unsafe { lend::<CError>(err) }?.message.as_ptr())
    })
}

/// HTTP status of the answer, of the last one if the connection failed after it, or 0 if there was none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_http_status(err: *const rt_error) -> i32 {
    or(0, || {
        // SAFETY: the header's rules for handles.
        Ok(unsafe { lend::<CError>(err) }?
            .error
            .http_status()
            .map_or(0, i32::from))
    })
}

/// errno (or GetLastError) of the failed system call, or 0. errno itself is never set for you.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_os_code(err: *const rt_error) -> i32 {
    or(0, || {
        // SAFETY: the header's rules for handles.
        Ok(unsafe { lend::<CError>(err) }?.error.os_code().unwrap_or(0))
    })
}

/// Milliseconds to wait before trying again, or -1 if trying again is pointless. The registry's own word
/// (Retry-After, RFC 9110 section 10.2.3), up to a day, if it gave one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_retry_after_ms(err: *const rt_error) -> i64 {
    or(-1, || {
        // SAFETY: the header's rules for handles.
        let wait = unsafe { lend::<CError>(err) }?.error.retry_after();
        Ok(wait.map_or(-1, |w| i64::try_from(w.as_millis()).unwrap_or(i64::MAX)))
    })
}

/// What the refused answer said about request limits, as rt_response_rate_limit does. Returns 1 if it said
/// anything, else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_rate_limit(
    err: *const rt_error,
    limit: *mut i64,
    remaining: *mut i64,
    window_ms: *mut i64,
    reset_ms: *mut i64,
) -> i32 {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        rate_limit([limit, remaining, window_ms, reset_ms], || {
            Ok(lend::<CError>(err)?.error.rate_limit())
        })
    }
}

/// Writes what `told` says, -1 for what it does not say.
///
/// # Safety
/// The outs are NULL or writable.
pub(super) unsafe fn rate_limit(
    outs: [*mut i64; 4],
    told: impl FnOnce() -> Result<Option<RateLimit>>,
) -> i32 {
    let told = or(None, told);
    let limit = told.unwrap_or_default();
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let values = [
        limit.limit,
        limit.remaining,
        limit.window.map(millis),
        limit.reset.map(millis),
    ];
    for (out, value) in outs.into_iter().zip(values) {
        let value = value.map_or(-1, |v| i64::try_from(v).unwrap_or(i64::MAX));
        // SAFETY: the caller's.
        unsafe { write(out, value) };
    }
    i32::from(told.is_some())
}

/// How many diagnostics the registry sent with the failure (distribution-spec, "Error Codes").
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_diag_count(err: *const rt_error) -> usize {
    // SAFETY: the header's rules for handles.
    or(0, || Ok(unsafe { lend::<CError>(err) }?.diagnostics.len()))
}

/// Diagnostic i: its code ("MANIFEST_UNKNOWN"), "UNKNOWN" for a body that was not understood. NULL if there is
/// none or i is out of range. Lives as long as err.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_diag_code(err: *const rt_error, i: usize) -> *const c_char {
    // SAFETY: the header's rules for handles.
    unsafe { diagnostic(err, i, 0) }
}

/// Diagnostic i: the registry's message, or NULL. Lives as long as err.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_diag_message(err: *const rt_error, i: usize) -> *const c_char {
    // SAFETY: the header's rules for handles.
    unsafe { diagnostic(err, i, 1) }
}

/// Diagnostic i: its detail as JSON text, or NULL. Lives as long as err.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_error_diag_detail(err: *const rt_error, i: usize) -> *const c_char {
    // SAFETY: the header's rules for handles.
    unsafe { diagnostic(err, i, 2) }
}

unsafe fn diagnostic(err: *const rt_error, i: usize, part: usize) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the caller's.
        let error = unsafe { lend::<CError>(err) }?;
        Ok(pointer(
            error
                .diagnostics
                .get(i)
                .and_then(|d| d.get(part))
                .and_then(Option::as_ref),
        ))
    })
}
