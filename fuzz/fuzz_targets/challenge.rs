//! `WWW-Authenticate`: fields are separated by line breaks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_transport::fuzzing::{Answer, Challenge, challenges, judge};

/// What is looked at, all fields together.
const MOST: usize = 64 * 1024;

fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~\u{fffd}".contains(c)
}

/// The challenges as RFC 9110 section 11.6.1 writes them.
fn written(list: &[Challenge]) -> String {
    let mut out = Vec::new();
    for c in list {
        let mut text = c.scheme.clone();
        if let Some(token68) = &c.token68 {
            text = format!("{text} {token68}");
        }
        for (i, (name, value)) in c.params.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            let before = if i == 0 && c.token68.is_none() {
                " "
            } else {
                ", "
            };
            text.push_str(&format!("{before}{name}=\"{value}\""));
        }
        out.push(text);
    }
    out.join(" , ")
}

fuzz_target!(|data: &[u8]| {
    let fields: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
    let size: usize = fields.iter().map(|f| f.len()).sum();
    let (list, schemes) = challenges(&fields);

    assert!(schemes.len() <= 8);
    let mut kept = 0;
    for c in &list {
        assert!(!c.scheme.is_empty() && c.scheme.chars().all(is_tchar));
        assert_eq!(c.scheme, c.scheme.to_ascii_lowercase());
        kept += c.scheme.len() + c.token68.as_ref().map_or(0, String::len);
        for (i, (name, value)) in c.params.iter().enumerate() {
            assert!(!name.is_empty() && name.chars().all(is_tchar));
            assert_eq!(*name, name.to_ascii_lowercase());
            assert!(c.params.iter().take(i).all(|(earlier, _)| earlier != name));
            assert!(!value.chars().any(|ch| ch.is_ascii_control() && ch != '\t'));
            kept += name.len() + value.len();
        }
    }
    // U+FFFD takes three bytes where one was.
    assert!(kept <= 3 * size);

    // The answer is what the list says.
    let text = |c: &Challenge, name: &str| {
        let found = c.params.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.clone()).filter(|v| !v.is_empty())
    };
    // A realm that names no place is none.
    let is_place = |realm: &String| {
        !realm.chars().all(char::is_whitespace)
            && realm.chars().next().is_some_and(|c| !"?#\"=".contains(c))
    };
    let bearer = list
        .iter()
        .find(|c| c.scheme == "bearer" && text(c, "realm").as_ref().is_some_and(is_place));
    match judge(&fields) {
        Answer::Bearer(realm, service, scope) => {
            let c = bearer.expect("a Bearer challenge");
            assert_eq!(Some(realm), text(c, "realm"));
            assert_eq!(service, text(c, "service"));
            assert!(scope.iter().all(|s| !s.is_empty() && !s.contains(' ')));
        }
        Answer::Basic => {
            assert!(bearer.is_none() && list.iter().any(|c| c.scheme == "basic"));
        }
        Answer::Nothing => {
            assert!(bearer.is_none() && list.iter().all(|c| c.scheme != "basic"));
        }
    }

    // Field by field is the same as all at once.
    if size <= MOST {
        let single: Vec<Challenge> = fields.iter().flat_map(|f| challenges(&[*f]).0).collect();
        assert_eq!(single, list);
    }

    // What was read can be written and read again.
    let text = written(&list);
    if text.len() <= MOST {
        assert_eq!(challenges(&[text.as_bytes()]).0, list, "{text}");
    }
});
