//! Name resolution that can be given up: `getaddrinfo` cannot be interrupted, so it runs on a thread of
//! its own. The thread touches nothing of the caller's and ends when the resolver answers.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use super::call::{Call, SLICE};
use crate::error::{Error, Result};

/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 16;

/// Addresses of `host` (IPv6 may stand in brackets), in the order of the system resolver, if they are there
/// before `end`.
pub(crate) fn resolve(host: &str, port: u16, end: Instant, call: &Call) -> Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    #[cfg(fuzzing)]
    if let Some(addresses) = crate::fuzzing::resolve(bare, port) {
        return Ok(addresses);
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let name = bare.to_owned();
    std::thread::Builder::new()
        .name("rt-resolve".to_owned())
        .spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs();
            // Nobody listens any more when the call was given up.
            let _ = sender.send(found.map(|all| all.take(MAX_ADDRESSES).collect::<Vec<_>>()));
        })
        .map_err(|e| {
            Error::network(format!("cannot start a thread to resolve {host}: {e}"))
                .with_os_code(e.raw_os_error())
        })?;
    loop {
        call.check()?;
        match receiver.recv_timeout(SLICE) {
            Ok(Ok(addresses)) if addresses.is_empty() => {
                return Err(Error::network(format!("the name {host} has no address")));
            }
            Ok(Ok(addresses)) => return Ok(addresses),
            Ok(Err(e)) => {
                return Err(
                    Error::network(format!("cannot resolve the name {host}: {e}"))
                        .with_os_code(e.raw_os_error()),
                );
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() >= end => {
                return Err(Error::slow(format!(
                    "the name {host} was not resolved within connect-timeout-ms"
                )));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::network(format!(
                    "the resolver gave no answer for {host}"
                )));
            }
        }
    }
}
