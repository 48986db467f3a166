//! containerd's `hosts.toml`, for a registry of its own folder.
#![no_main]

#[path = "../folder.rs"]
mod folder;

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use registry_transport::error::ErrorKind;
use registry_transport::fuzzing::{PlannedHost, plan, url};
use registry_transport::options::Options;

/// Seeds and the dictionary have it as the value of a header.
const CANARY: &str = "c4narY";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = folder::make("hosts");
    std::fs::create_dir_all(folder.join("r.example")).expect("a folder");
    folder
});

fn check(host: &PlannedHost) {
    let (root, _) = url(&host.root, "").expect("a URL");
    assert!(
        root.wire.ends_with('/') && !root.wire.contains('?'),
        "{}",
        root.wire
    );
    let place = root
        .origin
        .split("//")
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    assert!(
        host.authority.to_ascii_lowercase().starts_with(&place),
        "{} at {place}",
        host.authority
    );
    assert_eq!(host.repository.as_deref(), Some("a/b"));
    for (name, value) in &host.headers {
        assert!(
            !name.is_empty() && !value.iter().any(|b| b"\r\n\0".contains(b)),
            "{name}"
        );
    }
    assert!(!host.source.contains(char::is_control));
}

/// Whether the secret stands as the value of a header only: keys and places are shown in messages.
fn is_hidden(text: &str) -> bool {
    let as_a_value = |line: &str| line.trim_start().starts_with("X-Canary = \"c4narY");
    let once = |line: &str| line.matches(CANARY).count() == 1;
    !text.contains("\"\"\"")
        && !text.contains("'''")
        && text
            .lines()
            .all(|line| !line.contains(CANARY) || as_a_value(line) && once(line))
}

fuzz_target!(|data: &[u8]| {
    std::fs::write(FOLDER.join("r.example/hosts.toml"), data).expect("the file");
    let mut options = Options::new();
    options.set_number("environment", 0).expect("environment");
    options
        .set_text("hosts-dir", FOLDER.to_str().expect("UTF-8"))
        .expect("hosts-dir");
    let got = plan("r.example/a/b", &options);
    if is_hidden(&String::from_utf8_lossy(data)) {
        let shown = match &got {
            Ok((hosts, _)) => hosts.iter().map(|h| h.source.as_str()).collect(),
            Err(e) => e.message().to_owned(),
        };
        assert!(!shown.contains(CANARY), "{shown}");
    }
    match &got {
        Ok((hosts, home)) => {
            assert!(*home < hosts.len());
            hosts.iter().for_each(check);
        }
        Err(e) => {
            use ErrorKind::{Io, Syntax};
            assert!(matches!(e.kind(), Syntax | Io), "{e:?}");
            assert!(!e.message().contains(char::is_control), "{e}");
            assert!(e.message().len() <= 2 * data.len() + 1024);
        }
    }
    match (&got, &plan("r.example/a/b", &options)) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.message(), b.message()),
        (_, b) => panic!("{got:?} became {b:?}"),
    }
});
