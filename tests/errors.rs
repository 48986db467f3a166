//! Every kind of failure looks the same from Rust and, through the C API, from Python's ctypes and cffi.

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use registry_transport::error::{Error, ErrorKind};
use registry_transport::name::Reference;
use registry_transport::op::Op;
use registry_transport::transport::{Actions, Transport};
use serde_json::{Value, json};
use support::c::{ROOT, built, must};
use support::client::{options, with};
use support::pki::Ca;
use support::server::{Answer, Gate, Request, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn manifest(body: &str) -> Answer {
    Answer::ok(body).header("Content-Type", MANIFEST)
}

fn odd(request: &Request, never: &Gate) -> Answer {
    let errors = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"none","detail":{"tag":"none"}},{"code":"X"}]}"#;
    match request.path.rsplit('/').next().unwrap_or_default() {
        _ if request.method == "DELETE" => Answer::error(405, "UNSUPPORTED", "not here"),
        _ if request.method == "POST" => {
            Answer::new(202).header("Location", "/v2/a/b/blobs/uploads/1")
        }
        "never" => manifest("{}").after(never),
        "none" => Answer::new(404).body(errors),
        "busy" => Answer::new(503).header("Retry-After", "3600"),
        "text" => Answer::ok("hello").header("Content-Type", "text/plain"),
        "garbage" => Answer::raw("no HTTP at all\r\n\r\n"),
        _ => manifest("{\"schemaVersion\":2}"),
    }
}

fn line(label: &str, error: &Error) -> Value {
    let diagnostics: Vec<_> = error
        .diagnostics()
        .iter()
        .map(|d| json!([d.code, d.message, d.detail]))
        .collect();
    json!([
        label,
        error.kind() as i32,
        error.message(),
        error.http_status().unwrap_or(0),
        error.os_code().unwrap_or(0),
        error
            .retry_after()
            .map_or(-1, |d| i64::try_from(d.as_millis()).unwrap()),
        diagnostics,
    ])
}

/// The calls of errors.py.
fn in_rust([free, locked, tls, closed]: [&str; 4]) -> Vec<Value> {
    let to = |registry: &str, numbers: &[(&str, i64)], scheme: Option<&str>| {
        let mut options = with(numbers);
        options.set_number("retries", 0).unwrap();
        if let Some(scheme) = scheme {
            options.set_text("scheme", scheme).unwrap();
        }
        let actions = Actions::from_bits(7).unwrap();
        Transport::new(&format!("{registry}/a/b"), actions, None, Some(&options)).unwrap()
    };
    let t = to(free, &[], None);
    let op = Op::new();
    op.set_timeout(Some(Duration::from_millis(30)));
    let timeout = t.manifest_get("never", Some(&op)).map(drop);
    op.cancel();
    let limited = to(free, &[("max-manifest-bytes", 10)], None);
    let catalog = Actions::from_bits(8).unwrap();
    let get = |tag: &str| t.manifest_get(tag, None).map(drop);
    let failures = [
        (
            "argument",
            Transport::new("r.example/a/b", catalog, None, Some(&options())).map(drop),
        ),
        ("syntax", Reference::parse("a b").map(drop)),
        ("unsupported", t.manifest_delete("latest", None)),
        ("network", to(closed, &[], None).ping(None)),
        ("tls", to(tls, &[], Some("https")).ping(None)),
        ("timeout", timeout),
        ("cancelled", t.manifest_get("latest", Some(&op)).map(drop)),
        (
            "auth",
            to(locked, &[], None).manifest_get("latest", None).map(drop),
        ),
        ("status", get("none")),
        ("busy", get("busy")),
        ("media type", get("text")),
        ("digest", get(&format!("sha256:{}", "0".repeat(64)))),
        ("limit", limited.manifest_get("latest", None).map(drop)),
        (
            "io",
            t.blob_save(
                &format!("sha256:{}", "1".repeat(64)),
                "/no/such/folder/blob".as_ref(),
                None,
            ),
        ),
        ("protocol", get("garbage")),
        (
            "state",
            t.upload_begin(None).unwrap().finish(None, None).map(drop),
        ),
    ];
    failures
        .iter()
        .map(|(label, result)| line(label, result.as_ref().expect_err(label)))
        .collect()
}

#[test]
fn every_kind_from_outside() {
    let never = Gate::new();
    let free = Server::start(move |request| odd(request, &never));
    let locked = Server::start(|_| Answer::challenge("Basic realm=\"here\""));
    let ca = Ca::new();
    let tls = Server::builder().tls(&ca).start(|_| Answer::new(200));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let names = [free.authority(), locked.authority(), tls.authority()];
    let closed = closed.unwrap().to_string();
    let registries = [&names[0], &names[1], &names[2], closed.as_str()];
    let wanted = in_rust(registries);

    // All kinds but the one that only a bug makes, and what the words of errors.py promise.
    let kinds: BTreeSet<i64> = wanted.iter().map(|l| l[1].as_i64().unwrap()).collect();
    assert_eq!(kinds, (1..=ErrorKind::State as i64).collect());
    assert_eq!(wanted[3][4], 111, "ECONNREFUSED: {}", wanted[3]);
    assert_eq!(wanted[8][6][0][2], "{\"tag\":\"none\"}");
    assert_eq!(wanted[9][5], 3_600_000);

    for backend in ["ctypes", "cffi"] {
        // Debian's Python has Debian's cffi.
        let lines = must(
            Command::new("/usr/bin/python3")
                .arg(format!("{ROOT}/tests/abi/errors.py"))
                .arg(backend)
                .arg(built().join("libregistry_transport.so"))
                .arg(format!("{ROOT}/include/registry_transport.h"))
                .args(registries),
        );
        let got: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(got, wanted, "{backend}");
    }
}
