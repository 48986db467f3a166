//! Attacks: what a registry, a token service, a proxy, a resolver, a page of a listing or a neighbour on the same
//! machine can try. Each is made with a secret planted where it aims, is refused with an error that says what was
//! refused, and leaves the secret where it belongs: it is searched for in every error, every log line and
//! everything that the attacker's server received.
//!
//! `cargo test --test security -- --nocapture` prints how many attacks were tried.

#[path = "support/resolver.rs"]
mod resolver;
mod support;

use std::fmt::Debug;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ErrorKind::{
    Argument, Auth, Digest, Io, Limit, MediaType, Network, Protocol, Status, Syntax, Timeout, Tls,
};
use registry_transport::copy::copy;
use registry_transport::creds::Creds;
use registry_transport::error::{Error, ErrorKind};
use registry_transport::name::Reference;
use registry_transport::options::Options;
use registry_transport::pages::Names;
use registry_transport::request::Request;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};
use support::client::{keep_log, options, with};
use support::pki::Ca;
use support::proxy::{Proxy, ProxySettings};
use support::registry::{Registry, noise, sha256};
use support::server::{Answer, Request as Got, Server, lock};

/// Where secrets are planted, and under which the attacker must not have them: the password, the token, the
/// refresh token, the proxy's password, a cookie, a signature; and the password as Basic credentials.
const PASSWORD: &str = "canary-password-5309";
const TOKEN: &str = "canary-token-5309";
const REFRESH: &str = "canary-refresh-5309";
const PROXY: &str = "canary-proxy-5309";
const COOKIE: &str = "canary-cookie-5309";
const SIGNATURE: &str = "canary-signature-5309";
const BASIC: &str = "dXNlcjpjYW5hcnktcGFzc3dvcmQtNTMwOQ==";
const CANARIES: [&str; 8] = [
    PASSWORD,
    TOKEN,
    REFRESH,
    PROXY,
    COOKIE,
    SIGNATURE,
    BASIC,
    // The proxy's, as Basic credentials.
    "cHJveHk6Y2FuYXJ5LXByb3h5LTUzMDk=",
];

fn assert_clean(what: &str, text: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{what}: {canary} in {text}");
    }
}

/// A request as it arrived, all of it.
fn shown(request: &Got) -> String {
    let mut out = format!("{} {}\n", request.method, request.target);
    for (name, value) in &request.headers {
        out.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value)));
    }
    out.push_str(&String::from_utf8_lossy(&request.body));
    out
}

/// Attacks of one kind, counted.
struct Attacks {
    kind: &'static str,
    tried: usize,
    log: Arc<Mutex<Vec<String>>>,
    /// What must not learn anything.
    evil: Server,
}

impl Attacks {
    fn new(kind: &'static str) -> Self {
        let evil = Server::start(|r| match r.path.as_str() {
            // The attacker asks for everything that may be had.
            "/basic" => Answer::challenge("Basic realm=\"x\""),
            "/token" => Answer::ok(r#"{"token":"evil"}"#),
            _ => Answer::ok("evil"),
        });
        Self {
            kind,
            tried: 0,
            log: Arc::default(),
            evil,
        }
    }

    /// Options that keep the log.
    fn options(&self, mut options: Options) -> Options {
        let log = Arc::clone(&self.log);
        options.set_log(
            registry_transport::log::Level::Debug,
            Arc::new(move |_, line| lock(&log).push(line.to_owned())),
        );
        options
    }

    /// Records an attack that must end in one of these kinds of error, with these words in it.
    fn refused<T>(
        &mut self,
        what: impl Debug,
        result: Result<T, Error>,
        kinds: &[ErrorKind],
        words: &str,
    ) {
        let what = format!("{} {what:?}", self.kind);
        let Err(error) = result else {
            panic!("{what}: was not refused");
        };
        assert!(
            kinds.contains(&error.kind()),
            "{what}: {:?} {error}",
            error.kind()
        );
        assert!(error.message().contains(words), "{what}: {error}");
        assert!(
            !error.message().contains('\n') && !error.message().contains('\r'),
            "{what}"
        );
        self.look(&what, &format!("{error} {error:?}"));
    }

    /// Records an attack that may go on, but without anything of value.
    fn harmless<T>(&mut self, what: impl Debug, result: Result<T, Error>) {
        let what = format!("{} {what:?}", self.kind);
        let text = match result {
            Ok(_) => String::new(),
            Err(error) => format!("{error} {error:?}"),
        };
        self.look(&what, &text);
    }

    fn look(&mut self, what: &str, text: &str) {
        self.tried += 1;
        assert_clean(what, text);
        for line in &*lock(&self.log) {
            assert_clean(what, line);
        }
        for request in self.evil.requests() {
            assert_clean(what, &shown(&request));
        }
    }

    fn end(self, least: usize) {
        println!("security: {}: {} attacks refused", self.kind, self.tried);
        assert!(self.tried >= least, "only {}", self.tried);
    }
}

/// A registry on the public side: it is reached through a proxy, so that nothing is known of where it is, while
/// names below `direct.test` are reached directly, where the resolver of this test leads them.
struct Public {
    _server: Server,
    _proxy: Proxy,
    options: Options,
    https: bool,
}

impl Public {
    fn new(https: bool, handler: impl Fn(&Got) -> Answer + Send + Sync + 'static) -> Self {
        let ca = Ca::new();
        let (server, port) = if https {
            let config = ca.server_config(&ca.server_for(&["registry.test"]));
            (Server::builder().tls_config(config).start(handler), 443)
        } else {
            (Server::start(handler), 80)
        };
        let proxy = Proxy::mapping(&format!("registry.test:{port}"), server.address());
        let mut options = with(&[("retries", 0)]);
        options.set_text("proxy", &proxy.url()).unwrap();
        options.set_text("no-proxy", "direct.test").unwrap();
        options.set_text("ca-pem", ca.pem()).unwrap();
        options
            .set_text("scheme", if https { "https" } else { "http" })
            .unwrap();
        Self {
            _server: server,
            _proxy: proxy,
            options,
            https,
        }
    }

    fn transport(&self, attacks: &Attacks, creds: &Creds) -> Transport {
        let options = attacks.options(self.options.clone());
        let port = if self.https { 443 } else { 80 };
        Transport::new(
            &format!("registry.test:{port}/a/b"),
            Actions::push(),
            Some(creds),
            Some(&options),
        )
        .unwrap()
    }
}

fn user() -> Creds {
    Creds::basic("user", PASSWORD).unwrap()
}

fn kinds_of_creds() -> [Creds; 3] {
    [
        user(),
        Creds::refresh(REFRESH).unwrap(),
        Creds::bearer(TOKEN).unwrap(),
    ]
}

fn transport(attacks: &Attacks, authority: &str, creds: &Creds, options: Options) -> Transport {
    let options = attacks.options(options);
    Transport::new(
        &format!("{authority}/a/b"),
        Actions::push(),
        Some(creds),
        Some(&options),
    )
    .unwrap()
}

fn get(transport: &Transport, path: &str) -> Result<Vec<u8>, Error> {
    transport
        .request(&Request::new(None, path), None)?
        .take_body()
}

/// URLs that nobody may be led to by a registry that is not itself on a near address: other schemes, users in the
/// URL, near addresses in every form, names that resolve to them, and what is no URL. With whether the place is
/// written in the URL, or found by a resolver.
fn near_places(scheme: &str, port: u16) -> Vec<(String, bool)> {
    let mut out = Vec::new();
    for other in [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://evil.test/",
        "gopher://evil.test/",
        "javascript:alert(1)",
        "data:text/plain,x",
        "unix:///run/docker.sock",
        "http:",
        "http://",
        "https:///x",
        "http:////evil.test",
        "http://evil.test:99999/",
        "http://evil.test:x/",
        "http://[::1/",
        "http://evil test/",
        "http://ev%00il.test/",
        "http://evil.test\\@registry.test/",
    ] {
        out.push((other.to_owned(), true));
    }
    for user in [
        "user@",
        "user:pass@",
        "registry.test@",
        "registry.test:443@",
        ":@",
        "@",
    ] {
        out.push((
            format!("{scheme}://{user}evil.direct.test:{port}/token"),
            true,
        ));
    }
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "127.255.255.254",
        "0.0.0.0",
        "0",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0x7f.0.0.1",
        "017700000001",
        "0177.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "x.localhost",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[fc00::1]",
        "[fec0::1]",
        "255.255.255.255",
        "224.0.0.1",
    ] {
        out.push((format!("{scheme}://{host}:{port}/token"), true));
    }
    for (i, address) in [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("near-{i}.direct.test");
        resolver::tell(&name, &[&[address]]);
        out.push((format!("{scheme}://{name}:{port}/token"), false));
    }
    out
}

/// The realm of a challenge: with each kind of credential, from a registry over http and over https.
#[test]
fn realms() {
    let mut attacks = Attacks::new("realm");
    let port = attacks.evil.address().port();
    for https in [true, false] {
        let scheme = if https { "https" } else { "http" };
        let mut places = near_places(scheme, port);
        if https {
            // From https to plain http, to the registry itself and to others.
            for url in [
                "http://registry.test/token",
                "http://evil.direct.test/token",
                "HTTP://8.8.8.8/",
            ] {
                places.push((url.to_owned(), true));
            }
        }
        for (url, written) in places {
            let realm = url.replace('\\', "\\\\");
            let home = Public::new(https, move |_| {
                Answer::challenge(format!(r#"Bearer realm="{realm}",service="s""#))
            });
            // A fixed token is not traded for another; the others would be sent to the realm.
            for creds in &kinds_of_creds()[..2] {
                let result = get(&home.transport(&attacks, creds), "./x");
                let words = if written {
                    "token service"
                } else {
                    "may not lead to"
                };
                attacks.refused(&url, result, &[Protocol, Auth], words);
            }
        }
    }
    assert_eq!(attacks.evil.count(), 0, "nothing was even asked");
    // Hosts that the option does not name.
    let home =
        Server::start(|_| Answer::challenge(r#"Bearer realm="http://evil.direct.test/token""#));
    let mut narrow = options();
    narrow.set_text("realm-hosts", "auth.test").unwrap();
    let result = get(
        &transport(&attacks, &home.authority(), &user(), narrow),
        "./x",
    );
    attacks.refused("another host", result, &[Protocol], "realm-hosts");
    // A realm twice, the second one the attacker's.
    let url = attacks.evil.url("/token");
    let home = Server::start(move |_| {
        Answer::challenge(format!(
            r#"Bearer realm="/token",realm="{url}",service="s""#
        ))
    });
    let result = get(
        &transport(&attacks, &home.authority(), &user(), options()),
        "./x",
    );
    attacks.refused("realm twice", result, &[Auth], "challenge");
    // The token service redirects: the password and the refresh token stay.
    let url = attacks.evil.url("/token");
    let home = Server::start(move |r| match r.path.as_str() {
        "/token" => Answer::redirect(307, &url),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    for creds in &kinds_of_creds()[..2] {
        let result = get(
            &transport(&attacks, &home.authority(), creds, options()),
            "./x",
        );
        attacks.harmless("redirected token request", result);
    }
    attacks.end(290);
}

/// `Location` of a redirect, of an upload, and `Link`.
#[test]
fn redirects() {
    let mut attacks = Attacks::new("redirect");
    let port = attacks.evil.address().port();
    for https in [true, false] {
        let scheme = if https { "https" } else { "http" };
        let mut places = near_places(scheme, port);
        places.retain(|(url, _)| !url.contains('\0'));
        if https {
            places.push(("http://registry.test/x".to_owned(), true));
            places.push(("http://evil.direct.test/x".to_owned(), true));
        }
        places.push((String::new(), true));
        places.push((" ".to_owned(), true));
        for (url, written) in places {
            // What has no host of its own is a path at the registry.
            let own = url.clone();
            let home = Public::new(https, move |r| match (r.method.as_str(), r.path.as_str()) {
                ("GET", "/v2/a/b/tags/list") => {
                    Answer::json(200, &serde_json::json!({"tags": ["a"]}))
                        .header("Link", format!("<{own}>; rel=\"next\""))
                }
                ("HEAD", path) if path.contains("/blobs/") => Answer::new(404),
                ("POST", _) => Answer::new(202).header("Location", &own),
                _ => Answer::redirect(307, &own),
            });
            let transport = home.transport(&attacks, &Creds::bearer(TOKEN).unwrap());
            let words = if written { "" } else { "may not lead to" };
            let all = [Protocol, Network, Syntax];
            attacks.refused((&url, "redirect"), get(&transport, "./x"), &all, words);
            let put = transport.blob_put(Some(&sha256(b"x")), &Source::bytes(*b"x"), None, None);
            attacks.refused((&url, "upload"), put, &all, words);
            let mut names = Names::tags(&transport);
            let listed = loop {
                match names.next_name(None) {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(e) => break Err(e),
                }
            };
            if !url.trim().is_empty() {
                attacks.refused((&url, "link"), listed, &all, "");
            }
        }
    }
    assert_eq!(attacks.evil.count(), 0, "nothing was even asked");
    attacks.end(400);
}

/// Redirects that may be followed, but not with anything that was meant for the registry.
#[test]
fn redirects_elsewhere() {
    let mut attacks = Attacks::new("redirect elsewhere");
    let evil = attacks.evil.authority();
    let port = attacks.evil.address().port();
    resolver::tell("evil.test", &[&["127.0.0.1"]]);
    for status in [301, 302, 303, 307, 308] {
        for place in [
            format!("http://{evil}/x"),
            format!("//{evil}/x"),
            format!("http://evil.test:{port}/x"),
            format!("HTTP://EVIL.test:{port}/x?y=http://registry"),
            format!("http://localhost:{port}/x#fragment"),
            format!("http://{evil}/basic"),
        ] {
            let own = place.clone();
            let home = Server::start(move |r| match r.header("authorization") {
                None => Answer::challenge("Basic realm=\"x\""),
                Some(_) => Answer::redirect(status, &own),
            });
            for creds in [user(), Creds::bearer(TOKEN).unwrap()] {
                let transport = transport(&attacks, &home.authority(), &creds, options());
                for method in ["GET", "HEAD", "DELETE", "PUT"] {
                    let mut request = Request::new(Some(method), "./x");
                    request
                        .header("Cookie", COOKIE)
                        .header("X-Auth-Token", COOKIE);
                    attacks.harmless((&place, status, method), transport.request(&request, None));
                }
            }
        }
    }
    assert!(
        attacks.evil.count() > 100,
        "they were followed: {}",
        attacks.evil.count()
    );
    // Loops, and chains that are too long.
    let home = Server::start(|r| {
        let n: usize = r
            .path
            .rsplit('/')
            .next()
            .unwrap_or("0")
            .parse()
            .unwrap_or(0);
        match r.path.as_str() {
            "/v2/self" => Answer::redirect(307, "/v2/self"),
            "/v2/ping" => Answer::redirect(307, "/v2/pong"),
            "/v2/pong" => Answer::redirect(307, "/v2/ping"),
            _ => Answer::redirect(307, format!("/v2/chain/{}", n + 1)),
        }
    });
    for path in ["/v2/self", "/v2/ping", "/v2/chain/0"] {
        let before = home.count();
        let result = get(
            &transport(&attacks, &home.authority(), &user(), options()),
            path,
        );
        attacks.refused(path, result, &[Protocol], "more than 10 redirects");
        assert_eq!(home.count() - before, 11, "{path}");
    }
    // Fields that are no Location.
    for raw in [
        "Location: http://evil.test/\rX: y\r\n",
        "Location: http://evil.test/\n X: y\r\n",
        "Location: http://evil.test/\0\r\n",
        "Location: /a\r\nLocation: /b\r\n",
        "",
    ] {
        let own = format!("HTTP/1.1 307 Temporary Redirect\r\n{raw}Content-Length: 0\r\n\r\n");
        let home = Server::start(move |_| Answer::raw(own.clone()));
        let result = get(
            &transport(
                &attacks,
                &home.authority(),
                &user(),
                with(&[("retries", 0)]),
            ),
            "./x",
        );
        attacks.refused(raw, result, &[Protocol], "");
    }
    // A signature in the URL that was redirected to stays out of what is said about it.
    let there = attacks.evil.authority();
    let storage = Server::start(|_| Answer::new(403).body("expired"));
    let place = storage.authority();
    let home = Server::start(move |r| match r.path.as_str() {
        "/v2/near" => Answer::redirect(307, format!("http://169.254.169.254/?sig={SIGNATURE}")),
        "/v2/user" => Answer::redirect(307, format!("http://u:{SIGNATURE}@{there}/")),
        "/v2/bad" => Answer::redirect(307, format!("http://{there}:x/?sig={SIGNATURE}")),
        _ => Answer::redirect(307, format!("http://{place}/?sig={SIGNATURE}")),
    });
    for path in ["/v2/near", "/v2/user", "/v2/bad", "/v2/refused"] {
        let result = get(
            &transport(&attacks, &home.authority(), &user(), options()),
            path,
        );
        attacks.refused(path, result, &[Protocol, Status], "");
    }
    attacks.end(250);
}

/// Absolute URLs that the program asks for, as a manifest may have told it, and the foreign layers of an image.
#[test]
fn other_places() {
    let mut attacks = Attacks::new("other places");
    let home = Server::start(|r| match r.header("authorization") {
        None => Answer::challenge("Basic realm=\"x\""),
        Some(_) => Answer::ok("fine"),
    });
    for creds in [user(), Creds::bearer(TOKEN).unwrap()] {
        let transport = transport(&attacks, &home.authority(), &creds, options());
        // So that there is something to lose.
        get(&transport, "./x").unwrap();
        for path in ["/x", "/basic", "/token"] {
            let url = attacks.evil.url(path);
            attacks.harmless(&url, get(&transport, &url));
        }
    }
    assert_eq!(attacks.evil.count(), 6);
    for url in [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://user:pass@127.0.0.1/",
        "//evil.test/x",
        "http://evil.test/\r\nX: y",
        "unix:///run/docker.sock",
    ] {
        let result = get(
            &transport(&attacks, &home.authority(), &user(), options()),
            url,
        );
        attacks.refused(url, result, &[Syntax, Protocol], "");
    }
    // A layer that is said to be elsewhere is copied from its registry, or not at all.
    for there in [true, false] {
        let source = Registry::basic("user", PASSWORD);
        let layer = b"a layer".to_vec();
        let digest = if there {
            source.put_blob("a/b", layer.clone())
        } else {
            sha256(&layer)
        };
        let config = source.put_blob("a/b", *b"{}");
        let urls = [attacks.evil.url("/layer"), "file:///etc/passwd".to_owned()];
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": config, "size": 2},
            "layers": [{
                "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "digest": digest, "size": layer.len(), "urls": urls,
            }],
        });
        source.put_manifest(
            "a/b",
            Some("latest"),
            "application/vnd.docker.distribution.manifest.v2+json",
            manifest.to_string(),
        );
        let source = source.start(None);
        let target = Registry::open().start(None);
        let before = attacks.evil.count();
        let from = transport(&attacks, &source.authority(), &user(), options());
        let to = transport(
            &attacks,
            &target.authority(),
            &Creds::anonymous(),
            options(),
        );
        attacks.harmless(
            ("foreign layer", there),
            copy(&from, "latest", &to, "latest", None),
        );
        let digest = get(&from, &format!("./blobs/{digest}"));
        assert_eq!(digest.is_ok(), there);
        assert_eq!(attacks.evil.count(), before, "nobody asked there");
    }
    attacks.end(16);
}

/// A name whose address changes between two questions, or that has a near address among others: what counts is
/// where the connection goes.
#[test]
fn rebinding() {
    let mut attacks = Attacks::new("rebinding");
    let port = attacks.evil.address().port();
    let public = "198.51.100.1";
    for (i, answers) in [
        &[&["127.0.0.1"][..]][..],
        &[&["127.0.0.1", "127.0.0.2", "::1"]],
        &[&["169.254.169.254"], &["127.0.0.1"]],
        &[&["::ffff:127.0.0.1"], &["127.0.0.1"], &["0.0.0.0"]],
        &[&["10.0.0.1", "127.0.0.1"], &["127.0.0.1"]],
    ]
    .iter()
    .enumerate()
    {
        let name = format!("rebound-{i}.direct.test");
        resolver::tell(&name, answers);
        let place = format!("http://{name}:{port}/token");
        let own = place.clone();
        let home = Public::new(false, move |r| match r.path.as_str() {
            "/v2/a/b/redirect" => Answer::redirect(307, &own),
            _ => Answer::challenge(format!(r#"Bearer realm="{own}",service="s""#)),
        });
        let transport = home.transport(&attacks, &user());
        // Again and again: every connection asks the resolver, and every answer is judged.
        for path in ["./redirect", "./realm", "./redirect", "./realm"] {
            let result = get(&transport, path);
            attacks.refused((i, path), result, &[Protocol, Auth], "may not lead to");
        }
        assert_eq!(resolver::queries(&name), 4);
    }
    // A far address beside a near one: only the far one is tried, and it is far away.
    resolver::tell("mixed.direct.test", &[&["127.0.0.1", public]]);
    let place = format!("http://mixed.direct.test:{port}/token");
    let home = Public::new(false, move |_| Answer::redirect(307, &place));
    let mut hasty = attacks.options(home.options.clone());
    hasty.set_number("connect-timeout-ms", 300).unwrap();
    let transport = Transport::new(
        "registry.test:80/a/b",
        Actions::pull(),
        Some(&user()),
        Some(&hasty),
    )
    .unwrap();
    attacks.refused("mixed", get(&transport, "./x"), &[Timeout, Network], "");
    assert_eq!(attacks.evil.count(), 0);
    attacks.end(21);
}

/// Proxies: what they ask for, and what passes between their credentials and the registry's.
#[test]
fn proxies() {
    let mut attacks = Attacks::new("proxy");
    let user_of_proxy = Some(("proxy".to_owned(), PROXY.to_owned()));
    let with_proxy = |url: &str| {
        let mut options = with(&[("retries", 0)]);
        options
            .set_text(
                "proxy",
                &url.replace("http://", &format!("http://proxy:{PROXY}@")),
            )
            .unwrap();
        options.set_text("scheme", "http").unwrap();
        options
    };
    // A 407 from behind the tunnel is the registry's, and is told nothing.
    let home =
        Server::start(|_| Answer::new(407).header("Proxy-Authenticate", "Basic realm=\"x\""));
    let proxy = Proxy::start(ProxySettings {
        credentials: user_of_proxy.clone(),
        map: vec![("registry.test:80".to_owned(), home.address())],
        refuse: None,
    });
    let result = get(
        &transport(
            &attacks,
            "registry.test:80",
            &user(),
            with_proxy(&proxy.url()),
        ),
        "./x",
    );
    attacks.refused("407 of the registry", result, &[Status], "407");
    for request in home.requests() {
        assert_clean("the registry", &shown(&request));
    }
    for request in proxy.requests() {
        let text = shown(&request);
        assert!(
            !text.contains(PASSWORD) && !text.contains(BASIC) && !text.contains("/v2/"),
            "{text}"
        );
    }
    // Proxies that do not open a tunnel: they send elsewhere, want the password, or answer themselves.
    let evil = attacks.evil.url("/x");
    for answer in [
        format!("HTTP/1.1 302 Found\r\nLocation: {evil}\r\nContent-Length: 0\r\n\r\n"),
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 407 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".to_owned(),
        "HTTP/1.1 500 No\r\n\r\n".to_owned(),
        "SSH-2.0-x\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(100_000)),
        String::new(),
    ] {
        let raw = answer.clone();
        // Answers as soon as the head of CONNECT is there.
        let proxy = Server::start(move |_| Answer::raw(raw.clone()));
        let result = get(
            &transport(&attacks, "registry.test:80", &user(), with_proxy(&proxy.url(""))),
            "./x",
        );
        let shown_answer: String = answer.chars().take(60).collect();
        attacks.refused(&shown_answer, result, &[Network, Protocol], "proxy");
        for request in proxy.requests() {
            let text = shown(&request);
            assert!(!text.contains(PASSWORD) && !text.contains(BASIC), "{text}");
        }
    }
    assert_eq!(attacks.evil.count(), 0);
    attacks.end(10);
}

/// A mirror, which is asked before the registry: it gets nothing that was meant for the registry, leads nowhere
/// near, and what it sends is checked.
#[test]
fn mirrors() {
    let mut attacks = Attacks::new("mirror");
    let data = noise("mirror", 50_000);
    let digest = sha256(&data);
    let registry = Registry::basic("user", PASSWORD);
    registry.put_blob("a/b", data.clone());
    let home = registry.start(None);
    let (there, at_home) = (attacks.evil.authority(), home.authority());
    let bearer = |realm: &str| {
        (
            "WWW-Authenticate",
            format!(r#"Bearer realm="{realm}",service="s""#),
        )
    };
    let location = |place: &str| ("Location", place.to_owned());
    let nothing = || ("X", String::new());
    let none = Vec::new;
    let cases = [
        (
            "wants a password",
            401,
            ("WWW-Authenticate", "Basic realm=\"x\"".to_owned()),
            none(),
            true,
        ),
        ("wants a token", 401, bearer("/token"), none(), true),
        (
            "sends to the attacker's tokens",
            401,
            bearer(&format!("http://{there}/token")),
            none(),
            true,
        ),
        (
            "sends to the registry's tokens",
            401,
            bearer(&format!("http://{at_home}/token")),
            none(),
            true,
        ),
        (
            "sends to metadata",
            401,
            bearer("http://169.254.169.254/token"),
            none(),
            true,
        ),
        (
            "sends to a file",
            401,
            bearer("file:///etc/passwd"),
            none(),
            true,
        ),
        (
            "is a proxy",
            407,
            ("Proxy-Authenticate", "Basic realm=\"x\"".to_owned()),
            none(),
            true,
        ),
        (
            "redirects to metadata",
            307,
            location("http://169.254.169.254/"),
            none(),
            true,
        ),
        (
            "redirects to the attacker",
            307,
            location(&format!("http://{there}/basic")),
            none(),
            true,
        ),
        (
            "redirects to itself",
            307,
            location("/v2/a/b/x"),
            none(),
            true,
        ),
        (
            "redirects to a file",
            307,
            location("file:///etc/passwd"),
            none(),
            true,
        ),
        (
            "sets a cookie",
            404,
            ("Set-Cookie", "evil=1".to_owned()),
            none(),
            true,
        ),
        (
            "sends other bytes",
            200,
            nothing(),
            noise("evil", 50_000),
            false,
        ),
        (
            "sends too little",
            200,
            nothing(),
            data[..49_999].to_vec(),
            false,
        ),
        (
            "sends too much",
            200,
            nothing(),
            [&data[..], b"x"].concat(),
            false,
        ),
    ];
    for (what, status, (name, value), body, goes_on) in cases {
        let mirror = Server::start(move |r| match r.path.as_str() {
            "/token" => Answer::ok(r#"{"token":"evil"}"#),
            _ => Answer::new(status).header(name, &value).body(body.clone()),
        });
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(&at_home);
        std::fs::create_dir(&own).unwrap();
        std::fs::write(
            own.join("hosts.toml"),
            format!("[host.\"{}\"]\n", mirror.url("")),
        )
        .unwrap();
        let mut options = attacks.options(with(&[("retries", 0)]));
        options
            .set_text("hosts-dir", folder.path().to_str().unwrap())
            .unwrap();
        for creds in [user(), Creds::refresh(REFRESH).unwrap()] {
            let t = Transport::new(
                &format!("{at_home}/a/b"),
                Actions::pull(),
                Some(&creds),
                Some(&options),
            )
            .unwrap();
            let got = t.blob_get(&digest, None).and_then(|mut r| r.take_body());
            for request in mirror.requests() {
                assert_clean(what, &shown(&request));
            }
            match (goes_on, got) {
                (true, Ok(got)) => {
                    assert!(got == data, "{what}");
                    attacks.harmless(what, Ok(()));
                }
                // The registry wants the password.
                (true, Err(e)) => {
                    assert!(
                        format!("{creds:?}").contains("Identity") || e.kind() == Auth,
                        "{what}: {e}"
                    );
                    attacks.harmless::<()>(what, Err(e));
                }
                (false, got) => attacks.refused(what, got, &[Digest], ""),
            }
        }
        assert!(mirror.count() > 0, "{what}: the mirror was asked");
    }
    attacks.end(30);
}

/// Line breaks, NULs and framing in what the program passes on: refused before a byte is sent.
#[test]
fn injection_into_requests() {
    let mut attacks = Attacks::new("injection into requests");
    let home = Server::start(|_| Answer::ok("x"));
    let encoded = Server::start(|r| match r.basic() {
        Some(_) => Answer::ok("x"),
        None => Answer::challenge("Basic realm=\"r\""),
    });
    let breaks = [
        "\r\nX: y",
        "\nX: y",
        "\rX: y",
        "\0",
        "\r\n\r\nGET /evil HTTP/1.1",
        "\u{b}",
        "\u{7f}",
    ];
    let all = [Argument, Syntax, MediaType];
    for bad in breaks {
        let t = transport(&attacks, &home.authority(), &user(), options());
        let mut requests = vec![
            Request::new(Some(&format!("GET{bad}")), "./x"),
            Request::new(None, &format!("./x{bad}")),
            Request::new(None, &format!("/v2/x?q={bad}")),
            Request::new(None, &format!("http://{}/{bad}", home.authority())),
        ];
        for (name, value) in [
            (format!("X{bad}"), "y".to_owned()),
            ("X".to_owned(), format!("y{bad}")),
            ("Authorization".to_owned(), format!("Bearer y{bad}")),
        ] {
            let mut request = Request::new(None, "./x");
            request.header(&name, &value);
            requests.push(request);
        }
        let mut request = Request::new(None, "./x");
        request.accept_type(&format!("a/b{bad}"));
        requests.push(request);
        for request in requests {
            attacks.refused((bad, &request), t.request(&request, None), &all, "");
        }
        attacks.refused(
            (bad, "tag"),
            t.manifest_get(&format!("latest{bad}"), None),
            &all,
            "",
        );
        attacks.refused(
            (bad, "digest"),
            t.blob_get(&format!("sha256:{bad}"), None),
            &all,
            "",
        );
        attacks.refused(
            (bad, "media type"),
            t.manifest_put("latest", &format!("a/b{bad}"), b"{}", None),
            &all,
            "",
        );
        attacks.refused(
            (bad, "mount"),
            t.blob_put(
                Some(&sha256(b"x")),
                &Source::bytes(*b"x"),
                Some(&format!("c/d{bad}")),
                None,
            ),
            &all,
            "",
        );
        attacks.refused(
            (bad, "upload"),
            t.upload_resume(&format!("rt-upload/1 http://h/{bad}"), None),
            &all,
            "",
        );
        let name = format!("{}/a/b{bad}", home.authority());
        attacks.refused(
            (bad, "name"),
            Transport::new(&name, Actions::pull(), None, None),
            &all,
            "",
        );
        let mut own = options();
        attacks.refused(
            (bad, "agent"),
            own.set_text("user-agent", &format!("x{bad}")),
            &all,
            "",
        );
        attacks.refused(
            (bad, "proxy"),
            own.set_text("proxy", &format!("http://h:1{bad}")),
            &all,
            "",
        );
        attacks.refused(
            (bad, "user"),
            Creds::basic(&format!("user{bad}"), PASSWORD),
            &all,
            "",
        );
        // A password may hold anything, for it goes out encoded.
        let password = format!("{PASSWORD}{bad}");
        let creds = Creds::basic("user", &password).unwrap();
        let t = transport(&attacks, &encoded.authority(), &creds, options());
        attacks.harmless(
            (bad, "password"),
            t.request(&Request::new(None, "./x"), None),
        );
        let sent = encoded.requests().pop().unwrap();
        assert_eq!(sent.basic(), Some(("user".to_owned(), password)), "{bad:?}");
        assert!(sent.header("x").is_none(), "{bad:?}");
        attacks.refused(
            (bad, "token"),
            Creds::bearer(&format!("{TOKEN}{bad}")),
            &all,
            "",
        );
        attacks.refused(
            (bad, "refresh"),
            Creds::refresh(&format!("{REFRESH}{bad}")),
            &all,
            "",
        );
        attacks.refused((bad, "reference"), Reference::parse(bad), &all, "");
    }
    for (name, value) in [
        ("Content-Length", "5"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "trailers"),
        ("Trailer", "X"),
        ("Connection", "Authorization"),
        ("Host", "evil.test"),
        ("Expect", "100-continue"),
        ("Upgrade", "h2c"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic x"),
        ("Proxy-Connection", "close"),
        ("Accept-Encoding", "gzip"),
        ("X ", "y"),
        ("X:", "y"),
        (":authority", "y"),
        ("", "y"),
    ] {
        let mut request = Request::new(None, "./x");
        request.header(name, value);
        let t = transport(&attacks, &home.authority(), &user(), options());
        attacks.refused(name, t.request(&request, None), &all, "header");
    }
    assert_eq!(home.count(), 0, "nothing was sent");
    // What services supply goes into requests as well.
    for bad in ["a\r\nX: y", "a b", "a\u{0}", "", "ä", "a\u{7f}"] {
        let body = serde_json::json!({ "token": bad }).to_string();
        let home = Server::start(move |r| match r.path.as_str() {
            "/token" => Answer::ok(body.clone()),
            _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
        });
        let t = transport(&attacks, &home.authority(), &user(), options());
        attacks.refused(("token", bad), get(&t, "./x"), &[Auth], "token");
    }
    attacks.end(150);
}

/// Answers whose end is in doubt, and fields with breaks in them: none of it is taken, and what is hidden behind
/// an answer never answers the next request.
#[test]
fn smuggling() {
    let mut attacks = Attacks::new("smuggling");
    let hidden = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let heads = [
        "Content-Length: 2\r\nContent-Length: 44\r\n",
        "Content-Length: 44\r\nContent-Length: 2\r\n",
        "Content-Length: 2, 44\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\nContent-Length: 2\r\n",
        "Transfer-Encoding:\r\n chunked\r\nContent-Length: 2\r\n",
        "Content-Length : 2\r\n",
        "Content-Length\t: 2\r\n",
        " Content-Length: 2\r\n",
        "X: y\r\n Content-Length: 44\r\nContent-Length: 2\r\n",
        "Content-Length: 2\r\n\t4\r\n",
        "Content-Length: 2\0\r\n",
        "Content-\0Length: 2\r\n",
        "X: a\0b\r\nContent-Length: 2\r\n",
        "X: a\rb\r\nContent-Length: 2\r\n",
        "X: a\rContent-Length: 44\r\nContent-Length: 2\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 2 2\r\n",
        "Content-Length: \r\n",
        "Content Length: 2\r\n",
        ": y\r\nContent-Length: 2\r\n",
        "no colon\r\nContent-Length: 2\r\n",
    ];
    for head in heads {
        let raw = format!("HTTP/1.1 200 OK\r\n{head}\r\nab{hidden}");
        let home = Server::start(move |r| match r.path.as_str() {
            "/v2/a/b/first" => Answer::raw(raw.clone()).keep_alive(),
            _ => Answer::ok("good"),
        });
        let t = transport(
            &attacks,
            &home.authority(),
            &user(),
            with(&[("retries", 0)]),
        );
        attacks.refused(head, get(&t, "./first"), &[Protocol], "");
        assert_eq!(get(&t, "./second").unwrap(), b"good", "{head:?}");
    }
    // Chunks that are none.
    for body in [
        "2\nab\n0\n\n",
        "2\r\nabXX0\r\n\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        "-2\r\nab\r\n0\r\n\r\n",
        "2 ab\r\n0\r\n\r\n",
        "100000000000000002\r\nab\r\n0\r\n\r\n",
        "\r\nab\r\n0\r\n\r\n",
        "2;\nab\r\n0\r\n\r\n",
    ] {
        let raw = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}{hidden}");
        let home = Server::start(move |r| match r.path.as_str() {
            "/v2/a/b/first" => Answer::raw(raw.clone()).keep_alive(),
            _ => Answer::ok("good"),
        });
        let t = transport(
            &attacks,
            &home.authority(),
            &user(),
            with(&[("retries", 0)]),
        );
        attacks.refused(body, get(&t, "./first"), &[Protocol, Network], "");
        assert_eq!(get(&t, "./second").unwrap(), b"good", "{body:?}");
    }
    // Whole answers behind an answer, behind one without a body, and before any request.
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n",
    ] {
        let raw = format!("{first}{hidden}");
        let home = Server::start(move |r| match r.path.as_str() {
            "/v2/a/b/first" => Answer::raw(raw.clone()).keep_alive(),
            _ => Answer::ok("good"),
        });
        let t = transport(&attacks, &home.authority(), &user(), options());
        attacks.harmless(first, get(&t, "./first"));
        assert_eq!(get(&t, "./second").unwrap(), b"good", "{first:?}");
    }
    attacks.end(40);
}

/// Too much of everything: the limit that is broken is named.
#[test]
fn oversized() {
    let mut attacks = Attacks::new("oversized");
    let long = |n: usize| "a".repeat(n);
    let tags = |n: usize| serde_json::json!({ "tags": vec!["a".repeat(100); n] });
    // A page of so many tags, and always another one.
    let endless = move |r: &Got, count: usize| {
        let n: u64 = r.query_param("n").and_then(|n| n.parse().ok()).unwrap_or(0);
        let next = format!("</v2/a/b/tags/list?n={}>; rel=next", n + 1);
        Answer::json(200, &tags(count)).header("Link", next)
    };
    type Run = fn(&Transport) -> Result<(), Error>;
    let request: Run = |t| get(t, "./x").map(drop);
    let manifest: Run = |t| t.manifest_get("latest", None).map(drop);
    let list: Run = |t| {
        let mut names = Names::tags(t);
        while names.next_name(None)?.is_some() {}
        Ok(())
    };
    type Handler = Box<dyn Fn(&Got) -> Answer + Send + Sync>;
    let token = |body: String, status: u16| -> Handler {
        Box::new(move |r| match r.path.as_str() {
            "/token" => Answer::new(status).body(body.clone()),
            _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
        })
    };
    let plain = |answer: fn() -> Answer| -> Handler { Box::new(move |_| answer()) };
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let cases: Vec<(&str, Handler, Run, &[ErrorKind], &str)> = vec![
        (
            "field",
            plain(|| Answer::ok("x").header("X", "a".repeat(70_000))),
            request,
            &[Limit],
            "max-header-bytes",
        ),
        (
            "fields",
            plain(|| {
                (0..3000).fold(Answer::ok("x"), |a, i| {
                    a.header(format!("X-{i}"), "a".repeat(20))
                })
            }),
            request,
            &[Limit, Protocol],
            "",
        ),
        (
            "reason",
            plain(|| Answer::ok("x").reason(&"a".repeat(70_000))),
            request,
            &[Limit],
            "max-header-bytes",
        ),
        (
            "body",
            plain(|| Answer::ok(vec![b'a'; 70 << 20])),
            request,
            &[Limit],
            "max-body-bytes",
        ),
        (
            "body in chunks",
            plain(|| Answer::ok(vec![b'a'; 70 << 20]).chunks_of(1 << 20)),
            request,
            &[Limit],
            "max-body-bytes",
        ),
        (
            "body to the end",
            plain(|| Answer::ok(vec![b'a'; 70 << 20]).no_length()),
            request,
            &[Limit],
            "max-body-bytes",
        ),
        (
            "length",
            plain(|| Answer::ok("a").content_length(u64::MAX / 2).cut_after(1)),
            request,
            &[Limit],
            "max-body-bytes",
        ),
        (
            "manifest",
            Box::new(move |_| {
                Answer::ok(vec![b' '; 5 << 20]).header("Content-Type", manifest_type)
            }),
            manifest,
            &[Limit],
            "max-manifest-bytes",
        ),
        (
            "token",
            token(format!(r#"{{"token":"{}"}}"#, long(2 << 20)), 200),
            request,
            &[Auth],
            "max-token-bytes",
        ),
        (
            "token error",
            token(long(2 << 20), 403),
            request,
            &[Auth],
            "403",
        ),
        (
            "error",
            plain(|| Answer::new(404).body(vec![b'a'; 8 << 20])),
            request,
            &[Status],
            "404",
        ),
        (
            "errors",
            Box::new(|_| {
                let all =
                    vec![serde_json::json!({"code": "A", "message": "m", "detail": "d"}); 100_000];
                Answer::json(404, &serde_json::json!({ "errors": all }))
            }),
            request,
            &[Status],
            "404",
        ),
        (
            "deep error",
            plain(|| Answer::new(404).body("[".repeat(60_000))),
            request,
            &[Status],
            "404",
        ),
        (
            "challenge",
            plain(|| {
                Answer::challenge(format!(
                    r#"Bearer realm="/token",service="{}""#,
                    "a".repeat(20_000)
                ))
            }),
            request,
            &[Limit],
            "max-challenge-bytes",
        ),
        (
            "challenges",
            plain(|| {
                (0..60).fold(Answer::new(401), |a, _| {
                    a.header(
                        "WWW-Authenticate",
                        format!("Basic realm=\"{}\"", "a".repeat(400)),
                    )
                })
            }),
            request,
            &[Limit],
            "max-challenge-bytes",
        ),
        (
            "page",
            Box::new(move |_| Answer::json(200, &tags(200_000))),
            list,
            &[Limit],
            "max-page-bytes",
        ),
        (
            "pages",
            Box::new(move |r| endless(r, 1)),
            list,
            &[Limit],
            "max-pages",
        ),
        (
            "empty pages",
            Box::new(move |r| endless(r, 0)),
            list,
            &[Protocol],
            "empty",
        ),
        (
            "link",
            Box::new(move |_| {
                Answer::json(200, &tags(1))
                    .header("Link", format!("</v2/{}>; rel=next", "a".repeat(40_000)))
            }),
            list,
            &[Protocol, Limit],
            "next page",
        ),
        (
            "location",
            plain(|| Answer::redirect(307, format!("/{}", "a".repeat(40_000)))),
            request,
            &[Protocol],
            "Location",
        ),
    ];
    for (what, handler, run, kinds, words) in cases {
        let home = Server::start(handler);
        let own = with(&[("retries", 0), ("max-pages", 500)]);
        let t = transport(&attacks, &home.authority(), &user(), own);
        let result = run(&t);
        if let Err(e) = &result {
            let size: usize = e.message().len()
                + e.diagnostics()
                    .iter()
                    .map(|d| d.message.as_ref().map_or(0, String::len))
                    .sum::<usize>();
            assert!(size < 1 << 20, "{what}: the error has {size} bytes");
        }
        attacks.refused(what, result, kinds, words);
    }
    attacks.end(20);
}

/// Answers that come drop by drop.
#[test]
fn slow_loris() {
    let mut attacks = Attacks::new("slow loris");
    let drops = Duration::from_millis(20);
    type Handler = Box<dyn Fn(&Got) -> Answer + Send + Sync>;
    let head = format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 1\r\n\r\na",
        "a".repeat(5000)
    );
    let cases: Vec<(&str, Handler, &[ErrorKind])> = vec![
        (
            "head",
            Box::new(move |_| Answer::raw(head.clone()).trickle(1, drops)),
            &[Timeout],
        ),
        (
            "body",
            Box::new(move |_| Answer::ok(vec![0; 5000]).trickle(1, drops)),
            &[Timeout],
        ),
        (
            "chunks",
            Box::new(move |_| Answer::ok(vec![0; 5000]).chunks_of(1).trickle(1, drops)),
            &[Timeout],
        ),
        (
            "token",
            Box::new(move |r| match r.path.as_str() {
                "/token" => {
                    Answer::ok(format!(r#"{{"token":"{}"}}"#, "a".repeat(5000))).trickle(1, drops)
                }
                _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            }),
            &[Timeout],
        ),
        // What an error says is read only as far as it comes.
        (
            "error",
            Box::new(move |_| Answer::new(404).body(vec![0; 5000]).trickle(1, drops)),
            &[Status],
        ),
        (
            "redirect",
            Box::new(move |r| match r.path.as_str() {
                "/slow" => Answer::ok(vec![0; 5000]).trickle(1, drops),
                _ => Answer::redirect(307, "/slow"),
            }),
            &[Timeout],
        ),
    ];
    for (what, handler, kinds) in cases {
        let home = Server::start(handler);
        let own = with(&[
            ("retries", 0),
            ("response-timeout-ms", 300),
            ("stall-timeout-ms", 300),
        ]);
        let began = std::time::Instant::now();
        let result = get(&transport(&attacks, &home.authority(), &user(), own), "./x");
        attacks.refused(what, result, kinds, "");
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{what}: {:?}",
            began.elapsed()
        );
    }
    // A proxy, and a handshake.
    let slow = Server::start(move |_| {
        Answer::raw(format!("HTTP/1.1 200 {}\r\n\r\n", "a".repeat(5000))).trickle(1, drops)
    });
    let mut own = with(&[("retries", 0), ("tls-timeout-ms", 300)]);
    own.set_text("proxy", &slow.url("")).unwrap();
    let result = get(
        &transport(&attacks, "registry.test:80", &user(), own),
        "./x",
    );
    attacks.refused("proxy", result, &[Timeout], "tls-timeout-ms");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        // The record layer of a server hello that never ends.
        let _ = stream.write_all(&[0x16, 3, 3, 0x3f, 0xff]);
        while stream.write_all(&[2]).is_ok() {
            std::thread::sleep(drops);
        }
    });
    let mut own = with(&[("retries", 0), ("tls-timeout-ms", 300)]);
    own.set_text("scheme", "https").unwrap();
    let result = get(&transport(&attacks, &address, &user(), own), "./x");
    attacks.refused("handshake", result, &[Timeout, Tls], "");
    thread.join().unwrap();
    attacks.end(8);
}

/// Names and digests that would lead out of the repository, or out of the folder.
#[test]
fn paths() {
    let mut attacks = Attacks::new("path");
    let home = Server::start(|_| Answer::ok("x"));
    let t = transport(&attacks, &home.authority(), &user(), options());
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("inner").join("blob");
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    let all = [Syntax, Argument];
    let hex = "0".repeat(64);
    for digest in [
        "../../etc/passwd",
        "sha256:../../../../etc/passwd",
        "sha256:..",
        "sha256:",
        "sha256:/etc/passwd",
        "sha256:%2e%2e%2f",
        "../sha256:0",
        "sha256:\0",
        "SHA256:0",
        "md5:00000000000000000000000000000000",
        "sha256/../x:0",
        &format!("sha256:{hex}/../../x"),
        &format!("sha256:{hex}?x"),
        &format!("sha256:{}", hex.replace('0', "A")),
        &format!("sha256:{}", hex.replace('0', "g")),
        &format!("sha256:{hex}0"),
        &format!("sha256:{hex} "),
        &format!("/sha256:{hex}"),
        "",
    ] {
        attacks.refused(digest, t.blob_save(digest, &target, None), &all, "");
        attacks.refused(digest, t.blob_get(digest, None), &all, "");
        attacks.refused(digest, t.blob_open(digest, None), &all, "");
        attacks.refused(digest, t.blob_stat(digest, None), &all, "");
        attacks.refused(
            digest,
            t.blob_put(Some(digest), &Source::bytes(*b"x"), None, None),
            &all,
            "",
        );
    }
    for tag in [
        "..",
        ".",
        "../x",
        "a/b",
        "a/../../c",
        "%2e%2e",
        "-x",
        "",
        "a b",
        &"a".repeat(129),
        "a?x=y",
        "a#b",
    ] {
        attacks.refused(tag, t.manifest_get(tag, None), &all, "");
        attacks.refused(tag, t.manifest_delete(tag, None), &all, "");
        attacks.refused(tag, t.manifest_put(tag, "a/b", b"{}", None), &all, "");
    }
    for path in [
        "./../c/d/tags/list",
        "./..",
        "/v2/../x",
        "/v2/a/%2e%2e/x",
        "/v2/a/%2E./x",
        "/v2/a\\..\\x",
        "./x%00",
        "x",
        "../x",
        "",
    ] {
        attacks.refused(path, get(&t, path), &all, "path");
    }
    for name in [
        "../../x",
        "a/../b",
        "a//b",
        "/a",
        "a/",
        ".a",
        "a/%2e%2e/b",
        "u:p@h/a",
        "h:99999/a",
        "h/a\n",
        "h/A",
        "h#x/a",
        "h?x/a",
        "h\\x/a",
        "[::1/a",
        "exämple.test/a",
    ] {
        let made = Transport::new(name, Actions::pull(), Some(&user()), None).and_then(|t| {
            // What is no name of a host is one of a repository.
            assert!(
                t.repository().is_some_and(|r| !r.as_str().contains("..")),
                "{name}"
            );
            Err(Error::new(Syntax, "a plain name"))
        });
        attacks.refused::<()>(name, made, &all, "");
        attacks.refused(
            name,
            t.blob_put(Some(&sha256(b"x")), &Source::bytes(*b"x"), Some(name), None),
            &all,
            "",
        );
    }
    assert_eq!(home.count(), 0, "nothing was sent");
    assert_eq!(
        std::fs::read_dir(folder.path().join("inner"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    attacks.end(160);
}

/// What lies at the target of a download, or where its partial file belongs.
#[test]
fn files() {
    let mut attacks = Attacks::new("file");
    let data = noise("file", 300_000);
    let digest = sha256(&data);
    let own = data.clone();
    let home = Server::start(move |r| match r.path.as_str() {
        "/v2/a/b/x" => Answer::ok(&own[..]),
        _ => support::registry::serve_bytes(r, &sha256(&own), &Arc::new(own.clone())),
    });
    let t = transport(&attacks, &home.authority(), &user(), options());
    let mark = digest[7..23].to_owned();
    let at_temporary = |folder: &Path| folder.join(format!(".blob.{mark}.part"));
    let at_target = |folder: &Path| folder.join("blob");
    type Place<'a> = &'a dyn Fn(&Path) -> std::path::PathBuf;
    let places: [(&str, Place<'_>); 2] = [("target", &at_target), ("temporary", &at_temporary)];
    for (where_, place) in places {
        for what in [
            "symlink to a file",
            "symlink to nothing",
            "symlink to a folder",
            "symlink to a device",
            "hard link",
            "FIFO",
            "directory",
            "full directory",
        ] {
            for saver in ["blob", "parallel", "response"] {
                let folder = tempfile::tempdir().unwrap();
                let outside = tempfile::tempdir().unwrap();
                let victim = outside.path().join("victim");
                std::fs::write(&victim, PASSWORD).unwrap();
                let here = place(folder.path());
                match what {
                    "symlink to a file" => symlink(&victim, &here).unwrap(),
                    "symlink to nothing" => symlink(outside.path().join("new"), &here).unwrap(),
                    "symlink to a folder" => symlink(outside.path(), &here).unwrap(),
                    "symlink to a device" => symlink("/dev/full", &here).unwrap(),
                    "hard link" => std::fs::hard_link(&victim, &here).unwrap(),
                    "FIFO" => assert!(
                        std::process::Command::new("mkfifo")
                            .arg(&here)
                            .status()
                            .unwrap()
                            .success()
                    ),
                    "directory" => std::fs::create_dir(&here).unwrap(),
                    _ => {
                        std::fs::create_dir(&here).unwrap();
                        std::fs::write(here.join("inner"), "x").unwrap();
                    }
                }
                let target = folder.path().join("blob");
                let result = match saver {
                    "blob" => t.blob_save(&digest, &target, None),
                    "parallel" => transport(
                        &attacks,
                        &home.authority(),
                        &user(),
                        with(&[("parallel", 4)]),
                    )
                    .blob_save(&digest, &target, None),
                    _ => t
                        .request(&Request::new(None, "./x"), None)
                        .and_then(|mut r| r.save(&target)),
                };
                let case = (where_, what, saver);
                let is_folder = what.ends_with("directory");
                // An answer is saved under a name that nobody knows before.
                let in_the_way = match (where_, saver) {
                    ("target", _) => is_folder || ["FIFO", "symlink to a device"].contains(&what),
                    (_, "response") => false,
                    _ => what != "hard link",
                };
                if in_the_way {
                    attacks.refused(case, result, &[Io], "blob");
                    assert!(!target.is_file(), "{case:?}");
                } else {
                    result.unwrap_or_else(|e| panic!("{case:?}: {e}"));
                    attacks.harmless(case, Ok(()));
                    let info = std::fs::symlink_metadata(&target).unwrap();
                    assert!(info.is_file() && info.nlink() == 1, "{case:?}");
                    assert!(std::fs::read(&target).unwrap() == data, "{case:?}");
                }
                // What was aimed at is as it was.
                assert_eq!(
                    std::fs::read_to_string(&victim).unwrap(),
                    PASSWORD,
                    "{case:?}"
                );
                assert_eq!(
                    std::fs::read_dir(outside.path()).unwrap().count(),
                    1,
                    "{case:?}"
                );
                // And nothing else is left behind.
                let left = std::fs::read_dir(folder.path()).unwrap().count();
                assert!(left <= 2, "{case:?}: {left} files");
            }
        }
    }
    // A partial file with other content, of other lengths, is not believed.
    for content in [
        vec![b'x'; 10],
        vec![b'x'; 300_000],
        vec![b'x'; 400_000],
        data[..299_999].to_vec(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(at_temporary(folder.path()), &content).unwrap();
        let target = folder.path().join("blob");
        t.blob_save(&digest, &target, None).unwrap();
        assert!(std::fs::read(&target).unwrap() == data);
        attacks.harmless(("partial", content.len()), Ok(()));
    }
    // Content that is not what its name says never gets to the target.
    let false_one = Server::start(|_| Answer::ok("something else"));
    let t = transport(&attacks, &false_one.authority(), &user(), options());
    let folder = tempfile::tempdir().unwrap();
    let saved = t.blob_save(&digest, &folder.path().join("blob"), None);
    attacks.refused("false content", saved, &[Digest], "digest");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    attacks.end(53);
}

/// A registry, a storage or a token service that sends back what it was sent: it is not shown.
#[test]
fn echoes() {
    let mut attacks = Attacks::new("echo");
    let echo = |r: &Got| {
        let sent = r.header("authorization").unwrap_or_default().to_owned();
        let body = String::from_utf8_lossy(&r.body).into_owned();
        format!("{sent} {body} {:?}", r.basic())
    };
    for path in [
        "json",
        "html",
        "reason",
        "challenge",
        "redirect",
        "type",
        "detail",
        "long",
        "path",
    ] {
        for status in [400, 401, 403, 404, 429, 500] {
            for creds in kinds_of_creds() {
                let home = Server::start(move |r| {
                    match (r.path.as_str(), r.header("authorization")) {
                        ("/token", _) => Answer::ok(format!(r#"{{"token":"{TOKEN}"}}"#)),
                        (_, None) => Answer::challenge(r#"Bearer realm="/token",service="s""#),
                        _ => {
                            let said = echo(r);
                            match path {
                                "json" => Answer::error(status, &said, &said),
                                "detail" => Answer::json(
                                    status,
                                    &serde_json::json!({"errors": [{"code": "X", "detail": {"sent": said}}]}),
                                ),
                                "html" => Answer::new(status).body(format!("<html>{said}")),
                                "long" => {
                                    let body = format!("{}{said}{said}", "x".repeat(480));
                                    Answer::new(status).body(body)
                                }
                                "path" => {
                                    let said = said.replace([' ', '"'], "");
                                    Answer::redirect(307, format!("/v2/z/{said}"))
                                }
                                "reason" => Answer::new(status).reason(&said),
                                "challenge" => Answer::new(status).header(
                                    "WWW-Authenticate",
                                    format!(
                                        "Bearer realm=\"/token\",service=\"s\",error=\"{}\"",
                                        said.replace('"', "")
                                    ),
                                ),
                                "redirect" => Answer::redirect(
                                    307,
                                    format!(
                                        "http://169.254.169.254/?{}",
                                        said.replace([' ', '"'], "")
                                    ),
                                ),
                                _ => Answer::new(status).header("Content-Type", said),
                            }
                        }
                    }
                });
                let own = with(&[("retries", 1)]);
                let t = transport(&attacks, &home.authority(), &creds, own);
                attacks.refused(
                    (path, status),
                    get(&t, "./x"),
                    &[Status, Auth, Protocol],
                    "",
                );
            }
        }
    }
    // The token service.
    for status in [200, 400, 401, 403, 500] {
        for creds in &kinds_of_creds()[..2] {
            let home = Server::start(move |r| match r.path.as_str() {
                "/token" => {
                    let said = echo(r);
                    Answer::json(
                        status,
                        &serde_json::json!({"error": said, "error_description": said}),
                    )
                }
                _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            });
            let t = transport(&attacks, &home.authority(), creds, with(&[("retries", 0)]));
            attacks.refused(("token", status), get(&t, "./x"), &[Auth], "token");
        }
    }
    attacks.end(170);
}

/// The suite itself would notice: a secret that is sent where it belongs is found there.
#[test]
fn canaries_are_found_where_they_belong() {
    let home = Server::start(|r| match r.header("authorization") {
        None => Answer::challenge("Basic realm=\"x\""),
        Some(_) => Answer::ok("x"),
    });
    let mut own = options();
    let lines = keep_log(&mut own);
    let name = format!("{}/a/b", home.authority());
    let t = Transport::new(&name, Actions::pull(), Some(&user()), Some(&own)).unwrap();
    get(&t, "./x").unwrap();
    let all: String = home.requests().iter().map(shown).collect();
    assert!(all.contains(BASIC), "{all}");
    assert!(lock(&lines).len() > 3);
    assert!(std::panic::catch_unwind(|| assert_clean("test", &all)).is_err());
}
