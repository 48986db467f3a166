//! HTTP transport for OCI and Docker registries: challenge, token, redirect, resume, digest and retry, for C through
//! `include/registry_transport.h` and for Rust through this crate.
//!
//! ```no_run
//! use registry_transport::transport::{Actions, Transport};
//!
//! # fn main() -> registry_transport::error::Result<()> {
//! let transport = Transport::new("ghcr.io/oras-project/oras", Actions::pull(), None, None)?;
//! let mut manifest = transport.manifest_get("v1.2.0", None)?;
//! println!("{} bytes, {:?}", manifest.body()?.len(), manifest.digest());
//! # Ok(())
//! # }
//! ```
//!
//! How it is built, from the bottom up; nothing looks up:
//!
//! ```text
//! name digest media_type url scope        what is written, parsed once
//! challenge link range retry_after rate_limit   header fields, by their grammar
//! json diagnostics error secret log options op process
//! toml_file registries_conf               what the machine's owner wrote
//! net (tcp tls proxy dns address call)    one HTTP exchange, under the limits of its call
//! policy retry flight                     decisions: where to, again when, who flies
//! refusal                                 what an answer says that is no success
//! creds token auth                        credentials, tokens, what to do about a 401
//! send                                    the one loop: sign, send, follow, repeat
//! hosts failover endpoint                 mirrors: which host, with what, and when the next one
//! transport explain                       where it meets, and what it came to
//! request response pages manifest         what the program sees
//! blob download parallel save verify      content in
//! upload source referrers copy            content out and across
//! ffi                                     the C boundary, the only place with `unsafe`; ffi/child is for helpers,
//!                                         ffi/socket for connections
//! ```

#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod copy;
pub mod creds;
pub mod digest;
pub mod error;
pub mod explain;
pub mod hosts;
pub mod log;
pub mod name;
pub mod op;
pub mod options;
pub mod pages;
pub mod rate_limit;
pub mod referrers;
pub mod request;
pub mod response;
pub mod secret;
pub mod source;
pub mod transport;
pub mod upload;

#[cfg(feature = "capi")]
// The constants and opaque types are there for the header; nothing in Rust uses them.
#[allow(
    unsafe_code,
    dead_code,
    non_camel_case_types,
    unreachable_pub,
    clippy::missing_safety_doc
)]
mod ffi;

mod auth;
pub mod blob;
mod challenge;
#[allow(unsafe_code)]
#[path = "ffi/child.rs"]
mod child;
mod diagnostics;
mod download;
mod endpoint;
mod failover;
mod file;
mod flight;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod link;
mod manifest;
mod media_type;
mod net;
mod parallel;
mod policy;
mod process;
mod range;
mod refusal;
mod registries_conf;
mod retry;
mod retry_after;
mod save;
mod scope;
mod send;
#[allow(unsafe_code)]
#[path = "ffi/socket.rs"]
mod socket;
mod sorted;
mod token;
mod toml_file;
mod url;
mod verify;
mod warnings;

/// What the client calls itself unless option `user-agent` says otherwise.
const USER_AGENT: &str = concat!("registry-transport/", env!("CARGO_PKG_VERSION"));
