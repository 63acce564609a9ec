//! Errors of a source and of its edits, each with advice.

use camino::Utf8PathBuf;

/// An error of a source.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum SourceError {
    #[error("reading patch {path}: {why}")]
    #[diagnostic(help("a patch must be a unified diff of text files, as `git diff` and `diff -u` write it"))]
    Patch { path: Utf8PathBuf, why: String },

    #[error("applying patch {path}: hunk {hunk} ({place}) does not match {file}")]
    #[diagnostic(help("recreate the patch for this version of the source: every line must match exactly"))]
    Hunk { path: Utf8PathBuf, file: Utf8PathBuf, hunk: usize, place: String },

    #[error("editing {file}: {}", count(*found, find))]
    #[diagnostic(help(
        "the text of `find` must occur in the file exactly once: add the lines around it, or correct it"
    ))]
    Matches { file: Utf8PathBuf, found: usize, find: String },

    #[error("editing the source ({name}): {file}: {why}")]
    #[diagnostic(help(
        "this source differs from those that the edit is for: build it without the edit (--without-edit {name}), or write \
         one that fits into vcbuild.toml (`vcbuild init --preset virtualcluster` writes the preset's)"
    ))]
    Named { name: String, file: Utf8PathBuf, why: String },

    #[error("editing {file}: {why}")]
    #[diagnostic(help("the path of an edited file is relative to the top of the source"))]
    File { file: Utf8PathBuf, why: String },

    #[error("opening the source: {word:?} is not a valid {what} of a git repository")]
    #[diagnostic(help("use the arguments of `git fetch`: an address, and a branch, tag or commit"))]
    Repository { what: &'static str, word: String },

    #[error("opening the source {module:?}: {why}")]
    #[diagnostic(help("name a Go module and its version, for example example.org/module@v1.2.3, or @latest"))]
    Module { module: String, why: String },
}

impl SourceError {
    /// Says which named edit does not match.
    pub(crate) fn of_edit(self, name: &str) -> Self {
        let name = name.to_owned();
        match self {
            Self::Matches { file, found, find } => Self::Named { name, file, why: count(found, &find) },
            Self::File { file, why } => Self::Named { name, file, why },
            other => other,
        }
    }

    /// Returns whether an option or a file specifies an invalid source.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Module { .. } | Self::Repository { .. })
    }
}

fn count(found: usize, find: &str) -> String {
    match found {
        0 => format!("it does not contain {find:?}"),
        many => format!("it contains {find:?} {many} times"),
    }
}
