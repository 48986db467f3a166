//! TCP connections that obey the current call: connecting, reading and writing wait in short slices and
//! look at its cancel flag and limits in between.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketType};
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::address::Rule;
use super::buffers::WipedBuffers;
use super::call::{self, Call, SLICE};
use super::fold::{self, Came};
use crate::error::{Error, Result, SOON};
use crate::socket;

/// RFC 8305 section 5: how long one address may keep the next one waiting.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// How much of a body in plain HTTP one read takes: what the processor's cache still holds when it is copied on.
const READ: usize = 64 * 1024;

/// How long a connection counts as open after it served a request.
const MOMENT: Duration = Duration::from_millis(1);

/// Connects to the first of `addresses` that answers and `rule` allows, before `end`.
pub(crate) fn connect(
    host: &str,
    addresses: &[SocketAddr],
    rule: Rule,
    end: Instant,
    call: &Call,
) -> Result<TcpStream> {
    let allowed: Vec<SocketAddr> = interleave(addresses)
        .into_iter()
        .filter(|a| rule.allows(a.ip()))
        .collect();
    if allowed.is_empty() {
        let address = addresses
            .first()
            .map_or_else(String::new, |a| a.ip().to_string());
        return Err(Error::protocol(format!(
            "{host} is at {address}, an address this registry may not lead to: set option allow-private if it may"
        )));
    }
    #[cfg(fuzzing)]
    if let Some(made) = allowed
        .first()
        .and_then(|a| crate::fuzzing::connect(host, *a))
    {
        return made;
    }
    let mut waiting = allowed.iter();
    let mut trying: Vec<(OwnedFd, SocketAddr)> = Vec::new();
    let mut next_at = Instant::now();
    let mut last: Option<(SocketAddr, io::Error)> = None;
    loop {
        call.check()?;
        let now = Instant::now();
        if now >= end {
            return Err(Error::slow(format!(
                "no connection to {host} within connect-timeout-ms, {} ms",
                call.limits().connect.as_millis()
            )));
        }
        if trying.is_empty() || now >= next_at {
            match waiting.next() {
                Some(&address) => {
                    next_at = now + NEXT_ADDRESS;
                    match begin(address) {
                        Ok(socket) => trying.push((socket, address)),
                        Err(e) => {
                            last = Some((address, e));
                            // There is nothing to wait for.
                            next_at = now;
                            continue;
                        }
                    }
                }
                None if trying.is_empty() => {
                    let (address, e) = last.unwrap_or_else(|| {
                        (
                            SocketAddr::new(IpAddr::from([0; 4]), 0),
                            io::Error::other("no address"),
                        )
                    });
                    return Err(Error::network(format!(
                        "cannot connect to {host} at {address}: {e}"
                    ))
                    .with_os_code(e.raw_os_error()));
                }
                None => {}
            }
        }
        for index in ready(&trying)?.into_iter().rev() {
            let (socket, address) = trying.swap_remove(index);
            let stream = TcpStream::from(socket);
            match stream.take_error() {
                Ok(None) => match prepare(&stream) {
                    Ok(()) => {
                        call.log
                            .debug(|| format!("connected to {host} at {address}"));
                        return Ok(stream);
                    }
                    Err(e) => last = Some((address, e)),
                },
                Ok(Some(e)) | Err(e) => last = Some((address, e)),
            }
            next_at = Instant::now();
        }
    }
}

/// Alternates the address families, beginning with the resolver's first choice (RFC 8305 section 4).
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|a| a.is_ipv6() == first_is_v6);
    let mut out = Vec::with_capacity(addresses.len());
    let mut second = second.into_iter();
    for address in first {
        out.push(address);
        out.extend(second.next());
    }
    out.extend(second);
    out
}

fn begin(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = new_socket(family)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(target_vendor = "apple"))]
fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    use rustix::net::SocketFlags;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        family,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

#[cfg(target_vendor = "apple")]
fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    // Writing to a closed connection must not raise SIGPIPE in the host.
    rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
    Ok(socket)
}

/// Indexes of the connections that were made or refused, after at most one slice of waiting.
fn ready(trying: &[(OwnedFd, SocketAddr)]) -> Result<Vec<usize>> {
    let mut polled: Vec<PollFd<'_>> = trying
        .iter()
        .map(|(fd, _)| PollFd::new(fd, PollFlags::OUT))
        .collect();
    let slice = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(SLICE.subsec_nanos()),
    };
    match poll(&mut polled, Some(&slice)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(e) => {
            return Err(
                Error::network(format!("poll failed: {e}")).with_os_code(Some(e.raw_os_error()))
            );
        }
    }
    Ok(polled
        .iter()
        .enumerate()
        .filter(|(_, p)| !p.revents().is_empty())
        .map(|(i, _)| i)
        .collect())
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SLICE))?;
    stream.set_write_timeout(Some(SLICE))
}

/// A connection as the HTTP engine and the TLS layer use it.
pub(crate) struct Tcp {
    stream: TcpStream,
    buffers: WipedBuffers,
    /// When the connection came back to the pool, if nothing was read or written since.
    kept_since: Option<Instant>,
    /// The last read took all that was there.
    is_drained: bool,
    /// The peer takes no more; what it answered may still be read.
    write_closed: bool,
    /// How many bytes a read waits for.
    low_water: i32,
}

impl Tcp {
    pub(crate) fn new(stream: TcpStream, buffer: usize) -> Self {
        Self {
            stream,
            buffers: WipedBuffers::new(buffer),
            kept_since: None,
            is_drained: false,
            write_closed: false,
            low_water: 1,
        }
    }

    /// Reads at least a byte; 0 is the end of the stream.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.kept_since = None;
        let amount = read_sliced(&self.stream, buf)?;
        self.is_drained = amount < buf.len();
        Ok(amount)
    }

    /// From now on a read sleeps until so many bytes are there, or until it has to look up.
    pub(crate) fn set_low_water(&mut self, bytes: i32) {
        if self.low_water != bytes {
            self.low_water = bytes;
            socket::set_low_water(&self.stream, bytes);
        }
    }

    /// Writes all of `data`, or drops it when the peer has closed its side: it may have answered before.
    pub(crate) fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.kept_since = None;
        write_sliced(&self.stream, data, &mut self.write_closed)
    }

    /// Whether the connection can take another request. Called once when it comes back to the pool, where the last read
    /// tells whether more came than the answer, and once when it is taken out: then it is looked at, unless it came
    /// back a moment ago and the request can be repeated.
    pub(crate) fn is_open(&mut self) -> bool {
        if self.write_closed {
            return false;
        }
        let Some(since) = self.kept_since else {
            self.kept_since = Some(Instant::now());
            return self.is_drained || self.is_silent();
        };
        let call = call::current().ok();
        let is_trusted = call.as_ref().is_some_and(|call| call.trusts_kept());
        let is_open = (is_trusted && since.elapsed() < MOMENT) || self.is_silent();
        if let Some(call) = call.filter(|_| is_open) {
            call.note_used_connection();
        }
        is_open
    }

    /// Whether the peer has neither closed the connection nor sent what nobody asked for.
    fn is_silent(&self) -> bool {
        let mut byte = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(
            rustix::net::recv(&self.stream, &mut byte, flags),
            Err(rustix::io::Errno::AGAIN)
        )
    }
}

fn read_sliced(mut stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    let call = call::current().map_err(into_io)?;
    let mut began = call.wait_begins();
    loop {
        let (bytes, end) = match stream.read(buf) {
            Ok(0) => (0, true),
            Ok(n) => (n, true),
            Err(e) if is_wait(&e) => (0, false),
            // As an error of ours: the engine takes a reset for the end of the stream, and so for the end of a
            // body that has no length.
            Err(e) => return Err(into_io(broken(&e))),
        };
        call.waited(began, bytes).map_err(into_io)?;
        if end {
            return Ok(bytes);
        }
        began = call.wait_begins();
    }
}

fn write_sliced(mut stream: &TcpStream, mut data: &[u8], closed: &mut bool) -> io::Result<()> {
    let call = call::current().map_err(into_io)?;
    call.note_write();
    while !data.is_empty() && !*closed {
        let began = call.wait_begins();
        let bytes = match stream.write(data) {
            Ok(n) => n,
            Err(e) if is_wait(&e) => 0,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                *closed = true;
                call.refuse_body();
                0
            }
            Err(e) => return Err(e),
        };
        data = data.get(bytes..).unwrap_or_default();
        call.waited(began, bytes).map_err(into_io)?;
    }
    Ok(())
}

fn broken(e: &io::Error) -> Error {
    Error::network(format!("the connection broke: {e}"))
        .with_os_code(e.raw_os_error())
        .with_retry_after(Some(SOON))
}

fn is_wait(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Wraps an error of ours so that it comes out of the HTTP engine as it went in.
pub(crate) fn into_io(e: Error) -> io::Error {
    io::Error::other(e)
}

impl Transport for Tcp {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        self.kept_since = None;
        let is_head = call::is_head_next();
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        let result = write_sliced(&self.stream, output, &mut self.write_closed);
        if is_head {
            self.buffers.wipe_output(amount);
        }
        Ok(result?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        self.kept_since = None;
        let came = Came::of(self.buffers.input());
        let room = self.buffers.input_append_buf();
        let most = room.len().min(READ);
        let room = room.get_mut(..most).unwrap_or_default();
        let (stream, is_drained) = (&self.stream, &mut self.is_drained);
        let amount = fold::read_lines(room, came, |room| {
            let amount = read_sliced(stream, room)?;
            *is_drained = amount < room.len();
            Ok(amount)
        })?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        Tcp::is_open(self)
    }
}

impl std::fmt::Debug for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tcp")
            .field("peer", &self.stream.peer_addr().ok())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        let a = |t: &str| t.parse::<SocketAddr>().unwrap();
        let (v4, w4, v6) = (a("1.1.1.1:1"), a("2.2.2.2:1"), a("[::1]:1"));
        assert_eq!(interleave(&[v6, v4, w4]), [v6, v4, w4]);
        assert_eq!(interleave(&[v4, w4, v6]), [v4, v6, w4]);
        assert_eq!(interleave(&[]), []);
    }
}
