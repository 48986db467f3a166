//! `WWW-Authenticate` (RFC 9110 section 11).
//!
//! ```text
//! field      = [ challenge *( OWS "," OWS challenge ) ]
//! challenge  = auth-scheme [ 1*SP ( token68 / [ auth-param *( OWS "," OWS auth-param ) ] ) ]
//! auth-param = token BWS "=" BWS ( token / quoted-string )
//! ```
//!
//! The list of challenges and the lists of parameters use the same comma; what tells them apart is whether
//! the word behind the comma is followed by `=`.

/// Longest header, all fields together, that is looked at.
const MAX_HEADER: usize = 64 * 1024;
/// Most parameters of a challenge and challenges of a header that are kept.
const MAX_ITEMS: usize = 256;

/// One challenge: a scheme and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Lower case.
    pub(crate) scheme: String,
    /// Names in lower case, values unescaped.
    pub(crate) params: Vec<(String, String)>,
    pub(crate) token68: Option<String>,
}

impl Challenge {
    fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What a registry asks for, as far as it can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A token from a token service.
    Bearer(BearerChallenge),
    /// User name and password.
    Basic,
    /// Nothing that can be answered.
    None {
        /// The schemes that were offered.
        schemes: Vec<String>,
        /// Bearer was among them, but without saying where tokens come from.
        bearer_without_realm: bool,
    },
}

/// A Bearer challenge (RFC 6750 section 3; distribution, token authentication specification).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BearerChallenge {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scope: Vec<String>,
    pub(crate) error: Option<String>,
}

/// Chooses what to answer: Bearer with a realm before Basic, the first of each.
pub(crate) fn judge<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let challenges = parse(fields);
    let text = |c: &Challenge, name| c.param(name).filter(|v| !v.is_empty()).map(str::to_owned);
    let bearer = challenges
        .iter()
        .find(|c| c.scheme == "bearer" && text(c, "realm").is_some());
    if let Some(c) = bearer {
        return Verdict::Bearer(BearerChallenge {
            realm: text(c, "realm").unwrap_or_default(),
            service: text(c, "service"),
            scope: c
                .param("scope")
                .unwrap_or_default()
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect(),
            error: text(c, "error"),
        });
    }
    if challenges.iter().any(|c| c.scheme == "basic") {
        return Verdict::Basic;
    }
    Verdict::None {
        bearer_without_realm: challenges.iter().any(|c| c.scheme == "bearer"),
        schemes: challenges.into_iter().map(|c| c.scheme).collect(),
    }
}

/// Parses all fields. A challenge that is malformed or names a parameter twice is left out, and so is what
/// follows it in its field when there is no telling where it ends.
pub(crate) fn parse<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Vec<Challenge> {
    let mut out = Vec::new();
    let mut left = MAX_HEADER;
    for field in fields {
        if field.len() > left {
            break;
        }
        left -= field.len();
        Parser { rest: field }.field(&mut out);
    }
    out
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn field(&mut self, out: &mut Vec<Challenge>) {
        loop {
            self.skip(|b| is_ows(b) || b == b',');
            if self.rest.is_empty() || out.len() >= MAX_ITEMS {
                return;
            }
            let Some(scheme) = self.token() else { return };
            // A scheme is followed by a space, a comma or the end.
            let spaced = self.skip(is_ows) > 0;
            if !spaced && !matches!(self.rest.first(), None | Some(b',')) {
                return;
            }
            let mut challenge = Challenge {
                scheme: lower(scheme),
                params: Vec::new(),
                token68: None,
            };
            let Some(good) = self.credentials(&mut challenge) else {
                return;
            };
            if good {
                out.push(challenge);
            }
        }
    }

    /// What follows a scheme. `None` when the rest of the field makes no sense, `false` when only this
    /// challenge does not count.
    fn credentials(&mut self, challenge: &mut Challenge) -> Option<bool> {
        if let Some(token68) = self.token68() {
            challenge.token68 = Some(token68);
            return Some(true);
        }
        let mut good = true;
        loop {
            let before = self.rest;
            self.skip(|b| is_ows(b) || b == b',');
            if self.rest.is_empty() {
                return Some(good);
            }
            let separated = challenge.params.is_empty() || contains_comma(before, self.rest);
            let name = self.token()?;
            self.skip(is_ows);
            if self.rest.first() != Some(&b'=') {
                // The word was the scheme of the next challenge, which a comma must have announced.
                if !contains_comma(before, self.rest) {
                    return None;
                }
                self.rest = before;
                return Some(good);
            }
            if !separated {
                return None;
            }
            self.advance(1);
            self.skip(is_ows);
            let value = self.value()?;
            self.skip(is_ows);
            if !matches!(self.rest.first(), None | Some(b',')) {
                return None;
            }
            let name = lower(name);
            if challenge.params.iter().any(|(n, _)| *n == name) {
                good = false;
            } else if challenge.params.len() < MAX_ITEMS {
                challenge.params.push((name, value));
            } else {
                good = false;
            }
        }
    }

    /// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`, alone up to the next comma.
    fn token68(&mut self) -> Option<String> {
        let body = self.rest.iter().take_while(|b| is_token68(**b)).count();
        let pads = self
            .rest
            .iter()
            .skip(body)
            .take_while(|b| **b == b'=')
            .count();
        let after = self.rest.get(body + pads..)?;
        let end = after
            .iter()
            .position(|b| !is_ows(*b))
            .map(|i| after.get(i).copied());
        if body == 0 || !matches!(end, None | Some(Some(b','))) {
            return None;
        }
        let text = String::from_utf8_lossy(self.rest.get(..body + pads)?).into_owned();
        self.advance(body + pads);
        Some(text)
    }

    fn value(&mut self) -> Option<String> {
        if self.rest.first() == Some(&b'"') {
            return self.quoted();
        }
        // Some registries leave the quotes of a URL away; what stands there is taken up to the next comma or space.
        let n = self
            .rest
            .iter()
            .take_while(|b| !is_ows(**b) && !matches!(**b, b',' | b'"') && is_text(**b))
            .count();
        let text = String::from_utf8_lossy(self.rest.get(..n)?).into_owned();
        self.advance(n);
        (n > 0).then_some(text)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut out = Vec::new();
        let mut bytes = self.rest.iter().copied().enumerate().skip(1);
        while let Some((i, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    self.advance(i + 1);
                    return Some(String::from_utf8_lossy(&out).into_owned());
                }
                b'\\' => match bytes.next() {
                    Some((_, escaped))
                        if escaped == b'\t' || (escaped >= b' ' && escaped != 0x7f) =>
                    {
                        out.push(escaped)
                    }
                    _ => return None,
                },
                b'\t' | b' '..=0x7e | 0x80.. => out.push(byte),
                _ => return None,
            }
        }
        None
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let n = self.rest.iter().take_while(|b| is_tchar(**b)).count();
        let token = self.rest.get(..n).filter(|t| !t.is_empty());
        self.advance(n);
        token
    }

    fn skip(&mut self, what: impl Fn(u8) -> bool) -> usize {
        let n = self.rest.iter().take_while(|b| what(**b)).count();
        self.advance(n);
        n
    }

    fn advance(&mut self, n: usize) {
        self.rest = self.rest.get(n..).unwrap_or_default();
    }
}

/// Whether a comma stands between two positions, of which the second is a suffix of the first.
fn contains_comma(before: &[u8], after: &[u8]) -> bool {
    let gap = before
        .get(..before.len().saturating_sub(after.len()))
        .unwrap_or_default();
    gap.iter()
        .take_while(|b| is_ows(**b) || **b == b',')
        .any(|b| *b == b',')
}

fn lower(token: &[u8]) -> String {
    String::from_utf8_lossy(token).to_ascii_lowercase()
}

fn is_ows(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

fn is_text(b: u8) -> bool {
    b > b' ' && b != 0x7f
}

fn is_token68(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// RFC 9110 section 5.6.2.
fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
