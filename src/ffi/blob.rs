//! Blobs.

use std::ffi::{c_char, c_void};
use std::path::Path;

use super::boundary::{call, or, required, write};
use super::error::{rt_error, rt_status};
use super::handle::{Handle, give, lend, lend_opt, tag};
use super::op::rt_op;
use super::response::{buffer, give_response, rt_response};
use super::text::text;
use super::transport::rt_transport;
use crate::blob::Blob;
use crate::error::Error;
use crate::op::Op;
use crate::transport::Transport;

/// A blob open for reading at any offset. Any number of threads at once.
pub struct rt_blob {
    _private: [u8; 0],
}

// SAFETY: no other type has this tag.
unsafe impl Handle for Blob {
    type C = rt_blob;
    const TAG: u32 = tag(12);
    const NAME: &'static str = "rt_blob";
}

/// Asks whether a blob is there and how large it is in bytes: *size is -1 if it is not (with RT_OK). Fails as
/// rt_request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_blob_stat(
    t: *const rt_transport,
    digest: *const c_char,
    op: *const rt_op,
    size: *mut i64,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(size, 0);
        call(err, || {
            required(size, "size")?;
            let found = lend::<Transport>(t)?
                .blob_stat(text(digest, "digest")?, lend_opt::<Op>(op)?.as_deref())?;
            write(
                size,
                found.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX)),
            );
            Ok(())
        })
    }
}

/// Fetches a whole blob (distribution-spec, "Pulling blobs"). A broken connection is resumed while it is read; the
/// end is reported only if digest and length are right. Fails as rt_request, here and in the reading.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_blob_get(
    t: *const rt_transport,
    digest: *const c_char,
    op: *const rt_op,
    out: *mut *mut rt_response,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            write(
                out,
                give_response(
                    lend::<Transport>(t)?
                        .blob_get(text(digest, "digest")?, lend_opt::<Op>(op)?.as_deref())?,
                ),
            );
            Ok(())
        })
    }
}

/// Fetches a blob into a file that appears only when complete and verified. A partial download left beside it by
/// an earlier call, of any process, is continued. The time the disk takes to sync it in the end cannot be limited.
/// Fails as rt_request; RT_E_DIGEST, and RT_E_IO as rt_response_save.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_blob_save(
    t: *const rt_transport,
    digest: *const c_char,
    path: *const c_char,
    op: *const rt_op,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        call(err, || {
            let path = Path::new(text(path, "path")?);
            lend::<Transport>(t)?.blob_save(
                text(digest, "digest")?,
                path,
                lend_opt::<Op>(op)?.as_deref(),
            )
        })
    }
}

/// Opens a blob for reads at any offset; what is read this way is checked for length, not digest. Fails as
/// rt_request; a blob that is not there is RT_E_STATUS with status 404.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_blob_open(
    t: *const rt_transport,
    digest: *const c_char,
    op: *const rt_op,
    out: *mut *mut rt_blob,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            write(
                out,
                give(
                    lend::<Transport>(t)?
                        .blob_open(text(digest, "digest")?, lend_opt::<Op>(op)?.as_deref())?,
                ),
            );
            Ok(())
        })
    }
}

/// Size of the blob in bytes; -1 if b is no blob.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_blob_size(b: *const rt_blob) -> i64 {
    or(-1, || {
        // SAFETY: the header's rules for handles.
        Ok(i64::try_from(unsafe { lend::<Blob>(b) }?.size()).unwrap_or(i64::MAX))
    })
}

/// Reads exactly min(len, size - offset) bytes at offset; *got tells how many, 0 at and beyond the end. Many
/// threads at once. RT_E_ARG for a negative offset; else fails as rt_request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_blob_pread(
    b: *const rt_blob,
    buf: *mut c_void,
    len: usize,
    offset: i64,
    op: *const rt_op,
    got: *mut usize,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, buffers and outs.
    unsafe {
        write(got, 0);
        call(err, || {
            required(got, "got")?;
            let offset =
                u64::try_from(offset).map_err(|_| Error::argument("offset is negative"))?;
            write(
                got,
                lend::<Blob>(b)?.pread(
                    buffer(buf, len, "buf")?,
                    offset,
                    lend_opt::<Op>(op)?.as_deref(),
                )?,
            );
            Ok(())
        })
    }
}
