//! Blobs into a registry: mounted, in one request, or in pieces; taken up again where they broke off
//! (distribution-spec, "Pushing blobs").

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::header::{self, HeaderValue};
use zeroize::Zeroizing;

use crate::digest::{Algorithm, Digest, Hasher};
use crate::endpoint::Ask;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Repository;
use crate::net::call::Call;
use crate::net::text_value;
use crate::op::Op;
use crate::options::Number;
use crate::policy::Purpose;
use crate::range;
use crate::response::{Parts, Response, check_told, content_length, told_digest};
use crate::retry::{self, Budget};
use crate::scope::Scopes;
use crate::send::{Answer, Payload, Repeat, location};
use crate::source::{Opened, ReadBytes, Source};
use crate::transport::Transport;
use crate::url::Url;

/// What a registry that refused a larger part as too large is tried with: the least any of them is known to take.
const MODEST_CHUNK: u64 = 4 << 20;
/// Smallest chunk that is tried.
const SMALLEST_CHUNK: u64 = 64 << 10;
/// How often an upload is begun anew that the registry lost. Some lose it with each connection that breaks.
const MAX_RESTARTS: u32 = 10;
/// Largest chunk a registry may demand with `OCI-Chunk-Min-Length`.
const MAX_DEMANDED_CHUNK: u64 = 5 << 30;

/// A registry that takes less than this of a longer part, so many times in one upload, is not offered more.
const LONG_PART: u64 = 64 * 1024;
const MAX_SHORT: u32 = 1000;

impl Transport {
    /// Uploads a blob unless it is there. `digest` `None` is computed while sending. `mount_from` names a
    /// repository of the same registry to take it from if possible.
    ///
    /// # Errors
    /// [`Digest`](crate::error::ErrorKind::Digest) when the bytes do not have the digest named or the registry
    /// reports another; [`State`](crate::error::ErrorKind::State) when the body would have to be sent again and
    /// cannot be; and those of [`request`](Transport::request). A failed upload is cancelled at the registry.
    pub fn blob_put(
        &self,
        digest: Option<&str>,
        source: &Source,
        mount_from: Option<&str>,
        op: Option<&Op>,
    ) -> Result<Response> {
        let digest = digest.map(str::parse::<Digest>).transpose()?;
        let from = mount_from.map(Repository::parse).transpose()?;
        let call = self.call(op)?;
        self.blob_store(digest.as_ref(), source, from.as_ref(), &call)
    }

    /// Stores a blob unless it is there, in the course of a call.
    pub(crate) fn blob_store(
        &self,
        digest: Option<&Digest>,
        source: &Source,
        from: Option<&Repository>,
        call: &Arc<Call>,
    ) -> Result<Response> {
        if let Some(digest) = digest {
            // Who has it need not be asked what is wrong with the source.
            let size = source.size().unwrap_or(None);
            match self.find(digest, size, call)? {
                Presence::There(answer) => return Ok(self.stored(*answer, digest.clone())),
                Presence::Absent => {}
                Presence::Unknown => Budget::give_back(call),
            }
        }
        let algorithm = digest.map_or(Algorithm::Sha256, Digest::algorithm);
        let mut session = match (digest, from) {
            (Some(digest), Some(from)) => match self.mount(digest, from, call)? {
                Mounted::Done(answer) => return Ok(self.stored(answer, digest.clone())),
                Mounted::Begun(session) => session,
                Mounted::Refused => Session::begin(self, algorithm, call)?,
            },
            _ => Session::begin(self, algorithm, call)?,
        };
        let tally = Tally::of(source, algorithm);
        match session.put(&tally, digest) {
            Ok((answer, digest)) => Ok(self.stored(answer, digest)),
            Err(e) => {
                let of_source = tally.failure();
                // What became shorter, or cannot be sent again.
                let is_short = matches!(e.kind(), ErrorKind::Argument | ErrorKind::State);
                session.give_up(&e, is_short || of_source.is_some());
                // Where it was to be sent has no part in it, if that did not refuse since.
                let is_own = refusal(&e) != of_source.as_ref().and_then(refusal)
                    || matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Timeout);
                Err(of_source.filter(|_| !is_own).unwrap_or(e))
            }
        }
    }

    /// Begins an upload that is sent, interrupted and taken up again by the caller.
    ///
    /// # Errors
    /// Those of [`request`](Transport::request).
    pub fn upload_begin(&self, op: Option<&Op>) -> Result<Upload> {
        let call = self.call(op)?;
        let session = Session::begin(self, Algorithm::Sha256, &call)?;
        Ok(Upload {
            transport: self.clone(),
            location: session.location,
            offset: 0,
            is_unsure: false,
            may_lag: false,
            sent: None,
        })
    }

    /// Takes up an upload from the text that [`Upload::state`] gave, in this process or another: asks the
    /// registry how much of it has arrived. One of which nothing has arrived is begun anew.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax) for a text that is no state;
    /// [`Status`](crate::error::ErrorKind::Status) when the registry knows the upload no more.
    pub fn upload_resume(&self, state: &str, op: Option<&Op>) -> Result<Upload> {
        let bad = || Error::syntax("this is no state of an upload");
        let location = state.strip_prefix("rt-upload/1 ").ok_or_else(bad)?;
        let location =
            Url::parse(location.trim_end_matches([' ', '\r', '\n'])).map_err(|_| bad())?;
        let call = self.call(op)?;
        let mut session = Session::at(self, location, &call);
        match session.status()? {
            // What 0-0 says of an upload is either one byte or none: only a new upload is certain.
            Status::At(1) => {
                session.abandon();
                session.restart(&session.lost())?;
            }
            Status::At(offset) => session.offset = offset,
            Status::Gone(answer) => return Err(self.refusal("GET", *answer)),
        }
        Ok(Upload {
            transport: self.clone(),
            location: session.location,
            offset: session.offset,
            is_unsure: false,
            // What its last process sent, that may have been cut off.
            may_lag: true,
            sent: None,
        })
    }

    /// Asks whether the blob, of `size` bytes if that is known, is there.
    fn find(&self, digest: &Digest, size: Option<u64>, call: &Arc<Call>) -> Result<Presence> {
        let url = self.repository_url(&format!("blobs/{digest}"), call)?;
        let answer = self.ask(&Ask::new("HEAD", url), call, &mut self.budget())?;
        match answer.status {
            200 if is_of_blob(&answer, digest, size) => Ok(Presence::There(Box::new(answer))),
            401 | 429 => Err(self.refusal("HEAD", answer)),
            // Who may not ask, or asks in vain, may push all the same.
            status if retry::is_transient(status) => Ok(Presence::Unknown),
            _ => Ok(Presence::Absent),
        }
    }

    fn mount(&self, digest: &Digest, from: &Repository, call: &Arc<Call>) -> Result<Mounted> {
        let mut url = self.repository_url("blobs/uploads/", call)?;
        url.push_query("mount", digest.as_str());
        url.push_query("from", from.as_str());
        let mut ask = Ask::new("POST", url);
        ask.repeat = Repeat::Always;
        ask.extra = Scopes::of([format!("repository:{from}:pull").as_str()]);
        let answer = match self.ask(&ask, call, &mut self.budget()) {
            Ok(answer) => answer,
            // A token for both repositories was not to be had: the blob is sent instead.
            Err(e) if e.kind() == ErrorKind::Auth => {
                if retry::is_passing(&e) {
                    Budget::give_back(call);
                }
                return Ok(Mounted::Refused);
            }
            Err(e) => return Err(e),
        };
        match answer.status {
            201 => {
                check_told(&answer, digest)?;
                Ok(Mounted::Done(answer))
            }
            202 => Session::of(self, answer, digest.algorithm(), call).map(Mounted::Begun),
            429 => Err(self.refusal("POST", answer)),
            // Without a mount it may do better. Also 401: that may be about the other repository.
            status => {
                call.log
                    .info(|| format!("mount from {from} refused with {status}"));
                answer.body.discard();
                if retry::is_transient(status) {
                    Budget::give_back(call);
                }
                Ok(Mounted::Refused)
            }
        }
    }

    fn stored(&self, answer: Answer, digest: Digest) -> Response {
        let Answer {
            status,
            headers,
            url,
            body,
            host,
            ..
        } = answer;
        body.discard();
        Response::in_memory(
            Parts {
                status,
                headers,
                url,
                host,
                digest: Some(digest),
            },
            Vec::new(),
            self,
        )
    }
}

/// Whether a 200 to HEAD is about this blob. A page that one is redirected to is not.
fn is_of_blob(answer: &Answer, digest: &Digest, size: Option<u64>) -> bool {
    let told = told_digest(&answer.headers).filter(|told| told.algorithm() == digest.algorithm());
    // Some say 0 to HEAD whatever there is.
    let length = content_length(&answer.headers).filter(|length| *length > 0);
    let is_same_size = size.and_then(|size| length.map(|length| length == size));
    match (told, is_same_size) {
        (Some(told), _) if told != *digest => false,
        (_, Some(false)) => false,
        (None, None) => !answer.was_redirected,
        _ => true,
    }
}

enum Mounted {
    Done(Answer),
    Begun(Session),
    Refused,
}

/// An upload that can be interrupted, written down and taken up by another process. One thread at a time.
#[derive(Debug)]
pub struct Upload {
    transport: Transport,
    location: Url,
    offset: u64,
    /// A part was sent and its fate is not known.
    is_unsure: bool,
    /// More may arrive of a part that was cut off.
    may_lag: bool,
    /// The digest of all bytes, once they were sent from a source.
    sent: Option<Digest>,
}

impl Upload {
    /// Bytes the registry has.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What [`Transport::upload_resume`] needs. It holds a URL that may be signed: keep it like a password.
    pub fn state(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("rt-upload/1 {}", self.location.wire().as_str()))
    }

    /// Sends what the registry does not have yet. `source` is the whole blob; what was sent before is only
    /// hashed. After a failure it may be called again.
    ///
    /// # Errors
    /// As [`Transport::blob_put`].
    pub fn send(&mut self, source: &Source, op: Option<&Op>) -> Result<()> {
        let call = self.transport.call(op)?;
        let mut session = Session::at(&self.transport, self.location.clone(), &call);
        session.offset = self.offset;
        let tally = Tally::of(source, Algorithm::Sha256);
        let result = session.send_rest(&tally, self.is_unsure, self.may_lag);
        self.is_unsure = result.is_err();
        self.may_lag = self.is_unsure;
        self.location = session.location;
        self.offset = session.offset;
        result?;
        self.sent = Some(tally.digest());
        Ok(())
    }

    /// Commits the upload under `digest`, or under the one computed by [`send`](Upload::send).
    ///
    /// # Errors
    /// [`State`](crate::error::ErrorKind::State) when neither is there; [`Digest`](crate::error::ErrorKind::Digest)
    /// when they differ, of which one by sha512 is left to the registry; and those of [`Transport::request`].
    pub fn finish(&mut self, digest: Option<&str>, op: Option<&Op>) -> Result<Response> {
        let named = digest.map(str::parse::<Digest>).transpose()?;
        let digest = match (named, &self.sent) {
            (Some(named), Some(sent))
                if named.algorithm() == sent.algorithm() && named != *sent =>
            {
                return Err(Error::digest(format!(
                    "the bytes sent have digest {sent}, not {named}"
                )));
            }
            (Some(named), _) => named,
            (None, Some(sent)) => sent.clone(),
            (None, None) => {
                return Err(Error::state(
                    "the digest of the upload is not known yet: name it, or send first",
                ));
            }
        };
        let call = self.transport.call(op)?;
        let mut session = Session::at(&self.transport, self.location.clone(), &call);
        session.offset = self.offset;
        let answer = session.commit(&digest, None);
        self.location = session.location;
        Ok(self.transport.stored(answer?, digest))
    }

    /// Tells the registry that the upload is given up.
    ///
    /// # Errors
    /// Those of [`Transport::request`].
    pub fn cancel(&mut self, op: Option<&Op>) -> Result<()> {
        let call = self.transport.call(op)?;
        let mut ask = Ask::new("DELETE", self.location.clone());
        ask.purpose = Purpose::Upload;
        let answer = self
            .transport
            .ask(&ask, &call, &mut self.transport.budget())?;
        match answer.status {
            200..=299 | 404 => Ok(()),
            _ => Err(self.transport.refusal("DELETE", answer)),
        }
    }
}

/// What is known of a blob that is to be stored.
enum Presence {
    There(Box<Answer>),
    Absent,
    /// The registry was asked in vain, which is to cost the push none of its repetitions.
    Unknown,
}

/// How far the registry says an upload has come.
enum Status {
    At(u64),
    /// It knows the upload no more, never did, or does not tell.
    Gone(Box<Answer>),
}

/// One upload at the registry.
struct Session {
    transport: Transport,
    call: Arc<Call>,
    budget: Budget,
    location: Url,
    /// Of the digest it will be committed under.
    algorithm: Algorithm,
    /// Bytes the registry has.
    offset: u64,
    /// Smallest chunk it takes.
    min_chunk: u64,
    /// A PUT was sent.
    committing: bool,
    /// A part was answered with another status than 202.
    is_odd: bool,
    /// How often it was begun anew.
    restarts: u32,
    /// How far this attempt at the upload has come.
    furthest: u64,
}

impl Session {
    fn at(transport: &Transport, location: Url, call: &Arc<Call>) -> Self {
        Self {
            transport: transport.clone(),
            call: Arc::clone(call),
            budget: transport.budget(),
            location,
            algorithm: Algorithm::Sha256,
            offset: 0,
            min_chunk: 0,
            committing: false,
            is_odd: false,
            restarts: 0,
            furthest: 0,
        }
    }

    fn begin(transport: &Transport, algorithm: Algorithm, call: &Arc<Call>) -> Result<Self> {
        let mut url = transport.repository_url("blobs/uploads/", call)?;
        if algorithm != Algorithm::Sha256 {
            url.push_query("digest-algorithm", algorithm.name());
        }
        let mut ask = Ask::new("POST", url);
        // An upload begun twice is forgotten by the registry once.
        ask.repeat = Repeat::Always;
        let answer = transport.ask(&ask, call, &mut transport.budget())?;
        match answer.status {
            202 => Self::of(transport, answer, algorithm, call),
            _ => Err(transport.refusal("POST", answer)),
        }
    }

    /// From the answer that began it.
    fn of(
        transport: &Transport,
        answer: Answer,
        algorithm: Algorithm,
        call: &Arc<Call>,
    ) -> Result<Self> {
        let mut session = Self::at(transport, answer.url.clone(), call);
        session.algorithm = algorithm;
        session.min_chunk = answer
            .headers
            .get("oci-chunk-min-length")
            .and_then(|v| v.to_str().ok()?.trim().parse().ok())
            .filter(|n| *n <= MAX_DEMANDED_CHUNK)
            .unwrap_or(0);
        if location(&answer.headers).is_none() {
            return Err(Error::protocol(format!(
                "{} began an upload without saying where",
                answer.url
            ))
            .with_http_status(answer.status));
        }
        session.move_to(&answer)?;
        answer.body.discard();
        Ok(session)
    }

    /// Takes over the Location of an answer, if it has one.
    fn move_to(&mut self, answer: &Answer) -> Result<()> {
        let from = &answer.url;
        if let Some(text) = location(&answer.headers) {
            let next = from.resolve(&text).map_err(|e| {
                Error::protocol(format!("{from} names an unusable upload location: {e}"))
                    .with_http_status(answer.status)
            })?;
            let next = next.without(self.call.secrets());
            self.transport
                .home(&self.call)?
                .policy()
                .judge(from, &next, Purpose::Upload)
                .map_err(|e| {
                    e.redacted(self.call.secrets())
                        .with_http_status(answer.status)
                })?;
            self.location = next;
        }
        Ok(())
    }

    /// Sends all of the source and commits it.
    fn put(&mut self, tally: &Tally, digest: Option<&Digest>) -> Result<(Answer, Digest)> {
        let size = tally.source.size()?;
        if let Some(op) = self.call.progress() {
            op.begin(size);
        }
        // What the registry demands of parts does not make one of what is to be sent in parts.
        let chunk = self.transport.options().number(Number::UploadChunk);
        let at_once = size.is_some_and(|size| chunk == 0 || size <= chunk);
        if let (Some(digest), Some(size), true) = (digest, size, at_once) {
            let result = self.commit(digest, Some((tally, size)));
            // What was sent is the better explanation of a refusal.
            if tally.is_at(size) && tally.digest() != *digest {
                return Err(Error::digest(format!(
                    "the bytes sent have digest {}, not {digest}",
                    tally.digest()
                )));
            }
            return Ok((result?, digest.clone()));
        }
        self.send_rest(tally, false, false)?;
        let sent = tally.digest();
        if let Some(digest) = digest {
            if sent != *digest {
                return Err(Error::digest(format!(
                    "the bytes sent have digest {sent}, not {digest}"
                )));
            }
        }
        let answer = self.commit(&sent, None)?;
        Ok((answer, sent))
    }

    /// Size of the chunks to send; 0 for all at once.
    fn chunk(&self) -> u64 {
        match self.transport.options().number(Number::UploadChunk) {
            0 => 0,
            chunk => chunk.max(self.min_chunk),
        }
    }

    /// Sends what is missing with PATCH: in chunks when they are asked for and the size is known, else in one
    /// stream. When it is unsure how much has arrived, the registry is asked first; while more `may_lag` behind, its
    /// answer may be outrun.
    fn send_rest(&mut self, tally: &Tally, is_unsure: bool, mut may_lag: bool) -> Result<()> {
        let size = tally.source.size()?;
        let mut chunk = self.chunk();
        let mut stuck = false;
        let mut short = 0;
        // The last part was answered with 416.
        let mut refused = false;
        if is_unsure {
            let now = self.status()?;
            self.go_on_from(now, size, false, &self.lost())?;
        }
        loop {
            let before = self.offset;
            if size.is_some_and(|size| self.offset >= size) {
                tally.read_up_to(self.offset, &self.call)?;
                return Ok(());
            }
            let length = match (size, chunk) {
                (Some(size), 0) => Some(size - self.offset),
                (Some(size), chunk) => Some(chunk.min(size - self.offset)),
                (None, _) => None,
            };
            match self.patch(tally, length)? {
                Patched::All => return Ok(()),
                Patched::Some => {
                    stuck = false;
                    // Not what a registry took before and forgot.
                    if self.offset > self.furthest {
                        self.furthest = self.offset;
                        refused = false;
                        Budget::give_back(&self.call);
                    }
                    if length.is_some_and(|wanted| self.offset < before + wanted.min(LONG_PART)) {
                        short += 1;
                    }
                    if short > MAX_SHORT {
                        return Err(Error::protocol(format!(
                            "{} takes only a few bytes at a time",
                            self.location
                        )));
                    }
                }
                // Such a registry may take one part, in place of the whole.
                Patched::Nothing if stuck && self.is_odd && chunk > 0 && self.restarts == 0 => {
                    self.call.log.info(|| {
                        format!("{} takes no more parts: sending the whole", self.location)
                    });
                    chunk = 0;
                    self.restart(&self.lost())?;
                }
                Patched::Nothing if std::mem::replace(&mut stuck, true) => {
                    return Err(Error::protocol(format!(
                        "{} takes no more bytes",
                        self.location
                    )));
                }
                // Once, the next attempt may do better.
                Patched::Nothing => {}
                // The registry does not know the upload, and nothing is on its way that it would wait for.
                Patched::Failed(failure, _) if is_gone(&failure) && !may_lag => {
                    if before == 0 {
                        return Err(failure);
                    }
                    self.restart(&failure)?;
                }
                Patched::Failed(failure, asked) => {
                    let status = refusal(&failure);
                    let was_refused = std::mem::replace(&mut refused, status == Some(416));
                    match self.budget.pause(failure.clone(), asked, &self.call) {
                        Ok(()) => {}
                        // To ask for the right place repeats nothing; to ask for it again and again does.
                        Err(_) if refused && !was_refused => self.call.check()?,
                        // The place is lost, and no pause would mend that: connections broke before, which took the
                        // repetitions.
                        Err(_) if is_gone(&failure) => {
                            self.call.check()?;
                            self.restart(&failure)?;
                            continue;
                        }
                        Err(e) => return Err(e),
                    }
                    may_lag |= status.is_none();
                    let had = self.offset;
                    let now = self.status_after(&failure)?;
                    // The place was right, so it is the size that was wrong.
                    let is_unmoved = match now {
                        Status::At(n) => n == had || (had == 0 && n <= 1),
                        Status::Gone(_) => status == Some(413),
                    };
                    if let (Some(413 | 416), Some(length), true) = (status, length, is_unmoved) {
                        chunk = self.smaller(length).min(length);
                    }
                    let part = length.unwrap_or_else(|| tally.position());
                    let has_none = !was_refused && leaves_no_single_byte(part, &failure);
                    self.go_on_from(now, size, has_none, &failure)?;
                }
            }
        }
    }

    /// Goes on where the registry says the upload is, or begins anew, because of `failure`. `has_none` says that an
    /// upload of which nothing was there before did not get just one byte since.
    fn go_on_from(
        &mut self,
        now: Status,
        size: Option<u64>,
        has_none: bool,
        failure: &Error,
    ) -> Result<()> {
        match now {
            // What 0-0 says of an upload is either one byte or none.
            Status::At(offset) if offset > 1 || (offset == 1 && self.offset == 1) => {
                if size.is_some_and(|size| offset > size) {
                    return Err(self.too_much(offset));
                }
                self.offset = offset;
                return Ok(());
            }
            Status::At(_) if has_none && self.offset == 0 => return Ok(()),
            Status::Gone(answer) if matches!(answer.status, 404 | 410) => {}
            _ => self.abandon(),
        }
        self.restart(failure)
    }

    /// The size of a part to try after one of this size was too large.
    fn smaller(&self, length: u64) -> u64 {
        let smaller = MODEST_CHUNK.min(length / 2);
        smaller.max(self.min_chunk).max(SMALLEST_CHUNK)
    }

    /// Begins anew, because of `failure`, which is given back when that has been tried often enough.
    fn restart(&mut self, failure: &Error) -> Result<()> {
        if self.restarts >= MAX_RESTARTS {
            return Err(failure.clone());
        }
        let fresh = Self::begin(&self.transport, self.algorithm, &self.call)?;
        self.location = fresh.location;
        self.min_chunk = fresh.min_chunk;
        self.offset = 0;
        self.furthest = 0;
        self.restarts += 1;
        Ok(())
    }

    fn lost(&self) -> Error {
        Error::protocol(format!("{}: the registry lost the upload", self.location))
    }

    fn patch(&mut self, tally: &Tally, length: Option<u64>) -> Result<Patched> {
        let mut ask = Ask::new("PATCH", self.location.clone()).header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        if let Some(length) = length {
            let last = (self.offset + length).saturating_sub(1);
            ask = ask.header(
                header::CONTENT_RANGE,
                text_value(&format!("{}-{last}", self.offset))?,
            );
        }
        ask.body = Some(Payload {
            source: &tally.source,
            offset: self.offset,
            length,
            counted: true,
        });
        ask.repeat = Repeat::Never;
        ask.purpose = Purpose::Upload;
        let answer = match self.transport.ask(&ask, &self.call, &mut self.budget) {
            Ok(answer) => answer,
            Err(e) if retry::is_broken_connection(&e) => return Ok(Patched::Failed(e, None)),
            Err(e) => return Err(e),
        };
        match answer.status {
            // 202 by the specification; others answer 201 or 204. What arrived is told by Range.
            status @ (200..=299) => {
                self.is_odd |= status != 202;
                self.move_to(&answer)?;
                let end = length.map_or_else(|| tally.position(), |length| self.offset + length);
                let next = self.told_range(&answer)?.unwrap_or(end);
                // Some registries say 0-0 where nothing has arrived yet.
                let next = if end == 0 { 0 } else { next };
                if next > end {
                    return Err(self.too_much(next).with_http_status(status));
                }
                answer.body.discard();
                let moved = next > self.offset;
                self.offset = next;
                match length {
                    None if next == end => Ok(Patched::All),
                    _ if moved || end == 0 => Ok(if end == 0 {
                        Patched::All
                    } else {
                        Patched::Some
                    }),
                    _ => Ok(Patched::Nothing),
                }
            }
            // 404, 410: what was cut off has arrived later than the registry told, and more of it may be on its way,
            // so that a pause helps; or the upload is lost.
            status @ (404 | 410 | 416) => {
                let asked = (status == 416).then_some(Duration::ZERO);
                let failure = self.transport.refusal("PATCH", answer);
                Ok(Patched::Failed(failure, asked))
            }
            413 if length.is_some_and(|length| self.smaller(length) < length) => {
                let failure = self.transport.refusal("PATCH", answer);
                Ok(Patched::Failed(failure, Some(Duration::ZERO)))
            }
            status if retry::is_transient(status) => {
                let asked = retry::asked_for(&answer.headers);
                let failure = self.transport.refusal("PATCH", answer);
                Ok(Patched::Failed(failure, asked))
            }
            _ => Err(self.transport.refusal("PATCH", answer)),
        }
    }

    /// Where an upload is after an answer, if its Range tells.
    fn told_range(&self, answer: &Answer) -> Result<Option<u64>> {
        let told = answer.headers.get(header::RANGE).map(HeaderValue::as_bytes);
        let told = told.map(String::from_utf8_lossy);
        range::upload_range(told.as_deref()).map_err(|e| {
            e.context(&answer.url)
                .redacted(self.call.secrets())
                .with_http_status(answer.status)
        })
    }

    fn too_much(&self, offset: u64) -> Error {
        Error::protocol(format!(
            "{} says it has {offset} bytes, more than were sent",
            self.location
        ))
    }

    /// Asks how much has arrived.
    fn status(&mut self) -> Result<Status> {
        let mut ask = Ask::new("GET", self.location.clone());
        ask.purpose = Purpose::Upload;
        let answer = self.transport.ask(&ask, &self.call, &mut self.budget)?;
        match answer.status {
            200..=299 => {
                self.move_to(&answer)?;
                let offset = self.told_range(&answer)?;
                answer.body.discard();
                Ok(Status::At(offset.unwrap_or(0)))
            }
            // 400, 405, 501: nobody can ask here.
            400 | 404 | 405 | 410 | 501 => Ok(Status::Gone(Box::new(answer))),
            _ => Err(self.transport.refusal("GET", answer)),
        }
    }

    /// The same after `failure`, which says more than a refusal to tell.
    fn status_after(&mut self, failure: &Error) -> Result<Status> {
        self.status().map_err(|e| match e.kind() {
            ErrorKind::Status => failure.clone(),
            _ => e,
        })
    }

    /// Closes the upload under `digest`; `rest` is what is still to be sent, of so many bytes in all.
    fn commit(&mut self, digest: &Digest, rest: Option<(&Tally, u64)>) -> Result<Answer> {
        self.committing = true;
        loop {
            let mut url = self.location.clone();
            url.remove_query("digest");
            url.push_query("digest", digest.as_str());
            let mut ask = Ask::new("PUT", url);
            if let Some((tally, size)) = rest {
                let length = size - self.offset;
                ask = ask.header(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/octet-stream"),
                );
                if self.offset > 0 && length > 0 {
                    ask = ask.header(
                        header::CONTENT_RANGE,
                        text_value(&format!("{}-{}", self.offset, size - 1))?,
                    );
                }
                ask.body = Some(Payload {
                    source: &tally.source,
                    offset: self.offset,
                    length: Some(length),
                    counted: true,
                });
            }
            ask.repeat = Repeat::Never;
            ask.purpose = Purpose::Upload;
            let (failure, asked) = match self.transport.ask(&ask, &self.call, &mut self.budget) {
                Ok(answer) if matches!(answer.status, 200 | 201 | 204) => {
                    check_told(&answer, digest)?;
                    return Ok(answer);
                }
                // 416 refuses the place of a rest, which the registry is asked for.
                Ok(answer)
                    if retry::is_transient(answer.status)
                        || (answer.status == 416 && rest.is_some() && self.offset > 0) =>
                {
                    let asked = retry::asked_for(&answer.headers);
                    (self.transport.refusal("PUT", answer), asked)
                }
                Ok(answer) => return Err(self.transport.refusal("PUT", answer)),
                Err(e) if retry::is_broken_connection(&e) => (e, None),
                Err(e) => return Err(e),
            };
            self.budget.pause(failure.clone(), asked, &self.call)?;
            let now = self.status_after(&failure)?;
            // It may have been committed before the answer got lost.
            if let Status::Gone(_) = now {
                let size = rest.map_or(self.offset, |(_, size)| size);
                let found = self.transport.find(digest, Some(size), &self.call)?;
                if let Presence::There(answer) = found {
                    return Ok(*answer);
                }
            }
            match (rest, now) {
                (Some((_, size)), now) => {
                    let has_none = leaves_no_single_byte(size, &failure);
                    self.go_on_from(now, Some(size), has_none, &failure)?;
                }
                (None, Status::At(_)) => {}
                (None, Status::Gone(_)) => return Err(failure),
            }
        }
    }

    /// Tells the registry that the upload is given up. Not after an attempt to commit, which ends an upload
    /// either way unless it was the source that failed, nor to a registry that breaks the protocol or knows of no upload,
    /// nor when the call has no time left for it.
    fn give_up(&mut self, why: &Error, is_of_source: bool) {
        let is_broken = matches!(why.kind(), ErrorKind::Protocol | ErrorKind::Network);
        let is_over = self.committing || is_broken || is_gone(why);
        if (is_of_source || !is_over) && self.call.check().is_ok() {
            self.abandon();
        }
    }

    /// Tells the registry that this upload will not be gone on with, if it listens.
    fn abandon(&self) {
        let mut ask = Ask::new("DELETE", self.location.clone());
        ask.purpose = Purpose::Upload;
        ask.repeat = Repeat::Never;
        if let Ok(answer) = self.transport.ask(&ask, &self.call, &mut Budget::none()) {
            answer.body.discard();
        }
    }
}

/// Whether an answer says that there is no such upload.
fn is_gone(failure: &Error) -> bool {
    matches!(failure.http_status(), Some(404 | 410))
}

/// Whether a failed part of so many bytes has hardly left just one of them at the registry: it has none, or was longer
/// and has an answer, which does not say that there is no such upload.
fn leaves_no_single_byte(part: u64, failure: &Error) -> bool {
    part == 0 || (part > 1 && refusal(failure).is_some() && !is_gone(failure))
}

/// The status with which the registry refused. That of an answer whose body failed is the source's.
fn refusal(failure: &Error) -> Option<u16> {
    failure.http_status().filter(|status| *status >= 400)
}

enum Patched {
    /// The source has ended, and the registry has all of it.
    All,
    /// A part has arrived.
    Some,
    /// Nothing of it was taken.
    Nothing,
    /// How much has arrived must be asked.
    Failed(Error, Option<Duration>),
}

/// A source that is hashed while it is read, from its first byte whatever is sent of it.
struct Tally {
    source: Source,
    count: Arc<Mutex<Count>>,
}

struct Count {
    hasher: Hasher,
    position: u64,
    /// Why the last attempt to read it failed.
    failure: Option<Error>,
}

impl Tally {
    fn of(source: &Source, algorithm: Algorithm) -> Self {
        let count = Arc::new(Mutex::new(Count {
            hasher: Hasher::new(algorithm),
            position: 0,
            failure: None,
        }));
        let tee = Tee {
            source: source.clone(),
            opened: None,
            algorithm,
            count: Arc::clone(&count),
        };
        Self {
            source: Source::counted(source, Box::new(tee)),
            count,
        }
    }

    fn position(&self) -> u64 {
        self.count
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .position
    }

    fn is_at(&self, position: u64) -> bool {
        self.position() == position
    }

    fn failure(&self) -> Option<Error> {
        self.count
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failure
            .take()
    }

    /// The digest of what was read.
    fn digest(&self) -> Digest {
        self.count
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .hasher
            .clone()
            .finish()
    }

    /// Hashes up to `offset` what an earlier call has sent.
    fn read_up_to(&self, offset: u64, call: &Arc<Call>) -> Result<()> {
        call.check()?;
        let _entered = call.enter();
        if self.position() < offset {
            drop(self.source.open(offset)?);
        }
        Ok(())
    }
}

struct Tee {
    source: Source,
    opened: Option<Opened>,
    algorithm: Algorithm,
    count: Arc<Mutex<Count>>,
}

impl Tee {
    fn read_source(&mut self, buf: &mut [u8]) -> Result<usize> {
        let opened = match &mut self.opened {
            Some(opened) => opened,
            None => self.opened.insert(self.source.open(0)?),
        };
        opened.read_some(buf)
    }
}

impl ReadBytes for Tee {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let result = self.read_source(buf);
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(n) => {
                count.hasher.update(buf.get(..*n).unwrap_or_default());
                count.position += *n as u64;
            }
            Err(e) => count.failure = Some(e.clone()),
        }
        result
    }

    fn rewind(&mut self) -> bool {
        self.opened = None;
        match self.source.open(0) {
            Ok(opened) => {
                self.opened = Some(opened);
                let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
                *count = Count {
                    hasher: Hasher::new(self.algorithm),
                    position: 0,
                    failure: None,
                };
                true
            }
            Err(_) => false,
        }
    }
}
