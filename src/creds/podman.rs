//! `auth.json` of podman, skopeo and buildah (containers-auth.json(5)).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Credential;
use super::docker::{self, Question};
use super::entry::{Found, Keeper, Place};
use super::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::registries_conf::{AUTH_FILES, Places};

/// Credentials as `podman login` keeps them.
///
/// The files have the members of Docker's `config.json`, each file with its own `credHelpers`. Only names of
/// places are kept; the files are read at each look-up.
#[derive(Debug, Clone)]
pub struct Store {
    files: Vec<PathBuf>,
    docker: Option<docker::Store>,
    /// Where `registries.conf` is, which may name helpers.
    conf: Option<Places>,
    search: Option<OsString>,
}

impl Store {
    /// The credentials in the file `path`, or in `auth.json` in the folder `path`, and nowhere else.
    ///
    /// `None`: those in the file `$REGISTRY_AUTH_FILE` and nowhere else. When that is not set either,
    /// `$XDG_RUNTIME_DIR/containers/auth.json` (without the variable `/run/containers/UID/auth.json`),
    /// `$XDG_CONFIG_HOME/containers/auth.json` (without the variable `$HOME/.config/containers/auth.json`), and
    /// where [`docker::Store`] looks by default. The first place that has credentials wins.
    ///
    /// Without `path`, `registries.conf` may name helpers as `credential-helpers` (containers-registries.conf(5)):
    /// they are asked in their order, and `containers-auth.json` among them stands for the files above. That is
    /// `$CONTAINERS_REGISTRIES_CONF`, the user's or `/etc/containers/registries.conf`, and what was dropped beside.
    pub fn new(path: Option<PathBuf>, env: &Env) -> Self {
        let search = env.get("PATH").map(OsStr::to_owned);
        let conf = match path {
            Some(_) => None,
            None => Some(Places::of(|name| env.get(name).map(OsStr::to_owned))),
        };
        if let Some(path) = path.or_else(|| env.path("REGISTRY_AUTH_FILE")) {
            return Self {
                files: vec![path],
                docker: None,
                conf,
                search,
            };
        }
        let runtime = env
            .path("XDG_RUNTIME_DIR")
            .map(|folder| folder.join("containers"));
        let runtime = runtime.unwrap_or_else(|| {
            Path::new("/run/containers").join(rustix::process::getuid().as_raw().to_string())
        });
        let config = env
            .path("XDG_CONFIG_HOME")
            .or_else(|| Some(env.path("HOME")?.join(".config")));
        let config = config.map(|folder| folder.join("containers"));
        let folders = [Some(runtime), config].into_iter().flatten();
        Self {
            files: folders.map(|folder| folder.join("auth.json")).collect(),
            docker: Some(docker::Store::new(None, env)),
            conf,
            search,
        }
    }

    /// The credentials for a registry and, when it is given, a repository there, as
    /// [`docker::Store::lookup`] finds them in one file, but that a `credsStore` is asked last and may fail: podman
    /// knows none.
    ///
    /// # Errors
    /// Those of [`docker::Store::lookup`]. A file that is wrong is not passed over, but where `registries.conf` names
    /// several helpers, one that fails is if another has something.
    pub fn lookup(
        &self,
        registry: &str,
        repository: Option<&str>,
        deadline: Instant,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(Credential, Found)> {
        let question = Question {
            registry,
            repository,
            search: self.search.as_deref(),
            deadline,
            cancelled,
            keeper: Keeper::Podman,
        };
        let told = match &self.conf {
            None => None,
            Some(places) => places.credential_helpers().map_err(|e| match e.kind() {
                ErrorKind::Syntax => {
                    Error::auth(e.message()).context(format_args!("credentials for {registry}"))
                }
                _ => e,
            })?,
        };
        let Some((helpers, file)) = told else {
            return self.auth_files(&question);
        };
        let (mut looked, mut failure) = (Vec::new(), None);
        for name in &helpers {
            let answer = if name == AUTH_FILES {
                self.auth_files(&question)
            } else {
                question.helper(Place::File(&file), "credential-helpers", name)
            };
            match answer {
                Ok((Credential::Anonymous, found)) => looked.push(found.source),
                Err(e) if !matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Timeout) => {
                    failure.get_or_insert(e);
                }
                other => return other,
            }
        }
        match failure {
            Some(e) => Err(e),
            None => Ok((Credential::Anonymous, Found::said(looked.join("; ")))),
        }
    }

    /// What the files have.
    fn auth_files(&self, question: &Question<'_>) -> Result<(Credential, Found)> {
        let mut looked = Vec::new();
        for file in &self.files {
            match question.file(file, "auth.json")? {
                (Credential::Anonymous, found) => looked.push(found.source),
                answer => return Ok(answer),
            }
        }
        if let Some(docker) = &self.docker {
            match docker.lookup_as(question)? {
                (Credential::Anonymous, found) => looked.push(found.source),
                answer => return Ok(answer),
            }
        }
        Ok((Credential::Anonymous, Found::said(looked.join("; "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::creds::entry::tests::show;
    use crate::creds::helper::tests::{add_helper, helper};
    use std::time::Duration;

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

    fn write(folder: &Path, name: &str, text: &str) -> String {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    #[test]
    fn places_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        let explicit = write(
            base,
            "explicit.json",
            r#"{"auths":{"e.io":{"auth":"ZTpl"}}}"#,
        );
        let other = write(base, "other.json", r#"{"auths":{"o.io":{"auth":"bzpv"}}}"#);
        write(
            base,
            "run/containers/auth.json",
            r#"{"auths":{"r.io":{"auth":"cjpy"},"c.io":{}}}"#,
        );
        let all = r#"{"auths":{"r.io":{"auth":"Yzpj"},"c.io":{"auth":"Yzpj"},"d.io":{}}}"#;
        write(base, "config/containers/auth.json", all);
        write(
            base,
            "home/.config/containers/auth.json",
            r#"{"auths":{"h.io":{"auth":"aDpo"}}}"#,
        );
        let all =
            r#"{"auths":{"r.io":{"auth":"ZDpk"},"c.io":{"auth":"ZDpk"},"d.io":{"auth":"ZDpk"}}}"#;
        write(base, "home/.docker/config.json", all);
        let at = |name: &str| base.join(name).to_str().unwrap().to_owned();
        let usual = [
            ("XDG_RUNTIME_DIR", at("run")),
            ("XDG_CONFIG_HOME", at("config")),
            ("HOME", at("home")),
        ];
        let with = |name: &'static str, value: &str| {
            let mut all = usual.to_vec();
            all.push((name, value.to_owned()));
            all
        };
        let table = [
            (None, usual.to_vec(), "r.io", "basic r:r"),
            (None, usual.to_vec(), "c.io", "basic c:c"),
            (None, usual.to_vec(), "d.io", "basic d:d"),
            (None, usual.to_vec(), "h.io", "anonymous"),
            (None, with("XDG_CONFIG_HOME", ""), "h.io", "basic h:h"),
            (
                None,
                with("REGISTRY_AUTH_FILE", &other),
                "o.io",
                "basic o:o",
            ),
            (
                None,
                with("REGISTRY_AUTH_FILE", &other),
                "r.io",
                "anonymous",
            ),
            (
                None,
                with("REGISTRY_AUTH_FILE", "/dev/null"),
                "r.io",
                "anonymous",
            ),
            (
                Some(&explicit),
                with("REGISTRY_AUTH_FILE", &other),
                "e.io",
                "basic e:e",
            ),
            (
                Some(&explicit),
                with("REGISTRY_AUTH_FILE", &other),
                "o.io",
                "anonymous",
            ),
            (
                Some(&at("run/containers")),
                usual.to_vec(),
                "r.io",
                "basic r:r",
            ),
            (None, Vec::new(), "r.io", "anonymous"),
        ];
        for (path, env, registry, expected) in table {
            let shown = format!("{path:?} {env:?} {registry}");
            let store = Store::new(path.map(PathBuf::from), &Env::from_pairs(env));
            assert_eq!(
                show(&look(&store, registry, None).unwrap().0),
                expected,
                "{shown}"
            );
        }

        let store = Store::new(None, &Env::from_pairs(usual));
        let found = look(&store, "x.io", None).unwrap().1.source;
        assert_eq!(found.matches("has nothing for x.io").count(), 3, "{found}");

        write(base, "config/containers/auth.json", "{");
        assert_eq!(show(&look(&store, "r.io", None).unwrap().0), "basic r:r");
        assert!(
            look(&store, "d.io", None).is_err(),
            "a broken file is not passed over"
        );
    }

    #[test]
    fn without_a_runtime_folder() {
        let store = Store::new(None, &Env::default());
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(
            store.files,
            [PathBuf::from(format!("/run/containers/{uid}/auth.json"))]
        );
    }

    #[test]
    fn each_file_has_its_own_helpers() {
        let folder = helper("echo credentials not found in native keychain; exit 1");
        add_helper(
            folder.path(),
            "y",
            r#"printf '{"Username":"<token>","Secret":"t"}'"#,
        );
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        write(
            folder.path(),
            "run/containers/auth.json",
            r#"{"credHelpers":{"r.io":"x"}}"#,
        );
        write(
            folder.path(),
            "config/containers/auth.json",
            r#"{"credHelpers":{"r.io":"y"}}"#,
        );
        let env = [
            ("XDG_RUNTIME_DIR", at("run")),
            ("XDG_CONFIG_HOME", at("config")),
            ("PATH", at("")),
        ];
        let store = Store::new(None, &Env::from_pairs(env));
        assert_eq!(show(&look(&store, "r.io", None).unwrap().0), "identity t");
    }

    /// podman keeps Docker Hub under its short name, docker under a URL.
    #[test]
    fn helpers_for_docker_hub() {
        let under = |key: &str| {
            format!(
                r#"[ "$(cat)" = {key} ] && printf '{{"Username":"u","Secret":"%s"}}' {key} && exit
                   echo credentials not found in native keychain; exit 1"#
            )
        };
        let folder = helper(&under("docker.io"));
        let path = folder.path();
        add_helper(path, "url", &under("https://index.docker.io/v1/"));
        let env = Env::from_pairs([("PATH", path)]);
        for (helper, expected) in [
            ("x", "basic u:docker.io"),
            ("url", "basic u:https://index.docker.io/v1/"),
        ] {
            let text = format!(r#"{{"credHelpers":{{"docker.io":"{helper}"}}}}"#);
            let store = Store::new(Some(write(path, "auth.json", &text).into()), &env);
            let (credential, _) = look(&store, "index.docker.io", None).unwrap();
            assert_eq!(show(&credential), expected);
        }
    }

    /// `credential-helpers` of registries.conf: in their order, with the files where their name is.
    #[test]
    fn helpers_of_registries_conf() {
        let folder = helper(r#"printf '{"Username":"x","Secret":"x"}'"#);
        let path = folder.path();
        add_helper(
            path,
            "none",
            "echo credentials not found in native keychain; exit 1",
        );
        add_helper(path, "broken", "exit 1");
        let both = r#"{"auths":{"r.io":{"auth":"Zjpm"},"r.io/a":{"auth":"YTph"}}}"#;
        let auth = write(path, "auth.json", both);
        let conf = write(path, "r.conf", "");
        let dropped = "c/containers/registries.conf.d/9.conf";
        let environment = |names: &[&str]| {
            let at = |name: &str| path.join(name).to_str().unwrap().to_owned();
            let all = [
                ("CONTAINERS_REGISTRIES_CONF", conf.clone()),
                ("REGISTRY_AUTH_FILE", auth.clone()),
                ("XDG_CONFIG_HOME", at("c")),
                ("XDG_RUNTIME_DIR", at("run")),
                ("PATH", at("")),
            ];
            Env::from_pairs(all.into_iter().filter(|(name, _)| !names.contains(name)))
        };
        let files = "containers-auth.json";
        let list = |names: &[&str]| format!("credential-helpers = {names:?}\n");
        for (first, second, repository, expected) in [
            (String::new(), None, None, "basic f:f"),
            (list(&[]), None, None, "basic f:f"),
            (list(&[files]), None, Some("a"), "basic a:a"),
            (list(&["x", files]), None, None, "basic x:x"),
            (list(&[files, "x"]), None, None, "basic f:f"),
            (list(&["none", files, "x"]), None, Some("a"), "basic a:a"),
            (list(&["none"]), None, None, "anonymous"),
            (list(&["broken", "x"]), None, None, "basic x:x"),
            (list(&["broken", files]), None, None, "basic f:f"),
            (
                list(&["x"]),
                Some(list(&["none", files])),
                None,
                "basic f:f",
            ),
            (list(&["x"]), Some(list(&[])), None, "basic f:f"),
            (list(&["x"]), Some(String::new()), None, "basic x:x"),
            (
                "[registries.search]\nregistries = ['a']\n".to_owned(),
                None,
                None,
                "basic f:f",
            ),
        ] {
            std::fs::write(&conf, &first).unwrap();
            let _ = std::fs::remove_file(path.join(dropped));
            if let Some(second) = &second {
                write(path, dropped, second);
            }
            let store = Store::new(None, &environment(&[]));
            let (credential, _) = look(&store, "r.io", repository).unwrap();
            assert_eq!(show(&credential), expected, "{first}{second:?}");
        }
        let _ = std::fs::remove_file(path.join(dropped));
        let fails = |text: &str| {
            std::fs::write(&conf, text).unwrap();
            let error = look(&Store::new(None, &environment(&[])), "r.io", None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Auth, "{text}: {error}");
            assert!(error.message().contains("credentials for r.io"), "{error}");
            assert!(error.message().contains("r.conf"), "{error}");
        };
        fails(&list(&["broken", "none"]));
        fails("credential-helpers = 1\n");
        fails("credential-helpers = [");
        // Where the user's own file is, and who was asked.
        write(path, "c/containers/registries.conf", &list(&["x"]));
        let env = environment(&["CONTAINERS_REGISTRIES_CONF", "REGISTRY_AUTH_FILE"]);
        let (credential, found) = look(&Store::new(None, &env), "r.io", None).unwrap();
        assert_eq!(show(&credential), "basic x:x");
        assert_eq!(found.helper.as_deref(), Some("docker-credential-x"));
        assert_eq!(found.key.as_deref(), Some("credential-helpers"));
        // A path that the program names is all there is.
        let store = Store::new(Some(auth.into()), &env);
        let (credential, _) = look(&store, "r.io", None).unwrap();
        assert_eq!(show(&credential), "basic f:f");
    }

    #[test]
    fn the_longest_path_wins() {
        let folder = tempfile::tempdir().unwrap();
        let file = write(
            folder.path(),
            "auth.json",
            r#"{"auths":{
                "example.org/repo":{"auth":"ZXhhbXBsZTpvcmc="}, "example.org":{"auth":"bG9jYWw6aG9zdA=="},
                "docker.io/vendor":{"auth":"Zmlyc3Q6bGV2ZWw="}, "docker.io":{"auth":"dG9wOmxldmVs"},
                "docker.io/library/busybox":{"auth":"bGlicmFyeTpidXN5Ym94"}, "docker.io/library":{"auth":"bGlicmFyeTpvdGhlcg=="}
            }}"#,
        );
        let store = Store::new(Some(file.into()), &Env::default());
        let table = [
            ("example.org", None, "basic local:host"),
            ("example.org", Some("repo"), "basic example:org"),
            ("example.org", Some("repo/image"), "basic example:org"),
            ("example.org", Some("repos"), "basic local:host"),
            (
                "index.docker.io",
                Some("vendor/product"),
                "basic first:level",
            ),
            (
                "index.docker.io",
                Some("library/vendor"),
                "basic first:level",
            ),
            (
                "index.docker.io",
                Some("library/busybox"),
                "basic library:busybox",
            ),
            (
                "index.docker.io",
                Some("library/debian"),
                "basic library:other",
            ),
            ("index.docker.io", Some("other/product"), "basic top:level"),
        ];
        for (registry, repository, expected) in table {
            let (credential, _) = look(&store, registry, repository).unwrap();
            assert_eq!(show(&credential), expected, "{registry} {repository:?}");
        }
    }
}
