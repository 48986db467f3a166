//! Servers, certificates and programs for the integration tests. Each test binary uses a part.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod c;
pub mod client;
pub mod login;
pub mod pki;
pub mod proxy;
pub mod real;
pub mod registry;
pub mod server;
pub mod socks;
pub mod token;
pub mod world;
