//! Where credentials come from: keys, files, places, precedence, helpers. As values, through the stores themselves,
//! and in a process of its own whose environment is what it is, through the C API.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use registry_transport::creds::env::Env;
use registry_transport::creds::{Credential, Creds, docker, podman};
use registry_transport::error::{Error, ErrorKind};
use registry_transport::pages::Names;
use registry_transport::transport::{Actions, Transport};
use serde_json::{Value, json};
use support::client;
use support::login::{Login, Outcome, write_program};
use support::server::{Answer, Request, Server};
use tempfile::TempDir;

/// A credential in words, secrets included.
fn told(result: &Result<Credential, Error>) -> String {
    match result {
        Ok(Credential::Anonymous) => "anonymous".to_owned(),
        Ok(Credential::Basic { user, password }) => format!("basic {user}:{}", password.expose()),
        Ok(Credential::Identity(token)) => format!("identity {}", token.expose()),
        Ok(Credential::Bearer(token)) => format!("bearer {}", token.expose()),
        Err(_) => "error".to_owned(),
    }
}

/// Looks `wanted` (`registry` or `registry/repository`) up in a file.
fn look(file: &Path, env: &Env, wanted: &str) -> Result<Credential, Error> {
    let (registry, repository) = match wanted.split_once('/') {
        Some((registry, repository)) => (registry, Some(repository)),
        None => (wanted, None),
    };
    let soon = Instant::now() + Duration::from_secs(20);
    let is_podman = file.file_name().is_some_and(|name| name == "auth.json");
    let found = if is_podman {
        podman::Store::new(Some(file.to_owned()), env).lookup(registry, repository, soon, &|| false)
    } else {
        docker::Store::new(Some(file.to_owned()), env).lookup(registry, repository, soon, &|| false)
    };
    found.map(|(credential, _)| credential)
}

/// `auth` of an entry.
fn auth(user: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{user}:{password}"))
}

/// A file with such a text, named so, in a folder of its own.
fn file(name: &str, bytes: &[u8]) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// The cases of `data/credentials.json`: `for` a registry or a repository the file `gives` this, and the helper
/// that is `asked` gets this on its standard input.
#[test]
fn files_and_what_they_give() {
    let cases: Value = serde_json::from_str(include_str!("data/credentials.json")).unwrap();
    let mut done = 0;
    for case in cases.as_array().unwrap() {
        let text = |name: &str| case.get(name).and_then(Value::as_str);
        let name = text("name").unwrap();
        let bytes = match (text("text"), text("base64")) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, code) => BASE64_STANDARD.decode(code.unwrap()).unwrap(),
        };
        let (folder, path) = file(text("file").unwrap(), &bytes);
        let mut env = vec![("PATH", folder.path().to_str().unwrap().to_owned())];
        let asked = folder.path().join("asked");
        for (name, helper) in case
            .get("helpers")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let (out, err) = (
                helper["stdout"].as_str().unwrap(),
                helper["stderr"].as_str(),
            );
            let stdout = folder.path().join(format!("{name}.stdout"));
            std::fs::write(&stdout, out).unwrap();
            write_program(
                &folder.path().join(format!("docker-credential-{name}")),
                &format!(
                    "#!/bin/sh\nPATH=/usr/bin:/bin\necho \"{name} $(cat)\" >>{}\nprintf %s '{}' >&2\ncat {}\nexit {}\n",
                    asked.display(),
                    err.unwrap_or_default(),
                    stdout.display(),
                    helper["exit"]
                ),
            );
        }
        // With the variable the usual places are looked at, of which the file is one.
        let variable = case
            .get("environment")
            .and_then(|e| e["DOCKER_AUTH_CONFIG"].as_str());
        let wanted = text("for").unwrap();
        let found = match variable {
            None => look(&path, &Env::from_pairs(env), wanted),
            Some(variable) => {
                env.push(("DOCKER_AUTH_CONFIG", variable.to_owned()));
                env.push(("DOCKER_CONFIG", folder.path().to_str().unwrap().to_owned()));
                let soon = Instant::now() + Duration::from_secs(20);
                docker::Store::new(None, &Env::from_pairs(env))
                    .lookup(wanted, None, soon, &|| false)
                    .map(|(credential, _)| credential)
            }
        };
        assert_eq!(told(&found), text("gives").unwrap(), "{name}: {found:?}");
        if let Err(error) = &found {
            let message = error.message();
            assert!(
                message.contains(path.to_str().unwrap()),
                "{name}: {message}"
            );
        }
        if let Some(call) = case.get("asked").and_then(Value::as_array) {
            let line = format!(
                "{} {}\n",
                call[0].as_str().unwrap(),
                call[1].as_str().unwrap()
            );
            assert_eq!(
                std::fs::read_to_string(&asked).unwrap_or_default(),
                line,
                "{name}"
            );
        }
        done += 1;
    }
    assert!(done > 70, "only {done} cases");
}

/// Every form of a key in every kind of file, and which of two forms wins.
#[test]
fn forms_of_keys() {
    let forms = [
        "r.io:5000/team/app",
        "r.io:5000/team",
        "r.io:5000",
        "https://r.io:5000",
        "http://r.io:5000",
        "https://r.io:5000/v1/",
        "http://r.io:5000/v1/",
        "https://r.io:5000/v2/",
        "http://r.io:5000/v2/",
    ];
    let others = [
        "r.io",
        "r.io:5001",
        "x.r.io:5000",
        "r.io:5000/other",
        "r.io:5000/team/app/deep",
        "https://r.io:5000/v3/",
        "ftp://r.io:5000",
        "u@r.io:5000",
    ];
    for name in ["config.json", "auth.json"] {
        let give = |keys: &[&str]| {
            let auths: serde_json::Map<String, Value> = keys
                .iter()
                .map(|key| {
                    (
                        (*key).to_owned(),
                        json!({"auth": auth(&key.replace(':', "_"), "p")}),
                    )
                })
                .collect();
            let (_folder, path) = file(name, json!({ "auths": auths }).to_string().as_bytes());
            told(&look(&path, &Env::default(), "r.io:5000/team/app"))
        };
        for (at, form) in forms.iter().enumerate() {
            let wanted = format!("basic {}:p", form.replace(':', "_"));
            assert_eq!(give(&[form]), wanted, "{form}");
            for later in &forms[at + 1..] {
                assert_eq!(give(&[later, form]), wanted, "{form} before {later}");
            }
            let slash = match form.strip_suffix('/') {
                Some(bare) => bare.to_owned(),
                None => format!("{form}/"),
            };
            for variant in [form.replace("r.io", "R.io"), slash] {
                let wanted = format!("basic {}:p", variant.replace(':', "_"));
                assert_eq!(give(&[&variant]), wanted, "{variant}");
            }
        }
        for other in others {
            assert_eq!(give(&[other]), "anonymous", "{other}");
        }
    }
}

/// What goes before what, between the members of a file and within an entry.
#[test]
fn precedence() {
    let answers = |user: &str| format!(r#"printf '{{"Username":"{user}","Secret":"s"}}'"#);
    let not_found = "echo credentials not found in native keychain; exit 1";
    let entry = r#""auths": {"r.io": {"auth": "YXV0aHM6cA=="}}"#;
    for (members, wanted) in [
        (
            r#""credHelpers": {"r.io": "helper"}, "credsStore": "store","#,
            "basic helper:s",
        ),
        (
            r#""credHelpers": {"https://r.io/v2/": "helper"}, "credsStore": "store","#,
            "basic helper:s",
        ),
        (
            r#""credHelpers": {"q.io": "helper"}, "credsStore": "store","#,
            "basic store:s",
        ),
        (r#""credHelpers": {"q.io": "helper"},"#, "basic auths:p"),
        (
            r#""credHelpers": {"r.io": ""}, "credsStore": "","#,
            "basic auths:p",
        ),
        (r#""credsStore": "store","#, "basic store:s"),
        (r#""credsStore": "none","#, "basic auths:p"),
        (
            r#""credHelpers": {"r.io": "none"}, "credsStore": "store","#,
            "anonymous",
        ),
        (
            r#""credHelpers": {"r.io": "bad"}, "credsStore": "store","#,
            "error",
        ),
        (
            r#""credHelpers": {"r.io": "missing"}, "credsStore": "store","#,
            "error",
        ),
        (r#""credsStore": "bad","#, "error"),
        ("", "basic auths:p"),
    ] {
        for name in ["config.json", "auth.json"] {
            let (folder, path) = file(name, format!("{{{members} {entry}}}").as_bytes());
            for (helper, script) in [
                ("helper", answers("helper").as_str()),
                ("store", answers("store").as_str()),
                ("none", not_found),
                ("bad", "exit 2"),
            ] {
                write_program(
                    &folder.path().join(format!("docker-credential-{helper}")),
                    &format!("#!/bin/sh\n{script}\n"),
                );
            }
            let env = Env::from_pairs([("PATH", folder.path())]);
            // podman knows no store for all: it is asked when nothing else is there, and may be broken.
            let wanted = match (name, members.starts_with(r#""credHelpers": {"r.io""#)) {
                ("auth.json", false) if !members.contains("https://r.io") => "basic auths:p",
                _ => wanted,
            };
            assert_eq!(told(&look(&path, &env, "r.io")), wanted, "{name} {members}");
            let other = match (name, members.contains(r#""credsStore": "store""#)) {
                (_, true) => "basic store:s",
                ("config.json", _) if members.contains(r#""credsStore": "bad""#) => "error",
                _ => "anonymous",
            };
            assert_eq!(told(&look(&path, &env, "x.io")), other, "{name} {members}");
        }
    }
    let members = [
        (r#""registrytoken": "r""#, "bearer r"),
        (r#""identitytoken": "i""#, "identity i"),
        (r#""auth": "dTpw""#, "basic u:p"),
        (r#""username": "x", "password": "y""#, "basic x:y"),
    ];
    for (at, (member, wanted)) in members.iter().enumerate() {
        let rest: String = members[at..].iter().map(|(m, _)| format!("{m},")).collect();
        for entry in [(*member).to_owned(), rest.trim_end_matches(',').to_owned()] {
            let (_folder, path) = file(
                "config.json",
                format!(r#"{{"auths": {{"r.io": {{{entry}}}}}}}"#).as_bytes(),
            );
            assert_eq!(
                told(&look(&path, &Env::default(), "r.io")),
                *wanted,
                "{entry}"
            );
        }
    }
}

/// A registry that lets everybody in who says a name, and lists that name as a tag.
fn who() -> Server {
    Server::start(|request| match request.basic() {
        Some((user, _)) => Answer::json(200, &json!({"name": "a", "tags": [user]})),
        None => Answer::challenge("Basic realm=\"r\""),
    })
}

/// A file with one entry, for a registry or a namespace of it.
fn entry(key: &str, user: &str) -> String {
    json!({"auths": {key: {"auth": auth(user, "p")}}}).to_string()
}

/// Which file is read, as the environment says: each row begins with nothing there.
#[test]
fn places() {
    const DOCKER: &str = ".docker/config.json";
    const RUNTIME: &str = "run/containers/auth.json";
    const CONFIG: &str = ".config/containers/auth.json";
    let server = who();
    let here = server.authority();
    let there = "q.io".to_owned();
    // Store, files and whose entries they hold, variables, who is let in.
    type Row<'a> = (
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a [(&'a str, &'a str)],
        &'a str,
    );
    let table: &[Row<'_>] = &[
        ("docker", &[(DOCKER, "home")], &[], "home"),
        (
            "docker",
            &[(DOCKER, "home"), ("d/config.json", "d")],
            &[("DOCKER_CONFIG", "@/d")],
            "d",
        ),
        (
            "docker",
            &[(DOCKER, "home")],
            &[("DOCKER_CONFIG", "@/none")],
            "-",
        ),
        (
            "docker",
            &[(DOCKER, "home")],
            &[("DOCKER_CONFIG", "")],
            "home",
        ),
        (
            "docker",
            &[(DOCKER, "home"), (CONFIG, "podman")],
            &[("REGISTRY_AUTH_FILE", "@/x")],
            "home",
        ),
        ("docker", &[(CONFIG, "podman")], &[], "-"),
        (
            "docker",
            &[(DOCKER, "home")],
            &[("DOCKER_AUTH_CONFIG", "variable")],
            "variable",
        ),
        (
            "docker",
            &[(DOCKER, "home")],
            &[("DOCKER_AUTH_CONFIG", "other")],
            "home",
        ),
        (
            "docker",
            &[(DOCKER, "home")],
            &[("DOCKER_AUTH_CONFIG", "{")],
            "home",
        ),
        (
            "docker --path=@/f.json",
            &[("f.json", "f"), (DOCKER, "home")],
            &[("DOCKER_AUTH_CONFIG", "variable")],
            "f",
        ),
        (
            "docker --path=@/d",
            &[("d/config.json", "d"), (DOCKER, "home")],
            &[],
            "d",
        ),
        ("docker --path=@/none", &[(DOCKER, "home")], &[], "-"),
        (
            "podman",
            &[(CONFIG, "config"), (DOCKER, "home")],
            &[],
            "config",
        ),
        ("podman", &[(DOCKER, "home")], &[], "home"),
        (
            "podman",
            &[(RUNTIME, "run"), (CONFIG, "config")],
            &[("XDG_RUNTIME_DIR", "@/run")],
            "run",
        ),
        (
            "podman",
            &[(RUNTIME, "run"), (CONFIG, "config")],
            &[("XDG_RUNTIME_DIR", "")],
            "config",
        ),
        (
            "podman",
            &[(RUNTIME, "run"), (CONFIG, "config")],
            &[("XDG_RUNTIME_DIR", "@/none")],
            "config",
        ),
        (
            "podman",
            &[("x/containers/auth.json", "x"), (CONFIG, "config")],
            &[("XDG_CONFIG_HOME", "@/x")],
            "x",
        ),
        (
            "podman",
            &[("a.json", "a"), (CONFIG, "config")],
            &[("REGISTRY_AUTH_FILE", "@/a.json")],
            "a",
        ),
        (
            "podman",
            &[(CONFIG, "config"), (DOCKER, "home")],
            &[("REGISTRY_AUTH_FILE", "@/none")],
            "-",
        ),
        (
            "podman",
            &[(CONFIG, "config")],
            &[("DOCKER_AUTH_CONFIG", "variable")],
            "config",
        ),
        (
            "podman",
            &[],
            &[("DOCKER_AUTH_CONFIG", "variable")],
            "variable",
        ),
        (
            "podman",
            &[("d/config.json", "d")],
            &[("DOCKER_CONFIG", "@/d")],
            "d",
        ),
        (
            "podman --path=@/a.json",
            &[("a.json", "a"), (DOCKER, "home")],
            &[("REGISTRY_AUTH_FILE", "@/b")],
            "a",
        ),
        (
            "podman --path=@/none",
            &[(CONFIG, "config"), (DOCKER, "home")],
            &[],
            "-",
        ),
        (
            "none",
            &[(DOCKER, "home"), (CONFIG, "config")],
            &[("DOCKER_AUTH_CONFIG", "variable")],
            "-",
        ),
    ];
    for (store, files, variables, wanted) in table {
        let mut words = store.split(" --");
        let mut login = Login::new(words.next().unwrap(), &format!("{here}/team/app"));
        for word in words {
            login = login.host(word);
        }
        for (name, user) in *files {
            login = login.file(name, &entry(&here, user));
        }
        for (name, value) in *variables {
            login = match *value {
                "variable" => login.env_text(name, &entry(&here, value)),
                "other" => login.env_text(name, &entry(&there, value)),
                _ => login.env(name, value),
            };
        }
        let row = format!("{store} {files:?} {variables:?}");
        let outcome = login.run();
        match *wanted {
            "-" => {
                assert!(outcome.line.contains("401"), "{row}: {}", outcome.line);
                assert!(
                    !outcome.log.contains("user and password"),
                    "{row}: {}",
                    outcome.log
                );
            }
            user => {
                assert_eq!(outcome.line, format!("ok {user}"), "{row}: {}", outcome.log);
                let found = outcome.log.contains("user and password for");
                assert!(found, "{row}: {}", outcome.log);
            }
        }
    }
}

/// The longest path of an entry that covers the repository wins, whichever store reads it, and a file that has
/// nothing leaves it to the next one.
#[test]
fn namespaces() {
    let server = who();
    let here = server.authority();
    let first = json!({"auths": {
        format!("{here}/team/app"): {"auth": auth("app", "p")},
        format!("{here}/team"): {"auth": auth("team", "p")},
        format!("{here}/empty"): {},
    }})
    .to_string();
    let second = entry(&here, "everybody");
    for (repository, wanted) in [
        ("team/app", "app"),
        ("team/app/deep", "app"),
        ("team/application", "team"),
        ("team/other", "team"),
        ("teams/app", "everybody"),
        ("empty/app", "everybody"),
    ] {
        let podman = Login::new("podman", &format!("{here}/{repository}"))
            .file(".config/containers/auth.json", &first)
            .file(".docker/config.json", &second)
            .run();
        assert_eq!(podman.line, format!("ok {wanted}"), "{repository}");
        let mut both: Value = serde_json::from_str(&first).unwrap();
        both["auths"][&here] = json!({"auth": auth("everybody", "p")});
        let docker = Login::new("docker", &format!("{here}/{repository}"))
            .file(".docker/config.json", &both.to_string())
            .run();
        assert_eq!(docker.line, format!("ok {wanted}"), "{repository}");
    }
}

/// A file that is wrong ends the login with words that say where, and without a secret; what is wrong
/// for somebody else does not matter.
#[test]
fn malformed_files() {
    let server = who();
    let here = server.authority();
    let whole = |entry: &str| format!(r#"{{"auths": {{"{here}": {entry}}}}}"#);
    let good = auth("good", "p");
    let wrong = [
        ("{".to_owned(), "config.json: not JSON"),
        ("canary".to_owned(), "config.json: not JSON"),
        (
            r#"{"auths": {}} canary"#.to_owned(),
            "config.json: not JSON",
        ),
        ("// canary\n{}".to_owned(), "config.json: not JSON"),
        ("[]".to_owned(), "config.json: not a JSON object"),
        (r#""canary""#.to_owned(), "config.json: not a JSON object"),
        ("7".to_owned(), "config.json: not a JSON object"),
        ("[".repeat(10_000), "config.json: not JSON"),
        (
            r#"{"auths": "canary"}"#.to_owned(),
            "config.json auths: not a JSON object",
        ),
        (
            r#"{"credHelpers": ["canary"]}"#.to_owned(),
            "config.json credHelpers: not a JSON object",
        ),
        (
            r#"{"credsStore": 7}"#.to_owned(),
            "config.json credsStore: not a string",
        ),
        (
            r#"{"credsStore": "../canary"}"#.to_owned(),
            "config.json credsStore: the name of a credential helper",
        ),
        (
            r#"{"credsStore": "canary canary"}"#.to_owned(),
            "config.json credsStore: the name of a credential helper",
        ),
        (
            format!(r#"{{"credHelpers": {{"{here}": []}}}}"#),
            "HERE\"]: not a string",
        ),
        (
            whole(r#""canary""#),
            "HERE\"]: the entry is not a JSON object",
        ),
        (
            whole(r#"{"auth": "canary!"}"#),
            "HERE\"]: \"auth\" is not base64",
        ),
        (
            whole(r#"{"auth": ["canary"]}"#),
            "HERE\"]: \"auth\" is not a string",
        ),
        (
            whole(&format!(
                r#"{{"auth": "{}"}}"#,
                BASE64_STANDARD.encode("canary")
            )),
            "HERE\"]: \"auth\" holds no colon",
        ),
        (
            whole(&format!(
                r#"{{"auth": "{}"}}"#,
                BASE64_STANDARD.encode(b"u:canary\xff")
            )),
            "HERE\"]: \"auth\" is not UTF-8",
        ),
        (
            whole(r#"{"username": "u:canary", "password": "canary"}"#),
            "HERE\"]: the user name holds a colon",
        ),
        (
            whole(r#"{"username": {"canary": 1}}"#),
            "HERE\"]: \"username\" is not a string",
        ),
        (
            whole(r#"{"identitytoken": "canary\r\nX: y"}"#),
            "HERE\"]: the identity token holds a control character",
        ),
        (
            whole(r#"{"identitytoken": 42}"#),
            "HERE\"]: \"identitytoken\" is not a string",
        ),
        (
            whole(r#"{"registrytoken": "canary\r\nX: y"}"#),
            "HERE\"]: the registry token holds a control character",
        ),
    ];
    let auth_error = format!("error {} ", code("RT_E_AUTH"));
    for (text, why) in wrong {
        let outcome = Login::new("docker", &format!("{here}/a"))
            .file(".docker/config.json", &text)
            .run();
        let why = why.replace("HERE", &here);
        let shown = &text[..text.len().min(80)];
        assert!(
            outcome.line.starts_with(&auth_error),
            "{shown}: {outcome:?}"
        );
        assert!(outcome.line.contains(&why), "{shown}: {outcome:?}");
        assert!(
            outcome.line.contains("/.docker/config.json"),
            "{shown}: {outcome:?}"
        );
        assert!(
            !format!("{outcome:?}").contains("canary"),
            "{shown}: {outcome:?}"
        );
    }
    let fine = [
        ("", "-"),
        ("\n", "-"),
        ("null", "-"),
        ("{}", "-"),
        (
            r#"{"auths": null, "credHelpers": null, "credsStore": null}"#,
            "-",
        ),
        (&whole("{}"), "-"),
        (&whole(r#"{"auth": ""}"#), "-"),
        (&whole(r#"{"auth": null, "email": "a@b"}"#), "-"),
        (
            &format!(r#"{{"auths": {{"q.io": {{"auth": "!"}}, "{here}": {{"auth": "{good}"}}}}}}"#),
            "good",
        ),
        (
            &format!(
                r#"{{"auths": {{"q.io": 7, "{here}": {{"auth": "{good}"}}}}, "credHelpers": {{"q.io": 7}}}}"#
            ),
            "good",
        ),
        (
            &format!("\u{feff}{{\"auths\": {{\"{here}\": {{\"auth\": \"{good}\"}}}}}}"),
            "good",
        ),
    ];
    for (text, wanted) in fine {
        let outcome = Login::new("docker", &format!("{here}/a"))
            .file(".docker/config.json", text)
            .run();
        match wanted {
            "-" => assert!(outcome.line.contains("401"), "{text}: {outcome:?}"),
            user => assert_eq!(outcome.line, format!("ok {user}"), "{text}"),
        }
    }
    // A folder in the place of the file, and a file too large for one.
    let folder =
        Login::new("docker", &format!("{here}/a")).file(".docker/config.json/config.json/x", "");
    let outcome = folder.run();
    assert!(
        outcome
            .line
            .starts_with(&format!("error {} ", code("RT_E_IO"))),
        "{outcome:?}"
    );
    let large = " ".repeat((16 << 20) + 1);
    let outcome = Login::new("docker", &format!("{here}/a"))
        .file(".docker/config.json", &large)
        .run();
    assert!(outcome.line.contains("larger than 16 MiB"), "{outcome:?}");
}

/// The number of a constant of the header.
fn code(name: &str) -> i32 {
    let header = include_str!("../include/registry_transport.h");
    let define = format!("#define {name} ");
    let at = header.find(&define).expect(name) + define.len();
    let number: String = header[at..]
        .chars()
        .take_while(|c| !c.is_whitespace())
        .collect();
    number.parse().expect(name)
}

/// Stores are read when they are needed, and again when what they held was refused: by the registry, and by the
/// token service.
#[test]
fn read_again_when_refused() {
    let valid = Arc::new(AtomicUsize::new(1));
    for with_tokens in [false, true] {
        let now = Arc::clone(&valid);
        let right = move |request: &Request| {
            let password = format!("p{}", now.load(Ordering::SeqCst));
            request.basic() == Some(("u".to_owned(), password))
        };
        let server = Server::start(move |request| match (request.path.as_str(), with_tokens) {
            ("/token", _) if right(request) => Answer::ok(r#"{"token":"T","expires_in":1}"#),
            ("/token", _) => Answer::new(401),
            (_, true) if request.bearer() == Some("T") => Answer::ok(r#"{"tags":["t"]}"#).close(),
            (_, true) => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            (_, false) if right(request) => Answer::ok(r#"{"tags":["t"]}"#),
            (_, false) => Answer::challenge("Basic realm=\"r\""),
        });
        let here = server.authority();
        let (folder, path) = file("config.json", b"{}");
        let write = |password: &str| {
            let text = json!({"auths": {&here: {"auth": auth("u", password)}}}).to_string();
            std::fs::write(&path, text).unwrap();
        };
        let make = || {
            let creds = Creds::docker(Some(path.clone()));
            Transport::new(
                &format!("{here}/a/b"),
                Actions::pull(),
                Some(&creds),
                Some(&client::options()),
            )
            .unwrap()
        };
        let tags = |transport: &Transport| Names::tags(transport).next_name(None);
        // Made before there is anything to read.
        std::fs::remove_file(&path).unwrap();
        let transport = make();
        valid.store(1, Ordering::SeqCst);
        write("p1");
        assert_eq!(tags(&transport).unwrap().as_deref(), Some("t"));
        // Somebody logs in anew.
        valid.store(2, Ordering::SeqCst);
        write("p2");
        let transport = if with_tokens { make() } else { transport };
        assert_eq!(
            tags(&transport).unwrap().as_deref(),
            Some("t"),
            "with tokens: {with_tokens}"
        );
        // What is refused and still the same is not sent twice, and is read again by the next call.
        let old = make();
        valid.store(3, Ordering::SeqCst);
        server.clear();
        let error = tags(&old).unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (ErrorKind::Auth, Some(401))
        );
        assert!(server.count() <= 3, "{:#?}", server.lines());
        write("p3");
        assert_eq!(tags(&old).unwrap().as_deref(), Some("t"));
        drop(folder);
    }
}

/// A transport that was used before anybody had logged in gets in with the first call after it, also where those
/// without credentials are given a token that opens nothing; and its source is asked once a call.
#[test]
fn a_login_after_the_first_refusal() {
    let right = |request: &Request| request.basic() == Some(("u".to_owned(), "p".to_owned()));
    for challenge in [
        "Basic realm=\"r\"",
        r#"Bearer realm="/token",service="s""#,
        r#"Bearer realm="/token",service="s",error="invalid_token""#,
        r#"Bearer realm="/token",service="s",scope="repository:a/b:pull",error="insufficient_scope""#,
    ] {
        let server = Server::start(move |request| match request.path.as_str() {
            "/token" if right(request) => Answer::ok(r#"{"token":"T"}"#),
            "/token" => Answer::ok(r#"{"token":"nothing"}"#),
            _ if request.bearer() == Some("T") || right(request) => Answer::ok(r#"{"tags":["t"]}"#),
            _ => Answer::challenge(challenge),
        });
        let logged_in = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(AtomicUsize::new(0));
        let (now, count) = (Arc::clone(&logged_in), Arc::clone(&asked));
        let creds = Creds::callback(Arc::new(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            match now.load(Ordering::SeqCst) {
                0 => Ok(Creds::anonymous()),
                _ => Creds::basic("u", "p"),
            }
        }));
        let name = format!("{}/a/b", server.authority());
        let options = client::options();
        let transport =
            Transport::new(&name, Actions::pull(), Some(&creds), Some(&options)).unwrap();
        let tags = || Names::tags(&transport).next_name(None);
        for call in 1..=3 {
            let error = tags().unwrap_err();
            assert_eq!(error.http_status(), Some(401), "{challenge}: {error}");
            assert!(
                error.message().contains("credentials are needed"),
                "{error}"
            );
            assert_eq!(asked.load(Ordering::SeqCst), call, "{challenge}");
        }
        logged_in.store(1, Ordering::SeqCst);
        assert_eq!(tags().unwrap().as_deref(), Some("t"), "{challenge}");
        assert_eq!(asked.load(Ordering::SeqCst), 4, "{challenge}");
        assert_eq!(tags().unwrap().as_deref(), Some("t"), "{challenge}");
        assert_eq!(asked.load(Ordering::SeqCst), 4, "{challenge}");
    }
}

/// A token service that refuses a password is asked again within the call when the store holds another by then.
#[test]
fn a_password_changed_under_a_transport() {
    let server = Server::start(|request| match (request.path.as_str(), request.bearer()) {
        ("/token", _) => match request.basic().map(|(_, password)| password).as_deref() {
            Some("new") => Answer::ok(r#"{"token":"T2"}"#),
            Some("old") if request.query_params("scope").len() == 1 => {
                Answer::ok(r#"{"token":"T1"}"#)
            }
            _ => Answer::new(401),
        },
        ("/v2/a/b/tags/list", Some(_)) => Answer::ok(r#"{"tags":["t"]}"#),
        (_, Some(_)) if request.method == "HEAD" => Answer::new(404),
        (_, Some("T2")) => Answer::new(201),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let here = server.authority();
    let text =
        |password: &str| json!({"auths": {&here: {"auth": auth("u", password)}}}).to_string();
    let (_folder, path) = file("config.json", text("old").as_bytes());
    let creds = Creds::docker(Some(path.clone()));
    let options = client::options();
    let transport = Transport::new(
        &format!("{here}/a/b"),
        Actions::push(),
        Some(&creds),
        Some(&options),
    )
    .unwrap();
    assert!(Names::tags(&transport).next_name(None).is_ok());
    std::fs::write(&path, text("new")).unwrap();
    // A mount needs another token, for which the old password is no longer good.
    let digest = support::registry::sha256(b"x");
    server.clear();
    let source = registry_transport::source::Source::bytes(*b"x");
    let _ = transport.blob_put(Some(&digest), &source, Some("c/d"), None);
    let passwords: Vec<_> = server
        .requests()
        .iter()
        .filter(|r| r.path == "/token" && r.query_params("scope").len() == 2)
        .filter_map(|r| r.basic().map(|(_, password)| password))
        .collect();
    assert_eq!(passwords, ["old", "new"], "{:#?}", server.lines());
}

/// What a helper is asked, and how.
fn with_helper(server: &Server, script: &str) -> Login {
    let here = server.authority();
    Login::new("docker", &format!("{here}/a"))
        .file(
            ".docker/config.json",
            &format!(r#"{{"credHelpers": {{"{here}": "x"}}}}"#),
        )
        .helper("x", script)
}

/// The hosts a helper has to work in: one that ignores SIGCHLD, one whose handler collects every child, and one
/// that leaves its descriptors open to children.
const HOSTS: [&[&str]; 4] = [&[], &["ignore-sigchld"], &["reap"], &["leak"]];

fn in_hosts(make: impl Fn() -> Login, check: impl Fn(&Outcome, &str)) {
    for host in HOSTS {
        let login = host.iter().fold(make(), |login, what| login.host(what));
        check(&login.run(), &format!("{host:?}"));
    }
}

/// One argument, the registry on standard input without a line end, and no descriptors but the standard ones. It
/// can run programs of its own, whatever the host does about children.
#[test]
fn helpers_are_called_properly() {
    let server = who();
    let here = server.authority();
    let script = r#"
        exec 9>"$HOME/seen"
        printf '%s' "$# $1 [" >&9
        head -c 1000 >&9
        echo "]" >&9
        tr '\0' ' ' </proc/$$/cmdline >&9
        echo >&9
        if [ -e /proc/$$/fd/77 ]; then echo inherited 77 >&9; fi
        (exit 3); echo "child $?" >&9
        printf '{"ServerURL":"x","Username":"helper","Secret":"s"}'
    "#;
    for host in HOSTS {
        let login = with_helper(&server, script);
        let seen = login.home().join("seen");
        let program = login.home().join("helpers/docker-credential-x");
        let folder = tempfile::tempdir().unwrap();
        // The home folder goes with the login: what was seen is kept outside.
        let kept = folder.path().join("seen");
        let login = login.helper("x", &script.replace("$HOME/seen", kept.to_str().unwrap()));
        let login = host.iter().fold(login, |login, what| login.host(what));
        let outcome = login.run();
        assert_eq!(outcome.line, "ok helper", "{host:?}: {}", outcome.log);
        let wanted = format!(
            "1 get [{here}]\n/bin/sh {} get \nchild 3\n",
            program.display()
        );
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), wanted, "{host:?}");
        assert!(!seen.exists());
    }
}

/// "Not found" is no error; everything else that goes wrong is one, and says which program, and nothing of what it
/// said.
#[test]
fn what_helpers_answer() {
    let server = who();
    let answer = r#"printf '{"Username":"helper","Secret":"s"}'"#;
    let auth_error = format!("error {} ", code("RT_E_AUTH"));
    let table = [
        (answer.to_owned(), "ok helper"),
        (format!("echo canary >&2; {answer}"), "ok helper"),
        (
            format!("head -c 1000000 /dev/zero >&2; {answer}"),
            "ok helper",
        ),
        (format!("sleep 60 & {answer}"), "ok helper"),
        (format!("exec 0<&-; {answer}"), "ok helper"),
        (
            "echo credentials not found in native keychain; exit 1".to_owned(),
            "anonymous",
        ),
        ("printf '{}'".to_owned(), "anonymous"),
        (
            "echo credentials not found in native keychain >&2; exit 1".to_owned(),
            "failed",
        ),
        ("echo canary; echo canary >&2; exit 1".to_owned(), "failed"),
        (
            r#"printf '{"Username":"u:canary","Secret":"canary"}'"#.to_owned(),
            "the user name holds a colon",
        ),
        (
            "cat /dev/zero".to_owned(),
            "the answer is longer than 65536 bytes",
        ),
        ("echo canary".to_owned(), "the answer is not JSON"),
        ("exit 0".to_owned(), "the answer is empty"),
        (
            r#"printf '{"Username":"canary"}'"#.to_owned(),
            "the answer does not hold",
        ),
        ("kill -9 $$".to_owned(), "failed"),
    ];
    for (script, wanted) in table {
        in_hosts(
            || with_helper(&server, &script),
            |outcome, host| {
                let shown = format!("{script} in {host}: {outcome:?}");
                match wanted {
                    "ok helper" => assert_eq!(outcome.line, wanted, "{shown}"),
                    "anonymous" => {
                        assert!(outcome.line.contains("401"), "{shown}");
                        assert!(outcome.log.contains("no credentials for"), "{shown}");
                    }
                    why => {
                        assert!(outcome.line.starts_with(&auth_error), "{shown}");
                        assert!(outcome.line.contains("docker-credential-x"), "{shown}");
                        // Where the host takes the exit status away, that it failed is all there is to say.
                        let told = outcome.line.contains(why)
                            || (host != "[]" && outcome.line.contains("failed"));
                        assert!(told, "{shown}");
                        assert!(
                            !shown
                                .split(" in ")
                                .last()
                                .unwrap_or_default()
                                .contains("canary"),
                            "{shown}"
                        );
                    }
                }
            },
        );
    }
    let here = server.authority();
    let missing = Login::new("docker", &format!("{here}/a"))
        .file(".docker/config.json", r#"{"credsStore": "nowhere"}"#)
        .run();
    assert!(
        missing
            .line
            .contains("docker-credential-nowhere is not in PATH"),
        "{missing:?}"
    );
    for host in ["leak", "ignore-sigchld", "reap"] {
        let broken = with_helper(&server, "");
        let program = broken.home().join("helpers/docker-credential-x");
        write_program(&program, "#!/nonexistent/interpreter\n");
        let outcome = broken.host(host).run();
        assert!(
            outcome
                .line
                .contains("docker-credential-x: cannot be started"),
            "{host}: {outcome:?}"
        );
    }
}

/// A helper that does not come to an end is ended with the call: by its time limit, and when it is cancelled.
#[test]
fn helpers_are_stopped() {
    let server = who();
    let folder = tempfile::tempdir().unwrap();
    let noted = folder.path().join("process");
    let script = format!("echo $$ >{}; exec sleep 600", noted.display());
    in_hosts(
        || with_helper(&server, &script).option("timeout-ms", "300"),
        |outcome, host| {
            let timeout = format!("error {} ", code("RT_E_TIMEOUT"));
            assert!(outcome.line.starts_with(&timeout), "{host}: {outcome:?}");
            let process = std::fs::read_to_string(&noted).unwrap();
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.trim()));
            let is_over = stat.as_ref().map_or(true, |stat| stat.contains(") Z "));
            assert!(is_over, "{host}: the helper still runs: {stat:?}");
        },
    );
    // Its output stays open in a process that it left behind: its own end is what counts.
    let began = Instant::now();
    let left = with_helper(
        &server,
        r#"sleep 600 & printf '{"Username":"helper","Secret":"s"}'"#,
    )
    .run();
    assert_eq!(left.line, "ok helper");
    assert!(began.elapsed() < Duration::from_secs(60));
}
