//! `Retry-After` (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime};

/// A day. Who asks for more is asked again after that.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The pause that a value asks for, at most a day: a number of seconds, or the time up to a date in
/// any of the three forms of RFC 9110 section 5.6.7. A date that has passed asks for no pause.
///
/// `None` when the value is neither. Of several values in one field the first that is valid counts.
pub(crate) fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    // Two of the three forms of a date hold a comma themselves, so one piece or two can be a value.
    let mut pieces = value.split(',').peekable();
    let mut begin = 0;
    while let Some(piece) = pieces.next() {
        let end = begin + piece.len();
        let longer = pieces.peek().map(|next| end + 1 + next.len());
        let found = [Some(end), longer]
            .into_iter()
            .flatten()
            .find_map(|end| one(value.get(begin..end)?, now));
        if found.is_some() {
            return found;
        }
        begin = end + 1;
    }
    None
}

fn one(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return None;
    }
    let pause = if value.bytes().all(|b| b.is_ascii_digit()) {
        value.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(pause.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        const DAY: u64 = 86_400;
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let many = "9".repeat(60_000);
        let commas = ",".repeat(60_000);
        for (value, want) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("007", Some(7)),
            (" 5\t", Some(5)),
            ("86399", Some(86_399)),
            ("99999999999999999999", Some(DAY)),
            ("4294967296", Some(DAY)),
            (many.as_str(), Some(DAY)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 18:49:37 GMT", Some(36_000)),
            ("Wednesday, 09-Nov-94 08:49:37 GMT", Some(DAY)),
            ("Sunday, 06-Nov-05 08:49:37 GMT", Some(DAY)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Mon Nov  7 08:49:36 1994", Some(86_399)),
            ("Wed Nov 16 08:49:37 1994", Some(DAY)),
            ("Fri, 31 Dec 2027 23:59:59 GMT", Some(DAY)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(DAY)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("120, 60", Some(120)),
            ("soon, 60", Some(60)),
            ("Sun, 06 Nov 1994 08:50:37 GMT, 5", Some(60)),
            ("x, Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("-1", None),
            ("+5", None),
            ("1e3", None),
            ("1.5", None),
            ("0x10", None),
            ("5 s", None),
            ("٣", None),
            ("", None),
            (" ", None),
            (",", None),
            (commas.as_str(), None),
            ("tomorrow", None),
            ("Mon, 06 Nov 1994 08:50:37 GMT", None),
            ("Sun, 31 Feb 1994 08:50:37 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:50:37 CET", None),
            ("Sun, 06 Nov 1994 08:50:37", None),
        ] {
            let shown = value.get(..40).unwrap_or(value);
            assert_eq!(
                parse(value, now),
                want.map(Duration::from_secs),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn the_longest_pause_can_be_added() {
        let longest = parse("99999999999999999999", SystemTime::now()).expect("a pause");
        assert!(std::time::Instant::now().checked_add(longest).is_some());
    }
}
