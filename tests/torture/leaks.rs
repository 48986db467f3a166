//! What is left when nothing should be: heap bytes, descriptors, threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// The system's allocator, which counts what is in use.
pub struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize, sign: i64) {
    LIVE.fetch_add(sign * bytes as i64, Ordering::Relaxed);
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub bytes: i64,
    pub descriptors: usize,
    pub threads: usize,
}

impl Held {
    pub fn now() -> Self {
        let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count);
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            bytes: LIVE.load(Ordering::Relaxed),
        }
    }

    /// What is held beyond `before` once threads that end have ended; `slack` heap bytes do not count.
    pub fn beyond(before: Self, slack: i64) -> Option<String> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let now = Self::now();
            if now.bytes <= before.bytes + slack
                && now.descriptors <= before.descriptors
                && now.threads <= before.threads
            {
                return None;
            }
            if Instant::now() >= end {
                return Some(format!(
                    "{} heap bytes, {} descriptors, {} threads more than before",
                    now.bytes - before.bytes,
                    now.descriptors as i64 - before.descriptors as i64,
                    now.threads as i64 - before.threads as i64
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Resident memory in KiB.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or(0)
}
