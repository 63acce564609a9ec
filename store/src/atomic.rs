//! Files outside the store that appear whole: a reader sees all of it, or what was there before.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use camino::Utf8Path;
use tempfile::NamedTempFile;

/// Gives the file at `path` this content.
///
/// # Errors
/// When it cannot be written; then it is as it was.
pub fn replace(path: &Utf8Path, content: &[u8]) -> io::Result<()> {
    written(path, content, 0o644)?.persist(path).map(|_| ()).map_err(|error| error.error)
}

/// Makes a file with this content and these permissions.
///
/// # Errors
/// When there is one, which stays as it is, or it cannot be written; then there is none.
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
