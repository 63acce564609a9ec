//! Reads text files that people write, with a limit on their size.

use std::fs::File;
use std::io::{self, Read};

use camino::Utf8Path;

/// The maximum size in bytes. A lock with a thousand inputs has a tenth of it.
const LIMIT: u64 = 16 << 20;

/// Reads a text file.
///
/// # Errors
/// When it cannot be read, is larger than the limit, or is not UTF-8.
pub fn read(path: &Utf8Path) -> io::Result<String> {
    read_from(File::open(path)?)
}

/// Reads a text to its end.
///
/// # Errors
/// As [`read`].
pub fn read_from(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("it is larger than the limit of {} MiB", LIMIT >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        io::Error::other(format!("it is not valid UTF-8 from line {line} on"))
    })
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::read;

    #[test]
    fn what_never_ends_and_what_is_no_text_is_refused() {
        let why = |path: &Utf8Path| read(path).unwrap_err().to_string();
        assert_eq!(why(Utf8Path::new("/dev/zero")), "it is larger than the limit of 16 MiB");
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = Utf8Path::from_path(file.path()).unwrap();
        std::fs::write(path, b"a\nb\nc\xff\n").unwrap();
        assert_eq!(why(path), "it is not valid UTF-8 from line 3 on");
        std::fs::write(path, "a = \"ä\"\n").unwrap();
        assert_eq!(read(path).unwrap(), "a = \"ä\"\n");
    }
}
