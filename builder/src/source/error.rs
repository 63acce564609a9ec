//! What can be wrong with a source and with the edits made to it, and what to do about it.

use camino::Utf8PathBuf;

/// An error of a source.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    #[error("reading patch {path}: {why}")]
    #[diagnostic(help("a patch is a unified diff of text files, as `git diff` and `diff -u` write it"))]
    Patch { path: Utf8PathBuf, why: String },

    #[error("applying patch {path}: {file} is not what the patch was made for: hunk {hunk} ({place}) does not match")]
    #[diagnostic(help("make the patch anew for this version of the source: it must match exactly, line by line"))]
    Hunk { path: Utf8PathBuf, file: Utf8PathBuf, hunk: usize, place: String },

    #[error("editing {file}: {}", count(*found, find))]
    #[diagnostic(help("an edit's `find` must stand in the file exactly once: add the lines around it, or correct it"))]
    Matches { file: Utf8PathBuf, found: usize, find: String },

    #[error("editing {file}: {why}")]
    #[diagnostic(help("the path of an edited file counts from the top of the source"))]
    File { file: Utf8PathBuf, why: String },

    #[error("opening the source: {word:?} is no {what} of a git repository")]
    #[diagnostic(help("name what `git fetch` takes: an address, and a branch, tag or commit"))]
    Repository { what: &'static str, word: String },

    #[error("opening the source {module:?}: {why}")]
    #[diagnostic(help("name a Go module and its version, as example.org/module@v1.2.3, or @latest"))]
    Module { module: String, why: String },
}

impl Error {
    /// Whether the command line or a file names what can be no source.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Module { .. } | Self::Repository { .. })
    }
}

fn count(found: usize, find: &str) -> String {
    match found {
        0 => format!("{find:?} is not in it"),
        many => format!("{find:?} is in it {many} times"),
    }
}
