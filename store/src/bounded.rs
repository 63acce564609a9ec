//! Reading tar files that may be hostile: a small one never unpacks into a full disk, nor its names into all memory.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// A file may unpack to this much whatever its size, and beyond it to so many times its size.
pub(crate) const BOMB_FLOOR: u64 = 1 << 30;
const BOMB_RATIO: u64 = 100;

/// The longest names and links of one entry.
const HEADER_LIMIT: u64 = 1 << 20;

/// A tar file, uncompressed, that ends in an error where it becomes larger than any honest one.
#[derive(Debug)]
pub struct Bounded<R> {
    input: R,
    left: u64,
    headers: Rc<Cell<u64>>,
}

/// Tells a [`Bounded`] what is being read: long names are read whole into memory before an entry is seen.
#[derive(Debug)]
pub struct Headers(Rc<Cell<u64>>);

impl<R: Read> Bounded<R> {
    /// Reads `input`, which unpacks from a file of `size` bytes.
    pub fn new(input: R, size: u64) -> (Self, Headers) {
        let headers = Rc::new(Cell::new(u64::MAX));
        let left = BOMB_FLOOR.max(size.saturating_mul(BOMB_RATIO));
        (Self { input, left, headers: Rc::clone(&headers) }, Headers(headers))
    }
}

impl Headers {
    /// An entry's header comes next.
    pub fn begin(&self) {
        self.0.set(HEADER_LIMIT);
    }

    /// An entry's content comes next.
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
