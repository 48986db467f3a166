//! Several hosts for one pull: which to ask first, when to ask the next, and what to say when none served.

use crate::error::{Error, ErrorKind};
use crate::sorted::in_order;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What a tag stands for.
    Tag,
    /// A manifest by its digest.
    Digest,
    Blob,
    /// Whether anybody is there.
    Anything,
}

/// What the failure of a host means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They would fail as well, or must not be asked.
    Final,
    /// It does not have what was asked for: the next may.
    Next,
    /// It does not serve at all: the next may, and is asked first for a while.
    Shun,
}

/// What to do after a host failed, the call itself being able to go on.
pub(crate) fn judge(e: &Error) -> Verdict {
    match (e.kind(), e.http_status()) {
        (ErrorKind::Status, Some(408 | 429 | 500..=599 | 403)) => Verdict::Shun,
        (ErrorKind::Status | ErrorKind::MediaType, _) => Verdict::Next,
        (
            ErrorKind::Network
            | ErrorKind::Tls
            | ErrorKind::Timeout
            | ErrorKind::Auth
            | ErrorKind::Protocol
            // Its certificates cannot be read; the next host may have others, or none.
            | ErrorKind::Io,
            _,
        ) => Verdict::Shun,
        // Wrong bytes are somebody's attack or damage that has to be looked at: passing them over in silence
        // would hide it. The rest is of this machine's making.
        _ => Verdict::Final,
    }
}

/// The order in which hosts are asked: the one that served before, then as the configuration says, and those
/// that failed a short while ago after all others.
pub(crate) fn order(
    hosts: impl IntoIterator<Item = (usize, bool)>,
    prefer: Option<usize>,
) -> impl ExactSizeIterator<Item = usize> {
    let last = |(host, shunned): &(usize, bool)| (*shunned, Some(*host) != prefer);
    in_order(hosts, |a, b| last(a).cmp(&last(b)))
        .into_iter()
        .map(|(host, _)| host)
}

/// What the hosts said that did not serve.
#[derive(Default)]
pub(crate) struct Failures(Vec<(usize, Error)>);

impl Failures {
    pub(crate) fn push(&mut self, host: usize, e: Error) {
        self.0.push((host, e));
    }

    /// One error: that of the host that decides whether something exists, else the last, with what the others
    /// said behind it.
    pub(crate) fn into_error(mut self, deciding: usize) -> Error {
        let at = self
            .0
            .iter()
            .position(|(host, _)| *host == deciding)
            .unwrap_or(self.0.len().saturating_sub(1));
        if at >= self.0.len() {
            return Error::unsupported("no host may be asked for this");
        }
        let (_, mut error) = self.0.remove(at);
        for (_, e) in self.0 {
            error = error.remark(format!("before that, {}", e.message()));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let status = |n| Error::status("x").with_http_status(n);
        for (e, want) in [
            (Error::network("x"), Verdict::Shun),
            (Error::tls("x"), Verdict::Shun),
            (Error::timeout("x"), Verdict::Shun),
            (Error::auth("x").with_http_status(401), Verdict::Shun),
            (Error::protocol("x"), Verdict::Shun),
            (status(403), Verdict::Shun),
            (status(429), Verdict::Shun),
            (status(500), Verdict::Shun),
            (status(503), Verdict::Shun),
            (status(400), Verdict::Next),
            (status(404), Verdict::Next),
            (status(405), Verdict::Next),
            (Error::media_type("x"), Verdict::Next),
            (Error::digest("x"), Verdict::Final),
            (Error::cancelled("x"), Verdict::Final),
            (Error::limit("x"), Verdict::Final),
            (Error::argument("x"), Verdict::Final),
            (Error::state("x"), Verdict::Final),
            (Error::io("x"), Verdict::Shun),
        ] {
            assert_eq!(judge(&e), want, "{e:?}");
        }
    }

    #[test]
    fn orders() {
        let hosts = |shunned: [bool; 3]| [(0, shunned[0]), (1, shunned[1]), (2, shunned[2])];
        for (shunned, prefer, want) in [
            ([false, false, false], None, [0, 1, 2]),
            ([false, false, false], Some(1), [1, 0, 2]),
            ([true, false, false], None, [1, 2, 0]),
            ([true, false, true], None, [1, 0, 2]),
            ([false, true, false], Some(1), [0, 2, 1]),
            ([true, true, true], Some(2), [2, 0, 1]),
        ] {
            let got: Vec<usize> = order(hosts(shunned), prefer).collect();
            assert_eq!(got, want, "{shunned:?} {prefer:?}");
        }
    }

    #[test]
    fn one_error() {
        let mut failures = Failures::default();
        failures.push(1, Error::network("b refused"));
        failures.push(2, Error::status("c: 404").with_http_status(404));
        failures.push(0, Error::tls("a expired"));
        let e = failures.into_error(2);
        assert_eq!((e.kind(), e.http_status()), (ErrorKind::Status, Some(404)));
        assert_eq!(
            e.message(),
            "c: 404; before that, b refused; before that, a expired"
        );
        let mut failures = Failures::default();
        failures.push(0, Error::network("a"));
        failures.push(1, Error::tls("b"));
        assert_eq!(failures.into_error(9).message(), "b; before that, a");
        assert_eq!(
            Failures::default().into_error(0).kind(),
            ErrorKind::Unsupported
        );
    }
}
