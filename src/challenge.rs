//! `WWW-Authenticate` (RFC 9110 section 11): what the challenges are, and which one to answer.
//!
//! ```text
//! field      = [ challenge *( OWS "," OWS challenge ) ]
//! challenge  = auth-scheme [ 1*SP ( token68 / [ auth-param *( OWS "," OWS auth-param ) ] ) ]
//! auth-param = token BWS "=" BWS ( token / quoted-string )
//! ```
//!
//! One comma separates challenges as well as parameters. A word after it is a parameter if `=` follows, and
//! the scheme of the next challenge otherwise.

use std::collections::HashSet;

/// Most bytes that are looked at, all fields together.
const MAX_BYTES: usize = 64 * 1024;
/// Most schemes, and most bytes of a text, that are kept for messages.
const MAX_SCHEMES: usize = 8;
const MAX_NAME: usize = 32;
const MAX_WORDS: usize = 1024;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case.
    pub(crate) scheme: String,
    /// The parameters in their order: names in lower case and no two alike, values unescaped.
    pub(crate) params: Vec<(String, String)>,
    /// What stands in place of parameters, as with `Negotiate`.
    pub(crate) token68: Option<String>,
}

impl Challenge {
    /// The value of a parameter. `name` is in lower case.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.param(name).filter(|value| !value.is_empty())
    }

    /// Where tokens come from. What is no reference to a place is none: it would be one beside what was asked for.
    fn realm(&self) -> Option<&str> {
        let is_place = |r: &&str| !r.trim().is_empty() && !r.starts_with(['?', '#', '"', '=']);
        self.text("realm").filter(is_place)
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
        /// The schemes that were offered, each once and the first few only. Challenges that were rejected
        /// count.
        schemes: Vec<String>,
        /// A Bearer challenge was there, but without the realm that says where tokens come from.
        bearer_without_realm: bool,
    },
}

/// A Bearer challenge (RFC 6750 section 3; distribution, token authentication specification).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BearerChallenge {
    /// Where tokens come from, as it was sent; never empty.
    pub(crate) realm: String,
    /// Whom the token is for.
    pub(crate) service: Option<String>,
    /// The scopes that the request needs.
    pub(crate) scope: Vec<String>,
    /// Why the request was refused, such as `invalid_token`.
    pub(crate) error: Option<String>,
    /// The same for people.
    pub(crate) error_description: Option<String>,
}

impl BearerChallenge {
    fn of(challenge: &Challenge, realm: &str) -> Self {
        let scope = challenge.param("scope").unwrap_or_default();
        let words = |name| challenge.text(name).map(|text| capped(text, MAX_WORDS));
        Self {
            realm: realm.to_owned(),
            service: challenge.text("service").map(str::to_owned),
            scope: scope.split_ascii_whitespace().map(str::to_owned).collect(),
            error: words("error"),
            error_description: words("error_description"),
        }
    }
}

/// Reads the `WWW-Authenticate` fields of a 401 and chooses what to answer.
pub(crate) fn judge<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let Challenges { list, schemes } = parse(fields);
    let Some(challenge) = select(&list) else {
        let bearer = |c: &Challenge| c.scheme == "bearer";
        return Verdict::None {
            bearer_without_realm: list.iter().any(bearer),
            schemes,
        };
    };
    match challenge.realm() {
        Some(realm) if challenge.scheme == "bearer" => {
            Verdict::Bearer(BearerChallenge::of(challenge, realm))
        }
        _ => Verdict::Basic,
    }
}

/// The challenge to answer: the first Bearer with a realm, else the first Basic.
pub(crate) fn select(challenges: &[Challenge]) -> Option<&Challenge> {
    let bearer = challenges
        .iter()
        .find(|c| c.scheme == "bearer" && c.realm().is_some());
    bearer.or_else(|| challenges.iter().find(|c| c.scheme == "basic"))
}

/// The challenges of a 401.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    /// Those that can be read, in order.
    pub(crate) list: Vec<Challenge>,
    /// The schemes of all, each once and the first few only, for messages.
    pub(crate) schemes: Vec<String>,
}

impl Challenges {
    fn take(&mut self, open: Open) {
        let name = capped(&open.challenge.scheme, MAX_NAME);
        if self.schemes.len() < MAX_SCHEMES && !self.schemes.contains(&name) {
            self.schemes.push(name);
        }
        if !open.rejected {
            self.list.push(open.challenge);
        }
    }
}

/// Parses all `WWW-Authenticate` fields.
///
/// A challenge that names a parameter twice is left out. From a place on that makes no sense the rest of that
/// field is not read; what came before it counts. Fields beyond 64 KiB in total are passed over.
pub(crate) fn parse<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Challenges {
    let mut out = Challenges::default();
    let mut left = MAX_BYTES;
    for field in fields {
        // A field cut in two could be read as something else.
        let Some(rest) = left.checked_sub(field.len()) else {
            continue;
        };
        left = rest;
        let mut open: Option<Open> = None;
        let mut scanner = Scanner { rest: field };
        while let Some(element) = scanner.element(open.is_some()) {
            match (element, open.as_mut()) {
                (Element::Param { name, value }, Some(open)) => open.add(name, value),
                (Element::Param { .. }, None) => break,
                (Element::Scheme { scheme, token68 }, _) => {
                    let next = Some(Open::new(scheme, token68));
                    if let Some(done) = std::mem::replace(&mut open, next) {
                        out.take(done);
                    }
                }
            }
        }
        if let Some(done) = open {
            out.take(done);
        }
    }
    out
}

/// A challenge whose parameters are being read.
struct Open {
    challenge: Challenge,
    names: HashSet<String>,
    rejected: bool,
}

impl Open {
    fn new(scheme: String, token68: Option<String>) -> Self {
        let challenge = Challenge {
            scheme,
            params: Vec::new(),
            token68,
        };
        Self {
            challenge,
            names: HashSet::new(),
            rejected: false,
        }
    }

    fn add(&mut self, name: String, value: Option<String>) {
        let Some(value) = value.filter(|_| self.names.insert(name.clone())) else {
            self.rejected = true;
            return;
        };
        self.challenge.params.push((name, value));
    }
}

/// What stands between two commas.
enum Element {
    Scheme {
        scheme: String,
        token68: Option<String>,
    },
    /// Without a value where it cannot be told where the value ends.
    Param { name: String, value: Option<String> },
}

struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// The next element. `None` at the end, or where the field makes no sense.
    fn element(&mut self, may_be_param: bool) -> Option<Element> {
        self.skip(|b| is_space(b) || b == b',');
        let word = self.take(is_tchar);
        if word.is_empty() {
            return None;
        }
        let word = String::from_utf8_lossy(word).to_ascii_lowercase();
        let spaced = self.skip(is_space) > 0;
        match (self.rest, may_be_param) {
            ([b'=', rest @ ..], true) => {
                self.rest = rest;
                self.skip(is_space);
                let value = self.value()?;
                Some(Element::Param { name: word, value })
            }
            ([b'=', ..], false) => None,
            ([first, ..], _) if !spaced && *first != b',' => None,
            _ => {
                let token68 = self.token68(&word);
                Some(Element::Scheme {
                    scheme: word,
                    token68,
                })
            }
        }
    }

    /// The outer `None`: the rest makes no sense. The inner: this value does not.
    fn value(&mut self) -> Option<Option<String>> {
        let before = self.rest;
        if let [b'"', rest @ ..] = before {
            self.rest = rest;
            let value = self.quoted()?;
            self.end_element();
            return Some(Some(value));
        }
        // URLs are met without quotes, although they are no tokens.
        let text = self.take(|b| !is_space(b) && !b.is_ascii_control() && !b",;\"".contains(&b));
        self.end_element();
        // Where a comma may belong to a query, any reading could be a wrong URL.
        let doubtful = text.contains(&b'?')
            && before.get(text.len()) == Some(&b',')
            && before
                .get(text.len() + 1..)
                .is_some_and(|rest| rest.iter().any(|b| !is_space(*b)));
        Some((!doubtful).then(|| String::from_utf8_lossy(text).into_owned()))
    }

    /// The rest of a quoted string (RFC 9110 section 5.6.4).
    fn quoted(&mut self) -> Option<String> {
        let mut out = Vec::new();
        loop {
            let (byte, rest) = match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Some(String::from_utf8_lossy(&out).into_owned());
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
                [] => return None,
            };
            if byte.is_ascii_control() && byte != b'\t' {
                return None;
            }
            out.push(byte);
            self.rest = rest;
        }
    }

    /// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`, alone up to the next comma.
    fn token68(&mut self, scheme: &str) -> Option<String> {
        let before = self.rest;
        let body = self
            .take(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
            .len();
        let pads = self.take(|b| b == b'=').len();
        self.skip(is_space);
        let alone = matches!(self.rest, [] | [b',', ..]);
        // In these two `name=` is a parameter without a value: only what can be no name is a token68.
        let known = matches!(scheme, "basic" | "bearer");
        let known = known && !before.iter().take(body).any(|b| *b == b'/');
        if body == 0 || !alone || known {
            self.rest = before;
            return None;
        }
        let text = before.get(..body + pads)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Drops the rest of the field unless a comma follows.
    fn end_element(&mut self) {
        self.skip(is_space);
        if self.rest.first() != Some(&b',') {
            self.rest = &[];
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

    fn skip(&mut self, good: impl Fn(u8) -> bool) -> usize {
        self.take(good).len()
    }
}

/// OWS, and the line breaks of a folded field.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// RFC 9110 section 5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn capped(text: &str, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const R: &str = "https://auth.example.com/token";

    /// Challenges in a form that tables can hold: `scheme name=value|name=value` or `scheme #token68`.
    fn shown(fields: &[&[u8]]) -> Vec<String> {
        let show = |c: Challenge| {
            let params: Vec<_> = c.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let token68 = c.token68.map(|t| format!(" #{t}")).unwrap_or_default();
            format!("{} {}{token68}", c.scheme, params.join("|")).replace("  #", " #")
        };
        parse(fields.iter().copied())
            .list
            .into_iter()
            .map(show)
            .map(|s| s.trim_end().to_owned())
            .collect()
    }

    fn judged(fields: &[&str]) -> Verdict {
        judge(fields.iter().map(|f| f.as_bytes()))
    }

    #[test]
    fn grammar() {
        for (fields, want) in [
            (
                vec![r#"bEaReR REALM="R",SeRvIcE="s""#],
                vec!["bearer realm=R|service=s"],
            ),
            (
                vec!["Bearer realm = \"R\" ,\tservice=\"s\""],
                vec!["bearer realm=R|service=s"],
            ),
            (vec!["Bearer\trealm=R"], vec!["bearer realm=R"]),
            (vec!["Bearer   realm\t=\t\"R\"  "], vec!["bearer realm=R"]),
            (
                vec!["Bearer realm=\"R\",\r\n service=\"s\""],
                vec!["bearer realm=R|service=s"],
            ),
            (
                vec![r#"Bearer realm="https://a/t?x=1,2&y=\"q\"",service="s\\\/\l""#],
                vec![r#"bearer realm=https://a/t?x=1,2&y="q"|service=s\/l"#],
            ),
            (vec!["Basic realm=\"a\tb\""], vec!["basic realm=a\tb"]),
            (vec![r#"Basic realm="""#], vec!["basic realm="]),
            (
                vec!["Bearer realm=R,service=s"],
                vec!["bearer realm=R|service=s"],
            ),
            (
                vec!["Basic realm=!#$%&'*+-.^_`|~09azAZ"],
                vec!["basic realm=!#$%&'*+-.^_`|~09azAZ"],
            ),
            (
                vec!["Bearer realm=https://a/t?x=1"],
                vec!["bearer realm=https://a/t?x=1"],
            ),
            (
                vec!["Bearer realm=https://a/t?x=1 , "],
                vec!["bearer realm=https://a/t?x=1"],
            ),
            (
                vec!["Bearer realm=https://a/t,service=s"],
                vec!["bearer realm=https://a/t|service=s"],
            ),
            (vec!["Bearer realm=https://a/t?x=1,y=2"], vec![]),
            (
                vec!["Bearer realm=https://a/t?x=1,2, Basic realm=b"],
                vec!["2", "basic realm=b"],
            ),
            (
                vec![r#", ,Basic realm="x",,Bearer realm="R","#],
                vec!["basic realm=x", "bearer realm=R"],
            ),
            (vec!["", ",", " \t, ,"], vec![]),
            (
                vec![r#"Bearer ,realm="R",,service="s""#],
                vec!["bearer realm=R|service=s"],
            ),
            (
                vec![
                    r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple""#,
                ],
                vec![
                    r#"newauth realm=apps|type=1|title=Login to "apps""#,
                    "basic realm=simple",
                ],
            ),
            (
                vec![
                    "NTLM",
                    "Basic realm=a, Bearer realm=b",
                    "Digest qop=\"auth, auth-int\"",
                ],
                vec![
                    "ntlm",
                    "basic realm=a",
                    "bearer realm=b",
                    "digest qop=auth, auth-int",
                ],
            ),
            (
                vec![r#"Negotiate dG9rZW4=, Basic realm="x""#],
                vec!["negotiate #dG9rZW4=", "basic realm=x"],
            ),
            (
                vec![r#"Bearer abc/def==, Basic realm="x""#],
                vec!["bearer #abc/def==", "basic realm=x"],
            ),
            (
                vec![r#"Basic YWJj/+==, Bearer realm="R""#],
                vec!["basic #YWJj/+==", "bearer realm=R"],
            ),
            (
                vec!["Negotiate YWJj/+== ,Basic"],
                vec!["negotiate #YWJj/+==", "basic"],
            ),
            (vec!["Negotiate abc"], vec!["negotiate #abc"]),
            (vec!["Negotiate, Basic"], vec!["negotiate", "basic"]),
            (
                vec!["X-A.b!~ realm=x, Basic realm=y"],
                vec!["x-a.b!~ realm=x", "basic realm=y"],
            ),
            (
                vec![r#"Bearer realm="https://good",realm="https://evil""#],
                vec![],
            ),
            (
                vec![r#"Bearer realm="R",REALM="R", Basic realm="b""#],
                vec!["basic realm=b"],
            ),
            (
                vec![r#"Bearer realm="R",a=1,b=2,a=3"#, "Basic"],
                vec!["basic"],
            ),
            (
                vec!["\"", "=x", "Basic realm=b", "Bearer realm=\"", "@"],
                vec!["basic realm=b", "bearer"],
            ),
            (
                vec!["realm=x, Basic realm=y", "Basic realm=z"],
                vec!["basic realm=z"],
            ),
            (
                vec!["Basic realm=x, Bearer service=s"],
                vec!["basic realm=x", "bearer service=s"],
            ),
            (vec!["Bearer", "realm=R"], vec!["bearer"]),
            (vec!["Basic  "], vec!["basic"]),
            (
                vec!["Bearer realm=,service=s"],
                vec!["bearer realm=|service=s"],
            ),
            (vec!["Bearer realm="], vec!["bearer realm="]),
            (
                vec![r#"Bearer realm="R",service="unterminated"#],
                vec!["bearer realm=R"],
            ),
            (vec![r#"Bearer realm="R\"#], vec!["bearer"]),
            (vec!["Basic realm=\"a\0b\", Bearer realm=R"], vec!["basic"]),
            (
                vec!["Basic realm=\"Régistre 東京\""],
                vec!["basic realm=Régistre 東京"],
            ),
            (
                vec![r#"Basic realm="Dev" charset="UTF-8""#],
                vec!["basic realm=Dev"],
            ),
            (
                vec![r#"Bearer realm="R";service="s""#],
                vec!["bearer realm=R"],
            ),
            (vec!["Bearer=realm=\"R\""], vec![]),
            (vec!["Bearer\"R\""], vec![]),
            (
                vec![r#"Basic realm="Bearer realm=R""#],
                vec!["basic realm=Bearer realm=R"],
            ),
        ] {
            let bytes: Vec<_> = fields.iter().map(|f| f.as_bytes()).collect();
            assert_eq!(shown(&bytes), want, "{fields:?}");
        }
        assert_eq!(
            shown(&[b"Basic realm=\"R\xe9g\""]),
            ["basic realm=R\u{fffd}g"]
        );
    }

    #[test]
    fn choice() {
        let bearer = |realm: &str, service: Option<&str>, scope: &[&str]| {
            Verdict::Bearer(BearerChallenge {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
                scope: scope.iter().map(|s| (*s).to_owned()).collect(),
                error: None,
                error_description: None,
            })
        };
        let none = |schemes: &[&str], bearer_without_realm| Verdict::None {
            schemes: schemes.iter().map(|s| (*s).to_owned()).collect(),
            bearer_without_realm,
        };
        for (fields, want) in [
            (
                vec![r#"Bearer realm="https://a/t?x=1,2",service="s""#],
                bearer("https://a/t?x=1,2", Some("s"), &[]),
            ),
            (
                vec![r#"Bearer realm="R", service="s""#],
                bearer("R", Some("s"), &[]),
            ),
            (
                vec![r#"Bearer service="s", realm="R""#],
                bearer("R", Some("s"), &[]),
            ),
            (vec![r#"Bearer  Realm = "R""#], bearer("R", None, &[])),
            (vec![r#"Bearer realm=" ""#], none(&["bearer"], true)),
            (vec![r#"Bearer realm="?x""#], none(&["bearer"], true)),
            (
                vec![r##"Bearer realm="#", Basic realm="x""##],
                Verdict::Basic,
            ),
            (vec!["Bearer realm = = x"], none(&["bearer"], true)),
            (vec!["Negotiate", "Basic"], Verdict::Basic),
            (vec![r#"Bearer realm="a\"b""#], bearer("a\"b", None, &[])),
            (
                vec![r#"Basic realm="x", Bearer realm="R",service="s""#],
                bearer("R", Some("s"), &[]),
            ),
            (vec![r#"Negotiate, Basic realm="x""#], Verdict::Basic),
            (
                vec![r#"Bearer realm="https://good",realm="https://evil""#],
                none(&["bearer"], false),
            ),
            (
                vec![r#"Bearer realm="https://a/t?foo=bar""#],
                bearer("https://a/t?foo=bar", None, &[]),
            ),
            (
                vec!["Basic", "Bearer realm=a", "Bearer realm=b"],
                bearer("a", None, &[]),
            ),
            (
                vec!["Bearer", "Bearer realm=\"\"", "Bearer realm=b"],
                bearer("b", None, &[]),
            ),
            (vec!["Bearer realm=a,realm=b", "Basic"], Verdict::Basic),
            (vec![r#"Bearer service="s""#], none(&["bearer"], true)),
            (
                vec![r#"Bearer realm="",service="s", Basic"#],
                Verdict::Basic,
            ),
            (vec![], none(&[], false)),
            (vec![","], none(&[], false)),
            (
                vec!["Negotiate, NTLM", "ntlm", "OAuth2 realm=R"],
                none(&["negotiate", "ntlm", "oauth2"], false),
            ),
            (
                vec![
                    r#"Bearer realm="R",scope="repository:a:pull,push  repository:b:pull",service="""#,
                ],
                bearer("R", None, &["repository:a:pull,push", "repository:b:pull"]),
            ),
            (vec![r#"Bearer realm="R",scope="""#], bearer("R", None, &[])),
        ] {
            assert_eq!(judged(&fields), want, "{fields:?}");
        }
    }

    #[test]
    fn errors_of_bearer() {
        let field = format!(
            r#"Bearer realm="{R}",error="invalid_token",error_description="The token \"t\" expired""#
        );
        let Verdict::Bearer(challenge) = judged(&[&field]) else {
            panic!("no Bearer");
        };
        assert_eq!(challenge.realm, R);
        assert_eq!(challenge.error.as_deref(), Some("invalid_token"));
    }

    #[test]
    fn hostile_fields_are_bounded() {
        let start = Instant::now();
        let repeat = |prefix: &str, text: &str, count: usize, suffix: &str| {
            format!("{prefix}{}{suffix}", text.repeat(count))
        };
        let many: String = (0..5000).map(|i| format!(",p{i}=v")).collect();
        for (field, want) in [
            (repeat("Bearer realm=\"", "a", 65_000, ""), Some(1)),
            (repeat("Bearer realm=\"", "a", 65_536, "\""), Some(0)),
            (repeat("Basic realm=\"", "\\\"", 20_000, "\""), Some(1)),
            (repeat("", "Basic realm=a, ", 4000, ""), Some(4000)),
            (repeat("Bearer realm=\"R\"", ",a=b", 10_000, ""), Some(0)),
            (format!("Bearer realm=\"R\"{many}"), Some(1)),
            (repeat("", "a,", 30_000, ""), Some(30_000)),
            (repeat("", "a a,", 16_000, ""), None),
            (repeat("Negotiate ", "=", 60_000, ""), None),
            (repeat("", ",", 65_536, ""), Some(0)),
            (repeat("Bearer ", "a ", 30_000, ""), None),
            (repeat("Bearer ", "\\", 60_000, ""), None),
            (repeat("Bearer a=\"", "\\", 60_000, "\""), None),
            (repeat("", "\0", 60_000, ""), Some(0)),
        ] {
            let got = parse([field.as_bytes()].into_iter()).list.len();
            let name = field.get(..20).unwrap_or_default();
            assert!(want.is_none_or(|want| want == got), "{name}: {got}");
            let Verdict::None { schemes, .. } = judged(&[&field]) else {
                continue;
            };
            assert!(schemes.len() <= MAX_SCHEMES, "{name}");
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_bound_is_for_all_fields_together() {
        let large = format!("Negotiate {}", "a".repeat(60_000));
        let fields = [large.as_str(), large.as_str(), "Basic realm=b"];
        let found = parse(fields.iter().map(|f| f.as_bytes())).list;
        let schemes: Vec<_> = found.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic"]);
    }

    /// Every short text over the characters that matter is read without a panic, and within the grammar's
    /// promises.
    #[test]
    fn short_texts() {
        let alphabet = b"a=\", \\;\xc3";
        let mut texts: Vec<Vec<u8>> = vec![
            b"Bearer ".to_vec(),
            b"basic realm=\"x\",".to_vec(),
            Vec::new(),
        ];
        for _ in 0..5 {
            let longer = texts.iter().flat_map(|t| {
                alphabet.iter().map(move |b| {
                    let mut text = t.clone();
                    text.push(*b);
                    text
                })
            });
            texts = longer.collect();
            for text in &texts {
                for challenge in parse([text.as_slice()].into_iter()).list {
                    assert!(!challenge.scheme.is_empty(), "{text:?}");
                    let mut names: Vec<_> = challenge.params.iter().map(|(n, _)| n).collect();
                    names.sort();
                    names.dedup();
                    assert_eq!(names.len(), challenge.params.len(), "{text:?}");
                }
            }
        }
    }
}
