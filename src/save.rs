//! Blobs into files: a partial download is kept beside the target and continued by the next call, and the
//! target appears only when the digest is right.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::blob::Place;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{beside, file_error, sync_folder};
use crate::net::BUFFER;
use crate::net::call::Call;
use crate::op::Op;
use crate::retry;
use crate::transport::Transport;
use crate::verify::{Content, Verified};

impl Transport {
    /// Gets a blob into a file that appears only when it is complete and verified. A partial download left by
    /// an earlier call, of this process or another, is continued.
    ///
    /// # Errors
    /// Those of [`blob_get`](Transport::blob_get), and [`Io`](crate::error::ErrorKind::Io). After a failure of
    /// the network, and a refusal that may pass, the partial download stays; after one of the digest it is removed.
    pub fn blob_save(&self, digest: &str, path: &Path, op: Option<&Op>) -> Result<()> {
        let digest: Digest = digest.parse()?;
        let place = Place::new(self, digest.clone())?;
        let call = self.call(op)?;
        let Some(mut partial) = Partial::open(path, &digest)? else {
            // Another process is at it, or it was not made by us; this call makes a file of its own.
            return save_apart(place, path, &call);
        };
        let continued = partial.length > 0;
        match fill(&place, &mut partial, &call) {
            // What an earlier call left may have been of another blob, or damaged.
            Err(e) if continued && is_about_the_blob(&e) => {
                call.log
                    .info(|| format!("the partial download of {digest} is of no use: {e}"));
                partial.clear()?;
                fill(&place, &mut partial, &call)?;
            }
            other => other?,
        }
        partial.commit()
    }
}

/// Whether a failure says something of the blob or of what is there of it, and not that it cannot be had now.
fn is_about_the_blob(e: &Error) -> bool {
    match e.kind() {
        ErrorKind::Digest | ErrorKind::Protocol => true,
        ErrorKind::Status => !e
            .http_status()
            .is_some_and(|status| status == 403 || retry::is_transient(status)),
        _ => false,
    }
}

/// Continues a partial download to its verified end.
fn fill(place: &Place, partial: &mut Partial, call: &Arc<Call>) -> Result<()> {
    let mut hasher = Hasher::new(place.digest.algorithm());
    partial.hash(&mut hasher, call)?;
    if partial.length > 0 && hasher.clone().finish() == place.digest {
        return Ok(());
    }
    let mut content: Verified<_> = place.clone().rest(partial.length, hasher, call)?;
    let op = call.op();
    if let Some(op) = op {
        op.begin(content.size());
        op.rewind(partial.length);
    }
    loop {
        let piece = match content.piece() {
            Ok([]) => return Ok(()),
            Ok(piece) => piece,
            Err(e) => {
                if e.kind() == ErrorKind::Digest {
                    partial.clear()?;
                }
                return Err(e);
            }
        };
        partial.write(piece)?;
        if let Some(op) = op {
            op.advance(piece.len() as u64)?;
        }
    }
}

/// Saves under a temporary name of its own.
fn save_apart(place: Place, path: &Path, call: &Arc<Call>) -> Result<()> {
    place.whole(call)?.save(path)
}

/// A partial download, locked against other processes.
struct Partial {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    length: u64,
    is_kept: bool,
}

impl Partial {
    /// Opens or creates the partial file of this blob for this target; `None` when it is somebody else's.
    fn open(target: &Path, digest: &Digest) -> Result<Option<Self>> {
        let mark = digest.hex().get(..16).unwrap_or_default();
        let temporary = beside(target, mark)?;
        let failed = |what: &str, e: io::Error| file_error(what, &temporary, &e);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // What somebody else put there in place of a file is not followed, and not waited for.
                .custom_flags(
                    libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY,
                )
                .open(&temporary)
                .map_err(|e| failed("create", e))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(failed("lock", e.into())),
            }
            let info = file.metadata().map_err(|e| failed("read", e))?;
            if !info.is_file() {
                return Err(Error::io(format!(
                    "{} is in the way: it is no file",
                    temporary.display()
                )));
            }
            // Another name of it may be a file that is none of ours to write to, and its owner could change it
            // after it was checked.
            if info.nlink() > 1 || info.uid() != rustix::process::geteuid().as_raw() {
                return Ok(None);
            }
            // Until it was locked, another process may have put it in its place or removed it.
            let is_there = std::fs::symlink_metadata(&temporary)
                .is_ok_and(|there| (there.dev(), there.ino()) == (info.dev(), info.ino()));
            if is_there {
                return Ok(Some(Self {
                    file,
                    temporary,
                    target: target.to_owned(),
                    length: info.len(),
                    is_kept: false,
                }));
            }
        }
    }

    /// Takes what is there into the digest.
    fn hash(&mut self, hasher: &mut Hasher, call: &Call) -> Result<()> {
        let failed = |path: &Path, e: io::Error| file_error("read", path, &e);
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(|e| failed(&self.temporary, e))?;
        let mut piece = vec![0; if self.length > 0 { BUFFER } else { 0 }];
        let mut done = 0;
        while done < self.length {
            call.check()?;
            let n = match self.file.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(&self.temporary, e)),
            };
            hasher.update(piece.get(..n).unwrap_or_default());
            done += n as u64;
        }
        self.length = done;
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.file
            .write_all(data)
            .map_err(|e| file_error("write", &self.temporary, &e))?;
        self.length += data.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|e| file_error("truncate", &self.temporary, &e))?;
        self.length = 0;
        Ok(())
    }

    fn commit(mut self) -> Result<()> {
        if let Err(e) = self.file.sync_all() {
            // What can still be read may not be what the disk has: nothing of it is continued.
            self.length = 0;
            return Err(file_error("sync", &self.temporary, &e));
        }
        std::fs::rename(&self.temporary, &self.target)
            .map_err(|e| file_error("rename to", &self.target, &e))?;
        self.is_kept = true;
        sync_folder(&self.target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Nothing worth keeping: leave nothing behind. After a rename the name may be another's.
        if self.length == 0 && !self.is_kept {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
