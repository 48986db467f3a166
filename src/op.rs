//! Control of a running call: cancel, time limit, progress.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Told the bytes done and in all (`None` when unknown) as they move; `false` stops the call.
pub type ProgressFn = dyn Fn(u64, Option<u64>) -> bool + Send + Sync;

/// A handle on one call at a time: cancels it, limits its time, tells its progress.
///
/// Clones are the same object. Any thread may use it.
#[derive(Clone)]
pub struct Op(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    /// Milliseconds; 0 is none.
    timeout_ms: AtomicI64,
    done: AtomicI64,
    /// -1 is unknown.
    total: AtomicI64,
    progress: Mutex<Option<Arc<ProgressFn>>>,
}

impl Op {
    /// An op that has no limit and is not cancelled.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            total: AtomicI64::new(-1),
            ..Inner::default()
        }))
    }

    /// Stops the call using this op, now or when it starts, within about 200 ms. For good: a cancelled op
    /// stays cancelled.
    ///
    /// One atomic store, so it may be called from a signal handler.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
    }

    /// Whether [`cancel`](Op::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Limits each later call to `limit` in all, its answer's body included. `None` removes the limit.
    pub fn set_timeout(&self, limit: Option<Duration>) {
        let ms = limit.map_or(0, |d| {
            i64::try_from(d.as_millis()).unwrap_or(i64::MAX).max(1)
        });
        self.0.timeout_ms.store(ms, Ordering::Relaxed);
    }

    /// Body bytes moved so far and in all, `None` when unknown.
    pub fn progress(&self) -> (u64, Option<u64>) {
        let done = u64::try_from(self.0.done.load(Ordering::Relaxed)).unwrap_or(0);
        (
            done,
            u64::try_from(self.0.total.load(Ordering::Relaxed)).ok(),
        )
    }

    /// Calls `f` as bytes move, on the thread that runs the call. `None` removes it.
    pub fn set_progress(&self, f: Option<Arc<ProgressFn>>) {
        let old = {
            let mut slot = self
                .0
                .progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, f)
        };
        // Outside the lock: dropping it may run the caller's code.
        drop(old);
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let ms = self.0.timeout_ms.load(Ordering::Relaxed);
        (ms > 0)
            .then(|| now.checked_add(Duration::from_millis(ms.unsigned_abs())))
            .flatten()
    }

    pub(crate) fn begin(&self, total: Option<u64>) {
        self.0.done.store(0, Ordering::Relaxed);
        self.expect(total);
    }

    pub(crate) fn expect(&self, total: Option<u64>) {
        let total = total.and_then(|t| i64::try_from(t).ok()).unwrap_or(-1);
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// Puts the count of bytes done back to `done`, when a body is sent or read again.
    pub(crate) fn rewind(&self, done: u64) {
        self.0
            .done
            .store(i64::try_from(done).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: u64) -> Result<()> {
        let add = i64::try_from(bytes).unwrap_or(i64::MAX);
        let done = self
            .0
            .done
            .fetch_add(add, Ordering::Relaxed)
            .saturating_add(add);
        let f = self
            .0
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match f {
            Some(f) if !f(u64::try_from(done).unwrap_or(0), self.progress().1) => {
                Err(Error::cancelled("the progress callback stopped the call"))
            }
            _ => Ok(()),
        }
    }
}

impl Default for Op {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Op")
            .field("cancelled", &self.is_cancelled())
            .field("progress", &self.progress())
            .finish()
    }
}
