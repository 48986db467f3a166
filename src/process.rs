//! What must not pass from a process to the children it forks: values behind locks that a thread of the parent
//! may hold, and threads that the child does not have.

use std::io;
use std::sync::OnceLock;
use std::thread::JoinHandle;

/// A value that each process makes for itself, once.
pub(crate) struct PerProcess<T: 'static>(OnceLock<Box<Node<T>>>);

struct Node<T: 'static> {
    process: u32,
    value: OnceLock<T>,
    next: OnceLock<Box<Node<T>>>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The value of this process, made by `make` if it is the first to ask. A child gets one of its own: the
    /// parent's may have been half made when it forked.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        let process = std::process::id();
        let mut place = &self.0;
        loop {
            let node = place.get_or_init(|| {
                Box::new(Node {
                    process,
                    value: OnceLock::new(),
                    next: OnceLock::new(),
                })
            });
            if node.process == process {
                return node.value.get_or_init(make);
            }
            place = &node.next;
        }
    }
}

/// Whether this process is the one with that number.
pub(crate) fn is_this(process: u32) -> bool {
    std::process::id() == process
}

/// A thread of the library, and what it is talked to with. It is waited for when this goes, except in a child of
/// the process that started it, where there is no such thread and its channels may be in the middle of something.
pub(crate) struct Worker<C, T>(Option<Parts<C, T>>);

struct Parts<C, T> {
    channel: C,
    thread: JoinHandle<T>,
    process: u32,
}

impl<C, T: Send + 'static> Worker<C, T> {
    /// Starts a thread that does `work`. Letting go of `channel` must make it end.
    pub(crate) fn start(
        name: &str,
        channel: C,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Self> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)?;
        Ok(Self(Some(Parts {
            channel,
            thread,
            process: std::process::id(),
        })))
    }
}

impl<C, T> Worker<C, T> {
    pub(crate) fn channel(&self) -> Option<&C> {
        self.0.as_ref().map(|parts| &parts.channel)
    }

    /// Lets go of the channel and gives the result of the thread; `None` if it panicked.
    pub(crate) fn finish(mut self) -> Option<T> {
        let parts = self.0.take()?;
        drop(parts.channel);
        parts.thread.join().ok()
    }
}

impl<C, T> Drop for Worker<C, T> {
    fn drop(&mut self) {
        let Some(parts) = self.0.take() else { return };
        if is_this(parts.process) {
            drop(parts.channel);
            let _ = parts.thread.join();
        } else {
            std::mem::forget(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn one_value() {
        static VALUE: PerProcess<u32> = PerProcess::new();
        assert_eq!((*VALUE.get(|| 1), *VALUE.get(|| 2)), (1, 1));
    }

    #[test]
    fn a_worker_ends_with_its_channel() {
        let (sender, receiver) = channel::<u32>();
        let worker =
            Worker::start("rt-test", sender, move || receiver.iter().sum::<u32>()).unwrap();
        for n in [1, 2, 3] {
            worker.channel().unwrap().send(n).unwrap();
        }
        assert_eq!(worker.finish(), Some(6));
        let (sender, receiver) = channel::<u32>();
        drop(Worker::start("rt-test", sender, move || receiver.iter().count()).unwrap());
    }
}
