//! Answers.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::boundary::{call, or, required, write};
use super::error::{rate_limit, rt_error, rt_status};
use super::handle::{Handle, give, lend, lend_opt, tag};
use super::op::rt_op;
use super::request::rt_req;
use super::text::{c_text, pointer, text};
use super::transport::rt_transport;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::request::Request;
use crate::response::{Head, Response};
use crate::transport::Transport;

/// An answer whose body has not been read yet. Keeps what it needs of transport and op alive. One thread at a
/// time.
pub struct rt_response {
    _private: [u8; 0],
}

/// A response: its head, with texts as C wants them once it asks, and its body, which one call at a time reads.
pub(super) struct CResponse {
    head: Arc<Head>,
    headers: OnceLock<Vec<(CString, CString)>>,
    digest: OnceLock<Option<CString>>,
    url: OnceLock<CString>,
    host: OnceLock<CString>,
    body: Mutex<Body>,
}

struct Body {
    response: Response,
    /// The rest of the bytes with a NUL behind them, once they were lent.
    lent: Option<Vec<u8>>,
}

// SAFETY: no other type has this tag.
unsafe impl Handle for CResponse {
    type C = rt_response;
    const TAG: u32 = tag(9);
    const NAME: &'static str = "rt_response";
}

/// Hands a response over to C.
pub(super) fn give_response(response: Response) -> *mut rt_response {
    give(CResponse {
        head: Arc::clone(response.head()),
        headers: OnceLock::new(),
        digest: OnceLock::new(),
        url: OnceLock::new(),
        host: OnceLock::new(),
        body: Mutex::new(Body {
            response,
            lent: None,
        }),
    })
}

impl CResponse {
    fn headers(&self) -> &[(CString, CString)] {
        self.headers.get_or_init(|| {
            let pairs = self.head.headers.iter();
            pairs
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    (c_text(name.as_str()), c_text(&value))
                })
                .collect()
        })
    }

    /// The body, for one call at a time: a callback of a call that reads it cannot read it too.
    fn body(&self) -> Result<MutexGuard<'_, Body>> {
        self.body
            .try_lock()
            .map_err(|_| Error::state("the body is in use by another call"))
    }

    /// The body, unless it was lent as a whole.
    fn unread(&self) -> Result<MutexGuard<'_, Body>> {
        let body = self.body()?;
        if body.lent.is_some() {
            return Err(Error::state(
                "the body was already read by rt_response_body",
            ));
        }
        Ok(body)
    }
}

impl Body {
    /// The rest of the body, and a NUL.
    fn lend(&mut self) -> Result<&[u8]> {
        if self.lent.is_none() {
            let mut bytes = self.response.take_body()?;
            bytes.push(0);
            self.lent = Some(bytes);
        }
        Ok(self.lent.as_deref().unwrap_or_default())
    }
}

/// Receives len bytes, which live until it returns. Returns 0, or non-zero to stop with RT_E_CANCELLED.
pub type rt_write_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, data: *const c_void, len: usize) -> i32>;

/// Sends r and waits for the head of its answer: gets a token when one is needed, follows redirects, and repeats
/// what may be repeated. *out is the answer, whose body is read with rt_response_body, rt_response_read,
/// rt_response_drain or rt_response_save. op may be NULL; it also governs the reading. A status that r does not
/// accept is RT_E_STATUS (401: RT_E_AUTH) with the registry's diagnostics, a media type that it does not accept
/// RT_E_MEDIA_TYPE, a part (206) that is not the one which its Range asks for RT_E_PROTOCOL; mistakes in r are
/// RT_E_SYNTAX or RT_E_ARG; RT_E_NETWORK, RT_E_TLS, RT_E_TIMEOUT, RT_E_CANCELLED, RT_E_PROTOCOL, RT_E_LIMIT and
/// RT_E_STATE are as they say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_request(
    t: *const rt_transport,
    r: *const rt_req,
    op: *const rt_op,
    out: *mut *mut rt_response,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let response = lend::<Transport>(t)?
                .request(&*lend::<Request>(r)?, lend_opt::<Op>(op)?.as_deref())?;
            write(out, give_response(response));
            Ok(())
        })
    }
}

/// HTTP status; -1 if r is no response.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_status(r: *const rt_response) -> i32 {
    or(-1, || {
        // SAFETY: the header's rules for handles.
        Ok(i32::from(unsafe { lend::<CResponse>(r) }?.head.status))
    })
}

/// Value of the first header of that name, in any case, or NULL. What is not UTF-8 in it is replaced. Lives as
/// long as r.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_header(
    r: *const rt_response,
    name: *const c_char,
) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles and text.
        let (r, name) = unsafe { (lend::<CResponse>(r)?, text(name, "name")?) };
        let found = r
            .headers()
            .iter()
            .find(|(n, _)| n.as_bytes().eq_ignore_ascii_case(name.as_bytes()));
        Ok(pointer(found.map(|(_, value)| value)))
    })
}

/// How many headers there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_header_count(r: *const rt_response) -> usize {
    // SAFETY: the header's rules for handles.
    or(0, || Ok(unsafe { lend::<CResponse>(r) }?.headers().len()))
}

/// Header i. Returns its name, in lower case, and sets *value, or returns NULL if i is out of range. value may be
/// NULL. Both live as long as r.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_header_at(
    r: *const rt_response,
    i: usize,
    value: *mut *const c_char,
) -> *const c_char {
    // SAFETY: the header's rules for outs and handles.
    unsafe {
        write(value, std::ptr::null());
        or(std::ptr::null(), || {
            let r = lend::<CResponse>(r)?;
            let header = r.headers().get(i);
            write(value, pointer(header.map(|(_, value)| value)));
            Ok(pointer(header.map(|(name, _)| name)))
        })
    }
}

/// Length of the body in bytes if the registry told it, or -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_length(r: *const rt_response) -> i64 {
    or(-1, || {
        // SAFETY: the header's rules for handles.
        let length = unsafe { lend::<CResponse>(r) }?.head.length();
        Ok(length.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1))
    })
}

/// What the answer says about request limits, from the RateLimit fields in use: requests allowed in a window,
/// how many are left in it, its length, and the time until the count begins anew; -1 for what it does not say.
/// Each pointer may be NULL. Returns 1 if the answer said anything, else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_rate_limit(
    r: *const rt_response,
    limit: *mut i64,
    remaining: *mut i64,
    window_ms: *mut i64,
    reset_ms: *mut i64,
) -> i32 {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        rate_limit([limit, remaining, window_ms, reset_ms], || {
            Ok(lend::<CResponse>(r)?.head.rate_limit())
        })
    }
}

/// Digest of the content, or NULL: of a manifest or blob the one that is checked, of an answer to rt_request what
/// the registry told. Lives as long as r.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_digest(r: *const rt_response) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        let r = unsafe { lend::<CResponse>(r) }?;
        let told = || r.head.digest.as_ref().map(|d| c_text(d.as_str()));
        Ok(pointer(r.digest.get_or_init(told).as_ref()))
    })
}

/// The scheme, host, port and path that answered, after redirects; the query, which may hold a signature, is left
/// out. Lives as long as r.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_url(r: *const rt_response) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        let r = unsafe { lend::<CResponse>(r) }?;
        Ok(r.url.get_or_init(|| c_text(&r.head.url.shown())).as_ptr())
    })
}

/// Host and port of the registry that served this, or of the mirror that did so in its place (options "hosts-dir"
/// and "registries-conf"), without the port where it is the usual one. A redirect from there to a storage does not
/// change it. Lives as long as r.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_host(r: *const rt_response) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        let r = unsafe { lend::<CResponse>(r) }?;
        Ok(r.host.get_or_init(|| c_text(&r.head.authority)).as_ptr())
    })
}

/// 1 if the credentials were refused and the request was sent without (option "anonymous-fallback"), else 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_is_anonymous(r: *const rt_response) -> i32 {
    or(0, || {
        // SAFETY: the header's rules for handles.
        Ok(i32::from(
            unsafe { lend::<CResponse>(r) }?.head.is_anonymous,
        ))
    })
}

/// Reads up to cap bytes into buf and sets *len; 0 is the end. Of a manifest or blob the end is only reported if
/// the digest matched, else RT_E_DIGEST: until then the bytes are not certain. A body that failed stays failed.
/// RT_E_STATE after rt_response_body.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_read(
    r: *mut rt_response,
    buf: *mut c_void,
    cap: usize,
    len: *mut usize,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, buffers and outs.
    unsafe {
        write(len, 0);
        call(err, || {
            required(len, "len")?;
            let r = lend::<CResponse>(r)?;
            let n = r.unread()?.response.read(buffer(buf, cap, "buf")?)?;
            write(len, n);
            Ok(())
        })
    }
}

/// Reads the rest into memory (at most "max-body-bytes", else RT_E_LIMIT) and lends it until r is freed. A NUL
/// follows the last byte. May be called again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_body(
    r: *mut rt_response,
    data: *mut *const c_void,
    len: *mut usize,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        write(data, std::ptr::null());
        write(len, 0);
        call(err, || {
            required(data, "data")?;
            required(len, "len")?;
            let r = lend::<CResponse>(r)?;
            let mut body = r.body()?;
            let bytes = body.lend()?;
            write(data, bytes.as_ptr().cast());
            write(len, bytes.len().saturating_sub(1));
            Ok(())
        })
    }
}

/// Passes the rest to f, piece by piece. RT_E_CANCELLED if f returns non-zero, RT_E_STATE after rt_response_body.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_drain(
    r: *mut rt_response,
    f: rt_write_fn,
    user: *mut c_void,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, callbacks and outs.
    unsafe {
        call(err, || {
            let f = f.ok_or_else(|| Error::argument("f is NULL"))?;
            let r = lend::<CResponse>(r)?;
            r.unread()?
                .response
                .drain(&mut |piece| f(user, piece.as_ptr().cast(), piece.len()) == 0)
        })
    }
}

/// Writes the rest to a new file that appears only if all went well. A file, or a link, that is there is
/// replaced. RT_E_IO if it cannot be written, or if a folder, a device, a pipe or a
/// link to one of the last two is there; RT_E_STATE after rt_response_body.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_response_save(
    r: *mut rt_response,
    path: *const c_char,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        call(err, || {
            let r = lend::<CResponse>(r)?;
            r.unread()?.response.save(Path::new(text(path, "path")?))
        })
    }
}

/// A buffer to be filled.
///
/// # Safety
/// `buf` is NULL or has `cap` writable bytes, which live for `'a`.
pub(super) unsafe fn buffer<'a>(buf: *mut c_void, cap: usize, name: &str) -> Result<&'a mut [u8]> {
    if cap == 0 {
        return Ok(&mut []);
    }
    if buf.is_null() || isize::try_from(cap).is_err() {
        return Err(Error::argument(format!(
            "{name} is NULL or longer than memory can be"
        )));
    }
    // SAFETY: as above. The bytes may be uninitialised in C; they are only written.
    Ok(unsafe { std::slice::from_raw_parts_mut(buf.cast(), cap) })
}
