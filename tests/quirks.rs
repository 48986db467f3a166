//! The registries of the world, each with what it does in its own way: how it asks for credentials, what its token
//! service answers, how it lists, stores and refuses. Each test reads from top to bottom as what goes over the
//! wire; registries have their own names, and certificates for them, behind a proxy that leads to them.

mod support;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use registry_transport::creds::Creds;
use registry_transport::error::ErrorKind;
use registry_transport::log::Level;
use registry_transport::options::Options;
use registry_transport::pages::Names;
use registry_transport::referrers::Referrers;
use registry_transport::source::{ReadBytes, Source};
use registry_transport::transport::{Actions, Transport};
use serde_json::json;
use support::registry::{Image, OCI_MANIFEST, Registry, noise, sha256};
use support::server::{Answer, Request, lock};
use support::world::{Host, World};

/// What is pushed: a blob, and a manifest that names it.
const NEW: &[u8] = b"a new layer";

/// A registry under its name, with one image of one layer, tagged `v1`.
struct Rig {
    world: World,
    image: Image,
    stored: Arc<Registry>,
    name: String,
    creds: Option<Creds>,
}

impl Rig {
    /// `hosts` get the store behind the registry; `name` is registry and repository.
    fn new(
        name: &str,
        creds: Option<Creds>,
        hosts: impl FnOnce(&Arc<Registry>) -> Vec<(&'static str, Host)>,
    ) -> Self {
        let (_, repository) = name.split_once('/').expect("a repository");
        let stored = Registry::open();
        let image = stored.seed(repository, "v1", 1);
        let world = World::new(hosts(&stored));
        world.call(&image.layers[0].digest, "<layer>");
        world.call(&image.manifest.digest, "<manifest>");
        world.call(&sha256(NEW), "<new>");
        Self {
            world,
            image,
            stored,
            name: name.to_owned(),
            creds,
        }
    }

    fn repository(&self) -> &str {
        self.name.split_once('/').expect("a repository").1
    }

    fn transport(&self, actions: Actions, options: &Options) -> Transport {
        Transport::new(&self.name, actions, self.creds.as_ref(), Some(options)).expect("transport")
    }

    /// Lists the tags and takes the image: its manifest by tag, and its layer.
    fn pull_with(&self, transport: &Transport) -> Vec<String> {
        let tags = tags(transport);
        let mut manifest = transport.manifest_get("v1", None).expect("a manifest");
        let digest = manifest.digest().expect("a digest").to_string();
        assert_eq!(digest, self.image.manifest.digest);
        assert_eq!(manifest.body().unwrap().len(), self.image.manifest.size);
        let layer = &self.image.layers[0];
        let mut blob = transport.blob_get(&layer.digest, None).expect("a blob");
        assert_eq!(blob.take_body().unwrap().len(), layer.size);
        tags
    }

    fn pull(&self) -> Vec<String> {
        self.pull_with(&self.transport(Actions::pull(), &self.world.options()))
    }

    /// Stores a blob and a manifest that is tagged `v2`.
    fn push_with(&self, transport: &Transport) {
        let digest = sha256(NEW);
        transport
            .blob_put(Some(&digest), &Source::bytes(NEW), None, None)
            .expect("a stored blob");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.image.config.json(),
            "layers": [{"mediaType": "application/octet-stream", "digest": digest, "size": NEW.len()}],
        })
        .to_string();
        transport
            .manifest_put("v2", OCI_MANIFEST, manifest.as_bytes(), None)
            .expect("a stored manifest");
        let stored = self.stored.manifest(self.repository(), "v2").expect("v2");
        assert_eq!(*stored.1, manifest.as_bytes());
        assert_eq!(*self.stored.blob(self.repository(), &digest).unwrap(), NEW);
    }

    fn push(&self) {
        self.push_with(&self.transport(Actions::push(), &self.world.options()));
    }

    /// What was asked, in turn, is this.
    #[track_caller]
    fn saw(&self, lines: &[&str]) {
        let log = self.world.take_log();
        assert_eq!(log, lines, "\n{}", log.join("\n"));
    }
}

fn tags(transport: &Transport) -> Vec<String> {
    let mut names = Names::tags(transport);
    std::iter::from_fn(|| names.next_name(None).expect("a page of tags")).collect()
}

fn referrers(transport: &Transport, digest: &str) -> Vec<String> {
    let mut all = Referrers::new(transport, digest, None).expect("a digest");
    std::iter::from_fn(|| all.next_referrer(None).expect("referrers")).collect()
}

/// Answers `right` for a request with this token, and the challenge for any other.
fn guarded(request: &Request, token: &str, challenge: &str, store: &Registry) -> Answer {
    if request.bearer() == Some(token) {
        store.answer(request)
    } else {
        Answer::challenge(challenge)
    }
}

fn token(document: serde_json::Value) -> Answer {
    Answer::json(200, &document)
}

fn denied(message: &str) -> Answer {
    Answer::error(403, "DENIED", message)
}

/// A `config.json` for one registry.
fn config(entry: &str) -> (tempfile::TempDir, Creds) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, format!(r#"{{"auths": {{{entry}}}}}"#)).unwrap();
    (folder, Creds::docker(Some(path)))
}

fn with(options: Options, numbers: &[(&str, i64)]) -> Options {
    let mut options = options;
    for (key, value) in numbers {
        options.set_number(key, *value).expect(key);
    }
    options
}

/// A body that can be read once, of a length that nobody knows.
struct Stream(std::io::Cursor<Vec<u8>>);

impl ReadBytes for Stream {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, registry_transport::error::Error> {
        Ok(std::io::Read::read(&mut self.0, buf).unwrap())
    }

    fn rewind(&mut self) -> bool {
        false
    }
}

fn stream(bytes: Vec<u8>) -> Source {
    Source::reader(Box::new(Stream(std::io::Cursor::new(bytes))), None)
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// Basic with the user AWS and no token service. A password lives for 12 hours; then the answer is 403 without a
/// challenge, and the program that made the password has to be asked for the next one.
#[test]
fn ecr() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let creds = Creds::callback(Arc::new(move |_, _| {
        let passwords = ["morning", "evening"];
        let n = count.fetch_add(1, Ordering::SeqCst) as usize;
        Creds::basic("AWS", passwords[n.min(1)])
    }));
    let valid = Arc::new(Mutex::new("morning"));
    let now = Arc::clone(&valid);
    let rig = Rig::new(&format!("{ECR}/p/app"), Some(creds), |store| {
        let store = Arc::clone(store);
        let host = move |q: &Request| match q.basic() {
            None => Answer::challenge(format!(
                r#"Basic realm="https://{ECR}/",service="ecr.amazonaws.com""#
            )),
            Some((user, password)) if user == "AWS" && password == *lock(&now) => store.answer(q),
            Some(_) => {
                denied("Your authorization token has expired. Reauthenticate and try again.")
            }
        };
        vec![(ECR, Box::new(host))]
    });
    let transport = rig.transport(Actions::pull(), &rig.world.options());
    assert_eq!(rig.pull_with(&transport), ["v1"]);
    let at = |path: &str| path.replace("ECR", ECR);
    rig.saw(&[
        &at("401 GET ECR/v2/p/app/tags/list"),
        &at("200 GET ECR/v2/p/app/tags/list Basic AWS:morning"),
        &at("200 GET ECR/v2/p/app/manifests/v1 Basic AWS:morning"),
        &at("200 GET ECR/v2/p/app/blobs/<layer> Basic AWS:morning"),
    ]);
    *lock(&valid) = "evening";
    assert_eq!(tags(&transport), ["v1"]);
    rig.saw(&[
        &at("403 GET ECR/v2/p/app/tags/list Basic AWS:morning"),
        &at("200 GET ECR/v2/p/app/tags/list Basic AWS:evening"),
    ]);
    rig.push();
    rig.saw(&[
        &at("401 HEAD ECR/v2/p/app/blobs/<new>"),
        &at("404 HEAD ECR/v2/p/app/blobs/<new> Basic AWS:evening"),
        &at("202 POST ECR/v2/p/app/blobs/uploads/ Basic AWS:evening"),
        &at(
            "201 PUT ECR/v2/p/app/blobs/uploads/upload-1?_state=at-0&digest=<new> Basic AWS:evening",
        ),
        &at("201 PUT ECR/v2/p/app/manifests/v2 Basic AWS:evening"),
    ]);
    // What is forbidden with the newest password stays forbidden, and is asked twice at most.
    *lock(&valid) = "nobody knows";
    let error = transport.manifest_get("v1", None).unwrap_err();
    assert_eq!(error.http_status(), Some(403));
    assert_eq!(error.diagnostics()[0].code.as_deref(), Some("DENIED"));
    rig.saw(&[&at("403 GET ECR/v2/p/app/manifests/v1 Basic AWS:evening")]);
}

/// PATCH is answered with 201. The first one stores its bytes; those of the next ones are thrown away, which only
/// Range tells. Pages of more than 1000 tags are refused.
#[test]
fn ecr_uploads_and_pages() {
    let patches = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&patches);
    let rig = Rig::new(
        &format!("{ECR}/p/app"),
        Some(Creds::basic("AWS", "pw").unwrap()),
        |store| {
            let store = Arc::clone(store);
            let stored = Mutex::new((String::new(), String::new()));
            let host = move |q: &Request| {
                let pages = q.query_param("n").and_then(|n| n.parse::<u32>().ok());
                if q.basic().is_none() {
                    return Answer::challenge(format!(
                        r#"Basic realm="https://{ECR}/",service="ecr.amazonaws.com""#
                    ));
                }
                if pages.is_some_and(|n| n > 1000) {
                    return Answer::error(
                        400,
                        "UNSUPPORTED",
                        "Invalid parameter at 'maxResults' failed to satisfy constraint",
                    );
                }
                if q.method == "POST" {
                    count.store(0, Ordering::SeqCst);
                }
                if q.method != "PATCH" {
                    return store.answer(q);
                }
                if count.fetch_add(1, Ordering::SeqCst) > 0 {
                    let (location, range) = lock(&stored).clone();
                    return Answer::new(201)
                        .header("Location", location)
                        .header("Range", range);
                }
                let own = Mutex::new(Vec::new());
                let keep = |value: &str| {
                    lock(&own).push(value.to_owned());
                    value.to_owned()
                };
                let answer = store
                    .answer(q)
                    .with_status(201)
                    .map_header("Location", keep)
                    .map_header("Range", keep);
                let own = lock(&own);
                *lock(&stored) = (own[0].clone(), own[1].clone());
                answer
            };
            vec![(ECR, Box::new(host))]
        },
    );
    let blob = noise("blob", 5000);
    // Without a digest the blob goes as a stream, in one PATCH.
    let streaming = rig.transport(Actions::push(), &rig.world.options());
    for source in [Source::bytes(blob.clone()), stream(blob.clone())] {
        let answer = streaming.blob_put(None, &source, None, None).unwrap();
        assert_eq!(answer.digest().unwrap().to_string(), sha256(&blob));
    }
    assert_eq!(*rig.stored.blob("p/app", &sha256(&blob)).unwrap(), blob);
    // In chunks it gets stuck at the second one, and goes as a whole after all.
    let options = with(rig.world.options(), &[("upload-chunk-bytes", 2000)]);
    let chunked = rig.transport(Actions::push(), &options);
    let blob = noise("another blob", 5000);
    rig.world.take_log();
    chunked
        .blob_put(
            Some(&sha256(&blob)),
            &Source::bytes(blob.clone()),
            None,
            None,
        )
        .unwrap();
    assert_eq!(*rig.stored.blob("p/app", &sha256(&blob)).unwrap(), blob);
    let log = rig.world.take_log();
    let sent = |method: &str| {
        log.iter()
            .filter(|line| line.split(' ').nth(1) == Some(method))
            .count()
    };
    assert_eq!((sent("POST"), sent("PUT")), (2, 1), "{log:#?}");
    assert!(sent("PATCH") <= 4, "{log:#?}");
    for n in 0..1500 {
        rig.stored
            .set_tag("p/app", &format!("t{n:04}"), &rig.image.manifest.digest);
    }
    let paged = with(rig.world.options(), &[("page-size", 1000)]);
    assert_eq!(tags(&rig.transport(Actions::pull(), &paged)).len(), 1501);
    let paged = with(rig.world.options(), &[("page-size", 1001)]);
    let error = Names::tags(&rig.transport(Actions::pull(), &paged))
        .next_name(None)
        .unwrap_err();
    assert_eq!(error.http_status(), Some(400));
}

/// The scope of the challenge is the word `aws`, which names no resource; everybody gets a token.
#[test]
fn ecr_public() {
    let rig = Rig::new("public.ecr.aws/p/app", None, |store| {
        let store = Arc::clone(store);
        let host = move |q: &Request| match q.path.as_str() {
            "/token/" => token(json!({"token": "T1"})),
            _ => guarded(
                q,
                "T1",
                r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#,
                &store,
            ),
        };
        vec![("public.ecr.aws", Box::new(host))]
    });
    let transport = rig.transport(Actions::pull(), &rig.world.options());
    transport.ping(None).unwrap();
    rig.pull_with(&transport);
    rig.saw(&[
        "401 GET public.ecr.aws/v2/",
        "200 GET public.ecr.aws/token/?scope=repository:p/app:pull&service=public.ecr.aws",
        "200 GET public.ecr.aws/v2/p/app/tags/list Bearer T1",
        "200 GET public.ecr.aws/v2/p/app/manifests/v1 Bearer T1",
        "200 GET public.ecr.aws/v2/p/app/blobs/<layer> Bearer T1",
    ]);
}

/// The token service is below `/v2/`, knows no POST, and takes users whose names say what the password is.
/// Listings hold more than tags; uploads and downloads have paths of their own outside `/v2/`.
#[test]
fn gcr_and_artifact_registry() {
    const UPLOADS: &str = "/artifacts-uploads/namespaces/p/repositories/app/uploads/";
    let host = |store: &Arc<Registry>, users: &'static [&'static str]| {
        let store = Arc::clone(store);
        let tokens = Arc::new(AtomicU32::new(0));
        let host = move |q: &Request| {
            if q.path == "/v2/token" {
                if q.method != "GET" {
                    return Answer::new(404);
                }
                let known = |(user, password): (String, String)| {
                    users.contains(&user.as_str()) && password == "ya29.a0"
                };
                return match q.header("authorization").is_none() || q.basic().is_some_and(known) {
                    true => {
                        tokens.store(1, Ordering::SeqCst);
                        token(json!({
                            "token": "T1",
                            "expires_in": 3600,
                            "issued_at": "2001-01-01T00:00:00Z",
                        }))
                    }
                    false => Answer::error(401, "UNAUTHORIZED", "Not Authorized."),
                };
            }
            if q.bearer() != Some("T1") {
                return Answer::challenge(
                    r#"Bearer realm="https://gcr.io/v2/token",service="gcr.io""#,
                );
            }
            if q.path == "/v2/p/app/tags/list" {
                return token(json!({
                    "child": [],
                    "manifest": {"sha256:00": {"imageSizeBytes": "5", "tag": ["v1"]}},
                    "name": "p/app",
                    "tags": ["v1"],
                }));
            }
            if let Some(digest) = q.path.strip_prefix("/v2/p/app/blobs/sha256:") {
                if q.method == "GET" {
                    return Answer::redirect(
                        302,
                        format!("/artifacts-downloads/namespaces/p/downloads/{digest}"),
                    );
                }
            }
            let mut inner = q.clone();
            for (path, own) in [
                (UPLOADS, "/v2/p/app/blobs/uploads/"),
                (
                    "/artifacts-downloads/namespaces/p/downloads/",
                    "/v2/p/app/blobs/sha256:",
                ),
            ] {
                inner.path = inner.path.replacen(path, own, 1);
            }
            store.answer(&inner).map_header("Location", |value| {
                value.replacen("/v2/p/app/blobs/uploads/", UPLOADS, 1)
            })
        };
        vec![("gcr.io", Box::new(host) as Host)]
    };
    for user in ["_token", "oauth2accesstoken", "_json_key"] {
        let creds = Creds::basic(user, "ya29.a0").unwrap();
        let rig = Rig::new("gcr.io/p/app", Some(creds), |store| {
            host(store, &["_token", "oauth2accesstoken", "_json_key"])
        });
        assert_eq!(rig.pull(), ["v1"]);
        rig.saw(&[
            "401 GET gcr.io/v2/p/app/tags/list",
            &format!(
                "200 GET gcr.io/v2/token?scope=repository:p/app:pull&service=gcr.io Basic {user}:ya29.a0"
            ),
            "200 GET gcr.io/v2/p/app/tags/list Bearer T1",
            "200 GET gcr.io/v2/p/app/manifests/v1 Bearer T1",
            "302 GET gcr.io/v2/p/app/blobs/<layer> Bearer T1",
            &format!(
                "200 GET gcr.io/artifacts-downloads/namespaces/p/downloads/{} Bearer T1",
                rig.image.layers[0].digest.trim_start_matches("sha256:")
            ),
        ]);
        rig.push();
        rig.saw(&[
            "401 HEAD gcr.io/v2/p/app/blobs/<new>",
            &format!(
                "200 GET gcr.io/v2/token?scope=repository:p/app:push,pull&service=gcr.io Basic {user}:ya29.a0"
            ),
            "404 HEAD gcr.io/v2/p/app/blobs/<new> Bearer T1",
            "202 POST gcr.io/v2/p/app/blobs/uploads/ Bearer T1",
            "201 PUT gcr.io/artifacts-uploads/namespaces/p/repositories/app/uploads/upload-1?_state=at-0&digest=<new> Bearer T1",
            "201 PUT gcr.io/v2/p/app/manifests/v2 Bearer T1",
        ]);
    }
    // A refresh token cannot be traded by POST there; it goes as the password of the user `<token>`.
    let rig = Rig::new(
        "gcr.io/p/app",
        Some(Creds::refresh("ya29.a0").unwrap()),
        |store| host(store, &["<token>"]),
    );
    assert_eq!(rig.pull(), ["v1"]);
    assert_eq!(
        rig.world.take_log()[1..3],
        [
            "404 POST gcr.io/v2/token grant_type=refresh_token&service=gcr.io&client_id=registry-transport&scope=repository:p/app:pull&refresh_token=ya29.a0",
            "200 GET gcr.io/v2/token?scope=repository:p/app:pull&service=gcr.io Basic <token>:ya29.a0",
        ]
    );
}

/// Identity tokens go by POST and nothing else: GET answers 400. The answer holds `access_token` alone. The user of
/// the entry is a null UUID without a password. Blobs are in another place, behind a signed URL.
#[test]
fn acr() {
    let (_folder, creds) = config(
        r#""reg.azurecr.io": {
            "auth": "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOg==",
            "identitytoken": "eyJ.ey.sig"
        }"#,
    );
    let rig = Rig::new("reg.azurecr.io/p/app", Some(creds), |store| {
        let (store, blobs) = (Arc::clone(store), Arc::clone(store));
        let host = move |q: &Request| match (q.path.as_str(), q.method.as_str()) {
            ("/oauth2/token", "POST")
                if q.form_param("refresh_token").as_deref() == Some("eyJ.ey.sig") =>
            {
                token(json!({"access_token": "T1"}))
            }
            ("/oauth2/token", _) => Answer::error(400, "BAD_REQUEST", "parameter is required"),
            (path, "GET") if path.contains("/blobs/") && q.bearer() == Some("T1") => {
                let digest = path.rsplit('/').next().unwrap_or_default();
                Answer::redirect(
                    307,
                    format!("https://store.blob.core.windows.net/{digest}?sig=a%2Bb%3D"),
                )
            }
            _ => guarded(
                q,
                "T1",
                r#"Bearer realm="https://reg.azurecr.io/oauth2/token",service="reg.azurecr.io",scope="repository:p/app:pull""#,
                &store,
            ),
        };
        let storage = move |q: &Request| {
            let mut inner = q.clone();
            inner.path = format!("/v2/p/app/blobs{}", q.path);
            blobs.answer(&inner)
        };
        vec![
            ("reg.azurecr.io", Box::new(host)),
            ("store.blob.core.windows.net", Box::new(storage)),
        ]
    });
    rig.pull();
    rig.saw(&[
        "401 GET reg.azurecr.io/v2/p/app/tags/list",
        "200 POST reg.azurecr.io/oauth2/token grant_type=refresh_token&service=reg.azurecr.io&client_id=registry-transport&scope=repository:p/app:pull&refresh_token=eyJ.ey.sig",
        "200 GET reg.azurecr.io/v2/p/app/tags/list Bearer T1",
        "200 GET reg.azurecr.io/v2/p/app/manifests/v1 Bearer T1",
        "307 GET reg.azurecr.io/v2/p/app/blobs/<layer> Bearer T1",
        "200 GET store.blob.core.windows.net/<layer>?sig=a+b=",
    ]);
    rig.push();
    let log = rig.world.take_log();
    assert_eq!(
        log[1],
        "200 POST reg.azurecr.io/oauth2/token grant_type=refresh_token&service=reg.azurecr.io&client_id=registry-transport&scope=repository:p/app:push,pull&refresh_token=eyJ.ey.sig"
    );
    // A refresh token that is spent is spent: there is nothing that GET could be asked with.
    let spent = Rig {
        creds: Some(Creds::refresh("spent").unwrap()),
        ..rig
    };
    let error = spent
        .transport(Actions::pull(), &spent.world.options())
        .manifest_get("v1", None)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Auth, Some(400))
    );
    assert_eq!(spent.world.take_log().len(), 2);
}

/// One registry under three names, with its tokens from a fourth and its blobs from a fifth. Short names stand for
/// `library/`. Rate limits come as header fields, and as 429 without Retry-After.
#[test]
fn docker_hub() {
    for written in [
        "busybox",
        "docker.io/busybox",
        "index.docker.io/library/busybox",
        "registry-1.docker.io/library/busybox",
    ] {
        let (_folder, creds) = config(r#""https://index.docker.io/v1/": {"auth": "dXNlcjpwYXNz"}"#);
        let refused = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&refused);
        let rig = Rig::new("docker.io/library/busybox", Some(creds), |store| {
            let (store, blobs) = (Arc::clone(store), Arc::clone(store));
            let auth = |q: &Request| match q.basic() {
                Some((user, password)) if user == "user" && password == "pass" => {
                    token(json!({"token": "T1", "access_token": "T1", "expires_in": 300}))
                }
                Some(_) => Answer::json(401, &json!({"details": "incorrect username or password"})),
                None => token(json!({"token": "anonymous"})),
            };
            let host = move |q: &Request| {
                let digest = q.path.rsplit('/').next().unwrap_or_default();
                if q.bearer() != Some("T1") {
                    return Answer::challenge(
                        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#,
                    );
                }
                if q.path.contains("/manifests/") && left.load(Ordering::SeqCst) > 0 {
                    left.fetch_sub(1, Ordering::SeqCst);
                    return Answer::error(
                        429,
                        "TOOMANYREQUESTS",
                        "You have reached your pull rate limit.",
                    )
                    .header("ratelimit-limit", "100;w=21600")
                    .header("ratelimit-remaining", "0;w=21600");
                }
                if q.path.contains("/blobs/sha256:") && q.method == "GET" {
                    return Answer::redirect(
                        307,
                        format!(
                            "https://production.cloudflare.docker.com/data?digest={digest}&verify=1-s%3D"
                        ),
                    );
                }
                store
                    .answer(q)
                    .header("ratelimit-limit", "100;w=21600")
                    .header("ratelimit-remaining", "99;w=21600")
                    .map_header("Location", |path| {
                        format!("https://registry-1.docker.io{path}")
                    })
            };
            let storage = move |q: &Request| {
                let mut inner = q.clone();
                let digest = q.query_param("digest").unwrap_or_default();
                inner.path = format!("/v2/library/busybox/blobs/{digest}");
                blobs.answer(&inner)
            };
            vec![
                ("registry-1.docker.io", Box::new(host)),
                ("auth.docker.io", Box::new(auth)),
                ("production.cloudflare.docker.com", Box::new(storage)),
            ]
        });
        let make = |actions, options: &Options| {
            Transport::new(written, actions, rig.creds.as_ref(), Some(options)).unwrap()
        };
        rig.pull_with(&make(Actions::pull(), &rig.world.options()));
        rig.saw(&[
            "401 GET registry-1.docker.io/v2/library/busybox/tags/list",
            "200 GET auth.docker.io/token?scope=repository:library/busybox:pull&service=registry.docker.io Basic user:pass",
            "200 GET registry-1.docker.io/v2/library/busybox/tags/list Bearer T1",
            "200 GET registry-1.docker.io/v2/library/busybox/manifests/v1 Bearer T1",
            "307 GET registry-1.docker.io/v2/library/busybox/blobs/<layer> Bearer T1",
            "200 GET production.cloudflare.docker.com/data?digest=<layer>&verify=1-s=",
        ]);
        rig.push_with(&make(Actions::push(), &rig.world.options()));
        rig.saw(&[
            "401 HEAD registry-1.docker.io/v2/library/busybox/blobs/<new>",
            "200 GET auth.docker.io/token?scope=repository:library/busybox:push,pull&service=registry.docker.io Basic user:pass",
            "404 HEAD registry-1.docker.io/v2/library/busybox/blobs/<new> Bearer T1",
            "202 POST registry-1.docker.io/v2/library/busybox/blobs/uploads/ Bearer T1",
            "201 PUT registry-1.docker.io/v2/library/busybox/blobs/uploads/upload-1?_state=at-0&digest=<new> Bearer T1",
            "201 PUT registry-1.docker.io/v2/library/busybox/manifests/v2 Bearer T1",
        ]);
        let limited = make(
            Actions::pull(),
            &with(rig.world.options(), &[("retries", 1)]),
        );
        let manifest = limited.manifest_get("v1", None).unwrap();
        assert_eq!(manifest.header("ratelimit-remaining"), Some("99;w=21600"));
        refused.store(1, Ordering::SeqCst);
        limited.manifest_get("v1", None).unwrap();
        refused.store(9, Ordering::SeqCst);
        let error = limited.manifest_get("v1", None).unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Status, Some(429))
        );
        assert_eq!(
            error.diagnostics()[0].code.as_deref(),
            Some("TOOMANYREQUESTS")
        );
    }
}

/// Public images need a token too. The challenge of the ping names a repository of nobody's, for which there is no
/// token. Chunks larger than 4 MiB are refused with 416. The referrers of an image are a redirect to a web page.
#[test]
fn ghcr() {
    const CAP: usize = 4 << 20;
    let refused = Arc::new(AtomicUsize::new(1));
    let left = Arc::clone(&refused);
    let rig = Rig::new("ghcr.io/p/app", None, |store| {
        let store = Arc::clone(store);
        let host = move |q: &Request| {
            if q.path == "/token" {
                let scopes = q.query_params("scope");
                return match scopes.iter().all(|s| s.starts_with("repository:p/app:")) {
                    true => token(json!({"token": "T1"})),
                    false => denied("requested access to the resource is denied"),
                };
            }
            if q.bearer() != Some("T1") {
                let named = match q.path.as_str() {
                    "/v2/" => "user/image",
                    _ => "p/app",
                };
                return Answer::challenge(format!(
                    r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:{named}:pull""#
                ));
            }
            if q.path.contains("/referrers/") {
                return Answer::redirect(
                    303,
                    "https://github.com/-/v2/packages/container/package/p%2Fapp%2Freferrers%2Fsha256",
                );
            }
            if q.path.ends_with("/manifests/v1") && left.swap(0, Ordering::SeqCst) > 0 {
                return Answer::error(429, "TOOMANYREQUESTS", "retry later");
            }
            if q.method == "PATCH" && q.body.len() > CAP {
                return Answer::error(
                    416,
                    "REQUESTED_RANGE_NOT_SATISFIABLE",
                    "the request body is too large and exceeds the maximum permissible limit of 4.00MiB",
                );
            }
            store.answer(q)
        };
        let web = |_: &Request| {
            Answer::new(429)
                .header("Content-Type", "text/html")
                .body("<html>")
        };
        vec![("ghcr.io", Box::new(host)), ("github.com", Box::new(web))]
    });
    let transport = rig.transport(Actions::pull(), &rig.world.options());
    transport.ping(None).unwrap();
    rig.pull_with(&transport);
    rig.saw(&[
        "401 GET ghcr.io/v2/",
        "200 GET ghcr.io/token?scope=repository:p/app:pull&service=ghcr.io",
        "200 GET ghcr.io/v2/p/app/tags/list Bearer T1",
        "429 GET ghcr.io/v2/p/app/manifests/v1 Bearer T1",
        "200 GET ghcr.io/v2/p/app/manifests/v1 Bearer T1",
        "200 GET ghcr.io/v2/p/app/blobs/<layer> Bearer T1",
    ]);
    let digest = &rig.image.manifest.digest;
    assert_eq!(referrers(&transport, digest), [""; 0]);
    let by_tag = format!(
        "404 GET ghcr.io/v2/p/app/manifests/{} Bearer T1",
        digest.replace(':', "-")
    );
    let log = rig.world.take_log();
    assert_eq!(
        log[0],
        "303 GET ghcr.io/v2/p/app/referrers/<manifest> Bearer T1"
    );
    assert_eq!(log.last(), Some(&by_tag), "{log:#?}");
    rig.push();
    rig.world.take_log();
    let blob = noise("large", 9 << 20);
    for chunk in [CAP, 4 * CAP] {
        let options = with(rig.world.options(), &[("upload-chunk-bytes", chunk as i64)]);
        let pushing = rig.transport(Actions::push(), &options);
        let bytes = [blob.as_slice(), &chunk.to_le_bytes()].concat();
        pushing
            .blob_put(None, &Source::bytes(bytes.clone()), None, None)
            .unwrap();
        assert_eq!(*rig.stored.blob("p/app", &sha256(&bytes)).unwrap(), bytes);
    }
}

/// Robots log in with a `+` in their names. Blobs are elsewhere, listings go on by a cursor, 429 is a page of HTML,
/// and what has no referrers is 400.
#[test]
fn quay() {
    let refused = Arc::new(AtomicUsize::new(1));
    let left = Arc::clone(&refused);
    let creds = Creds::basic("org+robot", "pw").unwrap();
    let rig = Rig::new("quay.io/p/app", Some(creds), |store| {
        let (store, blobs) = (Arc::clone(store), Arc::clone(store));
        let host = move |q: &Request| {
            if q.path == "/v2/auth" {
                return match q.basic() {
                    Some((user, _)) if user == "org+robot" => token(json!({"token": "T1"})),
                    _ => Answer::json(
                        401,
                        &json!({"errors": [{"code": "UNAUTHORIZED", "detail": {}, "message": "Could not find robot"}]}),
                    ),
                };
            }
            if q.bearer() != Some("T1") {
                return Answer::challenge(
                    r#"Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:p/app:pull""#,
                );
            }
            match (q.path.as_str(), q.query_param("next_page").as_deref()) {
                ("/v2/p/app/tags/list", None) => {
                    if left.swap(0, Ordering::SeqCst) > 0 {
                        return Answer::new(429)
                            .header("Content-Type", "text/html")
                            .body("<html><body>429 Too Many Requests</body></html>");
                    }
                    token(json!({"name": "p/app", "tags": ["v1"]})).header(
                        "Link",
                        r#"</v2/p/app/tags/list?n=50&next_page=gAAAAABm%3D%3D>; rel="next""#,
                    )
                }
                ("/v2/p/app/tags/list", Some("gAAAAABm==")) => {
                    token(json!({"name": "p/app", "tags": ["v0"]}))
                }
                (path, _) if path.contains("/referrers/") => {
                    Answer::error(400, "MANIFEST_INVALID", "manifest invalid")
                }
                (path, _) if path.contains("/blobs/sha256:") && q.method == "GET" => {
                    Answer::redirect(
                        302,
                        path.replacen("/v2/p/app/blobs", "https://cdn01.quay.io/layers", 1)
                            + "?Signature=s",
                    )
                }
                _ => store.answer(q),
            }
        };
        let storage = move |q: &Request| {
            let mut inner = q.clone();
            inner.path = q.path.replacen("/layers", "/v2/p/app/blobs", 1);
            blobs.answer(&inner)
        };
        vec![
            ("quay.io", Box::new(host)),
            ("cdn01.quay.io", Box::new(storage)),
        ]
    });
    let transport = rig.transport(Actions::pull(), &rig.world.options());
    assert_eq!(rig.pull_with(&transport), ["v1", "v0"]);
    rig.saw(&[
        "401 GET quay.io/v2/p/app/tags/list",
        "200 GET quay.io/v2/auth?scope=repository:p/app:pull&service=quay.io Basic org+robot:pw",
        "429 GET quay.io/v2/p/app/tags/list Bearer T1",
        "200 GET quay.io/v2/p/app/tags/list Bearer T1",
        "200 GET quay.io/v2/p/app/tags/list?n=50&next_page=gAAAAABm== Bearer T1",
        "200 GET quay.io/v2/p/app/manifests/v1 Bearer T1",
        "302 GET quay.io/v2/p/app/blobs/<layer> Bearer T1",
        "200 GET cdn01.quay.io/layers/<layer>?Signature=s",
    ]);
    assert_eq!(referrers(&transport, &rig.image.manifest.digest), [""; 0]);
    rig.push();
}

/// A spent token is answered with a Basic challenge. A token for two repositories is good for neither, so a blob is
/// not mounted but sent. The list of repositories is for administrators.
#[test]
fn harbor() {
    let round = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&round);
    let rig = Rig::new("harbor.example/p/app", None, |store| {
        let store = Arc::clone(store);
        let host = move |q: &Request| {
            let round = now.load(Ordering::SeqCst);
            if q.path == "/service/token" {
                let scopes = q.query_params("scope").len();
                return token(json!({"token": format!("T{round}-{scopes}"), "expires_in": 1800}));
            }
            let bearer = |error: &str| {
                Answer::challenge(format!(
                    r#"Bearer realm="https://harbor.example/service/token",service="harbor-registry"{error}"#
                ))
            };
            match q.bearer() {
                None => bearer(""),
                Some(_) if q.path == "/v2/_catalog" => {
                    Answer::error(401, "UNAUTHORIZED", "unauthorized to list catalog")
                }
                Some(t) if t == format!("T{round}-1") => store.answer(q),
                Some(t) if t.ends_with("-2") => bearer(r#",error="insufficient_scope""#),
                Some(_) => Answer::challenge(r#"Basic realm="harbor""#),
            }
        };
        vec![("harbor.example", Box::new(host))]
    });
    let transport = rig.transport(Actions::pull(), &rig.world.options());
    rig.pull_with(&transport);
    rig.saw(&[
        "401 GET harbor.example/v2/p/app/tags/list",
        "200 GET harbor.example/service/token?scope=repository:p/app:pull&service=harbor-registry",
        "200 GET harbor.example/v2/p/app/tags/list Bearer T1-1",
        "200 GET harbor.example/v2/p/app/manifests/v1 Bearer T1-1",
        "200 GET harbor.example/v2/p/app/blobs/<layer> Bearer T1-1",
    ]);
    round.store(2, Ordering::SeqCst);
    assert_eq!(tags(&transport), ["v1"]);
    rig.saw(&[
        "401 GET harbor.example/v2/p/app/tags/list Bearer T1-1",
        "401 GET harbor.example/v2/p/app/tags/list",
        "200 GET harbor.example/service/token?scope=repository:p/app:pull&service=harbor-registry",
        "200 GET harbor.example/v2/p/app/tags/list Bearer T2-1",
    ]);
    let pushing = rig.transport(Actions::push(), &rig.world.options());
    pushing
        .blob_put(
            Some(&sha256(NEW)),
            &Source::bytes(NEW),
            Some("other/app"),
            None,
        )
        .unwrap();
    let log = rig.world.take_log();
    let posts: Vec<_> = log.iter().filter(|l| l.contains("POST")).collect();
    assert_eq!(
        posts,
        [
            "401 POST harbor.example/v2/p/app/blobs/uploads/?mount=<new>&from=other/app Bearer T2-2",
            "401 POST harbor.example/v2/p/app/blobs/uploads/?mount=<new>&from=other/app Bearer T2-2",
            "202 POST harbor.example/v2/p/app/blobs/uploads/ Bearer T2-1",
        ]
    );
    rig.push_with(&pushing);
    rig.world.take_log();
    let catalog = Transport::new(
        "harbor.example",
        Actions::catalog(),
        None,
        Some(&rig.world.options()),
    )
    .unwrap();
    let error = Names::repositories(&catalog).next_name(None).unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Auth, Some(401))
    );
    assert!(rig.world.take_log().len() <= 5);
}

/// No token at all for a request that asks too much: a mount from where one may not read gets 403 by the token
/// service, or 401 by the registry, and the blob is sent.
#[test]
fn gitlab() {
    let strict = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&strict);
    let creds = Creds::basic("gitlab-ci-token", "job").unwrap();
    let rig = Rig::new("registry.gitlab.example/group/app", Some(creds), |store| {
        let store = Arc::clone(store);
        let jwt = move |q: &Request| {
            let scopes = q.query_params("scope");
            let strict = now.load(Ordering::SeqCst) == 1;
            if q.basic().is_none() || (strict && scopes.iter().any(|s| s.contains(":private/"))) {
                return denied("access forbidden");
            }
            token(json!({"token": format!("T{}", scopes.len())}))
        };
        let host = move |q: &Request| {
            let challenge = r#"Bearer realm="https://gitlab.example/jwt/auth",service="container_registry",scope="repository:group/app:push,pull",error="invalid_token""#;
            match q.bearer() {
                Some(_) if q.query_param("from").is_some() => Answer::challenge(challenge),
                Some(_) => store.answer(q),
                None => Answer::challenge(challenge),
            }
        };
        vec![
            ("registry.gitlab.example", Box::new(host)),
            ("gitlab.example", Box::new(jwt)),
        ]
    });
    rig.pull();
    rig.saw(&[
        "401 GET registry.gitlab.example/v2/group/app/tags/list",
        "200 GET gitlab.example/jwt/auth?scope=repository:group/app:push,pull&service=container_registry Basic gitlab-ci-token:job",
        "200 GET registry.gitlab.example/v2/group/app/tags/list Bearer T1",
        "200 GET registry.gitlab.example/v2/group/app/manifests/v1 Bearer T1",
        "200 GET registry.gitlab.example/v2/group/app/blobs/<layer> Bearer T1",
    ]);
    for (is_strict, name) in [(1, b"one"), (0, b"two")] {
        strict.store(is_strict, Ordering::SeqCst);
        let pushing = rig.transport(Actions::push(), &rig.world.options());
        pushing
            .blob_put(
                Some(&sha256(name)),
                &Source::bytes(*name),
                Some("private/app"),
                None,
            )
            .unwrap();
        let log = rig.world.take_log();
        let asked: Vec<_> = log
            .iter()
            .filter(|l| l.contains("POST") || l.contains("403"))
            .map(|l| l.replace(&sha256(name), "<blob>"))
            .collect();
        let sent = "202 POST registry.gitlab.example/v2/group/app/blobs/uploads/ Bearer T1";
        if is_strict == 1 {
            assert_eq!(
                asked,
                [
                    "403 GET gitlab.example/jwt/auth?scope=repository:group/app:push,pull&scope=repository:private/app:pull&service=container_registry Basic gitlab-ci-token:job",
                    sent,
                ]
            );
        } else {
            assert_eq!(asked.last().map(String::as_str), Some(sent));
            assert!(asked.len() <= 3, "{asked:#?}");
            assert!(asked[0].starts_with("401 POST") && asked[0].ends_with("Bearer T2"));
        }
    }
    rig.push();
}

/// Two challenges, neither with a scope; a realm with a path of its own. Identity tokens are refused with 401 at
/// POST, referrers with 406. Digests are listed among the tags.
#[test]
fn artifactory() {
    let creds = Creds::basic("user", "pass").unwrap();
    let rig = Rig::new("art.example/docker-local/app", Some(creds), |store| {
        let store = Arc::clone(store);
        let host = move |q: &Request| {
            if q.path == "/artifactory/api/docker/null/v2/token" {
                return match (q.method.as_str(), q.basic()) {
                    ("GET", Some((user, password))) if user == "user" && password == "pass" => {
                        token(json!({"token": "T1", "expires_in": 3600}))
                    }
                    _ => Answer::json(
                        401,
                        &json!({"errors": [{"status": 401, "message": "Bad credentials"}]}),
                    ),
                };
            }
            if q.bearer() != Some("T1") {
                return Answer::challenge(
                    r#"Bearer realm="https://art.example/artifactory/api/docker/null/v2/token",service="art.example""#,
                )
                .header("WWW-Authenticate", r#"Basic realm="Artifactory Realm""#);
            }
            match q.path.as_str() {
                "/v2/docker-local/app/tags/list" => token(json!({
                    "name": "app",
                    "tags": [format!("sha256:{}", "0".repeat(64)), "v1", "sha256__00"],
                })),
                path if path.contains("/referrers/") => Answer::new(406),
                _ => store.answer(q),
            }
        };
        vec![("art.example", Box::new(host))]
    });
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let mut options = rig.world.options();
    options.set_log(
        Level::Info,
        Arc::new(move |_, line: &str| lock(&sink).push(line.to_owned())),
    );
    let transport = rig.transport(Actions::pull(), &options);
    transport.manifest_head("v1", None).unwrap();
    assert_eq!(rig.pull_with(&transport), ["v1", "sha256__00"]);
    assert!(
        lock(&lines)
            .iter()
            .any(|line| line.contains("it is no tag: sha256:000")),
        "{:#?}",
        lock(&lines)
    );
    rig.saw(&[
        "401 HEAD art.example/v2/docker-local/app/manifests/v1",
        "200 GET art.example/artifactory/api/docker/null/v2/token?scope=repository:docker-local/app:pull&service=art.example Basic user:pass",
        "200 HEAD art.example/v2/docker-local/app/manifests/v1 Bearer T1",
        "200 GET art.example/v2/docker-local/app/tags/list Bearer T1",
        "200 GET art.example/v2/docker-local/app/manifests/v1 Bearer T1",
        "200 GET art.example/v2/docker-local/app/blobs/<layer> Bearer T1",
    ]);
    assert_eq!(referrers(&transport, &rig.image.manifest.digest), [""; 0]);
    rig.push();
    rig.world.take_log();
    let identity = Rig {
        creds: Some(Creds::refresh("identity").unwrap()),
        ..rig
    };
    let error = identity
        .transport(Actions::pull(), &identity.world.options())
        .manifest_get("v1", None)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Auth, Some(401))
    );
    let log = identity.world.take_log();
    assert!(
        log[1].starts_with("401 POST ") && log.len() == 2,
        "{log:#?}"
    );
}

/// Tags of an empty repository are null. The service is a URL. Some are set up with Basic alone.
#[test]
fn nexus() {
    for bearer in [true, false] {
        let creds = Creds::basic("admin", "admin123").unwrap();
        let rig = Rig::new("nexus.example/p/app", Some(creds), |store| {
            let store = Arc::clone(store);
            let host = move |q: &Request| {
                if q.path == "/v2/token" {
                    return token(json!({"token": "DockerToken.0f1e"}));
                }
                let known = match bearer {
                    true => q.bearer() == Some("DockerToken.0f1e"),
                    false => q.basic().is_some(),
                };
                match (known, bearer) {
                    (false, true) => Answer::challenge(
                        r#"Bearer realm="https://nexus.example/v2/token",service="https://nexus.example/v2/token""#,
                    ),
                    (false, false) => {
                        Answer::challenge(r#"BASIC realm="Sonatype Nexus Repository Manager""#)
                    }
                    (true, _) if q.path == "/v2/p/app/tags/list" => {
                        token(json!({"name": "p/app", "tags": null}))
                    }
                    (true, _) => store.answer(q),
                }
            };
            vec![("nexus.example", Box::new(host))]
        });
        assert_eq!(rig.pull(), [""; 0]);
        let with = match bearer {
            true => "Bearer DockerToken.0f1e",
            false => "Basic admin:admin123",
        };
        let log = rig.world.take_log();
        if bearer {
            assert_eq!(
                log[1],
                "200 GET nexus.example/v2/token?scope=repository:p/app:pull&service=https://nexus.example/v2/token Basic admin:admin123"
            );
        }
        assert_eq!(
            log.last().unwrap(),
            &format!("200 GET nexus.example/v2/p/app/blobs/<layer> {with}")
        );
        rig.push();
    }
}

/// Deletion is a right of its own, which the registry names when it is missing.
#[test]
fn ibm() {
    let creds = Creds::basic("iamapikey", "key").unwrap();
    let rig = Rig::new("us.icr.io/p/app", Some(creds), |store| {
        let store = Arc::clone(store);
        let host = move |q: &Request| {
            if q.path == "/oauth/token" {
                let may_delete = q.query_params("scope").iter().any(|s| s.contains("delete"));
                return token(json!({"token": if may_delete { "deletes" } else { "T1" }}));
            }
            let challenge = |scope: &str, error: &str| {
                Answer::challenge(format!(
                    r#"Bearer realm="https://us.icr.io/oauth/token",service="registry",scope="repository:p/app:{scope}"{error}"#
                ))
            };
            match (q.method.as_str(), q.bearer()) {
                ("DELETE", Some("deletes")) => store.answer(q),
                ("DELETE", Some(_)) => challenge("delete", r#",error="insufficient_scope""#),
                (_, Some(_)) => store.answer(q),
                (_, None) => challenge("pull", ""),
            }
        };
        vec![("us.icr.io", Box::new(host))]
    });
    rig.pull();
    rig.push();
    rig.world.take_log();
    let transport = rig.transport(Actions::delete(), &rig.world.options());
    transport
        .manifest_delete(&rig.image.manifest.digest, None)
        .unwrap();
    rig.saw(&[
        "401 DELETE us.icr.io/v2/p/app/manifests/<manifest>",
        "200 GET us.icr.io/oauth/token?scope=repository:p/app:push,pull&service=registry Basic iamapikey:key",
        "401 DELETE us.icr.io/v2/p/app/manifests/<manifest> Bearer T1",
        "200 GET us.icr.io/oauth/token?scope=repository:p/app:push,pull,delete&service=registry Basic iamapikey:key",
        "202 DELETE us.icr.io/v2/p/app/manifests/<manifest> Bearer deletes",
    ]);
    assert!(
        rig.stored
            .manifest("p/app", &rig.image.manifest.digest)
            .is_none()
    );
}

/// A challenge without a service: the registry's own name stands for it. The user is a word with a dollar sign.
#[test]
fn ngc() {
    let creds = Creds::basic("$oauthtoken", "key").unwrap();
    let rig = Rig::new("nvcr.io/p/app", Some(creds), |store| {
        let store = Arc::clone(store);
        let host = move |q: &Request| match q.path.as_str() {
            "/proxy_auth" => token(json!({"token": "T1", "expires_in": 600})),
            _ => guarded(
                q,
                "T1",
                r#"Bearer realm="https://nvcr.io/proxy_auth",scope="repository:p/app:pull""#,
                &store,
            ),
        };
        vec![("nvcr.io", Box::new(host))]
    });
    rig.pull();
    rig.saw(&[
        "401 GET nvcr.io/v2/p/app/tags/list",
        "200 GET nvcr.io/proxy_auth?scope=repository:p/app:pull&service=nvcr.io Basic $oauthtoken:key",
        "200 GET nvcr.io/v2/p/app/tags/list Bearer T1",
        "200 GET nvcr.io/v2/p/app/manifests/v1 Bearer T1",
        "200 GET nvcr.io/v2/p/app/blobs/<layer> Bearer T1",
    ]);
    rig.push();
}

/// A service of two words, spaces after commas, and a token of 20 kB under `access_token`.
#[test]
fn docker_auth() {
    let long = format!("{}.", "x".repeat(20_000));
    let creds = Creds::basic("admin", "badmin").unwrap();
    let own = long.clone();
    let rig = Rig::new("hub.example/p/app", Some(creds), |store| {
        let store = Arc::clone(store);
        let tokens = long.clone();
        let auth = move |q: &Request| match q.query.contains("service=Docker+registry") {
            true => token(json!({"access_token": tokens})),
            false => Answer::new(400),
        };
        let host = move |q: &Request| {
            guarded(
                q,
                &long,
                r#"Bearer realm="https://auth.example/auth", service="Docker registry", scope="repository:p/app:pull,push""#,
                &store,
            )
        };
        vec![
            ("hub.example", Box::new(host)),
            ("auth.example", Box::new(auth)),
        ]
    });
    rig.world.call(&own, "<token>");
    rig.pull();
    rig.saw(&[
        "401 GET hub.example/v2/p/app/tags/list",
        "200 GET auth.example/auth?scope=repository:p/app:push,pull&service=Docker registry Basic admin:badmin",
        "200 GET hub.example/v2/p/app/tags/list Bearer <token>",
        "200 GET hub.example/v2/p/app/manifests/v1 Bearer <token>",
        "200 GET hub.example/v2/p/app/blobs/<layer> Bearer <token>",
    ]);
    rig.push();
}
