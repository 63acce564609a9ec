//! What can go wrong while images are looked at, and what to do about it.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

/// An error of looking at images.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A file or folder could not be used.
    #[error("{attempt} {path}")]
    #[diagnostic(help("{}", vcstore::file_help(source)))]
    Io {
        /// What was attempted, as "reading".
        attempt: &'static str,
        /// On what.
        path: Utf8PathBuf,
        /// Why it failed.
        source: io::Error,
    },

    /// The store failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
}

impl Error {
    /// Wraps an I/O error with what was attempted and on what.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { attempt, path, source }
    }
}
