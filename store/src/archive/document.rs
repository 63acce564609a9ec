//! Reads a single small document of an archive.

use std::fs::File;
use std::io::{self, Read};

use camino::{Utf8Component, Utf8Path};

use super::import::{ENTRY_LIMIT, bad};
use crate::bounded::Bounded;
use crate::{Decoder, Error};

/// Reads the document `name` at the top of the archive or OCI image layout at `path`; returns `None` if there is none.
/// The content is untrusted; only its size is checked, against `limit` bytes.
///
/// # Errors
/// When the archive cannot be read, or the document is too large.
pub fn document(path: &Utf8Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    if !matches!(Utf8Path::new(name).components().collect::<Vec<_>>()[..], [Utf8Component::Normal(_)]) {
        return Ok(None);
    }
    if path.is_dir() {
        let path = path.join(name);
        return match File::open(&path) {
            Ok(file) => read(&path, name, file, limit).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("opening", &path)(error)),
        };
    }
    let unreadable = |error: io::Error| bad(path, &error.to_string());
    let file = File::open(path).map_err(Error::io("opening", path))?;
    let size = file.metadata().map_err(Error::io("reading", path))?.len();
    let (input, headers) = Bounded::new(Decoder::new(file).map_err(unreadable)?, size);
    let mut archive = tar::Archive::new(input);
    let mut entries = archive.entries().map_err(unreadable)?;
    for _ in 0..ENTRY_LIMIT {
        headers.begin();
        let Some(entry) = entries.next() else { break };
        headers.end();
        let mut entry = entry.map_err(unreadable)?;
        let found = entry.path_bytes().into_owned();
        if found.strip_prefix(b"./").unwrap_or(&found) == name.as_bytes() {
            return read(path, name, entry, limit).map(Some);
        }
        // Content that the tar reader skips on its way to the next entry would count as a header.
        io::copy(&mut entry, &mut io::sink()).map_err(unreadable)?;
    }
    Ok(None)
}

fn read(path: &Utf8Path, name: &str, content: impl Read, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    content.take(limit + 1).read_to_end(&mut bytes).map_err(|error| bad(path, &format!("{name}: {error}")))?;
    if bytes.len() as u64 > limit {
        return Err(bad(path, &format!("{name} is larger than {limit} bytes")));
    }
    Ok(bytes)
}
