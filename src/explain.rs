//! What a transport uses, and why: hosts, credentials, token service, proxy, certificates. For people and for
//! programs, without secrets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::auth::Known;
use crate::creds::Credential;
use crate::endpoint::{Endpoint, Site};
use crate::error::Result;
use crate::hosts::Host;
use crate::net::call::Call;
use crate::op::Op;
use crate::transport::Transport;
use crate::url::{Origin, Url};

/// Width of the names in the text.
const NAMES: usize = 14;

/// What a transport uses, as text and as JSON.
#[derive(Debug, Clone)]
pub struct Explanation {
    text: String,
    json: String,
}

impl Explanation {
    /// Lines for people. Their form may change.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A JSON object. Members may be added.
    pub fn json(&self) -> &str {
        &self.json
    }
}

impl Transport {
    /// Tells which hosts the transport asks, and for each of them which credentials it would use and where they are
    /// from, which proxy, which trusted certificates, and why. Sends nothing over the network: of the challenge, the
    /// token service and the scopes it tells what earlier calls learned, such as a [`ping`](Transport::ping).
    /// Credentials are looked up as a request would: files are read, helpers and the callback asked, unless that was
    /// done before. What goes wrong there is told in the explanation.
    ///
    /// # Errors
    /// [`State`](crate::error::ErrorKind::State) in a child made by `fork`,
    /// [`Cancelled`](crate::error::ErrorKind::Cancelled) and [`Timeout`](crate::error::ErrorKind::Timeout) when the
    /// call ends early.
    pub fn explain(&self, op: Option<&Op>) -> Result<Explanation> {
        let call = self.call(op)?;
        let mut hosts = Vec::new();
        for site in self.sites() {
            hosts.push(HostReport::of(site, self, &call)?);
            call.check()?;
        }
        let repository = self.repository().map(ToString::to_string);
        let actions = self.actions().names();
        let value = json!({
            "registry": self.registry().as_str(),
            "repository": repository,
            "actions": actions,
            "hosts": hosts.iter().map(HostReport::json).collect::<Vec<_>>(),
        });
        let mut text = format!("registry {}", self.registry());
        if let Some(repository) = &repository {
            let _ = write!(text, ", repository {repository}");
        }
        let _ = writeln!(text, ", for {}", actions.join(" and "));
        for (i, host) in hosts.iter().enumerate() {
            let of = match hosts.len() {
                1 => "host".to_owned(),
                n => format!("host {} of {n}", i + 1),
            };
            let _ = writeln!(text, "{of}: {}", host.root);
            for (name, line) in host.lines() {
                let _ = writeln!(text, "  {name:NAMES$}{line}");
            }
        }
        let secrets = call.secrets();
        Ok(Explanation {
            text: secrets.redact(text),
            json: secrets.redact(value.to_string()),
        })
    }
}

/// What is said of one host.
struct HostReport {
    host: String,
    root: String,
    /// Set while it is not known which of the two it speaks.
    or_plain: Option<String>,
    because: String,
    is_home: bool,
    failed_lately: bool,
    serves: Vec<&'static str>,
    repository: Option<String>,
    namespace: Option<String>,
    /// Names only: the values may be secrets.
    headers: Vec<String>,
    credentials: Credentials,
    wants: Option<Wants>,
    connection: Connection,
}

/// What is said of the credentials for a host.
struct Credentials {
    kind: &'static str,
    source: String,
    file: Option<PathBuf>,
    variable: Option<&'static str>,
    key: Option<String>,
    helper: Option<String>,
    /// Why they could not be looked up.
    error: Option<String>,
}

/// What a host asked for last.
enum Wants {
    Basic,
    Bearer {
        realm: Url,
        service: Option<String>,
        scopes: Vec<String>,
        connection: Box<Connection>,
    },
}

/// How connections to a host are made.
struct Connection {
    proxy: Option<String>,
    proxy_because: String,
    tls: Option<Tls>,
}

struct Tls {
    store: String,
    ca_files: Vec<PathBuf>,
    has_pem: bool,
    client: Option<(PathBuf, PathBuf)>,
    insecure: bool,
    min_version: &'static str,
    error: Option<String>,
}

impl HostReport {
    fn of(site: &Arc<Site>, transport: &Transport, call: &Arc<Call>) -> Result<Self> {
        let endpoint = site.known_endpoint();
        let host = endpoint.host();
        Ok(Self {
            host: endpoint.authority().to_string(),
            root: endpoint.base().to_string(),
            or_plain: (!site.is_decided())
                .then(|| host.plain_root.as_ref().map(Url::to_string))
                .flatten(),
            because: host.source.clone(),
            is_home: Arc::ptr_eq(site, transport.home_site()),
            failed_lately: site.is_shunned(),
            serves: serves(host),
            repository: host.repository.as_ref().map(ToString::to_string),
            namespace: host.namespace.clone(),
            headers: host.headers.iter().map(|(n, _)| n.to_string()).collect(),
            credentials: Credentials::of(endpoint, call),
            wants: Wants::of(endpoint),
            connection: Connection::of(endpoint, endpoint.base().origin()),
        })
    }

    fn json(&self) -> Value {
        json!({
            "host": self.host,
            "url": self.root,
            "or_url": self.or_plain,
            "because": self.because,
            "home": self.is_home,
            "failed_lately": self.failed_lately,
            "serves": self.serves,
            "repository": self.repository,
            "namespace": self.namespace,
            "headers": self.headers,
            "credentials": self.credentials.json(),
            "wants": self.wants.as_ref().map(Wants::json),
            "proxy": self.connection.proxy_json(),
            "tls": self.connection.tls_json(),
        })
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("because of", self.because.clone())];
        if let Some(plain) = &self.or_plain {
            lines.push(("or", format!("{plain}, if it has no TLS")));
        }
        let mut asked = self.serves.join(", ");
        if self.is_home {
            asked.push_str(", and everything that is no pull");
        }
        if self.failed_lately {
            asked.push_str("; failed a short while ago, so the others are asked first");
        }
        lines.push(("asked for", asked));
        if let Some(repository) = &self.repository {
            lines.push(("repository", repository.clone()));
        }
        if let Some(namespace) = &self.namespace {
            lines.push(("sent", format!("ns={namespace}")));
        }
        if !self.headers.is_empty() {
            lines.push(("headers", self.headers.join(", ")));
        }
        lines.push(("credentials", self.credentials.line()));
        let wants = match &self.wants {
            None => "nothing that is known yet".to_owned(),
            Some(Wants::Basic) => "user and password (Basic)".to_owned(),
            Some(Wants::Bearer { .. }) => "a token (Bearer)".to_owned(),
        };
        lines.push(("wants", wants));
        self.connection.lines(&mut lines);
        if let Some(Wants::Bearer {
            realm,
            service,
            scopes,
            connection,
        }) = &self.wants
        {
            lines.push(("token from", realm.to_string()));
            let service = service.as_deref().unwrap_or("not named");
            lines.push(("- service", service.to_owned()));
            lines.push(("- scopes", scopes.join(" ")));
            let mut own = Vec::new();
            connection.lines(&mut own);
            lines.extend(own.into_iter().map(|(name, line)| {
                let name = match name {
                    "proxy" => "- proxy",
                    "trusted" => "- trusted",
                    _ => "- shown",
                };
                (name, line)
            }));
        }
        lines
    }
}

fn serves(host: &Host) -> Vec<&'static str> {
    [
        (host.serves.tags, "tags"),
        (host.serves.digests, "manifests by digest"),
        (host.serves.blobs, "blobs"),
    ]
    .into_iter()
    .filter_map(|(yes, name)| yes.then_some(name))
    .collect()
}

impl Credentials {
    fn of(endpoint: &Endpoint, call: &Arc<Call>) -> Self {
        match endpoint.auth().credential(call) {
            Ok(held) => {
                endpoint.auth().tell_secret(Some(&held), call);
                let found = held.value.found.clone();
                let given = matches!(held.value.credential, Credential::Anonymous)
                    && endpoint.auth().is_without_source();
                Self {
                    kind: held.value.credential.kind(),
                    source: if given {
                        "none were given for this host".to_owned()
                    } else {
                        found.source
                    },
                    file: found.file,
                    variable: found.variable,
                    key: found.key,
                    helper: found.helper,
                    error: None,
                }
            }
            Err(e) => Self {
                kind: "unknown",
                source: String::new(),
                file: None,
                variable: None,
                key: None,
                helper: None,
                error: Some(e.message().to_owned()),
            },
        }
    }

    fn json(&self) -> Value {
        json!({
            "kind": self.kind,
            "source": self.source,
            "file": self.file.as_deref().map(shown),
            "variable": self.variable,
            "key": self.key,
            "helper": self.helper,
            "error": self.error,
        })
    }

    fn line(&self) -> String {
        match &self.error {
            Some(error) => format!("not to be had: {error}"),
            None => format!("{}: {}", self.kind, self.source),
        }
    }
}

impl Wants {
    fn of(endpoint: &Endpoint) -> Option<Self> {
        Some(match endpoint.auth().known(endpoint.policy().home())? {
            Known::Basic => Self::Basic,
            Known::Bearer { realm, service } => Self::Bearer {
                connection: Box::new(Connection::of(endpoint, realm.origin())),
                realm,
                service,
                scopes: endpoint.auth().all_scopes().iter().collect(),
            },
        })
    }

    fn json(&self) -> Value {
        match self {
            Self::Basic => json!({"scheme": "Basic"}),
            Self::Bearer {
                realm,
                service,
                scopes,
                connection,
            } => json!({
                "scheme": "Bearer",
                "realm": realm.to_string(),
                "service": service,
                "scopes": scopes,
                "proxy": connection.proxy_json(),
                "tls": connection.tls_json(),
            }),
        }
    }
}

impl Connection {
    fn of(endpoint: &Endpoint, to: &Origin) -> Self {
        let (https, host, port) = (to.is_https(), to.host(), to.port());
        let proxies = endpoint.net().proxies();
        let trust = endpoint.net().trust();
        let tls = https.then(|| {
            let (of_host, error) = match trust.of_host(host, port) {
                Ok(found) => (found, None),
                Err(e) => (Default::default(), Some(e.message().to_owned())),
            };
            Tls {
                store: trust.store(),
                has_pem: trust.has_pem(),
                client: of_host.clients.into_iter().next(),
                ca_files: of_host.ca_files,
                insecure: of_host.insecure,
                min_version: trust.min_version(),
                error,
            }
        });
        Self {
            proxy: proxies
                .for_host(https, host, port)
                .map(|proxy| proxy.shown()),
            proxy_because: proxies.reason(https, host, port),
            tls,
        }
    }

    fn proxy_json(&self) -> Value {
        json!({"url": self.proxy, "because": self.proxy_because})
    }

    fn tls_json(&self) -> Value {
        self.tls.as_ref().map_or(Value::Null, |tls| {
            json!({
                "verified": !tls.insecure,
                "store": tls.store,
                "ca_files": tls.ca_files.iter().map(|f| shown(f)).collect::<Vec<_>>(),
                "ca_pem": tls.has_pem,
                "client_certificate": tls.client.as_ref().map(|(cert, _)| shown(cert)),
                "client_key": tls.client.as_ref().map(|(_, key)| shown(key)),
                "min_version": tls.min_version,
                "error": tls.error,
            })
        })
    }

    fn lines(&self, lines: &mut Vec<(&'static str, String)>) {
        let proxy = self.proxy.as_deref().unwrap_or("none");
        lines.push(("proxy", format!("{proxy}: {}", self.proxy_because)));
        let Some(tls) = &self.tls else {
            lines.push(("trusted", "nothing is checked: plain http".to_owned()));
            return;
        };
        let trusted = if let Some(error) = &tls.error {
            format!("nothing: {error}")
        } else if tls.insecure {
            "any certificate: nothing is checked".to_owned()
        } else {
            let pem = tls.has_pem.then(|| "option ca-pem".to_owned());
            std::iter::once(tls.store.clone())
                .chain(tls.ca_files.iter().map(|f| shown(f)))
                .chain(pem)
                .collect::<Vec<_>>()
                .join(", ")
        };
        lines.push(("trusted", trusted));
        if let Some((cert, key)) = &tls.client {
            lines.push(("shown", format!("{}, key {}", shown(cert), shown(key))));
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
