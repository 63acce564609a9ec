//! Errors of the lock file, each with advice.

use camino::Utf8PathBuf;
use vcterminal::Exit;

/// An error of the lock file.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum LockError {
    #[error("reading lock file {path}")]
    #[diagnostic(help("correct the file, or remove it to resolve all inputs again"))]
    Syntax { path: Utf8PathBuf, source: Box<toml::de::Error> },

    #[error("reading lock file {path}: its version is {found}, but this program supports versions up to {known}")]
    #[diagnostic(help("use the version of vcbuild that wrote it, or remove it to resolve all inputs again"))]
    Version { path: Utf8PathBuf, found: u32, known: u32 },

    #[error("using lock file {path}: it does not pin {input}")]
    #[diagnostic(help(
        "run `vcbuild lock` and commit the lock file; to resolve missing inputs during the build, use --no-locked \
         (--locked is the default if CI is set)"
    ))]
    Missing { path: Utf8PathBuf, input: String },

    #[error("using lock file {path}: it does not match the current inputs\n{changes}")]
    #[diagnostic(help(
        "if the changes are intended, run `vcbuild lock` and commit the lock file, or use --no-locked (--locked is the \
         default if CI is set)"
    ))]
    Drift { path: Utf8PathBuf, changes: String },

    #[error("using lock file {path}: it pins {input} to {pinned}, but found {found}")]
    #[diagnostic(help(
        "the content of a version must never change: it was tampered with in transit, or its author published the version \
         twice. Find out which before you remove its entry from the lock file"
    ))]
    Checksum { path: Utf8PathBuf, input: String, pinned: String, found: String },

    #[error("updating lock file {path}: the source's go.mod determines the version of Go module {name}")]
    #[diagnostic(help(
        "change it in go.mod (`go get {name}@VERSION`), and run `vcbuild lock` to update the lock file"
    ))]
    Follows { path: Utf8PathBuf, name: String },

    #[error("updating lock file {path}: it has no input {name}")]
    #[diagnostic(help("it has {}", known.join(", ")))]
    NoSuchInput { path: Utf8PathBuf, name: String, known: Vec<String> },
}

impl LockError {
    /// Returns the exit status for this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Checksum { .. } => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}
