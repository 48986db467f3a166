//! Bytes to send.

use std::ffi::{c_char, c_void};

use super::boundary::or;
use super::callback::{User, rt_drop_fn};
use super::handle::{Handle, give, tag};
use super::text::{bytes, text};
use crate::error::{Error, Result};
use crate::source::{ReadBytes, Source};

/// Bytes to send: memory, a file, or a pair of callbacks. Immutable; one of callbacks is used by one call at a
/// time, else RT_E_STATE.
pub struct rt_source {
    _private: [u8; 0],
}

// SAFETY: no other type has this tag.
unsafe impl Handle for Source {
    type C = rt_source;
    const TAG: u32 = tag(8);
    const NAME: &'static str = "rt_source";
}

/// Fills buf with up to cap bytes. Returns the count, 0 at the end, negative to fail the call with
/// RT_E_CANCELLED.
pub type rt_read_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, buf: *mut c_void, cap: usize) -> i64>;

/// Goes back to the first byte so a request can be sent again. Returns 0, or non-zero if it cannot.
pub type rt_rewind_fn = Option<unsafe extern "C" fn(user: *mut c_void) -> i32>;

/// A copy of bytes in memory. NULL if data is NULL and len is not 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_source_bytes(data: *const c_void, len: usize) -> *mut rt_source {
    // SAFETY: the header's rules for buffers.
    or(std::ptr::null_mut(), || unsafe {
        Ok(give(Source::bytes(bytes(data, len, "data")?)))
    })
}

/// A file, opened anew for each attempt, by the call that sends it. NULL if path is NULL or not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_source_file(path: *const c_char) -> *mut rt_source {
    // SAFETY: the header's rules for text.
    or(std::ptr::null_mut(), || unsafe {
        Ok(give(Source::file(text(path, "path")?)))
    })
}

/// Callbacks, called on the thread of the call. size is -1 when unknown. rewind may be NULL: a request whose body
/// was begun can then not be sent again (after a 401, a broken connection, a redirect) and fails with RT_E_STATE.
/// NULL if read is NULL or size is below -1. drop may be NULL; it runs when the last user of the source is gone,
/// also when this call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_source_reader(
    read: rt_read_fn,
    rewind: rt_rewind_fn,
    size: i64,
    user: *mut c_void,
    drop: rt_drop_fn,
) -> *mut rt_source {
    let user = User::new(user, drop);
    or(std::ptr::null_mut(), move || {
        let read = read.ok_or_else(|| Error::argument("read is NULL"))?;
        let size = match size {
            -1 => None,
            n => Some(u64::try_from(n).map_err(|_| Error::argument("size is below -1"))?),
        };
        Ok(give(Source::reader(
            Box::new(Reader { read, rewind, user }),
            size,
        )))
    })
}

struct Reader {
    read: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> i64,
    rewind: rt_rewind_fn,
    user: User,
}

impl ReadBytes for Reader {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        // SAFETY: the header asks for a function of this type; the buffer is as long as said.
        let n = unsafe { (self.read)(self.user.get(), buf.as_mut_ptr().cast(), buf.len()) };
        if n < 0 {
            return Err(Error::cancelled("the read callback failed"));
        }
        usize::try_from(n)
            .map_err(|_| Error::argument("the read callback returned too large a count"))
    }

    fn rewind(&mut self) -> bool {
        // SAFETY: the header asks for a function of this type.
        self.rewind
            .is_some_and(|f| unsafe { f(self.user.get()) } == 0)
    }
}
