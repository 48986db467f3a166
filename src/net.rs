//! HTTP/1.1 exchanges: one request out, one answer in. No redirects, no credentials of its own, no
//! retries; those are decided above.

pub(crate) mod address;
mod buffers;
pub(crate) mod call;
mod dns;
mod fold;
mod gate;
pub(crate) mod proxy;
mod tcp;
mod tls;

use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ureq::config::Config;
use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::http::{Method, Request, Uri, Version};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Agent, AsSendBody, SendBody};

use crate::error::{Error, ErrorKind, Result, SOON};
use crate::hosts::HostTrust;
use crate::op::Op;
use crate::options::{Number, Options, Switch, Text};
use crate::process::PerProcess;
use crate::response::content_length;
use crate::secret::Secrets;
use crate::url::{Origin, Url};
use address::{Home, Rule};
use call::{Call, Phase};
use proxy::{Protocol, Proxies};
use tcp::{Tcp, into_io};
use tls::{Tls, Trust, Wire};

/// Bytes read from and written to a connection at a time.
pub(crate) const BUFFER: usize = 128 * 1024;

/// Bytes of a short body read at a time.
const PIECE: usize = 16 * 1024;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// A pool of connections and what it takes to make new ones.
pub(crate) struct Net {
    agent: Mutex<Agent>,
    shared: Arc<Shared>,
}

/// What connections are made with.
#[derive(Debug)]
struct Shared {
    proxies: Proxies,
    trust: Trust,
    user_agent: HeaderValue,
    max_header: usize,
    /// 0 for any number.
    max_requests: u64,
}

/// A request to send, but for its body.
pub(crate) struct Exchange<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// A kept connection is taken as it is: if it was closed, another is tried.
    pub(crate) trusts_kept: bool,
    /// Addresses the connection may go to.
    pub(crate) rule: Rule,
    /// Who learns the connected address.
    pub(crate) home: Option<Arc<Home>>,
    pub(crate) turn: Turn,
}

/// Leave to send a request now.
pub(crate) struct Turn {
    place: Option<gate::Place>,
    is_late: bool,
}

impl Turn {
    /// Whether it had to be waited for.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }
}

/// The body of a request.
pub(crate) enum Outgoing<'a> {
    /// None, not even an empty one.
    None,
    /// `length` bytes, or as many as there are, in chunks.
    Reader {
        reader: &'a mut dyn Read,
        length: Option<u64>,
        op: Option<&'a Op>,
    },
}

/// The head of an answer, and its body still on the wire.
pub(crate) struct Incoming {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Net {
    /// Connections for a registry at `home`, with what its host's own configuration says of trust.
    pub(crate) fn new(options: &Options, home: &Origin, host: &HostTrust) -> Result<Self> {
        let shared = Arc::new(Shared {
            proxies: Proxies::of(options)?,
            trust: Trust::of(options, home, host)?,
            user_agent: text_value(options.text(Text::UserAgent).unwrap_or(crate::USER_AGENT))?,
            max_header: options.size(Number::MaxHeader),
            max_requests: options.number(Number::MaxRequests),
        });
        if options.is_on(Switch::Insecure) {
            options
                .log()
                .warn(|| format!("option insecure is on: certificates are not checked ({home})"));
        } else if host.insecure && home.is_https() {
            options.log().warn(|| {
                format!("certificates of {home} are not checked: its configuration says so")
            });
        }
        Ok(Self {
            agent: Mutex::new(shared.agent()),
            shared,
        })
    }

    /// Gives up every idle connection. Calls that run see their own connections end.
    pub(crate) fn close(&self) {
        let fresh = self.shared.agent();
        let old = std::mem::replace(
            &mut *self.agent.lock().unwrap_or_else(PoisonError::into_inner),
            fresh,
        );
        old.shutdown();
    }

    pub(crate) fn proxies(&self) -> &Proxies {
        &self.shared.proxies
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.shared.trust
    }

    /// Waits until another request may run at this host.
    pub(crate) fn turn(&self, origin: &Origin, call: &Call) -> Result<Turn> {
        call.check()?;
        let (place, is_late) = match self.shared.max_requests {
            0 => (None, false),
            most => {
                let (place, waited) = gate::enter(origin, most, call)?;
                (Some(place), waited)
            }
        };
        Ok(Turn { place, is_late })
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) fn send(
        &self,
        exchange: Exchange<'_>,
        body: Outgoing<'_>,
        call: &Arc<Call>,
    ) -> Result<Incoming> {
        call.check()?;
        let mut place = exchange.turn.place;
        call.begin_attempt(exchange.rule, exchange.home, exchange.trusts_kept);
        let agent = self
            .agent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let url = exchange.url;
        let uri = Uri::from_maybe_shared(Bytes::from_owner(url.wire()))
            .map_err(|_| Error::syntax(format!("{url} is no URL that can be asked for")))?;
        let method = Method::from_bytes(exchange.method.as_bytes())
            .map_err(|_| Error::syntax("the method is no HTTP token (RFC 9110 section 9.1)"))?;
        let mut builder = Request::builder().method(method).uri(uri);
        if let Some(headers) = builder.headers_mut() {
            headers.insert(header::USER_AGENT, self.shared.user_agent.clone());
            // The bytes of an answer must be those its digest names (RFC 9110 section 8.4).
            headers.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            );
            for (name, value) in exchange.headers {
                if name == header::USER_AGENT {
                    headers.insert(name, value);
                } else {
                    headers.append(name, value);
                }
            }
        }
        let answer = {
            let _entered = call.enter();
            match body {
                Outgoing::None => {
                    if matches!(exchange.method, "POST" | "PUT" | "PATCH") {
                        builder =
                            builder.header(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                    }
                    let request = builder
                        .body(SendBody::none())
                        .map_err(|e| Error::internal(e.to_string()))?;
                    agent.run(self.shared.limited(&agent, request))
                }
                Outgoing::Reader { reader, length, op } => {
                    let mut sender = Sender {
                        reader,
                        left: length,
                        call: Arc::clone(call),
                        op,
                        place: place.as_mut(),
                        begun: false,
                    };
                    builder = match length {
                        Some(n) => builder.header(header::CONTENT_LENGTH, HeaderValue::from(n)),
                        None => builder.header(
                            header::TRANSFER_ENCODING,
                            HeaderValue::from_static("chunked"),
                        ),
                    };
                    let body = SendBody::from_reader(&mut sender);
                    let request = builder
                        .body(body)
                        .map_err(|e| Error::internal(e.to_string()))?;
                    agent.run(self.shared.limited(&agent, request))
                }
            }
        };
        let (head, body) = answer.map_err(|e| explain(e, url))?.into_parts();
        check_framing(head.version, &head.headers, url)?;
        call.enter_phase(Phase::Body);
        let has_body = exchange.method != "HEAD"
            && !matches!(head.status.as_u16(), 204 | 304)
            && head
                .headers
                .get(header::CONTENT_LENGTH)
                .is_none_or(|n| n != "0");
        Ok(Incoming {
            status: head.status.as_u16(),
            body: Body {
                reader: Some(Box::new(body.into_reader())),
                place: place.filter(|_| has_body),
                call: Arc::clone(call),
                host: url.named(),
                left: content_length(&head.headers),
            },
            headers: head.headers,
        })
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

pub(crate) fn text_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text)
        .map_err(|_| Error::syntax("a header value has a character that HTTP does not allow"))
}

/// RFC 9112 section 6.3: a message with both framings may have been smuggled, and codings other than
/// chunked are not asked for. HTTP/1.0 has none at all (section 6.1).
fn check_framing(version: Version, headers: &HeaderMap, url: &Url) -> Result<()> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if version < Version::HTTP_11 {
        return Err(Error::protocol(format!(
            "{url} sent a Transfer-Encoding in HTTP/1.0, which has none"
        )));
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Error::protocol(format!(
            "{url} sent both Content-Length and Transfer-Encoding"
        )));
    }
    if codings.next().is_some()
        || !coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    {
        return Err(Error::protocol(format!(
            "{url} sent a Transfer-Encoding other than chunked"
        )));
    }
    Ok(())
}

/// Feeds the HTTP engine with the body, and stops feeding it the real one when the server has hung up:
/// the engine must reach the answer that came before.
struct Sender<'a> {
    reader: &'a mut dyn Read,
    left: Option<u64>,
    call: Arc<Call>,
    op: Option<&'a Op>,
    place: Option<&'a mut gate::Place>,
    begun: bool,
}

impl Read for Sender<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.begun {
            self.begun = true;
            self.call.enter_phase(Phase::Body);
        }
        let room = match self.left {
            Some(left) => buf.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => buf.len(),
        };
        let buf = buf.get_mut(..room).unwrap_or_default();
        let n = if self.call.is_body_unwanted() {
            match self.left {
                Some(_) => {
                    buf.fill(0);
                    room
                }
                None => 0,
            }
        } else {
            let n = self.reader.read(buf)?;
            if let Some(place) = &mut self.place {
                place.touch();
            }
            if n == 0 && room > 0 && self.left.is_some() {
                return Err(into_io(Error::argument(
                    "the body is shorter than the length it was announced with",
                )));
            }
            if let Some(op) = self.op {
                op.advance(n as u64).map_err(into_io)?;
            }
            n
        };
        self.left = self.left.map(|left| left.saturating_sub(n as u64));
        if n == 0 || self.left == Some(0) {
            self.call.enter_phase(Phase::Head);
        }
        Ok(n)
    }
}

/// The body of an answer: raw bytes, nothing decoded but the transfer coding.
pub(crate) struct Body {
    reader: Option<Box<dyn Read + Send + Sync>>,
    /// Among the requests that run at its host; gone with the end of the body.
    place: Option<gate::Place>,
    call: Arc<Call>,
    host: String,
    /// What is still to come of the length that the head told.
    left: Option<u64>,
}

impl Body {
    /// Reads some bytes; 0 is the end, and only the true end: a body cut short is an error.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let Some(reader) = &mut self.reader else {
            return Ok(0);
        };
        if buf.is_empty() {
            return Ok(0);
        }
        let got = {
            let _entered = self.call.enter();
            let left = self.left.unwrap_or(0);
            self.call
                .note_due(usize::try_from(left).unwrap_or(usize::MAX));
            self.call
                .check()
                .map_err(into_io)
                .and_then(|()| reader.read(buf))
        };
        if let Some(place) = &mut self.place {
            place.touch();
        }
        match got {
            Ok(0) => {
                (self.reader, self.place) = (None, None);
                Ok(0)
            }
            Ok(n) => {
                self.left = self.left.map(|left| left.saturating_sub(n as u64));
                Ok(n)
            }
            Err(e) => {
                (self.reader, self.place) = (None, None);
                Err(explain_io(&e, &self.host))
            }
        }
    }

    /// What the call that it belongs to has sent as credentials.
    pub(crate) fn secrets(&self) -> &Secrets {
        self.call.secrets()
    }

    /// Reads what is left, up to `most` bytes; the flag tells whether there was more.
    pub(crate) fn read_up_to(&mut self, most: usize) -> Result<(Vec<u8>, bool)> {
        let mut out = Vec::new();
        let more = self.read_onto(&mut out, most)?;
        Ok((out, more))
    }

    /// The same for a body that is only read for what it says about a failure: if it breaks off, what came
    /// before counts, and there was more. Fails when the call is cancelled.
    pub(crate) fn read_what_comes(&mut self, most: usize) -> Result<(Vec<u8>, bool)> {
        let mut out = Vec::new();
        match self.read_onto(&mut out, most) {
            Err(e) if e.kind() == ErrorKind::Cancelled => Err(e),
            more => Ok((out, more.unwrap_or(true))),
        }
    }

    fn read_onto(&mut self, out: &mut Vec<u8>, most: usize) -> Result<bool> {
        loop {
            // What the head told, and a little to see the end with; a piece at a time, for it may tell anything.
            let left = self.left.and_then(|n| usize::try_from(n).ok());
            let piece = left.map_or(PIECE, |n| n.saturating_add(64).min(PIECE));
            let have = out.len();
            out.try_reserve(piece)
                .map_err(|_| Error::limit("there is not enough memory for the body"))?;
            out.resize(have + piece, 0);
            let got = self.read(out.get_mut(have..).unwrap_or_default());
            out.truncate(have + *got.as_ref().unwrap_or(&0));
            if got? == 0 {
                return Ok(false);
            }
            if out.len() > most {
                out.truncate(most);
                return Ok(true);
            }
        }
    }

    /// Reads and forgets a short rest, so that the connection can be used again. Bytes that came of it.
    pub(crate) fn discard(mut self) -> usize {
        self.call.enter_phase(Phase::Rest);
        self.read_what_comes(BUFFER)
            .map_or(0, |(rest, _)| rest.len())
    }
}

/// What the engine reports, with the host and in our terms.
fn explain(e: ureq::Error, url: &Url) -> Error {
    let host = url.named();
    match e {
        ureq::Error::Io(e) => explain_io(&e, &host),
        ureq::Error::LargeResponseHeader(_, most) => Error::limit(format!(
            "{host} sent a head of more than {most} bytes; option max-header-bytes sets the limit"
        )),
        ureq::Error::Protocol(e) => broke_http(&e, &host),
        e => Error::network(format!("{host}: {e}")),
    }
}

fn explain_io(e: &io::Error, host: &str) -> Error {
    let Some(inner) = e.get_ref() else {
        return broken(e, host);
    };
    if let Some(ours) = inner.downcast_ref::<Error>() {
        return ours.clone().context(host);
    }
    match inner.downcast_ref::<ureq::Error>() {
        Some(ureq::Error::Io(e)) => explain_io(e, host),
        Some(ureq::Error::Protocol(e)) => broke_http(e, host),
        _ => broken(e, host),
    }
}

#[cold]
fn broke_http(e: &dyn fmt::Display, host: &str) -> Error {
    let text = e.to_string();
    // The engine tells its own limit in words alone.
    if text.ends_with("too many headers") {
        return Error::limit(format!("{host} sent more than 128 header fields"));
    }
    Error::protocol(format!("{host} broke HTTP: {text}"))
}

fn broken(e: &io::Error, host: &str) -> Error {
    Error::network(format!("the connection to {host} broke: {e}"))
        .with_os_code(e.raw_os_error())
        .with_retry_after(Some(SOON))
}

impl Shared {
    /// The request with the limit for the head of its answer.
    fn limited<S: AsSendBody>(&self, agent: &Agent, request: Request<S>) -> Request<S> {
        if self.max_header == agent.config().max_response_header_size() {
            return request;
        }
        let settings = agent.configure_request(request);
        settings.max_response_header_size(self.max_header).build()
    }

    fn agent(self: &Arc<Self>) -> Agent {
        let config = settings();
        Agent::with_parts(config, Dialer(Arc::clone(self)), NoResolver)
    }

    fn dial(&self, https: bool, host: &str, port: u16) -> Result<Box<dyn Transport>> {
        let call = call::current()?;
        let end = Instant::now() + call.limits().connect;
        let Some(proxy) = self.proxies.for_host(https, host, port) else {
            let addresses = dns::resolve(host, port, end, &call)?;
            let stream = tcp::connect(host, &addresses, call.rule(), end, &call)?;
            call.enter_phase(Phase::Setup);
            let address = stream.peer_addr().ok();
            let tcp = Tcp::new(stream, BUFFER);
            let made: Box<dyn Transport> = if https {
                self.secure(Box::new(tcp), host, port, &call)?
            } else {
                Box::new(tcp)
            };
            // Not before the certificate was checked: a name alone may lead anywhere.
            if let Some(address) = address {
                call.connected(address.ip());
            }
            return Ok(made);
        };
        // The address rule is about where a registry may lead; the proxy is the user's own choice.
        let addresses = dns::resolve(&proxy.host, proxy.port, end, &call)?;
        let mut tcp = Tcp::new(
            tcp::connect(&proxy.host, &addresses, Rule::ANY, end, &call)?,
            BUFFER,
        );
        call.enter_phase(Phase::Setup);
        let mut tunnel: Box<dyn Wire> = match proxy.protocol {
            Protocol::Socks5 => {
                proxy.socks(&mut tcp, host, port)?;
                Box::new(tcp)
            }
            Protocol::Http => Box::new(tcp),
            Protocol::Https => Box::new(Tls::handshake(
                Box::new(tcp),
                self.trust.config(&proxy.host, proxy.port)?,
                &proxy.host,
                BUFFER,
                &call,
            )?),
        };
        if proxy.protocol != Protocol::Socks5 {
            let user_agent = self.user_agent.to_str().unwrap_or_default();
            proxy.connect(tunnel.as_mut(), host, port, user_agent)?;
        }
        call.log
            .debug(|| format!("tunnel to {host}:{port} through proxy {proxy}"));
        if https {
            self.secure(tunnel, host, port, &call)
        } else {
            Ok(tunnel.into_transport())
        }
    }

    fn secure(
        &self,
        wire: Box<dyn Wire>,
        host: &str,
        port: u16,
        call: &Call,
    ) -> Result<Box<dyn Transport>> {
        #[cfg(fuzzing)]
        if crate::fuzzing::secure(host) {
            return Ok(wire.into_transport());
        }
        Ok(Box::new(Tls::handshake(
            wire,
            self.trust.config(host, port)?,
            host,
            BUFFER,
            call,
        )?))
    }
}

/// What the engine does alike for all. It looks for proxies in the environment whenever its settings are made,
/// although it is to use none: that is done once, for the first transport of a process, and never while calls run.
fn settings() -> Config {
    static SETTINGS: PerProcess<Config> = PerProcess::new();
    let made = SETTINGS.get(|| {
        Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .accept("")
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(256)
            .max_idle_connections_per_host(128)
            .max_idle_age(IDLE)
            .build()
    });
    made.clone()
}

/// Makes the engine's connections.
#[derive(Debug)]
struct Dialer(Arc<Shared>);

impl Connector<()> for Dialer {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let https = details.needs_tls();
        let host = details.uri.host().unwrap_or_default();
        let port = details
            .uri
            .port_u16()
            .unwrap_or(if https { 443 } else { 80 });
        let transport = self.0.dial(https, host, port).map_err(into_io)?;
        // Connecting has a limit of its own; that of the answer begins now.
        call::current().map_err(into_io)?.enter_phase(Phase::Head);
        Ok(Some(transport))
    }
}

/// Names are resolved when a connection is made, not for each request that finds one in the pool.
#[derive(Debug)]
struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}
