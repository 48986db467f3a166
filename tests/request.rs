//! One request and one answer: what is put on the wire, what is taken from it, and what is repeated.

mod support;

use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use registry_transport::creds::Creds;
use registry_transport::error::{Error, ErrorKind};
use registry_transport::request::Request;
use registry_transport::response::Response;
use registry_transport::source::{ReadBytes, Source};
use registry_transport::transport::{Actions, Transport};
use support::client::{get, keep_log, options, transport, with, with_texts};
use support::registry::noise;
use support::server::{Answer, Gate, Request as Got, Server, lock, script};

/// A reader of `left` bytes that cannot be rewound.
struct Once {
    left: usize,
}

impl ReadBytes for Once {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let n = buf.len().min(self.left);
        buf[..n].fill(b'o');
        self.left -= n;
        Ok(n)
    }

    fn rewind(&mut self) -> bool {
        false
    }
}

fn once(size: Option<u64>) -> Source {
    Source::reader(Box::new(Once { left: 5 }), size)
}

fn header<'a>(request: &'a Got, name: &str) -> &'a str {
    request.header(name).unwrap_or("-")
}

fn failure(result: Result<Response, Error>, what: impl std::fmt::Debug) -> Error {
    match result {
        Ok(response) => panic!(
            "{what:?}: {} where an error was expected",
            response.status()
        ),
        Err(e) => e,
    }
}

/// Method, length and type of what is sent.
#[test]
fn methods_and_bodies() {
    let server = Server::start(|_| Answer::ok(""));
    let transport = transport(&server, &options());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    std::fs::write(&file, "from a file").unwrap();
    type Case = (
        Option<&'static str>,
        Option<Source>,
        Option<&'static str>,
        [&'static str; 5],
    );
    // Sent: method, Content-Length, Transfer-Encoding, Content-Type, body.
    let cases: Vec<Case> = vec![
        (None, None, None, ["GET", "-", "-", "-", ""]),
        (Some("HEAD"), None, None, ["HEAD", "-", "-", "-", ""]),
        (Some("DELETE"), None, None, ["DELETE", "-", "-", "-", ""]),
        (Some("OPTIONS"), None, None, ["OPTIONS", "-", "-", "-", ""]),
        (Some("POST"), None, None, ["POST", "0", "-", "-", ""]),
        (Some("PUT"), None, None, ["PUT", "0", "-", "-", ""]),
        (Some("PATCH"), None, None, ["PATCH", "0", "-", "-", ""]),
        (Some("PURGE"), None, None, ["PURGE", "-", "-", "-", ""]),
        (Some("post"), None, None, ["post", "-", "-", "-", ""]),
        (
            None,
            Some(Source::bytes("")),
            None,
            ["PUT", "0", "-", "application/json", ""],
        ),
        (
            None,
            Some(Source::bytes("")),
            Some("x/y"),
            ["PUT", "0", "-", "x/y", ""],
        ),
        (
            None,
            Some(Source::bytes("{}")),
            None,
            ["PUT", "2", "-", "application/json", "{}"],
        ),
        (
            Some("POST"),
            Some(Source::file(&file)),
            Some("text/plain; charset=utf-8"),
            [
                "POST",
                "11",
                "-",
                "text/plain; charset=utf-8",
                "from a file",
            ],
        ),
        (
            Some("PATCH"),
            Some(once(Some(5))),
            Some("a/b"),
            ["PATCH", "5", "-", "a/b", "ooooo"],
        ),
        (
            Some("POST"),
            Some(once(None)),
            Some("a/b"),
            ["POST", "-", "chunked", "a/b", "ooooo"],
        ),
        (
            Some("GET"),
            Some(Source::bytes("q")),
            None,
            ["GET", "1", "-", "application/json", "q"],
        ),
        (
            Some("DELETE"),
            Some(Source::bytes("q")),
            None,
            ["DELETE", "1", "-", "application/json", "q"],
        ),
    ];
    for (method, body, kind, want) in cases {
        let mut request = Request::new(method, "/v2/x");
        if let Some(body) = body {
            request.body(body);
        }
        if let Some(kind) = kind {
            request.header("Content-Type", kind);
        }
        transport.request(&request, None).unwrap();
        let got = server.requests().pop().unwrap();
        let seen = [
            &got.method,
            header(&got, "content-length"),
            header(&got, "transfer-encoding"),
            header(&got, "content-type"),
            &String::from_utf8_lossy(&got.body),
        ];
        assert_eq!(seen, want, "{method:?}");
        for name in ["content-length", "content-type", "host", "user-agent"] {
            assert!(got.header_all(name).len() <= 1, "{method:?}: {name} twice");
        }
        assert_eq!(header(&got, "host"), server.authority());
        assert_eq!(header(&got, "accept"), "-");
        assert_eq!(header(&got, "accept-encoding"), "identity");
        assert_eq!(header(&got, "authorization"), "-", "contract 18");
        assert_eq!(header(&got, "expect"), "-");
    }
    assert_eq!(server.connections(), 1, "one connection for all");
}

/// A body that is shorter or longer than it was said to be must not be sent as if it were whole.
#[test]
fn bodies_of_the_wrong_length() {
    let server = Server::start(|_| Answer::ok(""));
    let transport = transport(&server, &with(&[("retries", 0)]));
    let mut short = Request::new(Some("PUT"), "/v2/short");
    short.body(once(Some(9)));
    let error = failure(transport.request(&short, None), "short");
    assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    let mut absent = Request::new(Some("PUT"), "/v2/absent");
    absent.body(Source::file("/nonexistent/body"));
    let error = failure(transport.request(&absent, None), "absent");
    assert_eq!((error.kind(), error.os_code()), (ErrorKind::Io, Some(2)));
    assert!(error.message().contains("/nonexistent/body"));
    assert!(server.wait_open_at_most(0), "the connection is given up");
    assert!(
        server.requests().iter().all(|r| r.body.is_empty()),
        "nothing was taken for a whole body"
    );
    let mut long = Request::new(Some("PUT"), "/v2/long");
    long.body(once(Some(3)));
    transport.request(&long, None).unwrap();
    let seen = server.requests();
    let got = seen.iter().find(|r| r.path == "/v2/long").unwrap();
    assert_eq!(got.body, b"ooo");
    assert_eq!(get(&transport, "/v2/next").unwrap(), b"");
}

/// Accept, and the type of the answer.
#[test]
fn accepted_types() {
    for (accepted, sent, told, good) in [
        (vec![], "-", Some("any/thing"), true),
        (
            vec!["a/b", "c/d+json"],
            "a/b,c/d+json",
            Some("c/d+json"),
            true,
        ),
        (vec!["a/b"], "a/b", Some("A/B; charset=\"x, y\""), true),
        (vec!["A/b;q=0.5"], "A/b;q=0.5", Some("a/B"), true),
        (vec!["a/b"], "a/b", None, true),
        (vec!["a/b"], "a/b", Some("a/bc"), false),
        (vec!["a/b"], "a/b", Some("text/html"), false),
        (vec!["a/b"], "a/b", Some(""), false),
    ] {
        let server = Server::start(move |_| match told {
            Some(told) => Answer::ok("x").header("Content-Type", told),
            None => Answer::ok("x"),
        });
        let transport = transport(&server, &options());
        let mut request = Request::new(None, "/v2/x");
        for kind in &accepted {
            request.accept_type(kind);
        }
        let result = transport.request(&request, None);
        assert_eq!(header(&server.requests()[0], "accept"), sent);
        assert_eq!(server.count(), 1, "{accepted:?} {told:?}");
        if good {
            assert_eq!(result.unwrap().body().unwrap(), b"x");
        } else {
            let error = failure(result, told);
            assert_eq!(
                (error.kind(), error.http_status()),
                (ErrorKind::MediaType, Some(200))
            );
        }
    }
    // An error document is an error first.
    let server = Server::start(|_| Answer::error(404, "NAME_UNKNOWN", "no such name"));
    let mut request = Request::new(None, "/v2/x");
    request.accept_type("a/b");
    let error = failure(transport(&server, &options()).request(&request, None), 404);
    assert_eq!(error.kind(), ErrorKind::Status);
}

/// Which answers are answers.
#[test]
fn accepted_statuses() {
    for (accepted, status, good, requests) in [
        (vec![], 200, true, 1),
        (vec![], 201, true, 1),
        (vec![], 299, true, 1),
        (vec![], 304, false, 1),
        (vec![], 400, false, 1),
        (vec![404], 404, true, 1),
        (vec![404], 200, false, 1),
        (vec![200, 404], 404, true, 1),
        (vec![202], 200, false, 1),
        (vec![401], 401, true, 1),
        (vec![416], 416, true, 1),
        (vec![503], 503, true, 1),
        (vec![500], 503, false, 2),
        (vec![307], 307, true, 1),
    ] {
        let server = Server::start(move |_| {
            Answer::new(status)
                .header("Location", "/v2/elsewhere")
                .body("said")
        });
        let transport = transport(&server, &with(&[("retries", 1)]));
        let mut request = Request::new(None, "/v2/x");
        for status in &accepted {
            request.accept_status(*status);
        }
        let result = transport.request(&request, None);
        assert_eq!(server.count(), requests, "{accepted:?} {status}");
        if good {
            let mut response = result.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.body().unwrap(), b"said");
        } else {
            let error = failure(result, status);
            assert_eq!(
                (error.kind(), error.http_status()),
                (ErrorKind::Status, Some(status)),
                "{accepted:?}"
            );
        }
    }
}

/// A part is the one that was asked for, as far as it says, and nothing but a part that was.
#[test]
fn parts() {
    let ten = |first: u64| format!("bytes {first}-{}/1000", first + 9);
    for (asked, named, range, good) in [
        (None, false, Some(ten(0)), false),
        (None, true, Some(ten(0)), true),
        (Some("bytes=900-"), false, Some(ten(900)), true),
        (
            Some("bytes=900-"),
            true,
            Some("bytes 900-999/*".to_owned()),
            true,
        ),
        (Some("bytes=900-"), false, Some(ten(800)), false),
        (Some("bytes=900-"), true, Some(ten(800)), false),
        (Some("bytes=900-"), false, None, false),
        (
            Some("bytes=900-"),
            false,
            Some("items 900-909/1000".to_owned()),
            false,
        ),
        (Some("Bytes=900-909"), false, Some(ten(900)), true),
        (Some("bytes=900-920"), false, Some(ten(900)), true),
        (Some("bytes=900-908"), false, Some(ten(900)), false),
        (Some("bytes=-10"), false, Some(ten(990)), true),
        (Some("bytes=0-9,20-29"), false, None, true),
    ] {
        let what = format!("{asked:?} {named} {range:?}");
        let server = Server::start(move |_| {
            let answer = Answer::new(206).body("0123456789");
            match &range {
                Some(range) => answer.header("Content-Range", range),
                None => answer,
            }
        });
        let mut request = Request::new(None, "/v2/x");
        if let Some(asked) = asked {
            request.header("range", asked);
        }
        if named {
            request.accept_status(206);
        }
        let result = transport(&server, &options()).request(&request, None);
        if good {
            assert_eq!(result.unwrap().body().unwrap(), b"0123456789", "{what}");
        } else {
            let error = failure(result, &what);
            assert_eq!(
                (error.kind(), error.http_status()),
                (ErrorKind::Protocol, Some(206)),
                "{what}"
            );
        }
    }
    // Several parts in one are not the one that was asked for.
    let server = Server::start(move |_| {
        Answer::new(206)
            .header("Content-Range", ten(900))
            .header("Content-Type", "multipart/byteranges; boundary=x")
    });
    let mut request = Request::new(None, "/v2/x");
    request.header("Range", "bytes=900-");
    let error = failure(
        transport(&server, &options()).request(&request, None),
        "multipart",
    );
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

/// Mistakes are told before anything is sent.
#[test]
fn refused_requests() {
    let server = Server::start(|_| Answer::ok(""));
    let transport1 = transport(&server, &options());
    for (name, value) in [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\nb"),
        ("X-A", "a\rb"),
        ("X-A", "a\0b"),
        ("X-A", "a\x7fb"),
        ("X-A\r\nX-B", "a"),
        ("X A", "a"),
        ("X:A", "a"),
        ("", "a"),
        ("Ä", "a"),
        ("Content-Length", "5"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "trailers"),
        ("Trailer", "X"),
        ("Connection", "close"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "close"),
        ("Proxy-Authorization", "Basic eA=="),
        ("Upgrade", "h2c"),
        ("Host", "evil.example"),
        ("Expect", "100-continue"),
        ("Accept-Encoding", "gzip"),
    ] {
        let mut request = Request::new(Some("PUT"), "/v2/x");
        request.header(name, value).body(Source::bytes("x"));
        let error = failure(transport1.request(&request, None), name);
        assert_eq!(error.kind(), ErrorKind::Argument, "{name:?}: {value:?}");
        assert!(!error.message().contains('\n'));
    }
    for method in [
        "",
        "GE T",
        "GET\r\nX: y",
        "GET /x HTTP/1.1\r\n",
        "CONNECT",
        "Gét",
    ] {
        let error = failure(
            transport1.request(&Request::new(Some(method), "/v2/x"), None),
            method,
        );
        assert_eq!(error.kind(), ErrorKind::Argument, "{method:?}");
    }
    for path in [
        "",
        "v2/x",
        "tags/list",
        "//evil.example/x",
        "/v2/../x",
        "./../../x",
        "./a/%2e%2E/b",
        "/v2/x y\r\nX: y",
        "/v2/x\nX: y",
        "/v2/x\0",
        "/v2/%00",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "javascript://x/%0aalert(1)",
        "http://user:secretsecret@127.0.0.1/x",
        "http://",
        "http:///x",
        "http://a b/x",
        "http://[::1/x",
        "http://127.0.0.1:99999/x",
    ] {
        let error = failure(transport1.request(&Request::new(None, path), None), path);
        assert_eq!(error.kind(), ErrorKind::Syntax, "{path:?}: {error}");
        assert!(!error.message().contains("secretsecret"), "{error}");
    }
    let bare = Transport::new(
        &server.authority(),
        Actions::catalog(),
        None,
        Some(&options()),
    )
    .unwrap();
    let error = failure(bare.request(&Request::new(None, "./x"), None), "./x");
    assert_eq!(error.kind(), ErrorKind::Syntax);
    let mut typed = Request::new(None, "/v2/x");
    typed.accept_type("a/b\r\nX: y");
    let error = failure(transport1.request(&typed, None), "type");
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert_eq!(server.count(), 0, "nothing was sent");
}

/// The target on the wire, byte for byte.
#[test]
fn paths() {
    let server = Server::start(|_| Answer::ok(""));
    let transport = transport(&server, &options());
    let authority = server.authority();
    let absolute = format!("http://{authority}/v2/x?y=z");
    let upper = format!("HTTP://{authority}/v2/x#fragment");
    let root = format!("http://{authority}");
    for (path, want) in [
        ("/v2/", "/v2/"),
        ("/", "/"),
        ("/other/place?q", "/other/place?q"),
        (
            "./tags/list?n=5&last=a%2Fb",
            "/v2/a/b/tags/list?n=5&last=a%2Fb",
        ),
        ("./blobs/sha256:ab", "/v2/a/b/blobs/sha256:ab"),
        ("/v2/x?a=b+c%20d&&e=/?", "/v2/x?a=b+c%20d&&e=/?"),
        ("/v2/x#fragment", "/v2/x"),
        (&absolute, "/v2/x?y=z"),
        (&upper, "/v2/x"),
        (&root, "/"),
    ] {
        let response = transport.request(&Request::new(None, path), None).unwrap();
        let got = server.requests().pop().unwrap();
        assert_eq!(got.target, want, "{path}");
        let shown = format!("http://{authority}{}", got.path);
        assert_eq!(response.url(), shown, "the query is not shown");
    }
}

/// What belongs to the registry does not go to a host that the program names.
#[test]
fn other_origins() {
    let other = Server::start(|_| Answer::ok("there"));
    let server = Server::start(|r| match r.header("authorization") {
        Some(_) => Answer::ok("here"),
        None => Answer::challenge("Basic realm=\"x\""),
    });
    let creds = Creds::basic("user", "pass").unwrap();
    let name = format!("{}/a/b", server.authority());
    let transport = Transport::new(&name, Actions::pull(), Some(&creds), Some(&options())).unwrap();
    assert_eq!(get(&transport, "./x").unwrap(), b"here");
    assert_eq!(get(&transport, &server.url("/v2/y")).unwrap(), b"here");
    let mut request = Request::new(None, &other.url("/v2/z?sig=1"));
    request
        .header("Cookie", "session=1")
        .header("X-Api-Key", "key")
        .header("Range", "bytes=0-1");
    assert_eq!(transport.request(&request, None).unwrap().status(), 200);
    let got = &other.requests()[0];
    assert_eq!(got.target, "/v2/z?sig=1");
    for name in ["authorization", "cookie", "x-api-key"] {
        assert_eq!(header(got, name), "-", "{name}");
    }
    assert_eq!(header(got, "range"), "bytes=0-1");
    assert_eq!(other.count(), 1);
    // The program's own Authorization is sent as it is, to the registry alone.
    server.clear();
    let mut own = Request::new(None, "./x");
    own.header("Authorization", "Bearer mine");
    transport.request(&own, None).unwrap();
    assert_eq!(
        server.requests()[0].header_all("authorization"),
        ["Bearer mine"]
    );
    let mut away = Request::new(None, &other.url("/v2/z"));
    away.header("Authorization", "Bearer mine");
    transport.request(&away, None).unwrap();
    assert_eq!(header(&other.requests()[1], "authorization"), "-");
}

/// What the client calls itself.
#[test]
fn user_agent() {
    let server = Server::start(|_| Answer::ok(""));
    let own = concat!("registry-transport/", env!("CARGO_PKG_VERSION"));
    let named = with_texts(&[("user-agent", "tool/1.2 (x; y)")]);
    for (options, given, want) in [
        (options(), None, own),
        (named.clone(), None, "tool/1.2 (x; y)"),
        (named, Some("mine/3"), "mine/3"),
    ] {
        let mut request = Request::new(None, "/v2/x");
        if let Some(given) = given {
            request.header("User-Agent", given);
        }
        transport(&server, &options)
            .request(&request, None)
            .unwrap();
        assert_eq!(
            server.requests().pop().unwrap().header_all("user-agent"),
            [want]
        );
    }
}

/// Bytes come out as they came in.
#[test]
fn raw_bytes() {
    let zipped = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    for coding in ["gzip", "br", "zstd", "deflate", "identity"] {
        for chunked in [false, true] {
            let server = Server::start(move |_| {
                let answer = Answer::ok(zipped).header("Content-Encoding", coding);
                if chunked { answer.chunks_of(7) } else { answer }
            });
            let transport = transport(&server, &options());
            let mut response = transport
                .request(&Request::new(None, "/v2/x"), None)
                .unwrap();
            assert_eq!(response.header("content-encoding"), Some(coding));
            assert_eq!(response.length(), (!chunked).then_some(zipped.len() as u64));
            assert_eq!(response.body().unwrap(), zipped, "{coding}");
            assert_eq!(header(&server.requests()[0], "accept-encoding"), "identity");
        }
    }
}

/// Answers without a body leave the connection where it should be.
#[test]
fn answers_without_a_body() {
    type Make = fn() -> Answer;
    let cases: [(&str, Make, u16, Option<u64>); 9] = [
        ("HEAD", || Answer::ok("12345"), 200, Some(5)),
        ("HEAD", || Answer::ok("12345").chunked(), 200, None),
        (
            "HEAD",
            || Answer::new(200).content_length(1_u64 << 40),
            200,
            Some(1 << 40),
        ),
        ("HEAD", || Answer::new(200), 200, Some(0)),
        ("GET", || Answer::new(204), 204, None),
        (
            "GET",
            || Answer::new(204).content_length(7).keep_alive(),
            204,
            Some(7),
        ),
        (
            "GET",
            || Answer::new(304).content_length(7).keep_alive(),
            304,
            Some(7),
        ),
        ("DELETE", || Answer::new(202), 202, Some(0)),
        ("GET", || Answer::ok("").chunked(), 200, None),
    ];
    for (n, (method, make, status, length)) in cases.into_iter().enumerate() {
        let server = Server::start(move |r| match r.path.as_str() {
            "/v2/x" => make(),
            _ => Answer::ok("after"),
        });
        let transport = transport(&server, &with(&[("retries", 0)]));
        let mut request = Request::new(Some(method), "/v2/x");
        request.accept_status(status);
        let mut response = transport.request(&request, None).unwrap();
        assert_eq!(
            (response.status(), response.length()),
            (status, length),
            "case {n}"
        );
        assert_eq!(response.body().unwrap(), b"", "case {n}");
        assert_eq!(get(&transport, "/v2/y").unwrap(), b"after", "case {n}");
        assert_eq!(
            server.connections(),
            1,
            "case {n}: the connection is used again"
        );
    }
}

/// Interim answers are passed over, and are no answers.
#[test]
fn interim_answers() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=next\r\nContent-Length: 5\r\n\r\n";
    for preface in [
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        "HTTP/1.1 102 Processing\r\n\r\n".to_owned(),
        hints.to_owned(),
        hints.repeat(5),
    ] {
        let own = preface.clone();
        let server = Server::start(move |_| Answer::ok("final").preface(own.clone()));
        let transport = transport(&server, &with(&[("retries", 0)]));
        for _ in 0..2 {
            let mut response = transport
                .request(&Request::new(None, "/v2/x"), None)
                .unwrap();
            assert_eq!((response.status(), response.header("link")), (200, None));
            assert_eq!(response.body().unwrap(), b"final", "{preface:?}");
        }
        assert_eq!(server.connections(), 1);
    }
    for never in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ] {
        let server = Server::start(move |_| Answer::raw(never));
        let result = get(&transport(&server, &with(&[("retries", 0)])), "/v2/x");
        assert!(result.is_err(), "{never:?}: {result:?}");
    }
}

/// The body is there to be read as it comes, in any portions.
#[test]
fn streaming() {
    let data = noise("stream", 300_000);
    let gate = Gate::new();
    let (own, closed) = (data.clone(), gate.clone());
    let server = Server::start(move |r| {
        let answer = Answer::ok(own.clone()).stall_after(100_000, &closed);
        if r.query == "chunked" {
            answer.chunks_of(3000)
        } else {
            answer
        }
    });
    let transport = transport(&server, &options());
    for path in ["/v2/x", "/v2/x?chunked"] {
        let mut response = transport.request(&Request::new(None, path), None).unwrap();
        let mut got = Vec::new();
        let mut piece = vec![0; 777];
        while got.len() < 90_000 {
            let n = response.read(&mut piece).unwrap();
            assert!(n > 0, "before the gate opened");
            got.extend_from_slice(&piece[..n]);
        }
        assert_eq!(response.read(&mut []).unwrap(), 0);
        gate.open();
        let mut pieces = 0;
        response
            .drain(&mut |piece| {
                got.extend_from_slice(piece);
                pieces += 1;
                true
            })
            .unwrap();
        assert!(got == data, "{path}");
        assert!(pieces > 0);
        assert_eq!(
            response.read(&mut piece).unwrap(),
            0,
            "the end stays the end"
        );
        assert_eq!(response.body().unwrap(), b"");
    }
    assert_eq!(server.connections(), 1);
    // What was read into memory can be lent again and again, then read, then taken.
    let mut response = transport
        .request(&Request::new(None, "/v2/x"), None)
        .unwrap();
    let mut first = [0; 5];
    let n = response.read(&mut first).unwrap();
    assert_eq!(response.body().unwrap(), &data[n..]);
    assert_eq!(response.body().unwrap(), &data[n..]);
    let m = response.read(&mut first).unwrap();
    assert_eq!(first[..m], data[n..n + m]);
    assert_eq!(response.take_body().unwrap(), &data[n + m..]);
    assert_eq!(response.take_body().unwrap(), b"");
}

/// `max-body-bytes` holds for announced and for other bodies; a stopped one gives up its connection.
#[test]
fn limits_of_a_body() {
    let server = Server::start(|r| {
        let answer = Answer::ok(vec![7; 50_000]);
        if r.query == "chunked" {
            answer.chunked()
        } else {
            answer
        }
    });
    for path in ["/v2/x", "/v2/x?chunked"] {
        let error = get(
            &transport(&server, &with(&[("max-body-bytes", 49_999)])),
            path,
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.message().contains("max-body-bytes"), "{error}");
        let exact = with(&[("max-body-bytes", 50_000)]);
        assert_eq!(
            get(&transport(&server, &exact), path).unwrap().len(),
            50_000
        );
        // The limit is about memory: what is streamed is not limited.
        let mut length = 0;
        let transport = transport(&server, &with(&[("max-body-bytes", 1)]));
        let mut response = transport.request(&Request::new(None, path), None).unwrap();
        response
            .drain(&mut |piece| {
                length += piece.len();
                true
            })
            .unwrap();
        assert_eq!(length, 50_000);
    }
    let data = noise("stopped", 4 << 20);
    let server = Server::start(move |_| Answer::ok(data.clone()));
    let transport = transport(&server, &options());
    let mut response = transport
        .request(&Request::new(None, "/v2/x"), None)
        .unwrap();
    let mut pieces = 0;
    let error = response
        .drain(&mut |_| {
            pieces += 1;
            pieces < 3
        })
        .unwrap_err();
    assert_eq!((error.kind(), pieces), (ErrorKind::Cancelled, 3));
    assert_eq!(
        response.read(&mut [0; 9]).unwrap_err().kind(),
        ErrorKind::Cancelled
    );
    assert_eq!(response.body().unwrap_err().kind(), ErrorKind::Cancelled);
    drop(response);
    // One that is dropped half read does too.
    let mut half = transport
        .request(&Request::new(None, "/v2/x"), None)
        .unwrap();
    half.read(&mut [0; 9]).unwrap();
    drop(half);
    assert!(server.wait_open_at_most(0));
    assert_eq!(get(&transport, "/v2/x").unwrap().len(), 4 << 20);
    assert_eq!(server.connections(), 3);
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A saved body is there as a whole or not at all.
#[test]
fn saved_bodies() {
    let gate = Gate::new();
    let closed = gate.clone();
    let server = Server::start(move |r| {
        let answer = Answer::ok(vec![7; 50_000]);
        match r.query.as_str() {
            "cut" => answer.cut_after(20_000),
            "chunked-cut" => answer.chunked().cut_after(20_000),
            "slow" => answer.stall_after(20_000, &closed),
            _ => answer,
        }
    });
    let transport = transport(&server, &options());
    let ask = |path: &str| transport.request(&Request::new(None, path), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("file");
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| ask("/v2/x?slow").save(&target));
        assert!(gate.wait_reached(1));
        assert!(!target.exists(), "not before it is complete");
        gate.open();
        saving.join().unwrap().unwrap();
    });
    assert_eq!(std::fs::read(&target).unwrap(), [7; 50_000]);
    assert_eq!(names(folder.path()), ["file"]);
    // A failure leaves what was there.
    std::fs::write(&target, "old").unwrap();
    for path in ["/v2/x?cut", "/v2/x?chunked-cut"] {
        let error = ask(path).save(&target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["file"]);
    }
    ask("/v2/x").save(&target).unwrap();
    assert_eq!(
        std::fs::metadata(&target).unwrap().len(),
        50_000,
        "replaced"
    );
    // A link at the target is replaced, not followed.
    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, "mine").unwrap();
    let link = folder.path().join("link");
    symlink(&elsewhere, &link).unwrap();
    ask("/v2/x").save(&link).unwrap();
    assert!(!std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"mine");
    // Places that cannot be written.
    let inside = folder.path().join("folder");
    std::fs::create_dir(&inside).unwrap();
    for place in [inside, folder.path().join("no/such/folder/file")] {
        let error = ask("/v2/x").save(&place).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.os_code().is_some());
    }
    assert_eq!(
        ask("/v2/x").save("/".as_ref()).unwrap_err().kind(),
        ErrorKind::Argument
    );
    assert_eq!(
        names(folder.path()),
        ["elsewhere", "file", "folder", "link"]
    );
}

/// Headers of an answer: all of them, in order, whatever bytes they hold.
#[test]
fn response_headers() {
    let server = Server::start(|_| {
        Answer::ok("x")
            .header("X-Twice", "one")
            .header("X-Latin", b"caf\xe9")
            .header("x-twice", "two, three")
            .header("X-Empty", "")
            .header("X-Tab", "a\tb")
            .header("X-Utf8", "é")
            .header("X-Raw", [0x80, 0xff])
    });
    let response = transport(&server, &options())
        .request(&Request::new(None, "/v2/x"), None)
        .unwrap();
    let all: Vec<(String, Vec<u8>)> = response
        .headers()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
        .collect();
    let values = |name: &str| -> Vec<&[u8]> {
        all.iter()
            .filter(|(n, _)| n == name)
            .map(|(_, v)| v.as_slice())
            .collect()
    };
    assert_eq!(values("x-twice"), [&b"one"[..], b"two, three"]);
    assert_eq!(values("x-latin"), [b"caf\xe9"]);
    assert_eq!(values("x-raw"), [[0x80, 0xff]]);
    assert_eq!(values("x-empty"), [b""]);
    assert_eq!(response.header("X-TWICE"), Some("one"));
    assert_eq!(response.header("x-utf8"), Some("é"));
    assert_eq!(response.header("x-tab"), Some("a\tb"));
    assert_eq!(response.header("x-latin"), None, "not UTF-8");
    assert_eq!(
        (response.header("x-absent"), response.header("bad name")),
        (None, None)
    );
    for raw in [
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX y: a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = Server::start(move |_| Answer::raw(raw));
        let error = get(&transport(&server, &with(&[("retries", 0)])), "/v2/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{raw:?}");
    }
}

/// A field on several lines is one field (RFC 9112 section 5.2), wherever a read ends.
#[test]
fn folded_lines() {
    let raw = "HTTP/1.1 200 OK\r\nX-Folded: a;\r\n b\r\n\t c\r\nContent-Length: 8\r\nX-Last: d\r\n\r\n\r\n body\r";
    for is_slow in [false, true] {
        let server = Server::start(move |_| match is_slow {
            true => Answer::raw(raw).trickle(1, Duration::from_micros(100)),
            false => Answer::raw(raw),
        });
        let mut response = transport(&server, &with(&[("retries", 0)]))
            .request(&Request::new(None, "/v2/x"), None)
            .unwrap();
        let folded = response.header("x-folded").unwrap();
        assert_eq!(
            folded.split_whitespace().collect::<Vec<_>>(),
            ["a;", "b", "c"]
        );
        assert_eq!(response.header("x-last"), Some("d"));
        assert_eq!(response.body().unwrap(), b"\r\n body\r");
    }
    // What is no HTTP is not waited for.
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |_| Answer::raw("220 mail.example\r\n").stall_after(18, &held));
    let error = get(&transport(&server, &with(&[("retries", 0)])), "/v2/x").unwrap_err();
    gate.open();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    let challenge = "Bearer realm=\"https://auth.example/token\",\r\n service=\"s\"";
    let server = Server::start(move |_| {
        Answer::raw(format!(
            "HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n"
        ))
    });
    let error = get(&transport(&server, &options()), "/v2/x").unwrap_err();
    assert!(error.to_string().contains("auth.example"), "{error}");
}

/// The status is never lost, and what is said about it is kept in bounds.
#[test]
fn diagnostics() {
    let item = r#"{"code":"BLOB_UNKNOWN","message":"gone","detail":{"n":1}}"#;
    let one = format!(r#"{{"errors":[{item}]}}"#);
    let many = format!(r#"{{"errors":[{}]}}"#, [item; 100_000].join(","));
    let deep = format!(
        r#"{{"errors":[{{"code":"A","detail":{}}}]}}"#,
        "[".repeat(200_000)
    );
    let utf16: Vec<u8> = "\u{feff}"
        .chars()
        .chain(one.chars())
        .flat_map(|c| (c as u16).to_le_bytes())
        .collect();
    let marked = [b"\xef\xbb\xbf", one.as_bytes()].concat();
    let page = format!(
        "<html><title>Bad Gateway</title>{}</html>",
        "x".repeat(300_000)
    );
    for (what, body, code, most) in [
        ("empty", vec![], None, 0),
        ("object", b"{}".to_vec(), None, 0),
        ("one", one.clone().into_bytes(), Some("BLOB_UNKNOWN"), 1),
        ("mark", marked, Some("BLOB_UNKNOWN"), 1),
        ("utf16", utf16, Some("BLOB_UNKNOWN"), 1),
        ("many", many.into_bytes(), Some("BLOB_UNKNOWN"), 100),
        ("null", br#"{"errors":null}"#.to_vec(), Some("UNKNOWN"), 1),
        ("numbers", br#"{"errors":[1]}"#.to_vec(), Some("UNKNOWN"), 1),
        ("string", br#"{"errors":"x"}"#.to_vec(), Some("UNKNOWN"), 1),
        (
            "no list",
            br#"{"errors":{"code":"X"}}"#.to_vec(),
            Some("UNKNOWN"),
            1,
        ),
        ("list", b"[]".to_vec(), Some("UNKNOWN"), 1),
        (
            "details",
            br#"{"details":"no such repository"}"#.to_vec(),
            Some("UNKNOWN"),
            1,
        ),
        (
            "oauth",
            br#"{"error":"invalid_scope","error_description":"too wide"}"#.to_vec(),
            Some("invalid_scope"),
            1,
        ),
        ("page", page.into_bytes(), Some("UNKNOWN"), 1),
        ("deep", deep.into_bytes(), Some("UNKNOWN"), 1),
        (
            "half a pair",
            br#"{"errors":[{"code":"X","message":"\ud83d gone"}]}"#.to_vec(),
            Some("X"),
            1,
        ),
        (
            "no double",
            br#"{"errors":[{"code":"X","detail":{"n":[-1e400,1e400]}}]}"#.to_vec(),
            Some("X"),
            1,
        ),
        (
            "not the whole",
            br#"{"errors":[{"code":"X","message":"\udc00"},{"code":"#.to_vec(),
            Some("UNKNOWN"),
            1,
        ),
        ("bytes", vec![0xff; 1000], Some("UNKNOWN"), 1),
        ("zeros", vec![0; 1 << 20], Some("UNKNOWN"), 1),
        ("lines", b"a\r\nb\x1b[2Jc\0".to_vec(), Some("UNKNOWN"), 1),
    ] {
        let own = body.clone();
        let server = Server::start(move |_| {
            Answer::new(409)
                .header("Set-Cookie", "session=secretsecret")
                .header("X-Amz-Security-Token", "secretsecret")
                .body(own.clone())
        });
        let error = get(&transport(&server, &options()), "/v2/x?sig=secretsecret").unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status(), error.retry_after()),
            (ErrorKind::Status, Some(409), None),
            "{what}: {error}"
        );
        let found = error.diagnostics();
        assert!(found.len() <= most, "{what}: {}", found.len());
        assert_eq!(
            found.first().and_then(|d| d.code.as_deref()),
            code,
            "{what}"
        );
        assert_eq!(server.count(), 1, "{what}");
        let text = error.message();
        assert!(
            text.len() < 1024 && !text.contains(char::is_control),
            "{what}: {text:?}"
        );
        assert!(
            text.contains("409") && text.contains(&server.authority()),
            "{what}: {text}"
        );
        assert!(
            !format!("{error} {error:?}").contains("secretsecret"),
            "{what}: {error:?}"
        );
    }
    let server = Server::start(move |_| Answer::new(404).body(one.clone()));
    let error = get(&transport(&server, &options()), "/v2/x").unwrap_err();
    let first = &error.diagnostics()[0];
    assert_eq!(
        (first.message.as_deref(), first.detail.as_deref()),
        (Some("gone"), Some(r#"{"n":1}"#))
    );
    assert!(error.message().contains("BLOB_UNKNOWN: gone"), "{error}");
}

/// A body that breaks off, stalls or must not be there does not hide the status.
#[test]
fn diagnostics_of_broken_bodies() {
    let list = r#"{"errors":[{"code":"DENIED","message":"not for you"},{"code":"#;
    type Make = fn(&'static str) -> Answer;
    let cases: [(&str, Make, Option<&str>); 6] = [
        (
            "GET",
            |b| Answer::new(403).body(b).content_length(9999),
            Some("DENIED"),
        ),
        (
            "GET",
            |b| Answer::new(403).body(b).content_length(9999).reset_after(0),
            None,
        ),
        (
            "GET",
            |b| {
                Answer::new(403)
                    .body(b.repeat(9))
                    .chunks_of(20)
                    .cut_after(70)
            },
            Some("DENIED"),
        ),
        (
            "GET",
            |b| Answer::new(403).body(b).no_length(),
            Some("UNKNOWN"),
        ),
        (
            "GET",
            |_| Answer::raw("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            None,
        ),
        ("HEAD", |_| Answer::new(403), None),
    ];
    for (n, (method, make, code)) in cases.into_iter().enumerate() {
        let server = Server::start(move |_| make(list));
        let transport = transport(&server, &options());
        let error = failure(
            transport.request(&Request::new(Some(method), "/v2/x"), None),
            n,
        );
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Status, Some(403)),
            "case {n}: {error}"
        );
        let codes = error.diagnostics().first().and_then(|d| d.code.as_deref());
        assert_eq!(codes, code, "case {n}");
        assert_eq!(server.count(), 1, "case {n}");
        assert_eq!(error.message().contains("HEAD"), method == "HEAD");
    }
    // `max-error-bytes` bounds what is read, not what is known.
    let server = Server::start(|_| Answer::error(403, "DENIED", &"x".repeat(100_000)));
    let error = get(
        &transport(&server, &with(&[("max-error-bytes", 0)])),
        "/v2/x",
    )
    .unwrap_err();
    assert_eq!(
        (error.http_status(), error.diagnostics().len()),
        (Some(403), 0)
    );
}

/// A message whose end is in doubt is no message.
#[test]
fn framing() {
    use ErrorKind::{Limit, Network, Protocol};
    let head = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
    let long = "a".repeat(100_000);
    let cases: Vec<(String, Option<&str>, &[ErrorKind])> = vec![
        (head("Content-Length: 2\r\n", "ab"), Some("ab"), &[]),
        (
            head("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n"),
            Some("ab"),
            &[],
        ),
        (
            head(
                "Transfer-Encoding: Chunked\r\n",
                "2;x=y\r\nab\r\n0\r\nT: x\r\n\r\n",
            ),
            Some("ab"),
            &[],
        ),
        (head("", "ab"), Some("ab"), &[]),
        ("HTTP/1.0 200 OK\r\n\r\nab".to_owned(), Some("ab"), &[]),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n".to_owned(),
            None,
            &[Protocol],
        ),
        (
            head("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"),
            None,
            &[Protocol],
        ),
        (
            head("Content-Length: 3\r\nContent-Length: 2\r\n", "abc"),
            None,
            &[Protocol],
        ),
        (head("Content-Length: 2, 3\r\n", "abc"), None, &[Protocol]),
        (head("Content-Length: -1\r\n", "ab"), None, &[Protocol]),
        (head("Content-Length: +2\r\n", "ab"), None, &[Protocol]),
        (head("Content-Length: 0x2\r\n", "ab"), None, &[Protocol]),
        (
            head("Content-Length: 99999999999999999999\r\n", "ab"),
            None,
            &[Protocol],
        ),
        (head("Content-Length: \r\n", "ab"), None, &[Protocol]),
        (head("Content-Length : 2\r\n", "ab"), None, &[Protocol]),
        (head("Content-Length: 5\r\n", "ab"), None, &[Network]),
        (
            head(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            None,
            &[Protocol],
        ),
        (
            head(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                "0\r\n\r\n",
            ),
            None,
            &[Protocol],
        ),
        (
            head("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            None,
            &[Protocol],
        ),
        (
            head("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
            None,
            &[Protocol],
        ),
        (
            head("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
            None,
            &[Protocol],
        ),
        (
            head(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            None,
            &[Protocol],
        ),
        (
            head("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n"),
            None,
            &[Network],
        ),
        (
            head("Transfer-Encoding: chunked\r\n", "2\r\na"),
            None,
            &[Network],
        ),
        (
            head("Transfer-Encoding: chunked\r\n", "2\r\nabXX0\r\n\r\n"),
            None,
            &[Protocol],
        ),
        (
            head("Transfer-Encoding: chunked\r\n", "zz\r\nab\r\n0\r\n\r\n"),
            None,
            &[Protocol],
        ),
        (
            head("Transfer-Encoding: chunked\r\n", "-2\r\nab\r\n0\r\n\r\n"),
            None,
            &[Protocol],
        ),
        (
            head(
                "Transfer-Encoding: chunked\r\n",
                "ffffffffffffffffff\r\nab\r\n0\r\n\r\n",
            ),
            None,
            &[Protocol],
        ),
        (
            head(
                "Transfer-Encoding: chunked\r\n",
                &format!("2;{long}\r\nab\r\n0\r\n\r\n"),
            ),
            None,
            &[Protocol, Limit, Network],
        ),
        (head(&format!("X: {long}\r\n"), ""), None, &[Limit]),
        (head(&"X: a\r\n".repeat(128), "ab"), Some("ab"), &[]),
        (head(&"X: a\r\n".repeat(129), "ab"), None, &[Limit]),
        (head(&"X: a\r\n".repeat(5000), ""), None, &[Limit]),
        (head(&"X: a\r\n".repeat(200_000), ""), None, &[Limit]),
        (long.clone(), None, &[Limit, Protocol]),
        ("garbage\r\n\r\n".to_owned(), None, &[Protocol]),
        ("HTTP/1.1 200 OK\r\nContent-Le".to_owned(), None, &[Network]),
        ("HTTP/1.1 2".to_owned(), None, &[Network]),
        ("HTTP/1.1 20 OK\r\n\r\n".to_owned(), None, &[Protocol]),
        ("HTTP/1.1 2000 OK\r\n\r\n".to_owned(), None, &[Protocol]),
        ("HTTP/1.1 abc OK\r\n\r\n".to_owned(), None, &[Protocol]),
        ("HTTP/1.1 099 OK\r\n\r\n".to_owned(), None, &[Protocol]),
        (
            "HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            None,
            &[Protocol],
        ),
        (
            "ICY 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            None,
            &[Protocol],
        ),
        (
            "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03".to_owned(),
            None,
            &[Protocol, Network],
        ),
        (String::new(), None, &[Network]),
    ];
    for (raw, body, kinds) in cases {
        let own = raw.clone();
        let server = Server::start(move |_| Answer::raw(own.clone()));
        let got = get(&transport(&server, &with(&[("retries", 0)])), "/v2/x");
        let shown = raw.get(..120).unwrap_or(&raw);
        match (body, got) {
            (Some(want), Ok(got)) => assert_eq!(got, want.as_bytes(), "{shown:?}"),
            (None, Err(e)) => assert!(kinds.contains(&e.kind()), "{shown:?}: {:?} {e}", e.kind()),
            (_, got) => panic!("{shown:?}: {:?}", got.map(|b| b.len())),
        }
        assert_eq!(server.count(), 1, "{shown:?}");
    }
}

/// Bytes after the end of an answer are not the answer to the next request.
#[test]
fn surplus_bytes() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        let raw = format!("{first}{evil}");
        let server = Server::start(move |r| match r.path.as_str() {
            "/v2/first" => Answer::raw(raw.clone()).keep_alive(),
            _ => Answer::ok("good"),
        });
        let transport = transport(&server, &options());
        assert_eq!(get(&transport, "/v2/first").unwrap(), b"ab");
        assert_eq!(get(&transport, "/v2/second").unwrap(), b"good", "{first:?}");
    }
    let raw = format!("HTTP/1.1 204 No Content\r\n\r\n{evil}");
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/first" => Answer::raw(raw.clone()).keep_alive(),
        _ => Answer::ok("good"),
    });
    let transport = transport(&server, &options());
    assert_eq!(get(&transport, "/v2/first").unwrap(), b"");
    assert_eq!(get(&transport, "/v2/second").unwrap(), b"good");
}

/// What is repeated and how often. 0 stands for a closed connection, 1 for a reset.
#[test]
fn repetitions() {
    for (method, answers, retries, requests, want) in [
        ("GET", vec![408, 429, 500, 502, 503, 504, 200], 6, 7, Ok(())),
        ("GET", vec![503, 503, 503], 2, 3, Err(Some(503))),
        ("GET", vec![503, 200], 0, 1, Err(Some(503))),
        ("GET", vec![0, 200], 0, 1, Err(None)),
        ("GET", vec![0, 1, 0, 200], 3, 4, Ok(())),
        ("GET", vec![0, 0, 503, 429, 200], 3, 4, Err(Some(429))),
        ("GET", vec![501], 3, 1, Err(Some(501))),
        ("GET", vec![505], 3, 1, Err(Some(505))),
        ("GET", vec![400], 3, 1, Err(Some(400))),
        ("GET", vec![403], 3, 1, Err(Some(403))),
        ("GET", vec![404], 3, 1, Err(Some(404))),
        ("GET", vec![416], 3, 1, Err(Some(416))),
        ("GET", vec![425], 3, 1, Err(Some(425))),
        ("HEAD", vec![0, 503, 200], 3, 3, Ok(())),
        ("PUT", vec![0, 503, 201], 3, 3, Ok(())),
        ("DELETE", vec![0, 503, 202], 3, 3, Ok(())),
        ("POST", vec![503], 3, 1, Err(Some(503))),
        ("POST", vec![429], 3, 1, Err(Some(429))),
        ("POST", vec![0], 3, 1, Err(None)),
        ("POST", vec![1], 3, 1, Err(None)),
        ("PATCH", vec![503], 3, 1, Err(Some(503))),
        ("PATCH", vec![0], 3, 1, Err(None)),
    ] {
        let case = format!("{method} {answers:?} retries={retries}");
        let server = Server::start(script(
            answers
                .into_iter()
                .map(|status| match status {
                    0 => Answer::hang_up(),
                    1 => Answer::reset(),
                    status => Answer::new(status),
                })
                .collect(),
        ));
        let mut request = Request::new(Some(method), "/v2/x");
        let body: &[u8] = if matches!(method, "GET" | "HEAD" | "DELETE") {
            b""
        } else {
            b"whole"
        };
        if !body.is_empty() {
            request.body(Source::bytes(body));
        }
        let result = transport(&server, &with(&[("retries", retries)])).request(&request, None);
        assert_eq!(server.count(), requests, "{case}: {:?}", server.lines());
        assert!(server.requests().iter().all(|r| r.body == body), "{case}");
        match want {
            Ok(()) => drop(result.unwrap()),
            Err(status) => {
                let error = failure(result, &case);
                let kind = if status.is_some() {
                    ErrorKind::Status
                } else {
                    ErrorKind::Network
                };
                assert_eq!(
                    (error.kind(), error.http_status()),
                    (kind, status),
                    "{case}: {error}"
                );
                // Statuses that stay are not worth another try; a broken POST may have been done.
                let told = match status {
                    Some(status) => matches!(status, 408 | 429 | 500 | 502..=504),
                    None => !matches!(method, "POST" | "PATCH"),
                };
                assert_eq!(error.retry_after().is_some(), told, "{case}");
            }
        }
    }
}

/// An answer that fails in its body has a status all the same.
#[test]
fn the_status_of_a_body_that_fails() {
    let server = Server::start(|r| match r.path.as_str() {
        "/v2/cut" => Answer::ok(vec![0; 100]).cut_after(10),
        "/v2/chunks" => Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
        _ => Answer::ok(vec![0; 1000]),
    });
    let transport = transport(&server, &with(&[("max-body-bytes", 500)]));
    for (path, kind) in [
        ("/v2/cut", ErrorKind::Network),
        ("/v2/chunks", ErrorKind::Protocol),
        ("/v2/long", ErrorKind::Limit),
    ] {
        let error = get(&transport, path).unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (kind, Some(200)),
            "{error}"
        );
    }
}

/// The pause that the server asks for, or a failure that tells it.
#[test]
fn retry_after() {
    let date = |seconds: i64| {
        let now = SystemTime::now();
        let span = Duration::from_secs(seconds.unsigned_abs());
        httpdate::fmt_http_date(if seconds < 0 { now - span } else { now + span })
    };
    // Beyond the budget of a second: fails at once and tells how long. Otherwise it is tried again.
    for (fields, told) in [
        (vec!["120".to_owned()], Some(120)),
        (vec!["2".to_owned()], Some(2)),
        (vec![date(3600)], Some(3600)),
        (vec!["99999999999999999999".to_owned()], Some(86_400)),
        (vec![date(30 * 86_400)], Some(86_400)),
        (vec!["120".to_owned(), "60".to_owned()], Some(120)),
        (vec!["120, 60".to_owned()], Some(120)),
        (vec!["0".to_owned()], None),
        (vec![date(-3600)], None),
        (vec!["-1".to_owned()], None),
        (vec!["1e3".to_owned()], None),
        (vec!["soon".to_owned()], None),
        (vec![String::new()], None),
    ] {
        for status in [429, 503] {
            let own = fields.clone();
            let tries = AtomicUsize::new(0);
            let server = Server::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
                0 => own
                    .iter()
                    .fold(Answer::new(status), |a, f| a.header("Retry-After", f)),
                _ => Answer::ok("fine"),
            });
            let began = Instant::now();
            let got = get(
                &transport(&server, &with(&[("retry-budget-ms", 1000)])),
                "/v2/x",
            );
            assert!(began.elapsed() < Duration::from_secs(1), "{fields:?}");
            match told {
                None => {
                    assert_eq!(got.unwrap(), b"fine", "{fields:?}");
                    assert_eq!(server.count(), 2);
                }
                Some(told) => {
                    let error = got.unwrap_err();
                    assert_eq!(error.http_status(), Some(status));
                    let wait = error.retry_after().unwrap().as_secs();
                    assert!(wait <= told && wait + 2 >= told, "{fields:?}: {wait}");
                    assert_eq!(server.count(), 1, "{fields:?}");
                }
            }
        }
    }
    let server = Server::start(script(vec![
        Answer::new(429).header("Retry-After", "1"),
        Answer::ok("fine"),
    ]));
    let began = Instant::now();
    assert_eq!(
        get(&transport(&server, &options()), "/v2/x").unwrap(),
        b"fine"
    );
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "it was waited for"
    );
    // The budget is one for all repetitions of a call.
    let server = Server::start(|_| Answer::new(503).header("Retry-After", "1"));
    let error = get(
        &transport(&server, &with(&[("retry-budget-ms", 1500)])),
        "/v2/x",
    )
    .unwrap_err();
    assert_eq!(
        (error.retry_after(), server.count()),
        (Some(Duration::from_secs(1)), 2)
    );
}

/// A kept connection that the server closed is no failure, and costs no repetition.
#[test]
fn stale_connections() {
    let server = Server::start(|r| match r.path.as_str() {
        "/v2/silent" => Answer::ok("x").close_silently().leave_unread(),
        "/v2/told" => Answer::ok("x").close().leave_unread(),
        _ => Answer::ok("x"),
    });
    let transport = transport(&server, &with(&[("retries", 0)]));
    for method in ["GET", "POST", "PUT"] {
        for path in ["/v2/x", "/v2/silent", "/v2/told", "/v2/x"] {
            let mut request = Request::new(Some(method), path);
            if method != "GET" {
                request.body(Source::bytes("whole"));
            }
            transport
                .request(&request, None)
                .unwrap()
                .take_body()
                .unwrap();
            if path != "/v2/x" {
                assert!(server.wait_open_at_most(0));
            }
        }
        server.close_connections();
    }
    assert_eq!(server.count(), 12, "each request came once");
    // Closed between the look at it and the answer: tried again on a new one, but only what may be repeated.
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let server = Server::start(move |r| {
        if r.number_on_connection > 1 {
            count.fetch_add(1, Ordering::SeqCst);
            return Answer::hang_up();
        }
        Answer::ok("x")
    });
    let transport = support::client::transport(&server, &with(&[("retries", 0)]));
    for n in 1..4 {
        assert_eq!(get(&transport, "/v2/x").unwrap(), b"x");
        assert_eq!(seen.load(Ordering::SeqCst), n - 1);
    }
    let error = failure(
        transport.request(&Request::new(Some("POST"), "/v2/x"), None),
        "POST",
    );
    assert_eq!(error.kind(), ErrorKind::Network);
}

/// A host that nobody listens at is named, and reached when it comes back.
#[test]
fn refused_connections() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    drop(listener);
    let transport = support::client::transport_to(&authority, &with(&[("retries", 1)]));
    let error = get(&transport, "/v2/x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.message().contains(&authority), "{error}");
    assert!(error.os_code().is_some() && error.retry_after().is_some());
    // POST too: nothing of it was sent.
    let mut options = with(&[("retries", 2)]);
    let lines = keep_log(&mut options);
    let transport = support::client::transport_to(&authority, &options);
    failure(
        transport.request(&Request::new(Some("POST"), "/v2/x"), None),
        "POST",
    );
    let tries = lock(&lines).iter().filter(|l| l.contains("> POST")).count();
    assert_eq!(tries, 3);
}

/// A body that breaks off was already being handed out, so the request is not repeated.
#[test]
fn cut_bodies() {
    type Make = fn() -> Answer;
    let cases: [(Make, usize); 4] = [
        (|| Answer::ok(vec![1; 9000]).cut_after(5000), 5000),
        (|| Answer::ok(vec![1; 9000]).reset_after(5000), 0),
        (
            || Answer::ok(vec![1; 9000]).chunks_of(1000).cut_after(5000),
            5000,
        ),
        (
            || Answer::ok(vec![1; 9000]).chunks_of(1000).cut_after(5500),
            5500,
        ),
    ];
    for (n, (make, least)) in cases.into_iter().enumerate() {
        let server = Server::start(move |_| make());
        let transport = transport(&server, &options());
        let Ok(mut response) = transport.request(&Request::new(None, "/v2/x"), None) else {
            assert_eq!(least, 0, "case {n}: only a reset may take the head along");
            continue;
        };
        let mut length = 0;
        let error = response
            .drain(&mut |piece| {
                length += piece.len();
                true
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "case {n}: {error}");
        assert!((least..9000).contains(&length), "case {n}: {length}");
        assert_eq!(
            response.read(&mut [0; 9]).unwrap_err().kind(),
            ErrorKind::Network
        );
        assert_eq!(server.count(), 1, "case {n}");
    }
}

/// A reset is no end: not of a body either that only the end of the connection delimits.
#[test]
fn reset_bodies_without_a_length() {
    let gate = Gate::new();
    let own = gate.clone();
    let server = Server::start(move |_| {
        let answer = Answer::ok(vec![1; 9000]).no_length();
        answer.reset_after(5000).stall_after(5000, &own)
    });
    let transport = transport(&server, &options());
    let mut response = transport
        .request(&Request::new(None, "/v2/x"), None)
        .unwrap();
    let mut length = 0;
    while length < 5000 {
        length += response.read(&mut [0; 9000]).unwrap();
    }
    gate.open();
    let error = response.read(&mut [0; 9000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert!(error.os_code().is_some(), "{error}");
}

/// Counts what is read of it.
struct Counted {
    at: usize,
    size: usize,
    most: Arc<AtomicUsize>,
}

impl ReadBytes for Counted {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let n = buf.len().min(self.size - self.at);
        for (i, slot) in buf[..n].iter_mut().enumerate() {
            *slot = ((self.at + i) % 251) as u8;
        }
        self.at += n;
        self.most.fetch_max(self.at, Ordering::SeqCst);
        Ok(n)
    }

    fn rewind(&mut self) -> bool {
        self.at = 0;
        true
    }
}

/// A server that answers before it has the whole body, and hangs up on the rest of it.
#[test]
fn early_answers() {
    const SIZE: usize = 8 << 20;
    for unread in [false, true] {
        for known in [true, false] {
            let server = Server::builder()
                .early(move |_| {
                    let answer = Answer::error(413, "SIZE_INVALID", "too large");
                    Some(if unread {
                        answer.leave_unread()
                    } else {
                        answer
                    })
                })
                .start(|_| Answer::ok(""));
            let most = Arc::new(AtomicUsize::new(0));
            let reader = Counted {
                at: 0,
                size: SIZE,
                most: Arc::clone(&most),
            };
            let mut request = Request::new(Some("PUT"), "/v2/x");
            request.body(Source::reader(
                Box::new(reader),
                known.then_some(SIZE as u64),
            ));
            let error = failure(
                transport(&server, &with(&[("retries", 0)])).request(&request, None),
                known,
            );
            assert_eq!(error.http_status(), Some(413), "{error}");
            assert_eq!(error.diagnostics()[0].code.as_deref(), Some("SIZE_INVALID"));
            assert_eq!(server.count(), 1);
        }
    }
    // 401 before the body was read: it is sent again from its first byte.
    let server = Server::builder()
        .early(|r| match r.header("authorization") {
            None => Some(Answer::challenge("Basic realm=\"x\"").leave_unread()),
            Some(_) => None,
        })
        .start(|r| {
            let good = r.body.len() == SIZE
                && r.body
                    .iter()
                    .enumerate()
                    .all(|(i, b)| *b == (i % 251) as u8);
            Answer::new(if good { 201 } else { 400 })
        });
    let creds = Creds::basic("user", "pass").unwrap();
    let name = format!("{}/a/b", server.authority());
    let transport =
        || Transport::new(&name, Actions::push(), Some(&creds), Some(&options())).unwrap();
    let reader = Counted {
        at: 0,
        size: SIZE,
        most: Arc::default(),
    };
    let mut request = Request::new(Some("PUT"), "/v2/x");
    request.body(Source::reader(Box::new(reader), Some(SIZE as u64)));
    assert_eq!(transport().request(&request, None).unwrap().status(), 201);
    assert_eq!(server.count(), 2);
    // What cannot be sent again is said so, not sent empty.
    server.clear();
    let mut request = Request::new(Some("PUT"), "/v2/x");
    request.body(once(Some(5)));
    let error = failure(transport().request(&request, None), "once");
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(error.message().contains("rewind"), "{error}");
    assert_eq!(server.count(), 1);
}

/// Many requests of many threads on one transport: every answer reaches the one who asked.
#[test]
fn many_threads() {
    let server = Server::start(|r| Answer::ok(r.target.clone()));
    let transport = transport(&server, &options());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for t in 0..8 {
            let (transport, wrong) = (&transport, &wrong);
            scope.spawn(move || {
                for n in 0..25 {
                    let path = format!("/v2/{t}/{n}");
                    if get(transport, &path).unwrap() != path.as_bytes() {
                        lock(wrong).push(path);
                    }
                }
            });
        }
    });
    assert!(lock(&wrong).is_empty());
    assert_eq!(server.count(), 200);
    assert!(server.connections() <= 8, "{}", server.connections());
}

/// The whole of what a plain request puts on the wire.
#[test]
fn the_request_head() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let transport =
        support::client::transport_to(&authority, &with_texts(&[("user-agent", "t/1")]));
    let head = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            use std::io::Write as _;
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
            String::from_utf8(head).unwrap()
        });
        transport
            .request(&Request::new(None, "/v2/x?y"), None)
            .unwrap();
        server.join().unwrap()
    });
    let mut lines: Vec<_> = head
        .trim_end()
        .split("\r\n")
        .map(str::to_ascii_lowercase)
        .collect();
    assert_eq!(lines.remove(0), "get /v2/x?y http/1.1");
    lines.sort();
    assert_eq!(
        lines,
        [
            "accept-encoding: identity".to_owned(),
            format!("host: {authority}"),
            "user-agent: t/1".to_owned()
        ]
    );
}
