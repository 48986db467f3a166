//! TLS: which servers are believed, and what is said about those that are not.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use registry_transport::creds::Creds;
use registry_transport::error::{Error, ErrorKind};
use registry_transport::options::Options;
use registry_transport::request::Request;
use registry_transport::transport::{Actions, Transport};
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};
use support::client::{get, keep_log, options, transport, with, with_texts};
use support::pki::{Ca, Identity};
use support::server::{Answer, Gate, Server, lock};

fn trusting(ca: &Ca) -> Options {
    with_texts(&[
        ("ca-file", ca.path().to_str().unwrap()),
        ("scheme", "https"),
    ])
}

fn https() -> Options {
    with_texts(&[("scheme", "https")])
}

fn serve(ca: &Ca, identity: &Identity) -> Server {
    Server::builder()
        .tls_config(ca.server_config(identity))
        .start(|_| Answer::ok("fine"))
}

fn refused(server: &Server, options: &Options) -> Error {
    let creds = Creds::basic("user", "secretsecret").unwrap();
    let name = format!("{}/a/b", server.authority());
    let transport = Transport::new(&name, Actions::pull(), Some(&creds), Some(options)).unwrap();
    let error = get(&transport, "/v2/x").unwrap_err();
    assert_eq!(server.count(), 0, "no request was sent: {error}");
    assert!(!error.message().contains("secretsecret"));
    error
}

/// Certificates that prove nothing are refused once, with the reason and the way out.
#[test]
fn refused_certificates() {
    let (ca, other) = (Ca::new(), Ca::named("Another CA"));
    for (what, identity, options, words) in [
        (
            "unknown CA",
            ca.server(),
            trusting(&other),
            &["ca-file"][..],
        ),
        ("no CA at all", ca.server(), https(), &["ca-file"]),
        (
            "self-signed",
            ca.self_signed(),
            trusting(&other),
            &["ca-file"],
        ),
        ("expired", ca.expired(), trusting(&ca), &["expired"]),
        (
            "early",
            ca.not_yet_valid(),
            trusting(&ca),
            &["not yet valid", "clock"],
        ),
        (
            "other host",
            ca.wrong_host(),
            trusting(&ca),
            &["another name", "elsewhere.example"],
        ),
        ("client's", ca.client("someone"), trusting(&ca), &[]),
    ] {
        let server = serve(&ca, &identity);
        let error = refused(&server, &options);
        assert_eq!(error.kind(), ErrorKind::Tls, "{what}: {error}");
        let text = error.message();
        assert!(text.contains("127.0.0.1"), "{what}: {text}");
        for word in words {
            assert!(text.contains(word), "{what}: {word:?} is not in: {text}");
        }
        assert_eq!(
            (error.http_status(), error.retry_after()),
            (None, None),
            "{what}"
        );
        assert_eq!(
            server.connections(),
            1,
            "{what}: trying again would not help"
        );
    }
}

/// What is trusted: a file, a text, both, and chains with something in between.
#[test]
fn trusted_certificates() {
    let (ca, other) = (Ca::new(), Ca::named("Another CA"));
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    std::fs::write(
        &bundle,
        format!("# two of them\n{}\n{}", other.pem(), ca.pem()),
    )
    .unwrap();
    for (what, texts) in [
        ("file", vec![("ca-file", ca.path().to_str().unwrap())]),
        ("bundle", vec![("ca-file", bundle.to_str().unwrap())]),
        ("text", vec![("ca-pem", ca.pem())]),
        (
            "both",
            vec![
                ("ca-file", other.path().to_str().unwrap()),
                ("ca-pem", ca.pem()),
            ],
        ),
    ] {
        let mut options = with_texts(&texts);
        options.set_text("scheme", "https").unwrap();
        for identity in [ca.server(), ca.server_with_intermediate()] {
            let server = serve(&ca, &identity);
            assert_eq!(
                get(&transport(&server, &options), "/v2/x").unwrap(),
                b"fine",
                "{what}"
            );
            assert!(server.requests()[0].tls);
        }
    }
    // A certificate that is trusted itself.
    let own = ca.self_signed();
    let server = serve(&ca, &own);
    let mut options = https();
    options.set_text("ca-pem", &own.certificate_pem).unwrap();
    match get(&transport(&server, &options), "/v2/x") {
        Ok(body) => assert_eq!(body, b"fine"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::Tls, "{e}"),
    }
    // Names: the one in the certificate, and the server name that is sent.
    let server = Server::builder()
        .tls_config(ca.server_config(&ca.server_for(&["localhost"])))
        .start(|_| Answer::ok("fine"));
    let name = format!("localhost:{}", server.address().port());
    let transport = support::client::transport_to(&name, &trusting(&ca));
    assert_eq!(get(&transport, "/v2/x").unwrap(), b"fine");
    let got = &server.requests()[0];
    assert_eq!(
        (got.sni.as_deref(), got.header("host")),
        (Some("localhost"), Some(name.as_str()))
    );
}

/// Variables of the environment replace the system's store, and do not when the environment is not read. In a process
/// of its own, which alone has them.
#[test]
fn certificates_of_the_environment() {
    const INSIDE: &str = "TEST_TLS_INSIDE";
    if let Ok(name) = std::env::var(INSIDE) {
        // The keychain's library looks there in any case.
        for (environment, trusts) in [(0, cfg!(target_vendor = "apple")), (1, true)] {
            let mut options = https();
            options.set_number("environment", environment).unwrap();
            let transport = Transport::new(&name, Actions::pull(), None, Some(&options)).unwrap();
            let kind = get(&transport, "/v2/x").err().map(|e| e.kind());
            assert_eq!(kind, (!trusts).then_some(ErrorKind::Tls), "{environment}");
        }
        return;
    }
    let ca = Ca::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("0a1b2c3d.0"), ca.pem()).unwrap();
    let folders = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
    for variables in [
        [("SSL_CERT_FILE", ca.path().as_os_str())],
        [("SSL_CERT_DIR", &folders)],
    ] {
        let server = serve(&ca, &ca.server());
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "certificates_of_the_environment", "--nocapture"])
            .env_clear()
            .env(INSIDE, format!("{}/a/b", server.authority()))
            .envs(variables)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(server.count() > 0, "{text}");
    }
}

/// What a transport that accepts any certificate was told is nothing to those that check: it may be anybody's word.
#[test]
fn what_an_unverified_host_tells_stays_with_those_who_believe_it() {
    let ca = Ca::new();
    let elsewhere = Server::start_tls(&ca, |_| Answer::ok(r#"{"token":"T"}"#));
    let realm = elsewhere.url("/token");
    let first = AtomicBool::new(true);
    let server = Server::builder()
        .tls_config(ca.server_config(&ca.server()))
        .start(move |_| match first.swap(false, Ordering::SeqCst) {
            true => Answer::challenge(format!(r#"Bearer realm="{realm}",service="s""#)),
            false => Answer::ok("fine"),
        });
    let name = format!("{}/a/b", server.authority());
    let creds = Creds::basic("user", "secretsecret").unwrap();
    for (insecure, creds) in [(1, None), (0, Some(&creds))] {
        let mut options = trusting(&ca);
        options.set_number("insecure", insecure).unwrap();
        options.set_number("share-tokens", 1).unwrap();
        let transport = Transport::new(&name, Actions::pull(), creds, Some(&options)).unwrap();
        assert_eq!(get(&transport, "/v2/x").unwrap(), b"fine");
        assert_eq!(elsewhere.count(), 1, "{:?}", elsewhere.lines());
    }
}

/// Large bodies both ways over TLS, and connections that are used again.
#[test]
fn bodies_over_tls() {
    use registry_transport::source::Source;
    let ca = Ca::new();
    let data = support::registry::noise("tls", 3_000_000);
    for tls12 in [false, true] {
        let identity = ca.server();
        let config = if tls12 {
            ca.server_config_tls12(&identity)
        } else {
            ca.server_config(&identity)
        };
        let server = Server::builder().tls_config(config).start(|r| {
            if r.query == "cut" {
                Answer::ok(r.body.clone()).cut_after(1_000_000)
            } else {
                Answer::ok(r.body.clone())
            }
        });
        let transport = transport(&server, &trusting(&ca));
        for _ in 0..2 {
            let mut request = Request::new(Some("PUT"), "/v2/x");
            request.body(Source::bytes(&data[..]));
            let got = transport
                .request(&request, None)
                .unwrap()
                .take_body()
                .unwrap();
            assert!(got == data);
        }
        assert_eq!(server.connections(), 1);
        let mut request = Request::new(Some("PUT"), "/v2/x?cut");
        request.body(Source::bytes(&data[..]));
        let error = transport
            .request(&request, None)
            .unwrap()
            .take_body()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    }
    // A body that the end of the connection ends must not be cut by somebody on the way.
    for notify in [true, false] {
        let server = Server::start_tls(&ca, move |_| {
            let answer = Answer::ok("all of it").no_length();
            if notify {
                answer
            } else {
                answer.no_close_notify()
            }
        });
        let got = get(&transport(&server, &trusting(&ca)), "/v2/x");
        match notify {
            true => assert_eq!(got.unwrap(), b"all of it"),
            false => assert_eq!(got.unwrap_err().kind(), ErrorKind::Network),
        }
    }
}

/// However much is still to come, what has come is passed on.
#[test]
fn a_body_in_steps_over_tls() {
    const FIRST: usize = 700_100;
    let ca = Ca::new();
    let data = support::registry::noise("steps", 4_000_000);
    let (gate, body) = (Gate::new(), data.clone());
    let held = gate.clone();
    let server = Server::start_tls(&ca, move |_| {
        Answer::ok(body.clone()).stall_after(FIRST, &held)
    });
    let mut options = trusting(&ca);
    options.set_number("stall-timeout-ms", 5000).unwrap();
    let transport = transport(&server, &options);
    let mut answer = transport
        .request(&Request::new(None, "/v2/x"), None)
        .unwrap();
    let (mut got, mut buf) = (Vec::new(), vec![0; 64 * 1024]);
    while got.len() < FIRST {
        let n = answer.read(&mut buf).unwrap();
        got.extend_from_slice(&buf[..n]);
    }
    assert_eq!(got.len(), FIRST);
    gate.open();
    answer
        .drain(&mut |piece| {
            got.extend_from_slice(piece);
            true
        })
        .unwrap();
    assert!(got == data);
    assert_eq!(get(&transport, "/v2/x").unwrap().len(), data.len());
    assert_eq!(server.connections(), 1);
}

/// What else comes in one piece with an answer neither holds it up nor takes it away.
#[test]
fn what_comes_with_an_answer() {
    const KEY_UPDATE: &[u8] = &[24, 0, 0, 1, 0];
    const PART_OF_A_TICKET: &[u8] = &[4, 0, 0, 200, 1, 2, 3];
    const INTERNAL_ERROR: &[u8] = &[2, 80];
    const CLOSE_NOTIFY: &[u8] = &[1, 0];
    let ca = Ca::new();
    for (behind, content) in [
        (ContentType::Handshake, KEY_UPDATE),
        (ContentType::Handshake, PART_OF_A_TICKET),
        (ContentType::Alert, INTERNAL_ERROR),
        (ContentType::Alert, CLOSE_NOTIFY),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let name = format!("{}/a/b", listener.local_addr().unwrap());
        let mut config = ServerConfig::clone(&ca.server_config(&ca.server()));
        config.enable_secret_extraction = true;
        let config = Arc::new(config);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut conn = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = stream.unwrap();
                read_request(&mut conn, &mut stream);
                let mut records = Records::of(conn);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
                records.add(ContentType::ApplicationData, answer);
                records.add(behind, content);
                stream.write_all(&records.encoded).unwrap();
                open.push(stream);
            }
        });
        let transport = Transport::new(&name, Actions::pull(), None, Some(&trusting(&ca))).unwrap();
        assert_eq!(
            get(&transport, "/v2/x").unwrap(),
            b"fine",
            "{behind:?} {content:?}"
        );
    }
}

/// A server whose keys change behind each answer goes on with the same connection.
#[test]
fn changing_keys() {
    let ca = Ca::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let name = format!("{}/a/b", listener.local_addr().unwrap());
    let config = ca.server_config(&ca.server());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut conn = ServerConnection::new(config).unwrap();
        let mut requests = 0;
        while read_request(&mut conn, &mut stream) {
            requests += 1;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
            conn.writer().write_all(answer).unwrap();
            conn.refresh_traffic_keys().unwrap();
            let mut piece = Vec::new();
            while conn.wants_write() {
                conn.write_tls(&mut piece).unwrap();
            }
            stream.write_all(&piece).unwrap();
        }
        requests
    });
    let transport = Transport::new(&name, Actions::pull(), None, Some(&trusting(&ca))).unwrap();
    for _ in 0..3 {
        assert_eq!(get(&transport, "/v2/x").unwrap(), b"fine");
    }
    drop(transport);
    assert!(server.join().unwrap() >= 3);
}

/// Reads up to the end of a request's header; false is the end of the connection.
fn read_request(conn: &mut ServerConnection, stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match rustls::Stream::new(conn, stream).read(&mut piece) {
            Ok(n) if n > 0 => head.extend_from_slice(&piece[..n]),
            _ => return false,
        }
    }
    true
}

/// Writes records of any content with the keys of a connection.
struct Records {
    encrypter: Box<dyn MessageEncrypter>,
    serial: u64,
    encoded: Vec<u8>,
}

impl Records {
    fn of(conn: ServerConnection) -> Self {
        let Some(SupportedCipherSuite::Tls13(suite)) = conn.negotiated_cipher_suite() else {
            panic!("not TLS 1.3");
        };
        let (serial, secrets) = conn.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            panic!("another cipher");
        };
        Self {
            encrypter: suite.aead_alg.encrypter(key, iv),
            serial,
            encoded: Vec::new(),
        }
    }

    fn add(&mut self, typ: ContentType, content: &[u8]) {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(content),
        };
        let record = self.encrypter.encrypt(message, self.serial).unwrap();
        self.encoded.extend(record.encode());
        self.serial += 1;
    }
}

/// Client certificates: shown to servers that ask, and useful errors where something is missing.
#[test]
fn client_certificates() {
    let ca = Ca::new();
    let config = ca.server_config_with_client_auth(&ca.server());
    let server = Server::builder()
        .tls_config(config)
        .start(|_| Answer::ok("fine"));
    let client = ca.client("someone");
    let (cert, key) = (
        client.certificate_path.to_str().unwrap(),
        client.key_path.to_str().unwrap(),
    );
    let with_client = |cert: &str, key: &str| {
        let mut options = trusting(&ca);
        options.set_text("client-cert-file", cert).unwrap();
        options.set_text("client-key-file", key).unwrap();
        options
    };
    let good = transport(&server, &with_client(cert, key));
    assert_eq!(get(&good, "/v2/x").unwrap(), b"fine");
    assert_eq!(
        server.requests()[0].client_certificate.as_deref(),
        Some(&*client.chain[0])
    );
    // Servers that do not ask are not told.
    let plain = serve(&ca, &ca.server());
    get(&transport(&plain, &with_client(cert, key)), "/v2/x").unwrap();
    assert_eq!(plain.requests()[0].client_certificate, None);
    // None, or one of another authority.
    let stranger = Ca::named("Another CA").client("stranger");
    let (their_cert, their_key) = (stranger.certificate_path.clone(), stranger.key_path.clone());
    std::fs::create_dir_all(their_cert.parent().unwrap()).unwrap();
    std::fs::write(&their_cert, &stranger.certificate_pem).unwrap();
    std::fs::write(&their_key, &stranger.key_pem).unwrap();
    for options in [
        trusting(&ca),
        with_client(their_cert.to_str().unwrap(), their_key.to_str().unwrap()),
    ] {
        server.clear();
        let mut options = options;
        options.set_number("retries", 0).unwrap();
        let error = get(&transport(&server, &options), "/v2/x").unwrap_err();
        // The server's alert may come after the request was sent, or be lost with the connection.
        assert!(
            matches!(error.kind(), ErrorKind::Tls | ErrorKind::Network),
            "{error}"
        );
        assert_eq!(server.count(), 0);
    }
    std::fs::remove_dir_all(their_cert.parent().unwrap()).unwrap();
    // Half of the pair, files that are not there, a key in place of a certificate, and the other way round.
    let mut half = trusting(&ca);
    half.set_text("client-cert-file", cert).unwrap();
    let error =
        Transport::new(&server.authority(), Actions::catalog(), None, Some(&half)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.message().contains("client-key-file"));
    for (cert, key, named) in [
        ("/nonexistent/c.pem", key, "/nonexistent/c.pem"),
        (cert, "/nonexistent/k.pem", "/nonexistent/k.pem"),
        (key, key, key),
        (cert, cert, cert),
    ] {
        let error = get(&transport(&server, &with_client(cert, key)), "/v2/x").unwrap_err();
        let (kind, code) = match named.starts_with("/nonexistent") {
            true => (ErrorKind::Io, Some(libc::ENOENT)),
            false => (ErrorKind::Tls, None),
        };
        assert_eq!((error.kind(), error.os_code()), (kind, code), "{error}");
        assert!(error.message().contains(named), "{error}");
        assert!(
            !error.message().contains("BEGIN") && !error.message().contains("MIG"),
            "{error}"
        );
    }
}

/// `tls-min-version` is a limit of its own.
#[test]
fn versions() {
    let ca = Ca::new();
    let identity = ca.server();
    for (old, least, good) in [
        (true, "1.2", true),
        (true, "1.3", false),
        (false, "1.2", true),
        (false, "1.3", true),
    ] {
        let config = if old {
            ca.server_config_tls12(&identity)
        } else {
            ca.server_config(&identity)
        };
        let server = Server::builder()
            .tls_config(config)
            .start(|_| Answer::ok("fine"));
        let mut options = trusting(&ca);
        options.set_text("tls-min-version", least).unwrap();
        let got = get(&transport(&server, &options), "/v2/x");
        match good {
            true => assert_eq!(got.unwrap(), b"fine"),
            false => {
                let error = got.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
                assert!(
                    error.message().contains("tls-min-version")
                        || error.message().contains("version"),
                    "{error}"
                );
                assert_eq!(server.count(), 0);
            }
        }
    }
}

/// `insecure` accepts anything, and says so at every transport.
#[test]
fn insecure() {
    let ca = Ca::new();
    for identity in [ca.server(), ca.self_signed(), ca.expired(), ca.wrong_host()] {
        for tls12 in [false, true] {
            let config = if tls12 {
                ca.server_config_tls12(&identity)
            } else {
                ca.server_config(&identity)
            };
            let server = Server::builder()
                .tls_config(config)
                .start(|_| Answer::ok("fine"));
            let mut options = with(&[("insecure", 1)]);
            options.set_text("scheme", "https").unwrap();
            let lines = keep_log(&mut options);
            assert_eq!(
                get(&transport(&server, &options), "/v2/x").unwrap(),
                b"fine"
            );
            let warnings = lock(&lines)
                .iter()
                .filter(|l| l.starts_with("Warn") && l.contains("insecure"))
                .count();
            assert_eq!(warnings, 1);
        }
    }
    let mut options = options();
    let lines = keep_log(&mut options);
    let server = Server::start(|_| Answer::ok("fine"));
    get(&transport(&server, &options), "/v2/x").unwrap();
    assert!(!lock(&lines).iter().any(|l| l.starts_with("Warn")));
}

/// One side speaks TLS and the other does not.
#[test]
fn the_wrong_protocol() {
    let plain = Server::start(|_| Answer::ok("fine"));
    let error = get(&transport(&plain, &https()), "/v2/x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(
        error.message().contains("scheme"),
        "what to do about it: {error}"
    );
    assert!(plain.wait_tls_failures(1));
    assert_eq!(plain.count(), 0);
    let ca = Ca::new();
    let secure = serve(&ca, &ca.server());
    let mut options = with_texts(&[("scheme", "http")]);
    options.set_number("retries", 0).unwrap();
    let error = get(&transport(&secure, &options), "/v2/x").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Network),
        "{error}"
    );
    assert!(secure.wait_tls_failures(1));
    // A server that hangs up in the middle of the handshake.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = server.local_addr().unwrap().to_string();
    let hanging = std::thread::spawn(move || drop(server.accept()));
    let mut options = https();
    options.set_number("retries", 0).unwrap();
    let error = get(&support::client::transport_to(&name, &options), "/v2/x").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Tls | ErrorKind::Network),
        "{error}"
    );
    assert!(error.message().contains("127.0.0.1"), "{error}");
    hanging.join().unwrap();
}

/// Trust that cannot be read fails the first TLS connection, not plain ones, and names what is wrong.
#[test]
fn unreadable_trust() {
    let ca = Ca::new();
    let server = serve(&ca, &ca.server());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = ca.server().key_pem;
    let broken = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        "AAAA"
    );
    let cut = &ca.pem()[..ca.pem().len() / 2];
    let files = [
        "/nonexistent/ca.pem".to_owned(),
        folder.path().to_str().unwrap().to_owned(),
        file("empty", b""),
        file("garbage", &[0xff; 4000]),
        file("text", b"there is no certificate in here"),
        file("key", key.as_bytes()),
        file("broken", broken.as_bytes()),
        file("cut", cut.as_bytes()),
    ];
    for path in &files {
        let options = with_texts(&[("ca-file", path), ("scheme", "https")]);
        let error = refused(&server, &options);
        let code = match () {
            () if path.starts_with("/nonexistent") => Some(libc::ENOENT),
            () if std::path::Path::new(path).is_dir() => Some(libc::EISDIR),
            () => None,
        };
        let kind = code.map_or(ErrorKind::Tls, |_| ErrorKind::Io);
        assert_eq!(
            (error.kind(), error.os_code()),
            (kind, code),
            "{path}: {error}"
        );
        assert!(
            error.message().contains(path.as_str()) || error.message().contains("ca-file"),
            "{error}"
        );
        assert!(!error.message().contains("PRIVATE"), "{error}");
    }
    for pem in ["garbage", &key, &broken, cut] {
        let options = with_texts(&[("ca-pem", pem), ("scheme", "https")]);
        let error = refused(&server, &options);
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(error.message().contains("ca-pem"), "{error}");
    }
    let plain = Server::start(|_| Answer::ok("fine"));
    let options = with_texts(&[("ca-file", "/nonexistent/ca.pem")]);
    assert_eq!(get(&transport(&plain, &options), "/v2/x").unwrap(), b"fine");
}
