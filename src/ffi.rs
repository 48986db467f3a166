//! The C boundary: the only place with `unsafe`.
//!
//! Each file is a section of the header, in its order: opaque types, constants, and functions of a few lines
//! over the safe core. What they share:
//!
//! - `handle`: tagged boxes; every pointer that comes back from C is checked by its tag before it is used;
//! - `boundary`: no panic leaves, every out-argument is written;
//! - `text`: C text in, C text out that lives as long as its handle;
//! - `callback`: function, user pointer and finaliser.
//!
//! The safety rule for every exported function is the header's: pointers are NULL or valid for what their
//! type says, handles come from this library and were not given back, text ends with a NUL, and buffers are
//! as long as they are said to be.

mod boundary;
mod callback;
mod handle;
mod text;

// In the order of the header; the empty lines keep it.
mod version;

mod error;

mod options;

mod reference;

mod creds;

mod op;

mod transport;

mod explain;

mod request;

mod source;

mod response;

mod pages;

mod manifest;

mod blob;

mod upload;

mod copy;
