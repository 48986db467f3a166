//! Manifests and blobs: they are what their digest says, or an error, whatever comes over the wire.

mod support;

use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry_transport::copy::copy;
use registry_transport::creds::Creds;
use registry_transport::error::{Error, ErrorKind};
use registry_transport::op::Op;
use registry_transport::source::{ReadBytes, Source};
use registry_transport::transport::{Actions, Transport};
use support::client::{get, options, transport, with};
use support::registry::{
    OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Registry, Settings, noise, serve_bytes, sha256, sha512,
};
use support::server::{Answer, Gate, Request as Got, Server, lock, script};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// First and last byte that a Range asks for.
fn range(r: &Got) -> Option<(usize, Option<usize>)> {
    let (first, last) = r.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()))
}

/// What a good server answers.
fn part(data: &[u8], first: usize, last: Option<usize>) -> Answer {
    if first >= data.len() {
        return Answer::new(416).header("Content-Range", format!("bytes */{}", data.len()));
    }
    let last = last.unwrap_or(usize::MAX).min(data.len() - 1);
    Answer::new(206)
        .header(
            "Content-Range",
            format!("bytes {first}-{last}/{}", data.len()),
        )
        .body(&data[first..=last])
}

fn serve(data: &[u8], r: &Got) -> Answer {
    match range(r) {
        Some((first, last)) => part(data, first, last),
        None => Answer::ok(data),
    }
}

fn ranges(server: &Server) -> Vec<String> {
    server
        .requests()
        .iter()
        .map(|r| r.header("range").unwrap_or("-").to_owned())
        .collect()
}

fn blob_get(server: &Server, digest: &str, numbers: &[(&str, i64)]) -> Result<Vec<u8>, Error> {
    transport(server, &with(numbers))
        .blob_get(digest, None)?
        .take_body()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn manifest(kind: &str) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","note":"é"}}"#)
}

/// What is asked for and what comes back, by tag and by digest.
#[test]
fn manifests() {
    let registry = Registry::open();
    let image = registry.seed("a/b", "v1", 1);
    let server = registry.start(None);
    let transport = transport(&server, &options());
    let (_, bytes) = registry.manifest("a/b", "v1").unwrap();
    for reference in ["v1", &image.manifest.digest] {
        server.clear();
        let mut got = transport.manifest_get(reference, None).unwrap();
        assert_eq!(got.digest().unwrap().as_str(), image.manifest.digest);
        assert_eq!(got.header("content-type"), Some(OCI_MANIFEST));
        assert_eq!(got.length(), Some(bytes.len() as u64));
        assert_eq!(got.body().unwrap(), &bytes[..]);
        let seen = &server.requests()[0];
        assert_eq!((seen.method.as_str(), server.count()), ("GET", 1));
        assert_eq!(seen.target, format!("/v2/a/b/manifests/{reference}"));
        let accept = seen.header("accept").unwrap();
        for kind in [
            OCI_MANIFEST,
            OCI_INDEX,
            DOCKER_MANIFEST,
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ] {
            assert!(accept.split(',').any(|a| a == kind), "{accept}");
        }
        let head = transport.manifest_head(reference, None).unwrap();
        assert_eq!(head.digest().unwrap().as_str(), image.manifest.digest);
        assert_eq!(server.requests()[1].method, "HEAD");
    }
    let other = Server::start(|_| {
        let answer = Answer::ok("{}").header("Content-Type", OCI_MANIFEST);
        answer.header("Docker-Content-Digest", sha256(b"other"))
    });
    let told =
        support::client::transport(&other, &options()).manifest_head(&image.manifest.digest, None);
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Digest);
    let error = transport.manifest_get("v2", None).unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Status, Some(404))
    );
    assert_eq!(
        error.diagnostics()[0].code.as_deref(),
        Some("MANIFEST_UNKNOWN")
    );
    server.clear();
    for reference in [
        "",
        "../x",
        "a/b",
        "-x",
        "a b",
        "sha256:abc",
        "SHA256:00",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        assert_eq!(
            transport.manifest_get(reference, None).unwrap_err().kind(),
            ErrorKind::Syntax,
            "{reference:?}"
        );
    }
    let upper = image
        .manifest
        .digest
        .to_uppercase()
        .replace("SHA256", "sha256");
    assert_eq!(
        transport.manifest_get(&upper, None).unwrap_err().kind(),
        ErrorKind::Syntax
    );
    let bare = Transport::new(
        &server.authority(),
        Actions::catalog(),
        None,
        Some(&options()),
    )
    .unwrap();
    assert_eq!(
        bare.manifest_get("v1", None).unwrap_err().kind(),
        ErrorKind::Argument
    );
    assert_eq!(server.count(), 0);
}

/// A manifest is not handed out before it is what it should be.
#[test]
fn checked_manifests() {
    let good = manifest(OCI_MANIFEST);
    let digest = sha256(good.as_bytes());
    let by_sha512 = sha512(good.as_bytes());
    let other = sha256(b"other");
    let typed = |kind: &str| Answer::ok(good.clone()).header("Content-Type", kind);
    let told = |digest: &str| typed(OCI_MANIFEST).header("Docker-Content-Digest", digest);
    let digest_line = format!("  {digest}\t");
    let cases: Vec<(&str, &str, Answer, Option<ErrorKind>)> = vec![
        ("no header", "v1", typed(OCI_MANIFEST), None),
        ("right header", "v1", told(&digest), None),
        ("spaces", "v1", told(&digest_line), None),
        ("sha512 header", "v1", told(&by_sha512), None),
        ("other header", "v1", told(&other), Some(ErrorKind::Digest)),
        (
            "no digest",
            "v1",
            told("nonsense"),
            Some(ErrorKind::Protocol),
        ),
        ("by digest, told none", &digest, told("nonsense"), None),
        ("by digest, told nothing", &digest, told(""), None),
        (
            "by digest, told an unknown one",
            &digest,
            told(&format!("sha384:{}", "0".repeat(96))),
            None,
        ),
        (
            "wrong bytes, told an unknown one",
            &other,
            told(&format!("sha384:{}", "0".repeat(96))),
            Some(ErrorKind::Digest),
        ),
        ("by digest", &digest, typed(OCI_MANIFEST), None),
        ("by sha512", &by_sha512, told(&digest), None),
        (
            "wrong bytes",
            &other,
            typed(OCI_MANIFEST),
            Some(ErrorKind::Digest),
        ),
        (
            "wrong bytes, told so",
            &other,
            told(&other),
            Some(ErrorKind::Digest),
        ),
        (
            "right bytes, told other",
            &digest,
            told(&other),
            Some(ErrorKind::Digest),
        ),
        (
            "parameters",
            "v1",
            typed("Application/VND.oci.image.manifest.v1+JSON; charset=utf-8"),
            None,
        ),
        ("no type", "v1", Answer::ok(good.clone()), None),
        (
            "other type",
            "v1",
            typed(OCI_INDEX),
            Some(ErrorKind::MediaType),
        ),
        (
            "page",
            "v1",
            Answer::ok("<html>").header("Content-Type", "text/html"),
            Some(ErrorKind::MediaType),
        ),
        (
            "of a server of files",
            "v1",
            typed("text/plain; charset=utf-8"),
            None,
        ),
        ("JSON", "v1", typed("application/json"), None),
        ("bytes", "v1", typed("application/octet-stream"), None),
        (
            "JSON that does not say what it is",
            "v1",
            Answer::ok(r#"{"schemaVersion":2}"#).header("Content-Type", "application/json"),
            Some(ErrorKind::MediaType),
        ),
        (
            "JSON of another kind",
            "v1",
            Answer::ok(r#"{"mediaType":"application/vnd.oci.image.config.v1+json"}"#)
                .header("Content-Type", "application/json"),
            Some(ErrorKind::MediaType),
        ),
        ("status", "v1", Answer::new(302), Some(ErrorKind::Protocol)),
        (
            "part",
            "v1",
            part(good.as_bytes(), 0, None).header("Content-Type", OCI_MANIFEST),
            Some(ErrorKind::Protocol),
        ),
        (
            "zipped",
            "v1",
            typed(OCI_MANIFEST).header("Content-Encoding", "gzip"),
            None,
        ),
        (
            "really zipped",
            "v1",
            typed(OCI_MANIFEST)
                .header("Content-Encoding", "gzip")
                .body(vec![0x1f, 0x8b, 8, 0]),
            Some(ErrorKind::Protocol),
        ),
        ("chunked", &digest, typed(OCI_MANIFEST).chunks_of(7), None),
        (
            "cut",
            &digest,
            typed(OCI_MANIFEST).cut_after(9),
            Some(ErrorKind::Network),
        ),
        (
            "empty",
            &digest,
            Answer::ok("").header("Content-Type", OCI_MANIFEST),
            Some(ErrorKind::Digest),
        ),
    ];
    for (what, reference, answer, want) in cases {
        let server = Server::start(script(vec![answer]));
        let result = transport(&server, &with(&[("retries", 0)])).manifest_get(reference, None);
        match want {
            None => assert_eq!(result.unwrap().body().unwrap(), good.as_bytes(), "{what}"),
            Some(kind) => assert_eq!(result.unwrap_err().kind(), kind, "{what}"),
        }
        assert_eq!(server.count(), 1, "{what}");
    }
    // HEAD does not tell what the manifest of a server of files says of itself.
    let server = Server::start(script(vec![typed("text/plain"), typed("text/plain")]));
    let head = transport(&server, &options())
        .manifest_head("v1", None)
        .unwrap();
    assert_eq!(head.digest().unwrap().as_str(), digest);
    assert_eq!(server.count(), 2);
    // A manifest that breaks off is small enough to be asked for again.
    let server = Server::start(script(vec![
        typed(OCI_MANIFEST).cut_after(9),
        typed(OCI_MANIFEST).chunks_of(5).cut_after(9),
        typed(OCI_MANIFEST),
    ]));
    let mut got = transport(&server, &options())
        .manifest_get(&digest, None)
        .unwrap();
    assert_eq!((got.body().unwrap(), server.count()), (good.as_bytes(), 3));
    // The limit holds for announced and for other lengths, in both directions.
    for chunked in [false, true] {
        let server = Server::start(move |r| {
            let answer = Answer::ok(vec![b' '; 2001]).header("Content-Type", OCI_MANIFEST);
            match (r.method.as_str(), chunked) {
                ("PUT", _) => Answer::new(201),
                (_, true) => answer.chunks_of(100),
                _ => answer,
            }
        });
        let error = transport(&server, &with(&[("max-manifest-bytes", 2000)]))
            .manifest_get("v1", None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.message().contains("max-manifest-bytes"), "{error}");
        let fits = transport(&server, &with(&[("max-manifest-bytes", 2001)]));
        assert_eq!(
            fits.manifest_get("v1", None)
                .unwrap()
                .length()
                .unwrap_or(2001),
            2001
        );
    }
}

/// What is stored, under which type, and what the registry must say about it.
#[test]
fn stored_manifests() {
    let good = manifest(OCI_MANIFEST);
    let digest = sha256(good.as_bytes());
    let by_sha512 = sha512(good.as_bytes());
    let other = sha256(b"other");
    let untyped = r#"{"schemaVersion":2}"#;
    let created = || Answer::new(201);
    let told = |digest: &str| Answer::new(201).header("Docker-Content-Digest", digest);
    type Case<'a> = (
        &'a str,
        &'a str,
        &'a str,
        &'a str,
        Answer,
        Option<ErrorKind>,
        usize,
    );
    let cases: Vec<Case<'_>> = vec![
        ("tag", "v1", OCI_MANIFEST, &good, created(), None, 1),
        (
            "tag, told",
            "v1",
            OCI_MANIFEST,
            &good,
            told(&digest),
            None,
            1,
        ),
        (
            "digest",
            &digest,
            OCI_MANIFEST,
            &good,
            told(&digest),
            None,
            1,
        ),
        (
            "sha512",
            &by_sha512,
            OCI_MANIFEST,
            &good,
            told(&by_sha512),
            None,
            1,
        ),
        (
            "type in the arguments alone",
            "v1",
            DOCKER_MANIFEST,
            untyped,
            created(),
            None,
            1,
        ),
        (
            "another type",
            "v1",
            OCI_INDEX,
            &good,
            created(),
            Some(ErrorKind::MediaType),
            0,
        ),
        (
            "another digest",
            &other,
            OCI_MANIFEST,
            &good,
            created(),
            Some(ErrorKind::Digest),
            0,
        ),
        (
            "told another",
            "v1",
            OCI_MANIFEST,
            &good,
            told(&other),
            Some(ErrorKind::Digest),
            1,
        ),
        (
            "refused",
            "v1",
            OCI_MANIFEST,
            &good,
            Answer::error(400, "MANIFEST_INVALID", "no"),
            Some(ErrorKind::Status),
            1,
        ),
        (
            "no header",
            "v1",
            "a/b\r\nX: y",
            untyped,
            created(),
            Some(ErrorKind::Syntax),
            0,
        ),
        (
            "no tag",
            "../x",
            OCI_MANIFEST,
            &good,
            created(),
            Some(ErrorKind::Syntax),
            0,
        ),
    ];
    for (what, reference, kind, data, answer, want, requests) in cases {
        let server = Server::start(script(vec![answer]));
        let result = transport(&server, &with(&[("retries", 0)])).manifest_put(
            reference,
            kind,
            data.as_bytes(),
            None,
        );
        assert_eq!(server.count(), requests, "{what}");
        match want {
            Some(kind) => assert_eq!(result.unwrap_err().kind(), kind, "{what}"),
            None => {
                let named = if reference.starts_with("sha512") {
                    sha512(data.as_bytes())
                } else {
                    sha256(data.as_bytes())
                };
                assert_eq!(result.unwrap().digest().unwrap().as_str(), named, "{what}");
            }
        }
        if let Some(seen) = server.requests().first() {
            assert_eq!(
                (seen.method.as_str(), seen.header("content-type")),
                ("PUT", Some(kind))
            );
            assert_eq!(seen.target, format!("/v2/a/b/manifests/{reference}"));
            assert_eq!(seen.body, data.as_bytes());
        }
    }
    let server = Server::start(|_| Answer::new(201));
    let big = vec![b' '; 2001];
    let error = transport(&server, &with(&[("max-manifest-bytes", 2000)]))
        .manifest_put("v1", OCI_MANIFEST, &big, None)
        .unwrap_err();
    assert_eq!((error.kind(), server.count()), (ErrorKind::Limit, 0));
    // A whole round, and deletion.
    let registry = Registry::open();
    let image = registry.seed("a/b", "v1", 1);
    let server = registry.start(None);
    let transport1 = transport(&server, &options());
    let bytes = transport1
        .manifest_get("v1", None)
        .unwrap()
        .take_body()
        .unwrap();
    transport1
        .manifest_put("v2", OCI_MANIFEST, &bytes, None)
        .unwrap();
    assert_eq!(
        transport1
            .manifest_get("v2", None)
            .unwrap()
            .digest()
            .unwrap()
            .as_str(),
        image.manifest.digest
    );
    transport1
        .manifest_delete(&image.manifest.digest, None)
        .unwrap();
    assert_eq!(
        transport1
            .manifest_delete(&image.manifest.digest, None)
            .unwrap_err()
            .http_status(),
        Some(404)
    );
    let fixed = Registry::new(Settings {
        deletion: false,
        ..Settings::default()
    });
    fixed.seed("a/b", "v1", 0);
    let server = fixed.start(None);
    let error = transport(&server, &options())
        .manifest_delete("v1", None)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Unsupported, Some(405))
    );
}

/// What refers to another manifest is entered among its referrers where the registry does not do it, whether it is
/// stored by itself or copied, alone or as part of an index.
#[test]
fn copies_that_refer_to_others() {
    let from = Registry::open();
    let image = from.seed("a/b", "image", 1);
    let subject = &image.manifest;
    let mut artifact = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": image.config.json(),
        "layers": [], "subject": subject.json(), "annotations": {"a": "b"},
    });
    let config = image.config.media_type.as_str();
    let (mut want, mut children) = (Vec::new(), Vec::new());
    // The type of an artifact without one is that of its config.
    for (kind, entered) in [
        (serde_json::json!("x/y"), "x/y"),
        (serde_json::json!(""), config),
        (serde_json::Value::Null, config),
    ] {
        artifact["artifactType"] = kind;
        let text = artifact.to_string();
        let digest = from.put_manifest("a/b", Some("artifact"), OCI_MANIFEST, text.as_bytes());
        want.push(serde_json::json!({
            "mediaType": OCI_MANIFEST, "digest": digest, "size": text.len(), "artifactType": entered,
            "annotations": {"a": "b"},
        }));
        children.push(serde_json::json!({
            "mediaType": OCI_MANIFEST, "digest": digest, "size": text.len(),
        }));
    }
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children,
    });
    from.put_manifest("a/b", Some("index"), OCI_INDEX, index.to_string());
    let from = from.start(None);
    for (what, referrers, tagged) in [
        ("index", false, 3),
        ("artifact", false, 1),
        ("index", true, 0),
    ] {
        let to = Registry::new(Settings {
            referrers,
            ..Settings::default()
        });
        let server = to.start(None);
        let target = transport(&server, &options());
        copy(&transport(&from, &options()), what, &target, "v1", None).unwrap();
        let tag = subject.digest.replace(':', "-");
        let entries = to
            .manifest("a/b", &tag)
            .map_or_else(Vec::new, |(_, bytes)| {
                let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                index["manifests"].as_array().unwrap().clone()
            });
        assert_eq!(entries.len(), tagged, "{what}");
        assert!(entries.iter().all(|e| want.contains(e)), "{entries:?}");
    }
}

/// What is entered among the referrers leaves the rest of their index as it is, and what is under their tag and is
/// no index is not replaced. JSON that other readers take is taken here, too.
#[test]
fn what_is_under_the_referrers_tag_stays() {
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": []});
    let index = |extra: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"digest":"OTHER"}}]{extra}}}"#
        )
    };
    for (kind, there, kept) in [
        (OCI_MANIFEST, manifest.to_string(), None),
        (OCI_INDEX, r#"{"manifests":"x"}"#.to_owned(), None),
        (OCI_INDEX, index(r#","annotations":{"a":"b"}"#), Some("b")),
        (
            OCI_INDEX,
            index(r#","annotations":{"a":"\ud83d"},"x":1e999"#),
            Some("\u{fffd}"),
        ),
    ] {
        let registry = Registry::new(Settings {
            referrers: false,
            ..Settings::default()
        });
        let subject = registry.seed("a/b", "image", 1).manifest;
        let other = registry.seed("a/b", "other", 0).manifest.digest;
        let there = there.replace("OTHER", &other);
        let tag = subject.digest.replace(':', "-");
        registry.put_manifest("a/b", Some(&tag), kind, there.as_bytes());
        let server = registry.start(None);
        let artifact = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{}},"layers":[],"subject":{}}}"#,
            subject.json()
        );
        let put = transport(&server, &options()).manifest_put(
            "v1",
            OCI_MANIFEST,
            artifact.as_bytes(),
            None,
        );
        let (_, now) = registry.manifest("a/b", &tag).unwrap();
        let Some(kept) = kept else {
            let error = put.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            assert_eq!(*now, there.as_bytes());
            continue;
        };
        put.unwrap();
        let now: serde_json::Value = serde_json::from_slice(&now).unwrap();
        assert_eq!(now["annotations"]["a"], kept);
        let listed = now["manifests"].as_array().unwrap();
        assert_eq!(listed.len(), 2, "{now}");
        assert_eq!(listed[0]["digest"], other);
        assert_eq!(listed[1]["digest"], sha256(artifact.as_bytes()));
    }
}

/// What an index lists is a manifest or a blob, as its type says: caches of builds list their layers.
#[test]
fn copies_of_an_index_of_blobs() {
    let from = Registry::open();
    let part = |kind: &str, text: &str| {
        let digest = from.put_blob("a/b", text);
        serde_json::json!({"mediaType": kind, "digest": digest, "size": text.len()})
    };
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
            part("application/vnd.oci.image.layer.v1.tar+gzip", "layer"),
            part("application/vnd.buildkit.cacheconfig.v0", "config"),
            from.seed("a/b", "image", 1).manifest.json(),
        ],
    });
    from.put_manifest("a/b", Some("cache"), OCI_INDEX, index.to_string());
    let (from, to) = (from.start(None), Registry::open());
    let server = to.start(None);
    let [source, target] = [&from, &server].map(|server| transport(server, &options()));
    copy(&source, "cache", &target, "v1", None).unwrap();
    assert!(to.manifest("a/b", "v1").is_some());
    for text in ["layer", "config"] {
        assert!(to.blob("a/b", &sha256(text.as_bytes())).is_some(), "{text}");
    }
}

/// A layer that the source does not have is an error, unless its descriptor says where else it is; and so is a size that
/// the blob does not have. Either way no upload stays open at the target, and the error is about the source.
#[test]
fn copies_of_what_is_not_there() {
    let absent = sha256(b"absent");
    let urls = |urls| serde_json::json!({"mediaType": OCI_LAYER, "digest": absent, "size": 6, "urls": urls});
    let sized = |size| serde_json::json!({"mediaType": OCI_LAYER, "digest": sha256(b"there"), "size": size});
    let missing = Some((ErrorKind::Status, Some(404)));
    for (what, layer, wanted) in [
        ("no urls", urls(serde_json::Value::Null), missing),
        ("an empty list", urls(serde_json::json!([])), missing),
        (
            "urls",
            urls(serde_json::json!(["https://example.com/"])),
            None,
        ),
        ("too large", sized(30), Some((ErrorKind::Digest, None))),
        ("its size", sized(5), None),
    ] {
        let from = Registry::open();
        from.put_blob("a/b", "there");
        let config = from.seed("a/b", "image", 0).config;
        let image = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.json(), "layers": [layer],
        });
        from.put_manifest("a/b", Some("v1"), OCI_MANIFEST, image.to_string());
        let (from, to) = (from.start(None), Registry::open());
        let registry = Arc::clone(&to);
        // It takes manifests of what it does not have.
        let server = Server::start(move |request| match request.method.as_str() {
            "PUT" if request.path.contains("/manifests/") => Answer::new(201),
            _ => registry.answer(request),
        });
        let [source, target] =
            [&from, &server].map(|server| transport(server, &with(&[("retries", 0)])));
        let copied = copy(&source, "v1", &target, "v1", None);
        if let Err(e) = &copied {
            let message = e.message();
            assert!(message.contains(&from.authority()), "{what}: {e}");
            assert!(!message.contains(&server.authority()), "{what}: {e}");
        }
        let got = copied.err().map(|e| (e.kind(), e.http_status()));
        assert_eq!(got, wanted, "{what}");
        assert_eq!(to.open_uploads(), 0, "{what}");
    }
}

/// "see other" leads what stores or deletes to a page that can be read, which is no success.
#[test]
fn see_other_is_no_success() {
    let server = Server::start(|r| match (r.method.as_str(), r.path.as_str()) {
        (_, "/login") => Answer::ok("<html>").header("Content-Type", "text/html"),
        ("POST", _) => Answer::new(202).header("Location", "/v2/a/b/blobs/uploads/u"),
        ("HEAD" | "GET", _) => Answer::new(404),
        _ => Answer::redirect(303, "/login"),
    });
    let transport = transport(&server, &with(&[("retries", 0)]));
    let source = Source::bytes(*b"hello");
    let digest = sha256(b"hello");
    let text = manifest(OCI_MANIFEST);
    let begin = || transport.upload_begin(None).unwrap();
    type Flow<'a> = Box<dyn Fn() -> Result<(), Error> + 'a>;
    let flows: Vec<(&str, Flow<'_>)> = vec![
        (
            "manifest_put",
            Box::new(|| {
                let put = transport.manifest_put("v1", OCI_MANIFEST, text.as_bytes(), None);
                put.map(drop)
            }),
        ),
        (
            "manifest_delete",
            Box::new(|| transport.manifest_delete("v1", None)),
        ),
        (
            "blob_put",
            Box::new(|| {
                let put = transport.blob_put(Some(&digest), &source, None, None);
                put.map(drop)
            }),
        ),
        (
            "upload_send",
            Box::new(|| {
                let mut upload = begin();
                let sent = upload.send(&source, None);
                assert_eq!(upload.offset(), 0);
                sent
            }),
        ),
        (
            "upload_finish",
            Box::new(|| begin().finish(Some(&digest), None).map(drop)),
        ),
        ("upload_cancel", Box::new(|| begin().cancel(None))),
    ];
    for (what, flow) in flows {
        let error = flow().expect_err(what);
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Status, Some(303)),
            "{what}: {error}"
        );
    }
    assert!(!server.lines().iter().any(|line| line.contains("/login")));
}

/// The bytes of a blob, or an error before the end is told; and no file that is not the blob.
#[test]
fn verified_blobs() {
    let data = noise("verified", 70_000);
    type Make = fn(&[u8]) -> Answer;
    let cases: [(&str, Make, Option<&[ErrorKind]>); 18] = [
        ("whole", |d| Answer::ok(d), None),
        ("chunked", |d| Answer::ok(d).chunks_of(999), None),
        ("until close", |d| Answer::ok(d).no_length(), None),
        (
            "zipped header",
            |d| Answer::ok(d).header("Content-Encoding", "gzip"),
            None,
        ),
        (
            "another digest told",
            |d| Answer::ok(d).header("Docker-Content-Digest", sha256(b"x")),
            None,
        ),
        (
            "one more",
            |d| Answer::ok([d, b"x"].concat()),
            Some(&[ErrorKind::Digest]),
        ),
        (
            "one more, chunked",
            |d| Answer::ok([d, b"x"].concat()).chunked(),
            Some(&[ErrorKind::Digest]),
        ),
        (
            "one less",
            |d| Answer::ok(&d[1..]),
            Some(&[ErrorKind::Digest]),
        ),
        (
            "one less, chunked",
            |d| Answer::ok(&d[1..]).chunked(),
            Some(&[ErrorKind::Digest]),
        ),
        ("nothing", |_| Answer::ok(""), Some(&[ErrorKind::Digest])),
        (
            "zeros",
            |d| Answer::ok(vec![0; d.len()]),
            Some(&[ErrorKind::Digest]),
        ),
        (
            "one bit",
            |d| {
                let mut d = d.to_vec();
                d[69_999] ^= 1;
                Answer::ok(d)
            },
            Some(&[ErrorKind::Digest]),
        ),
        (
            "204",
            |_| Answer::new(204),
            Some(&[ErrorKind::Digest, ErrorKind::Status, ErrorKind::Protocol]),
        ),
        ("206", |d| part(d, 0, None), Some(&[ErrorKind::Protocol])),
        (
            "404",
            |_| Answer::error(404, "BLOB_UNKNOWN", "no"),
            Some(&[ErrorKind::Status]),
        ),
        ("416", |_| Answer::new(416), Some(&[ErrorKind::Status])),
        ("304", |_| Answer::new(304), Some(&[ErrorKind::Status])),
        (
            "always cut",
            |d| Answer::ok(d).cut_after(0),
            Some(&[ErrorKind::Network]),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for digest in [sha256(&data), sha512(&data)] {
        for (what, make, want) in &cases {
            let (own, make) = (data.clone(), *make);
            let server = Server::start(move |_| make(&own));
            let transport = transport(&server, &with(&[("retries", 1)]));
            let target = folder.path().join("blob");
            let read = transport.blob_get(&digest, None).and_then(|mut r| {
                assert_eq!(r.digest().unwrap().as_str(), digest);
                r.take_body()
            });
            // Piece by piece the end is not told either.
            let mut pieces = Vec::new();
            let drained = transport.blob_get(&digest, None).and_then(|mut r| {
                r.drain(&mut |p| {
                    pieces.extend_from_slice(p);
                    true
                })
            });
            let saved = transport.blob_save(&digest, &target, None);
            match want {
                None => {
                    assert_eq!(read.unwrap(), data, "{what}");
                    drained.unwrap();
                    assert_eq!(pieces, data, "{what}");
                    saved.unwrap();
                    assert_eq!(std::fs::read(&target).unwrap(), data, "{what}");
                    std::fs::remove_file(&target).unwrap();
                }
                Some(kinds) => {
                    for error in [read.unwrap_err(), drained.unwrap_err(), saved.unwrap_err()] {
                        assert!(
                            kinds.contains(&error.kind()),
                            "{what}: {:?} {error}",
                            error.kind()
                        );
                    }
                }
            }
            assert_eq!(
                names(folder.path()),
                Vec::<String>::new(),
                "{what}: nothing is left behind"
            );
        }
    }
    let server = Server::start(|_| Answer::ok(""));
    assert_eq!(
        blob_get(&server, &sha256(b""), &[]).unwrap(),
        b"",
        "an empty blob"
    );
    let empty = folder.path().join("empty");
    transport(&server, &options())
        .blob_save(&sha256(b""), &empty, None)
        .unwrap();
    assert_eq!(std::fs::read(&empty).unwrap(), b"");
    for digest in ["", "sha256:", "sha256:AB", "md5:0", "latest", "../x"] {
        assert_eq!(
            blob_get(&server, digest, &[]).unwrap_err().kind(),
            ErrorKind::Syntax,
            "{digest:?}"
        );
    }
}

/// One cut: the rest is asked for with Range, and with If-Range where there is a strong validator.
#[test]
fn resumed_once() {
    let data = noise("once", 100_000);
    let digest = sha256(&data);
    for (etag, if_range) in [
        (Some("\"v1\""), Some("\"v1\"")),
        (Some("W/\"v1\""), None),
        (None, None),
    ] {
        for reset in [false, true] {
            let (own, first) = (data.clone(), AtomicUsize::new(0));
            let server = Server::start(move |r| {
                let answer = serve(&own, r);
                let answer = match etag {
                    Some(etag) => answer.header("ETag", etag),
                    None => answer,
                };
                match (first.fetch_add(1, Ordering::SeqCst), reset) {
                    (0, false) => answer.cut_after(40_000),
                    (0, true) => answer.chunks_of(5000).cut_after(40_000),
                    _ => answer,
                }
            });
            assert_eq!(
                blob_get(&server, &digest, &[("retries", 0)]).unwrap(),
                data,
                "{etag:?}"
            );
            assert_eq!(ranges(&server)[..1], ["-"]);
            let second = &server.requests()[1];
            let (from, last) = range(second).unwrap();
            assert!(from <= 40_000 && last.is_none(), "{from}");
            assert_eq!(second.header("if-range"), if_range);
            assert_eq!(server.count(), 2);
        }
    }
}

/// Of a blob whose length is not told, the connection breaks behind the last byte: asked for the rest, the server
/// says that there is none.
#[test]
fn broken_at_an_end_that_was_not_told() {
    let data = noise("no length", 5000);
    for (total, want) in [(5000, Ok(())), (6000, Err(ErrorKind::Status))] {
        let gate = Gate::new();
        let (own, waits) = (data.clone(), gate.clone());
        let server = Server::start(move |r| match r.header("range") {
            None => {
                let answer = Answer::ok(own.as_slice()).no_length();
                answer.reset_after(5000).stall_after(5000, &waits)
            }
            Some(_) => Answer::new(416).header("Content-Range", format!("bytes */{total}")),
        });
        let transport = transport(&server, &options());
        let mut response = transport.blob_get(&sha256(&data), None).unwrap();
        let (mut got, mut buf) = (Vec::<u8>::new(), [0; 9000]);
        while got.len() < data.len() {
            let n = response.read(&mut buf).unwrap();
            got.extend(&buf[..n]);
        }
        gate.open();
        let end = response.read(&mut buf);
        assert_eq!(end.map(|n| assert_eq!(n, 0)).map_err(|e| e.kind()), want);
        assert_eq!(got, data);
        assert_eq!(ranges(&server), ["-", "bytes=5000-"]);
    }
}

/// Two hundred cuts at random offsets, one digest.
#[test]
fn resumed_often() {
    let data = Arc::new(noise("often", 1_500_000));
    let digest = sha256(&data);
    let cuts = Arc::new(AtomicUsize::new(0));
    let (own, count) = (Arc::clone(&data), Arc::clone(&cuts));
    let lengths = noise("lengths", 2000);
    let server = Server::start(move |r| {
        let answer = serve(&own, r).header("ETag", "\"v1\"");
        let n = count.fetch_add(1, Ordering::SeqCst);
        if n >= 200 {
            return answer;
        }
        let cut = usize::from(u16::from_le_bytes([lengths[2 * n], lengths[2 * n + 1]])) % 7000;
        match n % 3 {
            0 => answer.cut_after(cut),
            1 => answer.chunks_of(1234).cut_after(cut),
            // At least a byte must get through, or it is an attempt without success.
            _ => answer.cut_after(cut + 1),
        }
    });
    assert!(blob_get(&server, &digest, &[("retries", 10)]).unwrap() == data[..]);
    assert!(cuts.load(Ordering::SeqCst) > 200, "{cuts:?}");
    // Each request begins where the last one ended.
    let starts: Vec<_> = server
        .requests()
        .iter()
        .filter_map(range)
        .map(|(f, _)| f)
        .collect();
    assert!(starts.windows(2).all(|w| w[0] <= w[1]), "{starts:?}");
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("blob");
    cuts.store(0, Ordering::SeqCst);
    transport(&server, &with(&[("retries", 10)]))
        .blob_save(&digest, &target, None)
        .unwrap();
    assert!(std::fs::read(&target).unwrap() == data[..]);
    // Each stretch that moved has repetitions of its own.
    let (own, tries) = (Arc::clone(&data), AtomicUsize::new(0));
    let server = Server::start(move |r| match tries.fetch_add(1, Ordering::SeqCst) {
        n @ 0..20 if n % 2 == 0 => serve(&own, r).cut_after(5000),
        0..20 => serve(&own, r).cut_after(0),
        _ => serve(&own, r),
    });
    assert!(blob_get(&server, &digest, &[("retries", 1)]).unwrap() == data[..]);
    assert_eq!(server.count(), 21);
    // Without any progress the repetitions are used up.
    let own = Arc::clone(&data);
    let server = Server::start(move |r| match range(r) {
        None => Answer::ok(&own[..]).cut_after(1000),
        Some(_) => serve(&own, r).cut_after(0),
    });
    let error = blob_get(&server, &digest, &[("retries", 2)]).unwrap_err();
    assert_eq!(
        (error.kind(), server.count()),
        (ErrorKind::Network, 4),
        "{:?}",
        ranges(&server)
    );
}

/// The rest of a body of unknown length that is longer than its range says.
#[test]
fn a_range_that_is_too_long() {
    let data = noise("longer", 20);
    let digest = sha256(&data);
    let server = Server::start(move |r| match range(r) {
        Some(_) => Answer::new(206)
            .header("Content-Range", "bytes 10-19/20")
            .body([&data[10..], &[0; 20][..]].concat()),
        None => Answer::ok(data.as_slice()).chunked().cut_after(10),
    });
    let transport = transport(&server, &with(&[("retry-delay-ms", 1)]));
    let error = transport
        .blob_get(&digest, None)
        .and_then(|mut r| r.take_body())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Digest, "{error}");
}

/// What may answer the request for the rest.
#[test]
fn answers_to_a_range() {
    let data = noise("ranges", 1000);
    let digest = sha256(&data);
    let ranged = |text: &'static str| {
        move |d: &[u8]| {
            Answer::new(206)
                .header("Content-Range", text)
                .body(&d[400..])
        }
    };
    type Make = Box<dyn Fn(&[u8]) -> Answer + Send + Sync>;
    let cases: Vec<(&str, Make, Option<&[ErrorKind]>)> = vec![
        ("right", Box::new(|d| part(d, 400, None)), None),
        ("another case", Box::new(ranged("Bytes 400-999/1000")), None),
        ("unknown length", Box::new(ranged("bytes 400-999/*")), None),
        ("200", Box::new(|d| Answer::ok(d)), None),
        ("200 chunked", Box::new(|d| Answer::ok(d).chunked()), None),
        (
            "200 of other bytes",
            Box::new(|d| Answer::ok(vec![0; d.len()])),
            Some(&[ErrorKind::Digest]),
        ),
        (
            "200 of another length",
            Box::new(|d| Answer::ok(&d[1..])),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "too early",
            Box::new(|d| part(d, 399, None)),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "too late",
            Box::new(|d| part(d, 401, None)),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "too short",
            Box::new(|d| part(d, 400, Some(998))),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "too long",
            Box::new(ranged("bytes 400-1000/1001")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "another length",
            Box::new(ranged("bytes 400-999/1001")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "backwards",
            Box::new(ranged("bytes 999-400/1000")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "other unit",
            Box::new(ranged("items 400-999/1000")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "nonsense",
            Box::new(ranged("bytes")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "unsatisfied",
            Box::new(ranged("bytes */1000")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "negative",
            Box::new(ranged("bytes -400-999/1000")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "huge",
            Box::new(ranged("bytes 400-99999999999999999999/1000")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "no header",
            Box::new(|d| Answer::new(206).body(&d[400..])),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "two headers",
            Box::new(|d| part(d, 400, None).header("Content-Range", "bytes 0-999/1000")),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "multipart",
            Box::new(|d| {
                part(d, 400, None).header("Content-Type", "multipart/byteranges; boundary=x")
            }),
            Some(&[ErrorKind::Protocol]),
        ),
        (
            "another ETag",
            Box::new(|d| part(d, 400, None).header("ETag", "\"v2\"")),
            None,
        ),
        (
            "another ETag of other bytes",
            Box::new(|_| part(&[0; 1000], 400, None).header("ETag", "\"v2\"")),
            None,
        ),
        (
            "the weak form of the ETag",
            Box::new(|d| part(d, 400, None).header("ETag", "W/\"v1\"")),
            None,
        ),
        (
            "other bytes",
            Box::new(|d| part(&vec![0; d.len()], 400, None)),
            Some(&[ErrorKind::Digest]),
        ),
        (
            "416",
            Box::new(|_| Answer::new(416).header("Content-Range", "bytes */1000")),
            Some(&[ErrorKind::Status]),
        ),
        (
            "404",
            Box::new(|_| Answer::new(404)),
            Some(&[ErrorKind::Status]),
        ),
        (
            "204",
            Box::new(|_| Answer::new(204)),
            Some(&[ErrorKind::Status, ErrorKind::Protocol]),
        ),
    ];
    for (what, make, want) in cases {
        let (own, whole) = (data.clone(), AtomicUsize::new(0));
        let server = Server::start(move |r| match range(r) {
            None if whole.fetch_add(1, Ordering::SeqCst) == 0 => Answer::ok(own.clone())
                .header("ETag", "\"v1\"")
                .cut_after(400),
            None => Answer::ok(own.clone()).header("ETag", "\"v2\""),
            Some(_) => make(&own),
        });
        let result = blob_get(&server, &digest, &[("retries", 1)]);
        // What is another version is read as a whole.
        let anew = if what.starts_with("another ETag") {
            2
        } else {
            1
        };
        let asked = ranges(&server).iter().filter(|r| *r == "-").count();
        assert_eq!(asked, anew, "{what}");
        match want {
            None => assert_eq!(result.unwrap(), data, "{what}"),
            Some(kinds) => {
                let error = result.unwrap_err();
                assert!(
                    kinds.contains(&error.kind()),
                    "{what}: {:?} {error}",
                    error.kind()
                );
            }
        }
        assert!(server.count() <= 3, "{what}: {:?}", ranges(&server));
    }
}

/// A stalled download is resumed like a broken one.
#[test]
fn resumed_after_a_stall() {
    let data = noise("stalled", 50_000);
    let (own, gate) = (data.clone(), Gate::new());
    let held = gate.clone();
    let server = Server::start(move |r| match range(r) {
        None => Answer::ok(own.clone()).stall_after(20_000, &held),
        Some(_) => serve(&own, r),
    });
    let got = blob_get(&server, &sha256(&data), &[("stall-timeout-ms", 150)]);
    assert_eq!(got.unwrap(), data);
    assert_eq!(ranges(&server), ["-", "bytes=20000-"]);
    gate.open();
}

/// A registry that redirects to storage with signed URLs, which become invalid.
struct Storage {
    server: Server,
    _storage: Server,
    epoch: Arc<AtomicUsize>,
    stored: Arc<Mutex<Vec<String>>>,
}

fn storage(data: &Arc<Vec<u8>>, refusal: u16) -> Storage {
    let (epoch, stored) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::<Mutex<Vec<String>>>::default(),
    );
    let (own, valid, log) = (Arc::clone(data), Arc::clone(&epoch), Arc::clone(&stored));
    let storage = Server::start(move |r| {
        assert_eq!(r.header("authorization"), None);
        lock(&log).push(format!("{} {}", r.query, r.header("range").unwrap_or("-")));
        if r.query == format!("sig={}", valid.load(Ordering::SeqCst)) {
            serve(&own, r).header("ETag", "\"v1\"")
        } else {
            Answer::new(refusal)
        }
    });
    let (place, signed, size) = (storage.url("/data"), Arc::clone(&epoch), data.len());
    let server = Server::start(
        move |r| match (r.header("authorization"), r.method.as_str()) {
            (None, _) => Answer::challenge("Basic realm=\"x\""),
            (_, "HEAD") => Answer::new(200).content_length(size),
            _ => Answer::redirect(
                307,
                format!("{place}?sig={}", signed.load(Ordering::SeqCst)),
            ),
        },
    );
    Storage {
        server,
        _storage: storage,
        epoch,
        stored,
    }
}

fn signed_in(server: &Server, numbers: &[(&str, i64)]) -> Transport {
    let creds = Creds::basic("user", "pass").unwrap();
    let name = format!("{}/a/b", server.authority());
    Transport::new(&name, Actions::pull(), Some(&creds), Some(&with(numbers))).unwrap()
}

/// The signed URL is kept for later ranges, asked for anew when it is refused, and never shown.
#[test]
fn signed_urls() {
    let data = Arc::new(noise("signed", 100_000));
    let digest = sha256(&data);
    for refusal in [400, 401, 403, 404, 410] {
        let Storage {
            server,
            _storage,
            epoch,
            stored,
        } = storage(&data, refusal);
        let transport = signed_in(&server, &[("retries", 0)]);
        let blob = transport.blob_open(&digest, None).unwrap();
        let read = |at: usize, n: usize| {
            let mut buf = vec![0; n];
            assert_eq!(blob.pread(&mut buf, at as u64, None).unwrap(), n);
            assert_eq!(buf, data[at..at + n]);
        };
        read(0, 10);
        let asked = server.count();
        for n in 1..10 {
            read(n * 10, 10);
        }
        assert_eq!(
            (server.count(), lock(&stored).len()),
            (asked, 10),
            "one request a read, all of them there"
        );
        epoch.store(1, Ordering::SeqCst);
        read(500, 10);
        assert_eq!(server.count(), asked + 1, "{refusal}: asked anew, once");
        assert_eq!(
            lock(&stored)[10..],
            ["sig=0 bytes=500-509", "sig=1 bytes=500-509"]
        );
        read(510, 10);
        assert_eq!((server.count(), lock(&stored).len()), (asked + 1, 13));
    }
    // A whole download that breaks when the signature has just expired.
    let (own, cut) = (Arc::clone(&data), AtomicUsize::new(0));
    let valid = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&valid);
    let storage = Server::start(move |r| {
        if r.query != format!("sig={}", now.load(Ordering::SeqCst)) {
            return Answer::new(403);
        }
        let answer = serve(&own, r);
        if cut.fetch_add(1, Ordering::SeqCst) == 0 {
            now.store(1, Ordering::SeqCst);
            return answer.cut_after(30_000);
        }
        answer
    });
    let place = storage.url("/data");
    let server = Server::start(move |_| {
        Answer::redirect(307, format!("{place}?sig={}", valid.load(Ordering::SeqCst)))
    });
    let mut response = transport(&server, &options())
        .blob_get(&digest, None)
        .unwrap();
    assert!(response.body().unwrap() == &data[..]);
    assert_eq!(
        response.url(),
        storage.url("/data"),
        "without the signature"
    );
    assert_eq!((server.count(), storage.count()), (2, 3));
    // The storage dies while it sends: the registry knows another.
    for death in [
        Answer::hang_up as fn() -> Answer,
        || Answer::new(503),
        || Answer::ok("").after_pause(Duration::from_secs(5)),
    ] {
        let own = Arc::clone(&data);
        let dead = Server::start(move |r| match range(r) {
            None => Answer::ok(&own[..]).cut_after(30_000),
            Some(_) => death(),
        });
        let own = Arc::clone(&data);
        let alive = Server::start(move |r| serve(&own, r));
        let places = [dead.url("/data"), alive.url("/data")];
        let asked = AtomicUsize::new(0);
        let server = Server::start(move |_| {
            Answer::redirect(307, &places[asked.fetch_add(1, Ordering::SeqCst).min(1)])
        });
        let numbers = [("retries", 1), ("response-timeout-ms", 300)];
        assert!(blob_get(&server, &digest, &numbers).unwrap() == data[..]);
        assert_eq!((server.count(), alive.count()), (2, 1));
        assert_eq!(dead.count(), 2, "{:?}", dead.lines());
    }
    // A signature that is never right ends with the storage's refusal.
    let never = Server::start(|_| Answer::error(403, "DENIED", "signature"));
    let place = never.url("/data?sig=secretsecret");
    let server = Server::start(move |_| Answer::redirect(307, &place));
    let error = blob_get(&server, &digest, &[]).unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Status, Some(403))
    );
    assert!(!format!("{error} {error:?}").contains("secretsecret"));
}

/// How large a blob is, by HEAD or by whatever else the registry answers.
#[test]
fn sizes() {
    let ranged = |text: &'static str| Answer::new(206).header("Content-Range", text).body("x");
    let no = || Answer::new(405);
    type Case = (
        &'static str,
        Answer,
        Option<Answer>,
        Result<Option<u64>, ErrorKind>,
    );
    let cases: Vec<Case> = vec![
        (
            "HEAD",
            Answer::new(200).content_length(123_456_789_012_u64),
            None,
            Ok(Some(123_456_789_012)),
        ),
        ("HEAD 404", Answer::new(404), None, Ok(None)),
        ("HEAD 403", Answer::new(403), None, Err(ErrorKind::Status)),
        ("HEAD 500", Answer::new(500), None, Err(ErrorKind::Status)),
        (
            "no length",
            Answer::new(200).chunked(),
            Some(ranged("bytes 0-0/77")),
            Ok(Some(77)),
        ),
        ("no HEAD", no(), Some(ranged("bytes 0-0/77")), Ok(Some(77))),
        (
            "HEAD says 0",
            Answer::new(200),
            Some(ranged("bytes 0-0/77")),
            Ok(Some(77)),
        ),
        (
            "no HEAD, 501",
            Answer::new(501),
            Some(ranged("bytes 0-0/77")),
            Ok(Some(77)),
        ),
        (
            "no HEAD, no range",
            no(),
            Some(Answer::ok("12345")),
            Ok(Some(5)),
        ),
        (
            "no HEAD, nothing there",
            no(),
            Some(Answer::new(404)),
            Ok(None),
        ),
        (
            "no HEAD, empty",
            no(),
            Some(Answer::new(416).header("Content-Range", "bytes */0")),
            Ok(Some(0)),
        ),
        (
            "no HEAD, unknown",
            no(),
            Some(ranged("bytes 0-0/*")),
            Err(ErrorKind::Protocol),
        ),
        (
            "no HEAD, chunked",
            no(),
            Some(Answer::ok("12345").chunked()),
            Err(ErrorKind::Protocol),
        ),
        (
            "no HEAD, denied",
            no(),
            Some(Answer::new(403)),
            Err(ErrorKind::Status),
        ),
    ];
    for (what, head, get, want) in cases {
        let requests = 1 + usize::from(get.is_some());
        let server = Server::start(script([Some(head), get].into_iter().flatten().collect()));
        let transport = transport(&server, &with(&[("retries", 0)]));
        let got = transport.blob_stat(&sha256(b"x"), None);
        assert_eq!(
            got.as_ref().map_err(Error::kind),
            want.as_ref().map_err(|k| *k),
            "{what}: {got:?}"
        );
        let methods: Vec<_> = server.requests().iter().map(|r| r.method.clone()).collect();
        assert_eq!(methods, ["HEAD", "GET"][..requests], "{what}");
    }
    let nothing = Server::start(|_| Answer::new(200));
    let size = transport(&nothing, &options()).blob_stat(&sha256(b""), None);
    assert_eq!(size.unwrap(), Some(0));
    assert_eq!(nothing.requests().len(), 1);
    let server = Server::start(|_| Answer::new(404));
    let error = transport(&server, &options())
        .blob_open(&sha256(b"x"), None)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Status, Some(404))
    );
    assert!(error.message().contains(&sha256(b"x")), "{error}");
}

/// Reads at any offset, of many threads: exact bytes, and one request for each read.
#[test]
fn random_reads() {
    let data = Arc::new(noise("random", 200_000));
    let digest = sha256(&data);
    let own = Arc::clone(&data);
    let name = digest.clone();
    let server = Server::start(move |r| serve_bytes(r, &name, &own));
    let transport = transport(&server, &options());
    let blob = transport.blob_open(&digest, None).unwrap();
    assert_eq!((blob.size(), server.count()), (200_000, 1));
    let size = data.len();
    std::thread::scope(|scope| {
        for t in 0..8_usize {
            let (blob, data) = (&blob, &data);
            scope.spawn(move || {
                for n in 0..20_usize {
                    let at = (t * 7919 + n * 104_729) % size;
                    let length = 1 + (t * 31 + n * 977) % 9000;
                    let want = &data[at..(at + length).min(size)];
                    let mut buf = vec![0xee; length];
                    let got = blob.pread(&mut buf, at as u64, None).unwrap();
                    assert!(got == want.len() && buf[..got] == *want, "{at}+{length}");
                    assert!(buf[got..].iter().all(|b| *b == 0xee), "nothing beyond");
                }
            });
        }
    });
    assert_eq!(server.count(), 161, "one request each");
    assert!(server.connections() <= 9, "{}", server.connections());
    server.clear();
    // At and beyond the end, and nothing at all: no request.
    for (at, length) in [
        (size as u64, 5),
        (u64::MAX, 5),
        (size as u64 + 1, 0),
        (7, 0),
    ] {
        assert_eq!(blob.pread(&mut vec![0; length], at, None).unwrap(), 0);
    }
    assert_eq!(server.count(), 0);
    let mut end = [0; 50];
    assert_eq!(blob.pread(&mut end, size as u64 - 10, None).unwrap(), 10);
    assert_eq!(end[..10], data[size - 10..]);
    assert_eq!(ranges(&server), ["bytes=199990-199999"]);
    let mut all = vec![0; size];
    assert_eq!(blob.pread(&mut all, 0, None).unwrap(), size);
    assert!(all == data[..]);
}

/// For reads at an offset: what is wrong is an error, what breaks off is completed.
#[test]
fn odd_answers_to_reads() {
    let data = noise("odd", 10_000);
    type Make = fn(&[u8], usize, Option<usize>) -> Answer;
    let cases: [(&str, Make, bool); 16] = [
        ("right", part, true),
        ("200", |d, _, _| Answer::ok(d), true),
        ("200 chunked", |d, _, _| Answer::ok(d).chunked(), true),
        (
            "no total",
            |d, f, l| {
                let l = l.unwrap();
                Answer::new(206)
                    .header("Content-Range", format!("bytes {f}-{l}/*"))
                    .body(&d[f..=l])
            },
            true,
        ),
        ("more than asked for", |d, f, _| part(d, f, None), false),
        (
            "less than asked for",
            |d, f, l| part(d, f, l.map(|l| l - 1)),
            false,
        ),
        (
            "elsewhere",
            |d, f, l| part(d, f + 1, l.map(|l| l + 1)),
            false,
        ),
        (
            "another total",
            |d, f, l| {
                let l = l.unwrap();
                Answer::new(206)
                    .header("Content-Range", format!("bytes {f}-{l}/10001"))
                    .body(&d[f..=l])
            },
            true,
        ),
        (
            "another total, where it ends",
            |d, f, _| {
                Answer::new(206)
                    .header("Content-Range", format!("bytes {f}-{}/{}", f + 49, f + 50))
                    .body(&d[f..f + 50])
            },
            false,
        ),
        (
            "no header",
            |d, f, l| Answer::new(206).body(&d[f..=l.unwrap()]),
            false,
        ),
        (
            "200 of another length",
            |d, _, _| Answer::ok(&d[1..]),
            false,
        ),
        (
            "body longer than the range",
            |d, f, l| {
                let l = l.unwrap();
                Answer::new(206)
                    .header("Content-Range", format!("bytes {f}-{l}/10000"))
                    .body(&d[f..=l + 1])
            },
            false,
        ),
        (
            "body longer than the range, chunked",
            |d, f, l| part(d, f, l).body(&d[f..=l.unwrap() + 1]).chunked(),
            false,
        ),
        (
            "another version",
            |d, f, l| match f {
                5000 => part(d, f, l).header("ETag", "\"v1\"").cut_after(50),
                _ => part(d, f, l).header("ETag", "\"v2\""),
            },
            false,
        ),
        ("204", |_, _, _| Answer::new(204), false),
        (
            "416",
            |_, _, _| Answer::new(416).header("Content-Range", "bytes */10000"),
            false,
        ),
    ];
    for (what, make, good) in cases {
        let own = data.clone();
        let server = Server::start(move |r| match range(r) {
            None => Answer::ok(own.clone()),
            Some((first, last)) => make(&own, first, last),
        });
        let transport = transport(&server, &with(&[("retries", 0)]));
        let blob = transport.blob_open(&sha256(&data), None).unwrap();
        let mut buf = [0; 100];
        for _ in 0..2 {
            match blob.pread(&mut buf, 5000, None) {
                Ok(n) => {
                    assert!(good, "{what}");
                    assert_eq!((n, &buf[..]), (100, &data[5000..5100]), "{what}");
                }
                Err(e) => {
                    assert!(!good, "{what}: {e}");
                    assert!(
                        matches!(e.kind(), ErrorKind::Protocol | ErrorKind::Status),
                        "{what}: {e}"
                    );
                }
            }
        }
    }
    let (own, count) = (data.clone(), AtomicUsize::new(0));
    let server = Server::start(
        move |r| match (range(r), count.fetch_add(1, Ordering::SeqCst)) {
            (Some(_), 0..5) => serve(&own, r).cut_after(20),
            _ => serve(&own, r),
        },
    );
    let transport = transport(&server, &with(&[("retries", 0)]));
    let blob = transport.blob_open(&sha256(&data), None).unwrap();
    let mut buf = [0; 100];
    assert_eq!(blob.pread(&mut buf, 1000, None).unwrap(), 100);
    assert_eq!(buf, data[1000..1100]);
    assert_eq!(
        ranges(&server)[1..3],
        ["bytes=1000-1099", "bytes=1020-1099"]
    );
}

/// The one file that an interrupted download leaves beside its target.
fn partial(folder: &Path) -> PathBuf {
    let all = names(folder);
    assert_eq!(all.len(), 1, "{all:?}");
    folder.join(&all[0])
}

/// A second call goes on where the first was stopped, also with several connections; what is damaged is begun anew.
#[test]
fn continued_files() {
    let data = Arc::new(noise("continued", 6_000_000));
    let digest = sha256(&data);
    let own = Arc::clone(&data);
    let server = Server::start(move |r| serve(&own, r));
    for parallel in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("blob");
        let transport = transport(&server, &with(&[("retries", 0), ("parallel", parallel)]));
        let stop = || {
            let op = Op::new();
            op.set_progress(Some(Arc::new(|done, _| done < 1_000_000)));
            let error = transport
                .blob_save(&digest, &target, Some(&op))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            assert!(!target.exists());
            partial(folder.path())
        };
        let finish = |what: &str| {
            server.clear();
            transport.blob_save(&digest, &target, None).unwrap();
            assert!(std::fs::read(&target).unwrap() == data[..], "{what}");
            assert_eq!(names(folder.path()), ["blob"], "{what}");
            std::fs::remove_file(&target).unwrap();
        };
        let left = stop();
        let kept = std::fs::read(&left).unwrap();
        assert!(kept.len() >= 1_000_000 && data.starts_with(&kept));
        finish("continued");
        let firsts: Vec<_> = server
            .requests()
            .iter()
            .filter_map(range)
            .map(|(f, _)| f)
            .collect();
        assert_eq!(
            firsts.iter().min(),
            Some(&kept.len()),
            "nothing was fetched twice"
        );
        type Damage = fn(&mut Vec<u8>, &[u8]);
        let damages: [(&str, Damage); 5] = [
            ("one bit", |p, _| p[17] ^= 1),
            ("too long", |p, d| *p = [d, b"surplus"].concat()),
            ("of another blob", |p, _| p.fill(9)),
            ("whole", |p, d| *p = d.to_vec()),
            ("whole and wrong", |p, d| *p = vec![0; d.len()]),
        ];
        for (what, damage) in damages {
            let left = stop();
            let mut bytes = std::fs::read(&left).unwrap();
            damage(&mut bytes, &data);
            std::fs::write(&left, bytes).unwrap();
            finish(what);
            assert_eq!(server.count() == 0, what == "whole", "{what}");
        }
        // Another blob for the same target begins at its own beginning.
        let left = stop();
        let other = noise("other", 5000);
        let bytes = other.clone();
        let elsewhere = Server::start(move |r| serve(&bytes, r));
        support::client::transport(&elsewhere, &options())
            .blob_save(&sha256(&other), &target, None)
            .unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), other);
        std::fs::remove_file(&target).unwrap();
        assert!(left.exists(), "that of the first is still there");
        finish("after another blob");
    }
}

/// Wrong bytes leave nothing, neither target nor part; a broken connection leaves the part.
#[test]
fn what_failed_saves_leave() {
    let data = noise("leave", 300_000);
    let digest = sha256(&data);
    type Make = fn(&[u8], &Got) -> Answer;
    let cases: [(&str, Make, ErrorKind, bool); 4] = [
        (
            "wrong",
            |d, _| Answer::ok(vec![1; d.len()]),
            ErrorKind::Digest,
            false,
        ),
        ("absent", |_, _| Answer::new(404), ErrorKind::Status, false),
        (
            "cut at once",
            |d, _| Answer::ok(d).cut_after(0),
            ErrorKind::Network,
            false,
        ),
        (
            "cut later",
            |d, r| match range(r) {
                None => Answer::ok(d).cut_after(100_000),
                Some(_) => serve(d, r).cut_after(0),
            },
            ErrorKind::Network,
            true,
        ),
    ];
    for (what, make, kind, stays) in cases {
        let own = data.clone();
        let server = Server::start(move |r| make(&own, r));
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("blob");
        std::fs::write(&target, "old").unwrap();
        let error = transport(&server, &with(&[("retries", 1)]))
            .blob_save(&digest, &target, None)
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert_eq!(std::fs::read(&target).unwrap(), b"old", "{what}");
        std::fs::remove_file(&target).unwrap();
        assert_eq!(names(folder.path()).len(), usize::from(stays), "{what}");
    }
}

/// What may pass by itself, or is about who asks, leaves the part where it is, and nothing else is asked for at once; what
/// says that there is no such blob, or no such part of it, does not.
#[test]
fn what_refusals_leave_of_a_part() {
    let data = noise("refused", 300_000);
    let digest = sha256(&data);
    for (status, stays) in [
        (401, true),
        (403, true),
        (408, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (400, false),
        (404, false),
        (410, false),
        (416, false),
    ] {
        let own = data.clone();
        let refuses = AtomicUsize::new(0);
        let server = Server::start(move |_| match refuses.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::ok(own.as_slice()).cut_after(100_000),
            _ => Answer::new(status),
        });
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("blob");
        let save =
            || transport(&server, &with(&[("retries", 0)])).blob_save(&digest, &target, None);
        save().unwrap_err();
        let left = partial(folder.path());
        let kept = std::fs::read(&left).unwrap();
        assert!(!kept.is_empty() && data.starts_with(&kept));
        server.clear();
        assert_eq!(save().unwrap_err().http_status(), Some(status));
        assert_eq!(std::fs::read(&left).ok(), stays.then_some(kept), "{status}");
        assert_eq!(server.count(), if stays { 1 } else { 2 }, "{status}");
    }
}

/// Where a blob is saved to: links are replaced, folders and missing places are errors.
#[test]
fn targets_of_saves() {
    let data = noise("targets", 5000);
    let digest = sha256(&data);
    let own = data.clone();
    let server = Server::start(move |r| serve(&own, r));
    let transport = transport(&server, &options());
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("mine"), "mine").unwrap();
    symlink(place("mine"), place("link")).unwrap();
    symlink(place("nowhere"), place("dangling")).unwrap();
    for name in ["link", "dangling", "mine2"] {
        transport.blob_save(&digest, &place(name), None).unwrap();
        assert!(
            !std::fs::symlink_metadata(place(name)).unwrap().is_symlink(),
            "{name}"
        );
        assert_eq!(std::fs::read(place(name)).unwrap(), data, "{name}");
    }
    assert_eq!(
        std::fs::read(place("mine")).unwrap(),
        b"mine",
        "a link is not followed"
    );
    assert!(!place("nowhere").exists());
    std::fs::create_dir(place("folder")).unwrap();
    for name in ["folder", "no/such/folder"] {
        let error = transport
            .blob_save(&digest, &place(name), None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{name}: {error}");
        assert!(error.os_code().is_some(), "{name}");
    }
    // Somebody put a link where the part goes: it is not written through.
    let error_free = place("again");
    let op = Op::new();
    op.set_progress(Some(Arc::new(|_, _| false)));
    transport
        .blob_save(&digest, &error_free, Some(&op))
        .unwrap_err();
    let part = names(folder.path())
        .into_iter()
        .find(|n| n.contains("again"))
        .unwrap();
    std::fs::remove_file(place(&part)).unwrap();
    symlink(place("mine"), place(&part)).unwrap();
    let error = transport.blob_save(&digest, &error_free, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(std::fs::read(place("mine")).unwrap(), b"mine");
}

/// Many saves of one blob to one target at once all succeed, and the file is right.
#[test]
fn concurrent_saves() {
    let data = noise("concurrent", 400_000);
    let digest = sha256(&data);
    let gate = Gate::new();
    let (own, held) = (data.clone(), gate.clone());
    let server = Server::start(move |r| serve(&own, r).stall_after(100_000, &held));
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("blob");
    let transport = transport(&server, &options());
    std::thread::scope(|scope| {
        let saves: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| transport.blob_save(&digest, &target, None)))
            .collect();
        assert!(gate.wait_reached(4), "they run side by side");
        assert!(!target.exists());
        gate.open();
        for save in saves {
            save.join().unwrap().unwrap();
        }
    });
    assert_eq!(std::fs::read(&target).unwrap(), data);
    assert_eq!(names(folder.path()), ["blob"]);
}

/// Option `parallel`: several connections, the same bytes, and errors that end it all.
#[test]
fn parallel_saves() {
    let data = Arc::new(noise("parallel", 20_000_000));
    let digest = sha256(&data);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("blob");
    let own = Arc::clone(&data);
    let server = Server::start(move |r| serve(&own, r));
    let save = |server: &Server, numbers: &[(&str, i64)]| {
        let all = [&[("parallel", 4), ("retries", 1)], numbers].concat();
        transport(server, &with(&all)).blob_save(&digest, &target, None)
    };
    save(&server, &[]).unwrap();
    assert!(std::fs::read(&target).unwrap() == data[..]);
    assert!(server.connections() > 1, "{}", server.connections());
    let mut spans: Vec<_> = server.requests().iter().filter_map(range).collect();
    spans.sort_unstable();
    let ends: Vec<_> = spans.iter().map(|(_, l)| l.unwrap() + 1).collect();
    let starts: Vec<_> = spans.iter().map(|(f, _)| *f).collect();
    assert_eq!(
        starts[1..],
        ends[..ends.len() - 1],
        "each byte was asked for once"
    );
    std::fs::remove_file(&target).unwrap();
    // A server without ranges sends it all at once.
    let own = Arc::clone(&data);
    let whole = Server::start(move |_| Answer::ok(&own[..]));
    save(&whole, &[]).unwrap();
    assert!(std::fs::read(&target).unwrap() == data[..]);
    assert_eq!(whole.count(), 1, "all it has");
    std::fs::remove_file(&target).unwrap();
    // One that does not tell with a part how much there is, of blobs shorter and longer than the part.
    for size in [1000, data.len()] {
        let own = Arc::new(data[..size].to_vec());
        let server = Server::start(move |r| match range(r) {
            Some((first, last)) => {
                let last = last.unwrap_or(usize::MAX).min(own.len() - 1);
                Answer::new(206)
                    .header("Content-Range", format!("bytes {first}-{last}/*"))
                    .body(&own[first..=last])
            }
            None => Answer::ok(&own[..]),
        });
        let transport = transport(&server, &with(&[("parallel", 4), ("retries", 1)]));
        transport
            .blob_save(&sha256(&data[..size]), &target, None)
            .unwrap();
        assert!(std::fs::read(&target).unwrap() == data[..size]);
        std::fs::remove_file(&target).unwrap();
    }
    // One of the ranges is wrong.
    let own = Arc::clone(&data);
    let wrong = Server::start(move |r| match range(r) {
        Some((first, last)) if first > 10_000_000 => {
            let last = last.unwrap();
            part(&own, first, Some(last)).body(vec![0; last + 1 - first])
        }
        _ => serve(&own, r),
    });
    assert_eq!(save(&wrong, &[]).unwrap_err().kind(), ErrorKind::Digest);
    assert_eq!(names(folder.path()), Vec::<String>::new());
    let own = Arc::clone(&data);
    let denied = Server::start(move |r| match range(r) {
        Some((first, _)) if first > 10_000_000 => Answer::new(403),
        _ => serve(&own, r),
    });
    let error = save(&denied, &[]).unwrap_err();
    assert_eq!(error.http_status(), Some(403), "{error}");
    assert!(!target.exists());
}

/// A storage whose signed URLs are for GET alone tells the size to that.
#[test]
fn a_storage_without_head() {
    let storage = Server::start(|r| match r.method.as_str() {
        "GET" => Answer::new(206)
            .header("Content-Range", "bytes 0-0/77")
            .body(vec![0]),
        _ => Answer::new(403),
    });
    let url = storage.url("/signed");
    let server = Server::start(move |_| Answer::redirect(307, &url));
    let size = transport(&server, &options()).blob_stat(&sha256(b"x"), None);
    assert_eq!(size.unwrap(), Some(77));
    let refusing = Server::start(|_| Answer::new(403));
    let error = transport(&refusing, &options())
        .blob_stat(&sha256(b"x"), None)
        .unwrap_err();
    assert_eq!(error.http_status(), Some(403), "{error}");
    assert_eq!(refusing.requests().len(), 1);
}

/// A page to sign in at is not the blob, whatever its length.
#[test]
fn a_redirect_to_a_page() {
    let server = Server::start(|r| match r.path.as_str() {
        "/login" => Answer::ok("<html>").header("Content-Type", "text/html; charset=utf-8"),
        _ => Answer::redirect(302, "/login"),
    });
    let t = transport(&server, &options());
    let errors = [
        t.blob_stat(&sha256(b"x"), None).unwrap_err(),
        t.blob_open(&sha256(b"x"), None).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::MediaType, "{error}");
        assert_eq!(error.http_status(), Some(200));
        assert!(error.to_string().contains("/login"), "{error}");
    }
}

/// The whole way with a registry that wants a token, and one that is closed in between.
#[test]
fn a_registry() {
    let registry = Registry::basic("user", "pass");
    let data = noise("layer", 100_000);
    let digest = registry.put_blob("a/b", data.clone());
    let server = registry.start(None);
    let transport = signed_in(&server, &[]);
    assert_eq!(
        transport.blob_get(&digest, None).unwrap().body().unwrap(),
        data
    );
    assert_eq!(transport.blob_stat(&digest, None).unwrap(), Some(100_000));
    assert_eq!(transport.blob_stat(&sha256(b"no"), None).unwrap(), None);
    transport.close();
    let blob = transport.blob_open(&digest, None).unwrap();
    let mut buf = [0; 9];
    assert_eq!(blob.pread(&mut buf, 50_000, None).unwrap(), 9);
    assert_eq!(buf, data[50_000..50_009]);
    registry.corrupt_blob(&digest, vec![0; 100_000]);
    let error = transport
        .blob_get(&digest, None)
        .unwrap()
        .take_body()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Digest);
    assert!(error.message().contains(&digest), "{error}");
    // A response that failed stays failed.
    let mut response = transport.blob_get(&digest, None).unwrap();
    let mut sink = vec![0; 8192];
    let error = loop {
        match response.read(&mut sink) {
            Ok(0) => panic!("the end was told"),
            Ok(_) => {}
            Err(e) => break e,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Digest);
    assert_eq!(
        response.read(&mut sink).unwrap_err().kind(),
        ErrorKind::Digest
    );
    assert_eq!(get(&transport, "/v2/").unwrap().len(), 2);
}

/// An upload whose `send` failed asks how much has arrived before it sends again: as much as the registry took, one
/// byte or none, or nothing that it still knows of. What it tells of one byte and of none is the same.
#[test]
fn an_upload_goes_on_after_a_failure() {
    let data = noise("upload", 10_000);
    for (told, began_anew, rest) in [(Some("0-5999"), 0, 6000), (Some("0-0"), 1, 0), (None, 1, 0)] {
        let patches = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            let at = Answer::new(202).header("Location", "/u");
            match request.method.as_str() {
                "PATCH" if patches.fetch_add(1, Ordering::SeqCst) == 0 => Answer::new(503),
                "PATCH" => at.header("Range", "0-9999"),
                "GET" => match told {
                    Some(range) => Answer::new(204).header("Range", range),
                    None => Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload"),
                },
                "DELETE" => Answer::new(204),
                "PUT" => Answer::new(201),
                _ => at,
            }
        });
        let transport = transport(&server, &with(&[("retries", 0)]));
        let mut upload = transport.upload_begin(None).unwrap();
        let source = Source::bytes(data.clone());
        assert_eq!(
            upload.send(&source, None).unwrap_err().http_status(),
            Some(503)
        );
        server.clear();
        upload.send(&source, None).unwrap();
        upload.finish(None, None).unwrap();
        let requests = server.requests();
        let count = |method: &str| requests.iter().filter(|r| r.method == method).count();
        assert_eq!(requests[0].method, "GET", "{told:?}");
        assert_eq!(count("POST"), began_anew, "{told:?}");
        assert_eq!(
            count("DELETE"),
            usize::from(told.is_some() && began_anew > 0),
            "{told:?}"
        );
        let sent: Vec<&[u8]> = requests
            .iter()
            .filter(|r| r.method == "PATCH")
            .map(|r| r.body.as_slice())
            .collect();
        assert_eq!(sent, [&data[rest..]], "{told:?}");
    }
}

/// What an upload consists of, after a HEAD: methods, and the ranges that were sent.
fn steps(server: &Server) -> Vec<String> {
    let requests = server.requests();
    let sent = requests.iter().filter(|r| r.method != "HEAD").map(|r| {
        let range = r.header("content-range").unwrap_or_default();
        format!("{} {range}", r.method).trim_end().to_owned()
    });
    sent.collect()
}

/// A part that was refused is sent again to the same place, if the registry knows the upload and its answer says that
/// nothing has arrived. It says the same of one byte: when that may be, because the connection broke or the place is
/// refused again, the upload is begun anew. So is one that the registry does not know, if it ever knew it. Where it is
/// after a 416 is asked whatever repetitions are left.
#[test]
fn a_refused_upload_goes_on_in_its_session() {
    const BROKEN: u16 = 0;
    type Case<'a> = (usize, i64, i64, &'a [u16], Option<&'static str>, &'a str);
    let cases: [Case; 17] = [
        (
            1000,
            400,
            1,
            &[429],
            None,
            "PATCH 0-399, GET, PATCH 0-399, PATCH 400-799, PATCH 800-999, PUT",
        ),
        (
            1000,
            400,
            1,
            &[429],
            Some("0-0"),
            "PATCH 0-399, GET, PATCH 0-399, PATCH 400-799, PATCH 800-999, PUT",
        ),
        (
            500,
            400,
            0,
            &[416],
            None,
            "PATCH 0-399, GET, PATCH 0-399, PATCH 400-499, PUT",
        ),
        (
            500,
            400,
            0,
            &[416],
            Some("0-0"),
            "PATCH 0-399, GET, PATCH 0-399, PATCH 400-499, PUT",
        ),
        (
            500,
            400,
            0,
            &[202, 416],
            Some("0-299"),
            "PATCH 0-399, PATCH 400-499, GET, PATCH 300-499, PUT",
        ),
        (
            500,
            400,
            1,
            &[202, 503],
            None,
            "PATCH 0-399, PATCH 400-499, GET, DELETE, POST, PATCH 0-399, PATCH 400-499, PUT",
        ),
        (
            500,
            400,
            0,
            &[416, 416],
            Some("0-0"),
            "PATCH 0-399, GET, PATCH 0-399, DELETE",
        ),
        (
            500,
            400,
            2,
            &[416, 416],
            Some("0-0"),
            "PATCH 0-399, GET, PATCH 0-399, GET, DELETE, POST, PATCH 0-399, PATCH 400-499, PUT",
        ),
        (
            500,
            400,
            1,
            &[BROKEN],
            Some("0-0"),
            "PATCH 0-399, GET, DELETE, POST, PATCH 0-399, PATCH 400-499, PUT",
        ),
        (500, 400, 1, &[404], Some("0-0"), "PATCH 0-399"),
        (
            500,
            400,
            0,
            &[202, 404],
            Some("0-0"),
            "PATCH 0-399, PATCH 400-499, POST, PATCH 0-399, PATCH 400-499, PUT",
        ),
        (500, 0, 1, &[503], None, "PUT, GET, PUT"),
        (500, 0, 1, &[503], Some("0-0"), "PUT, GET, PUT"),
        (
            500,
            0,
            1,
            &[BROKEN],
            Some("0-0"),
            "PUT, GET, DELETE, POST, PUT",
        ),
        (
            500,
            0,
            3,
            &[503, 416],
            Some("0-99"),
            "PUT, GET, PUT 100-499, GET, PUT 100-499",
        ),
        (1, 0, 1, &[503], Some("0-0"), "PUT, GET, DELETE, POST, PUT"),
        (0, 0, 1, &[503], Some("0-0"), "PUT, GET, PUT"),
    ];
    for (size, chunk, retries, failures, told, wanted) in cases {
        let data = noise("refused", size);
        let left = Mutex::new(failures.to_vec());
        let server = Server::start(move |request| {
            let refusal = || {
                let mut left = lock(&left);
                let next = (!left.is_empty()).then(|| left.remove(0));
                next.filter(|status| *status != 202)
            };
            let part = request.header("content-range");
            match request.method.as_str() {
                "POST" => Answer::new(202).header("Location", "/u"),
                "PATCH" | "PUT" => match refusal() {
                    Some(BROKEN) => Answer::hang_up(),
                    Some(status) => Answer::new(status),
                    None if request.method == "PUT" => Answer::new(201),
                    None => Answer::new(202).header(
                        "Range",
                        format!("0-{}", part.unwrap().split_once('-').unwrap().1),
                    ),
                },
                "GET" => match told {
                    Some(range) => Answer::new(204).header("Range", range),
                    None => Answer::new(204),
                },
                "DELETE" => Answer::new(204),
                _ => Answer::new(404),
            }
        });
        let options = with(&[("upload-chunk-bytes", chunk), ("retries", retries)]);
        let put = transport(&server, &options).blob_put(
            Some(&sha256(&data)),
            &Source::bytes(data),
            None,
            None,
        );
        let what = format!("{failures:?}, then {told:?}: {put:?}");
        assert_eq!(
            steps(&server).join(", "),
            format!("POST, {wanted}"),
            "{what}"
        );
        match put {
            Ok(_) => assert!(wanted.contains("PUT"), "{what}"),
            Err(e) => assert_eq!(
                (e.http_status(), wanted.contains("PUT")),
                (failures.last().copied(), false),
                "{what}"
            ),
        }
    }
}

/// A blob of no bytes has no part to send, whoever computes its digest; and what an upload has beyond the end of a
/// source is the caller's mistake, also when that is empty.
#[test]
fn uploads_of_nothing() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => Answer::new(202).header("Location", "/u"),
        "PATCH" => Answer::new(202).header("Range", format!("0-{}", request.body.len().max(1) - 1)),
        "GET" => Answer::new(204).header("Range", "0-4"),
        "PUT" => Answer::new(201),
        _ => Answer::new(404),
    });
    let transport = transport(&server, &options());
    let empty = Source::bytes(*b"");
    for named in [Some(sha256(b"")), None] {
        server.clear();
        let put = transport.blob_put(named.as_deref(), &empty, None, None);
        assert_eq!(put.unwrap().digest().unwrap().to_string(), sha256(b""));
        assert_eq!(steps(&server), ["POST", "PUT"]);
    }
    server.clear();
    let mut upload = transport.upload_begin(None).unwrap();
    upload.send(&empty, None).unwrap();
    assert_eq!(upload.offset(), 0);
    upload.finish(None, None).unwrap();
    assert_eq!(steps(&server), ["POST", "PUT"]);
    for short in ["", "abc"] {
        let mut upload = transport.upload_begin(None).unwrap();
        upload.send(&Source::bytes(*b"12345"), None).unwrap();
        for mut upload in [
            transport.upload_resume(&upload.state(), None).unwrap(),
            upload,
        ] {
            let error = upload.send(&Source::bytes(short), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument, "{short:?}: {error}");
            assert_eq!(upload.offset(), 5);
        }
    }
}

/// A blob is there, at its place or mounted from another repository, when the answer is about that blob: else it is
/// sent, and a mount that made another one is an error.
#[test]
fn blobs_that_are_there() {
    const DATA: &[u8] = b"hello";
    let (own, other) = (sha256(DATA), sha256(b"other"));
    let there = |size: Option<usize>, digest: Option<&str>| {
        let answer = Answer::new(200).content_length(size.unwrap_or(0));
        match digest {
            Some(digest) => answer.header("Docker-Content-Digest", digest),
            None => answer,
        }
    };
    let elsewhere = |answer| vec![Answer::redirect(302, "/elsewhere"), answer];
    let (size, wrong) = (Some(DATA.len()), Some(999));
    let cases = [
        ("nothing told", vec![there(None, None)], true),
        ("its size", vec![there(size, None)], true),
        ("its digest", vec![there(size, Some(&own))], true),
        (
            "a digest by another algorithm",
            vec![there(size, Some(&sha512(b"other")))],
            true,
        ),
        ("another size", vec![there(wrong, None)], false),
        (
            "its digest, another size",
            vec![there(wrong, Some(&own))],
            false,
        ),
        ("another digest", vec![there(size, Some(&other))], false),
        ("a page elsewhere", elsewhere(there(None, None)), false),
        ("its size elsewhere", elsewhere(there(size, None)), true),
        (
            "its digest elsewhere",
            elsewhere(there(None, Some(&own))),
            true,
        ),
        (
            "another size elsewhere",
            elsewhere(there(wrong, None)),
            false,
        ),
        ("refused elsewhere", elsewhere(Answer::new(403)), false),
    ];
    for (what, heads, is_there) in cases {
        let heads = script(heads);
        let server = Server::start(move |request| match request.method.as_str() {
            "HEAD" => heads(request),
            "POST" => Answer::new(202).header("Location", "/u"),
            _ => Answer::new(201),
        });
        let transport = transport(&server, &options());
        transport
            .blob_put(Some(&own), &Source::bytes(DATA), None, None)
            .expect(what);
        let sent: &[&str] = if is_there { &[] } else { &["POST", "PUT"] };
        assert_eq!(steps(&server), sent, "{what}");
    }
    for (told, wanted) in [(&own, None), (&other, Some((ErrorKind::Digest, Some(201))))] {
        let made = told.clone();
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Answer::new(201).header("Docker-Content-Digest", &made),
            _ => Answer::new(404),
        });
        let put = transport(&server, &options()).blob_put(
            Some(&own),
            &Source::bytes(DATA),
            Some("c/d"),
            None,
        );
        assert_eq!(
            put.err().map(|e| (e.kind(), e.http_status())),
            wanted,
            "mounted"
        );
        assert_eq!(steps(&server), ["POST"]);
    }
}

/// Whether a blob is there is asked, and a mount tried, to save the sending: when that is refused, the blob is sent. Not when
/// the registry wants credentials, or fewer requests.
#[test]
fn a_refused_question_is_no_reason_not_to_push() {
    let digest = sha256(b"hello");
    let put = |from: Option<&str>, refusal: u16| {
        let mounts = from.is_some();
        let server = Server::start(move |request| match request.method.as_str() {
            "HEAD" => Answer::new(if mounts { 404 } else { refusal }),
            "POST" if request.query.contains("mount") => Answer::new(refusal),
            "POST" => Answer::new(202).header("Location", "/u"),
            _ => Answer::new(201),
        });
        let put = transport(&server, &with(&[("retries", 0)])).blob_put(
            Some(&digest),
            &Source::bytes(*b"hello"),
            from,
            None,
        );
        let status = put.map_or_else(|e| e.http_status(), |_| None);
        (status, steps(&server).join(", "))
    };
    for status in [400, 403, 405, 409, 410, 415, 418, 500, 501, 503] {
        assert_eq!(put(None, status), (None, "POST, PUT".into()), "{status}");
    }
    for status in [200, 204, 303, 400, 401, 403, 404, 405, 500, 501, 503] {
        let sent = (None, "POST, POST, PUT".into());
        assert_eq!(put(Some("c/d"), status), sent, "{status}");
    }
    for status in [401, 429] {
        assert_eq!(put(None, status), (Some(status), String::new()));
    }
    assert_eq!(put(Some("c/d"), 429), (Some(429), "POST".into()));
    // They leave the push its own repetitions.
    let posts = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "HEAD" => Answer::new(503),
        "POST" if request.query.contains("mount") => Answer::new(503),
        "POST" if posts.fetch_add(1, Ordering::SeqCst) == 0 => Answer::new(503),
        "POST" => Answer::new(202).header("Location", "/u"),
        _ => Answer::new(201),
    });
    let transport = transport(&server, &with(&[("retries", 1), ("retry-delay-ms", 1)]));
    let source = Source::bytes(*b"hello");
    transport
        .blob_put(Some(&digest), &source, Some("c/d"), None)
        .unwrap();
}

/// A copy whose source breaks off: what the registry that it goes to says then is no answer of the source's.
#[test]
fn a_source_that_breaks_and_a_target_that_refuses() {
    let data = noise("breaks", 200_000);
    let from = Registry::open();
    from.put_blob("a/b", data.clone());
    let digest = sha256(&data);
    let layer = serde_json::json!({"mediaType": OCI_LAYER, "digest": digest, "size": data.len()});
    let config = from.seed("a/b", "image", 0).config;
    let image = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.json(), "layers": [layer],
    });
    from.put_manifest("a/b", Some("v1"), OCI_MANIFEST, image.to_string());
    let broken = Server::start(move |request| {
        let answer = from.answer(request);
        match request.method == "GET" && request.path.ends_with(&digest) {
            true if request.header("range").is_some() => Answer::hang_up(),
            true => answer.cut_after(1000),
            false => answer,
        }
    });
    let to = Registry::open();
    let begun = AtomicUsize::new(0);
    let refusing = Server::start(move |request| match request.method.as_str() {
        "POST" if begun.fetch_add(1, Ordering::SeqCst) > 1 => Answer::error(403, "DENIED", "full"),
        _ => to.answer(request),
    });
    let [source, target] = [(&broken, 0), (&refusing, 2)].map(|(server, retries)| {
        transport(
            server,
            &with(&[("retries", retries), ("retry-delay-ms", 1)]),
        )
    });
    let e = copy(&source, "v1", &target, "v1", None).unwrap_err();
    assert_eq!(
        (e.kind(), e.http_status()),
        (ErrorKind::Status, Some(403)),
        "{e}"
    );
    assert_eq!(e.diagnostics()[0].message.as_deref(), Some("full"));
}

/// What a manifest says of sizes is not believed, and more of manifests than can be kept is refused.
#[test]
fn copies_of_immense_images() {
    let from = Registry::open();
    let config = from.seed("a/b", "image", 0).config;
    let layer = |data: &[u8], size: u64| {
        from.put_blob("a/b", data.to_vec());
        serde_json::json!({"mediaType": OCI_LAYER, "digest": sha256(data), "size": size})
    };
    let image = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.json(),
        "layers": [layer(b"x", 1), layer(b"y", u64::MAX)],
    });
    from.put_manifest("a/b", Some("sizes"), OCI_MANIFEST, image.to_string());
    let parts: Vec<_> = (0..20)
        .map(|i| {
            let note = format!("{i}{}", " ".repeat((4 << 20) - 1000));
            let image = serde_json::json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.json(), "layers": [],
                "annotations": {"note": note},
            })
            .to_string();
            let digest = sha256(image.as_bytes());
            let size = image.len();
            from.put_manifest("a/b", None, OCI_MANIFEST, image);
            serde_json::json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size})
        })
        .collect();
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts});
    from.put_manifest("a/b", Some("parts"), OCI_INDEX, index.to_string());
    let serving = Server::start(move |request| from.answer(request));
    let to = Registry::open();
    let target = Server::start(move |request| to.answer(request));
    let [source, target] = [&serving, &target].map(|server| transport(server, &options()));
    for (tag, kind) in [("sizes", ErrorKind::Digest), ("parts", ErrorKind::Limit)] {
        let e = copy(&source, tag, &target, "v1", Some(&Op::new())).unwrap_err();
        assert_eq!(e.kind(), kind, "{tag}: {e}");
    }
    // Not one more than the limit takes.
    let asked = serving
        .lines()
        .into_iter()
        .filter(|l| l.starts_with("GET") && l.contains("manifests/sha256"));
    assert_eq!(asked.count(), 17);
}

/// A registry that takes parts and forgets them again is not served for ever.
#[test]
fn an_upload_that_goes_in_circles() {
    let server = Server::start(|r| {
        let begins = |at: &str| r.header("content-range").is_some_and(|c| c.starts_with(at));
        match r.method.as_str() {
            "POST" => Answer::new(202).header("Location", "/u"),
            "PATCH" if begins("70001-") => Answer::new(416),
            "PATCH" => Answer::new(202).header("Range", "0-70000"),
            "GET" => Answer::new(204).header("Range", "0-1"),
            _ => Answer::new(404),
        }
    });
    let transport = transport(&server, &with(&[("retries", 3), ("retry-delay-ms", 0)]));
    let mut upload = transport.upload_begin(None).unwrap();
    let op = Op::new();
    op.set_timeout(Some(Duration::from_secs(20)));
    let error = upload
        .send(&Source::bytes(vec![0; 200_000]), Some(&op))
        .unwrap_err();
    assert_eq!(error.http_status(), Some(416), "{error}");
}

/// Blobs go side by side although only the thread of the call may ask the program for credentials.
#[test]
fn copies_with_a_callback_go_side_by_side() {
    let from = Registry::open();
    from.seed("a/b", "v1", 3);
    let source = from.start(None);
    let to = Registry::open();
    let held = Gate::new();
    let gate = held.clone();
    let target = Server::start(move |r| match r.header("authorization") {
        None => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"r\""),
        // The first blob, which is the config, tells who is there.
        Some(_) if r.method == "PUT" && r.path.contains("/blobs/") && r.body.len() > 1000 => {
            to.answer(r).after(&gate)
        }
        Some(_) => to.answer(r),
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let creds = Creds::callback(Arc::new(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Creds::basic("user", "secretsecret")
    }));
    let name = format!("{}/a/b", target.authority());
    let options = with(&[("parallel", 3)]);
    let target = Transport::new(&name, Actions::push(), Some(&creds), Some(&options)).unwrap();
    let source = transport(&source, &support::client::options());
    std::thread::scope(|scope| {
        let copied = scope.spawn(|| copy(&source, "v1", &target, "v1", None));
        let met = held.wait_reached(2);
        held.open();
        copied.join().unwrap().unwrap();
        assert!(met, "one blob after the other");
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// What was read for a file that could not be written is gone: the next file is not an empty one.
#[test]
fn a_file_that_could_not_be_finished() {
    let data = noise("gone", 100_000);
    let body = data.clone();
    let server = Server::start(move |_| Answer::ok(body.as_slice()));
    let transport = transport(&server, &options());
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    let target = gone.join("file");
    let op = Op::new();
    op.set_progress(Some(Arc::new(move |_, _| {
        let _ = std::fs::remove_dir_all(&gone);
        true
    })));
    let mut response = transport.blob_get(&sha256(&data), Some(&op)).unwrap();
    assert_eq!(response.save(&target).unwrap_err().kind(), ErrorKind::Io);
    let next = folder.path().join("next");
    assert_eq!(response.save(&next).unwrap_err().kind(), ErrorKind::Io);
    assert!(!next.exists());
}

/// An upload that is begun anew, after a mount or not, is for a digest by the same algorithm.
#[test]
fn the_algorithm_of_an_upload_stays() {
    let digest = sha512(b"hello");
    for from in [None, Some("c/d")] {
        let puts = AtomicUsize::new(0);
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Answer::new(202).header("Location", "/u"),
            "PUT" if puts.fetch_add(1, Ordering::SeqCst) == 0 => Answer::new(503),
            "PUT" => Answer::new(201),
            _ => Answer::new(404),
        });
        let transport = transport(&server, &options());
        let source = Source::bytes(*b"hello");
        transport
            .blob_put(Some(&digest), &source, from, None)
            .unwrap();
        let requests = server.requests();
        let begun: Vec<&str> = requests
            .iter()
            .filter(|r| r.method == "POST")
            .map(|r| r.query.as_str())
            .collect();
        assert_eq!(begun.len(), 2, "{from:?}");
        assert_eq!(begun[1], "digest-algorithm=sha512", "{from:?}");
        assert_eq!(begun[0] == begun[1], from.is_none(), "{from:?}");
    }
}

/// What is wrong with an answer to an upload is told with its status.
#[test]
fn unusable_answers_to_uploads() {
    let location = |location: &str| Answer::new(202).header("Location", location);
    let range = |range: &str| Answer::new(202).header("Range", range);
    let begun = || location("/u");
    for (what, answers) in [
        ("no location", vec![Answer::new(202)]),
        ("an empty location", vec![location("")]),
        ("no URL", vec![location("http://[/")]),
        (
            "another network",
            vec![location("http://169.254.169.254/u")],
        ),
        ("moved to no URL", vec![begun(), location("http://[/")]),
        ("more than was sent", vec![begun(), range("0-4999")]),
        ("no range", vec![begun(), range("abc")]),
        ("an empty range", vec![begun(), range("")]),
        ("not from 0", vec![begun(), range("5-99")]),
    ] {
        let answers = script(answers);
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" | "PATCH" => answers(request),
            _ => Answer::new(404),
        });
        let data = noise("unusable", 1000);
        let error = transport(&server, &with(&[("upload-chunk-bytes", 100)]))
            .blob_put(Some(&sha256(&data)), &Source::bytes(data), None, None)
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Protocol, Some(202)),
            "{what}: {error}"
        );
    }
}

/// Where nobody can ask how much has arrived, an upload is begun anew, the first is given up, and a part that was too large
/// becomes smaller. What cannot be read again ends the upload, of which nothing stays.
#[test]
fn an_upload_that_cannot_be_asked_about_is_begun_anew() {
    struct Once(std::io::Cursor<Vec<u8>>);
    impl ReadBytes for Once {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
            Ok(self.0.read(buf).unwrap())
        }
        fn rewind(&mut self) -> bool {
            false
        }
    }
    let data = noise("unasked", 300_000);
    let once = || {
        Source::reader(
            Box::new(Once(std::io::Cursor::new(data.clone()))),
            Some(300_000),
        )
    };
    let again = || Source::bytes(data.clone());
    let whole = "PUT, GET, DELETE, POST, PUT";
    for (told, failed, chunk, source, wanted) in [
        (400, 503, 0, again(), whole),
        (405, 503, 0, again(), whole),
        (501, 503, 0, again(), whole),
        (404, 503, 0, again(), "PUT, GET, POST, PUT"),
        (403, 503, 0, again(), "PUT, GET"),
        (405, 503, 0, once(), "PUT, GET, DELETE, POST, DELETE"),
        (
            405,
            503,
            200_000,
            again(),
            "PATCH 0-199999, GET, DELETE, POST, PATCH 0-199999, PATCH 200000-299999, PUT",
        ),
        (
            405,
            413,
            200_000,
            again(),
            "PATCH 0-199999, GET, DELETE, POST, PATCH 0-99999, PATCH 100000-199999, PATCH 200000-299999, PUT",
        ),
    ] {
        let fails = AtomicUsize::new(1);
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Answer::new(202).header("Location", "/u"),
            "GET" => Answer::new(told),
            "PATCH" | "PUT" if fails.swap(0, Ordering::SeqCst) > 0 => Answer::new(failed),
            "PATCH" => Answer::new(202),
            "PUT" => Answer::new(201),
            _ => Answer::new(404),
        });
        let options = with(&[("upload-chunk-bytes", chunk), ("retries", 1)]);
        let put = transport(&server, &options).blob_put(Some(&sha256(&data)), &source, None, None);
        assert_eq!(
            steps(&server).join(", "),
            format!("POST, {wanted}"),
            "{told}: {put:?}"
        );
        match put {
            Ok(_) => assert!(wanted.ends_with(", PUT")),
            Err(e) if told == 403 => assert_eq!(e.http_status(), Some(failed), "{e}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::State, "{e}"),
        }
    }
}

/// A registry that does not say how much has arrived leaves the failure that it was asked for.
#[test]
fn what_failed_is_told_although_the_status_is_refused() {
    for (method, chunk) in [("PUT", 0), ("PATCH", 4)] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Answer::new(202).header("Location", "/u"),
            "HEAD" => Answer::new(404),
            got if got == method => Answer::error(503, "UNAVAILABLE", "storage is down"),
            _ => Answer::new(405),
        });
        let options = with(&[("upload-chunk-bytes", chunk), ("retries", 1)]);
        let error = transport(&server, &options)
            .blob_put(
                Some(&sha256(b"123456")),
                &Source::bytes(*b"123456"),
                None,
                None,
            )
            .unwrap_err();
        assert_eq!(error.http_status(), Some(503), "{error}");
        assert!(error.to_string().contains("storage is down"), "{error}");
    }
}

/// No part but the last is smaller than the registry demands; one part is a part.
#[test]
fn parts_as_large_as_demanded() {
    for (least, wanted) in [
        (
            "400",
            "POST, PATCH 0-399, PATCH 400-799, PATCH 800-999, PUT",
        ),
        ("600", "POST, PATCH 0-599, PATCH 600-999, PUT"),
        ("1000", "POST, PATCH 0-999, PUT"),
        ("5000", "POST, PATCH 0-999, PUT"),
        ("-1", "POST, PATCH 0-399, PATCH 400-799, PATCH 800-999, PUT"),
        (
            "99999999999999999999",
            "POST, PATCH 0-399, PATCH 400-799, PATCH 800-999, PUT",
        ),
    ] {
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Answer::new(202)
                .header("Location", "/u")
                .header("OCI-Chunk-Min-Length", least),
            "PATCH" => {
                let part = request.header("content-range").unwrap();
                let last = part.split_once('-').unwrap().1;
                Answer::new(202).header("Range", format!("0-{last}"))
            }
            "PUT" => Answer::new(201),
            _ => Answer::new(404),
        });
        let data = noise("demanded", 1000);
        transport(&server, &with(&[("upload-chunk-bytes", 400)]))
            .blob_put(Some(&sha256(&data)), &Source::bytes(data), None, None)
            .unwrap();
        assert_eq!(steps(&server).join(", "), wanted, "{least}");
    }
}

/// An upload that the registry loses again and again is not begun for ever, and the failure is the one that was.
#[test]
fn a_lost_upload_is_begun_anew_a_few_times() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => Answer::new(202).header("Location", "/u"),
        "PATCH" => Answer::new(503),
        _ => Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload"),
    });
    let transport = transport(&server, &with(&[("retries", 50)]));
    let error = transport
        .upload_begin(None)
        .unwrap()
        .send(&Source::bytes(*b"x"), None)
        .unwrap_err();
    assert_eq!(error.http_status(), Some(503), "{error}");
    let begun = server
        .lines()
        .iter()
        .filter(|line| line.starts_with("POST"))
        .count();
    assert_eq!(begun, 1 + 10);
}

/// A connection breaks, and what had arrived by then is more than the registry first told: it refuses the place. With
/// all repetitions gone, the upload is begun anew; but one whose connection never broke is refused for good. The process
/// that takes an upload up cannot know what became of the other's connection.
#[test]
fn an_upload_that_came_further_than_told_is_begun_anew() {
    let data = noise("further", 10_000);
    for (breaks, is_taken_up) in [(true, false), (false, true), (false, false)] {
        let patches = AtomicUsize::new(usize::from(!breaks));
        let server = Server::start(move |request| {
            let at = Answer::new(202).header("Location", "/u");
            match request.method.as_str() {
                "PATCH" => match patches.fetch_add(1, Ordering::SeqCst) {
                    0 => Answer::hang_up(),
                    1 | 2 => Answer::error(404, "BLOB_UPLOAD_INVALID", "wrong offset"),
                    _ => at.header("Range", "0-9999"),
                },
                "GET" => Answer::new(204).header("Range", "0-5999"),
                "PUT" => Answer::new(201),
                _ => at,
            }
        });
        let transport = transport(&server, &with(&[("retries", 1), ("retry-delay-ms", 0)]));
        let mut upload = transport.upload_begin(None).unwrap();
        if is_taken_up {
            upload = transport.upload_resume(&upload.state(), None).unwrap();
        }
        server.clear();
        let sent = upload.send(&Source::bytes(data.clone()), None);
        let requests = server.requests();
        let count = |method: &str| requests.iter().filter(|r| r.method == method).count();
        if breaks || is_taken_up {
            sent.unwrap();
            upload.finish(None, None).unwrap();
            assert_eq!(
                (count("POST"), count("PATCH")),
                if breaks { (2, 4) } else { (1, 3) },
                "{:?}",
                server.lines()
            );
            assert_eq!(requests.last().unwrap().body, data);
        } else {
            assert_eq!(sent.unwrap_err().http_status(), Some(404));
            assert_eq!(
                (count("POST"), count("PATCH")),
                (0, 1),
                "{:?}",
                server.lines()
            );
        }
    }
}
