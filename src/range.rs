//! Ranges: of an answer (RFC 9110 section 14.4), and of an upload (distribution-spec, "Pushing a blob in
//! chunks").

use crate::error::{Error, Result};

/// `Content-Range: bytes first-last/total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// `None` for `*`.
    pub(crate) total: Option<u64>,
}

/// Parses the one field there must be.
pub(crate) fn content_range<'a>(
    mut fields: impl Iterator<Item = &'a [u8]>,
) -> Result<ContentRange> {
    let bad = || Error::protocol("the answer has no valid Content-Range");
    let field = fields
        .next()
        .and_then(|f| std::str::from_utf8(f).ok())
        .ok_or_else(bad)?;
    if fields.next().is_some() {
        return Err(bad());
    }
    parse(field).ok_or_else(bad)
}

fn parse(field: &str) -> Option<ContentRange> {
    let (unit, rest) = field.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" {
        None
    } else {
        Some(number(total)?)
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && total.is_none_or(|t| last < t)).then_some(ContentRange { first, last, total })
}

fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// The length that a 416 tells: `bytes */total`.
pub(crate) fn unsatisfied_total<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let field = std::str::from_utf8(fields.next()?).ok()?;
    number(field.trim().strip_prefix("bytes */")?)
}

/// Whether a part is the one asked for.
pub(crate) fn check_answer(
    first: u64,
    last: Option<u64>,
    total: Option<u64>,
    got: &ContentRange,
) -> Result<()> {
    let total_differs = matches!((total, got.total), (Some(a), Some(b)) if a != b);
    let last_differs = match (last, total) {
        (Some(last), _) => got.last != last,
        (None, Some(total)) => got.last + 1 != total,
        (None, None) => got.total.is_some_and(|t| got.last + 1 != t),
    };
    if got.first != first || last_differs || total_differs {
        return Err(Error::protocol(
            "the answer is another range than the one asked for",
        ));
    }
    Ok(())
}

/// The next offset of an upload from its `Range: 0-last`; `None` when there is no such header.
pub(crate) fn upload_range(value: Option<&str>) -> Result<Option<u64>> {
    let Some(value) = value else { return Ok(None) };
    let text = value.trim();
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    match text
        .split_once('-')
        .and_then(|(first, last)| Some((number(first)?, number(last)?)))
    {
        Some((0, last)) => Ok(last.checked_add(1)),
        _ => Err(Error::protocol("the Range of the upload is malformed")),
    }
}
