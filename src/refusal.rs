//! What an answer says that is not what was asked for: understood once, and put into the error for it.

use std::time::Duration;

use ureq::http::header::{self, HeaderMap};

use crate::diagnostics;
use crate::error::{Diagnostic, Error};
use crate::rate_limit::RateLimit;
use crate::retry;
use crate::secret::Secrets;

/// An answer as an error tells it.
pub(crate) struct Refusal {
    status: u16,
    retry_after: Option<Duration>,
    rate_limit: Option<RateLimit>,
    diagnostics: Vec<Diagnostic>,
}

impl Refusal {
    /// Of an answer and what could be read of its body, which may be nothing.
    pub(crate) fn of(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let kind = headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        Self {
            status,
            retry_after: retry::advice(status, headers),
            rate_limit: retry::rate_limit(headers),
            diagnostics: diagnostics::parse(body, kind),
        }
    }

    /// What the peer says, for a message: `CODE: message` between these two, or nothing.
    pub(crate) fn said(&self, before: &str, after: &str) -> String {
        let said = diagnostics::summary(&self.diagnostics);
        if said.is_empty() {
            said
        } else {
            format!("{before}{said}{after}")
        }
    }

    /// The error with all that the answer says, and without what must not be shown.
    pub(crate) fn tell(self, error: Error, secrets: &Secrets) -> Error {
        error
            .with_http_status(self.status)
            .with_retry_after(self.retry_after)
            .with_rate_limit(self.rate_limit)
            .with_diagnostics(self.diagnostics)
            .redacted(secrets)
    }
}
