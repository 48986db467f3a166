//! Blobs out of a registry: whole, verified and resumed when the connection breaks, or read at any offset
//! (distribution-spec, "Pulling blobs").

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ureq::http::header::{self, HeaderValue};

use crate::digest::{Digest, Hasher};
use crate::download::{Download, content_range, unsatisfied_total};
use crate::endpoint::Ask;
use crate::error::{Error, ErrorKind, Result};
use crate::failover::Wanted;
use crate::net::call::Call;
use crate::op::Op;
use crate::options::Number;
use crate::parallel::{Parallel, SEGMENT};
use crate::policy::Purpose;
use crate::response::{Parts, Response, content_length};
use crate::retry::{self, Budget};
use crate::send::Answer;
use crate::transport::{At, Pull, Transport};
use crate::url::Url;
use crate::verify::{Stream, Verified};

impl Transport {
    /// Asks whether a blob is there: its size in bytes, or `None` if it is not.
    ///
    /// # Errors
    /// Those of [`request`](Transport::request); [`Protocol`](crate::error::ErrorKind::Protocol) when the
    /// registry does not tell the size.
    pub fn blob_stat(&self, digest: &str, op: Option<&Op>) -> Result<Option<u64>> {
        let place = Place::new(self, digest.parse()?)?;
        let call = self.call(op)?;
        place.stat(&call)
    }

    /// Gets a whole blob. A broken connection is resumed; the end is reported only if digest and length are
    /// right.
    ///
    /// # Errors
    /// Those of [`request`](Transport::request), here or when the body is read.
    pub fn blob_get(&self, digest: &str, op: Option<&Op>) -> Result<Response> {
        let place = Place::new(self, digest.parse()?)?;
        let call = self.call(op)?;
        place.whole(&call)
    }

    /// Opens a blob for reads at any offset. What is read this way is checked for length, not for digest.
    ///
    /// # Errors
    /// Those of [`request`](Transport::request); a missing blob is a `Status` error.
    pub fn blob_open(&self, digest: &str, op: Option<&Op>) -> Result<Blob> {
        let place = Place::new(self, digest.parse()?)?;
        let call = self.call(op)?;
        match place.stat(&call)? {
            Some(size) => Ok(Blob { place, size }),
            None => {
                Err(Error::status(format!("{place}: there is no such blob")).with_http_status(404))
            }
        }
    }
}

/// A blob open for reading at any offset. Any number of threads may read at once.
#[derive(Debug)]
pub struct Blob {
    place: Place,
    size: u64,
}

impl Blob {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads exactly `min(buf.len(), size - offset)` bytes at `offset` and tells how many; 0 at and beyond the
    /// end.
    ///
    /// # Errors
    /// Those of [`Transport::request`]; [`Protocol`](crate::error::ErrorKind::Protocol) when the registry
    /// answers with another range.
    pub fn pread(&self, buf: &mut [u8], offset: u64, op: Option<&Op>) -> Result<usize> {
        let call = self.place.transport.call(op)?;
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buf.len().min(left);
        let Some(buf) = buf.get_mut(..length).filter(|b| !b.is_empty()) else {
            return Ok(0);
        };
        if let Some(op) = op {
            op.begin(Some(length as u64));
        }
        let end = offset + length as u64;
        let mut part = self
            .place
            .part(offset, Some(end), Some(self.size), &call)
            .alone();
        let mut filled = 0;
        while let Some(room) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
            let n = part.read(room)?;
            if n == 0 {
                return Err(Error::protocol(format!(
                    "{} sent fewer bytes than its range has",
                    self.place
                )));
            }
            if let Some(op) = op {
                op.advance(n as u64)?;
            }
            filled += n;
        }
        // There is no digest that would tell which of the bytes are right.
        if part.finish() {
            return Err(Error::protocol(format!(
                "{} sent more bytes than its range has",
                self.place
            )));
        }
        Ok(filled)
    }
}

/// Where a blob is: at the host that served it last, and at the storage that one redirected to.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) transport: Transport,
    pub(crate) digest: Digest,
    path: String,
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Clone, Default)]
struct Found {
    host: Option<usize>,
    /// A signed URL; used until the storage refuses it.
    direct: Option<Url>,
}

/// Names the blob and the host that served it last, for messages.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = match self.found().host {
            Some(host) => self.transport.endpoint(host),
            None => self.transport.home_site().known_endpoint(),
        };
        match endpoint.repository_url(&self.path) {
            Ok(url) => url.fmt(f),
            Err(_) => self.path.fmt(f),
        }
    }
}

/// What a blob is asked for with.
#[derive(Default)]
pub(crate) struct Span<'a> {
    /// Bytes from the first number up to before the second.
    pub(crate) range: Option<(u64, Option<u64>)>,
    /// The version of it that a host had.
    pub(crate) version: Option<&'a (usize, HeaderValue)>,
}

impl Place {
    pub(crate) fn new(transport: &Transport, digest: Digest) -> Result<Self> {
        if transport.repository().is_none() {
            // Says so.
            transport
                .home_site()
                .known_endpoint()
                .repository_url("blobs/")?;
        }
        Ok(Self {
            path: format!("blobs/{digest}"),
            transport: transport.clone(),
            digest,
            found: Arc::default(),
        })
    }

    fn found(&self) -> Found {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host that served last gave nothing: asks the others first, if there are any. Whether there are.
    pub(crate) fn pass_over(&self) -> bool {
        let several = self.transport.host_count() > 1;
        let mut found = self.lock();
        if let Some(host) = found.host.filter(|_| several) {
            self.transport.shun(host);
            *found = Found::default();
        }
        several
    }

    fn stat(&self, call: &Arc<Call>) -> Result<Option<u64>> {
        let pull = Pull::new("HEAD", self.path.clone(), Wanted::Blob);
        let budget = self.transport.budget();
        let size = self
            .transport
            .over_hosts(pull.wanted, None, call, &budget, |at, budget| {
                let answer = at.ask(&pull.ask(at.endpoint)?, call, budget)?;
                if answer.refuses_head() {
                    return self.size_by_range(at, call, budget);
                }
                match answer.status {
                    200..=299 if answer.is_page() => Err(Error::media_type(format!(
                        "{} answered with a web page: {} was redirected to it, perhaps to sign in",
                        answer.url, self
                    ))
                    .with_http_status(answer.status)),
                    200..=299 => match content_length(&answer.headers) {
                        // Some say 0 to HEAD whatever there is.
                        Some(size) if size > 0 || self.is_empty() => Ok(size),
                        _ => self.size_by_range(at, call, budget),
                    },
                    _ => Err(self.transport.refusal("HEAD", answer)),
                }
            });
        match size {
            Ok(size) => Ok(Some(size)),
            Err(e) if e.kind() == ErrorKind::Status && e.http_status() == Some(404) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether this is the blob without bytes.
    fn is_empty(&self) -> bool {
        self.digest == Digest::of(self.digest.algorithm(), &[])
    }

    /// The size as the answer to a range of one byte tells it, for registries that do not tell it to HEAD.
    fn size_by_range(&self, at: &At<'_>, call: &Arc<Call>, budget: &mut Budget) -> Result<u64> {
        let span = Span {
            range: Some((0, Some(1))),
            version: None,
        };
        let answer = at.ask(&self.question(at, &span)?, call, budget)?;
        let url = answer.url.clone();
        let unknown = || Error::protocol(format!("{url} does not tell the size of the blob"));
        match answer.status {
            206 => {
                let range = content_range(&answer.headers)?;
                let size = range.total.ok_or_else(unknown)?;
                answer.body.discard();
                Ok(size)
            }
            200 => content_length(&answer.headers).ok_or_else(unknown),
            416 => unsatisfied_total(&answer.headers).ok_or_else(unknown),
            _ => Err(self.transport.refusal("GET", answer)),
        }
    }

    /// The question for the blob, or a part of it, as it is put to a host.
    fn question(&self, at: &At<'_>, span: &Span<'_>) -> Result<Ask<'static>> {
        let mut ask = Ask::new("GET", at.endpoint.repository_url(&self.path)?);
        if let Some((first, end)) = span.range {
            let last = end.map_or_else(String::new, |end| (end - 1).to_string());
            ask = ask.header(
                header::RANGE,
                crate::net::text_value(&format!("bytes={first}-{last}"))?,
            );
            // Another host may call the same bytes another version.
            if let Some((_, version)) = span.version.filter(|(host, _)| *host == at.host) {
                ask = ask.header(header::IF_RANGE, version.clone());
            }
        }
        Ok(ask)
    }

    /// Asks for the blob or a part of it, of the hosts in turn, until the answer of one passes `check`.
    pub(crate) fn get<T>(
        &self,
        span: &Span<'_>,
        call: &Arc<Call>,
        budget: &mut Budget,
        mut check: impl FnMut(Answer) -> Result<T>,
    ) -> Result<T> {
        let prefer = self.found().host;
        self.transport
            .over_hosts(Wanted::Blob, prefer, call, budget, |at, budget| {
                check(self.get_at(at, span, call, budget)?)
            })
    }

    fn get_at(
        &self,
        at: &At<'_>,
        span: &Span<'_>,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Answer> {
        let ask = self.question(at, span)?;
        let found = self.found();
        if let Some(url) = found.direct.filter(|_| found.host == Some(at.host)) {
            let mut direct = self.question(at, span)?;
            direct.url = url;
            direct.purpose = Purpose::Redirect;
            // Not again and again there: another place may be better than one that fails.
            let answer = at.ask(&direct, call, &mut Budget::none());
            let (failure, asked) = match answer {
                // The signature has expired, or the storage moved: the registry knows the new place.
                Ok(answer) if matches!(answer.status, 400 | 401 | 403 | 404 | 410) => {
                    answer.body.discard();
                    (None, None)
                }
                Ok(answer) if retry::is_transient(answer.status) => {
                    let asked = retry::asked_for(&answer.headers);
                    (Some(self.transport.refusal("GET", answer)), asked)
                }
                Err(e) if retry::is_passing(&e) && call.check().is_ok() => (Some(e), None),
                other => return other,
            };
            self.lock().direct = None;
            if let Some(failure) = failure {
                budget.pause(failure, asked, call)?;
            }
        }
        let answer = at.ask(&ask, call, budget)?;
        if matches!(answer.status, 200 | 206) {
            *self.lock() = Found {
                host: Some(at.host),
                direct: answer.was_redirected.then(|| answer.url.clone()),
            };
        }
        Ok(answer)
    }

    /// Begins to get the whole blob.
    fn begin(&self, call: &Arc<Call>) -> Result<Answer> {
        let mut budget = self.transport.budget();
        self.get(&Span::default(), call, &mut budget, |answer| {
            self.transport.whole(answer)
        })
    }

    /// The whole blob as a response.
    pub(crate) fn whole(self, call: &Arc<Call>) -> Result<Response> {
        let answer = self.begin(call)?;
        let size = content_length(&answer.headers);
        let transport = self.transport.clone();
        let parts = Parts {
            status: answer.status,
            headers: answer.headers.clone(),
            url: answer.url.clone(),
            host: answer.host,
            digest: Some(self.digest.clone()),
        };
        let hasher = Hasher::new(self.digest.algorithm());
        let (digest, place) = (self.digest.clone(), self.clone());
        let download = Download::begun(self, answer, size, call);
        let verified = Verified::new(download, digest, size, Box::new(place), hasher, 0);
        Ok(Response::streaming(
            parts,
            Box::new(verified),
            call,
            &transport,
        ))
    }

    /// What is missing of the blob when `have` bytes are there, which `hasher` has seen: over as many
    /// connections as option `parallel` says.
    pub(crate) fn rest(
        self,
        have: u64,
        hasher: Hasher,
        call: &Arc<Call>,
    ) -> Result<Verified<Box<dyn Stream>>> {
        let connections = self.transport.options().number(Number::Parallel);
        let (digest, place) = (self.digest.clone(), self.clone());
        let part = |end| Download::opened(self.clone(), have, end, call);
        let all = || -> Result<Download> {
            if have > 0 {
                return part(None);
            }
            let answer = self.begin(call)?;
            let size = content_length(&answer.headers);
            Ok(Download::begun(self.clone(), answer, size, call))
        };
        let download = if connections == 1 {
            all()?
        } else {
            match part(Some(have + SEGMENT)) {
                // An empty blob has no first byte.
                Err(e) if have == 0 && e.http_status() == Some(416) => all()?,
                // Where parts do not tell the length of the whole, they are not asked for side by side.
                Err(e) if e.http_status() == Some(206) => all()?,
                Ok(download) if !download.is_bounded() => all()?,
                other => other?,
            }
        };
        let size = download.size();
        let stream: Box<dyn Stream> = match size {
            Some(size) if download.is_part() && size > have + SEGMENT => {
                let begun = download.into_bytes(SEGMENT)?;
                Box::new(Parallel::start(self, begun, have, size, connections, call))
            }
            _ => Box::new(download),
        };
        Ok(Verified::new(
            stream,
            digest,
            size,
            Box::new(place),
            hasher,
            have,
        ))
    }

    /// The bytes from `first` up to before `end`, of a blob of `size` bytes.
    pub(crate) fn part(
        &self,
        first: u64,
        end: Option<u64>,
        size: Option<u64>,
        call: &Arc<Call>,
    ) -> Download {
        Download::ranged(self.clone(), first, end, size, call)
    }
}
