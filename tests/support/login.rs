//! A C program that links the library, in an environment of its own: `tests/login/login.c`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::c;

/// What a login came to.
#[derive(Debug)]
pub struct Outcome {
    /// `ok TAG TAG`, or `error CODE HTTP-STATUS MESSAGE`.
    pub line: String,
    /// The log, from the most talkative level on.
    pub log: String,
}

impl Outcome {
    /// Whether the tags were listed.
    pub fn is_ok(&self) -> bool {
        self.line.starts_with("ok")
    }
}

/// A login to be made by a process of its own, without any of this one's environment.
pub struct Login {
    command: Command,
    home: TempDir,
    path: Vec<PathBuf>,
}

impl Login {
    /// Lists the tags of `repository` (`host:port/name`) with the credentials of a store: `docker`, `podman`,
    /// or `none`. Home is an empty folder.
    pub fn new(store: &str, repository: &str) -> Self {
        static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
        let (_, program) = BUILT.get_or_init(|| {
            let folder = TempDir::new().expect("a folder");
            let program = c::build(folder.path(), &["tests/login/login"]);
            (folder, program)
        });
        let mut command = Command::new(program);
        command.env_clear().args([store, repository]);
        Self {
            command,
            home: TempDir::new().expect("a folder"),
            path: vec!["/usr/bin".into(), "/bin".into()],
        }
    }

    /// The folder that is `HOME`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file below the home folder, and the folders above it.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, text).expect("a file");
        self
    }

    /// Sets a variable; `@` in it stands for the home folder.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        let value = value.replace('@', &self.home.path().display().to_string());
        self.command.env(name, value);
        self
    }

    /// Sets a variable to just this text.
    pub fn env_text(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets an option of the transport.
    pub fn option(mut self, key: &str, value: &str) -> Self {
        self.command.arg(format!("{key}={value}"));
        self
    }

    /// Makes the host program peculiar: `ignore-sigchld`, `reap` (its own handler collects every child),
    /// `leak` (descriptor 77 is open, and not closed at `exec`), `path=FILE` (the store's file is named).
    pub fn host(mut self, what: &str) -> Self {
        let what = what.replace('@', &self.home.path().display().to_string());
        self.command.arg(format!("--{what}"));
        self
    }

    /// Puts `docker-credential-NAME`, which runs these lines of shell, into `PATH`.
    pub fn helper(mut self, name: &str, script: &str) -> Self {
        let folder = self.home.path().join("helpers");
        std::fs::create_dir_all(&folder).expect("a folder");
        write_program(
            &folder.join(format!("docker-credential-{name}")),
            &format!("#!/bin/sh\n{script}\n"),
        );
        if self.path.len() == 2 {
            self.path.insert(0, folder);
        }
        self
    }

    /// Runs another program in the same environment.
    pub fn also(&self, program: &str, arguments: &[&str]) -> Output {
        let variables = self.command.get_envs();
        Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .env("HOME", self.home.path())
            .env("PATH", self.search())
            .stdin(Stdio::null())
            .output()
            .expect(program)
    }

    fn search(&self) -> OsString {
        std::env::join_paths(&self.path).expect("folders")
    }

    /// Logs in.
    pub fn run(mut self) -> Outcome {
        let search = self.search();
        let output = self
            .command
            .env("HOME", self.home.path())
            .env("PATH", search)
            .stdin(Stdio::null())
            .output()
            .expect("login");
        let line = String::from_utf8(output.stdout).expect("text");
        let log = String::from_utf8(output.stderr).expect("text");
        assert!(
            line.ends_with('\n'),
            "login ended with {}: {line}{log}",
            output.status
        );
        Outcome {
            line: line.trim_end().to_owned(),
            log,
        }
    }
}

/// A shell writes it: a program that another thread still has open for writing, by way of a fork, cannot be run.
pub fn write_program(path: &Path, text: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" >"$0" && chmod 755 "$0""#])
        .arg(path)
        .arg(text)
        .status()
        .expect("sh");
    assert!(status.success(), "{}", path.display());
}
