//! Bodies of refused requests. The first byte chooses the media type, and whether there was more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_transport::error::Diagnostic;
use registry_transport::fuzzing::diagnostics;
use serde_json::{Value, json};

fn is_clean(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_control() && !"\t\r\n".contains(c))
}

fuzz_target!(|data: &[u8]| {
    let (kind, body) = data.split_first().unwrap_or((&0, &[]));
    let is_cut = kind & 4 != 0;
    let kind = [
        None,
        Some("application/json"),
        Some("text/html"),
        Some("a\u{7}b"),
    ][usize::from(kind % 4)];
    let (found, summary) = diagnostics(body, is_cut, kind);
    assert!(found.len() <= 100);
    for d in &found {
        let code = d.code.as_deref().unwrap_or_default();
        let message = d.message.as_deref().unwrap_or_default();
        assert!(
            is_clean(code) && code.len() <= 256,
            "code of {} bytes",
            code.len()
        );
        assert!(
            is_clean(message) && message.len() <= 8 * 1024 + 300,
            "message of {} bytes",
            message.len()
        );
        if let Some(detail) = &d.detail {
            assert!(detail.len() <= 6 * body.len());
            serde_json::from_str::<Value>(detail).expect("a detail is JSON");
        }
    }
    assert!(
        summary.len() <= 512 + '…'.len_utf8() && !summary.contains(char::is_control),
        "{summary:?}"
    );
    if body.iter().all(u8::is_ascii_whitespace) && !body.is_empty() {
        assert_eq!(found.len(), 1, "something was sent");
    }
    // Written as the specification has it, they are read again.
    let entry = |d: &Diagnostic| {
        let detail: Option<Value> = d
            .detail
            .as_deref()
            .map(|t| serde_json::from_str(t).expect("JSON"));
        json!({ "code": d.code, "message": d.message, "detail": detail })
    };
    let text = json!({ "errors": found.iter().map(entry).collect::<Vec<_>>() });
    let (again, _) = diagnostics(text.to_string().as_bytes(), false, None);
    if found
        .iter()
        .all(|d| d.message.as_ref().is_none_or(|m| m.len() <= 8 * 1024))
    {
        let again = json!({ "errors": again.iter().map(entry).collect::<Vec<_>>() });
        assert_eq!(text, again);
    }
});
