//! What a registry warns of (distribution-spec, "Warnings"): `Warning: 299 - "text"`. It goes to the log, each text
//! once, and nothing else is done about it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use ureq::http::header::{HeaderMap, WARNING};

use crate::log::{Level, Log};
use crate::url::Url;

/// Most bytes of warnings in one answer; what is beyond is not looked at.
const MAX_BYTES: usize = 4096;
/// Most texts that are remembered, the latest ones.
const MAX_TOLD: usize = 64;

/// The warnings of one host, as far as they were told.
#[derive(Default)]
pub(crate) struct Warnings(Mutex<Vec<u64>>);

impl Warnings {
    /// Tells what is new in the answer of `url`.
    pub(crate) fn of(&self, headers: &HeaderMap, url: &Url, log: &Log) {
        if log.hears(Level::Warn) && headers.contains_key(WARNING) {
            self.tell(headers, url, log);
        }
    }

    #[cold]
    fn tell(&self, headers: &HeaderMap, url: &Url, log: &Log) {
        let mut left = MAX_BYTES;
        for value in headers.get_all(WARNING) {
            match left.checked_sub(value.len()) {
                Some(rest) => left = rest,
                None => return,
            }
            let value = String::from_utf8_lossy(value.as_bytes());
            let mut rest = Some(value.trim());
            while let Some((text, after)) = rest.and_then(first) {
                if self.is_new(&text) {
                    log.warn(|| format!("{} warns: {text}", url.origin()));
                }
                rest = after.strip_prefix(',').map(str::trim_start);
            }
        }
    }

    fn is_new(&self, text: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&hash) {
            return false;
        }
        if told.len() == MAX_TOLD {
            told.remove(0);
        }
        told.push(hash);
        true
    }
}

/// The text of the first warning and what follows it, if it has the one form that is allowed.
fn first(value: &str) -> Option<(String, &str)> {
    let mut chars = value.strip_prefix("299 - \"")?.chars();
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
    let after = chars.as_str().trim_start();
    let is_allowed = !text.is_empty() && (after.is_empty() || after.starts_with(','));
    is_allowed.then_some((text, after))
}
