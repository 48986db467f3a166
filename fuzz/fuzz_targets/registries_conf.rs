//! `registries.conf`, for names that its seeds speak of. The first byte chooses the name.
#![no_main]

#[path = "../folder.rs"]
mod folder;

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use registry_transport::error::ErrorKind;
use registry_transport::fuzzing::{plan, url};
use registry_transport::hosts::registries::resolve;
use registry_transport::name::Reference;
use registry_transport::options::Options;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| folder::make("registries").join("r.conf"));

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let name = [
        "r.example/a/b",
        "docker.io/library/a",
        "r.example",
        "x.r.example:5000/a",
    ][usize::from(choice % 4)];
    let short = [
        "a",
        "a:v1",
        "ns/a",
        "a@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    ][usize::from(choice / 4 % 4)];
    std::fs::write(&*FILE, text).expect("the file");
    let mut options = Options::new();
    options.set_number("environment", 0).expect("environment");
    options
        .set_text("registries-conf", FILE.to_str().expect("UTF-8"))
        .expect("registries-conf");
    if choice / 16 % 2 == 1 {
        options.set_text("scheme", "https").expect("scheme");
    }
    let known = |e: &registry_transport::error::Error| {
        use ErrorKind::{Argument, Io, Syntax, Unsupported};
        assert!(
            matches!(e.kind(), Syntax | Io | Unsupported | Argument),
            "{e:?}"
        );
        assert!(!e.message().contains(char::is_control), "{e}");
        assert!(e.message().len() <= 2 * text.len() + 1024);
    };
    match plan(name, &options) {
        Ok((hosts, home)) => {
            assert!(home + 1 == hosts.len(), "the registry itself is asked last");
            for host in &hosts {
                let (root, _) = url(&host.root, "").expect("a URL");
                assert!(root.wire.ends_with("/v2/"));
                match &host.plain_root {
                    None => {}
                    Some(plain) => {
                        assert!(host.insecure && root.is_https);
                        let (plain, _) = url(plain, "").expect("a URL");
                        assert!(!plain.is_https && plain.host == root.host);
                    }
                }
                assert_eq!(host.repository.is_some(), name.contains('/'));
                assert!(
                    host.headers.is_empty() && !host.source.contains(char::is_control),
                    "{}",
                    host.source
                );
            }
        }
        Err(e) => known(&e),
    }
    match resolve(short, &options) {
        Ok(reference) => {
            let shown = reference.to_string();
            assert_eq!(Reference::parse(&shown).expect("what is shown"), reference);
            // It names a registry now, so that nothing more is looked up.
            let again = resolve(&shown, &options).expect("a full name");
            assert_eq!(again, reference);
        }
        Err(e) => known(&e),
    }
});
