//! Real programs for tests: Debian's `docker-registry` and `skopeo`. A program that is not
//! installed fails the test.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::pki::{Ca, Identity};
use super::server::PATIENCE;
use super::token::TokenServer;

/// Who may do what at a real registry.
enum Access<'a> {
    Open,
    Basic(&'a str, &'a str),
    Token {
        token: &'a TokenServer,
        realm: &'a str,
    },
}

/// A running `docker-registry` with its own storage. It ends with this value, and with the test
/// process.
pub struct DockerRegistry {
    address: SocketAddr,
    tls: bool,
    folder: TempDir,
    child: Child,
}

impl DockerRegistry {
    /// An open registry over plain HTTP.
    pub fn open() -> Self {
        Self::start(&Access::Open, None)
    }

    /// An open registry over TLS.
    pub fn open_tls(ca: &Ca) -> Self {
        Self::start(&Access::Open, Some(&ca.server()))
    }

    /// A registry with one user and Basic credentials over plain HTTP.
    pub fn basic(user: &str, password: &str) -> Self {
        Self::start(&Access::Basic(user, password), None)
    }

    /// The same over TLS.
    pub fn basic_tls(ca: &Ca, user: &str, password: &str) -> Self {
        Self::start(&Access::Basic(user, password), Some(&ca.server()))
    }

    /// A registry over TLS that wants the tokens of `token`, which clients get at `realm`.
    pub fn token(ca: &Ca, token: &TokenServer, realm: &str) -> Self {
        Self::start(&Access::Token { token, realm }, Some(&ca.server()))
    }

    fn start(access: &Access<'_>, tls: Option<&Identity>) -> Self {
        require("docker-registry", "docker-registry");
        let folder = TempDir::new().expect("a temporary folder");
        let config = folder.path().join("config.yml");
        std::fs::write(&config, configuration(folder.path(), access, tls)).expect("config.yml");
        let log_path = folder.path().join("log");
        let log = std::fs::File::create(&log_path).expect("a log file");
        // The shell holds our pipe: the registry ends when this process does, however it ends.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg("docker-registry serve \"$1\" & read -r _; kill $!; wait $!")
            .arg("sh")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("sh");
        let Some(address) = wait_listening(&log_path) else {
            drop(child.stdin.take());
            let _ = child.wait();
            panic!("docker-registry does not start: {}", read(&log_path));
        };
        Self {
            address,
            tls: tls.is_some(),
            folder,
            child,
        }
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// `http://host:port` or `https://host:port` with `path` after it.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// The storage folder.
    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    /// What the registry logged so far.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn configuration(folder: &Path, access: &Access<'_>, tls: Option<&Identity>) -> String {
    let mut text = format!(
        "version: 0.1\n\
         log: {{level: info, accesslog: {{disabled: false}}}}\n\
         storage:\n  \
           filesystem: {{rootdirectory: '{}'}}\n  \
           delete: {{enabled: true}}\n  \
           maintenance: {{uploadpurging: {{enabled: false}}}}\n\
         http:\n  \
           addr: 127.0.0.1:0\n  \
           secret: test\n",
        folder.join("storage").display()
    );
    if let Some(identity) = tls {
        let _ = writeln!(
            text,
            "  tls: {{certificate: '{}', key: '{}'}}",
            identity.certificate_path.display(),
            identity.key_path.display()
        );
    }
    match access {
        Access::Open => {}
        Access::Basic(user, password) => {
            let path = folder.join("htpasswd");
            std::fs::write(&path, htpasswd(user, password)).expect("htpasswd");
            let _ = writeln!(
                text,
                "auth: {{htpasswd: {{realm: test, path: '{}'}}}}",
                path.display()
            );
        }
        Access::Token { token, realm } => {
            let bundle = token
                .root_bundle()
                .expect("a token server with signed tokens");
            let _ = writeln!(
                text,
                "auth: {{token: {{realm: '{realm}', service: '{}', issuer: '{}', \
                 rootcertbundle: '{}'}}}}",
                token.service(),
                token.issuer(),
                bundle.display()
            );
        }
    }
    text
}

/// A bcrypt line for this user.
fn htpasswd(user: &str, password: &str) -> String {
    require("htpasswd", "apache2-utils");
    let output = Command::new("htpasswd")
        .args(["-Bbn", "-C", "4", user, password])
        .output()
        .expect("htpasswd");
    assert!(output.status.success(), "htpasswd: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Waits for the line that tells the port the registry chose.
fn wait_listening(log: &Path) -> Option<SocketAddr> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let text = read(log);
        let address = text
            .lines()
            .filter(|line| line.contains("listening on "))
            .find_map(|line| {
                line.split_once("listening on ")?
                    .1
                    .split(['"', ',', ' '])
                    .next()
            })
            .and_then(|address| address.parse().ok());
        if address.is_some() {
            return address;
        }
        if text.contains("level=fatal") {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Fails when a program is not installed.
pub fn require(program: &str, debian_package: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    assert!(
        found,
        "{program} is needed for this test: apt-get install {debian_package}"
    );
}

/// Runs `skopeo` with these arguments, which trust no policy file.
pub fn skopeo(args: &[&str]) -> Output {
    require("skopeo", "skopeo");
    Command::new("skopeo")
        .arg("--insecure-policy")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("skopeo")
}

/// Runs `skopeo`, fails unless it succeeds, and gives its standard output.
pub fn skopeo_ok(args: &[&str]) -> String {
    let output = skopeo(args);
    assert!(
        output.status.success(),
        "skopeo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A folder for `--cert-dir` and its kin: it makes skopeo trust `ca`.
pub fn cert_dir(ca: &Ca) -> String {
    let folder = ca.folder().join("cert-dir");
    std::fs::create_dir_all(&folder).expect("a certificate folder");
    std::fs::copy(ca.path(), folder.join("ca.crt")).expect("ca.crt");
    folder.display().to_string()
}

/// Runs another program.
pub fn run(program: &str, debian_package: &str, args: &[&str]) -> Output {
    require(program, debian_package);
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("an installed program")
}
