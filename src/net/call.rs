//! What governs a running call: cancel, deadline, the limits of its phases. The connector and its
//! connections find the call they work for in a thread-local, set while the HTTP engine runs.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::address::{Home, Rule};
use super::gate;
use crate::error::{Error, Result};
use crate::log::Log;
use crate::op::Op;
use crate::options::{Number, Options};
use crate::secret::Secrets;

/// Longest time anything waits before it looks whether the call was cancelled.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Counts the times a transport was closed; calls that began before the last time end.
#[derive(Debug, Default)]
pub(crate) struct CloseCount(AtomicU64);

impl CloseCount {
    pub(crate) fn close(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Limits that hold for each attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) handshake: Duration,
    pub(crate) response: Duration,
    pub(crate) stall: Duration,
    pub(crate) stall_rate: u64,
    /// Bytes of a refusal that are read.
    pub(crate) refusal: usize,
}

impl Limits {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            connect: options.millis(Number::ConnectTimeout),
            handshake: options.millis(Number::TlsTimeout),
            response: options.millis(Number::ResponseTimeout),
            stall: options.millis(Number::StallTimeout),
            stall_rate: options.number(Number::StallRate),
            refusal: options.size(Number::MaxError),
        }
    }
}

/// What a call has spent on repetitions, on all its threads.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    /// Repetitions since the call last got on.
    pub(crate) repetitions: u32,
    /// Time waited before repetitions.
    pub(crate) waited: Duration,
}

/// What a call has in common with what is derived of it.
#[derive(Debug, Default)]
struct Shared {
    spent: Mutex<Spent>,
    /// Set when the threads that help the call must end.
    helpers_end: AtomicBool,
}

impl Limits {
    /// The longest time in which a request need not move at all.
    pub(crate) fn longest_still(&self) -> Duration {
        self.connect + self.handshake + self.response + self.stall
    }
}

/// One running call. Shared by the call's thread with the connection it uses; used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Call {
    op: Option<Op>,
    deadline: Option<Instant>,
    closes: Arc<CloseCount>,
    closes_at_start: u64,
    limits: Limits,
    shared: Arc<Shared>,
    secrets: Arc<Secrets>,
    pub(crate) log: Log,
    /// Runs on a thread of the library's own, where nothing of the program's may be called.
    is_helper: bool,
    /// Helps a thread that has a place among the requests of some host.
    goes_with_a_place: bool,
    /// Its bytes are counted in the op's progress.
    counts: bool,
    attempt: Mutex<Attempt>,
    /// The server stopped reading the request: the rest of its body need not be produced.
    body_unwanted: AtomicBool,
    /// The attempt takes a kept connection without a second look.
    trusts_kept: AtomicBool,
    /// The attempt runs on a connection that served an earlier request.
    on_used_connection: AtomicBool,
    /// A byte of the request was written.
    wrote: AtomicBool,
    /// Bytes of the answer's body that the reader has yet to get, as far as its head told.
    due: AtomicUsize,
}

/// What changes from hop to hop and from phase to phase.
#[derive(Debug)]
struct Attempt {
    rule: Rule,
    home: Option<Arc<Home>>,
    phase: Phase,
    since: Instant,
    moved: u64,
    waited: Duration,
}

impl Attempt {
    fn new(now: Instant) -> Self {
        Self {
            rule: Rule::PUBLIC,
            home: None,
            phase: Phase::Head,
            since: now,
            moved: 0,
            waited: Duration::ZERO,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Proxy and TLS handshake on a new connection.
    Setup,
    /// Sending, and waiting for the head of the answer.
    Head,
    /// A body moves, in either direction.
    Body,
    /// What is left of an answer is read for the connection's sake alone.
    Rest,
}

/// Longest time in the phase [`Phase::Rest`]: another connection is had sooner.
const REST: Duration = Duration::from_millis(250);

impl Call {
    pub(crate) fn new(op: Option<&Op>, options: &Options, closes: &Arc<CloseCount>) -> Arc<Self> {
        let now = Instant::now();
        let whole = options.millis(Number::Timeout);
        let of_options = if whole.is_zero() {
            None
        } else {
            now.checked_add(whole)
        };
        let of_op = op.and_then(|op| op.deadline(now));
        let secrets = Arc::default();
        Arc::new(Self {
            op: op.cloned(),
            deadline: of_options.into_iter().chain(of_op).min(),
            closes: Arc::clone(closes),
            closes_at_start: closes.0.load(Ordering::SeqCst),
            limits: Limits::of(options),
            shared: Arc::default(),
            log: options.log().with(&secrets),
            secrets,
            is_helper: false,
            goes_with_a_place: false,
            counts: true,
            attempt: Mutex::new(Attempt::new(now)),
            body_unwanted: AtomicBool::new(false),
            trusts_kept: AtomicBool::new(false),
            on_used_connection: AtomicBool::new(false),
            wrote: AtomicBool::new(false),
            due: AtomicUsize::new(0),
        })
    }

    /// The same call on a thread of the library's own: under the same limits, but without log and other
    /// callbacks.
    pub(crate) fn quiet(&self) -> Arc<Self> {
        self.derived(true, Log::default())
    }

    /// The same call for a part of its work whose bytes are counted elsewhere.
    pub(crate) fn uncounted(&self) -> Arc<Self> {
        self.derived(false, self.log.clone())
    }

    fn derived(&self, is_helper: bool, log: Log) -> Arc<Self> {
        Arc::new(Self {
            op: self.op.clone(),
            deadline: self.deadline,
            closes: Arc::clone(&self.closes),
            closes_at_start: self.closes_at_start,
            limits: self.limits,
            shared: Arc::clone(&self.shared),
            secrets: Arc::clone(&self.secrets),
            log,
            is_helper,
            goes_with_a_place: self.goes_with_a_place || (is_helper && gate::has_place()),
            counts: false,
            attempt: Mutex::new(Attempt::new(Instant::now())),
            body_unwanted: AtomicBool::new(false),
            trusts_kept: AtomicBool::new(false),
            on_used_connection: AtomicBool::new(false),
            wrote: AtomicBool::new(false),
            due: AtomicUsize::new(0),
        })
    }

    /// Ends what runs under [`quiet`](Call::quiet).
    pub(crate) fn abandon_quiet(&self) {
        self.shared.helpers_end.store(true, Ordering::SeqCst);
    }

    /// Whether it must not wait for a place: the thread it helps has one.
    pub(crate) fn goes_with_a_place(&self) -> bool {
        self.goes_with_a_place
    }

    /// Whether callbacks of the program may be called.
    pub(crate) fn may_call_back(&self) -> bool {
        !self.is_helper
    }

    /// Whether the call may go on.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_helper && self.shared.helpers_end.load(Ordering::SeqCst) {
            return Err(Error::cancelled("the call this thread helped has ended"));
        }
        if self.op.as_ref().is_some_and(Op::is_cancelled) {
            return Err(Error::cancelled("the call was cancelled"));
        }
        if self.closes.0.load(Ordering::SeqCst) != self.closes_at_start {
            return Err(Error::cancelled("the transport was closed during the call"));
        }
        if self.deadline.is_some_and(|d| Instant::now() >= d) {
            return Err(Error::timeout("the time limit of the call passed"));
        }
        Ok(())
    }

    /// Time left, `None` without a limit.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|d| d.saturating_duration_since(Instant::now()))
    }

    /// The call's deadline, `None` without a limit.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it has sent as credentials.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// What its repetitions have cost so far.
    pub(crate) fn spent(&self) -> MutexGuard<'_, Spent> {
        let spent = self.shared.spent.lock();
        spent.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn op(&self) -> Option<&Op> {
        self.op.as_ref()
    }

    /// What the bytes moved are counted in.
    pub(crate) fn progress(&self) -> Option<&Op> {
        self.op.as_ref().filter(|_| self.counts)
    }

    /// Waits, unless the call ends first.
    pub(crate) fn sleep(&self, time: Duration) -> Result<()> {
        let time = if cfg!(fuzzing) { Duration::ZERO } else { time };
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt: which addresses it may connect to, who learns where it went, and whether it takes a kept
    /// connection without a second look.
    pub(crate) fn begin_attempt(&self, rule: Rule, home: Option<Arc<Home>>, trusts_kept: bool) {
        self.trusts_kept.store(trusts_kept, Ordering::Relaxed);
        self.body_unwanted.store(false, Ordering::Relaxed);
        self.on_used_connection.store(false, Ordering::Relaxed);
        self.wrote.store(false, Ordering::Relaxed);
        self.due.store(0, Ordering::Relaxed);
        let mut attempt = self.attempt();
        attempt.rule = rule;
        attempt.home = home;
        drop(attempt);
        self.enter_phase(Phase::Head);
    }

    pub(crate) fn enter_phase(&self, phase: Phase) {
        let mut attempt = self.attempt();
        attempt.phase = phase;
        // A body is judged by how long it was waited for.
        if phase != Phase::Body {
            attempt.since = Instant::now();
        }
        attempt.moved = 0;
        attempt.waited = Duration::ZERO;
    }

    pub(crate) fn rule(&self) -> Rule {
        self.attempt().rule
    }

    pub(crate) fn connected(&self, address: std::net::IpAddr) {
        if let Some(home) = &self.attempt().home {
            home.learn(address);
        }
    }

    /// The time, where the length of the wait that begins now will count.
    pub(crate) fn wait_begins(&self) -> Option<Instant> {
        (self.attempt().phase == Phase::Body).then(Instant::now)
    }

    /// Judges the time spent in the wait that began at `began`, in which `bytes` arrived or left.
    pub(crate) fn waited(&self, began: Option<Instant>, bytes: usize) -> Result<()> {
        let now = Instant::now();
        let mut attempt = self.attempt();
        match attempt.phase {
            Phase::Setup => {
                self.check_handshake(now.duration_since(attempt.since))?;
            }
            Phase::Head => {
                if now.duration_since(attempt.since) >= self.limits.response {
                    return Err(Error::slow(format!(
                        "no answer within response-timeout-ms, {} ms",
                        self.limits.response.as_millis()
                    )));
                }
            }
            Phase::Rest => {
                if now.duration_since(attempt.since) >= REST {
                    return Err(Error::slow("the rest of the answer does not come"));
                }
            }
            Phase::Body => {
                attempt.waited += began.map_or(Duration::ZERO, |began| now.duration_since(began));
                attempt.moved += bytes as u64;
                if attempt.waited >= self.limits.stall {
                    let wanted = u64::try_from(
                        u128::from(self.limits.stall_rate) * attempt.waited.as_millis() / 1000,
                    );
                    if attempt.moved < wanted.unwrap_or(u64::MAX).max(1) {
                        return Err(Error::slow(format!(
                            "the transfer stalled: {} bytes in {} ms",
                            attempt.moved,
                            attempt.waited.as_millis()
                        )));
                    }
                    attempt.moved = 0;
                    attempt.waited = Duration::ZERO;
                }
            }
        }
        drop(attempt);
        self.check()
    }

    /// Whether a handshake, of a proxy or of TLS, may go on after this time.
    pub(crate) fn check_handshake(&self, took: Duration) -> Result<()> {
        if took < self.limits.handshake {
            return Ok(());
        }
        Err(Error::slow(format!(
            "the proxy or TLS handshake took longer than tls-timeout-ms, {} ms",
            self.limits.handshake.as_millis()
        )))
    }

    pub(crate) fn trusts_kept(&self) -> bool {
        self.trusts_kept.load(Ordering::Relaxed)
    }

    pub(crate) fn note_used_connection(&self) {
        self.on_used_connection.store(true, Ordering::Relaxed);
    }

    pub(crate) fn on_used_connection(&self) -> bool {
        self.on_used_connection.load(Ordering::Relaxed)
    }

    /// Notes that a part of the request is written; a handshake is none.
    pub(crate) fn note_write(&self) {
        if self.attempt().phase == Phase::Setup {
            return;
        }
        self.wrote.store(true, Ordering::Relaxed);
    }

    pub(crate) fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }

    pub(crate) fn note_due(&self, bytes: usize) {
        self.due.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes of a body the reader has yet to get; some of them may have been read ahead.
    pub(crate) fn due(&self) -> usize {
        self.due.load(Ordering::Relaxed)
    }

    pub(crate) fn refuse_body(&self) {
        self.body_unwanted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_body_unwanted(&self) -> bool {
        self.body_unwanted.load(Ordering::Relaxed)
    }

    /// Makes this the current call of the thread until the guard goes.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        Entered {
            before: replace_current(Some(Arc::clone(self))),
        }
    }
}

thread_local! {
    /// Without a destructor, so that a program may still make calls when those of its thread run, as in `atexit`.
    static CURRENT: RefCell<Option<ManuallyDrop<Arc<Call>>>> = const { RefCell::new(None) };
}

fn replace_current(call: Option<Arc<Call>>) -> Option<Arc<Call>> {
    CURRENT
        .with(|current| current.replace(call.map(ManuallyDrop::new)))
        .map(ManuallyDrop::into_inner)
}

/// Keeps a call current; calls made from callbacks nest.
pub(crate) struct Entered {
    before: Option<Arc<Call>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        drop(replace_current(self.before.take()));
    }
}

/// Whether what is written next is the head of a request, which may hold credentials.
pub(crate) fn is_head_next() -> bool {
    current().is_ok_and(|call| !call.wrote())
}

/// Whether what is read next is the head of an answer.
pub(crate) fn is_answer_next() -> bool {
    current().is_ok_and(|call| call.attempt().phase == Phase::Head)
}

/// The call this thread works for.
pub(crate) fn current() -> Result<Arc<Call>> {
    CURRENT
        .with(|current| current.borrow().as_deref().cloned())
        .ok_or_else(|| Error::internal("a connection was used outside of a call"))
}
