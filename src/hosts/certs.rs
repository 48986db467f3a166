//! `certs.d`: a folder for each registry with the certificates to trust and to show there (dockerd and
//! containers-certs.d(5)).

use std::path::{Path, PathBuf};

use super::HostTrust;
use crate::error::{Error, Result};
use crate::file::file_error;
use crate::options::{Options, Switch, Text};
use crate::sorted::in_order;

/// Where certificates of single hosts are kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folders(Vec<PathBuf>);

impl Folders {
    /// Those of option `certs-dir`, else the usual ones.
    pub(crate) fn of(options: &Options) -> Self {
        if let Some(list) = options.text(Text::CertsDir) {
            return Self(split(list));
        }
        let mut folders = Vec::new();
        if options.is_on(Switch::Environment) {
            let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
            folders.extend(home.map(|h| Path::new(&h).join(".config/containers/certs.d")));
        }
        folders.push("/etc/containers/certs.d".into());
        folders.push("/etc/docker/certs.d".into());
        Self(folders)
    }

    /// The folder of a host, as `host:port` or, on the default port, `host`. The first wins.
    pub(crate) fn find(&self, host: &str, port: u16, default_port: u16) -> Option<PathBuf> {
        // Names are those of hosts, but they come from peers: none may lead elsewhere.
        if host.contains('/') || host.starts_with('.') {
            return None;
        }
        let mut names = vec![format!("{host}:{port}")];
        if port == default_port {
            names.push(host.to_owned());
        }
        self.0
            .iter()
            .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
            .find(|folder| folder.is_dir())
    }
}

/// Folders separated by colons.
pub(super) fn split(list: &str) -> Vec<PathBuf> {
    list.split(':')
        .filter(|f| !f.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// What a host's folder holds: `*.crt` to trust, `*.cert` with the `*.key` of the same name to show.
pub(crate) fn read(folder: &Path) -> Result<HostTrust> {
    let failed = |e: &std::io::Error| file_error("read", folder, e);
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|e| failed(&e))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()
        .map_err(|e| failed(&e))?;
    // A pipe among them would be waited for.
    let files = files
        .into_iter()
        .filter(|f| f.metadata().map_or(true, |m| m.is_file()))
        .collect::<Vec<_>>();
    let files = in_order(files, PathBuf::cmp);
    let with = |kind: &'static str| {
        files
            .iter()
            .filter(move |f| f.extension().is_some_and(|e| e == kind))
    };
    let mut clients = Vec::new();
    for cert in with("cert") {
        let key = cert.with_extension("key");
        if !files.contains(&key) {
            return Err(Error::tls(format!(
                "{} has no key beside it: {} is missing",
                cert.display(),
                key.display()
            )));
        }
        clients.push((cert.clone(), key));
    }
    for key in with("key") {
        let cert = key.with_extension("cert");
        if !files.contains(&cert) {
            return Err(Error::tls(format!(
                "{} has no certificate beside it: {} is missing (a *.crt is one to trust)",
                key.display(),
                cert.display()
            )));
        }
    }
    Ok(HostTrust {
        ca_files: with("crt").cloned().collect(),
        clients,
        insecure: false,
    })
}
