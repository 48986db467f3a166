//! A name resolver for tests: it takes the place of the system's in the test program, knows only the names it
//! was told, and can be made to wait. Names that no test told it do not exist.
//!
//! A test binary takes it up with `#[path = "support/resolver.rs"] mod resolver;`.
#![allow(unsafe_code, dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::support::server::Gate;

static NAMES: LazyLock<Mutex<HashMap<String, Name>>> = LazyLock::new(Mutex::default);

#[derive(Clone, Default)]
struct Name {
    /// One for each query; the last one stays.
    answers: Vec<Vec<IpAddr>>,
    queries: usize,
    gate: Option<Gate>,
}

/// Lets `name` have these addresses: a list for each query, the last of them for all that follow.
pub fn tell(name: &str, answers: &[&[&str]]) {
    let answers = answers
        .iter()
        .map(|list| list.iter().map(|a| a.parse().unwrap()).collect())
        .collect();
    let entry = Name {
        answers,
        ..Name::default()
    };
    with(|names| names.insert(name.to_owned(), entry));
}

/// Lets queries for a name that was told wait until the gate is opened.
pub fn hold(name: &str, gate: &Gate) {
    with(|names| names.entry(name.to_owned()).or_default().gate = Some(gate.clone()));
}

/// How often `name` was asked for.
pub fn queries(name: &str) -> usize {
    with(|names| names.get(name).map_or(0, |n| n.queries))
}

fn with<T>(f: impl FnOnce(&mut HashMap<String, Name>) -> T) -> T {
    f(&mut NAMES.lock().unwrap_or_else(PoisonError::into_inner))
}

fn addresses(name: &str) -> Vec<IpAddr> {
    if let Ok(address) = name.parse() {
        return vec![address];
    }
    if name == "localhost" {
        return vec![IpAddr::from([127, 0, 0, 1])];
    }
    let (found, gate) = with(|names| {
        let Some(entry) = names.get_mut(name) else {
            return (Vec::new(), None);
        };
        let last = entry.answers.len().saturating_sub(1);
        let found = entry.answers.get(entry.queries.min(last)).cloned();
        entry.queries += 1;
        (found.unwrap_or_default(), entry.gate.clone())
    });
    if let Some(gate) = gate {
        gate.wait();
    }
    found
}

/// In place of the C library's.
#[unsafe(no_mangle)]
extern "C" fn getaddrinfo(
    node: *const c_char,
    _service: *const c_char,
    _hints: *const libc::addrinfo,
    result: *mut *mut libc::addrinfo,
) -> c_int {
    if node.is_null() {
        return libc::EAI_NONAME;
    }
    // SAFETY: the caller gives a C string, and a place for the result.
    let name = unsafe { CStr::from_ptr(node) }.to_string_lossy();
    let mut list = std::ptr::null_mut();
    for address in addresses(&name).into_iter().rev() {
        let (sockaddr, length, family) = sockaddr(address);
        list = Box::into_raw(Box::new(libc::addrinfo {
            ai_flags: 0,
            ai_family: family,
            ai_socktype: libc::SOCK_STREAM,
            ai_protocol: 0,
            ai_addrlen: length,
            ai_addr: Box::into_raw(sockaddr).cast(),
            ai_canonname: std::ptr::null_mut(),
            ai_next: list,
        }));
    }
    if list.is_null() {
        return libc::EAI_NONAME;
    }
    // SAFETY: as above.
    unsafe { result.write(list) };
    0
}

/// Gives back what [`getaddrinfo`] made.
#[unsafe(no_mangle)]
extern "C" fn freeaddrinfo(mut list: *mut libc::addrinfo) {
    while !list.is_null() {
        // SAFETY: both boxes were made above, and are given back once.
        unsafe {
            let entry = Box::from_raw(list);
            drop(Box::from_raw(
                entry.ai_addr.cast::<libc::sockaddr_storage>(),
            ));
            list = entry.ai_next;
        }
    }
}

fn sockaddr(address: IpAddr) -> (Box<libc::sockaddr_storage>, libc::socklen_t, c_int) {
    // SAFETY: all zeros is a valid value of this plain C structure.
    let mut storage: Box<libc::sockaddr_storage> = Box::new(unsafe { std::mem::zeroed() });
    let place: *mut libc::sockaddr_storage = &mut *storage;
    let (length, family) = match address {
        IpAddr::V4(v4) => {
            // SAFETY: the storage is large enough and aligned for every kind of address.
            let v4_place = unsafe { &mut *place.cast::<libc::sockaddr_in>() };
            v4_place.sin_family = libc::AF_INET as libc::sa_family_t;
            v4_place.sin_addr.s_addr = u32::from(v4).to_be();
            (size_of::<libc::sockaddr_in>(), libc::AF_INET)
        }
        IpAddr::V6(v6) => {
            // SAFETY: as above.
            let v6_place = unsafe { &mut *place.cast::<libc::sockaddr_in6>() };
            v6_place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6_place.sin6_addr.s6_addr = v6.octets();
            (size_of::<libc::sockaddr_in6>(), libc::AF_INET6)
        }
    };
    (storage, length as libc::socklen_t, family)
}
