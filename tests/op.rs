//! Control of running calls: cancel, close, deadlines, time-outs of the phases, progress.
//!
//! The phase in which a name is resolved is that of `reliability.rs`, which has a resolver of its own.

mod support;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_transport::error::{Error, ErrorKind};
use registry_transport::op::Op;
use registry_transport::options::Options;
use registry_transport::request::Request;
use registry_transport::source::{ReadBytes, Source};
use registry_transport::transport::{Actions, Transport};
use support::client::{
    Deaf, ends, get, get_with, keep_log, options, transport, transport_to, with,
};
use support::registry::{noise, sha256};
use support::server::{Answer, Gate, Server, lock};

/// A place where a call can hang.
struct Place {
    name: &'static str,
    /// `host:port` and the options to hang there with.
    authority: String,
    options: Options,
    run: fn(&Transport, &Op) -> Result<(), Error>,
    /// How the test knows that the call is there.
    reached: Box<dyn Fn() -> bool>,
    /// What keeps the place open.
    _held: Box<dyn std::any::Any + Send>,
}

fn whole(transport: &Transport, path: &str, op: &Op) -> Result<(), Error> {
    get_with(transport, path, Some(op)).map(drop)
}

/// Waits until a log line says so.
fn logged(options: &mut Options, text: &'static str) -> Box<dyn Fn() -> bool> {
    let lines = keep_log(options);
    Box::new(move || {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if lock(&lines).iter().any(|l| l.contains(text)) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    })
}

/// Every phase of a call but the resolver's.
fn places() -> Vec<Place> {
    let mut places = Vec::new();
    let deaf = Deaf::new();
    let mut own = options();
    places.push(Place {
        name: "connect",
        authority: deaf.address.to_string(),
        reached: logged(&mut own, "> GET"),
        options: own,
        run: |t, op| whole(t, "/v2/x", op),
        _held: Box::new(deaf),
    });
    // The system accepts for a listener that never does.
    let silent = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (listener.local_addr().unwrap().to_string(), listener)
    };
    let (authority, listener) = silent();
    let mut own = options();
    own.set_text("scheme", "https").unwrap();
    places.push(Place {
        name: "TLS handshake",
        authority,
        reached: logged(&mut own, "connected to"),
        options: own,
        run: |t, op| whole(t, "/v2/x", op),
        _held: Box::new(listener),
    });
    let (proxy, listener) = silent();
    let mut own = options();
    own.set_text("proxy", &format!("http://{proxy}")).unwrap();
    places.push(Place {
        name: "proxy",
        authority: "r.example:80".to_owned(),
        reached: logged(&mut own, "connected to"),
        options: own,
        run: |t, op| {
            t.request(&Request::new(None, "http://r.example:80/v2/x"), Some(op))
                .map(drop)
        },
        _held: Box::new(listener),
    });
    if let Some(place) = places.last_mut() {
        place.options.set_text("scheme", "http").unwrap();
    }
    let (authority, listener) = silent();
    let mut own = options();
    places.push(Place {
        name: "sending a body",
        authority,
        reached: logged(&mut own, "connected to"),
        options: own,
        run: |t, op| {
            let mut request = Request::new(Some("PUT"), "/v2/x");
            request.body(Source::bytes(vec![0; 64 << 20]));
            t.request(&request, Some(op)).map(drop)
        },
        _held: Box::new(listener),
    });
    let serve = |answer: fn(&Gate) -> Answer| {
        let gate = Gate::new();
        Arc::new(Server::start(move |r| match r.path.as_str() {
            "/token" => Answer::ok("{}").after(&gate),
            _ => answer(&gate),
        }))
    };
    type Case = (
        &'static str,
        fn(&Gate) -> Answer,
        usize,
        fn(&Transport, &Op) -> Result<(), Error>,
        &'static [(&'static str, i64)],
    );
    let cases: [Case; 6] = [
        (
            "head",
            |g| Answer::ok("x").after(g),
            1,
            |t, op| whole(t, "/v2/x", op),
            &[],
        ),
        (
            "body",
            |g| Answer::ok(vec![0; 100_000]).stall_after(1000, g),
            1,
            |t, op| whole(t, "/v2/x", op),
            &[],
        ),
        (
            "error body",
            |g| Answer::new(404).body(vec![0; 1000]).stall_after(10, g),
            1,
            |t, op| whole(t, "/v2/x", op),
            &[],
        ),
        (
            "token exchange",
            |_| Answer::challenge(r#"Bearer realm="/token",service="s""#),
            2,
            |t, op| whole(t, "/v2/x", op),
            &[],
        ),
        (
            "back-off",
            |_| Answer::new(503),
            1,
            |t, op| whole(t, "/v2/x", op),
            &[
                ("retry-delay-ms", 3_600_000),
                ("retry-budget-ms", 86_400_000),
            ],
        ),
        (
            "Retry-After",
            |_| Answer::new(503).header("Retry-After", "50"),
            1,
            |t, op| whole(t, "/v2/x", op),
            &[],
        ),
    ];
    for (name, answer, requests, run, numbers) in cases {
        let server = serve(answer);
        let watched = Arc::clone(&server);
        places.push(Place {
            name,
            authority: server.authority(),
            options: with(numbers),
            run,
            reached: Box::new(move || watched.wait_requests(requests)),
            _held: Box::new(server),
        });
    }
    places
}

/// Cancelled from another thread, in every phase.
#[test]
fn cancel() {
    for place in places() {
        let transport = transport_to(&place.authority, &place.options);
        let op = Op::new();
        ends(
            ErrorKind::Cancelled,
            place.name,
            || (place.run)(&transport, &op),
            || (place.reached)(),
            || op.cancel(),
        );
        assert!(op.is_cancelled());
        let error = (place.run)(&transport, &op).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Cancelled,
            "{}: a cancelled op stays so",
            place.name
        );
    }
}

/// Closing the transport ends its calls in every phase; later calls work.
#[test]
fn close() {
    for place in places() {
        let transport = transport_to(&place.authority, &place.options);
        let op = Op::new();
        ends(
            ErrorKind::Cancelled,
            place.name,
            || (place.run)(&transport, &op),
            || (place.reached)(),
            || transport.close(),
        );
    }
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/held" => Answer::ok("x").after(&held),
        _ => Answer::ok("fine"),
    });
    let transport = transport(&server, &options());
    get(&transport, "/v2/x").unwrap();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| get(&transport, "/v2/held")))
            .collect();
        assert!(gate.wait_reached(4));
        // A response whose body is still to be read ends too.
        transport.close();
        for call in calls {
            assert_eq!(
                call.join().unwrap().unwrap_err().kind(),
                ErrorKind::Cancelled
            );
        }
    });
    assert!(server.wait_open_at_most(0), "every connection is closed");
    assert_eq!(get(&transport, "/v2/x").unwrap(), b"fine");
    let mut open = transport
        .request(&Request::new(None, "/v2/x"), None)
        .unwrap();
    transport.close();
    assert_eq!(open.body().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(get(&transport, "/v2/x").unwrap(), b"fine");
    gate.open();
}

/// Deadlines, of the op and of the options, in every phase.
#[test]
fn deadlines() {
    let limit = Duration::from_millis(150);
    std::thread::scope(|scope| {
        for of_op in [true, false] {
            for place in places() {
                scope.spawn({
                    let Place {
                        name,
                        authority,
                        mut options,
                        run,
                        _held,
                        ..
                    } = place;
                    options.clear_log();
                    if !of_op {
                        options.set_number("timeout-ms", 150).unwrap();
                    }
                    move || {
                        let _held = _held;
                        let transport = transport_to(&authority, &options);
                        let op = Op::new();
                        if of_op {
                            op.set_timeout(Some(limit));
                        }
                        let began = Instant::now();
                        let error = run(&transport, &op).unwrap_err();
                        let took = began.elapsed();
                        match name {
                            // A pause that would not end in time is not begun.
                            "back-off" | "Retry-After" => {
                                assert_eq!(error.http_status(), Some(503), "{name}: {error}");
                                assert!(error.retry_after().is_some());
                            }
                            "error body" => {
                                assert_eq!(error.http_status(), Some(404), "{name}: {error}");
                            }
                            _ => {
                                assert_eq!(error.kind(), ErrorKind::Timeout, "{name}: {error}");
                                assert!(took >= limit, "{name}: {took:?}");
                            }
                        }
                        assert!(
                            took < limit + Duration::from_millis(600),
                            "{name}: {took:?}"
                        );
                    }
                });
            }
        }
    });
}

/// The shorter of two limits holds; a limit that is taken away does not.
#[test]
fn deadlines_of_an_op() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/held" => Answer::ok("x").after(&held),
        _ => Answer::ok("fine"),
    });
    for (of_op, of_options) in [(Some(100), 60_000), (Some(60_000), 100), (None, 100)] {
        let transport = transport(&server, &with(&[("timeout-ms", of_options)]));
        let op = Op::new();
        op.set_timeout(of_op.map(Duration::from_millis));
        let began = Instant::now();
        let error = get_with(&transport, "/v2/held", Some(&op)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{of_op:?} {of_options}"
        );
    }
    // The limit is for each call, and is gone when it is taken away.
    let transport = transport(&server, &options());
    let op = Op::new();
    op.set_timeout(Some(Duration::from_millis(1)));
    assert_eq!(
        get_with(&transport, "/v2/held", Some(&op))
            .unwrap_err()
            .kind(),
        ErrorKind::Timeout
    );
    op.set_timeout(None);
    assert_eq!(get_with(&transport, "/v2/x", Some(&op)).unwrap(), b"fine");
    op.set_timeout(Some(Duration::from_secs(30)));
    for _ in 0..3 {
        assert_eq!(get_with(&transport, "/v2/x", Some(&op)).unwrap(), b"fine");
    }
    gate.open();
}

/// The limits of the phases, each alone.
#[test]
fn time_outs() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/head" => Answer::ok("x").after(&held),
        "/v2/slow" => Answer::ok(vec![0; 2000]).trickle(50, Duration::from_millis(5)),
        _ => Answer::ok(vec![0; 100_000]).stall_after(1000, &held),
    });
    let deaf = Deaf::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent
        .local_addr()
        .map(|a| (a.to_string(), silent))
        .unwrap();
    let here = server.authority();
    type Run = fn(&Transport) -> Result<(), Error>;
    let put: Run = |t| {
        let mut request = Request::new(Some("PUT"), "/v2/x");
        request.body(Source::bytes(vec![0; 64 << 20]));
        t.request(&request, None).map(drop)
    };
    let deaf_name = deaf.address.to_string();
    let cases: [(&str, &str, &str, Run); 6] = [
        ("connect-timeout-ms", &deaf_name, "http", |t| {
            get(t, "/v2/x").map(drop)
        }),
        ("tls-timeout-ms", &silent.0, "https", |t| {
            get(t, "/v2/x").map(drop)
        }),
        ("response-timeout-ms", &here, "http", |t| {
            get(t, "/v2/head").map(drop)
        }),
        ("response-timeout-ms", &silent.0, "http", |t| {
            get(t, "/v2/x").map(drop)
        }),
        ("stall-timeout-ms", &here, "http", |t| {
            get(t, "/v2/body").map(drop)
        }),
        ("stall-timeout-ms", &silent.0, "http", put),
    ];
    for (key, authority, scheme, run) in cases {
        let mut options = with(&[(key, 200), ("retries", 0)]);
        options.set_text("scheme", scheme).unwrap();
        let began = Instant::now();
        let error = run(&transport_to(authority, &options)).unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{key} {scheme}: {error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)), "{key}");
        assert!(
            took >= Duration::from_millis(200) && took < Duration::from_secs(1),
            "{key} {scheme}: {took:?}"
        );
    }
    // The call's own time is another matter: with as little, the next has no better chance.
    let error = get(
        &transport(&server, &with(&[("timeout-ms", 200)])),
        "/v2/head",
    )
    .unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::Timeout, None)
    );
    // Slow but moving: 2000 bytes in a fifth of a second are enough for one rate and not for the other.
    let slow = |rate| {
        let options = with(&[
            ("stall-timeout-ms", 100),
            ("stall-bytes-per-second", rate),
            ("retries", 0),
        ]);
        get(&transport(&server, &options), "/v2/slow")
    };
    assert_eq!(slow(1).unwrap().len(), 2000);
    assert_eq!(slow(0).unwrap().len(), 2000);
    assert_eq!(slow(1_000_000).unwrap_err().kind(), ErrorKind::Timeout);
    // A long answer is not a late one.
    let options = with(&[("response-timeout-ms", 100), ("retries", 0)]);
    assert_eq!(
        get(&transport(&server, &options), "/v2/slow")
            .unwrap()
            .len(),
        2000
    );
    gate.open();
}

/// Who waits for another thread's token exchange can give up alone; the exchange goes on.
#[test]
fn waiting_for_another_threads_token() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => Answer::ok(r#"{"token":"T"}"#).after(&held),
        (_, Some("T")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let transport = Transport::new(
        &format!("{}/a/b", server.authority()),
        Actions::pull(),
        None,
        Some(&options()),
    )
    .unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&transport, "/v2/x"));
        assert!(gate.wait_reached(1));
        // Three more wait for the token: to be cancelled, to run out of time, and to get it.
        let (op, begun) = (Op::new(), AtomicBool::new(false));
        ends(
            ErrorKind::Cancelled,
            "waiting",
            || {
                begun.store(true, Ordering::SeqCst);
                get_with(&transport, "/v2/x", Some(&op)).map(drop)
            },
            // The challenge is known, so that nothing of this call is seen on the wire.
            || {
                while !begun.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                true
            },
            || op.cancel(),
        );
        let op = Op::new();
        op.set_timeout(Some(Duration::from_millis(100)));
        let began = Instant::now();
        let error = get_with(&transport, "/v2/x", Some(&op)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(began.elapsed() < Duration::from_millis(500));
        let last = scope.spawn(|| get(&transport, "/v2/x"));
        gate.open();
        assert_eq!(first.join().unwrap().unwrap(), b"fine");
        assert_eq!(last.join().unwrap().unwrap(), b"fine");
    });
    let exchanges = server
        .requests()
        .iter()
        .filter(|r| r.path == "/token")
        .count();
    assert_eq!(exchanges, 1, "{:?}", server.lines());
}

/// When the thread that exchanges is cancelled, one that waits takes over.
#[test]
fn a_cancelled_exchange_is_taken_over() {
    let gate = Gate::new();
    let held = gate.clone();
    let count = AtomicU64::new(0);
    let server = Server::start(move |r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) if count.fetch_add(1, Ordering::SeqCst) == 0 => Answer::ok("{}").after(&held),
        ("/token", _) => Answer::ok(r#"{"token":"T"}"#),
        (_, Some("T")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let transport = transport(&server, &options());
    let op = Op::new();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get_with(&transport, "/v2/x", Some(&op)));
        assert!(gate.wait_reached(1));
        let second = scope.spawn(|| get(&transport, "/v2/x"));
        op.cancel();
        assert_eq!(
            first.join().unwrap().unwrap_err().kind(),
            ErrorKind::Cancelled
        );
        assert_eq!(second.join().unwrap().unwrap(), b"fine");
    });
    gate.open();
}

type Seen = Arc<Mutex<Vec<(u64, Option<u64>)>>>;

fn watched() -> (Op, Seen) {
    let op = Op::new();
    let seen = Seen::default();
    let own = Arc::clone(&seen);
    op.set_progress(Some(Arc::new(move |done, total| {
        lock(&own).push((done, total));
        true
    })));
    (op, seen)
}

fn rises(seen: &Seen, end: (u64, Option<u64>)) {
    let seen = lock(seen);
    assert!(seen.windows(2).all(|w| w[0].0 <= w[1].0), "{seen:?}");
    assert_eq!(seen.last(), Some(&end));
}

/// Progress is told as bytes move, in either direction.
#[test]
fn progress() {
    assert_eq!(Op::default().progress(), (0, None));
    let data = Arc::new(noise("progress", 500_000));
    let digest = sha256(&data);
    let own = Arc::clone(&data);
    let server = Server::start(move |r| match (r.method.as_str(), r.path.as_str()) {
        ("PUT", _) => Answer::new(201),
        ("HEAD", _) => Answer::new(200).content_length(500_000),
        (_, "/v2/chunked") => Answer::ok(&own[..]).chunked(),
        _ => match r
            .header("range")
            .and_then(|t| t.strip_prefix("bytes=")?.split_once('-'))
        {
            Some((first, last)) => {
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                Answer::new(206)
                    .header("Content-Range", format!("bytes {first}-{last}/500000"))
                    .body(&own[first..=last])
            }
            None => Answer::ok(&own[..]),
        },
    });
    let transport = transport(&server, &options());
    let (op, seen) = watched();
    get_with(&transport, "/v2/x", Some(&op)).unwrap();
    rises(&seen, (500_000, Some(500_000)));
    assert_eq!(op.progress(), (500_000, Some(500_000)));
    // The same op again: it begins anew. What has no length has no total.
    lock(&seen).clear();
    get_with(&transport, "/v2/chunked", Some(&op)).unwrap();
    rises(&seen, (500_000, None));
    let (op, seen) = watched();
    let mut request = Request::new(Some("PUT"), "/v2/x");
    request.body(Source::bytes(&data[..]));
    transport.request(&request, Some(&op)).unwrap();
    assert_eq!(
        lock(&seen).last().map(|s| s.0),
        Some(500_000),
        "a body that is sent"
    );
    let (op, seen) = watched();
    transport
        .blob_get(&digest, Some(&op))
        .unwrap()
        .take_body()
        .unwrap();
    rises(&seen, (500_000, Some(500_000)));
    let (op, seen) = watched();
    let folder = tempfile::tempdir().unwrap();
    transport
        .blob_save(&digest, &folder.path().join("blob"), Some(&op))
        .unwrap();
    rises(&seen, (500_000, Some(500_000)));
    let (op, seen) = watched();
    let blob = transport.blob_open(&digest, None).unwrap();
    blob.pread(&mut [0; 1000], 5, Some(&op)).unwrap();
    rises(&seen, (1000, Some(1000)));
    // Nobody is told after the callback was removed.
    lock(&seen).clear();
    op.set_progress(None);
    blob.pread(&mut [0; 1000], 5, Some(&op)).unwrap();
    assert!(lock(&seen).is_empty());
}

/// A progress callback that returns false stops the call, wherever the bytes go.
#[test]
fn progress_stops_the_call() {
    let data = Arc::new(noise("stop", 4 << 20));
    let digest = sha256(&data);
    let own = Arc::clone(&data);
    let server = Server::start(move |r| match r.method.as_str() {
        "PUT" => Answer::new(201),
        _ => Answer::ok(&own[..]),
    });
    let transport = transport(&server, &options());
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("file");
    type Run<'a> = Box<dyn Fn(&Op) -> Result<(), Error> + 'a>;
    let runs: [(&str, Run<'_>); 5] = [
        (
            "get",
            Box::new(|op| get_with(&transport, "/v2/x", Some(op)).map(drop)),
        ),
        (
            "save",
            Box::new(|op| {
                transport
                    .request(&Request::new(None, "/v2/x"), Some(op))?
                    .save(&target)
            }),
        ),
        (
            "put",
            Box::new(|op| {
                let mut request = Request::new(Some("PUT"), "/v2/x");
                request.body(Source::bytes(&data[..]));
                transport.request(&request, Some(op)).map(drop)
            }),
        ),
        (
            "blob_get",
            Box::new(|op| transport.blob_get(&digest, Some(op))?.take_body().map(drop)),
        ),
        (
            "blob_save",
            Box::new(|op| transport.blob_save(&digest, &target, Some(op))),
        ),
    ];
    for (name, run) in &runs {
        let op = Op::new();
        let calls = Arc::new(AtomicU64::new(0));
        let own = Arc::clone(&calls);
        op.set_progress(Some(Arc::new(move |done, _| {
            own.fetch_add(1, Ordering::SeqCst);
            done < 300_000
        })));
        let error = run(&op).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{name}: {error}");
        assert!(calls.load(Ordering::SeqCst) > 0, "{name}");
        assert!(op.progress().0 < 4 << 20, "{name}: stopped on the way");
        assert!(!target.exists(), "{name}");
        // Not cancelled for good: the same op serves again.
        op.set_progress(None);
        run(&op).unwrap_or_else(|e| panic!("{name}: {e}"));
        let _ = std::fs::remove_file(&target);
    }
}

/// Reads and then looks whether it is still wanted.
struct Endless(Arc<AtomicBool>);

impl ReadBytes for Endless {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        self.0.store(true, Ordering::SeqCst);
        let n = buf.len().min(1000);
        buf[..n].fill(1);
        Ok(n)
    }

    fn rewind(&mut self) -> bool {
        false
    }
}

/// A body without an end stops when the call does; an error of its reader ends the call as it is.
#[test]
fn bodies_stop_with_the_call() {
    let server = Server::builder().without_log().start(|_| Answer::new(201));
    let transport = transport(&server, &options());
    let begun = Arc::new(AtomicBool::new(false));
    let mut request = Request::new(Some("PUT"), "/v2/x");
    request.body(Source::reader(Box::new(Endless(Arc::clone(&begun))), None));
    let op = Op::new();
    ends(
        ErrorKind::Cancelled,
        "endless",
        || transport.request(&request, Some(&op)).map(drop),
        || {
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            true
        },
        || op.cancel(),
    );
    struct Failing;
    impl ReadBytes for Failing {
        fn read(&mut self, _: &mut [u8]) -> Result<usize, Error> {
            Err(Error::new(ErrorKind::Io, "the disk is on fire"))
        }

        fn rewind(&mut self) -> bool {
            true
        }
    }
    let mut request = Request::new(Some("PUT"), "/v2/x");
    request.body(Source::reader(Box::new(Failing), Some(5)));
    let error = transport.request(&request, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().contains("the disk is on fire"), "{error}");
    assert_eq!(get(&transport, "/v2/x").unwrap(), b"");
}

/// An op that was cancelled before the call begins lets nothing out.
#[test]
fn cancelled_before() {
    let server = Server::start(|_| Answer::ok("x"));
    let transport = transport(&server, &options());
    let op = Op::new();
    op.cancel();
    let digest = sha256(b"x");
    for error in [
        get_with(&transport, "/v2/x", Some(&op)).unwrap_err(),
        transport.ping(Some(&op)).unwrap_err(),
        transport.manifest_get("latest", Some(&op)).unwrap_err(),
        transport.blob_stat(&digest, Some(&op)).unwrap_err(),
        transport.blob_get(&digest, Some(&op)).unwrap_err(),
        transport.blob_open(&digest, Some(&op)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    assert_eq!(server.connections(), 0);
}

/// What has arrived when a call is cancelled is not given out after it: the next read ends.
#[test]
fn cancelled_between_reads() {
    let data = vec![7; 2 << 20];
    let digest = sha256(&data);
    let server = Server::start(move |_| Answer::ok(data.clone()));
    let transport = transport(&server, &options());
    for path in [format!("./blobs/{digest}"), "/v2/x".to_owned()] {
        let op = Op::new();
        let mut response = match path.strip_prefix("./blobs/") {
            Some(digest) => transport.blob_get(digest, Some(&op)),
            None => transport.request(&Request::new(None, &path), Some(&op)),
        }
        .unwrap();
        assert_eq!(response.read(&mut [0; 10]).unwrap(), 10);
        op.cancel();
        let error = response.read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{path}");
        assert_eq!(response.body().unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
