//! Atomic writes of files outside the store: a reader sees either the old content or all of the new content.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use camino::Utf8Path;
use tempfile::NamedTempFile;

/// Replaces the file at `path` by one with this content.
///
/// # Errors
/// When the file cannot be written; it is then unchanged.
pub fn replace(path: &Utf8Path, content: &[u8]) -> io::Result<()> {
    written(path, content, 0o644)?.persist(path).map(|_| ()).map_err(|error| error.error)
}

/// Creates a file with this content and these permissions.
///
/// # Errors
/// When the file exists (it is then unchanged) or cannot be written (it then does not exist).
pub fn create(path: &Utf8Path, content: &[u8], mode: u32) -> io::Result<()> {
    written(path, content, mode)?.persist_noclobber(path).map(|_| ()).map_err(|error| error.error)
}

fn written(path: &Utf8Path, content: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}
