//! Copies.

use std::ffi::c_char;

use super::boundary::call;
use super::error::{rt_error, rt_status};
use super::handle::{lend, lend_opt};
use super::op::rt_op;
use super::text::text;
use super::transport::rt_transport;
use crate::copy;
use crate::op::Op;
use crate::transport::Transport;

/// Copies what reference (a tag or digest) names at src, an image or an index with all its images, to dst under
/// dst_reference. Blobs are mounted when both are repositories of one registry, else streamed, as many at once as
/// option "parallel" of dst says; nothing touches the disk. Both transports must stay open meanwhile. Fails as
/// rt_manifest_get, rt_blob_get, rt_blob_put and rt_manifest_put, and with RT_E_LIMIT for an image of more than 10,000
/// manifests or 64 MiB of them; what was copied before stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_copy(
    src: *const rt_transport,
    reference: *const c_char,
    dst: *const rt_transport,
    dst_reference: *const c_char,
    op: *const rt_op,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        call(err, || {
            let (reference, target) = (
                text(reference, "reference")?,
                text(dst_reference, "dst_reference")?,
            );
            copy::copy(
                &*lend::<Transport>(src)?,
                reference,
                &*lend::<Transport>(dst)?,
                target,
                lend_opt::<Op>(op)?.as_deref(),
            )
        })
    }
}
