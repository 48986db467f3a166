//! When a request is sent again, and after how long a pause.

use std::time::{Duration, SystemTime};

use ureq::http::header::{self, HeaderMap};

use crate::error::{Error, ErrorKind, Result, SOON};
use crate::net::call::Call;
use crate::options::{Number, Options};
use crate::rate_limit::RateLimit;
use crate::retry_after;

/// The rules by which a call repeats requests. What it has spent is counted in the call, so that ping, token
/// exchanges, redirects and resumed bodies share it.
#[derive(Debug)]
pub(crate) struct Budget {
    retries: u64,
    first_pause: Duration,
    waits: Duration,
    /// No other host is left that may answer sooner than this one does at the next attempt.
    is_last: bool,
}

impl Budget {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            retries: options.number(Number::Retries),
            first_pause: options.millis(Number::RetryDelay),
            waits: options.millis(Number::RetryBudget),
            is_last: true,
        }
    }

    /// One attempt and no other.
    pub(crate) fn none() -> Self {
        Self {
            retries: 0,
            first_pause: Duration::ZERO,
            waits: Duration::ZERO,
            is_last: true,
        }
    }

    /// The same for the next of `hosts` hosts: it may use its part of what is left.
    pub(crate) fn share(&self, hosts: usize, call: &Call) -> Self {
        let is_last = hosts < 2;
        let hosts = u32::try_from(hosts.max(1)).unwrap_or(u32::MAX);
        let spent = call.spent();
        let repeated = u64::from(spent.repetitions);
        Self {
            retries: repeated + self.retries.saturating_sub(repeated) / u64::from(hosts),
            first_pause: self.first_pause,
            waits: spent.waited + self.waits.saturating_sub(spent.waited) / hosts,
            is_last,
        }
    }

    /// How long to wait before the next attempt; `None` when there is none: the repetitions are used up, or
    /// the wait asked for is longer than what may be waited.
    pub(crate) fn next(&self, asked: Option<Duration>, call: &Call) -> Option<Duration> {
        let spent = call.spent();
        let pause = asked.unwrap_or_else(|| jitter(self.first_pause, spent.repetitions));
        let left = self.waits.saturating_sub(spent.waited);
        let is_within = u64::from(spent.repetitions) < self.retries
            && pause <= left
            && call.remaining().is_none_or(|left| pause < left);
        is_within.then_some(pause)
    }

    /// Whether the next attempt may do better: the connection broke, or it took too long what may be waited for
    /// again, and no other host can be asked instead.
    pub(crate) fn may_pass(&self, e: &Error, waits_again: bool) -> bool {
        is_broken_connection(e) || (waits_again && self.is_last && e.is_slow())
    }

    /// Waits before the next attempt.
    pub(crate) fn wait(&self, pause: Duration, failure: &Error, call: &Call) -> Result<()> {
        let mut spent = call.spent();
        spent.repetitions = spent.repetitions.saturating_add(1);
        spent.waited = spent.waited.saturating_add(pause);
        drop(spent);
        call.log.info(|| {
            format!(
                "trying again in {} ms: {}",
                pause.as_millis(),
                failure.message()
            )
        });
        call.sleep(pause)
    }

    /// Waits before the next attempt, or gives `failure` back when there is none.
    pub(crate) fn pause(&self, failure: Error, asked: Option<Duration>, call: &Call) -> Result<()> {
        match self.next(asked, call) {
            Some(pause) => self.wait(pause, &failure, call),
            None => {
                let wait = failure.retry_after().unwrap_or(SOON);
                Err(failure.with_retry_after(Some(wait)))
            }
        }
    }

    /// The call got on: it may repeat as often as at its beginning. The time waited stays spent.
    pub(crate) fn give_back(call: &Call) {
        call.spent().repetitions = 0;
    }
}

/// Full jitter: anything up to the exponential bound, so that clients do not march in step.
fn jitter(first: Duration, done: u32) -> Duration {
    let bound = first
        .saturating_mul(1 << done.min(16))
        .min(Duration::from_secs(60));
    Duration::from_millis(fastrand::u64(
        0..=u64::try_from(bound.as_millis()).unwrap_or(u64::MAX),
    ))
}

/// Statuses that may go away by themselves.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Failures of the connection, as opposed to answers.
pub(crate) fn is_broken_connection(e: &Error) -> bool {
    // A proxy that refuses says so with a status; that of an answer whose body broke off is none of these.
    let may_pass = |status| (200..300).contains(&status) || is_transient(status);
    e.kind() == ErrorKind::Network && e.http_status().is_none_or(may_pass)
}

/// Whether a place that failed so may do better later, and another one now.
pub(crate) fn is_passing(e: &Error) -> bool {
    is_broken_connection(e)
        || e.kind() == ErrorKind::Timeout
        || e.http_status().is_some_and(is_transient)
}

/// The pause a server asks for (RFC 9110 section 10.2.3).
pub(crate) fn asked_for(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(header::RETRY_AFTER)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .find_map(|v| retry_after::parse(v, SystemTime::now()))
}

/// What the fields say about request limits.
pub(crate) fn rate_limit(headers: &HeaderMap) -> Option<RateLimit> {
    RateLimit::of(headers, SystemTime::now())
}

/// What the server asks for, for messages; empty when it asks for nothing.
pub(crate) fn plea(headers: &HeaderMap) -> String {
    asked_for(headers).map_or_else(String::new, |wait| {
        format!("; it asks to wait {} s", wait.as_secs())
    })
}

/// `e`, which ended the repetitions, with what the last answer before it said.
pub(crate) fn after(e: Error, last: Option<Error>) -> Error {
    match last {
        Some(last)
            if matches!(e.kind(), ErrorKind::Network | ErrorKind::Timeout)
                && e.http_status().is_none() =>
        {
            let message = format!("{}; before that, {}", e.message(), last.message());
            Error::new(e.kind(), message)
                .with_os_code(e.os_code())
                .with_http_status(last.http_status().unwrap_or(0))
                .with_retry_after(e.retry_after().max(last.retry_after()))
                .with_rate_limit(last.rate_limit())
                .with_diagnostics(last.diagnostics().to_vec())
        }
        _ => e,
    }
}

/// What an error says about trying again: the server's word, else a second for what may pass by itself.
pub(crate) fn advice(status: u16, headers: &HeaderMap) -> Option<Duration> {
    asked_for(headers).or_else(|| is_transient(status).then_some(SOON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_transient(status), "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 405, 416, 501, 505] {
            assert!(!is_transient(status), "{status}");
        }
    }

    #[test]
    fn budget() {
        let mut options = Options::new();
        options.set_number("retries", 2).unwrap();
        options.set_number("retry-delay-ms", 0).unwrap();
        options.set_number("retry-budget-ms", 1000).unwrap();
        let call = Call::new(None, &options, &std::sync::Arc::default());
        let budget = Budget::of(&options);
        let fail = || Error::network("broken");
        assert!(
            budget
                .pause(fail(), Some(Duration::from_secs(2)), &call)
                .is_err(),
            "beyond the budget"
        );
        budget.pause(fail(), None, &call).unwrap();
        budget.pause(fail(), Some(Duration::ZERO), &call).unwrap();
        assert!(budget.pause(fail(), None, &call).is_err(), "used up");
    }

    #[test]
    fn jitter_stays_below_its_bound() {
        for done in 0..80 {
            let bound = Duration::from_millis(500)
                .saturating_mul(1 << done.min(16))
                .min(Duration::from_secs(60));
            assert!(jitter(Duration::from_millis(500), done) <= bound);
        }
    }
}
