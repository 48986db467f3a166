//! Text across the boundary: NUL-terminated UTF-8, both ways.

use std::ffi::{CStr, CString, c_char, c_void};

use crate::error::{Error, Result};

/// Longest text taken from C, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Text from C.
///
/// # Safety
/// `text` is NULL or ends with a NUL, and lives for `'a`.
pub(super) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    if text.is_null() {
        return Err(Error::argument(format!("{name} is NULL")));
    }
    // SAFETY: as above.
    let text = unsafe { CStr::from_ptr(text) };
    if text.count_bytes() > MAX_TEXT {
        return Err(Error::argument(format!("{name} is longer than 1 MiB")));
    }
    text.to_str()
        .map_err(|_| Error::argument(format!("{name} is not UTF-8")))
}

/// Text from C that may be NULL.
///
/// # Safety
/// As [`text`].
pub(super) unsafe fn text_opt<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as above.
    unsafe { text(pointer, name).map(Some) }
}

/// Bytes from C. NULL is fine for none.
///
/// # Safety
/// `data` is NULL or has `len` readable bytes, which live for `'a`.
pub(super) unsafe fn bytes<'a>(data: *const c_void, len: usize, name: &str) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || isize::try_from(len).is_err() {
        return Err(Error::argument(format!(
            "{name} is NULL or longer than memory can be"
        )));
    }
    // SAFETY: as above.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// Text for C, kept by a handle. A NUL inside, which no text of ours has, would end it.
pub(super) fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}

/// The pointer to kept text, or NULL.
pub(super) fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |t| t.as_ptr())
}
