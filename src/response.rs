//! An answer, and its body while it is read.

use std::path::Path;
use std::sync::Arc;

use ureq::http::header::{self, HeaderMap, HeaderName};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::file::PendingFile;
use crate::net::call::Call;
use crate::op::Op;
use crate::options::Number;
use crate::rate_limit::RateLimit;
use crate::retry;
use crate::send::Answer;
use crate::transport::Transport;
use crate::url::Url;
use crate::verify::Content;

/// An answer. Its body can be read once, by one thread at a time.
pub struct Response {
    head: Arc<Head>,
    state: State,
    op: Option<Op>,
    transport: Transport,
    /// Some of the body was asked for.
    touched: bool,
}

/// What is known of an answer before its body is read.
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    /// Of the registry's host that answered.
    pub(crate) authority: Arc<str>,
    pub(crate) digest: Option<Digest>,
    pub(crate) is_anonymous: bool,
}

impl Head {
    /// Length of the body in bytes if the registry told it.
    pub(crate) fn length(&self) -> Option<u64> {
        content_length(&self.headers)
    }

    /// What the answer says about request limits.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        retry::rate_limit(&self.headers)
    }
}

enum State {
    /// Still on the wire.
    Open(Box<dyn Content>),
    /// Read into memory; the count is what `read` has passed on.
    Bytes { data: Vec<u8>, passed: usize },
    /// An earlier read failed.
    Failed(Error),
}

/// What a response is made of.
pub(crate) struct Parts {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    /// Which of the registry's hosts answered.
    pub(crate) host: usize,
    pub(crate) digest: Option<Digest>,
}

impl Response {
    pub(crate) fn streaming(
        parts: Parts,
        content: Box<dyn Content>,
        call: &Arc<Call>,
        transport: &Transport,
    ) -> Self {
        let response = Self::new(
            parts,
            State::Open(content),
            call.progress().cloned(),
            transport,
        );
        if let Some(op) = &response.op {
            op.begin(response.length());
        }
        response
    }

    pub(crate) fn in_memory(parts: Parts, data: Vec<u8>, transport: &Transport) -> Self {
        Self::new(parts, State::Bytes { data, passed: 0 }, None, transport)
    }

    fn new(parts: Parts, state: State, op: Option<Op>, transport: &Transport) -> Self {
        let Parts {
            status,
            headers,
            url,
            host,
            digest,
        } = parts;
        let endpoint = transport.endpoint(host);
        Self {
            head: Arc::new(Head {
                status,
                headers,
                url,
                authority: Arc::clone(endpoint.authority()),
                digest,
                is_anonymous: endpoint.auth().fell_back(),
            }),
            state,
            op,
            transport: transport.clone(),
            touched: false,
        }
    }

    /// What is known before the body is read, and does not change while it is.
    pub(crate) fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Every header, in order; values are not always UTF-8.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    /// The first value of a header, if it is UTF-8. Names compare in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        std::str::from_utf8(self.head.headers.get(name)?.as_bytes()).ok()
    }

    /// Length of the body in bytes if the registry told it.
    pub fn length(&self) -> Option<u64> {
        self.head.length()
    }

    /// What the answer says about request limits.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.head.rate_limit()
    }

    /// Digest of the content: computed from its bytes, or told by the registry before they are read.
    pub fn digest(&self) -> Option<&Digest> {
        self.head.digest.as_ref()
    }

    /// The scheme, host, port and path that answered, after redirects, without the query.
    pub fn url(&self) -> String {
        self.head.url.shown()
    }

    /// Host and port of the registry that served this, or of the mirror that did so in its place (options
    /// `hosts-dir` and `registries-conf`). A redirect from there to a storage does not change it.
    pub fn host(&self) -> &str {
        &self.head.authority
    }

    /// Whether the credentials were refused and the request was sent without
    /// (option `anonymous-fallback`).
    pub fn is_anonymous(&self) -> bool {
        self.head.is_anonymous
    }

    pub(crate) fn effective_url(&self) -> &Url {
        &self.head.url
    }

    pub(crate) fn header_map(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Reads some bytes; 0 is the end. Where a digest is known, the end is only reported if it matched.
    ///
    /// # Errors
    /// Those of the network and the call's limits, and [`Digest`](crate::error::ErrorKind::Digest) when the
    /// bytes are not those asked for. A failed body stays failed.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.transport.check_process()?;
        self.touched = true;
        let result = match &mut self.state {
            State::Open(content) => check(self.op.as_ref()).and_then(|()| {
                let n = content.read(buf)?;
                advance(self.op.as_ref(), n)?;
                Ok(n)
            }),
            State::Bytes { data, passed } => {
                let rest = data.get(*passed..).unwrap_or_default();
                let n = rest.len().min(buf.len());
                if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
                    to.copy_from_slice(from);
                }
                *passed += n;
                Ok(n)
            }
            State::Failed(e) => Err(e.clone()),
        };
        result.map_err(|e| self.fail(e))
    }

    /// Keeps the failure of the body.
    fn fail(&mut self, e: Error) -> Error {
        let e = e.in_answer(self.head.status);
        self.state = State::Failed(e.clone());
        e
    }

    /// Reads the rest into memory and lends it.
    ///
    /// # Errors
    /// As [`read`](Response::read), and [`Limit`](crate::error::ErrorKind::Limit) beyond `max-body-bytes`.
    pub fn body(&mut self) -> Result<&[u8]> {
        self.body_up_to(Number::MaxBody)
    }

    /// The same for content with a limit of its own.
    pub(crate) fn body_up_to(&mut self, limit: Number) -> Result<&[u8]> {
        if let State::Open(_) | State::Failed(_) = &self.state {
            let options = self.transport.options();
            // Never more than what any body may have.
            let limit = [limit, Number::MaxBody]
                .into_iter()
                .min_by_key(|key| options.number(*key))
                .unwrap_or(limit);
            let most = options.size(limit);
            let too_long = Error::limit(format!(
                "{} sent a body of more than {most} bytes; option {} sets the limit",
                self.head.url,
                limit.key()
            ));
            // The length told is that of the whole body, and answers to HEAD tell one without a body.
            let told = self.length().filter(|_| !self.touched);
            let told_too_long = told.is_some_and(|n| n > most as u64);
            let mut data = Vec::new();
            loop {
                let piece = self.piece()?;
                if piece.is_empty() {
                    break;
                }
                if told_too_long || piece.len() > most - data.len() {
                    return Err(self.fail(too_long));
                }
                if data.try_reserve(piece.len()).is_err() {
                    let e = Error::limit("there is not enough memory for the body");
                    return Err(self.fail(e));
                }
                data.extend_from_slice(piece);
            }
            self.state = State::Bytes { data, passed: 0 };
        }
        match &self.state {
            State::Bytes { data, passed } => Ok(data.get(*passed..).unwrap_or_default()),
            _ => Ok(&[]),
        }
    }

    /// Lends the next bytes; none is the end.
    fn piece(&mut self) -> Result<&[u8]> {
        self.transport.check_process()?;
        self.touched = true;
        if let State::Open(content) = &mut self.state {
            // The borrow of a piece must not outlive the failure that replaces the state.
            let lent = check(self.op.as_ref())
                .and_then(|()| content.piece())
                .and_then(|piece| advance(self.op.as_ref(), piece.len()));
            if let Err(e) = lent {
                self.fail(e);
            }
        }
        match &mut self.state {
            State::Open(content) => Ok(content.last_piece()),
            State::Bytes { data, passed } => {
                let rest = data.get(*passed..).unwrap_or_default();
                *passed = data.len();
                Ok(rest)
            }
            State::Failed(e) => Err(e.clone()),
        }
    }

    /// Reads the rest into memory and gives it away; what is read later is empty.
    ///
    /// # Errors
    /// As [`body`](Response::body).
    pub fn take_body(&mut self) -> Result<Vec<u8>> {
        self.take_body_up_to(Number::MaxBody)
    }

    /// The same for content with a limit of its own.
    pub(crate) fn take_body_up_to(&mut self, limit: Number) -> Result<Vec<u8>> {
        self.body_up_to(limit)?;
        match std::mem::replace(
            &mut self.state,
            State::Bytes {
                data: Vec::new(),
                passed: 0,
            },
        ) {
            State::Bytes { mut data, passed } => {
                data.drain(..passed);
                Ok(data)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Passes the rest to `sink`, piece by piece. `false` from it stops with a `Cancelled` error.
    ///
    /// # Errors
    /// As [`read`](Response::read).
    pub fn drain(&mut self, sink: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
        loop {
            let piece = self.piece()?;
            if piece.is_empty() {
                return Ok(());
            }
            if !sink(piece) {
                let stopped = Error::cancelled("the write callback stopped the call");
                return Err(self.fail(stopped));
            }
        }
    }

    /// Writes the rest to a file that appears only if all went well.
    ///
    /// # Errors
    /// As [`read`](Response::read), and [`Io`](crate::error::ErrorKind::Io).
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let mut file = PendingFile::create(path)?;
        let mut failure = None;
        let drained = self.drain(&mut |data| match file.write(data) {
            Ok(()) => true,
            Err(e) => {
                failure = Some(e);
                false
            }
        });
        let saved = match failure {
            Some(e) => Err(e),
            None => drained.and_then(|()| file.commit()),
        };
        // What was read on the way is gone.
        if let Err(e) = &saved {
            self.state = State::Failed(e.clone());
        }
        saved
    }
}

/// What was received before the call was cancelled is not given out after it either.
fn check(op: Option<&Op>) -> Result<()> {
    match op {
        Some(op) if op.is_cancelled() => Err(Error::cancelled("the call was cancelled")),
        _ => Ok(()),
    }
}

fn advance(op: Option<&Op>, bytes: usize) -> Result<()> {
    match op {
        Some(op) if bytes > 0 => op.advance(bytes as u64),
        _ => Ok(()),
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.head.status)
            .field("url", &self.head.url)
            .finish_non_exhaustive()
    }
}

/// Content-Type, when it is text.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// Content-Length, when it is one number.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim();
    if value.bytes().all(|b| b.is_ascii_digit()) {
        value.parse().ok()
    } else {
        None
    }
}

/// Checks what an answer without content says it is about, in the algorithm of `digest`, which it is to be.
///
/// # Errors
/// [`Digest`](crate::error::ErrorKind::Digest) when that is something else.
pub(crate) fn check_told(answer: &Answer, digest: &Digest) -> Result<()> {
    match told_digest(&answer.headers) {
        Some(told) if told.algorithm() == digest.algorithm() && told != *digest => {
            Err(Error::digest(format!(
                "{} tells of {told} where {digest} was meant",
                answer.url
            ))
            .with_http_status(answer.status))
        }
        _ => Ok(()),
    }
}

/// `Docker-Content-Digest`, when it is one.
pub(crate) fn told_digest(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}
