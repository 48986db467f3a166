//! Blobs out of a registry: whole, verified and resumed when the connection breaks, or read at any offset
//! (distribution-spec, "Pulling blobs").

use std::sync::{Arc, Mutex, PoisonError};

use ureq::http::header::{self, HeaderValue};

use crate::digest::{Digest, Hasher};
use crate::download::{Download, content_range, unsatisfied_total};
use crate::error::{Error, Result};
use crate::net::call::Call;
use crate::op::Op;
use crate::options::Number;
use crate::parallel::{Parallel, SEGMENT};
use crate::policy::Purpose;
use crate::response::{Parts, Response, content_length};
use crate::retry::Budget;
use crate::send::Answer;
use crate::transport::{Ask, Transport};
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
            None => Err(
                Error::status(format!("{}: there is no such blob", place.url))
                    .with_http_status(404),
            ),
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
        let mut part =
            self.place
                .part(offset, Some(offset + length as u64), Some(self.size), &call);
        let mut filled = 0;
        while let Some(room) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
            let n = part.read(room)?;
            if n == 0 {
                return Err(Error::protocol(format!(
                    "{} sent fewer bytes than its range has",
                    self.place.url
                )));
            }
            if let Some(op) = op {
                op.advance(n as u64)?;
            }
            filled += n;
        }
        part.finish();
        Ok(filled)
    }
}

/// Where a blob is: at the registry, and at the storage the registry redirected to last.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) transport: Transport,
    pub(crate) digest: Digest,
    pub(crate) url: Url,
    /// A signed URL; used until the storage refuses it.
    direct: Arc<Mutex<Option<Url>>>,
}

impl Place {
    pub(crate) fn new(transport: &Transport, digest: Digest) -> Result<Self> {
        let url = transport.repository_url(&format!("blobs/{digest}"))?;
        Ok(Self {
            transport: transport.clone(),
            digest,
            url,
            direct: Arc::default(),
        })
    }

    fn direct(&self) -> Option<Url> {
        self.direct
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_direct(&self, url: Option<Url>) {
        *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = url;
    }

    fn stat(&self, call: &Arc<Call>) -> Result<Option<u64>> {
        let mut budget = self.transport.budget();
        let answer = self
            .transport
            .ask(&Ask::new("HEAD", self.url.clone()), call, &mut budget)?;
        match answer.status {
            404 => Ok(None),
            200..=299 => match content_length(&answer.headers) {
                Some(size) => Ok(Some(size)),
                None => self.size_by_range(call, &mut budget),
            },
            405 | 501 => self.size_by_range(call, &mut budget),
            _ => Err(self.transport.refusal("HEAD", answer)),
        }
    }

    /// The size as the answer to a range of one byte tells it, for registries that do not tell it to HEAD.
    fn size_by_range(&self, call: &Arc<Call>, budget: &mut Budget) -> Result<Option<u64>> {
        let answer = self.get(Some((0, Some(1))), None, call, budget)?;
        let unknown =
            || Error::protocol(format!("{} does not tell the size of the blob", self.url));
        match answer.status {
            404 => Ok(None),
            206 => {
                let range = content_range(&answer.headers)?;
                let size = range.total.ok_or_else(unknown)?;
                answer.body.discard();
                Ok(Some(size))
            }
            200 => content_length(&answer.headers)
                .map(Some)
                .ok_or_else(unknown),
            416 => match unsatisfied_total(&answer.headers) {
                Some(size) => Ok(Some(size)),
                None => Err(unknown()),
            },
            _ => Err(self.transport.refusal("GET", answer)),
        }
    }

    /// Asks for the blob or for the bytes from the first number up to before the second.
    pub(crate) fn get(
        &self,
        range: Option<(u64, Option<u64>)>,
        if_range: Option<&HeaderValue>,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Answer> {
        let ask = |url: Url| -> Result<Ask<'_>> {
            let mut ask = Ask::new("GET", url);
            if let Some((first, end)) = range {
                let last = end.map_or_else(String::new, |end| (end - 1).to_string());
                ask = ask.header(
                    header::RANGE,
                    crate::net::text_value(&format!("bytes={first}-{last}"))?,
                );
                if let Some(etag) = if_range {
                    ask = ask.header(header::IF_RANGE, etag.clone());
                }
            }
            Ok(ask)
        };
        if let Some(url) = self.direct() {
            let mut ask = ask(url)?;
            ask.purpose = Purpose::Redirect;
            let answer = self.transport.ask(&ask, call, budget)?;
            if !matches!(answer.status, 400 | 401 | 403 | 404 | 410) {
                return Ok(answer);
            }
            // The signature has expired, or the storage moved: the registry knows the new place.
            answer.body.discard();
            self.set_direct(None);
        }
        let answer = self.transport.ask(&ask(self.url.clone())?, call, budget)?;
        if answer.was_redirected && matches!(answer.status, 200 | 206) {
            self.set_direct(Some(answer.url.clone()));
        }
        Ok(answer)
    }

    /// The whole blob as a response.
    pub(crate) fn whole(self, call: &Arc<Call>) -> Result<Response> {
        let mut budget = self.transport.budget();
        let answer = self.get(None, None, call, &mut budget)?;
        let answer = self.transport.whole(answer)?;
        let size = content_length(&answer.headers);
        let transport = self.transport.clone();
        let parts = Parts {
            status: answer.status,
            headers: answer.headers.clone(),
            url: answer.url.clone(),
            digest: Some(self.digest.clone()),
        };
        let hasher = Hasher::new(self.digest.algorithm());
        let (digest, url) = (self.digest.clone(), self.url.clone());
        let download = Download::begun(self, answer, size, call);
        let verified = Verified::new(download, digest, size, &url, hasher, 0);
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
        let (digest, url) = (self.digest.clone(), self.url.clone());
        let whole = |place: &Self| -> Result<Download> {
            let mut budget = place.transport.budget();
            let answer = place.get(None, None, call, &mut budget)?;
            let answer = place.transport.whole(answer)?;
            let size = content_length(&answer.headers);
            Ok(Download::begun(place.clone(), answer, size, call))
        };
        let part = |end| -> Result<Download> {
            let mut download = Download::ranged(self.clone(), have, end, None, call);
            download.open()?;
            Ok(download)
        };
        let download = match (connections, have) {
            (1, 0) => whole(&self)?,
            (1, _) => part(None)?,
            _ => match part(Some(have + SEGMENT)) {
                // An empty blob has no first byte.
                Err(e) if have == 0 && e.http_status() == Some(416) => whole(&self)?,
                other => other?,
            },
        };
        let size = download.size();
        let stream: Box<dyn Stream> = match size {
            Some(size) if download.is_part() && size > have + SEGMENT => {
                let begun = download.into_bytes(SEGMENT)?;
                Box::new(Parallel::start(self, begun, have, size, connections, call))
            }
            _ => Box::new(download),
        };
        Ok(Verified::new(stream, digest, size, &url, hasher, have))
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
