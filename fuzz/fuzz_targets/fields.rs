//! URLs and the smaller header fields. Texts are separated by line breaks.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use registry_transport::fuzzing::{
    Parsed, content_range, essence, may_lead, proxy, retry_after, upload_range, url,
};

fn check(url_of: &Parsed) {
    let Parsed {
        wire, shown, host, ..
    } = url_of;
    assert!(wire.bytes().all(|b| b.is_ascii_graphic()), "{wire:?}");
    assert!(!shown.contains('?') && !wire.contains('#'));
    assert!(wire.starts_with(shown.trim_end_matches('…')));
    assert_eq!(*host, host.to_ascii_lowercase());
    let authority = wire.split('/').nth(2).unwrap_or_default();
    assert!(
        !authority.contains(['@', '?', '\\']) && !host.is_empty(),
        "{authority}"
    );
    assert_eq!(url_of.is_https, wire.starts_with("https://"));
    let (again, _) = url(wire, "").expect("a URL can be parsed again");
    assert_eq!(again, *url_of);
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (base, reference, third) = (next(), next(), next());

    if let Ok((from, to)) = url(base, reference) {
        check(&from);
        if let Ok(to) = to {
            check(&to);
            let path = to.shown.splitn(4, '/').nth(3).unwrap_or_default();
            if !reference.contains(':') && !reference.trim_matches(' ').starts_with("//") {
                assert_eq!(to.origin, from.origin);
                // With a path of its own, none of it climbs.
                if !reference.trim_matches(' ').is_empty()
                    && !reference.trim_matches(' ').starts_with(['?', '#'])
                {
                    assert!(path.split('/').all(|s| s != "." && s != ".."), "{path}");
                }
            }
            for (home, start) in [(&from, &from), (&from, &to), (&to, &from)] {
                let [redirect, link, realm] =
                    may_lead(&home.wire, &start.wire, &to.wire).expect("URLs");
                if (home.is_https || start.is_https) && !to.is_https {
                    assert!(
                        !redirect && !link && !realm,
                        "{} to {}",
                        start.wire,
                        to.wire
                    );
                }
                assert!(!link || start.origin == to.origin);
            }
        }
    }

    for fields in [&[base.as_bytes()][..], &[base.as_bytes(), third.as_bytes()]] {
        if let Ok((first, last, total)) = content_range(fields) {
            assert!(fields.len() == 1 && first <= last && total.is_none_or(|t| last < t));
            let total = total.map_or("*".to_owned(), |t| t.to_string());
            let field = format!("bytes {first}-{last}/{total}");
            assert!(content_range(&[field.as_bytes()]).is_ok(), "{field}");
        }
    }
    if let Ok(Some(next)) = upload_range(base) {
        assert!(next >= 1);
        assert_eq!(
            upload_range(&format!("0-{}", next - 1)).ok(),
            Some(Some(next))
        );
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    if let Some(pause) = retry_after(base, now) {
        assert!(pause <= Duration::from_secs(u64::from(u32::MAX)));
        let later = now + Duration::from_secs(60);
        assert!(retry_after(base, later).expect("still a pause") <= pause);
    }
    let (bare, same) = essence(base);
    assert!(same && essence(&bare) == (bare.clone(), true));

    let port = u16::try_from(third.len()).unwrap_or(1);
    let (covers, _) = proxy(base, reference, port, third);
    // More hosts cover no less.
    if let (Some(true), (Some(wider), _)) = (
        covers,
        proxy(&format!("{base},x.example"), reference, port, third),
    ) {
        assert!(wider);
    }
});
