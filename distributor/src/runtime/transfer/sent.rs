//! Counts what has gone to one node.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use super::rate::Limits;

/// What was sent so far to one node; kept when the transfer fails.
#[derive(Debug, Default)]
pub struct Sent {
    blobs: AtomicU64,
    bytes: AtomicU64,
    limits: Limits,
}

impl Sent {
    /// Nothing yet, to go no faster than this.
    pub(crate) fn within(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Waits until so many bytes may go. On a thread that may block.
    pub(crate) fn wait(&self, bytes: usize) {
        self.limits.wait(bytes);
    }

    /// Whether it may go no faster than some rate.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits.is_limited()
    }

    /// Counts a blob of so many bytes as it is read.
    pub(crate) fn counting<R: Read>(&self, reader: R, length: u64) -> Counting<'_, R> {
        Counting { reader, sent: self, left: length }
    }

    /// Counts a blob that arrived whole.
    pub(super) fn add_blob(&self) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes of a blob.
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what another counted: so many bytes are gone by now.
    pub(crate) fn reach(&self, bytes: u64) {
        self.bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Blobs that arrived whole.
    pub(crate) fn blobs(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }

    /// Bytes of blobs, whole or not.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A blob that is counted as it is read.
pub(crate) struct Counting<'a, R> {
    reader: R,
    sent: &'a Sent,
    /// Bytes that are yet to be read.
    left: u64,
}

impl<R: Read> Read for Counting<'_, R> {
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
