//! Bytes of a blob as they come in, asked for again from where they broke off (RFC 9110 section 14).

use std::sync::Arc;

use ureq::http::header::{self, HeaderMap, HeaderValue};

use crate::blob::{Place, Span};
use crate::error::{Error, ErrorKind, Result};
use crate::net::call::Call;
use crate::net::{BUFFER, Body};
use crate::range;
use crate::response::content_length;
use crate::retry::Budget;
use crate::send::Answer;
use crate::verify::Stream;

/// A stretch of this many bytes is a good one, however it ended.
const LONG_STRETCH: u64 = 64 * 1024;
/// How many shorter stretches one download may have that cost no repetition: a server that hands out single
/// bytes must not be asked for ever.
const MAX_SHORT: u32 = 1000;

/// A part of a blob as it comes in, asked for again from where it broke off.
pub(crate) struct Download {
    place: Place,
    call: Arc<Call>,
    body: Option<Body>,
    /// Bytes to pass over before `position`: the server sent the whole instead of a part.
    skip: u64,
    position: u64,
    end: Option<u64>,
    size: Option<u64>,
    /// A strong validator of the representation (RFC 9110 section 8.8.3), and the host that has this one.
    etag: Option<(usize, HeaderValue)>,
    budget: Budget,
    /// Bytes that came since the last time it was asked.
    moved: u64,
    /// Short stretches so far.
    short: u32,
    /// Hosts that were passed over since bytes came.
    passed_over: usize,
    /// Asked for by range from the beginning.
    ranged: bool,
    /// The last answer was not a part.
    sends_all: bool,
    /// The digest of the whole is checked.
    checked: bool,
    /// What is read is not put beside other parts.
    alone: bool,
}

impl Download {
    /// Goes on from the answer to a request for the whole blob.
    pub(crate) fn begun(place: Place, answer: Answer, size: Option<u64>, call: &Arc<Call>) -> Self {
        let mut download = Self {
            ranged: false,
            checked: true,
            ..Self::ranged(place, 0, size, size, call)
        };
        download.adopt(answer);
        download
    }

    /// Will ask for the bytes from `first` up to before `end`, of a blob of `size` bytes.
    pub(crate) fn ranged(
        place: Place,
        first: u64,
        end: Option<u64>,
        size: Option<u64>,
        call: &Arc<Call>,
    ) -> Self {
        Self {
            budget: place.transport.budget(),
            place,
            call: Arc::clone(call),
            body: None,
            skip: 0,
            position: first,
            end,
            size,
            etag: None,
            moved: 0,
            short: 0,
            passed_over: 0,
            ranged: true,
            sends_all: false,
            checked: false,
            alone: false,
        }
    }

    /// The same for a part that is all that is wanted.
    pub(crate) fn alone(self) -> Self {
        Self {
            alone: true,
            ..self
        }
    }

    /// Asks for the bytes from `first` on, at most up to before `end`, of a blob whose digest is checked.
    pub(crate) fn opened(
        place: Place,
        first: u64,
        end: Option<u64>,
        call: &Arc<Call>,
    ) -> Result<Self> {
        let mut download = Self {
            checked: true,
            ..Self::ranged(place, first, end, None, call)
        };
        download.reopen()?;
        if download.sends_all {
            // What comes without being asked for need not be asked for again.
            download.end = download.size;
        }
        Ok(download)
    }

    /// Whether it ends where the blob ends, as far as is known: not after a part of a blob of unknown length.
    pub(crate) fn is_bounded(&self) -> bool {
        self.size.is_some() || self.end.is_none()
    }

    /// Bytes of the whole blob, if they are known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether only a part was asked for and only that part is coming.
    pub(crate) fn is_part(&self) -> bool {
        self.ranged && self.skip == 0 && self.end.is_some() && self.end < self.size
    }

    /// Reads a part of `length` bytes into memory.
    pub(crate) fn into_bytes(mut self, length: u64) -> Result<Vec<u8>> {
        let length =
            usize::try_from(length).map_err(|_| Error::internal("a segment is too long"))?;
        let mut data = vec![0; length];
        let mut filled = 0;
        while let Some(room) = data.get_mut(filled..).filter(|r| !r.is_empty()) {
            match self.read(room)? {
                0 => {
                    return Err(Error::network(format!(
                        "{} sent a range that is too short",
                        self.place
                    )));
                }
                n => filled += n,
            }
        }
        self.finish();
        Ok(data)
    }

    /// Takes over an answer that begins where the download stands.
    fn adopt(&mut self, answer: Answer) {
        let etag = answer
            .headers
            .get(header::ETAG)
            .filter(|v| v.as_bytes().starts_with(b"\""));
        if self
            .etag
            .as_ref()
            .is_none_or(|(host, _)| *host != answer.host)
        {
            self.etag = etag.map(|etag| (answer.host, etag.clone()));
        }
        self.body = Some(answer.body);
    }

    fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.position >= end)
    }

    /// Lets the connection be used again if nothing more can come. Whether more came than the range that was told.
    pub(crate) fn finish(mut self) -> bool {
        if self.skip > 0 || !self.ranged || !self.is_complete() {
            return false;
        }
        let surplus = self.body.take().map_or(0, Body::discard);
        surplus > 0 && !self.sends_all
    }

    /// Asks for what is missing.
    fn reopen(&mut self) -> Result<()> {
        let range = (self.position, self.end.filter(|_| self.ranged));
        if self.ask(Some(range))? {
            return Ok(());
        }
        self.call
            .log
            .info(|| format!("{} has changed, asking for the whole", self.place));
        self.etag = None;
        self.ask(None).map(drop)
    }

    /// Asks for `range`, or for the whole. False for a part of another version, which must not be put behind what came of
    /// the first.
    fn ask(&mut self, range: Option<(u64, Option<u64>)>) -> Result<bool> {
        let span = Span {
            range,
            version: self.etag.as_ref(),
        };
        let (answer, found) = self
            .place
            .get(&span, &self.call, &mut self.budget, |answer| {
                let seen = Seen {
                    position: self.position,
                    last: range.and_then(|(_, end)| end).map(|end| end - 1),
                    size: self.size,
                    etag: self.etag.as_ref(),
                    is_alone: self.alone,
                };
                let answer = match range {
                    Some(_) => answer,
                    None => self.place.transport.whole(answer)?,
                };
                let found = match answer.status {
                    206 if self.checked && seen.is_another(&answer) => return Ok((answer, None)),
                    200 | 206 => seen.judge(&answer)?,
                    416 if seen.is_at_the_end(&answer) => Resumption {
                        skip: 0,
                        size: Some(self.position),
                    },
                    _ => return Err(self.place.transport.refusal("GET", answer)),
                };
                Ok((answer, Some(found)))
            })?;
        let Some(found) = found else {
            return Ok(false);
        };
        if self.size.is_none() {
            self.size = found.size;
            self.end = self.end.into_iter().chain(found.size).min();
        }
        if answer.status == 416 {
            answer.body.discard();
            return Ok(true);
        }
        self.skip = found.skip;
        self.sends_all = answer.status == 200;
        self.adopt(answer);
        Ok(true)
    }

    /// Reads from the body there is.
    fn read_some(&mut self, buf: &mut [u8]) -> Result<usize> {
        let Some(body) = &mut self.body else {
            return Ok(0);
        };
        let mut scratch = Vec::new();
        while self.skip > 0 {
            scratch.resize(BUFFER.min(usize::try_from(self.skip).unwrap_or(BUFFER)), 0);
            let n = body.read(&mut scratch)?;
            if n == 0 {
                return Err(Error::network(format!(
                    "{} sent a body that is too short",
                    self.place
                )));
            }
            self.skip -= n as u64;
        }
        // A range may be longer than it said; the digest tells.
        let left = self
            .end
            .map_or(u64::MAX, |end| end.saturating_sub(self.position));
        // One byte more than what is missing: a body that is too long must not pass.
        let room = if self.ranged {
            left
        } else {
            left.saturating_add(1)
        };
        let room = buf.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let n = body.read(buf.get_mut(..room).unwrap_or_default())?;
        if n == 0 && self.end.is_some_and(|end| self.position < end) {
            return Err(Error::network(format!(
                "{} sent a body that is too short",
                self.place
            )));
        }
        Ok(n)
    }
}

impl Stream for Download {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        if buf.is_empty() || (self.ranged && self.is_complete()) {
            return Ok(0);
        }
        loop {
            let result = match self.body {
                Some(_) => self.read_some(buf),
                None if self.is_complete() => return Ok(0),
                None => match self.reopen() {
                    Ok(()) => continue,
                    Err(e) => return Err(e),
                },
            };
            match result {
                Ok(0) => return Ok(0),
                Ok(n) => {
                    self.position += n as u64;
                    self.moved += n as u64;
                    return Ok(n);
                }
                Err(e) if self.is_resumable(&e) => {
                    self.body = None;
                    self.skip = 0;
                    if self.is_complete() {
                        return Ok(0);
                    }
                    self.call
                        .log
                        .info(|| format!("resuming at byte {}: {}", self.position, e.message()));
                    if self.got_on(&e) {
                        // It works, in pieces: a new stretch has repetitions of its own.
                        Budget::give_back(&self.call);
                        self.passed_over = 0;
                    } else if self.may_pass_over() {
                        self.passed_over += 1;
                    } else {
                        self.budget.pause(e, None, &self.call)?;
                    }
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl Download {
    /// Whether the stretch that `e` ended was long enough, or broke off early but not too often.
    fn got_on(&mut self, e: &Error) -> bool {
        match std::mem::take(&mut self.moved) {
            0 => false,
            LONG_STRETCH.. => true,
            _ if e.kind() == ErrorKind::Timeout => false,
            _ => {
                self.short += 1;
                self.short <= MAX_SHORT
            }
        }
    }

    /// Whether asking again may help: the connection broke or stalled, but the call may go on.
    fn is_resumable(&self, e: &Error) -> bool {
        matches!(e.kind(), ErrorKind::Network | ErrorKind::Timeout) && self.call.check().is_ok()
    }

    /// Turns to another host, if there is one that did not fail already.
    fn may_pass_over(&self) -> bool {
        self.passed_over + 1 < self.place.transport.host_count() && self.place.pass_over()
    }
}

/// How an answer goes on.
struct Resumption {
    /// Bytes to pass over.
    skip: u64,
    /// Bytes of the whole blob, if the answer tells.
    size: Option<u64>,
}

/// What is known of a blob when it is asked for again.
struct Seen<'a> {
    position: u64,
    /// The last byte asked for.
    last: Option<u64>,
    size: Option<u64>,
    etag: Option<&'a (usize, HeaderValue)>,
    is_alone: bool,
}

impl Seen<'_> {
    /// Whether nothing is missing of a blob whose length had not been told before.
    fn is_at_the_end(&self, answer: &Answer) -> bool {
        self.size.is_none() && unsatisfied_total(&answer.headers) == Some(self.position)
    }

    /// Whether an answer is of another version than what came before.
    fn is_another(&self, answer: &Answer) -> bool {
        let told = answer.headers.get(header::ETAG);
        self.etag.is_some_and(|(host, etag)| {
            *host == answer.host && told.is_some_and(|told| opaque(told) != opaque(etag))
        })
    }

    /// Whether an answer, a 200 or 206, goes on where the reader stands.
    fn judge(&self, answer: &Answer) -> Result<Resumption> {
        if answer.status == 206 {
            return self.judge_part(answer);
        }
        // The server ignores ranges, or the representation changed; the digest decides about the latter.
        let told = content_length(&answer.headers);
        match (self.size, told) {
            (Some(size), Some(told)) if size != told => Err(Error::protocol(format!(
                "{}: the blob had {size} bytes, now it has {told}",
                answer.url
            ))),
            _ => Ok(Resumption {
                skip: self.position,
                size: told,
            }),
        }
    }

    fn judge_part(&self, answer: &Answer) -> Result<Resumption> {
        let got = part(answer)?;
        // Just what was asked for, and all that is wanted: it does not matter of how much it is a part.
        let is_asked = got.first == self.position && self.last == Some(got.last);
        let size = self.size.filter(|_| !(self.is_alone && is_asked));
        range::check_answer(self.position, self.last, size, &got)
            .map_err(|e| e.context(&answer.url).with_http_status(206))?;
        if self.is_another(answer) {
            return Err(Error::protocol(format!(
                "{}: the blob changed while it was read",
                answer.url
            )));
        }
        Ok(Resumption {
            skip: 0,
            size: got.total,
        })
    }
}

/// An ETag without the mark of a weak one: what is the same byte for byte is the same in the weaker sense as well.
fn opaque(etag: &HeaderValue) -> &[u8] {
    let etag = etag.as_bytes();
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// The length that a 416 tells.
pub(crate) fn unsatisfied_total(headers: &HeaderMap) -> Option<u64> {
    range::unsatisfied_total(fields(headers))
}

fn fields(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::CONTENT_RANGE)
        .iter()
        .map(HeaderValue::as_bytes)
}

/// What a 206 holds, which is one part.
pub(crate) fn part(answer: &Answer) -> Result<range::ContentRange> {
    let got = content_range(&answer.headers);
    if got.is_ok() && is_multipart(&answer.headers) {
        return Err(
            Error::protocol(format!("{} answered with several ranges", answer.url))
                .with_http_status(206),
        );
    }
    got.map_err(|e| e.context(&answer.url).with_http_status(206))
}

pub(crate) fn content_range(headers: &HeaderMap) -> Result<range::ContentRange> {
    range::content_range(fields(headers))
}

fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    kind.to_ascii_lowercase().starts_with(b"multipart/")
}
