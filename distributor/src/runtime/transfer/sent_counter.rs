//! Counts the bytes and blobs that were sent to one node.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use super::rate::Limits;

/// The bytes and blobs that were sent to one node. The counts survive failed attempts.
#[derive(Debug, Default)]
pub struct SentCounter {
    blobs: AtomicU64,
    bytes: AtomicU64,
    limits: Limits,
}

impl SentCounter {
    /// Creates a counter at zero with these limits.
    pub(crate) fn within(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Blocks the thread until this number of bytes may be sent.
    pub(crate) fn wait(&self, bytes: usize) {
        self.limits.wait(bytes);
    }

    /// Whether there is a rate limit.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits.is_limited()
    }

    /// Wraps a reader so that it counts a blob of `length` bytes.
    pub(crate) fn counting<R: Read>(&self, reader: R, length: u64) -> CountingReader<'_, R> {
        CountingReader { reader, sent: self, left: length }
    }

    /// Counts a blob that arrived whole.
    pub(super) fn add_blob(&self) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of a blob.
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Raises the count to that of another process.
    pub(crate) fn reach(&self, bytes: u64) {
        self.bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Complete blobs.
    pub(crate) fn blobs(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }

    /// Bytes of all blobs, complete or not.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A reader that counts what it reads.
pub(crate) struct CountingReader<'a, R> {
    reader: R,
    sent: &'a SentCounter,
    /// The number of bytes that have not been read yet.
    left: u64,
}

impl<R: Read> Read for CountingReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.sent.add_bytes(count as u64);
        let was_left = self.left;
        self.left = was_left.saturating_sub(count as u64);
        if was_left > 0 && self.left == 0 {
            self.sent.add_blob();
        }
        Ok(count)
    }
}
