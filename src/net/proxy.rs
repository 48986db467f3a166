//! Forward proxies: which one a host is reached through, and how a tunnel is opened.

use std::fmt;
use std::io;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::tcp::Tcp;
use crate::error::{Error, Result};
use crate::options::{Options, Switch, Text};
use crate::secret::Secret;

/// Longest answer to CONNECT.
const MAX_ANSWER: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Https,
    Socks5,
}

/// A forward proxy.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) protocol: Protocol,
    /// IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: Option<(String, Secret)>,
}

impl Proxy {
    /// Parses `[scheme://][user:password@]host[:port][/]`. Without a scheme it is an HTTP proxy.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |what: &str| {
            Error::argument(format!(
                "the proxy URL {what}; it looks like http://host:port"
            ))
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let (protocol, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Protocol::Http, 80),
            "https" => (Protocol::Https, 443),
            "socks5" | "socks5h" | "socks" => (Protocol::Socks5, 1080),
            _ => return Err(bad("has a scheme other than http, https, socks5")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let user = match user.map(|u| u.split_once(':').unwrap_or((u, ""))) {
            None => None,
            Some((name, password)) => {
                let decode = |t: &str| {
                    percent_decode(t).ok_or_else(|| bad("has a malformed user or password"))
                };
                Some((decode(name)?, Secret::new(decode(password)?)))
            }
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (
                host,
                port.parse::<u16>()
                    .ok()
                    .filter(|p| *p > 0)
                    .ok_or_else(|| bad("has a bad port"))?,
            ),
            _ => (authority, default_port),
        };
        let good = !host.is_empty()
            && host.bytes().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']')
            });
        if !good {
            return Err(bad("has no valid host"));
        }
        Ok(Self {
            protocol,
            host: host.to_owned(),
            port,
            user,
        })
    }

    /// Opens a tunnel to `host:port` through an HTTP proxy (RFC 9110 section 9.3.6).
    pub(crate) fn connect(
        &self,
        wire: &mut dyn super::tls::Wire,
        host: &str,
        port: u16,
        agent: &str,
    ) -> Result<()> {
        let mut head = zeroize::Zeroizing::new(format!(
            "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: {agent}\r\n"
        ));
        if let Some((user, password)) = &self.user {
            let pair = zeroize::Zeroizing::new(format!("{user}:{}", password.expose()));
            let coded = zeroize::Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
            head.push_str("Proxy-Authorization: Basic ");
            head.push_str(&coded);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        wire.write_all(head.as_bytes())
            .map_err(|e| self.broken(&e))?;
        let status = self.read_answer(wire)?;
        match status {
            200..=299 => Ok(()),
            407 if self.user.is_none() => Err(Error::network(format!(
                "proxy {self} asks for credentials (407): put user:password@ into the proxy URL"
            ))
            .with_http_status(status)),
            407 => Err(Error::network(format!(
                "proxy {self} refused the user or password of the proxy URL (407)"
            ))
            .with_http_status(status)),
            _ => Err(Error::network(format!(
                "proxy {self} answered {status} to CONNECT {host}:{port}"
            ))
            .with_http_status(status)),
        }
    }

    fn read_answer(&self, wire: &mut dyn super::tls::Wire) -> Result<u16> {
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
            let n = wire.read(&mut piece).map_err(|e| self.broken(&e))?;
            if n == 0 || answer.len() + n > MAX_ANSWER {
                return Err(Error::network(format!(
                    "proxy {self} gave no proper answer to CONNECT"
                )));
            }
            answer.extend_from_slice(piece.get(..n).unwrap_or_default());
        }
        let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
        let status = std::str::from_utf8(line)
            .ok()
            .filter(|l| l.starts_with("HTTP/1."))
            .and_then(|l| l.split(' ').nth(1))
            .and_then(|code| code.parse::<u16>().ok())
            .ok_or_else(|| Error::network(format!("proxy {self} does not speak HTTP/1.1")))?;
        if (200..=299).contains(&status) && !answer.ends_with(b"\r\n\r\n") {
            // Nothing was asked of the host behind the tunnel, so nothing can have come from there. A refusal
            // may go on with a page that explains it.
            return Err(Error::protocol(format!(
                "proxy {self} sent more than its answer to CONNECT"
            )));
        }
        Ok(status)
    }

    /// Asks a SOCKS5 proxy for a connection (RFC 1928, RFC 1929). The proxy resolves names.
    pub(crate) fn socks(&self, tcp: &mut Tcp, host: &str, port: u16) -> Result<()> {
        let failed = |what: &str| Error::network(format!("SOCKS proxy {self} {what}"));
        let methods: &[u8] = if self.user.is_some() {
            &[5, 2, 0, 2]
        } else {
            &[5, 1, 0]
        };
        tcp.write_all(methods).map_err(|e| self.broken(&e))?;
        match (self.take::<2>(tcp)?, &self.user) {
            ([5, 0], _) => {}
            ([5, 2], Some((user, password))) => {
                let field = |text: &str| {
                    u8::try_from(text.len())
                        .ok()
                        .filter(|n| *n > 0)
                        .ok_or_else(|| failed("takes users and passwords of 1 to 255 bytes"))
                };
                let mut ask = zeroize::Zeroizing::new(vec![1, field(user)?]);
                ask.extend_from_slice(user.as_bytes());
                ask.push(field(password.expose())?);
                ask.extend_from_slice(password.expose().as_bytes());
                tcp.write_all(&ask).map_err(|e| self.broken(&e))?;
                if self.take::<2>(tcp)? != [1, 0] {
                    return Err(failed("refused the user or password of the proxy URL"));
                }
            }
            ([5, 0xff], _) => {
                return Err(failed(
                    "asks for credentials: put user:password@ into the proxy URL",
                ));
            }
            _ => return Err(failed("does not speak SOCKS5")),
        }
        let mut ask = vec![5, 1, 0];
        match host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
        {
            Ok(IpAddr::V4(v4)) => {
                ask.push(1);
                ask.extend(v4.octets());
            }
            Ok(IpAddr::V6(v6)) => {
                ask.push(4);
                ask.extend(v6.octets());
            }
            Err(_) => {
                ask.push(3);
                ask.push(
                    u8::try_from(host.len())
                        .map_err(|_| failed("takes host names of up to 255 bytes"))?,
                );
                ask.extend_from_slice(host.as_bytes());
            }
        }
        ask.extend(port.to_be_bytes());
        tcp.write_all(&ask).map_err(|e| self.broken(&e))?;
        let [version, reply, _, kind] = self.take::<4>(tcp)?;
        if version != 5 || reply != 0 {
            return Err(failed(&format!(
                "could not connect to {host}:{port} (reply {reply})"
            )));
        }
        let rest = match kind {
            1 => 4,
            4 => 16,
            3 => usize::from(self.take::<1>(tcp)?[0]),
            _ => return Err(failed("sent a malformed reply")),
        };
        for _ in 0..rest + 2 {
            self.take::<1>(tcp)?;
        }
        Ok(())
    }

    fn take<const N: usize>(&self, tcp: &mut Tcp) -> Result<[u8; N]> {
        let mut out = [0; N];
        let mut filled = 0;
        while let Some(room) = out.get_mut(filled..).filter(|r| !r.is_empty()) {
            match tcp.read(room).map_err(|e| self.broken(&e))? {
                0 => {
                    return Err(Error::network(format!(
                        "proxy {self} closed the connection"
                    )));
                }
                n => filled += n,
            }
        }
        Ok(out)
    }

    fn broken(&self, e: &io::Error) -> Error {
        match e.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
            Some(ours) => ours.clone(),
            None => Error::network(format!("the connection to proxy {self} broke: {e}"))
                .with_os_code(e.raw_os_error()),
        }
    }
}

impl Proxy {
    /// Its URL, without user and password.
    pub(crate) fn shown(&self) -> String {
        let scheme = match self.protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Socks5 => "socks5",
        };
        format!("{scheme}://{self}")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the option `proxy` takes.
pub(crate) fn check(value: &str) -> Result<()> {
    if value.is_empty() {
        Ok(())
    } else {
        Proxy::parse(value).map(|_| ())
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Hosts that are reached without the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NoProxy {
    all: bool,
    entries: Vec<(NoProxyHost, Option<u16>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NoProxyHost {
    /// The name and all below it.
    Domain(String),
    /// A network; a single address has all bits.
    Network(IpAddr, u8),
}

impl NoProxy {
    /// Parses a list separated by commas or spaces.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut out = Self::default();
        for item in text
            .split([',', ' '])
            .map(str::trim)
            .filter(|i| !i.is_empty())
        {
            if item == "*" {
                out.all = true;
                continue;
            }
            let item = item
                .trim_start_matches("*.")
                .trim_start_matches('.')
                .to_ascii_lowercase();
            let entry = parse_no_proxy(&item).ok_or_else(|| {
                Error::argument(
                    "option no-proxy takes names, addresses, CIDR ranges, host:port or *",
                )
            })?;
            out.entries.push(entry);
        }
        Ok(out)
    }

    /// Parses what a variable says: one odd entry in the environment must not stop every program on the
    /// machine.
    fn of_variable(text: &str) -> Self {
        let mut all = Self::default();
        for one in text
            .split([',', ' '])
            .filter_map(|item| Self::parse(item).ok())
        {
            all.all |= one.all;
            all.entries.extend(one.entries);
        }
        all
    }

    pub(crate) fn covers(&self, host: &str, port: u16) -> bool {
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let address = bare.parse::<IpAddr>().ok();
        self.all
            || self.entries.iter().any(|(entry, only)| {
                only.is_none_or(|p| p == port)
                    && match (entry, address) {
                        (NoProxyHost::Domain(name), None) => {
                            bare == *name
                                || bare
                                    .strip_suffix(name.as_str())
                                    .is_some_and(|sub| sub.ends_with('.'))
                        }
                        (NoProxyHost::Network(network, bits), Some(address)) => {
                            in_network(address, *network, *bits)
                        }
                        _ => false,
                    }
            })
    }
}

fn parse_no_proxy(item: &str) -> Option<(NoProxyHost, Option<u16>)> {
    if let Some((network, bits)) = item.split_once('/') {
        let network: IpAddr = network
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        return Some((
            NoProxyHost::Network(network, bits.parse().ok().filter(|b| *b <= most)?),
            None,
        ));
    }
    let single = |a: IpAddr| NoProxyHost::Network(a, if a.is_ipv4() { 32 } else { 128 });
    if let Ok(address) = item
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
    {
        return Some((single(address), None));
    }
    let (host, port) = match item.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (item, None),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some((single(address), port));
    }
    let good = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    good.then(|| {
        (
            NoProxyHost::Domain(host.trim_end_matches('.').to_owned()),
            port,
        )
    })
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (a, n, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(u32::from(a)), u128::from(u32::from(n)), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (u128::from(a), u128::from(n), 128),
        _ => return false,
    };
    let ignored = width - u32::from(bits).min(width);
    ignored >= 128 || (a >> ignored) == (n >> ignored)
}

/// Which proxy each request goes through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    none_for: NoProxy,
    /// Where each of them was set.
    http_from: &'static str,
    https_from: &'static str,
    none_from: &'static str,
}

impl Proxies {
    /// What decides about the proxy for a host, for people.
    pub(crate) fn reason(&self, https: bool, host: &str, port: u16) -> String {
        let (proxy, from) = if https {
            (&self.https, self.https_from)
        } else {
            (&self.http, self.http_from)
        };
        match proxy {
            Some(_) if self.none_for.covers(host, port) => {
                format!("{} names the host", self.none_from)
            }
            None if from.is_empty() => "no option or variable names one".to_owned(),
            _ => from.to_owned(),
        }
    }

    /// From the options, else from the environment: in small letters first.
    pub(crate) fn of(options: &Options) -> Result<Self> {
        let read_env = options.is_on(Switch::Environment);
        let env = |names: [&'static str; 2]| {
            let read = |name: &'static str| {
                let value = std::env::var(name).ok().filter(|v| !v.trim().is_empty());
                value.map(|v| (name, v))
            };
            names.into_iter().filter(|_| read_env).find_map(read)
        };
        let (none_from, none_for) = match options.text(Text::NoProxy) {
            Some(text) => ("option no-proxy", NoProxy::parse(text)?),
            None => match env(["no_proxy", "NO_PROXY"]) {
                Some((name, text)) => (name, NoProxy::of_variable(&text)),
                None => ("", NoProxy::default()),
            },
        };
        if let Some(text) = options.text(Text::Proxy) {
            let proxy = if text.is_empty() {
                None
            } else {
                Some(Proxy::parse(text)?)
            };
            return Ok(Self {
                http: proxy.clone(),
                https: proxy,
                none_for,
                http_from: "option proxy",
                https_from: "option proxy",
                none_from,
            });
        }
        let of_env = |names| -> Result<(&'static str, Option<Proxy>)> {
            let Some((name, text)) = env(names) else {
                return Ok(("", None));
            };
            let proxy =
                Proxy::parse(text.trim()).map_err(|e| e.context(format!("variable {name}")))?;
            Ok((name, Some(proxy)))
        };
        let all = of_env(["all_proxy", "ALL_PROXY"])?;
        let or_all = |own: (&'static str, Option<Proxy>)| {
            if own.1.is_some() { own } else { all.clone() }
        };
        // A web client can set HTTP_PROXY in a CGI program, by a field named Proxy (RFC 3875 section 4.1.18).
        let is_cgi = read_env && std::env::var_os("REQUEST_METHOD").is_some();
        let capitals = if is_cgi { "" } else { "HTTP_PROXY" };
        let (http_from, http) = or_all(of_env(["http_proxy", capitals])?);
        let (https_from, https) = or_all(of_env(["https_proxy", "HTTPS_PROXY"])?);
        Ok(Self {
            http,
            https,
            none_for,
            http_from,
            https_from,
            none_from,
        })
    }

    pub(crate) fn for_host(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if https { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.none_for.covers(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, want) in [
            ("http://p:3128", Some((Protocol::Http, "p", 3128, None))),
            ("p:3128", Some((Protocol::Http, "p", 3128, None))),
            ("https://p", Some((Protocol::Https, "p", 443, None))),
            (
                "socks5h://[::1]:1080/",
                Some((Protocol::Socks5, "[::1]", 1080, None)),
            ),
            (
                "http://u%40x:p%3Aq@p:1",
                Some((Protocol::Http, "p", 1, Some(("u@x", "p:q")))),
            ),
            ("ftp://p:1", None),
            ("http://p:0", None),
            ("http://", None),
            ("http://p\r\n:1", None),
        ] {
            let got = Proxy::parse(text).ok();
            let got = got.as_ref().map(|p| {
                let user = p.user.as_ref().map(|(u, s)| (u.as_str(), s.expose()));
                (p.protocol, p.host.as_str(), p.port, user)
            });
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn exceptions() {
        let list =
            NoProxy::parse("example.com, .sub.test,10.0.0.0/8,[::1],h.test:5000,*.wild.test")
                .unwrap();
        for (host, port, want) in [
            ("example.com", 443, true),
            ("a.example.com", 443, true),
            ("notexample.com", 443, false),
            ("x.sub.test", 1, true),
            ("10.200.1.1", 443, true),
            ("11.0.0.1", 443, false),
            ("[::1]", 443, true),
            ("h.test", 5000, true),
            ("h.test", 443, false),
            ("EXAMPLE.COM.", 443, true),
            ("a.wild.test", 443, true),
        ] {
            assert_eq!(list.covers(host, port), want, "{host}:{port}");
        }
        assert!(NoProxy::parse("*").unwrap().covers("anything", 1));
        assert!(NoProxy::parse("a b;c").is_err());
    }
}
