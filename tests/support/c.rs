//! C programs against the shared library that belongs to the tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a program that must be there.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| {
        panic!("{command:?}: {e}; the tests need a C compiler, binutils and valgrind")
    })
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn must(command: &mut Command) -> String {
    let output = run(command);
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        text(&output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where cargo put the library that belongs to this test.
pub fn built() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().unwrap().to_owned()
}

/// A folder with the library under the names a linker and a loader look for.
pub fn library() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            put_library(folder.path());
            folder
        })
        .path()
}

fn put_library(folder: &Path) {
    for name in ["libregistry_transport.so", "libregistry_transport.so.1"] {
        // There already, when this is not the first program in the folder.
        let _ =
            std::os::unix::fs::symlink(built().join("libregistry_transport.so"), folder.join(name));
    }
}

/// Compiles a C program against the shared library.
pub fn compile(source: &Path, name: &str) -> PathBuf {
    compile_with(source, name, &[])
}

/// The same with further flags.
pub fn compile_with(source: &Path, name: &str, flags: &[&str]) -> PathBuf {
    link(library(), &[source], name, flags)
}

/// Builds a program of these sources, paths in the repository without `.c`, into `folder`. It has the name of the
/// last one and finds the library by itself.
pub fn build(folder: &Path, sources: &[impl AsRef<str>]) -> PathBuf {
    put_library(folder);
    let paths: Vec<PathBuf> = sources
        .iter()
        .map(|source| Path::new(ROOT).join(format!("{}.c", source.as_ref())))
        .collect();
    let last = paths.last().and_then(|path| path.file_stem());
    let name = last.and_then(|name| name.to_str()).expect("a source");
    link(folder, &paths, name, &["-O1"])
}

fn link(folder: &Path, sources: &[impl AsRef<Path>], name: &str, flags: &[&str]) -> PathBuf {
    let out = folder.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g"])
        .args(flags)
        .args(["-I", &format!("{ROOT}/include")])
        .args(sources.iter().map(AsRef::as_ref))
        .arg("-L")
        .arg(folder)
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .args(["-lregistry_transport", "-pthread", "-ldl", "-o"])
        .arg(&out);
    must(&mut cc);
    out
}

/// Runs a compiled test, plain and under valgrind.
pub fn play(program: &Path, arguments: &[&str], with_valgrind: bool) {
    assert_eq!(must(Command::new(program).args(arguments)), "ok\n");
    if with_valgrind {
        play_under_valgrind(program, arguments);
    }
}

/// Runs a compiled test under valgrind only.
pub fn play_under_valgrind(program: &Path, arguments: &[&str]) {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .args([
            "--errors-for-leak-kinds=definite,indirect,possible",
            "--show-leak-kinds=definite,indirect,possible",
        ])
        .arg(format!("--suppressions={ROOT}/tests/abi/valgrind.supp"))
        .arg(program)
        .args(arguments);
    let output = run(&mut valgrind);
    assert!(output.status.success(), "valgrind:\n{}", text(&output));
}
