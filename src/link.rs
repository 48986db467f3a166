//! `Link` (RFC 8288): where the next page is.

use crate::error::{Error, Result};

/// Longest header, all fields together, that is looked at.
const MAX_HEADER: usize = 64 * 1024;

/// The target of the first link whose relation is `next`, as it is written.
pub(crate) fn next<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Result<Option<String>> {
    let mut left = MAX_HEADER;
    for field in fields {
        if field.len() > left {
            return Err(Error::protocol("the Link header is longer than 64 KiB"));
        }
        left -= field.len();
        let field = std::str::from_utf8(field).map_err(|_| malformed("it is not UTF-8"))?;
        let mut parser = Parser { rest: field };
        while let Some(link) = parser.link()? {
            if link.is_next {
                return Ok(Some(link.target));
            }
        }
    }
    Ok(None)
}

fn malformed(why: &str) -> Error {
    Error::protocol(format!("the Link header is malformed: {why}"))
}

struct Link {
    target: String,
    is_next: bool,
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn link(&mut self) -> Result<Option<Link>> {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
        if self.rest.is_empty() {
            return Ok(None);
        }
        let inner = self
            .rest
            .strip_prefix('<')
            .ok_or_else(|| malformed("a target does not begin with <"))?;
        let (target, rest) = inner
            .split_once('>')
            .ok_or_else(|| malformed("a target does not end with >"))?;
        self.rest = rest;
        let mut relation = None;
        let mut anchored = false;
        loop {
            self.skip();
            let Some(rest) = self.rest.strip_prefix(';') else {
                break;
            };
            self.rest = rest;
            self.skip();
            let name = self.take(is_tchar).to_ascii_lowercase();
            if name.is_empty() {
                continue;
            }
            self.skip();
            let value = match self.rest.strip_prefix('=') {
                None => String::new(),
                Some(rest) => {
                    self.rest = rest;
                    self.skip();
                    self.value()?
                }
            };
            match name.as_str() {
                // Only the first counts (RFC 8288 section 3.3).
                "rel" if relation.is_none() => relation = Some(value),
                "anchor" => anchored = true,
                _ => {}
            }
        }
        if !(self.rest.is_empty() || self.rest.starts_with(',')) {
            return Err(malformed("there is no comma between two links"));
        }
        let is_next = !anchored
            && relation.is_some_and(|r| {
                r.split_ascii_whitespace()
                    .any(|word| word.eq_ignore_ascii_case("next"))
            });
        Ok(Some(Link {
            target: target.trim().to_owned(),
            is_next,
        }))
    }

    fn value(&mut self) -> Result<String> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return Ok(self
                .take(|c| !matches!(c, ';' | ',' | ' ' | '\t'))
                .to_owned());
        };
        let mut out = String::new();
        let mut chars = quoted.char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = quoted.get(i + 1..).unwrap_or_default();
                    return Ok(out);
                }
                '\\' => out.extend(chars.next().map(|(_, c)| c)),
                _ => out.push(c),
            }
        }
        Err(malformed("a quoted value does not end"))
    }

    fn take(&mut self, what: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !what(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}
