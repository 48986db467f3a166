//! Where a registry is reached: what the machine's configuration says of mirrors, other locations and
//! certificates. Read when a transport is made, and then no more.

pub(crate) mod certs;
mod containerd;
pub mod registries;

use std::path::PathBuf;

use ureq::http::header::{HeaderName, HeaderValue};

use crate::error::Result;
use crate::failover::Wanted;
use crate::name::{Authority, Repository, Scheme};
use crate::options::{Options, Text};
use crate::url::Url;

/// What these files and mirrors call Docker Hub.
const HUB: &str = "docker.io";

/// A host that serves a registry, or a part of it.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Root of the API, ending with a slash.
    pub(crate) root: Url,
    /// The same over plain http, where the host need not have TLS: it counts if the other does not answer.
    pub(crate) plain_root: Option<Url>,
    /// Whose credentials it gets.
    pub(crate) authority: Authority,
    /// What the repository is called there.
    pub(crate) repository: Option<Repository>,
    pub(crate) serves: Serves,
    pub(crate) trust: HostTrust,
    /// Sent to this host only.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The registry a mirror is asked for, as `ns` (distribution-spec, "Registry Proxying").
    pub(crate) namespace: Option<String>,
    /// What says so, for people.
    pub(crate) source: String,
}

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Serves {
    /// What a tag stands for.
    pub(crate) tags: bool,
    /// Manifests by digest.
    pub(crate) digests: bool,
    pub(crate) blobs: bool,
    /// Everything else: uploads, listings, deletions.
    pub(crate) push: bool,
}

impl Serves {
    pub(crate) const ALL: Self = Self {
        tags: true,
        digests: true,
        blobs: true,
        push: true,
    };

    pub(crate) fn has(self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Tag => self.tags,
            Wanted::Digest => self.digests,
            Wanted::Blob => self.blobs,
            Wanted::Anything => self.tags || self.digests || self.blobs,
        }
    }
}

/// What a host's certificate is checked with, besides what the options say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostTrust {
    pub(crate) ca_files: Vec<PathBuf>,
    /// Certificate chain and private key; one file may hold both.
    pub(crate) clients: Vec<(PathBuf, PathBuf)>,
    /// Any certificate will do.
    pub(crate) insecure: bool,
}

/// The hosts of a registry in the order they are asked for content; `home` is the one that takes uploads and
/// answers everything else.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) hosts: Vec<Host>,
    pub(crate) home: usize,
    /// Manifests that are not to be had of these hosts: their paths in the repository, and why.
    pub(crate) refused: Vec<(String, String)>,
}

impl Plan {
    /// What options `hosts-dir` and `registries-conf` say of a registry, the first that says anything; else the
    /// registry itself.
    pub(crate) fn of(
        authority: &Authority,
        repository: Option<&Repository>,
        options: &Options,
    ) -> Result<Self> {
        let own = Host::own(authority, repository, options)?;
        if let Some(folders) = options.text(Text::HostsDir) {
            if let Some(plan) = containerd::plan(folders, &own)? {
                return Ok(plan);
            }
        }
        if let Some(config) = registries::Config::of(options)? {
            let plan = config.plan(&own, options)?;
            return Ok(Self {
                refused: config.refused(&own),
                ..plan.unwrap_or_else(|| Self::only(own))
            });
        }
        Ok(Self::only(own))
    }

    fn only(host: Host) -> Self {
        Self {
            hosts: vec![host],
            home: 0,
            refused: Vec::new(),
        }
    }
}

impl Host {
    /// The registry itself, as its name says.
    fn own(
        authority: &Authority,
        repository: Option<&Repository>,
        options: &Options,
    ) -> Result<Self> {
        let (scheme, source) = scheme(authority, options);
        Ok(Self {
            root: Url::at(scheme, authority.endpoint(), "/v2/")?,
            plain_root: None,
            authority: authority.clone(),
            repository: repository.cloned(),
            serves: Serves::ALL,
            trust: HostTrust::default(),
            headers: Vec::new(),
            namespace: None,
            source: source.to_owned(),
        })
    }

    /// Whether the credentials for a registry are meant for it.
    pub(crate) fn is_at(&self, authority: &Authority) -> bool {
        self.authority.endpoint() == authority.endpoint()
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.root.authority())
    }
}

/// What these files and mirrors call a registry.
fn common_name(authority: &Authority) -> &str {
    if authority.is_docker_hub() {
        HUB
    } else {
        authority.key()
    }
}

/// What a registry speaks, and why.
fn scheme(authority: &Authority, options: &Options) -> (Scheme, &'static str) {
    match options.text(Text::Scheme) {
        Some("http") => (Scheme::Http, "option scheme"),
        Some(_) => (Scheme::Https, "option scheme"),
        None => match authority.default_scheme() {
            Scheme::Http => (Scheme::Http, "its name, which is local"),
            Scheme::Https => (Scheme::Https, "its name"),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::name::transport_name;

    /// The registry itself, as its name says.
    pub(crate) fn own(name: &str) -> Host {
        let (authority, repository) = transport_name(name).unwrap();
        Host::own(&authority, repository.as_ref(), &Options::new()).unwrap()
    }

    /// A host in one line: root, what it serves, and what is unusual about it.
    pub(crate) fn told(host: &Host) -> String {
        let mut text = host.root.to_string();
        if let Some(repository) = &host.repository {
            text += repository.as_str();
        }
        if let Some(plain) = &host.plain_root {
            text += &format!(" or {plain}");
        }
        let serves = [
            (host.serves.tags, 't'),
            (host.serves.digests, 'd'),
            (host.serves.blobs, 'b'),
            (host.serves.push, 'p'),
        ];
        text.push(' ');
        text.extend(serves.iter().filter(|(yes, _)| *yes).map(|(_, c)| c));
        if let Some(ns) = &host.namespace {
            text += &format!(" ns={ns}");
        }
        for ca in &host.trust.ca_files {
            text += &format!(" ca={}", ca.display());
        }
        for (cert, key) in &host.trust.clients {
            text += &format!(" client={},{}", cert.display(), key.display());
        }
        if host.trust.insecure {
            text += " insecure";
        }
        for (name, value) in &host.headers {
            assert!(value.is_sensitive());
            text += &format!(" {name}={}", value.to_str().unwrap());
        }
        text
    }

    pub(crate) fn tell(plan: &Plan) -> Vec<String> {
        let mut all: Vec<_> = plan.hosts.iter().map(told).collect();
        if plan.home + 1 != all.len() {
            all[plan.home] += " home";
        }
        all
    }
}
