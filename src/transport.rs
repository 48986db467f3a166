//! The transport: one registry or repository, its credentials and its connections. Where it all meets.

use std::fmt;
use std::sync::Arc;

use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::auth::{self, Authenticator, CallSigner, Known};
use crate::creds::Creds;
use crate::diagnostics;
use crate::error::{Error, Result};
use crate::name::{self, Authority, Repository, Scheme};
use crate::net::Net;
use crate::net::call::{Call, CloseCount};
use crate::op::Op;
use crate::options::{Number, Options, Text};
use crate::policy::{Policy, Purpose};
use crate::process;
use crate::request::Request;
use crate::response::{Parts, Response, told_digest};
use crate::retry::{self, Budget};
use crate::scope::Scopes;
use crate::send::{Answer, Message, Payload, Repeat, Route, Signer};
use crate::url::Url;
use crate::verify::Plain;

/// What a transport asks the token service for. The numbers are those of the C constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actions(u32);

impl Actions {
    /// Read a repository.
    pub fn pull() -> Self {
        Self(1)
    }

    /// Write to a repository, and read it.
    pub fn push() -> Self {
        Self(2)
    }

    /// Delete from a repository. Asks for push and pull; `delete` is added when the registry's challenge
    /// names it.
    pub fn delete() -> Self {
        Self(4)
    }

    /// List the repositories of a registry.
    pub fn catalog() -> Self {
        Self(8)
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// From the numbers of the C constants.
    ///
    /// # Errors
    /// [`Argument`](crate::error::ErrorKind::Argument) for none and for unknown bits.
    pub fn from_bits(bits: u32) -> Result<Self> {
        if bits == 0 || bits & !0xf != 0 {
            return Err(Error::argument(format!(
                "{bits:#x} is no combination of RT_PULL, RT_PUSH, RT_DELETE, RT_CATALOG"
            )));
        }
        Ok(Self(bits))
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The scopes for a repository, or for a registry when there is none (token scope documentation).
    fn scopes(self, repository: Option<&Repository>) -> Scopes {
        match repository {
            None => Scopes::of(["registry:catalog:*"]),
            Some(name) if self.has(Self::push()) || self.has(Self::delete()) => {
                Scopes::of([format!("repository:{name}:push,pull").as_str()])
            }
            Some(name) => Scopes::of([format!("repository:{name}:pull").as_str()]),
        }
    }
}

/// An authenticated connection pool for one registry or repository.
///
/// Clones are the same transport; any number of threads may use it at once. A child made by `fork` must make
/// its own.
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    authority: Authority,
    repository: Option<Repository>,
    base: Url,
    net: Net,
    policy: Policy,
    auth: Authenticator,
    options: Options,
    closes: Arc<CloseCount>,
    process: u32,
}

/// A request of the library's own, or of the program's.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Option<Payload<'a>>,
    pub(crate) repeat: Repeat,
    pub(crate) purpose: Purpose,
    /// Statuses that are neither followed nor repeated.
    pub(crate) wanted: &'a [u16],
    /// Scopes needed besides those of the transport.
    pub(crate) extra: Scopes,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: &'a str, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: None,
            repeat: Repeat::ByMethod,
            purpose: Purpose::Request,
            wanted: &[],
            extra: Scopes::default(),
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Transport {
    /// Makes a transport for `name` ("ghcr.io/org/app", or a bare "ghcr.io"). Does no network I/O; reads the
    /// environment, once, unless option `environment` is off.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax) for the name, [`Argument`](crate::error::ErrorKind::Argument)
    /// for actions or options that do not go together.
    pub fn new(
        name: &str,
        actions: Actions,
        creds: Option<&Creds>,
        options: Option<&Options>,
    ) -> Result<Self> {
        let (authority, repository) = name::transport_name(name)?;
        if repository.is_some() && actions.has(Actions::catalog()) {
            return Err(Error::argument(
                "listing repositories takes a bare registry, without a repository",
            ));
        }
        let options = options.cloned().unwrap_or_default();
        let scheme = match options.text(Text::Scheme) {
            Some("http") => Scheme::Http,
            Some(_) => Scheme::Https,
            None => authority.default_scheme(),
        };
        let base = Url::at(scheme, authority.endpoint(), "/v2/")?;
        let only_pulls = actions == Actions::pull();
        let auth = Authenticator::new(
            creds.cloned().unwrap_or_else(Creds::anonymous),
            authority.key(),
            repository.as_ref().map(Repository::as_str),
            actions.scopes(repository.as_ref()),
            only_pulls,
            &options,
        );
        Ok(Self(Arc::new(Inner {
            net: Net::new(&options)?,
            policy: Policy::new(base.origin().clone(), &options),
            auth,
            authority,
            repository,
            base,
            options,
            closes: Arc::default(),
            process: std::process::id(),
        })))
    }

    /// Pings the registry (distribution-spec, "Determining Support") and gets a token now rather than at the
    /// first request.
    ///
    /// # Errors
    /// [`Protocol`](crate::error::ErrorKind::Protocol) for any answer but 200 or 401,
    /// [`Auth`](crate::error::ErrorKind::Auth) when the credentials are refused, and those of the network.
    pub fn ping(&self, op: Option<&Op>) -> Result<()> {
        let call = self.call(op)?;
        let route = self.route(&call);
        let mut budget = self.budget();
        let mut message = self.message(&Ask::new("GET", self.0.base.clone()));
        message.max_redirects = 0;
        let answer = route.send(&message, &mut Unsigned, &mut budget)?;
        match answer.status {
            200 => return Ok(()),
            401 => {}
            _ => return Err(self.unexpected_ping(answer)),
        }
        let mut signer = CallSigner::of_ping(&self.0.auth, &route);
        if !signer.refused(&answer.url, &answer.headers)? {
            return Err(self.refusal("GET", answer));
        }
        answer.body.discard();
        if let Some(Known::Bearer { .. }) = self.0.auth.known(&route) {
            return signer.sign(&mut budget).map(|_| ());
        }
        // A password is only known to be right when the registry has seen it.
        let answer = route.send(&message, &mut signer, &mut budget)?;
        match answer.status {
            200 => Ok(()),
            401 | 403 => Err(self.refusal("GET", answer)),
            _ => Err(self.unexpected_ping(answer)),
        }
    }

    fn unexpected_ping(&self, answer: Answer) -> Error {
        let status = answer.status;
        let refusal = self.refusal("GET", answer);
        Error::protocol(format!(
            "unexpected answer to the ping of {}: {}",
            self.0.authority,
            refusal.message()
        ))
        .with_http_status(status)
        .with_retry_after(refusal.retry_after())
        .with_rate_limit(refusal.rate_limit())
        .with_diagnostics(refusal.diagnostics().to_vec())
    }

    /// Sends `request`, getting a token when needed, and waits for the head of the answer. `op` also governs
    /// the reading of the answer.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax) and [`Argument`](crate::error::ErrorKind::Argument) for
    /// mistakes in the request, [`Status`](crate::error::ErrorKind::Status) for a status that is not accepted,
    /// [`MediaType`](crate::error::ErrorKind::MediaType), [`Auth`](crate::error::ErrorKind::Auth), and those
    /// of the network and its limits.
    pub fn request(&self, request: &Request, op: Option<&Op>) -> Result<Response> {
        let call = self.call(op)?;
        let url = self.request_url(request)?;
        self.exchange(request, url, Purpose::Request, &call)
    }

    /// Sends `request` to `url` and checks the answer against what it accepts.
    pub(crate) fn exchange(
        &self,
        request: &Request,
        url: Url,
        purpose: Purpose,
        call: &Arc<Call>,
    ) -> Result<Response> {
        let method = request.method()?;
        let body = match request.source() {
            None => None,
            Some(source) => Some(Payload {
                source,
                offset: 0,
                length: source.size()?,
                counted: true,
            }),
        };
        let mut ask = Ask::new(method, url);
        ask.headers = request.fields()?;
        ask.body = body;
        ask.purpose = purpose;
        ask.wanted = request.statuses();
        let mut budget = self.budget();
        let answer = if request.is_signed() {
            self.route(call)
                .send(&self.message(&ask), &mut Unsigned, &mut budget)?
        } else {
            self.ask(&ask, call, &mut budget)?
        };
        if !request.accepts_status(answer.status) {
            return Err(self.refusal(method, answer));
        }
        let content_type = answer
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        if !request.accepts_type(content_type) {
            let got = content_type.unwrap_or_default().to_owned();
            return Err(Error::media_type(format!(
                "{} answered with media type {got}, which is not accepted",
                answer.url
            ))
            .with_http_status(answer.status));
        }
        Ok(self.stream(answer, call))
    }

    /// Ends every call now running with a `Cancelled` error and closes all connections. Later calls connect
    /// anew.
    pub fn close(&self) {
        if self.check_process().is_err() {
            // The connections are the parent's, and a thread that is not here may hold the lock.
            return;
        }
        self.0.closes.close();
        self.0.net.close();
    }

    /// The registry, as it was named.
    pub fn registry(&self) -> &Authority {
        &self.0.authority
    }

    /// The repository, or `None` for a bare registry.
    pub fn repository(&self) -> Option<&Repository> {
        self.0.repository.as_ref()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.0.policy
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.0.auth.fell_back()
    }

    pub(crate) fn max_body(&self) -> usize {
        self.0.options.size(Number::MaxBody)
    }

    pub(crate) fn budget(&self) -> Budget {
        Budget::of(&self.0.options)
    }

    /// Fails in a child made by `fork`: two processes on one TLS connection break it for both.
    pub(crate) fn check_process(&self) -> Result<()> {
        if process::is_this(self.0.process) {
            Ok(())
        } else {
            Err(Error::state(
                "the transport was made before fork(): the child must make its own",
            ))
        }
    }

    /// Begins a call.
    pub(crate) fn call(&self, op: Option<&Op>) -> Result<Arc<Call>> {
        self.check_process()?;
        if let Some(op) = op {
            op.begin(None);
        }
        Ok(Call::new(op, &self.0.options, &self.0.closes))
    }

    /// The URL a request's path stands for.
    pub(crate) fn request_url(&self, request: &Request) -> Result<Url> {
        request.url(&self.0.base, self.0.repository.as_ref())
    }

    /// URL of `path` of the repository, such as `blobs/sha256:...`.
    pub(crate) fn repository_url(&self, path: &str) -> Result<Url> {
        let Some(repository) = &self.0.repository else {
            return Err(Error::argument(format!(
                "the transport for {} names no repository, which this call needs",
                self.0.authority
            )));
        };
        self.0.base.resolve(&format!("/v2/{repository}/{path}"))
    }

    /// Sends a request with the transport's credentials and gives whatever answer comes.
    pub(crate) fn ask(
        &self,
        ask: &Ask<'_>,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Answer> {
        let route = self.route(call);
        let mut signer = CallSigner::new(&self.0.auth, &route, ask.extra.clone());
        route.send(&self.message(ask), &mut signer, budget)
    }

    /// Sends a request and reads a short answer whole, again if the connection breaks while it is read.
    pub(crate) fn ask_whole(
        &self,
        ask: &Ask<'_>,
        most: usize,
        limit: &str,
        call: &Arc<Call>,
    ) -> Result<(Answer, Vec<u8>)> {
        let mut budget = self.budget();
        loop {
            let mut answer = self.whole(self.ask(ask, call, &mut budget)?)?;
            match answer.body.read_up_to(most) {
                Ok((body, false)) => return Ok((answer, body)),
                Ok((_, true)) => {
                    return Err(Error::limit(format!(
                        "{} sent more than {most} bytes; option {limit} sets the limit",
                        answer.url
                    )));
                }
                Err(e) if retry::is_broken_connection(&e) => budget.pause(e, None, call)?,
                Err(e) => return Err(e),
            }
        }
    }

    /// The answer to a GET without a range if it is the whole: a part, or no content, must not pass for it
    /// (RFC 9110 section 15.3).
    pub(crate) fn whole(&self, answer: Answer) -> Result<Answer> {
        match answer.status {
            200 | 203 => Ok(answer),
            status @ 201..=299 => Err(Error::protocol(format!(
                "{} answered {status} where the whole was asked for",
                answer.url
            ))
            .with_http_status(status)),
            _ => Err(self.refusal("GET", answer)),
        }
    }

    /// An answer as a response whose body is read by the caller.
    pub(crate) fn stream(&self, answer: Answer, call: &Arc<Call>) -> Response {
        let digest = told_digest(&answer.headers);
        let parts = Parts {
            status: answer.status,
            headers: answer.headers,
            url: answer.url,
            digest,
        };
        Response::streaming(parts, Box::new(Plain::new(answer.body)), call, self)
    }

    /// The error for an answer that was not accepted, with what the registry says about it.
    pub(crate) fn refusal(&self, method: &str, mut answer: Answer) -> Error {
        let status = answer.status;
        let most = self.0.options.size(Number::MaxError);
        let body = match answer.body.read_what_comes(most) {
            Ok(body) => body,
            Err(e) => return e.with_http_status(status),
        };
        let kind = answer
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok());
        let has_body = method != "HEAD";
        let diagnostics = if has_body {
            diagnostics::parse(&body, kind)
        } else {
            Vec::new()
        };
        let said = diagnostics::summary(&diagnostics);
        let mut message = format!("{method} {}: the answer was {status}", answer.url);
        if !said.is_empty() {
            message = format!("{message} ({said})");
        }
        message.push_str(&retry::plea(&answer.headers));
        if !has_body {
            message.push_str("; HEAD answers have no body that would say why");
        }
        let error = if status == 401 {
            let at_home = answer.url.origin() == self.0.policy.home();
            let why = if at_home {
                auth::explain_refusal(&answer.headers, self.0.auth.has_credentials())
            } else {
                format!(
                    "{} wants credentials, and those of the registry do not go there",
                    answer.url.origin()
                )
            };
            Error::auth(format!("{message}: {why}"))
        } else {
            Error::status(message)
        };
        error
            .with_http_status(status)
            .with_retry_after(retry::advice(status, &answer.headers))
            .with_rate_limit(retry::rate_limit(&answer.headers))
            .with_diagnostics(diagnostics)
    }

    fn route<'a>(&'a self, call: &'a Arc<Call>) -> Route<'a> {
        Route {
            net: &self.0.net,
            policy: &self.0.policy,
            call,
        }
    }

    fn message<'a>(&self, ask: &Ask<'a>) -> Message<'a> {
        Message {
            method: ask.method,
            url: ask.url.clone(),
            headers: ask.headers.clone(),
            body: ask.body,
            repeat: ask.repeat,
            max_redirects: self.0.options.number(Number::MaxRedirects),
            purpose: ask.purpose,
            wanted: ask.wanted,
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("registry", &self.0.authority)
            .field("repository", &self.0.repository)
            .finish_non_exhaustive()
    }
}

/// Sends a message as it is.
struct Unsigned;

impl Signer for Unsigned {
    fn sign(&mut self, _: &mut Budget) -> Result<Option<HeaderValue>> {
        Ok(None)
    }

    fn refused(&mut self, _: &Url, _: &HeaderMap) -> Result<bool> {
        Ok(false)
    }
}
