//! HTTP transport for OCI and Docker registries.
#![deny(unsafe_code)]

pub mod copy;
pub mod creds;
pub mod digest;
pub mod error;
pub mod log;
pub mod name;
pub mod op;
pub mod options;
pub mod pages;
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
mod diagnostics;
mod download;
mod file;
mod flight;
mod link;
mod manifest;
mod media_type;
mod net;
mod parallel;
mod policy;
mod range;
mod retry;
mod retry_after;
mod save;
mod scope;
mod send;
mod token;
mod url;
mod verify;

/// What the client calls itself unless option `user-agent` says otherwise.
const USER_AGENT: &str = concat!("registry-transport/", env!("CARGO_PKG_VERSION"));
