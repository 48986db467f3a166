//! What an answer says that is not what was asked for: understood once, and put into the error for it.

use std::time::Duration;

use ureq::http::header::HeaderMap;

use crate::diagnostics::{self, Said};
use crate::error::{Diagnostic, Error};
use crate::json;
use crate::rate_limit::RateLimit;
use crate::response::content_type;
use crate::retry;
use crate::secret::Secrets;
use crate::token;
use crate::url::Url;

/// An answer as an error tells it: without secrets.
pub(crate) struct Refusal<'a> {
    secrets: &'a Secrets,
    status: u16,
    retry_after: Option<Duration>,
    rate_limit: Option<RateLimit>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Refusal<'a> {
    /// Of an answer from `url` and what could be read of its body, which may be nothing, and whether that may not be all.
    pub(crate) fn of(
        url: &Url,
        status: u16,
        headers: &HeaderMap,
        (body, is_cut): (&[u8], bool),
        secrets: &'a Secrets,
    ) -> Self {
        Self::saying(url, status, headers, (&json::text(body), is_cut), secrets)
    }

    /// The same of a token service, whose body is not told where it may be a token: it holds one, or is no refusal.
    pub(crate) fn of_token_service(
        url: &Url,
        status: u16,
        headers: &HeaderMap,
        (body, is_cut): (&[u8], bool),
        secrets: &'a Secrets,
    ) -> Self {
        let text = json::text(body);
        let is_told = status >= 400 && !token::is_in(&text);
        let said = (if is_told { &*text } else { "" }, is_cut);
        let refusal = Self::saying(url, status, headers, said, secrets);
        json::wipe(text);
        refusal
    }

    fn saying(
        url: &Url,
        status: u16,
        headers: &HeaderMap,
        (text, is_cut): (&str, bool),
        secrets: &'a Secrets,
    ) -> Self {
        secrets.remember_signatures(url);
        Self {
            secrets,
            status,
            retry_after: retry::advice(status, headers),
            rate_limit: retry::rate_limit(headers),
            diagnostics: diagnostics::parse(Said {
                text,
                is_cut,
                content_type: content_type(headers),
                secrets,
            }),
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

    /// The error with all that the answer says.
    pub(crate) fn tell(self, error: Error) -> Error {
        error
            .with_http_status(self.status)
            .with_retry_after(self.retry_after)
            .with_rate_limit(self.rate_limit)
            .with_diagnostics(self.diagnostics)
            .redacted(self.secrets)
    }
}
