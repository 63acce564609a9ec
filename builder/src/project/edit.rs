//! `[[edits]]`: changes to the source before it is built.

use camino::Utf8PathBuf;

use super::file::EditTable;

/// An edit of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Its name, which several edits may share: they then apply together. Their paths are relative to the folder with the
    /// code, and they are skipped if the source has none of their files. Without a name, paths are relative to the top of
    /// the source, and the edit must match.
    pub(crate) name: Option<String>,
    /// What changes.
    pub(crate) change: Change,
}

/// What an edit changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The path of a patch file.
    Patch(Utf8PathBuf),
    /// A text in a file, and its replacement.
    Replace { file: Utf8PathBuf, find: String, replace: String },
    /// A file that the source lacks.
    Create { file: Utf8PathBuf, content: String },
}

impl Edit {
    /// Parses an entry of `[[edits]]`.
    ///
    /// # Errors
    /// When its keys cannot be combined; the error is a message that names valid combinations.
    pub(super) fn of(table: EditTable) -> Result<Self, String> {
        let EditTable { name, patch, file, find, replace, content } = table;
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(name) = name.as_deref().filter(|name| name.is_empty() || !name.chars().all(word)) {
            return Err(format!("the name {name:?} of an edit may contain only letters, digits, '-', '_' and '.'"));
        }
        let change = match (patch, file, find, replace, content) {
            (Some(_), None, None, None, None) if name.is_some() => {
                return Err(
                    "an entry of [[edits]] with a name cannot be a patch: use file, find and replace".to_owned()
                );
            }
            (Some(patch), None, None, None, None) => Change::Patch(patch),
            (None, Some(file), Some(find), Some(replace), None) if !find.is_empty() => {
                Change::Replace { file, find, replace }
            }
            (None, Some(file), None, None, Some(content)) => Change::Create { file, content },
            _ => {
                return Err("an entry of [[edits]] needs either patch, or file, find and replace, or file and content"
                    .to_owned());
            }
        };
        Ok(Self { name, change })
    }
}
