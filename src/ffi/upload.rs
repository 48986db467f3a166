//! Uploads.

use std::ffi::c_char;

use super::boundary::{call, write};
use super::error::{rt_error, rt_status};
use super::handle::{lend, lend_opt};
use super::op::rt_op;
use super::response::{give_response, rt_response};
use super::source::rt_source;
use super::text::text_opt;
use super::transport::rt_transport;
use crate::source::Source;
use crate::transport::Transport;

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
        call(err, &[t.cast()], || {
            let (digest, from) = (
                text_opt(digest, "digest")?,
                text_opt(mount_from, "mount_from")?,
            );
            let response = lend::<Transport>(t)?.blob_put(
                digest,
                lend::<Source>(body)?,
                from,
                lend_opt(op)?,
            )?;
            if !out.is_null() {
                write(out, give_response(response));
            }
            Ok(())
        })
    }
}
