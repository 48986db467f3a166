//! A proxy on the way to a server that spoils what passes: pauses, cuts, resets, stalls, garbage, statuses.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What can happen to a request and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The connection is closed before a byte has passed.
    Refused,
    /// A request waits.
    Delay,
    /// One way passes in small pieces.
    Dribble,
    /// The connection ends in the middle of a request or an answer, politely.
    Cut,
    /// The same with RST.
    Reset,
    /// Nothing passes any more; in the end, RST.
    Stall,
    /// One byte is replaced.
    Garbage,
    /// 429, 500, 502, 503 or 504 instead of the registry's answer.
    Status,
}

const KINDS: [Kind; 8] = [
    Kind::Refused,
    Kind::Delay,
    Kind::Dribble,
    Kind::Cut,
    Kind::Reset,
    Kind::Stall,
    Kind::Garbage,
    Kind::Status,
];

/// A byte that is an error wherever it stands: in a head, in JSON, in chunk sizes, and in what has a digest.
const GARBAGE: u8 = 0x01;

/// A running proxy; dropping it closes its connections.
pub(crate) struct Faults {
    inner: Arc<Inner>,
    accept: Option<JoinHandle<()>>,
}

struct Inner {
    address: SocketAddr,
    /// None while the server is down.
    upstream: Mutex<Option<SocketAddr>>,
    /// What passes is HTTP, not TLS.
    plain: bool,
    /// One exchange in so many is spoilt.
    one_in: AtomicU64,
    seed: u64,
    counts: [AtomicU64; KINDS.len()],
    exchanges: AtomicU64,
    streams: Mutex<HashMap<u64, [TcpStream; 2]>>,
    stopped: AtomicBool,
}

/// What is in store for the exchange that runs on a connection.
#[derive(Clone, Copy)]
struct Plan {
    kind: Option<Kind>,
    /// On the request, else on the answer.
    up: bool,
    /// After so many bytes.
    at: usize,
    pause: Duration,
}

struct Exchange {
    plan: Plan,
    answered: bool,
    seen: [usize; 2],
    done: bool,
    /// Garbage is only seen in the head of the answer: its body is part of something.
    head_only: bool,
    rng: fastrand::Rng,
}

impl Faults {
    /// Listens on a free port of 127.0.0.1. Fair weather until [`Faults::spoil`].
    pub(crate) fn start(upstream: SocketAddr, plain: bool, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let inner = Arc::new(Inner {
            address: listener.local_addr().expect("a bound address"),
            upstream: Mutex::new(Some(upstream)),
            plain,
            one_in: AtomicU64::new(0),
            seed,
            counts: Default::default(),
            exchanges: AtomicU64::new(0),
            streams: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accept = {
            let inner = inner.clone();
            std::thread::spawn(move || inner.accept(&listener))
        };
        Self {
            inner,
            accept: Some(accept),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// From now on one exchange in `one_in` is spoilt; 0 for fair weather.
    pub(crate) fn spoil(&self, one_in: u64) {
        self.inner.one_in.store(one_in, Ordering::SeqCst);
    }

    /// Where the server is now; none while it is down. Connections to the old place end.
    pub(crate) fn lead_to(&self, upstream: Option<SocketAddr>) {
        *lock(&self.inner.upstream) = upstream;
        for stream in lock(&self.inner.streams).values().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Exchanges that passed or failed to.
    pub(crate) fn exchanges(&self) -> u64 {
        self.inner.exchanges.load(Ordering::Relaxed)
    }

    /// How often each kind struck.
    pub(crate) fn counts(&self) -> Vec<(Kind, u64)> {
        let count = |c: &AtomicU64| c.load(Ordering::Relaxed);
        KINDS
            .into_iter()
            .zip(self.inner.counts.iter().map(count))
            .collect()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.inner.address);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        self.lead_to(None);
    }
}

impl Inner {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        let mut serial = 0;
        loop {
            let accepted = listener.accept();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok((client, _)) = accepted else { continue };
            serial += 1;
            let inner = self.clone();
            std::thread::spawn(move || {
                // An error here is a client or a server that went away.
                let _ = inner.serve(client, serial);
            });
        }
    }

    fn serve(&self, client: TcpStream, serial: u64) -> io::Result<()> {
        let mut rng = fastrand::Rng::with_seed(self.seed.wrapping_add(serial));
        let one_in = self.one_in.load(Ordering::SeqCst);
        if one_in > 0 && rng.u64(..one_in * 4) == 0 {
            self.struck(Kind::Refused);
            return Ok(());
        }
        let upstream = *lock(&self.upstream);
        let Some(upstream) = upstream else {
            return Ok(());
        };
        let server = TcpStream::connect_timeout(&upstream, Duration::from_secs(5))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        lock(&self.streams).insert(serial, [client.try_clone()?, server.try_clone()?]);
        let exchange = Mutex::new(Exchange {
            plan: Plan::none(),
            answered: true,
            seen: [0; 2],
            done: false,
            head_only: false,
            rng,
        });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = self.relay(&client, &server, &exchange, true);
                let _ = server.shutdown(Shutdown::Both);
                let _ = client.shutdown(Shutdown::Both);
            });
            let _ = self.relay(&server, &client, &exchange, false);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
        lock(&self.streams).remove(&serial);
        Ok(())
    }

    /// Copies one way, spoiling what the plan says.
    fn relay(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        exchange: &Mutex<Exchange>,
        up: bool,
    ) -> io::Result<()> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let n = from.read(&mut chunk)?;
            if n == 0 {
                return Ok(());
            }
            let (plan, before, head_only) = {
                let mut exchange = lock(exchange);
                if up && exchange.answered {
                    self.begin(&mut exchange, &chunk[..n]);
                }
                exchange.answered = exchange.answered || !up;
                let before = exchange.seen[usize::from(up)];
                exchange.seen[usize::from(up)] += n;
                let strikes = exchange.plan.up == up && before + n > exchange.plan.at;
                let plan = if strikes && !exchange.done {
                    exchange.done = true;
                    exchange.plan
                } else {
                    Plan::none()
                };
                (plan, before, exchange.head_only)
            };
            let Some(kind) = plan.kind else {
                to.write_all(&chunk[..n])?;
                continue;
            };
            let at = plan.at.saturating_sub(before).min(n);
            match kind {
                Kind::Delay => {
                    std::thread::sleep(plan.pause);
                    to.write_all(&chunk[..n])?;
                }
                Kind::Dribble => {
                    for piece in chunk[..n].chunks(n.div_ceil(20)) {
                        to.write_all(piece)?;
                        std::thread::sleep(plan.pause / 20);
                    }
                }
                Kind::Garbage => {
                    let head = find(&chunk[..n], b"\r\n\r\n").unwrap_or(n);
                    let at = if head_only && at >= head {
                        head / 2
                    } else {
                        at
                    };
                    let spared = head_only && before > 0;
                    if let Some(byte) = chunk[..n].get_mut(at).filter(|_| !spared) {
                        *byte = if self.plain { GARBAGE } else { !*byte };
                    }
                    to.write_all(&chunk[..n])?;
                }
                Kind::Cut => {
                    to.write_all(&chunk[..at])?;
                    self.struck(kind);
                    return Ok(());
                }
                Kind::Reset | Kind::Stall => {
                    to.write_all(&chunk[..at])?;
                    self.struck(kind);
                    if kind == Kind::Stall {
                        std::thread::sleep(plan.pause);
                    }
                    for stream in [from, to] {
                        reset(stream);
                    }
                    return Ok(());
                }
                Kind::Status => {
                    self.struck(kind);
                    return self.refuse(from, plan);
                }
                Kind::Refused => return Ok(()),
            }
            self.struck(kind);
        }
    }

    /// A request begins: decides what is to happen.
    fn begin(&self, exchange: &mut Exchange, first: &[u8]) {
        let is_request = !self.plain
            || [
                &b"GET /"[..],
                b"HEAD /",
                b"PUT /",
                b"POST /",
                b"PATCH /",
                b"DELETE /",
            ]
            .iter()
            .any(|method| first.starts_with(method));
        exchange.answered = false;
        exchange.seen = [0; 2];
        exchange.done = false;
        exchange.plan = Plan::none();
        exchange.head_only =
            find(first, b"\r\nRange: ").is_some() || find(first, b"\r\nrange: ").is_some();
        if is_request {
            self.exchanges.fetch_add(1, Ordering::Relaxed);
        }
        let one_in = self.one_in.load(Ordering::SeqCst);
        let rng = &mut exchange.rng;
        if one_in > 0 && is_request && rng.u64(..one_in) == 0 {
            exchange.plan = Plan::draw(rng, self.plain);
        }
    }

    /// Answers in place of the registry, and lets what is still being sent run into the void.
    fn refuse(&self, mut client: &TcpStream, plan: Plan) -> io::Result<()> {
        let (status, fields) = match plan.at % 6 {
            0 => ("429 Too Many Requests", "Retry-After: 1\r\n"),
            1 => ("500 Internal Server Error", ""),
            2 => ("502 Bad Gateway", ""),
            3 => ("503 Service Unavailable", "Retry-After: 60\r\n"),
            4 => ("503 Service Unavailable", ""),
            _ => ("504 Gateway Timeout", ""),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\n{fields}Connection: close\r\nContent-Length: 4\r\n\r\nbusy"
        );
        client.write_all(head.as_bytes())?;
        client.shutdown(Shutdown::Write)?;
        client.set_read_timeout(Some(Duration::from_millis(200)))?;
        let end = Instant::now() + Duration::from_secs(2);
        let mut sink = vec![0; 64 << 10];
        while Instant::now() < end && matches!(client.read(&mut sink), Ok(n) if n > 0) {}
        Ok(())
    }

    fn struck(&self, kind: Kind) {
        for (known, count) in KINDS.iter().zip(&self.counts) {
            if *known == kind {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Plan {
    const fn none() -> Self {
        Self {
            kind: None,
            up: false,
            at: 0,
            pause: Duration::ZERO,
        }
    }

    fn draw(rng: &mut fastrand::Rng, plain: bool) -> Self {
        let kind = match rng.u32(..100) {
            0..22 => Kind::Delay,
            22..28 => Kind::Dribble,
            28..46 => Kind::Cut,
            46..62 => Kind::Reset,
            62..68 => Kind::Stall,
            68..82 => Kind::Garbage,
            _ if plain => Kind::Status,
            _ => Kind::Cut,
        };
        let up = match kind {
            Kind::Delay | Kind::Status => true,
            _ => rng.u32(..3) == 0,
        };
        // Every size of message has its turn.
        let most = 1_usize << rng.u32(..20);
        let at = match kind {
            Kind::Delay => 0,
            Kind::Status => rng.usize(..6),
            _ => rng.usize(..most),
        };
        let pause = match kind {
            Kind::Stall => Duration::from_millis(rng.u64(1000..4000)),
            _ => Duration::from_millis(rng.u64(1..400)),
        };
        Self {
            kind: Some(kind),
            up,
            at,
            pause,
        }
    }
}

/// Ends a connection with RST, which other holders of the socket cannot prevent.
fn reset(stream: &TcpStream) {
    use std::os::fd::AsFd as _;
    let _ = rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO));
    // Connecting to nowhere dissolves the association at once.
    let _ = rustix::net::connect_unspec(stream.as_fd());
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
