//! What a child process does between `fork` and `exec`, for which there is no safe interface.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

/// Highest descriptor that is looked at where the system cannot be asked for all at once.
const MOST: libc::c_int = 1 << 20;

/// Starts `program` with one argument. It has no descriptors but its standard ones, which are those of `command`,
/// and can collect children of its own although the host may ignore `SIGCHLD`.
pub(crate) fn spawn(mut command: Command, program: &Path, argument: &str) -> io::Result<Child> {
    let path = CString::new(program.as_os_str().as_bytes())?;
    let argument = CString::new(argument)?;
    let (failure, report) = new_pipe()?;
    // SAFETY: `start` makes system calls and nothing else: it neither allocates nor locks, so it may run in the
    // child of a process with other threads.
    unsafe {
        command.pre_exec(move || start(&path, &argument, report.as_raw_fd()));
    }
    let mut child = command.spawn()?;
    // With it goes our side of the report: what is left of it ends when the program begins.
    drop(command);
    let mut number = [0; 4];
    match File::from(failure).read_exact(&mut number) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(child),
        Err(e) => Err(e),
        Ok(()) => {
            // Where the host ignores SIGCHLD there is no status to collect.
            let _ = child.wait();
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number)))
        }
    }
}

/// The standard library's own way to tell of a failed `exec` panics in a host that ignores `SIGCHLD`, so the child
/// does not go back to it.
fn start(path: &CStr, argument: &CStr, report: RawFd) -> io::Result<()> {
    let arguments = [path.as_ptr(), argument.as_ptr(), std::ptr::null()];
    // SAFETY: the disposition of a signal may be set at any time, and SIG_DFL is one of its values.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    if !mark_all() {
        mark_each();
    }
    // SAFETY: the texts end with zero, the list with a null pointer, and all of them outlive the call.
    unsafe {
        libc::execv(path.as_ptr(), arguments.as_ptr());
    }
    let number = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    let number = number.to_ne_bytes();
    // SAFETY: four bytes that are there, and an end of the process that runs no handlers of the host's.
    unsafe {
        libc::write(report, number.as_ptr().cast(), number.len());
        libc::_exit(127)
    }
}

/// Closes them at `exec` and not now: one of them tells the parent that `exec` failed.
#[cfg(target_os = "linux")]
fn mark_all() -> bool {
    let (first, last): (libc::c_uint, libc::c_uint) = (3, libc::c_uint::MAX);
    // SAFETY: close_range takes numbers and marks what is open between them. As a bare system call it needs
    // no newer libc than the rest.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            last,
            libc::CLOSE_RANGE_CLOEXEC,
        ) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn mark_all() -> bool {
    false
}

fn mark_each() {
    // SAFETY: sysconf takes a number; so does fcntl, and it refuses those of descriptors that are not open.
    unsafe {
        let most = libc::c_int::try_from(libc::sysconf(libc::_SC_OPEN_MAX));
        let end = most
            .ok()
            .filter(|most| *most > 0)
            .map_or(MOST, |most| most.min(MOST));
        for descriptor in 3..end {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// A pipe, reader first, that no child inherits.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn new_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

#[cfg(target_vendor = "apple")]
pub(crate) fn new_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::CLOEXEC)?;
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way for systems without `close_range` does the same.
    #[test]
    fn each_descriptor_is_marked() {
        let (reader, _writer) = rustix::pipe::pipe().expect("a pipe without CLOEXEC");
        let descriptor = reader.as_raw_fd();
        let script = format!("[ -e /dev/fd/{descriptor} ]");
        let inherits = |prepare: Option<fn()>| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &script]);
            if let Some(prepare) = prepare {
                // SAFETY: as in `spawn`.
                unsafe {
                    command.pre_exec(move || {
                        prepare();
                        Ok(())
                    });
                }
            }
            command.status().expect("sh").success()
        };
        assert!(inherits(None));
        assert!(!inherits(Some(mark_each)));
        assert!(!inherits(Some(|| {
            mark_all();
        })));
    }
}
