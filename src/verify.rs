//! Bodies on their way to the reader, with or without a digest to check.

use std::fmt;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::net::{BUFFER, Body};
use crate::process::Worker;

/// Bodies from this size on are hashed by a thread of their own.
const OVERLAP_FROM: u64 = 1 << 20;
/// Pieces that may wait to be hashed. More make nothing faster, and what a download needs would depend on how often the
/// thread is not run for a moment.
const WAITING: usize = 4;
/// Bytes of a piece.
const PIECE: usize = 2 * BUFFER;

/// Something that yields the bytes of a body.
pub(crate) trait Stream: Send {
    /// Reads some bytes; 0 is the true end.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize>;
}

impl Stream for Body {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        Body::read(self, buf)
    }
}

impl Stream for Box<dyn Stream> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        (**self).read(buf)
    }
}

/// A body to be read by pieces of its own choice or into a buffer of the reader's.
pub(crate) trait Content: Send {
    /// Reads some bytes; 0 is the end, when all that had to be right was right.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// Lends some bytes; none is the end.
    fn piece(&mut self) -> Result<&[u8]>;

    /// Lends the bytes of the last [`piece`](Content::piece) again.
    fn last_piece(&self) -> &[u8];
}

/// A body with nothing to check.
pub(crate) struct Plain<S> {
    inner: S,
    buffer: Vec<u8>,
    filled: usize,
}

impl<S: Stream> Plain<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
            filled: 0,
        }
    }
}

impl<S: Stream> Content for Plain<S> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.inner.read(buf)
    }

    fn piece(&mut self) -> Result<&[u8]> {
        self.buffer.resize(PIECE, 0);
        self.filled = self.inner.read(&mut self.buffer)?;
        Ok(self.last_piece())
    }

    fn last_piece(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

/// Passes bytes on and lets the end through only when length and digest are right.
pub(crate) struct Verified<S> {
    inner: S,
    hash: Option<Hash>,
    expected: Digest,
    size: Option<u64>,
    seen: u64,
    /// Names who sent the bytes, for messages.
    sender: Box<dyn fmt::Display + Send>,
    /// What was read; the first `passed` bytes of it were passed on. With a digest thread it is collected until
    /// it is worth waking the thread for.
    piece: Piece,
    passed: usize,
    /// Where the last piece lent begins.
    lent: usize,
}

/// A buffer of which the first bytes are filled. It is never shortened: to lengthen it again would clear it.
#[derive(Default)]
struct Piece {
    buffer: Vec<u8>,
    filled: usize,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

enum Hash {
    Here(Hasher),
    Beside(HashThread),
}

impl<S: Stream> Verified<S> {
    /// `hasher` has seen the `seen` bytes that come before those of `inner`; `size` counts them all.
    pub(crate) fn new(
        inner: S,
        expected: Digest,
        size: Option<u64>,
        sender: Box<dyn fmt::Display + Send>,
        hasher: Hasher,
        seen: u64,
    ) -> Self {
        let hash = match size {
            Some(size) if size.saturating_sub(seen) >= OVERLAP_FROM => HashThread::start(hasher),
            _ => Hash::Here(hasher),
        };
        Self {
            inner,
            hash: Some(hash),
            expected,
            size,
            seen,
            sender,
            piece: Piece::default(),
            passed: 0,
            lent: 0,
        }
    }

    /// Bytes in all, if they are known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    fn count(&mut self, n: usize) -> Result<()> {
        self.seen += n as u64;
        match self.size {
            Some(size) if self.seen > size => Err(Error::digest(format!(
                "{} sent more bytes than {} has",
                self.sender, self.expected
            ))),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        let got = match self.hash.take() {
            None => return Ok(()),
            Some(Hash::Here(hasher)) => hasher.finish(),
            Some(Hash::Beside(thread)) => {
                thread.update(std::mem::take(&mut self.piece))?;
                self.passed = 0;
                thread.finish()?
            }
        };
        if got == self.expected {
            return Ok(());
        }
        Err(Error::digest(format!(
            "{} sent {} bytes with digest {got} where {} was asked for",
            self.sender, self.seen, self.expected
        )))
    }

    /// Reads the next bytes behind those passed on.
    fn fill(&mut self) -> Result<()> {
        match &mut self.hash {
            Some(Hash::Beside(thread)) if self.piece.filled > PIECE - BUFFER / 2 => {
                let spare = thread.spare();
                thread.update(std::mem::replace(&mut self.piece, spare))?;
                self.passed = 0;
            }
            Some(Hash::Beside(_)) => {}
            _ => {
                self.piece.filled = 0;
                self.passed = 0;
            }
        }
        self.piece.buffer.resize(PIECE, 0);
        let room = self
            .piece
            .buffer
            .get_mut(self.piece.filled..)
            .unwrap_or_default();
        let n = self.inner.read(room)?;
        self.count(n)?;
        self.piece.filled += n;
        if n == 0 {
            return self.end();
        }
        if let Some(Hash::Here(hasher)) = &mut self.hash {
            hasher.update(self.piece.bytes());
        }
        Ok(())
    }

    fn is_passed(&self) -> bool {
        self.passed == self.piece.filled
    }
}

impl<S: Stream> Content for Verified<S> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        if buf.is_empty() || (self.hash.is_none() && self.is_passed()) {
            return Ok(0);
        }
        if self.is_passed() {
            if let Some(Hash::Here(hasher)) = &mut self.hash {
                let n = self.inner.read(buf)?;
                hasher.update(buf.get(..n).unwrap_or_default());
                self.count(n)?;
                if n == 0 {
                    self.end()?;
                }
                return Ok(n);
            }
            self.fill()?;
        }
        let rest = self.piece.bytes().get(self.passed..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.passed += n;
        Ok(n)
    }

    fn piece(&mut self) -> Result<&[u8]> {
        if self.is_passed() && self.hash.is_some() {
            self.fill()?;
        }
        self.lent = self.passed;
        self.passed = self.piece.filled;
        Ok(self.last_piece())
    }

    fn last_piece(&self) -> &[u8] {
        self.piece.bytes().get(self.lent..).unwrap_or_default()
    }
}

/// A thread that hashes pieces while the next ones come in. It ends with the body it belongs to.
struct HashThread(Worker<Pieces, Digest>);

/// To the thread and back.
struct Pieces {
    to: SyncSender<Piece>,
    back: Arc<Hashed>,
}

/// Pieces to be filled again. The last one hashed comes first, for it may still be in the processor's cache.
#[derive(Default)]
struct Hashed(Mutex<Vec<Piece>>);

impl Hashed {
    fn put(&self, piece: Piece) {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.push(piece);
    }

    fn take(&self) -> Option<Piece> {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pieces.pop()
    }
}

impl HashThread {
    /// Without a thread to be had, hashing is done by the reader.
    fn start(hasher: Hasher) -> Hash {
        let (to, incoming) = sync_channel::<Piece>(WAITING);
        let back = Arc::<Hashed>::default();
        let hashed = Arc::clone(&back);
        let mut own = hasher.clone();
        let worker = Worker::start("rt-digest", Pieces { to, back }, move || {
            for piece in incoming {
                own.update(piece.bytes());
                hashed.put(piece);
            }
            own.finish()
        });
        worker.map_or(Hash::Here(hasher), |worker| Hash::Beside(Self(worker)))
    }

    fn update(&self, piece: Piece) -> Result<()> {
        self.0
            .channel()
            .and_then(|pieces| pieces.to.send(piece).ok())
            .ok_or_else(|| Error::internal("the digest thread ended early"))
    }

    /// A piece that was hashed, emptied, or a new one.
    fn spare(&self) -> Piece {
        let back = self.0.channel().and_then(|pieces| pieces.back.take());
        let mut piece = back.unwrap_or_default();
        piece.filled = 0;
        piece
    }

    fn finish(self) -> Result<Digest> {
        self.0
            .finish()
            .ok_or_else(|| Error::internal("the digest thread panicked"))
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::error::ErrorKind;

    struct Bytes {
        data: Vec<u8>,
        at: usize,
        step: usize,
    }

    impl Stream for Bytes {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
            let n = buf.len().min(self.step).min(self.data.len() - self.at);
            buf[..n].copy_from_slice(&self.data[self.at..self.at + n]);
            self.at += n;
            Ok(n)
        }
    }

    fn verified(data: &[u8], digest: Digest, size: Option<u64>) -> Verified<Bytes> {
        let hasher = Hasher::new(digest.algorithm());
        Verified::new(
            Bytes {
                data: data.to_vec(),
                at: 0,
                step: 100_000,
            },
            digest,
            size,
            Box::new("h"),
            hasher,
            0,
        )
    }

    fn by_read(mut content: impl Content, step: usize) -> Result<Vec<u8>> {
        let (mut out, mut buf) = (Vec::new(), vec![0; step]);
        loop {
            match content.read(&mut buf)? {
                0 => return Ok(out),
                n => out.extend_from_slice(&buf[..n]),
            }
        }
    }

    fn by_piece(mut content: impl Content) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            match content.piece()? {
                [] => return Ok(out),
                piece => out.extend_from_slice(piece),
            }
        }
    }

    /// Hashed here or beside, by read or by piece, the end comes only when all is right.
    #[test]
    fn ends() {
        for size in [0, 1, 1000, 3_000_001] {
            let data: Vec<u8> = (0..size).map(|i: u32| (i % 251) as u8).collect();
            let good = Digest::of(Algorithm::Sha256, &data);
            for told in [Some(u64::from(size)), None] {
                assert_eq!(
                    by_read(verified(&data, good.clone(), told), 777_777).unwrap(),
                    data
                );
                assert_eq!(by_piece(verified(&data, good.clone(), told)).unwrap(), data);
                let other = Digest::of(Algorithm::Sha512, b"other");
                assert_eq!(
                    by_read(verified(&data, other.clone(), told), 4096)
                        .unwrap_err()
                        .kind(),
                    ErrorKind::Digest
                );
                assert_eq!(
                    by_piece(verified(&data, other, told)).unwrap_err().kind(),
                    ErrorKind::Digest
                );
            }
            if size > 0 {
                let shorter = Some(u64::from(size) - 1);
                assert_eq!(
                    by_piece(verified(&data, good, shorter)).unwrap_err().kind(),
                    ErrorKind::Digest
                );
            }
        }
    }

    #[test]
    fn reads_and_pieces_mix() {
        let data: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut content = verified(&data, Digest::of(Algorithm::Sha256, &data), Some(2_000_000));
        let mut out = vec![0; 10];
        assert_eq!(content.read(&mut out).unwrap(), 10);
        out.extend_from_slice(content.piece().unwrap());
        let mut rest = vec![0; 3];
        assert_eq!(content.read(&mut rest).unwrap(), 3);
        out.extend(rest);
        out.extend(by_piece(content).unwrap());
        assert_eq!(out, data);
    }
}
