//! Recognizes archives of vcbuild by their provenance document.

use camino::Utf8Path;
use serde::Deserialize;

/// The name of the document in an archive.
pub(crate) const NAME: &str = "provenance.json";

/// The maximum size of the document in bytes. It lists all files from which programs were compiled.
const LIMIT: u64 = 32 << 20;

/// The fields that all versions of the document have.
#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u32,
    /// The version of vcbuild that wrote the document.
    pub(crate) vcbuild: String,
}

/// Returns the document of the archive at `path`; `None` if the archive has none.
///
/// # Errors
/// When the archive cannot be read, or its document is too large.
pub(crate) fn document(path: &Utf8Path) -> Result<Option<Vec<u8>>, vcstore::Error> {
    vcstore::archive::document(path, NAME, LIMIT)
}

/// Returns whether any version of vcbuild wrote the archive at `path`.
pub(crate) fn is_ours(path: &Utf8Path) -> bool {
    let document = document(path).ok().flatten();
    document.is_some_and(|document| serde_json::from_slice::<Header>(&document).is_ok())
}
