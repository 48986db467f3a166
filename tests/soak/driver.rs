//! Soak: a C program of 64 threads against two docker-registry processes over one storage, plain and TLS, behind
//! proxies that spoil what passes, with tokens that live 2 seconds. It makes the content, the weather and the
//! restarts, and judges what the program, the folder and the storage look like in the end.

#[path = "faults.rs"]
mod faults;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use faults::Faults;
use registry_transport::creds::Creds;
use registry_transport::options::Options;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};
use serde_json::json;
use support::pki::Ca;
use support::real::DockerRegistry;
use support::registry::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, noise, sha256};
use support::server::{Server, lock};
use support::token::TokenServer;

const USAGE: &str = "\
usage: soak --program FILE [options]
  --seconds N     how long the bad weather lasts, instead of 120
  --seed N        the seed of all choices; without it a new one, which is printed
  --threads N     instead of 64
  --one-in N      one exchange in N is spoilt, instead of 12
  --sabotage WHAT leak, fd, secret, byte or hang: spoils the test on purpose, so it must fail";

const USER: &str = "soak";
/// What docker-registry forgives a token.
const LEEWAY: Duration = Duration::from_secs(60);
const TOKEN_LIFE: u64 = 2;

struct Settings {
    program: PathBuf,
    seconds: u64,
    seed: u64,
    threads: u64,
    one_in: u64,
    sabotage: Option<String>,
}

impl Settings {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut settings = Self {
            program: PathBuf::new(),
            seconds: 120,
            seed: since.map_or(1, |d| d.as_micros() as u64),
            threads: 64,
            one_in: 12,
            sabotage: None,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            let mut number = || {
                let text = value()?;
                text.parse().map_err(|_| format!("{text} is not a number"))
            };
            match arg.as_str() {
                "--program" => settings.program = value()?.into(),
                "--seconds" => settings.seconds = number()?,
                "--seed" => settings.seed = number()?,
                "--threads" => settings.threads = number()?,
                "--one-in" => settings.one_in = number()?,
                "--sabotage" => settings.sabotage = Some(value()?),
                _ => return Err(format!("unknown option {arg}")),
            }
        }
        Ok(settings)
    }

    /// Rounds of 15 seconds or more, at least eight.
    fn rounds(&self) -> u64 {
        (self.seconds / 30).max(8)
    }
}

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("soak: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", settings.seed);
    let faults = soak(&settings);
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    println!(
        "{}",
        if faults.is_empty() {
            "passed"
        } else {
            "failed"
        }
    );
    ExitCode::from(u8::from(!faults.is_empty()))
}

// ---------------------------------------------------------------- content

/// A blob or manifest that the program knows byte for byte.
struct Item {
    is_manifest: bool,
    media_type: &'static str,
    tag: Option<String>,
    subject: Option<usize>,
    needs: Vec<usize>,
    bytes: Vec<u8>,
    digest: String,
}

#[derive(Default)]
struct Pool(Vec<Item>);

impl Pool {
    /// Blobs of every size of message, images of them, indexes of images, and artifacts that refer to images.
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pool = Self::default();
        let mut sizes = vec![1, 2, 100, 1023, 4095, 4096, 16_384, 65_535, 65_537];
        sizes.extend((0..22).map(|_| {
            let most = 1 << rng.u32(6..19);
            rng.usize(1..most)
        }));
        sizes.extend((0..3).map(|_| rng.usize(1 << 20..3 << 20)));
        for (i, size) in sizes.iter().enumerate() {
            let bytes = noise(&format!("{seed}/{i}"), *size);
            pool.add(false, "application/octet-stream", None, None, vec![], bytes);
        }
        let blobs = pool.0.len();
        for i in 0..12 {
            let mut needs: Vec<usize> = (0..rng.usize(2..=5)).map(|_| rng.usize(..blobs)).collect();
            needs.dedup();
            let tag = (i % 3 != 0).then(|| format!("v{i}"));
            pool.image(tag, None, &needs, i);
        }
        for i in 0..2 {
            let needs: Vec<usize> = (0..3).map(|k| blobs + i * 4 + k).collect();
            let manifests: Vec<_> = needs.iter().map(|n| pool.descriptor(*n)).collect();
            let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
            let bytes = index.to_string().into_bytes();
            pool.add(
                true,
                OCI_INDEX,
                Some(format!("index{i}")),
                None,
                needs,
                bytes,
            );
        }
        for i in 0..5 {
            let needs = [rng.usize(..blobs), rng.usize(..blobs)];
            pool.image(None, Some(blobs + i % 2), &needs, 100 + i);
        }
        pool
    }

    fn add(
        &mut self,
        is_manifest: bool,
        media_type: &'static str,
        tag: Option<String>,
        subject: Option<usize>,
        needs: Vec<usize>,
        bytes: Vec<u8>,
    ) {
        let digest = sha256(&bytes);
        self.0.push(Item {
            is_manifest,
            media_type,
            tag,
            subject,
            needs,
            bytes,
            digest,
        });
    }

    fn image(
        &mut self,
        tag: Option<String>,
        subject: Option<usize>,
        needs: &[usize],
        serial: usize,
    ) {
        let layers: Vec<_> = needs[1..].iter().map(|n| self.descriptor(*n)).collect();
        let mut config = self.descriptor(needs[0]);
        config["mediaType"] = OCI_CONFIG.into();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": {"soak": serial.to_string()},
        });
        if let Some(subject) = subject {
            manifest["subject"] = self.descriptor(subject);
            manifest["artifactType"] = "application/vnd.soak".into();
        }
        let bytes = manifest.to_string().into_bytes();
        self.add(true, OCI_MANIFEST, tag, subject, needs.to_vec(), bytes);
    }

    fn descriptor(&self, i: usize) -> serde_json::Value {
        let item = &self.0[i];
        let media_type = if item.is_manifest {
            item.media_type
        } else {
            OCI_LAYER
        };
        json!({"mediaType": media_type, "digest": item.digest, "size": item.bytes.len()})
    }

    /// As files: one an item, by number, and an index.
    fn write(&self, folder: &Path) {
        let mut index = String::new();
        for (i, item) in self.0.iter().enumerate() {
            std::fs::write(folder.join(i.to_string()), &item.bytes).expect("a pool file");
            let needs: Vec<String> = item.needs.iter().map(usize::to_string).collect();
            index += &format!(
                "{} {} {} {} {} {} {}\n",
                if item.is_manifest { 'm' } else { 'b' },
                item.digest,
                item.bytes.len(),
                item.media_type,
                item.tag.as_deref().unwrap_or("-"),
                item.subject.map_or(-1, |s| s as i64),
                needs.join(" ")
            );
        }
        std::fs::write(folder.join("index"), index).expect("the index");
    }

    /// Into soak/base of a registry.
    fn push(&self, authority: &str, password: &str, ca: &Ca) {
        let mut options = Options::new();
        options.set_number("environment", 0).expect("environment");
        options
            .set_text("ca-file", &ca.path().display().to_string())
            .expect("ca-file");
        let creds = Creds::basic(USER, password).expect("credentials");
        let name = format!("{authority}/soak/base");
        let transport = Transport::new(&name, Actions::push(), Some(&creds), Some(&options))
            .expect("a transport");
        for item in &self.0 {
            if item.is_manifest {
                let reference = item.tag.as_deref().unwrap_or(&item.digest);
                transport
                    .manifest_put(reference, item.media_type, &item.bytes, None)
                    .expect("a manifest is stored");
            } else {
                transport
                    .blob_put(Some(&item.digest), &Source::bytes(&*item.bytes), None, None)
                    .expect("a blob is stored");
            }
        }
    }
}

// ---------------------------------------------------------------- storage

/// What a registry's folder holds.
#[derive(Default)]
struct Storage {
    blobs: BTreeSet<String>,
    /// Blobs whose bytes do not have the digest of their name.
    damaged: Vec<String>,
    /// Links (layers, revisions, tags) by repository.
    links: BTreeMap<String, BTreeSet<String>>,
    uploads: usize,
}

impl Storage {
    fn read(root: &Path) -> Self {
        let mut storage = Self::default();
        let root = root.join("docker/registry/v2");
        for path in files(&root.join("blobs")) {
            let hex = path.parent().and_then(Path::file_name).expect("a folder");
            let digest = format!("sha256:{}", hex.to_string_lossy());
            if sha256(&std::fs::read(&path).expect("a blob")) != digest {
                storage.damaged.push(digest.clone());
            }
            storage.blobs.insert(digest);
        }
        let repositories = root.join("repositories");
        for path in files(&repositories) {
            let path = path.strip_prefix(&repositories).expect("below");
            let text = path.display().to_string();
            let at = text.find("/_").expect("a repository's folder");
            if path.ends_with("link") {
                let links = storage.links.entry(text[..at].to_owned()).or_default();
                links.insert(text[at + 1..].to_owned());
            }
            if text.contains("/_uploads/") && path.ends_with("startedat") {
                storage.uploads += 1;
            }
        }
        storage
    }
}

/// What is in a folder; nothing, if it is not there.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| e.path()).collect()
}

/// All files below a folder. Those that vanish meanwhile are left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}

/// A registry that is killed at its links leaves them empty. Killed when it has deleted a manifest but not yet its tags,
/// it leaves a tag of nothing. It can neither read nor delete these: as its keeper would, this writes the links again
/// and removes the tags. Writing takes nothing from the other registry, should that be just then at one of them.
fn mend(storage: &Path, pause: Duration) -> u64 {
    let repositories = storage.join("docker/registry/v2/repositories");
    let torn_links = || -> BTreeSet<PathBuf> {
        let links = files(&repositories).into_iter();
        links
            .filter(|p| p.ends_with("link") && !has_text(p))
            .collect()
    };
    let torn_tags = || -> BTreeSet<PathBuf> {
        let repositories = entries(&repositories.join("soak")).into_iter();
        let tags = repositories.flat_map(|r| entries(&r.join("_manifests/tags")));
        tags.filter(|tag| is_of_nothing(tag)).collect()
    };
    // The other registry may be about to end one.
    let of_both_looks = |torn: &dyn Fn() -> BTreeSet<PathBuf>| -> Vec<PathBuf> {
        let before = torn();
        std::thread::sleep(pause / 2);
        torn().intersection(&before).cloned().collect()
    };
    let links = of_both_looks(&torn_links);
    // Between the look and its end a repetition may have written one again.
    for link in links.iter().filter(|link| !has_text(link)) {
        if let Some(digest) = what_it_named(link) {
            let _ = std::fs::write(link, digest);
        }
    }
    let tags = of_both_looks(&torn_tags);
    for tag in tags.iter().filter(|tag| is_of_nothing(tag)) {
        let _ = std::fs::remove_dir_all(tag);
    }
    (links.len() + tags.len()) as u64
}

fn has_text(link: &Path) -> bool {
    link.metadata().is_ok_and(|m| m.len() > 0)
}

/// Whether _manifests/revisions/sha256/HEX/link holds a digest, which it does as long as the manifest is there.
fn is_stored(manifests: &Path, digest: &str) -> bool {
    has_text(&manifests.join(format!("revisions/{}/link", digest.replace(':', "/"))))
}

/// Whether _manifests/tags/TAG/current/link names no manifest that is there.
fn is_of_nothing(tag: &Path) -> bool {
    let digest = std::fs::read_to_string(tag.join("current/link")).unwrap_or_default();
    !is_stored(&tag.join("../.."), &digest)
}

/// The digest that an empty link held: that of its folder, which is how those of manifests and layers are stored. What
/// a tag names, in _manifests/tags/TAG/current/link, is the latest of TAG/index/sha256/HEX/link, which the registry
/// writes just before.
fn what_it_named(link: &Path) -> Option<String> {
    let folder = link.parent()?;
    if !folder.ends_with("current") {
        return digest_of(folder);
    }
    let tag = folder.parent()?;
    let written = |revision: &Path| revision.join("link").metadata()?.modified();
    let mut revisions = entries(&tag.join("index/sha256"));
    revisions.sort_by_key(|revision| written(revision).ok());
    let mut digests = revisions.iter().rev().filter_map(|r| digest_of(r));
    digests.find(|digest| is_stored(&tag.join("../.."), digest))
}

/// sha256:HEX of .../sha256/HEX.
fn digest_of(folder: &Path) -> Option<String> {
    let algorithm = folder.parent()?.file_name()?.to_str()?;
    Some(format!("{algorithm}:{}", folder.file_name()?.to_str()?))
}

// ---------------------------------------------------------------- scene

/// The servers and what is in the way to them.
struct Scene {
    ca: Ca,
    token: Arc<TokenServer>,
    _tokens: Server,
    to_tokens: Faults,
    /// The plain one and the one with TLS, each with its proxy.
    ways: [(Mutex<DockerRegistry>, Faults); 2],
    storage: PathBuf,
    restarts: AtomicU64,
    torn: AtomicU64,
    over: AtomicBool,
    /// Held while a registry is restarted because of the weather.
    restarting: Mutex<()>,
}

impl Scene {
    fn start(settings: &Settings, password: &str) -> Self {
        let ca = Ca::new();
        let token = TokenServer::new("registry")
            .user(
                USER,
                password,
                &["repository:soak/*:pull,push,delete", "registry:catalog:*"],
            )
            .expires_in(Some(TOKEN_LIFE))
            .signed(&ca);
        token.set_leeway(LEEWAY);
        let token = Arc::new(token);
        let answering = token.clone();
        let tokens = Server::builder()
            .tls(&ca)
            .without_log()
            .start(move |request| answering.answer(request));
        let to_tokens = Faults::start(tokens.address(), false, settings.seed);
        let realm = format!("https://{}/token", to_tokens.address());
        let plain = DockerRegistry::token_as(None, &token, &realm);
        let tls = plain.token_beside(&ca, &token, &realm);
        let storage = plain.storage();
        let ways = [(plain, true), (tls, false)].map(|(registry, is_plain)| {
            let way = Faults::start(registry.address(), is_plain, settings.seed + 1);
            (Mutex::new(registry), way)
        });
        Self {
            ca,
            token,
            _tokens: tokens,
            to_tokens,
            ways,
            storage,
            restarts: AtomicU64::new(0),
            torn: AtomicU64::new(0),
            over: AtomicBool::new(false),
            restarting: Mutex::default(),
        }
    }

    fn spoil(&self, one_in: u64) {
        self.to_tokens.spoil(one_in * 3);
        for (_, way) in &self.ways {
            way.spoil(one_in);
        }
    }

    fn restart(&self, which: usize, pause: Duration) {
        let (registry, way) = &self.ways[which];
        let mut registry = lock(registry);
        way.lead_to(None);
        registry.stop(if self.restarts.fetch_add(1, Ordering::SeqCst) % 2 == 0 {
            "KILL"
        } else {
            "TERM"
        });
        self.torn
            .fetch_add(mend(&self.storage, pause), Ordering::SeqCst);
        registry.start_again();
        way.lead_to(Some(registry.address()));
    }

    /// Kills and starts the registries now and then.
    fn keep_restarting(&self, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut next = Instant::now() + Duration::from_secs(8);
        while !self.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
            if Instant::now() < next {
                continue;
            }
            let _restarting = lock(&self.restarting);
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            self.restart(rng.usize(..2), Duration::from_millis(rng.u64(400..1500)));
            next = Instant::now() + Duration::from_millis(rng.u64(6000..14000));
        }
    }
}

// ---------------------------------------------------------------- the program

/// What it held when all its threads had stopped.
#[derive(Clone, Copy, Debug)]
struct Round {
    heap: u64,
    rss: u64,
    fds: u64,
    threads: u64,
}

impl Round {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let value = |name: &str| {
            let at = words.iter().position(|w| *w == name)?;
            words.get(at + 1)?.parse().ok()
        };
        Some(Self {
            heap: value("heap")?,
            rss: value("rss")?,
            fds: value("fds")?,
            threads: value("threads")?,
        })
    }
}

/// Least and most of something.
#[derive(Default)]
struct Range(Option<(u64, u64)>);

impl Range {
    fn take(&mut self, value: u64) {
        let (least, most) = self.0.unwrap_or((value, value));
        self.0 = Some((least.min(value), most.max(value)));
    }

    fn text(&self) -> String {
        self.0.map_or("none".to_owned(), |(least, most)| {
            format!("{least} to {most}")
        })
    }
}

/// KiB, descriptors and threads of a running process.
fn sample(pid: u32) -> Option<(u64, u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| -> Option<u64> {
        let line = status.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some((number("VmRSS:")?, fds, number("Threads:")?))
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// What must not grow, from the second quarter of the rounds to the last one. What is resident holds the stacks too,
/// which grow until every thread has been everywhere.
fn growth(rounds: &[Round]) -> Vec<String> {
    let mut faults = Vec::new();
    let quarter = (rounds.len() / 4).max(1);
    if rounds.len() < 4 {
        return vec!["too few rounds".to_owned()];
    }
    for (name, value, most) in [
        ("heap bytes", (|r| r.heap) as fn(&Round) -> u64, 256 << 10),
        ("KiB resident", |r| r.rss, 8192),
        ("descriptors", |r| r.fds, 0),
        ("threads", |r| r.threads, 0),
    ] {
        let of = |rounds: &[Round]| median(rounds.iter().map(value).collect());
        let before = of(&rounds[quarter..quarter * 2]);
        let after = of(&rounds[rounds.len() - quarter..]);
        println!("{name} at rest: {before} after warm-up, {after} at the end");
        if after > before + most {
            faults.push(format!("{name} grew from {before} to {after}"));
        }
    }
    faults
}

fn start_program(settings: &Settings, lines: &[(&str, String)]) -> Child {
    let mut child = Command::new(&settings.program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env_clear()
        // What each thread keeps for itself would count as used, and what a burst once needed as resident: a fixed
        // threshold gives back the ends of all arenas, which malloc_trim does for the first one alone.
        .env(
            "GLIBC_TUNABLES",
            "glibc.malloc.tcache_count=0:glibc.malloc.trim_threshold=131072",
        )
        .spawn()
        .expect("the program");
    let input = child.stdin.as_mut().expect("its input");
    for (key, value) in lines {
        writeln!(input, "{key} {value}").expect("a line is taken");
    }
    writeln!(input).expect("a line is taken");
    child
}

fn soak(settings: &Settings) -> Vec<String> {
    // In memory, where there is such a folder: what a busy disk takes to sync is not the library's time.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory
    } else {
        &std::env::temp_dir()
    };
    let folder = tempfile::tempdir_in(place).expect("a temporary folder");
    let [pool_folder, work] = ["pool", "work"].map(|name| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        path
    });
    let password = format!("canary-{:016x}", settings.seed ^ 0x5eed);
    let scene = Scene::start(settings, &password);
    let pool = Pool::new(settings.seed);
    pool.write(&pool_folder);
    pool.push(&lock(&scene.ways[0].0).authority(), &password, &scene.ca);
    let seeded = Storage::read(&scene.storage);

    let [plain, tls] = [0, 1].map(|i| scene.ways[i].1.address().to_string());
    let auth = BASE64_STANDARD.encode(format!("{USER}:{password}"));
    let config = json!({"auths": {&plain: {"auth": auth}, &tls: {"auth": auth}}});
    let config_path = folder.path().join("config.json");
    std::fs::write(&config_path, config.to_string()).expect("config.json");
    let rounds = settings.rounds();
    let mut lines = vec![
        ("plain", plain),
        ("tls", tls),
        ("ca", scene.ca.path().display().to_string()),
        ("folder", work.display().to_string()),
        ("pool", pool_folder.display().to_string()),
        ("docker-config", config_path.display().to_string()),
        ("user", USER.to_owned()),
        ("password", password.clone()),
        ("seed", settings.seed.to_string()),
        ("threads", settings.threads.to_string()),
        ("rounds", rounds.to_string()),
        ("seconds", (settings.seconds / rounds).max(1).to_string()),
        // What must not be seen: passwords, in both spellings, all signed tokens, and signatures of locations.
        ("canary", password),
        ("canary", "not-the-password".to_owned()),
        ("canary", auth),
        ("canary", "eyJ".to_owned()),
        ("canary", "_state=".to_owned()),
    ];
    if let Some(what) = &settings.sabotage {
        lines.push(("sabotage", what.clone()));
    }
    scene.spoil(settings.one_in);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| scene.keep_restarting(settings.seed));
        let outcome = watch(settings, &scene, &lines);
        scene.over.store(true, Ordering::SeqCst);
        outcome
    });

    let mut failures = outcome.failures;
    // The calm round is not like the others.
    let calm = outcome.rounds.len().saturating_sub(1);
    failures.extend(growth(&outcome.rounds[..calm]));
    if let (Some(first), Some(last)) = (outcome.rounds.first(), outcome.rounds.last()) {
        if (last.fds, last.threads) != (first.fds, first.threads) {
            failures.push(format!("in the end it holds {last:?}, at first {first:?}"));
        }
    }
    let mut left = BTreeSet::new();
    for path in files(&work) {
        left.insert(
            path.strip_prefix(&work)
                .expect("below")
                .display()
                .to_string(),
        );
    }
    if !left.is_empty() {
        failures.push(format!("files are left behind: {left:?}"));
    }
    let found = Storage::read(&scene.storage);
    if !found.damaged.is_empty() {
        failures.push(format!(
            "damaged blobs in the registry: {:?}",
            found.damaged
        ));
    }
    let unknown: Vec<_> = found.blobs.difference(&seeded.blobs).collect();
    if !unknown.is_empty() {
        failures.push(format!("blobs nobody sent: {unknown:?}"));
    }
    for (repository, links) in &found.links {
        if repository == "soak/base" && Some(links) == seeded.links.get(repository) {
            continue;
        }
        failures.push(format!(
            "the registry still holds of {repository}: {links:?}"
        ));
    }
    if found.uploads != outcome.uploads_before_calm {
        failures.push(format!(
            "calls that succeeded left {} uploads",
            found.uploads as i64 - outcome.uploads_before_calm as i64
        ));
    }
    println!(
        "uploads left by calls that were cut off: {} (of {} failed uploads)",
        found.uploads, outcome.failed_uploads
    );
    println!(
        "registry restarts: {}, links torn by them: {}; tokens issued: {}",
        scene.restarts.load(Ordering::SeqCst),
        scene.torn.load(Ordering::SeqCst),
        scene.token.exchange_count()
    );
    for (name, way) in [
        ("plain", &scene.ways[0].1),
        ("TLS", &scene.ways[1].1),
        ("token", &scene.to_tokens),
    ] {
        let counts: Vec<String> = way
            .counts()
            .iter()
            .map(|(kind, n)| format!("{kind:?} {n}"))
            .collect();
        println!(
            "faults, {name}: {} in {} exchanges",
            counts.join(", "),
            way.exchanges()
        );
    }
    failures
}

struct Outcome {
    failures: Vec<String>,
    rounds: Vec<Round>,
    uploads_before_calm: usize,
    failed_uploads: u64,
}

/// Follows the program to its end.
fn watch(settings: &Settings, scene: &Scene, lines: &[(&str, String)]) -> Outcome {
    let mut child = start_program(settings, lines);
    let (sender, receiver) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().expect("its output"));
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut outcome = Outcome {
        failures: Vec::new(),
        rounds: Vec::new(),
        uploads_before_calm: 0,
        failed_uploads: 0,
    };
    let (mut rss, mut fds, mut threads) = (Range::default(), Range::default(), Range::default());
    let mut ended = false;
    let limit = Duration::from_secs(settings.seconds * 2 + 300);
    let began = Instant::now();
    let mut sampled = Instant::now();
    let mut operations = 0;
    loop {
        if sampled.elapsed() >= Duration::from_secs(1) {
            sampled = Instant::now();
            if let Some(values) = sample(child.id()) {
                rss.take(values.0);
                fds.take(values.1);
                threads.take(values.2);
            }
        }
        if began.elapsed() > limit {
            outcome.failures.push("it did not end".to_owned());
            let _ = child.kill();
            break;
        }
        let line = match receiver.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        println!("{line}");
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "ROUND" => match Round::parse(rest) {
                Some(round) => outcome.rounds.push(round),
                None => outcome.failures.push(format!("not understood: {line}")),
            },
            "CALM" => {
                scene.over.store(true, Ordering::SeqCst);
                drop(lock(&scene.restarting));
                scene.spoil(0);
                // Tokens die on the way only in bad weather.
                scene.token.set_leeway(Duration::ZERO);
                // Nothing is under way any more after this.
                for which in [0, 1] {
                    scene.restart(which, Duration::from_millis(500));
                }
                outcome.uploads_before_calm = Storage::read(&scene.storage).uploads;
                let go = child.stdin.as_mut().map(|input| writeln!(input, "go"));
                if !matches!(go, Some(Ok(()))) {
                    outcome
                        .failures
                        .push("it takes no word any more".to_owned());
                }
            }
            "KIND" => {
                let (name, counts) = rest.split_once("; ").unwrap_or((rest, ""));
                for count in counts.split("; ") {
                    let n: u64 = count
                        .rsplit(' ')
                        .next()
                        .map_or(0, |n| n.parse().unwrap_or(0));
                    operations += n;
                    if (name.contains("put") || name.contains("upload") || name == "copy")
                        && !count.starts_with("ok")
                    {
                        outcome.failed_uploads += n;
                    }
                }
            }
            "END" => ended = true,
            "VIOLATION" | "HANG" if outcome.failures.len() < 10 => outcome.failures.push(line),
            _ => {}
        }
    }
    let status = child.wait().expect("its end");
    if !ended || !status.success() {
        outcome
            .failures
            .push(format!("the program ended with {status}"));
    }
    println!(
        "{operations} operations; while they ran: {} KiB resident, {} descriptors, {} threads",
        rss.text(),
        fds.text(),
        threads.text()
    );
    outcome
}
