//! The process that the library lives in: fork, signals, the environment, loading and unloading.

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::c::{ROOT, compile, compile_with, library, must, play};
use support::client::Deaf;
use support::pki::Ca;
use support::registry::{Registry, noise};
use support::server::{Answer, Gate, Request, Server};

fn source(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/abi").join(name)
}

/// With functions of its own that the library finds in place of the C library's.
fn with_own_functions(name: &str) -> PathBuf {
    compile_with(&source(&format!("{name}.c")), name, &["-rdynamic"])
}

/// An inherited transport is refused, and a server that hangs up during an upload raises no SIGPIPE.
#[test]
fn fork_and_sigpipe() {
    let server = Server::builder()
        .early(|request| (request.path == "/v2/hangup").then(Answer::reset))
        .start(|request| match request.path.as_str() {
            "/v2/hello" => Answer::new(200).body("hello there"),
            _ => Answer::new(404),
        });
    play(
        &compile(&source("process.c"), "process"),
        &[&server.authority()],
        false,
    );
}

/// With everything open, under load, and in the middle of what is done once in a process.
#[test]
fn fork_at_any_time() {
    let registry = Registry::open();
    let digest = registry.put_blob("a/b", noise("fork", 3 << 20));
    let server = registry.start(None);
    play(
        &with_own_functions("fork"),
        &[&server.authority(), &digest, &(3 << 20).to_string()],
        false,
    );
}

/// Python's multiprocessing with fork.
#[test]
fn fork_in_python() {
    let server = Registry::open().start(None);
    let mut python = Command::new("python3");
    python
        .arg(source("fork.py"))
        .arg(library().join("libregistry_transport.so.1"))
        .arg(server.authority());
    assert_eq!(must(&mut python), "ok\n");
}

/// Calls that are interrupted all the time.
#[test]
fn signals() {
    let registry = Registry::open();
    let digest = registry.put_blob("a/b", noise("signals", 2 << 20));
    let gate = Gate::new();
    let held = gate.clone();
    let server = Server::start(move |r| match r.path.as_str() {
        "/v2/held" => Answer::ok("x").after(&held),
        "/v2/stalled" => Answer::ok(vec![0; 100_000]).stall_after(1000, &held),
        "/v2/busy" => Answer::new(503).header("Retry-After", "50"),
        "/v2/token" => Answer::challenge(r#"Bearer realm="/token",service="s""#),
        "/token" => Answer::ok("{}").after(&held),
        _ => registry.answer(r),
    });
    let deaf = Deaf::new();
    // The system accepts for a listener that never does.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    play(
        &with_own_functions("signals"),
        &[
            &server.authority(),
            &deaf.address.to_string(),
            &silent.local_addr().unwrap().to_string(),
            &digest,
            folder.path().to_str().unwrap(),
        ],
        false,
    );
    let saved = std::fs::read_dir(folder.path()).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        assert!(
            std::fs::read(&path).unwrap() == noise("signals", 2 << 20),
            "{path:?}"
        );
    });
    assert!(saved.count() >= 20);
    gate.open();
}

#[test]
fn a_changing_environment() {
    let server = Registry::open().start(None);
    play(
        &compile(&source("environment.c"), "environment"),
        &[&server.authority()],
        false,
    );
}

#[test]
fn loaded_and_unloaded() {
    let server = Server::start(|_| Answer::ok("hello there"));
    let library = library().join("libregistry_transport.so.1");
    let library = library.to_str().unwrap();
    play(
        &compile(&source("load.c"), "load"),
        &[library, &server.authority()],
        false,
    );
    play(&with_own_functions("unload"), &[library], false);
}

/// Passwords and tokens are wiped: none is in the memory of a process that gave everything back.
#[test]
fn secrets_are_wiped() {
    // The formula of the program.
    let secret = |k: usize| -> String {
        (0..24)
            .map(|i| char::from(b'a' + ((i * (5 + 2 * k) + i * i + k) % 26) as u8))
            .collect()
    };
    let (password, token, refresh) = (secret(1), secret(2), secret(3));
    let answer = move |r: &Request| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => {
            let known = r.basic().is_some_and(|(_, p)| p == password)
                || r.form_param("refresh_token") == Some(refresh.clone());
            if known {
                Answer::ok(format!(r#"{{"token":"{token}","expires_in":300}}"#))
            } else {
                Answer::new(401)
            }
        }
        ("/v2/a/b/refused", Some(bearer)) if bearer == token => Answer::new(404).body("no"),
        (_, Some(bearer)) if bearer == token => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    };
    let ca = Ca::new();
    let program = compile(&source("wiped.c"), "wiped");
    let plain = Server::start(answer.clone());
    play(&program, &[&plain.authority(), "http", ""], false);
    let secure = Server::builder().tls(&ca).start(answer);
    let file = ca.path().to_str().unwrap();
    play(&program, &[&secure.authority(), "https", file], false);
}
