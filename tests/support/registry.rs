//! A registry in memory: the distribution-spec with access control, for [`super::server::Server`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::pki::Ca;
use super::server::{Answer, Builder, Request, Server, lock, percent_decode};
use super::token::{TokenServer, Verdict};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Who may do what.
pub enum AccessControl {
    /// Everybody everything.
    Open,
    /// These users (name, password) everything.
    Basic(Vec<(String, String)>),
    /// Who has a token of this server. Without a realm the registry itself is the token server,
    /// under `/token`.
    Bearer {
        token: Arc<TokenServer>,
        realm: Option<String>,
    },
}

/// How a registry behaves; the default is a complete open one.
pub struct Settings {
    pub access: AccessControl,
    /// `Location` is an absolute URL instead of a path.
    pub absolute_locations: bool,
    /// `Docker-Content-Digest` is sent.
    pub digest_header: bool,
    /// DELETE works; otherwise 405.
    pub deletion: bool,
    /// The referrers API exists; otherwise 404.
    pub referrers: bool,
    /// Blobs are 307 to this URL with the digest and a signature after it.
    pub blob_redirect: Option<String>,
    /// `OCI-Chunk-Min-Length`, and the least size of every PATCH body.
    pub chunk_min: Option<usize>,
    /// The most entries of a page of tags or repositories.
    pub page_limit: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            access: AccessControl::Open,
            absolute_locations: false,
            digest_header: true,
            deletion: true,
            referrers: true,
            blob_redirect: None,
            chunk_min: None,
            page_limit: 1000,
        }
    }
}

/// The registry; [`Registry::answer`] is its handler.
#[derive(Default)]
pub struct Registry {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    repos: BTreeMap<String, Repo>,
    blobs: HashMap<String, Arc<Vec<u8>>>,
    uploads: HashMap<String, Upload>,
    serial: u64,
}

#[derive(Clone, Default)]
struct Repo {
    tags: BTreeMap<String, String>,
    manifests: BTreeMap<String, Manifest>,
    blobs: BTreeSet<String>,
}

#[derive(Clone)]
struct Manifest {
    media_type: String,
    bytes: Arc<Vec<u8>>,
}

#[derive(Clone)]
struct Upload {
    repo: String,
    bytes: Vec<u8>,
}

/// What points at a blob or a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: usize,
}

impl Descriptor {
    /// The descriptor as it stands in a manifest.
    pub fn json(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.size})
    }
}

/// A seeded image.
#[derive(Clone, Debug)]
pub struct Image {
    pub manifest: Descriptor,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// A seeded multi-platform image.
#[derive(Clone, Debug)]
pub struct Index {
    pub manifest: Descriptor,
    pub images: Vec<Image>,
}

enum Route {
    Ping,
    Catalog,
    Tags(String),
    Manifest(String, String),
    Blob(String, String),
    Uploads(String),
    Upload(String, String),
    Referrers(String, String),
}

impl Route {
    fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        let rest = match rest.strip_prefix('/') {
            None if rest.is_empty() => return Some(Self::Ping),
            None => return None,
            Some(rest) => percent_decode(rest, false),
        };
        if rest.is_empty() {
            return Some(Self::Ping);
        }
        if rest == "_catalog" {
            return Some(Self::Catalog);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags(name.to_owned()));
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            return Some(Self::Uploads(name.to_owned()));
        }
        let (head, last) = rest.rsplit_once('/')?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            let name = name.to_owned();
            return Some(if last.is_empty() {
                Self::Uploads(name)
            } else {
                Self::Upload(name, last.to_owned())
            });
        }
        let (name, kind) = head.rsplit_once('/')?;
        let (name, last) = (name.to_owned(), last.to_owned());
        match kind {
            "manifests" => Some(Self::Manifest(name, last)),
            "blobs" => Some(Self::Blob(name, last)),
            "referrers" => Some(Self::Referrers(name, last)),
            _ => None,
        }
    }

    fn repository(&self) -> Option<&str> {
        match self {
            Self::Ping | Self::Catalog => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
        }
    }

    /// The rights a request needs: kind, name, actions.
    fn rights(&self, request: &Request) -> Vec<(&'static str, String, Vec<&'static str>)> {
        let Some(name) = self.repository() else {
            return match self {
                Self::Catalog => vec![("registry", "catalog".to_owned(), vec!["*"])],
                _ => Vec::new(),
            };
        };
        let actions = match (request.method.as_str(), self) {
            ("GET" | "HEAD", Self::Upload(..)) => vec!["pull", "push"],
            ("GET" | "HEAD", _) => vec!["pull"],
            ("DELETE", Self::Manifest(..) | Self::Blob(..)) => vec!["delete"],
            _ => vec!["pull", "push"],
        };
        let mut rights = vec![("repository", name.to_owned(), actions)];
        if matches!(self, Self::Uploads(_)) {
            if let Some(from) = request.query_param("from") {
                rights.push(("repository", from, vec!["pull"]));
            }
        }
        rights
    }
}

impl Registry {
    /// A registry with these settings.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            state: Mutex::default(),
        })
    }

    /// A registry for everybody.
    pub fn open() -> Arc<Self> {
        Self::new(Settings::default())
    }

    /// Another registry that holds the same.
    pub fn copy(&self, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            state: Mutex::new(lock(&self.state).clone()),
        })
    }

    /// A registry for one user with Basic credentials.
    pub fn basic(user: &str, password: &str) -> Arc<Self> {
        Self::new(Settings {
            access: AccessControl::Basic(vec![(user.to_owned(), password.to_owned())]),
            ..Settings::default()
        })
    }

    /// A registry that wants tokens of `token`, and serves that token server under `/token`.
    pub fn bearer(token: Arc<TokenServer>) -> Arc<Self> {
        Self::new(Settings {
            access: AccessControl::Bearer { token, realm: None },
            ..Settings::default()
        })
    }

    /// A registry that sends its clients to the token server at `realm`.
    pub fn bearer_at(token: Arc<TokenServer>, realm: &str) -> Arc<Self> {
        Self::new(Settings {
            access: AccessControl::Bearer {
                token,
                realm: Some(realm.to_owned()),
            },
            ..Settings::default()
        })
    }

    /// Serves the registry over TCP, or over TLS with a certificate of `ca`.
    pub fn start(self: &Arc<Self>, ca: Option<&Ca>) -> Server {
        let builder = Server::builder();
        self.start_with(match ca {
            Some(ca) => builder.tls(ca),
            None => builder,
        })
    }

    /// Serves the registry with other settings of the server.
    pub fn start_with(self: &Arc<Self>, builder: Builder) -> Server {
        let registry = self.clone();
        builder.start(move |request| registry.answer(request))
    }

    /// The token server under `/token`.
    pub fn token_server(&self) -> Option<&Arc<TokenServer>> {
        match &self.settings.access {
            AccessControl::Bearer { token, .. } => Some(token),
            _ => None,
        }
    }

    /// Stores a blob and gives its digest.
    pub fn put_blob(&self, repo: &str, bytes: impl Into<Vec<u8>>) -> String {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        let mut state = lock(&self.state);
        state.add_blob(repo, &digest, bytes);
        digest
    }

    /// Stores a manifest, under a tag when there is one, and gives its digest.
    pub fn put_manifest(
        &self,
        repo: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> String {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        let mut state = lock(&self.state);
        let entry = state.repos.entry(repo.to_owned()).or_default();
        entry.manifests.insert(
            digest.clone(),
            Manifest {
                media_type: media_type.to_owned(),
                bytes: Arc::new(bytes),
            },
        );
        if let Some(tag) = tag {
            entry.tags.insert(tag.to_owned(), digest.clone());
        }
        digest
    }

    /// The bytes of a blob.
    pub fn blob(&self, repo: &str, digest: &str) -> Option<Arc<Vec<u8>>> {
        lock(&self.state).blob(repo, digest)
    }

    /// The media type and the bytes of a manifest, by tag or digest.
    pub fn manifest(&self, repo: &str, reference: &str) -> Option<(String, Arc<Vec<u8>>)> {
        let state = lock(&self.state);
        let (_, manifest) = state.manifest(repo, reference)?;
        Some((manifest.media_type.clone(), manifest.bytes.clone()))
    }

    /// Serves other bytes under the digest of a blob.
    pub fn corrupt_blob(&self, digest: &str, bytes: impl Into<Vec<u8>>) {
        lock(&self.state)
            .blobs
            .insert(digest.to_owned(), Arc::new(bytes.into()));
    }

    /// Points a tag at a digest without a look at it.
    pub fn set_tag(&self, repo: &str, tag: &str, digest: &str) {
        lock(&self.state)
            .repos
            .entry(repo.to_owned())
            .or_default()
            .tags
            .insert(tag.to_owned(), digest.to_owned());
    }

    /// How many uploads are open.
    pub fn open_uploads(&self) -> usize {
        lock(&self.state).uploads.len()
    }

    /// Makes an image of `layers` small layers.
    pub fn seed(&self, repo: &str, tag: &str, layers: usize) -> Image {
        let sizes: Vec<usize> = (0..layers).map(|n| 5_000 + 3_000 * n).collect();
        self.seed_sized(repo, tag, ("linux", "amd64"), &sizes)
    }

    /// Makes an image for `platform` (operating system, architecture) with layers of these sizes.
    /// The same arguments make the same bytes.
    pub fn seed_sized(
        &self,
        repo: &str,
        tag: &str,
        platform: (&str, &str),
        sizes: &[usize],
    ) -> Image {
        let image = self.image(repo, tag, platform, sizes);
        self.set_tag(repo, tag, &image.manifest.digest);
        image
    }

    /// Stores an image without a tag.
    fn image(&self, repo: &str, seed: &str, platform: (&str, &str), sizes: &[usize]) -> Image {
        let mut layers = Vec::new();
        for (n, &size) in sizes.iter().enumerate() {
            let seed = format!("{repo}:{seed}:{}:{n}", platform.1);
            let bytes = tar(&format!("layer-{n}.bin"), &noise(&seed, size));
            let size = bytes.len();
            let digest = self.put_blob(repo, bytes);
            layers.push(Descriptor {
                media_type: OCI_LAYER.to_owned(),
                digest,
                size,
            });
        }
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let config = json!({
            "os": platform.0,
            "architecture": platform.1,
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let config = Descriptor {
            media_type: OCI_CONFIG.to_owned(),
            size: config.len(),
            digest: self.put_blob(repo, config),
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.json(),
            "layers": layers.iter().map(Descriptor::json).collect::<Vec<_>>(),
        })
        .to_string();
        let manifest = Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            size: manifest.len(),
            digest: self.put_manifest(repo, None, OCI_MANIFEST, manifest),
        };
        Image {
            manifest,
            config,
            layers,
        }
    }

    /// Makes an index of one image per platform (operating system, architecture), each with
    /// layers of these sizes.
    pub fn seed_index(
        &self,
        repo: &str,
        tag: &str,
        platforms: &[(&str, &str)],
        sizes: &[usize],
    ) -> Index {
        let images: Vec<Image> = platforms
            .iter()
            .map(|&platform| self.image(repo, tag, platform, sizes))
            .collect();
        let manifests: Vec<Value> = images
            .iter()
            .zip(platforms)
            .map(|(image, (os, architecture))| {
                let mut descriptor = image.manifest.json();
                descriptor["platform"] = json!({"os": os, "architecture": architecture});
                descriptor
            })
            .collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": manifests,
        })
        .to_string();
        let manifest = Descriptor {
            media_type: OCI_INDEX.to_owned(),
            size: index.len(),
            digest: self.put_manifest(repo, Some(tag), OCI_INDEX, index),
        };
        Index { manifest, images }
    }

    /// Writes an image or index as an OCI image layout that names it `tag`.
    pub fn write_layout(&self, repo: &str, tag: &str, folder: &Path) {
        let blobs = folder.join("blobs").join("sha256");
        std::fs::create_dir_all(&blobs).expect("a layout folder");
        let put = |digest: &str, bytes: &[u8]| {
            let name = digest.strip_prefix("sha256:").expect("a sha256 digest");
            std::fs::write(blobs.join(name), bytes).expect("a blob file");
        };
        let state = lock(&self.state);
        let entry = state.repos.get(repo).expect("a seeded repository");
        let root = entry.tags.get(tag).expect("a seeded tag");
        let mut wanted = vec![root.clone()];
        while let Some(digest) = wanted.pop() {
            if let Some(manifest) = entry.manifests.get(&digest) {
                put(&digest, &manifest.bytes);
                let document = serde_json::from_slice(&manifest.bytes).expect("a manifest");
                wanted.extend(references(&document));
            } else {
                put(&digest, state.blobs.get(&digest).expect("a blob"));
            }
        }
        let manifest = &entry.manifests[root];
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": manifest.media_type,
                "digest": root,
                "size": manifest.bytes.len(),
                "annotations": {"org.opencontainers.image.ref.name": tag},
            }],
        });
        let version = json!({"imageLayoutVersion": "1.0.0"});
        std::fs::write(folder.join("index.json"), index.to_string()).expect("index.json");
        std::fs::write(folder.join("oci-layout"), version.to_string()).expect("oci-layout");
    }

    /// For [`Builder::early`]: refuses a request without rights before its body is read.
    pub fn refuse_early(&self, request: &Request) -> Option<Answer> {
        let route = Route::parse(&request.path)?;
        self.refuse(request, &route)
    }

    /// The handler.
    pub fn answer(&self, request: &Request) -> Answer {
        if request.path == "/token" {
            if let AccessControl::Bearer { token, realm: None } = &self.settings.access {
                return token.answer(request);
            }
        }
        let answer = match Route::parse(&request.path) {
            None => Answer::new(404)
                .header("Content-Type", "text/plain; charset=utf-8")
                .body("404 page not found\n"),
            Some(route) => match self.refuse(request, &route) {
                Some(refusal) => refusal,
                None => self.dispatch(request, route),
            },
        };
        answer.header("Docker-Distribution-Api-Version", "registry/2.0")
    }

    fn refuse(&self, request: &Request, route: &Route) -> Option<Answer> {
        match &self.settings.access {
            AccessControl::Open => None,
            AccessControl::Basic(users) => match request.basic() {
                Some(pair) if users.contains(&pair) => None,
                _ => Some(Answer::challenge("Basic realm=\"test registry\"")),
            },
            AccessControl::Bearer { token, realm } => {
                let rights = route.rights(request);
                let error = match request.bearer() {
                    None => None,
                    Some(text) => {
                        let mut verdict = token.check(text, "", "", "");
                        for (kind, name, actions) in &rights {
                            for action in actions {
                                if verdict == Verdict::Allowed {
                                    verdict = token.check(text, kind, name, action);
                                }
                            }
                        }
                        match verdict {
                            Verdict::Allowed => return None,
                            Verdict::Insufficient => Some("insufficient_scope"),
                            Verdict::Invalid => Some("invalid_token"),
                        }
                    }
                };
                let realm = realm
                    .clone()
                    .unwrap_or_else(|| format!("{}/token", request.origin()));
                let mut challenge =
                    format!("Bearer realm=\"{realm}\",service=\"{}\"", token.service());
                let scopes: Vec<String> = rights
                    .iter()
                    .map(|(kind, name, actions)| format!("{kind}:{name}:{}", actions.join(",")))
                    .collect();
                if !scopes.is_empty() {
                    challenge += &format!(",scope=\"{}\"", scopes.join(" "));
                }
                if let Some(error) = error {
                    challenge += &format!(",error=\"{error}\"");
                }
                Some(Answer::challenge(challenge))
            }
        }
    }

    fn dispatch(&self, request: &Request, route: Route) -> Answer {
        if route.repository().is_some_and(|name| !valid_name(name)) {
            return Answer::error(400, "NAME_INVALID", "invalid repository name");
        }
        let method = request.method.as_str();
        let read = matches!(method, "GET" | "HEAD");
        match route {
            Route::Ping if read => Answer::json(200, &json!({})),
            Route::Catalog if method == "GET" => self.catalog(request),
            Route::Tags(name) if method == "GET" => self.tags(request, &name),
            Route::Manifest(name, reference) => match method {
                "GET" | "HEAD" => self.get_manifest(request, &name, &reference),
                "PUT" => self.receive_manifest(request, &name, &reference),
                "DELETE" if self.settings.deletion => self.delete_manifest(&name, &reference),
                _ => unsupported(),
            },
            Route::Blob(name, digest) => match method {
                "GET" | "HEAD" => self.get_blob(request, &name, &digest),
                "DELETE" if self.settings.deletion => self.delete_blob(&name, &digest),
                _ => unsupported(),
            },
            Route::Uploads(name) if method == "POST" => self.start_upload(request, &name),
            Route::Upload(name, id) => match method {
                "GET" => self.upload_status(request, &name, &id),
                "PATCH" | "PUT" => self.continue_upload(request, &name, &id),
                "DELETE" => self.cancel_upload(&name, &id),
                _ => unsupported(),
            },
            Route::Referrers(name, digest) if method == "GET" && self.settings.referrers => {
                self.get_referrers(request, &name, &digest)
            }
            Route::Referrers(..) => Answer::new(404).body("404 page not found\n"),
            _ => unsupported(),
        }
    }

    fn with_digest(&self, answer: Answer, digest: &str) -> Answer {
        if self.settings.digest_header {
            answer.header("Docker-Content-Digest", digest)
        } else {
            answer
        }
    }

    fn location(&self, request: &Request, path: &str) -> String {
        if self.settings.absolute_locations {
            format!("{}{path}", request.origin())
        } else {
            path.to_owned()
        }
    }

    fn catalog(&self, request: &Request) -> Answer {
        let names: Vec<String> = lock(&self.state).repos.keys().cloned().collect();
        match self.page(request, "/v2/_catalog", &names) {
            Some((page, link)) => with_link(
                Answer::json(200, &json!({"repositories": page})),
                link.as_deref(),
            ),
            None => page_invalid(),
        }
    }

    fn tags(&self, request: &Request, name: &str) -> Answer {
        let tags: Vec<String> = match lock(&self.state).repos.get(name) {
            Some(repo) => repo.tags.keys().cloned().collect(),
            None => return Answer::error(404, "NAME_UNKNOWN", "repository name not known"),
        };
        match self.page(request, &format!("/v2/{name}/tags/list"), &tags) {
            Some((page, link)) => with_link(
                Answer::json(200, &json!({"name": name, "tags": page})),
                link.as_deref(),
            ),
            None => page_invalid(),
        }
    }

    /// One page of sorted names, and the target of the next one; none when `n` is no number.
    fn page<'a>(
        &self,
        request: &Request,
        path: &str,
        names: &'a [String],
    ) -> Option<(&'a [String], Option<String>)> {
        let limit = self.settings.page_limit;
        let n = match request.query_param("n") {
            None => limit,
            Some(text) => text.parse::<usize>().ok()?.min(limit),
        };
        let start = match request.query_param("last") {
            Some(last) => names.partition_point(|name| *name <= last),
            None => 0,
        };
        let rest = &names[start..];
        let page = &rest[..n.min(rest.len())];
        let link = match page.last() {
            Some(last) if page.len() < rest.len() => {
                Some(format!("{path}?last={}&n={n}", last.replace('/', "%2F")))
            }
            _ => None,
        };
        Some((page, link))
    }

    fn get_manifest(&self, request: &Request, name: &str, reference: &str) -> Answer {
        let state = lock(&self.state);
        let Some((digest, manifest)) = state.manifest(name, reference) else {
            return Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        };
        let etag = format!("\"{digest}\"");
        if request.header("if-none-match") == Some(&etag) {
            return Answer::new(304).header("ETag", etag);
        }
        let answer = Answer::new(200)
            .header("Content-Type", &manifest.media_type)
            .header("ETag", etag)
            .shared_body(manifest.bytes.clone());
        self.with_digest(answer, digest)
    }

    fn receive_manifest(&self, request: &Request, name: &str, reference: &str) -> Answer {
        let Ok(document) = serde_json::from_slice::<Value>(&request.body) else {
            return Answer::error(400, "MANIFEST_INVALID", "the manifest is not JSON");
        };
        let digest = match reference.split_once(':') {
            None => sha256(&request.body),
            Some(_) if digest_matches(reference, &request.body) => reference.to_owned(),
            Some(_) => return Answer::error(400, "DIGEST_INVALID", "the digest does not match"),
        };
        let mut state = lock(&self.state);
        let repo = state.repos.entry(name.to_owned()).or_default();
        for wanted in references(&document) {
            if !repo.blobs.contains(&wanted) && !repo.manifests.contains_key(&wanted) {
                let message = format!("unknown to the repository: {wanted}");
                return Answer::error(400, "MANIFEST_BLOB_UNKNOWN", &message);
            }
        }
        let media_type = request
            .header("content-type")
            .or(document["mediaType"].as_str())
            .unwrap_or(OCI_MANIFEST)
            .to_owned();
        repo.manifests.insert(
            digest.clone(),
            Manifest {
                media_type,
                bytes: Arc::new(request.body.clone()),
            },
        );
        if !reference.contains(':') {
            repo.tags.insert(reference.to_owned(), digest.clone());
        }
        let location = self.location(request, &format!("/v2/{name}/manifests/{digest}"));
        let answer = Answer::new(201).header("Location", location);
        let answer = match document["subject"]["digest"].as_str() {
            Some(subject) if self.settings.referrers => answer.header("OCI-Subject", subject),
            _ => answer,
        };
        self.with_digest(answer, &digest)
    }

    fn delete_manifest(&self, name: &str, reference: &str) -> Answer {
        let mut state = lock(&self.state);
        let Some(repo) = state.repos.get_mut(name) else {
            return Answer::error(404, "NAME_UNKNOWN", "repository name not known");
        };
        let found = if reference.contains(':') {
            repo.tags.retain(|_, digest| digest != reference);
            repo.manifests.remove(reference).is_some()
        } else {
            repo.tags.remove(reference).is_some()
        };
        if found {
            Answer::new(202)
        } else {
            Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        }
    }

    fn get_blob(&self, request: &Request, name: &str, digest: &str) -> Answer {
        let Some(bytes) = self.blob(name, digest) else {
            return Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        if let Some(base) = &self.settings.blob_redirect {
            return Answer::redirect(307, format!("{base}{digest}?signature=s%2Fg%3D"));
        }
        self.with_digest(serve_bytes(request, digest, &bytes), digest)
    }

    fn delete_blob(&self, name: &str, digest: &str) -> Answer {
        let mut state = lock(&self.state);
        let removed = state
            .repos
            .get_mut(name)
            .is_some_and(|repo| repo.blobs.remove(digest));
        if removed {
            Answer::new(202)
        } else {
            Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        }
    }

    fn start_upload(&self, request: &Request, name: &str) -> Answer {
        if let Some(digest) = request.query_param("mount") {
            let from = request.query_param("from").unwrap_or_default();
            let mut state = lock(&self.state);
            if state.blob(&from, &digest).is_some() {
                let repo = state.repos.entry(name.to_owned()).or_default();
                repo.blobs.insert(digest.clone());
                drop(state);
                return self.created(request, name, &digest);
            }
        } else if let Some(digest) = request.query_param("digest") {
            return self.store(request, name, &digest, request.body.clone());
        }
        let mut state = lock(&self.state);
        state.serial += 1;
        let id = format!("upload-{}", state.serial);
        state.uploads.insert(
            id.clone(),
            Upload {
                repo: name.to_owned(),
                bytes: Vec::new(),
            },
        );
        let answer = self.progress(request, 202, name, &id, 0);
        match self.settings.chunk_min {
            Some(least) => answer.header("OCI-Chunk-Min-Length", least.to_string()),
            None => answer,
        }
    }

    /// The answer that tells where an upload stands.
    fn progress(
        &self,
        request: &Request,
        status: u16,
        name: &str,
        id: &str,
        have: usize,
    ) -> Answer {
        let path = format!("/v2/{name}/blobs/uploads/{id}?_state=at-{have}");
        Answer::new(status)
            .header("Location", self.location(request, &path))
            .header("Range", format!("0-{}", have.saturating_sub(1)))
            .header("Docker-Upload-UUID", id)
    }

    fn created(&self, request: &Request, name: &str, digest: &str) -> Answer {
        let location = self.location(request, &format!("/v2/{name}/blobs/{digest}"));
        let answer = Answer::new(201).header("Location", location);
        self.with_digest(answer, digest)
    }

    fn store(&self, request: &Request, name: &str, digest: &str, bytes: Vec<u8>) -> Answer {
        if !digest_matches(digest, &bytes) {
            return Answer::error(400, "DIGEST_INVALID", "the digest does not match");
        }
        lock(&self.state).add_blob(name, digest, bytes);
        self.created(request, name, digest)
    }

    fn upload_status(&self, request: &Request, name: &str, id: &str) -> Answer {
        let state = lock(&self.state);
        match state.uploads.get(id).filter(|upload| upload.repo == name) {
            Some(upload) => self.progress(request, 204, name, id, upload.bytes.len()),
            None => upload_unknown(),
        }
    }

    fn continue_upload(&self, request: &Request, name: &str, id: &str) -> Answer {
        let last = request.method == "PUT";
        let mut state = lock(&self.state);
        let Some(upload) = state.uploads.get_mut(id).filter(|up| up.repo == name) else {
            return upload_unknown();
        };
        let have = upload.bytes.len();
        if request.query_param("_state") != Some(format!("at-{have}")) {
            return Answer::error(404, "BLOB_UPLOAD_INVALID", "an outdated upload location");
        }
        let in_order = match request.header("content-range") {
            None => true,
            Some(text) => content_range(text)
                .is_some_and(|range| range.start == have && range.len() == request.body.len()),
        };
        let too_small = !last
            && self
                .settings
                .chunk_min
                .is_some_and(|least| request.body.len() < least);
        if !in_order || too_small {
            return self.progress(request, 416, name, id, have);
        }
        upload.bytes.extend_from_slice(&request.body);
        let have = upload.bytes.len();
        if !last {
            return self.progress(request, 202, name, id, have);
        }
        let bytes = std::mem::take(&mut upload.bytes);
        state.uploads.remove(id);
        drop(state);
        let digest = request.query_param("digest").unwrap_or_default();
        self.store(request, name, &digest, bytes)
    }

    fn cancel_upload(&self, name: &str, id: &str) -> Answer {
        let mut state = lock(&self.state);
        if state.uploads.get(id).is_some_and(|up| up.repo == name) {
            state.uploads.remove(id);
            Answer::new(204)
        } else {
            upload_unknown()
        }
    }

    fn get_referrers(&self, request: &Request, name: &str, subject: &str) -> Answer {
        let filter = request.query_param("artifactType");
        let state = lock(&self.state);
        let mut manifests = Vec::new();
        for (digest, manifest) in state.repos.get(name).iter().flat_map(|r| &r.manifests) {
            let Ok(document) = serde_json::from_slice::<Value>(&manifest.bytes) else {
                continue;
            };
            if document["subject"]["digest"].as_str() != Some(subject) {
                continue;
            }
            let kind = document["artifactType"]
                .as_str()
                .or(document["config"]["mediaType"].as_str())
                .unwrap_or_default();
            if filter.as_ref().is_some_and(|filter| filter != kind) {
                continue;
            }
            let mut entry = json!({
                "mediaType": manifest.media_type,
                "digest": digest,
                "size": manifest.bytes.len(),
                "artifactType": kind,
            });
            if document["annotations"].is_object() {
                entry["annotations"] = document["annotations"].clone();
            }
            manifests.push(entry);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": manifests,
        });
        let answer = Answer::new(200)
            .header("Content-Type", OCI_INDEX)
            .body(index.to_string());
        if filter.is_some() {
            answer.header("OCI-Filters-Applied", "artifactType")
        } else {
            answer
        }
    }
}

impl State {
    fn blob(&self, repo: &str, digest: &str) -> Option<Arc<Vec<u8>>> {
        let known = self.repos.get(repo)?.blobs.contains(digest);
        self.blobs.get(digest).filter(|_| known).cloned()
    }

    fn add_blob(&mut self, repo: &str, digest: &str, bytes: Vec<u8>) {
        self.blobs.insert(digest.to_owned(), Arc::new(bytes));
        let entry = self.repos.entry(repo.to_owned()).or_default();
        entry.blobs.insert(digest.to_owned());
    }

    fn manifest<'a>(&'a self, repo: &str, reference: &'a str) -> Option<(&'a str, &'a Manifest)> {
        let repo = self.repos.get(repo)?;
        let digest = if reference.contains(':') {
            reference
        } else {
            repo.tags.get(reference)?
        };
        Some((digest, repo.manifests.get(digest)?))
    }
}

/// Serves bytes under their digest with conditions and one range (RFC 9110, sections 13 and 14).
pub fn serve_bytes(request: &Request, digest: &str, bytes: &Arc<Vec<u8>>) -> Answer {
    let etag = format!("\"{digest}\"");
    if request.header("if-none-match") == Some(&etag) {
        return Answer::new(304).header("ETag", etag);
    }
    let fresh = request
        .header("if-range")
        .is_none_or(|condition| condition == etag);
    let range = match request.header("range") {
        Some(text) if fresh && request.method == "GET" => byte_range(text, bytes.len()),
        _ => ByteRange::All,
    };
    let answer = |status| {
        Answer::new(status)
            .header("Content-Type", "application/octet-stream")
            .header("Accept-Ranges", "bytes")
            .header("ETag", &etag)
    };
    match range {
        ByteRange::All => answer(200).shared_body(bytes.clone()),
        ByteRange::Part(range) => answer(206)
            .header(
                "Content-Range",
                format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len()),
            )
            .body(&bytes[range]),
        ByteRange::Outside => {
            answer(416).header("Content-Range", format!("bytes */{}", bytes.len()))
        }
    }
}

/// The bytes of a blob of `length` bytes that a request asks for; `None` if none of them can be sent.
pub fn asked_for(request: &Request, length: usize) -> Option<Range<usize>> {
    let range = request.header("range").unwrap_or_default();
    match byte_range(range, length) {
        ByteRange::All => Some(0..length),
        ByteRange::Part(range) => Some(range),
        ByteRange::Outside => None,
    }
}

enum ByteRange {
    All,
    Part(Range<usize>),
    Outside,
}

/// `bytes=a-b`, `bytes=a-`, `bytes=-n`; anything else is ignored.
fn byte_range(text: &str, length: usize) -> ByteRange {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|spec| spec.split_once('-'))
    else {
        return ByteRange::All;
    };
    let number = |text: &str| text.parse::<usize>().ok();
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Some(first), None) if last.is_empty() => first..length,
        (None, Some(count)) if first.is_empty() => length.saturating_sub(count)..length,
        _ => return ByteRange::All,
    };
    if range.start < range.end {
        ByteRange::Part(range)
    } else {
        ByteRange::Outside
    }
}

/// `a-b` of an upload chunk.
fn content_range(text: &str) -> Option<Range<usize>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse::<usize>().ok()?);
    Some(first..last.checked_add(1)?)
}

fn with_link(answer: Answer, next: Option<&str>) -> Answer {
    match next {
        Some(next) => answer.header("Link", format!("<{next}>; rel=\"next\"")),
        None => answer,
    }
}

fn unsupported() -> Answer {
    Answer::error(405, "UNSUPPORTED", "the operation is unsupported")
}

fn page_invalid() -> Answer {
    let message = "invalid number of results requested";
    Answer::error(400, "PAGINATION_NUMBER_INVALID", message)
}

fn upload_unknown() -> Answer {
    Answer::error(
        404,
        "BLOB_UPLOAD_UNKNOWN",
        "blob upload unknown to registry",
    )
}

/// The digests a manifest or index needs.
fn references(document: &Value) -> Vec<String> {
    let lists = ["layers", "manifests", "blobs"]
        .iter()
        .filter_map(|key| document[*key].as_array())
        .flatten();
    lists
        .chain(
            document["config"]
                .is_object()
                .then_some(&document["config"]),
        )
        .filter(|descriptor| descriptor["urls"].is_null())
        .filter_map(|descriptor| descriptor["digest"].as_str())
        .map(str::to_owned)
        .collect()
}

fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.split('/').all(|part| {
            let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric());
            edge(part.bytes().next())
                && edge(part.bytes().last())
                && part
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `sha256:...` of these bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    format!("sha256:{}", hex(digest.as_ref()))
}

/// `sha512:...` of these bytes.
pub fn sha512(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA512, bytes);
    format!("sha512:{}", hex(digest.as_ref()))
}

fn digest_matches(digest: &str, bytes: &[u8]) -> bool {
    digest == sha256(bytes) || digest == sha512(bytes)
}

/// `size` bytes that do not compress; the same seed makes the same bytes (SplitMix64).
pub fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A tar archive (ustar) of one file.
pub fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}
