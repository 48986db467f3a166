//! What a transport says of itself: which credentials, token service, hosts, proxy and certificates, why, and
//! nothing secret.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use registry_transport::creds::{Creds, CredsFn};
use registry_transport::error::ErrorKind;
use registry_transport::op::Op;
use registry_transport::options::Options;
use registry_transport::transport::{Actions, Transport};
use serde_json::{Value, json};
use support::client::{options as plain, with_texts};
use support::pki::Ca;
use support::registry::Registry;
use support::server::{Answer, Server};
use support::token::TokenServer;

/// In every secret of these tests.
const CANARY: &str = "canary";

/// The explanation as JSON and as text; neither holds a secret.
fn explain(transport: &Transport) -> (Value, String) {
    let told = transport.explain(None).unwrap();
    for form in [told.text(), told.json()] {
        assert!(!form.contains(CANARY), "{form}");
        // Basic credentials as they go into a header.
        assert!(!form.contains("Y2FuYXJ5"), "{form}");
    }
    (
        serde_json::from_str(told.json()).unwrap(),
        told.text().to_owned(),
    )
}

fn pulling(registry: &str, creds: Option<&Creds>, options: &Options) -> Transport {
    Transport::new(
        &format!("{registry}/a/b"),
        Actions::pull(),
        creds,
        Some(options),
    )
    .unwrap()
}

/// A line of the text, by its name.
fn line<'t>(text: &'t str, name: &str) -> &'t str {
    let found = text
        .lines()
        .find_map(|l| l.strip_prefix(&format!("  {name}")));
    found
        .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
        .trim()
}

/// Before the first request nothing is known of the registry's wishes, and nothing is sent to learn them; after a
/// ping they are told.
#[test]
fn before_and_after_a_ping() {
    let tokens = Arc::new(TokenServer::new("service").user(
        "canary-user",
        "canary-password",
        &["repository:a/b:pull"],
    ));
    let server = Registry::bearer(Arc::clone(&tokens)).start(None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let key = format!("https://{}/v2/", server.authority());
    std::fs::write(
        &file,
        json!({"auths": {&key: {"username": "canary-user", "password": "canary-password"}}})
            .to_string(),
    )
    .unwrap();
    let creds = Creds::docker(Some(folder.path().into()));
    let transport = pulling(&server.authority(), Some(&creds), &plain());

    let (told, text) = explain(&transport);
    assert_eq!(server.count(), 0, "{:?}", server.lines());
    assert_eq!(told["registry"], server.authority());
    assert_eq!(told["repository"], "a/b");
    assert_eq!(told["actions"], json!(["pull"]));
    let host = &told["hosts"][0];
    assert_eq!(told["hosts"].as_array().unwrap().len(), 1);
    assert_eq!(host["url"], server.url("/v2/"));
    assert_eq!(
        (&host["home"], &host["wants"]),
        (&json!(true), &Value::Null)
    );
    let source = format!("{} auths[\"{key}\"]", file.display());
    assert_eq!(
        host["credentials"],
        json!({
            "kind": "user and password",
            "source": source,
            "file": file.to_str().unwrap(),
            "variable": null,
            "key": format!("auths[\"{key}\"]"),
            "helper": null,
            "error": null,
        })
    );
    assert_eq!(
        host["proxy"],
        json!({"url": null, "because": "no option or variable names one"})
    );
    assert_eq!(host["tls"], Value::Null);
    assert_eq!(
        line(&text, "credentials"),
        format!("user and password: {source}")
    );
    assert_eq!(line(&text, "wants"), "nothing that is known yet");

    transport.ping(None).unwrap();
    let (told, text) = explain(&transport);
    let wants = &told["hosts"][0]["wants"];
    assert_eq!(wants["scheme"], "Bearer");
    assert_eq!(wants["realm"], server.url("/token"));
    assert_eq!(wants["service"], "service");
    assert_eq!(wants["scopes"], json!(["repository:a/b:pull"]));
    assert_eq!(line(&text, "token from"), server.url("/token"));
    assert_eq!(line(&text, "- service"), "service");
    assert_eq!(line(&text, "- scopes"), "repository:a/b:pull");
    assert_eq!(
        server.count(),
        2,
        "a ping and a token: {:?}",
        server.lines()
    );
}

/// Where credentials come from, or why there are none.
#[test]
fn sources() {
    let secret = "canary-secret";
    let name = "r.example";
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file);
    let store = |file: &str, text: &str| {
        std::fs::write(path(file), text).unwrap();
        Creds::podman(Some(path(file)))
    };
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let ask: Arc<CredsFn> = Arc::new(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Creds::basic("u", secret)
    });
    let fail: Arc<CredsFn> = Arc::new(|_, _| {
        Err(registry_transport::error::Error::new(
            ErrorKind::Auth,
            "the vault is closed",
        ))
    });
    let file = |name: &str| path(name).display().to_string();
    for (what, creds, kind, source, error) in [
        (
            "none",
            None,
            "no credentials",
            "none were given for this host".to_owned(),
            None,
        ),
        (
            "password",
            Some(Creds::basic("u", secret).unwrap()),
            "user and password",
            "the program".to_owned(),
            None,
        ),
        (
            "token",
            Some(Creds::bearer(secret).unwrap()),
            "a registry token",
            "the program".to_owned(),
            None,
        ),
        (
            "refresh token",
            Some(Creds::refresh(secret).unwrap()),
            "a refresh token",
            "the program".to_owned(),
            None,
        ),
        (
            "callback",
            Some(Creds::callback(ask)),
            "user and password",
            "the credentials callback".to_owned(),
            None,
        ),
        (
            "longest path",
            Some(store(
                "paths.json",
                r#"{"auths":{"r.example":{"auth":"dTpj"},"r.example/a":{"identitytoken":"canary-secret","auth":"dTpj"}}}"#,
            )),
            "a refresh token",
            format!("{} auths[\"r.example/a\"]", file("paths.json")),
            None,
        ),
        (
            "nothing in the file",
            Some(store(
                "other.json",
                r#"{"auths":{"x.example":{"auth":"dTpj"}}}"#,
            )),
            "no credentials",
            format!("{} has nothing for r.example", file("other.json")),
            None,
        ),
        (
            "no file",
            Some(Creds::podman(Some(path("missing.json")))),
            "no credentials",
            format!("no file {}", file("missing.json")),
            None,
        ),
        (
            "a broken file",
            Some(store("broken.json", r#"{"auths":"canary"#)),
            "unknown",
            String::new(),
            Some("broken.json"),
        ),
        (
            "a helper that is not there",
            Some(store(
                "helper.json",
                r#"{"credHelpers":{"r.example":"no-such-helper"}}"#,
            )),
            "unknown",
            String::new(),
            Some("credHelpers[\"r.example\"]"),
        ),
        (
            "a callback that fails",
            Some(Creds::callback(fail)),
            "unknown",
            String::new(),
            Some("the vault is closed"),
        ),
    ] {
        let transport = pulling(name, creds.as_ref(), &plain());
        let (told, text) = explain(&transport);
        let told = &told["hosts"][0]["credentials"];
        assert_eq!(told["kind"], kind, "{what}: {told}");
        assert_eq!(told["source"], source, "{what}");
        match error {
            None => assert_eq!(told["error"], Value::Null, "{what}"),
            Some(words) => assert!(
                told["error"].as_str().unwrap().contains(words)
                    && line(&text, "credentials").contains(words),
                "{what}: {told}"
            ),
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// What was looked up to be told is used for the request: no source is asked twice.
#[test]
fn looked_up_once() {
    let server = Server::start(|r| match r.basic() {
        Some((_, password)) if password == "canary-right" => Answer::ok("fine"),
        _ => Answer::challenge("Basic realm=\"x\""),
    });
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let ask: Arc<CredsFn> = Arc::new(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Creds::basic("u", "canary-right")
    });
    let creds = Creds::callback(ask);
    let transport = pulling(&server.authority(), Some(&creds), &plain());
    explain(&transport);
    transport.ping(None).unwrap();
    let (told, text) = explain(&transport);
    assert_eq!(told["hosts"][0]["wants"], json!({"scheme": "Basic"}));
    assert_eq!(line(&text, "wants"), "user and password (Basic)");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// Credentials that were refused and dropped.
#[test]
fn anonymous_fallback() {
    let server = Server::start(|r| match r.path.as_str() {
        "/token" if r.basic().is_some() => Answer::error(401, "UNAUTHORIZED", "no"),
        "/token" => Answer::ok(r#"{"token":"canary-token"}"#),
        _ if r.bearer().is_some() => Answer::ok("fine"),
        _ => Answer::challenge("Bearer realm=\"/token?key=canary\""),
    });
    let mut options = plain();
    options.set_number("anonymous-fallback", 1).unwrap();
    let creds = Creds::basic("u", "canary-password").unwrap();
    let transport = pulling(&server.authority(), Some(&creds), &options);
    support::client::get(&transport, "./x").unwrap();
    let (told, text) = explain(&transport);
    let host = &told["hosts"][0];
    assert_eq!(host["credentials"]["kind"], "no credentials");
    assert!(
        line(&text, "credentials").contains("anonymous-fallback"),
        "{text}"
    );
    assert_eq!(host["wants"]["service"], Value::Null);
    assert_eq!(
        host["wants"]["realm"],
        server.url("/token"),
        "without its query"
    );
}

/// Which proxy, and why, for the registry and for its token service.
#[test]
fn proxies() {
    for (settings, url, because) in [
        (vec![], None, "no option or variable names one"),
        (vec![("proxy", "")], None, "option proxy"),
        (
            vec![("proxy", "http://u:canary@p.example:3128")],
            Some("http://p.example:3128"),
            "option proxy",
        ),
        (
            vec![("proxy", "socks5://p.example")],
            Some("socks5://p.example:1080"),
            "option proxy",
        ),
        (
            vec![("proxy", "http://p.example:3128"), ("no-proxy", ".example")],
            None,
            "option no-proxy names the host",
        ),
    ] {
        let transport = pulling("r.example", None, &with_texts(&settings));
        let (told, text) = explain(&transport);
        assert_eq!(
            told["hosts"][0]["proxy"],
            json!({"url": url, "because": because}),
            "{settings:?}"
        );
        assert_eq!(
            line(&text, "proxy"),
            format!("{}: {because}", url.unwrap_or("none"))
        );
    }
}

/// The same from the environment, in a process that has one.
#[test]
fn proxies_of_the_environment() {
    const INSIDE: &str = "TEST_EXPLAIN_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let mut options = Options::new();
        options.set_text("certs-dir", "").unwrap();
        let told = pulling("r.example", Some(&Creds::docker(None)), &options)
            .explain(None)
            .unwrap();
        println!("\n{}", told.json());
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "proxies_of_the_environment", "--nocapture"])
        .env_clear()
        .env(INSIDE, "1")
        .env("HTTPS_PROXY", "http://u:canary@p.example:3128")
        .env("SSL_CERT_FILE", "/somewhere/ca.pem")
        .env(
            "DOCKER_AUTH_CONFIG",
            r#"{"auths":{"r.example":{"auth":"dTpjYW5hcnk="}}}"#,
        )
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains(CANARY), "{text}");
    let json = text.lines().find(|l| l.starts_with('{')).unwrap();
    let told: Value = serde_json::from_str(json).unwrap();
    let host = &told["hosts"][0];
    assert_eq!(
        host["proxy"],
        json!({"url": "http://p.example:3128", "because": "HTTPS_PROXY"})
    );
    assert_eq!(host["tls"]["store"], "SSL_CERT_FILE=/somewhere/ca.pem");
    assert_eq!(host["credentials"]["variable"], "DOCKER_AUTH_CONFIG");
    assert_eq!(host["credentials"]["key"], "auths[\"r.example\"]");
    assert_eq!(host["credentials"]["file"], Value::Null);
}

/// What is trusted and shown, from options and folders.
#[test]
fn certificates() {
    let ca = Ca::new();
    let shown = ca.client("puller");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("r.example");
    std::fs::create_dir(&own).unwrap();
    std::fs::copy(ca.path(), own.join("own.crt")).unwrap();
    std::fs::copy(&shown.certificate_path, own.join("me.cert")).unwrap();
    std::fs::copy(&shown.key_path, own.join("me.key")).unwrap();
    let dir = folder.path().to_str().unwrap();
    let option_ca = ca.path().to_str().unwrap();
    let at = |file: &str| own.join(file).to_str().unwrap().to_owned();
    let store = "the system's trust store";
    for (settings, want) in [
        (
            vec![("certs-dir", "")],
            json!({"verified": true, "store": store, "ca_files": [], "ca_pem": false,
                "client_certificate": null, "client_key": null, "min_version": "1.2", "error": null}),
        ),
        (
            vec![
                ("certs-dir", dir),
                ("ca-file", option_ca),
                ("ca-pem", ca.pem()),
                ("tls-min-version", "1.3"),
            ],
            json!({"verified": true, "store": store, "ca_files": [option_ca, at("own.crt")], "ca_pem": true,
                "client_certificate": at("me.cert"), "client_key": at("me.key"), "min_version": "1.3", "error": null}),
        ),
    ] {
        let transport = pulling("r.example", None, &with_texts(&settings));
        let (told, text) = explain(&transport);
        assert_eq!(told["hosts"][0]["tls"], want, "{text}");
    }
    std::fs::remove_file(own.join("me.key")).unwrap();
    let (told, text) = explain(&pulling(
        "r.example",
        None,
        &with_texts(&[("certs-dir", dir)]),
    ));
    let error = told["hosts"][0]["tls"]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("me.key"), "{error}");
    assert!(line(&text, "trusted").contains("me.key"), "{text}");

    let mut insecure = with_texts(&[("certs-dir", "")]);
    insecure.set_number("insecure", 1).unwrap();
    let (told, text) = explain(&pulling("r.example", None, &insecure));
    assert_eq!(told["hosts"][0]["tls"]["verified"], false);
    assert!(
        line(&text, "trusted").contains("nothing is checked"),
        "{text}"
    );
    let (_, text) = explain(&pulling("localhost:5000", None, &plain()));
    assert!(line(&text, "trusted").contains("plain http"), "{text}");
}

/// Several hosts, in their order, with what they are asked for and with.
#[test]
fn hosts() {
    let dead = Server::start(|_| Answer::hang_up());
    let home = Registry::open().start(None);
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(home.authority());
    std::fs::create_dir(&own).unwrap();
    let file = own.join("hosts.toml");
    std::fs::write(
        &file,
        format!(
            "[host.\"{}\"]\ncapabilities = [\"pull\"]\n[host.\"{}\".header]\nx-key = \"canary\"\n",
            dead.url(""),
            dead.url("")
        ),
    )
    .unwrap();
    let options = with_texts(&[("hosts-dir", folder.path().to_str().unwrap())]);
    let creds = Creds::basic("u", "canary-password").unwrap();
    let transport = pulling(&home.authority(), Some(&creds), &options);
    let (told, text) = explain(&transport);
    let (mirror, last) = (&told["hosts"][0], &told["hosts"][1]);
    assert_eq!(mirror["host"], dead.authority());
    assert_eq!(
        mirror["because"],
        format!("{}, host {}", file.display(), dead.url("/"))
    );
    assert_eq!(mirror["serves"], json!(["manifests by digest", "blobs"]));
    assert_eq!(mirror["namespace"], home.authority());
    assert_eq!(mirror["headers"], json!(["x-key"]));
    assert_eq!(
        (&mirror["home"], &last["home"], &mirror["failed_lately"]),
        (&json!(false), &json!(true), &json!(false))
    );
    assert_eq!(
        mirror["credentials"]["source"],
        "none were given for this host"
    );
    assert_eq!(last["credentials"]["source"], "the program");
    assert!(
        text.contains("host 1 of 2: ") && text.contains("host 2 of 2: "),
        "{text}"
    );

    transport
        .blob_stat(&support::registry::sha256(b"x"), None)
        .unwrap();
    let (told, text) = explain(&transport);
    assert_eq!(told["hosts"][0]["failed_lately"], true);
    assert!(
        line(&text, "asked for").contains("failed a short while ago"),
        "{text}"
    );
}

/// A registry that need not have TLS: which of the two it speaks is told once it is known.
#[test]
fn either_scheme() {
    let home = Registry::open().start(None);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        format!(
            "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
            home.authority()
        ),
    )
    .unwrap();
    let options = with_texts(&[("registries-conf", file.path().to_str().unwrap())]);
    let transport = pulling(&home.authority(), None, &options);
    let (told, _) = explain(&transport);
    let host = &told["hosts"][0];
    assert_eq!(host["url"], format!("https://{}/v2/", home.authority()));
    assert_eq!(host["or_url"], home.url("/v2/"));
    transport.ping(None).unwrap();
    let (told, _) = explain(&transport);
    let host = &told["hosts"][0];
    assert_eq!(
        (&host["url"], &host["or_url"]),
        (&json!(home.url("/v2/")), &Value::Null)
    );
}

/// A call like any other: cancelled when its op is.
#[test]
fn cancelled() {
    let op = Op::new();
    op.cancel();
    let error = pulling("r.example", None, &plain())
        .explain(Some(&op))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
