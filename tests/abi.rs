//! The C API from outside: the header, the shared object, and C programs that use them.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::c::{
    ROOT, built, compile, library, must, play, play_under_valgrind, run, sanitizer, text,
};
use support::server::{Answer, Server};

fn header() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("include/registry_transport.h")).unwrap()
}

/// A function of the header: result, name, parameters, and the comment above it.
struct Function {
    result: String,
    name: String,
    parameters: Vec<String>,
    comment: String,
}

fn functions() -> Vec<Function> {
    let header = header();
    let mut out = Vec::new();
    let mut rest = header.as_str();
    while let Some(at) = rest.find("\nRT_API") {
        let before = &rest[..at];
        let comment = before.rfind("/**").map_or("", |i| &before[i..]).to_owned();
        let end = at + rest[at..].find(';').unwrap();
        let prototype: String = rest[at + 7..end]
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let (head, parameters) = prototype.split_once('(').unwrap();
        let name_at = head.rfind([' ', '*']).unwrap() + 1;
        let parameters = parameters.trim_end_matches(')');
        out.push(Function {
            result: head[..name_at].trim().to_owned(),
            name: head[name_at..].to_owned(),
            parameters: parameters
                .split(", ")
                .filter(|p| *p != "void")
                .map(str::to_owned)
                .collect(),
            comment,
        });
        rest = &rest[end..];
    }
    assert!(out.len() > 70, "only {} functions found", out.len());
    out
}

fn registry() -> Server {
    Server::start(|request| match request.path.as_str() {
        "/v2/hello" => Answer::new(200).body("hello there"),
        "/v2/hangup" => Answer::reset(),
        _ => Answer::new(404),
    })
}

// ---------------------------------------------------------------- header

/// Every standard of C and C++, twice in a row, and with nothing before it.
#[test]
fn the_header_compiles_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("twice.c");
    std::fs::write(&source, "#include <registry_transport.h>\n#include <registry_transport.h>\nint main(void) { return RT_VERSION_NUM < 0; }\n").unwrap();
    let common = [
        "-Wall",
        "-Wextra",
        "-Wundef",
        "-pedantic",
        "-Werror",
        "-fsyntax-only",
    ];
    let include = format!("-I{ROOT}/include");
    for (compiler, language, standards) in [
        ("cc", "c", &["c89", "c99", "c11", "c17", "c2x"][..]),
        (
            "c++",
            "c++",
            &["c++98", "c++11", "c++14", "c++17", "c++20"][..],
        ),
    ] {
        for standard in standards {
            let mut cc = Command::new(compiler);
            cc.arg(format!("-std={standard}"))
                .args(common)
                .args(["-x", language, &include])
                .arg(&source);
            must(&mut cc);
        }
    }
}

/// A comment for each function, full sentences, our prefix, no name of the Windows headers.
#[test]
fn every_function_has_its_comment_and_prefix() {
    for f in functions() {
        let comment = f.comment.trim_end().trim_end_matches("*/").trim_end();
        assert!(f.comment.starts_with("/**"), "{} has no comment", f.name);
        assert!(
            comment.ends_with('.'),
            "the comment of {} has no end: {comment}",
            f.name
        );
        assert!(f.name.starts_with("rt_"), "{}", f.name);
    }
    let taken = [
        "RT_CURSOR",
        "RT_BITMAP",
        "RT_ICON",
        "RT_MENU",
        "RT_DIALOG",
        "RT_STRING",
        "RT_FONT",
        "RT_VERSION",
        "RT_MANIFEST",
        "RT_HTML",
        "RT_RCDATA",
    ];
    for line in header().lines() {
        if let Some(name) = line
            .trim_start_matches("# ")
            .strip_prefix("#define ")
            .and_then(|l| l.split([' ', '(']).next())
        {
            assert!(
                name.starts_with("RT_") || name == "REGISTRY_TRANSPORT_H",
                "{name}"
            );
            assert!(!taken.contains(&name), "{name} is a name of winuser.h");
        }
    }
}

// ---------------------------------------------------------------- shared object

fn dynamic() -> String {
    must(
        Command::new("readelf")
            .arg("-dW")
            .arg(library().join("libregistry_transport.so")),
    )
}

#[test]
fn name_and_flags_of_the_shared_object() {
    let dynamic = dynamic();
    assert!(
        dynamic.contains("soname: [libregistry_transport.so.1]"),
        "{dynamic}"
    );
    assert!(header().contains("#define RT_ABI 1\n"));
    assert!(
        dynamic.contains("NODELETE") && dynamic.contains("NOW"),
        "{dynamic}"
    );
    assert!(
        !dynamic.contains("RPATH") && !dynamic.contains("RUNPATH") && !dynamic.contains("TEXTREL"),
        "{dynamic}"
    );
    for line in dynamic.lines().filter(|l| l.contains("(NEEDED)")) {
        let fine = ["libc.so", "libm.so", "libgcc_s.so", "ld-linux"]
            .iter()
            .any(|n| line.contains(n));
        assert!(fine, "{line}");
    }
}

/// What is exported is what the header declares and what was promised before, and nothing else.
#[test]
fn exported_symbols() {
    let nm = must(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(library().join("libregistry_transport.so")),
    );
    let exported: BTreeSet<&str> = nm.lines().filter_map(|l| l.split(' ').nth(2)).collect();
    let functions = functions();
    let declared: BTreeSet<&str> = functions.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(exported, declared);
    let path = Path::new(ROOT).join("tests/abi/symbols.txt");
    if std::env::var_os("RT_BLESS").is_some() {
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        let mut promised: BTreeMap<&str, &str> =
            old.lines().filter_map(|l| l.split_once(' ')).collect();
        for name in &declared {
            promised.entry(name).or_insert(env!("CARGO_PKG_VERSION"));
        }
        let mut list = String::new();
        for (name, version) in promised {
            writeln!(list, "{name} {version}").unwrap();
        }
        std::fs::write(&path, list).unwrap();
    }
    let promised = std::fs::read_to_string(&path).unwrap();
    let promised: BTreeSet<&str> = promised
        .lines()
        .filter_map(|l| l.split(' ').next())
        .collect();
    assert_eq!(
        declared, promised,
        "tests/abi/symbols.txt: lines may be added (RT_BLESS=1), never removed"
    );
}

/// What the README says of the C library.
#[test]
fn needed_glibc() {
    let symbols = must(
        Command::new("readelf")
            .args(["-W", "--dyn-syms"])
            .arg(library().join("libregistry_transport.so")),
    );
    let newest = symbols
        .split("GLIBC_2.")
        .skip(1)
        .filter_map(|t| {
            t.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<u32>()
                .ok()
        })
        .max();
    assert!(newest.is_some_and(|n| n <= 34), "glibc 2.{newest:?}");
}

/// The line of the README is enough to link statically.
#[test]
fn static_linking() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let line = readme
        .split('`')
        .find(|t| t.starts_with("-lgcc_s "))
        .expect("the README names the libraries");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("static");
    let mut cc = Command::new("cc");
    cc.arg("-std=c99")
        .arg(format!("-I{ROOT}/include"))
        .arg(Path::new(ROOT).join("tests/abi/values.c"))
        .arg(built().join("libregistry_transport.a"))
        .args(line.split_whitespace())
        .arg("-o")
        .arg(&out);
    must(&mut cc);
    assert_eq!(must(Command::new(out).arg(registry().authority())), "ok\n");
}

// ---------------------------------------------------------------- C programs

/// A valid value for each parameter of a function, in the program that [`each_argument_in_turn`] writes.
fn valid(parameter: &str, name: &str) -> &'static str {
    match name {
        "digest" | "tag_or_digest" | "reference" | "dst_reference" => "digest",
        "t" | "src" | "dst" => "t",
        "err" => "&err",
        _ if parameter.contains("**") => "(void *)&out[0]",
        "len" | "size" | "got" | "done" | "total" | "limit" | "remaining" | "window_ms"
        | "reset_ms"
            if parameter.contains('*') =>
        {
            "(void *)&out[1]"
        }
        "fail" => "NULL",
        "f" | "user" | "drop" | "read" | "rewind" => "NULL",
        "buf" => "buf",
        "handle" => "NULL",
        _ if parameter.contains("rt_req ") => "r",
        _ if parameter.contains("rt_op ") => "op",
        _ if parameter.contains("rt_options ") => "o",
        _ if parameter.contains("rt_creds ") => "creds",
        _ if parameter.contains("rt_source ") => "source",
        _ if parameter.contains("rt_ref ") => "ref",
        _ if parameter.contains("rt_error ") => "failure",
        _ if parameter.contains("rt_response ") => "answer",
        _ if parameter.contains("rt_pages ") => "pages",
        _ if parameter.contains("rt_list ") => "list",
        _ if parameter.contains("char *") => "\"x\"",
        _ if parameter.contains("void *") => "buf",
        "actions" => "RT_PULL",
        "http_status" => "200",
        _ => "1",
    }
}

/// Each handle of another type, each pointer that must not be NULL, one at a time with the
/// others valid. Refused before anything is sent; outs are written.
#[test]
fn each_argument_in_turn() {
    // Where NULL has a meaning; the rest of the pointers are required.
    let nullable = [
        "op",
        "creds",
        "options",
        "mount_from",
        "err",
        "method",
        "artifact_type",
        "user",
        "drop",
        "rewind",
        "value",
        "done",
        "total",
        "limit",
        "remaining",
        "window_ms",
        "reset_ms",
        "handle",
    ];
    let nullable_of = [
        ("rt_creds_docker", "path"),
        ("rt_creds_podman", "path"),
        ("rt_options_set_log", "f"),
        ("rt_op_set_progress", "f"),
        ("rt_manifest_put", "out"),
        ("rt_blob_put", "digest"),
        ("rt_blob_put", "out"),
        ("rt_upload_finish", "digest"),
        ("rt_upload_finish", "out"),
    ];
    let mut c = String::from(
        r#"#include <registry_transport.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define CHECK(what) do { if (!(what)) { fprintf(stderr, "line %d: %s\n", __LINE__, #what); exit(1); } } while (0)
#define REFUSED(call) do { \
    rt_status got; err = (rt_error *)0x51; out[0] = out[1] = (void *)0x51; got = call; \
    if (got != RT_E_ARG) { fprintf(stderr, "%s is %s\n", #call, rt_status_name(got)); exit(1); } \
    if (strstr(#call, "&err")) { CHECK(err != NULL && err != (rt_error *)0x51); \
        CHECK(rt_error_code(err) == RT_E_ARG && strlen(rt_error_message(err)) > 0); rt_free(err); } \
    if (strstr(#call, "&out[0]")) CHECK(out[0] == NULL); \
    if (strstr(#call, "&out[1]")) CHECK(out[1] == NULL); } while (0)
int main(int argc, char **argv)
{
    void *op = rt_op_new(), *o = rt_options_new(), *creds = rt_creds_bearer("x"), *source = rt_source_bytes("x", 1);
    void *r = rt_req_new("GET", "/v2/hello"), *ref, *failure, *t, *answer, *pages, *list, *out[2];
    rt_error *err;
    char name[128], buf[8];
    const char *digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    CHECK(argc == 2);
    sprintf(name, "%s/a/b", argv[1]);
    CHECK(rt_ref_parse("ubuntu", (rt_ref **)&ref, NULL) == RT_OK);
    CHECK(rt_ref_parse("a b", (rt_ref **)out, (rt_error **)&failure) == RT_E_SYNTAX);
    CHECK(rt_transport_new(name, RT_PULL, NULL, NULL, (rt_transport **)&t, NULL) == RT_OK);
    CHECK(rt_request(t, r, NULL, (rt_response **)&answer, NULL) == RT_OK);
    pages = rt_pages_new(t, r);
    list = rt_list_tags(t);
"#,
    );
    let mut tried = 0;
    for f in functions() {
        let named: Vec<(&str, &str)> = f
            .parameters
            .iter()
            .map(|p| (p.as_str(), p.rsplit([' ', '*']).next().unwrap_or_default()))
            .collect();
        // Blobs and uploads take a registry to make; their other arguments are those of functions tried here.
        if named
            .iter()
            .any(|(p, _)| p.contains("rt_blob *") || p.contains("rt_upload *") && !p.contains("**"))
        {
            continue;
        }
        for (i, (parameter, name)) in named.iter().enumerate() {
            if !parameter.contains('*') && !parameter.contains("_fn ") {
                continue;
            }
            let is_handle = parameter.contains("rt_")
                && !parameter.contains("**")
                && *name != "err"
                && !parameter.contains("_fn ");
            let may_be_null = nullable.contains(name) && !(is_handle && i == 0)
                || nullable_of.contains(&(f.name.as_str(), name));
            let mut bad = Vec::new();
            if !may_be_null {
                bad.push("NULL");
            }
            if is_handle && *name != "handle" {
                bad.push(if parameter.contains("rt_op ") {
                    "ref"
                } else {
                    "op"
                });
            }
            for bad in bad {
                let arguments: Vec<&str> = named
                    .iter()
                    .enumerate()
                    .map(|(j, (p, n))| if i == j { bad } else { valid(p, n) })
                    .collect();
                let call = format!("{}({})", f.name, arguments.join(", "));
                tried += 1;
                match f.result.as_str() {
                    "rt_status" if f.name != "rt_error_code" => {
                        writeln!(c, "    REFUSED({call});").unwrap();
                    }
                    r if r.contains('*') => writeln!(c, "    CHECK({call} == NULL);").unwrap(),
                    "void" => writeln!(c, "    {call};").unwrap(),
                    _ if f.name == "rt_error_code" => {
                        writeln!(c, "    CHECK({call} == RT_E_ARG);").unwrap();
                    }
                    _ => writeln!(c, "    CHECK({call} <= 0);").unwrap(),
                }
            }
        }
    }
    assert!(tried > 100, "only {tried} calls");
    for handle in [
        "op", "o", "creds", "source", "r", "ref", "failure", "t", "answer", "pages", "list",
    ] {
        writeln!(c, "    rt_free({handle});").unwrap();
    }
    c.push_str("    puts(\"ok\");\n    return 0;\n}\n");
    let source = library().join("turns.c");
    std::fs::write(&source, c).unwrap();
    play(&compile(&source, "turns"), &[&registry().authority()], true);
}

/// Every function with nothing, and with handles of the wrong type; outs are always written.
#[test]
fn nothing_and_the_wrong_thing() {
    let mut c = String::from(
        "#include <registry_transport.h>\n#include <stdio.h>\n#include <stdlib.h>\n\
         #define CHECK(what) do { if (!(what)) { fprintf(stderr, \"line %d: %s\\n\", __LINE__, #what); exit(1); } } while (0)\n\
         int main(void)\n{\n    void *op = rt_op_new(), *ref, *out[4];\n    rt_error *err;\n    size_t i;\n    (void)i;\n\
         \x20   CHECK(rt_ref_parse(\"ubuntu\", (rt_ref **)&ref, NULL) == RT_OK);\n",
    );
    let fine_with_nothing = [
        "rt_creds_docker",
        "rt_creds_podman",
        "rt_source_bytes",
        "rt_options_new",
        "rt_op_new",
    ];
    for f in functions() {
        let nothing: Vec<&str> = f
            .parameters
            .iter()
            .map(|p| {
                if p.contains('*') || p.contains("_fn") {
                    "NULL"
                } else {
                    "0"
                }
            })
            .collect();
        let call = format!("{}({})", f.name, nothing.join(", "));
        match f.result.as_str() {
            "rt_status" if f.name != "rt_error_code" => {
                writeln!(c, "    CHECK({call} == RT_E_ARG);").unwrap()
            }
            "struct rt_error *" => unreachable!(),
            r if r.contains('*') && fine_with_nothing.contains(&f.name.as_str()) => {
                writeln!(
                    c,
                    "    {{ void *h = {call}; CHECK(h != NULL); rt_free(h); }}"
                )
                .unwrap();
            }
            r if r.contains('*') && !f.parameters.is_empty() && f.name != "rt_status_name" => {
                writeln!(c, "    CHECK({call} == NULL);").unwrap();
            }
            _ => writeln!(c, "    (void){call};").unwrap(),
        }
        // A handle in the first place, of another type: an op where anything else is wanted, else a reference.
        let Some(first) = f
            .parameters
            .first()
            .filter(|p| p.contains("rt_") && p.contains('*'))
        else {
            continue;
        };
        let wrong = if first.contains("rt_op") { "ref" } else { "op" };
        let mut outs = 0;
        let arguments: Vec<String> = f
            .parameters
            .iter()
            .enumerate()
            .map(|(i, p)| {
                let name = p.rsplit([' ', '*']).next().unwrap_or_default();
                if i == 0 {
                    wrong.to_owned()
                } else if name == "err" {
                    "&err".to_owned()
                } else if p.contains("**")
                    || (["len", "size", "got", "data"].contains(&name)
                        && p.contains('*')
                        && f.result == "rt_status"
                        && !p.contains("const void *data"))
                {
                    outs += 1;
                    format!("(void *)&out[{}]", outs - 1)
                } else if p.contains("char *") {
                    "\"x\"".to_owned()
                } else if p.contains('*') || p.contains("_fn") {
                    "NULL".to_owned()
                } else {
                    "0".to_owned()
                }
            })
            .collect();
        let call = format!("{}({})", f.name, arguments.join(", "));
        if f.result == "rt_status" && f.name != "rt_error_code" {
            writeln!(
                c,
                "    for (i = 0; i < 4; i++) out[i] = (void *)0x51;\n    err = (rt_error *)0x51;"
            )
            .unwrap();
            writeln!(c, "    CHECK({call} == RT_E_ARG);").unwrap();
            for i in 0..outs {
                writeln!(c, "    CHECK(out[{i}] == NULL);").unwrap();
            }
            if arguments.iter().any(|a| a == "&err") {
                writeln!(c, "    CHECK(err != NULL && err != (rt_error *)0x51 && rt_error_code(err) == RT_E_ARG); rt_free(err);").unwrap();
            }
        } else {
            writeln!(c, "    (void){call};").unwrap();
        }
    }
    c.push_str("    rt_free(op);\n    rt_free(ref);\n    puts(\"ok\");\n    return 0;\n}\n");
    let source = library().join("nothing.c");
    std::fs::write(&source, c).unwrap();
    play(&compile(&source, "nothing"), &[], true);
}

#[test]
fn odd_values() {
    let server = registry();
    play(
        &compile(&Path::new(ROOT).join("tests/abi/values.c"), "values"),
        &[&server.authority()],
        true,
    );
}

/// All 120 orders.
#[test]
fn handles_are_freed_in_every_order() {
    let server = registry();
    play(
        &compile(&Path::new(ROOT).join("tests/abi/lifetime.c"), "lifetime"),
        &[&server.authority()],
        true,
    );
}

/// Callbacks that call back, and that give back what their call uses.
#[test]
fn callbacks_that_call_back() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/hello" => Answer::new(200).body("hello there"),
        "/v2/echo" => Answer::new(200).body("thanks"),
        "/v2/a/b/tags/list" => Answer::new(200)
            .header("Content-Type", "application/json")
            .body(r#"{"name":"a/b","tags":["one","two"]}"#),
        _ => Answer::new(404),
    });
    play(
        &compile(&Path::new(ROOT).join("tests/abi/callbacks.c"), "callbacks"),
        &[&server.authority()],
        true,
    );
}

/// Calls that would wait for themselves are refused.
#[test]
fn calls_that_wait_for_themselves() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/echo" => Answer::new(200).body("thanks"),
        "/v2/secret" if request.header("authorization").is_some() => Answer::new(200).body("in"),
        _ => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    play(
        &compile(&Path::new(ROOT).join("tests/abi/recursion.c"), "recursion"),
        &[&server.authority()],
        false,
    );
}

/// A registry for the programs that want more than one kind of answer.
fn versatile() -> Server {
    const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";
    Server::start(|request| {
        let text = |body: &str| {
            Answer::new(200)
                .header("Content-Type", "text/plain")
                .body(body)
        };
        match request.path.as_str() {
            "/v2/hello" => text("hello there"),
            "/v2/echo" => text("thanks"),
            "/v2/secret" if request.header("authorization") == Some(BASIC) => text("hello there"),
            "/v2/secret" => Answer::new(401).header("WWW-Authenticate", "Basic realm=\"x\""),
            "/v2/refused" => Answer::new(403)
                .header("Content-Type", "application/json")
                .body(
                    r#"{"errors":[{"code":"ONE"},{"code":"TWO","message":"m","detail":{"a":1}}]}"#,
                ),
            "/v2/html" => Answer::new(200)
                .header("Content-Type", "text/html")
                .body("<html></html>"),
            "/v2/long" => text("longer than sixteen bytes"),
            "/v2/garbage" => Answer::raw("HTTP/1.1 two hundred\r\n\r\n"),
            "/v2/hangup" => Answer::hang_up(),
            path if path.starts_with("/v2/a/b/blobs/") => text("other"),
            _ if request.method == "DELETE" => Answer::new(405),
            _ => Answer::new(404),
        }
    })
}

fn program(name: &str) -> PathBuf {
    compile(&Path::new(ROOT).join(format!("tests/abi/{name}.c")), name)
}

/// Noticed, and nothing else breaks; valgrind and AddressSanitizer see what the program did wrong.
#[test]
fn freed_twice_and_used_afterwards() {
    let freed = program("freed");
    if sanitizer().is_some() {
        let output = run(&mut Command::new(&freed));
        let shown = text(&output);
        assert!(
            !output.status.success() && shown.contains("heap-use-after-free"),
            "{shown}"
        );
        return;
    }
    play(&freed, &[], false);
    let output = run(Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99"])
        .arg(&freed));
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(99), "{shown}");
    assert!(shown.contains("Invalid read of size 4"), "{shown}");
}

/// With checkers that count by themselves some calls are enough.
#[test]
fn failing_calls_leak_nothing() {
    let (server, nobody) = (versatile(), free_port());
    let leaks = program("leaks");
    let arguments = |calls| [server.authority(), nobody.clone(), calls];
    let few = arguments("10".to_owned());
    let few: Vec<&str> = few.iter().map(String::as_str).collect();
    if sanitizer().is_some() {
        return play(&leaks, &few, false);
    }
    let many = arguments("1000".to_owned());
    play(&leaks, &many.each_ref().map(String::as_str), false);
    play_under_valgrind(&leaks, &few);
}

/// `host:port` where nobody answers.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn finalisers_run_once() {
    play(&program("finalisers"), &[&versatile().authority()], true);
}

#[test]
fn borrowed_text_stays() {
    play(&program("borrowed"), &[&versatile().authority()], true);
}

/// What the contract forbids ends in an abort, or in a leak, and in nothing worse.
#[test]
fn callbacks_that_do_not_return() {
    let out = library().join("leaving");
    let mut cc = Command::new("c++");
    cc.args([
        "-std=c++11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        "-g",
        "-I",
    ])
    .arg(Path::new(ROOT).join("include"))
    .arg(Path::new(ROOT).join("tests/abi/leaving.cc"))
    .arg("-L")
    .arg(library())
    .arg(format!("-Wl,-rpath,{}", library().display()))
    .args(["-lregistry_transport", "-o"])
    .arg(&out);
    must(&mut cc);
    play(&out, &[&versatile().authority()], false);
}

/// `tests/sanitizers/run` has it with other checkers.
#[test]
fn eight_threads_on_one_transport() {
    play(&program("threads"), &[&versatile().authority()], true);
}

/// No exported function without the guard against panics.
#[test]
fn every_function_is_guarded() {
    let guards = [
        "call(",
        "status(",
        "or(",
        "quietly(",
        "made(",
        "diagnostic(",
        "rate_limit(",
    ];
    // These cannot panic: they return constants, or run in signal handlers.
    let bare = ["rt_abi", "rt_version", "rt_op_cancel"];
    for entry in std::fs::read_dir(Path::new(ROOT).join("src/ffi")).unwrap() {
        let path = entry.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        for part in source.split("#[unsafe(no_mangle)]").skip(1) {
            let name = part
                .split("fn ")
                .nth(1)
                .and_then(|t| t.split('(').next())
                .unwrap();
            let body = part.split("\n}\n").next().unwrap();
            let body = &body[body.find('{').unwrap()..];
            let guarded = guards.iter().any(|g| body.contains(g));
            assert!(
                guarded || bare.contains(&name),
                "{name} in {}",
                path.display()
            );
        }
    }
}
