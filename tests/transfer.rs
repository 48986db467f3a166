//! Content on its way: verified, resumed, limited, cancelled; and peers that break HTTP.

mod support;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_transport::error::{Error, ErrorKind};
use registry_transport::op::Op;
use registry_transport::options::Options;
use registry_transport::pages::{Names, Pages};
use registry_transport::request::Request;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};
use support::registry::{noise, sha256, sha512};
use support::server::{Answer, Gate, Request as Got, Server};

fn options() -> Options {
    let mut options = Options::new();
    options.set_number("share-tokens", 0).unwrap();
    options.set_number("retry-delay-ms", 1).unwrap();
    options.set_text("proxy", "").unwrap();
    options
}

fn with(key: &str, value: i64) -> Options {
    let mut options = options();
    options.set_number(key, value).unwrap();
    options
}

fn transport(server: &Server, options: &Options) -> Transport {
    let actions = Actions::push();
    Transport::new(
        &format!("{}/a/b", server.authority()),
        actions,
        None,
        Some(options),
    )
    .unwrap()
}

fn get(transport: &Transport, path: &str) -> Result<Vec<u8>, Error> {
    transport
        .request(&Request::new(None, path), None)?
        .take_body()
}

/// The first byte a Range asks for.
fn range_start(r: &Got) -> Option<usize> {
    r.header("range")?
        .strip_prefix("bytes=")?
        .split('-')
        .next()?
        .parse()
        .ok()
}

fn part(data: &[u8], first: usize, last: usize) -> Answer {
    Answer::new(206)
        .header(
            "Content-Range",
            format!("bytes {first}-{last}/{}", data.len()),
        )
        .body(&data[first..=last])
}

/// What comes back and what is refused.
#[test]
fn answers() {
    type Case = (fn() -> Answer, Result<&'static [u8], ErrorKind>);
    let cases: [Case; 16] = [
        (|| Answer::ok("x"), Ok(b"x")),
        (|| Answer::new(204), Ok(b"")),
        (|| Answer::new(299).body("x"), Ok(b"x")),
        (|| Answer::new(300), Err(ErrorKind::Status)),
        (|| Answer::ok("x").chunked(), Ok(b"x")),
        (
            || Answer::ok("x").preface("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
            Ok(b"x"),
        ),
        (
            || Answer::ok(vec![0x1f, 0x8b, 8]).header("Content-Encoding", "gzip"),
            Ok(&[0x1f, 0x8b, 8]),
        ),
        (|| Answer::ok("abc").cut_after(2), Err(ErrorKind::Network)),
        (
            || Answer::ok("abc").chunked().cut_after(2),
            Err(ErrorKind::Network),
        ),
        (
            || Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
            Err(ErrorKind::Protocol),
        ),
        (
            || {
                Answer::raw(
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                )
            },
            Err(ErrorKind::Protocol),
        ),
        (
            || Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            Err(ErrorKind::Protocol),
        ),
        (|| Answer::raw("garbage\r\n\r\n"), Err(ErrorKind::Protocol)),
        (|| Answer::raw("HTTP/1.1 2"), Err(ErrorKind::Network)),
        (
            || {
                Answer::raw(format!(
                    "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
                    "a".repeat(100_000)
                ))
            },
            Err(ErrorKind::Limit),
        ),
        (
            || {
                Answer::raw(format!(
                    "HTTP/1.1 200 OK\r\n{}\r\n",
                    "X: a\r\n".repeat(2000)
                ))
            },
            Err(ErrorKind::Limit),
        ),
    ];
    for (n, (answer, want)) in cases.into_iter().enumerate() {
        let server = Server::start(move |_| answer());
        let got = get(&transport(&server, &with("retries", 0)), "/v2/x");
        match want {
            Ok(body) => assert_eq!(got.unwrap(), body, "case {n}"),
            Err(kind) => assert_eq!(got.unwrap_err().kind(), kind, "case {n}"),
        }
        assert_eq!(
            server.requests()[0].header("accept-encoding"),
            Some("identity")
        );
    }
}

/// What is sent with a request, and what an error tells.
#[test]
fn requests_and_errors() {
    let server = Server::start(|r| match r.path.as_str() {
        "/v2/denied" => Answer::error(403, "DENIED", "not for you"),
        "/v2/html" => Answer::new(502)
            .header("Content-Type", "text/html")
            .body("<html>Bad Gateway</html>"),
        "/v2/odd" => Answer::new(400).body(r#"{"errors":[1]}"#),
        "/v2/cut" => Answer::new(418).body("short and stout").cut_after(3),
        "/v2/plain" => Answer::ok("x").header("Content-Type", "text/plain"),
        _ => Answer::ok(""),
    });
    let transport1 = transport(&server, &with("retries", 0));
    for (method, body, length, kind) in [
        ("GET", None, None, None),
        ("DELETE", None, None, None),
        ("POST", None, Some("0"), None),
        ("PUT", None, Some("0"), None),
        ("PATCH", None, Some("0"), None),
        ("PUT", Some(""), Some("0"), Some("application/json")),
        ("POST", Some("ab"), Some("2"), Some("application/json")),
        ("GET", Some("ab"), Some("2"), Some("application/json")),
    ] {
        let mut request = Request::new(Some(method), "/v2/x");
        if let Some(body) = body {
            request.body(Source::bytes(body));
        }
        transport1.request(&request, None).unwrap();
        let got = server.requests().pop().unwrap();
        assert_eq!(
            (got.header("content-length"), got.header("content-type")),
            (length, kind),
            "{method} {body:?}"
        );
        assert_eq!(
            got.header("user-agent"),
            Some(concat!("registry-transport/", env!("CARGO_PKG_VERSION")))
        );
    }
    for (path, status, code) in [
        ("/v2/denied", 403, "DENIED"),
        ("/v2/html", 502, "UNKNOWN"),
        ("/v2/odd", 400, "UNKNOWN"),
        ("/v2/cut", 418, ""),
    ] {
        let error = get(&transport1, path).unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Status, Some(status)),
            "{path}"
        );
        let codes: Vec<_> = error
            .diagnostics()
            .iter()
            .filter_map(|d| d.code.as_deref())
            .collect();
        assert!(code.is_empty() || codes == [code], "{path}: {codes:?}");
        assert!(error.message().contains(&server.authority()) && !error.message().contains('\n'));
    }
    let mut typed = Request::new(None, "/v2/plain");
    typed.accept_type("application/json");
    assert_eq!(
        transport1.request(&typed, None).unwrap_err().kind(),
        ErrorKind::MediaType
    );
    let mut accepting = Request::new(None, "/v2/denied");
    accepting.accept_status(403);
    assert_eq!(transport1.request(&accepting, None).unwrap().status(), 403);
}

/// What is repeated, how often, and when it is not.
#[test]
fn repetitions() {
    for (method, answers, retries, requests, want) in [
        ("GET", vec![503, 200], 3, 2, Ok(())),
        ("GET", vec![429, 500, 502, 200], 3, 4, Ok(())),
        ("GET", vec![503, 503, 503], 2, 3, Err(503)),
        ("GET", vec![503, 200], 0, 1, Err(503)),
        ("GET", vec![501, 200], 3, 1, Err(501)),
        ("GET", vec![404, 200], 3, 1, Err(404)),
        ("PUT", vec![503, 200], 3, 2, Ok(())),
        ("POST", vec![503, 200], 3, 1, Err(503)),
        ("GET", vec![0, 0, 200], 3, 3, Ok(())),
        ("POST", vec![0, 200], 3, 1, Err(0)),
    ] {
        let left = Mutex::new(answers.clone());
        let server = Server::start(move |_| match left.lock().unwrap().remove(0) {
            0 => Answer::hang_up(),
            status => Answer::new(status),
        });
        let transport1 = transport(&server, &with("retries", retries));
        let result = transport1.request(&Request::new(Some(method), "/v2/x"), None);
        assert_eq!(server.count(), requests, "{method} {answers:?}");
        match want {
            Ok(()) => drop(result.unwrap()),
            Err(status) => assert_eq!(result.unwrap_err().http_status().unwrap_or(0), status),
        }
    }
    // A wait that is longer than what may be waited fails at once and is told.
    let server = Server::start(|_| Answer::new(429).header("Retry-After", "3600"));
    let began = Instant::now();
    let error = get(&transport(&server, &options()), "/v2/x").unwrap_err();
    assert_eq!(
        (error.retry_after(), server.count()),
        (Some(Duration::from_secs(3600)), 1)
    );
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// A connection that was closed while it was kept is replaced without being counted as a failure.
#[test]
fn stale_connections() {
    let server = Server::start(|_| Answer::ok("x"));
    let transport1 = transport(&server, &with("retries", 0));
    for _ in 0..5 {
        get(&transport1, "/v2/x").unwrap();
        server.close_connections();
    }
    let closing = Server::start(|_| Answer::ok("x").close_silently());
    let transport1 = transport(&closing, &with("retries", 0));
    for _ in 0..5 {
        get(&transport1, "/v2/x").unwrap();
    }
}

/// A server that answers before it has the body, and hangs up.
#[test]
fn early_answers() {
    let server = Server::builder()
        .early(|_| Some(Answer::error(413, "SIZE_INVALID", "too large")))
        .start(|_| Answer::ok(""));
    let mut request = Request::new(Some("PUT"), "/v2/x");
    request.body(Source::bytes(vec![1; 32 << 20]));
    let error = transport(&server, &with("retries", 0))
        .request(&request, None)
        .unwrap_err();
    assert!(matches!(error.http_status(), Some(413)), "{error}");
}

#[test]
fn listings() {
    let pages = |links: Vec<(&'static str, &'static str)>| {
        Server::start(move |r| {
            let key = r.query_param("last").unwrap_or_default();
            let (body, link) = match key.as_str() {
                "" => links[0],
                "b" => links[1],
                _ => links[2],
            };
            let answer = Answer::ok(body);
            if link.is_empty() {
                answer
            } else {
                answer.header("Link", link)
            }
        })
    };
    let all = |server: &Server, options: &Options| -> Result<Vec<String>, Error> {
        let mut names = Names::tags(&transport(server, options));
        let mut out = Vec::new();
        while let Some(name) = names.next_name(None)? {
            out.push(name);
        }
        Ok(out)
    };
    let next = "</v2/a/b/tags/list?last=b>; rel=\"next\"";
    let (a, b, c) = (
        r#"{"tags":["a"]}"#,
        r#"{"tags":null}"#,
        r#"{"tags":["c",1]}"#,
    );
    let server = pages(vec![
        (a, "<?last=b>; title=\"x, y\"; REL=\"prev NEXT\""),
        (b, "<list?last=z>; rel=next"),
        (c, ""),
    ]);
    assert_eq!(all(&server, &options()).unwrap(), ["a", "c"]);
    assert_eq!(
        all(&pages(vec![(a, next), (a, next)]), &options())
            .unwrap_err()
            .kind(),
        ErrorKind::Protocol,
        "a loop"
    );
    assert_eq!(
        all(&pages(vec![(a, "</x>; rel=\"next")]), &options())
            .unwrap_err()
            .kind(),
        ErrorKind::Protocol
    );
    assert_eq!(
        all(&pages(vec![("<html>", "")]), &options())
            .unwrap_err()
            .kind(),
        ErrorKind::Protocol
    );
    let endless = Server::start(|r| {
        let n: u32 = r.query_param("n").and_then(|n| n.parse().ok()).unwrap_or(0);
        Answer::ok("{}").header("Link", format!("<?n={}>; rel=next", n + 1))
    });
    assert_eq!(
        all(&endless, &with("max-pages", 20)).unwrap_err().kind(),
        ErrorKind::Limit
    );
    assert_eq!(endless.count(), 20);
    let server = pages(vec![(a, "")]);
    all(&server, &with("page-size", 7)).unwrap();
    assert_eq!(server.requests()[0].query, "n=7");
    let mut pages1 = Pages::new(
        &transport(&server, &options()),
        &Request::new(Some("POST"), "/v2/x"),
    );
    assert!(pages1.next_page(None).is_err());
}

const KIND: &str = "application/vnd.oci.image.manifest.v1+json";

/// Manifests: digest, type, size.
#[test]
fn manifests() {
    let good = format!(r#"{{"schemaVersion":2,"mediaType":"{KIND}"}}"#);
    let digest = sha256(good.as_bytes());
    let body = good.clone();
    let server = Server::start(move |r| {
        let answer = Answer::ok(body.clone()).header("Content-Type", KIND);
        match r.path.rsplit('/').next().unwrap() {
            "other-digest" => answer.header("Docker-Content-Digest", sha256(b"other")),
            "no-digest" => answer.header("Docker-Content-Digest", "nonsense"),
            "html" => Answer::ok("<html>").header("Content-Type", "text/html"),
            "liar" => Answer::ok(body.clone())
                .header("Content-Type", "application/vnd.oci.image.index.v1+json"),
            "huge" => Answer::ok(vec![b' '; 5 << 20]).header("Content-Type", KIND),
            _ if r.method == "PUT" => Answer::new(201),
            _ => answer,
        }
    });
    let transport1 = transport(&server, &options());
    assert_eq!(
        transport1
            .manifest_get("latest", None)
            .unwrap()
            .digest()
            .unwrap()
            .as_str(),
        digest
    );
    assert_eq!(
        transport1
            .manifest_get(&digest, None)
            .unwrap()
            .body()
            .unwrap(),
        good.as_bytes()
    );
    for (reference, kind) in [
        (sha256(b"wanted").as_str(), ErrorKind::Digest),
        ("other-digest", ErrorKind::Digest),
        ("no-digest", ErrorKind::Protocol),
        ("html", ErrorKind::MediaType),
        ("liar", ErrorKind::MediaType),
        ("huge", ErrorKind::Limit),
        ("../../x", ErrorKind::Syntax),
    ] {
        assert_eq!(
            transport1.manifest_get(reference, None).unwrap_err().kind(),
            kind,
            "{reference}"
        );
    }
    let put = |reference: &str, kind: &str| {
        transport1.manifest_put(reference, kind, good.as_bytes(), None)
    };
    assert_eq!(put("v1", KIND).unwrap().digest().unwrap().as_str(), digest);
    assert_eq!(
        put("v1", "text/plain").unwrap_err().kind(),
        ErrorKind::MediaType
    );
    assert_eq!(
        put(&sha256(b"x"), KIND).unwrap_err().kind(),
        ErrorKind::Digest
    );
}

/// A blob is what its digest says or an error, whatever the server sends.
#[test]
fn blobs_are_verified() {
    let data = noise("blob", 300_000);
    type Make = fn(&[u8]) -> Answer;
    let cases: [(Make, Option<ErrorKind>); 7] = [
        (|d| Answer::ok(d), None),
        (|d| Answer::ok(d).chunked(), None),
        (|d| Answer::ok([d, b"x"].concat()), Some(ErrorKind::Digest)),
        (|d| Answer::ok(&d[1..]), Some(ErrorKind::Digest)),
        (|d| Answer::ok(vec![0; d.len()]), Some(ErrorKind::Digest)),
        (|_| Answer::new(404), Some(ErrorKind::Status)),
        (|d| part(d, 0, d.len() - 1), Some(ErrorKind::Protocol)),
    ];
    let folder = tempfile::tempdir().unwrap();
    for digest in [sha256(&data), sha512(&data)] {
        for (n, (make, want)) in cases.iter().enumerate() {
            let (own, make) = (data.clone(), *make);
            let server = Server::start(move |_| make(&own));
            let transport1 = transport(&server, &options());
            let target = folder.path().join(format!("blob{n}"));
            let read = transport1
                .blob_get(&digest, None)
                .and_then(|mut r| r.take_body());
            let saved = transport1.blob_save(&digest, &target, None);
            match want {
                None => {
                    assert_eq!(read.unwrap(), data, "case {n}");
                    saved.unwrap();
                    assert_eq!(std::fs::read(&target).unwrap(), data);
                    std::fs::remove_file(&target).unwrap();
                }
                Some(kind) => {
                    assert_eq!(read.unwrap_err().kind(), *kind, "case {n}");
                    assert!(saved.is_err() && !target.exists(), "case {n}");
                }
            }
        }
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

/// Answers to the Range of a resumed download.
#[test]
fn odd_ranges() {
    let data = noise("ranges", 1000);
    let digest = sha256(&data);
    type Make = fn(&[u8]) -> Answer;
    let cases: [(Make, bool); 8] = [
        (|d| part(d, 400, 999), true),
        (|d| Answer::ok(d), true),
        (|d| part(d, 300, 999), false),
        (|d| part(d, 400, 998), false),
        (
            |d| {
                Answer::new(206)
                    .header("Content-Range", "bytes 400-999/1001")
                    .body(&d[400..])
            },
            false,
        ),
        (
            |d| {
                Answer::new(206)
                    .header("Content-Range", "items 400-999/1000")
                    .body(&d[400..])
            },
            false,
        ),
        (|d| Answer::new(206).body(&d[400..]), false),
        (|d| part(d, 400, 999).header("ETag", "\"v2\""), true),
    ];
    for (n, (make, good)) in cases.into_iter().enumerate() {
        let (own, whole) = (data.clone(), AtomicUsize::new(0));
        let server = Server::start(move |r| match r.header("range") {
            None if whole.fetch_add(1, Ordering::SeqCst) == 0 => Answer::ok(own.clone())
                .header("ETag", "\"v1\"")
                .cut_after(400),
            None => Answer::ok(own.clone()).header("ETag", "\"v2\""),
            Some(_) => make(&own),
        });
        let result = transport(&server, &with("retries", 1))
            .blob_get(&digest, None)
            .and_then(|mut r| r.take_body());
        match good {
            true => assert_eq!(result.unwrap(), data, "case {n}"),
            false => assert_eq!(result.unwrap_err().kind(), ErrorKind::Protocol, "case {n}"),
        }
    }
}

/// Reads at any offset: exact bytes, one request each, the signed URL kept until the storage refuses it.
#[test]
fn random_reads() {
    let data = Arc::new(noise("pread", 100_000));
    let digest = sha256(&data);
    let (own, epoch) = (Arc::clone(&data), Arc::new(AtomicU64::new(0)));
    let valid = Arc::clone(&epoch);
    let storage = Server::start(move |r| {
        if r.query != format!("sig={}", valid.load(Ordering::SeqCst)) {
            return Answer::new(403);
        }
        let (first, last) = r
            .header("range")
            .unwrap()
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        part(&own, first.parse().unwrap(), last.parse().unwrap())
    });
    let (there, signed) = (storage.authority(), Arc::clone(&epoch));
    let server = Server::start(move |r| match r.method.as_str() {
        "HEAD" => Answer::new(200).content_length(100_000),
        _ => Answer::redirect(
            307,
            format!("http://{there}/data?sig={}", signed.load(Ordering::SeqCst)),
        ),
    });
    let transport1 = transport(&server, &options());
    let blob = transport1.blob_open(&digest, None).unwrap();
    let read = |offset: u64, length: usize| {
        let mut buf = vec![0; length];
        let n = blob.pread(&mut buf, offset, None).unwrap();
        buf.truncate(n);
        buf
    };
    assert_eq!(read(0, 10), data[..10]);
    let before = (server.count(), storage.count());
    for i in 0..20 {
        assert_eq!(
            read(i * 1000, 500),
            data[i as usize * 1000..i as usize * 1000 + 500]
        );
    }
    assert_eq!(
        (server.count() - before.0, storage.count() - before.1),
        (0, 20),
        "one request each"
    );
    assert_eq!(read(99_990, 100), data[99_990..]);
    assert!(read(100_000, 10).is_empty() && read(u64::MAX, 10).is_empty() && read(5, 0).is_empty());
    epoch.store(1, Ordering::SeqCst);
    assert_eq!(read(7, 7), data[7..14], "asked anew after a 403");
    assert_eq!(transport1.blob_stat(&digest, None).unwrap(), Some(100_000));
    let none = Server::start(|_| Answer::new(404));
    assert_eq!(
        transport(&none, &options())
            .blob_stat(&digest, None)
            .unwrap(),
        None
    );
    assert_eq!(
        transport(&none, &options())
            .blob_open(&digest, None)
            .unwrap_err()
            .http_status(),
        Some(404)
    );
}

/// A partial download is continued by the next call; a damaged one is begun anew; several connections do it too.
#[test]
fn partial_files() {
    let data = Arc::new(noise("partial", 10_000_000));
    let digest = sha256(&data);
    let (own, cut) = (Arc::clone(&data), Arc::new(AtomicUsize::new(usize::MAX)));
    let limit = Arc::clone(&cut);
    let server = Server::start(move |r| {
        let answer = match r
            .header("range")
            .and_then(|t| t.strip_prefix("bytes=")?.split_once('-'))
        {
            Some((first, last)) => {
                let first: usize = first.parse().unwrap();
                part(
                    &own,
                    first,
                    last.parse().unwrap_or(usize::MAX).min(own.len() - 1),
                )
            }
            None => Answer::ok(&own[..]),
        };
        match limit.load(Ordering::SeqCst) {
            usize::MAX => answer,
            n => answer.cut_after(n),
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("blob");
    for parallel in [1, 4] {
        let mut options = with("retries", 0);
        options.set_number("parallel", parallel).unwrap();
        let transport1 = transport(&server, &options);
        cut.store(3_000_000, Ordering::SeqCst);
        let cancelled = Op::new();
        let stop = cancelled.clone();
        cancelled.set_progress(Some(Arc::new(move |done, _| {
            if done > 1_000_000 {
                stop.cancel();
            }
            true
        })));
        assert!(
            transport1
                .blob_save(&digest, &target, Some(&cancelled))
                .is_err()
        );
        assert!(!target.exists());
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let kept = std::fs::metadata(&left[0]).unwrap().len();
        assert!(kept > 0, "something was kept");
        cut.store(usize::MAX, Ordering::SeqCst);
        server.clear();
        transport1.blob_save(&digest, &target, None).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), data[..]);
        assert_eq!(
            range_start(&server.requests()[0]),
            Some(usize::try_from(kept).unwrap()),
            "continued"
        );
        std::fs::remove_file(&target).unwrap();
        // A partial file of other bytes.
        std::fs::write(&left[0], vec![9; 5_000_000]).unwrap();
        transport1.blob_save(&digest, &target, None).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), data[..]);
        std::fs::remove_file(&target).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

/// Runs `work` and expects it to end with this kind soon after `stop`.
fn ends(kind: ErrorKind, work: impl FnOnce() -> Result<(), Error> + Send, stop: impl FnOnce()) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        stop();
        let began = Instant::now();
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(
            began.elapsed() < Duration::from_millis(400),
            "took {:?}",
            began.elapsed()
        );
    });
}

/// Cancelled, and closed, in each phase, within 200 ms and some slack for a busy machine.
#[test]
fn cancelled_everywhere() {
    let gate = Gate::new();
    let (head, body, token) = (gate.clone(), gate.clone(), gate.clone());
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/head" => Answer::ok("x").after(&head),
        "/v2/body" => Answer::ok(vec![0; 100_000]).stall_after(1000, &body),
        "/token" => Answer::ok("{}").after(&token),
        "/v2/token" => Answer::challenge(r#"Bearer realm="/token",service="s""#),
        "/v2/later" => Answer::new(503).header("Retry-After", "30"),
        _ => Answer::ok("x"),
    });
    for path in ["/v2/head", "/v2/body", "/v2/token", "/v2/later"] {
        for close in [false, true] {
            server.clear();
            let transport1 = transport(&server, &options());
            let op = Op::new();
            let wanted = if path == "/v2/token" { 2 } else { 1 };
            ends(
                ErrorKind::Cancelled,
                || {
                    transport1
                        .request(&Request::new(None, path), Some(&op))?
                        .take_body()
                        .map(|_| ())
                },
                || {
                    assert!(server.wait_requests(wanted));
                    if close {
                        transport1.close()
                    } else {
                        op.cancel()
                    }
                },
            );
            // The gate still holds back the token that this registry is known to want.
            if path != "/v2/token" {
                assert_eq!(
                    get(&transport1, "/v2/fine").unwrap(),
                    b"x",
                    "a closed transport connects anew"
                );
            }
        }
    }
    // Connecting: an address that never answers (RFC 5737), and a peer that does not speak TLS back.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (name, scheme) in [
        ("192.0.2.1:5000/a/b".to_owned(), "http"),
        (format!("{}/a/b", silent.local_addr().unwrap()), "https"),
    ] {
        let mut options = options();
        options.set_text("scheme", scheme).unwrap();
        let transport1 = Transport::new(&name, Actions::pull(), None, Some(&options)).unwrap();
        let op = Op::new();
        op.set_timeout(Some(Duration::from_millis(300)));
        let error = transport1
            .request(&Request::new(None, "/v2/x"), Some(&op))
            .unwrap_err();
        // A machine without a route says so at once.
        assert!(
            matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Network),
            "{error}"
        );
    }
    gate.open();
}

/// Time limits: of a call, of the head, of a stalled body.
#[test]
fn time_limits() {
    let gate = Gate::new();
    let (head, body) = (gate.clone(), gate.clone());
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/head" => Answer::ok("x").after(&head),
        _ => Answer::ok(vec![0; 100_000]).stall_after(1000, &body),
    });
    for (key, path) in [
        ("timeout-ms", "/v2/head"),
        ("timeout-ms", "/v2/body"),
        ("response-timeout-ms", "/v2/head"),
        ("stall-timeout-ms", "/v2/body"),
    ] {
        let began = Instant::now();
        let error = get(&transport(&server, &with(key, 200)), path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{key}: {error}");
        assert!(began.elapsed() < Duration::from_secs(3), "{key}");
    }
    let op = Op::new();
    op.set_timeout(Some(Duration::from_millis(200)));
    let transport1 = transport(&server, &options());
    let error = transport1
        .request(&Request::new(None, "/v2/head"), Some(&op))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    gate.open();
}

/// Limits on bodies, files that appear whole, progress.
#[test]
fn bodies() {
    let server = Server::start(|r| match r.path.as_str() {
        "/v2/cut" => Answer::ok(vec![7; 50_000]).cut_after(20_000),
        "/v2/chunked" => Answer::ok(vec![7; 50_000]).chunked(),
        _ => Answer::ok(vec![7; 50_000]),
    });
    for path in ["/v2/x", "/v2/chunked"] {
        let error = get(&transport(&server, &with("max-body-bytes", 49_999)), path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(
            get(&transport(&server, &with("max-body-bytes", 50_000)), path)
                .unwrap()
                .len(),
            50_000
        );
    }
    let transport1 = transport(&server, &options());
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("file");
    let ask =
        |path: &str, op: Option<&Op>| transport1.request(&Request::new(None, path), op).unwrap();
    assert!(ask("/v2/cut", None).save(&target).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let op = Op::new();
    ask("/v2/x", Some(&op)).save(&target).unwrap();
    assert_eq!(std::fs::metadata(&target).unwrap().len(), 50_000);
    assert_eq!(op.progress(), (50_000, Some(50_000)));
    let mut pieces = 0;
    let stopped = ask("/v2/x", None).drain(&mut |_| {
        pieces += 1;
        false
    });
    assert_eq!(
        (stopped.unwrap_err().kind(), pieces),
        (ErrorKind::Cancelled, 1)
    );
    assert!(
        ask("/v2/x", None)
            .save(&folder.path().join("no/such/folder"))
            .is_err()
    );
}
