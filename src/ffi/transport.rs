//! Transports.

use std::ffi::c_char;

use super::boundary::{call, quietly, required, write};
use super::creds::rt_creds;
use super::error::{rt_error, rt_status};
use super::handle::{Handle, give, lend, lend_opt, tag};
use super::op::rt_op;
use super::options::{COptions, rt_options};
use super::text::text;
use crate::creds::Creds;
use crate::op::Op;
use crate::transport::{Actions, Transport};

/// Action: read a repository.
pub const RT_PULL: u32 = 1;
/// Action: write to a repository, and read it.
pub const RT_PUSH: u32 = 2;
/// Action: delete from a repository. Tokens are asked for push and pull, and for delete where the registry's
/// challenge names it.
pub const RT_DELETE: u32 = 4;
/// Action: list repositories. The name passed to rt_transport_new must then be a bare registry.
pub const RT_CATALOG: u32 = 8;

/// An authenticated connection pool for one registry or repository. Any number of threads at once.
pub struct rt_transport {
    _private: [u8; 0],
}

// SAFETY: no other type has this tag.
unsafe impl Handle for Transport {
    type C = rt_transport;
    const TAG: u32 = tag(6);
    const NAME: &'static str = "rt_transport";
}

/// Makes a transport for name ("ghcr.io/org/app", or a bare "ghcr.io"); actions is what it asks the token service
/// for, RT_PULL and so on, combined with |. Does no network I/O: the first request asks for a token. Reads the
/// environment (proxies, trust store), once, unless option "environment" is 0, and the files that options
/// "hosts-dir" and "registries-conf" name. A transport for RT_PULL alone asks the mirrors they name for manifests
/// and blobs, in their order, and the next when one fails; every other transport and every other request keeps to
/// the registry itself. creds and options may be NULL and may be freed right after. RT_E_SYNTAX for the name and
/// those files, RT_E_ARG for actions that are unknown or do not go with the name and for options that do not go
/// together, RT_E_UNSUPPORTED for a registry that "registries-conf" blocks, RT_E_IO for a file that cannot be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_transport_new(
    name: *const c_char,
    actions: u32,
    creds: *const rt_creds,
    options: *const rt_options,
    out: *mut *mut rt_transport,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles, text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let actions = Actions::from_bits(actions)?;
            write(
                out,
                give(Transport::new(
                    text(name, "name")?,
                    actions,
                    lend_opt::<Creds>(creds)?.as_deref(),
                    lend_opt::<COptions>(options)?.as_ref().map(|o| &o.options),
                )?),
            );
            Ok(())
        })
    }
}

/// Pings the registry (GET /v2/, distribution-spec "Determining Support") and gets a token now rather than at the
/// first request; a password is checked, a token of rt_creds_bearer is not. Any answer but 200 or 401 is RT_E_PROTOCOL,
/// with its status in the error; credentials that are refused are RT_E_AUTH. Where there are mirrors, the first host
/// that answers will do. op may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_ping(
    t: *const rt_transport,
    op: *const rt_op,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        call(err, || {
            lend::<Transport>(t)?.ping(lend_opt::<Op>(op)?.as_deref())
        })
    }
}

/// Ends every call now running on t with RT_E_CANCELLED and closes its connections. Later calls connect anew. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_transport_close(t: *const rt_transport) {
    quietly((), || {
        // SAFETY: the header's rules for handles.
        if let Ok(t) = unsafe { lend::<Transport>(t) } {
            t.close();
        }
    });
}
