//! Errors of the sandbox, each with advice.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::remote;

/// An error of the sandbox itself; the failure of a program in it is a [`crate::process::Failure`].
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

    /// A build host failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    BuildHost(#[from] remote::Error),

    /// A file changed after it was opened.
    #[error("reading {path}: the file changed during the build")]
    #[diagnostic(help("run the command again while no other program writes to the file"))]
    SourceChanged {
        /// The file.
        path: Utf8PathBuf,
    },

    /// The machine forbids what the sandbox needs.
    #[error("creating a sandbox: cannot {attempt}")]
    #[diagnostic(help("{}", super::probe::advice()))]
    Forbidden {
        /// What is forbidden, such as "make a user namespace".
        attempt: String,
        /// The kernel's error.
        source: io::Error,
    },

    /// The machine does not permit filtering system calls.
    #[error("creating a sandbox: cannot {attempt}")]
    #[diagnostic(help(
        "{}; --sandbox auto continues without the filter and records this",
        super::probe::FILTER_ADVICE
    ))]
    Unfiltered {
        /// What is not possible, such as "filter system calls".
        attempt: String,
        /// The kernel's error.
        source: io::Error,
    },

    /// It is unknown what the machine permits.
    #[error("creating a sandbox: {why}")]
    #[diagnostic(help(
        "run the command again; if it fails again, --sandbox off builds without a sandbox and records this"
    ))]
    Broken {
        /// The failure of the trial.
        why: String,
    },
}

impl Error {
    /// Wraps an I/O error with the attempted operation and its path.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        vcstore::FileError::wrap(attempt, path)
    }
}
