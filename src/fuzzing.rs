//! A door for the fuzz targets in `fuzz/`: private parsers over plain types, and a network made of byte streams.
//! It is there with `--cfg fuzzing` only, where no connection leaves the process and no pause is waited for.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::challenge::{self, Verdict};
use crate::diagnostics::{self, Said};
use crate::error::{Diagnostic, Error, Result};
use crate::hosts::Plan;
use crate::link::{self, Found};
use crate::net::call::SLICE;
use crate::net::proxy;
use crate::options::Options;
use crate::policy::{Policy, Purpose};
use crate::secret::Secrets;
use crate::token::Token;
use crate::url::Url;
use crate::{json, media_type, name, range, retry_after};

/// A challenge of `WWW-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case.
    pub scheme: String,
    /// Names in lower case, values unescaped.
    pub params: Vec<(String, String)>,
    /// What stands in place of parameters.
    pub token68: Option<String>,
}

/// The challenges that can be read, and the schemes of all.
pub fn challenges(fields: &[&[u8]]) -> (Vec<Challenge>, Vec<String>) {
    let found = challenge::parse(fields.iter().copied());
    let list = found.list.into_iter().map(|c| Challenge {
        scheme: c.scheme,
        params: c.params,
        token68: c.token68,
    });
    (list.collect(), found.schemes)
}

/// What a 401 with these fields is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A token from this realm, for this service and these scopes.
    Bearer(String, Option<String>, Vec<String>),
    /// User name and password.
    Basic,
    /// Nothing.
    Nothing,
}

/// Reads the fields of a 401 and chooses what to answer.
pub fn judge(fields: &[&[u8]]) -> Answer {
    match challenge::judge(fields.iter().copied()) {
        Verdict::Bearer(b) => Answer::Bearer(b.realm, b.service, b.scope),
        Verdict::Basic => Answer::Basic,
        Verdict::None { .. } => Answer::Nothing,
    }
}

/// The target of the first `Link` of a page with the relation `next`.
///
/// # Errors
/// Those of the parser.
pub fn next_link(fields: &[&[u8]]) -> Result<Option<String>> {
    let page = Url::parse("https://r.example/v2/_catalog?n=2").expect("a URL");
    Ok(match link::next(&page, fields.iter().copied())? {
        Found::At(target) => Some(target),
        Found::End | Found::Odd => None,
    })
}

/// The answer of a token service: the token, for how long it is used, and the refresh token.
///
/// # Errors
/// Why it is no answer.
pub fn token(body: &[u8]) -> Result<(String, Duration, Option<String>), &'static str> {
    let now = Instant::now();
    let token = Token::parse(body, now, now)?;
    Ok((
        token.value.expose().to_owned(),
        token.used_for(now),
        token.refresh.map(|t| t.expose().to_owned()),
    ))
}

/// The diagnostics of an error body, which may be cut, and their summary.
pub fn diagnostics(
    body: &[u8],
    is_cut: bool,
    content_type: Option<&str>,
) -> (Vec<Diagnostic>, String) {
    let found = diagnostics::parse(Said {
        text: &json::text(body),
        is_cut,
        content_type,
        secrets: &Secrets::default(),
    });
    let summary = diagnostics::summary(&found);
    (found, summary)
}

/// The registry and the repository that a transport is made for.
///
/// # Errors
/// Those of the parser.
pub fn transport_name(text: &str) -> Result<(String, Option<String>)> {
    let (authority, repository) = name::transport_name(text)?;
    Ok((
        authority.to_string(),
        repository.map(|r| r.as_str().to_owned()),
    ))
}

/// What is made of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// As it is sent.
    pub wire: String,
    /// As it is shown.
    pub shown: String,
    /// Scheme, host and port.
    pub origin: String,
    /// The host, IPv6 in brackets.
    pub host: String,
    /// Whether it is TLS.
    pub is_https: bool,
}

fn parsed(url: &Url) -> Parsed {
    Parsed {
        wire: url.wire().to_string(),
        shown: url.to_string(),
        origin: url.origin().to_string(),
        host: url.origin().host().to_owned(),
        is_https: url.origin().is_https(),
    }
}

/// Parses a URL and resolves a reference against it.
///
/// # Errors
/// The outer is that of the URL, the inner that of the reference.
pub fn url(base: &str, reference: &str) -> Result<(Parsed, Result<Parsed>)> {
    let base = Url::parse(base)?;
    let target = base.resolve(reference);
    Ok((parsed(&base), target.map(|url| parsed(&url))))
}

/// Whether a registry at `home` may lead from `from` to `to` as a redirect, a link or a token service.
///
/// # Errors
/// Those of the parser.
pub fn may_lead(home: &str, from: &str, to: &str) -> Result<[bool; 3]> {
    let policy = Policy::new(Url::parse(home)?.origin().clone(), &Options::new());
    let (from, to) = (Url::parse(from)?, Url::parse(to)?);
    Ok([Purpose::Redirect, Purpose::Link, Purpose::Realm]
        .map(|purpose| policy.judge(&from, &to, purpose).is_ok()))
}

/// First and last byte and total of a `Content-Range`.
///
/// # Errors
/// Those of the parser.
pub fn content_range(fields: &[&[u8]]) -> Result<(u64, u64, Option<u64>)> {
    range::content_range(fields.iter().copied()).map(|r| (r.first, r.last, r.total))
}

/// Where an upload goes on.
///
/// # Errors
/// Those of the parser.
pub fn upload_range(field: &str) -> Result<Option<u64>> {
    range::upload_range(Some(field))
}

/// The pause that `Retry-After` asks for.
pub fn retry_after(field: &str, now: SystemTime) -> Option<Duration> {
    retry_after::parse(field, now)
}

/// A media type without parameters, and whether that is the same.
pub fn essence(text: &str) -> (String, bool) {
    let essence = media_type::essence(text);
    let same = media_type::same(text, &essence);
    (essence, same)
}

/// Whether a list of hosts without proxy covers a host, and whether a proxy's URL is one.
pub fn proxy(list: &str, host: &str, port: u16, url: &str) -> (Option<bool>, bool) {
    let covers = proxy::NoProxy::parse(list)
        .ok()
        .map(|list| list.covers(host, port));
    (covers, proxy::check(url).is_ok())
}

/// A host that the machine's configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedHost {
    /// Root of the API.
    pub root: String,
    /// The same over plain http.
    pub plain_root: Option<String>,
    /// Whose credentials it gets.
    pub authority: String,
    /// What the repository is called there.
    pub repository: Option<String>,
    /// Any certificate will do.
    pub insecure: bool,
    /// Sent to this host only.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What says so.
    pub source: String,
}

/// The hosts that a registry is asked at, and which of them is its home.
///
/// # Errors
/// Those of the name and of the files.
pub fn plan(name: &str, options: &Options) -> Result<(Vec<PlannedHost>, usize)> {
    let (authority, repository) = name::transport_name(name)?;
    let plan = Plan::of(&authority, repository.as_ref(), options)?;
    let hosts = plan.hosts.into_iter().map(|host| PlannedHost {
        root: host.root.wire().to_string(),
        plain_root: host.plain_root.map(|url| url.wire().to_string()),
        authority: host.authority.to_string(),
        repository: host.repository.map(|r| r.to_string()),
        insecure: host.trust.insecure,
        headers: host
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect(),
        source: host.source,
    });
    Ok((hosts.collect(), plan.home))
}

/// A connection that the library made.
#[derive(Debug)]
pub struct Connection {
    /// The host it meant.
    pub host: String,
    /// Where that is.
    pub address: SocketAddr,
    /// It was to be secured. The stream is what is read and written under TLS.
    pub is_secure: bool,
    /// What the library sent.
    pub sent: Vec<u8>,
}

type Answers = dyn FnMut(&str, u16) -> Option<Vec<u8>> + Send;

struct World {
    answers: Box<Answers>,
    made: Vec<(Connection, UnixStream)>,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

fn world() -> MutexGuard<'static, Option<World>> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The network of the process. What connections are answered with is known before they are made: each gets one
/// stream of bytes and then its end.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// `answers` is asked for the stream of each connection, by host and port; `None` refuses it.
    pub fn new(answers: impl FnMut(&str, u16) -> Option<Vec<u8>> + Send + 'static) -> Self {
        *world() = Some(World {
            answers: Box::new(answers),
            made: Vec::new(),
        });
        Self(())
    }

    /// The connections so far.
    pub fn connections(self) -> Vec<Connection> {
        let made = world().take().map(|w| w.made).unwrap_or_default();
        made.into_iter()
            .map(|(mut connection, mut peer)| {
                // Nobody writes any more, but the other end may still be open.
                let _ = peer.set_nonblocking(true);
                let _ = peer.read_to_end(&mut connection.sent);
                connection
            })
            .collect()
    }
}

/// Names that resolve to something else than a public address.
fn names() -> HashMap<&'static str, IpAddr> {
    HashMap::from([
        ("localhost", IpAddr::from([127, 0, 0, 1])),
        ("private.example", IpAddr::from([10, 0, 0, 1])),
        ("metadata.example", IpAddr::from([169, 254, 169, 254])),
    ])
}

/// In place of the system's resolver: always an answer.
pub(crate) fn resolve(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let public = IpAddr::from(Ipv4Addr::new(8, 8, 8, 8));
    let address = names().get(host).copied().unwrap_or(public);
    Some(vec![SocketAddr::new(address, port)])
}

/// In place of connecting to the first address that is allowed: always an answer.
pub(crate) fn connect(host: &str, address: SocketAddr) -> Option<Result<TcpStream>> {
    Some(made(host, address))
}

fn made(host: &str, address: SocketAddr) -> Result<TcpStream> {
    let refused = || Error::network(format!("cannot connect to {host}: refused"));
    let mut world = world();
    let world = world.as_mut().ok_or_else(refused)?;
    let stream = (world.answers)(host, address.port()).ok_or_else(refused)?;
    let broken = |e: io::Error| Error::network(format!("cannot connect to {host}: {e}"));
    let (ours, mut theirs) = UnixStream::pair().map_err(broken)?;
    theirs.set_nonblocking(true).map_err(broken)?;
    // What does not fit into the buffer is cut off.
    let _ = theirs.write_all(&stream);
    theirs.shutdown(Shutdown::Write).map_err(broken)?;
    ours.set_read_timeout(Some(SLICE)).map_err(broken)?;
    ours.set_write_timeout(Some(SLICE)).map_err(broken)?;
    let connection = Connection {
        host: host.to_owned(),
        address,
        is_secure: false,
        sent: Vec::new(),
    };
    world.made.push((connection, theirs));
    Ok(TcpStream::from(OwnedFd::from(ours)))
}

/// In place of a TLS handshake: notes that the last connection to `host` is to be secured. Always `true`.
pub(crate) fn secure(host: &str) -> bool {
    if let Some(world) = world().as_mut() {
        let last = world.made.iter_mut().rev().find(|(c, _)| c.host == host);
        if let Some((connection, _)) = last {
            connection.is_secure = true;
        }
    }
    true
}
