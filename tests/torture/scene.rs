//! What the flows play against: registries with known content, and servers that put a fault into one answer.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use registry_transport::creds::Creds;
use registry_transport::log::Level;
use registry_transport::options::Options;
use registry_transport::transport::{Actions, Transport};
use serde_json::json;
use tempfile::TempDir;

use super::fault::{Fault, Kind, Recorded};
use super::flows::Flow;
use super::support::pki::Ca;
use super::support::registry::{
    AccessControl, Image, OCI_MANIFEST, Registry, Settings, noise, serve_bytes,
};
use super::support::server::{Answer, Gate, Request, Server, lock};
use super::support::token::TokenServer;

pub const USER: &str = "user";
pub const PASSWORD: &str = "canary-password";
const TOKEN: &str = "canary-token-";
/// Bytes of the blob that is saved to a file.
pub const BIG: usize = 60_000;
/// Bytes of the blob that is fetched over several connections: two full segments and a part.
pub const HUGE: usize = (8 << 20) + 70_000;

/// What must not be seen in any message or log line: passwords, tokens, and what signs a URL.
pub fn secrets() -> [String; 6] {
    use base64::Engine as _;
    let basic = base64::prelude::BASE64_STANDARD_NO_PAD.encode(format!("{USER}:{PASSWORD}"));
    [
        PASSWORD.to_owned(),
        TOKEN.to_owned(),
        "signature=".to_owned(),
        "refresh-1-user".to_owned(),
        "_state=".to_owned(),
        basic,
    ]
}

/// The content of the registries, made once.
pub struct World {
    pub image: Image,
    /// Blobs of [`BIG`] and [`HUGE`] bytes.
    pub big: String,
    pub huge: String,
    /// A blob of another repository.
    pub foreign: String,
    /// What is pushed.
    pub fresh: Vec<u8>,
    home: Arc<Registry>,
    away: Arc<Registry>,
}

pub static WORLD: LazyLock<World> = LazyLock::new(|| {
    let home = Registry::open();
    let image = home.seed_sized("a/b", "v1", ("linux", "amd64"), &[100, 1700]);
    for n in 0..12 {
        home.set_tag("a/b", &format!("tag-{n:02}"), &image.manifest.digest);
    }
    for n in 0..3 {
        let referrer = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": format!("application/x-{n}"),
            "config": image.config.json(), "layers": [], "subject": image.manifest.json(),
        });
        home.put_manifest("a/b", None, OCI_MANIFEST, referrer.to_string());
    }
    World {
        big: home.put_blob("a/b", noise("big", BIG)),
        huge: home.put_blob("a/b", noise("huge", HUGE)),
        foreign: home.put_blob("other/place", noise("foreign", 3000)),
        fresh: noise("fresh", 9000),
        away: Registry::open(),
        image,
        home,
    }
});

static CA: LazyLock<Ca> = LazyLock::new(Ca::new);

/// One run of a flow: its registries and its fault.
pub struct Run {
    flow: &'static Flow,
    token: Arc<TokenServer>,
    /// Where blobs are kept, for registries that redirect.
    storage: String,
    registries: Mutex<[Arc<Registry>; 2]>,
    fault: Option<Fault>,
    armed: AtomicBool,
    fired: AtomicBool,
    arrived: AtomicUsize,
    numbers: Mutex<HashMap<(usize, u64, u64), usize>>,
    /// By the order of the requests, which is not always that of the answers.
    record: Mutex<BTreeMap<usize, Recorded>>,
    /// Never opened.
    never: Gate,
    pub refresh: String,
    pub log: Mutex<String>,
}

impl Run {
    fn new(flow: &'static Flow, fault: Option<Fault>, storage: String) -> Arc<Self> {
        let token = TokenServer::new("test-registry").prefix(TOKEN).user(
            USER,
            PASSWORD,
            &["repository:*:pull,push", "registry:catalog:*"],
        );
        let token = Arc::new(token);
        let run = Self {
            refresh: token.refresh_token(USER),
            registries: Mutex::new(fresh(flow, &token, &storage)),
            storage,
            flow,
            token,
            fault,
            armed: AtomicBool::new(true),
            fired: AtomicBool::new(false),
            arrived: AtomicUsize::new(0),
            numbers: Mutex::default(),
            record: Mutex::default(),
            never: Gate::new(),
            log: Mutex::default(),
        };
        Arc::new(run)
    }

    /// Puts the registries back to how they were, for a run without a fault.
    pub fn renew(&self) {
        self.armed.store(false, Ordering::SeqCst);
        *lock(&self.registries) = fresh(self.flow, &self.token, &self.storage);
    }

    pub fn has_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }

    pub fn record(&self) -> Vec<Recorded> {
        lock(&self.record).values().cloned().collect()
    }

    pub fn registry(&self, place: usize) -> Arc<Registry> {
        Arc::clone(&lock(&self.registries)[place])
    }

    /// Numbers a request that has arrived, and hangs up on it when that is the fault.
    fn early(&self, place: usize, request: &Request) -> Option<Answer> {
        let number = self.arrived.fetch_add(1, Ordering::SeqCst);
        let key = (place, request.connection, request.number_on_connection);
        lock(&self.numbers).insert(key, number);
        let fault = self.fault.filter(|fault| {
            fault.kind == Kind::Deaf
                && fault.answer == number
                && fault.at % 2 == 0
                // Requests that run side by side do not come in the same order each time.
                && matches!(request.method.as_str(), "PATCH" | "PUT")
        })?;
        self.take_fault()?;
        Some(Answer::hang_up().after_reading(fault.at).leave_unread())
    }

    /// Whether the fault is still to come; it comes once.
    fn take_fault(&self) -> Option<()> {
        (self.armed.load(Ordering::SeqCst) && !self.fired.swap(true, Ordering::SeqCst))
            .then_some(())
    }

    fn answer(&self, place: usize, request: &Request) -> Answer {
        let key = (place, request.connection, request.number_on_connection);
        let number = lock(&self.numbers).remove(&key).unwrap_or(usize::MAX);
        let fault = self.fault.filter(|fault| fault.answer == number);
        if let Some(fault) = fault.filter(|f| f.kind == Kind::Deaf && request.method == "PATCH") {
            if self.take_fault().is_some() {
                // What has arrived is kept, as some registries do.
                let mut part = request.clone();
                part.body.truncate(fault.at);
                part.headers
                    .retain(|(name, _)| !name.eq_ignore_ascii_case("content-range"));
                self.registry(place).answer(&part);
                return Answer::reset();
            }
        }
        let answer = match request.path.strip_prefix("/storage/") {
            Some(digest) => match self.registry(0).blob("a/b", digest) {
                Some(bytes) => serve_bytes(request, digest, &bytes),
                None => Answer::new(404),
            },
            None => self.registry(place).answer(request),
        };
        let answer = (self.flow.shape)(request, answer);
        match fault {
            Some(fault) if self.take_fault().is_some() => {
                fault.apply(request, &answer, &self.never)
            }
            _ => {
                if self.armed.load(Ordering::SeqCst) && self.fault.is_none() {
                    let (bytes, head) = answer.wire(request);
                    let recorded = Recorded {
                        request: format!("{} {}", request.method, request.path),
                        length: bytes.len(),
                        lines: bytes[..head].iter().filter(|&&b| b == b'\n').count() - 1,
                        request_body: request.body.len(),
                    };
                    lock(&self.record).insert(number, recorded);
                }
                answer
            }
        }
    }
}

fn fresh(flow: &Flow, token: &Arc<TokenServer>, storage: &str) -> [Arc<Registry>; 2] {
    let settings = || {
        let mut settings = Settings {
            access: AccessControl::Bearer {
                token: Arc::clone(token),
                realm: None,
            },
            page_limit: 5,
            ..Settings::default()
        };
        (flow.settings)(&mut settings);
        settings
    };
    let mut home = settings();
    if flow.signed {
        home.blob_redirect = Some(storage.to_owned());
    }
    [WORLD.home.copy(home), WORLD.away.copy(settings())]
}

/// The servers of one worker, for one run after the other.
pub struct Scene {
    current: Arc<Mutex<Option<Arc<Run>>>>,
    servers: [Server; 2],
}

impl Scene {
    pub fn new(tls: bool) -> Self {
        let current: Arc<Mutex<Option<Arc<Run>>>> = Arc::default();
        let start = |place: usize| {
            let (for_early, for_answer) = (Arc::clone(&current), Arc::clone(&current));
            let builder = if tls {
                Server::builder().tls(&CA)
            } else {
                Server::builder()
            };
            builder
                .without_log()
                .early(move |request| {
                    let run = lock(&for_early).clone();
                    run.and_then(|run| run.early(place, request))
                })
                .start(move |request| {
                    let run = lock(&for_answer).clone();
                    run.map_or_else(Answer::hang_up, |run| run.answer(place, request))
                })
        };
        let servers = [start(0), start(1)];
        Self { current, servers }
    }

    /// Makes everything ready for one run of a flow.
    pub fn set(&self, flow: &'static Flow, fault: Option<Fault>, patience: i64) -> Ready {
        self.set_in(flow, fault, patience, &scratch(), None)
    }

    /// The same with the folder of the run made in this one, and with other credentials.
    pub fn set_in(
        &self,
        flow: &'static Flow,
        fault: Option<Fault>,
        patience: i64,
        place: &Path,
        creds: Option<&Creds>,
    ) -> Ready {
        let run = Run::new(flow, fault, self.servers[1].url("/storage/"));
        *lock(&self.current) = Some(Arc::clone(&run));
        let folder = TempDir::new_in(place).expect("a folder");
        let mut options = Options::new();
        let mut number = |key: &str, value: i64| options.set_number(key, value).expect(key);
        number("environment", 0);
        number("share-tokens", 0);
        number("retry-delay-ms", 1);
        number("connect-timeout-ms", patience.max(2000));
        number("response-timeout-ms", patience);
        number("stall-timeout-ms", patience);
        for (key, value) in flow.numbers {
            options.set_number(key, *value).expect(key);
        }
        if flow.tls {
            options.set_text("ca-pem", CA.pem()).expect("ca-pem");
        }
        let own = Arc::downgrade(&run);
        options.set_log(
            Level::Debug,
            Arc::new(move |_, line| {
                if let Some(run) = own.upgrade() {
                    let mut log = lock(&run.log);
                    log.push_str(line);
                    log.push('\n');
                }
            }),
        );
        let scheme = if flow.tls { "https" } else { "http" };
        options.set_text("scheme", scheme).expect("scheme");
        let creds = match creds {
            Some(creds) => Ok(creds.clone()),
            None if flow.refresh => Creds::refresh(&run.refresh),
            None => Creds::basic(USER, PASSWORD),
        };
        let creds = creds.expect("credentials");
        let to = |server: &Server, repository: &str, actions| {
            let name = format!("{}/{repository}", server.authority());
            Transport::new(&name, actions, Some(&creds), Some(&options)).expect("a transport")
        };
        let actions = if flow.pulls {
            Actions::pull()
        } else {
            Actions::push()
        };
        Ready {
            home: to(&self.servers[0], "a/b", actions),
            away: to(&self.servers[1], "c/d", Actions::push()),
            run,
            folder,
        }
    }
}

/// Everything for one run of a flow.
pub struct Ready {
    pub home: Transport,
    pub away: Transport,
    pub run: Arc<Run>,
    pub folder: TempDir,
}

impl Ready {
    /// Where blobs are saved to.
    pub fn target(&self) -> PathBuf {
        self.folder.path().join("blob")
    }

    /// What is pushed from a file.
    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// The name under which [`Transport::blob_save`] keeps an incomplete download of this blob.
    pub fn partial(&self, digest: &str) -> PathBuf {
        let hex = digest.split(':').nth(1).expect("a digest");
        self.folder
            .path()
            .join(format!(".blob.{}.part", &hex[..16]))
    }

    /// The names in the folder.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.path())
            .expect("a folder")
            .map(|entry| {
                let entry = entry.expect("an entry");
                entry.file_name().to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

/// Where temporary folders are made: in memory where the system has such a place.
pub fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}
