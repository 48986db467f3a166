//! Nothing secret comes out. A canary sits in each secret there is: passwords, tokens, what helpers say, the keys of
//! certificates, signed URLs, cookies. Every line of the log, every error, every `Debug` and every list of arguments
//! of a child is searched for all of them, in the forms they take on the wire.

#[path = "support/resolver.rs"]
mod resolver;
mod support;

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use registry_transport::creds::env::Env;
use registry_transport::creds::{Creds, docker, podman};
use registry_transport::error::Error;
use registry_transport::log::Level;
use registry_transport::op::Op;
use registry_transport::options::Options;
use registry_transport::pages::{Names, Pages};
use registry_transport::referrers::Referrers;
use registry_transport::request::Request;
use registry_transport::secret::Secret;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};
use serde_json::json;
use support::client;
use support::login::Login;
use support::pki::Ca;
use support::proxy::{Proxy, ProxySettings};
use support::registry::{noise, sha256};
use support::server::{Answer, Request as Got, Server, lock};
use support::socks::{Socks, SocksSettings};

const PASSWORD: &str = "cnry-password";
const ACCESS: &str = "cnry-access";
const REFRESH: &str = "cnry-refresh";
const ROTATED: &str = "cnry-rotated";
const BEARER: &str = "cnry-bearer";
const SIGNATURE: &str = "cnry-signature";
const STATE: &str = "cnry-state";
const COOKIE: &str = "cnry-cookie";
const HELPER: &str = "cnry-helper";
const STDERR: &str = "cnry-stderr";
const PROXY: &str = "cnry-proxy";
const BROKEN: &str = "cnry-broken";

/// All that must not be seen: what begins with `cnry`, and the pairs that hold it, encoded.
fn canaries() -> Vec<String> {
    let mut all = vec!["cnry".to_owned()];
    for (user, secret) in [
        ("user", PASSWORD),
        ("<token>", REFRESH),
        ("<token>", ROTATED),
        ("helped", HELPER),
        ("through", PROXY),
    ] {
        let pair = format!("{user}:{secret}");
        // Without the last letters, which padding may change.
        for coded in [
            BASE64_STANDARD.encode(&pair),
            BASE64_URL_SAFE_NO_PAD.encode(&pair),
        ] {
            all.push(coded[..coded.len() - 4].to_owned());
        }
    }
    // Wherever it stands in an encoded text.
    for before in ["", "x", "xx"] {
        let coded = BASE64_STANDARD.encode(format!("{before}cnry-"));
        all.push(coded[before.len() * 4 / 3 + 1..before.len() * 4 / 3 + 5].to_owned());
    }
    all
}

/// What came out, and where.
#[derive(Default, Clone)]
struct Heap(Arc<Mutex<Vec<(String, String)>>>);

impl Heap {
    fn add(&self, place: &str, text: impl Into<String>) {
        lock(&self.0).push((place.to_owned(), text.into()));
    }

    /// An error by all its accessors.
    fn error(&self, place: &str, e: &Error) {
        self.add(
            place,
            format!("{e} {e:?} {:?} {}", e.diagnostics(), e.message()),
        );
    }

    fn result<T>(&self, place: &str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                self.error(place, &e);
                None
            }
        }
    }

    fn log(&self, options: &mut Options, place: &str) {
        let (own, place) = (self.clone(), format!("log of {place}"));
        options.set_log(
            Level::Debug,
            Arc::new(move |_, line: &str| own.add(&place, line)),
        );
    }

    /// Searches everything, and expects at least so many texts.
    #[track_caller]
    fn search(&self, least: usize) {
        let all = lock(&self.0);
        let canaries = canaries();
        for (place, text) in all.iter() {
            for canary in &canaries {
                assert!(
                    !text.contains(canary.as_str()),
                    "{canary} in {place}: {text}"
                );
            }
        }
        assert!(all.len() >= least, "only {} texts", all.len());
    }
}

/// The search itself finds what it looks for.
#[test]
fn the_search_works() {
    for text in [
        format!(
            "Authorization: Basic {}",
            BASE64_STANDARD.encode(format!("user:{PASSWORD}"))
        ),
        format!("x {PASSWORD} y"),
        BASE64_STANDARD.encode(format!("someone:{ACCESS}")),
        BASE64_STANDARD.encode(format!("any1:{ACCESS}")),
        BASE64_STANDARD.encode(format!("one:{ACCESS}")),
    ] {
        let heap = Heap::default();
        heap.add("here", text.clone());
        let found = std::panic::catch_unwind(|| heap.search(1));
        assert!(found.is_err(), "{text}");
    }
}

/// How a registry behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// All is well, with tokens.
    Fine,
    /// All is well, with passwords.
    Basic,
    /// No token: this status.
    NoToken(u16),
    /// An answer of the token service that is none.
    OddToken(&'static str),
    /// A refusal of the token service that may be none.
    OddRefusal(u16, &'static str),
    /// The token service breaks the connection.
    Broken,
    /// No token and no password is right.
    Never(u16),
    /// Answers like this after the right token.
    After(u16),
    /// Tells in its errors what it was sent, as it is and decoded; the token service does.
    TokenEchoes,
    /// The registry does, with this status.
    Echoes(u16),
    /// It has the credentials of a request in a place that is not there for words.
    Quotes(&'static str),
}

/// The places for [`Mood::Quotes`], and what comes of it at the end of a redirect.
const PLACES: [&str; 19] = [
    "redirect 404",
    "redirect hang-up",
    "redirect garbage",
    "redirect loop",
    "redirect cut",
    "redirect type",
    "redirect framing",
    "redirect digest",
    "host",
    "port",
    "closed",
    "link",
    "link elsewhere",
    "upload",
    "upload range",
    "type",
    "range",
    "manifest",
    "challenge",
];

/// An answer that has what a request was authenticated with in such a place.
fn quote(q: &Got, place: &str) -> Answer {
    use support::registry::OCI_MANIFEST;
    let sent = match (q.bearer(), q.basic()) {
        (Some(token), _) => token.to_owned(),
        (None, Some((_, password))) => password,
        (None, None) => "nothing".to_owned(),
    };
    let there = format!("/v2/z/{sent}/x");
    let is_there = q.path.starts_with("/v2/z/");
    let fine = || Answer::ok("{}").header("Content-Type", OCI_MANIFEST);
    if place.starts_with("redirect") && !is_there {
        return Answer::redirect(307, there);
    }
    match (place, q.method.as_str()) {
        ("redirect 404", _) => Answer::new(404),
        ("redirect hang-up", _) => Answer::hang_up(),
        ("redirect garbage", _) => Answer::raw("garbage\r\n\r\n"),
        ("redirect loop", _) => Answer::redirect(307, format!("{there}/{}", q.path.len())),
        ("redirect cut", "GET") => fine().body(vec![b' '; 100]).cut_after(10),
        ("redirect type", "GET") => fine().header("Content-Type", "text/html"),
        ("redirect framing", _) => Answer::raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("redirect digest", _) => fine().header("Docker-Content-Digest", "sha256:00"),
        // The resolver of this test knows no such name.
        ("host", _) => Answer::redirect(307, format!("http://{sent}.test/")),
        ("port", _) => Answer::redirect(307, format!("http://127.0.0.1:{sent}/")),
        ("closed", _) => Answer::redirect(307, format!("http://127.0.0.1:1{there}")),
        ("link", _) if is_there => Answer::hang_up(),
        ("link", "GET") => Answer::ok(format!(r#"{{"tags":["no tag: {sent}"]}}"#))
            .header("Link", format!("<{there}?sig={SIGNATURE}>; rel=next")),
        ("link elsewhere", "GET") => {
            Answer::ok("{}").header("Link", format!("<http://{sent}.test/>; rel=next"))
        }
        ("upload", "POST") => Answer::new(202).header("Location", there),
        ("upload", "PATCH" | "PUT" | "DELETE") => Answer::hang_up(),
        ("upload range", "POST") => Answer::new(202).header("Location", there),
        ("upload range", "PATCH" | "GET") => Answer::new(202)
            .header("Location", there)
            .header("Range", sent),
        ("challenge", _) => Answer::challenge(format!(
            r#"Bearer realm="/t/{sent}",service="{sent}",error="{sent}""#
        )),
        ("type", _) => Answer::ok("{}").header("Content-Type", format!("x/{sent}")),
        ("range", "HEAD") => fine(),
        ("range", "GET") => Answer::new(206)
            .header("Content-Range", format!("bytes {sent}"))
            .body("{}"),
        ("manifest", "GET") => fine().body(format!(r#"{{"mediaType":"x/{sent}"}}"#)),
        _ => Answer::new(404),
    }
}

/// An error that quotes the credentials of a request in every place there is for words.
fn echo(q: &Got, status: u16) -> Answer {
    let mut said = vec![q.header("authorization").unwrap_or_default().to_owned()];
    said.extend(
        q.basic()
            .map(|(user, password)| format!("{user}:{password} {password}")),
    );
    said.extend(q.bearer().map(str::to_owned));
    said.push(String::from_utf8_lossy(&q.body).into_owned());
    said.extend(
        q.form()
            .into_iter()
            .map(|(name, value)| format!("{name} is {value}")),
    );
    said.extend(q.header("cookie").map(str::to_owned));
    let said = said.join(" | ");
    Answer::json(
        status,
        &json!({"errors": [{"code": "DENIED", "message": said, "detail": {"sent": said}}]}),
    )
    .header("X-Said", &said)
}

fn registry(
    mood: Mood,
    storage: &str,
    blob: &[u8],
) -> impl Fn(&Got) -> Answer + Send + Sync + 'static {
    let (storage, digest) = (storage.to_owned(), sha256(blob));
    move |q: &Got| {
        if q.path == "/token" {
            return match mood {
                Mood::NoToken(status) => Answer::new(status),
                Mood::OddToken(body) => Answer::ok(body),
                Mood::OddRefusal(status, body) => Answer::new(status).body(body),
                Mood::TokenEchoes => echo(q, 401),
                Mood::Broken => Answer::ok(format!(r#"{{"token":"{ACCESS}"}}"#)).cut_after(12),
                _ => Answer::ok(format!(
                    r#"{{"token":"{ACCESS}","refresh_token":"{ROTATED}"}}"#
                )),
            };
        }
        let known = match mood {
            Mood::Never(_) => false,
            Mood::Basic => q.basic().is_some() || q.bearer() == Some(BEARER),
            _ => matches!(q.bearer(), Some(ACCESS | BEARER)),
        };
        if !known {
            return match mood {
                Mood::Never(status @ 402..) => Answer::error(status, "DENIED", "no"),
                Mood::Basic => Answer::challenge("Basic realm=\"r\""),
                _ => Answer::challenge(format!(
                    r#"Bearer realm="/token?secret={SIGNATURE}",service="s",scope="repository:a/b:pull""#
                )),
            };
        }
        if let Mood::Echoes(status) = mood {
            return echo(q, status);
        }
        if let Mood::Quotes(place) = mood {
            return quote(q, place);
        }
        if let Mood::After(status) = mood {
            return Answer::error(status, "UNKNOWN", "no").header("Set-Cookie", COOKIE);
        }
        let signed = |path: &str| format!("{storage}{path}?X-Signature={SIGNATURE}");
        match (q.method.as_str(), q.path.as_str()) {
            (_, "/v2/") => Answer::ok("{}"),
            ("GET", "/v2/a/b/tags/list") => Answer::ok(r#"{"tags":["v1"]}"#).header(
                "Link",
                format!("<http://127.0.0.1:9/v2/?sig={SIGNATURE}>; rel=\"next\""),
            ),
            ("GET", "/v2/a/b/manifests/odd") => {
                Answer::ok("{}").header("Docker-Content-Digest", "sha256:00")
            }
            ("GET", "/v2/a/b/manifests/cut") => Answer::ok("{\"a\": 1}").cut_after(3),
            ("GET" | "HEAD", "/v2/a/b/manifests/v1") => {
                Answer::ok("{}").header("Content-Type", "application/json")
            }
            ("PUT", p) if p.contains("/manifests/") => Answer::error(400, "MANIFEST_INVALID", "no"),
            ("GET", p) if p.ends_with(&digest) => Answer::redirect(307, signed("/data")),
            ("GET", "/v2/a/b/refused") => Answer::redirect(307, signed("/refused")),
            ("GET", "/v2/a/b/cut") => Answer::redirect(307, signed("/cut")),
            ("GET", "/v2/a/b/private") => {
                Answer::redirect(307, format!("http://169.254.169.254/?s={SIGNATURE}"))
            }
            ("GET", "/v2/a/b/script") => Answer::redirect(307, format!("javascript:{SIGNATURE}")),
            ("GET", "/v2/a/b/user") => {
                Answer::redirect(307, format!("http://u:{SIGNATURE}@127.0.0.1/"))
            }
            ("GET", "/v2/a/b/malformed") => {
                Answer::redirect(307, format!("http://[::1/?s={SIGNATURE}"))
            }
            ("GET", "/v2/a/b/space") => {
                Answer::redirect(307, format!("http://127.0.0.1:1/a b?s={SIGNATURE}"))
            }
            ("GET", "/v2/a/b/loop") => Answer::redirect(307, format!("/v2/a/b/loop?s={SIGNATURE}")),
            ("GET", "/v2/a/b/closed") => {
                Answer::redirect(307, format!("http://127.0.0.1:1/x?s={SIGNATURE}"))
            }
            ("GET", "/v2/a/b/hang-up") => Answer::hang_up(),
            ("GET", "/v2/a/b/garbage") => Answer::raw(format!(
                "HTTP/1.1 200 OK\r\nSet-Cookie: {COOKIE}\r\nbroken\r\n\r\n"
            )),
            ("GET", p) if p.contains("/referrers/") => Answer::new(404),
            ("POST", p) if p.contains("/blobs/uploads/") && q.query.contains("mount") => {
                Answer::new(202).header("Location", format!("http://[::1/{STATE}"))
            }
            ("POST", _) => Answer::new(202).header(
                "Location",
                format!("/v2/a/b/blobs/uploads/1?_state={STATE}"),
            ),
            ("PATCH", _) => Answer::new(202)
                .header(
                    "Location",
                    format!("/v2/a/b/blobs/uploads/2?_state={STATE}"),
                )
                .header("Range", "0-99999"),
            ("PUT", _) => Answer::error(500, "UNKNOWN", "no"),
            ("DELETE", _) => Answer::error(403, "DENIED", "no"),
            ("HEAD", _) => Answer::new(404),
            _ => Answer::ok("fine"),
        }
    }
}

fn explained(heap: &Heap, place: &str, transport: &Transport) {
    if let Some(all) = heap.result(place, transport.explain(None)) {
        heap.add(place, all.text());
        heap.add(place, all.json());
        heap.add(place, format!("{all:?}"));
    }
}

fn everything(heap: &Heap, place: &str, transport: &Transport, blob: &[u8]) {
    let digest = sha256(blob);
    let source = Source::bytes(blob);
    let place = |what: &str| format!("{what}, {place}");
    heap.result(&place("ping"), transport.ping(None));
    let mut names = Names::tags(transport);
    for _ in 0..2 {
        heap.result(&place("tags"), names.next_name(None));
    }
    heap.add(&place("Names"), format!("{names:?}"));
    let mut pages = Pages::new(transport, &Request::new(None, "./tags/list"));
    for _ in 0..2 {
        if let Some(page) = heap.result(&place("pages"), pages.next_page(None)) {
            heap.add(&place("page"), format!("{page:?}"));
        }
    }
    heap.add(&place("Pages"), format!("{pages:?}"));
    for tag in ["v1", "odd", "cut", &digest] {
        heap.result(&place("manifest"), transport.manifest_get(tag, None));
        heap.result(&place("manifest head"), transport.manifest_head(tag, None));
        heap.result(
            &place("manifest delete"),
            transport.manifest_delete(tag, None),
        );
        heap.result(
            &place("manifest put"),
            transport.manifest_put(tag, "application/json", b"{}", None),
        );
    }
    let mut referrers = Referrers::new(transport, &digest, None).unwrap();
    heap.result(&place("referrers"), referrers.next_referrer(None));
    heap.add(&place("Referrers"), format!("{referrers:?}"));
    if let Some(mut answer) = heap.result(&place("blob"), transport.blob_get(&digest, None)) {
        heap.add(&place("blob"), format!("{answer:?} {}", answer.url()));
        heap.result(&place("blob body"), answer.take_body());
    }
    if let Some(opened) = heap.result(&place("open"), transport.blob_open(&digest, None)) {
        let mut buf = [0; 16];
        heap.result(&place("pread"), opened.pread(&mut buf, 1, None));
        heap.add(&place("Blob"), format!("{opened:?}"));
    }
    heap.result(
        &place("put"),
        transport.blob_put(Some(&digest), &source, Some("c/d"), None),
    );
    heap.result(
        &place("put"),
        transport.blob_put(Some(&digest), &source, None, None),
    );
    heap.result(&place("put"), transport.blob_put(None, &source, None, None));
    if let Some(mut upload) = heap.result(&place("begin"), transport.upload_begin(None)) {
        heap.result(&place("send"), upload.send(&source, None));
        heap.result(&place("finish"), upload.finish(None, None));
        heap.result(&place("cancel"), upload.cancel(None));
        heap.add(&place("Upload"), format!("{upload:?}"));
    }
    heap.result(
        &place("resume"),
        transport.upload_resume(&format!("rt-upload/1 {STATE}"), None),
    );
    for path in [
        "refused",
        "cut",
        "private",
        "script",
        "user",
        "malformed",
        "space",
        "loop",
        "closed",
        "hang-up",
        "garbage",
        "x",
    ] {
        let mut request = Request::new(None, &format!("./{path}?sig={SIGNATURE}"));
        request.header("Cookie", COOKIE).header("X-Api-Key", COOKIE);
        if path == "x" {
            request.accept_type("text/plain");
        }
        heap.add(&place("Request"), format!("{request:?}"));
        let op = Op::new();
        if let Some(mut answer) = heap.result(&place(path), transport.request(&request, Some(&op)))
        {
            heap.result(&place(path), answer.take_body());
            heap.add(&place(path), format!("{answer:?} {op:?}"));
        }
    }
    for path in [
        format!("http://127.0.0.1/ ?sig={SIGNATURE}"),
        format!("http://user:{PASSWORD}@127.0.0.1/"),
        format!("http://[::1?sig={SIGNATURE}"),
        format!("ftp://127.0.0.1/?sig={SIGNATURE}"),
        format!("./a\nb?sig={SIGNATURE}"),
        format!("nowhere?sig={SIGNATURE}"),
    ] {
        heap.result(
            &place("odd path"),
            transport.request(&Request::new(None, &path), None),
        );
    }
    for (name, value) in [
        ("Cookie", format!("{COOKIE}\n")),
        ("Bad Name", COOKIE.to_owned()),
    ] {
        let mut request = Request::new(None, "./x");
        request.header(name, &value);
        heap.result(&place("odd header"), transport.request(&request, None));
    }
    explained(heap, &place("explained"), transport);
    heap.add(&place("Transport"), format!("{transport:?}"));
}

fn file(folder: &Path, name: &str, key: &str, entry: &serde_json::Value) -> Creds {
    let path = folder.join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    write!(file, "{}", json!({"auths": {key: entry}})).unwrap();
    match name {
        "auth.json" => Creds::podman(Some(path)),
        _ => Creds::docker(Some(path)),
    }
}

/// Every kind of credentials, against registries in every mood, by every call there is.
#[test]
fn logs_errors_and_debug() {
    let blob = noise("blob", 100_000);
    let data = blob.clone();
    let storage = Server::start(move |q| match q.path.as_str() {
        "/refused" => Answer::new(403).body("expired"),
        "/cut" => Answer::ok(vec![0; 1000]).cut_after(10),
        _ => support::registry::serve_bytes(q, &sha256(&data), &Arc::new(data.clone())),
    });
    let heap = Heap::default();
    let moods = [
        Mood::Fine,
        Mood::Basic,
        Mood::NoToken(401),
        Mood::NoToken(500),
        Mood::OddToken("<html>cnry-answer</html>"),
        Mood::OddToken(r#"{"refresh_token":"cnry-answer"}"#),
        Mood::OddToken(r#"{"token":"cnry answer"}"#),
        Mood::OddToken(r#"{"token":["cnry-answer"]}"#),
        Mood::Broken,
        Mood::Never(401),
        Mood::Never(403),
        Mood::After(401),
        Mood::After(404),
        Mood::After(503),
        Mood::TokenEchoes,
        Mood::Echoes(401),
        Mood::Echoes(403),
        Mood::Echoes(503),
        Mood::OddRefusal(401, r#"{"token":"cnry-answer","message":"m"}"#),
        Mood::OddRefusal(403, r#"{"access_token": "cnry-answer"}"#),
        Mood::OddRefusal(
            400,
            r#"{"error":"e","error_description":"d","id_token":"cnry-a"}"#,
        ),
        Mood::OddRefusal(500, r#"{"a":{"refresh_token" : "cnry-answer","#),
    ];
    for mood in moods.into_iter().chain(PLACES.map(Mood::Quotes)) {
        let server = Server::start(registry(mood, &storage.url(""), &blob));
        let here = server.authority();
        let folder = tempfile::tempdir().unwrap();
        let pair = BASE64_STANDARD.encode(format!("user:{PASSWORD}"));
        let entry = json!({"auth": pair});
        let mut all = vec![
            Creds::basic("user", PASSWORD).unwrap(),
            Creds::refresh(REFRESH).unwrap(),
            Creds::bearer(BEARER).unwrap(),
            file(folder.path(), "config.json", &here, &entry),
            file(
                folder.path(),
                "auth.json",
                &here,
                &json!({"identitytoken": REFRESH}),
            ),
            file(
                folder.path(),
                "third.json",
                &here,
                &json!({"registrytoken": BEARER}),
            ),
            file(
                folder.path(),
                "fourth.json",
                &here,
                &json!({"auth": format!("{BROKEN}!")}),
            ),
            file(
                folder.path(),
                "fifth.json",
                &here,
                &json!({"username": "u:cnry-user", "password": PASSWORD}),
            ),
            Creds::callback(Arc::new(|_, _| Creds::basic("user", PASSWORD))),
            Creds::callback(Arc::new(|_, _| Creds::basic("us:er", PASSWORD))),
        ];
        // All of them where it depends on them what is said.
        let telling = [
            Mood::Fine,
            Mood::Basic,
            Mood::Never(401),
            Mood::TokenEchoes,
            Mood::Echoes(401),
        ];
        if !telling.contains(&mood) {
            all.truncate(4);
        }
        for creds in all {
            let place = format!("{creds:?} at {mood:?}").replace("cnry", "canary");
            let mut options = client::with(&[("retries", 1), ("upload-chunk-bytes", 40_000)]);
            // Any password may go by POST, too.
            let posts = i64::from(mood == Mood::TokenEchoes);
            options.set_number("oauth2-password", posts).unwrap();
            heap.log(&mut options, &place);
            heap.add("Options", format!("{options:?}"));
            heap.add("Creds", format!("{creds:?}"));
            let name = format!("{here}/a/b");
            let transport =
                Transport::new(&name, Actions::push(), Some(&creds), Some(&options)).unwrap();
            everything(&heap, &place, &transport, &blob);
        }
    }
    heap.search(4000);
    // Where it all went besides: the storage got no credentials.
    for request in storage.requests() {
        for (name, value) in &request.headers {
            let text = format!("{name}: {}", String::from_utf8_lossy(value));
            assert!(
                !canaries().iter().any(|c| text.contains(c.as_str())),
                "{text}"
            );
        }
    }
    assert!(storage.count() > 20);
}

/// What is told of credentials before they are used, and of the values that hold them.
#[test]
fn values() {
    let heap = Heap::default();
    for (what, made) in [
        (
            "a user with a colon",
            Creds::basic(&format!("us:{PASSWORD}"), PASSWORD),
        ),
        ("a user with a line end", Creds::basic("user\n", PASSWORD)),
        (
            "a token with a space",
            Creds::bearer(&format!("{ACCESS} x")),
        ),
        (
            "a refresh token with a line end",
            Creds::refresh(&format!("{REFRESH}\n")),
        ),
    ] {
        heap.error(what, &made.expect_err(what));
    }
    heap.add("Secret", format!("{:?}", Secret::new(PASSWORD)));
    let variable =
        json!({"auths": {"r.io": {"auth": BASE64_STANDARD.encode(format!("user:{PASSWORD}"))}}})
            .to_string();
    for text in [
        variable.clone(),
        format!("{{{PASSWORD}"),
        format!("{variable} {PASSWORD}"),
    ] {
        let env = Env::from_pairs([
            ("DOCKER_AUTH_CONFIG", text.as_str()),
            ("HOME", "/nonexistent"),
        ]);
        let soon = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let (docker, podman) = (
            docker::Store::new(None, &env),
            podman::Store::new(None, &env),
        );
        heap.add("stores", format!("{env:?} {docker:?} {podman:?}"));
        for found in [
            docker.lookup("r.io", None, soon, &|| false),
            podman.lookup("r.io", None, soon, &|| false),
            docker.lookup("q.io", None, soon, &|| false),
        ] {
            heap.add("found", format!("{found:?}"));
        }
    }
    let mut options = client::options();
    for (key, value) in [
        ("proxy", format!("http://through:{PROXY}@")),
        ("proxy", format!("ftp://through:{PROXY}@h:1")),
        ("proxy", format!("http://through:{PROXY}%zz@h:1")),
        ("proxy", format!("http://through:{PROXY}@h:99999")),
        ("proxy", format!("http://through:{PROXY}@h:1/path")),
        (
            "ca-pem",
            format!("-----BEGIN CERTIFICATE-----\n{BROKEN}\n-----END CERTIFICATE-----\n"),
        ),
        ("user-agent", format!("a\n{COOKIE}")),
        ("no-proxy", format!("/{COOKIE}/")),
        ("realm-hosts", format!(" {COOKIE}\n")),
        ("scheme", COOKIE.to_owned()),
    ] {
        heap.result(&format!("option {key}"), options.set_text(key, &value));
        heap.add("Options", format!("{options:?}"));
    }
    heap.result(
        "transport",
        Transport::new("127.0.0.1:1/a", Actions::pull(), None, Some(&options)),
    );
    for name in [
        format!("user:{PASSWORD}@127.0.0.1:1/a"),
        format!("https://user:{PASSWORD}@127.0.0.1:1/a"),
    ] {
        heap.result("a name", Transport::new(&name, Actions::pull(), None, None));
    }
    heap.search(30);
}

/// The key of a client certificate: right, wrong, and none at all.
#[test]
fn client_keys() {
    let heap = Heap::default();
    let ca = Ca::new();
    let identity = ca.client("demo");
    let config = ca.server_config_with_client_auth(&ca.server());
    let server = Server::builder()
        .tls_config(config)
        .start(|_| Answer::ok(r#"{"tags":["v1"]}"#));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // Some of the key itself serves as the canary.
    let part = identity.key_pem.lines().nth(1).unwrap()[4..40].to_owned();
    let broken = identity.key_pem.replace(&part, &part[1..]);
    let other = ca.client("other").key_pem;
    let keys = [
        ("right", at("right", &identity.key_pem)),
        ("broken", at("broken", &broken)),
        ("cut", at("cut", &identity.key_pem[..100])),
        ("no key", at("none", &part)),
        ("another's", at("other", &other)),
        (
            "a certificate",
            identity.certificate_path.to_str().unwrap().to_owned(),
        ),
    ];
    let mut worked = 0;
    for (what, key) in keys {
        let mut options = client::options();
        heap.log(&mut options, what);
        for (option, value) in [
            ("scheme", "https"),
            ("ca-file", ca.path().to_str().unwrap()),
            (
                "client-cert-file",
                identity.certificate_path.to_str().unwrap(),
            ),
            ("client-key-file", key.as_str()),
        ] {
            options.set_text(option, value).unwrap();
        }
        heap.add(what, format!("{options:?}"));
        let name = format!("{}/a", server.authority());
        let made = Transport::new(&name, Actions::pull(), None, Some(&options));
        if let Some(transport) = heap.result(what, made) {
            heap.add(what, format!("{transport:?}"));
            worked += usize::from(
                heap.result(what, Names::tags(&transport).next_name(None))
                    .is_some(),
            );
        }
    }
    assert_eq!(worked, 1);
    heap.search(15);
    for (place, text) in lock(&heap.0).iter() {
        assert!(!text.contains(&part[1..20]), "{place}: {text}");
    }
}

/// A detail without its secrets is JSON, even if one of them came as a number.
#[test]
fn details_stay_json() {
    for (password, detail, want) in [
        ("1234567890", r#"{"n":[1234567890]}"#, r#""[secret]""#),
        (
            "1234567890",
            r#"{"n":["1234567890"]}"#,
            r#"{"n":["[secret]"]}"#,
        ),
        (
            "quote\"12345",
            r#"{"quote\"12345":"\u0071uote\"12345!"}"#,
            r#"{"[secret]":"[secret]!"}"#,
        ),
    ] {
        let server = Server::start(move |q| match q.basic() {
            None => Answer::challenge("Basic realm=\"r\""),
            Some(_) => Answer::new(403).body(format!(
                r#"{{"errors":[{{"code":"A","detail":{detail}}}]}}"#
            )),
        });
        let creds = Creds::basic("user", password).unwrap();
        let name = format!("{}/a", server.authority());
        let options = client::options();
        let t = Transport::new(&name, Actions::pull(), Some(&creds), Some(&options)).unwrap();
        let error = client::get(&t, "./x").unwrap_err();
        assert_eq!(error.diagnostics()[0].detail.as_deref(), Some(want));
    }
}

/// What an earlier call sent comes back in a later one, and in what is said of the registry.
#[test]
fn later_calls() {
    let heap = Heap::default();
    let server = Server::start(|q| match (q.path.as_str(), q.basic()) {
        ("/token", Some(_)) => Answer::ok(format!(r#"{{"token":"{ACCESS}"}}"#)),
        ("/v2/a/first", _) if q.bearer().is_some() => Answer::ok("fine"),
        ("/v2/a/first", _) => Answer::challenge(r#"Bearer realm="/token""#),
        _ => Answer::challenge(format!(r#"Bearer realm="/token",service="is {PASSWORD}""#))
            .body(format!("you said {PASSWORD}")),
    });
    let mut options = client::with(&[("retries", 0)]);
    heap.log(&mut options, "later calls");
    let creds = [
        Creds::basic("user", PASSWORD).unwrap(),
        Creds::callback(Arc::new(|_, _| Creds::basic("user", PASSWORD))),
    ];
    for creds in creds {
        let name = format!("{}/a", server.authority());
        let t = Transport::new(&name, Actions::pull(), Some(&creds), Some(&options)).unwrap();
        client::get(&t, "./first").unwrap();
        let second = client::get(&t, "./second");
        heap.error("second", &second.unwrap_err());
        explained(&heap, "explained", &t);
    }
    heap.search(20);
}

/// A storage says what its URLs are signed with, after a redirect, where the URL was kept from an earlier call, and
/// for an upload.
#[test]
fn signed_urls() {
    let blob = noise("signed", 1000);
    let digest = sha256(&blob);
    let (data, own) = (Arc::new(blob.clone()), digest.clone());
    let storage = Server::start(move |q| {
        if q.path == "/data" && q.header("range") != Some("bytes=500-509") {
            return support::registry::serve_bytes(q, &own, &data);
        }
        let said = q.query.replace("%2B", "+");
        Answer::new(500).body(format!("<Said>{} {said}</Said>", q.query))
    });
    let signed = |path: &str| {
        let query =
            format!("X-Amz-SignedHeaders=host&X-Amz-Signature={SIGNATURE}%2Bx&sig=cnry1%2B");
        storage.url(&format!("{path}?{query}"))
    };
    let [data, refused, upload] = ["/data", "/refused", "/upload"].map(signed);
    let own = digest.clone();
    let server = Server::start(move |q| match q.method.as_str() {
        "POST" => Answer::new(202).header("Location", &upload),
        "GET" | "HEAD" if q.path.ends_with(&own) => Answer::redirect(307, &data),
        "GET" => Answer::redirect(307, &refused),
        _ => Answer::new(404),
    });
    let heap = Heap::default();
    let mut options = client::with(&[("retries", 0)]);
    heap.log(&mut options, "signed URLs");
    let name = format!("{}/a/b", server.authority());
    let t = Transport::new(&name, Actions::push(), None, Some(&options)).unwrap();
    let mut buf = [0; 10];
    let opened = t.blob_open(&digest, None).unwrap();
    assert_eq!(opened.pread(&mut buf, 0, None).unwrap(), 10);
    let asked = server.count();
    let errors = [
        opened.pread(&mut buf, 500, None).unwrap_err(),
        client::get(&t, "./refused").unwrap_err(),
        t.manifest_get("refused", None).unwrap_err(),
        t.blob_put(
            Some(&sha256(b"other")),
            &Source::bytes(b"other"),
            None,
            None,
        )
        .map(drop)
        .unwrap_err(),
    ];
    // The first went to the storage at once.
    assert_eq!(server.count(), asked + 4);
    for e in errors {
        assert!(e.to_string().contains("Said"), "{e}");
        heap.error("signed URLs", &e);
    }
    heap.search(20);
}

/// Proxies of each kind, their password right and wrong, from the environment and by option; a program of its own
/// says all it has to say.
#[test]
fn proxy_passwords() {
    let heap = Heap::default();
    let server = Server::start(|_| Answer::ok(r#"{"tags":["v1"]}"#));
    let credentials = Some(("through".to_owned(), PROXY.to_owned()));
    let http = Proxy::start(ProxySettings {
        credentials: credentials.clone(),
        map: vec![
            ("127.0.0.2:80".to_owned(), server.address()),
            ("127.0.0.2:443".to_owned(), server.address()),
        ],
        ..ProxySettings::default()
    });
    let socks = Socks::start(SocksSettings {
        credentials,
        map: vec![("127.0.0.2:80".to_owned(), server.address())],
        ..SocksSettings::default()
    });
    for (url, works) in [
        (format!("http://through:{PROXY}@{}", http.authority()), true),
        (
            format!("http://through:{PROXY}-wrong@{}", http.authority()),
            false,
        ),
        (
            format!("socks5://through:{PROXY}@{}", socks.authority()),
            true,
        ),
        (
            format!("socks5://through:{PROXY}-wrong@{}", socks.authority()),
            false,
        ),
        (format!("http://through:{PROXY}@127.0.0.1:1"), false),
        (
            format!("https://through:{PROXY}@{}", http.authority()),
            false,
        ),
        (
            format!("quic://through:{PROXY}@{}", http.authority()),
            false,
        ),
    ] {
        for scheme in ["http", "https"] {
            for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
                let outcome = Login::new("none", "127.0.0.2/a")
                    .option("scheme", scheme)
                    .option("retries", "0")
                    .option("tls-timeout-ms", "300")
                    .env_text(variable, &url)
                    .run();
                let followed = variable == "ALL_PROXY"
                    || variable.starts_with(&scheme.to_uppercase())
                        && (scheme == "https") == (variable == "HTTPS_PROXY");
                if scheme == "http" {
                    let shown = format!("{url} {variable}: {outcome:?}");
                    assert_eq!(outcome.is_ok(), works && followed, "{shown}");
                }
                heap.add(variable, format!("{} {}", outcome.line, outcome.log));
            }
        }
    }
    heap.search(40);
}

/// What a helper prints, and what it can see of the program that runs it: its own arguments hold no secret, and
/// neither do those of the program.
#[test]
fn helpers_and_arguments() {
    let heap = Heap::default();
    let server = Server::start(|q| match q.basic() {
        Some((user, _)) if user == "helped" => Answer::ok(r#"{"tags":["v1"]}"#),
        _ => Answer::challenge("Basic realm=\"r\""),
    });
    let here = server.authority();
    let good = format!(r#"printf '{{"Username":"helped","Secret":"{HELPER}"}}'"#);
    for (script, works) in [
        (good.clone(), true),
        (format!("echo {STDERR} >&2; {good}"), true),
        (format!("{good}; exit 1"), false),
        (format!("echo {STDERR} >&2; exit 1"), false),
        (format!("echo {HELPER}"), false),
        (format!(r#"printf '{{"Username":"{HELPER}"}}'"#), false),
        (
            format!(r#"printf '{{"Username":"u:{HELPER}","Secret":"{HELPER}"}}'"#),
            false,
        ),
        (
            format!(r#"printf '{{"Username":"u","Secret":"{HELPER}\\n"}}'"#),
            false,
        ),
        (
            format!(r#"printf '{{"Username":"<token>","Secret":"{HELPER}"}}'"#),
            false,
        ),
        (format!("{good}; kill -9 $$"), false),
    ] {
        for how in ["credHelpers", "credsStore"] {
            let noted = tempfile::tempdir().unwrap();
            let note = noted.path().join("arguments");
            let see = format!(
                "tr '\\0' '\\n' </proc/$$/cmdline >{0}; tr '\\0' '\\n' </proc/$PPID/cmdline >>{0}",
                note.display()
            );
            let config = match how {
                "credHelpers" => json!({how: {&here: "x"}}),
                _ => json!({how: "x"}),
            };
            let outcome = Login::new("docker", &format!("{here}/a"))
                .file(".docker/config.json", &config.to_string())
                .env_text("LOGIN_SECRET", PASSWORD)
                .helper("x", &format!("{see}; {script}"))
                .run();
            assert_eq!(outcome.is_ok(), works, "{script}: {outcome:?}");
            heap.add("login", format!("{} {}", outcome.line, outcome.log));
            let arguments = std::fs::read_to_string(&note).unwrap();
            assert!(arguments.contains("\nget\n"), "{arguments}");
            heap.add("arguments", arguments);
        }
    }
    heap.search(40);
}

/// The files that speak of hosts: what they add to requests, and what the hosts are logged in to with.
#[test]
fn files_of_hosts() {
    let heap = Heap::default();
    let seen = |q: &Got| q.header("x-secret") == Some(COOKIE);
    let mirror = Server::start(move |q| match (seen(q), q.basic()) {
        (true, Some((_, password))) if password == PASSWORD => {
            Answer::error(404, "NAME_UNKNOWN", "not here")
        }
        (true, _) => Answer::challenge("Basic realm=\"m\""),
        _ => Answer::new(400),
    });
    let registry = Server::start(|q| match q.basic() {
        Some(_) => Answer::ok("{}").header("Content-Type", support::registry::OCI_MANIFEST),
        None => Answer::challenge("Basic realm=\"r\""),
    });
    let folder = tempfile::tempdir().unwrap();
    let here = registry.authority();
    let host = folder.path().join(&here);
    std::fs::create_dir(&host).unwrap();
    let entry = json!({"auth": BASE64_STANDARD.encode(format!("user:{PASSWORD}"))});
    let path = folder.path().join("auth.json");
    std::fs::write(
        &path,
        json!({"auths": {&here: entry, mirror.authority(): entry}}).to_string(),
    )
    .unwrap();
    let creds = Creds::podman(Some(path));
    let good = format!(
        "[host.\"{}\"]\n[host.\"{}\".header]\nX-Secret = [\"{COOKIE}\"]\n",
        mirror.url(""),
        mirror.url("")
    );
    let mut served = 0;
    for text in [
        good.clone(),
        good.replace("X-Secret", "X Secret"),
        good.replace(&format!("{COOKIE}\""), &format!("{COOKIE}\\n\"")),
        good.replace(&format!("[\"{COOKIE}\"]"), &format!("{{a = \"{COOKIE}\"}}")),
        format!("{good}\n{COOKIE}"),
        good.replace("http://", &format!("http://user:{PASSWORD}@")),
        format!("server = \"http://user:{PASSWORD}@{here}\"\n"),
        good.replace("http://", &format!("http://user:{PASSWORD}@")) + "capabilities = 7\n",
        format!("[host.\"http://user:{PASSWORD}@{here}\"]\ncapabilities = 7\n"),
        format!("[host.\"http://{here}/?sig={SIGNATURE}\"]\n"),
    ] {
        std::fs::write(host.join("hosts.toml"), &text).unwrap();
        let mut options = client::options();
        options
            .set_text("hosts-dir", folder.path().to_str().unwrap())
            .unwrap();
        heap.log(&mut options, "hosts.toml");
        let name = format!("{here}/a/b");
        let made = Transport::new(&name, Actions::pull(), Some(&creds), Some(&options));
        if let Some(transport) = heap.result("hosts.toml", made) {
            heap.add("Transport", format!("{transport:?}"));
            let manifest = transport.manifest_get("v1", None);
            served += usize::from(heap.result("manifest", manifest).is_some());
            explained(&heap, "explained", &transport);
        }
    }
    for location in [
        format!("user:{PASSWORD}@{here}"),
        format!("https://user:{PASSWORD}@{here}"),
    ] {
        for text in [
            format!("[[registry]]\nlocation = \"{location}\"\n"),
            format!("[[registry]]\nprefix = \"{here}\"\nlocation = \"{location}\"\n"),
            format!(
                "[[registry]]\nlocation = \"{here}\"\n[[registry.mirror]]\nlocation = \"{location}\"\n"
            ),
        ] {
            let path = folder.path().join("registries.conf");
            std::fs::write(&path, &text).unwrap();
            let mut options = client::options();
            heap.log(&mut options, "registries.conf");
            options
                .set_text("registries-conf", path.to_str().unwrap())
                .unwrap();
            let name = format!("{here}/a/b");
            let made = Transport::new(&name, Actions::pull(), Some(&creds), Some(&options));
            if let Some(transport) = heap.result("registries.conf", made) {
                explained(&heap, "explained", &transport);
            }
        }
    }
    let shown = format!("{served} {:?} {:#?}", mirror.lines(), lock(&heap.0));
    assert!(served > 0 && mirror.count() > 0, "{shown}");
    heap.search(20);
}

/// What forms a secret may come back in: as it is, and as programs write it into what they answer.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let json = |text: &str| json!(text).to_string().trim_matches('"').to_owned();
    let escaped = |text: &str| -> String {
        let units = text.encode_utf16();
        units.map(|unit| format!("\\u{unit:04X}")).collect()
    };
    let percent = |text: &str, kept: &[u8]| -> String {
        let byte = |b: u8| match b {
            b if b.is_ascii_alphanumeric() || kept.contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02x}"),
        };
        text.bytes().map(byte).collect()
    };
    let html = |text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        text.replace('>', "&gt;")
            .replace('"', "&#34;")
            .replace('/', "&#x2F;")
    };
    let python = |text: &str| -> String {
        let byte = |b: u8| match b {
            b'\\' => "\\\\".to_owned(),
            b' '..=b'~' => char::from(b).to_string(),
            b => format!("\\x{b:02x}"),
        };
        text.bytes().map(byte).collect()
    };
    let slashes = json(secret).replace('/', "\\/");
    let go = ["&", "<", ">"]
        .iter()
        .fold(json(secret), |text, c| text.replace(c, &escaped(c)));
    let ascii = json(secret)
        .chars()
        .map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                escaped(&c.to_string())
            }
        })
        .collect();
    vec![
        ("as it is", secret.to_owned()),
        ("in capitals", secret.to_ascii_uppercase()),
        ("JSON", json(secret)),
        ("JSON with slashes", slashes),
        ("JSON for pages", go),
        ("JSON in ASCII", ascii),
        ("JSON, all escaped", escaped(secret)),
        ("JSON in JSON", json(&json(secret))),
        ("percent", percent(secret, b"-._~")),
        ("path", percent(secret, b"-._~/&+=$@:")),
        ("percent twice", percent(&percent(secret, b""), b"")),
        ("form", percent(secret, b"-._ ").replace(' ', "+")),
        ("HTML", html(secret)),
        ("JSON in HTML", html(&json(secret))),
        ("Python bytes", python(secret)),
        ("Base64", BASE64_STANDARD.encode(secret)),
        (
            "Base64 of a pair",
            BASE64_STANDARD.encode(format!("us:{secret}")),
        ),
        (
            "Base64 of something",
            BASE64_URL_SAFE_NO_PAD.encode(format!("something{secret} else")),
        ),
        ("twice", format!("{secret}{secret}")),
        ("two lines", {
            let half = secret
                .char_indices()
                .nth(secret.chars().count() / 2)
                .unwrap()
                .0;
            format!("{}\r\n{}", &secret[..half], &secret[half..])
        }),
    ]
}

/// A secret that comes back is not shown: in whatever form, wherever in a text, and wherever that is cut, by the peer
/// or by a limit. The more of it there is, the less may be seen: never so much as twelve characters together.
#[test]
fn secrets_that_come_back() {
    const SEEN: usize = 12;
    let long: String = noise("token", 1200)
        .iter()
        .map(|b| {
            char::from(
                b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
                    [usize::from(b % 64)],
            )
        })
        .collect();
    let said: Arc<Mutex<(u16, Vec<u8>)>> = Arc::default();
    let own = Arc::clone(&said);
    let token = long.clone();
    let server = Server::start(
        move |q| match (q.path.as_str(), q.header("authorization")) {
            ("/token", _) => Answer::ok(json!({"token": token}).to_string()),
            (_, None) if q.path.contains("/b/") => Answer::challenge(r#"Bearer realm="/token""#),
            (_, None) => Answer::challenge("Basic realm=\"r\""),
            _ => {
                let (status, body) = lock(&own).clone();
                Answer::new(status).body(body)
            }
        },
    );
    let mut tried = 0;
    for (secret, repository) in [
        (long.as_str(), "b/b"),
        ("pass  word  12345", "a"),
        ("p\u{e4}ss/w\u{f6}rd&<\u{1f511}>\"12\\3'4+5%41=", "a"),
    ] {
        let forms = forms(secret);
        let mut options = client::with(&[("retries", 0)]);
        let lines = client::keep_log(&mut options);
        let password = if repository == "a" { secret } else { PASSWORD };
        let creds = Creds::basic("us", password).unwrap();
        let name = format!("{}/{repository}", server.authority());
        let to = |most: usize| {
            let mut own = options.clone();
            own.set_number("max-error-bytes", most as i64).unwrap();
            Transport::new(&name, Actions::pull(), Some(&creds), Some(&own)).unwrap()
        };
        let (transport, short) = (to(100_000), to(400));
        // Every part of it in every form, from the ends of which padding may have taken something.
        let parts: std::collections::HashSet<Vec<char>> = forms
            .iter()
            .filter(|(form, _)| !form.starts_with("Base64 of"))
            .flat_map(|(_, form)| {
                let form: Vec<char> = form.to_lowercase().chars().collect();
                form.windows(SEEN).map(<[char]>::to_vec).collect::<Vec<_>>()
            })
            .collect();
        let mut check = |transport: &Transport, what: &str, body: Vec<u8>| {
            *lock(&said) = (403, body);
            lock(&lines).clear();
            let e = transport
                .request(&Request::new(None, "./x"), None)
                .unwrap_err();
            assert_eq!(e.http_status(), Some(403), "{what}: {e}");
            let mut texts = vec![e.message().to_owned()];
            for d in e.diagnostics() {
                texts.extend(
                    [&d.code, &d.message, &d.detail]
                        .into_iter()
                        .flatten()
                        .cloned(),
                );
            }
            texts.extend(lock(&lines).iter().cloned());
            for text in texts {
                let lower: Vec<char> = text.to_lowercase().chars().collect();
                // What texts are filled up with is passed over.
                let mut all = lower
                    .windows(SEEN)
                    .filter(|part| part[0] != '.' && part[1] != '.');
                let seen = all.find(|part| parts.contains(*part));
                assert_eq!(seen, None, "{what}: {text}");
            }
            tried += 1;
            e
        };
        for (form, text) in &forms {
            let fill = |n: usize| ". ".repeat(n / 2);
            for before in [0, 480, 8180, 8192 - text.len().min(8192) / 2, 11_990] {
                let what = format!("{form} after {before}");
                let e = check(
                    &transport,
                    &what,
                    format!("{}no {text} is this", fill(before)).into_bytes(),
                );
                if before == 0 && text.len() < 1000 {
                    let said = &e.diagnostics()[0];
                    assert!(
                        said.message
                            .as_deref()
                            .is_some_and(|m| m.starts_with("no ") && m.ends_with(" is this")),
                        "{what}: {said:?}"
                    );
                }
            }
            // What stands in JSON already stays as it is there.
            let coded = match form.split(' ').next() {
                Some("JSON") if !form.ends_with("HTML") => text.clone(),
                _ => json!(text).to_string().trim_matches('"').to_owned(),
            };
            for before in [0, 200, 8180] {
                let it = format!("{}{coded}", fill(before));
                let what = format!("{form} in JSON after {before}");
                let body = format!(
                    r#"{{"errors":[{{"code":"{it}","message":"{it}","detail":{{"{it}":"{it}"}}}}]}}"#
                );
                let e = check(&transport, &what, body.into_bytes());
                assert_ne!(
                    e.diagnostics()[0].code.as_deref(),
                    Some("UNKNOWN"),
                    "{what}"
                );
                check(
                    &transport,
                    &what,
                    format!(r#"{{"details":"{it}"}}"#).into_bytes(),
                );
            }
            check(
                &transport,
                form,
                format!("<html><title>{text}</title>").into_bytes(),
            );
            let wide: Vec<u8> = format!("\u{feff}no {text}")
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            check(&transport, form, wide);
        }
        // Cut everywhere, by the limit and in the middle of escapes; more than a few characters are not left of it.
        for (form, text) in &forms {
            for left in 1..text.len().min(60) {
                let mut body = vec![b'.'; 400 - left];
                body.extend(text.as_bytes());
                body.extend(b" is this");
                check(&short, &format!("{form} cut after {left}"), body);
            }
        }
        for left in 2..secret.chars().count().min(40) {
            let head: String = secret.chars().take(left).collect();
            let mut body = b"{\"details\":\"no ".to_vec();
            body.extend(b".".repeat(100));
            let cut = to(body.len() + head.len());
            body.extend(secret.as_bytes());
            *lock(&said) = (403, body);
            let e = cut.request(&Request::new(None, "./x"), None).unwrap_err();
            let said = e.diagnostics()[0].message.clone().unwrap();
            assert!(said.ends_with(".[secret]"), "{left}: {said}");
        }
    }
    assert!(tried > 1000, "{tried}");
}
