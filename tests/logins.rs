//! Logins at a real registry, Debian's docker-registry with tokens over TLS, by the files, helpers, proxies and
//! certificates that are there: where skopeo gets in with them, this library does, and where it does not, neither
//! does.

mod support;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use registry_transport::creds::Creds;
use registry_transport::error::ErrorKind;
use registry_transport::pages::Names;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};
use serde_json::json;

use support::client;
use support::login::Login;
use support::real::{DockerRegistry, Guarded, Nginx, Squid, TinyProxy, cert_dir, require};
use support::registry::{OCI_CONFIG, OCI_MANIFEST, noise, sha256};
use support::token::TokenServer;

fn users() -> TokenServer {
    TokenServer::new("registry")
        .user("demo", "pass", &["repository:demo/*:*"])
        .user("other", "pass", &["repository:other/*:*"])
}

/// Stores a small image.
fn seed(transport: &Transport, tag: &str) {
    let config = b"{}";
    let digest = sha256(config);
    transport
        .blob_put(Some(&digest), &Source::bytes(*config), None, None)
        .expect("a stored blob");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digest, "size": config.len()},
        "layers": [],
    });
    transport
        .manifest_put(tag, OCI_MANIFEST, manifest.to_string().as_bytes(), None)
        .expect("a stored manifest");
}

/// `auth` of an entry.
fn auth(password: &str) -> String {
    BASE64_STANDARD.encode(format!("demo:{password}"))
}

/// A file of entries: each a key and a password, or an entry as it is.
fn auths(entries: &[(&str, &str)]) -> String {
    let map: serde_json::Map<_, _> = entries
        .iter()
        .map(|(key, value)| {
            let entry = match serde_json::from_str(value) {
                Ok(entry) => entry,
                Err(_) => json!({"auth": auth(value)}),
            };
            ((*key).to_owned(), entry)
        })
        .collect();
    json!({ "auths": map }).to_string()
}

/// Logs in with the library and with skopeo, each in the same environment: both get in, or neither does. Without a
/// folder of certificates skopeo looks for them where the library does.
#[track_caller]
fn both(login: Login, repository: &str, certificates: &str, wanted: bool) -> String {
    require("skopeo", "skopeo");
    let image = format!("docker://{repository}");
    let mut arguments = vec!["--insecure-policy", "list-tags"];
    if !certificates.is_empty() {
        arguments.extend(["--cert-dir", certificates]);
    }
    arguments.push(&image);
    let skopeo = login.also("skopeo", &arguments);
    let said = String::from_utf8_lossy(&skopeo.stderr).into_owned();
    let outcome = login.run();
    let shown = format!("{}\n{}\nskopeo: {said}", outcome.line, outcome.log);
    assert_eq!(outcome.is_ok(), wanted, "the library: {shown}");
    assert_eq!(skopeo.status.success(), wanted, "skopeo: {shown}");
    if wanted {
        let tags = String::from_utf8_lossy(&skopeo.stdout).into_owned();
        assert!(
            tags.contains("\"v1\"") && outcome.line == "ok v1",
            "{shown}{tags}"
        );
    }
    shown
}

const DOCKER: &str = ".docker/config.json";
const PODMAN: &str = ".config/containers/auth.json";
const CONF: &str = ".config/containers/registries.conf";

/// The same `config.json` and `auth.json` for both, right and wrong.
#[test]
fn the_same_files_as_skopeo() {
    let guarded = Guarded::start(users());
    seed(&guarded.transport(Actions::push()), "v1");
    let here = guarded.registry.authority();
    let repository = format!("{here}/demo/app");
    let ca = guarded.ca.path().to_str().unwrap().to_owned();
    let certificates = cert_dir(&guarded.ca);
    let key = |form: &str| form.replace("HERE", &here);
    let one = |form: &str, password: &str| auths(&[(&key(form), password)]);
    let answers =
        |password: &str| format!(r#"printf '{{"Username":"demo","Secret":"{password}"}}'"#);
    let helped = |name: &str| json!({"credHelpers": {&here: name}}).to_string();
    let base = || {
        Login::new("podman", &repository)
            .option("scheme", "https")
            .option("ca-file", &ca)
    };
    let helpers = |names: &[&str]| format!("credential-helpers = {names:?}\n");
    let nothing = "echo credentials not found in native keychain; exit 1";
    let files = "containers-auth.json";
    let fine = guarded.token.refresh_token("demo");
    let identity = |token: &str| {
        let entry = json!({"auth": BASE64_STANDARD.encode("00000000-0000-0000-0000-000000000000:"), "identitytoken": token});
        auths(&[(&here, &entry.to_string())])
    };
    let table = [
        ("no file", base(), false),
        ("config.json", base().file(DOCKER, &one("HERE", "pass")), true),
        ("a wrong password in config.json", base().file(DOCKER, &one("HERE", "wrong")), false),
        ("an entry for another registry", base().file(DOCKER, &one("q.example", "pass")), false),
        ("an empty entry", base().file(DOCKER, &one("HERE", "{}")), false),
        ("an empty file", base().file(DOCKER, "{}"), false),
        ("no JSON", base().file(DOCKER, "{"), false),
        ("no base64", base().file(DOCKER, &one("HERE", r#"{"auth": "!"}"#)), false),
        ("auth.json", base().file(PODMAN, &one("HERE", "pass")), true),
        ("a wrong password in auth.json", base().file(PODMAN, &one("HERE", "wrong")), false),
        (
            "auth.json before config.json",
            base().file(PODMAN, &one("HERE", "pass")).file(DOCKER, &one("HERE", "wrong")),
            true,
        ),
        (
            "auth.json before config.json, the other way round",
            base().file(PODMAN, &one("HERE", "wrong")).file(DOCKER, &one("HERE", "pass")),
            false,
        ),
        (
            "config.json where auth.json has nothing",
            base().file(PODMAN, &one("q.example", "pass")).file(DOCKER, &one("HERE", "pass")),
            true,
        ),
        (
            "XDG_RUNTIME_DIR",
            base()
                .env("XDG_RUNTIME_DIR", "@/run")
                .file("run/containers/auth.json", &one("HERE", "pass"))
                .file(PODMAN, &one("HERE", "wrong")),
            true,
        ),
        (
            "XDG_CONFIG_HOME",
            base().env("XDG_CONFIG_HOME", "@/x").file("x/containers/auth.json", &one("HERE", "pass")),
            true,
        ),
        (
            "REGISTRY_AUTH_FILE",
            base().env("REGISTRY_AUTH_FILE", "@/mine").file("mine", &one("HERE", "pass")),
            true,
        ),
        ("a namespace", base().file(PODMAN, &one("HERE/demo", "pass")), true),
        ("a repository", base().file(PODMAN, &one("HERE/demo/app", "pass")), true),
        ("another namespace", base().file(PODMAN, &one("HERE/dem", "pass")), false),
        ("a longer name", base().file(PODMAN, &one("HERE/demo/app/deep", "pass")), false),
        (
            "a namespace before the registry",
            base().file(PODMAN, &auths(&[(&here, "wrong"), (&key("HERE/demo"), "pass")])),
            true,
        ),
        (
            "a namespace before the registry, the other way round",
            base().file(PODMAN, &auths(&[(&here, "pass"), (&key("HERE/demo"), "wrong")])),
            false,
        ),
        (
            "a repository before its namespace",
            base().file(PODMAN, &auths(&[(&key("HERE/demo"), "wrong"), (&key("HERE/demo/app"), "pass")])),
            true,
        ),
        ("https", base().file(DOCKER, &one("https://HERE", "pass")), true),
        ("http", base().file(DOCKER, &one("http://HERE", "pass")), true),
        ("v1", base().file(DOCKER, &one("https://HERE/v1/", "pass")), true),
        ("v2", base().file(DOCKER, &one("https://HERE/v2/", "pass")), true),
        ("another port", base().file(DOCKER, &one("127.0.0.1:1", "pass")), false),
        ("a helper", base().file(PODMAN, &helped("x")).helper("x", &answers("pass")), true),
        ("a helper with a wrong password", base().file(PODMAN, &helped("x")).helper("x", &answers("wrong")), false),
        ("a helper that fails", base().file(PODMAN, &helped("x")).helper("x", "exit 1"), false),
        ("a helper that is missing", base().file(PODMAN, &helped("x")), false),
        (
            "a helper that has nothing",
            base()
                .file(PODMAN, &helped("x"))
                .helper("x", nothing),
            false,
        ),
        (
            "a helper that has nothing, in a file that has",
            base()
                .file(
                    PODMAN,
                    &json!({"credHelpers": {&here: "x"}, "auths": {&here: {"auth": auth("wrong")}}}).to_string(),
                )
                .helper("x", &answers("pass")),
            true,
        ),
        (
            "a helper of registries.conf",
            base().file(CONF, &helpers(&["x"])).helper("x", &answers("pass")),
            true,
        ),
        (
            "a helper of registries.conf, before the files",
            base()
                .file(CONF, &helpers(&["x", files]))
                .file(PODMAN, &one("HERE", "pass"))
                .helper("x", &answers("wrong")),
            false,
        ),
        (
            "a helper of registries.conf, behind the files",
            base()
                .file(CONF, &helpers(&[files, "x"]))
                .file(PODMAN, &one("HERE", "pass"))
                .helper("x", &answers("wrong")),
            true,
        ),
        (
            "a helper of registries.conf in place of the files",
            base().file(CONF, &helpers(&["x"])).file(PODMAN, &one("HERE", "pass")).helper("x", nothing),
            false,
        ),
        (
            "a helper of registries.conf that has nothing",
            base()
                .file(CONF, &helpers(&["x", files]))
                .file(PODMAN, &one("HERE", "pass"))
                .helper("x", nothing),
            true,
        ),
        (
            "a helper of registries.conf that fails",
            base()
                .file(CONF, &helpers(&["x", files]))
                .file(PODMAN, &one("HERE", "pass"))
                .helper("x", "exit 1"),
            true,
        ),
        (
            "a helper of registries.conf and REGISTRY_AUTH_FILE",
            base()
                .env("REGISTRY_AUTH_FILE", "@/mine")
                .file("mine", &one("HERE", "wrong"))
                .file(CONF, &helpers(&["x", files]))
                .helper("x", &answers("pass")),
            true,
        ),
        (
            "no helper in registries.conf",
            base().file(CONF, &helpers(&[])).file(PODMAN, &one("HERE", "pass")),
            true,
        ),
        (
            "helpers of a file beside registries.conf",
            base()
                .file(CONF, &helpers(&["x"]))
                .file(".config/containers/registries.conf.d/1.conf", &helpers(&[files]))
                .file(PODMAN, &one("HERE", "pass"))
                .helper("x", &answers("wrong")),
            true,
        ),
        (
            "a registries.conf that is none",
            base().file(CONF, "credential-helpers = 1").file(PODMAN, &one("HERE", "pass")),
            false,
        ),
        ("an identity token", base().file(DOCKER, &identity(&fine)), true),
        (
            "an identity token of a helper",
            base().file(PODMAN, &helped("x")).helper(
                "x",
                &format!(r#"printf '{{"Username":"<token>","Secret":"{fine}"}}'"#),
            ),
            true,
        ),
        ("an identity token that was revoked", base().file(DOCKER, &identity("revoked")), false),
    ];
    for (name, login, wanted) in table {
        println!("{name}");
        guarded.tokens.clear();
        let shown = both(login, &repository, &certificates, wanted);
        let methods: Vec<_> = guarded
            .tokens
            .requests()
            .iter()
            .map(|r| r.method.clone())
            .collect();
        let wanted = if name.starts_with("an identity") {
            "POST"
        } else {
            "GET"
        };
        assert!(
            methods.iter().all(|m| m == wanted),
            "{name}: {methods:?}\n{shown}"
        );
        assert!(
            !shown.contains("pass") || shown.contains("password"),
            "{shown}"
        );
    }
    // A password by POST, where that is wanted.
    guarded.tokens.clear();
    let outcome = base()
        .file(DOCKER, &one("HERE", "pass"))
        .option("oauth2-password", "1")
        .run();
    assert_eq!(outcome.line, "ok v1", "{}", outcome.log);
    let last = guarded.token.exchanges().pop().unwrap();
    assert_eq!((last.method.as_str(), last.user.as_str()), ("POST", "demo"));
    // What skopeo does not know: the helper of all registries, and the user and password of an entry.
    for login in [
        Login::new("docker", &repository)
            .file(DOCKER, r#"{"credsStore": "x"}"#)
            .helper("x", &answers("pass")),
        Login::new("docker", &repository).file(
            DOCKER,
            &one("HERE", r#"{"username": "demo", "password": "pass"}"#),
        ),
        Login::new("docker", &repository).env_text("DOCKER_AUTH_CONFIG", &one("HERE", "pass")),
        Login::new("docker", &repository)
            .env("DOCKER_CONFIG", "@/d")
            .file("d/config.json", &one("HERE", "pass")),
    ] {
        let outcome = login.option("scheme", "https").option("ca-file", &ca).run();
        assert_eq!(outcome.line, "ok v1", "{}", outcome.log);
    }
}

/// A proxy in the environment, with its own user and password: the registry and its token service are reached
/// through it, by names that only it can resolve. Its 407 is answered with its own password alone.
#[test]
fn through_squid() {
    const NAME: &str = "registry.example";
    let guarded = Guarded::named(users(), NAME);
    let squid = Squid::start("proxyuser", "proxypass", &[NAME]);
    let port = guarded
        .registry
        .authority()
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    let here = format!("{NAME}:{port}");
    let tokens = format!("{NAME}:{}", guarded.tokens.address().port());
    let repository = format!("{here}/demo/app");
    let ca = guarded.ca.path().to_str().unwrap().to_owned();
    let certificates = cert_dir(&guarded.ca);
    let base = |password: &str, variable: &str, proxy: &str| {
        Login::new("podman", &repository)
            .option("ca-file", &ca)
            .option("retries", "0")
            .file(DOCKER, &auths(&[(&here, password)]))
            .env_text(variable, proxy)
    };
    let with = |user: &str| format!("http://{user}{}", squid.authority());
    let right = with("proxyuser:proxypass@");
    let mut options = guarded.options();
    options.set_text("proxy", &right).unwrap();
    let creds = Creds::basic("demo", "pass").unwrap();
    let pushing = Transport::new(&repository, Actions::push(), Some(&creds), Some(&options));
    seed(&pushing.unwrap(), "v1");
    for (password, proxy, wanted) in [
        ("pass", right.as_str(), true),
        ("wrong", &right, false),
        ("pass", &with("proxyuser:wrong@"), false),
        ("pass", &with(""), false),
    ] {
        for variable in ["HTTPS_PROXY", "https_proxy"] {
            let before = squid.requests().len();
            let shown = both(
                base(password, variable, proxy),
                &repository,
                &certificates,
                wanted,
            );
            let asked = || -> Vec<_> { squid.requests().drain(before..).collect() };
            if wanted {
                for host in [&here, &tokens] {
                    let line = format!("CONNECT {host} proxyuser 200");
                    // Once by each of the two; it tells of a tunnel when that ends.
                    let all = || asked().iter().filter(|l| **l == line).count() >= 2;
                    let end = Instant::now() + Duration::from_secs(10);
                    while !all() && Instant::now() < end {
                        std::thread::yield_now();
                    }
                    assert!(all(), "{:#?}{shown}", asked());
                }
            } else if proxy != right {
                // A tunnel is told of when it ends: one of before may be told of now.
                let asked = asked();
                let mut asked = asked.iter().filter(|l| !l.ends_with(" proxyuser 200"));
                assert!(asked.all(|l| l.ends_with(" 407")), "{shown}");
                assert!(shown.contains("proxy") && shown.contains("407"), "{shown}");
            }
            assert!(!shown.contains("proxypass"), "{shown}");
        }
    }
    // Not through it: there the name means nothing.
    let shown = both(
        base("pass", "HTTPS_PROXY", &right).env("NO_PROXY", ".example"),
        &repository,
        &certificates,
        false,
    );
    assert!(shown.contains(NAME), "{shown}");
}

/// The other proxy, named by an option; a pull and a push go through its tunnels.
#[test]
fn through_tinyproxy() {
    let guarded = Guarded::start(users());
    let proxy = TinyProxy::start("proxyuser", "proxypass");
    let creds = Creds::basic("demo", "pass").unwrap();
    let name = format!("{}/demo/app", guarded.registry.authority());
    for (user, wanted) in [
        ("proxyuser:proxypass@", true),
        ("proxyuser:wrong@", false),
        ("", false),
    ] {
        let mut options = guarded.options();
        options
            .set_text("proxy", &format!("http://{user}{}", proxy.authority()))
            .unwrap();
        options.set_number("retries", 0).unwrap();
        let transport =
            Transport::new(&name, Actions::push(), Some(&creds), Some(&options)).unwrap();
        let blob = noise(user, 100_000);
        let put = transport.blob_put(None, &Source::bytes(blob.clone()), None, None);
        if wanted {
            let digest = put.unwrap().digest().unwrap().to_string();
            let mut back = transport.blob_get(&digest, None).unwrap();
            assert_eq!(back.body().unwrap(), blob);
            for host in [guarded.registry.authority(), guarded.tokens.authority()] {
                assert!(
                    proxy.log().contains(&format!("CONNECT {host}")),
                    "{}",
                    proxy.log()
                );
            }
        } else {
            let error = put.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Network, "{error}");
            let text = format!("{error}");
            assert!(text.contains("proxy") && !text.contains("wrong"), "{text}");
        }
    }
}

/// nginx in front demands a client certificate: with it both get in, without it neither.
#[test]
fn with_a_client_certificate() {
    let guarded = Guarded::start(users());
    let realm = guarded.tokens.url("/token");
    let registry = DockerRegistry::token_as(None, &guarded.token, &realm);
    let front = Nginx::demanding(&guarded.ca, &registry.authority());
    let here = front.authority();
    let repository = format!("{here}/demo/app");
    let client = guarded.ca.client("demo");
    let stranger = support::pki::Ca::new().client("demo");
    let creds = Creds::basic("demo", "pass").unwrap();
    let options = |identity: Option<&support::pki::Identity>| {
        let mut options = guarded.options();
        options.set_number("retries", 0).unwrap();
        if let Some(identity) = identity {
            let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
            options
                .set_text("client-cert-file", &path(&identity.certificate_path))
                .unwrap();
            options
                .set_text("client-key-file", &path(&identity.key_path))
                .unwrap();
        }
        options
    };
    let pushing = Transport::new(
        &repository,
        Actions::push(),
        Some(&creds),
        Some(&options(Some(&client))),
    )
    .unwrap();
    seed(&pushing, "v1");
    let blob = noise("large", 3 << 20);
    let put = pushing
        .blob_put(None, &Source::bytes(blob.clone()), None, None)
        .unwrap();
    let digest = put.digest().unwrap().to_string();
    assert_eq!(
        pushing.blob_get(&digest, None).unwrap().body().unwrap(),
        blob
    );
    let base = cert_dir(&guarded.ca);
    for (identity, wanted) in [
        (Some(&client), true),
        (None, false),
        (Some(&stranger), false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::copy(format!("{base}/ca.crt"), at("ca.crt")).unwrap();
        let mut login = Login::new("podman", &repository)
            .option("scheme", "https")
            .option("ca-file", at("ca.crt").to_str().unwrap())
            .option("retries", "0")
            .file(DOCKER, &auths(&[(&here, "pass")]));
        if let Some(identity) = identity {
            std::fs::write(at("client.cert"), &identity.certificate_pem).unwrap();
            std::fs::write(at("client.key"), &identity.key_pem).unwrap();
            login = login
                .option("client-cert-file", at("client.cert").to_str().unwrap())
                .option("client-key-file", at("client.key").to_str().unwrap());
        }
        both(login, &repository, folder.path().to_str().unwrap(), wanted);
        let transport = Transport::new(
            &repository,
            Actions::pull(),
            Some(&creds),
            Some(&options(identity)),
        )
        .unwrap();
        let tags = Names::tags(&transport).next_name(None);
        assert_eq!(tags.is_ok(), wanted, "{tags:?}");
    }
}

/// `certs.d` in the home folder: whom to trust and what to show, for one host with its port.
#[test]
fn with_certs_d() {
    let guarded = Guarded::start(users());
    seed(&guarded.transport(Actions::push()), "v1");
    let here = guarded.registry.authority();
    // The same behind nginx, which wants a certificate.
    let behind = DockerRegistry::token_as(None, &guarded.token, &guarded.tokens.url("/token"));
    let front = Nginx::demanding(&guarded.ca, &behind.authority());
    let client = guarded.ca.client("demo");
    let mut options = guarded.options();
    for (key, path) in [
        ("client-cert-file", &client.certificate_path),
        ("client-key-file", &client.key_path),
    ] {
        options.set_text(key, path.to_str().unwrap()).unwrap();
    }
    let creds = Creds::basic("demo", "pass").unwrap();
    let fronted = format!("{}/demo/app", front.authority());
    seed(
        &Transport::new(&fronted, Actions::push(), Some(&creds), Some(&options)).unwrap(),
        "v1",
    );
    let stranger = support::pki::Ca::new();
    let (ca, other) = (guarded.ca.pem(), stranger.pem());
    let (certificate, key) = (&client.certificate_pem, &client.key_pem);
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);
    let plain: &[Row<'_>] = &[
        ("HOST", &[("any.crt", ca)], true),
        ("HOST", &[("a.crt", other), ("b.crt", ca)], true),
        ("HOST", &[], false),
        ("HOST", &[("any.crt", other)], false),
        ("HOST", &[("any.pem", ca)], false),
        ("127.0.0.1", &[("any.crt", ca)], false),
        ("127.0.0.1:1", &[("any.crt", ca)], false),
    ];
    let shown: &[Row<'_>] = &[
        (
            "HOST",
            &[("ca.crt", ca), ("c.cert", certificate), ("c.key", key)],
            true,
        ),
        ("HOST", &[("ca.crt", ca)], false),
        ("HOST", &[("ca.crt", ca), ("c.cert", certificate)], false),
        ("HOST", &[("ca.crt", ca), ("c.key", key)], false),
        ("HOST", &[("c.cert", certificate), ("c.key", key)], false),
    ];
    for (host, rows) in [(here, plain), (front.authority(), shown)] {
        for (folder, files, wanted) in rows {
            let mut login = Login::new("podman", &format!("{host}/demo/app"))
                .option("scheme", "https")
                .option("retries", "0")
                .file(DOCKER, &auths(&[(&host, "pass")]));
            let folder = folder.replace("HOST", &host);
            for (name, text) in *files {
                login = login.file(&format!(".config/containers/certs.d/{folder}/{name}"), text);
            }
            let names: Vec<_> = files.iter().map(|(name, _)| name).collect();
            println!("{folder} {names:?}");
            both(login, &format!("{host}/demo/app"), "", *wanted);
        }
    }
}

/// Mirrors of a `registries.conf`: the one that is gone is passed over, and so is one that does not have the image
/// or does not know the password, until the registry itself is asked. Each host gets its own password.
#[test]
fn through_mirrors() {
    let guarded = Guarded::start(users());
    seed(&guarded.transport(Actions::push()), "v1");
    let mirror = DockerRegistry::basic_tls(&guarded.ca, "reader", "mirrorpass");
    let (here, there) = (guarded.registry.authority(), mirror.authority());
    let reader = Creds::basic("reader", "mirrorpass").unwrap();
    let name = format!("{there}/copy/demo/app");
    seed(
        &Transport::new(
            &name,
            Actions::push(),
            Some(&reader),
            Some(&guarded.options()),
        )
        .unwrap(),
        "v1",
    );
    let pair = |user: &str, password: &str| {
        json!({"auth": BASE64_STANDARD.encode(format!("{user}:{password}"))}).to_string()
    };
    let dead = "127.0.0.1:1/copy";
    let full = format!("{there}/copy");
    let empty = format!("{there}/nothing");
    for (mirrors, own, its, wanted) in [
        (vec![dead, &full], "pass", "mirrorpass", Some(&there)),
        (vec![&full], "wrong", "mirrorpass", Some(&there)),
        (vec![dead, &empty], "pass", "mirrorpass", Some(&here)),
        (vec![dead, &full], "pass", "wrong", Some(&here)),
        (vec![&empty, &full], "pass", "mirrorpass", Some(&there)),
        (vec![dead], "pass", "mirrorpass", Some(&here)),
        (vec![dead, &full], "wrong", "wrong", None),
    ] {
        let shown = format!("{mirrors:?} {own} {its}");
        let conf: String = mirrors
            .iter()
            .map(|location| format!("[[registry.mirror]]\nlocation = \"{location}\"\n"))
            .collect();
        let conf = format!("[[registry]]\nlocation = \"{here}\"\n{conf}");
        let file = auths(&[(&here, &pair("demo", own)), (&there, &pair("reader", its))]);
        let mut login = Login::new("podman", "unused")
            .file("registries.conf", &conf)
            .file("auth.json", &file);
        for host in [&here, &there] {
            login = login.file(
                &format!(".config/containers/certs.d/{host}/ca.crt"),
                guarded.ca.pem(),
            );
        }
        let at = |name: &str| login.home().join(name).display().to_string();
        let target = format!("dir:{}", at("taken"));
        let image = format!("docker://{here}/demo/app:v1");
        let (conf, file) = (at("registries.conf"), at("auth.json"));
        let skopeo = login.also(
            "skopeo",
            &[
                "--insecure-policy",
                "--registries-conf",
                &conf,
                "copy",
                "--src-authfile",
                &file,
                &image,
                &target,
            ],
        );
        let said = String::from_utf8_lossy(&skopeo.stderr);
        assert_eq!(
            skopeo.status.success(),
            wanted.is_some(),
            "skopeo: {shown} {said}"
        );

        let mut options = client::with(&[("retries", 0)]);
        options.set_text("scheme", "https").unwrap();
        options.set_text("registries-conf", &conf).unwrap();
        options
            .set_text("certs-dir", &at(".config/containers/certs.d"))
            .unwrap();
        let log = client::keep_log(&mut options);
        let creds = Creds::podman(Some(file.into()));
        let name = format!("{here}/demo/app");
        let transport =
            Transport::new(&name, Actions::pull(), Some(&creds), Some(&options)).unwrap();
        let manifest = transport.manifest_get("v1", None);
        let shown = format!("{shown}: {manifest:?} {:#?}", support::server::lock(&log));
        match (wanted, manifest) {
            (Some(host), Ok(mut manifest)) => {
                assert_eq!(manifest.host(), host, "{shown}");
                let taken = std::fs::read(format!("{}/manifest.json", at("taken"))).unwrap();
                assert_eq!(manifest.body().unwrap(), taken, "{shown}");
                let blob = transport.blob_get(&sha256(b"{}"), None).unwrap();
                assert_eq!(blob.host(), host, "{shown}");
            }
            (None, Err(_)) => {}
            _ => panic!("{shown}"),
        }
    }
    // The same by containerd's file.
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().join(&here);
    std::fs::create_dir(&host).unwrap();
    let ca = guarded.ca.path().display();
    let text = format!(
        "server = \"https://{here}\"\nca = \"{ca}\"\n\
         [host.\"https://127.0.0.1:1\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
         [host.\"https://{there}/v2/copy\"]\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\nca = \"{ca}\"\n"
    );
    std::fs::write(host.join("hosts.toml"), text).unwrap();
    let file = folder.path().join("auth.json");
    let entries = auths(&[
        (&here, &pair("demo", "pass")),
        (&there, &pair("reader", "mirrorpass")),
    ]);
    std::fs::write(&file, entries).unwrap();
    let mut options = client::with(&[("retries", 0)]);
    options.set_text("scheme", "https").unwrap();
    options
        .set_text("hosts-dir", folder.path().to_str().unwrap())
        .unwrap();
    let creds = Creds::podman(Some(file));
    let name = format!("{here}/demo/app");
    let transport = Transport::new(&name, Actions::pull(), Some(&creds), Some(&options)).unwrap();
    assert_eq!(transport.manifest_get("v1", None).unwrap().host(), there);
    // The mirror goes away in between.
    drop(mirror);
    assert_eq!(transport.manifest_get("v1", None).unwrap().host(), here);
}
