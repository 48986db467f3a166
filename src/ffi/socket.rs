//! What of a socket has no safe interface.

use std::net::TcpStream;

/// Lets a blocked read sleep until so many bytes are there, or the stream ended, or its time is up (`SO_RCVLOWAT`).
/// The system may take it for less. Elsewhere than on Linux a read whose time is up would not get what is there.
#[cfg(target_os = "linux")]
pub(crate) fn set_low_water(stream: &TcpStream, bytes: libc::c_int) {
    use std::os::fd::AsRawFd;
    let size = size_of_val(&bytes) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and the value is an int that is there. A
    // failure changes nothing.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            size,
        );
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn set_low_water(_: &TcpStream, _: libc::c_int) {}
