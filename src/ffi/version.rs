//! Version and features.

use std::ffi::{CStr, c_char};

use super::boundary::{or, quietly};
use super::text::text;

/// Version of this header. Compare RT_ABI with rt_abi() before anything else.
pub const RT_ABI: u32 = 1;
/// Version of the library this header came with.
pub const RT_VERSION_MAJOR: u32 = 0;
/// Second part of the version.
pub const RT_VERSION_MINOR: u32 = 1;
/// Third part of the version.
pub const RT_VERSION_PATCH: u32 = 0;
/// The three parts in one number, to be compared.
pub const RT_VERSION_NUM: u32 =
    (RT_VERSION_MAJOR << 16) | (RT_VERSION_MINOR << 8) | RT_VERSION_PATCH;

const VERSION: &CStr = match CStr::from_bytes_with_nul(
    concat!(
        "registry-transport/",
        env!("CARGO_PKG_VERSION"),
        " (rustls, ring)\0"
    )
    .as_bytes(),
) {
    Ok(text) => text,
    Err(_) => c"registry-transport",
};

/// ABI number of the loaded library. Differs from RT_ABI: do not go on.
#[unsafe(no_mangle)]
pub extern "C" fn rt_abi() -> u32 {
    RT_ABI
}

/// "name/version (tls provider)". Static.
#[unsafe(no_mangle)]
pub extern "C" fn rt_version() -> *const c_char {
    VERSION.as_ptr()
}

/// 1 if this build has the named feature, else 0: "tls", "platform-roots", "socks", "helper", "sha512".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_has_feature(name: *const c_char) -> i32 {
    or(0, || {
        // SAFETY: the header's rules for text.
        let name = unsafe { text(name, "name") }?;
        Ok(i32::from(
            ["tls", "platform-roots", "socks", "helper", "sha512"].contains(&name),
        ))
    })
}

/// "RT_E_TIMEOUT" for 6, and so on; "RT_E_OTHER" for an unknown value. Static.
#[unsafe(no_mangle)]
pub extern "C" fn rt_status_name(status: super::error::rt_status) -> *const c_char {
    let name = quietly(c"RT_E_OTHER", || match status {
        0 => c"RT_OK",
        1 => c"RT_E_ARG",
        2 => c"RT_E_UNSUPPORTED",
        3 => c"RT_E_SYNTAX",
        4 => c"RT_E_NETWORK",
        5 => c"RT_E_TLS",
        6 => c"RT_E_TIMEOUT",
        7 => c"RT_E_CANCELLED",
        8 => c"RT_E_AUTH",
        9 => c"RT_E_STATUS",
        10 => c"RT_E_MEDIA_TYPE",
        11 => c"RT_E_DIGEST",
        12 => c"RT_E_LIMIT",
        13 => c"RT_E_IO",
        14 => c"RT_E_PROTOCOL",
        15 => c"RT_E_STATE",
        98 => c"RT_E_INTERNAL",
        _ => c"RT_E_OTHER",
    });
    name.as_ptr()
}
