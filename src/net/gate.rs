//! How many requests run at once at one host (option `max-requests-per-host`): over all transports of the process,
//! first come, first served.
//!
//! A request counts from when it is sent until its answer's body is read to the end or given up. While a program
//! keeps an answer unread its place stays taken, so a thread that has such a place never waits for another: else it
//! could wait for itself, or two threads for each other. Places belong to the thread that used them last, and the
//! threads that help a call go with the one that made it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::call::{Call, SLICE};
use crate::error::{Error, Result};
use crate::process::{PerProcess, is_this};
use crate::url::Origin;

/// Hosts that are remembered before those are forgotten where nothing runs.
const MAX_HOSTS: usize = 1024;

#[derive(Debug)]
struct Gate {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug)]
struct State {
    running: u64,
    /// In their order.
    waiting: VecDeque<u64>,
    next_ticket: u64,
    /// When a request last began, moved or ended.
    active: Instant,
}

impl Gate {
    fn at(origin: &Origin) -> Arc<Self> {
        static GATES: PerProcess<Mutex<HashMap<Origin, Arc<Gate>>>> = PerProcess::new();
        let mut gates = GATES
            .get(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= MAX_HOSTS {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let gate = gates.entry(origin.clone()).or_insert_with(|| {
            Arc::new(Self {
                state: Mutex::new(State {
                    running: 0,
                    waiting: VecDeque::new(),
                    next_ticket: 0,
                    active: Instant::now(),
                }),
                moved: Condvar::new(),
            })
        });
        Arc::clone(gate)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many places a thread has.
fn places() -> Arc<AtomicUsize> {
    thread_local! {
        static PLACES: Arc<AtomicUsize> = Arc::default();
    }
    // None when the thread ends, as in `atexit`.
    PLACES.try_with(Arc::clone).unwrap_or_default()
}

/// Whether this thread has a place anywhere.
pub(crate) fn has_place() -> bool {
    places().load(Ordering::Relaxed) > 0
}

/// A place among the requests that run at a host.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    /// Of the thread that used it last.
    owner: Arc<AtomicUsize>,
    process: u32,
}

impl Place {
    fn take(gate: Arc<Gate>, state: &mut State) -> Self {
        state.running += 1;
        state.active = Instant::now();
        let owner = places();
        owner.fetch_add(1, Ordering::Relaxed);
        Self {
            gate: Arc::clone(&gate),
            owner,
            process: std::process::id(),
        }
    }

    /// Notes that the request moves, on this thread.
    pub(crate) fn touch(&mut self) {
        let now = places();
        if !Arc::ptr_eq(&now, &self.owner) {
            self.owner.fetch_sub(1, Ordering::Relaxed);
            now.fetch_add(1, Ordering::Relaxed);
            self.owner = now;
        }
        self.gate.lock().active = Instant::now();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.owner.fetch_sub(1, Ordering::Relaxed);
        // In a child, the lock may be held by a thread that is not there.
        if is_this(self.process) {
            let mut state = self.gate.lock();
            state.running = state.running.saturating_sub(1);
            state.active = Instant::now();
            drop(state);
            self.gate.moved.notify_all();
        }
    }
}

/// A ticket in the queue; it is torn up when the call ends before its turn.
struct Ticket<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.gate.lock().waiting.retain(|n| *n != self.number);
        self.gate.moved.notify_all();
    }
}

/// Waits until fewer than `most` requests run at this host, unless the call ends first. The flag tells whether it had
/// to wait.
pub(crate) fn enter(origin: &Origin, most: u64, call: &Call) -> Result<(Place, bool)> {
    let gate = Gate::at(origin);
    let mut state = gate.lock();
    let is_free = state.waiting.is_empty() && state.running < most;
    if is_free || has_place() || call.goes_with_a_place() {
        return Ok((Place::take(Arc::clone(&gate), &mut state), false));
    }
    let number = state.next_ticket;
    state.next_ticket += 1;
    state.waiting.push_back(number);
    drop(state);
    let ticket = Ticket {
        gate: &gate,
        number,
    };
    call.log
        .debug(|| format!("waiting until fewer than {most} requests run at {origin}"));
    // No request may be still for longer than this, so the places are those of answers that nobody reads.
    let patience = call.limits().longest_still();
    let mut state = gate.lock();
    loop {
        if state.waiting.front() == Some(&number) && state.running < most {
            let place = Place::take(Arc::clone(&gate), &mut state);
            drop(state);
            drop(ticket);
            return Ok((place, true));
        }
        let still = state.active.elapsed();
        if still >= patience {
            drop(state);
            return Err(Error::timeout(format!(
                "the {most} requests at {origin} that option max-requests-per-host allows were still for {} ms: their \
                 answers are not read",
                still.as_millis()
            )));
        }
        state = gate
            .moved
            .wait_timeout(state, SLICE)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        if let Err(e) = call.check() {
            // The ticket takes the lock.
            drop(state);
            return Err(e);
        }
    }
}
