//! containerd's `hosts.toml`, for a registry of its own folder.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use registry_transport::error::ErrorKind;
use registry_transport::fuzzing::{PlannedHost, plan, url};
use registry_transport::options::Options;

/// Seeds and the dictionary have it as the value of a header.
const CANARY: &str = "c4narY";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let folder = base.join(format!("rt-fuzz-hosts-{}", std::process::id()));
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
    assert!(!host.source.contains(CANARY) && !host.source.contains(char::is_control));
}

fuzz_target!(|data: &[u8]| {
    std::fs::write(FOLDER.join("r.example/hosts.toml"), data).expect("the file");
    let mut options = Options::new();
    options.set_number("environment", 0).expect("environment");
    options
        .set_text("hosts-dir", FOLDER.to_str().expect("UTF-8"))
        .expect("hosts-dir");
    let got = plan("r.example/a/b", &options);
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
            // A key or the name of a host may be shown, a value of a header may not.
            let text = String::from_utf8_lossy(data);
            if text
                .lines()
                .all(|l| !l.contains(CANARY) || l.trim_start().starts_with("X-Canary = "))
            {
                assert!(!e.message().contains(CANARY), "{e}");
            }
        }
    }
    match (&got, &plan("r.example/a/b", &options)) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.message(), b.message()),
        (_, b) => panic!("{got:?} became {b:?}"),
    }
});
