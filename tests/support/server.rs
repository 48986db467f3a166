//! A scripted HTTP/1.1 server: a handler turns each request into an [`Answer`], which may also be
//! a broken one. Every request is kept in a log.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::pki::Ca;

/// No wait of a test lasts longer than this.
pub const PATIENCE: Duration = Duration::from_secs(20);
const HEAD_LIMIT: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(2);

/// One request as it came from the wire.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// The target before `?`, not decoded.
    pub path: String,
    /// The target after `?`, not decoded.
    pub query: String,
    pub version: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// The serial number of the connection, from 1.
    pub connection: u64,
    /// The position of this request on its connection, from 1.
    pub number_on_connection: u64,
    pub tls: bool,
    /// The server name the client indicated.
    pub sni: Option<String>,
    /// The client's certificate (DER), when the server asked for one.
    pub client_certificate: Option<Vec<u8>>,
}

impl Request {
    /// The first header field of this name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_bytes(name)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first header field of this name.
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// All header fields of this name.
    pub fn header_all(&self, name: &str) -> Vec<String> {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// The first query parameter of this name, decoded.
    pub fn query_param(&self, name: &str) -> Option<String> {
        self.query_params(name).into_iter().next()
    }

    /// All query parameters of this name, decoded.
    pub fn query_params(&self, name: &str) -> Vec<String> {
        parse_form(&self.query)
            .into_iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// The body as `application/x-www-form-urlencoded` pairs.
    pub fn form(&self) -> Vec<(String, String)> {
        parse_form(&String::from_utf8_lossy(&self.body))
    }

    /// The first form field of this name.
    pub fn form_param(&self, name: &str) -> Option<String> {
        self.form()
            .into_iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// The user and password of Basic credentials.
    pub fn basic(&self) -> Option<(String, String)> {
        use base64::Engine as _;
        let (scheme, rest) = self.header("authorization")?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let bytes = base64::prelude::BASE64_STANDARD.decode(rest.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (user, password) = text.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// The token of `Authorization: Bearer`.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, rest) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
    }

    /// `http://host:port` or `https://host:port` as the client addressed the server.
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.header("host").unwrap_or_default())
    }

    fn line(&self) -> String {
        let mut line = format!("{} {}", self.method, self.target);
        if let Some(value) = self.header_bytes("authorization") {
            let _ = write!(
                line,
                " [Authorization: {}]",
                String::from_utf8_lossy(value).escape_debug()
            );
        }
        line
    }
}

/// Decodes `a=1&b=%20` pairs.
pub fn parse_form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(key, true), percent_decode(value, true))
        })
        .collect()
}

/// Decodes `%XX`, and `+` as a space in forms.
pub fn percent_decode(text: &str, form: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            (b'+', _) if form => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A point where a server waits until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    open: bool,
    reached: usize,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody pass, now and later.
    pub fn open(&self) {
        lock(&self.0.0).open = true;
        self.0.1.notify_all();
    }

    /// Waits until `n` connections came to the gate; false when that takes longer than
    /// [`PATIENCE`].
    pub fn wait_reached(&self, n: usize) -> bool {
        wait_until(&self.0.0, &self.0.1, |state| state.reached >= n)
    }

    /// Waits at the gate, on a thread that is no connection's.
    pub fn wait(&self) {
        let mut state = self.reach();
        while !state.open {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn reach(&self) -> MutexGuard<'_, GateState> {
        let mut state = lock(&self.0.0);
        state.reached += 1;
        self.0.1.notify_all();
        state
    }

    fn pass(&self, conn: &Conn) -> io::Result<()> {
        let mut state = self.reach();
        while !state.open {
            state = match self.0.1.wait_timeout(state, Duration::from_millis(10)) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
            if conn.gone() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }
}

enum Framing {
    Length,
    Claimed(String),
    UntilClose,
    Chunked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    KeepAlive,
    Close,
    Reset,
    /// A fatal TLS alert.
    Alert,
}

/// What the server sends back, and how it goes wrong on the way.
pub struct Answer {
    version: &'static str,
    status: u16,
    reason: Option<String>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Arc<Vec<u8>>,
    framing: Framing,
    chunk_size: usize,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    raw: bool,
    preface: Vec<u8>,
    cut: Option<usize>,
    end: Option<End>,
    announce_close: bool,
    close_notify: bool,
    before: Option<Gate>,
    pause_before: Duration,
    stall: Option<(usize, Gate)>,
    trickle: Option<(usize, Duration)>,
    drain: bool,
    reads: usize,
}

impl Answer {
    /// An empty answer of this status.
    pub fn new(status: u16) -> Self {
        Self {
            version: "HTTP/1.1",
            status,
            reason: None,
            headers: Vec::new(),
            body: Arc::default(),
            framing: Framing::Length,
            chunk_size: 16 << 10,
            trailers: Vec::new(),
            raw: false,
            preface: Vec::new(),
            cut: None,
            end: None,
            announce_close: false,
            close_notify: true,
            before: None,
            pause_before: Duration::ZERO,
            stall: None,
            trickle: None,
            drain: true,
            reads: 0,
        }
    }

    /// 200 with this body.
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200).body(body)
    }

    /// A JSON document.
    pub fn json(status: u16, document: &serde_json::Value) -> Self {
        Self::new(status)
            .header("Content-Type", "application/json")
            .body(document.to_string())
    }

    /// An error document of the distribution-spec.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::json(
            status,
            &serde_json::json!({"errors": [{"code": code, "message": message}]}),
        )
    }

    /// A redirect.
    pub fn redirect(status: u16, location: impl AsRef<[u8]>) -> Self {
        Self::new(status).header("Location", location)
    }

    /// 401 with this challenge.
    pub fn challenge(value: impl AsRef<[u8]>) -> Self {
        Self::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", value)
    }

    /// Bytes in place of an HTTP answer; the connection is closed after them.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let mut answer = Self::new(0).body(bytes);
        answer.raw = true;
        answer.end = Some(End::Close);
        answer
    }

    /// Closes the connection in place of an answer.
    pub fn hang_up() -> Self {
        Self::raw("")
    }

    /// Resets the connection in place of an answer.
    pub fn reset() -> Self {
        Self::raw("").reset_after(0)
    }

    /// The version in the status line.
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// The reason phrase.
    pub fn reason(mut self, reason: &str) -> Self {
        self.reason = Some(reason.to_owned());
        self
    }

    /// Adds a header field; a repeated name makes a second field.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Arc::new(body.into());
        self
    }

    /// Sets the body without a copy.
    pub fn shared_body(mut self, body: Arc<Vec<u8>>) -> Self {
        self.body = body;
        self
    }

    /// Sends this Content-Length, whatever the body is; closes when it is wrong.
    pub fn content_length(mut self, value: impl ToString) -> Self {
        self.framing = Framing::Claimed(value.to_string());
        self
    }

    /// No Content-Length: the end of the connection ends the body.
    pub fn no_length(mut self) -> Self {
        self.framing = Framing::UntilClose;
        self
    }

    /// Chunked transfer coding.
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Chunked transfer coding with chunks of this size.
    pub fn chunks_of(mut self, size: usize) -> Self {
        self.chunk_size = size.max(1);
        self.chunked()
    }

    /// A trailer field after the last chunk.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.into(), value.into()));
        self
    }

    /// Bytes sent before the status line, such as a 103 answer.
    pub fn preface(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.preface = bytes.into();
        self
    }

    /// Closes after `n` bytes of the body.
    pub fn cut_after(mut self, n: usize) -> Self {
        self.cut = Some(n);
        self.end = Some(End::Close);
        self
    }

    /// Resets the connection after `n` bytes of the body.
    pub fn reset_after(mut self, n: usize) -> Self {
        self.cut = Some(n);
        self.end = Some(End::Reset);
        self
    }

    /// Ends a TLS connection with a fatal alert after `n` bytes of the body.
    pub fn alert_after(mut self, n: usize) -> Self {
        self.cut = Some(n);
        self.end = Some(End::Alert);
        self
    }

    /// Closes the connection after the answer and says so.
    pub fn close(mut self) -> Self {
        self.announce_close = true;
        self.end = Some(End::Close);
        self
    }

    /// Closes the connection after the answer without a word about it.
    pub fn close_silently(mut self) -> Self {
        self.end = Some(End::Close);
        self
    }

    /// Keeps the connection open even where the answer would end it.
    pub fn keep_alive(mut self) -> Self {
        self.end = Some(End::KeepAlive);
        self
    }

    /// Ends a TLS connection without `close_notify`.
    pub fn no_close_notify(mut self) -> Self {
        self.close_notify = false;
        self
    }

    /// Waits at the gate before the first byte.
    pub fn after(mut self, gate: &Gate) -> Self {
        self.before = Some(gate.clone());
        self
    }

    /// Waits this long before the first byte.
    pub fn after_pause(mut self, pause: Duration) -> Self {
        self.pause_before = pause;
        self
    }

    /// Waits at the gate when `n` bytes of the body are sent.
    pub fn stall_after(mut self, n: usize, gate: &Gate) -> Self {
        self.stall = Some((n, gate.clone()));
        self
    }

    /// Sends the body in pieces with a pause after each.
    pub fn trickle(mut self, piece: usize, pause: Duration) -> Self {
        self.trickle = Some((piece.max(1), pause));
        self
    }

    /// An early answer closes at once and leaves the rest of the request unread, so that the
    /// client sees a reset.
    pub fn leave_unread(mut self) -> Self {
        self.drain = false;
        self
    }

    /// The status; 0 for raw bytes.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The same answer under another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same answer with another value of this header field, where it has the field.
    pub fn map_header(mut self, name: &str, change: impl Fn(&str) -> String) -> Self {
        for (key, value) in &mut self.headers {
            if key.eq_ignore_ascii_case(name.as_bytes()) {
                *value = change(&String::from_utf8_lossy(value)).into_bytes();
            }
        }
        self
    }

    /// An early answer comes when so many bytes of the body of the request were read.
    pub fn after_reading(mut self, n: usize) -> Self {
        self.reads = n;
        self
    }

    /// The bytes of this answer as they go over the wire when nothing goes wrong, and how many of them are the
    /// head. [`Answer::raw`] sends them, or what a test makes of them.
    pub fn wire(&self, request: &Request) -> (Vec<u8>, usize) {
        let bodiless = matches!(self.status, 100..=199 | 204 | 304);
        let mut bytes = head(self, bodiless, false);
        let length = bytes.len();
        if bodiless || request.method == "HEAD" {
            return (bytes, length);
        }
        if matches!(self.framing, Framing::Chunked) {
            for chunk in self.body.chunks(self.chunk_size) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n");
            for (name, value) in &self.trailers {
                bytes.extend(field(name, value));
            }
            bytes.extend(b"\r\n");
        } else {
            bytes.extend(&*self.body);
        }
        (bytes, length)
    }

    fn outcome(&self) -> String {
        match (self.raw, self.end, self.cut) {
            (true, Some(End::Reset), _) => "reset".to_owned(),
            (true, ..) if self.body.is_empty() => "closed".to_owned(),
            (true, ..) => "raw".to_owned(),
            (false, Some(End::Reset), Some(n)) => format!("{} reset after {n}", self.status),
            (false, _, Some(n)) => format!("{} cut after {n}", self.status),
            _ => self.status.to_string(),
        }
    }
}

/// A handler that gives these answers one after the other, and 599 when they are used up.
pub fn script(answers: Vec<Answer>) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let rest = Mutex::new(answers.into_iter());
    move |request| {
        lock(&rest).next().unwrap_or_else(|| {
            Answer::new(599).body(format!("nothing scripted for {}", request.line()))
        })
    }
}

type Handler = Box<dyn Fn(&Request) -> Answer + Send + Sync>;
type Early = Box<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

/// How a server is started, see [`Server::builder`].
pub struct Builder {
    address: String,
    tls: Option<Arc<ServerConfig>>,
    early: Option<Early>,
    keep_log: bool,
    ignore_expect: bool,
}

impl Builder {
    /// The address to listen on instead of `127.0.0.1:0`.
    pub fn address(mut self, address: &str) -> Self {
        self.address = address.to_owned();
        self
    }

    /// TLS with a certificate of `ca` for the loopback names.
    pub fn tls(self, ca: &Ca) -> Self {
        let config = ca.server_config(&ca.server());
        self.tls_config(config)
    }

    /// TLS with this configuration.
    pub fn tls_config(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Asked before the body of a request is read: an answer given here is sent at once and ends
    /// the connection.
    pub fn early(
        mut self,
        early: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.early = Some(Box::new(early));
        self
    }

    /// Keeps no log of the requests, for servers that run long.
    pub fn without_log(mut self) -> Self {
        self.keep_log = false;
        self
    }

    /// Never sends `100 Continue`.
    pub fn ignore_expect(mut self) -> Self {
        self.ignore_expect = true;
        self
    }

    /// Starts the server; fails when the address is taken.
    pub fn try_start(
        self,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Server> {
        let listener = TcpListener::bind(&self.address)?;
        let inner = Arc::new(Inner {
            address: listener.local_addr()?,
            tls: self.tls,
            handler: Box::new(handler),
            early: self.early,
            keep_log: self.keep_log,
            ignore_expect: self.ignore_expect,
            state: Mutex::default(),
            changed: Condvar::new(),
            accepted: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let accept = {
            let inner = inner.clone();
            std::thread::spawn(move || inner.accept(&listener))
        };
        Ok(Server {
            inner,
            accept: Some(accept),
        })
    }

    /// Starts the server.
    pub fn start(self, handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        let address = self.address.clone();
        match self.try_start(handler) {
            Ok(server) => server,
            Err(error) => panic!("cannot listen on {address}: {error}"),
        }
    }
}

/// A running server; dropping it closes its connections.
pub struct Server {
    inner: Arc<Inner>,
    accept: Option<JoinHandle<()>>,
}

struct Inner {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    handler: Handler,
    early: Option<Early>,
    keep_log: bool,
    ignore_expect: bool,
    state: Mutex<State>,
    changed: Condvar,
    accepted: AtomicU64,
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    log: Vec<Entry>,
    next_id: u64,
    streams: HashMap<u64, Arc<TcpStream>>,
    tls_failures: Vec<String>,
}

struct Entry {
    id: u64,
    request: Arc<Request>,
    outcome: String,
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::builder().start(handler)
    }

    /// The same over TLS.
    pub fn start_tls(
        ca: &Ca,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::builder().tls(ca).start(handler)
    }

    /// The same on a given address, such as `[::1]:0`.
    pub fn start_on(
        address: &str,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::builder().address(address).start(handler)
    }

    /// All settings.
    pub fn builder() -> Builder {
        Builder {
            address: "127.0.0.1:0".to_owned(),
            tls: None,
            early: None,
            keep_log: true,
            ignore_expect: false,
        }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        self.inner.address.to_string()
    }

    /// `http://host:port` or `https://host:port` with `path` after it.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.inner.tls.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}{path}", self.inner.address)
    }

    /// The requests so far, in the order of their arrival. A body still on its way is empty.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.inner.state)
            .log
            .iter()
            .map(|entry| Request::clone(&entry.request))
            .collect()
    }

    /// The requests so far as text: `GET /v2/ [Authorization: Bearer T1] -> 401`.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.inner.state)
            .log
            .iter()
            .map(|entry| format!("{} -> {}", entry.request.line(), entry.outcome))
            .collect()
    }

    /// Takes and empties [`Server::lines`].
    pub fn take_lines(&self) -> Vec<String> {
        let lines = self.lines();
        self.clear();
        lines
    }

    /// Forgets the requests so far.
    pub fn clear(&self) {
        lock(&self.inner.state).log.clear();
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        lock(&self.inner.state).log.len()
    }

    /// Waits for `n` requests; false when that takes longer than [`PATIENCE`].
    pub fn wait_requests(&self, n: usize) -> bool {
        wait_until(&self.inner.state, &self.inner.changed, |state| {
            state.log.len() >= n
        })
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.inner.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        lock(&self.inner.state).streams.len()
    }

    /// Waits until at most `n` connections are open; false when that takes longer than
    /// [`PATIENCE`].
    pub fn wait_open_at_most(&self, n: usize) -> bool {
        wait_until(&self.inner.state, &self.inner.changed, |state| {
            state.streams.len() <= n
        })
    }

    /// Closes every open connection, as an idle timeout would.
    pub fn close_connections(&self) {
        self.inner.close_connections();
        self.wait_open_at_most(0);
    }

    /// The TLS handshakes that failed, also those tried on a plain port.
    pub fn tls_failures(&self) -> Vec<String> {
        lock(&self.inner.state).tls_failures.clone()
    }

    /// Waits for `n` failed TLS handshakes.
    pub fn wait_tls_failures(&self, n: usize) -> bool {
        wait_until(&self.inner.state, &self.inner.changed, |state| {
            state.tls_failures.len() >= n
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        wake_accept(self.inner.address);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        self.inner.close_connections();
    }
}

/// Ends a blocking `accept` on this address.
pub(super) fn wake_accept(mut address: SocketAddr) {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
}

/// Closes a connection also when its handler panicked, so that the client does not wait for it.
struct Forget<'a>(&'a Inner, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).streams.remove(&self.1);
        self.0.changed.notify_all();
    }
}

impl Inner {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok((stream, _)) = accepted else { continue };
            let serial = self.accepted.fetch_add(1, Ordering::SeqCst) + 1;
            let stream = Arc::new(stream);
            lock(&self.state).streams.insert(serial, stream.clone());
            let inner = self.clone();
            std::thread::spawn(move || {
                let _forget = Forget(&inner, serial);
                // An error here is a client that went away or broke the protocol.
                let _ = inner.serve(stream, serial);
            });
        }
    }

    fn close_connections(&self) {
        for stream in lock(&self.state).streams.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn serve(self: &Arc<Self>, stream: Arc<TcpStream>, serial: u64) -> io::Result<()> {
        let mut conn = match Conn::open(stream, self.tls.clone(), serial, self.clone()) {
            Ok(conn) => conn,
            Err(error) => {
                lock(&self.state).tls_failures.push(error.to_string());
                self.changed.notify_all();
                return Err(error);
            }
        };
        let mut number = 0;
        while let Some(mut request) = conn.read_head()? {
            number += 1;
            request.number_on_connection = number;
            let end = self.exchange(&mut conn, request)?;
            if end != End::KeepAlive {
                break;
            }
        }
        Ok(())
    }

    /// Reads one request, answers it, and tells what becomes of the connection.
    fn exchange(self: &Arc<Self>, conn: &mut Conn, mut request: Request) -> io::Result<End> {
        let entry = self.arrived(&request);
        if let Some(answer) = self.early.as_ref().and_then(|early| early(&request)) {
            self.answered(entry, answer.outcome());
            conn.take(answer.reads, &mut Vec::new())?;
            let end = conn.send(&request, &answer, true)?;
            conn.finish(end, &answer);
            return Ok(End::Close);
        }
        let expects = request
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects && !self.ignore_expect {
            conn.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            conn.flush()?;
        }
        if let Err(error) = conn.read_body(&mut request) {
            self.answered(entry, "request cut".to_owned());
            return Err(error);
        }
        let request = Arc::new(request);
        self.complete(entry, &request);
        let answer = (self.handler)(&request);
        self.answered(entry, answer.outcome());
        let end = conn.send(&request, &answer, false)?;
        if end != End::KeepAlive {
            conn.finish(end, &answer);
        }
        Ok(end)
    }

    fn arrived(&self, request: &Request) -> u64 {
        let mut state = lock(&self.state);
        state.next_id += 1;
        let id = state.next_id;
        if self.keep_log {
            state.log.push(Entry {
                id,
                request: Arc::new(request.clone()),
                outcome: "open".to_owned(),
            });
            self.changed.notify_all();
        }
        id
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Entry)) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.log.iter_mut().rev().find(|entry| entry.id == id) {
            change(entry);
        }
    }

    fn complete(&self, id: u64, request: &Arc<Request>) {
        self.change(id, |entry| entry.request = request.clone());
    }

    fn answered(&self, id: u64, outcome: String) {
        self.change(id, |entry| entry.outcome = outcome);
    }
}

pub(super) struct Tcp(pub(super) Arc<TcpStream>);

impl Read for Tcp {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buf)
    }
}

impl Write for Tcp {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Wire {
    Plain(Tcp),
    Tls(Box<StreamOwned<ServerConnection, Tcp>>),
}

/// One accepted connection with its buffers.
struct Conn {
    wire: Wire,
    stream: Arc<TcpStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    template: Request,
    inner: Arc<Inner>,
}

impl Conn {
    fn open(
        stream: Arc<TcpStream>,
        tls: Option<Arc<ServerConfig>>,
        serial: u64,
        inner: Arc<Inner>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let mut template = Request {
            connection: serial,
            tls: tls.is_some(),
            ..Request::default()
        };
        let wire = match tls {
            None => Wire::Plain(Tcp(stream.clone())),
            Some(config) => {
                let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
                let mut tcp = Tcp(stream.clone());
                while session.is_handshaking() {
                    session.complete_io(&mut tcp)?;
                }
                template.sni = session.server_name().map(str::to_owned);
                template.client_certificate = session
                    .peer_certificates()
                    .and_then(|chain| chain.first())
                    .map(|certificate| certificate.to_vec());
                Wire::Tls(Box::new(StreamOwned::new(session, tcp)))
            }
        };
        Ok(Self {
            wire,
            stream,
            input: Vec::new(),
            output: Vec::new(),
            template,
            inner,
        })
    }

    /// Whether the server stops or the client closed its side.
    fn gone(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        if self.inner.stopped.load(Ordering::SeqCst) {
            return true;
        }
        #[cfg(target_os = "linux")]
        let flags = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        #[cfg(not(target_os = "linux"))]
        let flags = PollFlags::HUP | PollFlags::ERR;
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&*self.stream, flags)];
        matches!(poll(&mut fds, Some(&now)), Ok(n) if n > 0)
    }

    /// Reads more input; false at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 64 << 10];
        let n = match &mut self.wire {
            Wire::Plain(tcp) => tcp.read(&mut chunk)?,
            Wire::Tls(tls) => tls.read(&mut chunk)?,
        };
        self.input.extend_from_slice(&chunk[..n]);
        Ok(n > 0)
    }

    fn need(&mut self) -> io::Result<()> {
        if self.fill()? {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn read_head(&mut self) -> io::Result<Option<Request>> {
        let mut seen = 0;
        let end = loop {
            if let Some(at) = find(&self.input[seen..], b"\r\n\r\n") {
                break seen + at + 4;
            }
            seen = self.input.len().saturating_sub(3);
            if self
                .input
                .first()
                .is_some_and(|byte| !byte.is_ascii_graphic())
            {
                self.refuse_noise()?;
                return Ok(None);
            }
            if self.input.len() > HEAD_LIMIT {
                return Err(io::Error::other("request head too long"));
            }
            if !self.fill()? {
                return Ok(None);
            }
        };
        let head: Vec<u8> = self.input.drain(..end).collect();
        Ok(Some(parse_head(&head[..end - 4], self.template.clone())?))
    }

    /// Answers a client that does not speak HTTP, such as one that tries TLS on a plain port.
    fn refuse_noise(&mut self) -> io::Result<()> {
        let failure = "the client does not speak HTTP".to_owned();
        lock(&self.inner.state).tls_failures.push(failure);
        self.inner.changed.notify_all();
        self.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
        self.flush()
    }

    fn read_body(&mut self, request: &mut Request) -> io::Result<()> {
        let chunked = request
            .header("transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"));
        if chunked {
            return self.read_chunks(&mut request.body);
        }
        let length = match request.header("content-length") {
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| io::Error::other("bad Content-Length"))?,
            None => 0,
        };
        self.take(length, &mut request.body)
    }

    fn take(&mut self, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.input.is_empty() {
                self.need()?;
            }
            let n = left.min(self.input.len());
            out.extend_from_slice(&self.input[..n]);
            self.input.drain(..n);
            left -= n;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.input, b"\r\n") {
                let line = self.input.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).map_err(io::Error::other);
            }
            if self.input.len() > HEAD_LIMIT {
                return Err(io::Error::other("line too long"));
            }
            self.need()?;
        }
    }

    fn read_chunks(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| io::Error::other(format!("bad chunk size {line:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            self.take(size, out)?;
            if !self.line()?.is_empty() {
                return Err(io::Error::other("no line end after a chunk"));
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.output.len() + bytes.len() <= 64 << 10 {
            self.output.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        match &mut self.wire {
            Wire::Plain(tcp) => tcp.write_all(bytes),
            Wire::Tls(tls) => tls.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.output);
        match &mut self.wire {
            Wire::Plain(tcp) => tcp.write_all(&bytes),
            Wire::Tls(tls) => {
                tls.write_all(&bytes)?;
                tls.flush()
            }
        }
    }

    /// Waits in small steps, so that the end of the server or the client ends the wait.
    fn pause(&mut self, pause: Duration) -> io::Result<()> {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if self.gone() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
    }

    fn send(&mut self, request: &Request, answer: &Answer, early: bool) -> io::Result<End> {
        if let Some(gate) = &answer.before {
            gate.pass(self)?;
        }
        self.pause(answer.pause_before)?;
        if answer.raw {
            self.write(&answer.preface)?;
            self.send_body(answer, false)?;
            self.flush()?;
            return Ok(answer.end.unwrap_or(End::Close));
        }
        let asked_to_close = request.version == "HTTP/1.0"
            || request
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let ends_by_framing = match &answer.framing {
            Framing::UntilClose => true,
            Framing::Claimed(text) => {
                *text != answer.body.len().to_string() && request.method != "HEAD"
            }
            Framing::Length | Framing::Chunked => false,
        };
        let end = answer
            .end
            .unwrap_or(if asked_to_close || ends_by_framing || early {
                End::Close
            } else {
                End::KeepAlive
            });
        let announce = answer.announce_close
            || asked_to_close
            || early
            || matches!(answer.framing, Framing::UntilClose);
        let bodiless = matches!(answer.status, 100..=199 | 204 | 304);
        self.write(&answer.preface)?;
        self.write(&head(answer, bodiless, announce && end == End::Close))?;
        if !bodiless && request.method != "HEAD" {
            let chunked = matches!(answer.framing, Framing::Chunked);
            self.send_body(answer, chunked)?;
        }
        self.flush()?;
        Ok(end)
    }

    fn send_body(&mut self, answer: &Answer, chunked: bool) -> io::Result<()> {
        let body = answer.body.as_slice();
        let size = answer.chunk_size;
        let end = answer.cut.map_or(body.len(), |cut| cut.min(body.len()));
        let mut stall = answer.stall.as_ref();
        let mut at = 0;
        loop {
            if let Some((n, gate)) = stall {
                if at >= *n || at == end {
                    self.flush()?;
                    gate.pass(self)?;
                    stall = None;
                }
            }
            if at == end {
                break;
            }
            let mut next = end;
            if let Some((n, _)) = stall {
                next = next.min(*n);
            }
            if let Some((piece, _)) = answer.trickle {
                next = next.min((at / piece + 1) * piece);
            }
            if chunked {
                next = next.min((at / size + 1) * size);
                if at % size == 0 {
                    let header = format!("{:x}\r\n", size.min(body.len() - at));
                    self.write(header.as_bytes())?;
                }
            }
            self.write(&body[at..next])?;
            if chunked && (next % size == 0 || next == body.len()) {
                self.write(b"\r\n")?;
            }
            at = next;
            if let Some((_, pause)) = answer.trickle {
                self.flush()?;
                self.pause(pause)?;
            }
        }
        if chunked && answer.cut.is_none() {
            self.write(b"0\r\n")?;
            for (name, value) in &answer.trailers {
                self.write(&field(name, value))?;
            }
            self.write(b"\r\n")?;
        }
        Ok(())
    }

    /// Closes or resets the connection.
    fn finish(&mut self, end: End, answer: &Answer) {
        if end == End::Reset {
            let _ = rustix::net::sockopt::set_socket_linger(&*self.stream, Some(Duration::ZERO));
            return;
        }
        if let Wire::Tls(tls) = &mut self.wire {
            if end == End::Alert {
                // What the server cannot decrypt makes it send bad_record_mac.
                let noise = [&[23, 3, 3, 0, 32][..], &[0; 32]].concat();
                let _ = tls.conn.read_tls(&mut noise.as_slice());
                let _ = tls.conn.process_new_packets();
                while tls.conn.wants_write() {
                    if tls.conn.write_tls(&mut tls.sock).is_err() {
                        break;
                    }
                }
            } else if answer.close_notify {
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
        if answer.drain {
            // Unread input would turn the close into a reset that can overtake the answer.
            let _ = self.stream.shutdown(Shutdown::Write);
            let _ = self.stream.set_read_timeout(Some(LINGER));
            let end = Instant::now() + LINGER;
            let mut sink = [0; 64 << 10];
            while Instant::now() < end {
                match (&*self.stream).read(&mut sink) {
                    Ok(n) if n > 0 => {}
                    _ => break,
                }
            }
        }
    }
}

fn head(answer: &Answer, bodiless: bool, announce_close: bool) -> Vec<u8> {
    let reason = answer
        .reason
        .clone()
        .unwrap_or_else(|| reason(answer.status).to_owned());
    let mut head = format!("{} {} {reason}\r\n", answer.version, answer.status).into_bytes();
    for (name, value) in &answer.headers {
        head.extend(field(name, value));
    }
    match &answer.framing {
        Framing::Claimed(text) => head.extend(field(b"Content-Length", text.as_bytes())),
        Framing::Length if !bodiless => {
            head.extend(field(
                b"Content-Length",
                answer.body.len().to_string().as_bytes(),
            ));
        }
        Framing::Chunked => head.extend(field(b"Transfer-Encoding", b"chunked")),
        Framing::Length | Framing::UntilClose => {}
    }
    if announce_close {
        head.extend(field(b"Connection", b"close"));
    }
    head.extend(b"\r\n");
    head
}

fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [name, b": ", value, b"\r\n"].concat()
}

/// Reads a request line and header fields.
pub(super) fn parse_head(head: &[u8], mut request: Request) -> io::Result<Request> {
    let mut lines = head
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(io::Error::other(format!("bad request line {first:?}")));
    };
    request.method = method.to_owned();
    request.target = target.to_owned();
    request.version = version.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    request.path = path.to_owned();
    request.query = query.to_owned();
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Err(io::Error::other("header field without a colon"));
        };
        request.headers.push((
            String::from_utf8_lossy(&line[..colon]).into_owned(),
            line[colon + 1..].trim_ascii().to_vec(),
        ));
    }
    Ok(request)
}

pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Locks, whatever became of other holders.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub(super) fn wait_until<T>(
    mutex: &Mutex<T>,
    changed: &Condvar,
    done: impl Fn(&T) -> bool,
) -> bool {
    let end = Instant::now() + PATIENCE;
    let mut state = lock(mutex);
    loop {
        if done(&state) {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        state = match changed.wait_timeout(state, left) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
