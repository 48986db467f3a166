//! Uploads.

use std::ffi::{CString, c_char};

use zeroize::Zeroizing;

use super::boundary::{call, or, required, write};
use super::error::{rt_error, rt_status};
use super::handle::{Handle, give, lend, lend_mut, lend_opt, tag};
use super::op::rt_op;
use super::response::{give_response, rt_response};
use super::source::rt_source;
use super::text::{c_text, pointer, text, text_opt};
use super::transport::rt_transport;
use crate::op::Op;
use crate::source::Source;
use crate::transport::Transport;
use crate::upload::Upload;

/// Uploads a blob unless it is there (distribution-spec, "Pushing blobs"), checking its digest while sending; a
/// NULL digest is computed. mount_from names a repository of the same registry to take it from if possible, or is
/// NULL. out may be NULL; its digest is that of the blob. Fails as rt_request; RT_E_DIGEST when the bytes are not
/// those named or the registry reports another digest, RT_E_STATE when the body would have to be sent again and
/// cannot be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_blob_put(
    t: *const rt_transport,
    digest: *const c_char,
    body: *const rt_source,
    mount_from: *const c_char,
    op: *const rt_op,
    out: *mut *mut rt_response,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            let (digest, from) = (
                text_opt(digest, "digest")?,
                text_opt(mount_from, "mount_from")?,
            );
            let response = lend::<Transport>(t)?.blob_put(
                digest,
                &*lend::<Source>(body)?,
                from,
                lend_opt::<Op>(op)?.as_deref(),
            )?;
            if !out.is_null() {
                write(out, give_response(response));
            }
            Ok(())
        })
    }
}

/// An upload that can be interrupted, written down and taken up by another process. One thread at a time.
pub struct rt_upload {
    _private: [u8; 0],
}

struct CUpload {
    upload: Upload,
    state: Option<Zeroizing<CString>>,
}

// SAFETY: no other type has this tag.
unsafe impl Handle for CUpload {
    type C = rt_upload;
    const TAG: u32 = tag(13);
    const NAME: &'static str = "rt_upload";
}

/// Begins an upload. Fails as rt_request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_upload_begin(
    t: *const rt_transport,
    op: *const rt_op,
    out: *mut *mut rt_upload,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let upload = lend::<Transport>(t)?.upload_begin(lend_opt::<Op>(op)?.as_deref())?;
            write(
                out,
                give(CUpload {
                    upload,
                    state: None,
                }),
            );
            Ok(())
        })
    }
}

/// Takes up an upload from the text that rt_upload_state gave, in this process or another: asks the registry how
/// much of it has arrived, and begins anew when nothing has. RT_E_SYNTAX for a text that is no state, RT_E_STATUS
/// when the registry knows the upload no more; else fails as rt_request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_upload_resume(
    t: *const rt_transport,
    state: *const c_char,
    op: *const rt_op,
    out: *mut *mut rt_upload,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let upload = lend::<Transport>(t)?
                .upload_resume(text(state, "state")?, lend_opt::<Op>(op)?.as_deref())?;
            write(
                out,
                give(CUpload {
                    upload,
                    state: None,
                }),
            );
            Ok(())
        })
    }
}

/// Bytes the registry has; -1 if u is no upload or in use by another call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_upload_offset(u: *const rt_upload) -> i64 {
    or(-1, || {
        // SAFETY: the header's rules for handles.
        Ok(i64::try_from(unsafe { lend::<CUpload>(u) }?.upload.offset()).unwrap_or(i64::MAX))
    })
}

/// What rt_upload_resume needs. It holds a URL that may be signed: keep it like a password. Lives until the next
/// call on u.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_upload_state(u: *mut rt_upload) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        let u = &mut *unsafe { lend_mut::<CUpload>(u) }?;
        u.state = Some(Zeroizing::new(c_text(&u.upload.state())));
        Ok(pointer(u.state.as_deref()))
    })
}

/// Sends what the registry does not have yet. body is the whole blob; what was sent before is only hashed. After a
/// failure it may be called again. Fails as rt_blob_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_upload_send(
    u: *mut rt_upload,
    body: *const rt_source,
    op: *const rt_op,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        call(err, || {
            lend_mut::<CUpload>(u)?
                .upload
                .send(&*lend::<Source>(body)?, lend_opt::<Op>(op)?.as_deref())
        })
    }
}

/// Commits the upload under digest, or, if that is NULL, under the sha256 of what rt_upload_send sent. out may be
/// NULL; its digest is that of the blob. RT_E_STATE when there is neither digest, RT_E_DIGEST when they differ (a
/// sha512 is compared by the registry alone); else fails as rt_request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_upload_finish(
    u: *mut rt_upload,
    digest: *const c_char,
    op: *const rt_op,
    out: *mut *mut rt_response,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            let digest = text_opt(digest, "digest")?;
            let response = lend_mut::<CUpload>(u)?
                .upload
                .finish(digest, lend_opt::<Op>(op)?.as_deref())?;
            if !out.is_null() {
                write(out, give_response(response));
            }
            Ok(())
        })
    }
}

/// Tells the registry that the upload is given up. Fails as rt_request; freeing u alone leaves the upload at the
/// registry, to be resumed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_upload_cancel(
    u: *mut rt_upload,
    op: *const rt_op,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        call(err, || {
            lend_mut::<CUpload>(u)?
                .upload
                .cancel(lend_opt::<Op>(op)?.as_deref())
        })
    }
}
