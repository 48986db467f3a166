//! JSON as peers write it: what other readers in use take is taken here, too.

use std::borrow::Cow;

use serde_json::Value;
use zeroize::Zeroize;

/// What a document without secrets says.
///
/// # Errors
/// When it is not JSON.
pub(crate) fn value(body: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_str(&mended(&text(body)))
}

/// The text of a document in UTF-8 or UTF-16, with a byte order mark or without. What is invalid is replaced.
pub(crate) fn text(body: &[u8]) -> Cow<'_, str> {
    let (body, big) = match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => return utf8(rest),
        // JSON and markup begin with ASCII: half of the first unit is zero. A mark alone proves nothing.
        [0xff, 0xfe, rest @ ..] if matches!(rest, [1..=255, 0, ..]) => (rest, false),
        [0xfe, 0xff, rest @ ..] if matches!(rest, [0, 1..=255, ..]) => (rest, true),
        [1..=255, 0, 1..=255, 0, ..] => (body, false),
        [0, 1..=255, 0, 1..=255, ..] => (body, true),
        _ => return utf8(body),
    };
    let unit = |pair: &[u8]| match (pair, big) {
        ([a, b], true) => u16::from_be_bytes([*a, *b]),
        ([a, b], false) => u16::from_le_bytes([*a, *b]),
        _ => 0xfffd,
    };
    let mut out = room(body);
    for c in char::decode_utf16(body.chunks(2).map(unit)) {
        out.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(out)
}

fn utf8(body: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(body) {
        return Cow::Borrowed(text);
    }
    let mut out = room(body);
    for chunk in body.utf8_chunks() {
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    Cow::Owned(out)
}

/// All the room at once: growing would leave a copy behind, which may hold a secret.
fn room(body: &[u8]) -> String {
    String::with_capacity(
        body.len()
            .saturating_mul(char::REPLACEMENT_CHARACTER.len_utf8()),
    )
}

/// The document without what is not in every reader's JSON: a half of a surrogate pair becomes the replacement
/// character, and a number that no double holds one of the largest.
pub(crate) fn mended(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut kept, mut at, mut in_string) = (0, 0, false);
    while let Some(rest @ [first, ..]) = bytes.get(at..) {
        let (length, new) = match first {
            b'\\' if in_string => escape(rest),
            b'-' | b'0'..=b'9' if !in_string => number(text.get(at..).unwrap_or_default()),
            _ => {
                in_string ^= *first == b'"';
                (1, None)
            }
        };
        if let Some(new) = new {
            // Nothing grows in the place of another.
            out.reserve(text.len() - out.len());
            out.push_str(text.get(kept..at).unwrap_or_default());
            out.push_str(new);
            kept = at + length;
        }
        at += length;
    }
    if kept == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(kept..).unwrap_or_default());
    Cow::Owned(out)
}

/// The length of an escape, and what goes in its place.
fn escape(text: &[u8]) -> (usize, Option<&'static str>) {
    const HIGH: std::ops::Range<u16> = 0xd800..0xdc00;
    const LOW: std::ops::Range<u16> = 0xdc00..0xe000;
    let low = |at| {
        text.get(at..)
            .and_then(unit)
            .is_some_and(|u| LOW.contains(&u))
    };
    match unit(text) {
        None => (2, None),
        Some(u) if HIGH.contains(&u) && low(6) => (12, None),
        Some(u) if HIGH.contains(&u) || LOW.contains(&u) => (6, Some("\\ufffd")),
        Some(_) => (6, None),
    }
}

/// The UTF-16 unit that `\uXXXX` at the beginning of a text stands for.
pub(crate) fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

fn number(text: &str) -> (usize, Option<&'static str>) {
    let is_in = |c: char| matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9');
    let end = text.find(|c| !is_in(c)).unwrap_or(text.len());
    let value = text
        .get(..end)
        .and_then(|number| number.parse::<f64>().ok());
    let new = match value {
        Some(f64::INFINITY) => Some("1e308"),
        Some(f64::NEG_INFINITY) => Some("-1e308"),
        _ => None,
    };
    (end, new)
}

/// Overwrites what was copied of a text.
pub(crate) fn wipe(text: Cow<'_, str>) {
    if let Cow::Owned(mut text) = text {
        text.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_mended() {
        for (text, want) in [
            (r#"{"a":[1,-2.5e3,"1e999",true]}"#, None),
            (r#""\\ud83d""#, None),
            (r#""\ud83d\ude00 \u00e4 \n""#, None),
            (r#""\ud83d""#, Some(r#""\ufffd""#)),
            (r#""\ud83d\n\uDE00x""#, Some(r#""\ufffd\n\ufffdx""#)),
            (r#""\ud83d\ud83d\ude00""#, Some(r#""\ufffd\ud83d\ude00""#)),
            (r#"{"\udc00":1e400}"#, Some(r#"{"\ufffd":1e308}"#)),
            ("[-1e309,1e308]", Some("[-1e308,1e308]")),
            (r#""\ud8"#, None),
            ("\"\\", None),
            ("-", None),
        ] {
            let got = mended(text);
            assert_eq!(got, want.unwrap_or(text));
            assert_eq!(matches!(got, Cow::Owned(_)), want.is_some(), "{text}");
        }
        let long = format!("{{\"a\":{}}}", "9".repeat(400));
        assert_eq!(mended(&long), r#"{"a":1e308}"#);
    }
}
