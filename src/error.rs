//! What can go wrong, with all that the caller needs to decide what to do about it.

use std::fmt;
use std::time::Duration;

use crate::rate_limit::RateLimit;
use crate::secret::Secrets;

/// The class of a failure: what the caller can do about it, not where it happened.
///
/// The numbers are those of the C constants `RT_E_…` and permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A mistake in how a function was called.
    Argument = 1,
    /// Unknown option, or something this build or the registry does not offer.
    Unsupported = 2,
    /// A name, path, digest or URL does not parse.
    Syntax = 3,
    /// Name resolution, connect, proxy, or a broken connection.
    Network = 4,
    /// TLS handshake or certificate failure.
    Tls = 5,
    /// A deadline or time-out passed.
    Timeout = 6,
    /// The call was cancelled, or a callback stopped it.
    Cancelled = 7,
    /// No usable credentials, or they were refused.
    Auth = 8,
    /// The registry answered with a status the request did not accept.
    Status = 9,
    /// The answer had a media type the request did not accept.
    MediaType = 10,
    /// The bytes do not have the digest or the length they should have.
    Digest = 11,
    /// A limit was exceeded: one that an option sets, 128 header fields in an answer, or one that a function names; or
    /// there was no memory for a body.
    Limit = 12,
    /// A local file could not be read or written.
    Io = 13,
    /// The peer broke HTTP or the registry protocol.
    Protocol = 14,
    /// The handle is busy, already consumed, or was made before `fork`.
    State = 15,
    /// A bug in this library was caught.
    Internal = 98,
}

/// One entry of the registry's `errors` list (distribution-spec, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostic {
    /// The code, such as `MANIFEST_UNKNOWN`. `UNKNOWN` when the body was not understood.
    pub code: Option<String>,
    /// The registry's message.
    pub message: Option<String>,
    /// The detail as JSON text, whatever its type.
    pub detail: Option<String>,
}

/// A failure. Cheap to pass on; carries no secrets.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    http_status: Option<u16>,
    os_code: Option<i32>,
    retry_after: Option<Duration>,
    rate_limit: Option<RateLimit>,
    diagnostics: Vec<Diagnostic>,
}

/// When to try again what may pass by itself, if nobody says.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// What fallible functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of this kind. `message` says what failed, on which host, and what to do.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: one_line(message.into()),
            http_status: None,
            os_code: None,
            retry_after: None,
            rate_limit: None,
            diagnostics: Vec::new(),
        }))
    }

    /// An attempt took too long. The call itself may go on, and the next attempt may do better.
    #[cold]
    #[inline(never)]
    pub(crate) fn slow(message: impl Into<String>) -> Self {
        Self::timeout(message).with_retry_after(Some(SOON))
    }

    /// Whether it is one of those, and not the end of the call's own time.
    pub(crate) fn is_slow(&self) -> bool {
        self.kind() == ErrorKind::Timeout && self.retry_after().is_some()
    }

    /// The class of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// One line for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// HTTP status of the answer, if there was one.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// `errno` of the failed system call, if there was one.
    pub fn os_code(&self) -> Option<i32> {
        self.0.os_code
    }

    /// How long to wait before trying again; `None` when that is pointless.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the refused answer said about request limits.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.0.rate_limit
    }

    /// What the registry said about the failure.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0.diagnostics
    }

    /// With the status of the answer whose body failed, unless it has that of a later one.
    pub(crate) fn in_answer(self, status: u16) -> Self {
        match self.0.http_status {
            Some(_) => self,
            None => self.with_http_status(status),
        }
    }

    pub(crate) fn with_http_status(mut self, status: u16) -> Self {
        self.0.http_status = Some(status);
        self
    }

    pub(crate) fn with_os_code(mut self, code: Option<i32>) -> Self {
        self.0.os_code = code;
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    pub(crate) fn with_rate_limit(mut self, limit: Option<RateLimit>) -> Self {
        self.0.rate_limit = limit;
        self
    }

    pub(crate) fn with_diagnostics(mut self, diagnostics: Vec<Diagnostic>) -> Self {
        self.0.diagnostics = diagnostics;
        self
    }

    /// Puts a remark behind the message.
    #[cold]
    #[inline(never)]
    pub(crate) fn remark(mut self, what: impl fmt::Display) -> Self {
        self.0.message = one_line(format!("{}; {what}", self.0.message));
        self
    }

    /// Without what must not be shown of what a peer sent.
    pub(crate) fn redacted(mut self, secrets: &Secrets) -> Self {
        self.0.message = secrets.redact(self.0.message);
        for diagnostic in &mut self.0.diagnostics {
            for text in [
                &mut diagnostic.code,
                &mut diagnostic.message,
                &mut diagnostic.detail,
            ] {
                *text = text.take().map(|text| secrets.redact(text));
            }
        }
        self
    }

    /// Puts `what` and a colon before the message.
    #[cold]
    #[inline(never)]
    pub(crate) fn context(mut self, what: impl fmt::Display) -> Self {
        self.0.message = one_line(format!("{what}: {}", self.0.message));
        self
    }
}

/// Messages are promised to be one line; what a peer sent may hold anything.
fn one_line(text: String) -> String {
    if text.chars().any(|c| c.is_control()) {
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    } else {
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident => $kind:ident,)*) => {
        // Out of the way of what goes well, which is smaller and faster so.
        impl Error {
            $($(#[$doc])* #[cold] #[inline(never)] pub(crate) fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

kinds! {
    argument => Argument,
    unsupported => Unsupported,
    syntax => Syntax,
    network => Network,
    tls => Tls,
    timeout => Timeout,
    cancelled => Cancelled,
    auth => Auth,
    status => Status,
    media_type => MediaType,
    digest => Digest,
    limit => Limit,
    io => Io,
    protocol => Protocol,
    state => State,
    internal => Internal,
}
