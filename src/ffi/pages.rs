//! Listings.

use std::ffi::{CString, c_char};

use super::boundary::{call, or, required, write};
use super::error::{rt_error, rt_status};
use super::handle::{Handle, give, lend, lend_mut, lend_opt, tag};
use super::op::rt_op;
use super::request::rt_req;
use super::response::{give_response, rt_response};
use super::text::{c_text, pointer, text, text_opt};
use super::transport::rt_transport;
use crate::op::Op;
use crate::pages::{Names, Pages};
use crate::referrers::Referrers;
use crate::request::Request;
use crate::transport::Transport;

/// A cursor over a paginated listing. One thread at a time.
pub struct rt_pages {
    _private: [u8; 0],
}

// SAFETY: no other type has this tag.
unsafe impl Handle for Pages {
    type C = rt_pages;
    const TAG: u32 = tag(10);
    const NAME: &'static str = "rt_pages";
}

/// A cursor over names (tags, repositories), fetched page by page. One thread at a time.
pub struct rt_list {
    _private: [u8; 0],
}

struct CList {
    cursor: Cursor,
    current: Option<CString>,
}

enum Cursor {
    Names(Names),
    Referrers(Referrers),
}

fn give_list(cursor: Cursor) -> *mut rt_list {
    give(CList {
        cursor,
        current: None,
    })
}

// SAFETY: no other type has this tag.
unsafe impl Handle for CList {
    type C = rt_list;
    const TAG: u32 = tag(11);
    const NAME: &'static str = "rt_list";
}

/// Starts a listing whose first page r fetches; later pages follow the Link headers (RFC 8288). NULL if an
/// argument is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_pages_new(t: *const rt_transport, r: *const rt_req) -> *mut rt_pages {
    or(std::ptr::null_mut(), || {
        // SAFETY: the header's rules for handles.
        unsafe {
            Ok(give(Pages::new(
                &*lend::<Transport>(t)?,
                &*lend::<Request>(r)?,
            )))
        }
    })
}

/// Sets *out to the next page, or to NULL (with RT_OK) after the last. Fails as rt_request; RT_E_PROTOCOL for a
/// link that is malformed, leads to another origin or back to an earlier page, RT_E_LIMIT beyond "max-pages".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_pages_next(
    p: *mut rt_pages,
    op: *const rt_op,
    out: *mut *mut rt_response,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let page = lend_mut::<Pages>(p)?.next_page(lend_opt::<Op>(op)?.as_deref())?;
            write(out, page.map_or(std::ptr::null_mut(), give_response));
            Ok(())
        })
    }
}

/// Starts a listing of the repository's tags (distribution-spec, "Listing Tags"). What is listed and is no tag by its
/// grammar is passed over and logged. NULL if t is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_list_tags(t: *const rt_transport) -> *mut rt_list {
    or(std::ptr::null_mut(), || {
        // SAFETY: the header's rules for handles.
        let names = Names::tags(&*unsafe { lend::<Transport>(t) }?);
        Ok(give_list(Cursor::Names(names)))
    })
}

/// Starts a listing of the registry's repositories, as far as it lists them (RT_CATALOG). NULL if t is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_list_repositories(t: *const rt_transport) -> *mut rt_list {
    or(std::ptr::null_mut(), || {
        // SAFETY: the header's rules for handles.
        let names = Names::repositories(&*unsafe { lend::<Transport>(t) }?);
        Ok(give_list(Cursor::Names(names)))
    })
}

/// Starts a listing of what refers to the manifest with this digest by its subject: rt_list_next gives each
/// descriptor as JSON text (distribution-spec, "Listing Referrers"; the referrers tag where the registry has no
/// such API). artifact_type NULL lists all. NULL if t or digest is NULL or digest is malformed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_list_referrers(
    t: *const rt_transport,
    digest: *const c_char,
    artifact_type: *const c_char,
) -> *mut rt_list {
    or(std::ptr::null_mut(), || {
        // SAFETY: the header's rules for handles and text.
        unsafe {
            let kind = text_opt(artifact_type, "artifact_type")?;
            let referrers = Referrers::new(&*lend::<Transport>(t)?, text(digest, "digest")?, kind)?;
            Ok(give_list(Cursor::Referrers(referrers)))
        }
    })
}

/// Sets *name to the next name, fetching a page when needed, or to NULL (with RT_OK) after the last. Lives until
/// the next call on l. Fails as rt_pages_next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_list_next(
    l: *mut rt_list,
    op: *const rt_op,
    name: *mut *const c_char,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for handles and outs.
    unsafe {
        write(name, std::ptr::null());
        call(err, || {
            required(name, "name")?;
            let l = &mut *lend_mut::<CList>(l)?;
            let next = match &mut l.cursor {
                Cursor::Names(names) => names.next_name(lend_opt::<Op>(op)?.as_deref())?,
                Cursor::Referrers(referrers) => {
                    referrers.next_referrer(lend_opt::<Op>(op)?.as_deref())?
                }
            };
            l.current = next.as_deref().map(c_text);
            write(name, pointer(l.current.as_ref()));
            Ok(())
        })
    }
}
