//! `registries.conf` of podman, skopeo and buildah: which files it is, and what it says of credentials. What it says
//! of registries is for the module `hosts`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::file::file_error;
use crate::sorted::in_order;
use crate::toml_file;

/// The name in `credential-helpers` that stands for `auth.json`.
pub(crate) const AUTH_FILES: &str = "containers-auth.json";

/// Where the files are looked for.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// `CONTAINERS_REGISTRIES_CONF`.
    named: Option<PathBuf>,
    /// The user's folder.
    user: Option<PathBuf>,
}

impl Places {
    /// As the environment says; `variable` tells what is set and not empty.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let user = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&variable("HOME")?).join(".config")));
        Self {
            named: variable("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from),
            user: user.map(|folder| folder.join("containers")),
        }
    }

    /// The files in the order in which podman reads them, which may not all be there: the one that is named, the
    /// user's or the system's, then what was dropped beside the latter two.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let system = Path::new("/etc/containers");
        let main = |folder: &Path| folder.join("registries.conf");
        let first = match (&self.named, &self.user) {
            (Some(named), _) => named.clone(),
            (None, Some(user)) if main(user).exists() => main(user),
            (None, _) => main(system),
        };
        let mut files = vec![first];
        for folder in [Some(system), self.user.as_deref()].into_iter().flatten() {
            let folder = folder.join("registries.conf.d");
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            let dropped: Vec<PathBuf> = entries
                .map(|entry| entry.map(|e| e.path()))
                .collect::<std::result::Result<_, _>>()
                .map_err(|e| file_error("read", &folder, &e))?;
            let dropped = dropped
                .into_iter()
                .filter(|f| f.extension().is_some_and(|e| e == "conf"));
            files.extend(in_order(dropped, PathBuf::cmp));
        }
        Ok(files)
    }

    /// The `credential-helpers` of the last file that has them, and that file; `None` where it is as if
    /// [`AUTH_FILES`] were the only one.
    pub(crate) fn credential_helpers(&self) -> Result<Option<(Vec<String>, PathBuf)>> {
        let mut helpers = None;
        for file in self.files()? {
            let Some(text) = toml_file::read(&file)? else {
                continue;
            };
            let told = toml_file::with(&file, &text, |root| {
                let told = root.texts("credential-helpers")?;
                Ok(told.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>()))
            })?;
            if let Some(names) = told {
                helpers = Some((names, file));
            }
        }
        Ok(helpers.filter(|(names, _)| !names.is_empty()))
    }
}
