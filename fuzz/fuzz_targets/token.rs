//! Answers of token services.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use registry_transport::creds::Creds;
use registry_transport::fuzzing::token;

fuzz_target!(|data: &[u8]| {
    let Ok((value, used, refresh)) = token(data) else {
        return;
    };
    // It may stand in a header field.
    Creds::bearer(&value).expect("a bearer token");
    assert!(!value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()));
    assert!(used < Duration::from_secs(365 * 24 * 3600));
    if let Some(refresh) = &refresh {
        Creds::refresh(refresh).expect("a refresh token");
    }
    let plain = serde_json::json!({ "token": value, "refresh_token": refresh });
    let (again, used, refresh_again) = token(plain.to_string().as_bytes()).expect("a plain answer");
    assert_eq!((again, refresh_again), (value, refresh));
    assert_eq!(used, Duration::from_secs(54), "60 s less a tenth");
});
