//! Errors of tasks.

use std::io;

use camino::Utf8PathBuf;

/// An error of a task.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    /// A program could not be started.
    #[error("starting {program}")]
    #[diagnostic(help("install {program}, or see that it is on the PATH"))]
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// A program failed.
    #[error("running {command}: it ended with {status}")]
    #[diagnostic(help("its output above shows the reason"))]
    Failed {
        /// The whole command.
        command: String,
        /// The exit status.
        status: String,
    },
    /// There is no fuzz target with this name.
    #[error("fuzzing {target}: there is no target with that name")]
    #[diagnostic(help("there are {}", known.join(", ")))]
    NoTarget {
        /// The name.
        target: String,
        /// The existing targets.
        known: Vec<String>,
    },
    /// The output of a program does not have the documented format.
    #[error("reading the output of {command}")]
    Printed {
        /// The whole command.
        command: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// A file could not be used.
    #[error("{attempt} {path}")]
    Io {
        /// The attempted operation.
        attempt: &'static str,
        /// The path.
        path: Utf8PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The lab failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lab(#[from] ::lab::Error),
    /// A step of a task did not have the expected result.
    #[error("{step}: {why}")]
    Unexpected {
        /// The step.
        step: &'static str,
        /// The actual result.
        why: String,
    },
}

impl Error {
    /// Wraps an I/O error with the attempted operation and its path.
    pub(crate) fn io(attempt: &'static str, path: impl Into<Utf8PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { attempt, path, source }
    }
}
