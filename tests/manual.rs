//! The manual: every function, constant and option has its place in it, the pages are those that the sources make,
//! they are clean, and every example in them compiles, runs, and shows what its page is about.

#[path = "../docs/manual/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod manual;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use manual::Manual;
use registry_transport::options::KEYS;
use support::real::require;
use support::registry::{AccessControl, Registry, Settings};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("docs/man")
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// With RT_BLESS=1 in the environment the pages are rewritten.
#[test]
fn the_pages_are_in_sync() {
    let pages = Manual::read(root()).man_pages();
    if std::env::var_os("RT_BLESS").is_some() {
        let _ = std::fs::remove_dir_all(folder());
        std::fs::create_dir_all(folder()).unwrap();
        for (name, text) in &pages {
            std::fs::write(folder().join(name), text).unwrap();
        }
    }
    let made: BTreeSet<String> = pages.iter().map(|(name, _)| name.clone()).collect();
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(made, there, "run the tests with RT_BLESS=1");
    for (name, text) in &pages {
        let committed = std::fs::read_to_string(folder().join(name)).unwrap();
        assert!(
            *text == committed,
            "{name} is stale: run the tests with RT_BLESS=1"
        );
    }
}

#[test]
fn everything_has_its_page() {
    let manual = Manual::read(root());
    let header = std::fs::read_to_string(root().join("include/registry_transport.h")).unwrap();
    let symbols = std::fs::read_to_string(root().join("tests/abi/symbols.txt")).unwrap();
    for symbol in symbols.lines().filter_map(|l| l.split(' ').next()) {
        let page = std::fs::read_to_string(folder().join(format!("{symbol}.3"))).expect(symbol);
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "EXAMPLES",
            "THREADS",
            "SEE ALSO",
            "HISTORY",
        ] {
            assert!(
                page.contains(&format!(".Sh {section}\n")),
                "{symbol}: no {section}"
            );
        }
        assert!(page.contains(&format!(".Fo {symbol}\n")), "{symbol}");
    }
    let overview = std::fs::read_to_string(folder().join("registry_transport.7")).unwrap();
    let defines = header.lines().filter_map(|l| l.strip_prefix("#define RT_"));
    let mut constants = 0;
    for name in defines
        .filter_map(|l| l.split(' ').next())
        .filter(|n| !n.starts_with("API"))
    {
        assert!(
            overview.contains(&format!(".It Dv RT_{name}\n")),
            "RT_{name}"
        );
        constants += 1;
    }
    assert!(constants > 40, "only {constants} constants were found");
    let types = header
        .lines()
        .filter_map(|l| l.strip_prefix("typedef struct "));
    for name in types.filter_map(|l| l.split(' ').next()) {
        assert!(overview.contains(&format!(".It Vt {name}\n")), "{name}");
    }
    let options = std::fs::read_to_string(folder().join("registry_transport_options.7")).unwrap();
    for key in KEYS {
        assert!(
            options.contains(&format!(".It Cm {}\n", key.name)),
            "{}",
            key.name
        );
    }
    // No link of the HTML leads nowhere.
    let pages = manual.html_pages();
    for (name, text) in &pages {
        let links = text.split("href=\"").skip(1);
        let links: BTreeSet<&str> = links.filter_map(|l| l.split('"').next()).collect();
        for link in links {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let page = pages.iter().find(|(name, _)| name == file);
            let (_, target) = page.unwrap_or_else(|| panic!("{name} links to {link}"));
            assert!(
                anchor.is_empty() || target.contains(&format!("id=\"{anchor}\"")),
                "{name} links to {link}"
            );
        }
    }
}

/// Neither of the programs that show manual pages has anything to say about them.
#[test]
fn the_pages_are_clean() {
    require("mandoc", "mandoc");
    require("groff", "groff");
    let mut lint = Command::new("mandoc");
    lint.args(["-T", "lint", "-W", "warning"]);
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    lint.args(&names);
    assert_eq!(run(&mut lint), "");
    for name in names {
        let said = run(Command::new("groff")
            .args(["-mdoc", "-Tutf8", "-w", "all", "-W", "break", "-z"])
            .arg(&name));
        assert_eq!(said, "", "{}", name.display());
    }
}

/// Each example is compiled as strictly as can be and run against a registry; each page's example uses what the page
/// is about.
#[test]
fn every_example_compiles_and_runs() {
    let manual = Manual::read(root());
    let registry = Registry::new(Settings {
        access: AccessControl::Open,
        ..Settings::default()
    });
    registry.seed("demo/app", "latest", 2);
    let server = registry.start(None);
    let [from, to] = ["demo/app", "demo/copy"].map(|name| format!("{}/{name}", server.authority()));
    let work = tempfile::tempdir().unwrap();
    let library = std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .join("libregistry_transport.so");
    for name in ["libregistry_transport.so", "libregistry_transport.so.1"] {
        std::os::unix::fs::symlink(&library, work.path().join(name)).unwrap();
    }
    let mut done = BTreeSet::new();
    for function in &manual.functions {
        let page = std::fs::read_to_string(folder().join(format!("{}.3", function.name))).unwrap();
        let code = example(&page);
        assert_eq!(
            code, function.code,
            "{}: what is shown is what is run",
            function.name
        );
        assert!(
            code.contains(&format!("{}(", function.name)),
            "the example of {} does not use it",
            function.name
        );
        if !done.insert(function.example.clone()) {
            continue;
        }
        let source = work.path().join(format!("{}.c", function.example));
        std::fs::write(&source, code).unwrap();
        let program = work.path().join(&function.example);
        run(Command::new("cc")
            .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
            .arg(root().join("include"))
            .arg(&source)
            .arg("-L")
            .arg(work.path())
            .arg(format!("-Wl,-rpath,{}", work.path().display()))
            .args(["-lregistry_transport", "-o"])
            .arg(&program));
        run(Command::new(&program)
            .args([&from, &to])
            .current_dir(work.path())
            .env("REGISTRY_PASSWORD", "demo"));
    }
    let files = std::fs::read_dir(root().join("docs/examples"))
        .unwrap()
        .count();
    assert_eq!(done.len(), files, "every example is on a page");
    assert!(registry.manifest("demo/copy", "latest").is_some());
}

/// The example in a page, as it was before it was made a page.
fn example(page: &str) -> String {
    let at = page
        .find(".Sh EXAMPLES\n.Bd -literal\n")
        .expect("an example");
    let text = &page[at + ".Sh EXAMPLES\n.Bd -literal\n".len()..];
    let text = &text[..text.find(".Ed\n").expect("its end")];
    text.replace("\\&", "")
        .replace("\\-", "-")
        .replace("\\e", "\\")
}
