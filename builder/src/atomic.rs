//! Files outside the store that are replaced whole: a reader sees the old one or the new one.

use std::io::{self, Write};

use camino::Utf8Path;

/// Gives the file at `path` this content.
///
/// # Errors
/// When it cannot be written; then it is as it was.
pub(crate) fn replace(path: &Utf8Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}
