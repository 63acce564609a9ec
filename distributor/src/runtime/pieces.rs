//! Writers for the input of a script: one counts bytes, the other sends them in pieces.

use std::io::{self, Write};

use tokio::sync::mpsc;

use super::script::Piece;

/// The size of a piece, in bytes.
const PIECE: usize = 256 << 10;

/// Counts the bytes that are written.
pub(crate) struct Length(pub(crate) u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what is written, in pieces.
pub(crate) struct Pieces<'a> {
    pieces: &'a mpsc::Sender<Piece>,
    /// Waits until so many bytes may go.
    wait: &'a dyn Fn(usize),
    buffer: Vec<u8>,
}

impl<'a> Pieces<'a> {
    /// A writer without data. It calls `wait` before it sends so many bytes.
    pub(crate) fn new(pieces: &'a mpsc::Sender<Piece>, wait: &'a dyn Fn(usize)) -> Self {
        Self { pieces, wait, buffer: Vec::with_capacity(PIECE) }
    }

    /// Tells the receiver to discard everything.
    pub(crate) fn break_off(self) {
        // A node that is gone needs not be told.
        let _ = self.pieces.blocking_send(None);
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        (self.wait)(self.buffer.len());
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.pieces.blocking_send(Some(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
