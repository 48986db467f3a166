//! Another static library in Rust, with a standard library of its own: threads, panics, hash maps.

use std::collections::HashMap;
use std::ffi::{CStr, c_char};

/// # Safety
/// `text` is NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn second_counts(text: *const c_char) -> i32 {
    let text = unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned();
    let words = std::thread::spawn(move || {
        let mut seen = HashMap::new();
        for word in text.split(' ') {
            *seen.entry(word.to_owned()).or_insert(0) += 1;
        }
        seen.len()
    });
    words
        .join()
        .map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX))
}

#[unsafe(no_mangle)]
pub extern "C" fn second_panics() -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    i32::from(std::panic::catch_unwind(|| panic!("caught")).is_err())
}
