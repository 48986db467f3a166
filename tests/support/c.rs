//! C programs against the shared library that belongs to the tests.

use std::ffi::OsString;
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

/// The sanitizer that the library under test was built with: `address` or `thread`. `tests/sanitizers/run` says so in
/// RT_TEST_SANITIZER, in RT_TEST_LIBRARY where that library is, and in RT_TEST_RUNTIME what programs are linked with.
pub fn sanitizer() -> Option<String> {
    std::env::var("RT_TEST_SANITIZER").ok()
}

/// Where the library under test is.
fn tested() -> PathBuf {
    std::env::var_os("RT_TEST_LIBRARY").map_or_else(built, PathBuf::from)
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
        let _ = std::os::unix::fs::symlink(
            tested().join("libregistry_transport.so"),
            folder.join(name),
        );
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
        .args(["-I", &format!("{ROOT}/include")]);
    match sanitizer() {
        None => {
            cc.args(sources.iter().map(AsRef::as_ref));
        }
        Some(kind) => {
            cc.args(sanitized(folder, sources, flags, &kind));
        }
    }
    cc.arg("-L")
        .arg(folder)
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .args(["-lregistry_transport", "-pthread", "-ldl", "-o"])
        .arg(&out);
    must(&mut cc);
    out
}

/// Compiles for a sanitizer, and gives what is to be linked: the objects, and the runtime of the compiler that built
/// the library, for there can be one only.
fn sanitized(
    folder: &Path,
    sources: &[impl AsRef<Path>],
    flags: &[&str],
    kind: &str,
) -> Vec<OsString> {
    let checks = match kind {
        "address" => "-fsanitize=address,undefined",
        "thread" => "-fsanitize=thread",
        _ => panic!("RT_TEST_SANITIZER is address or thread, not {kind}"),
    };
    let mut out = Vec::new();
    for source in sources {
        let source = source.as_ref();
        let object = folder
            .join(source.file_name().expect("a file"))
            .with_extension("o");
        let mut cc = Command::new("cc");
        cc.args([
            "-std=c99",
            "-g",
            "-O1",
            "-c",
            checks,
            "-fno-sanitize-recover=all",
        ])
        .args(flags)
        .args(["-I", &format!("{ROOT}/include"), "-o"])
        .arg(&object)
        .arg(source);
        must(&mut cc);
        out.push(object.into());
    }
    let runtime = std::env::var_os("RT_TEST_RUNTIME").expect("RT_TEST_RUNTIME");
    out.push("-Wl,--whole-archive".into());
    out.push(runtime);
    for flag in [
        "-Wl,--no-whole-archive",
        "-rdynamic",
        "-lrt",
        "-lm",
        "-lstdc++",
    ] {
        out.push(flag.into());
    }
    out
}

/// Runs a compiled test, plain and under valgrind.
pub fn play(program: &Path, arguments: &[&str], with_valgrind: bool) {
    assert_eq!(must(Command::new(program).args(arguments)), "ok\n");
    if with_valgrind && sanitizer().is_none() {
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
