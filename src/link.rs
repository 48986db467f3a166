//! `Link` (RFC 8288): where the next page of a listing is.
//!
//! ```text
//! Link       = #link-value
//! link-value = "<" URI-Reference ">" *( OWS ";" OWS link-param )
//! link-param = token BWS [ "=" BWS ( token / quoted-string ) ]
//! ```
//!
//! Whoever misses a link takes a part of a list for the whole, so what cannot be understood is an error, and what is
//! understood but may be meant otherwise is told.

use crate::error::{Error, Result};
use crate::url::Url;

/// Most bytes that are looked at, all fields together.
const MAX_BYTES: usize = 64 * 1024;

/// Where the next page is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// There, not resolved.
    At(String),
    /// Nowhere.
    End,
    /// Nowhere, but there is a link that may be meant: its `next` stands in single quotes, which are no quotes there.
    Odd,
}

/// The target of the first link of `page` with the relation `next`. Bytes beyond ASCII come percent-encoded, as
/// RFC 3987 section 3.1 maps an IRI to a URI.
///
/// Only the first `rel` of a link counts (RFC 8288 section 3.3). A link whose `anchor` is another resource than the page
/// is not about that and is passed over (section 3.2).
///
/// # Errors
/// [`Protocol`](crate::error::ErrorKind::Protocol) when there is no such link, but one may be meant: a field
/// is malformed, or there is more than can be looked at (64 KiB).
pub(crate) fn next<'a>(page: &Url, fields: impl Iterator<Item = &'a [u8]>) -> Result<Found> {
    let mut doubt = None;
    let mut is_odd = false;
    let mut left = MAX_BYTES;
    for field in fields {
        let Some(rest) = left.checked_sub(field.len()) else {
            doubt = doubt.or(Some("there is more than 64 KiB of them"));
            continue;
        };
        left = rest;
        let mut scanner = Scanner { rest: field };
        loop {
            match scanner.link(page) {
                Ok(Some(link)) => match link.kind {
                    Kind::Next => return Ok(Found::At(encode(link.target))),
                    Kind::Odd => is_odd = true,
                    Kind::Other => {}
                },
                Ok(None) => break,
                Err(why) => {
                    doubt = doubt.or(Some(why));
                    break;
                }
            }
        }
    }
    match doubt {
        None if is_odd => Ok(Found::Odd),
        None => Ok(Found::End),
        Some(why) => Err(Error::protocol(format!(
            "the Link headers cannot be understood ({why}), so the next page of the list is unknown"
        ))),
    }
}

/// What the relation of a link means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Next,
    /// `'next'`: quotes that the grammar does not know.
    Odd,
    Other,
}

impl Kind {
    fn of(rel: &[u8]) -> Self {
        let words = || rel.split(u8::is_ascii_whitespace);
        if words().any(|word| word.eq_ignore_ascii_case(b"next")) {
            return Self::Next;
        }
        let single = |word: &[u8]| word.starts_with(b"'") || word.ends_with(b"'");
        let bare = |word: &[u8]| word.trim_ascii().eq_ignore_ascii_case(b"next");
        let unquoted = rel.split(|b| b.is_ascii_whitespace() || *b == b'\'');
        if words().any(single) && unquoted.into_iter().any(bare) {
            return Self::Odd;
        }
        Self::Other
    }
}

struct Link<'a> {
    target: &'a [u8],
    kind: Kind,
}

type Malformed = &'static str;

struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// The next link, `None` at the end.
    fn link(&mut self, page: &Url) -> Result<Option<Link<'a>>, Malformed> {
        self.take(|b| is_space(b) || b == b',');
        self.rest = match self.rest {
            [] => return Ok(None),
            [b'<', rest @ ..] => rest,
            _ => return Err("a target does not begin with <"),
        };
        let target = self.take(|b| b != b'>');
        if !self.accept(b'>') {
            return Err("a target does not end with >");
        }
        let target = target.trim_ascii();
        if target.iter().any(u8::is_ascii_control) {
            return Err("a target holds control characters");
        }
        let mut rel = None;
        let mut anchor = None;
        loop {
            self.spaces();
            if !self.accept(b';') {
                break;
            }
            self.spaces();
            let name = self.take(|b| !is_space(b) && !b"=;,\"".contains(&b));
            self.spaces();
            let value = if self.accept(b'=') {
                self.spaces();
                self.value()?
            } else {
                Vec::new()
            };
            if name.eq_ignore_ascii_case(b"rel") {
                rel = rel.or(Some(value));
            } else if name.eq_ignore_ascii_case(b"anchor") {
                anchor = anchor.or(Some(value));
            }
        }
        let here = anchor.is_none_or(|anchor| is_page(&anchor, page));
        let kind = match rel {
            Some(rel) if here => Kind::of(&rel),
            _ => Kind::Other,
        };
        if kind != Kind::Next && !matches!(self.rest, [] | [b',', ..]) {
            return Err("no comma follows a link");
        }
        Ok(Some(Link { target, kind }))
    }

    fn value(&mut self) -> Result<Vec<u8>, Malformed> {
        if !self.accept(b'"') {
            return Ok(self.take(|b| !is_space(b) && !b";,".contains(&b)).to_vec());
        }
        let mut out = Vec::new();
        loop {
            let (byte, rest) = match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Ok(out);
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
                [] => return Err("a quoted value does not end"),
            };
            out.push(byte);
            self.rest = rest;
        }
    }

    fn spaces(&mut self) {
        self.take(is_space);
    }

    fn accept(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn take(&mut self, good: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self
            .rest
            .iter()
            .position(|b| !good(*b))
            .unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

/// OWS, and the line breaks of a folded field.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether an anchor is the page, or a place in it.
fn is_page(anchor: &[u8], page: &Url) -> bool {
    let anchor = page.resolve(&encode(anchor));
    anchor.is_ok_and(|anchor| anchor.wire() == page.wire())
}

fn encode(target: &[u8]) -> String {
    let mut out = String::with_capacity(target.len());
    for byte in target {
        if byte.is_ascii() {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::time::{Duration, Instant};

    const ERROR: &str = "error";
    const END: &str = "end";
    const ODD: &str = "odd";

    fn told(fields: &[&[u8]]) -> String {
        let page = Url::parse("https://r.example/v2/_catalog?n=2").unwrap();
        match next(&page, fields.iter().copied()) {
            Ok(Found::At(target)) => target,
            Ok(Found::End) => END.to_owned(),
            Ok(Found::Odd) => ODD.to_owned(),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Protocol);
                ERROR.to_owned()
            }
        }
    }

    #[test]
    fn links() {
        for (fields, want) in [
            (vec![], END),
            (vec![""], END),
            (vec![r#"</a>; rel="next""#], "/a"),
            (vec![r#"</a>;rel="next""#], "/a"),
            (vec!["</a>;rel=next"], "/a"),
            (vec![r#"</a> ; REL = "NEXT""#], "/a"),
            (vec!["</a>\t;\trel\t=\tNext\t"], "/a"),
            (vec![r#"</a>; rel="prev next""#], "/a"),
            (vec![r#"</a>; rel="http://example.net/next	next""#], "/a"),
            (
                vec![r#"</a>; rel="start http://example.net/relation/next""#],
                END,
            ),
            (vec![r#"</a>; rel="nextpage""#], END),
            (vec![r#"</a>; rel="next-archive""#], END),
            (vec![r#"</a>; rel="ne\xt""#], "/a"),
            (vec![r#"</a>; rel="prev"; rel="next""#], END),
            (vec![r#"</a>; rel="next"; rel="prev""#], "/a"),
            (vec![r#"</a>; rel*="next""#], END),
            (vec![r#"</a>; rev="next""#], END),
            (vec!["</a>; rel"], END),
            (vec![r#"</a>; title="a"; rel="next""#], "/a"),
            (
                vec![r#"</a>; crossorigin; title*=UTF-8''n%c3%a4; rel=next"#],
                "/a",
            ),
            (vec![r#"</a>;; rel="next";"#], "/a"),
            (
                vec![r#"</a?x=1,2;y=3&z="q">; rel="next""#],
                "/a?x=1,2;y=3&z=\"q\"",
            ),
            (
                vec![r#"</a>; title="a, b; rel=\"prev\" >"; rel="next""#],
                "/a",
            ),
            (
                vec![r#"</a>; title="</evil>; rel=next,"; rel="next""#],
                "/a",
            ),
            (vec![r#"</a>; title="</evil>; rel=next,"; rel="prev""#], END),
            (vec![r#"</a>; title="\"; rel=next"; rel="prev""#], END),
            (vec![r#"</a>; rel="prev", </b>; rel="next""#], "/b"),
            (vec![r#"</a>; rel="prev""#, r#"</b>; rel="next""#], "/b"),
            (vec![r#", ,</a>; rel="next","#], "/a"),
            (vec!["</a>; rel=\"prev\",\r\n </b>; rel=\"next\""], "/b"),
            (vec![r##"</a>; anchor="/other"; rel="next""##], END),
            (
                vec![r##"</a>; rel="next"; anchor="?n=3", </b>; rel=next"##],
                "/b",
            ),
            (vec![r##"</a>; rel="next"; anchor="""##], "/a"),
            (vec![r##"</a>; rel="next"; anchor="#x""##], "/a"),
            (
                vec![r##"</a>; anchor="/v2/_catalog?n=2"; rel="next""##],
                "/a",
            ),
            (
                vec![r##"</a>; anchor="https://r.example/v2/_catalog?n=2#y"; rel="next""##],
                "/a",
            ),
            (vec![r##"</a>; anchor="/v2/_catalog"; rel="next""##], END),
            (vec![r##"</a>; anchor="http://[/"; rel="next""##], END),
            (vec!["</a>"], END),
            (vec![r#"<?n=2&last=b>; rel="next""#], "?n=2&last=b"),
            (
                vec![r#"<tags/list?last=b>; rel="next""#],
                "tags/list?last=b",
            ),
            (vec![r#"< /a >; rel="next""#], "/a"),
            (vec![r#"<>; rel="next""#], ""),
            (vec![r#"</a?last=é>; rel="next""#], "/a?last=%C3%A9"),
            (
                vec![r#"</v2/_catalog?last=x&n=2>; rel="next""#],
                "/v2/_catalog?last=x&n=2",
            ),
            (vec!["</a>; rel='next'"], ODD),
            (vec!["</a>; rel='prev next'"], ERROR),
            (vec!["</a>; rel='next', oops"], ERROR),
            (vec!["</a>; rel='prev'"], END),
            (vec!["</a>; rel='next'", "</b>; rel=next"], "/b"),
            (vec![r#"<b>; rel="next", <c>; rel="next""#], "b"),
            (vec!["<b>; rel=next", "<c>; rel=next"], "b"),
            (vec!["<"], ERROR),
            (vec!["><"], ERROR),
            (vec!["\\"], ERROR),
            (vec![r#"/v2/x>; rel="next""#], ERROR),
            (vec![r#"</v2/x; rel="next""#], ERROR),
            (vec![r#"<<url>?n=2&last=b>; rel="next""#], ERROR),
            (vec![r#"</a?x=>&y>; rel="next""#], ERROR),
            (vec![r#"</a>; rel="next"#], ERROR),
            (vec![r#"</a>; rel="next\"#], ERROR),
            (vec![r#"</a>; rel="next"; title="x"#], ERROR),
            (vec!["</a\0>; rel=next"], ERROR),
            (vec!["</a\r\n b>; rel=next"], ERROR),
            (vec!["</a\tb>; rel=next"], ERROR),
            (vec!["<\t/a\r\n >; rel=next"], "/a"),
            (vec!["</a>; rel=prev </b>; rel=next"], ERROR),
            (vec![r#"</a>; title="x" rel="next""#], ERROR),
            (vec!["</a>; rel=prev", "oops"], ERROR),
            (vec!["oops", "</a>; rel=next"], "/a"),
            (vec!["</a>; rel=next", "oops"], "/a"),
            (vec![r#"</a>; rel="next" title="x""#], "/a"),
            (vec!["</a>; r&d=\"nope\""], END),
            (vec!["</a>; rel=\\"], END),
            (vec!["</a>; rel=a\\b"], END),
        ] {
            let bytes: Vec<_> = fields.iter().map(|f| f.as_bytes()).collect();
            assert_eq!(told(&bytes), want, "{fields:?}");
        }
        assert_eq!(told(&[b"</a?last=\xe9>; rel=next"]), "/a?last=%E9");
        assert_eq!(told(&[b"</a>; title=\"\xff\"; rel=next"]), "/a");
    }

    #[test]
    fn hostile_fields_are_bounded() {
        let start = Instant::now();
        let good = "</a>; rel=next";
        for (text, want) in [
            ("<".repeat(60_000), ERROR),
            ("<>".repeat(30_000), ERROR),
            ("<>,".repeat(20_000), END),
            (",".repeat(65_536), END),
            (",".repeat(65_537), ERROR),
            (format!("</a>{}", ";".repeat(60_000)), END),
            (format!("</a>{}", "; rel=x".repeat(9_000)), END),
            (format!("</a>; rel=\"{}\"", "x ".repeat(30_000)), END),
            (format!("</a>; rel=\"{}", "\\\"".repeat(30_000)), ERROR),
            (format!("</a>; rel={}", "'".repeat(60_000)), END),
        ] {
            let shown = text.get(..20).unwrap_or_default();
            assert_eq!(told(&[text.as_bytes()]), want, "{shown}");
        }
        let long = ",".repeat(65_537);
        assert_eq!(told(&[long.as_bytes(), good.as_bytes()]), "/a");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
