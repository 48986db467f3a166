//! What a registry says of its request limits, in the fields in use: `ratelimit-limit: 100;w=21600` and its
//! companions (Docker Hub), the same with `x-` before, and `RateLimit` with `RateLimit-Policy` (IETF httpapi,
//! "RateLimit header fields for HTTP").

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ureq::http::header::HeaderMap;

/// A limit on requests, as far as the registry told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimit {
    /// Requests allowed in a window.
    pub limit: Option<u64>,
    /// Requests left in the current one.
    pub remaining: Option<u64>,
    /// Length of the window.
    pub window: Option<Duration>,
    /// Time until the count begins anew.
    pub reset: Option<Duration>,
}

/// How the names of the fields begin.
const PREFIXES: [&str; 3] = ["ratelimit", "x-ratelimit", "x-rate-limit"];

/// From this number on, seconds are those since 1970 rather than from now on: about 30 years.
const EPOCH_FROM: u64 = 1_000_000_000;
/// And from this one on they are milliseconds: in seconds it would be the year 33658.
const MILLIS_FROM: u64 = 1_000_000_000_000;

impl RateLimit {
    /// What these fields say; `None` when they say nothing of it.
    pub(crate) fn of(headers: &HeaderMap, now: SystemTime) -> Option<Self> {
        // Every answer is asked, and most have none of the fields.
        let is_one = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if !headers.keys().any(|name| is_one(name.as_str())) {
            return None;
        }
        let mut out = Self::structured(headers);
        for prefix in PREFIXES {
            let first = |name: &str| {
                let value = headers.get(format!("{prefix}-{name}"))?.to_str().ok()?;
                items(value).into_iter().next()
            };
            for (name, place) in [("limit", &mut out.limit), ("remaining", &mut out.remaining)] {
                let Some(item) = first(name) else { continue };
                *place = place.or_else(|| number(item.name));
                out.window = out.window.or_else(|| item.seconds("w"));
            }
            out.reset = out
                .reset
                .or_else(|| reset(number(first("reset")?.name)?, now));
        }
        (out != Self::default()).then_some(out)
    }

    /// `RateLimit: "name";r=50;t=30`, of several the one with the least left, and
    /// `RateLimit-Policy: "name";q=100;w=60`; or `RateLimit: limit=100, remaining=50, reset=30` of earlier
    /// drafts.
    fn structured(headers: &HeaderMap) -> Self {
        // Several fields are one list (RFC 9651 section 4.2).
        let text = |name| {
            let lines = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
            lines.collect::<Vec<_>>().join(",")
        };
        let (fields, policies) = (text("ratelimit"), text("ratelimit-policy"));
        let fields = items(&fields);
        let mut out = Self::default();
        if let Some(item) = fields
            .iter()
            .filter(|i| i.number("r").is_some())
            .min_by_key(|i| i.number("r"))
        {
            out.remaining = item.number("r");
            out.reset = item.seconds("t");
            let policies = items(&policies);
            if let Some(policy) = policies.iter().find(|p| p.name == item.name) {
                out.limit = policy.number("q");
                out.window = policy.seconds("w");
            }
        } else {
            let find = |name: &str| {
                let (_, value) = fields
                    .iter()
                    .filter_map(|i| i.name.split_once('='))
                    .find(|(n, _)| *n == name)?;
                number(value)
            };
            out.limit = find("limit");
            out.remaining = find("remaining");
            out.reset = find("reset").map(Duration::from_secs);
        }
        out
    }
}

/// One member of a list, with its parameters.
struct Item<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Item<'_> {
    fn number(&self, name: &str) -> Option<u64> {
        let (_, value) = self.parameters.iter().find(|(n, _)| *n == name)?;
        number(value)
    }

    fn seconds(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_secs)
    }
}

fn items(value: &str) -> Vec<Item<'_>> {
    split(value, ',')
        .map(|item| {
            let mut pieces = split(item, ';').map(str::trim);
            Item {
                name: pieces.next().unwrap_or_default(),
                parameters: pieces.filter_map(|p| p.split_once('=')).collect(),
            }
        })
        .collect()
}

/// Splits at `at` outside of quotes.
fn split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == at && !quoted
    })
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    // A sign is no digit, and 18 digits fit.
    (text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn reset(told: u64, now: SystemTime) -> Option<Duration> {
    let time = match told {
        MILLIS_FROM.. => Duration::from_millis(told),
        _ => Duration::from_secs(told),
    };
    if told < EPOCH_FROM {
        return Some(time);
    }
    let at = UNIX_EPOCH.checked_add(time)?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::header::{HeaderName, HeaderValue};

    #[test]
    fn fields() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<[Option<u64>; 4]>);
        let rows: &[Row<'_>] = &[
            (
                &[
                    ("ratelimit-limit", "100;w=21600"),
                    ("ratelimit-remaining", "76;w=21600"),
                ],
                Some([Some(100), Some(76), Some(21600), None]),
            ),
            (
                &[
                    ("RateLimit-Limit", "100, 100;w=60"),
                    ("RateLimit-Remaining", "0"),
                    ("RateLimit-Reset", "30"),
                ],
                Some([Some(100), Some(0), None, Some(30)]),
            ),
            (
                &[
                    ("X-RateLimit-Limit", "60"),
                    ("X-RateLimit-Remaining", "59"),
                    ("X-RateLimit-Reset", "1700000090"),
                ],
                Some([Some(60), Some(59), None, Some(90)]),
            ),
            (
                &[
                    ("RateLimit", r#""a,b";r=50;t=30, "day";r=7;t=900"#),
                    ("RateLimit-Policy", r#""a,b";q=100;w=60,"day";q=10;w=86400"#),
                ],
                Some([Some(10), Some(7), Some(86400), Some(900)]),
            ),
            (
                &[
                    ("RateLimit", r#""a";r=50;t=30"#),
                    ("RateLimit", r#""b";r=7;t=900"#),
                    ("RateLimit-Policy", r#""a";q=100;w=60"#),
                    ("RateLimit-Policy", r#""b";q=10;w=5"#),
                ],
                Some([Some(10), Some(7), Some(5), Some(900)]),
            ),
            (
                &[("X-RateLimit-Reset", "1700000090000")],
                Some([None, None, None, Some(90)]),
            ),
            (
                &[("RateLimit", "limit=10, remaining=4, reset=5")],
                Some([Some(10), Some(4), None, Some(5)]),
            ),
            (
                &[("RateLimit-Reset", "1600000000")],
                Some([None, None, None, Some(0)]),
            ),
            (
                &[("RateLimit-Limit", "-1"), ("RateLimit-Remaining", "many")],
                None,
            ),
            (&[("RateLimit-Limit", "99999999999999999999")], None),
            (&[("RateLimit", "\"x"), ("RateLimit-Policy", ";;,=")], None),
            (&[], None),
        ];
        for (fields, want) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in *fields {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            let got = RateLimit::of(&headers, now).map(|l| {
                let seconds = |d: Option<Duration>| d.map(|d| d.as_secs());
                [l.limit, l.remaining, seconds(l.window), seconds(l.reset)]
            });
            assert_eq!(got, *want, "{fields:?}");
        }
    }
}
