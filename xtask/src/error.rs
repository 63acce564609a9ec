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
        /// Why not.
        source: io::Error,
    },
    /// A program failed.
    #[error("running {command}: it ended with {status}")]
    #[diagnostic(help("its output above shows the reason"))]
    Failed {
        /// The whole command.
        command: String,
        /// How it ended.
        status: String,
    },
    /// There is no fuzz target of a name.
    #[error("fuzzing {target}: there is no target with that name")]
    #[diagnostic(help("there are {}", known.join(", ")))]
    NoTarget {
        /// The name.
        target: String,
        /// The targets there are.
        known: Vec<String>,
    },
    /// What a program printed is not what its documentation says.
    #[error("reading the output of {command}")]
    Printed {
        /// The whole command.
        command: String,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// A file could not be used.
    #[error("{attempt} {path}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: Utf8PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The lab could not do something.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lab(#[from] ::lab::Error),
    /// A step of a task did not show what it must.
    #[error("{step}: {why}")]
    Unexpected {
        /// The step.
        step: &'static str,
        /// What was seen.
        why: String,
    },
}

impl Error {
    /// Wraps an I/O error with what was attempted and on what.
    pub(crate) fn io(attempt: &'static str, path: impl Into<Utf8PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { attempt, path, source }
    }
}
