//! Git LFS pointers: the placeholders of files that git-lfs has not fetched.

use std::fs::File;
use std::io::{self, Read};

use camino::Utf8Path;

/// The first line of a pointer, and the maximum size of a pointer in bytes (git-lfs, docs/spec.md).
const BEGINNING: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
const LARGEST: u64 = 1024;

/// Returns whether a file of `size` bytes is a pointer. Does not read larger files.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn is_lfs_pointer(path: &Utf8Path, size: u64) -> io::Result<bool> {
    if size < BEGINNING.len() as u64 || size > LARGEST {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    let has = |field: &[u8]| bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(field));
    Ok(bytes.starts_with(BEGINNING) && has(b"oid ") && has(b"size "))
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::is_lfs_pointer;

    #[test]
    fn a_pointer_is_known_by_its_words_and_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("model.bin");
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        let cases = [
            (pointer.to_owned(), true),
            (pointer.replace("size", "sizes"), false),
            (pointer.replace("v1", "v0"), false),
            (format!("{pointer}{}", "x".repeat(1024)), false),
            (format!("A pointer:\n{pointer}"), false),
            (String::new(), false),
        ];
        for (text, expected) in cases {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(is_lfs_pointer(&path, text.len() as u64).unwrap(), expected, "{text:?}");
        }
    }
}
