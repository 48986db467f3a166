//! Files that appear only when they are complete.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// A file under a temporary name beside its target; it takes the target's place when it is committed and is
/// removed when it is dropped before.
pub(crate) struct PendingFile {
    file: Option<File>,
    temporary: PathBuf,
    target: PathBuf,
    keep: bool,
}

impl PendingFile {
    /// Creates a temporary file with a name nobody else uses. A link at the target is not followed.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let serial = NEXT.fetch_add(1, Ordering::Relaxed);
            let temporary = beside(target, &format!("{}-{serial}", std::process::id()))?;
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&temporary)
            {
                Ok(file) => {
                    return Ok(Self {
                        file: Some(file),
                        temporary,
                        target: target.to_owned(),
                        keep: false,
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(file_error("create", &temporary, &e)),
            }
        }
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<()> {
        match &mut self.file {
            Some(file) => file
                .write_all(data)
                .map_err(|e| file_error("write", &self.temporary, &e)),
            None => Err(Error::internal("a file was written after it was closed")),
        }
    }

    /// Makes the bytes durable and puts the file in its place.
    pub(crate) fn commit(mut self) -> Result<()> {
        if let Some(file) = self.file.take() {
            file.sync_all()
                .map_err(|e| file_error("sync", &self.temporary, &e))?;
        }
        std::fs::rename(&self.temporary, &self.target)
            .map_err(|e| file_error("rename to", &self.target, &e))?;
        self.keep = true;
        sync_folder(&self.target)
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if !self.keep {
            self.file = None;
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// A hidden name beside `target`.
pub(crate) fn beside(target: &Path, mark: &str) -> Result<PathBuf> {
    let name = target
        .file_name()
        .ok_or_else(|| Error::argument(format!("{} names no file", target.display())))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{mark}.part"));
    Ok(target.with_file_name(hidden))
}

/// Makes a rename durable.
pub(crate) fn sync_folder(target: &Path) -> Result<()> {
    let folder = target
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| file_error("sync", folder, &e))
}

pub(crate) fn file_error(what: &str, path: &Path, e: &io::Error) -> Error {
    Error::io(format!("cannot {what} {}: {e}", path.display())).with_os_code(e.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_only_when_complete() {
        let folder = std::env::temp_dir().join(format!("rt-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let target = folder.join("blob");
        let mut pending = PendingFile::create(&target).unwrap();
        pending.write(b"half").unwrap();
        assert!(!target.exists());
        drop(pending);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        let elsewhere = folder.join("elsewhere");
        std::fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &target).unwrap();
        let mut pending = PendingFile::create(&target).unwrap();
        pending.write(b"whole").unwrap();
        pending.commit().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        assert_eq!(
            std::fs::read(&elsewhere).unwrap(),
            b"mine",
            "a link at the target is replaced, not followed"
        );
        assert!(PendingFile::create(Path::new("/")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
