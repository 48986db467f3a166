//! Several hosts for one registry: who is asked, in which order, with what, and who is asked next.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use registry_transport::copy::copy;
use registry_transport::creds::{Creds, CredsFn};
use registry_transport::error::{Error, ErrorKind};
use registry_transport::hosts::registries;
use registry_transport::name::Reference;
use registry_transport::op::Op;
use registry_transport::options::Options;
use registry_transport::pages::Names;
use registry_transport::request::Request;
use registry_transport::response::Response;
use registry_transport::transport::{Actions, Transport};
use support::client::{keep_log, options as plain, with};
use support::pki::Ca;
use support::registry::{Image, Registry, serve_bytes, sha256};
use support::server::{Answer, Gate, Request as Got, Server, lock};
use support::token::TokenServer;
use tempfile::TempDir;

/// A folder of containerd's, with this `hosts.toml` for the registry.
fn hosts_dir(registry: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(registry);
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    folder
}

/// The same with these mirrors, in this order, and nothing else.
fn mirrored_by(registry: &Server, mirrors: &[&Server]) -> TempDir {
    let tables: Vec<_> = mirrors
        .iter()
        .map(|m| format!("[host.\"{}\"]\n", m.url("")))
        .collect();
    hosts_dir(&registry.authority(), &tables.join(""))
}

fn using(folder: &TempDir, mut options: Options) -> Options {
    options
        .set_text("hosts-dir", folder.path().to_str().unwrap())
        .unwrap();
    options
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

/// A registry with an image, and the image.
fn registry() -> (Arc<Registry>, Server, Image) {
    let registry = Registry::open();
    let image = registry.seed("a/b", "v1", 1);
    let server = registry.start(None);
    (registry, server, image)
}

fn read(response: Result<Response, Error>) -> Result<(Vec<u8>, String), Error> {
    let mut response = response?;
    let host = response.host().to_owned();
    Ok((response.take_body()?, host))
}

/// Every way to pull something, each with the host that served it.
fn pulls(transport: &Transport, image: &Image) -> Vec<(&'static str, Result<String, Error>)> {
    let layer = &image.layers[0];
    let body_of = |response| {
        let (body, host) = read(response)?;
        Ok((sha256(&body), host))
    };
    let is = |wanted: &str, got: Result<(String, String), Error>| {
        got.map(|(digest, host)| {
            assert_eq!(digest, wanted);
            host
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    let request = |path: &str| transport.request(&Request::new(None, path), None);
    let manifest = &image.manifest.digest;
    let mut all = vec![
        (
            "manifest by tag",
            is(manifest, body_of(transport.manifest_get("v1", None))),
        ),
        (
            "manifest by digest",
            is(manifest, body_of(transport.manifest_get(manifest, None))),
        ),
        (
            "head of a manifest",
            transport
                .manifest_head("v1", None)
                .map(|r| r.host().to_owned()),
        ),
        (
            "blob",
            is(
                &layer.digest,
                body_of(transport.blob_get(&layer.digest, None)),
            ),
        ),
        (
            "request for a manifest",
            is(manifest, body_of(request("./manifests/v1"))),
        ),
        (
            "request for a blob",
            is(
                &layer.digest,
                body_of(request(&format!("./blobs/{}", layer.digest))),
            ),
        ),
    ];
    let unnamed = |result: Result<bool, Error>| {
        result.map(|right| {
            assert!(right);
            String::new()
        })
    };
    all.push((
        "size of a blob",
        unnamed(
            transport
                .blob_stat(&layer.digest, None)
                .map(|size| size == Some(layer.size as u64)),
        ),
    ));
    all.push((
        "blob into a file",
        unnamed(
            transport
                .blob_save(&layer.digest, &file, None)
                .map(|()| sha256(&std::fs::read(&file).unwrap()) == layer.digest),
        ),
    ));
    all.push((
        "part of a blob",
        unnamed(transport.blob_open(&layer.digest, None).and_then(|blob| {
            let mut part = [0; 10];
            blob.pread(&mut part, 5, None).map(|n| n == 10)
        })),
    ));
    all
}

/// The mirror is asked in the registry's place, as `ns`, and what it serves is told with its name.
#[test]
fn a_mirror_serves() {
    let (registry, mirror, image) = registry();
    let home = registry.start(None);
    let folder = mirrored_by(&home, &[&mirror]);
    let mut options = using(&folder, plain());
    let log = keep_log(&mut options);
    let transport = pulling(&home.authority(), None, &options);
    transport.ping(None).unwrap();
    for (what, host) in pulls(&transport, &image) {
        let host = host.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(
            host.is_empty() || host == mirror.authority(),
            "{what}: {host}"
        );
    }
    assert_eq!(home.count(), 0, "{:?}", home.lines());
    for request in mirror.requests() {
        assert_eq!(
            request.query_param("ns"),
            Some(home.authority()),
            "{}",
            request.target
        );
    }
    assert!(
        lock(&log)
            .iter()
            .any(|l| l.contains(&mirror.url("/v2/a/b/"))),
        "{log:?}"
    );
}

/// The failure of a mirror, of every class, is made good by the registry, whatever is pulled.
#[test]
fn failures_of_a_mirror() {
    let (registry, home, image) = registry();
    let gone = Server::start(|_| Answer::ok("")).authority();
    let closed = format!("http://{gone}");
    let plain = Server::start(|_| Answer::ok("no TLS here"));
    let ca = Ca::new();
    let distrusted = registry.start(Some(&ca));
    type Handler = fn(&Got) -> Answer;
    let answering: [(&str, Handler); 14] = [
        ("hangs up", |_| Answer::hang_up()),
        ("resets", |_| Answer::reset()),
        ("no HTTP", |_| Answer::raw("SSH-2.0-OpenSSH_9.2\r\n")),
        ("400", |_| {
            Answer::error(400, "UNSUPPORTED", "no such thing")
        }),
        ("401 without a challenge", |_| Answer::new(401)),
        ("Basic", |_| Answer::challenge("Basic realm=\"x\"")),
        ("Bearer", |r| match r.path.as_str() {
            "/token" => Answer::error(403, "DENIED", "go away"),
            _ => Answer::challenge("Bearer realm=\"/token\",service=\"s\""),
        }),
        ("an evil realm", |_| {
            Answer::challenge("Bearer realm=\"file:///etc/passwd\"")
        }),
        ("403", |_| Answer::error(403, "DENIED", "no")),
        ("404", |_| Answer::error(404, "MANIFEST_UNKNOWN", "no")),
        ("405", |_| Answer::new(405)),
        ("429", |_| Answer::new(429).header("Retry-After", "86400")),
        ("503", |_| Answer::new(503)),
        ("a redirect to nowhere", |_| Answer::new(307)),
    ];
    let servers: Vec<_> = answering
        .iter()
        .map(|(what, handler)| (*what, Server::start(*handler)))
        .collect();
    let mut cases: Vec<(&str, String)> = servers
        .iter()
        .map(|(what, server)| (*what, server.url("")))
        .collect();
    cases.push(("nobody there", closed));
    cases.push(("no TLS", format!("https://{}", plain.authority())));
    cases.push(("a certificate nobody trusts", distrusted.url("")));
    for (what, url) in &cases {
        let folder = hosts_dir(&home.authority(), &format!("[host.\"{url}\"]\n"));
        let mut options = using(&folder, with(&[("retries", 0)]));
        let log = keep_log(&mut options);
        // Each with a transport of its own: a host that failed is remembered.
        for i in 0..pulls(&pulling(&home.authority(), None, &options), &image).len() {
            let transport = pulling(&home.authority(), None, &options);
            let (call, result) = pulls(&transport, &image).swap_remove(i);
            let host = result.unwrap_or_else(|e| panic!("{what}, {call}: {e}"));
            assert!(
                host.is_empty() || host == home.authority(),
                "{what}, {call}: {host}"
            );
        }
        let transport = pulling(&home.authority(), None, &options);
        transport
            .ping(None)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let host = url.split("//").nth(1).unwrap();
        assert!(
            lock(&log)
                .iter()
                .any(|l| l.starts_with("Info") && l.contains(host) && l.contains("next host")),
            "{what}"
        );
    }
}

/// What one host did is no reason to ask another: bytes that are wrong, and calls that are over.
#[test]
fn no_failover() {
    let (registry, home, image) = registry();
    let manifest = image.manifest.digest.clone();
    let wrong = Registry::open();
    wrong.seed("a/b", "v1", 1);
    wrong.corrupt_blob(&manifest, "{}");
    let wrong = Server::start({
        let digest = manifest.clone();
        move |r| match r.path.ends_with(&digest) {
            true => Answer::ok(r#"{"schemaVersion":2}"#)
                .header("Content-Type", "application/vnd.oci.image.manifest.v1+json"),
            false => Answer::new(404),
        }
    });
    let folder = mirrored_by(&home, &[&wrong]);
    let transport = pulling(&home.authority(), None, &using(&folder, plain()));
    let error = transport.manifest_get(&manifest, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Digest, "{error}");
    assert!(error.message().contains(&wrong.authority()), "{error}");
    assert_eq!(home.count(), 0);

    let gate = Gate::new();
    let slow = Server::start({
        let gate = gate.clone();
        move |_| Answer::ok("late").after(&gate)
    });
    let folder = mirrored_by(&home, &[&slow]);
    let transport = pulling(&home.authority(), None, &using(&folder, plain()));
    support::client::ends(
        ErrorKind::Timeout,
        "deadline",
        || {
            let op = Op::new();
            op.set_timeout(Some(std::time::Duration::from_millis(20)));
            transport.manifest_get("v1", Some(&op)).map(|_| ())
        },
        || true,
        || (),
    );
    let op = Op::new();
    support::client::ends(
        ErrorKind::Cancelled,
        "cancelled",
        || transport.manifest_get("v1", Some(&op)).map(|_| ()),
        || slow.wait_requests(2),
        || op.cancel(),
    );
    assert_eq!(home.count(), 0, "{:?}", home.lines());
    gate.open();
    drop(registry);
}

/// A registry whose blobs break off after some bytes, and which then is gone.
fn dying(bytes: &Arc<Vec<u8>>, digest: &str, after: usize) -> Server {
    let (bytes, digest) = (Arc::clone(bytes), digest.to_owned());
    let served = AtomicBool::new(false);
    Server::start(move |r| {
        if r.method == "HEAD" {
            return serve_bytes(r, &digest, &bytes);
        }
        match served.swap(true, Ordering::SeqCst) {
            false => serve_bytes(r, &digest, &bytes)
                .header("ETag", "\"the mirror's\"")
                .cut_after(after),
            true => Answer::hang_up(),
        }
    })
}

/// A mirror that dies in the middle of a blob: the registry sends the rest, and is not asked for the version of
/// the bytes that the mirror had.
#[test]
fn in_the_middle_of_a_blob() {
    let bytes = Arc::new(support::registry::noise("middle", 300_000));
    let digest = sha256(&bytes);
    let registry = Registry::open();
    registry.put_blob("a/b", bytes.to_vec());
    type Pull = fn(&Transport, &str, &Path) -> Result<Vec<u8>, Error>;
    let get: Pull = |t, digest, _| t.blob_get(digest, None)?.take_body();
    let save: Pull = |t, digest, path| {
        t.blob_save(digest, path, None)?;
        Ok(std::fs::read(path).unwrap())
    };
    let at: Pull = |t, digest, _| {
        let blob = t.blob_open(digest, None)?;
        let mut all = vec![0; usize::try_from(blob.size()).unwrap()];
        blob.pread(&mut all, 0, None)?;
        Ok(all)
    };
    for retries in [0, 3] {
        for (what, pull) in [("get", get), ("save", save), ("pread", at)] {
            let home = registry.start(None);
            let mirror = dying(&bytes, &digest, 100_000);
            let folder = mirrored_by(&home, &[&mirror]);
            let options = using(&folder, with(&[("retries", retries)]));
            let transport = pulling(&home.authority(), None, &options);
            let file = tempfile::tempdir().unwrap();
            let got = pull(&transport, &digest, &file.path().join("blob"));
            assert!(
                got.unwrap_or_else(|e| panic!("{what}: {e}")) == *bytes,
                "{what}"
            );
            let asked = home.requests();
            assert_eq!(asked.len(), 1, "{what}: {:?}", home.lines());
            let range = asked[0].header("range").unwrap();
            assert!(
                range.starts_with("bytes=100000-"),
                "{what}: {range}, of what the mirror did not send"
            );
            assert_eq!(asked[0].header("if-range"), None, "{what}");
        }
    }
}

/// A mirror that takes requests for a blob and sends nothing of it does not hold the call up for ever.
#[test]
fn a_mirror_that_sends_nothing() {
    let bytes = Arc::new(support::registry::noise("nothing", 5000));
    let digest = sha256(&bytes);
    let registry = Registry::open();
    registry.put_blob("a/b", bytes.to_vec());
    let home = registry.start(None);
    let empty = Server::start({
        let (bytes, digest) = (Arc::clone(&bytes), digest.clone());
        move |r| serve_bytes(r, &digest, &bytes).cut_after(0)
    });
    let folder = mirrored_by(&home, &[&empty]);
    let transport = pulling(
        &home.authority(),
        None,
        &using(&folder, with(&[("retries", 0)])),
    );
    let got = transport.blob_get(&digest, None).unwrap().take_body();
    assert!(got.unwrap() == *bytes);
    assert_eq!(empty.count(), 1);
    // Another blob is asked of the registry first.
    let other = registry.put_blob("a/b", "other");
    transport.blob_get(&other, None).unwrap();
    assert_eq!(empty.count(), 1);
}

/// Ranges side by side, of a mirror that is gone after the first.
#[test]
fn ranges_side_by_side() {
    let bytes = Arc::new(support::registry::noise("ranges", 20 << 20));
    let digest = sha256(&bytes);
    let registry = Registry::open();
    registry.put_blob("a/b", bytes.to_vec());
    let home = registry.start(None);
    let mirror = dying(&bytes, &digest, usize::MAX);
    let folder = mirrored_by(&home, &[&mirror]);
    let options = using(&folder, with(&[("parallel", 4), ("retries", 0)]));
    let transport = pulling(&home.authority(), None, &options);
    let target = tempfile::tempdir().unwrap();
    let file = target.path().join("blob");
    transport.blob_save(&digest, &file, None).unwrap();
    assert!(std::fs::read(file).unwrap() == *bytes);
    assert!(home.count() >= 4, "{:?}", home.lines());
}

/// Several mirrors: each is asked once, the one that has it serves, and it is asked first from then on.
#[test]
fn the_one_that_has_it() {
    let (_, has, image) = registry();
    let empty = Registry::open().start(None);
    let home = Registry::open().start(None);
    let folder = mirrored_by(&home, &[&empty, &has]);
    let transport = pulling(&home.authority(), None, &using(&folder, plain()));
    let layer = &image.layers[0];
    let blob = transport.blob_open(&layer.digest, None).unwrap();
    let mut part = [0; 4];
    for i in 0..3 {
        blob.pread(&mut part, i, None).unwrap();
    }
    // HEAD and the first GET find the way, the others know it.
    assert_eq!((empty.count(), has.count(), home.count()), (2, 4, 0));
    // A host without a manifest is asked again for the next: it may have that.
    transport.manifest_get("v1", None).unwrap();
    assert_eq!(empty.count(), 3);
}

/// A mirror that is out of order is asked after the others for a while, and forgiven when it serves.
#[test]
fn a_mirror_out_of_order() {
    let (registry, home, image) = registry();
    let broken = Arc::new(AtomicBool::new(true));
    let mirror = Server::start({
        let (registry, broken) = (Arc::clone(&registry), Arc::clone(&broken));
        move |r| match broken.load(Ordering::SeqCst) {
            true => Answer::new(500),
            false => registry.answer(r),
        }
    });
    let folder = mirrored_by(&home, &[&mirror]);
    let options = using(&folder, with(&[("retries", 0)]));
    let transport = pulling(&home.authority(), None, &options);
    for _ in 0..5 {
        transport.manifest_get("v1", None).unwrap();
    }
    assert_eq!((mirror.count(), home.count()), (1, 5));
    broken.store(false, Ordering::SeqCst);
    // What the registry does not have is still asked of the mirror, and that it serves rehabilitates it.
    let own = registry.seed("a/b", "v2", 1);
    let other_home = Registry::open().start(None);
    let folder = mirrored_by(&other_home, &[&mirror]);
    let transport = pulling(
        &other_home.authority(),
        None,
        &using(&folder, with(&[("retries", 0)])),
    );
    broken.store(true, Ordering::SeqCst);
    transport.manifest_get("v2", None).unwrap_err();
    broken.store(false, Ordering::SeqCst);
    let before = other_home.count();
    let (_, host) = read(transport.manifest_get("v2", None)).unwrap();
    assert_eq!((host, other_home.count()), (mirror.authority(), before + 1));
    let (_, host) = read(transport.blob_get(&own.layers[0].digest, None)).unwrap();
    assert_eq!((host, other_home.count()), (mirror.authority(), before + 1));
    drop(image);
}

/// The repetitions are those of the call, not of each host.
#[test]
fn one_budget() {
    for (retries, mirror_asked, home_asked) in [(0, 1, 1), (1, 1, 2), (3, 2, 3), (4, 3, 3)] {
        let busy = || Server::start(|_| Answer::new(503));
        let (mirror, home) = (busy(), busy());
        let folder = mirrored_by(&home, &[&mirror]);
        let options = using(&folder, with(&[("retries", retries)]));
        let error = pulling(&home.authority(), None, &options)
            .manifest_get("v1", None)
            .unwrap_err();
        assert_eq!(
            (mirror.count(), home.count()),
            (mirror_asked, home_asked),
            "{retries}: {error}"
        );
        assert_eq!(error.http_status(), Some(503));
        assert!(error.retry_after().is_some());
    }
}

/// When nobody serves, all are told of; the registry's own word makes the error.
#[test]
fn all_errors() {
    let missing = Server::start(|_| Answer::error(404, "MANIFEST_UNKNOWN", "the registry's"));
    let dead = Server::start(|_| Answer::hang_up());
    let refusing = Server::start(|_| Answer::challenge("Basic realm=\"m\""));
    let folder = mirrored_by(&missing, &[&dead, &refusing]);
    let options = using(&folder, with(&[("retries", 0)]));
    let transport = pulling(&missing.authority(), None, &options);
    for _ in 0..2 {
        let error = transport.manifest_get("v1", None).unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Status, Some(404)),
            "{error}"
        );
        assert_eq!(
            error.diagnostics()[0].message.as_deref(),
            Some("the registry's")
        );
        for server in [&dead, &refusing, &missing] {
            assert!(error.message().contains(&server.authority()), "{error}");
        }
    }
    let digest = sha256(b"nowhere");
    assert_eq!(transport.blob_stat(&digest, None).unwrap(), None);

    // That the registry cannot be reached is not that the blob does not exist.
    let folder = mirrored_by(&dead, &[&missing]);
    let options = using(&folder, with(&[("retries", 0)]));
    let transport = pulling(&dead.authority(), None, &options);
    let error = transport.blob_stat(&digest, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert!(error.message().contains(&missing.authority()), "{error}");
    // A status that the program wants to see is the registry's, not a mirror's.
    let folder = mirrored_by(&missing, &[&refusing]);
    let transport = pulling(&missing.authority(), None, &using(&folder, plain()));
    let mut request = Request::new(None, "./manifests/v1");
    request.accept_status(404).accept_status(401);
    let response = transport.request(&request, None).unwrap();
    assert_eq!(
        (response.status(), response.host()),
        (404, missing.authority().as_str())
    );
}

/// Each host gets the credentials that are kept for it, and nothing that the program gave for the registry.
#[test]
fn credentials_of_each_host() {
    let image = |registry: &Arc<Registry>| registry.seed("a/b", "v1", 1);
    let mirror_tokens =
        Arc::new(TokenServer::new("mirror").user("m", "mirror-secret", &["repository:a/b:pull"]));
    let home_tokens =
        Arc::new(TokenServer::new("home").user("h", "home-secret", &["repository:a/b:pull"]));
    let mirror_registry = Registry::bearer(Arc::clone(&mirror_tokens));
    let home_registry = Registry::bearer(Arc::clone(&home_tokens));
    let seeded = image(&mirror_registry);
    image(&home_registry);
    let (mirror, home) = (mirror_registry.start(None), home_registry.start(None));
    let folder = mirrored_by(&home, &[&mirror]);

    // A store knows both.
    let store = tempfile::tempdir().unwrap();
    let entry = |server: &Server, user: &str, password: &str| {
        format!(
            r#""{}":{{"username":"{user}","password":"{password}"}}"#,
            server.authority()
        )
    };
    std::fs::write(
        store.path().join("config.json"),
        format!(
            r#"{{"auths":{{{},{}}}}}"#,
            entry(&mirror, "m", "mirror-secret"),
            entry(&home, "h", "home-secret")
        ),
    )
    .unwrap();
    let both = Creds::docker(Some(store.path().into()));
    let transport = pulling(&home.authority(), Some(&both), &using(&folder, plain()));
    let (_, host) = read(transport.manifest_get("v1", None)).unwrap();
    assert_eq!(host, mirror.authority());
    assert_eq!(
        (mirror_tokens.exchange_count(), home_tokens.exchange_count()),
        (1, 0)
    );
    assert_eq!(mirror_tokens.exchanges()[0].user, "m", "the mirror's own");
    drop(mirror);

    // So does a callback; it is asked by name.
    let mirror = mirror_registry.start(None);
    let folder = mirrored_by(&home, &[&mirror]);
    let (mirror_name, home_name) = (mirror.authority(), home.authority());
    let ask: Arc<CredsFn> = Arc::new(move |registry, _| match registry {
        r if r == mirror_name => Creds::basic("m", "wrong"),
        r if r == home_name => Creds::basic("h", "home-secret"),
        r => panic!("{r}"),
    });
    let asking = Creds::callback(ask);
    let transport = pulling(&home.authority(), Some(&asking), &using(&folder, plain()));
    let (_, host) = read(transport.manifest_get("v1", None)).unwrap();
    assert_eq!(host, home.authority());
    mirror.clear();
    home.clear();

    // What the program gives is for the registry it named.
    for given in [
        Creds::basic("h", "home-secret").unwrap(),
        Creds::bearer("home-secret").unwrap(),
        Creds::refresh("home-secret").unwrap(),
    ] {
        let transport = pulling(&home.authority(), Some(&given), &using(&folder, plain()));
        let mut request = Request::new(None, "./manifests/v1");
        request.header("X-Key", "home-secret");
        let _ = transport.request(&request, None);
        let _ = transport.blob_get(&seeded.layers[0].digest, None);
        request.header("Authorization", "Basic home-secret");
        let _ = transport.request(&request, None);
    }
    assert!(mirror.count() > 0 && home.count() > 0);
    for request in mirror.requests() {
        assert!(
            !format!("{request:?}").contains("home-secret") && request.basic().is_none(),
            "{request:?}"
        );
    }
    assert!(
        home.requests()
            .iter()
            .any(|r| r.header("x-key") == Some("home-secret")),
        "the registry gets what was meant for it"
    );
}

/// Whatever is no pull goes to the registry itself, and so does every request of a transport that may do more
/// than pull: it must see what it changes.
#[test]
fn only_pulls_go_to_mirrors() {
    let (registry, home, image) = registry();
    let mirror = registry.start(None);
    let folder = mirrored_by(&home, &[&mirror]);
    let options = using(&folder, plain());
    let pulling = pulling(&home.authority(), None, &options);
    let mut tags = Names::tags(&pulling);
    while tags.next_name(None).unwrap().is_some() {}
    let request = |path: &str| pulling.request(&Request::new(None, path), None);
    request("/v2/").unwrap();
    request("./tags/list").unwrap();
    let mut referrers =
        registry_transport::referrers::Referrers::new(&pulling, &image.manifest.digest, None)
            .unwrap();
    while referrers.next_referrer(None).unwrap().is_some() {}
    assert_eq!(mirror.count(), 0, "{:?}", mirror.lines());

    let name = format!("{}/a/b", home.authority());
    let pushing = Transport::new(
        &name,
        Actions::push().and(Actions::delete()),
        None,
        Some(&options),
    )
    .unwrap();
    pulls(&pushing, &image);
    let data = registry_transport::source::Source::bytes(*b"new");
    pushing.blob_put(None, &data, None, None).unwrap();
    pushing.ping(None).unwrap();
    pushing.manifest_delete("v1", None).unwrap();
    assert_eq!(mirror.count(), 0, "{:?}", mirror.lines());
    assert!(home.count() > 10);

    // A copy reads through the mirrors and writes to the registry.
    let target = Registry::open().start(None);
    let to = Transport::new(
        &format!("{}/c", target.authority()),
        Actions::push(),
        None,
        Some(&plain()),
    )
    .unwrap();
    registry.seed("a/b", "v1", 2);
    home.clear();
    copy(&pulling, "v1", &to, "v1", None).unwrap();
    assert_eq!(home.count(), 0, "{:?}", home.lines());
    assert!(mirror.count() >= 4);
}

/// `capabilities`, `override_path`, `header` and `server` of hosts.toml.
#[test]
fn what_hosts_toml_says() {
    let (registry, full, image) = registry();
    let name = "registry.example";
    let content = registry.start(None);
    let below = Server::start({
        let registry = Arc::clone(&registry);
        move |r| match r.path.strip_prefix("/some/where/") {
            Some(rest) => {
                let mut r = r.clone();
                r.path = format!("/v2/{rest}");
                registry.answer(&r)
            }
            None => Answer::new(404),
        }
    });
    let folder = hosts_dir(
        name,
        &format!(
            "server = \"{}\"\n\
             [host.\"{}\"]\n  capabilities = [\"pull\"]\n\
             [host.\"{}\"]\n  capabilities = [\"resolve\"]\n  override_path = true\n\
             [host.\"{}\".header]\n  x-pull-key = [\"mirror-secret\", \"second\"]\n  accept = \"never/sent\"\n",
            full.url(""),
            content.url(""),
            below.url("/some/where"),
            below.url("/some/where"),
        ),
    );
    let mut options = using(&folder, plain());
    let log = keep_log(&mut options);
    let transport = pulling(name, None, &options);
    let (_, tagged) = read(transport.manifest_get("v1", None)).unwrap();
    assert_eq!(tagged, below.authority());
    let (_, host) = read(transport.manifest_get(&image.manifest.digest, None)).unwrap();
    assert_eq!(host, content.authority());
    let (_, host) = read(transport.blob_get(&image.layers[0].digest, None)).unwrap();
    assert_eq!(host, content.authority());
    assert_eq!(full.count(), 0);
    let asked = &below.requests()[0];
    assert_eq!(asked.path, "/some/where/a/b/manifests/v1");
    assert_eq!(asked.query_param("ns").as_deref(), Some(name));
    assert_eq!(asked.header_all("x-pull-key"), ["mirror-secret", "second"]);
    assert!(asked.header("accept").unwrap().contains("manifest"));
    for request in content.requests() {
        assert_eq!(request.header("x-pull-key"), None);
    }
    assert!(!lock(&log).join("\n").contains("mirror-secret"));
    // The rest is the server's.
    transport
        .request(&Request::new(None, "./tags/list"), None)
        .unwrap();
    assert_eq!(full.count(), 1);

    // Nobody may say what a tag is.
    let folder = hosts_dir(
        name,
        &format!("server = \"{}\"\ncapabilities = [\"pull\"]\n", full.url("")),
    );
    let transport = pulling(name, None, &using(&folder, plain()));
    let error = transport.manifest_get("v1", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    transport
        .manifest_get(&image.manifest.digest, None)
        .unwrap();
}

/// TLS of a mirror by its own table: its CA, a certificate shown to it, and no check at all.
#[test]
fn trust_of_a_mirror() {
    let (registry, home, image) = registry();
    let ca = Ca::new();
    let shown = ca.client("puller");
    let serve = || {
        Server::builder()
            .tls_config(ca.server_config_with_client_auth(&ca.server()))
            .start({
                let registry = Arc::clone(&registry);
                move |r| registry.answer(r)
            })
    };
    let both = tempfile::tempdir().unwrap();
    let pair = both.path().join("pair.pem");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    std::fs::write(
        &pair,
        format!("{}{}", read(&shown.certificate_path), read(&shown.key_path)),
    )
    .unwrap();
    let (ca_file, cert, key) = (
        ca.path().display(),
        shown.certificate_path.display(),
        shown.key_path.display(),
    );
    for (what, settings, works) in [
        ("nothing", String::new(), false),
        ("only the CA", format!("ca = \"{ca_file}\""), false),
        (
            "a pair",
            format!("ca = [\"{ca_file}\"]\nclient = [[\"{cert}\", \"{key}\"]]"),
            true,
        ),
        (
            "one file",
            format!("ca = \"{ca_file}\"\nclient = \"{}\"", pair.display()),
            true,
        ),
        (
            "no check",
            format!("skip_verify = true\nclient = [[\"{cert}\", \"{key}\"]]"),
            true,
        ),
        (
            "a file that is not there",
            "ca = \"beside.crt\"".to_owned(),
            false,
        ),
    ] {
        let mirror = serve();
        let folder = hosts_dir(
            &home.authority(),
            &format!("[host.\"{}\"]\n{settings}\n", mirror.url("")),
        );
        let mut options = using(&folder, plain());
        let log = keep_log(&mut options);
        let transport = pulling(&home.authority(), None, &options);
        let host = transport
            .manifest_get(&image.manifest.digest, None)
            .unwrap()
            .host()
            .to_owned();
        assert_eq!(host == mirror.authority(), works, "{what}: {log:?}");
        let loud = lock(&log)
            .iter()
            .any(|l| l.starts_with("Warn") && l.contains(&mirror.authority()));
        assert_eq!(loud, what == "no check", "{what}: {log:?}");
    }
}

/// registries.conf: mirrors, another location, other repositories, no TLS.
#[test]
fn registries_conf() {
    let registry = Registry::open();
    let there = registry.seed("deep/a/b", "v1", 1);
    let mirror = registry.start(None);
    let (home_registry, home, _) = self::registry();
    let file = tempfile::tempdir().unwrap();
    let path = file.path().join("registries.conf");
    let with_conf = |text: String| {
        std::fs::write(&path, text).unwrap();
        let mut options = plain();
        options
            .set_text("registries-conf", path.to_str().unwrap())
            .unwrap();
        options
    };
    // The mirror's repositories have a folder of their own; it is asked without ns.
    let options = with_conf(format!(
        "[[registry]]\nprefix = \"registry.example/a\"\nlocation = \"{}/a\"\n\
         [[registry.mirror]]\nlocation = \"{}/deep/a\"\n",
        home.authority(),
        mirror.authority()
    ));
    let transport = pulling("registry.example", None, &options);
    let (_, host) = read(transport.manifest_get("v1", None)).unwrap();
    assert_eq!(host, mirror.authority());
    assert_eq!(mirror.requests()[0].target, "/v2/deep/a/b/manifests/v1");
    // What only the registry has.
    let own = home_registry.put_blob("a/b", "own");
    assert_eq!(
        read(transport.blob_get(&own, None)).unwrap(),
        (b"own".to_vec(), home.authority())
    );
    let mut tags = Names::tags(&transport);
    assert_eq!(tags.next_name(None).unwrap().as_deref(), Some("v1"));

    // Digests only: what a tag means is the registry's to say.
    let options = with_conf(format!(
        "[[registry]]\nlocation = \"{}\"\nmirror-by-digest-only = true\n\
         [[registry.mirror]]\nlocation = \"{}/deep\"\n",
        home.authority(),
        mirror.authority()
    ));
    mirror.clear();
    let transport = pulling(&home.authority(), None, &options);
    let host_of = |r: Result<Response, Error>| r.unwrap().host().to_owned();
    assert_eq!(
        host_of(transport.manifest_get("v1", None)),
        home.authority()
    );
    assert_eq!(mirror.count(), 0);
    assert_eq!(
        host_of(transport.manifest_get(&there.manifest.digest, None)),
        mirror.authority()
    );

    // Without TLS, and with a certificate that nobody trusts.
    let ca = Ca::new();
    let secure = home_registry.start(Some(&ca));
    for server in [&home, &secure] {
        let options = with_conf(format!(
            "[[registry]]\nprefix = \"registry.example\"\nlocation = \"{}\"\ninsecure = true\n",
            server.authority()
        ));
        server.clear();
        let transport = Transport::new(
            "registry.example/a/b",
            Actions::push(),
            None,
            Some(&options),
        )
        .unwrap();
        transport.manifest_get("v1", None).unwrap();
        transport
            .blob_put(
                None,
                &registry_transport::source::Source::bytes(*b"pushed"),
                None,
                None,
            )
            .unwrap();
        let asked = server.requests();
        assert_eq!(
            asked[0].path, "/v2/",
            "which scheme it speaks is tried once"
        );
        assert_eq!(asked.iter().filter(|r| r.path == "/v2/").count(), 1);
        assert!(
            asked
                .iter()
                .all(|r| r.tls == (server.address() == secure.address()))
        );
    }

    let options = with_conf("[[registry]]\nprefix = \"bad.example\"\nblocked = true\n".to_owned());
    let error = Transport::new("bad.example/x", Actions::pull(), None, Some(&options)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("bad.example"), "{error}");
    let error = Transport::new(
        "bad.example/x",
        Actions::pull(),
        None,
        Some(&with_conf("[[registry]\n".to_owned())),
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Syntax, "{error}");
    assert!(error.message().contains("registries.conf:1"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = Transport::new("x.example/x", Actions::pull(), None, Some(&options)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

/// A tag or digest with a table of its own is not taken from where the rest of its repository is.
#[test]
fn tables_for_single_images() {
    let registry = Registry::open();
    let image = registry.seed("a/b", "v1", 1);
    for tag in ["bad", "moved"] {
        registry.set_tag("a/b", tag, &image.manifest.digest);
    }
    let other = registry.seed("a/b", "v2", 2).manifest.digest;
    let server = registry.start(None);
    let name = format!("{}/a/b", server.authority());
    let file = tempfile::NamedTempFile::new().unwrap();
    let table = |reference: &str, more: &str| {
        format!("[[registry]]\nprefix = \"{name}{reference}\"\n{more}\n")
    };
    let tables = [
        table(":bad", "blocked = true"),
        table(":moved", "location = \"elsewhere.example/x:y\""),
        table(&format!("@{other}"), "blocked = true"),
        table("/c:v1", "blocked = true"),
        table("c:v1", "blocked = true"),
        table(":no:tag", "blocked = true"),
    ];
    std::fs::write(file.path(), tables.concat()).unwrap();
    let mut options = plain();
    let path = file.path().to_str().unwrap();
    options.set_text("registries-conf", path).unwrap();
    let transport = Transport::new(&name, Actions::pull(), None, Some(&options)).unwrap();
    for (reference, words) in [
        ("bad", ":bad is blocked"),
        ("moved", ":moved alone"),
        (other.as_str(), "is blocked"),
    ] {
        let got = transport.manifest_get(reference, None);
        let head = transport.manifest_head(reference, None);
        let request = Request::new(None, &format!("./manifests/{reference}"));
        let raw = transport.request(&request, None);
        for error in [got.unwrap_err(), head.unwrap_err(), raw.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains(words), "{error}");
            assert!(error.message().contains(path), "{error}");
        }
    }
    assert_eq!(server.count(), 0, "nothing was asked");
    transport.manifest_get("v1", None).unwrap();
    transport
        .manifest_get(&image.manifest.digest, None)
        .unwrap();
    let bare = Transport::new(&server.authority(), Actions::pull(), None, Some(&options)).unwrap();
    bare.ping(None).unwrap();
}

/// Short names: an alias, the one search registry, and no guess among several.
#[test]
fn short_names() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let with_conf = |text: &str| {
        std::fs::write(file.path(), text).unwrap();
        let mut options = plain();
        options
            .set_text("registries-conf", file.path().to_str().unwrap())
            .unwrap();
        options
    };
    let aliases =
        "[aliases]\nfedora = \"registry.fedora.example/fedora\"\n\"o/app\" = \"q.example/x/app\"\n";
    let one = "unqualified-search-registries = [\"only.example\"]\n";
    let hub = "unqualified-search-registries = [\"docker.io\"]\n";
    let two = "unqualified-search-registries = [\"a.example\", \"b.example\"]\n";
    for (conf, text, want) in [
        (
            aliases,
            "fedora",
            Ok("registry.fedora.example/fedora:latest"),
        ),
        (
            aliases,
            "fedora:39",
            Ok("registry.fedora.example/fedora:39"),
        ),
        (aliases, "o/app:1", Ok("q.example/x/app:1")),
        (aliases, "o/other", Ok("index.docker.io/o/other:latest")),
        (
            aliases,
            "ubuntu",
            Ok("index.docker.io/library/ubuntu:latest"),
        ),
        (
            aliases,
            "docker.io/fedora",
            Ok("index.docker.io/library/fedora:latest"),
        ),
        (one, "ubuntu:22.04", Ok("only.example/ubuntu:22.04")),
        (one, "o/app", Ok("only.example/o/app:latest")),
        (one, "ghcr.io/o/app", Ok("ghcr.io/o/app:latest")),
        (one, "localhost/app", Ok("localhost/app:latest")),
        (hub, "ubuntu", Ok("index.docker.io/library/ubuntu:latest")),
        (two, "ubuntu", Err(ErrorKind::Argument)),
        (two, "c.example/ubuntu", Ok("c.example/ubuntu:latest")),
        (one, "Ubuntu", Err(ErrorKind::Syntax)),
        ("", "ubuntu", Ok("index.docker.io/library/ubuntu:latest")),
    ] {
        let options = with_conf(conf);
        let got = registries::resolve(text, &options);
        let got = got.as_ref().map(Reference::to_string).map_err(Error::kind);
        assert_eq!(got.as_deref().map_err(|k| *k), want, "{text} with {conf}");
        if text.contains(":") {
            continue;
        }
        // A transport takes the same names.
        let transport = Transport::new(text, Actions::pull(), None, Some(&options));
        let got = transport
            .as_ref()
            .map(|t| format!("{}/{}:latest", t.registry(), t.repository().unwrap()))
            .map_err(Error::kind);
        assert_eq!(got.as_deref().map_err(|k| *k), want, "{text} with {conf}");
    }
    let digest = sha256(b"x");
    let options = with_conf(&format!("{two}{aliases}"));
    let got = registries::resolve(&format!("fedora@{digest}"), &options).unwrap();
    assert_eq!(
        got.to_string(),
        format!("registry.fedora.example/fedora@{digest}")
    );
    let error = registries::resolve("ubuntu", &options).unwrap_err();
    for name in ["a.example", "b.example", "ubuntu"] {
        assert!(error.message().contains(name), "{error}");
    }
    let untouched = registries::resolve("ubuntu", &plain()).unwrap();
    assert_eq!(untouched.registry().as_str(), "index.docker.io");
}

/// A certs.d folder with a folder for each of these, to which files are copied under new names.
fn certs_dir(hosts: &[(&str, &[(&Path, &str)])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (host, files) in hosts {
        let own = folder.path().join(host);
        std::fs::create_dir(&own).unwrap();
        for (from, name) in *files {
            std::fs::copy(from, own.join(name)).unwrap();
        }
    }
    folder
}

fn with_certs(folder: &TempDir) -> Options {
    let mut options = plain();
    options.set_text("scheme", "https").unwrap();
    options
        .set_text("certs-dir", folder.path().to_str().unwrap())
        .unwrap();
    options
}

/// certs.d: `*.crt` is trusted, `*.cert` with `*.key` is shown, of that host alone.
#[test]
fn certs_d() {
    let ca = Ca::new();
    let shown = ca.client("puller");
    let (crt, cert, key) = (
        ca.path(),
        shown.certificate_path.as_path(),
        shown.key_path.as_path(),
    );
    let serve = || {
        Server::builder()
            .tls_config(ca.server_config_with_client_auth(&ca.server()))
            .start(|r| {
                assert!(r.client_certificate.is_some());
                Answer::ok("fine")
            })
    };
    let all: &[(&Path, &str)] = &[(crt, "any.crt"), (cert, "any.cert"), (key, "any.key")];
    type Case<'a> = (&'a str, &'a str, &'a [(&'a Path, &'a str)], Option<&'a str>);
    let cases: [Case<'_>; 7] = [
        ("all", "HOST", all, None),
        ("another host", "127.0.0.1:1", all, Some("127.0.0.1")),
        ("no port", "127.0.0.1", all, Some("127.0.0.1")),
        (
            "no certificate",
            "HOST",
            &all[..1],
            Some("CertificateRequired"),
        ),
        ("no key", "HOST", &all[..2], Some("any.key is missing")),
        (
            "no certificate for the key",
            "HOST",
            &[(crt, "any.crt"), (key, "any.key")],
            Some("any.cert is missing"),
        ),
        (
            "no certificate in it",
            "HOST",
            &[(key, "any.crt")],
            Some("any.crt"),
        ),
    ];
    for (what, host, files, words) in cases {
        let server = serve();
        let host = host.replace("HOST", &server.authority());
        let folder = certs_dir(&[(&host, files)]);
        let transport = pulling(&server.authority(), None, &with_certs(&folder));
        let result = support::client::get(&transport, "./x");
        match words {
            None => assert_eq!(result.unwrap(), b"fine", "{what}"),
            Some(words) => {
                let error = result.unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::Tls | ErrorKind::Network)
                        && error.message().contains(words),
                    "{what}: {error}"
                );
            }
        }
    }
    // Nothing there, or no such folder at all, is nothing to speak of; files that come later count.
    let server = serve();
    let folder = tempfile::tempdir().unwrap();
    let options = with_certs(&folder);
    let transport = pulling(&server.authority(), None, &options);
    assert_eq!(
        support::client::get(&transport, "./x").unwrap_err().kind(),
        ErrorKind::Tls
    );
    let own = folder.path().join(server.authority());
    std::fs::create_dir(&own).unwrap();
    for (from, name) in all {
        std::fs::copy(from, own.join(name)).unwrap();
    }
    assert_eq!(support::client::get(&transport, "./x").unwrap(), b"fine");
}

/// The token service and the storage a registry redirects to have folders of their own; what the registry's says
/// is trusted goes for them as well, what it shows does not.
#[test]
fn certs_d_of_others() {
    let (own_ca, other_ca) = (Ca::new(), Ca::named("another"));
    let shown = own_ca.client("puller");
    for (what, ca, own_folder) in [
        ("their own", &other_ca, true),
        ("the registry's", &own_ca, false),
    ] {
        let other = Server::builder().tls(ca).start(|r| match r.path.as_str() {
            "/token" => Answer::ok(r#"{"token":"T"}"#),
            _ => Answer::ok("stored"),
        });
        let realm = other.url("/token");
        let storage = other.url("/storage");
        let home = Server::builder()
            .tls_config(own_ca.server_config_with_client_auth(&own_ca.server()))
            .start(move |r| match r.bearer() {
                Some("T") => Answer::redirect(307, &storage),
                _ => Answer::challenge(format!("Bearer realm=\"{realm}\",service=\"s\"")),
            });
        let home_files: &[(&Path, &str)] = &[
            (own_ca.path(), "ca.crt"),
            (&shown.certificate_path, "me.cert"),
            (&shown.key_path, "me.key"),
        ];
        let (home_name, other_name) = (home.authority(), other.authority());
        let mut folders = vec![(home_name.as_str(), home_files)];
        let other_files: &[(&Path, &str)] = &[(other_ca.path(), "ca.crt")];
        if own_folder {
            folders.push((other_name.as_str(), other_files));
        }
        let folder = certs_dir(&folders);
        let transport = pulling(&home.authority(), None, &with_certs(&folder));
        assert_eq!(
            support::client::get(&transport, "./x").unwrap_or_else(|e| panic!("{what}: {e}")),
            b"stored"
        );
        assert!(
            other
                .requests()
                .iter()
                .all(|r| r.client_certificate.is_none())
        );
        assert_eq!(other.count(), 2, "{what}");
    }
}

/// The places that podman reads, in a process that has such an environment: the user's file in place of the
/// system's, what was dropped beside it, the names the user was asked for once, and the user's certs.d.
#[test]
fn usual_places() {
    const INSIDE: &str = "TEST_HOSTS_INSIDE";
    if let Ok(authority) = std::env::var(INSIDE) {
        let mut options = Options::new();
        options.set_text("registries-conf", "default").unwrap();
        options.set_text("proxy", "").unwrap();
        options.set_text("scheme", "https").unwrap();
        options.set_number("retries", 0).unwrap();
        for name in ["rt-main", "rt-dropped", "rt-asked", "rt-unknown"] {
            let full = registries::resolve(name, &options).map(|r| r.to_string());
            println!("\n{name}: {}", full.unwrap_or_else(|e| e.to_string()));
        }
        let got = support::client::get(&pulling(&authority, None, &options), "./x");
        let got = got.map(|body| String::from_utf8(body).unwrap());
        println!(
            "\nrequest: {}",
            got.unwrap_or_else(|e| format!("{:?}", e.kind()))
        );
        return;
    }
    let ca = Ca::new();
    let server = Server::builder().tls(&ca).start(|_| Answer::ok("fine"));
    let base = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = base.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let search = |name: &str| format!("unqualified-search-registries = [\"{name}.example\"]\n");
    let main = |from: &str| {
        format!(
            "{}[aliases]\nrt-main = \"{from}.example/main\"\n",
            search(from)
        )
    };
    for config in ["home/.config", "xdg"] {
        let from = config.rsplit(['/', '.']).next().unwrap();
        put(&format!("{config}/containers/registries.conf"), &main(from));
        put(
            &format!("{config}/containers/registries.conf.d/90-x.conf"),
            &format!("[aliases]\nrt-dropped = \"{from}.example/second\"\n"),
        );
        put(
            &format!("{config}/containers/registries.conf.d/10-x.conf"),
            "[aliases]\nrt-dropped = \"first.example/first\"\n",
        );
        put(
            &format!("{config}/containers/registries.conf.d/99-x.toml"),
            "this is none of the files",
        );
    }
    let named = put("named.conf", &main("named"));
    let asked = "[aliases]\nrt-asked = \"asked.example/a\"\n";
    put("home/.cache/containers/short-name-aliases.conf", asked);
    put(
        &format!(
            "home/.config/containers/certs.d/{}/ca.crt",
            server.authority()
        ),
        ca.pem(),
    );
    let at = |name: &str| base.path().join(name).to_str().unwrap().to_owned();
    let run = |variables: &[(&str, &str)]| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "usual_places", "--nocapture"])
            .env_clear()
            .env(INSIDE, server.authority())
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let words = [
            "rt-main: ",
            "rt-dropped: ",
            "rt-asked: ",
            "rt-unknown: ",
            "request: ",
        ];
        words.map(|word| {
            let line = text.lines().find_map(|l| l.strip_prefix(word));
            line.unwrap_or_else(|| panic!("no {word} in {text}"))
                .to_owned()
        })
    };
    let home = at("home");
    assert_eq!(
        run(&[("HOME", &home)]),
        [
            "config.example/main:latest",
            "config.example/second:latest",
            "asked.example/a:latest",
            "config.example/rt-unknown:latest",
            "fine"
        ]
    );
    assert_eq!(
        run(&[("HOME", &home), ("XDG_CONFIG_HOME", &at("xdg"))])[..2],
        ["xdg.example/main:latest", "xdg.example/second:latest"]
    );
    assert_eq!(
        run(&[("HOME", &home), ("CONTAINERS_REGISTRIES_CONF", &named)])[..2],
        ["named.example/main:latest", "config.example/second:latest"]
    );
    let nobody = run(&[]);
    assert!(!nobody[0].contains(".example"), "{nobody:?}");
    assert_eq!(nobody[4], "Tls");
}

/// A pipe in the place of a configuration file or a certificate keeps nobody waiting.
#[test]
fn pipes_in_the_place_of_files() {
    let (_, home, image) = registry();
    for (name, is_read) in [("hosts.toml", true), ("ca.crt", false)] {
        let folder = hosts_dir(&home.authority(), "");
        let own = folder.path().join(home.authority());
        std::fs::remove_file(own.join("hosts.toml")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(own.join(name))
            .status();
        assert!(made.unwrap().success());
        let mut options = using(&folder, with(&[]));
        options
            .set_text("certs-dir", folder.path().to_str().unwrap())
            .unwrap();
        let place = format!("{}/a/b", home.authority());
        match Transport::new(&place, Actions::pull(), None, Some(&options)) {
            Ok(transport) => {
                assert!(!is_read);
                for (call, result) in pulls(&transport, &image) {
                    assert!(result.is_ok(), "{call}: {result:?}");
                }
            }
            Err(e) => {
                assert!(is_read && e.kind() == ErrorKind::Io, "{e}");
                assert!(e.message().contains("is a pipe"), "{e}");
            }
        }
    }
}
