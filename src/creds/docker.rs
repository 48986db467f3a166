//! Docker's `config.json`: `credHelpers`, `credsStore` and `auths`.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::entry::{self, Found, Json, Keeper, Place};
use super::env::Env;
use super::{Credential, helper};
use crate::error::{Error, ErrorKind, Result};
use crate::file::open_at_once;
use crate::secret::Secret;

/// Largest file that is read.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// Credentials as `docker login` keeps them.
///
/// Only names of places are kept; the file is read at each look-up. `Debug` tells stores apart without showing
/// what is in the environment.
#[derive(Clone)]
pub struct Store {
    file: Option<PathBuf>,
    variable: Option<Secret>,
    search: Option<OsString>,
}

impl Store {
    /// The credentials in the file `path`, or in `config.json` in the folder `path`.
    ///
    /// `None`: those in `DOCKER_AUTH_CONFIG`, then in `$DOCKER_CONFIG/config.json` or, when that is not set,
    /// `$HOME/.docker/config.json`. `DOCKER_AUTH_CONFIG` holds the text of such a file, of which only `auths`
    /// counts. It is passed over when it is not JSON.
    pub fn new(path: Option<PathBuf>, env: &Env) -> Self {
        let search = env.get("PATH").map(OsStr::to_owned);
        if path.is_some() {
            return Self {
                file: path,
                variable: None,
                search,
            };
        }
        let folder = env
            .path("DOCKER_CONFIG")
            .or_else(|| Some(env.path("HOME")?.join(".docker")));
        Self {
            file: folder.map(|folder| folder.join("config.json")),
            variable: env
                .get(VARIABLE)
                .map(|text| Secret::new(text.to_string_lossy())),
            search,
        }
    }

    /// The credentials for `registry` (a host with or without port; Docker Hub by any of its names) and, when it
    /// is given, a repository there. [`Credential::Anonymous`] when there are none or there is no file.
    ///
    /// `credHelpers` goes before `credsStore`, and both before `auths`, which is also asked when the
    /// `credsStore` has nothing. A helper gets 30 s, if `deadline` is not earlier, and is stopped within 50 ms
    /// once `cancelled` says so.
    ///
    /// # Errors
    /// [`Io`](crate::error::ErrorKind::Io) for a file that cannot be read,
    /// [`Timeout`](crate::error::ErrorKind::Timeout) and [`Cancelled`](crate::error::ErrorKind::Cancelled) for a
    /// helper that was stopped, and [`Auth`](crate::error::ErrorKind::Auth) for what is wrong in the file or
    /// with the helper. An entry that is wrong fails only the look-ups that come to it.
    pub fn lookup(
        &self,
        registry: &str,
        repository: Option<&str>,
        deadline: Instant,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Credential, Found)> {
        self.lookup_as(&Question {
            registry,
            repository,
            search: self.search.as_deref(),
            deadline,
            cancelled,
            keeper: Keeper::Docker,
        })
    }

    /// The same in the way of another program.
    pub(super) fn lookup_as(&self, question: &Question<'_>) -> Result<(Credential, Found)> {
        let mut remark = String::new();
        if let Some(text) = &self.variable {
            match question.variable(text)? {
                Ok((Credential::Anonymous, _)) => {}
                Ok(answer) => return Ok(answer),
                Err(reason) => remark = format!(" ({VARIABLE} was passed over: {reason})"),
            }
        }
        let (credential, mut found) = match &self.file {
            Some(path) => question.file(path, "config.json")?,
            None => nothing("no config.json: neither DOCKER_CONFIG nor HOME is set"),
        };
        found.source.push_str(&remark);
        Ok((credential, found))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With a key that nobody knows, the sum cannot be used to guess the text.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let sum = |text: &Secret| KEY.get_or_init(RandomState::new).hash_one(text.expose());
        f.debug_struct("Store")
            .field("file", &self.file)
            .field("variable", &self.variable.as_ref().map(sum))
            .field("search", &self.search)
            .finish()
    }
}

fn nothing(source: impl Into<String>) -> (Credential, Found) {
    (Credential::Anonymous, Found::said(source))
}

/// One look-up.
pub(super) struct Question<'a> {
    pub(super) registry: &'a str,
    pub(super) repository: Option<&'a str>,
    /// `PATH`.
    pub(super) search: Option<&'a OsStr>,
    pub(super) deadline: Instant,
    pub(super) cancelled: &'a dyn Fn() -> bool,
    pub(super) keeper: Keeper,
}

impl Question<'_> {
    /// Looks into the file `path`, or the file `name` in the folder `path`.
    pub(super) fn file(&self, path: &Path, name: &str) -> Result<(Credential, Found)> {
        let folder_file = path.is_dir().then(|| path.join(name));
        let path = folder_file.as_deref().unwrap_or(path);
        let place = Place::File(path);
        let Some(bytes) = read_file(path)? else {
            return Ok(nothing(format!("no file {place}")));
        };
        let Some(json) = Json::parse(&bytes).map_err(|reason| self.failed(&place, &reason))? else {
            return Ok(nothing(format!("{place} is empty")));
        };
        // The file of Docker before 1.7 is what now is the value of "auths".
        if path.file_name() == Some(OsStr::new(".dockercfg")) {
            let auths = object(Some(&json.0)).map_err(|reason| self.failed(&place, reason))?;
            return self.auths(place, "", auths);
        }
        let top = object(Some(&json.0)).map_err(|reason| self.failed(&place, reason))?;
        let section = |name: &str| {
            object(top.and_then(|top| entry::named(top, name)))
                .map_err(|reason| self.failed(&format_args!("{place} {name}"), reason))
        };
        let (helpers, auths) = (section("credHelpers")?, section("auths")?);
        let store = match top.and_then(|top| entry::named(top, "credsStore")) {
            None | Some(Value::Null) => None,
            Some(Value::String(store)) => Some(store.as_str()).filter(|store| !store.is_empty()),
            Some(_) => {
                return Err(self.failed(&format_args!("{place} credsStore"), "not a string"));
            }
        };
        // Helpers are asked for registries; a key with a path has no meaning here.
        for (key, value) in helpers
            .map(|map| entry::covering(map, self.registry, None))
            .unwrap_or_default()
        {
            let key = format!("credHelpers[\"{key}\"]");
            match value {
                Value::Null => {}
                Value::String(name) if name.is_empty() => {}
                Value::String(name) => return self.helper(place, &key, name),
                _ => return Err(self.failed(&format_args!("{place} {key}"), "not a string")),
            }
        }
        let ask_store = || match store {
            Some(name) => self.helper(place, "credsStore", name).map(Some),
            None => Ok(None),
        };
        let ask_auths = || self.auths(place, "auths", auths);
        match self.keeper {
            Keeper::Docker => match ask_store()? {
                None | Some((Credential::Anonymous, _)) => ask_auths(),
                Some(answer) => Ok(answer),
            },
            // podman knows no such store: it is asked last, and no entry is lost to one that does not work.
            Keeper::Podman => match ask_auths()? {
                (nothing @ Credential::Anonymous, mut found) => match ask_store() {
                    Ok(answer) => Ok(answer.unwrap_or((nothing, found))),
                    Err(e) if e.kind() == ErrorKind::Auth => {
                        found
                            .source
                            .push_str(&format!(" (credsStore was passed over: {e})"));
                        Ok((nothing, found))
                    }
                    Err(e) => Err(e),
                },
                answer => Ok(answer),
            },
        }
    }

    /// Looks into the text of `DOCKER_AUTH_CONFIG`. The inner error says why it cannot be used.
    fn variable(&self, text: &Secret) -> Result<Result<(Credential, Found), String>> {
        let json = match Json::parse(text.expose().as_bytes()) {
            Ok(Some(json)) => json,
            Ok(None) => return Ok(Ok(nothing(format!("{VARIABLE} is empty")))),
            Err(reason) => return Ok(Err(reason)),
        };
        match object(Some(&json.0))
            .and_then(|top| object(top.and_then(|top| entry::named(top, "auths"))))
        {
            Ok(auths) => self
                .auths(Place::Variable(VARIABLE), "auths", auths)
                .map(Ok),
            Err(reason) => Ok(Err(reason.to_owned())),
        }
    }

    fn auths(
        &self,
        place: Place<'_>,
        member: &str,
        auths: Option<&Map<String, Value>>,
    ) -> Result<(Credential, Found)> {
        let entries = auths
            .map(|map| entry::covering(map, self.registry, self.repository))
            .unwrap_or_default();
        for (key, value) in entries {
            let found = place.found(&format!("{member}[\"{key}\"]"));
            if let Some(credential) =
                entry::read(value).map_err(|fault| self.failed(&found.source, fault))?
            {
                return Ok((credential, found));
            }
        }
        Ok(nothing(format!(
            "{place} has nothing for {}",
            self.registry
        )))
    }

    /// Asks a helper that `key` of a place names.
    pub(super) fn helper(
        &self,
        place: Place<'_>,
        key: &str,
        name: &str,
    ) -> Result<(Credential, Found)> {
        let found = place.found_by(key, &format!("docker-credential-{name}"));
        let mut failure = None;
        for server in self.keeper.keys(&self.registry) {
            match helper::get(name, server, self.search, self.deadline, self.cancelled) {
                Ok(Some(credential)) => return Ok((credential, found)),
                Ok(None) => {}
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        match failure {
            Some(e) => Err(e
                .context(format_args!("{place} {key}"))
                .context(format!("credentials for {}", self.registry))),
            None => Ok(nothing(format!(
                "{} has nothing for {}",
                found.source, self.registry
            ))),
        }
    }

    pub(super) fn failed(&self, place: &dyn fmt::Display, reason: &str) -> Error {
        Error::auth(format!(
            "credentials for {}: {place}: {reason}",
            self.registry
        ))
    }
}

fn object(value: Option<&Value>) -> Result<Option<&Map<String, Value>>, entry::Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err("not a JSON object"),
    }
}

/// All of a file; `None` when there is none. Never waits, whatever the path leads to.
fn read_file(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let failed = |e: io::Error| {
        Error::io(format!(
            "credentials file {} cannot be read: {e}",
            path.display()
        ))
        .with_os_code(e.raw_os_error())
    };
    let file = match open_at_once(path) {
        Ok(file) => file,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(failed(e)),
    };
    let size = file.metadata().map_err(failed)?.len().min(FILE_LIMIT);
    // Room for all of it at once: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 64));
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(Error::auth(format!(
            "credentials file {} is larger than 16 MiB",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::creds::entry::tests::show;
    use crate::creds::helper::tests::{add_helper, helper};
    use crate::error::ErrorKind;
    use std::time::Duration;
    use tempfile::TempDir;

    fn look(
        store: &Store,
        registry: &str,
        repository: Option<&str>,
    ) -> Result<(Credential, Found)> {
        store.lookup(
            registry,
            repository,
            Instant::now() + Duration::from_secs(20),
            &|| false,
        )
    }

    /// A folder with this config.json.
    fn config(text: impl AsRef<[u8]>) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), text).unwrap();
        folder
    }

    /// The credential, or the error, in words; "@" stands for the folder of the file.
    fn told(folder: &TempDir, result: Result<(Credential, Found)>) -> String {
        match result {
            Ok((credential, _)) => show(&credential),
            Err(e) => e
                .to_string()
                .replace(&folder.path().display().to_string(), "@"),
        }
    }

    #[test]
    fn d64_files() {
        let auths = "credentials for r.io: @/config.json auths";
        let table = [
            (r#"{"auths":{"r.io":{"auth":"dTpw"}}}"#, "basic u:p".to_owned()),
            ("\u{feff}{\"auths\":{\"r.io\":{\"auth\":\"dTpw\"}}}", "basic u:p".to_owned()),
            (r#"{"HttpHeaders":{},"auths":{"r.io":{"auth":"dTpw"}},"psFormat":"x"}"#, "basic u:p".to_owned()),
            ("", "anonymous".to_owned()),
            (" \n", "anonymous".to_owned()),
            ("null", "anonymous".to_owned()),
            ("{}", "anonymous".to_owned()),
            (r#"{"auths":null,"credHelpers":null,"credsStore":null}"#, "anonymous".to_owned()),
            (r#"{"auths":{},"credHelpers":{},"credsStore":""}"#, "anonymous".to_owned()),
            (r#"{"auths":{"r.io":{}}}"#, "anonymous".to_owned()),
            (r#"{"auths":{"r.io":{},"https://r.io":{"auth":"dTpw"}}}"#, "basic u:p".to_owned()),
            (r#"{"credHelpers":{"r.io":""},"auths":{"r.io":{"auth":"dTpw"}}}"#, "basic u:p".to_owned()),
            (r#"{"credHelpers":{"r.io":null},"auths":{"r.io":{"auth":"dTpw"}}}"#, "basic u:p".to_owned()),
            (r#"{"credHelpers":{"r.io/a":"x","q.io":"x"},"auths":{"r.io":{"auth":"dTpw"}}}"#, "basic u:p".to_owned()),
            (r#"{"credHelpers":{"q.io":7},"auths":{"q.io":1,"r.io":{"auth":"dTpw"}}}"#, "basic u:p".to_owned()),
            (r#"{"auths":{"q.io":{"auth":"bad-auth-bad"},"r.io":{"auth":"dTpw"}}}"#, "basic u:p".to_owned()),
            (r#"{"auths":{"r.io":{"auth":"bad-auth-bad"}}}"#, format!("{auths}[\"r.io\"]: \"auth\" is not base64")),
            (r#"{"auths":{"https://r.io":5}}"#, format!("{auths}[\"https://r.io\"]: the entry is not a JSON object")),
            (r#"{"auths":[]}"#, format!("{auths}: not a JSON object")),
            (r#"{"credHelpers":"x"}"#, "credentials for r.io: @/config.json credHelpers: not a JSON object".to_owned()),
            (r#"{"credsStore":{}}"#, "credentials for r.io: @/config.json credsStore: not a string".to_owned()),
            (
                r#"{"credHelpers":{"r.io":7}}"#,
                "credentials for r.io: @/config.json credHelpers[\"r.io\"]: not a string".to_owned(),
            ),
            (
                r#"{"credsStore":"a/../b"}"#,
                "credentials for r.io: @/config.json credsStore: the name of a credential helper takes only letters, \
                 digits, '.', '_' and '-'"
                    .to_owned(),
            ),
            (
                r#"{"credsStore":"none"}"#,
                "credentials for r.io: @/config.json credsStore: docker-credential-none is not in PATH; install it or \
                 remove it from the file"
                    .to_owned(),
            ),
            (r#""x""#, "credentials for r.io: @/config.json: not a JSON object".to_owned()),
            ("// c\n{}", "credentials for r.io: @/config.json: not JSON (line 1, column 1)".to_owned()),
            // A file of before 1.7 under today's name is not one.
            (r#"{"r.io":{"auth":"dTpw"}}"#, "anonymous".to_owned()),
        ];
        let search = tempfile::tempdir().unwrap();
        let env = Env::from_pairs([("PATH", search.path())]);
        for (text, expected) in table {
            let folder = config(text);
            for path in [folder.path().to_owned(), folder.path().join("config.json")] {
                let store = Store::new(Some(path), &env);
                assert_eq!(
                    told(&folder, look(&store, "r.io", Some("team/app"))),
                    expected,
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn k27_helpers_before_store_before_auths() {
        let folder = helper(r#"printf '{"Username":"x","Secret":"%s"}' "$(cat)""#);
        add_helper(
            folder.path(),
            "y",
            r#"printf '{"Username":"y","Secret":"%s"}' "$(cat)""#,
        );
        add_helper(
            folder.path(),
            "none",
            "echo credentials not found in native keychain; exit 1",
        );
        add_helper(folder.path(), "bad", "echo canary; echo canary >&2; exit 1");
        std::fs::write(
            folder.path().join("config.json"),
            r#"{
                "credHelpers": {
                    "r.io": "x", "https://url.io/v2/": "x", "none.io": "none", "bad.io": "bad", "empty.io": "",
                    "https://index.docker.io/v1/": "x"
                },
                "credsStore": "y",
                "auths": {"r.io": {"auth": "YTph"}, "none.io": {"auth": "YTph"}, "empty.io": {"auth": "YTph"}}
            }"#,
        )
        .unwrap();
        let bad = "credentials for bad.io: @/config.json credHelpers[\"bad.io\"]: docker-credential-bad: failed, exit \
                   status: 1";
        let table = [
            ("r.io", "basic x:r.io"),
            ("url.io", "basic x:url.io"),
            ("index.docker.io", "basic x:https://index.docker.io/v1/"),
            ("other.io:5000", "basic y:other.io:5000"),
            ("empty.io", "basic y:empty.io"),
            // What is named for one registry has the last word.
            ("none.io", "anonymous"),
            ("bad.io", bad),
        ];
        let env = Env::from_pairs([("PATH", folder.path())]);
        let store = Store::new(Some(folder.path().to_owned()), &env);
        for (registry, expected) in table {
            assert_eq!(
                told(&folder, look(&store, registry, Some("team/app"))),
                expected,
                "{registry}"
            );
        }
        let source = look(&store, "r.io", None).unwrap().1.source;
        let file = folder.path().join("config.json");
        assert_eq!(
            source,
            format!(
                "docker-credential-x ({} credHelpers[\"r.io\"])",
                file.display()
            )
        );
    }

    #[test]
    fn a_store_that_has_nothing_leaves_it_to_auths() {
        let folder = helper("echo credentials not found in native keychain; exit 1");
        let file = folder.path().join("config.json");
        std::fs::write(
            &file,
            r#"{"credsStore":"x","auths":{"r.io":{"auth":"dTpw"}}}"#,
        )
        .unwrap();
        let store = Store::new(
            Some(file.clone()),
            &Env::from_pairs([("PATH", folder.path())]),
        );
        let (credential, found) = look(&store, "r.io", None).unwrap();
        assert_eq!(show(&credential), "basic u:p");
        assert_eq!(found.source, format!("{} auths[\"r.io\"]", file.display()));
        let (credential, found) = look(&store, "q.io", None).unwrap();
        assert_eq!(credential, Credential::Anonymous);
        assert_eq!(
            found.source,
            format!("{} has nothing for q.io", file.display())
        );
    }

    #[test]
    fn the_longest_path_wins() {
        let folder = config(
            r#"{"auths":{"r.io":{"auth":"cjpy"},"r.io/a":{},"r.io/a/b":{"auth":"Ygo6Yg=="},"r.io/c":{"auth":"Yzpj"}}}"#,
        );
        let store = Store::new(Some(folder.path().to_owned()), &Env::default());
        let fault = "credentials for r.io: @/config.json auths[\"r.io/a/b\"]: the user name holds a control character, \
                     such as a line end";
        let table = [
            (None, "basic r:r"),
            (Some("x"), "basic r:r"),
            (Some("a/x"), "basic r:r"),
            (Some("a/b/x"), fault),
            (Some("c"), "basic c:c"),
            (Some("c/d/e"), "basic c:c"),
        ];
        for (repository, expected) in table {
            assert_eq!(
                told(&folder, look(&store, "r.io", repository)),
                expected,
                "{repository:?}"
            );
        }
    }

    #[test]
    fn places() {
        let own = config(r#"{"auths":{"r.io":{"auth":"b3duOm93bg=="}}}"#);
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".docker")).unwrap();
        let text = r#"{"auths":{"r.io":{"auth":"aG9tZTpob21l"},"q.io":{"auth":"aG9tZTpob21l"}}}"#;
        std::fs::write(home.path().join(".docker/config.json"), text).unwrap();
        let text = r#"{"auths":{"r.io":{"auth":"ZW52OmVudg=="},"x.io":{"auth":"eDo6"}},"credsStore":"never"}"#;
        let variable = (VARIABLE, text);
        let none = ("", "");
        let (own, home) = (own.path().to_str().unwrap(), home.path().to_str().unwrap());
        let table = [
            (None, [none, none, none], "anonymous"),
            (None, [("HOME", home), none, none], "basic home:home"),
            (
                None,
                [("HOME", home), ("DOCKER_CONFIG", ""), none],
                "basic home:home",
            ),
            (
                None,
                [("HOME", home), ("DOCKER_CONFIG", own), none],
                "basic own:own",
            ),
            (
                None,
                [("HOME", home), ("DOCKER_CONFIG", "/nonexistent"), none],
                "anonymous",
            ),
            (
                None,
                [("HOME", home), ("DOCKER_CONFIG", own), variable],
                "basic env:env",
            ),
            (
                None,
                [("HOME", home), none, (VARIABLE, "{}")],
                "basic home:home",
            ),
            (
                None,
                [("HOME", home), none, (VARIABLE, "\n")],
                "basic home:home",
            ),
            (
                None,
                [
                    ("HOME", home),
                    none,
                    (VARIABLE, r#"{"auths":{"r.io":{"auth":"YTph"}}}{}"#),
                ],
                "basic home:home",
            ),
            (
                None,
                [("HOME", home), none, (VARIABLE, "[]")],
                "basic home:home",
            ),
            (
                Some(own),
                [("HOME", home), ("DOCKER_CONFIG", home), variable],
                "basic own:own",
            ),
        ];
        for (path, env, expected) in table {
            let store = Store::new(path.map(PathBuf::from), &Env::from_pairs(env));
            let (credential, _) = look(&store, "r.io", None).unwrap();
            assert_eq!(show(&credential), expected, "{path:?} {env:?}");
        }
        let store = Store::new(None, &Env::from_pairs([("HOME", home), variable]));
        assert_eq!(
            show(&look(&store, "q.io", None).unwrap().0),
            "basic home:home"
        );
        assert_eq!(
            look(&store, "r.io", None).unwrap().1.source,
            "DOCKER_AUTH_CONFIG auths[\"r.io\"]"
        );

        let store = Store::new(
            None,
            &Env::from_pairs([("HOME", home), (VARIABLE, "{canary")]),
        );
        let source = look(&store, "r.io", None).unwrap().1.source;
        let remark = "(DOCKER_AUTH_CONFIG was passed over: not JSON (line 1, column 2))";
        assert_eq!(
            source,
            format!("{home}/.docker/config.json auths[\"r.io\"] {remark}")
        );
    }

    #[test]
    fn odd_paths() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "{}").unwrap();
        std::fs::write(at("big"), vec![b' '; 16 * 1024 * 1024]).unwrap();
        std::fs::write(at("too big"), vec![b' '; 16 * 1024 * 1024 + 1]).unwrap();
        std::fs::write(
            at(".dockercfg"),
            r#"{"https://r.io/v1/":{"auth":"dTpw","email":"x@y"}}"#,
        )
        .unwrap();
        std::fs::create_dir_all(at("folder/config.json")).unwrap();
        let table = [
            (at("none"), Ok("anonymous")),
            (at("file/config.json"), Ok("anonymous")),
            (at("big"), Ok("anonymous")),
            (at(".dockercfg"), Ok("basic u:p")),
            (PathBuf::from("/dev/null"), Ok("anonymous")),
            (at("too big"), Err((ErrorKind::Auth, None))),
            (PathBuf::from("/dev/zero"), Err((ErrorKind::Auth, None))),
            (at("folder"), Err((ErrorKind::Io, Some(libc::EISDIR)))),
        ];
        for (path, expected) in table {
            let store = Store::new(Some(path.clone()), &Env::default());
            let told = look(&store, "r.io", None).map(|(credential, _)| show(&credential));
            let told = told.as_deref().map_err(|e| (e.kind(), e.os_code()));
            assert_eq!(told, expected, "{}", path.display());
        }
    }

    #[test]
    fn files_are_read_at_each_look_up() {
        let folder = config("{}");
        let store = Store::new(Some(folder.path().to_owned()), &Env::default());
        assert_eq!(look(&store, "r.io", None).unwrap().0, Credential::Anonymous);
        std::fs::write(
            folder.path().join("config.json"),
            r#"{"auths":{"r.io":{"auth":"dTpw"}}}"#,
        )
        .unwrap();
        assert_eq!(show(&look(&store, "r.io", None).unwrap().0), "basic u:p");
    }

    #[test]
    fn debug_tells_stores_apart_and_no_secrets() {
        let store = |text: &str| {
            format!(
                "{:?}",
                Store::new(None, &Env::from_pairs([(VARIABLE, text)]))
            )
        };
        assert_eq!(store("canary 1"), store("canary 1"));
        assert_ne!(store("canary 1"), store("canary 2"));
        assert!(!store("canary 1").contains("canary"));
    }

    /// What is told of the place apart from its text.
    #[test]
    fn parts_of_a_place() {
        let folder = helper(r#"printf '{"Username":"u","Secret":"p"}'"#);
        std::fs::write(
            folder.path().join("config.json"),
            r#"{"credHelpers":{"h.io":"x"},"credsStore":"x","auths":{"a.io/b":{"auth":"dTpw"}}}"#,
        )
        .unwrap();
        let env = [
            ("DOCKER_CONFIG", folder.path().to_str().unwrap()),
            ("PATH", folder.path().to_str().unwrap()),
            (
                "DOCKER_AUTH_CONFIG",
                r#"{"auths":{"v.io":{"auth":"dTpw"}}}"#,
            ),
        ];
        let store = Store::new(None, &Env::from_pairs(env));
        let file = Some(folder.path().join("config.json"));
        for (registry, file, variable, key, helper) in [
            (
                "h.io",
                file.clone(),
                None,
                Some("credHelpers[\"h.io\"]"),
                Some("docker-credential-x"),
            ),
            (
                "s.io",
                file.clone(),
                None,
                Some("credsStore"),
                Some("docker-credential-x"),
            ),
            (
                "v.io",
                None,
                Some("DOCKER_AUTH_CONFIG"),
                Some("auths[\"v.io\"]"),
                None,
            ),
        ] {
            let (_, found) = look(&store, registry, None).unwrap();
            let told = (
                found.file,
                found.variable,
                found.key.as_deref(),
                found.helper.as_deref(),
            );
            assert_eq!(told, (file, variable, key, helper), "{registry}");
        }
    }
}
