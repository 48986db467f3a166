//! When a request is sent again, and after how long a pause.

use std::time::{Duration, SystemTime};

use ureq::http::header::{self, HeaderMap};

use crate::error::{Error, ErrorKind, Result};
use crate::net::call::Call;
use crate::options::{Number, Options};
use crate::retry_after;

/// What is left of the repetitions of one call, its token exchanges and redirects included.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
    done: u32,
    first_pause: Duration,
    waits: Duration,
}

impl Budget {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            left: options.number(Number::Retries),
            done: 0,
            first_pause: options.millis(Number::RetryDelay),
            waits: options.millis(Number::RetryBudget),
        }
    }

    /// One attempt and no other.
    pub(crate) fn none() -> Self {
        Self {
            left: 0,
            done: 0,
            first_pause: Duration::ZERO,
            waits: Duration::ZERO,
        }
    }

    /// Waits before the next attempt, or gives `failure` back when there is none: the repetitions are used
    /// up, or the wait asked for is longer than what may be waited.
    pub(crate) fn pause(
        &mut self,
        failure: Error,
        asked: Option<Duration>,
        call: &Call,
    ) -> Result<()> {
        if self.left == 0 {
            return Err(failure);
        }
        let pause = asked.unwrap_or_else(|| jitter(self.first_pause, self.done));
        let beyond_call = call.remaining().is_some_and(|left| pause >= left);
        if pause > self.waits || beyond_call {
            return Err(failure);
        }
        self.left -= 1;
        self.done += 1;
        self.waits -= pause;
        call.log.info(|| {
            format!(
                "trying again in {} ms: {}",
                pause.as_millis(),
                failure.message()
            )
        });
        call.sleep(pause)
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
    // A proxy that refuses says so with a status.
    e.kind() == ErrorKind::Network && e.http_status().is_none_or(is_transient)
}

/// The pause a server asks for (RFC 9110 section 10.2.3).
pub(crate) fn asked_for(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(header::RETRY_AFTER)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .find_map(|v| retry_after::parse(v, SystemTime::now()))
}

/// What an error says about trying again: the server's word, else a second for what may pass by itself.
pub(crate) fn advice(status: u16, headers: &HeaderMap) -> Option<Duration> {
    asked_for(headers).or_else(|| is_transient(status).then_some(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R50.
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
        let mut budget = Budget::of(&options);
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
