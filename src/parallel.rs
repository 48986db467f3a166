//! One blob over several connections: closed ranges side by side, passed on in order.
//!
//! Each segment is kept in memory until its turn, so that what is written of a blob is always a prefix of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::blob::Place;
use crate::error::Result;
use crate::net::call::{Call, SLICE};
use crate::process::{Worker, is_this};
use crate::sorted::SortedMap;
use crate::verify::Stream;

/// Bytes of a segment.
pub(crate) const SEGMENT: u64 = 4 << 20;

/// The bytes of a blob from some offset on, fetched by several threads.
pub(crate) struct Parallel {
    place: Place,
    call: Arc<Call>,
    size: u64,
    /// Where the segment being passed on begins, and how much of it has been.
    position: u64,
    current: Vec<u8>,
    passed: usize,
    /// Segments that came before their turn.
    early: SortedMap<u64, Result<Vec<u8>>>,
    results: Option<Receiver<(u64, Result<Vec<u8>>)>>,
    process: u32,
    plan: Arc<Plan>,
    threads: Vec<Worker<(), ()>>,
}

/// What the threads take their work from.
struct Plan {
    next: Mutex<Window>,
    moved: Condvar,
    stop: AtomicBool,
    size: u64,
    /// How far beyond the segment being passed on the threads may work.
    ahead: u64,
}

struct Window {
    next: u64,
    passed: u64,
}

impl Plan {
    /// The next segment to fetch, once it is near enough to what was passed on.
    fn take(&self) -> Option<(u64, u64)> {
        let mut window = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stop.load(Ordering::Relaxed) || window.next >= self.size {
                return None;
            }
            if window.next < window.passed + self.ahead {
                let first = window.next;
                window.next = (first + SEGMENT).min(self.size);
                return Some((first, window.next));
            }
            window = self
                .moved
                .wait_timeout(window, SLICE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn pass(&self, position: u64) {
        self.next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .passed = position;
        self.moved.notify_all();
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.moved.notify_all();
    }
}

impl Parallel {
    /// Fetches a blob of `size` bytes from `first` on, by up to `connections` threads. `begun` is the
    /// first segment.
    pub(crate) fn start(
        place: Place,
        begun: Vec<u8>,
        first: u64,
        size: u64,
        connections: u64,
        call: &Arc<Call>,
    ) -> Self {
        let after = first + begun.len() as u64;
        let plan = Arc::new(Plan {
            next: Mutex::new(Window {
                next: after,
                passed: after,
            }),
            moved: Condvar::new(),
            stop: AtomicBool::new(false),
            size,
            ahead: connections * SEGMENT,
        });
        let (sender, results) = channel();
        let threads = (0..connections.min((size - after).div_ceil(SEGMENT)))
            .map_while(|_| {
                let (place, plan, sender, call) = (
                    place.clone(),
                    Arc::clone(&plan),
                    sender.clone(),
                    call.quiet(),
                );
                Worker::start("rt-range", (), move || work(&place, &plan, &sender, &call)).ok()
            })
            .collect();
        Self {
            place,
            call: Arc::clone(call),
            size,
            position: first,
            current: begun,
            passed: 0,
            early: SortedMap::default(),
            results: Some(results),
            process: std::process::id(),
            plan,
            threads,
        }
    }

    /// Waits for the segment at `first`. One that a thread could not get is fetched here: this thread may ask
    /// the program for credentials.
    fn segment(&mut self, first: u64) -> Result<Vec<u8>> {
        loop {
            if let Some(result) = self.early.remove(&first) {
                return match result {
                    Ok(data) => Ok(data),
                    Err(e) => {
                        self.call
                            .log
                            .info(|| format!("fetching the range at {first} again: {e}"));
                        fetch(
                            &self.place,
                            first,
                            (first + SEGMENT).min(self.size),
                            self.size,
                            &self.call,
                        )
                    }
                };
            }
            self.call.check()?;
            let arrived = match &self.results {
                Some(results) => results.recv_timeout(SLICE),
                None => Err(RecvTimeoutError::Disconnected),
            };
            match arrived {
                Ok((at, result)) => {
                    self.early.insert(at, result);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // No thread is left, or none could be started.
                Err(RecvTimeoutError::Disconnected) => {
                    return fetch(
                        &self.place,
                        first,
                        (first + SEGMENT).min(self.size),
                        self.size,
                        &self.call,
                    );
                }
            }
        }
    }
}

fn work(place: &Place, plan: &Plan, sender: &Sender<(u64, Result<Vec<u8>>)>, call: &Arc<Call>) {
    while let Some((first, end)) = plan.take() {
        let result = fetch(place, first, end, plan.size, call);
        if sender.send((first, result)).is_err() {
            return;
        }
    }
}

/// Gets one range into memory.
fn fetch(place: &Place, first: u64, end: u64, size: u64, call: &Arc<Call>) -> Result<Vec<u8>> {
    place
        .part(first, Some(end), Some(size), call)
        .into_bytes(end - first)
}

impl Stream for Parallel {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        if self.passed == self.current.len() {
            self.position += self.current.len() as u64;
            if self.position >= self.size {
                return Ok(0);
            }
            self.plan.pass(self.position);
            self.current = self.segment(self.position)?;
            self.passed = 0;
        }
        let rest = self.current.get(self.passed..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.passed += n;
        Ok(n)
    }
}

impl Drop for Parallel {
    fn drop(&mut self) {
        self.plan.stop();
        self.call.abandon_quiet();
        if is_this(self.process) {
            self.threads.clear();
        } else {
            // A thread that is not here may have been sending.
            std::mem::forget(std::mem::take(&mut self.threads));
            std::mem::forget(self.results.take());
        }
    }
}
