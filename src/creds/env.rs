//! The environment variables that say where credentials are, read once.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroize;

use crate::sorted::SortedMap;

const NAMES: [&str; 8] = [
    "CONTAINERS_REGISTRIES_CONF",
    "DOCKER_AUTH_CONFIG",
    "DOCKER_CONFIG",
    "HOME",
    "PATH",
    "REGISTRY_AUTH_FILE",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
];

/// A copy of the environment variables that the credential stores look at, and of no others.
///
/// A variable that is set to nothing counts as not set. `Default` is an environment without variables. Values
/// are wiped when dropped and not shown by `Debug`: `DOCKER_AUTH_CONFIG` holds credentials.
#[derive(Clone, Default)]
pub struct Env(SortedMap<&'static str, OsString>);

impl Env {
    /// The variables as they are now.
    pub fn snapshot() -> Self {
        Self(
            NAMES
                .into_iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?)))
                .collect(),
        )
    }

    /// These variables. Names that no store looks at are left out.
    pub fn from_pairs<'a, V: Into<OsString>>(
        pairs: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Self {
        let known = |name: &str| NAMES.into_iter().find(|n| *n == name);
        Self(
            pairs
                .into_iter()
                .filter_map(|(name, value)| Some((known(name)?, value.into())))
                .collect(),
        )
    }

    /// The value of a variable; `None` when it is not set, or empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0
            .get(name)
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        for value in self.0.values_mut() {
            std::mem::take(value).into_encoded_bytes().zeroize();
        }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Env")
            .field(&self.0.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_the_stores_look_at() {
        let env = Env::from_pairs([("HOME", "/h"), ("DOCKER_CONFIG", ""), ("LD_PRELOAD", "x")]);
        assert_eq!(env.get("HOME"), Some(OsStr::new("/h")));
        assert_eq!(env.get("DOCKER_CONFIG"), None, "empty is not set");
        assert_eq!(env.get("LD_PRELOAD"), None);
        assert_eq!(Env::default().get("HOME"), None);
        assert_eq!(
            Env::snapshot().path("PATH"),
            std::env::var_os("PATH").map(PathBuf::from)
        );
    }

    #[test]
    fn debug_shows_no_values() {
        let env = Env::from_pairs([("DOCKER_AUTH_CONFIG", "canary-secret")]);
        assert_eq!(format!("{env:?}"), r#"Env(["DOCKER_AUTH_CONFIG"])"#);
    }
}
