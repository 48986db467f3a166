//! Credentials.

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::sync::Arc;

use super::boundary::or;
use super::callback::{User, rt_drop_fn};
use super::handle::{Handle, give, lend, rt_free, tag};
use super::text::{c_text, text, text_opt};
use crate::creds::Creds;
use crate::error::{Error, Result};

/// Credentials, or a source of them. Immutable and shareable; secrets are wiped when the last user is gone.
pub struct rt_creds {
    _private: [u8; 0],
}

// SAFETY: no other type has this tag.
unsafe impl Handle for Creds {
    type C = rt_creds;
    const TAG: u32 = tag(4);
    const NAME: &'static str = "rt_creds";
}

/// Supplies credentials for registry (repository may be NULL), again whenever they are refused. registry is host
/// and port of the registry, or of a mirror that is asked in its place. Returns new credentials, which the library
/// frees, or NULL for anonymous; such as ask a function again, and a non-zero *fail, end the call with RT_E_AUTH. May
/// take its time; runs on the thread of the call, once however many threads wait for the answer.
pub type rt_creds_fn = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        registry: *const c_char,
        repository: *const c_char,
        fail: *mut i32,
    ) -> *mut rt_creds,
>;

fn made(body: impl FnOnce() -> Result<Creds>) -> *mut rt_creds {
    or(std::ptr::null_mut(), || body().map(give))
}

/// User name and password (RFC 7617), for the registry itself: mirrors are not shown them. NULL if an argument is NULL
/// or not UTF-8, or if the user name holds a colon or a control character. A NULL rt_creds means anonymous.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_creds_basic(
    user: *const c_char,
    password: *const c_char,
) -> *mut rt_creds {
    // SAFETY: the header's rules for text.
    made(|| unsafe { Creds::basic(text(user, "user")?, text(password, "password")?) })
}

/// A registry token sent as is (RFC 6750). NULL if it is NULL or has characters that a token cannot have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_creds_bearer(token: *const c_char) -> *mut rt_creds {
    // SAFETY: the header's rules for text.
    made(|| unsafe { Creds::bearer(text(token, "token")?) })
}

/// A refresh token (identity token) traded for access tokens. A new one that the token service sends replaces
/// it for the transport, and for those it shares tokens with. NULL if it is NULL, empty, or holds a control character.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_creds_refresh(token: *const c_char) -> *mut rt_creds {
    // SAFETY: the header's rules for text.
    made(|| unsafe { Creds::refresh(text(token, "token")?) })
}

/// Docker's config.json and its helpers, read when needed and again when refused. path names the file or its
/// folder; NULL: DOCKER_AUTH_CONFIG, $DOCKER_CONFIG, ~/.docker, as the environment is now. A missing file means
/// anonymous. NULL if path is not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_creds_docker(path: *const c_char) -> *mut rt_creds {
    // SAFETY: the header's rules for text.
    made(|| unsafe { Ok(Creds::docker(text_opt(path, "path")?.map(PathBuf::from))) })
}

/// The auth.json of podman, skopeo and buildah, with its longest-prefix match on repositories. NULL path:
/// $REGISTRY_AUTH_FILE alone if it is set; else auth.json in $XDG_RUNTIME_DIR/containers (without it
/// /run/containers/UID) and in $XDG_CONFIG_HOME/containers (without it ~/.config/containers), then where
/// rt_creds_docker looks; as the environment is now, and with the credential-helpers of registries.conf. Else as
/// rt_creds_docker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_creds_podman(path: *const c_char) -> *mut rt_creds {
    // SAFETY: the header's rules for text.
    made(|| unsafe { Ok(Creds::podman(text_opt(path, "path")?.map(PathBuf::from))) })
}

/// Asks f whenever credentials are needed. NULL if f is NULL. drop may be NULL; it runs when the last user of
/// the credentials is gone, also when this call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_creds_callback(
    f: rt_creds_fn,
    user: *mut c_void,
    drop: rt_drop_fn,
) -> *mut rt_creds {
    let user = User::new(user, drop);
    made(move || {
        let f = f.ok_or_else(|| Error::argument("f is NULL"))?;
        Ok(Creds::callback(Arc::new(move |registry, repository| {
            let (registry, repository) = (c_text(registry), repository.map(c_text));
            let mut fail = 0;
            // SAFETY: the header asks for a function of this type.
            let answer = unsafe {
                f(
                    user.get(),
                    registry.as_ptr(),
                    super::text::pointer(repository.as_ref()),
                    &mut fail,
                )
            };
            let creds = if answer.is_null() {
                Creds::anonymous()
            } else {
                // SAFETY: what the callback returns is a handle of its own.
                unsafe {
                    let creds = lend::<Creds>(answer).map(|c| c.clone());
                    rt_free(answer.cast());
                    creds?
                }
            };
            if fail != 0 {
                return Err(Error::auth("the credentials callback failed"));
            }
            Ok(creds)
        })))
    })
}
