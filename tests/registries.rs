//! Against real registries: Debian's docker-registry, open, with Basic credentials, and with tokens over TLS
//! that it verifies itself; skopeo puts images there and takes them from there, the C examples do the rest.

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use registry_transport::creds::Creds;
use registry_transport::pages::Names;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};
use support::c;
use support::real::{DockerRegistry, Guarded, cert_dir, skopeo_ok};
use support::registry::{Registry, sha256};
use support::server::{Gate, PATIENCE, Server, lock};
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

/// The digests, without their algorithm, of what is in a folder that skopeo wrote in its own format.
fn digests(folder: &Path) -> Vec<String> {
    let mut digests: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != "version")
        .map(|entry| sha256(&std::fs::read(entry.path()).unwrap())["sha256:".len()..].to_owned())
        .collect();
    digests.sort();
    digests.dedup();
    digests
}

/// Images of both formats, single ones and indexes: what skopeo pushed is pulled, what was pulled is pushed and taken
/// by skopeo, with the same digests everywhere, from a registry with tokens.
#[test]
fn every_kind_of_image_goes_both_ways() {
    const PLATFORMS: [(&str, &str); 2] = [("linux", "amd64"), ("linux", "arm64")];
    let guarded = Guarded::start(users());
    let authority = guarded.registry.authority();
    let ca = guarded.ca.path().to_str().unwrap();
    let signed_in = ["-u", "demo", "--ca", ca];
    let certs = cert_dir(&guarded.ca);
    let from_there = [
        format!("--src-cert-dir={certs}"),
        "--src-creds=demo:pass".to_owned(),
    ];
    let to_there = [
        format!("--dest-cert-dir={certs}"),
        "--dest-creds=demo:pass".to_owned(),
    ];
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // An image for each platform, and a single one.
    let registry = Registry::open();
    registry.seed_index("demo/app", "many", &PLATFORMS, &[100_000, 200_000]);
    registry.seed("demo/app", "one", 3);
    for source in ["many", "one"] {
        registry.write_layout("demo/app", source, &at(source));
    }
    for (format, source, kind) in [
        ("oci", "one", "application/vnd.oci.image.manifest.v1+json"),
        ("oci", "many", "application/vnd.oci.image.index.v1+json"),
        (
            "v2s2",
            "one",
            "application/vnd.docker.distribution.manifest.v2+json",
        ),
        (
            "v2s2",
            "many",
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ),
    ] {
        let what = format!("{source} in format {format}");
        let image = format!("{authority}/demo/{source}:{format}");
        let copy = |flags: &[String], from: &str, to: &str| {
            let mut arguments = vec!["copy", "--all"];
            arguments.extend(flags.iter().map(String::as_str));
            arguments.extend([from, to]);
            skopeo_ok(&arguments);
        };
        let raw = |image: &str| {
            let certs = format!("--cert-dir={certs}");
            let image = format!("docker://{image}");
            skopeo_ok(&["inspect", "--raw", &certs, "--creds=demo:pass", &image])
        };
        // By skopeo to the registry, and back for comparison.
        let flags = [&to_there[..], &[format!("--format={format}")]].concat();
        let layout = format!("oci:{}:{source}", at(source).display());
        copy(&flags, &layout, &format!("docker://{image}"));
        let seen = at(&format!("{source}-{format}-seen"));
        copy(
            &from_there,
            &format!("docker://{image}"),
            &format!("dir:{}", seen.display()),
        );
        let manifest = raw(&image);
        let told: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(told["mediaType"], kind, "{what}");
        // The example pulls it: every platform into one folder, which is made a layout of the whole.
        let pulled = at(&format!("{source}-{format}-pulled"));
        let folder = pulled.to_str().unwrap();
        for (os, arch) in PLATFORMS.iter().take(if source == "many" { 2 } else { 1 }) {
            let platform = format!("{os}/{arch}");
            let arguments = [&signed_in[..], &["--platform", &platform, &image, folder]].concat();
            run("pull", &arguments);
        }
        let digest = sha256(manifest.as_bytes());
        let (_, hex) = digest.split_once(':').unwrap();
        std::fs::write(pulled.join("blobs/sha256").join(hex), &manifest).unwrap();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
            "mediaType": kind, "digest": digest, "size": manifest.len(),
        }]});
        std::fs::write(pulled.join("index.json"), index.to_string()).unwrap();
        assert_eq!(blobs(&pulled), digests(&seen), "{what}");
        // The other example pushes it, and skopeo finds the same.
        let pushed = format!("{authority}/demo/pushed-{source}:{format}");
        run("push", &[&signed_in[..], &[folder, &pushed]].concat());
        assert_eq!(raw(&pushed), manifest, "{what}");
        let taken = at(&format!("{source}-{format}-taken"));
        copy(
            &from_there,
            &format!("docker://{pushed}"),
            &format!("dir:{}", taken.display()),
        );
        assert_eq!(digests(&taken), digests(&seen), "{what}");
        // And so it does when the library has copied it, to another registry.
        let open = DockerRegistry::open();
        let copied = format!("{}/demo/copied:{format}", open.authority());
        run("copy", &[&signed_in[..], &[&pushed, &copied]].concat());
        let again = at(&format!("{source}-{format}-again"));
        let plain = ["--src-tls-verify=false".to_owned()];
        copy(
            &plain,
            &format!("docker://{copied}"),
            &format!("dir:{}", again.display()),
        );
        assert_eq!(digests(&again), digests(&seen), "{what}");
    }
}

/// The sizes of the files in a folder.
fn sizes(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).unwrap();
    let sizes = entries.filter_map(|entry| Some(entry.unwrap().metadata().ok()?.len()));
    sizes.collect()
}

/// A pull that is killed at any moment leaves whole blobs and partial ones, and the next run asks for what is missing of
/// each and for no more.
#[test]
fn killed_pulls_are_continued() {
    let registry = Registry::open();
    let seeded = registry.seed_sized("demo/app", "v1", ("linux", "amd64"), &[1_500_000; 4]);
    let folder = tempfile::tempdir().unwrap();
    let reference = folder.path().join("reference");
    registry.write_layout("demo/app", "v1", &reference);
    let names = blobs(&reference);
    // The number of the layer's answer that waits, after how much of it, and for what.
    let stop = Arc::<Mutex<Option<(usize, usize, Gate)>>>::default();
    let (next, layers) = (Arc::clone(&stop), seeded.layers.clone());
    let server = Server::start(move |request| {
        let answer = registry.answer(request);
        let is_layer = layers
            .iter()
            .any(|layer| request.path.ends_with(&layer.digest));
        match &mut *lock(&next) {
            Some((0, n, gate)) if is_layer => answer.stall_after(*n, gate),
            Some((before, ..)) if is_layer => {
                *before -= 1;
                answer
            }
            _ => answer,
        }
    });
    let image = format!("{}/demo/app:v1", server.authority());
    let mut random = fastrand::Rng::with_seed(5);
    let mut continued = 0;
    for kill in 0..30 {
        let out = folder.path().join(format!("out{kill}"));
        let gate = Gate::new();
        let (before, n) = (random.usize(0..4), random.usize(1..1_500_000));
        *lock(&stop) = Some((before, n, gate.clone()));
        let jobs = if kill % 2 == 0 { "1" } else { "3" };
        let mut child = Command::new(example("pull"))
            .args(["-q", "--jobs", jobs, &image, out.to_str().unwrap()])
            .spawn()
            .unwrap();
        let what = format!("kill {kill}, at {n} of layer {before}");
        assert!(gate.wait_reached(1), "{what}");
        let (in_blobs, end) = (out.join("blobs/sha256"), Instant::now() + PATIENCE);
        // Every other time all that was sent has got into its file.
        while kill % 4 < 2 && !sizes(&in_blobs).contains(&(n as u64)) {
            assert!(Instant::now() < end, "{what}");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        *lock(&stop) = None;
        // What each blob must be asked for from.
        let mut left = HashMap::new();
        for entry in std::fs::read_dir(&in_blobs).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let bytes = std::fs::read(entry.path()).unwrap();
            match name.strip_prefix('.').and_then(|rest| rest.split_once('.')) {
                Some((digest, _)) => {
                    let whole = std::fs::read(reference.join("blobs/sha256").join(digest)).unwrap();
                    assert!(whole.starts_with(&bytes), "{what}: {name}");
                    let rest = (bytes.len() < whole.len()).then_some(bytes.len());
                    left.insert(digest.to_owned(), rest);
                }
                None => {
                    assert!(sha256(&bytes).ends_with(&name), "{what}: {name}");
                    left.insert(name, None);
                }
            }
        }
        // What the killed one asked for may not have been read yet.
        gate.open();
        assert!(server.wait_open_at_most(0), "{what}");
        server.clear();
        run("pull", &["-q", &image, out.to_str().unwrap()]);
        assert_eq!(blobs(&out), names, "{what}");
        for name in &names {
            if seeded.manifest.digest.ends_with(name) {
                continue;
            }
            let asked: Vec<_> = server
                .requests()
                .iter()
                .filter(|request| request.path.ends_with(&format!("/blobs/sha256:{name}")))
                .map(|request| request.header("range").unwrap_or_default().to_owned())
                .collect();
            let wanted = match left.get(name) {
                Some(None) => vec![],
                None | Some(Some(0)) => vec![String::new()],
                Some(Some(n)) => vec![format!("bytes={n}-")],
            };
            assert_eq!(asked, wanted, "{what}: {name}");
            continued += asked.iter().filter(|range| !range.is_empty()).count();
        }
    }
    assert!(continued >= 15, "{continued} blobs were continued");
}
