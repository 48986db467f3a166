//! What the packaging files say is what the library is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// `key = "value"` of a section of Cargo.toml.
fn manifest(section: &str, key: &str) -> String {
    let manifest = format!("\n{}", read("Cargo.toml"));
    let (_, rest) = manifest
        .split_once(&format!("\n[{section}]\n"))
        .unwrap_or_else(|| panic!("no [{section}]"));
    rest.lines()
        .take_while(|line| !line.starts_with('['))
        .find_map(|line| line.strip_prefix(&format!("{key} = ")))
        .unwrap_or_else(|| panic!("no {key} in [{section}]"))
        .trim_matches('"')
        .to_owned()
}

fn abi() -> u32 {
    let header = read("include/registry_transport.h");
    let line = header
        .lines()
        .find_map(|l| l.strip_prefix("#define RT_ABI "));
    line.unwrap().parse().unwrap()
}

/// The library's version begins with the ABI number, and then counts the releases that added functions.
#[test]
fn version_of_the_library() {
    let version = manifest("package.metadata.capi.library", "version");
    let parts: Vec<u32> = version.split('.').map(|p| p.parse().unwrap()).collect();
    assert_eq!(parts.len(), 3, "{version}");
    assert_eq!(parts[0], abi());
    let symbols = read("tests/abi/symbols.txt");
    let releases: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| Some(line.split_once(' ')?.1))
        .collect();
    assert_eq!(parts[1] as usize, releases.len() - 1, "{releases:?}");
    assert!(read("build.rs").contains(&format!("const LIBRARY: &str = \"{version}\";")));
}

#[test]
fn version_of_the_packages() {
    let changelog = read("packaging/debian/changelog");
    assert!(
        changelog.starts_with(&format!("registry-transport ({VERSION}-")),
        "{changelog}"
    );
    let spec = read("packaging/registry-transport.spec");
    assert!(spec.contains(&format!("\nVersion:        {VERSION}\n")));
    assert!(spec.contains(&format!("libregistry_transport.so.{}\n", abi())));
    let control = read("packaging/debian/control");
    let package = format!("libregistry-transport{}", abi());
    assert!(control.contains(&format!("\nPackage: {package}\n")));
    assert!(
        Path::new(ROOT)
            .join(format!("packaging/debian/{package}.install"))
            .exists()
    );
    let msrv = manifest("package", "rust-version");
    assert!(control.contains(&format!("cargo (>= {msrv}) | cargo-web (>= {msrv})")));
    assert!(spec.contains(&format!("BuildRequires:  cargo >= {msrv}\n")));
}

/// The lines that a build script gives cargo for the linker, for a system.
fn link_args(script: &Path, os: &str, vendor: &str, cargo_c: bool) -> Vec<String> {
    let mut command = Command::new(script);
    command
        .env_clear()
        .env("CARGO_CFG_TARGET_OS", os)
        .env("CARGO_CFG_TARGET_VENDOR", vendor);
    if cargo_c {
        command.env("CARGO_C_CARGO", "cargo");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|l| l.strip_prefix("cargo:rustc-cdylib-link-arg="))
        .map(str::to_owned)
        .collect()
}

/// The name inside the library, on systems that are not this one.
#[test]
fn names_on_each_system() {
    let folder = tempfile::tempdir().unwrap();
    let script: PathBuf = folder.path().join("build-script");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-o"])
        .arg(&script)
        .arg(Path::new(ROOT).join("build.rs"))
        .status()
        .unwrap();
    assert!(built.success());
    let nodelete = "-Wl,-z,nodelete";
    let now = "-Wl,-z,now";
    for os in ["linux", "freebsd", "netbsd"] {
        assert_eq!(
            link_args(&script, os, "unknown", false),
            ["-Wl,-soname,libregistry_transport.so.1", nodelete, now]
        );
    }
    assert_eq!(
        link_args(&script, "android", "unknown", false),
        ["-Wl,-soname,libregistry_transport.so", nodelete, now]
    );
    assert_eq!(
        link_args(&script, "macos", "apple", false),
        [
            "-Wl,-install_name,@rpath/libregistry_transport.1.dylib",
            "-Wl,-current_version,1.0.0,-compatibility_version,1"
        ]
    );
    assert!(link_args(&script, "windows", "pc", false).is_empty());
    // cargo-c brings the name.
    assert_eq!(
        link_args(&script, "linux", "unknown", true),
        [nodelete, now]
    );
    assert!(link_args(&script, "macos", "apple", true).is_empty());
}

/// An archive made with LTO carries the standard library under its own names, and programs could not link another
/// Rust library statically.
#[test]
fn no_lto_in_releases() {
    assert_eq!(manifest("profile.release", "lto"), "off");
    assert_eq!(manifest("profile.release", "panic"), "unwind");
}
