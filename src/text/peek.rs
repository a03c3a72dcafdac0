//! Looking at a stream's next bytes without taking them.

use std::io::{self, BufRead, Read};

/// A stream whose next bytes can be looked at.
pub(super) struct Peek<R> {
    /// Bytes that were looked at and not yet taken.
    kept: Vec<u8>,
    inner: R,
}

impl<R: BufRead> Peek<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { kept: Vec::new(), inner }
    }

    /// The next `count` bytes, or all there are where the stream ends before; now and then more.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.kept.len() < count {
            let more = self.inner.fill_buf()?;
            let taken = more.len().min(count - self.kept.len());
            if taken == 0 {
                break;
            }
            self.kept.extend_from_slice(&more[..taken]);
            self.inner.consume(taken);
        }
        Ok(&self.kept)
    }
}

impl<R: BufRead> BufRead for Peek<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.kept.is_empty() { self.inner.fill_buf() } else { Ok(&self.kept) }
    }

    fn consume(&mut self, count: usize) {
        if self.kept.is_empty() {
            self.inner.consume(count);
        } else {
            self.kept.drain(..count);
        }
    }
}

impl<R: BufRead> Read for Peek<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}
