//! Text that must not be shown: it cannot be formatted, and it is wiped when dropped.

use std::fmt;
use zeroize::Zeroizing;

/// A password, token or other secret text.
///
/// It has no `Display`, its `Debug` shows nothing of it, and its memory is overwritten when the last
/// owner lets go of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`. Copies made of it before are the caller's to wipe.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. What is made of it must be wiped or be a `Secret` again.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
