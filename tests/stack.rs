//! How much stack a call takes: hosts run calls on threads, fibers and foreign stacks that are not large.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use support::c::{ROOT, compile, must};
use support::pki::Ca;
use support::registry::Registry;
use support::token::TokenServer;

/// What the README promises of a release build; without optimisation it may be twice as much.
const PROMISED: usize = 128 << 10;

#[test]
fn little_stack_is_enough() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    assert!(readme.contains("less than 128 KiB of stack"));
    let ca = Ca::new();
    let token = TokenServer::new("test").user("demo", "demo", &["repository:*:pull,push"]);
    let registry = Registry::bearer(Arc::new(token));
    let image = registry.seed_sized("a/b", "latest", ("linux", "amd64"), &[3_000_000, 5_000]);
    let server = registry.start(Some(&ca));
    let folder = tempfile::tempdir().unwrap();
    let program = compile(&Path::new(ROOT).join("tests/abi/stack.c"), "stack");
    let used = must(
        Command::new(program)
            .arg(server.authority())
            .arg(ca.path())
            .arg(&image.layers[0].digest)
            .arg(folder.path().join("layer")),
    );
    let used: usize = used.trim().parse().unwrap();
    let limit = PROMISED * if cfg!(debug_assertions) { 2 } else { 1 };
    assert!((4096..limit).contains(&used), "{used} bytes");
    println!("{used} bytes of stack");
}
