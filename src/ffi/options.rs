//! Settings.

use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use super::boundary::{or, quietly, status};
use super::callback::{User, rt_drop_fn};
use super::error::rt_status;
use super::handle::{Handle, give, lend, lend_mut, tag};
use super::text::{c_text, pointer, text};
use crate::error::{Error, Result};
use crate::log::Level;
use crate::options::Options;

/// Log level: kept for what makes a call fail, which its rt_error tells. No line has it so far.
pub const RT_LOG_ERROR: i32 = 1;
/// Log level: what works but should not stay so, and what the registry itself warns of (distribution-spec,
/// "Warnings"), each text once.
pub const RT_LOG_WARN: i32 = 2;
/// Log level: decisions, such as which credentials go where.
pub const RT_LOG_INFO: i32 = 3;
/// Log level: every request and answer.
pub const RT_LOG_DEBUG: i32 = 4;

/// Settings, copied by rt_transport_new. One thread at a time.
pub struct rt_options {
    _private: [u8; 0],
}

/// Settings, and what was wrong with the last one that was refused.
pub(super) struct COptions {
    pub(super) options: Options,
    failure: Option<CString>,
}

// SAFETY: no other type has this tag.
unsafe impl Handle for COptions {
    type C = rt_options;
    const TAG: u32 = tag(2);
    const NAME: &'static str = "rt_options";
}

impl COptions {
    fn set(&mut self, set: impl FnOnce(&mut Options) -> Result<()>) -> Result<()> {
        let result = set(&mut self.options);
        self.failure = result.as_ref().err().map(|e| c_text(e.message()));
        result
    }
}

/// Receives one log line: UTF-8, NUL-terminated, without secrets. line lives until the function returns.
pub type rt_log_fn =
    Option<unsafe extern "C" fn(user: *mut c_void, level: i32, line: *const c_char)>;

/// Default settings. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn rt_options_new() -> *mut rt_options {
    quietly(std::ptr::null_mut(), || {
        give(COptions {
            options: Options::new(),
            failure: None,
        })
    })
}

/// Sets a text option, e.g. "user-agent", "proxy", "ca-file", "scheme". README.md and registry_transport_options(7)
/// list the keys. An unknown key is RT_E_UNSUPPORTED, so keys can be tried; a value it does not take, or a number's
/// key, is RT_E_ARG, and rt_options_error tells what it takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_options_set_str(
    o: *mut rt_options,
    key: *const c_char,
    value: *const c_char,
) -> rt_status {
    // SAFETY: the header's rules for handles and text.
    status(|| unsafe {
        lend_mut::<COptions>(o)?.set(|o| o.set_text(text(key, "key")?, text(value, "value")?))
    })
}

/// Sets a number or a switch (0 or 1), e.g. "connect-timeout-ms", "max-body-bytes", "retries". Fails as
/// rt_options_set_str; a number outside its range is RT_E_ARG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_options_set_int(
    o: *mut rt_options,
    key: *const c_char,
    value: i64,
) -> rt_status {
    // SAFETY: the header's rules for handles and text.
    status(|| unsafe { lend_mut::<COptions>(o)?.set(|o| o.set_number(text(key, "key")?, value)) })
}

/// What was wrong with the last rt_options_set_str or rt_options_set_int on o: one line that names the key and what it
/// takes, without the value, which may be a secret. NULL if that succeeded or there was none. Lives until the next
/// of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_options_error(o: *const rt_options) -> *const c_char {
    or(std::ptr::null(), || {
        // SAFETY: the header's rules for handles.
        Ok(pointer(unsafe { lend::<COptions>(o) }?.failure.as_ref()))
    })
}

/// Sends log lines of level (RT_LOG_...) and below to f, on the thread whose call they tell of; with a transport
/// shared by threads, f is called by several at once. NULL f turns it off. drop may be NULL; it runs once no
/// options and no transport made with them is left, also when this call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_options_set_log(
    o: *mut rt_options,
    level: i32,
    f: rt_log_fn,
    user: *mut c_void,
    drop: rt_drop_fn,
) -> rt_status {
    let user = User::new(user, drop);
    status(move || {
        // SAFETY: the header's rules for handles.
        let mut held = unsafe { lend_mut::<COptions>(o)? };
        let options = &mut held.options;
        let Some(f) = f else {
            options.clear_log();
            return Ok(());
        };
        let level = Level::from_number(level)
            .ok_or_else(|| Error::argument("level is none of RT_LOG_..."))?;
        options.set_log(
            level,
            Arc::new(move |level, line| {
                let line = c_text(line);
                // SAFETY: the header asks for a function of this type.
                unsafe { f(user.get(), level as i32, line.as_ptr()) }
            }),
        );
        Ok(())
    })
}
