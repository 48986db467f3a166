//! Single flight: many threads want a value that takes an exchange to get, one of them gets it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::net::call::{Call, SLICE};

/// A value that is made by one thread at a time and shared.
///
/// A failure is told to all who waited for it and then forgotten, also that of a peer that gave no answer in time. A
/// thread that gave up for a reason of its own (cancelled, out of time) hands over to the next one.
#[derive(Debug)]
pub(crate) struct Flight<T> {
    state: Mutex<State<T>>,
    landed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    value: Option<Shared<T>>,
    made: u64,
    /// The thread that makes the value now.
    flying: Option<u64>,
    /// Attempts that ended, and how the last one failed.
    ended: u64,
    failure: Option<Failure>,
}

/// Why there is no value, and whom else it concerns.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// Met by a call that may not ask the program for credentials.
    may_not_ask: bool,
    /// A peer gave no answer in this time.
    patience: Option<Duration>,
}

impl Failure {
    fn concerns(&self, call: &Call) -> bool {
        let patience = call.limits().longest_still();
        !(self.may_not_ask && call.may_call_back()) && self.patience.is_none_or(|p| patience <= p)
    }
}

/// A value and the number it was made under, by which it can be refused.
#[derive(Debug, Clone)]
pub(crate) struct Shared<T> {
    pub(crate) value: T,
    pub(crate) serial: u64,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        let state = State {
            value: None,
            made: 0,
            flying: None,
            ended: 0,
            failure: None,
        };
        Self {
            state: Mutex::new(state),
            landed: Condvar::new(),
        }
    }
}

/// A number of this thread, in this process.
fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl<T: Clone> Flight<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value there is.
    pub(crate) fn now(&self) -> Option<Shared<T>> {
        self.lock().value.clone()
    }

    /// The value there is if `usable` says so, else the one that `make` makes, on this thread or on one that
    /// came before.
    pub(crate) fn get(
        &self,
        call: &Call,
        usable: impl Fn(&Shared<T>) -> bool,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Shared<T>> {
        let mut state = self.lock();
        let arrived = state.ended;
        loop {
            if let Some(value) = state.value.as_ref().filter(|v| usable(v)) {
                return Ok(value.clone());
            }
            if state.flying == Some(this_thread()) {
                return Err(Error::state(
                    "a callback that supplies credentials used a transport that waits for its answer",
                ));
            }
            if state.flying.is_none() {
                if state.ended > arrived {
                    if let Some(failure) = state.failure.as_ref().filter(|f| f.concerns(call)) {
                        return Err(failure.error.clone());
                    }
                }
                break;
            }
            state = self
                .landed
                .wait_timeout(state, SLICE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            call.check()?;
        }
        state.flying = Some(this_thread());
        drop(state);
        let landing = Landing { flight: self };
        let result = make();
        let mut state = self.lock();
        state.ended += 1;
        state.failure = None;
        let out = match result {
            Ok(value) => {
                state.made += 1;
                let shared = Shared {
                    value,
                    serial: state.made,
                };
                state.value = Some(shared.clone());
                Ok(shared)
            }
            Err(e) => {
                // What only concerns this caller must not fail the others.
                let is_own = match e.kind() {
                    ErrorKind::Cancelled => true,
                    ErrorKind::Timeout => !e.is_slow() || call.check().is_err(),
                    _ => false,
                };
                state.failure = (!is_own).then(|| Failure {
                    error: e.clone(),
                    may_not_ask: !call.may_call_back(),
                    patience: e.is_slow().then(|| call.limits().longest_still()),
                });
                Err(e)
            }
        };
        drop(state);
        drop(landing);
        out
    }

    /// Forgets the value with this number; a newer one stays.
    pub(crate) fn refuse(&self, serial: u64) {
        let mut state = self.lock();
        if state.value.as_ref().is_some_and(|v| v.serial == serial) {
            state.value = None;
        }
    }

    /// Whether nothing is held and nobody is waiting.
    pub(crate) fn is_vacant(&self, usable: impl Fn(&Shared<T>) -> bool) -> bool {
        let state = self.lock();
        state.flying.is_none() && !state.value.as_ref().is_some_and(usable)
    }
}

/// Ends the flight also when making the value panics.
struct Landing<'a, T: Clone> {
    flight: &'a Flight<T>,
}

impl<T: Clone> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        self.flight.lock().flying = None;
        self.flight.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use std::sync::atomic::AtomicU32;
    use std::sync::{Arc, Barrier};

    fn call() -> Arc<Call> {
        Call::new(None, &Options::new(), &Arc::default())
    }

    /// One exchange for many threads; a failure reaches all of them and the next call tries anew.
    #[test]
    fn one_flies_all_land() {
        let failures = [Error::auth("no"), Error::slow("no answer in time")];
        for failure in std::iter::once(None).chain(failures.map(Some)) {
            let fail = failure.is_some();
            let flight = Flight::<u32>::default();
            let made = AtomicU32::new(0);
            let gate = Barrier::new(8);
            let results: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            gate.wait();
                            flight.get(
                                &call(),
                                |_| true,
                                || {
                                    made.fetch_add(1, Ordering::SeqCst);
                                    // Long enough for all the others to arrive and wait.
                                    call().sleep(std::time::Duration::from_millis(200)).unwrap();
                                    failure.clone().map_or(Ok(7), Err)
                                },
                            )
                        })
                    })
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(made.load(Ordering::SeqCst), 1);
            assert!(results.iter().all(|r| r.is_err() == fail));
            assert_eq!(
                flight.get(&call(), |_| true, || Ok(8)).unwrap().value,
                if fail { 8 } else { 7 }
            );
        }
    }

    /// One that was cancelled, and one that may not ask the program for credentials.
    #[test]
    fn a_leader_whose_failure_is_its_own_hands_over() {
        for (leading, failure) in [
            (call(), Error::cancelled("mine")),
            (call().quiet(), Error::auth("may not ask")),
        ] {
            let flight = Flight::<u32>::default();
            let gate = Barrier::new(2);
            let kind = failure.kind();
            let (first, second) = std::thread::scope(|scope| {
                let leader = scope.spawn(|| {
                    flight.get(
                        &leading,
                        |_| true,
                        || {
                            gate.wait();
                            call().sleep(std::time::Duration::from_millis(100)).unwrap();
                            Err(failure)
                        },
                    )
                });
                let waiter = scope.spawn(|| {
                    gate.wait();
                    flight.get(&call(), |_| true, || Ok(9))
                });
                (leader.join().unwrap(), waiter.join().unwrap())
            });
            assert_eq!(first.unwrap_err().kind(), kind);
            assert_eq!(second.unwrap().value, 9);
        }
    }

    #[test]
    fn refused_values_are_made_again() {
        let flight = Flight::<u32>::default();
        let one = flight.get(&call(), |_| true, || Ok(1)).unwrap();
        flight.refuse(one.serial);
        let two = flight.get(&call(), |_| true, || Ok(2)).unwrap();
        flight.refuse(one.serial);
        assert_eq!(
            flight.get(&call(), |_| true, || Ok(3)).unwrap().value,
            two.value
        );
    }
}
