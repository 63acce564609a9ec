//! Writers for the input of a script: one counts bytes, the other sends them in chunks.

use std::io::{self, Write};

use tokio::sync::mpsc;

use super::script::InputChunk;

/// The size of a chunk, in bytes.
const CHUNK: usize = 256 << 10;

/// Counts the bytes that are written.
pub(crate) struct ByteCounter(pub(crate) u64);

impl Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends the bytes that are written to it, in chunks.
pub(crate) struct ChunkWriter<'a> {
    chunks: &'a mpsc::Sender<InputChunk>,
    /// Waits until this number of bytes may be sent.
    wait: &'a dyn Fn(usize),
    buffer: Vec<u8>,
}

impl<'a> ChunkWriter<'a> {
    /// Creates an empty writer. It calls `wait` with the length of each chunk before it sends the chunk.
    pub(crate) fn new(chunks: &'a mpsc::Sender<InputChunk>, wait: &'a dyn Fn(usize)) -> Self {
        Self { chunks, wait, buffer: Vec::with_capacity(CHUNK) }
    }

    /// Tells the receiver to discard everything.
    pub(crate) fn break_off(self) {
        // If the node is gone, it need not be told.
        let _ = self.chunks.blocking_send(None);
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (self.wait)(self.buffer.len());
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.chunks.blocking_send(Some(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
