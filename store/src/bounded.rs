//! Reading tar files that may be hostile: limits the decompressed size, and the memory that file names take.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// A file of any size may decompress to this many bytes, or to this many times its size if that is more.
pub(crate) const BOMB_FLOOR: u64 = 1 << 30;
const BOMB_RATIO: u64 = 100;

/// The maximum size of the headers of an entry in bytes, which include long names and links.
const HEADER_LIMIT: u64 = 1 << 20;

/// A reader of a decompressed tar file that fails once the file is larger than any valid one.
#[derive(Debug)]
pub struct Bounded<R> {
    input: R,
    left: u64,
    headers: Rc<Cell<u64>>,
}

/// Tells a [`Bounded`] whether a header is being read: the tar reader loads long names into memory before it returns an
/// entry.
#[derive(Debug)]
pub struct Headers(Rc<Cell<u64>>);

impl<R: Read> Bounded<R> {
    /// Reads `input`, which is decompressed from a file of `size` bytes.
    pub fn new(input: R, size: u64) -> (Self, Headers) {
        let headers = Rc::new(Cell::new(u64::MAX));
        let left = BOMB_FLOOR.max(size.saturating_mul(BOMB_RATIO));
        (Self { input, left, headers: Rc::clone(&headers) }, Headers(headers))
    }
}

impl Headers {
    /// Announces the header of an entry.
    pub fn begin(&self) {
        self.0.set(HEADER_LIMIT);
    }

    /// Announces the content of an entry.
    pub fn end(&self) {
        self.0.set(u64::MAX);
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other("it decompresses to far more data than an image of its size can contain")
        })?;
        let headers = self.headers.get().checked_sub(count as u64);
        self.headers
            .set(headers.ok_or_else(|| io::Error::other("its file names are longer than those of any valid archive"))?);
        Ok(count)
    }
}
