//! Names, addresses and repetitions: what is limited, shared by a whole call, and reported when it is used up.

#[path = "support/resolver.rs"]
mod resolver;
mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use registry_transport::creds::Creds;
use registry_transport::error::{Error, ErrorKind};
use registry_transport::op::Op;
use registry_transport::options::Options;
use registry_transport::request::Request;
use registry_transport::source::{ReadBytes, Source};
use registry_transport::transport::{Actions, Transport};
use support::client::{
    Deaf, ends, get, get_with, options, transport, transport_to, with, with_texts,
};
use support::registry::{noise, sha256};
use support::server::{Answer, Gate, Request as Got, Server, script};

// ---------------------------------------------------------------- names

/// A resolver that does not answer holds up nobody who wants to stop, and nobody for ever.
#[test]
fn a_silent_resolver() {
    let gate = Gate::new();
    resolver::hold("silent.test", &gate);
    let own = with(&[("retries", 0)]);
    let transport = transport_to("silent.test:80", &own);
    let op = Op::new();
    ends(
        ErrorKind::Cancelled,
        "cancel",
        || get_with(&transport, "/v2/x", Some(&op)).map(drop),
        || gate.wait_reached(1),
        || op.cancel(),
    );
    ends(
        ErrorKind::Cancelled,
        "close",
        || get(&transport, "/v2/x").map(drop),
        || gate.wait_reached(2),
        || transport.close(),
    );
    for (key, what) in [("connect-timeout-ms", "resolved"), ("timeout-ms", "limit")] {
        let began = Instant::now();
        let options = with(&[(key, 200), ("retries", 0)]);
        let error = get(&transport_to("silent.test:80", &options), "/v2/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{key}: {error}");
        assert!(error.message().contains(what), "{key}: {error}");
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(200) && took < Duration::from_secs(1),
            "{key}: {took:?}"
        );
    }
    gate.open();
}

/// One limit for a name and its addresses together: the time that the name took is not given anew.
#[test]
fn name_and_connection_share_a_limit() {
    let deaf = Deaf::new();
    let gate = Gate::new();
    resolver::tell("late.test", &[&["127.0.0.1"]]);
    resolver::hold("late.test", &gate);
    let authority = format!("late.test:{}", deaf.address.port());
    let options = with(&[("connect-timeout-ms", 1000), ("retries", 0)]);
    let transport = transport_to(&authority, &options);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| get(&transport, "/v2/x").unwrap_err());
        assert!(gate.wait_reached(1));
        // The name takes most of the second that there is.
        std::thread::sleep(Duration::from_millis(700));
        gate.open();
        let error = call.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.message().contains("no connection"), "{error}");
    });
    assert!(
        began.elapsed() < Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
}

/// Over http, whatever the name.
fn plain(numbers: &[(&str, i64)]) -> Options {
    let mut options = with(numbers);
    options.set_text("scheme", "http").unwrap();
    options
}

#[test]
fn names_without_an_address() {
    for (name, told) in [("nowhere.test", false), ("empty.test", true)] {
        if told {
            resolver::tell(name, &[&[]]);
        }
        let error = get(
            &transport_to(&format!("{name}:80"), &with(&[("retries", 0)])),
            "/v2/x",
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{name}: {error}");
        assert!(error.message().contains(name), "{error}");
    }
}

// ---------------------------------------------------------------- addresses

/// RFC 8305: a dead address delays the next one by a quarter of a second, a refusing one not at all, and the
/// first connection that is made wins. The addresses are those of one name.
#[test]
fn happy_eyeballs() {
    // A port on which 127.0.0.1 is deaf, 127.0.0.2 answers and 127.0.0.3 refuses.
    let deaf = Deaf::new();
    let port = deaf.address.port();
    let server = Server::start_on(&format!("127.0.0.2:{port}"), |_| Answer::ok("fine"));
    assert_eq!(server.address().port(), port);
    for (name, addresses, least, most) in [
        ("good.test", &["127.0.0.2"][..], 0, 200),
        ("dead.test", &["127.0.0.1", "127.0.0.2"], 250, 800),
        ("refusing.test", &["127.0.0.3", "127.0.0.2"], 0, 200),
        (
            "families.test",
            &["127.0.0.3", "127.0.0.1", "::1", "127.0.0.2"],
            250,
            800,
        ),
        ("no-route.test", &["2001:db8::1", "127.0.0.2"], 0, 500),
        ("both.test", &["127.0.0.2", "127.0.0.1"], 0, 200),
    ] {
        resolver::tell(name, &[addresses]);
        let transport = transport_to(&format!("{name}:{port}"), &plain(&[("retries", 0)]));
        let began = Instant::now();
        let mut request = Request::new(None, "/v2/x");
        request.header("Accept", "*/*");
        assert_eq!(
            transport
                .request(&request, None)
                .and_then(|mut r| r.take_body())
                .unwrap(),
            b"fine",
            "{name}"
        );
        let took = began.elapsed().as_millis();
        assert!((least..most).contains(&took), "{name}: {took} ms");
        // The next request finds the connection; the name is not asked for again.
        get(&transport, "/v2/x").unwrap();
        assert_eq!(resolver::queries(name), 1, "{name}");
    }
    // All of them dead, and the failure of the last of them when all refuse.
    resolver::tell("all-dead.test", &[&["127.0.0.1", "127.0.0.1"]]);
    resolver::tell("all-refuse.test", &[&["127.0.0.3", "127.0.0.4"]]);
    for (name, kind) in [
        ("all-dead.test", ErrorKind::Timeout),
        ("all-refuse.test", ErrorKind::Network),
    ] {
        let options = plain(&[("retries", 0), ("connect-timeout-ms", 600)]);
        let error = get(&transport_to(&format!("{name}:{port}"), &options), "/v2/x").unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
}

/// The limit of a handshake is one of its own.
#[test]
fn a_silent_handshake() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for (what, mut options) in [
        ("TLS", with_texts(&[("scheme", "https")])),
        (
            "proxy",
            with_texts(&[("proxy", &format!("http://{address}"))]),
        ),
        (
            "SOCKS",
            with_texts(&[("proxy", &format!("socks5://{address}"))]),
        ),
    ] {
        options.set_number("tls-timeout-ms", 200).unwrap();
        options.set_number("retries", 0).unwrap();
        let began = Instant::now();
        let error = get(&transport_to(&address, &options), "/v2/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{what}: {error}");
        assert!(
            error.message().contains("tls-timeout-ms"),
            "{what}: {error}"
        );
        assert!(began.elapsed() < Duration::from_secs(1), "{what}");
    }
}

// ---------------------------------------------------------------- repetitions

fn denied() -> Answer {
    Answer::error(429, "TOOMANYREQUESTS", "slow down")
}

/// The repetitions of a call are counted over everything it does: the token, the request, its redirect, the
/// upload's parts.
#[test]
fn one_budget() {
    // Each path fails twice before it works.
    let flaky = || {
        let counts = std::sync::Mutex::new(std::collections::HashMap::<String, u32>::new());
        move |r: &Got| {
            let key = format!("{} {}", r.method, r.path);
            let mut counts = support::server::lock(&counts);
            let n = counts.entry(key).or_default();
            *n += 1;
            *n <= if r.method == "PUT" { 1 } else { 2 }
        }
    };
    type Run = fn(&Transport) -> Result<(), Error>;
    let request: Run = |t| get(t, "/v2/x").map(drop);
    let put: Run = |t| {
        t.blob_put(Some(&sha256(b"blob")), &Source::bytes(*b"blob"), None, None)
            .map(drop)
    };
    let ping: Run = |t| t.ping(None);
    for (what, run, failures) in [
        // Token, the request with it, and the place it is redirected to.
        ("request", request, 6),
        ("ping", ping, 2),
        // Token, HEAD, POST and, once, PUT, after which the upload goes on.
        ("upload", put, 7),
    ] {
        for enough in [true, false] {
            let fails = flaky();
            let server = Server::start(move |r| {
                let anonymous = r.header("authorization").is_none() && r.path != "/token";
                if r.method == "GET" && r.path.ends_with("/uploads/1") {
                    return Answer::new(204).header("Range", "0-0");
                }
                if anonymous {
                    return Answer::challenge(r#"Bearer realm="/token",service="s""#);
                }
                if fails(r) {
                    return denied();
                }
                match (r.method.as_str(), r.path.as_str()) {
                    (_, "/token") => Answer::ok(r#"{"token":"t"}"#),
                    (_, "/v2/x") => Answer::redirect(307, "/v2/y"),
                    ("HEAD", _) => Answer::new(404),
                    ("POST", _) => Answer::new(202).header("Location", "/v2/a/b/blobs/uploads/1"),
                    ("PUT", _) => Answer::new(201),
                    _ => Answer::ok("fine"),
                }
            });
            let retries = if enough { failures } else { failures - 1 };
            let creds = Creds::basic("user", "pass").unwrap();
            let options = with(&[("retries", retries)]);
            let name = format!("{}/a/b", server.authority());
            let transport =
                Transport::new(&name, Actions::push(), Some(&creds), Some(&options)).unwrap();
            let result = run(&transport);
            match result {
                Ok(()) => assert!(enough, "{what}: {:?}", server.lines()),
                Err(e) => {
                    assert!(!enough, "{what}: {e}; {:?}", server.lines());
                    assert_eq!(e.http_status(), Some(429), "{what}: {e}");
                    assert_eq!(
                        e.diagnostics().first().and_then(|d| d.code.as_deref()),
                        Some("TOOMANYREQUESTS"),
                        "{what}: {e}"
                    );
                }
            }
        }
    }
}

/// A token that does not come in time is asked for again, as often as anything else, but not beyond the time
/// of the call. Other requests are not: what takes long may be long.
#[test]
fn late_tokens() {
    let token = || Answer::ok(r#"{"token":"good"}"#);
    let good: &[(&str, i64)] = &[("response-timeout-ms", 200), ("stall-timeout-ms", 200)];
    let bad: &[(&str, i64)] = &[("response-timeout-ms", 200), ("retries", 1)];
    let short: &[(&str, i64)] = &[("timeout-ms", 400)];
    for (numbers, lates, asked, wait) in [
        (good, 2, 3, None),
        (bad, 9, 2, Some(Duration::from_secs(1))),
        (short, 9, 1, None),
    ] {
        for creds in [
            Creds::basic("user", "pass").unwrap(),
            Creds::refresh("refresh").unwrap(),
        ] {
            let gate = Gate::new();
            let (held, tries) = (gate.clone(), AtomicUsize::new(0));
            let server = Server::start(move |r| match (r.path.as_str(), r.bearer()) {
                ("/token", _) => match tries.fetch_add(1, Ordering::SeqCst) {
                    1 if lates == 2 => token().stall_after(5, &held),
                    n if n < lates => token().after(&held),
                    _ => token(),
                },
                ("/v2/late", Some("good")) => Answer::ok("late").after(&held),
                (_, Some("good")) => Answer::ok("fine"),
                _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            });
            let name = format!("{}/a/b", server.authority());
            let own = with(numbers);
            let transport =
                Transport::new(&name, Actions::pull(), Some(&creds), Some(&own)).unwrap();
            let result = get(&transport, "/v2/x");
            let seen = server.requests();
            let seen = seen.iter().filter(|r| r.path == "/token").count();
            assert_eq!(seen, asked, "{numbers:?}: {:?}", server.lines());
            match result {
                Ok(body) => {
                    assert_eq!((body.as_slice(), lates), (&b"fine"[..], 2));
                    server.clear();
                    let error = get(&transport, "/v2/late").unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                    assert_eq!(server.count(), 1, "{:?}", server.lines());
                }
                Err(e) => assert_eq!(
                    (e.kind(), e.retry_after(), lates),
                    (ErrorKind::Timeout, wait, 9),
                    "{e}"
                ),
            }
            gate.open();
        }
    }
}

/// A connection that is not made in time is tried again, whatever was to be sent on it.
#[test]
fn late_connections() {
    let deaf = Deaf::new();
    resolver::tell("deaf.test", &[&["127.0.0.1"]]);
    let options = plain(&[("connect-timeout-ms", 100), ("retries", 2)]);
    let transport = transport_to(&format!("deaf.test:{}", deaf.address.port()), &options);
    for (method, queries) in [("GET", 3), ("POST", 6)] {
        let error = transport
            .request(&Request::new(Some(method), "/v2/x"), None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{method}: {error}");
        assert_eq!(resolver::queries("deaf.test"), queries, "{method}");
    }
    // A mirror that is slow is not waited for again while another host can be asked.
    let server = Server::start(|_| Answer::ok("fine"));
    resolver::tell("slow.test", &[&["127.0.0.1"]]);
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(server.authority());
    std::fs::create_dir(&own).unwrap();
    let mirror = format!("[host.\"http://slow.test:{}\"]\n", deaf.address.port());
    std::fs::write(own.join("hosts.toml"), mirror).unwrap();
    let mut options = with(&[("connect-timeout-ms", 100), ("allow-private", 1)]);
    options
        .set_text("hosts-dir", folder.path().to_str().unwrap())
        .unwrap();
    let name = format!("{}/a/b", server.authority());
    let pulling = Transport::new(&name, Actions::pull(), None, Some(&options)).unwrap();
    let blob = pulling.blob_get(&sha256(b"fine"), None);
    assert_eq!(blob.unwrap().take_body().unwrap(), b"fine");
    assert_eq!(resolver::queries("slow.test"), 1);
}

/// What the registry said before the connection failed is not lost, and a Retry-After that cannot be waited for
/// is told, also in the message.
#[test]
fn the_last_word() {
    // The answer, then nothing but broken connections.
    let server = Server::start(script(vec![
        denied().close(),
        Answer::hang_up(),
        Answer::hang_up(),
        Answer::hang_up(),
    ]));
    let error = get(&transport(&server, &with(&[("retries", 3)])), "/v2/x").unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status(), server.count()),
        (ErrorKind::Network, Some(429), 4),
        "{error}"
    );
    assert_eq!(error.diagnostics()[0].message.as_deref(), Some("slow down"));
    assert!(error.message().contains("TOOMANYREQUESTS"), "{error}");
    assert!(error.retry_after().is_some());
    // The same for a token.
    let server = Server::start(|r| match r.path.as_str() {
        "/token" => Answer::error(503, "UNAVAILABLE", "closed").header("Retry-After", "4000"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let began = Instant::now();
    let error = get(&transport(&server, &options()), "/v2/x").unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Auth, Some(503))
    );
    assert_eq!(error.retry_after(), Some(Duration::from_secs(4000)));
    assert!(error.message().contains("4000 s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(1));
    // And for a request.
    let server = Server::start(|_| denied().header("Retry-After", "4000"));
    let error = get(&transport(&server, &options()), "/v2/x").unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Status, Some(429))
    );
    assert!(error.message().contains("4000 s"), "{error}");
    assert_eq!(
        error.diagnostics()[0].code.as_deref(),
        Some("TOOMANYREQUESTS")
    );
    // A body that breaks off is worth another try, also where the library itself makes none, and so is one that
    // stalls. What may have been done is not.
    use ErrorKind::{Network, Timeout};
    let gate = Gate::new();
    let (late, stuck) = (gate.clone(), gate.clone());
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/gone" => Answer::hang_up(),
        "/v2/late" => Answer::ok("data").after(&late),
        "/v2/stuck" => Answer::ok("data").stall_after(2, &stuck),
        "/v2/reset" => Answer::ok("data").reset_after(2),
        _ => Answer::ok("data").cut_after(2),
    });
    let limits = with(&[("response-timeout-ms", 200), ("stall-timeout-ms", 200)]);
    for (method, path, kind, advice) in [
        ("POST", "/v2/gone", Network, None),
        ("POST", "/v2/late", Timeout, None),
        ("GET", "/v2/late", Timeout, Some(1)),
        ("GET", "/v2/stuck", Timeout, Some(1)),
        ("GET", "/v2/reset", Network, Some(1)),
        ("GET", "/v2/cut", Network, Some(1)),
    ] {
        server.clear();
        let error = transport(&server, &limits)
            .request(&Request::new(Some(method), path), None)
            .and_then(|mut r| r.take_body())
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.retry_after(), server.count()),
            (kind, advice.map(Duration::from_secs), 1),
            "{method} {path}: {error}"
        );
    }
    gate.open();
    // A deadline that passes while an answer is waited for.
    let gate = Gate::new();
    let held = gate.clone();
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => denied(),
        _ => Answer::ok("x").after(&held),
    });
    let error = get(&transport(&server, &with(&[("timeout-ms", 300)])), "/v2/x").unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Timeout, Some(429)),
        "{error}"
    );
    assert!(error.message().contains("TOOMANYREQUESTS"), "{error}");
    gate.open();
}

/// What the registry says of its limits can be read from answers and from errors.
#[test]
fn rate_limits() {
    let server = Server::start(|r| {
        let answer = match r.path.as_str() {
            "/v2/fine" => Answer::ok("fine"),
            "/v2/lists" => Answer::ok("fine")
                .header("RateLimit", r#""a";r=50;t=30"#)
                .header("RateLimit", r#""b";r=7;t=900"#)
                .header("RateLimit-Policy", r#""a";q=100;w=60"#)
                .header("RateLimit-Policy", r#""b";q=10;w=5"#),
            "/token" => Answer::new(429),
            "/v2/token" => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            _ => denied(),
        };
        answer
            .header("RateLimit-Limit", "100;w=21600")
            .header("RateLimit-Remaining", "76;w=21600")
    });
    let transport = transport(&server, &with(&[("retries", 1)]));
    let request = |path| transport.request(&Request::new(None, path), None);
    let told = request("/v2/fine").unwrap().rate_limit().unwrap();
    assert_eq!((told.limit, told.remaining), (Some(100), Some(76)));
    assert_eq!(
        (told.window, told.reset),
        (Some(Duration::from_secs(21600)), None)
    );
    // Of several limits the one with the least left, on whichever line it stands.
    let told_last = request("/v2/lists").unwrap().rate_limit().unwrap();
    let seconds = |d: Option<Duration>| d.map(|d| d.as_secs());
    assert_eq!((told_last.limit, told_last.remaining), (Some(10), Some(7)));
    assert_eq!(
        (seconds(told_last.window), seconds(told_last.reset)),
        (Some(5), Some(900))
    );
    for path in ["/v2/denied", "/v2/token"] {
        assert_eq!(
            request(path).unwrap_err().rate_limit(),
            Some(told),
            "{path}"
        );
    }
    let silent = Server::start(|_| Answer::ok("x"));
    let quiet = support::client::transport(&silent, &options());
    assert_eq!(
        quiet
            .request(&Request::new(None, "/v2/"), None)
            .unwrap()
            .rate_limit(),
        None
    );
}

/// What the registry warns of is logged once, and nothing else comes of it. A storage is not the registry.
#[test]
fn warnings() {
    let storage =
        Server::start(|_| Answer::ok("stored").header("Warning", "299 - \"of the storage\""));
    let there = storage.url("/data");
    // All the fields of an answer together may have 4096 bytes.
    let long = format!("299 - \"{}\"", "x".repeat(4096));
    let server = Server::start(move |r| {
        let (answer, fields) = match r.path.as_str() {
            "/v2/blob" => (Answer::redirect(307, &there), vec!["299 - \"moving\""]),
            "/v2/new" => (Answer::ok("x"), vec!["299 - \"another\""]),
            "/v2/gone" => (Answer::new(404), vec!["299 - \"soon gone\""]),
            "/v2/long" => (Answer::ok("x"), vec![long.as_str(), "299 - \"too late\""]),
            _ => (
                Answer::ok("fine"),
                vec![
                    r#"299 - "soon \"old\"""#,
                    "299 - \"a\tb\" , 299 - \"c,d\"",
                    "199 - \"other code\"",
                    "299 registry \"other agent\"",
                    r#"299 - "dated" "Wed, 21 Oct 2015 07:28:00 GMT""#,
                    "299 - \"open",
                    "299 - bare",
                    "299 - \"\"",
                ],
            ),
        };
        fields.iter().fold(answer, |a, f| a.header("Warning", f))
    });
    let mut options = options();
    let log = support::client::keep_log(&mut options);
    let transport = transport(&server, &options);
    for path in ["/v2/x", "/v2/x", "/v2/blob", "/v2/new", "/v2/x", "/v2/long"] {
        get(&transport, path).unwrap();
    }
    get(&transport, "/v2/gone").unwrap_err();
    let origin = server.url("");
    let told: Vec<String> = support::server::lock(&log)
        .iter()
        .filter_map(|line| line.strip_prefix("Warn: "))
        .map(|line| line.replace(&origin, ""))
        .collect();
    assert_eq!(
        told,
        [
            r#" warns: soon "old""#,
            " warns: a b",
            " warns: c,d",
            " warns: moving",
            " warns: another",
            " warns: soon gone",
        ]
    );
}

/// A server that hands out a blob byte by byte is not asked for ever.
#[test]
fn a_miserly_server() {
    let data = Arc::new(noise("miser", 100_000));
    let digest = sha256(&data);
    let own = Arc::clone(&data);
    let server = Server::start(move |r| {
        let first: Option<usize> = r
            .header("range")
            .and_then(|v| v.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let answer = match first {
            None => Answer::ok(&own[..]),
            Some(first) => Answer::new(206)
                .header("Content-Range", format!("bytes {first}-99999/100000"))
                .body(&own[first..]),
        };
        answer.cut_after(1)
    });
    let error = transport(&server, &with(&[("retries", 2)]))
        .blob_get(&digest, None)
        .and_then(|mut r| r.take_body())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    // The first request, those for the rest, and the repetitions.
    assert_eq!(server.count(), 1 + 1000 + 2);
}

// ---------------------------------------------------------------- pipes

/// A reader that does not wait for its end.
struct GivingUp(Op, Arc<AtomicUsize>);

impl ReadBytes for GivingUp {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        self.0.cancel();
        self.1.fetch_add(1, Ordering::Relaxed);
        buf[0] = 0;
        Ok(1)
    }

    fn rewind(&mut self) -> bool {
        true
    }
}

/// A body from a named pipe: nobody waits for a writer who wants to stop, and what is written arrives.
#[test]
fn bodies_from_pipes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let server = Server::start(|_| Answer::new(201));
    let transport = transport(&server, &with(&[("retries", 0)]));
    let mut request = Request::new(Some("PUT"), "/v2/x");
    request.body(Source::file(&path));
    let put = |op: Option<&Op>| transport.request(&request, op).map(drop);
    let op = Op::new();
    ends(
        ErrorKind::Cancelled,
        "no writer",
        || put(Some(&op)),
        || {
            while server.connections() == 0 {
                std::thread::yield_now();
            }
            true
        },
        || op.cancel(),
    );
    let silent = std::thread::scope(|scope| {
        let open = || std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let writer = scope.spawn(open);
        let op = Op::new();
        op.set_timeout(Some(Duration::from_millis(300)));
        let error = put(Some(&op)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        writer.join().unwrap()
    });
    drop(silent);
    // What an upload has got is only hashed, which can be given up as well.
    let uploads = Server::start(|r| match r.method.as_str() {
        "GET" => Answer::new(204).header("Range", "0-99"),
        "POST" => Answer::new(202).header("Location", "/u"),
        _ => Answer::new(202).header("Range", format!("0-{}", r.body.len() - 1)),
    });
    let mut upload = support::client::transport(&uploads, &with(&[]))
        .upload_begin(None)
        .unwrap();
    upload.send(&Source::bytes([0; 100]), None).unwrap();
    let op = Op::new();
    op.set_timeout(Some(Duration::from_millis(300)));
    let error = upload.send(&Source::file(&path), Some(&op)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    for size in [Some(100), None] {
        let (op, reads) = (Op::new(), Arc::new(AtomicUsize::new(0)));
        let giving_up = GivingUp(op.clone(), Arc::clone(&reads));
        let error = upload
            .send(&Source::reader(Box::new(giving_up), size), Some(&op))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{size:?}: {error}");
        assert_eq!(reads.load(Ordering::Relaxed), 1, "{size:?}");
    }
    server.clear();
    let data = noise("pipe", 1 << 20);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| std::fs::write(&path, &data).unwrap());
        put(None).unwrap();
        writer.join().unwrap();
    });
    assert!(server.requests()[0].body == data);
}

// ---------------------------------------------------------------- requests at one host

/// Waits until a server has seen so many requests.
fn seen(server: &Server, n: usize) {
    assert!(server.wait_requests(n), "{:?}", server.lines());
}

/// No more than so many at once, over several transports; without the option, all at once.
#[test]
fn requests_at_once() {
    for (most, together) in [(0, 8), (2, 2)] {
        let gate = Gate::new();
        let held = gate.clone();
        let server = Server::start(move |_| Answer::ok("x").after(&held));
        let options = with(&[("max-requests-per-host", most)]);
        let transports: Vec<_> = (0..8).map(|_| transport(&server, &options)).collect();
        std::thread::scope(|scope| {
            for t in &transports {
                scope.spawn(|| get(t, "/v2/x").unwrap());
            }
            assert!(gate.wait_reached(together));
            if most > 0 {
                // The others wait, and say so; none of them is sent.
                assert_eq!(server.count(), together);
            }
            gate.open();
        });
        assert_eq!(server.count(), 8);
    }
    // How many are between being asked for and being read.
    let running = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&running);
    let most = Arc::new(AtomicUsize::new(0));
    let seen_most = Arc::clone(&most);
    let server = Server::start(move |_| {
        seen_most.fetch_max(own.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Answer::ok(vec![0; 100_000]).chunks_of(1000)
    });
    let shared = transport(&server, &with(&[("max-requests-per-host", 3)]));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut answer = shared.request(&Request::new(None, "/v2/x"), None).unwrap();
                    let mut left = 100_000;
                    let mut buf = [0; 7000];
                    while left > 0 {
                        left -= answer.read(&mut buf).unwrap();
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(answer.read(&mut buf).unwrap(), 0);
                }
            });
        }
    });
    assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

/// Waiting for a place is a phase like the others: it can be cancelled and has the call's limit. Places are given
/// in order.
#[test]
fn waiting_for_a_place() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/held" => Answer::ok("x").after(&held),
        _ => Answer::ok("x"),
    });
    let mut own = with(&[("max-requests-per-host", 1)]);
    let lines = support::client::keep_log(&mut own);
    let waiting = |n: usize| {
        let said = || {
            support::server::lock(&lines)
                .iter()
                .filter(|l| l.contains("waiting until"))
                .count()
        };
        while said() < n {
            std::thread::yield_now();
        }
        true
    };
    let transport = transport(&server, &own);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&transport, "/v2/held"));
        assert!(gate.wait_reached(1));
        let op = Op::new();
        ends(
            ErrorKind::Cancelled,
            "cancel",
            || get_with(&transport, "/v2/x", Some(&op)).map(drop),
            || waiting(1),
            || op.cancel(),
        );
        let op = Op::new();
        op.set_timeout(Some(Duration::from_millis(150)));
        let error = get_with(&transport, "/v2/x", Some(&op)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let mut queue = Vec::new();
        for (i, path) in ["/v2/1", "/v2/2", "/v2/3", "/v2/4", "/v2/5"]
            .into_iter()
            .enumerate()
        {
            let transport = &transport;
            queue.push(scope.spawn(move || get(transport, path)));
            waiting(3 + i);
        }
        assert_eq!(server.count(), 1);
        gate.open();
        first.join().unwrap().unwrap();
        for call in queue {
            call.join().unwrap().unwrap();
        }
    });
    let order: Vec<_> = server.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(
        order,
        ["/v2/held", "/v2/1", "/v2/2", "/v2/3", "/v2/4", "/v2/5"]
    );
}

/// An answer that is not read keeps its place, but nobody waits for himself: not the thread that has it, nor the
/// one it was handed to, nor the threads that help either, nor two copies in opposite directions.
#[test]
fn places_of_unread_answers() {
    let data = noise("places", 10 << 20);
    let digest = sha256(&data);
    let registries = [
        support::registry::Registry::open(),
        support::registry::Registry::open(),
    ];
    let servers: Vec<_> = registries
        .iter()
        .map(|registry| {
            registry.put_blob("a/b", data.clone());
            registry.seed("a/b", "latest", 4);
            registry.start(None)
        })
        .collect();
    let options = with(&[
        ("max-requests-per-host", 1),
        ("parallel", 3),
        ("timeout-ms", 60_000),
    ]);
    let transports: Vec<_> = servers
        .iter()
        .map(|server| transport(server, &options))
        .collect();
    let server = &servers[0];
    let transport = &transports[0];
    let folder = tempfile::tempdir().unwrap();
    let mut open = transport.blob_get(&digest, None).unwrap();
    get(transport, "/v2/").unwrap();
    transport
        .blob_save(&digest, &folder.path().join("blob"), None)
        .unwrap();
    // Another thread waits, until the answer is handed to it and read there.
    let before = server.count();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| get(transport, "/v2/").unwrap());
        get(transport, "/v2/").unwrap();
        seen(server, before + 1);
        assert!(!other.is_finished());
        open = scope
            .spawn(move || {
                let mut buf = [0; 10];
                assert!(open.read(&mut buf).unwrap() > 0);
                get(transport, "/v2/").unwrap();
                open
            })
            .join()
            .unwrap();
        assert_eq!(server.count(), before + 2);
        drop(open);
        other.join().unwrap();
    });
    // Answers without a body take no place.
    let head = transport.manifest_head("latest", None).unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(|| get(transport, "/v2/").unwrap())
            .join()
            .unwrap()
    });
    drop(head);
    std::thread::scope(|scope| {
        for (from, to) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
            let (from, to) = (&transports[from], &transports[to]);
            scope.spawn(move || {
                registry_transport::copy::copy(from, "latest", to, "copied", None).unwrap();
            });
        }
    });
    // Places that nobody gives back end in an error, not in a hang.
    let small = with(&[
        ("max-requests-per-host", 1),
        ("connect-timeout-ms", 50),
        ("tls-timeout-ms", 50),
        ("response-timeout-ms", 50),
        ("stall-timeout-ms", 50),
        ("retries", 0),
    ]);
    let hasty = support::client::transport(server, &small);
    let kept = transport.blob_get(&digest, None).unwrap();
    std::thread::scope(|scope| {
        let error = scope
            .spawn(|| get(&hasty, "/v2/").unwrap_err())
            .join()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.message().contains("max-requests-per-host"), "{error}");
    });
    drop(kept);
}

/// Of a POST whose connection broke in the handshake nothing has arrived; it is sent again.
#[test]
fn broken_handshakes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tried = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tried);
    std::thread::spawn(move || {
        use std::io::Read;
        for stream in listener.incoming() {
            // The hello of the client, then the end.
            let _ = stream.unwrap().read(&mut [0; 4096]);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut options = with(&[("retries", 2)]);
    options.set_text("scheme", "https").unwrap();
    let mut request = Request::new(Some("POST"), "/v2/x");
    request.body(Source::bytes(*b"body"));
    let error = transport_to(&address, &options)
        .request(&request, None)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert_eq!(tried.load(Ordering::SeqCst), 3);
}

/// What an answer says besides its challenge or its Location is not waited for.
#[test]
fn the_rest_of_an_answer_does_not_come() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |r| {
        let slow = |answer: Answer| answer.body(vec![b' '; 5000]).stall_after(10, &held);
        match (r.path.as_str(), r.basic()) {
            (_, None) => slow(Answer::challenge("Basic realm=\"r\"")),
            ("/v2/old", _) => slow(Answer::redirect(307, "/v2/new")),
            _ => Answer::ok("fine"),
        }
    });
    let creds = Creds::basic("user", "password").unwrap();
    let own = with(&[("retries", 0), ("timeout-ms", 30_000)]);
    let name = server.authority();
    let t = Transport::new(&name, Actions::catalog(), Some(&creds), Some(&own)).unwrap();
    assert_eq!(get(&t, "/v2/old").unwrap(), b"fine");
    assert_eq!(server.count(), 3);
    gate.open();
}
