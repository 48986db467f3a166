//! Whole answers: the registry's side of each connection, byte for byte.
//!
//! The first byte chooses what is asked, the second how. The rest is one stream for each connection, in order,
//! separated by a line of two percent signs; the connections after the last one are refused.
#![no_main]

#[path = "../folder.rs"]
mod folder;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use registry_transport::copy::copy;
use registry_transport::creds::Creds;
use registry_transport::digest::{Algorithm, Digest};
use registry_transport::error::Result;
use registry_transport::fuzzing::{Connection, Network};
use registry_transport::options::Options;
use registry_transport::pages::Names;
use registry_transport::referrers::Referrers;
use registry_transport::request::Request;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};

const HOST: &str = "registry.example";
/// Where credentials may go besides.
const REALM: &str = "auth.example";
const BLOB: &[u8] = b"hello there";
const MANIFEST: &[u8] = include_bytes!("../manifest.json");
const PASSWORD: &str = "c4narY";
/// `user:c4narY`.
const BASIC: &str = "dXNlcjpjNG5hclk=";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder::make("response"));

fn options(how: u8) -> Options {
    let mut options = Options::new();
    options
        .set_text("scheme", if how & 1 == 0 { "https" } else { "http" })
        .expect("scheme");
    options.set_text("realm-hosts", REALM).expect("realm-hosts");
    for (key, value) in [
        ("environment", 0),
        ("share-tokens", 0),
        ("retries", i64::from(how >> 1 & 1) * 2),
        ("max-header-bytes", 8192),
        ("max-body-bytes", 16384),
        ("max-manifest-bytes", 16384),
        ("max-token-bytes", 8192),
        ("max-error-bytes", 8192),
        ("max-pages", 20),
        ("parallel", i64::from(how >> 2 & 1) + 1),
        ("upload-chunk-bytes", i64::from(how >> 3 & 1) * 4),
        ("anonymous-fallback", i64::from(how >> 4 & 1)),
    ] {
        options.set_number(key, value).expect("an option");
    }
    options
}

fn transport(how: u8) -> Transport {
    let creds = match how >> 5 & 3 {
        0 => Creds::anonymous(),
        1 => Creds::refresh(PASSWORD).expect("a refresh token"),
        2 => Creds::bearer(PASSWORD).expect("a bearer token"),
        _ => Creds::basic("user", PASSWORD).expect("credentials"),
    };
    let actions = if how >> 4 & 1 == 1 {
        Actions::pull()
    } else {
        Actions::push()
    };
    Transport::new(
        &format!("{HOST}/a/b"),
        actions,
        Some(&creds),
        Some(&options(how)),
    )
    .expect("a transport")
}

fn ask(what: u8, t: &Transport) -> Result<()> {
    let blob = Digest::of(Algorithm::Sha256, BLOB).to_string();
    let manifest = Digest::of(Algorithm::Sha256, MANIFEST).to_string();
    match what % 16 {
        0 => t.ping(None),
        1 => {
            let mut answer = t.manifest_get("latest", None)?;
            let told = answer.digest().expect("a manifest has a digest").clone();
            let body = answer.body()?;
            assert!(body.len() <= 16384);
            assert_eq!(Digest::of(told.algorithm(), body), told);
            Ok(())
        }
        2 => {
            let body = t.manifest_get(&manifest, None)?.take_body()?;
            assert_eq!(body, MANIFEST);
            Ok(())
        }
        3 => t.manifest_head("latest", None).map(|_| ()),
        4 => {
            let mut answer = t.blob_get(&blob, None)?;
            let mut got = Vec::new();
            let mut piece = [0; 5];
            loop {
                let n = answer.read(&mut piece)?;
                got.extend_from_slice(&piece[..n]);
                // How long a blob is, no answer has to say: what is too much shows at its end.
                if n == 0 {
                    assert_eq!(got, BLOB);
                    return Ok(());
                }
            }
        }
        5 => {
            let path = FOLDER.join("blob");
            let _ = std::fs::remove_file(&path);
            let result = t.blob_save(&blob, &path, None);
            match &result {
                Ok(()) => assert_eq!(std::fs::read(&path).expect("the file"), BLOB),
                Err(_) => assert!(!path.exists(), "half a file"),
            }
            for entry in std::fs::read_dir(&*FOLDER).expect("the folder").flatten() {
                let _ = std::fs::remove_file(entry.path());
            }
            result
        }
        6 => {
            let opened = t.blob_open(&blob, None)?;
            let mut piece = [0; 4];
            let n = opened.pread(&mut piece, 3, None)?;
            let end = usize::try_from(opened.size())
                .expect("a size")
                .min(7)
                .max(3);
            assert!(n <= 4 && 3 + n <= end);
            Ok(())
        }
        7 => {
            let mut names = Names::tags(t);
            for _ in 0..100_000 {
                match names.next_name(None)? {
                    Some(name) => assert!(!name.is_empty()),
                    None => return Ok(()),
                }
            }
            panic!("a list without end");
        }
        8 => {
            let mut list = Referrers::new(t, &manifest, None)?;
            for _ in 0..100_000 {
                match list.next_referrer(None)? {
                    Some(text) => {
                        serde_json::from_str::<serde_json::Value>(&text)
                            .expect("a referrer is JSON");
                    }
                    None => return Ok(()),
                }
            }
            panic!("a list without end");
        }
        9 => {
            let mut request = Request::new(Some("GET"), "./x?y=z");
            request.accept_status(404).accept_type("application/json");
            let mut answer = t.request(&request, None)?;
            for (name, value) in answer.headers() {
                assert!(!name.is_empty() && !value.iter().any(|b| b"\r\n\0".contains(b)));
            }
            assert!(answer.body()?.len() <= 16384);
            Ok(())
        }
        10 => t
            .blob_put(Some(&blob), &Source::bytes(BLOB), Some("c/d"), None)
            .map(|_| ()),
        11 => {
            let mut upload = t.upload_begin(None)?;
            upload.send(&Source::bytes(BLOB), None)?;
            assert_eq!(upload.offset(), BLOB.len() as u64);
            let state = upload.state();
            let _ = upload.finish(None, None)?;
            // The place of an upload is a secret as much as any; its state is for the program alone.
            t.upload_resume(&state, None).map(|_| ())
        }
        12 => t
            .manifest_put(
                "latest",
                "application/vnd.oci.image.manifest.v1+json",
                MANIFEST,
                None,
            )
            .map(|_| ()),
        13 => t.manifest_delete("latest", None),
        14 => t
            .blob_stat(&blob, None)
            .map(|size| assert!(size.is_none_or(|n| n < 1 << 63))),
        _ => copy(t, "latest", t, "other", None),
    }
}

/// What the library sent is one well-formed request, and secrets went only where they may.
fn check_sent(connection: &Connection, https: bool) {
    let Connection {
        host,
        address,
        is_secure,
        sent,
    } = connection;
    assert!(*is_secure || !https, "plain text to {host}");
    let address = match address.ip() {
        IpAddr::V6(v6) => v6.to_canonical(),
        v4 => v4,
    };
    if let IpAddr::V4(v4) = address {
        assert!(
            !v4.is_loopback() && !v4.is_private() && !v4.is_link_local(),
            "{host} at {address}"
        );
    }
    assert!(
        !address.is_loopback() && !address.is_unspecified(),
        "{host} at {address}"
    );

    let has = |text: &str| sent.windows(text.len()).any(|w| w == text.as_bytes());
    let port = if *is_secure { 443 } else { 80 };
    let is_home = host == HOST && connection.address.port() == port;
    assert!(
        is_home || host == HOST || host == REALM || !(has(PASSWORD) || has(BASIC)),
        "a secret went to {host}"
    );
    let Some(end) = sent.windows(4).position(|w| w == b"\r\n\r\n") else {
        return;
    };
    let head = std::str::from_utf8(&sent[..end]).expect("a head in ASCII");
    let mut lines = head.split("\r\n");
    let first = lines.next().expect("a request line");
    let words: Vec<&str> = first.split(' ').collect();
    assert!(
        matches!(words[..], [_, target, "HTTP/1.1"] if target.starts_with('/')),
        "{first:?}"
    );
    let mut hosts = 0;
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a field");
        assert!(!value.contains(['\r', '\n', '\0']), "{line:?}");
        hosts += usize::from(name.eq_ignore_ascii_case("host"));
        let known = [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-range",
            "content-type",
            "host",
            "if-range",
            "range",
            "transfer-encoding",
            "user-agent",
            "expect",
            "connection",
        ];
        assert!(
            known.contains(&name.to_ascii_lowercase().as_str()),
            "{line:?}"
        );
        if name.eq_ignore_ascii_case("authorization") {
            assert!(
                is_home || host == REALM || host == HOST,
                "{line:?} for {host}"
            );
        }
    }
    assert_eq!(hosts, 1, "{head:?}");
}

fuzz_target!(|data: &[u8]| {
    let [what, how, rest @ ..] = data else {
        return;
    };
    let text = rest.to_vec();
    let mut streams: Vec<Vec<u8>> = Vec::new();
    let mut rest = &text[..];
    const BETWEEN: &[u8] = b"\n%%\n";
    while let Some(at) = rest.windows(BETWEEN.len()).position(|w| w == BETWEEN) {
        streams.push(rest[..at].to_vec());
        rest = &rest[at + BETWEEN.len()..];
    }
    streams.push(rest.to_vec());
    streams.truncate(40);
    let mut streams = streams.into_iter();
    let network = Network::new(move |_, _| streams.next());
    let result = ask(*what, &transport(*how));
    let connections = network.connections();
    for connection in &connections {
        check_sent(connection, how & 1 == 0);
    }
    if let Err(e) = result {
        let shown = format!("{e} {e:?}");
        assert!(
            !shown.contains(PASSWORD) && !shown.contains(BASIC),
            "{shown}"
        );
        assert!(
            e.message().len() <= 4096,
            "{} bytes of message",
            e.message().len()
        );
        assert!(!e.message().contains(char::is_control), "{:?}", e.message());
    }
});
