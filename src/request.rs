//! A request as the program describes it. Checked when it is sent.

use std::fmt;

use ureq::http::Method;
use ureq::http::header::{self, HeaderName, HeaderValue};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::failover::Wanted;
use crate::media_type;
use crate::name::{Repository, TagOrDigest};
use crate::source::Source;
use crate::url::Url;

/// A request: method, path, headers, body, and what answers to it are accepted.
#[derive(Clone)]
pub struct Request {
    method: Option<String>,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Source>,
    accept_status: Vec<u16>,
    accept_type: Vec<String>,
}

impl Request {
    /// Describes `method path`. `path` is `/v2/...` of the registry, `./...` of the repository, or a URL.
    /// `None` for the method is GET, or PUT once there is a body.
    pub fn new(method: Option<&str>, path: &str) -> Self {
        Self {
            method: method.map(str::to_owned),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
            accept_status: Vec::new(),
            accept_type: Vec::new(),
        }
    }

    /// Adds a header.
    pub fn header(&mut self, name: &str, value: &str) -> &mut Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body. An empty body is a body.
    pub fn body(&mut self, body: Source) -> &mut Self {
        self.body = Some(body);
        self
    }

    /// Accepts this HTTP status. With none named, 200 to 299 are accepted.
    pub fn accept_status(&mut self, status: u16) -> &mut Self {
        self.accept_status.push(status);
        self
    }

    /// Accepts this media type: sends it in `Accept` and checks the answer (RFC 9110 section 12.5.1).
    pub fn accept_type(&mut self, media_type: &str) -> &mut Self {
        self.accept_type.push(media_type.to_owned());
        self
    }

    pub(crate) fn method(&self) -> Result<&str> {
        let method = match &self.method {
            Some(method) => method.as_str(),
            None if self.body.is_some() => "PUT",
            None => "GET",
        };
        match Method::from_bytes(method.as_bytes()) {
            Ok(m) if m != Method::CONNECT => Ok(method),
            _ => Err(Error::argument(
                "the method is no HTTP method that can be sent (RFC 9110 section 9)",
            )),
        }
    }

    pub(crate) fn source(&self) -> Option<&Source> {
        self.body.as_ref()
    }

    /// The path in the repository and what it stands for, if this asks for a manifest or a blob and no more.
    pub(crate) fn content(&self) -> Option<(&str, Wanted)> {
        if self.body.is_some() || !matches!(self.method.as_deref(), None | Some("GET" | "HEAD")) {
            return None;
        }
        let path = self.path.strip_prefix("./")?;
        let wanted = match path.split_once('/')? {
            ("manifests", reference) => match TagOrDigest::parse(reference).ok()? {
                TagOrDigest::Tag(_) => Wanted::Tag,
                TagOrDigest::Digest(_) => Wanted::Digest,
            },
            ("blobs", digest) => digest.parse::<Digest>().ok().map(|_| Wanted::Blob)?,
            _ => return None,
        };
        Some((path, wanted))
    }

    pub(crate) fn statuses(&self) -> &[u16] {
        &self.accept_status
    }

    /// The URL the path stands for.
    pub(crate) fn url(&self, base: &Url, repository: Option<&Repository>) -> Result<Url> {
        let bad = |why: &str| Error::syntax(format!("the request path {why}"));
        if self.path.chars().any(char::is_control) {
            return Err(bad("has a control character in it"));
        }
        if has_dot_segment(&self.path) {
            return Err(bad("has a \".\" or \"..\" segment in it"));
        }
        if let Some(rest) = self.path.strip_prefix("./") {
            let Some(repository) = repository else {
                return Err(bad(
                    "begins with ./ but the transport is for a registry, not for a repository",
                ));
            };
            base.resolve(&format!("{repository}/{rest}"))
        } else if let Some(rest) = self.path.strip_prefix("/v2/") {
            // The root of the API may be elsewhere.
            base.resolve(&format!("{}{rest}", base.path()))
        } else if self.path.starts_with("//") {
            Err(bad("begins with //"))
        } else if self.path.starts_with('/') {
            base.resolve(&self.path)
        } else if self.path.contains("://") {
            Url::parse(&self.path)
        } else {
            Err(bad(
                "begins neither with /, nor with ./, nor is it an http or https URL",
            ))
        }
    }

    /// The headers to send: those given, Accept, and Content-Type when there is a body.
    pub(crate) fn fields(&self) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let mut out = Vec::with_capacity(self.headers.len() + 2);
        for (name, value) in &self.headers {
            let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                Error::argument("a header name has characters that HTTP does not allow")
            })?;
            if is_framing(&field) {
                return Err(Error::argument(format!(
                    "header {field} is set by the library and cannot be given"
                )));
            }
            let value = HeaderValue::from_str(value).map_err(|_| {
                Error::argument(format!(
                    "the value of header {field} has a line break or control character"
                ))
            })?;
            out.push((field, value));
        }
        let has = |out: &[(HeaderName, HeaderValue)], name| out.iter().any(|(n, _)| n == name);
        if !self.accept_type.is_empty() && !has(&out, header::ACCEPT) {
            let accept = HeaderValue::from_str(&self.accept_type.join(",")).map_err(|_| {
                Error::argument("a media type has a line break or control character")
            })?;
            out.push((header::ACCEPT, accept));
        }
        if self.body.is_some() && !has(&out, header::CONTENT_TYPE) {
            out.push((
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            ));
        }
        Ok(out)
    }

    /// What the `Range` field asks for, if there is one.
    pub(crate) fn range(&self) -> Option<&str> {
        let is_range = |name: &str| name.eq_ignore_ascii_case(header::RANGE.as_str());
        let range = self.headers.iter().find(|(name, _)| is_range(name));
        range.map(|(_, value)| value.as_str())
    }

    /// Whether the program signs the request itself.
    pub(crate) fn is_signed(&self) -> bool {
        self.headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
    }

    pub(crate) fn accepts_status(&self, status: u16) -> bool {
        if self.accept_status.is_empty() {
            (200..300).contains(&status)
        } else {
            self.accept_status.contains(&status)
        }
    }

    /// Whether an answer of this type is accepted. One that names no type is.
    pub(crate) fn accepts_type(&self, content_type: Option<&str>) -> bool {
        match content_type {
            Some(got) if !self.accept_type.is_empty() => {
                self.accept_type.iter().any(|t| media_type::same(t, got))
            }
            _ => true,
        }
    }
}

/// Headers that decide where a message ends or what the connection is used for.
fn is_framing(name: &HeaderName) -> bool {
    const FRAMING: [HeaderName; 10] = [
        header::ACCEPT_ENCODING,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::HOST,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    FRAMING.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Whether a server might walk out of the path: `.` and `..`, also percent-encoded.
fn has_dot_segment(path: &str) -> bool {
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split(['/', '\\']).any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    }) || path.to_ascii_lowercase().contains("%00")
}

impl fmt::Debug for Request {
    /// Shows no values of headers, no query and no user information: some hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        let path = self.path.split('?').next().unwrap_or_default();
        // What stands before an @ may be user information.
        let path = path.rsplit('@').next();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &path)
            .field("headers", &names)
            .field("body", &self.body)
            .field("accept_status", &self.accept_status)
            .field("accept_type", &self.accept_type)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn url(path: &str) -> Option<String> {
        let base = Url::parse("https://r.example/v2/").unwrap();
        let repository = Repository::parse("a/b").unwrap();
        Request::new(None, path)
            .url(&base, Some(&repository))
            .ok()
            .map(|u| u.wire().to_string())
    }

    #[test]
    fn paths() {
        for (path, want) in [
            (
                "./manifests/latest",
                Some("https://r.example/v2/a/b/manifests/latest"),
            ),
            (
                "./tags/list?n=1",
                Some("https://r.example/v2/a/b/tags/list?n=1"),
            ),
            ("/v2/_catalog", Some("https://r.example/v2/_catalog")),
            (
                "https://other.example/x?y",
                Some("https://other.example/x?y"),
            ),
            ("./../../x", None),
            ("/v2/a/%2e%2E/x", None),
            ("/v2/a\r\nX: y", None),
            ("//evil.example/x", None),
            ("v2/x", None),
            ("file:///etc/passwd", None),
            ("https://u@other.example/", None),
        ] {
            assert_eq!(url(path).as_deref(), want, "{path:?}");
        }
        let base = Url::parse("https://r.example/v2/").unwrap();
        assert!(Request::new(None, "./tags/list").url(&base, None).is_err());
    }

    #[test]
    fn method_and_headers() {
        let fields = |r: &Request| {
            r.fields()
                .unwrap()
                .iter()
                .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
                .collect::<Vec<_>>()
        };
        let mut plain = Request::new(None, "/v2/");
        assert_eq!((plain.method().unwrap(), fields(&plain)), ("GET", vec![]));
        plain.accept_type("a/b").accept_type("c/d");
        assert_eq!(fields(&plain), ["accept: a/b,c/d"]);
        let mut empty = Request::new(None, "/v2/");
        empty.body(Source::bytes(*b""));
        assert_eq!(
            (empty.method().unwrap(), fields(&empty)),
            ("PUT", vec!["content-type: application/json".to_owned()])
        );
        empty.header("Content-Type", "x/y");
        assert_eq!(fields(&empty), ["content-type: x/y"]);
        for (name, value) in [
            ("X", "a\r\nb"),
            ("X", "a\nb"),
            ("X y", "a"),
            ("", "a"),
            ("Content-Length", "1"),
            ("Host", "x"),
            ("Transfer-Encoding", "chunked"),
        ] {
            let mut request = Request::new(None, "/v2/");
            request.header(name, value);
            assert_eq!(
                request.fields().unwrap_err().kind(),
                ErrorKind::Argument,
                "{name:?}: {value:?}"
            );
        }
        for method in ["GE T", "", "GET\r\n", "CONNECT"] {
            assert!(
                Request::new(Some(method), "/v2/").method().is_err(),
                "{method:?}"
            );
        }
    }

    #[test]
    fn types() {
        let mut request = Request::new(None, "/v2/");
        assert!(request.accepts_type(Some("any/thing")));
        request.accept_type("Application/JSON; charset=utf-8");
        assert!(request.accepts_type(Some("application/json")) && request.accepts_type(None));
        assert!(!request.accepts_type(Some("text/html")));
    }
}
