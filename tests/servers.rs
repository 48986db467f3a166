//! The test servers themselves: each promise of `support` is tried with a client of this file.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

use support::pki::{Ca, Identity};
use support::proxy::{Proxy, ProxySettings};
use support::real::{DockerRegistry, cert_dir, run, skopeo, skopeo_ok};
use support::registry::{OCI_INDEX, OCI_MANIFEST, Registry, Settings, noise, sha256, sha512};
use support::server::{Answer, Gate, Request, Server, script};
use support::token::{TokenServer, Verdict};

/// A connection that speaks plain HTTP/1.1.
struct Client<S> {
    stream: S,
    input: Vec<u8>,
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

fn connect(authority: &str) -> Client<TcpStream> {
    let stream = TcpStream::connect(authority).expect("a connection");
    stream
        .set_read_timeout(Some(support::server::PATIENCE))
        .expect("a timeout");
    Client {
        stream,
        input: Vec::new(),
    }
}

fn connect_tls(
    authority: &str,
    name: &str,
    config: Arc<ClientConfig>,
) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    tls_over(connect(authority).stream, name, config)
}

fn tls_over(
    stream: TcpStream,
    name: &str,
    config: Arc<ClientConfig>,
) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).expect("a server name");
    let session = ClientConnection::new(config, name).expect("a session");
    Client {
        stream: StreamOwned::new(session, stream),
        input: Vec::new(),
    }
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("a write");
        self.stream.flush().expect("a flush");
    }

    fn fill(&mut self) -> std::io::Result<bool> {
        let mut chunk = [0; 16 << 10];
        let n = self.stream.read(&mut chunk)?;
        self.input.extend_from_slice(&chunk[..n]);
        Ok(n > 0)
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..at + 2).take(at).collect();
                return String::from_utf8_lossy(&line).into_owned();
            }
            assert!(
                self.fill().expect("input"),
                "the connection ended in a line"
            );
        }
    }

    fn head(&mut self) -> (u16, String) {
        let mut head = self.line();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .expect("a status line");
        loop {
            let line = self.line();
            if line.is_empty() {
                return (status, head);
            }
            head = head + "\n" + &line;
        }
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        while self.input.len() < n {
            assert!(
                self.fill().expect("input"),
                "the connection ended in a body"
            );
        }
        self.input.drain(..n).collect()
    }

    /// The rest of the input, and how it ended.
    fn rest(&mut self) -> (Vec<u8>, Option<std::io::ErrorKind>) {
        loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return (std::mem::take(&mut self.input), None),
                Err(error) => return (std::mem::take(&mut self.input), Some(error.kind())),
            }
        }
    }

    fn response(&mut self, method: &str) -> Response {
        let (status, head) = self.head();
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
        };
        if method == "HEAD" || matches!(status, 204 | 304) {
            return response;
        }
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line(), 16).expect("a chunk size");
                if size == 0 {
                    while !self.line().is_empty() {}
                    return response;
                }
                let chunk = self.take(size);
                response.body.extend(chunk);
                assert_eq!(self.line(), "");
            }
        }
        let length = response
            .header("content-length")
            .map(|n| n.parse().expect("a length"));
        response.body = match length {
            Some(length) => self.take(length),
            None => self.rest().0,
        };
        response
    }

    fn request(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        self.send(&format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        ));
        self.stream.write_all(body).expect("a write");
        self.stream.flush().expect("a flush");
        self.response(method)
    }

    fn get(&mut self, target: &str) -> Response {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response("GET")
    }
}

fn get_once(server: &Server) -> Client<TcpStream> {
    let mut client = connect(&server.authority());
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client
}

#[test]
fn requests_are_read_and_logged() {
    let server = Server::start(|_| Answer::new(401).header("X", "a").header("X", "b"));
    let mut client = connect(&server.authority());
    let response = client.request(
        "POST",
        "/v2/?a=1%2F2&a=x+y&b",
        "Authorization: Bearer T1\r\nX-Raw: \r\n",
        b"body",
    );
    assert_eq!(response.status, 401);
    assert_eq!(response.head.matches("X: ").count(), 2);
    client.send("PUT /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: t\r\n\r\n");
    client.response("PUT");
    assert_eq!(
        server.lines(),
        [
            "POST /v2/?a=1%2F2&a=x+y&b [Authorization: Bearer T1] -> 401",
            "PUT /c -> 401"
        ]
    );
    let requests = server.requests();
    let first = &requests[0];
    assert_eq!(
        (first.path.as_str(), first.query.as_str()),
        ("/v2/", "a=1%2F2&a=x+y&b")
    );
    assert_eq!(first.query_params("a"), ["1/2", "x y"]);
    assert_eq!(first.query_param("b").as_deref(), Some(""));
    assert_eq!(first.header("x-raw"), Some(""));
    assert_eq!(first.bearer(), Some("T1"));
    assert_eq!(first.body, b"body");
    let second = &requests[1];
    assert_eq!((second.connection, second.number_on_connection), (1, 2));
    assert_eq!(second.body, b"abc");
    assert_eq!(server.connections(), 1);
    assert_eq!(server.take_lines().len(), 2);
    assert_eq!(server.count(), 0);
}

#[test]
fn bodies_are_framed_in_every_way() {
    let body = noise("frame", 100_000);
    let table: Vec<(&str, Answer, bool)> = vec![
        ("length", Answer::ok(body.clone()), true),
        ("chunked", Answer::ok(body.clone()).chunked(), true),
        (
            "small chunks",
            Answer::ok(body.clone()).chunks_of(999).trailer("T", "v"),
            true,
        ),
        ("no length", Answer::ok(body.clone()).no_length(), false),
        ("close", Answer::ok(body.clone()).close(), false),
        (
            "trickle",
            Answer::ok(body.clone()).trickle(30_000, Duration::from_millis(1)),
            true,
        ),
        (
            "chunked trickle",
            Answer::ok(body.clone())
                .chunked()
                .trickle(7_000, Duration::ZERO),
            true,
        ),
    ];
    let (names, answers): (Vec<_>, Vec<_>) = table
        .into_iter()
        .map(|(name, answer, keeps)| ((name, keeps), answer))
        .unzip();
    let mut answers = answers;
    answers.push(Answer::new(204));
    let server = Server::start(script(answers));
    let mut client = connect(&server.authority());
    for (name, keeps) in names {
        let response = client.get("/");
        assert_eq!(response.status, 200, "{name}");
        assert!(response.body == body, "{name}");
        assert_eq!(
            response.header("connection") == Some("close"),
            !keeps,
            "{name}"
        );
        if !keeps {
            assert_eq!(client.rest(), (Vec::new(), None), "{name}");
            client = connect(&server.authority());
        }
    }
    assert_eq!(client.get("/").status, 204);
    assert_eq!(client.get("/").status, 599, "the script is used up");
}

#[test]
fn head_has_the_length_and_no_body() {
    let server = Server::start(|_| Answer::ok("12345"));
    let mut client = connect(&server.authority());
    let response = client.request("HEAD", "/", "", b"");
    assert_eq!(response.header("content-length"), Some("5"));
    assert_eq!(client.get("/").body, b"12345");
}

#[test]
fn answers_go_wrong_as_told() {
    let ok = || Answer::ok("0123456789");
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let full = format!("{head}0123456789");
    let table = [
        ("hang up", Answer::hang_up(), String::new(), false, "closed"),
        ("reset", Answer::reset(), String::new(), true, "reset"),
        (
            "raw",
            Answer::raw("SSH-2.0\r\n"),
            "SSH-2.0\r\n".to_owned(),
            false,
            "raw",
        ),
        (
            "cut",
            ok().cut_after(3),
            format!("{head}012"),
            false,
            "200 cut after 3",
        ),
        (
            "reset late",
            ok().reset_after(4),
            format!("{head}0123"),
            true,
            "200 reset after 4",
        ),
        (
            "silent close",
            ok().close_silently(),
            full.clone(),
            false,
            "200",
        ),
        (
            "cut chunk",
            ok().chunked().cut_after(2),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n01".to_owned(),
            false,
            "200 cut after 2",
        ),
        (
            "length too long",
            ok().content_length(12),
            full.replace("10", "12"),
            false,
            "200",
        ),
        (
            "preface",
            ok().preface("HTTP/1.1 103 Early Hints\r\n\r\n")
                .close_silently(),
            format!("HTTP/1.1 103 Early Hints\r\n\r\n{full}"),
            false,
            "200",
        ),
    ];
    for (name, answer, bytes, reset, outcome) in table {
        let server = Server::start(script(vec![answer]));
        let (got, error) = get_once(&server).rest();
        assert_eq!(String::from_utf8_lossy(&got), bytes, "{name}");
        let wanted = reset.then_some(std::io::ErrorKind::ConnectionReset);
        assert_eq!(error, wanted, "{name}");
        assert_eq!(server.lines(), [format!("GET / -> {outcome}")], "{name}");
    }
}

#[test]
fn gates_hold_an_answer() {
    let (before, within) = (Gate::new(), Gate::new());
    let answer = Answer::ok("abcdef").after(&before).stall_after(3, &within);
    let server = Server::start(script(vec![answer]));
    let mut client = get_once(&server);
    assert!(before.wait_reached(1));
    assert_eq!(client.input, b"");
    before.open();
    let (status, _) = client.head();
    assert_eq!((status, client.take(3)), (200, b"abc".to_vec()));
    assert!(within.wait_reached(1));
    assert_eq!(client.input, b"");
    within.open();
    assert_eq!(client.take(3), b"def");
}

#[test]
fn a_stalled_answer_ends_with_the_client_and_with_the_server() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |_| Answer::ok("abc").stall_after(1, &held));
    let client = get_once(&server);
    assert!(gate.wait_reached(1));
    client.stream.shutdown(Shutdown::Both).expect("a shutdown");
    assert!(server.wait_open_at_most(0));
    let mut client = get_once(&server);
    assert!(gate.wait_reached(2));
    drop(server);
    assert_eq!(client.head().0, 200);
    assert_eq!(client.rest().0, b"a");
}

#[test]
fn idle_connections_can_be_closed() {
    let server = Server::start(|_| Answer::ok(""));
    let mut client = connect(&server.authority());
    client.get("/");
    assert_eq!(server.open_connections(), 1);
    server.close_connections();
    assert_eq!(server.open_connections(), 0);
    assert_eq!(client.rest(), (Vec::new(), None));
}

#[test]
fn expect_continue_and_early_answers() {
    let server = Server::builder()
        .early(|request| (request.path == "/early").then(|| Answer::new(413)))
        .start(|request| Answer::ok(request.body.clone()));
    let head = "PUT /late HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    let mut client = connect(&server.authority());
    client.send(head);
    assert_eq!(client.head().0, 100);
    client.send("abc");
    assert_eq!(client.response("PUT").body, b"abc");
    client.send(&head.replace("/late", "/early"));
    let response = client.response("PUT");
    assert_eq!(
        (response.status, response.header("connection")),
        (413, Some("close"))
    );
    assert_eq!(client.rest(), (Vec::new(), None));

    let mut client = connect(&server.authority());
    client.send("PUT /early HTTP/1.1\r\nHost: t\r\nContent-Length: 300000\r\n\r\n");
    client.stream.write_all(&[0; 100_000]).expect("a write");
    assert_eq!(client.response("PUT").status, 413);
}

#[test]
fn a_cut_request_is_logged() {
    let server = Server::start(|_| Answer::ok(""));
    let mut client = connect(&server.authority());
    client.send("PUT / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\nabc");
    drop(client);
    assert!(server.wait_requests(1));
    assert!(server.wait_open_at_most(0));
    assert_eq!(server.lines(), ["PUT / -> request cut"]);
}

#[test]
fn other_addresses_work() {
    let server = Server::start_on("[::1]:0", |_| Answer::ok("six"));
    assert!(server.authority().starts_with("[::1]:"));
    assert_eq!(connect(&server.authority()).get("/").body, b"six");
}

#[test]
fn certificates_are_good_or_bad_as_told() {
    let ca = Ca::new();
    type Make = fn(&Ca) -> Identity;
    let table: [(&str, Make, &str, bool); 9] = [
        ("address", Ca::server, "127.0.0.1", true),
        ("name", Ca::server, "localhost", true),
        ("IPv6", Ca::server, "::1", true),
        (
            "given name",
            |ca| ca.server_for(&["r.example"]),
            "r.example",
            true,
        ),
        (
            "intermediate",
            Ca::server_with_intermediate,
            "localhost",
            true,
        ),
        ("expired", Ca::expired, "localhost", false),
        ("not yet valid", Ca::not_yet_valid, "localhost", false),
        ("wrong host", Ca::wrong_host, "localhost", false),
        ("self-signed", Ca::self_signed, "localhost", false),
    ];
    for (name, make, host, good) in table {
        let config = ca.server_config(&make(&ca));
        let server = Server::builder()
            .tls_config(config)
            .start(|_| Answer::ok("tls"));
        let mut client = connect_tls(&server.authority(), host, ca.client_config());
        let sent = client
            .stream
            .write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
        if good {
            assert_eq!(client.response("GET").body, b"tls", "{name}");
            assert!(server.requests()[0].tls);
        } else {
            assert!(sent.is_err(), "{name}");
            drop(client);
            assert!(server.wait_tls_failures(1), "{name}");
            assert_eq!(server.count(), 0, "{name}");
        }
    }
    let other = Ca::new();
    let server = Server::start_tls(&other, |_| Answer::ok(""));
    let mut client = connect_tls(&server.authority(), "localhost", ca.client_config());
    assert!(
        client.stream.write_all(b"GET").is_err(),
        "another authority"
    );
}

#[test]
fn tls_on_a_plain_port_is_refused_at_once() {
    let server = Server::start(|_| Answer::ok(""));
    let ca = Ca::new();
    let mut client = connect_tls(&server.authority(), "localhost", ca.client_config());
    assert!(client.stream.write_all(b"GET").is_err());
    assert_eq!(server.tls_failures().len(), 1);
    assert_eq!(server.count(), 0);
}

#[test]
fn the_pem_files_satisfy_openssl() {
    let ca = Ca::new();
    for identity in [ca.server(), ca.client("demo")] {
        let (root, leaf) = (ca.path().display(), identity.certificate_path.display());
        let args = [
            "verify",
            "-x509_strict",
            "-CAfile",
            &root.to_string(),
            &leaf.to_string(),
        ];
        let output = run("openssl", "openssl", &args);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn client_certificates_are_demanded() {
    let ca = Ca::new();
    let config = ca.server_config_with_client_auth(&ca.server());
    let server = Server::builder()
        .tls_config(config)
        .start(|_| Answer::ok("you"));
    let mut without = connect_tls(&server.authority(), "localhost", ca.client_config());
    let _ = without
        .stream
        .write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(without.rest().1.is_some());
    assert!(server.wait_tls_failures(1));

    let identity = ca.client("demo");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).expect("a root");
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), identity.private_key())
            .expect("a client certificate");
    let mut client = connect_tls(&server.authority(), "localhost", config.into());
    assert_eq!(client.get("/").body, b"you");
    let seen = server.requests()[0].client_certificate.clone();
    assert_eq!(seen.as_deref(), Some(identity.chain[0].as_ref()));
}

#[test]
fn the_proxy_tunnels_and_forwards() {
    let ca = Ca::new();
    let tls = Server::builder()
        .tls_config(ca.server_config(&ca.server_for(&["r.example"])))
        .start(|_| Answer::ok("behind TLS"));
    let plain = Server::start(|_| Answer::ok("plain"));
    let proxy = Proxy::start(ProxySettings {
        credentials: Some(("user".to_owned(), "pass".to_owned())),
        map: vec![
            ("r.example:443".to_owned(), tls.address()),
            ("p.example:80".to_owned(), plain.address()),
        ],
        refuse: None,
    });
    let login = "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n";
    let mut client = connect(&proxy.authority());
    client.send("CONNECT r.example:443 HTTP/1.1\r\nHost: r.example:443\r\n\r\n");
    let refused = client.response("CONNECT");
    assert_eq!(refused.status, 407);
    assert_eq!(
        refused.header("proxy-authenticate"),
        Some("Basic realm=\"proxy\"")
    );
    client.send(&format!(
        "CONNECT nowhere.example:443 HTTP/1.1\r\n{login}\r\n"
    ));
    assert_eq!(client.response("CONNECT").status, 502);
    client.send(&format!("CONNECT r.example:443 HTTP/1.1\r\n{login}\r\n"));
    assert_eq!(client.head().0, 200);
    let mut inside = tls_over(client.stream, "r.example", ca.client_config());
    assert_eq!(inside.get("/").body, b"behind TLS");
    assert_eq!(inside.get("/").body, b"behind TLS");
    assert_eq!(tls.requests()[0].sni.as_deref(), Some("r.example"));

    let mut client = connect(&proxy.authority());
    let response = client.request("POST", "http://p.example/v2/?x=1", login, b"body");
    assert_eq!(response.body, b"plain");
    let seen = &plain.requests()[0];
    assert_eq!(
        (seen.target.as_str(), seen.body.as_slice()),
        ("/v2/?x=1", &b"body"[..])
    );
    assert_eq!(seen.header("proxy-authorization"), None);
    assert_eq!(proxy.tunnels().len(), 3);
    assert_eq!(proxy.lines()[3], "POST http://p.example/v2/?x=1");
}

fn token_server() -> TokenServer {
    TokenServer::new("svc")
        .user(
            "demo",
            "pass",
            &["repository:demo/*:pull,push", "registry:catalog:*"],
        )
        .anonymous(&["repository:demo/public:pull"])
}

/// `demo:pass`.
const DEMO: &str = "Authorization: Basic ZGVtbzpwYXNz\r\n";

#[test]
fn tokens_are_issued_by_get() {
    let token = Arc::new(token_server());
    let server = token.start(None);
    let mut client = connect(&server.authority());
    let table = [
        (
            DEMO,
            "repository:demo/a:pull,push",
            "demo/a",
            "push",
            Verdict::Allowed,
        ),
        (
            DEMO,
            "repository:demo/a:pull",
            "demo/a",
            "push",
            Verdict::Insufficient,
        ),
        (
            DEMO,
            "repository:other:pull",
            "other",
            "pull",
            Verdict::Insufficient,
        ),
        (
            "",
            "repository:demo/public:pull",
            "demo/public",
            "pull",
            Verdict::Allowed,
        ),
        (
            "",
            "repository:demo/a:pull",
            "demo/a",
            "pull",
            Verdict::Insufficient,
        ),
    ];
    for (login, scope, name, action, verdict) in table {
        let target = format!("/token?service=svc&scope={scope}");
        let response = client.request("GET", &target, login, b"");
        let document = response.json();
        assert_eq!(document["expires_in"], 300);
        assert!(document["refresh_token"].is_null());
        let issued = document["token"].as_str().expect("a token");
        assert_eq!(
            token.check(issued, "repository", name, action),
            verdict,
            "{scope}"
        );
    }
    assert_eq!(token.exchange_count(), 5);
    let bad = "Authorization: Basic ZGVtbzp4\r\n";
    assert_eq!(
        client.request("GET", "/token?service=svc", bad, b"").status,
        401
    );
    assert_eq!(
        client.request("GET", "/token?service=x", DEMO, b"").status,
        400
    );
    assert_eq!(token.exchange_count(), 5);
    let issued = token.exchanges()[0].token.clone();
    token.expire_all();
    assert_eq!(
        token.check(&issued, "repository", "demo/a", "pull"),
        Verdict::Invalid
    );
}

#[test]
fn tokens_are_issued_by_post() {
    let token = Arc::new(token_server());
    let server = token.start(None);
    let mut client = connect(&server.authority());
    let mut post = |form: String| client.request("POST", "/token", "", form.as_bytes());
    let common = "client_id=t&service=svc&scope=repository:demo/a:pull+repository:demo/b:pull";
    let response = post(format!(
        "grant_type=password&username=demo&password=pass&access_type=offline&{common}"
    ));
    let document = response.json();
    assert_eq!(
        document["scope"],
        "repository:demo/a:pull repository:demo/b:pull"
    );
    let refresh = document["refresh_token"]
        .as_str()
        .expect("a refresh token")
        .to_owned();
    let form = format!("grant_type=refresh_token&refresh_token={refresh}&{common}");
    let document = post(form.clone()).json();
    let issued = document["access_token"].as_str().expect("a token");
    assert_eq!(
        token.check(issued, "repository", "demo/b", "pull"),
        Verdict::Allowed
    );
    token.revoke_refresh_tokens();
    assert_eq!(post(form).status, 401);
    let wrong = post(format!(
        "grant_type=password&username=demo&password=x&{common}"
    ));
    assert_eq!(wrong.status, 401);
    assert_eq!(post(format!("grant_type=code&{common}")).status, 400);
    assert_eq!(token.exchange_count(), 2);
}

#[test]
fn blobs_are_served_with_ranges() {
    let registry = Registry::open();
    let digest = registry.put_blob("demo/a", "0123456789");
    let server = registry.start(None);
    let mut client = connect(&server.authority());
    let target = format!("/v2/demo/a/blobs/{digest}");
    let etag = format!("If-None-Match: \"{digest}\"\r\n");
    let stale = "Range: bytes=2-3\r\nIf-Range: \"old\"\r\n";
    let table: [(&str, u16, &str, Option<&str>); 9] = [
        ("", 200, "0123456789", None),
        ("Range: bytes=2-3\r\n", 206, "23", Some("bytes 2-3/10")),
        ("Range: bytes=7-\r\n", 206, "789", Some("bytes 7-9/10")),
        ("Range: bytes=-2\r\n", 206, "89", Some("bytes 8-9/10")),
        ("Range: bytes=8-99\r\n", 206, "89", Some("bytes 8-9/10")),
        ("Range: bytes=10-\r\n", 416, "", Some("bytes */10")),
        ("Range: bytes=1-2,4-5\r\n", 200, "0123456789", None),
        (stale, 200, "0123456789", None),
        (&etag, 304, "", None),
    ];
    for (headers, status, body, range) in table {
        let response = client.request("GET", &target, headers, b"");
        assert_eq!(response.status, status, "{headers}");
        assert_eq!(String::from_utf8_lossy(&response.body), body, "{headers}");
        assert_eq!(response.header("content-range"), range, "{headers}");
    }
    let head = client.request("HEAD", &target, "", b"");
    assert_eq!(head.header("content-length"), Some("10"));
    assert_eq!(head.header("docker-content-digest"), Some(digest.as_str()));
    let elsewhere = client.get(&target.replace("demo/a", "demo/b"));
    assert_eq!(
        (elsewhere.status, &elsewhere.json()["errors"][0]["code"]),
        (404, &"BLOB_UNKNOWN".into())
    );
    assert_eq!(client.request("DELETE", &target, "", b"").status, 202);
    assert_eq!(client.get(&target).status, 404);
}

#[test]
fn uploads_follow_the_distribution_spec() {
    let registry = Registry::open();
    let server = registry.start(None);
    let mut client = connect(&server.authority());
    let start = client.request("POST", "/v2/demo/a/blobs/uploads/", "", b"");
    assert_eq!((start.status, start.header("range")), (202, Some("0-0")));
    let first = start.header("location").expect("a location").to_owned();
    let gap = client.request("PATCH", &first, "Content-Range: 1-3\r\n", b"abc");
    assert_eq!((gap.status, gap.header("range")), (416, Some("0-0")));
    let patch = client.request("PATCH", &first, "Content-Range: 0-2\r\n", b"abc");
    assert_eq!((patch.status, patch.header("range")), (202, Some("0-2")));
    assert_eq!(
        client.request("PATCH", &first, "", b"abc").status,
        404,
        "an old location"
    );
    let status = client.get(&first);
    assert_eq!((status.status, status.header("range")), (204, Some("0-2")));
    let next = status.header("location").expect("a location").to_owned();
    let digest = sha512(b"abcdef");
    let put = client.request("PUT", &format!("{next}&digest={digest}"), "", b"def");
    assert_eq!(put.status, 201);
    let location = put.header("location").expect("a location").to_owned();
    assert_eq!(client.get(&location).body, b"abcdef");

    let digest = sha256(b"whole");
    let target = format!("/v2/demo/a/blobs/uploads/?digest={digest}");
    assert_eq!(client.request("POST", &target, "", b"whole").status, 201);
    let wrong = client.request("POST", &target, "", b"other");
    assert_eq!(wrong.json()["errors"][0]["code"], "DIGEST_INVALID");
    let mount = format!("/v2/demo/b/blobs/uploads/?mount={digest}&from=demo/a");
    assert_eq!(client.request("POST", &mount, "", b"").status, 201);
    let missing = client.request("POST", &mount.replace("demo/a", "demo/c"), "", b"");
    assert_eq!(missing.status, 202);
    let open = missing.header("location").expect("a location").to_owned();
    assert_eq!(registry.open_uploads(), 1);
    assert_eq!(client.request("DELETE", &open, "", b"").status, 204);
    assert_eq!(client.request("DELETE", &open, "", b"").status, 404);
    assert_eq!(registry.open_uploads(), 0);
    assert!(registry.blob("demo/b", &digest).is_some());
}

#[test]
fn manifests_tags_and_referrers() {
    let registry = Registry::open();
    let index = registry.seed_index(
        "demo/app",
        "latest",
        &[("linux", "amd64"), ("linux", "arm64")],
        &[900, 800],
    );
    let image = registry.seed("demo/one", "1", 2);
    let server = registry.start(None);
    let mut client = connect(&server.authority());
    let by_tag = client.get("/v2/demo/app/manifests/latest");
    assert_eq!(by_tag.header("content-type"), Some(OCI_INDEX));
    assert_eq!(sha256(&by_tag.body), index.manifest.digest);
    assert_eq!(
        by_tag.json()["manifests"][1]["platform"]["architecture"],
        "arm64"
    );
    for image in &index.images {
        let manifest = client.get(&format!("/v2/demo/app/manifests/{}", image.manifest.digest));
        assert_eq!(manifest.json()["layers"].as_array().map(Vec::len), Some(2));
        for layer in image.layers.iter().chain([&image.config]) {
            let blob = client.get(&format!("/v2/demo/app/blobs/{}", layer.digest));
            assert_eq!(
                (sha256(&blob.body), blob.body.len()),
                (layer.digest.clone(), layer.size)
            );
        }
    }
    let unknown = client.get("/v2/demo/app/manifests/none");
    assert_eq!(unknown.json()["errors"][0]["code"], "MANIFEST_UNKNOWN");

    let artifact = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "a/b",
        "config": image.config.json(), "layers": [], "subject": image.manifest.json(),
    })
    .to_string();
    let typed = format!("Content-Type: {OCI_MANIFEST}\r\n");
    let put = client.request(
        "PUT",
        "/v2/demo/one/manifests/sig",
        &typed,
        artifact.as_bytes(),
    );
    assert_eq!(
        (put.status, put.header("oci-subject")),
        (201, Some(image.manifest.digest.as_str()))
    );
    let lost = client.request(
        "PUT",
        "/v2/demo/two/manifests/sig",
        &typed,
        artifact.as_bytes(),
    );
    assert_eq!(lost.json()["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
    let target = format!("/v2/demo/one/referrers/{}", image.manifest.digest);
    let referrers = client.get(&format!("{target}?artifactType=a/b"));
    assert_eq!(
        referrers.header("oci-filters-applied"),
        Some("artifactType")
    );
    assert_eq!(referrers.json()["manifests"][0]["artifactType"], "a/b");
    let none = client.get(&format!("{target}?artifactType=c"));
    assert_eq!(none.json()["manifests"].as_array().map(Vec::len), Some(0));

    let page = client.get("/v2/demo/one/tags/list?n=1");
    assert_eq!(page.json()["tags"], serde_json::json!(["1"]));
    assert_eq!(
        page.header("link"),
        Some("</v2/demo/one/tags/list?last=1&n=1>; rel=\"next\"")
    );
    let page = client.get("/v2/demo/one/tags/list?last=1&n=1");
    assert_eq!(
        (page.json()["tags"].clone(), page.header("link")),
        (serde_json::json!(["sig"]), None)
    );
    let names = client.get("/v2/_catalog?n=1");
    assert_eq!(
        names.header("link"),
        Some("</v2/_catalog?last=demo%2Fapp&n=1>; rel=\"next\"")
    );
    assert_eq!(client.get("/v2/_catalog?n=x").status, 400);
    assert_eq!(
        client
            .request("DELETE", "/v2/demo/one/manifests/sig", "", b"")
            .status,
        202
    );
    assert_eq!(client.get("/v2/demo/one/manifests/sig").status, 404);
}

#[test]
fn access_is_controlled() {
    let basic = Registry::basic("demo", "pass");
    let server = basic.start(None);
    let mut client = connect(&server.authority());
    let refused = client.get("/v2/");
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Basic realm=\"test registry\"")
    );
    assert_eq!(client.request("GET", "/v2/", DEMO, b"").status, 200);

    let token = Arc::new(token_server());
    let registry = Registry::bearer(token.clone());
    registry.seed("demo/a", "1", 1);
    let server = registry.start(None);
    let mut client = connect(&server.authority());
    let table = [
        ("GET", "/v2/", ""),
        (
            "GET",
            "/v2/demo/a/manifests/1",
            ",scope=\"repository:demo/a:pull\"",
        ),
        (
            "POST",
            "/v2/demo/a/blobs/uploads/",
            ",scope=\"repository:demo/a:pull,push\"",
        ),
        (
            "DELETE",
            "/v2/demo/a/manifests/1",
            ",scope=\"repository:demo/a:delete\"",
        ),
        ("GET", "/v2/_catalog", ",scope=\"registry:catalog:*\""),
        (
            "POST",
            "/v2/demo/a/blobs/uploads/?mount=sha256:0&from=demo/b",
            ",scope=\"repository:demo/a:pull,push repository:demo/b:pull\"",
        ),
    ];
    for (method, target, scope) in table {
        let refused = client.request(method, target, "", b"");
        let wanted = format!("Bearer realm=\"http://test/token\",service=\"svc\"{scope}");
        assert_eq!(
            refused.header("www-authenticate"),
            Some(wanted.as_str()),
            "{target}"
        );
    }
    let target = "/token?service=svc&scope=repository:demo/a:pull";
    let issued = client.request("GET", target, DEMO, b"").json();
    let bearer = format!(
        "Authorization: Bearer {}\r\n",
        issued["token"].as_str().expect("a token")
    );
    let mut status = |method: &str, target: &str| {
        let response = client.request(method, target, &bearer, b"");
        let error = response
            .header("www-authenticate")
            .and_then(|c| Some(c.split_once("error=")?.1.to_owned()));
        (response.status, error)
    };
    assert_eq!(status("GET", "/v2/"), (200, None));
    assert_eq!(status("GET", "/v2/demo/a/manifests/1"), (200, None));
    let insufficient = (401, Some("\"insufficient_scope\"".to_owned()));
    assert_eq!(status("POST", "/v2/demo/a/blobs/uploads/"), insufficient);
    token.expire_all();
    let invalid = (401, Some("\"invalid_token\"".to_owned()));
    assert_eq!(status("GET", "/v2/demo/a/manifests/1"), invalid);
}

#[test]
fn settings_change_the_registry() {
    let registry = Registry::new(Settings {
        absolute_locations: true,
        digest_header: false,
        deletion: false,
        referrers: false,
        blob_redirect: Some("http://cdn.example/".to_owned()),
        chunk_min: Some(4),
        page_limit: 1,
        ..Settings::default()
    });
    let image = registry.seed("demo/a", "1", 1);
    registry.seed("demo/a", "2", 1);
    let server = registry.start(None);
    let mut client = connect(&server.authority());
    let start = client.request("POST", "/v2/demo/a/blobs/uploads/", "", b"");
    assert_eq!(start.header("oci-chunk-min-length"), Some("4"));
    let location = start.header("location").expect("a location").to_owned();
    let path = location
        .strip_prefix("http://test")
        .expect("an absolute location");
    assert_eq!(client.request("PATCH", path, "", b"abc").status, 416);
    let manifest = client.get("/v2/demo/a/manifests/1");
    assert_eq!(manifest.header("docker-content-digest"), None);
    assert_eq!(
        client
            .request("DELETE", "/v2/demo/a/manifests/1", "", b"")
            .status,
        405
    );
    let digest = &image.manifest.digest;
    assert_eq!(
        client.get(&format!("/v2/demo/a/referrers/{digest}")).status,
        404
    );
    let blob = client.get(&format!("/v2/demo/a/blobs/{}", image.config.digest));
    assert_eq!(blob.status, 307);
    assert!(
        blob.header("location")
            .is_some_and(|at| at.starts_with("http://cdn.example/sha256:"))
    );
    assert!(client.get("/v2/demo/a/tags/list").header("link").is_some());
}

/// Pushes a seeded index from a layout, and pulls it back.
fn skopeo_round_trip(authority: &str, options: &[&str]) {
    let registry = Registry::open();
    let index = registry.seed_index(
        "demo/app",
        "latest",
        &[("linux", "amd64"), ("linux", "arm64")],
        &[70_000, 10],
    );
    let folder = tempfile::TempDir::new().expect("a folder");
    registry.write_layout("demo/app", "latest", folder.path());
    let source = format!("oci:{}:latest", folder.path().display());
    let target = format!("docker://{authority}/demo/app:pushed");
    let dest: Vec<String> = options.iter().map(|o| o.replace("--", "--dest-")).collect();
    let mut args = vec!["copy", "--all", "--preserve-digests"];
    args.extend(dest.iter().map(String::as_str));
    args.extend([source.as_str(), target.as_str()]);
    skopeo_ok(&args);
    let mut args = vec!["inspect", "--raw"];
    args.extend(options);
    args.push(&target);
    let raw = skopeo_ok(&args);
    assert_eq!(sha256(raw.as_bytes()), index.manifest.digest);
    let source_options: Vec<String> = options.iter().map(|o| o.replace("--", "--src-")).collect();
    let back = folder.path().join("back");
    let back = format!("dir:{}", back.display());
    let mut args = vec!["copy", "--all", "--preserve-digests"];
    args.extend(source_options.iter().map(String::as_str));
    args.extend([target.as_str(), back.as_str()]);
    skopeo_ok(&args);
}

#[test]
fn skopeo_likes_the_open_servers() {
    let options = ["--tls-verify=false"];
    let registry = Registry::open();
    let server = registry.start(None);
    skopeo_round_trip(&server.authority(), &options);
    let real = DockerRegistry::open();
    skopeo_round_trip(&real.authority(), &options);
    assert_eq!(connect(&real.authority()).get("/v2/").status, 200);
}

#[test]
fn skopeo_likes_the_basic_servers() {
    let registry = Registry::basic("demo", "pass");
    let server = registry.start(None);
    let real = DockerRegistry::basic("demo", "pass");
    for authority in [server.authority(), real.authority()] {
        skopeo_round_trip(&authority, &["--tls-verify=false", "--creds=demo:pass"]);
        let target = format!("docker://{authority}/demo/app:pushed");
        let output = skopeo(&["inspect", "--tls-verify=false", "--creds=demo:x", &target]);
        assert!(!output.status.success());
    }
}

#[test]
fn skopeo_likes_the_token_servers() {
    let ca = Ca::new();
    let folder = cert_dir(&ca);
    let trust = format!("--cert-dir={folder}");
    let token = Arc::new(token_server().signed(&ca));
    let tokens = token.start(Some(&ca));
    let realm = tokens.url("/token");
    let real = DockerRegistry::token(&ca, &token, &realm);
    let embedded = Registry::bearer_at(token.clone(), &realm);
    let server = embedded.start(Some(&ca));
    for authority in [real.authority(), server.authority()] {
        let before = token.exchange_count();
        skopeo_round_trip(&authority, &[&trust, "--creds=demo:pass"]);
        assert!(token.exchange_count() > before);
        let target = format!("docker://{authority}/demo/app:pushed");
        assert!(
            !skopeo(&["inspect", &trust, "--no-creds", &target])
                .status
                .success()
        );
        assert!(
            !skopeo(&["inspect", &trust, "--creds=demo:x", &target])
                .status
                .success()
        );
    }
}

#[test]
fn the_program_serves_until_its_input_ends() {
    let program = example("test-registry");
    let folder = tempfile::TempDir::new().expect("a folder");
    let ready = folder.path().join("ready");
    let mut child = Command::new(program)
        .args(["--tls", "--layer-size", "50000", "--ready"])
        .arg(&ready)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut output = child.stdout.take().expect("a pipe");
    let mut said = [0; 14];
    output.read_exact(&mut said).expect("a line");
    assert_eq!(&said, b"listening on h");
    let lines = std::fs::read_to_string(&ready).expect("the ready file");
    let value = |name: &str| {
        let line = lines
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.expect("a line").to_owned()
    };
    let authority = value("RT_DEMO_REGISTRY");
    std::fs::copy(value("RT_DEMO_CA"), folder.path().join("ca.crt")).expect("the CA");
    let trust = format!("--cert-dir={}", folder.path().display());
    for name in ["demo/app:latest", "demo/private:1"] {
        let target = format!("docker://{authority}/{name}");
        assert!(
            !skopeo(&["inspect", &trust, "--no-creds", &target])
                .status
                .success()
        );
        skopeo_ok(&["inspect", &trust, "--creds=demo:demo", &target]);
    }
    drop(child.stdin.take());
    assert!(child.wait().expect("an exit").success());
}

/// An example program. `cargo test` builds it beside this one, `cargo test --test` does not.
fn example(name: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().expect("a path");
    let target = test.ancestors().nth(2).expect("a target folder");
    let program = target.join("examples").join(name);
    if !program.exists() {
        let profile = match target.file_name().and_then(|folder| folder.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--profile", profile, "--example", name])
            .status()
            .expect("cargo");
        assert!(built.success(), "cargo build --example {name}");
    }
    program
}

#[test]
fn requests_default_to_nothing() {
    let request = Request::default();
    assert_eq!(
        (request.basic(), request.bearer(), request.header("host")),
        (None, None, None)
    );
}
