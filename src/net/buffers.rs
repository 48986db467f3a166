//! The buffers between the HTTP engine and a connection. What passes through them may be a secret, so they are
//! wiped: the head of a request when it is sent, the rest with the connection.

use ureq::unversioned::transport::{Buffers, LazyBuffers};
use zeroize::Zeroize;

pub(crate) struct WipedBuffers {
    inner: LazyBuffers,
    /// There is something to wipe.
    used: bool,
}

impl WipedBuffers {
    pub(crate) fn new(size: usize) -> Self {
        Self {
            inner: LazyBuffers::new(size, size),
            used: false,
        }
    }

    /// Wipes what was sent.
    pub(crate) fn wipe_output(&mut self, amount: usize) {
        self.inner
            .output()
            .get_mut(..amount)
            .unwrap_or_default()
            .zeroize();
    }
}

impl Drop for WipedBuffers {
    fn drop(&mut self) {
        if self.used {
            let unread = self.inner.input().len();
            self.inner.input_consume(unread);
            self.inner.input_append_buf().zeroize();
            self.inner.output().zeroize();
        }
    }
}

impl Buffers for WipedBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.used = true;
        self.inner.output()
    }

    fn input(&self) -> &[u8] {
        self.inner.input()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.used = true;
        self.inner.input_append_buf()
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.used = true;
        self.inner.tmp_and_output()
    }

    fn input_appended(&mut self, amount: usize) {
        self.inner.input_appended(amount);
    }

    fn input_consume(&mut self, amount: usize) {
        self.inner.input_consume(amount);
    }

    fn can_use_input(&self) -> bool {
        self.inner.can_use_input()
    }
}
