//! Ranges: of an answer (RFC 9110 section 14.4), and of an upload (distribution-spec, "Pushing a blob in
//! chunks").

use crate::error::{Error, Result};

/// `Content-Range: bytes first-last/total`. `first` is not beyond `last`, and `last` is below `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// Offset of the first byte sent.
    pub(crate) first: u64,
    /// Offset of the last byte sent.
    pub(crate) last: u64,
    /// Length of the whole, `None` when the server does not tell (`*`).
    pub(crate) total: Option<u64>,
}

/// The range of a 206 answer from its `Content-Range` fields.
///
/// # Errors
/// [`Protocol`](crate::error::ErrorKind::Protocol) unless there is exactly one field and it is valid.
pub(crate) fn content_range<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Result<ContentRange> {
    let field = only(fields)?;
    parse(field).ok_or_else(|| {
        Error::protocol(format!(
            "the answer has an invalid Content-Range{}",
            quoted(field)
        ))
    })
}

/// The first byte that a `Range` field asks for, and the last if it names one. `None` for all else that may be asked
/// for: several ranges, or the end of something.
pub(crate) fn asked(field: &[u8]) -> Option<(u64, Option<u64>)> {
    let (unit, range) = split(trim(field), b'=')?;
    let (first, last) = split(range, b'-')?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some((first, None));
    }
    let last = number(last)?;
    (first <= last).then_some((first, Some(last)))
}

/// The length of the whole that a 416 answer tells with `Content-Range: bytes */total`; `None` when it does
/// not.
pub(crate) fn unsatisfied_total<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let range = bytes_unit(only(fields).ok()?)?;
    number(range.strip_prefix(b"*/")?)
}

/// Checks that an answer holds the range that was asked for: all of it, or as much as there is.
///
/// `asked_last` is inclusive, `None` asks for all from `asked_first` on. `known_total` is the length of the
/// whole where it is known before.
///
/// # Errors
/// [`Protocol`](crate::error::ErrorKind::Protocol) when the first or last byte or the length differs.
pub(crate) fn check_answer(
    asked_first: u64,
    asked_last: Option<u64>,
    known_total: Option<u64>,
    got: &ContentRange,
) -> Result<()> {
    if let (Some(known), Some(told)) = (known_total, got.total) {
        if known != told {
            return Err(Error::protocol(format!(
                "the answer says the whole has {told} bytes, not {known}"
            )));
        }
    }
    let end = known_total
        .or(got.total)
        .and_then(|total| total.checked_sub(1));
    let want = match (asked_last, end) {
        (Some(last), Some(end)) => Some(last.min(end)),
        (last, end) => last.or(end),
    };
    let beyond = known_total.is_some_and(|total| got.last >= total);
    if beyond || got.first != asked_first || want.is_some_and(|last| last != got.last) {
        let want = want.map(|last| last.to_string()).unwrap_or_default();
        return Err(Error::protocol(format!(
            "the answer holds the bytes {}-{}, not {asked_first}-{want} as asked",
            got.first, got.last
        )));
    }
    Ok(())
}

/// The offset at which an upload goes on, from the `Range: 0-last` of the answer to a chunk or a status
/// request. `None` when there is no such field.
///
/// Servers that hold nothing yet may say `0-0`, as they do for one byte: who has sent nothing goes on at 0. Others
/// say `0--1` then.
///
/// # Errors
/// [`Protocol`](crate::error::ErrorKind::Protocol) when the value is no range or does not begin at 0.
pub(crate) fn upload_range(value: Option<&str>) -> Result<Option<u64>> {
    let Some(value) = value else {
        return Ok(None);
    };
    let text = trim(value.as_bytes());
    // The distribution-spec has no unit here; some registries write one all the same.
    let range = match text.split_at_checked(6) {
        Some((unit, rest)) if unit.eq_ignore_ascii_case(b"bytes=") => rest,
        _ => text,
    };
    let next = match interval(range) {
        Some((0, last)) => last.checked_add(1),
        _ => (range == b"0--1").then_some(0),
    };
    next.map(Some).ok_or_else(|| {
        Error::protocol(format!(
            "the upload has a range{}, not one from 0 to its last byte",
            quoted(value.as_bytes())
        ))
    })
}

/// What a peer sent, for a message, unless it is long: what is cut could not be told to be a secret.
fn quoted(field: &[u8]) -> String {
    if field.len() > 64 {
        return String::new();
    }
    format!(" \"{}\"", String::from_utf8_lossy(field))
}

fn only<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Result<&'a [u8]> {
    match (fields.next(), fields.next()) {
        (Some(field), None) => Ok(field),
        (None, _) => Err(Error::protocol("the answer has no Content-Range")),
        (Some(_), Some(_)) => Err(Error::protocol(
            "the answer has more than one Content-Range",
        )),
    }
}

fn parse(field: &[u8]) -> Option<ContentRange> {
    let (range, total) = split(bytes_unit(field)?, b'/')?;
    let (first, last) = interval(range)?;
    let total = if total == b"*" {
        None
    } else {
        Some(number(total)?)
    };
    let fits = total.is_none_or(|total| last < total);
    fits.then_some(ContentRange { first, last, total })
}

/// What follows the unit `bytes` and one space.
fn bytes_unit(field: &[u8]) -> Option<&[u8]> {
    let (unit, rest) = split(trim(field), b' ')?;
    unit.eq_ignore_ascii_case(b"bytes").then_some(rest)
}

/// `first-last`, in this order.
fn interval(text: &[u8]) -> Option<(u64, u64)> {
    let (first, last) = split(text, b'-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// `1*DIGIT`. No sign, unlike [`str::parse`].
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = text.splitn(2, |b| *b == at);
    Some((parts.next()?, parts.next()?))
}

fn trim(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const MAX: &str = "18446744073709551615";

    fn fields<'a>(texts: &'a [&str]) -> impl Iterator<Item = &'a [u8]> {
        texts.iter().map(|t| t.as_bytes())
    }

    #[test]
    fn content_ranges() {
        let range = |first, last, total| Some(ContentRange { first, last, total });
        let most = format!("bytes 0-18446744073709551614/{MAX}");
        let beyond = "bytes 0-1/18446744073709551616";
        let long = format!("bytes 0-1/{}", "1".repeat(60_000));
        for (texts, want) in [
            (vec!["bytes 1000-1010/*"], range(1000, 1010, None)),
            (vec!["bytes 0-0/1"], range(0, 0, Some(1))),
            (vec!["BYTES 1-2/3"], range(1, 2, Some(3))),
            (vec![" bytes 1-2/3\t"], range(1, 2, Some(3))),
            (vec!["bytes 0001-0002/03"], range(1, 2, Some(3))),
            (vec![most.as_str()], range(0, u64::MAX - 1, Some(u64::MAX))),
            (vec![], None),
            (vec!["bytes 1-2/3", "bytes 1-2/3"], None),
            (vec!["bytes 1-2/3, bytes 4-5/6"], None),
            (vec![""], None),
            (vec!["bytes"], None),
            (vec!["bytes "], None),
            (vec!["bytes x-2/3"], None),
            (vec!["bytes 1-x/3"], None),
            (vec!["bytes 1-2/x"], None),
            (vec!["bytes 1-2"], None),
            (vec!["bytes 1-2/"], None),
            (vec!["bytes -2/3"], None),
            (vec!["bytes 1-/3"], None),
            (vec!["bytes 5-2/10"], None),
            (vec!["bytes 1-3/3"], None),
            (vec!["bytes 0-0/0"], None),
            (vec!["bytes -1-2/3"], None),
            (vec!["bytes +1-2/3"], None),
            (vec!["bytes 1-+2/3"], None),
            (vec!["bytes 1 -2/3"], None),
            (vec!["bytes 1-2/3/4"], None),
            (vec!["bytes=1-2/3"], None),
            (vec!["bytes  1-2/3"], None),
            (vec!["bytes\t1-2/3"], None),
            (vec!["items 1-2/3"], None),
            (vec!["1-2/3"], None),
            (vec!["bytes */3"], None),
            (vec!["bytes 1-2/٣"], None),
            (vec![beyond], None),
            (vec![long.as_str()], None),
        ] {
            let got = content_range(fields(&texts));
            let shown = texts
                .iter()
                .map(|t| t.get(..40).unwrap_or(t))
                .collect::<Vec<_>>();
            match want {
                Some(want) => assert_eq!(got.ok(), Some(want), "{shown:?}"),
                None => {
                    let error = got.expect_err(&format!("{shown:?}"));
                    assert_eq!(error.kind(), ErrorKind::Protocol, "{shown:?}");
                    assert!(error.message().len() < 200, "{shown:?}");
                }
            }
        }
        let not_text: [&[u8]; 1] = [b"bytes 1-2/3\xff"];
        assert!(content_range(not_text.into_iter()).is_err());
    }

    #[test]
    fn totals_of_unsatisfied_ranges() {
        for (texts, want) in [
            (vec!["bytes */1234"], Some(1234)),
            (vec!["Bytes */0"], Some(0)),
            (vec![], None),
            (vec!["bytes */*"], None),
            (vec!["bytes */"], None),
            (vec!["bytes */-1"], None),
            (vec!["bytes 0-1/2"], None),
            (vec!["bytes */1", "bytes */2"], None),
        ] {
            assert_eq!(unsatisfied_total(fields(&texts)), want, "{texts:?}");
        }
    }

    #[test]
    fn upload_ranges() {
        for (value, want) in [
            (None, Some(None)),
            (Some("0-63"), Some(Some(64))),
            (Some(" 0-63 "), Some(Some(64))),
            (Some("0-0"), Some(Some(1))),
            (Some("bytes=0-63"), Some(Some(64))),
            (Some("Bytes=0-63"), Some(Some(64))),
            (Some("0-18446744073709551614"), Some(Some(u64::MAX))),
            (Some("0-18446744073709551615"), None),
            (Some("0-99999999999999999999"), None),
            (Some("5-10"), None),
            (Some("1-0"), None),
            (Some("0--1"), Some(Some(0))),
            (Some("0--2"), None),
            (Some("0-+1"), None),
            (Some("0-"), None),
            (Some("-63"), None),
            (Some("63"), None),
            (Some(""), None),
            (Some("bytes="), None),
            (Some("bytes 0-63"), None),
            (Some("bytes 0-63/100"), None),
            (Some("0-63,64-70"), None),
            (Some("0-٣"), None),
        ] {
            let got = upload_range(value);
            match want {
                Some(want) => assert_eq!(got.ok(), Some(want), "{value:?}"),
                None => {
                    let kind = got.map_err(|e| e.kind());
                    assert_eq!(kind, Err(ErrorKind::Protocol), "{value:?}");
                }
            }
        }
    }

    #[test]
    fn answers_match_the_question() {
        let got = |first, last, total| ContentRange { first, last, total };
        for (asked, known, got, want) in [
            ((0, Some(9)), None, got(0, 9, Some(100)), true),
            ((0, Some(9)), Some(100), got(0, 9, None), true),
            ((0, Some(9)), None, got(0, 9, None), true),
            ((90, Some(109)), None, got(90, 99, Some(100)), true),
            ((90, Some(109)), Some(100), got(90, 99, None), true),
            ((90, None), Some(100), got(90, 99, Some(100)), true),
            ((90, None), None, got(90, 99, Some(100)), true),
            ((90, None), None, got(90, 95, None), true),
            ((0, Some(u64::MAX)), None, got(0, 9, Some(10)), true),
            ((1, Some(9)), None, got(0, 9, Some(100)), false),
            ((0, Some(9)), None, got(1, 9, Some(100)), false),
            ((0, Some(9)), None, got(0, 8, Some(100)), false),
            ((0, Some(9)), None, got(0, 10, Some(100)), false),
            ((0, Some(9)), None, got(0, 8, None), false),
            ((90, None), Some(100), got(90, 98, None), false),
            ((90, None), None, got(90, 98, Some(100)), false),
            ((0, Some(9)), Some(100), got(0, 9, Some(101)), false),
            ((0, None), Some(0), got(0, 8, None), false),
        ] {
            let answer = check_answer(asked.0, asked.1, known, &got);
            assert_eq!(answer.is_ok(), want, "{asked:?} {known:?} {got:?}");
            if let Err(e) = answer {
                assert_eq!(e.kind(), ErrorKind::Protocol);
            }
        }
    }
}
