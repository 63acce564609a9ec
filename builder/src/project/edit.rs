//! `[[edits]]`: changes to the source before it is built.

use camino::Utf8PathBuf;

use super::file::EditTable;

/// An edit of a source. The paths of files count from its top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The patch in this file.
    Patch(Utf8PathBuf),
    /// A text in a file, and the text in its place.
    Replace { file: Utf8PathBuf, find: String, replace: String },
}

impl Edit {
    /// Reads an entry of `[[edits]]`.
    ///
    /// # Errors
    /// When its keys do not belong together; the text says which do.
    pub(super) fn of(table: EditTable) -> Result<Self, String> {
        match table {
            EditTable { patch: Some(patch), file: None, find: None, replace: None } => Ok(Self::Patch(patch)),
            EditTable { patch: None, file: Some(file), find: Some(find), replace: Some(replace) }
                if !find.is_empty() =>
            {
                Ok(Self::Replace { file, find, replace })
            }
            _ => Err("an entry of [[edits]] needs either patch, or file, find and replace".to_owned()),
        }
    }
}
