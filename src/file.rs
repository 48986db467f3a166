//! Files that appear only when they are complete.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// Longest name of a file, in bytes, that file systems commonly take.
const MAX_NAME: usize = 255;

/// A file that takes its target's place when it is committed. Until then it has no name where the system can do
/// that, so that nothing of it stays if the process is killed; else a temporary one beside the target.
pub(crate) struct PendingFile {
    file: File,
    temporary: Option<PathBuf>,
    target: PathBuf,
}

impl PendingFile {
    /// Creates the file. A link at the target is not followed.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        match nameless(target)? {
            Some(file) => Ok(Self {
                file,
                temporary: None,
                target: target.to_owned(),
            }),
            None => Self::create_named(target),
        }
    }

    fn create_named(target: &Path) -> Result<Self> {
        let (file, temporary) = named(target, |path| {
            OpenOptions::new().write(true).create_new(true).open(path)
        })?;
        Ok(Self {
            file,
            temporary: Some(temporary),
            target: target.to_owned(),
        })
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<()> {
        self.file
            .write_all(data)
            .map_err(|e| file_error("write", &self.target, &e))
    }

    /// Makes the bytes durable and puts the file in its place.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|e| file_error("sync", &self.target, &e))?;
        let temporary = match self.temporary.take() {
            Some(temporary) => temporary,
            // A name cannot be given to it in place of another file's.
            None => named(&self.target, |path| link(&self.file, path))?.1,
        };
        let temporary = self.temporary.insert(temporary);
        std::fs::rename(temporary, &self.target)
            .map_err(|e| file_error("rename to", &self.target, &e))?;
        self.temporary = None;
        sync_folder(&self.target)
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Has `make` use a hidden name beside `target` that nobody else uses.
fn named<T>(target: &Path, make: impl Fn(&Path) -> io::Result<T>) -> Result<(T, PathBuf)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = beside(target, &format!("{}-{serial}", std::process::id()))?;
        match make(&temporary) {
            Ok(made) => return Ok((made, temporary)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(file_error("create", &temporary, &e)),
        }
    }
}

/// Where open files can be named by their numbers.
#[cfg(target_os = "linux")]
const OPEN_FILES: &str = "/proc/self/fd";

/// A file without a name in the folder of `target`; `None` where there can be none, or where it could not be given
/// one later.
#[cfg(target_os = "linux")]
fn nameless(target: &Path) -> Result<Option<File>> {
    use std::os::unix::fs::OpenOptionsExt;
    let hidden = beside(target, "new")?;
    if !Path::new(OPEN_FILES).exists() {
        return Ok(None);
    }
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(folder_of(target));
    match file {
        Ok(file) => Ok(Some(file)),
        // The last two are what kernels and file systems say that do not know the flag.
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(file_error("create", &hidden, &e)),
    }
}

#[cfg(not(target_os = "linux"))]
fn nameless(_: &Path) -> Result<Option<File>> {
    Ok(None)
}

/// Gives a file without a name one.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    use std::os::fd::AsRawFd;
    let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A hidden name beside `target`, which is to be a file: a device, pipe or folder that is there must not be lost.
pub(crate) fn beside(target: &Path, mark: &str) -> Result<PathBuf> {
    let text = target.as_os_str().as_bytes();
    let is_folder = text.ends_with(b"/") || text.ends_with(b"/.");
    let name = target
        .file_name()
        .filter(|_| !is_folder)
        .ok_or_else(|| Error::argument(format!("\"{}\" names no file", target.display())))?;
    let kind = |found: std::io::Result<std::fs::Metadata>| found.ok().map(|m| m.file_type());
    if let Some(there) = kind(std::fs::symlink_metadata(target)) {
        // A link is replaced, but not one by which a device or a pipe is commonly named.
        let is_file = match there.is_symlink() {
            true => kind(std::fs::metadata(target)).is_none_or(|to| to.is_file() || to.is_dir()),
            false => there.is_file(),
        };
        if !is_file {
            let code = if there.is_dir() {
                libc::EISDIR
            } else {
                libc::EEXIST
            };
            let message = format!("{} is in the way: it is no file", target.display());
            return Err(Error::io(message).with_os_code(Some(code)));
        }
    }
    let mark = format!(".{mark}.part");
    let most = MAX_NAME - 1 - mark.len();
    let name = name.as_bytes();
    let mut hidden = OsString::from(".");
    hidden.push(OsStr::from_bytes(name.get(..most).unwrap_or(name)));
    hidden.push(mark);
    Ok(target.with_file_name(hidden))
}

fn folder_of(target: &Path) -> &Path {
    target
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Makes a rename durable.
pub(crate) fn sync_folder(target: &Path) -> Result<()> {
    let folder = folder_of(target);
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| file_error("sync", folder, &e))
}

/// Opens a file for reading. A pipe does not keep its reader waiting for somebody at the other end.
pub(crate) fn open_at_once(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

pub(crate) fn file_error(what: &str, path: &Path, e: &io::Error) -> Error {
    Error::io(format!("cannot {what} {}: {e}", path.display())).with_os_code(e.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a name from the beginning, and without one.
    #[test]
    fn appears_only_when_complete() {
        for create in [PendingFile::create, PendingFile::create_named] {
            let folder = tempfile::tempdir().unwrap();
            let count = || std::fs::read_dir(folder.path()).unwrap().count();
            let target = folder.path().join("blob");
            let mut pending = create(&target).unwrap();
            pending.write(b"half").unwrap();
            assert!(!target.exists());
            let names = pending.temporary.iter().count();
            assert_eq!(count(), names, "what a killed process leaves");
            drop(pending);
            assert_eq!(count(), 0);
            let elsewhere = folder.path().join("elsewhere");
            std::fs::write(&elsewhere, "mine").unwrap();
            std::os::unix::fs::symlink(&elsewhere, &target).unwrap();
            let mut pending = create(&target).unwrap();
            pending.write(b"whole").unwrap();
            pending.commit().unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"whole");
            assert_eq!(
                std::fs::read(&elsewhere).unwrap(),
                b"mine",
                "a link at the target is replaced, not followed"
            );
            // What fails in the end leaves nothing either.
            let occupied = folder.path().join("folder");
            std::fs::create_dir(&occupied).unwrap();
            assert!(create(&occupied).is_err());
            std::fs::remove_dir(&occupied).unwrap();
            let made = std::process::Command::new("mkfifo").arg(&occupied).status();
            assert!(made.unwrap().success());
            assert!(create(&occupied).is_err(), "a pipe is not replaced");
            assert!(create(&folder.path().join("new/")).is_err());
            let late = folder.path().join("late");
            let mut pending = create(&late).unwrap();
            pending.write(b"whole").unwrap();
            std::fs::create_dir(&late).unwrap();
            assert!(pending.commit().is_err());
            assert_eq!(count(), 4);
            // The longest name there can be.
            let long = folder.path().join("x".repeat(MAX_NAME));
            let mut pending = create(&long).unwrap();
            pending.write(b"whole").unwrap();
            pending.commit().unwrap();
            assert_eq!(std::fs::read(&long).unwrap(), b"whole");
            assert!(create(Path::new("/")).is_err());
            assert!(create(Path::new("/no/such/folder/x")).is_err());
        }
    }
}
