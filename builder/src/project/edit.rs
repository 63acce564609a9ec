//! `[[edits]]`: changes to the source before it is built.

use camino::Utf8PathBuf;

use super::file::EditTable;

/// An edit of the source. Paths of files are relative to its top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The path of a patch file.
    Patch(Utf8PathBuf),
    /// A text in a file, and its replacement.
    Replace { file: Utf8PathBuf, find: String, replace: String },
}

impl Edit {
    /// Parses an entry of `[[edits]]`.
    ///
    /// # Errors
    /// When its keys cannot be combined; the error is a message that names valid combinations.
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
