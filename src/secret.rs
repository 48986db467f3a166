//! Text that must not be shown: it cannot be formatted, and it is wiped when dropped.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// A password, token or other secret text.
///
/// It has no `Display`, its `Debug` shows nothing of it, and its memory is overwritten when the last
/// owner lets go of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`. Copies made of it before are the caller's to wipe.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. What is made of it must be wiped or be a `Secret` again.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a call has sent as credentials. A peer may send it back, but it must not be shown.
#[derive(Debug, Default)]
pub(crate) struct Secrets(Mutex<Vec<Secret>>);

/// Shorter texts are found in too many words.
const SHORTEST: usize = 8;

impl Secrets {
    /// Keeps a secret.
    pub(crate) fn remember(&self, text: &str) {
        if text.len() < SHORTEST {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(|secret| secret.expose() == text) {
            known.push(Secret::new(text));
        }
    }

    /// Keeps what the value of a Cookie field holds (RFC 6265 section 4.2).
    pub(crate) fn remember_cookies(&self, value: &[u8]) {
        let Ok(value) = std::str::from_utf8(value) else {
            return;
        };
        self.remember(value);
        for pair in value.split(';') {
            self.remember(pair.split_once('=').map_or(pair, |(_, value)| value).trim());
        }
    }

    /// Keeps what the value of an Authorization field, or of another that may be one, holds.
    pub(crate) fn remember_field(&self, value: &[u8]) {
        let Ok(value) = std::str::from_utf8(value) else {
            return;
        };
        let (scheme, credentials) = value.split_once(' ').unwrap_or(("", value));
        self.remember(credentials);
        if scheme.eq_ignore_ascii_case("basic") {
            let pair = Zeroizing::new(BASE64_STANDARD.decode(credentials).unwrap_or_default());
            let pair = std::str::from_utf8(&pair).unwrap_or_default();
            if let Some((_, password)) = pair.split_once(':') {
                self.remember(password);
            }
        }
    }

    /// `text` without them.
    pub(crate) fn redact(&self, mut text: String) -> String {
        for secret in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            let escaped =
                Zeroizing::new(serde_json::to_string(secret.expose()).unwrap_or_default());
            for form in [secret.expose(), escaped.trim_matches('"')] {
                if text.contains(form) {
                    text = text.replace(form, "[secret]");
                }
            }
        }
        text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_not_shown() {
        let secrets = Secrets::default();
        secrets.remember_field(b"Bearer token-1234567");
        let basic = format!("basic {}", BASE64_STANDARD.encode("user:p\"ss-word"));
        secrets.remember_field(basic.as_bytes());
        secrets.remember("short");
        for (text, want) in [
            ("no token-1234567, token-1234567!", "no [secret], [secret]!"),
            ("{\"p\":\"p\\\"ss-word\"}", "{\"p\":\"[secret]\"}"),
            ("p\"ss-word", "[secret]"),
            ("a short text", "a short text"),
        ] {
            assert_eq!(secrets.redact(text.to_owned()), want);
        }
        assert_eq!(secrets.redact(basic), "basic [secret]");
        assert!(!format!("{secrets:?}").contains("token-1"));
    }
}
