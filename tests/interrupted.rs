//! Downloads over connections that are cut, of bytes that are not the blob's, and by processes that are killed: they
//! end with the right bytes or with an error, and at the target there is the whole or nothing.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use registry_transport::error::{Error, ErrorKind};
use registry_transport::options::Options;
use support::c;
use support::client::{transport_to, with};
use support::pki::Ca;
use support::registry::{asked_for, noise, serve_bytes, sha256};
use support::server::{Answer, Gate, Request as Got, Server, lock};

/// The ways in which a whole blob can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Get,
    Read,
    Save,
    SaveParallel,
}

const ALL: [Way; 4] = [Way::Get, Way::Read, Way::Save, Way::SaveParallel];

impl Way {
    /// How large a blob is that is worth it: several connections are used for more than four mebibytes.
    fn size(self) -> usize {
        match self {
            Self::SaveParallel => 6_000_000,
            _ => 1_000_000,
        }
    }

    fn fetch(
        self,
        authority: &str,
        mut options: Options,
        digest: &str,
        target: &Path,
    ) -> Result<Vec<u8>, Error> {
        if self == Self::SaveParallel {
            options.set_number("parallel", 3).unwrap();
        }
        let transport = transport_to(authority, &options);
        match self {
            Self::Get => transport.blob_get(digest, None)?.take_body(),
            Self::Read => {
                let blob = transport.blob_open(digest, None)?;
                let mut data = vec![0; usize::try_from(blob.size()).unwrap()];
                let n = blob.pread(&mut data, 0, None)?;
                assert_eq!(n, data.len());
                Ok(data)
            }
            Self::Save | Self::SaveParallel => {
                transport.blob_save(digest, target, None)?;
                Ok(fs::read(target).unwrap())
            }
        }
    }
}

/// Without TLS and with it, and what a client needs for it.
fn schemes(numbers: &[(&str, i64)]) -> [(Option<Ca>, Options); 2] {
    let ca = Ca::new();
    let mut secure = with(numbers);
    secure.set_text("ca-pem", ca.pem()).unwrap();
    secure.set_text("scheme", "https").unwrap();
    [(None, with(numbers)), (Some(ca), secure)]
}

fn start(ca: Option<&Ca>, handler: impl Fn(&Got) -> Answer + Send + Sync + 'static) -> Server {
    match ca {
        Some(ca) => Server::start_tls(ca, handler),
        None => Server::start(handler),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The server cuts every answer after a random number of bytes, two hundred times and more. What it sent is the blob
/// once: no byte of it was asked for again.
#[test]
fn cut_answers_are_continued_where_they_ended() {
    for (ca, options) in schemes(&[]) {
        for way in ALL {
            let data = Arc::new(noise("cut", way.size()));
            let digest = sha256(&data);
            let sent = Arc::<Mutex<Vec<(usize, usize)>>>::default();
            let (own, name, log) = (Arc::clone(&data), digest.clone(), Arc::clone(&sent));
            let random = Mutex::new(fastrand::Rng::with_seed(1));
            let server = start(ca.as_ref(), move |r| {
                let answer = serve_bytes(r, &name, &own);
                let asked = asked_for(r, own.len()).unwrap();
                if r.method == "HEAD" {
                    return answer;
                }
                let n = lock(&random).usize(1..=own.len() / 130).min(asked.len());
                let mut log = lock(&log);
                log.push((asked.start, n));
                if n == asked.len() {
                    return answer;
                }
                let answer = answer.cut_after(n);
                match log.len() % 3 {
                    0 => answer.no_close_notify(),
                    1 => answer.chunks_of(1234),
                    _ => answer,
                }
            });
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("blob");
            let got = way.fetch(&server.authority(), options.clone(), &digest, &target);
            let what = format!("{way:?}, TLS {}", ca.is_some());
            assert!(got.unwrap_or_else(|e| panic!("{what}: {e}")) == *data);
            let mut sent = lock(&sent).clone();
            assert!(sent.len() > 200, "{what}: {} answers", sent.len());
            sent.sort_unstable();
            let mut at = 0;
            for (first, n) in sent {
                assert_eq!(first, at, "{what}: where an answer begins");
                at += n;
            }
            assert_eq!(at, data.len(), "{what}");
        }
    }
}

/// Passes connections on to a server, and cuts each after a random number of the server's bytes, whatever they are: a
/// part of a handshake, of a head, of a TLS record.
struct Cutter {
    address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    accept: Option<JoinHandle<()>>,
}

impl Cutter {
    fn start(server: SocketAddr, most: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, stopped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stop) = (Arc::clone(&cuts), Arc::clone(&stopped));
        let accept = std::thread::spawn(move || {
            let mut random = fastrand::Rng::with_seed(2);
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (client, count) = (client.unwrap(), Arc::clone(&count));
                let server = TcpStream::connect(server).unwrap();
                let most = random.usize(1..=most);
                std::thread::spawn(move || {
                    let (mut from, mut to) = (&client, &server);
                    std::thread::scope(|scope| {
                        scope.spawn(move || {
                            let _ = std::io::copy(&mut from, &mut to);
                            let _ = to.shutdown(Shutdown::Write);
                        });
                        if pass(&server, &client, most) == most {
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                        for stream in [&client, &server] {
                            let _ = stream.shutdown(Shutdown::Both);
                        }
                    });
                });
            }
        });
        Self {
            address,
            cuts,
            stopped,
            accept: Some(accept),
        }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.accept.take().map(JoinHandle::join);
    }
}

/// Passes on `most` bytes, or as many as there are, and tells how many that were.
fn pass(from: &TcpStream, mut to: &TcpStream, most: usize) -> usize {
    let mut done = 0;
    let mut from = from.take(most as u64);
    let mut piece = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        done += n;
        if to.write_all(&piece[..n]).is_err() {
            break;
        }
    }
    done
}

/// Every connection is cut after a random number of bytes, two hundred times and more.
#[test]
fn cut_connections_are_replaced() {
    for (ca, options) in schemes(&[("retries", 100)]) {
        for way in ALL {
            // A record of TLS has sixteen kibibytes; of one that is cut nothing is of use.
            let (size, most) = match ca {
                Some(_) => (6_000_000, 50_000),
                None => (way.size(), way.size() / 130),
            };
            let data = Arc::new(noise("cut", size));
            let digest = sha256(&data);
            let (own, name) = (Arc::clone(&data), digest.clone());
            let server = start(ca.as_ref(), move |r| serve_bytes(r, &name, &own));
            let cutter = Cutter::start(server.address(), most);
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("blob");
            let authority = cutter.address.to_string();
            let got = way.fetch(&authority, options.clone(), &digest, &target);
            let what = format!("{way:?}, TLS {}", ca.is_some());
            assert!(got.unwrap_or_else(|e| panic!("{what}: {e}")) == *data);
            let cuts = cutter.cuts.load(Ordering::SeqCst);
            assert!(cuts > 200, "{what}: {cuts} cuts");
        }
    }
}

/// How bytes that are not those of the blob are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// With their own number.
    Own,
    /// With the number that the blob has.
    Blob,
    Chunked,
    UntilClose,
}

/// When they come, after the right ones up to the middle of the blob or at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    AtOnce,
    /// As the range asked for, of a blob of their own length.
    AsRange,
    /// As the range asked for, of a blob of the right length.
    AsRightRange,
    /// As the whole in answer to the request for a range.
    AsWhole,
}

/// What a server makes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Swapped,
    Shortened,
    Lengthened,
    /// As long as the blob and more than it is.
    Shifted,
}

impl Damage {
    fn of(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Swapped => data.iter().map(|byte| !byte).collect(),
            Self::Shortened => data[..data.len() - 7].to_vec(),
            Self::Lengthened => [data, b"surplus"].concat(),
            Self::Shifted => [b"surplus", data].concat(),
        }
    }
}

/// What a download of damaged bytes must end with; `None` where what arrives is the blob, since bytes behind the
/// length that was told, or behind the range that was asked for, are none of it.
fn verdict(way: Way, damage: Damage, framing: Framing, when: When) -> Option<ErrorKind> {
    let is_parallel = way == Way::SaveParallel;
    match (when, damage, framing) {
        // The rest is asked for, and is not there.
        (When::AtOnce, Damage::Shortened, Framing::Blob) if !is_parallel => Some(ErrorKind::Status),
        (When::AtOnce, Damage::Lengthened, Framing::Blob) if !is_parallel => None,
        (When::AtOnce, ..) | (_, Damage::Swapped, _) => Some(ErrorKind::Digest),
        (When::AsRange, ..) | (When::AsWhole, _, Framing::Own) => Some(ErrorKind::Protocol),
        (_, Damage::Shortened, _) => Some(ErrorKind::Network),
        (_, Damage::Lengthened, Framing::Blob) => None,
        (_, Damage::Lengthened, _) if is_parallel => None,
        _ => Some(ErrorKind::Digest),
    }
}

/// Answers with damaged bytes, once it is time.
fn lie(
    r: &Got,
    digest: &str,
    data: &Arc<Vec<u8>>,
    (damage, framing, when): (Damage, Framing, When),
) -> Answer {
    let right = serve_bytes(r, digest, data);
    let asked = asked_for(r, data.len());
    let is_first = asked.as_ref().is_some_and(|range| range.start == 0);
    let (answer, length) = match (when, asked) {
        (When::AtOnce | When::AsRange, range) if when == When::AtOnce || !is_first => {
            let answer = serve_bytes(r, digest, &Arc::new(damage.of(data)));
            match range {
                Some(range) => (answer, range.len()),
                None => return answer,
            }
        }
        (When::AsRightRange, Some(range)) if !is_first => {
            let length = range.len();
            (right.body(damage.of(&data[range])), length)
        }
        (When::AsWhole, Some(_)) if !is_first => (Answer::ok(damage.of(data)), data.len()),
        (_, Some(range)) if range.len() == data.len() => return right.cut_after(data.len() / 2),
        _ => return right,
    };
    match framing {
        _ if answer.status() == 416 => answer,
        Framing::Own => answer,
        Framing::Blob => answer.content_length(length),
        Framing::Chunked => answer.chunked(),
        Framing::UntilClose => answer.no_length(),
    }
}

/// Swapped, shortened and lengthened blobs, told in all ways: none ends well, nothing is at the target, and what is
/// beside it is a part of the blob that the next call goes on with.
#[test]
fn damaged_blobs_do_not_end_well() {
    let (small, large) = (noise("damaged", 60_000), noise("damaged", 4_300_000));
    let (small, large) = (Arc::new(small), Arc::new(large));
    let damages = [
        Damage::Swapped,
        Damage::Shortened,
        Damage::Lengthened,
        Damage::Shifted,
    ];
    let framings = [
        Framing::Own,
        Framing::Blob,
        Framing::Chunked,
        Framing::UntilClose,
    ];
    let whens = [
        When::AtOnce,
        When::AsRange,
        When::AsRightRange,
        When::AsWhole,
    ];
    // A read at an offset is checked for its length alone; it is not among them.
    for way in [Way::Get, Way::Save, Way::SaveParallel] {
        let data = if way == Way::SaveParallel {
            &large
        } else {
            &small
        };
        let digest = sha256(data);
        for damage in damages {
            for (framing, when) in framings.iter().flat_map(|f| whens.map(|w| (*f, w))) {
                let what = format!("{way:?} {damage:?} {framing:?} {when:?}");
                let folder = tempfile::tempdir().unwrap();
                let target = folder.path().join("blob");
                let (own, name) = (Arc::clone(data), digest.clone());
                let server = Server::start(move |r| lie(r, &name, &own, (damage, framing, when)));
                let authority = server.authority();
                let got = way.fetch(&authority, with(&[("retries", 1)]), &digest, &target);
                match (verdict(way, damage, framing, when), got) {
                    (None, got) => {
                        assert!(got.unwrap_or_else(|e| panic!("{what}: {e}")) == **data);
                        continue;
                    }
                    (Some(kind), Err(e)) => assert_eq!(e.kind(), kind, "{what}: {e}"),
                    (Some(_), Ok(_)) => panic!("{what}: it ended well"),
                }
                let left = look_beside(&target, data, &what);
                drop(server);
                if way == Way::Get {
                    continue;
                }
                let (own, name) = (Arc::clone(data), digest.clone());
                let server = Server::start(move |r| serve_bytes(r, &name, &own));
                let authority = server.authority();
                let got = way.fetch(&authority, with(&[]), &digest, &target);
                assert!(got.unwrap_or_else(|e| panic!("{what}: {e}")) == **data);
                assert_eq!(names(folder.path()), ["blob"], "{what}");
                assert_eq!(first_asked(&server, data.len()), Some(left), "{what}");
            }
        }
    }
}

/// After a download that did not end: nothing is at the target, and beside it at most a part of the blob. Tells how
/// many bytes that has.
fn look_beside(target: &Path, data: &[u8], what: &str) -> usize {
    assert!(!target.exists(), "{what}: there is something");
    let names = names(target.parent().unwrap());
    assert!(names.len() <= 1, "{what}: {names:?}");
    let Some(name) = names.first() else {
        return 0;
    };
    assert!(
        name.starts_with(".blob.") && name.ends_with(".part"),
        "{name}"
    );
    let part = fs::read(target.with_file_name(name)).unwrap();
    assert!(
        data.starts_with(&part),
        "{what}: {} other bytes",
        part.len()
    );
    part.len()
}

/// The first byte of the blob that a server was asked for; `None` if it was asked for none.
fn first_asked(server: &Server, length: usize) -> Option<usize> {
    let asked = server.requests();
    let firsts = asked.iter().filter_map(|r| asked_for(r, length));
    firsts.map(|range| range.start).min()
}

/// A program that saves a blob, as `tests/interrupted/save.c` says.
struct Program {
    program: PathBuf,
    digest: String,
    target: PathBuf,
    connections: usize,
}

impl Program {
    fn new(digest: &str, folder: &Path, connections: usize) -> Self {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let build = || c::compile(&Path::new(c::ROOT).join("tests/interrupted/save.c"), "save");
        Self {
            program: BUILT.get_or_init(build).clone(),
            digest: digest.to_owned(),
            target: folder.join("blob"),
            connections,
        }
    }

    fn start(&self, server: &Server, operation: &[&str]) -> Child {
        Command::new(&self.program)
            .args([&server.authority(), &self.digest])
            .arg(&self.target)
            .arg(self.connections.to_string())
            .args(operation)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Whether it got to its end; otherwise it was killed.
    fn ended(mut child: Child) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let _ = child
            .stdout
            .take()
            .map(|mut out| out.read_to_end(&mut Vec::new()));
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(9), "{status}");
        status.success()
    }

    /// Runs it to its end: the target is right and alone, and nothing of the `left` bytes was fetched again.
    fn finish(&self, server: &Server, data: &[u8], left: usize, what: &str) {
        server.clear();
        assert!(Self::ended(self.start(server, &[])), "{what}");
        assert!(fs::read(&self.target).unwrap() == data, "{what}");
        let folder = self.target.parent().unwrap();
        assert_eq!(names(folder), ["blob"], "{what}");
        let rest = Some(left).filter(|left| *left < data.len());
        assert_eq!(first_asked(server, data.len()), rest, "{what}");
    }
}

/// One download is killed again and again at random moments. Each process goes on where the one before it was
/// killed, and less than two blobs are sent in all.
#[test]
fn a_download_that_is_killed_often() {
    const KILLS: usize = 40;
    let data = Arc::new(noise("killed", 8_000_000));
    let digest = sha256(&data);
    let sent = Arc::<AtomicUsize>::default();
    // How much the next answer has until it waits, and for what.
    let stop = Arc::<Mutex<Option<(usize, Gate)>>>::default();
    let (own, name, count, next) = (
        Arc::clone(&data),
        digest.clone(),
        Arc::clone(&sent),
        Arc::clone(&stop),
    );
    let server = Server::start(move |r| {
        let answer = serve_bytes(r, &name, &own);
        let length = asked_for(r, own.len()).unwrap().len();
        match lock(&next).take() {
            Some((n, gate)) => {
                count.fetch_add(n, Ordering::SeqCst);
                answer.stall_after(n, &gate)
            }
            None => {
                count.fetch_add(length, Ordering::SeqCst);
                answer
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let program = Program::new(&digest, folder.path(), 1);
    let mut random = fastrand::Rng::with_seed(3);
    let mut left = 0;
    for kill in 0..KILLS {
        let (n, gate) = (random.usize(1..=data.len() / 50), Gate::new());
        *lock(&stop) = Some((n, gate.clone()));
        server.clear();
        let mut child = program.start(&server, &[]);
        let what = format!("kill {kill}, {n} bytes behind {left}");
        if kill % 2 == 0 {
            assert!(gate.wait_reached(1), "{what}");
        } else {
            // All that was sent is in the file.
            let told = BufReader::new(child.stdout.take().unwrap());
            let end = (left + n).to_string();
            assert!(told.lines().any(|line| line.unwrap() == end), "{what}");
        }
        child.kill().unwrap();
        assert!(!Program::ended(child), "{what}");
        assert_eq!(first_asked(&server, data.len()), Some(left), "{what}");
        let now = look_beside(&program.target, &data, &what);
        assert!((left..=left + n).contains(&now), "{what}: {now} bytes");
        assert!(kill % 2 == 0 || now == left + n, "{what}: {now} bytes");
        left = now;
    }
    assert!(left > data.len() / 10, "{left} bytes");
    program.finish(&server, &data, left, "the last one");
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 2 * data.len(), "{sent} bytes were sent");
}

/// The same with several connections, each download killed once.
#[test]
fn parallel_downloads_that_are_killed() {
    let data = Arc::new(noise("killed", 18_000_000));
    let digest = sha256(&data);
    let sent = Arc::<AtomicUsize>::default();
    // The number of the answer that waits, after how much of it, and for what.
    let stop = Arc::<Mutex<Option<(usize, usize, Gate)>>>::default();
    let (own, name, count, next) = (
        Arc::clone(&data),
        digest.clone(),
        Arc::clone(&sent),
        Arc::clone(&stop),
    );
    let server = Server::start(move |r| {
        let answer = serve_bytes(r, &name, &own);
        count.fetch_add(asked_for(r, own.len()).unwrap().len(), Ordering::SeqCst);
        match &mut *lock(&next) {
            Some((0, n, gate)) => answer.stall_after(*n, gate),
            Some((before, ..)) => {
                *before -= 1;
                answer
            }
            None => answer,
        }
    });
    let mut random = fastrand::Rng::with_seed(4);
    let mut kept = 0;
    for kill in 0..32 {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::new(&digest, folder.path(), 2);
        let gate = Gate::new();
        // Five ranges: 4 MiB each, and the rest.
        let (before, n) = (random.usize(0..5), random.usize(0..1_000_000));
        let what = format!("kill {kill}, at {n} of answer {before}");
        sent.store(0, Ordering::SeqCst);
        *lock(&stop) = Some((before, n, gate.clone()));
        let mut child = program.start(&server, &[]);
        assert!(gate.wait_reached(1), "{what}");
        child.kill().unwrap();
        assert!(!Program::ended(child), "{what}");
        *lock(&stop) = None;
        let left = look_beside(&program.target, &data, &what);
        // The fourth range is only asked for when the second is in the file.
        assert!(before < 3 || left >= 8 << 20, "{what}: {left} bytes");
        kept += usize::from(left > 0);
        program.finish(&server, &data, left, &what);
        let sent = sent.load(Ordering::SeqCst);
        assert!(sent < 2 * data.len(), "{what}: {sent} bytes were sent");
    }
    assert!(kept >= 8, "{kept} were continued");
}

/// Of two processes that save one blob to one target, the second makes a file of its own; killed, it leaves nothing,
/// on file systems that have files without names.
#[test]
fn a_killed_download_beside_another() {
    let data = Arc::new(noise("beside", 900_000));
    let digest = sha256(&data);
    let gate = Gate::new();
    let (own, name, held) = (Arc::clone(&data), digest.clone(), gate.clone());
    let server = Server::start(move |r| serve_bytes(r, &name, &own).stall_after(600_000, &held));
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let program = Program::new(&digest, folder.path(), 1);
    let first = program.start(&server, &[]);
    assert!(gate.wait_reached(1));
    let mut second = program.start(&server, &[]);
    assert!(gate.wait_reached(2));
    let told = BufReader::new(second.stdout.take().unwrap());
    assert!(told.lines().any(|line| line.unwrap() == "600000"));
    second.kill().unwrap();
    assert!(!Program::ended(second));
    look_beside(&program.target, &data, "after the second");
    gate.open();
    assert!(Program::ended(first));
    assert!(fs::read(&program.target).unwrap() == *data);
    assert_eq!(names(folder.path()), ["blob"]);
}

/// Killed before each operation on a file, and in the middle of each write: also where the partial download of
/// another process is continued, or found to be spoiled.
#[test]
fn killed_at_every_operation_on_a_file() {
    for (connections, size, stride) in [(1, 500_000, 1), (2, 5_000_000, 7)] {
        let data = Arc::new(noise("operations", size));
        let digest = sha256(&data);
        let (own, name) = (Arc::clone(&data), digest.clone());
        let server = Server::start(move |r| serve_bytes(r, &name, &own));
        let spoiled = |n: usize| {
            let mut part = data[..n].to_vec();
            part[n / 2] ^= 1;
            part
        };
        let beginnings = [
            ("nothing", None),
            ("a part", Some(data[..size / 3].to_vec())),
            ("the whole", Some(data.to_vec())),
            ("a spoiled part", Some(spoiled(size / 3))),
            ("a spoiled whole", Some(spoiled(size))),
            ("too much", Some([&data[..], b"surplus"].concat())),
        ];
        let part = format!(".blob.{}.part", &digest["sha256:".len()..][..16]);
        for (what, beginning) in beginnings {
            let mut kills = 0;
            for half in [false, true] {
                for operation in (0..).step_by(stride) {
                    let what = format!("{what}, {connections}, operation {operation}, {half}");
                    let folder = tempfile::tempdir().unwrap();
                    let program = Program::new(&digest, folder.path(), connections);
                    let part = folder.path().join(&part);
                    if let Some(bytes) = &beginning {
                        fs::write(&part, bytes).unwrap();
                    }
                    let number = operation.to_string();
                    let deadly = [number.as_str(), "half"];
                    let ended =
                        Program::ended(program.start(&server, &deadly[..=usize::from(half)]));
                    if ended || program.target.exists() {
                        assert!(fs::read(&program.target).unwrap() == *data, "{what}");
                        assert_eq!(names(folder.path()), ["blob"], "{what}");
                    } else {
                        kills += 1;
                        let kept = fs::read(&part).unwrap_or_default();
                        let was_spoiled = beginning.as_ref().is_some_and(|b| !data.starts_with(b));
                        // What is put behind bytes that are wrong is only found to be of no use in the end.
                        if was_spoiled && !data.starts_with(&kept) {
                            assert!(Program::ended(program.start(&server, &[])), "{what}");
                            assert!(fs::read(&program.target).unwrap() == *data, "{what}");
                            assert_eq!(names(folder.path()), ["blob"], "{what}");
                        } else {
                            let left = look_beside(&program.target, &data, &what);
                            program.finish(&server, &data, left, &what);
                        }
                    }
                    if ended {
                        break;
                    }
                }
            }
            // Before the file is synced, and before it is renamed.
            assert!(stride > 1 || kills >= 2, "{what}: {kills} kills");
        }
    }
}
