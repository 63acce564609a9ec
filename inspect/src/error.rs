//! Errors of inspecting images, each with advice.

use std::io;

use camino::Utf8Path;

/// An error of inspecting images.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// An error of a file or folder.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] vcstore::FileError),

    /// An error of the store.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
}

impl Error {
    /// Wraps an I/O error with the attempted operation and its path.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        vcstore::FileError::wrap(attempt, path)
    }
}
