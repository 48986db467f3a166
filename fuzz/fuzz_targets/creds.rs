//! Docker's `config.json` and podman's `auth.json`. The first byte chooses what is asked, the rest is the file.
#![no_main]

#[path = "../folder.rs"]
mod folder;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use registry_transport::creds::entry::Found;
use registry_transport::creds::env::Env;
use registry_transport::creds::{Credential, docker, podman};
use registry_transport::error::Result;
use serde_json::{Value, json};

/// Seeds and the dictionary have it as a password and, encoded, with a user name.
const CANARY: &str = "c4narY";

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder::make("creds"));

#[derive(Clone, Copy)]
enum Kind {
    Docker,
    Dockercfg,
    Podman,
    Variable,
}

fn look(
    kind: Kind,
    text: &[u8],
    registry: &str,
    repository: Option<&str>,
) -> Result<(Credential, Found)> {
    let path = FOLDER.join(match kind {
        Kind::Dockercfg => ".dockercfg",
        _ => "config.json",
    });
    std::fs::write(&path, text).expect("the file");
    // Without PATH no helper is found.
    let deadline = Instant::now() + Duration::from_secs(5);
    let none = Env::default();
    match kind {
        Kind::Docker | Kind::Dockercfg => {
            docker::Store::new(Some(path), &none).lookup(registry, repository, deadline, &|| false)
        }
        Kind::Podman => {
            podman::Store::new(Some(path), &none).lookup(registry, repository, deadline, &|| false)
        }
        Kind::Variable => {
            use std::os::unix::ffi::OsStringExt;
            let env = Env::from_pairs([("DOCKER_AUTH_CONFIG", OsString::from_vec(text.to_vec()))]);
            docker::Store::new(None, &env).lookup(registry, repository, deadline, &|| false)
        }
    }
}

/// Whether the secret stands only where secrets stand: keys and names of helpers are shown in messages.
fn is_hidden(text: &[u8], secrets: &[String]) -> bool {
    fn names(value: &Value, secrets: &[String], in_helpers: bool) -> bool {
        let has = |text: &str| secrets.iter().any(|s| text.contains(s.as_str()));
        match value {
            Value::Object(map) => map.iter().any(|(key, value)| {
                has(key)
                    || names(
                        value,
                        secrets,
                        in_helpers || key == "credHelpers" || key == "credsStore",
                    )
            }),
            Value::Array(all) => all.iter().any(|v| names(v, secrets, in_helpers)),
            Value::String(text) => in_helpers && has(text),
            _ => false,
        }
    }
    match serde_json::from_str(&String::from_utf8_lossy(text)) {
        Ok(value) => !names(&value, secrets, false),
        Err(_) => true,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else {
        return;
    };
    let kind =
        [Kind::Docker, Kind::Dockercfg, Kind::Podman, Kind::Variable][usize::from(choice % 4)];
    let registry =
        ["r.example", "docker.io", "R.example:5000", "[::1]:5000"][usize::from(choice / 4 % 4)];
    let repository =
        [None, Some("a"), Some("library/a"), Some("a/b/c")][usize::from(choice / 16 % 4)];
    let got = look(kind, text, registry, repository);

    let secrets = [CANARY.to_owned(), STANDARD.encode(format!("u:{CANARY}"))];
    let shown = match &got {
        Ok((_, found)) => found.source.clone(),
        Err(e) => format!("{e} {e:?}"),
    };
    assert!(shown.len() <= 2 * text.len() + 1024);
    if is_hidden(text, &secrets) {
        assert!(
            secrets.iter().all(|s| !shown.contains(s.as_str())),
            "{shown}"
        );
    }

    // The same file gives the same again.
    let again = look(kind, text, registry, repository);
    match (&got, &again) {
        (Ok((a, _)), Ok((b, _))) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.message(), b.message()),
        _ => panic!("{got:?} became {again:?}"),
    }

    let entry = match &got {
        Ok((Credential::Basic { user, password }, _)) => {
            let password = password.expose();
            assert!(!user.contains(':') && !user.contains(char::is_control));
            // Only those that end "auth" are no part of it: some programs encode a terminated C string.
            if password.trim_matches('\0') != password {
                return;
            }
            json!({ "auth": STANDARD.encode(format!("{user}:{password}")) })
        }
        Ok((Credential::Identity(token), _)) => {
            assert!(!token.is_empty() && !token.expose().contains(char::is_control));
            json!({ "identitytoken": token.expose() })
        }
        Ok((Credential::Bearer(token), _)) => {
            assert!(
                token
                    .expose()
                    .bytes()
                    .all(|b| b.is_ascii() && !b.is_ascii_control())
            );
            json!({ "registrytoken": token.expose() })
        }
        Ok((Credential::Anonymous, _)) | Err(_) => return,
    };
    // Written as `docker login` writes it, it is found again, by either store.
    let plain = json!({ "auths": { registry: entry } }).to_string();
    for kind in [Kind::Docker, Kind::Podman, Kind::Variable] {
        let (credential, _) =
            look(kind, plain.as_bytes(), registry, repository).expect("a plain file");
        assert_eq!(Some(&credential), got.as_ref().ok().map(|(c, _)| c));
    }
});
