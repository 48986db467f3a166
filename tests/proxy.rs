//! Forward proxies: what they are told, what they are never told, and who is reached without them.

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use registry_transport::creds::Creds;
use registry_transport::error::ErrorKind;
use registry_transport::options::Options;
use registry_transport::transport::{Actions, Transport};
use support::client::{get, keep_log, options, with};
use support::pki::Ca;
use support::proxy::{Proxy, ProxySettings};
use support::server::{Answer, Server, lock};
use support::socks::{Socks, SocksSettings};

const BASIC: &str = "Basic dXNlcjpwYXNz";

fn through(proxy: &str) -> Options {
    let mut options = options();
    options.set_text("proxy", proxy).unwrap();
    options.set_text("scheme", "http").unwrap();
    options
}

fn transport(registry: &str, options: &Options) -> Transport {
    let creds = Creds::basic("user", "pass").unwrap();
    let name = format!("{registry}/a/b");
    Transport::new(&name, Actions::pull(), Some(&creds), Some(options)).unwrap()
}

/// A registry that wants user and password.
fn registry() -> Server {
    Server::start(|r| match r.header("authorization") {
        Some(BASIC) => Answer::ok("fine"),
        _ => Answer::challenge("Basic realm=\"x\""),
    })
}

fn user() -> Option<(String, String)> {
    Some(("proxy user".to_owned(), "p@ss:word".to_owned()))
}

const USER_IN_URL: &str = "proxy%20user:p%40ss%3Aword@";

fn map(names: &[(&str, SocketAddr)]) -> Vec<(String, SocketAddr)> {
    names.iter().map(|(n, a)| ((*n).to_owned(), *a)).collect()
}

/// A tunnel, with and without credentials of the proxy's own. Names are resolved at its other end.
#[test]
fn tunnels() {
    for credentials in [None, user()] {
        let server = registry();
        let proxy = Proxy::start(ProxySettings {
            credentials: credentials.clone(),
            map: map(&[("r.example:5000", server.address())]),
            refuse: None,
        });
        let at = credentials.as_ref().map_or("", |_| USER_IN_URL);
        let mut options = through(&format!("http://{at}{}/", proxy.authority()));
        let lines = keep_log(&mut options);
        let transport = transport("r.example:5000", &options);
        for _ in 0..3 {
            assert_eq!(get(&transport, "./x").unwrap(), b"fine");
        }
        assert_eq!(
            proxy.lines(),
            ["CONNECT r.example:5000"],
            "one tunnel, used again"
        );
        let asked = &proxy.requests()[0];
        assert_eq!(asked.header("host"), Some("r.example:5000"));
        assert_eq!(asked.header("authorization"), None);
        assert_eq!(
            asked.header("proxy-authorization").is_some(),
            credentials.is_some()
        );
        assert!(
            asked
                .header("user-agent")
                .is_some_and(|a| a.starts_with("registry-transport/"))
        );
        for request in server.requests() {
            assert_eq!(request.header("host"), Some("r.example:5000"));
            assert_eq!(
                request.header("proxy-authorization"),
                None,
                "that of the proxy stays there"
            );
        }
        for line in lock(&lines).iter() {
            for secret in ["p@ss", "p%40ss", "dXNl", "cHJveHk"] {
                assert!(!line.contains(secret), "{line}");
            }
        }
    }
}

/// A proxy that asks for credentials gets those of the proxy URL or none.
#[test]
fn proxies_that_ask() {
    let server = registry();
    for (at, words) in [("", "user:password@"), ("wrong:user@", "refused")] {
        let proxy = Proxy::start(ProxySettings {
            credentials: user(),
            map: map(&[("r.example:5000", server.address())]),
            refuse: None,
        });
        let transport = transport(
            "r.example:5000",
            &through(&format!("http://{at}{}", proxy.authority())),
        );
        let error = get(&transport, "./x").unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Network, Some(407)),
            "{error}"
        );
        assert!(
            error.message().contains("407") && error.message().contains(words),
            "{error}"
        );
        assert!(error.message().contains(&proxy.authority()), "{error}");
        assert!(!error.message().contains("wrong"), "{error}");
        assert_eq!(error.retry_after(), None, "trying again would not help");
        assert_eq!(proxy.lines().len(), 1, "{:?}", proxy.lines());
        let given = proxy.requests()[0]
            .header("proxy-authorization")
            .map(str::to_owned);
        assert_eq!(given.is_some(), !at.is_empty());
        assert_ne!(given.as_deref(), Some(BASIC));
        assert_eq!(proxy.requests()[0].header("authorization"), None);
    }
    assert_eq!(server.count(), 0);
    // 407 of a server is an answer like any other.
    let server =
        Server::start(|_| Answer::new(407).header("Proxy-Authenticate", "Basic realm=\"x\""));
    let mut direct = options();
    direct.set_text("proxy", "").unwrap();
    let error = get(&transport(&server.authority(), &direct), "./x").unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Status, Some(407))
    );
    assert_eq!(server.count(), 1);
    assert_eq!(server.requests()[0].header("proxy-authorization"), None);
}

/// Proxies that do not make a tunnel.
#[test]
fn refused_tunnels() {
    for (status, tries) in [(403, 1), (404, 1), (502, 3), (503, 3)] {
        let proxy = Proxy::start(ProxySettings {
            refuse: Some(status),
            ..ProxySettings::default()
        });
        let mut options = through(&proxy.url());
        options.set_number("retries", 2).unwrap();
        let error = get(&transport("r.example:5000", &options), "./x").unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Network, Some(status)),
            "{error}"
        );
        assert!(error.message().contains(&status.to_string()), "{error}");
        assert!(error.message().contains("r.example"), "{error}");
        assert_eq!(proxy.lines().len(), tries, "{status}");
    }
    // What is no proxy at all.
    for raw in [
        "",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nsurplus",
        "HTTP/1.1 twohundred\r\n\r\n",
    ] {
        let server = Server::start(move |_| Answer::raw(raw));
        let mut options = through(&server.url(""));
        options.set_number("retries", 0).unwrap();
        let error = get(&transport("r.example:5000", &options), "./x").unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Network | ErrorKind::Protocol),
            "{raw:?}: {error}"
        );
        assert!(error.message().contains("proxy"), "{error}");
    }
    let endless =
        Server::start(|_| Answer::raw(format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(200_000))));
    let mut options = through(&endless.url(""));
    options.set_number("retries", 0).unwrap();
    assert_eq!(
        get(&transport("r.example:5000", &options), "./x")
            .unwrap_err()
            .kind(),
        ErrorKind::Network
    );
    // A proxy that is not there is named.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut options = through(&format!("http://user:secretsecret@{gone}"));
    options.set_number("retries", 0).unwrap();
    let error = get(&transport("r.example:5000", &options), "./x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.message().contains(&gone.to_string()), "{error}");
    assert!(!error.message().contains("secretsecret"), "{error}");
}

/// TLS runs through the tunnel end to end; the token host is reached through the proxy as well.
#[test]
fn tls_and_tokens() {
    let ca = Ca::new();
    let serve = |name: &str, handler: fn(&support::server::Request) -> Answer| {
        Server::builder()
            .tls_config(ca.server_config(&ca.server_for(&[name])))
            .start(handler)
    };
    let token = serve("auth.example", |_| Answer::ok(r#"{"token":"T"}"#));
    let server = serve("r.example", |r| match r.bearer() {
        Some("T") => Answer::redirect(307, "https://cdn.example/data?sig=1"),
        _ => Answer::challenge(r#"Bearer realm="https://auth.example/token",service="s""#),
    });
    let storage = serve("cdn.example", |_| Answer::ok("fine"));
    let names = [
        ("r.example:443", server.address()),
        ("auth.example:443", token.address()),
        ("cdn.example:443", storage.address()),
    ];
    let http = Proxy::start(ProxySettings {
        map: map(&names),
        ..ProxySettings::default()
    });
    let socks = Socks::start(SocksSettings {
        map: map(&names),
        ..SocksSettings::default()
    });
    for proxy in [http.url(), format!("socks5://{}", socks.authority())] {
        let mut options = options();
        options.set_text("proxy", &proxy).unwrap();
        options.set_text("ca-pem", ca.pem()).unwrap();
        let transport = transport("r.example", &options);
        assert_eq!(get(&transport, "./x").unwrap(), b"fine", "{proxy}");
    }
    let want = ["r.example:443", "auth.example:443", "cdn.example:443"];
    assert_eq!(http.tunnels(), want);
    assert_eq!(socks.targets(), want, "the proxy resolves the names");
    assert_eq!(token.requests()[0].header("authorization"), Some(BASIC));
    assert_eq!(token.requests()[0].sni.as_deref(), Some("auth.example"));
    assert!(
        storage
            .requests()
            .iter()
            .all(|r| r.header("authorization").is_none())
    );
    // The tunnel proves nothing: the host behind it must.
    let wrong = Proxy::mapping("r.example:443", storage.address());
    let mut options = options();
    options.set_text("proxy", &wrong.url()).unwrap();
    options.set_text("ca-pem", ca.pem()).unwrap();
    let before = storage.count();
    let error = get(&transport("r.example", &options), "./x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(error.message().contains("r.example"), "{error}");
    assert_eq!(storage.count(), before);
}

/// Behind a proxy too, what is written as a private address is refused.
#[test]
fn private_addresses_behind_a_proxy() {
    let inside = Server::start(|_| Answer::ok("inside"));
    let place = inside.url("/latest");
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/a/b/realm" => Answer::challenge(format!("Bearer realm=\"{place}\"")),
        _ => Answer::redirect(307, &place),
    });
    let proxy = Proxy::mapping("r.example:80", server.address());
    for path in ["./realm", "./redirect"] {
        let error = get(&transport("r.example:80", &through(&proxy.url())), path).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Auth),
            "{error}"
        );
    }
    assert_eq!(inside.count(), 0);
    assert!(proxy.tunnels().iter().all(|t| t == "r.example:80"));
    let mut allowing = through(&proxy.url());
    allowing.set_number("allow-private", 1).unwrap();
    assert_eq!(
        get(&transport("r.example:80", &allowing), "./redirect").unwrap(),
        b"inside"
    );
}

/// SOCKS5, with and without credentials.
#[test]
fn socks() {
    let server = registry();
    for credentials in [None, user()] {
        let socks = Socks::start(SocksSettings {
            credentials: credentials.clone(),
            map: map(&[("r.example:5000", server.address())]),
            refuse: None,
        });
        let at = credentials.as_ref().map_or("", |_| USER_IN_URL);
        for scheme in ["socks5", "socks5h"] {
            let options = through(&format!("{scheme}://{at}{}", socks.authority()));
            assert_eq!(
                get(&transport("r.example:5000", &options), "./x").unwrap(),
                b"fine"
            );
            // An address goes as one.
            let authority = server.authority();
            assert_eq!(
                get(&transport(&authority, &options), "./x").unwrap(),
                b"fine"
            );
        }
        let want = ["r.example:5000".to_owned(), server.authority()];
        assert_eq!(socks.targets(), [&want[..], &want[..]].concat());
        assert!(
            socks
                .users()
                .iter()
                .all(|u| Some(u) == credentials.as_ref())
        );
        assert_eq!(socks.users().is_empty(), credentials.is_none());
    }
    let server = registry();
    for (at, refuse, words) in [
        ("", None, "credentials"),
        ("wrong:user@", None, "refused"),
        (USER_IN_URL, Some(5), "reply 5"),
    ] {
        let socks = Socks::start(SocksSettings {
            credentials: user(),
            refuse,
            ..SocksSettings::default()
        });
        let mut options = through(&format!("socks5://{at}{}", socks.authority()));
        options.set_number("retries", 0).unwrap();
        let error = get(&transport("r.example:5000", &options), "./x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        assert!(error.message().contains(words), "{error}");
        assert!(error.message().contains(&socks.authority()), "{error}");
        assert!(!error.message().contains("wrong"), "{error}");
        assert!(
            !socks
                .users()
                .contains(&("user".to_owned(), "pass".to_owned()))
        );
    }
    assert_eq!(server.count(), 0);
    // What speaks something else.
    let http = Server::start(|_| Answer::ok(""));
    let mut options = through(&format!("socks5://{}", http.authority()));
    options.set_number("retries", 0).unwrap();
    let error = get(&transport("r.example:5000", &options), "./x").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Network), "{error}");
}

/// `no-proxy`: who is reached without.
#[test]
fn exceptions() {
    let server = registry();
    let port = server.address().port();
    for (list, direct) in [
        ("", false),
        ("127.0.0.1", true),
        ("r.example,127.0.0.1", true),
        ("127.0.0.0/8", true),
        ("*", true),
        ("10.0.0.0/8 , ::1", false),
        ("0.0.1", false),
        ("localhost", false),
    ] {
        let proxy = Proxy::start(ProxySettings::default());
        let mut options = through(&proxy.url());
        options.set_text("no-proxy", list).unwrap();
        assert_eq!(
            get(&transport(&server.authority(), &options), "./x").unwrap(),
            b"fine",
            "{list:?}"
        );
        assert_eq!(proxy.lines().is_empty(), direct, "{list:?}");
    }
    for (list, direct) in [
        (format!("127.0.0.1:{port}"), true),
        ("127.0.0.1:1".to_owned(), false),
    ] {
        let proxy = Proxy::start(ProxySettings::default());
        let mut options = through(&proxy.url());
        options.set_text("no-proxy", &list).unwrap();
        get(&transport(&server.authority(), &options), "./x").unwrap();
        assert_eq!(proxy.lines().is_empty(), direct, "{list}");
    }
    // A name and what is below it, but not what only ends like it.
    let proxy = Proxy::start(ProxySettings {
        map: map(&[("bad-r.example:80", server.address())]),
        ..ProxySettings::default()
    });
    let mut options = through(&proxy.url());
    options
        .set_text("no-proxy", ".r.example,localhost")
        .unwrap();
    assert_eq!(
        get(&transport("bad-r.example:80", &options), "./x").unwrap(),
        b"fine"
    );
    assert_eq!(
        get(&transport(&format!("localhost:{port}"), &options), "./x").unwrap(),
        b"fine"
    );
    assert_eq!(proxy.tunnels(), ["bad-r.example:80"]);
    // "" is none, whatever the exceptions.
    let mut none = with(&[]);
    none.set_text("proxy", "").unwrap();
    assert_eq!(
        get(&transport(&server.authority(), &none), "./x").unwrap(),
        b"fine"
    );
}

/// URLs that no proxy can be at.
#[test]
fn bad_proxy_urls() {
    for url in [
        "ftp://p:1",
        "http://",
        "http://p:0",
        "http://p:99999",
        "http://secretsecret:secretsecret@",
        "http://secret%zzsecret@p:1",
        "http://p:1/path",
        "http://p q:1",
        "http://p:1\r\nX: y",
    ] {
        let error = options().set_text("proxy", url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{url}");
        assert!(!error.message().contains("secret"), "{error}");
    }
    for list in ["10.0.0.0/99", "a b/c", "host:port"] {
        assert!(options().set_text("no-proxy", list).is_err(), "{list}");
    }
}

/// Set in the processes that the test `environment` starts.
const INSIDE: &str = "TEST_IN_AN_ENVIRONMENT";

/// Variables of the environment, each in a process of its own: only there they can be set safely.
#[test]
fn environment() {
    if std::env::var_os(INSIDE).is_some() {
        return in_an_environment();
    }
    let server = Arc::new(registry());
    let proxy = Proxy::start(ProxySettings {
        map: map(&[("r.example:80", server.address())]),
        ..ProxySettings::default()
    });
    let url = proxy.url();
    for (what, variables, option, tunnels) in [
        ("lower case", vec![("http_proxy", url.as_str())], None, 1),
        ("capitals", vec![("HTTP_PROXY", url.as_str())], None, 1),
        (
            "capitals, of a web client",
            vec![("HTTP_PROXY", url.as_str()), ("REQUEST_METHOD", "GET")],
            None,
            0,
        ),
        ("for all", vec![("ALL_PROXY", url.as_str())], None, 1),
        (
            "for https alone",
            vec![("HTTPS_PROXY", url.as_str())],
            None,
            0,
        ),
        (
            "exception",
            vec![
                ("http_proxy", url.as_str()),
                ("NO_PROXY", "x.example, r.example"),
            ],
            None,
            0,
        ),
        (
            "switched off",
            vec![("http_proxy", url.as_str())],
            Some(("environment", 0)),
            0,
        ),
        ("empty", vec![("http_proxy", "")], None, 0),
        ("none", vec![], None, 0),
    ] {
        let before = proxy.lines().len();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "environment", "--nocapture"]);
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command
                .env_remove(name)
                .env_remove(name.to_ascii_uppercase());
        }
        command
            .env_remove("REQUEST_METHOD")
            .env(INSIDE, "1")
            .envs(variables);
        if let Some((key, value)) = option {
            command.env("TEST_OPTION", format!("{key}={value}"));
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{what}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(text.contains("got fine"), tunnels > 0, "{what}: {text}");
        assert_eq!(proxy.lines().len() - before, tunnels, "{what}");
    }
}

/// One request as the environment says. The name exists nowhere, so that only the proxy leads to it.
fn in_an_environment() {
    let mut options = Options::new();
    options.set_text("scheme", "http").unwrap();
    options.set_number("retries", 0).unwrap();
    options.set_number("connect-timeout-ms", 2000).unwrap();
    if let Ok(option) = std::env::var("TEST_OPTION") {
        let (key, value) = option.split_once('=').unwrap();
        options.set_number(key, value.parse().unwrap()).unwrap();
    }
    match get(&transport("r.example:80", &options), "./x") {
        Ok(body) => println!("got {}", String::from_utf8_lossy(&body)),
        Err(e) => println!("failed: {:?}", e.kind()),
    }
}
