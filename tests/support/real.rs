//! Real programs for tests: Debian's `docker-registry` and `skopeo`, the proxies `tinyproxy` and `squid`, and
//! `nginx`. A program that is not installed fails the test.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry_transport::creds::Creds;
use registry_transport::options::Options;
use registry_transport::transport::{Actions, Transport};
use tempfile::TempDir;

use super::pki::{Ca, Identity, LOOPBACK};
use super::server::{PATIENCE, Server};
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
    storage: PathBuf,
    daemon: Daemon,
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
        Self::token_as(Some(&ca.server()), token, realm)
    }

    /// The same with this identity, or over plain HTTP without one.
    pub fn token_as(identity: Option<&Identity>, token: &TokenServer, realm: &str) -> Self {
        Self::start(&Access::Token { token, realm }, identity)
    }

    /// Like [`DockerRegistry::token`], with the storage of another registry.
    pub fn token_beside(&self, ca: &Ca, token: &TokenServer, realm: &str) -> Self {
        let access = Access::Token { token, realm };
        Self::start_on(&access, Some(&ca.server()), Some(self.storage.clone()))
    }

    fn start(access: &Access<'_>, tls: Option<&Identity>) -> Self {
        Self::start_on(access, tls, None)
    }

    fn start_on(access: &Access<'_>, tls: Option<&Identity>, storage: Option<PathBuf>) -> Self {
        require("docker-registry", "docker-registry");
        let folder = TempDir::new().expect("a temporary folder");
        let storage = storage.unwrap_or_else(|| folder.path().join("storage"));
        let text = configuration(folder.path(), &storage, access, tls);
        std::fs::write(folder.path().join("config.yml"), text).expect("config.yml");
        let (daemon, address) = Self::spawn(folder.path());
        Self {
            address,
            tls: tls.is_some(),
            folder,
            storage,
            daemon,
        }
    }

    /// A registry process and the address it chose.
    fn spawn(folder: &Path) -> (Daemon, SocketAddr) {
        let log = folder.join("log");
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(folder.join("config.yml"))
            .env("OTEL_TRACES_EXPORTER", "none");
        let daemon = Daemon::spawn(&command, &log);
        let Some(address) = wait_listening(&log) else {
            drop(daemon);
            panic!("docker-registry does not start: {}", read(&log));
        };
        (daemon, address)
    }

    /// Ends the process with this signal, such as `KILL`.
    pub fn stop(&mut self, signal: &str) {
        self.daemon.stop(signal);
    }

    /// Starts it again after [`DockerRegistry::stop`], at another address, with what it stored.
    pub fn start_again(&mut self) {
        (self.daemon, self.address) = Self::spawn(self.folder.path());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        self.storage.clone()
    }

    /// What the registry logged so far.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }
}

/// A program in the background. It ends with this value, and with the test process.
struct Daemon(Child);

impl Daemon {
    /// Starts it; what it says goes to `log`.
    fn spawn(command: &Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("a log file");
        // The shell holds our pipe: the program ends when this process does, however it ends.
        let child = Command::new("sh")
            .args([
                "-c",
                "\"$@\" & read -r how; kill -\"${how:-TERM}\" $!; wait $!",
                "sh",
            ])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("sh");
        Self(child)
    }

    /// Starts what cannot say which port it chose: on one that is free, or was a moment ago. `command` writes
    /// the configuration for a port.
    fn on_a_port(log: &Path, command: impl Fn(u16) -> Command) -> (Self, SocketAddr) {
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = free.local_addr().expect("an address");
            drop(free);
            let mut daemon = Self::spawn(&command(address.port()), log);
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end && daemon.0.try_wait().expect("a child").is_none() {
                // Some other program may have it: then this one says so, and comes to nothing.
                if read(log).contains("ddress already in use") {
                    break;
                }
                if TcpStream::connect(address).is_ok()
                    && !read(log).contains("ddress already in use")
                {
                    return (daemon, address);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("it does not start: {}", read(log));
    }

    /// Ends it with this signal.
    fn stop(&mut self, signal: &str) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = writeln!(pipe, "{signal}");
        }
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop("TERM");
    }
}

/// A registry with token access over TLS, and what is around it: its user is `demo` with the password `pass`.
pub struct Guarded {
    pub ca: Ca,
    pub token: Arc<TokenServer>,
    pub tokens: Server,
    pub registry: DockerRegistry,
}

impl Guarded {
    /// With the users of `token`.
    pub fn start(token: TokenServer) -> Self {
        Self::named(token, "127.0.0.1")
    }

    /// The same under another name of this machine's, which the certificates hold as well.
    pub fn named(token: TokenServer, name: &str) -> Self {
        let ca = Ca::new();
        let names = [&[name][..], &LOOPBACK[..]].concat();
        let token = Arc::new(token.signed(&ca));
        let own = Arc::clone(&token);
        let tokens = Server::builder()
            .tls_config(ca.server_config(&ca.server_for(&names)))
            .start(move |request| own.answer(request));
        let realm = format!("https://{name}:{}/token", tokens.address().port());
        let registry = DockerRegistry::token_as(Some(&ca.server_for(&names)), &token, &realm);
        Self {
            ca,
            token,
            tokens,
            registry,
        }
    }

    /// Options with which its certificates are trusted.
    pub fn options(&self) -> Options {
        let mut options = Options::new();
        options.set_text("scheme", "https").expect("scheme");
        let ca = self.ca.path().to_str().expect("a path");
        options.set_text("ca-file", ca).expect("ca-file");
        options.set_number("share-tokens", 0).expect("share-tokens");
        options
    }

    /// A transport for `demo/app`.
    pub fn transport(&self, actions: Actions) -> Transport {
        let creds = Creds::basic("demo", "pass").expect("credentials");
        let name = format!("{}/demo/app", self.registry.authority());
        Transport::new(&name, actions, Some(&creds), Some(&self.options())).expect("a transport")
    }
}

/// A forward proxy: Debian's `tinyproxy`, with one user.
pub struct TinyProxy {
    address: SocketAddr,
    folder: TempDir,
    _daemon: Daemon,
}

impl TinyProxy {
    /// Starts it.
    pub fn start(user: &str, password: &str) -> Self {
        require("tinyproxy", "tinyproxy-bin");
        let folder = TempDir::new().expect("a folder");
        let config = folder.path().join("tinyproxy.conf");
        let log = folder.path().join("log");
        let (daemon, address) = Daemon::on_a_port(&log, |port| {
            let text = format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 60\nLogLevel Info\nMaxClients 50\n\
                 BasicAuth {user} {password}\n"
            );
            std::fs::write(&config, text).expect("a configuration");
            let mut command = Command::new("tinyproxy");
            command.arg("-d").arg("-c").arg(&config);
            command
        });
        Self {
            address,
            folder,
            _daemon: daemon,
        }
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }
}

/// A forward proxy: Debian's `squid`, with one user, for which every name it is told of is this machine.
pub struct Squid {
    address: SocketAddr,
    folder: TempDir,
    _daemon: Daemon,
}

impl Squid {
    /// Starts it.
    pub fn start(user: &str, password: &str, names: &[&str]) -> Self {
        require("squid", "squid");
        let folder = TempDir::new().expect("a folder");
        // It gives up being root.
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open).expect("permissions");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("users"), htpasswd(user, password)).expect("users");
        let hosts: String = names
            .iter()
            .map(|name| format!("127.0.0.1 {name}\n"))
            .collect();
        std::fs::write(at("hosts"), hosts).expect("hosts");
        let (daemon, address) = Daemon::on_a_port(&at("log"), |port| {
            let text = format!(
                "http_port 127.0.0.1:{port}\n\
                 hosts_file {hosts}\n\
                 auth_param basic program /usr/lib/squid/basic_ncsa_auth {users}\n\
                 auth_param basic children 1\n\
                 acl known proxy_auth REQUIRED\n\
                 http_access allow known\n\
                 http_access deny all\n\
                 logformat brief %rm %ru %un %>Hs\n\
                 access_log stdio:{access} logformat=brief\n\
                 cache_log /dev/stderr\n\
                 cache deny all\n\
                 cache_mem 1 MB\n\
                 pid_filename none\n\
                 netdb_filename none\n\
                 coredump_dir {folder}\n\
                 shutdown_lifetime 0 seconds\n\
                 visible_hostname proxy.example\n",
                hosts = at("hosts").display(),
                users = at("users").display(),
                access = at("access").display(),
                folder = folder.path().display(),
            );
            std::fs::write(at("squid.conf"), text).expect("a configuration");
            let mut command = Command::new("squid");
            command.args(["-N", "-f"]).arg(at("squid.conf"));
            command
        });
        Self {
            address,
            folder,
            _daemon: daemon,
        }
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// What was asked of it: `CONNECT r.example:443 user 200`.
    pub fn requests(&self) -> Vec<String> {
        let log = read(&self.folder.path().join("access"));
        log.lines().map(str::to_owned).collect()
    }
}

/// Debian's `nginx`, in front of a registry, for clients with a certificate.
pub struct Nginx {
    address: SocketAddr,
    _folder: TempDir,
    _daemon: Daemon,
}

impl Nginx {
    /// Leads to `upstream` (`host:port`) clients that have a certificate of this authority.
    pub fn demanding(ca: &Ca, upstream: &str) -> Self {
        require("nginx", "nginx-light");
        let folder = TempDir::new().expect("a folder");
        let config = folder.path().join("nginx.conf");
        let identity = ca.server();
        let (daemon, address) = Daemon::on_a_port(&folder.path().join("log"), |port| {
            let text = format!(
                "daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; user root;\n\
                 events {{ worker_connections 100; }}\n\
                 http {{\n\
                 access_log off; client_max_body_size 0; client_body_temp_path {folder}/body;\n\
                 proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;\n\
                 uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
                 server {{\n\
                 listen 127.0.0.1:{port} ssl;\n\
                 ssl_certificate {certificate}; ssl_certificate_key {key};\n\
                 ssl_client_certificate {ca}; ssl_verify_client on;\n\
                 location /v2/ {{\n\
                 proxy_pass http://{upstream}; proxy_set_header Host $http_host;\n\
                 proxy_set_header X-Forwarded-Proto https;\n\
                 }} }} }}\n",
                folder = folder.path().display(),
                certificate = identity.certificate_path.display(),
                key = identity.key_path.display(),
                ca = ca.path().display(),
            );
            std::fs::write(&config, text).expect("a configuration");
            let mut command = Command::new("nginx");
            command.arg("-c").arg(&config).arg("-p").arg(folder.path());
            command
        });
        Self {
            address,
            _folder: folder,
            _daemon: daemon,
        }
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }
}

fn configuration(
    folder: &Path,
    storage: &Path,
    access: &Access<'_>,
    tls: Option<&Identity>,
) -> String {
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
        storage.display()
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
