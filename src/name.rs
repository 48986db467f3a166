//! Names of registries, repositories and tags (distribution-spec, "Pulling manifests"), and what is assumed
//! about a registry from its name.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// Longest text that is looked at.
const MAX_TEXT: usize = 4096;
/// Longest name of a registry and repository together (distribution reference grammar).
const MAX_NAME: usize = 255;
/// The registry of names that name none.
const DOCKER_HUB: &str = "index.docker.io";
/// Where that registry answers.
const DOCKER_HUB_ENDPOINT: &str = "registry-1.docker.io";

/// What a registry speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

/// A registry's host and port, valid by construction: no user information, no path. Shown as it was written,
/// compared in lower case.
#[derive(Debug, Clone)]
pub struct Authority {
    written: String,
    lower: String,
    host_end: usize,
    port: Option<u16>,
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.lower == other.lower
    }
}

impl Eq for Authority {}

impl std::hash::Hash for Authority {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.lower.hash(state);
    }
}

impl Authority {
    /// Parses `host[:port]`. The host is a DNS name, an IPv4 address, or an IPv6 address in brackets.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax).
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::syntax(format!("\"{}\" is no registry: {why}", shown(text)));
        if text.contains('@') {
            return Err(user_information());
        }
        if text.len() > MAX_NAME {
            return Err(bad("it is longer than 255 characters"));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let end = rest
                    .find(']')
                    .ok_or_else(|| bad("the closing bracket is missing"))?;
                text.split_at(end + 2)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some(digits)
                if !digits.is_empty()
                    && digits.len() <= 5
                    && digits.bytes().all(|b| b.is_ascii_digit()) =>
            {
                Some(
                    digits
                        .parse::<u16>()
                        .ok()
                        .filter(|p| *p > 0)
                        .ok_or_else(|| bad("the port is not 1 to 65535"))?,
                )
            }
            _ => return Err(bad("the port is not 1 to 65535")),
        };
        let lower = host.to_ascii_lowercase();
        let good = match lower.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            // Its last part is not written as an IPv4 address: the grammar of references has hexadecimal digits alone.
            Some(v6) => !v6.contains('.') && v6.parse::<Ipv6Addr>().is_ok(),
            None => is_dns_name(&lower),
        };
        if !good {
            return Err(bad(
                "the host is neither a DNS name nor an IP address (IPv6 in brackets)",
            ));
        }
        let host_end = lower.len();
        Ok(Self {
            written: text.to_owned(),
            lower: text.to_ascii_lowercase(),
            host_end,
            port,
        })
    }

    /// `host[:port]` as it was written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The host in lower case, IPv6 in brackets.
    pub fn host(&self) -> &str {
        self.lower.get(..self.host_end).unwrap_or_default()
    }

    /// The host in lower case, IPv6 without brackets.
    pub fn bare_host(&self) -> &str {
        let host = self.host();
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// Whether the name can only mean this machine: `localhost`, names below it (RFC 6761 section 6.3),
    /// 127.0.0.0/8 and `::1`.
    pub fn is_loopback(&self) -> bool {
        let host = self.bare_host();
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
    }

    /// The port, if it was named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether this is Docker Hub under one of its names.
    pub fn is_docker_hub(&self) -> bool {
        matches!(
            self.lower.as_str(),
            "docker.io" | DOCKER_HUB | DOCKER_HUB_ENDPOINT
        )
    }

    /// `host[:port]` in lower case: what credentials are looked up by.
    pub(crate) fn key(&self) -> &str {
        &self.lower
    }

    /// The `host[:port]` to connect to.
    pub fn endpoint(&self) -> &str {
        if self.is_docker_hub() {
            DOCKER_HUB_ENDPOINT
        } else {
            &self.lower
        }
    }

    /// What the registry speaks unless told otherwise: plain HTTP on this machine and for `.local` names.
    pub fn default_scheme(&self) -> Scheme {
        if self.is_loopback() || self.host().ends_with(".local") {
            Scheme::Http
        } else {
            Scheme::Https
        }
    }

    /// Docker Hub has several names; credentials and tokens know it by one.
    fn canonical(self) -> Result<Self> {
        if self.is_docker_hub() {
            Self::parse(DOCKER_HUB)
        } else {
            Ok(self)
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

fn is_dns_name(host: &str) -> bool {
    host.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// The start of a text for a message.
fn shown(text: &str) -> String {
    text.chars()
        .take(80)
        .flat_map(char::escape_debug)
        .take(80)
        .collect()
}

/// The refusal of a user name and password. It shows nothing of them.
fn user_information() -> Error {
    Error::syntax(
        "a registry is named without user name and password: leave out all up to the \"@\"",
    )
}

/// Refuses what is no name at all, before anything is looked at closely.
fn check_text(text: &str) -> Result<()> {
    if text.len() > MAX_TEXT {
        return Err(Error::syntax("a name is not longer than 4096 characters"));
    }
    if text.contains("://") {
        return Err(Error::syntax(
            "a name is no URL: leave out the scheme and its slashes",
        ));
    }
    Ok(())
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses the text.
            ///
            /// # Errors
            /// [`Syntax`](crate::error::ErrorKind::Syntax).
            pub fn parse(text: &str) -> Result<Self> {
                let check: fn(&str) -> std::result::Result<(), &'static str> = $check;
                match check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(why) => Err(Error::syntax(format!("\"{}\" is no {}: {why}", shown(text), $what))),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text)
            }
        }
    };
}

text_type!(
    /// A repository: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, several of them joined by slashes.
    Repository,
    "repository",
    check_repository
);
text_type!(
    /// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    Tag,
    "tag",
    check_tag
);

fn check_repository(text: &str) -> std::result::Result<(), &'static str> {
    if text.len() > MAX_NAME {
        return Err("it is longer than 255 characters");
    }
    if text.split('/').all(is_component) {
        Ok(())
    } else {
        Err(
            "its parts are lower-case letters and digits, joined by single . _ or -, __, or slashes",
        )
    }
}

fn is_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends =
        bytes.first().copied().is_some_and(alnum) && bytes.last().copied().is_some_and(alnum);
    ends && part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|s| !s.is_empty())
        .all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn check_tag(text: &str) -> std::result::Result<(), &'static str> {
    let mut bytes = text.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    if text.len() > 128 {
        Err("it is longer than 128 characters")
    } else if first && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        Ok(())
    } else {
        Err("it holds letters, digits, _ . and -, and does not begin with . or -")
    }
}

/// A tag or a digest: what names a manifest in its repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TagOrDigest {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

impl TagOrDigest {
    /// Parses a tag or a digest; only a digest has a colon.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax).
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains(':') {
            text.parse().map(Self::Digest)
        } else {
            Tag::parse(text).map(Self::Tag)
        }
    }
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// An image reference taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: Authority,
    repository: Option<Repository>,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Takes `[registry/]repository[:tag][@digest]`, or a bare registry, apart. The default registry is Docker
    /// Hub, the default tag `latest`, and `library/` is put before a Docker Hub name of one part.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax).
    pub fn parse(text: &str) -> Result<Self> {
        check_text(text)?;
        if let Some(registry) = bare_registry(text) {
            return Ok(Self {
                registry: registry.canonical()?,
                repository: None,
                tag: None,
                digest: None,
            });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((_, rest)) if rest.contains(['@', '/']) => return Err(user_information()),
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest.get(last..).and_then(|part| part.find(':')) {
            Some(colon) => {
                let (name, tag) = rest.split_at(last + colon);
                (
                    name,
                    Some(Tag::parse(tag.strip_prefix(':').unwrap_or_default())?),
                )
            }
            None => (rest, None),
        };
        let (registry, repository) = split_name(name)?;
        let tag = match (tag, &digest) {
            (None, None) => Some(Tag::parse("latest")?),
            (tag, _) => tag,
        };
        Ok(Self {
            registry,
            repository: Some(repository),
            tag,
            digest,
        })
    }

    /// Registry host and port.
    pub fn registry(&self) -> &Authority {
        &self.registry
    }

    /// Repository, or `None` for a bare registry.
    pub fn repository(&self) -> Option<&Repository> {
        self.repository.as_ref()
    }

    /// Tag, or `None` if there is only a digest.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)?;
        if let Some(repository) = &self.repository {
            write!(f, "/{repository}")?;
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A text that can only be a registry: it has a dot or is `localhost`; `ubuntu:2204` is a tag.
fn bare_registry(text: &str) -> Option<Authority> {
    if text.contains('/') {
        return None;
    }
    let authority = Authority::parse(text).ok()?;
    let host = authority.host();
    let clear = host == "localhost" || host.starts_with('[') || host.contains('.');
    clear.then_some(authority)
}

/// The registry and repository of a name without tag and digest.
fn split_name(name: &str) -> Result<(Authority, Repository)> {
    let (registry, rest) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Authority::parse(first)?.canonical()?, rest),
        _ => (Authority::parse(DOCKER_HUB)?, name),
    };
    let repository = if registry.is_docker_hub() && !rest.contains('/') {
        Repository::parse(rest)?;
        Repository::parse(&format!("library/{rest}"))?
    } else {
        Repository::parse(rest)?
    };
    Ok((registry, repository))
}

/// Whether a name without tag and digest names no registry.
pub(crate) fn is_short(name: &str) -> bool {
    name.split_once('/').map_or_else(
        || bare_registry(name).is_none(),
        |(first, _)| !is_registry(first),
    )
}

/// Whether the first part of a name is a registry (the rule of the distribution reference grammar).
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.starts_with('[')
        || first.chars().any(|c| c.is_ascii_uppercase())
}

/// What a transport is for: `registry/repository`, or a bare registry.
pub(crate) fn transport_name(text: &str) -> Result<(Authority, Option<Repository>)> {
    check_text(text)?;
    let more = |name: &str| {
        Error::syntax(format!(
            "\"{}\" is followed by a tag or digest: leave it out here",
            shown(name)
        ))
    };
    if let Some((name, rest)) = text.split_once('@') {
        let digest = rest.starts_with("sha256:") || rest.starts_with("sha512:");
        return Err(if digest {
            more(name)
        } else {
            user_information()
        });
    }
    if let Some((name, tag)) = text.split_once(':') {
        let port = tag.bytes().all(|b| b.is_ascii_digit());
        if !port && Repository::parse(name).is_ok() && Tag::parse(tag).is_ok() {
            return Err(more(name));
        }
    }
    if !text.contains('/') && (is_registry(text) || bare_registry(text).is_some()) {
        return Ok((Authority::parse(text)?.canonical()?, None));
    }
    let last = text.rsplit('/').next().unwrap_or_default();
    if text.contains('/') && last.contains(':') {
        return Err(more(text));
    }
    let (registry, repository) = split_name(text)?;
    Ok((registry, Some(repository)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registry, repository, tag and digest of a reference, or `None` when it is refused.
    fn parts(text: &str) -> Option<(String, String, String, String)> {
        let r = Reference::parse(text).ok()?;
        let text =
            |part: Option<&dyn fmt::Display>| part.map_or_else(String::new, |p| p.to_string());
        Some((
            r.registry().to_string(),
            text(r.repository().map(|p| p as &dyn fmt::Display)),
            text(r.tag().map(|p| p as &dyn fmt::Display)),
            text(r.digest().map(|p| p as &dyn fmt::Display)),
        ))
    }

    #[test]
    fn references() {
        let sha = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("ghcr.io/a/b@{sha}");
        let with_both = format!("ghcr.io/a/b:t@{sha}");
        for (text, want) in [
            (
                "ubuntu",
                Some(("index.docker.io", "library/ubuntu", "latest", "")),
            ),
            (
                "docker.io/ubuntu:1",
                Some(("index.docker.io", "library/ubuntu", "1", "")),
            ),
            (
                "registry-1.docker.io/a/b",
                Some(("index.docker.io", "a/b", "latest", "")),
            ),
            ("ghcr.io/a/b", Some(("ghcr.io", "a/b", "latest", ""))),
            ("localhost/a", Some(("localhost", "a", "latest", ""))),
            ("host:5000/a/b:t", Some(("host:5000", "a/b", "t", ""))),
            ("[::1]:5000/a", Some(("[::1]:5000", "a", "latest", ""))),
            ("a/b/c", Some(("index.docker.io", "a/b/c", "latest", ""))),
            ("Asdf.com/a", Some(("Asdf.com", "a", "latest", ""))),
            (&with_digest, Some(("ghcr.io", "a/b", "", &sha))),
            (&with_both, Some(("ghcr.io", "a/b", "t", &sha))),
            ("ghcr.io", Some(("ghcr.io", "", "", ""))),
            ("localhost:5000", Some(("localhost:5000", "", "", ""))),
            (
                "ubuntu:16",
                Some(("index.docker.io", "library/ubuntu", "16", "")),
            ),
            ("", None),
            ("../../x", None),
            ("ghcr.io/../x", None),
            ("ghcr.io/a//b", None),
            ("ghcr.io/-a-", None),
            ("ghcr.io/A", None),
            ("ghcr.io/a%2fb", None),
            ("ghcr.io/a:-x", None),
            ("ghcr.io/a:", None),
            ("ghcr.io/a@sha256:abc", None),
            ("u:p@gcr.io/a", None),
            ("ghcr.io/a\n", None),
            ("ghcr.io:0/a", None),
            ("ghcr.io:99999/a", None),
            ("gh_cr.io/a", None),
            ("[2001:db8:3:4::192.0.2.33]:5000/a", None),
            ("[::ffff:192.168.0.1]/a", None),
        ] {
            let got = parts(text);
            let got = got
                .as_ref()
                .map(|(a, b, c, d)| (a.as_str(), b.as_str(), c.as_str(), d.as_str()));
            assert_eq!(got, want, "{text:?}");
        }
        assert!(Reference::parse(&format!("ghcr.io/{}", "a".repeat(300))).is_err());
        assert!(Reference::parse(&"a/".repeat(100_000)).is_err());
        assert_eq!(
            Reference::parse("ubuntu").unwrap().to_string(),
            "index.docker.io/library/ubuntu:latest"
        );
    }

    #[test]
    fn repositories_and_tags() {
        for (text, want) in [
            ("a", true),
            ("a/b-c_d.e__f--g/1", true),
            ("a.b", true),
            ("a___b", false),
            ("a..b", false),
            ("a_.b", false),
            ("a-", false),
            ("/a", false),
            ("a/", false),
            ("a b", false),
        ] {
            assert_eq!(Repository::parse(text).is_ok(), want, "{text:?}");
        }
        let long = "t".repeat(128);
        for (text, want) in [
            ("latest", true),
            ("_x", true),
            ("V1.0-a_b", true),
            (&long, true),
            ("-x", false),
            (".x", false),
            ("", false),
            ("a/b", false),
        ] {
            assert_eq!(Tag::parse(text).is_ok(), want, "{text:?}");
        }
        assert!(Tag::parse(&"t".repeat(129)).is_err());
    }

    #[test]
    fn schemes() {
        for (text, want) in [
            ("localhost:5000", Some(Scheme::Http)),
            ("localhost", Some(Scheme::Http)),
            ("LOCALHOST:5000", Some(Scheme::Http)),
            ("x.LOCAL", Some(Scheme::Http)),
            ("host.local:80", Some(Scheme::Http)),
            ("a.localhost", Some(Scheme::Http)),
            ("127.0.0.1:5000", Some(Scheme::Http)),
            ("[::1]:5000", Some(Scheme::Http)),
            ("ghcr.io", Some(Scheme::Https)),
            ("10.0.0.1", Some(Scheme::Https)),
            ("localhost.evil.com", Some(Scheme::Https)),
            ("local", Some(Scheme::Https)),
            ("localhost:5000@evil.com", None),
            ("evil.com#.local", None),
            ("evil.com/.local", None),
            ("user@x.local", None),
            (".local", None),
            ("host.local:80\n", None),
            ("[::1", None),
            ("[::1]x", None),
            ("h:", None),
        ] {
            assert_eq!(
                Authority::parse(text).ok().map(|a| a.default_scheme()),
                want,
                "{text:?}"
            );
        }
    }

    #[test]
    fn names_of_transports() {
        for (text, want) in [
            ("ghcr.io", Some(("ghcr.io", None))),
            ("host:5000", Some(("host:5000", None))),
            ("ghcr.io/a/b", Some(("ghcr.io", Some("a/b")))),
            ("ubuntu", Some(("index.docker.io", Some("library/ubuntu")))),
            ("docker.io", Some(("index.docker.io", None))),
            ("ghcr.io/a/b:tag", None),
            ("ghcr.io/a@sha256:x", None),
            ("[::1]:5000", Some(("[::1]:5000", None))),
            ("ubuntu:latest", None),
            ("ubuntu:22.04", None),
            ("https://ghcr.io", None),
            ("", None),
        ] {
            let got = transport_name(text).ok();
            let got = got
                .as_ref()
                .map(|(a, r)| (a.as_str(), r.as_ref().map(Repository::as_str)));
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn loopback() {
        for (text, host, want) in [
            ("localhost", "localhost", true),
            ("A.Localhost:1", "a.localhost", true),
            ("127.9.9.9:80", "127.9.9.9", true),
            ("[::1]:80", "::1", true),
            ("[0:0:0:0:0:0:0:1]", "0:0:0:0:0:0:0:1", true),
            ("x.local", "x.local", false),
            ("localhost.example", "localhost.example", false),
            ("127.0.0.1.example", "127.0.0.1.example", false),
            ("128.0.0.1", "128.0.0.1", false),
            ("[2001:db8::1]:5000", "2001:db8::1", false),
        ] {
            let authority = Authority::parse(text).unwrap();
            assert_eq!(authority.bare_host(), host, "{text:?}");
            assert_eq!(authority.is_loopback(), want, "{text:?}");
        }
    }

    /// The message says what to leave out, and holds no password.
    #[test]
    fn messages() {
        let sha = format!("sha256:{}", "a".repeat(64));
        let of = |text: &str| {
            [
                Authority::parse(text).err(),
                Reference::parse(text).err(),
                transport_name(text).err(),
            ]
            .map(|e| e.map_or_else(String::new, |e| e.message().to_owned()))
        };
        for text in [
            "user:hunter2@ghcr.io",
            "user:hunter2@ghcr.io/a",
            "user:hunter2@ghcr.io:5000/a:t",
            "user:x@hunter2@ghcr.io/a",
            "user:x@hunter2@ghcr.io",
            "https://user:hunter2@ghcr.io/a",
            &format!("user:hunter2@{}", "a".repeat(300)),
        ] {
            for message in of(text) {
                assert!(!message.contains("hunter2"), "{text:?}: {message}");
            }
        }
        for (text, want) in [
            ("ubuntu:latest", "tag or digest"),
            ("ghcr.io/a/b:t", "tag or digest"),
            (&format!("ubuntu@{sha}"), "tag or digest"),
            ("ghcr.io/a@sha256:x", "tag or digest"),
            (&format!("ghcr.io/a:t@{sha}"), "tag or digest"),
            ("user:p@ghcr.io/a", "password"),
            ("https://ghcr.io/a", "scheme"),
            ("host:99999", "port"),
        ] {
            let message = transport_name(text).unwrap_err().message().to_owned();
            assert!(message.contains(want), "{text:?}: {message}");
        }
        for text in ["\u{7f}".repeat(200), "\u{10ffff}".repeat(60)] {
            for message in of(&text) {
                assert!(message.len() < 250, "{message}");
            }
        }
    }
}
