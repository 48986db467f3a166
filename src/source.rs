//! What is sent: memory, a file, or a pair of callbacks.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::file::open_at_once;
use crate::net::call::{self, SLICE};

/// Bytes from somewhere, in order.
pub trait ReadBytes: Send {
    /// Fills `buf` with some bytes; 0 is the end.
    ///
    /// # Errors
    /// Ends the call that sends the body.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// Goes back to the first byte. `false` when it cannot.
    fn rewind(&mut self) -> bool;
}

/// A body that can be opened once for each attempt to send it. Clones share it.
#[derive(Clone)]
pub struct Source(Arc<Kind>);

enum Kind {
    Bytes(Vec<u8>),
    Secret(Zeroizing<Vec<u8>>),
    File(PathBuf),
    Reader {
        state: Mutex<ReaderState>,
        size: Size,
    },
}

/// How long a reader's bytes are.
enum Size {
    Known(Option<u64>),
    /// As long as this source.
    Of(Source),
}

pub(crate) struct ReaderState {
    /// Out of its place while its code, which may be the program's, runs without the lock.
    reader: Option<Box<dyn ReadBytes>>,
    position: u64,
    busy: bool,
}

impl Source {
    /// Bytes in memory.
    pub fn bytes(data: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Kind::Bytes(data.into())))
    }

    /// Bytes that are wiped when the source goes.
    pub(crate) fn secret(data: &[u8]) -> Self {
        Self(Arc::new(Kind::Secret(Zeroizing::new(data.to_vec()))))
    }

    /// Whether it is one of those.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(*self.0, Kind::Secret(_))
    }

    /// A file, opened anew for each attempt.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Kind::File(path.into())))
    }

    /// A reader. `size` is `None` when it is not known; it is used by one call at a time.
    pub fn reader(reader: Box<dyn ReadBytes>, size: Option<u64>) -> Self {
        Self::with_size(reader, Size::Known(size))
    }

    /// A reader over `source`, with its size.
    pub(crate) fn counted(source: &Source, reader: Box<dyn ReadBytes>) -> Self {
        Self::with_size(reader, Size::Of(source.clone()))
    }

    fn with_size(reader: Box<dyn ReadBytes>, size: Size) -> Self {
        let state = Mutex::new(ReaderState {
            reader: Some(reader),
            position: 0,
            busy: false,
        });
        Self(Arc::new(Kind::Reader { state, size }))
    }

    /// Bytes in all, if known without reading them.
    pub(crate) fn size(&self) -> Result<Option<u64>> {
        match &*self.0 {
            Kind::Bytes(data) => Ok(Some(data.len() as u64)),
            Kind::Secret(data) => Ok(Some(data.len() as u64)),
            Kind::File(path) => {
                let info = std::fs::metadata(path).map_err(|e| file_error(path, &e))?;
                // A pipe or device has no size of its own.
                Ok(info.is_file().then_some(info.len()))
            }
            Kind::Reader { size, .. } => match size {
                Size::Known(size) => Ok(*size),
                Size::Of(source) => source.size(),
            },
        }
    }

    /// Opens the body at `offset` for one attempt.
    pub(crate) fn open(&self, offset: u64) -> Result<Opened> {
        let mut opened = Opened {
            kind: Arc::clone(&self.0),
            at: offset,
            file: None,
            holds_reader: false,
        };
        match &*self.0 {
            Kind::Bytes(_) | Kind::Secret(_) => {}
            Kind::File(path) => {
                // Waiting for who writes to a pipe is done where it can be given up.
                let mut file = open_at_once(path).map_err(|e| file_error(path, &e))?;
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset))
                        .map_err(|e| file_error(path, &e))?;
                }
                opened.file = Some(file);
            }
            Kind::Reader { state, .. } => {
                let mut held = lock(state);
                if held.busy {
                    return Err(Error::state("the body's reader is in use by another call"));
                }
                held.busy = true;
                opened.holds_reader = true;
                let begun = held.position > offset;
                drop(held);
                if begun {
                    if !with_reader(state, |reader| Ok(reader.rewind()))? {
                        return Err(Error::state(
                            "the body was partly sent and cannot be sent again: give its source a rewind function",
                        ));
                    }
                    lock(state).position = 0;
                }
                opened.skip_to(offset)?;
            }
        }
        Ok(opened)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            Kind::Bytes(data) => write!(f, "Source({} bytes)", data.len()),
            Kind::Secret(_) => f.write_str("Source(secret)"),
            Kind::File(path) => write!(f, "Source({})", path.display()),
            Kind::Reader { .. } => f.write_str("Source(reader)"),
        }
    }
}

fn lock(state: &Mutex<ReaderState>) -> MutexGuard<'_, ReaderState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs code of the reader, of a source that is held, without holding the lock: it may use the source itself.
fn with_reader<T>(
    state: &Mutex<ReaderState>,
    run: impl FnOnce(&mut dyn ReadBytes) -> Result<T>,
) -> Result<T> {
    let mut reader = lock(state)
        .reader
        .take()
        .ok_or_else(|| Error::state("the body's reader failed in an earlier call"))?;
    let result = run(&mut *reader);
    lock(state).reader = Some(reader);
    result
}

fn file_error(path: &Path, e: &io::Error) -> Error {
    Error::io(format!("cannot read {}: {e}", path.display())).with_os_code(e.raw_os_error())
}

/// Waits until a pipe or device has something to read, unless the call ends first.
fn wait_for(file: &File) -> Result<()> {
    let slice = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(SLICE.subsec_nanos()),
    };
    loop {
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&slice)) {
            Ok(0) => {}
            // A failure is that of the reading, which follows.
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Ok(()),
        }
        if let Ok(call) = call::current() {
            call.check()?;
        }
    }
}

/// A body being sent.
pub(crate) struct Opened {
    kind: Arc<Kind>,
    /// Position in bytes held in memory.
    at: u64,
    file: Option<File>,
    holds_reader: bool,
}

impl Opened {
    fn skip_to(&mut self, offset: u64) -> Result<()> {
        let mut scratch = Vec::new();
        loop {
            let Kind::Reader { state, .. } = &*self.kind else {
                return Ok(());
            };
            let left = offset.saturating_sub(lock(state).position);
            if left == 0 {
                return Ok(());
            }
            if let Ok(call) = call::current() {
                call.check()?;
            }
            scratch.resize(64 * 1024, 0);
            let room = scratch
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            if self.read_some(scratch.get_mut(..room).unwrap_or_default())? == 0 {
                return Err(Error::argument(
                    "the body became shorter since it was sent first",
                ));
            }
        }
    }

    /// Reads some bytes; 0 is the end.
    pub(crate) fn read_some(&mut self, buf: &mut [u8]) -> Result<usize> {
        let in_memory = |data: &[u8], at: &mut u64, buf: &mut [u8]| {
            let rest = usize::try_from(*at)
                .ok()
                .and_then(|at| data.get(at..))
                .unwrap_or_default();
            let n = rest.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
                to.copy_from_slice(from);
            }
            *at += n as u64;
            n
        };
        match &*self.kind {
            Kind::Bytes(data) => Ok(in_memory(data, &mut self.at, buf)),
            Kind::Secret(data) => Ok(in_memory(data, &mut self.at, buf)),
            Kind::File(path) => loop {
                let Some(file) = &mut self.file else {
                    return Ok(0);
                };
                wait_for(file).map_err(|e| e.context(path.display()))?;
                match file.read(buf) {
                    Err(e)
                        if matches!(
                            e.kind(),
                            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                        ) => {}
                    other => return other.map_err(|e| file_error(path, &e)),
                }
            },
            Kind::Reader { state, .. } => {
                let n = with_reader(state, |reader| reader.read(buf))?;
                if n > buf.len() {
                    return Err(Error::argument(
                        "the body's reader returned more bytes than it had room for",
                    ));
                }
                lock(state).position += n as u64;
                Ok(n)
            }
        }
    }
}

impl Read for Opened {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_some(buf).map_err(io::Error::other)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let (true, Kind::Reader { state, .. }) = (self.holds_reader, &*self.kind) {
            lock(state).busy = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    struct Letters {
        at: u8,
        can_rewind: bool,
    }

    impl ReadBytes for Letters {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
            let n = buf.len().min(usize::from(10 - self.at)).min(3);
            for slot in &mut buf[..n] {
                *slot = b'a' + self.at;
                self.at += 1;
            }
            Ok(n)
        }

        fn rewind(&mut self) -> bool {
            if self.can_rewind {
                self.at = 0;
            }
            self.can_rewind
        }
    }

    fn all(source: &Source, offset: u64) -> Result<String> {
        let mut text = String::new();
        source
            .open(offset)?
            .read_to_string(&mut text)
            .map_err(|e| Error::internal(e.to_string()))?;
        Ok(text)
    }

    /// Every attempt begins where it should or fails.
    #[test]
    fn every_attempt_sends_the_whole_body() {
        let path = std::env::temp_dir().join(format!("rt-source-{}", std::process::id()));
        std::fs::write(&path, "abcdefghij").unwrap();
        for source in [
            Source::bytes(*b"abcdefghij"),
            Source::file(&path),
            Source::reader(
                Box::new(Letters {
                    at: 0,
                    can_rewind: true,
                }),
                Some(10),
            ),
        ] {
            for (offset, want) in [
                (0, "abcdefghij"),
                (0, "abcdefghij"),
                (4, "efghij"),
                (2, "cdefghij"),
                (10, ""),
            ] {
                assert_eq!(
                    all(&source, offset).unwrap(),
                    want,
                    "{source:?} at {offset}"
                );
            }
            assert_eq!(source.size().unwrap(), Some(10));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            Source::file(&path).open(0).err().unwrap().kind(),
            ErrorKind::Io
        );
    }

    #[test]
    fn no_rewind_is_an_error_not_an_empty_body() {
        let source = Source::reader(
            Box::new(Letters {
                at: 0,
                can_rewind: false,
            }),
            None,
        );
        assert_eq!(all(&source, 0).unwrap(), "abcdefghij");
        assert_eq!(all(&source, 0).unwrap_err().kind(), ErrorKind::State);
    }

    #[test]
    fn one_call_at_a_time() {
        let source = Source::reader(
            Box::new(Letters {
                at: 0,
                can_rewind: true,
            }),
            None,
        );
        let first = source.open(0).unwrap();
        assert_eq!(source.open(0).err().unwrap().kind(), ErrorKind::State);
        drop(first);
        assert_eq!(all(&source, 0).unwrap(), "abcdefghij");
    }
}
