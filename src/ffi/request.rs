//! Requests.

use std::ffi::{c_char, c_void};

use super::boundary::{or, status};
use super::error::rt_status;
use super::handle::{Handle, give, lend, lend_mut, tag};
use super::source::rt_source;
use super::text::{bytes, text, text_opt};
use crate::error::Error;
use crate::request::Request;
use crate::source::Source;

/// A request being described; reusable for any number of calls, by many threads once it is complete.
pub struct rt_req {
    _private: [u8; 0],
}

// SAFETY: no other type has this tag.
unsafe impl Handle for Request {
    type C = rt_req;
    const TAG: u32 = tag(7);
    const NAME: &'static str = "rt_req";
}

/// Describes METHOD path. method NULL is GET, or PUT once there is a body. path is "/v2/..." of the registry,
/// "./..." of the repository, or a URL; a URL of another origin is asked for without credentials. Mistakes in
/// them, and in what is added, are reported by the call that sends it. NULL if path is NULL or not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_req_new(method: *const c_char, path: *const c_char) -> *mut rt_req {
    or(std::ptr::null_mut(), || {
        // SAFETY: the header's rules for text.
        unsafe {
            Ok(give(Request::new(
                text_opt(method, "method")?,
                text(path, "path")?,
            )))
        }
    })
}

/// Adds a header. Headers that frame the message (Content-Length, Transfer-Encoding, Host, ...) are refused when
/// it is sent; an Authorization header replaces the transport's credentials.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_req_header(
    r: *mut rt_req,
    name: *const c_char,
    value: *const c_char,
) -> rt_status {
    status(|| {
        // SAFETY: the header's rules for handles and text.
        unsafe { lend_mut::<Request>(r)?.header(text(name, "name")?, text(value, "value")?) };
        Ok(())
    })
}

/// Sets the body; the bytes are copied. data may be NULL if len is 0: an empty body is a body. Without a
/// Content-Type header it is sent as application/json.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_req_body(r: *mut rt_req, data: *const c_void, len: usize) -> rt_status {
    status(|| {
        // SAFETY: the header's rules for handles and buffers.
        unsafe { lend_mut::<Request>(r)?.body(Source::bytes(bytes(data, len, "data")?)) };
        Ok(())
    })
}

/// Sets the body to a source, which r keeps alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_req_source(r: *mut rt_req, body: *const rt_source) -> rt_status {
    status(|| {
        // SAFETY: the header's rules for handles.
        unsafe { lend_mut::<Request>(r)?.body(lend::<Source>(body)?.clone()) };
        Ok(())
    })
}

/// Accepts this HTTP status, 100 to 599; repeatable. With none named, 200 to 299 are accepted. A redirect status
/// that is named is given back, not followed; one that would be repeated is not. RT_E_ARG out of range.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_req_accept_status(r: *mut rt_req, http_status: i32) -> rt_status {
    status(|| {
        let number = u16::try_from(http_status)
            .ok()
            .filter(|s| (100..600).contains(s));
        let number = number.ok_or_else(|| Error::argument("http_status is not 100 to 599"))?;
        // SAFETY: the header's rules for handles.
        unsafe { lend_mut::<Request>(r)?.accept_status(number) };
        Ok(())
    })
}

/// Accepts this media type: sends it in Accept (RFC 9110 section 12.5.1) and checks the answer, without looking at
/// parameters and case; repeatable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_req_accept_type(
    r: *mut rt_req,
    media_type: *const c_char,
) -> rt_status {
    status(|| {
        // SAFETY: the header's rules for handles and text.
        unsafe { lend_mut::<Request>(r)?.accept_type(text(media_type, "media_type")?) };
        Ok(())
    })
}
