//! How an archive of vcbuild is recognized: by the document that says how its images were built.

use camino::Utf8Path;
use serde::Deserialize;

/// The document's name in an archive.
pub(crate) const NAME: &str = "provenance.json";

/// The largest document that is read: it lists every file that a program was compiled from.
const LIMIT: u64 = 32 << 20;

/// The members that every version of the document has.
#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u32,
    /// The version of the vcbuild that wrote it.
    pub(crate) vcbuild: String,
}

/// The document of the archive at `path`; `None` if the archive has none.
///
/// # Errors
/// When the archive cannot be read, or its document is too large.
pub(crate) fn document(path: &Utf8Path) -> Result<Option<Vec<u8>>, vcstore::Error> {
    vcstore::archive::document(path, NAME, LIMIT)
}

/// Whether vcbuild, of any version, wrote the archive at `path`.
pub(crate) fn is_ours(path: &Utf8Path) -> bool {
    let document = document(path).ok().flatten();
    document.is_some_and(|document| serde_json::from_slice::<Header>(&document).is_ok())
}
