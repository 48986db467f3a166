//! `http` and `https` URLs as they are met in registry traffic, and their origins.
//!
//! Parsing is RFC 3986 with the refusals of a client that carries credentials: no user information, no
//! control characters, no other scheme. Path and query are kept byte for byte, because signed URLs break
//! when they are normalised.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::name::Scheme;
use crate::secret::Secrets;

/// Longest URL that is accepted, in bytes. RFC 9110 section 4.1 asks for at least 8000.
const MAX_URL: usize = 32 * 1024;

/// Longest path that is named in a message, in bytes.
const MAX_NAMED: usize = 1000;

/// Parts of the names that storages give to what their URLs are signed with, in lower case.
const SIGNATURES: [&str; 7] = [
    "credential",
    "hmac",
    "password",
    "secret",
    "signature",
    "token",
    "verify",
];

/// Scheme, host and port: what credentials are bound to (RFC 6454).
///
/// The host is lower-case, IPv6 addresses stand in brackets, and the default port is filled in, so that
/// equal origins compare equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Origin {
    /// The host, IPv6 in brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether the two differ in scheme and port at most.
    pub(crate) fn same_host(&self, other: &Origin) -> bool {
        self.host == other.host
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The address, when the host is written as one.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().ok()
    }

    /// Whether the last label is a number although the host is no plain IPv4 address, as in `0x7f.1` or
    /// `2130706433`: resolvers take such names for addresses.
    pub(crate) fn is_disguised_address(&self) -> bool {
        if self.host.starts_with('[') || self.host.parse::<Ipv4Addr>().is_ok() {
            return false;
        }
        let last = self
            .host
            .trim_end_matches('.')
            .rsplit('.')
            .next()
            .unwrap_or_default();
        let hex = last
            .strip_prefix("0x")
            .is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        hex || (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", scheme_text(self.scheme), self.host)?;
        if self.port != default_port(self.scheme) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An absolute `http` or `https` URL without user information and fragment.
///
/// `Display` and `Debug` leave the query out: it may hold a signature.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    origin: Arc<Origin>,
    port: Option<u16>,
    path: String,
    query: Option<Zeroizing<String>>,
    /// What messages say in its place.
    named: Option<Box<str>>,
}

impl Url {
    /// The URL of `path_and_query` at a registry's `host[:port]`.
    pub(crate) fn at(scheme: Scheme, authority: &str, path_and_query: &str) -> Result<Url> {
        Url::parse(&format!(
            "{}://{authority}{path_and_query}",
            scheme_text(scheme)
        ))
    }

    /// Parses an absolute URL.
    pub(crate) fn parse(text: &str) -> Result<Url> {
        check_characters(text)?;
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| Error::syntax("the URL does not begin with http:// or https://"))?;
        let scheme = if scheme.eq_ignore_ascii_case("https") {
            Scheme::Https
        } else if scheme.eq_ignore_ascii_case("http") {
            Scheme::Http
        } else {
            return Err(Error::syntax(
                "the scheme of the URL is neither http nor https",
            ));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (host, port) = parse_authority(authority)?;
        let (path, query) = split_target(rest);
        Ok(Url {
            origin: Arc::new(Origin {
                scheme,
                host,
                port: port.unwrap_or(default_port(scheme)),
            }),
            port,
            path: if path.is_empty() {
                "/".to_owned()
            } else {
                encode(path)
            },
            query: query.map(|q| Zeroizing::new(encode(q))),
            named: None,
        })
    }

    /// Resolves a URI reference against this URL (RFC 3986 section 5.2).
    pub(crate) fn resolve(&self, reference: &str) -> Result<Url> {
        check_characters(reference)?;
        let reference = reference.trim_matches(' ');
        if let Some(rest) = reference.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", scheme_text(self.origin.scheme)));
        }
        if has_scheme(reference) {
            return Url::parse(reference);
        }
        let (path, query) = split_target(reference);
        let query = query.map(|q| Zeroizing::new(encode(q)));
        if path.is_empty() {
            let mut url = self.clone();
            if query.is_some() {
                url.query = query;
            }
            return Ok(url);
        }
        let merged = if path.starts_with('/') {
            path.to_owned()
        } else {
            let folder = self
                .path
                .rfind('/')
                .map_or("/", |i| self.path.get(..=i).unwrap_or("/"));
            [folder, path].concat()
        };
        let path = if merged.contains("/.") {
            encode(&remove_dot_segments(&merged))
        } else {
            encode(&merged)
        };
        Ok(Url {
            origin: Arc::clone(&self.origin),
            port: self.port,
            path,
            query,
            named: None,
        })
    }

    /// The URL of a peer's that shows none of these in messages.
    pub(crate) fn without(mut self, secrets: &Secrets) -> Self {
        let named = self.named();
        let shown = secrets.redact(named.clone());
        self.named = (shown != named).then(|| shown.into());
        self
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// `host[:port]` as it was written, the host in lower case.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.origin.host),
            None => self.origin.host.clone(),
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The whole URL with its query, to be sent, never to be shown.
    pub(crate) fn wire(&self) -> Zeroizing<String> {
        let mut out = self.with_path(&self.path);
        if let Some(query) = &self.query {
            // All the room at once: growing would leave a copy behind.
            out.reserve(query.len() + 1);
            out.push('?');
            out.push_str(query);
        }
        Zeroizing::new(out)
    }

    /// All but the query.
    pub(crate) fn shown(&self) -> String {
        match &self.named {
            Some(named) => named.to_string(),
            None => self.with_path(&self.path),
        }
    }

    /// For messages: all but the query, and of a path that is very long only its beginning. It ends between two
    /// segments, so that a secret in one of them is seen whole and taken out, or not at all.
    pub(crate) fn named(&self) -> String {
        if let Some(named) = &self.named {
            return named.to_string();
        }
        match self.path.get(..MAX_NAMED).and_then(|path| path.rfind('/')) {
            Some(end) if self.path.len() > MAX_NAMED => {
                let mut out = self.with_path(self.path.get(..=end).unwrap_or_default());
                out.push('…');
                out
            }
            _ => self.shown(),
        }
    }

    fn with_path(&self, path: &str) -> String {
        // The longest of "https://" and ":65535" beside the rest.
        let mut out = String::with_capacity(self.origin.host.len() + path.len() + 14);
        for part in [scheme_text(self.origin.scheme), "://", &self.origin.host] {
            out.push_str(part);
        }
        if let Some(port) = self.port {
            let _ = write!(out, ":{port}");
        }
        out.push_str(path);
        out
    }

    /// Path and query as they go into the request line.
    #[cfg(test)]
    fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{}", self.path, query.as_str()),
            None => self.path.clone(),
        }
    }

    /// Adds a parameter behind the query there is, form-encoded (WHATWG URL, section 5.2).
    pub(crate) fn push_query(&mut self, name: &str, value: &str) {
        let query = self.query.get_or_insert_default();
        if !query.is_empty() && !query.ends_with('&') {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        query.push_str(&form_encode(value));
    }

    /// The values of the query whose names say that they are signatures or tokens.
    pub(crate) fn signatures(&self) -> impl Iterator<Item = &str> {
        let pairs = self.query.as_ref().map_or("", |q| q.as_str()).split('&');
        let named = pairs.filter_map(|pair| pair.split_once('='));
        named
            .filter(|(name, _)| {
                let name = name.to_ascii_lowercase();
                name.ends_with("sig") || SIGNATURES.iter().any(|part| name.contains(part))
            })
            .map(|(_, value)| value)
    }

    /// Whether the query has a parameter of that name.
    pub(crate) fn has_query(&self, name: &str) -> bool {
        self.query.as_ref().is_some_and(|q| {
            q.split('&')
                .any(|pair| pair.split('=').next() == Some(name))
        })
    }

    /// Removes every parameter of that name from the query.
    pub(crate) fn remove_query(&mut self, name: &str) {
        let Some(query) = &self.query else { return };
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| pair.split('=').next() != Some(name))
            .collect();
        self.query = if kept.is_empty() {
            None
        } else {
            Some(Zeroizing::new(kept.join("&")))
        };
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Form encoding of a value: what `application/x-www-form-urlencoded` leaves alone stays, a space becomes `+`.
pub(crate) fn form_encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                out.push(char::from(byte))
            }
            b' ' => out.push('+'),
            _ => percent(&mut out, byte),
        }
    }
    out
}

fn percent(out: &mut String, byte: u8) {
    out.push('%');
    for nibble in [byte >> 4, byte & 15] {
        let digit = char::from_digit(u32::from(nibble), 16);
        out.extend(digit.map(|c| c.to_ascii_uppercase()));
    }
}

pub(crate) fn scheme_text(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

fn check_characters(text: &str) -> Result<()> {
    if text.len() > MAX_URL {
        return Err(Error::syntax(format!(
            "the URL is longer than {MAX_URL} bytes"
        )));
    }
    let has_control = if text.is_ascii() {
        text.bytes().any(|b| b.is_ascii_control())
    } else {
        text.chars().any(char::is_control)
    };
    if has_control {
        return Err(Error::syntax("the URL has a control character in it"));
    }
    Ok(())
}

/// Whether a reference begins with a scheme (RFC 3986 section 3.1).
fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else {
        return false;
    };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Path and query of what follows the authority; a fragment is dropped.
fn split_target(rest: &str) -> (&str, Option<&str>) {
    let rest = rest.split('#').next().unwrap_or_default();
    match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    }
}

fn parse_authority(authority: &str) -> Result<(String, Option<u16>)> {
    if authority.contains('@') {
        return Err(Error::syntax(
            "the URL has a user name in it, which is not accepted",
        ));
    }
    let (host, port) = if authority.starts_with('[') {
        match authority.find(']') {
            Some(end) => authority.split_at(end + 1),
            None => {
                return Err(Error::syntax(
                    "the host of the URL lacks its closing bracket",
                ));
            }
        }
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        authority.split_at(end)
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(number) if number > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Some(number),
            _ => {
                return Err(Error::syntax(
                    "the port of the URL is not a number from 1 to 65535",
                ));
            }
        },
        None => return Err(Error::syntax("the host of the URL is malformed")),
    };
    let host = host.to_ascii_lowercase();
    let good = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host.len() <= 255
                && !host.starts_with('.')
                && !host.contains("..")
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        }
    };
    if good {
        Ok((host, port))
    } else {
        Err(Error::syntax("the host of the URL is malformed"))
    }
}

/// RFC 3986 section 5.2.4.
fn remove_dot_segments(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut trailing = false;
    for segment in path.split('/').skip(1) {
        trailing = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                out.pop();
            }
            _ => out.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in &out {
        text.push('/');
        text.push_str(segment);
    }
    if trailing || text.is_empty() {
        text.push('/');
    }
    text
}

/// Percent-encodes what may not stand in a path or query at all and leaves the rest as it is.
fn encode(text: &str) -> String {
    let is_bad = |byte| {
        matches!(
            byte,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0..=b' ' | 0x7f..
        )
    };
    if !text.bytes().any(is_bad) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_bad(byte) {
            percent(&mut out, byte);
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_refuse() {
        for (text, want) in [
            ("https://a/t?x=1,2&y=%22q", Some("https://a/t?x=1,2&y=%22q")),
            (
                "HTTPS://A.Example:443/x#frag",
                Some("https://a.example:443/x"),
            ),
            ("http://[::1]:5000", Some("http://[::1]:5000/")),
            ("https://h?q", Some("https://h/?q")),
            ("https://h/a b", Some("https://h/a%20b")),
            ("https://h/sig=a%2Fb+c=", Some("https://h/sig=a%2Fb+c=")),
            ("https://user@h/", None),
            ("https://u:p@h/", None),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("ftp://h/", None),
            ("https:///x", None),
            ("https://h:0/", None),
            ("https://h:99999/", None),
            ("https://h\r\n/", None),
            ("https://[::1/", None),
            ("https://a..b/", None),
            ("https://ex\u{e4}mple/", None),
        ] {
            assert_eq!(
                Url::parse(text)
                    .ok()
                    .map(|u| u.wire())
                    .as_ref()
                    .map(|q| q.as_str()),
                want,
                "{text:?}"
            );
        }
    }

    /// What upload Locations and Link targets look like.
    #[test]
    fn resolve() {
        let base = Url::parse("https://r.example/v2/a/blobs/uploads/?x=1").unwrap();
        for (reference, want) in [
            ("/u/1?s=a%2Fb", Some("https://r.example/u/1?s=a%2Fb")),
            ("1?x=y", Some("https://r.example/v2/a/blobs/uploads/1?x=y")),
            ("?s=1", Some("https://r.example/v2/a/blobs/uploads/?s=1")),
            ("../up/./2", Some("https://r.example/v2/a/blobs/up/2")),
            ("../../../../../../x", Some("https://r.example/x")),
            ("//other.example/x", Some("https://other.example/x")),
            ("http://r.example/", Some("http://r.example/")),
            ("/u/1#x", Some("https://r.example/u/1")),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("", Some("https://r.example/v2/a/blobs/uploads/?x=1")),
        ] {
            assert_eq!(
                base.resolve(reference)
                    .ok()
                    .map(|u| u.wire())
                    .as_ref()
                    .map(|q| q.as_str()),
                want,
                "{reference:?}"
            );
        }
    }

    #[test]
    fn origins() {
        let origin = |t: &str| Url::parse(t).unwrap().origin().clone();
        assert_eq!(
            origin("https://H.example/"),
            origin("https://h.example:443/x")
        );
        assert_ne!(
            origin("https://h.example/"),
            origin("https://h.example:444/")
        );
        assert_ne!(origin("https://h.example/"), origin("http://h.example/"));
        assert_ne!(origin("https://h.example/"), origin("https://h.example./"));
        for (text, want) in [
            ("2130706433", true),
            ("0x7f.1", true),
            ("127.1", true),
            ("127.0.0.1", false),
            ("a1.b2", false),
            ("1e.100", true),
        ] {
            assert_eq!(
                origin(&format!("http://{text}/")).is_disguised_address(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn queries() {
        let mut url = Url::parse("https://h/u?_state=a%2Bb&digest=old").unwrap();
        url.remove_query("digest");
        url.push_query("digest", "sha256:ab");
        assert_eq!(url.target(), "/u?_state=a%2Bb&digest=sha256%3Aab");
        assert_eq!(
            form_encode("repository:a/b:pull,push x"),
            "repository%3Aa%2Fb%3Apull%2Cpush+x"
        );
        assert!(!format!("{url} {url:?}").contains("state"));
        let signed = "https://h/u?X-Amz-SignedHeaders=a&X-Amz-Signature=ab%2B&sig=cd&key=a/b&__token__=exp=1~hmac=ef&sig";
        let signed = Url::parse(signed).unwrap();
        let signatures: Vec<_> = signed.signatures().collect();
        assert_eq!(signatures, ["ab%2B", "cd", "exp=1~hmac=ef"]);
        let long = "x".repeat(600);
        let url = Url::parse(&format!("https://h/{long}/{long}/{long}?q")).unwrap();
        assert_eq!(url.to_string(), format!("https://h/{long}/…"));
        assert_eq!(url.shown(), format!("https://h/{long}/{long}/{long}"));
        let url = Url::parse(&format!("https://h/{long}{long}")).unwrap();
        assert_eq!(url.to_string(), "https://h/…");
    }
}
