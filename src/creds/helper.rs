//! Credential helpers: `docker-credential-NAME get`, a program that is told a registry on its standard input and
//! answers with JSON.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Credential;
use super::entry::{self, Json};
use crate::child;
use crate::error::{Error, Result};

/// Most time a helper gets. Some ask a person.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest time between two looks at the cancel flag.
const SLICE: Duration = Duration::from_millis(50);
const STDOUT_LIMIT: usize = 64 * 1024;
const STDERR_LIMIT: usize = 4 * 1024;
/// Less than any pipe takes at once.
const STDIN_LIMIT: usize = 512;

/// What a helper prints, besides failing, when it has nothing.
const NOT_FOUND: &[u8] = b"credentials not found in native keychain";
/// The user name that marks the secret as a refresh token.
const TOKEN_USER: &str = "<token>";

/// What helpers commonly say when they fail. Their own words are not repeated, for they may hold secrets.
const COMPLAINTS: [&str; 7] = [
    "no credentials server URL",
    "credentials server URL not provided",
    "no credentials username",
    "pass not initialized",
    "Cannot autolaunch D-Bus",
    "User interaction is not allowed",
    "command not found",
];

/// Asks the helper `name` for the credentials under the key `server`. `None`: it has none.
///
/// It is looked for in the absolute folders of `search`, which is the value of `PATH`, and gets at most 30 s.
///
/// # Errors
/// [`Timeout`](crate::error::ErrorKind::Timeout) when it took longer or `deadline` passed,
/// [`Cancelled`](crate::error::ErrorKind::Cancelled), else [`Auth`](crate::error::ErrorKind::Auth).
pub(super) fn get(
    name: &str,
    server: &str,
    search: Option<&OsStr>,
    deadline: Instant,
    cancelled: &dyn Fn() -> bool,
) -> Result<Option<Credential>> {
    if !is_name(name) {
        return Err(Error::auth(
            "the name of a credential helper takes only letters, digits, '.', '_' and '-'",
        ));
    }
    let program = format!("docker-credential-{name}");
    let Some(path) = locate(&program, search) else {
        return Err(Error::auth(format!(
            "{program} is not in PATH; install it or remove it from the file"
        )));
    };
    let deadline = Instant::now()
        .checked_add(PATIENCE)
        .map_or(deadline, |most| most.min(deadline));
    run(&path, server, deadline, cancelled)
        .and_then(|answer| answer.judge().map_err(Error::auth))
        .map_err(|e| e.context(&program))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The program as `execvp` would find it, but never below the working directory.
fn locate(program: &str, search: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(search?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// How a helper ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exit {
    Success,
    /// Its status in words.
    Failure(String),
    /// The program we are part of ignores `SIGCHLD`, or collected the status before us.
    Unknown,
}

struct Answer {
    exit: Exit,
    stdout: Zeroizing<Vec<u8>>,
    stderr: Zeroizing<Vec<u8>>,
}

impl Answer {
    fn judge(&self) -> Result<Option<Credential>, String> {
        if self.exit != Exit::Success && self.stdout.trim_ascii() == NOT_FOUND {
            return Ok(None);
        }
        if let Exit::Failure(status) = &self.exit {
            return Err(match self.complaint() {
                Some(complaint) => format!("failed, {status}: {complaint}"),
                None => format!("failed, {status}"),
            });
        }
        match self.credential() {
            Err(_) if self.exit == Exit::Unknown => Err("failed".to_owned()),
            result => result.map_err(str::to_owned),
        }
    }

    fn complaint(&self) -> Option<&'static str> {
        let says =
            |output: &[u8], text: &str| output.windows(text.len()).any(|w| w == text.as_bytes());
        COMPLAINTS
            .into_iter()
            .find(|text| says(&self.stderr, text) || says(&self.stdout, text))
    }

    fn credential(&self) -> Result<Option<Credential>, entry::Fault> {
        let json = Json::parse(&self.stdout)
            .map_err(|_| "the answer is not JSON")?
            .ok_or("the answer is empty")?;
        let Value::Object(answer) = &json.0 else {
            return Err("the answer is not a JSON object");
        };
        let member = |name| entry::named(answer, name);
        match (member("Username"), member("Secret")) {
            (None, None) => Ok(None),
            (Some(Value::String(user)), Some(Value::String(secret))) => {
                if secret.is_empty() && (user.is_empty() || user == TOKEN_USER) {
                    Ok(None)
                } else if user == TOKEN_USER {
                    entry::identity(secret).map(Some)
                } else {
                    entry::basic(user, secret).map(Some)
                }
            }
            _ => Err("the answer does not hold the strings \"Username\" and \"Secret\""),
        }
    }
}

fn run(
    program: &Path,
    input: &str,
    deadline: Instant,
    cancelled: &dyn Fn() -> bool,
) -> Result<Answer> {
    if input.len() > STDIN_LIMIT || input.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(Error::auth(
            "the registry is nothing that a helper could be asked for",
        ));
    }
    let failed = |what: &str, e: io::Error| {
        Error::auth(format!("{what}: {e}")).with_os_code(e.raw_os_error())
    };
    let mut command = Command::new(program);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(filled_pipe(input.as_bytes()).map_err(|e| failed("no pipe to the helper", e))?);
    let mut helper =
        Running(child::spawn(command, program, "get").map_err(|e| failed("cannot be started", e))?);
    let mut stdout = Capture::new(helper.0.stdout.take(), STDOUT_LIMIT)
        .map_err(|e| failed("cannot be read", e))?;
    let mut stderr = Capture::new(helper.0.stderr.take(), STDERR_LIMIT)
        .map_err(|e| failed("cannot be read", e))?;
    let mut pause = Duration::from_millis(1);
    loop {
        if cancelled() {
            return Err(Error::cancelled("the call was cancelled"));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::timeout("gave no answer in time"));
        }
        // First the exit, then the pipes: then all that it wrote is there. A process that it left behind may
        // hold the pipes open for ever.
        let exit = helper.exit();
        stdout.read().map_err(|e| failed("cannot be read", e))?;
        stderr.read().map_err(|e| failed("cannot be read", e))?;
        if stdout.overflow {
            return Err(Error::auth(format!(
                "the answer is longer than {STDOUT_LIMIT} bytes"
            )));
        }
        if let Some(exit) = exit {
            return Ok(Answer {
                exit,
                stdout: stdout.data,
                stderr: stderr.data,
            });
        }
        let open: Vec<_> = [
            stdout.pipe.as_ref().map(AsFd::as_fd),
            stderr.pipe.as_ref().map(AsFd::as_fd),
        ]
        .into_iter()
        .flatten()
        .collect();
        if open.is_empty() {
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(SLICE);
            continue;
        }
        let mut polled: Vec<_> = open
            .iter()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        let slice = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(SLICE.min(left).subsec_nanos()),
        };
        match poll(&mut polled, Some(&slice)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed("cannot be read", e.into())),
        }
    }
}

/// A pipe that holds `input` and has no writer any more. Filled while its reader is ours, it cannot raise
/// `SIGPIPE`, whatever the helper does.
fn filled_pipe(input: &[u8]) -> io::Result<Stdio> {
    let (reader, writer) = child::new_pipe()?;
    let mut rest = input;
    while !rest.is_empty() {
        match rustix::io::write(&writer, rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(Stdio::from(reader))
}

/// A helper, which is stopped when this is dropped.
struct Running(Child);

impl Running {
    /// `None` while it runs.
    fn exit(&mut self) -> Option<Exit> {
        match self.0.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) if status.success() => Some(Exit::Success),
            Ok(Some(status)) => Some(Exit::Failure(status.to_string())),
            Err(_) => Some(Exit::Unknown),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An id whose status is collected may already be another process.
        if self.exit().is_some() || self.0.kill().is_err() {
            return;
        }
        // Ends at once, except in a system call that cannot be interrupted; that is not worth waiting for.
        let patience = Instant::now() + Duration::from_millis(100);
        while self.exit().is_none() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The start of what comes out of a pipe.
struct Capture<R> {
    pipe: Option<R>,
    data: Zeroizing<Vec<u8>>,
    limit: usize,
    overflow: bool,
}

impl<R: Read + AsFd> Capture<R> {
    fn new(pipe: Option<R>, limit: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        // All of it at once: growing would leave copies behind.
        Ok(Self {
            pipe,
            data: Zeroizing::new(Vec::with_capacity(limit)),
            limit,
            overflow: false,
        })
    }

    /// Takes what is there without waiting, at most as much as a pipe holds.
    fn read(&mut self) -> io::Result<()> {
        let mut chunk = Zeroizing::new([0; 4096]);
        for _ in 0..32 {
            let Some(pipe) = &mut self.pipe else {
                break;
            };
            match pipe.read(&mut *chunk) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    let room = self.limit.saturating_sub(self.data.len());
                    self.overflow |= n > room;
                    self.data
                        .extend_from_slice(chunk.get(..n.min(room)).unwrap_or_default());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::entry::tests::show;
    use super::*;
    use crate::error::ErrorKind;
    use std::cell::Cell;
    use tempfile::TempDir;

    /// A folder with one helper, `docker-credential-x`, which runs the lines of `script`.
    ///
    /// A shell writes it: a program that another thread of ours still has open for writing, by way of a fork,
    /// cannot be run.
    pub(in crate::creds) fn helper(script: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        add_helper(folder.path(), "x", script);
        folder
    }

    pub(in crate::creds) fn add_helper(folder: &Path, name: &str, script: &str) {
        let program = folder.join(format!("docker-credential-{name}"));
        let text = if script.starts_with("#!") {
            script.to_owned()
        } else {
            format!("#!/bin/sh\n{script}\n")
        };
        let status = Command::new("/bin/sh")
            .args(["-c", r#"printf %s "$1" >"$0" && chmod 755 "$0""#])
            .arg(program)
            .arg(text)
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn ask(script: &str, registry: &str) -> Result<Option<Credential>> {
        let folder = helper(script);
        get(
            "x",
            registry,
            Some(folder.path().as_os_str()),
            soon(),
            &|| false,
        )
    }

    fn told(result: &Result<Option<Credential>>) -> String {
        match result {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(credential)) => show(credential),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn k27_d62_answers() {
        let failed = || Exit::Failure("exit status: 1".to_owned());
        let not_found = "credentials not found in native keychain";
        let strings = "the answer does not hold the strings \"Username\" and \"Secret\"";
        let table = [
            (
                Exit::Success,
                r#"{"ServerURL":"r.io","Username":"u","Secret":"p"}"#,
                "some warning",
                "basic u:p",
            ),
            (
                Exit::Success,
                r#" {"Username":"u","Secret":""} "#,
                "",
                "basic u:",
            ),
            (
                Exit::Success,
                r#"{"Username":"<token>","Secret":"t"}"#,
                "",
                "identity t",
            ),
            (
                Exit::Success,
                r#"{"Username":"","Secret":""}"#,
                "",
                "nothing",
            ),
            (
                Exit::Success,
                r#"{"Username":"<token>","Secret":""}"#,
                "",
                "nothing",
            ),
            (
                Exit::Success,
                r#"{"username":"u","SECRET":"p"}"#,
                "",
                "basic u:p",
            ),
            (Exit::Success, "{}", "", "nothing"),
            (Exit::Success, "", "", "the answer is empty"),
            (Exit::Success, not_found, "", "the answer is not JSON"),
            (Exit::Success, r#"{"Username":"u"}"#, "", strings),
            (Exit::Success, r#"{"Secret":"p"}"#, "", strings),
            (Exit::Success, r#"{"Username":1,"Secret":"p"}"#, "", strings),
            (
                Exit::Success,
                r#"{"Username":"u","Secret":null}"#,
                "",
                strings,
            ),
            (Exit::Success, "[]", "", "the answer is not a JSON object"),
            (
                Exit::Success,
                r#"{"Username":"u:v","Secret":"p"}"#,
                "",
                "the user name holds a colon, which HTTP Basic cannot carry (RFC 7617)",
            ),
            (
                Exit::Success,
                "{\"Username\":\"u\",\"Secret\":\"{\\n}\"}",
                "",
                "basic u:{\n}",
            ),
            (
                Exit::Success,
                "{\"Username\":\"u\",\"Secret\":\"\u{fffd}\"}",
                "",
                "user name or password is not UTF-8",
            ),
            (failed(), not_found, "", "nothing"),
            (
                failed(),
                "\r\n credentials not found in native keychain\n",
                "noise",
                "nothing",
            ),
            (
                failed(),
                "Credentials not found in native keychain",
                "",
                "failed, exit status: 1",
            ),
            (failed(), "", not_found, "failed, exit status: 1"),
            (failed(), "canary", "canary", "failed, exit status: 1"),
            (
                failed(),
                r#"{"Username":"u","Secret":"p"}"#,
                "",
                "failed, exit status: 1",
            ),
            (
                failed(),
                "credentials server URL not provided\n",
                "",
                "failed, exit status: 1: credentials server URL not provided",
            ),
            (
                failed(),
                "",
                "x: pass not initialized: canary",
                "failed, exit status: 1: pass not initialized",
            ),
            (
                Exit::Unknown,
                r#"{"Username":"u","Secret":"p"}"#,
                "",
                "basic u:p",
            ),
            (Exit::Unknown, not_found, "", "nothing"),
            (Exit::Unknown, "canary", "", "failed"),
            (Exit::Unknown, "", "", "failed"),
        ];
        for (exit, stdout, stderr, expected) in table {
            let stdout_and_exit = format!("{stdout} {exit:?}");
            let [stdout, stderr] =
                [stdout, stderr].map(|text| Zeroizing::new(text.as_bytes().to_vec()));
            let result = Answer {
                exit,
                stdout,
                stderr,
            }
            .judge()
            .map_err(Error::auth);
            assert_eq!(told(&result), expected, "{stdout_and_exit}");
        }
    }

    #[test]
    fn k27_the_call() {
        let script = r#"[ "$#" = 1 ] && printf '{"Username":"%s","Secret":"%s"}' "$1" "$(cat)""#;
        let table = [
            ("r.io", "basic get:r.io"),
            ("r.io:5000", "basic get:r.io:5000"),
            (
                "r.io\nq.io",
                "docker-credential-x: the registry is nothing that a helper could be asked for",
            ),
        ];
        for (registry, expected) in table {
            assert_eq!(told(&ask(script, registry)), expected, "{registry:?}");
        }
    }

    #[test]
    fn programs() {
        let json = r#"printf '{"Username":"u","Secret":"p"}'"#;
        let table = [
            (json.to_owned(), "basic u:p"),
            (format!("exec 0<&-; {json}"), "basic u:p"),
            (format!("head -c 300000 /dev/zero >&2; {json}"), "basic u:p"),
            (
                format!("{json}; exec >&- 2>&-; cat >/dev/null"),
                "basic u:p",
            ),
            // It leaves a process behind that keeps its output open.
            (format!("sleep 5 & {json}"), "basic u:p"),
            (
                "echo credentials not found in native keychain; exit 1".to_owned(),
                "nothing",
            ),
            (
                "echo canary; echo canary >&2; exit 3".to_owned(),
                "docker-credential-x: failed, exit status: 3",
            ),
            (
                "kill -9 $$".to_owned(),
                "docker-credential-x: failed, signal: 9 (SIGKILL)",
            ),
            (
                "cat /dev/zero".to_owned(),
                "docker-credential-x: the answer is longer than 65536 bytes",
            ),
        ];
        let start = Instant::now();
        for (script, expected) in table {
            assert_eq!(told(&ask(&script, "r.io")), expected, "{script}");
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "waited for what it should not wait for"
        );
    }

    #[test]
    fn a_program_that_cannot_be_started() {
        let error = ask("#!/nonexistent/interpreter\n", "r.io").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth);
        assert_eq!(error.os_code(), Some(libc::ENOENT));
        assert!(
            error
                .message()
                .starts_with("docker-credential-x: cannot be started"),
            "{error}"
        );
    }

    #[test]
    fn stops_at_the_deadline() {
        let folder = helper("exec sleep 60");
        let start = Instant::now();
        let deadline = start + Duration::from_millis(120);
        let error = get(
            "x",
            "r.io",
            Some(folder.path().as_os_str()),
            deadline,
            &|| false,
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn stops_when_cancelled() {
        let folder = helper("exec sleep 60");
        let start = Instant::now();
        let looks = Cell::new(0);
        let cancelled = || {
            looks.set(looks.get() + 1);
            looks.get() > 2
        };
        let error = get(
            "x",
            "r.io",
            Some(folder.path().as_os_str()),
            soon(),
            &cancelled,
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn names() {
        for name in ["osxkeychain", "ecr-login", "a.b_C9"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "a/b",
            "../x",
            "a b",
            "x;id",
            "x$(id)",
            "x\n",
            "é",
            "#x",
            &"x".repeat(101),
        ] {
            assert!(!is_name(name), "{name}");
            let error = get(name, "r.io", Some(OsStr::new("/bin")), soon(), &|| false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Auth);
        }
    }

    #[test]
    fn places() {
        let good = helper("exit 1");
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("docker-credential-x")).unwrap();
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("docker-credential-x"), "x").unwrap();
        let search = |folders: &[&Path]| {
            let path = std::env::join_paths(folders).unwrap();
            locate("docker-credential-x", Some(&path))
        };
        let program = good.path().join("docker-credential-x");
        assert_eq!(search(&[good.path()]), Some(program.clone()));
        assert_eq!(
            search(&[
                directory.path(),
                data.path(),
                Path::new("/nonexistent"),
                good.path()
            ]),
            Some(program)
        );
        assert_eq!(search(&[directory.path(), data.path()]), None);
        assert_eq!(locate("docker-credential-x", None), None);

        // Cargo runs tests in the folder of the package, so "." and "" are this one.
        let here = std::env::current_dir().unwrap();
        assert_eq!(locate("Cargo.toml", Some(OsStr::new(":.:./:"))), None);
        assert!(here.join("Cargo.toml").is_file());
        let up = "../".repeat(here.components().count());
        let relative = format!("{up}{}", good.path().display());
        assert!(Path::new(&relative).is_dir());
        assert_eq!(search(&[Path::new(&relative)]), None);

        let error = get(
            "x",
            "r.io",
            Some(directory.path().as_os_str()),
            soon(),
            &|| false,
        )
        .unwrap_err();
        assert!(
            error
                .message()
                .starts_with("docker-credential-x is not in PATH"),
            "{error}"
        );
    }

    /// Runs itself again in a process that ignores SIGCHLD, where the kernel throws exit statuses away.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_host_that_ignores_sigchld() {
        const DONE: &str = "asked without exit statuses";
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:\t"))
            .unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        if ignored & (1 << (libc::SIGCHLD - 1)) != 0 {
            ask_without_exit_statuses();
            println!("{DONE}");
            return;
        }
        let env = |args: &[&OsStr]| {
            Command::new("env")
                .arg("--ignore-signal=CHLD")
                .args(args)
                .output()
        };
        if !env(&["true".as_ref()]).is_ok_and(|output| output.status.success()) {
            println!("skipped: env(1) is not that of GNU");
            return;
        }
        let name =
            module_path!().split_once("::").unwrap().1.to_owned() + "::a_host_that_ignores_sigchld";
        let this = std::env::current_exe().unwrap();
        let output = env(&[
            this.as_os_str(),
            "--exact".as_ref(),
            name.as_ref(),
            "--nocapture".as_ref(),
        ])
        .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains(DONE),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[cfg(target_os = "linux")]
    fn ask_without_exit_statuses() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let search = Some(folder.path().as_os_str());
        for (name, script) in [
            (
                "x",
                "#!/bin/sh\nread a; printf '{\"Username\":\"u\",\"Secret\":\"p\"}'; exit 0\n",
            ),
            (
                "none",
                "#!/bin/sh\necho credentials not found in native keychain; exit 1\n",
            ),
            ("bad", "#!/bin/sh\necho canary; exit 1\n"),
            ("broken", "#!/nonexistent/interpreter\n"),
            ("slow", "#!/bin/sh\nexec sleep 60\n"),
        ] {
            let program = folder.path().join(format!("docker-credential-{name}"));
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let ask = |name: &str| told(&get(name, "r.io", search, soon(), &|| false));
        assert_eq!(ask("x"), "basic u:p");
        assert_eq!(ask("none"), "nothing");
        assert_eq!(ask("bad"), "docker-credential-bad: failed");
        assert!(ask("broken").starts_with("docker-credential-broken: cannot be started"));
        let deadline = Instant::now() + Duration::from_millis(100);
        let error = get("slow", "r.io", search, deadline, &|| false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}
