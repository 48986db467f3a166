//! Against real registries: Debian's docker-registry, open, with Basic credentials, and with tokens over TLS
//! that it verifies itself; skopeo puts images there and takes them from there, the C examples do the rest.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use registry_transport::creds::Creds;
use registry_transport::pages::Names;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};
use support::c;
use support::real::{DockerRegistry, Guarded, cert_dir, skopeo_ok};
use support::registry::Registry;
use support::token::TokenServer;

fn users() -> TokenServer {
    TokenServer::new("registry").user(
        "demo",
        "pass",
        &["repository:demo/*:*", "registry:catalog:*"],
    )
}

/// A layout with an image of so many layers, made by the embedded registry.
fn layout(folder: &Path, layers: usize) -> PathBuf {
    let registry = Registry::open();
    registry.seed("demo/app", "v1", layers);
    registry.write_layout("demo/app", "v1", folder);
    folder.to_owned()
}

/// The C examples, built once against the library of this test run.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let shared = ["common", "json", "layout"];
        for (program, own) in [
            ("pull", &["transfer", "platform"][..]),
            ("push", &["transfer"]),
            ("list", &[]),
            ("copy", &[]),
            ("cat-blob", &[]),
            ("request", &[]),
            ("login-check", &[]),
        ] {
            let sources = shared.iter().chain(own).chain([&program]);
            let sources: Vec<_> = sources.map(|name| format!("examples-c/{name}")).collect();
            c::build(folder.path(), &sources);
        }
        folder
    });
    folder.path().join(name)
}

/// Runs an example that must succeed.
fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(example(name))
        .env("REGISTRY_PASSWORD", "pass")
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The names of the blobs in a layout, each checked by sha256sum.
fn blobs(layout: &Path) -> Vec<String> {
    let folder = layout.join("blobs/sha256");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in &names {
        let sum = Command::new("sha256sum")
            .arg(folder.join(name))
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&sum.stdout).starts_with(name.as_str()),
            "{name}"
        );
    }
    names
}

#[test]
fn skopeo_pushes_and_pull_pulls_in_all_three_ways() {
    let folder = tempfile::tempdir().unwrap();
    let source = layout(&folder.path().join("in"), 5);
    let guarded = Guarded::start(users());
    let (open, basic) = (
        DockerRegistry::open(),
        DockerRegistry::basic("demo", "pass"),
    );
    let certs = format!("--dest-cert-dir={}", cert_dir(&guarded.ca));
    let ca = guarded.ca.path().to_str().unwrap();
    for (n, (authority, to, from)) in [
        (open.authority(), vec!["--dest-tls-verify=false"], vec![]),
        (
            basic.authority(),
            vec!["--dest-tls-verify=false", "--dest-creds=demo:pass"],
            vec!["-u", "demo"],
        ),
        (
            guarded.registry.authority(),
            vec![certs.as_str(), "--dest-creds=demo:pass"],
            vec!["-u", "demo", "--ca", ca],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let image = format!("{authority}/demo/app:v1");
        let mut arguments = vec!["copy", "--preserve-digests"];
        arguments.extend(&to);
        let layout = format!("oci:{}:v1", source.display());
        let target = format!("docker://{image}");
        arguments.extend([layout.as_str(), target.as_str()]);
        skopeo_ok(&arguments);
        let out = folder.path().join(format!("out{n}"));
        let mut arguments = from.clone();
        arguments.extend([image.as_str(), out.to_str().unwrap()]);
        run("pull", &arguments);
        assert_eq!(blobs(&out), blobs(&source), "{authority}");
        let repository = format!("{authority}/demo/app");
        let mut arguments = from.clone();
        arguments.push(&repository);
        assert_eq!(run("list", &arguments), "v1\n");
    }
}

#[test]
fn push_pushes_and_skopeo_pulls() {
    let folder = tempfile::tempdir().unwrap();
    let source = layout(&folder.path().join("in"), 3);
    let guarded = Guarded::start(users());
    let ca = guarded.ca.path().to_str().unwrap();
    let image = format!("{}/demo/app:v2", guarded.registry.authority());
    run(
        "push",
        &["-u", "demo", "--ca", ca, source.to_str().unwrap(), &image],
    );
    let out = folder.path().join("out");
    let certs = format!("--src-cert-dir={}", cert_dir(&guarded.ca));
    let (from, to) = (
        format!("docker://{image}"),
        format!("oci:{}:v2", out.display()),
    );
    skopeo_ok(&[
        "copy",
        "--preserve-digests",
        &certs,
        "--src-creds=demo:pass",
        &from,
        &to,
    ]);
    assert_eq!(blobs(&out), blobs(&source));
    // And on to another repository of the same registry, by mount, and to another registry.
    let open = DockerRegistry::open();
    for (target, flags) in [
        (
            format!("{}/demo/copy:v3", guarded.registry.authority()),
            vec!["-u", "demo", "--ca", ca],
        ),
        (format!("{}/demo/copy:v3", open.authority()), vec![]),
    ] {
        let mut arguments = vec!["-u", "demo", "--ca", ca, image.as_str()];
        arguments.extend(&flags);
        arguments.push(&target);
        run("copy", &arguments);
        let pulled = folder.path().join(target.replace(['/', ':'], "-"));
        let mut arguments = flags.clone();
        arguments.extend([target.as_str(), pulled.to_str().unwrap()]);
        run("pull", &arguments);
        assert_eq!(blobs(&pulled), blobs(&source), "{target}");
    }
}

/// A cold pull of an image with n blobs makes at most n + 3 requests besides the token exchange.
#[test]
fn a_cold_pull_makes_few_requests() {
    let folder = tempfile::tempdir().unwrap();
    let source = layout(&folder.path().join("in"), 10);
    let guarded = Guarded::start(users());
    let ca = guarded.ca.path().to_str().unwrap();
    let image = format!("{}/demo/app:v1", guarded.registry.authority());
    run(
        "push",
        &["-u", "demo", "--ca", ca, source.to_str().unwrap(), &image],
    );
    let requests = || {
        guarded
            .registry
            .log()
            .lines()
            .filter(|l| l.contains(" HTTP/1.1\" "))
            .count()
    };
    let (before, exchanges) = (requests(), guarded.token.exchange_count());
    let out = folder.path().join("out");
    run(
        "pull",
        &["-u", "demo", "--ca", ca, &image, out.to_str().unwrap()],
    );
    let n = blobs(&out).len() - 1;
    let made = requests() - before;
    assert!(
        made > n,
        "the registry's log is not what it was: {made} lines for {n} blobs"
    );
    assert!(made <= n + 3, "{made} requests for {n} blobs");
    assert_eq!(guarded.token.exchange_count() - exchanges, 1);
}

/// What would be used is told before the ping, what was learned after it, and how it ended; with the files that
/// docker and podman read, and without a secret.
#[test]
fn login_check_tells_what_is_used() {
    let guarded = Guarded::start(users());
    let authority = guarded.registry.authority();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let login = |file: &str, password: &str| {
        let text = format!(
            r#"{{"auths":{{"{authority}":{{"username":"demo","password":"{password}"}}}}}}"#
        );
        std::fs::write(at(file), text).unwrap();
    };
    login("config.json", "pass");
    login("auth.json", "wrong");
    let ca = guarded.ca.path().to_str().unwrap().to_owned();
    let image = format!("{authority}/demo/app:v1");
    let run = |arguments: &[&str]| {
        let output = Command::new(example("login-check"))
            .env("DOCKER_CONFIG", folder.path())
            .env("REGISTRY_AUTH_FILE", at("auth.json"))
            .args(["--ca", &ca])
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        for secret in ["pass\"", "wrong", "ZGVtbzp"] {
            assert!(!out.contains(secret) && !err.contains(secret), "{out}{err}");
        }
        (output.status.code(), out, err)
    };
    let has = |text: &str, words: &str| {
        text.find(words)
            .unwrap_or_else(|| panic!("no {words:?} in:\n{text}"))
    };

    let (status, out, err) = run(&["--docker", &image]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    let source = format!("{} auths[\"{authority}\"]", at("config.json"));
    let pinged = has(&out, "the ping was answered");
    assert!(has(&out, &source) < pinged && has(&out, &ca) < pinged);
    assert!(has(&out, "nothing that is known yet") < pinged);
    assert!(has(&out, "a token (Bearer)") > pinged);
    assert!(has(&out, "repository:demo/app:pull") > pinged);
    assert!(has(&out, &guarded.tokens.url("/token")) > pinged);
    assert_eq!(
        out.matches(&source).count(),
        1,
        "nothing is told twice: {out}"
    );

    // What podman has is wrong, which is told, with what was used.
    let (status, out, err) = run(&["--podman", &image]);
    assert_eq!(status, Some(1), "{out}{err}");
    has(&out, &format!("{} auths[\"{authority}\"]", at("auth.json")));
    has(&out, "the ping failed");
    has(&err, "RT_E_AUTH");

    // As one JSON object, for a short name.
    let aliases = at("registries.conf");
    let text = format!("[aliases]\napp = \"{authority}/demo/app\"\n");
    std::fs::write(&aliases, text).unwrap();
    let set = format!("registries-conf={aliases}");
    let arguments = ["--docker", "--json", "--push", "--set", &set, "app"];
    let (status, out, err) = run(&arguments);
    assert_eq!(status, Some(0), "{out}{err}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["registry"], authority);
    assert_eq!(told["repository"], "demo/app");
    assert_eq!(told["actions"], serde_json::json!(["pull", "push"]));
    let host = &told["hosts"][0];
    assert_eq!(host["credentials"]["file"], at("config.json"));
    assert_eq!(
        host["wants"]["scopes"],
        serde_json::json!(["repository:demo/app:push,pull"])
    );

    let before = guarded.registry.log();
    let (status, out, _) = run(&["--docker", "--offline", &image]);
    assert_eq!(status, Some(0));
    has(&out, "nothing that is known yet");
    assert_eq!(guarded.registry.log(), before, "nothing was sent");
    assert_eq!(run(&["--nonsense", &image]).0, Some(2));
}

/// R32.
#[test]
fn sixteen_threads_make_one_exchange() {
    let guarded = Guarded::start(users());
    let pushing = guarded.transport(Actions::push());
    let data = vec![7; 100_000];
    let put = pushing
        .blob_put(None, &Source::bytes(data.clone()), None, None)
        .unwrap();
    let digest = put.digest().unwrap().to_string();
    let before = guarded.token.exchange_count();
    let transport = guarded.transport(Actions::pull());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                assert_eq!(
                    transport.blob_get(&digest, None).unwrap().body().unwrap(),
                    data
                )
            });
        }
    });
    assert_eq!(guarded.token.exchange_count() - before, 1);
}

/// Tokens that live two seconds do not disturb reads that go on for longer.
#[test]
fn short_lived_tokens() {
    let guarded = Guarded::start(users().expires_in(Some(2)));
    let transport = guarded.transport(Actions::push());
    let digests: Vec<String> = (0..10u8)
        .map(|i| {
            let put = transport
                .blob_put(None, &Source::bytes(vec![i; 10_000]), None, None)
                .unwrap();
            put.digest().unwrap().to_string()
        })
        .collect();
    let reading = guarded.transport(Actions::pull());
    let before = guarded.token.exchange_count();
    for (i, digest) in digests.iter().enumerate() {
        assert_eq!(
            reading.blob_get(digest, None).unwrap().body().unwrap(),
            vec![i as u8; 10_000]
        );
        // What the pauses between blobs do to a token, without waiting for them.
        guarded.token.expire_all();
    }
    assert!(guarded.token.exchange_count() > before);
}

#[test]
fn random_access_and_uploads() {
    let guarded = Guarded::start(users());
    let data: Vec<u8> = (0..3_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    for chunk in [0, 1_000_000] {
        let mut options = guarded.options();
        options.set_number("upload-chunk-bytes", chunk).unwrap();
        let creds = Creds::basic("demo", "pass").unwrap();
        let name = format!("{}/demo/up{chunk}", guarded.registry.authority());
        let transport =
            Transport::new(&name, Actions::push(), Some(&creds), Some(&options)).unwrap();
        let put = transport
            .blob_put(None, &Source::bytes(data.clone()), None, None)
            .unwrap();
        let digest = put.digest().unwrap().to_string();
        let blob = transport.blob_open(&digest, None).unwrap();
        assert_eq!(blob.size(), data.len() as u64);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (blob, data) = (&blob, &data);
                scope.spawn(move || {
                    for i in 0..20 {
                        let offset = (thread * 377_777 + i * 13_131) % 3_100_000;
                        let mut buf = vec![0; 5000];
                        let n = blob.pread(&mut buf, offset, None).unwrap();
                        let start = (offset as usize).min(data.len());
                        let end = (start + 5000).min(data.len());
                        assert_eq!(buf[..n], data[start..end]);
                    }
                });
            }
        });
        assert_eq!(
            transport.blob_stat(&digest, None).unwrap(),
            Some(data.len() as u64)
        );
    }
}

/// An upload that one transport begins and another, as another process would, goes on with.
#[test]
fn an_upload_is_taken_up_again() {
    let guarded = Guarded::start(users());
    let data: Vec<u8> = (0..2_000_000u32).map(|i| (i % 253) as u8).collect();
    let first = guarded.transport(Actions::push());
    let mut upload = first.upload_begin(None).unwrap();
    upload
        .send(&Source::bytes(data[..700_000].to_vec()), None)
        .unwrap();
    assert_eq!(upload.offset(), 700_000);
    let state = upload.state();
    drop((upload, first));
    let second = guarded.transport(Actions::push());
    let mut upload = second.upload_resume(&state, None).unwrap();
    assert_eq!(upload.offset(), 700_000);
    upload.send(&Source::bytes(data.clone()), None).unwrap();
    let stored = upload.finish(None, None).unwrap();
    let digest = stored.digest().unwrap().to_string();
    assert_eq!(
        second.blob_get(&digest, None).unwrap().body().unwrap(),
        data
    );
    // What was written down before a byte was sent, too: the registry says then what it says of one byte.
    let state = second.upload_begin(None).unwrap().state();
    let mut upload = second.upload_resume(&state, None).unwrap();
    assert_eq!(upload.offset(), 0);
    upload.send(&Source::bytes(*b"fresh"), None).unwrap();
    upload.finish(None, None).unwrap();
    assert!(second.upload_resume("nonsense", None).is_err());
    let mut gone = second.upload_begin(None).unwrap();
    gone.cancel(None).unwrap();
    assert_eq!(
        second
            .upload_resume(&gone.state(), None)
            .unwrap_err()
            .http_status(),
        Some(404)
    );
}

/// The registry says 0-0 of an upload of no bytes and of one byte: both are taken up.
#[test]
fn an_upload_of_next_to_nothing_is_taken_up_again() {
    let guarded = Guarded::start(users());
    let transport = guarded.transport(Actions::push());
    let data = b"ten bytes!";
    for sent in [0, 1] {
        let mut upload = transport.upload_begin(None).unwrap();
        if sent > 0 {
            let part = Source::bytes(&data[..sent]);
            upload.send(&part, None).unwrap();
        }
        let mut upload = transport.upload_resume(&upload.state(), None).unwrap();
        upload.send(&Source::bytes(*data), None).unwrap();
        let stored = upload.finish(None, None).unwrap();
        let digest = stored.digest().unwrap().to_string();
        let mut blob = transport.blob_get(&digest, None).unwrap();
        assert_eq!(blob.body().unwrap(), data, "after {sent} bytes");
    }
}

#[test]
fn catalog_tags_and_errors() {
    let guarded = Guarded::start(users());
    let transport = guarded.transport(Actions::push());
    let config = transport
        .blob_put(None, &Source::bytes(*b"{}"), None, None)
        .unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[]}}"#,
        config.digest().unwrap()
    );
    for tag in ["a", "b", "c"] {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        transport
            .manifest_put(tag, kind, manifest.as_bytes(), None)
            .unwrap();
    }
    let all = |mut names: Names| {
        let mut out = Vec::new();
        while let Some(name) = names.next_name(None).unwrap() {
            out.push(name);
        }
        out
    };
    let mut tags = all(Names::tags(&transport));
    tags.sort();
    assert_eq!(tags, ["a", "b", "c"]);
    let head = transport.manifest_head("a", None).unwrap();
    let mut whole = transport.manifest_get("a", None).unwrap();
    assert_eq!(whole.body().unwrap(), manifest.as_bytes());
    assert_eq!(head.digest(), whole.digest());
    let error = transport.manifest_get("missing", None).unwrap_err();
    assert_eq!(
        (error.http_status(), error.diagnostics()[0].code.as_deref()),
        (Some(404), Some("MANIFEST_UNKNOWN"))
    );
    let creds = Creds::basic("demo", "pass").unwrap();
    let catalog = Transport::new(
        &guarded.registry.authority(),
        Actions::catalog(),
        Some(&creds),
        Some(&guarded.options()),
    )
    .unwrap();
    catalog.ping(None).unwrap();
    assert_eq!(all(Names::repositories(&catalog)), ["demo/app"]);
    let wrong = Creds::basic("demo", "wrong").unwrap();
    let refused = Transport::new(
        &format!("{}/demo/app", guarded.registry.authority()),
        Actions::pull(),
        Some(&wrong),
        Some(&guarded.options()),
    )
    .unwrap();
    let error = refused.ping(None).unwrap_err();
    assert_eq!(error.kind(), registry_transport::error::ErrorKind::Auth);
    assert!(!error.message().contains("wrong"));
}

/// Docker schema 2 and a multi-architecture index, pushed by one side and taken by the other.
#[test]
fn other_kinds_of_images() {
    let folder = tempfile::tempdir().unwrap();
    let source = layout(&folder.path().join("in"), 3);
    let open = DockerRegistry::open();
    let image = |name: &str| format!("{}/demo/{name}:v1", open.authority());
    let (from, to) = (
        format!("oci:{}:v1", source.display()),
        format!("docker://{}", image("schema2")),
    );
    skopeo_ok(&[
        "copy",
        "--format=v2s2",
        "--dest-tls-verify=false",
        &from,
        &to,
    ]);
    let transport = Transport::new(
        &format!("{}/demo/schema2", open.authority()),
        Actions::pull(),
        None,
        None,
    )
    .unwrap();
    let manifest = transport.manifest_get("v1", None).unwrap();
    assert_eq!(
        manifest.header("content-type"),
        Some("application/vnd.docker.distribution.manifest.v2+json")
    );
    let out = folder.path().join("schema2");
    run("pull", &[&image("schema2"), out.to_str().unwrap()]);
    let digest = manifest.digest().unwrap().hex().to_owned();
    assert!(blobs(&out).contains(&digest));
    // An index: pushed from a layout by the example, copied by it, and taken whole by skopeo.
    let registry = Registry::open();
    let platforms = [("linux", "amd64"), ("linux", "arm64")];
    registry.seed_index("demo/app", "v1", &platforms, &[100_000, 200_000]);
    let index = folder.path().join("index");
    registry.write_layout("demo/app", "v1", &index);
    run("push", &[index.to_str().unwrap(), &image("index")]);
    run("copy", &[&image("index"), &image("copied")]);
    let out = folder.path().join("all");
    let (from, to) = (
        format!("docker://{}", image("copied")),
        format!("oci:{}:v1", out.display()),
    );
    skopeo_ok(&[
        "copy",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        &from,
        &to,
    ]);
    assert_eq!(blobs(&out), blobs(&index));
    let out = folder.path().join("one");
    run(
        "pull",
        &[
            "--platform",
            "linux/arm64",
            &image("copied"),
            out.to_str().unwrap(),
        ],
    );
    assert!(blobs(&out).len() > 2);
}

/// A pull that is killed at some moment leaves whole blobs and partial ones, and the next run continues.
#[test]
fn killed_pulls_are_continued() {
    let registry = Registry::open();
    registry.seed_sized("demo/app", "v1", ("linux", "amd64"), &[4_000_000; 3]);
    let server = registry.start(None);
    let image = format!("{}/demo/app:v1", server.authority());
    let folder = tempfile::tempdir().unwrap();
    let reference = folder.path().join("reference");
    registry.write_layout("demo/app", "v1", &reference);
    for milliseconds in [5, 15, 30, 60, 120] {
        let out = folder.path().join(format!("out{milliseconds}"));
        let mut child = Command::new(example("pull"))
            .args(["-q", "--jobs", "2", &image, out.to_str().unwrap()])
            .spawn()
            .unwrap();
        std::thread::park_timeout(std::time::Duration::from_millis(milliseconds));
        let _ = child.kill();
        child.wait().unwrap();
        if out.join("blobs/sha256").exists() {
            for entry in std::fs::read_dir(out.join("blobs/sha256")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let bytes = std::fs::read(out.join("blobs/sha256").join(&name)).unwrap();
                assert!(
                    name.starts_with('.') || support::registry::sha256(&bytes).ends_with(&name),
                    "{name}"
                );
            }
        }
        run("pull", &["-q", &image, out.to_str().unwrap()]);
        let whole: Vec<_> = blobs(&out)
            .into_iter()
            .filter(|n| !n.starts_with('.'))
            .collect();
        assert_eq!(whole, blobs(&reference));
    }
}
