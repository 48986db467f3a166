//! A C function with its user pointer and finaliser.

use std::ffi::c_void;

/// Called exactly once, when the library will never use user again.
pub type rt_drop_fn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// A user pointer; the finaliser runs when it goes.
pub(super) struct User {
    pointer: *mut c_void,
    drop: rt_drop_fn,
}

// SAFETY: by the contract of the header a user pointer may be used by whatever thread makes the call.
unsafe impl Send for User {}
// SAFETY: as above; callbacks of one handle used by several threads must expect that.
unsafe impl Sync for User {}

impl User {
    pub(super) fn new(pointer: *mut c_void, drop: rt_drop_fn) -> Self {
        Self { pointer, drop }
    }

    pub(super) fn get(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the header asks for a function that takes this pointer.
            unsafe { drop(self.pointer) };
        }
    }
}
