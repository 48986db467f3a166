//! What a registry says about a failure: the error body of the distribution-spec ("Error Codes"), and
//! whatever else is sent in its place.

use serde_json::{Map, Value};

use crate::error::Diagnostic;
use crate::json;
use crate::secret::Secrets;

/// Most bytes of a message that are kept.
const MAX_TEXT: usize = 8 * 1024;
/// Most bytes of a code that are kept.
const MAX_CODE: usize = 256;
/// Most entries that are kept.
const MAX_ENTRIES: usize = 100;
/// How deep in a body the members of an entry are.
const ENTRY: usize = 3;
/// Most bytes of a summary.
const MAX_SUMMARY: usize = 512;
/// The code of what has none.
const UNKNOWN: &str = "UNKNOWN";

/// The body of a failure, or what came of it.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) text: &'a str,
    /// It may have gone on.
    pub(crate) is_cut: bool,
    pub(crate) content_type: Option<&'a str>,
    /// What must not be shown of it.
    pub(crate) secrets: &'a Secrets,
}

/// The diagnostics in the body of a failure, at most 100.
///
/// - A JSON object with a list `errors` of objects gives one for each; members that are missing or null are
///   `None`, and `detail` is kept as JSON text. A body of which more was to come gives what is whole.
/// - The error object of OAuth (RFC 6749 section 5.2) gives one with its `error` and `error_description`.
/// - An empty body and the object `{}` say nothing and give none.
/// - Anything else gives one with the code `UNKNOWN` and the text of the body.
///
/// Control characters other than line breaks and tabs are replaced. Messages are cut after 8 KiB, their secrets
/// having been taken out before; where that happens to a body, the end says so and names `content_type`.
pub(crate) fn parse(said: Said<'_>) -> Vec<Diagnostic> {
    if said.text.is_empty() {
        return Vec::new();
    }
    let text = json::mended(said.text);
    let found = match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => read_object(&object, said.secrets),
        Ok(_) => None,
        Err(e) if e.is_eof() && said.is_cut => read_cut(&text, said.secrets),
        Err(_) => None,
    };
    found.unwrap_or_else(|| vec![raw(said)])
}

/// One line for an error message: `CODE: message; CODE: message`, at most about 512 bytes. Empty when there
/// is nothing to say.
pub(crate) fn summary(diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let message = diagnostic.message.as_deref().map(brief);
        let code = diagnostic.code.as_deref().map(one_line);
        let parts: Vec<_> = [code, message]
            .into_iter()
            .flatten()
            .filter(|p| !p.is_empty())
            .collect();
        if parts.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.push_str(&parts.join(": "));
        if out.len() > MAX_SUMMARY {
            out.truncate(boundary(&out, MAX_SUMMARY));
            out.push('…');
            break;
        }
    }
    out
}

/// `None` when the object is of no known kind.
fn read_object(object: &Map<String, Value>, secrets: &Secrets) -> Option<Vec<Diagnostic>> {
    if object.is_empty() {
        return Some(Vec::new());
    }
    match object.get("errors") {
        Some(Value::Array(all)) => {
            let objects = all.iter().all(Value::is_object);
            let entries = all.iter().take(MAX_ENTRIES);
            objects.then(|| entries.map(|value| entry(value, secrets)).collect())
        }
        Some(_) => None,
        None => oauth(object, secrets).map(|diagnostic| vec![diagnostic]),
    }
}

fn entry(value: &Value, secrets: &Secrets) -> Diagnostic {
    let member = |name| value.get(name).filter(|v| !v.is_null());
    let text = |name, most| {
        member(name).map(|v| match v.as_str() {
            Some(text) => clean(text, most, secrets),
            None => clean(&v.to_string(), most, secrets),
        })
    };
    Diagnostic {
        code: text("code", MAX_CODE),
        message: text("message", MAX_TEXT),
        detail: member("detail").map(|v| detail(v, secrets)),
    }
}

/// JSON text stays JSON, also where a number was a secret.
fn detail(value: &Value, secrets: &Secrets) -> String {
    let text = value.to_string();
    let shown = secrets.redact(text.clone());
    if shown == text || serde_json::from_str::<Value>(&shown).is_ok() {
        shown
    } else {
        "\"[secret]\"".to_owned()
    }
}

fn oauth(object: &Map<String, Value>, secrets: &Secrets) -> Option<Diagnostic> {
    let text = |name| {
        object
            .get(name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let code = text("error").filter(|code| !code.contains(char::is_whitespace))?;
    let message = text("error_description")?;
    Some(Diagnostic {
        code: Some(clean(code, MAX_CODE, secrets)),
        message: Some(clean(message, MAX_TEXT, secrets)),
        detail: None,
    })
}

fn raw(said: Said<'_>) -> Diagnostic {
    let text = said.secrets.redact_up_to(said.text.to_owned(), said.is_cut);
    let (mut message, is_cut) = clean_start(&text, MAX_TEXT);
    if is_cut {
        let kind = said.content_type.unwrap_or("no media type told");
        let kind = clean(kind, MAX_CODE, said.secrets);
        message.push_str(&format!("… [cut; {kind}]"));
    }
    Diagnostic {
        code: Some(UNKNOWN.to_owned()),
        message: Some(message),
        detail: None,
    }
}

/// What is whole of a body that ends too early, which is how one longer than the limit looks: entries, and the
/// members of the last one.
fn read_cut(text: &str, secrets: &Secrets) -> Option<Vec<Diagnostic>> {
    let (mut open, mut in_string, mut is_escaped) = (Vec::new(), false, false);
    // Where the last string ended, which may be a value, and the last thing that certainly is whole.
    let (mut string, mut whole) = (0, 0);
    for (at, byte) in text.bytes().enumerate() {
        let mut end = at + 1;
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b',' => end = at,
            b'{' => open.push('}'),
            b'[' => open.push(']'),
            b'}' | b']' => drop(open.pop()),
            _ => {}
        }
        match byte {
            // Within a member of an entry.
            _ if in_string || open.len() > ENTRY => {}
            b'"' => string = end,
            b',' | b'{' | b'[' | b'}' | b']' => whole = end,
            _ => {}
        }
    }
    open.truncate(ENTRY);
    let close: String = open.into_iter().rev().collect();
    let closed = |end| Some(format!("{}{close}", text.get(..end)?));
    let read = |text: String| serde_json::from_str(&text).ok();
    let object = [string.max(whole), whole]
        .into_iter()
        .filter_map(closed)
        .find_map(read)?;
    let mut found = read_object(&object, secrets)?;
    // Nothing of the last one has come.
    if found.last() == Some(&Diagnostic::default()) {
        found.pop();
    }
    Some(found).filter(|found| !found.is_empty())
}

/// What may be shown of a text.
fn clean(text: &str, most: usize, secrets: &Secrets) -> String {
    clean_start(&secrets.redact(text.to_owned()), most).0
}

/// At most `most` bytes, with control characters other than line breaks and tabs replaced, and whether that is not
/// all.
fn clean_start(text: &str, most: usize) -> (String, bool) {
    let mut out = String::with_capacity(most.min(text.len()));
    for c in text.chars() {
        let c = if c.is_control() && !matches!(c, '\t' | '\r' | '\n') {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        };
        if out.len() + c.len_utf8() > most {
            return (out, true);
        }
        out.push(c);
    }
    (out, false)
}

fn boundary(text: &str, most: usize) -> usize {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// A message on one line. Of a page only the title, of an object of no known kind only the text in it.
fn brief(message: &str) -> String {
    let text = title(message).or_else(|| details(message));
    let text = text.unwrap_or_else(|| message.to_owned());
    let text = text
        .get(..boundary(&text, MAX_SUMMARY + 1))
        .unwrap_or_default();
    one_line(text)
}

fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn title(message: &str) -> Option<String> {
    let page = message.trim_start();
    if !page.starts_with('<') {
        return None;
    }
    // Lengths stay the same, so that places in one are places in the other.
    let lower = page.to_ascii_lowercase();
    let begin = lower.find("<title>")? + "<title>".len();
    let end = begin + lower.get(begin..)?.find("</title>")?;
    let title = page.get(begin..end)?.trim();
    (!title.is_empty()).then(|| format!("a page titled {title}"))
}

fn details(message: &str) -> Option<String> {
    let object: Value = serde_json::from_str(message).ok()?;
    let text = |name| object.get(name).and_then(Value::as_str);
    ["details", "detail", "message", "error"]
        .into_iter()
        .find_map(text)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{parse as parse_said, *};

    fn parse(body: &[u8], content_type: Option<&str>) -> Vec<Diagnostic> {
        parse_as_cut(body, false, content_type)
    }

    fn parse_as_cut(body: &[u8], is_cut: bool, content_type: Option<&str>) -> Vec<Diagnostic> {
        parse_said(Said {
            text: &json::text(body),
            is_cut,
            content_type,
            secrets: &Secrets::default(),
        })
    }

    type Row<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

    fn rows(found: &[Diagnostic]) -> Vec<Row<'_>> {
        found
            .iter()
            .map(|d| (d.code.as_deref(), d.message.as_deref(), d.detail.as_deref()))
            .collect()
    }

    fn unknown(text: &str) -> Vec<Row<'_>> {
        vec![(Some(UNKNOWN), Some(text), None)]
    }

    #[test]
    fn lists() {
        let one = |code, message, detail| vec![(code, message, detail)];
        for (body, want) in [
            (
                r#"{"errors":[{"code":"A","message":"m"}]}"#,
                one(Some("A"), Some("m"), None),
            ),
            (
                "\n {\"errors\":[{\"code\":\"A\"}],\"x\":1}\n",
                one(Some("A"), None, None),
            ),
            (
                r#"{"errors":[{"message":"m","detail":null}]}"#,
                one(None, Some("m"), None),
            ),
            (r#"{"errors":[{}]}"#, one(None, None, None)),
            (r#"{"errors":[]}"#, vec![]),
            ("{}", vec![]),
            ("", vec![]),
            (
                r#"{"errors":[{"code":"A","message":"m"},{"code":"B","detail":"d"}]}"#,
                vec![
                    (Some("A"), Some("m"), None),
                    (Some("B"), None, Some("\"d\"")),
                ],
            ),
            (
                r#"{"errors":[{"detail":{"Tag":"t"}}]}"#,
                one(None, None, Some(r#"{"Tag":"t"}"#)),
            ),
            (
                r#"{"errors":[{"detail":[1,"a",null]}]}"#,
                one(None, None, Some(r#"[1,"a",null]"#)),
            ),
            (
                r#"{"errors":[{"detail":false}]}"#,
                one(None, None, Some("false")),
            ),
            (r#"{"errors":[{"detail":-7}]}"#, one(None, None, Some("-7"))),
            (
                r#"{"errors":[{"detail":1.5}]}"#,
                one(None, None, Some("1.5")),
            ),
            (
                r#"{"errors":[{"detail":123456789012345678901234567890}]}"#,
                one(None, None, Some("123456789012345678901234567890")),
            ),
            (
                r#"{"errors":[{"detail":""}]}"#,
                one(None, None, Some("\"\"")),
            ),
            (
                r#"{"errors":[{"code":7,"message":["m"]}]}"#,
                one(Some("7"), Some(r#"["m"]"#), None),
            ),
            (
                r#"{"errors":[{"code":"any thing"}]}"#,
                one(Some("any thing"), None, None),
            ),
            (
                "\u{feff}{\"errors\":[{\"code\":\"A\"}]}",
                one(Some("A"), None, None),
            ),
            (
                r#"{"errors":[{"message":"a\u0000b\u001bc\u0085d\ne"}]}"#,
                one(None, Some("a\u{fffd}b\u{fffd}c\u{fffd}d\ne"), None),
            ),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                one(Some("invalid_grant"), Some("expired"), None),
            ),
        ] {
            assert_eq!(rows(&parse(body.as_bytes(), None)), want, "{body}");
        }
    }

    #[test]
    fn what_is_no_list_is_unknown() {
        for body in [
            "slow down",
            " ",
            r#"{"errors":null}"#,
            r#"{"errors":[1]}"#,
            r#"{"errors":[{"code":"A"},null]}"#,
            r#"{"errors":"x"}"#,
            r#"{"errors":{"code":"X"}}"#,
            r#"{"details":"incorrect username or password"}"#,
            r#"{"Error Encountered" : "x"}"#,
            r#"{"error":"some text"}"#,
            r#"{"error":"some text","error_description":"d"}"#,
            r#"{"error":{"code":1},"error_description":"d"}"#,
            "<html>\r\n<title>502</title>\r\n</html>\r\n",
            "[]",
            r#""x""#,
            "null",
            r#"{"errors":[{"code":"A"}]} x"#,
            r#"{"errors":[{"detail":NaN}]}"#,
            "{\"errors\":[",
            "{\"errors\":[1,",
            "{\"errors",
            r#"{"errors":[{"code":"A","message":"m"},{"code":"B""#,
        ] {
            assert_eq!(
                rows(&parse(body.as_bytes(), Some("text/html"))),
                unknown(body),
                "{body}"
            );
        }
    }

    #[test]
    fn encodings() {
        let body = r#"{"errors":[{"code":"Ä"}]}"#;
        let little: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = body.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            body.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", body.as_bytes()].concat(),
            little.clone(),
            [b"\xff\xfe", little.as_slice()].concat(),
            big.clone(),
            [b"\xfe\xff", big.as_slice()].concat(),
        ] {
            assert_eq!(
                rows(&parse(&bytes, None)),
                vec![(Some("Ä"), None, None)],
                "{bytes:?}"
            );
        }
        for (bytes, want) in [
            (b"\xff\xfe oops".as_slice(), "\u{fffd}\u{fffd} oops"),
            (b"R\xe9", "R\u{fffd}"),
            (b"a\0b", "a\u{fffd}b"),
            (b"\xff\xfea\0\x00\xd8b\0", "a\u{fffd}b"),
            (b"\xff\xfea\0b", "a\u{fffd}"),
        ] {
            assert_eq!(rows(&parse(bytes, None)), unknown(want), "{bytes:?}");
        }
        assert_eq!(rows(&parse(b"\xef\xbb\xbf", None)), vec![]);
    }

    #[test]
    fn large_bodies_are_cut() {
        let page = format!("<html>{}", "ä".repeat(100_000));
        let found = parse(page.as_bytes(), Some("text/html"));
        let message = found
            .first()
            .and_then(|d| d.message.as_deref())
            .unwrap_or_default();
        assert_eq!(found.len(), 1);
        assert!(message.len() < MAX_TEXT + 100, "{}", message.len());
        assert!(message.ends_with("[cut; text/html]"));

        let entry = r#"{"code":"X","message":"m","detail":{"a":["}",1]}}"#;
        let many = format!(
            "{{\"errors\":[{}{entry}]}}",
            format!("{entry},").repeat(100_000)
        );
        let want = (Some("X"), Some("m"), Some(r#"{"a":["}",1]}"#));
        for body in [many.as_str(), many.get(..65_536).unwrap_or_default()] {
            let found = parse_as_cut(body.as_bytes(), true, None);
            assert_eq!(rows(&found), vec![want; MAX_ENTRIES]);
        }
        let begin = "{\"errors\":[".len();
        for length in 0..3 * entry.len() {
            let body = many.get(..begin + length).unwrap_or_default();
            let found = parse_as_cut(body.as_bytes(), true, None);
            let whole = (length + 1) / (entry.len() + 1);
            let rest = body.get(begin + whole * (entry.len() + 1)..);
            let rest = rest.unwrap_or_default();
            let member = |end: &str, value| rest.contains(end).then_some(value);
            let last = (
                member("\"X\"", "X"),
                member("\"m\"", "m"),
                member("]}", r#"{"a":["}",1]}"#),
            );
            let mut all = vec![want; whole];
            all.extend((last.0.is_some()).then_some(last));
            match all.is_empty() {
                true => assert_eq!(rows(&found), unknown(body)),
                false => assert_eq!(rows(&found), all, "{body}"),
            }
        }

        for (body, want) in [
            (
                r#"{"status":400,"errors":[{"code":"A","message":"mm"#,
                (Some("A"), None, None),
            ),
            (
                r#"{"errors":[{"code":"A\"]","detail":[{"a":1},"#,
                (Some("A\"]"), None, None),
            ),
            (r#"{"errors":[{"code":"A"},{"co"#, (Some("A"), None, None)),
        ] {
            let found = parse_as_cut(body.as_bytes(), true, None);
            assert_eq!(rows(&found), [want], "{body}");
        }

        let long = format!(
            r#"{{"errors":[{{"code":"{0}","message":"{0}"}}]}}"#,
            "x".repeat(20_000)
        );
        let lengths = |body: &str| {
            let found = parse(body.as_bytes(), None);
            let length = |text: &Option<String>| text.as_deref().unwrap_or_default().len();
            found.first().map(|d| (length(&d.code), length(&d.message)))
        };
        assert_eq!(lengths(&long), Some((MAX_CODE, MAX_TEXT)));
        // A replacement is longer than what it replaces.
        let controls = long.replace('x', r"\u0001");
        assert_eq!(lengths(&controls), Some((MAX_CODE - 1, MAX_TEXT - 2)));
        let raw = lengths(&"\u{1}".repeat(MAX_TEXT));
        assert!(raw.is_some_and(|(_, message)| message < MAX_TEXT + 100));
    }

    #[test]
    fn depth_bombs_are_text() {
        for open in ["[", "{\"a\":"] {
            let bomb = format!("{{\"errors\":[{{\"detail\":{}", open.repeat(100_000));
            let found = parse(bomb.as_bytes(), None);
            assert_eq!(found.first().and_then(|d| d.code.as_deref()), Some(UNKNOWN));
            assert_eq!(found.len(), 1);
        }
    }

    #[test]
    fn summaries() {
        let of = |body: &str| summary(&parse(body.as_bytes(), None));
        for (body, want) in [
            ("", ""),
            ("{}", ""),
            ("slow\r\n  down\n", "UNKNOWN: slow down"),
            (
                r#"{"errors":[{"code":"A","message":"m"},{"code":"B"},{}]}"#,
                "A: m; B",
            ),
            (r#"{"errors":[{"message":"m","detail":"d"}]}"#, "m"),
            (r#"{"errors":[{"code":"A\r\nB","message":"m"}]}"#, "A B: m"),
            (r#"{"details":"wrong password"}"#, "UNKNOWN: wrong password"),
            (
                "<HTML><head>\r\n<Title>502 Bad\nGateway</tItle></head></HTML>",
                "UNKNOWN: a page titled 502 Bad Gateway",
            ),
            ("<html>ä<title>", "UNKNOWN: <html>ä<title>"),
        ] {
            assert_eq!(of(body), want, "{body}");
        }
        let long = of(&"ä".repeat(10_000));
        assert!(
            long.len() <= MAX_SUMMARY + 3 && long.ends_with('…'),
            "{long}"
        );
        let entries = r#"{"code":"AAAA","message":"m"},"#.repeat(90);
        let many = of(&format!("{{\"errors\":[{entries}{{}}]}}"));
        assert!(
            many.len() <= MAX_SUMMARY + 3 && many.starts_with("AAAA: m; AAAA: m; "),
            "{many}"
        );
    }
}
