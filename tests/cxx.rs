//! The C++ header: what it covers, what compiles it, and programs that use it.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use support::c::{ROOT, library, must, play};
use support::pki::Ca;
use support::registry::{AccessControl, OCI_MANIFEST, Registry, Settings, noise};
use support::server::{Answer, Gate, Server};
use support::token::TokenServer;

const WARNINGS: [&str; 8] = [
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Wold-style-cast",
    "-pedantic",
    "-Werror",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// Without comments, so that only what is compiled counts.
fn code(path: &str) -> String {
    let mut code = String::new();
    for line in read(path).lines() {
        let line = line.split("//").next().unwrap();
        if !line.trim_start().starts_with(['*', '/']) {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

#[test]
fn everything_in_the_c_header_has_its_place() {
    let cpp = code("include/registry_transport.hpp");
    let symbols = read("tests/abi/symbols.txt");
    let functions = symbols.lines().filter_map(|line| line.split(' ').next());
    let header = read("include/registry_transport.h");
    let constants = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, value)| {
            value.parse::<u32>().is_ok() && !name.starts_with("RT_VERSION_") && *name != "RT_ABI"
        })
        .map(|(name, _)| name);
    let missing: Vec<&str> = functions
        .chain(constants)
        .filter(|name| !has_word(&cpp, name))
        .collect();
    assert!(
        missing.is_empty(),
        "not in registry_transport.hpp: {missing:?}"
    );
}

/// Each class and function at the top, and each member function, says what it does; sentences have an end.
#[test]
fn the_header_is_its_own_manual() {
    let text = read("include/registry_transport.hpp");
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let at_top = line.starts_with("class ") || line.starts_with("enum class ");
        if at_top {
            let mut above = lines[..i].iter().rev();
            let comment = above.find(|l| !l.starts_with("template "));
            assert!(comment.is_some_and(|l| l.starts_with("/// ")), "{line}");
        }
        if let Some(comment) = line.trim_start().strip_prefix("/// ") {
            let next = lines.get(i + 1).map_or("", |l| l.trim_start());
            let ends = next.starts_with("///") || comment.ends_with(['.', ')']);
            assert!(ends, "no end of the sentence: {comment}");
        }
    }
}

fn compiler(name: &str, standard: &str) -> Command {
    let mut command = Command::new(name);
    command
        .arg(format!("-std=c++{standard}"))
        .args(WARNINGS)
        .arg(format!("-I{ROOT}/include"))
        .arg(format!("-I{ROOT}/examples-c"));
    command
}

#[test]
fn it_compiles_everywhere() {
    for name in ["g++", "clang++"] {
        for standard in ["17", "20", "2b"] {
            for (source, flags) in [
                ("tests/cxx/throwing.cc", &[][..]),
                ("tests/cxx/returning.cc", &["-fno-exceptions", "-fno-rtti"]),
                ("examples-c/pull.cc", &[]),
            ] {
                must(
                    compiler(name, standard)
                        .args(flags)
                        .arg("-fsyntax-only")
                        .arg(format!("{ROOT}/{source}")),
                );
            }
        }
    }
}

fn build(sources: &[&str], flags: &[&str], name: &str) -> PathBuf {
    let out = library().join(name);
    must(
        compiler("g++", "17")
            .args(["-g", "-O1"])
            .args(flags)
            .args(sources.iter().map(|source| format!("{ROOT}/{source}")))
            .arg("-L")
            .arg(library())
            .arg(format!("-Wl,-rpath,{}", library().display()))
            .args(["-lregistry_transport", "-pthread", "-o"])
            .arg(&out),
    );
    out
}

/// A registry that wants tokens, with tags, an artifact, and a blob that stops half-way; its digest.
fn registry() -> (Server, String) {
    let token = TokenServer::new("test").user(
        "demo",
        "demo",
        &["repository:*:pull,push,delete", "registry:catalog:*"],
    );
    let registry = Registry::new(Settings {
        access: AccessControl::Bearer {
            token: Arc::new(token),
            realm: None,
        },
        ..Settings::default()
    });
    let image = registry.seed("a/b", "latest", 3);
    registry.set_tag("a/b", "one", &image.manifest.digest);
    registry.set_tag("a/b", "two", &image.manifest.digest);
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/x-tea",
        "subject": image.manifest.json(),
    });
    registry.put_manifest("a/b", None, OCI_MANIFEST, artifact.to_string());
    let digest = registry.put_blob("a/b", noise("stalling", 300_000));
    let (stalling, never) = (format!("/v2/a/b/blobs/{digest}"), Gate::new());
    let server = Server::start(move |request| {
        let answer = registry.answer(request);
        match request.path.as_str() {
            "/v2/busy" => Answer::new(503)
                .header("Retry-After", "7")
                .header("RateLimit-Limit", "100;w=21600")
                .header("RateLimit-Remaining", "0;w=21600"),
            "/v2/hello" if request.bearer().is_some() => Answer::ok("hello there")
                .header("RateLimit-Limit", "100;w=21600")
                .header("RateLimit-Remaining", "76;w=21600"),
            "/v2/hello" => {
                let realm = format!("{}/token", request.origin());
                let scope = "repository:a/b:pull";
                Answer::challenge(format!(
                    "Bearer realm=\"{realm}\",service=\"test\",scope=\"{scope}\""
                ))
            }
            path if path == stalling && answer.status() == 200 => {
                answer.stall_after(150_000, &never)
            }
            _ => answer,
        }
    });
    (server, digest)
}

#[test]
fn failures_are_thrown() {
    let program = build(
        &["tests/cxx/throwing.cc", "tests/cxx/returning.cc"],
        &["-DBOTH", "-fsanitize=undefined", "-fno-sanitize-recover"],
        "throwing",
    );
    let (server, stalling) = registry();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("registries.conf"),
        "[aliases]\ntea = \"tea.example/tea\"\n",
    )
    .unwrap();
    let folder = folder.path().to_str().unwrap();
    play(&program, &[&server.authority(), &stalling, folder], true);
}

#[test]
fn failures_are_returned() {
    let flags = ["-fno-exceptions", "-fno-rtti"];
    let program = build(&["tests/cxx/returning.cc"], &flags, "returning");
    let (server, _) = registry();
    play(&program, &[&server.authority()], true);
}

/// The example pulls what is there, and says what is not.
#[test]
fn pull() {
    let parts = ["common", "json", "layout", "platform"];
    let objects: Vec<String> = parts
        .iter()
        .map(|name| {
            let out = library().join(format!("{name}.o"));
            must(
                Command::new("cc")
                    .args(["-std=c99", "-O1", "-c", "-I"])
                    .arg(format!("{ROOT}/include"))
                    .arg(format!("{ROOT}/examples-c/{name}.c"))
                    .arg("-o")
                    .arg(&out),
            );
            out.to_str().unwrap().to_owned()
        })
        .collect();
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    let program = build(&["examples-c/pull.cc"], &objects, "pull-cc");
    let ca = Ca::new();
    let token = TokenServer::new("test").user("demo", "pass", &["repository:*:pull"]);
    let registry = Registry::bearer(Arc::new(token));
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let index = registry.seed_index(
        "a/b",
        "latest",
        &[("linux", "s390x"), ("linux", machine)],
        &[70_000, 9_000, 70_000],
    );
    let server = registry.start(Some(&ca));
    let run = |tag: &str, folder: &Path| {
        Command::new(&program)
            .arg(format!("{}/a/b:{tag}", server.authority()))
            .arg(folder)
            .envs([("REGISTRY_USER", "demo"), ("REGISTRY_PASSWORD", "pass")])
            .env("REGISTRY_CA", ca.path())
            .output()
            .unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let output = run("latest", folder.path());
    assert!(output.status.success(), "{output:?}");
    let image = &index.images[1];
    for wanted in image.layers.iter().chain([&image.config]) {
        let name = wanted.digest.replace(':', "/");
        let got = std::fs::read(folder.path().join("blobs").join(name)).unwrap();
        assert_eq!(&got, &*registry.blob("a/b", &wanted.digest).unwrap());
    }
    let layout = std::fs::read(folder.path().join("index.json")).unwrap();
    let layout: serde_json::Value = serde_json::from_slice(&layout).unwrap();
    assert_eq!(layout["manifests"], json!([image.manifest.json()]));

    let output = run("no-such-tag", folder.path());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("RT_E_STATUS"), "{said}");
    assert!(
        said.contains("MANIFEST_UNKNOWN: manifest unknown"),
        "{said}"
    );

    // One layer that is not what it should be: the others are cancelled, the error is told.
    registry.corrupt_blob(&image.layers[1].digest, "rubbish");
    let fresh = tempfile::tempdir().unwrap();
    let output = run("latest", fresh.path());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("RT_E_DIGEST"), "{said}");
    assert!(!fresh.path().join("index.json").exists());
}

/// An exception does not cross the library.
#[test]
fn what_a_raw_callback_throws_ends_the_program() {
    let program = build(&["tests/cxx/through.cc"], &[], "through");
    let (server, _) = registry();
    let output = Command::new(program)
        .arg(server.authority())
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(6), "SIGABRT: {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "calling\n");
}

/// Views of objects that are gone, copies of owners, and numbers for switches do not compile.
#[test]
fn mistakes_that_do_not_compile() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("mistake.cc");
    let check = |statement: &str| {
        let text = format!(
            "#include <registry_transport.hpp>\nnamespace rt = registry_transport;\n\
             void f(rt::transport &t, rt::options &o, rt::op &control);\n\
             void f(rt::transport &t, rt::options &o, rt::op &control) {{ (void)t, (void)o, (void)control; {statement} }}\n"
        );
        std::fs::write(&source, text).unwrap();
        compiler("g++", "17")
            .arg("-fsyntax-only")
            .arg(&source)
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(check(
        "auto r = t.manifest_get(\"x\", &control); r.body(); o.set(\"retries\", 1);"
    ));
    for mistake in [
        "t.manifest_get(\"x\").body();",
        "for (auto h : t.manifest_get(\"x\").headers()) (void)h;",
        "rt::transport copy = t; (void)copy;",
        "rt::transport u = t.get(); (void)u;",
        "o.set(\"retries\", 1.5);",
        "o.set(\"timeout-ms\", std::chrono::microseconds(1));",
        "t.manifest_get(\"x\", control);",
        "control.on_progress([](std::string) {});",
    ] {
        assert!(!check(mistake), "{mistake}");
    }
}
