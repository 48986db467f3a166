//! Credentials: what is known, and where more is asked for.

pub mod docker;
pub mod entry;
pub mod env;
pub mod helper;
pub mod podman;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};

use crate::error::{Error, ErrorKind, Result};
use crate::net::call::Call;
use crate::secret::Secret;
use entry::Found;
use env::Env;

/// Credentials for one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// None.
    Anonymous,
    /// User name and password (RFC 7617).
    Basic {
        /// The user name; holds no colon.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, traded for access tokens (distribution, OAuth2 token documentation).
    Identity(Secret),
    /// An access token, sent as it is (RFC 6750).
    Bearer(Secret),
}

impl Credential {
    /// What it is, for people.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "no credentials",
            Self::Basic { .. } => "user and password",
            Self::Identity(_) => "a refresh token",
            Self::Bearer(_) => "a registry token",
        }
    }
}

/// Answers for credentials: registry, repository. An error ends the call.
pub type CredsFn = dyn Fn(&str, Option<&str>) -> Result<Creds> + Send + Sync;

/// Where credentials come from. Clones share one source; secrets are wiped when the last one is gone.
#[derive(Clone)]
pub struct Creds(Arc<Source>);

enum Source {
    Fixed(Credential),
    Docker(docker::Store),
    Podman(podman::Store),
    Callback { ask: Arc<CredsFn>, serial: u64 },
}

/// What tells two sources apart in the shared token cache, without holding a secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint([u8; 32]);

/// The one source that has a fingerprint, if no other can have the same.
pub(crate) struct Owner(Option<Weak<Source>>);

impl Owner {
    /// Whether there are, or may be, credentials with its fingerprint.
    pub(crate) fn exists(&self) -> bool {
        let source = self.0.as_ref();
        source.is_none_or(|source| source.strong_count() > 0)
    }
}

impl Creds {
    /// No credentials.
    pub fn anonymous() -> Self {
        Self(Arc::new(Source::Fixed(Credential::Anonymous)))
    }

    /// User name and password.
    ///
    /// # Errors
    /// [`Argument`](crate::error::ErrorKind::Argument) for a user name with a colon or a control character (RFC 7617
    /// section 2).
    pub fn basic(user: &str, password: &str) -> Result<Self> {
        if user.contains(':') || user.chars().any(char::is_control) {
            return Err(Error::argument(
                "a user name must not hold a colon or a control character (RFC 7617)",
            ));
        }
        let (user, password) = (user.to_owned(), Secret::new(password));
        Ok(Self(Arc::new(Source::Fixed(Credential::Basic {
            user,
            password,
        }))))
    }

    /// A registry token sent as is.
    ///
    /// # Errors
    /// [`Argument`](crate::error::ErrorKind::Argument) for a token that is no `b64token` (RFC 6750).
    pub fn bearer(token: &str) -> Result<Self> {
        if !is_b64token(token) {
            return Err(Error::argument(
                "a bearer token takes only the characters of RFC 6750, b64token",
            ));
        }
        Ok(Self(Arc::new(Source::Fixed(Credential::Bearer(
            Secret::new(token),
        )))))
    }

    /// A refresh token (identity token) traded for access tokens.
    ///
    /// # Errors
    /// [`Argument`](crate::error::ErrorKind::Argument) for an empty token and control characters.
    pub fn refresh(token: &str) -> Result<Self> {
        if token.is_empty() || token.chars().any(char::is_control) {
            return Err(Error::argument(
                "a refresh token is not empty and holds no control character",
            ));
        }
        Ok(Self(Arc::new(Source::Fixed(Credential::Identity(
            Secret::new(token),
        )))))
    }

    /// Docker's `config.json` and its helpers, read when needed. `None`: `$DOCKER_AUTH_CONFIG`,
    /// `$DOCKER_CONFIG`, then `~/.docker`.
    pub fn docker(path: Option<PathBuf>) -> Self {
        Self(Arc::new(Source::Docker(docker::Store::new(
            path,
            &Env::snapshot(),
        ))))
    }

    /// The `auth.json` of podman, skopeo and buildah, read when needed. `None`: the usual places, then those of
    /// Docker's `config.json`.
    pub fn podman(path: Option<PathBuf>) -> Self {
        Self(Arc::new(Source::Podman(podman::Store::new(
            path,
            &Env::snapshot(),
        ))))
    }

    /// Asks `ask` whenever credentials are needed, and again when they were refused. It runs on the thread
    /// of the call and may take its time; what it returns must not be a callback again.
    pub fn callback(ask: Arc<CredsFn>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(Source::Callback {
            ask,
            serial: NEXT.fetch_add(1, Ordering::Relaxed),
        }))
    }

    /// The same source for another host than the one the program named: what the program gave belongs to that
    /// one, and only a source that is asked by host knows about others.
    pub(crate) fn elsewhere(&self) -> Self {
        match &*self.0 {
            Source::Fixed(_) => Self::anonymous(),
            _ => self.clone(),
        }
    }

    /// The credential that is known without asking anybody.
    pub(crate) fn fixed(&self) -> Option<&Credential> {
        match &*self.0 {
            Source::Fixed(credential) => Some(credential),
            _ => None,
        }
    }

    /// Looks the credentials up, and says where they were found.
    pub(crate) fn resolve(
        &self,
        registry: &str,
        repository: Option<&str>,
        call: &Call,
    ) -> Result<(Credential, Found)> {
        let deadline = call
            .deadline()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(24 * 3600));
        let cancelled = || {
            let over = call.check();
            over.is_err_and(|e| e.kind() == ErrorKind::Cancelled)
        };
        match &*self.0 {
            Source::Fixed(credential) => Ok((credential.clone(), Found::said("the program"))),
            Source::Docker(store) => store.lookup(registry, repository, deadline, &cancelled),
            Source::Podman(store) => store.lookup(registry, repository, deadline, &cancelled),
            Source::Callback { .. } if !call.may_call_back() => Err(Error::auth(
                "the credentials callback may only be called by the thread of the call",
            )),
            Source::Callback { ask, .. } => {
                let answer = ask(registry, repository)?;
                match answer.fixed() {
                    Some(credential) => {
                        Ok((credential.clone(), Found::said("the credentials callback")))
                    }
                    None if matches!(&*answer.0, Source::Callback { .. }) => Err(Error::auth(
                        "the credentials callback returned another callback",
                    )),
                    None => answer.resolve(registry, repository, call),
                }
            }
        }
    }

    /// Without which nobody has its fingerprint.
    pub(crate) fn owner(&self) -> Owner {
        let is_callback = matches!(&*self.0, Source::Callback { .. });
        Owner(is_callback.then(|| Arc::downgrade(&self.0)))
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let text = zeroize::Zeroizing::new(match &*self.0 {
            Source::Fixed(Credential::Anonymous) => "anonymous".to_owned(),
            Source::Fixed(Credential::Basic { user, password }) => {
                format!("basic\0{user}\0{}", password.expose())
            }
            Source::Fixed(Credential::Identity(token)) => format!("identity\0{}", token.expose()),
            Source::Fixed(Credential::Bearer(token)) => format!("bearer\0{}", token.expose()),
            Source::Docker(store) => format!("docker\0{store:?}"),
            Source::Podman(store) => format!("podman\0{store:?}"),
            Source::Callback { serial, .. } => format!("callback\0{serial}"),
        });
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Fingerprint(out)
    }
}

impl fmt::Debug for Creds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.0 {
            Source::Fixed(Credential::Anonymous) => "Creds(anonymous)",
            Source::Fixed(Credential::Basic { .. }) => "Creds(basic)",
            Source::Fixed(Credential::Identity(_)) => "Creds(refresh token)",
            Source::Fixed(Credential::Bearer(_)) => "Creds(bearer)",
            Source::Docker(_) => "Creds(docker)",
            Source::Podman(_) => "Creds(podman)",
            Source::Callback { .. } => "Creds(callback)",
        })
    }
}

/// `b64token` of RFC 6750 section 2.1.
pub(crate) fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        })
}
