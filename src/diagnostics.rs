//! What a registry says about a failure (distribution-spec, "Error Codes"), read leniently.

use serde_json::Value;

use crate::error::Diagnostic;

const MAX_TEXT: usize = 8 * 1024;
const MAX_ENTRIES: usize = 10_000;

/// The entries of an error body. What is not understood becomes one entry `UNKNOWN` with the text.
pub(crate) fn parse(body: &[u8], content_type: Option<&str>) -> Vec<Diagnostic> {
    let text = decode(body);
    let text = text.trim();
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        return unknown(text, content_type);
    };
    let Some(object) = value.as_object() else {
        return unknown(text, content_type);
    };
    let field = |name: &str| object.get(name).and_then(Value::as_str).map(cap);
    match object.get("errors") {
        Some(Value::Array(all)) => {
            if all.iter().any(|e| !e.is_object()) {
                return unknown(text, content_type);
            }
            all.iter().take(MAX_ENTRIES).map(entry).collect()
        }
        Some(_) => unknown(text, content_type),
        None => {
            if let Some(code) = field("error") {
                let message = field("error_description");
                return vec![Diagnostic {
                    code: Some(code),
                    message,
                    detail: None,
                }];
            }
            if object.is_empty() {
                Vec::new()
            } else {
                unknown(text, content_type)
            }
        }
    }
}

fn entry(value: &Value) -> Diagnostic {
    let text = |name| value.get(name).and_then(Value::as_str).map(cap);
    let detail = value
        .get("detail")
        .filter(|d| !d.is_null())
        .map(|d| d.to_string());
    Diagnostic {
        code: text("code"),
        message: text("message"),
        detail,
    }
}

fn unknown(text: &str, content_type: Option<&str>) -> Vec<Diagnostic> {
    let _ = content_type;
    vec![Diagnostic {
        code: Some("UNKNOWN".to_owned()),
        message: Some(cap(text)),
        detail: None,
    }]
}

fn cap(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

fn decode(body: &[u8]) -> String {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    String::from_utf8_lossy(body).into_owned()
}

/// Short text for an error message.
pub(crate) fn summary(diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for d in diagnostics {
        let part = match (d.code.as_deref(), d.message.as_deref()) {
            (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
            (Some(code), _) => code.to_owned(),
            (None, Some(message)) => message.to_owned(),
            (None, None) => continue,
        };
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.push_str(&part);
        if out.len() > 512 {
            break;
        }
    }
    out.chars().take(512).collect()
}
