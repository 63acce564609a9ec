//! Finds the first difference between two files, byte by byte.

use std::io::{self, Read};

use serde::Serialize;

/// The number of bytes to show from the first difference on.
const SHOWN: usize = 16;

const CHUNK: usize = 64 << 10;

/// The first difference between two files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ByteDifference {
    /// The offset from the start in bytes.
    pub offset: u64,
    /// The next bytes of the first file, in hexadecimal; empty at its end.
    pub before: String,
    /// The next bytes of the second file, in hexadecimal; empty at its end.
    pub after: String,
}

/// Reads two files side by side up to the first difference; returns `None` if they are equal.
///
/// # Errors
/// When a file cannot be read.
pub fn first_difference(before: impl Read, after: impl Read) -> io::Result<Option<ByteDifference>> {
    let (mut before, mut after) = (Chunks::of(before), Chunks::of(after));
    let mut offset = 0;
    loop {
        let (old, new) = (before.next(CHUNK)?, after.next(CHUNK)?);
        let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        offset += same as u64;
        if same == old.len() && same == new.len() {
            if same == 0 {
                return Ok(None);
            }
            continue;
        }
        // The bytes to show may extend beyond the current piece.
        let (old, new) = (old.len() - same, new.len() - same);
        let (before, after) = (before.shown(old)?, after.shown(new)?);
        return Ok(Some(ByteDifference { offset, before, after }));
    }
}

/// A file that is read in pieces of a fixed size, whatever sizes the underlying reader returns.
struct Chunks<R> {
    file: R,
    chunk: Vec<u8>,
}

impl<R: Read> Chunks<R> {
    fn of(file: R) -> Self {
        Self { file, chunk: Vec::new() }
    }

    /// Reads the next piece; it is shorter only at the end.
    fn next(&mut self, size: usize) -> io::Result<&[u8]> {
        self.chunk.clear();
        self.file.by_ref().take(size as u64).read_to_end(&mut self.chunk)?;
        Ok(&self.chunk)
    }

    /// Returns the bytes to show, starting with the last `rest` bytes of this piece.
    fn shown(mut self, rest: usize) -> io::Result<String> {
        let mut bytes = self.chunk.split_off(self.chunk.len() - rest);
        bytes.truncate(SHOWN);
        let missing = SHOWN - bytes.len();
        bytes.extend_from_slice(self.next(missing)?);
        Ok(hex::encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CHUNK, first_difference};

    #[test]
    fn the_first_byte_that_differs_is_found_with_what_follows() {
        let difference = |old: &[u8], new: &[u8]| first_difference(old, new).unwrap();
        assert_eq!(difference(b"same", b"same"), None);
        let found = difference(b"one time", b"one tide").unwrap();
        assert_eq!((found.offset, found.before.as_str(), found.after.as_str()), (6, "6d65", "6465"));
        let ended = difference(b"one", b"one more").unwrap();
        assert_eq!((ended.offset, ended.before.as_str(), ended.after.as_str()), (3, "", "206d6f7265"));
        // The bytes to show extend into the next piece.
        let (mut old, mut new) = (vec![0; CHUNK + 4], vec![0; CHUNK + 4]);
        (old[CHUNK - 1], new[CHUNK - 1], old[CHUNK + 1]) = (1, 2, 3);
        let found = difference(&old, &new).unwrap();
        assert_eq!((found.offset, found.before.as_str()), (CHUNK as u64 - 1, "0100030000"));
    }

    proptest! {
        #[test]
        fn it_is_the_first_and_there_is_one_exactly_when_they_are_not_equal(
            old in proptest::collection::vec(0u8..3, 0..40),
            new in proptest::collection::vec(0u8..3, 0..40),
        ) {
            let found = first_difference(old.as_slice(), new.as_slice()).unwrap();
            prop_assert_eq!(found.is_none(), old == new);
            if let Some(found) = found {
                let offset = usize::try_from(found.offset).unwrap();
                prop_assert_eq!(&old[..offset], &new[..offset]);
                prop_assert_ne!(old.get(offset), new.get(offset));
                prop_assert_eq!(found.before, hex::encode(&old[offset..old.len().min(offset + 16)]));
            }
        }
    }
}
