//! Image references.

use std::ffi::{CString, c_char};

use super::boundary::{call, or, required, write};
use super::error::{rt_error, rt_status};
use super::handle::{Handle, give, lend, lend_opt, tag};
use super::options::{COptions, rt_options};
use super::text::{c_text, pointer};
use crate::hosts::registries;
use crate::name::Reference;

/// An image reference taken apart. Immutable; any thread may read it.
pub struct rt_ref {
    _private: [u8; 0],
}

struct CRef {
    registry: CString,
    repository: Option<CString>,
    tag: Option<CString>,
    digest: Option<CString>,
}

// SAFETY: no other type has this tag.
unsafe impl Handle for CRef {
    type C = rt_ref;
    const TAG: u32 = tag(3);
    const NAME: &'static str = "rt_ref";
}

impl CRef {
    fn of(r: &Reference) -> Self {
        Self {
            registry: c_text(r.registry().as_str()),
            repository: r.repository().map(|p| c_text(p.as_str())),
            tag: r.tag().map(|p| c_text(p.as_str())),
            digest: r.digest().map(|p| c_text(p.as_str())),
        }
    }
}

/// Takes "[registry/]repository[:tag][@digest]", or a bare registry, apart (distribution-spec, "Pulling
/// manifests", and the grammar of distribution). The default registry is index.docker.io, the default tag
/// latest if there is no digest either, and "library/" is put before a one-part Docker Hub name. RT_E_SYNTAX
/// for what does not parse.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_ref_parse(
    text: *const c_char,
    out: *mut *mut rt_ref,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for text and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let r = Reference::parse(super::text::text(text, "text")?)?;
            write(out, give(CRef::of(&r)));
            Ok(())
        })
    }
}

/// The same for a reference as people type it: a short name ("ubuntu", "org/app") is looked up in the aliases of
/// option "registries-conf", then gets its one unqualified-search-registry; of several none is chosen, since there
/// is nobody to ask: RT_E_ARG. Without that option, or when the files know nothing of the name, as rt_ref_parse.
/// options may be NULL. RT_E_SYNTAX and RT_E_IO also for the files. rt_transport_new does the same with its name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_ref_resolve(
    text: *const c_char,
    options: *const rt_options,
    out: *mut *mut rt_ref,
    err: *mut *mut rt_error,
) -> rt_status {
    // SAFETY: the header's rules for text, handles and outs.
    unsafe {
        write(out, std::ptr::null_mut());
        call(err, || {
            required(out, "out")?;
            let text = super::text::text(text, "text")?;
            let r = match lend_opt::<COptions>(options)?.as_deref() {
                Some(o) => registries::resolve(text, &o.options)?,
                None => Reference::parse(text)?,
            };
            write(out, give(CRef::of(&r)));
            Ok(())
        })
    }
}

/// Registry host and port. Lives as long as ref, like the other parts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_ref_registry(r#ref: *const rt_ref) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        Ok(unsafe { lend::<CRef>(r#ref) }?.registry.as_ptr())
    })
}

/// Repository, or NULL for a bare registry.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_ref_repository(r#ref: *const rt_ref) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        Ok(pointer(unsafe { lend::<CRef>(r#ref) }?.repository.as_ref()))
    })
}

/// Tag, or NULL if there is only a digest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_ref_tag(r#ref: *const rt_ref) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        Ok(pointer(unsafe { lend::<CRef>(r#ref) }?.tag.as_ref()))
    })
}

/// Digest, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_ref_digest(r#ref: *const rt_ref) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        Ok(pointer(unsafe { lend::<CRef>(r#ref) }?.digest.as_ref()))
    })
}
