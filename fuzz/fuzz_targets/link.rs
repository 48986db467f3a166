//! `Link`: fields are separated by line breaks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_transport::error::ErrorKind;
use registry_transport::fuzzing::next_link;

/// What is looked at, all fields together.
const MOST: usize = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    let fields: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
    let size: usize = fields.iter().map(|f| f.len()).sum();
    let found = next_link(&fields);
    let same = |other: &[&[u8]]| match (&found, next_link(other)) {
        (Ok(a), Ok(b)) => assert_eq!(*a, b),
        (Err(a), Err(b)) => assert_eq!(a.message(), b.message()),
        (a, b) => panic!("{a:?} became {b:?}"),
    };
    match &found {
        Ok(Some(target)) => {
            assert!(target.is_ascii() && !target.contains('>'));
            assert!(!target.bytes().any(|b| b.is_ascii_control()));
            assert!(target.len() <= 3 * size);
            let field = format!("<{target}>; rel=\"next\"");
            if field.len() <= MOST {
                let again = next_link(&[field.as_bytes()]).expect("a link as the RFC writes it");
                assert_eq!(again.as_deref(), Some(target.as_str()));
            }
            // What follows the first one does not matter.
            let mut longer = fields.clone();
            longer.push(b"<");
            same(&longer);
        }
        Ok(None) => {}
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Protocol);
            assert!(e.message().len() < 300);
        }
    }
    // Other links before do not matter.
    let other = b"<https://r.example/?a,b;c>; rel=prev, </x>; title=\"next\"";
    if size + other.len() <= MOST {
        let mut longer = vec![&other[..]];
        longer.extend(&fields);
        same(&longer);
    }
});
