//! Explanations.

use std::ffi::{CString, c_char};

use super::boundary::{call, or, required, write};
use super::error::{rt_error, rt_status};
use super::handle::{Handle, give, lend, lend_opt, tag};
use super::op::rt_op;
use super::text::c_text;
use super::transport::rt_transport;
use crate::op::Op;
use crate::transport::Transport;

/// What a transport uses, and why. Immutable; any thread may read it.
pub struct rt_explanation {
    _private: [u8; 0],
}

struct CExplanation {
    text: CString,
    json: CString,
}

// SAFETY: no other type has this tag.
unsafe impl Handle for CExplanation {
    type C = rt_explanation;
    const TAG: u32 = tag(14);
    const NAME: &'static str = "rt_explanation";
}

/// Tells which hosts t asks, and for each of them which credentials it would use and where they come from (file and
/// key, helper, variable), which challenge, token service, service and scopes, which proxy, which trusted
/// certificates and which client certificate, and why; without secrets. Sends nothing over the network: what a
/// registry wants is told as far as earlier calls learned it, so call rt_ping first to learn it. Credentials are
/// looked up as a request would (files, helpers, the callback), unless that was done before; a failure of that is a
/// part of the explanation. op may be NULL. RT_E_CANCELLED and RT_E_TIMEOUT if the call ends early.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_explain(
    t: *const rt_transport,
    op: *const rt_op,
    out: *mut *mut rt_explanation,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let told = lend::<Transport>(t)?.explain(lend_opt::<Op>(op)?.as_deref())?;
            write(
                out,
                give(CExplanation {
                    text: c_text(told.text()),
                    json: c_text(told.json()),
                }),
            );
            Ok(())
        })
    }
}

/// The explanation as lines for people, each ended by a line feed; their form may change. Lives as long as e.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_explanation_text(e: *const rt_explanation) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        Ok(unsafe { lend::<CExplanation>(e) }?.text.as_ptr())
    })
}

/// The explanation as a JSON object, for programs: README.md lists its members, and more may be added. Lives as
/// long as e.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_explanation_json(e: *const rt_explanation) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        Ok(unsafe { lend::<CExplanation>(e) }?.json.as_ptr())
    })
}
