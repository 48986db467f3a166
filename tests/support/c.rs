//! C programs, built against the library of this test run.

use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Builds a program of these sources, paths in the repository without `.c`, into `folder`. It has the name of the
/// last one and finds the library by itself.
pub fn build(folder: &Path, sources: &[impl AsRef<str>]) -> PathBuf {
    let exe = std::env::current_exe().expect("the test program");
    let built = exe.parent().expect("a folder");
    for name in ["libregistry_transport.so", "libregistry_transport.so.1"] {
        // There already, when this is not the first program in the folder.
        let _ =
            std::os::unix::fs::symlink(built.join("libregistry_transport.so"), folder.join(name));
    }
    let paths: Vec<PathBuf> = sources
        .iter()
        .map(|source| Path::new(ROOT).join(format!("{}.c", source.as_ref())))
        .collect();
    let last = paths.last().and_then(|path| path.file_stem());
    let program = folder.join(last.expect("a source"));
    let output = Command::new("cc")
        .args([
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-O1",
            "-g",
        ])
        .args(["-I", &format!("{ROOT}/include")])
        .args(&paths)
        .arg("-L")
        .arg(folder)
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .args(["-lregistry_transport", "-pthread", "-o"])
        .arg(&program)
        .output()
        .expect("a C compiler");
    assert!(
        output.status.success(),
        "{}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    program
}
