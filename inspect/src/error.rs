//! Errors of inspecting images, each with advice.

use std::io;

use camino::Utf8Path;

/// An error of inspecting images.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A file or folder could not be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] vcstore::FileError),

    /// The store failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
}

impl Error {
    /// Wraps an I/O error with what was attempted and on what.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        vcstore::FileError::wrap(attempt, path)
    }
}
