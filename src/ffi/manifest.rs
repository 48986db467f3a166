//! Manifests.

use std::ffi::{c_char, c_void};

use super::boundary::{call, required, write};
use super::error::{rt_error, rt_status};
use super::handle::{lend, lend_opt};
use super::op::rt_op;
use super::response::{give_response, rt_response};
use super::text::{bytes, text};
use super::transport::rt_transport;
use crate::op::Op;
use crate::transport::Transport;

/// Fetches a manifest by tag or digest, accepting OCI and Docker manifests and indexes, and checks its digest
/// before the body can be read (distribution-spec, "Pulling manifests"). Fails as rt_request; RT_E_DIGEST when the
/// bytes are not those asked for or announced, RT_E_MEDIA_TYPE when they are no manifest, RT_E_LIMIT beyond
/// "max-manifest-bytes". Where the answer is typed as files are (application/json, text/plain,
/// application/octet-stream), the manifest's own mediaType says what it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_manifest_get(
    t: *const rt_transport,
    tag_or_digest: *const c_char,
    op: *const rt_op,
    out: *mut *mut rt_response,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let reference = text(tag_or_digest, "tag_or_digest")?;
            write(
                out,
                give_response(
                    lend::<Transport>(t)?
                        .manifest_get(reference, lend_opt::<Op>(op)?.as_deref())?,
                ),
            );
            Ok(())
        })
    }
}

/// Stores a manifest under a tag or digest (distribution-spec, "Pushing Manifests"). media_type must be the
/// mediaType in the body, if it has one, else RT_E_MEDIA_TYPE. The digest is rt_response_digest of *out; out may be
/// NULL. Fails as rt_request; RT_E_DIGEST when the bytes do not have the digest named or the registry reports
/// another.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_manifest_put(
    t: *const rt_transport,
    tag_or_digest: *const c_char,
    media_type: *const c_char,
    data: *const c_void,
    len: usize,
    op: *const rt_op,
    out: *mut *mut rt_response,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text, buffers and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            let (reference, kind) = (
                text(tag_or_digest, "tag_or_digest")?,
                text(media_type, "media_type")?,
            );
            let body = bytes(data, len, "data")?;
            let response = lend::<Transport>(t)?.manifest_put(
                reference,
                kind,
                body,
                lend_opt::<Op>(op)?.as_deref(),
            )?;
            if !out.is_null() {
                write(out, give_response(response));
            }
            Ok(())
        })
    }
}

/// Asks for a manifest without its content: digest, media type and length are in the headers of *out. Fails as
/// rt_request; RT_E_DIGEST when the registry tells of another digest than the one asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_manifest_head(
    t: *const rt_transport,
    tag_or_digest: *const c_char,
    op: *const rt_op,
    out: *mut *mut rt_response,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let reference = text(tag_or_digest, "tag_or_digest")?;
            write(
                out,
                give_response(
                    lend::<Transport>(t)?
                        .manifest_head(reference, lend_opt::<Op>(op)?.as_deref())?,
                ),
            );
            Ok(())
        })
    }
}

/// Deletes a manifest by digest, or a tag where the registry can (distribution-spec, "Deleting manifests"). The
/// transport needs RT_DELETE. Under a referrers tag it stays listed. RT_E_UNSUPPORTED when the registry does not
/// delete; else fails as rt_request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_manifest_delete(
    t: *const rt_transport,
    tag_or_digest: *const c_char,
    op: *const rt_op,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        call(err, || {
            lend::<Transport>(t)?.manifest_delete(
                text(tag_or_digest, "tag_or_digest")?,
                lend_opt::<Op>(op)?.as_deref(),
            )
        })
    }
}
