//! Transports to local servers, as most tests want them: no proxy, no pauses, tokens of their own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_transport::error::{Error, ErrorKind};
use registry_transport::log::Level;
use registry_transport::op::Op;
use registry_transport::options::Options;
use registry_transport::request::Request;
use registry_transport::transport::{Actions, Transport};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::server::{Server, lock};

/// The options of a test.
pub fn options() -> Options {
    let mut options = Options::new();
    options.set_number("environment", 0).expect("environment");
    options.set_number("share-tokens", 0).expect("share-tokens");
    options.set_number("retry-delay-ms", 1).expect("delay");
    options
}

/// The same with these numbers.
pub fn with(numbers: &[(&str, i64)]) -> Options {
    let mut options = options();
    for (key, value) in numbers {
        options.set_number(key, *value).expect(key);
    }
    options
}

/// The same with these texts.
pub fn with_texts(texts: &[(&str, &str)]) -> Options {
    let mut options = options();
    for (key, value) in texts {
        options.set_text(key, value).expect(key);
    }
    options
}

/// A transport that may push to repository `a/b` of this host.
pub fn transport_to(authority: &str, options: &Options) -> Transport {
    let name = format!("{authority}/a/b");
    Transport::new(&name, Actions::push(), None, Some(options)).expect("a transport")
}

/// The same for a server.
pub fn transport(server: &Server, options: &Options) -> Transport {
    transport_to(&server.authority(), options)
}

/// Gets a path as a whole.
pub fn get(transport: &Transport, path: &str) -> Result<Vec<u8>, Error> {
    get_with(transport, path, None)
}

/// The same under an op.
pub fn get_with(transport: &Transport, path: &str, op: Option<&Op>) -> Result<Vec<u8>, Error> {
    transport
        .request(&Request::new(None, path), op)?
        .take_body()
}

/// Log lines as `Warn: text`, from the most talkative level on.
pub fn keep_log(options: &mut Options) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let own = Arc::clone(&lines);
    options.set_log(
        Level::Debug,
        Arc::new(move |level, line| lock(&own).push(format!("{level:?}: {line}"))),
    );
    lines
}

/// Runs `work` on a thread, waits for `reached`, and expects that `stop` ends it with this kind in less
/// than 400 ms: the 200 ms that are promised and as much for a busy machine.
pub fn ends(
    kind: ErrorKind,
    what: &str,
    work: impl FnOnce() -> Result<(), Error> + Send,
    reached: impl FnOnce() -> bool,
    stop: impl FnOnce(),
) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        assert!(reached(), "{what}: never got there");
        assert!(!thread.is_finished(), "{what}: ended too early");
        let began = Instant::now();
        stop();
        let error = thread.join().expect("no panic").expect_err(what);
        let took = began.elapsed();
        assert_eq!(error.kind(), kind, "{what}: {error}");
        assert!(took < Duration::from_millis(400), "{what}: took {took:?}");
    });
}

/// A listener whose queue of connections is full, so that connecting to it never ends.
pub struct Deaf {
    pub address: SocketAddr,
    _listener: std::net::TcpListener,
    _waiting: Vec<std::os::fd::OwnedFd>,
}

impl Deaf {
    pub fn new() -> Self {
        let socket = || {
            rustix::net::socket_with(
                AddressFamily::INET,
                SocketType::STREAM,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            )
            .expect("a socket")
        };
        let listener = socket();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        rustix::net::bind(&listener, &any).expect("a free port");
        rustix::net::listen(&listener, 0).expect("listen");
        let listener = std::net::TcpListener::from(listener);
        let address = listener.local_addr().expect("a bound address");
        let waiting = (0..4)
            .map(|_| {
                let socket = socket();
                let _ = rustix::net::connect(&socket, &address);
                socket
            })
            .collect();
        Self {
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }
}
